# The habits of this repository. `just` alone lists them.

_list:
    @just --list --unsorted

# Start the server on 127.0.0.1:8080, with its data in ./data.
run *arguments:
    cargo run -p guildhall-server -- {{ arguments }}

# Run the whole suite, or the tests whose names contain the given words.
test *filter:
    cargo test --workspace --locked -- {{ filter }}

# What has to pass before a commit: formatting, lints, spelling, the schema file.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    if command -v typos >/dev/null; then typos; else echo "typos is not installed: spelling was not checked"; fi
    cargo test -p guildhall-tests --locked -- schema_file

# Let others judge the API: audits of the schema and the transport, typed clients, a browser. All, or the named parts.
clients *parts:
    tests/clients/run {{ parts }}

# Write schema.graphql anew from the code.
schema:
    cargo build -q -p guildhall-graphql --bin schema
    cargo run -q -p guildhall-graphql --bin schema > schema.graphql

# Fill the configured database with reproducible data.
seed users="10000" workspaces="1000" members="20":
    cargo run --release -p guildhall-server -- seed --users {{ users }} --workspaces {{ workspaces }} --members {{ members }}

# Measure CPU time per request, memory and fan-out on both databases; on a quiet machine.
bench *arguments:
    cargo build --release --locked -p guildhall-server -p guildhall-tests --bins
    "${CARGO_TARGET_DIR:-target}/release/bench" {{ arguments }}

# Check the dependencies: advisories, licences, duplicates of what must be single.
audit:
    cargo deny check
