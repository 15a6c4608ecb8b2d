//! Prints the schema in its definition language: `just schema` writes it to `schema.graphql`.

fn main() {
    print!("{}", guildhall_graphql::sdl());
}
