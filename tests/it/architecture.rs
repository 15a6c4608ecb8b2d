//! The house as it was drawn: which crate may know which, read from the manifests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Each member's name and manifest.
fn manifests() -> BTreeMap<String, Table> {
    let crates = fs::read_dir(root().join("crates")).expect("the crates");
    let mut directories: Vec<_> = crates.map(|entry| entry.expect("a crate").path()).collect();
    directories.extend([root().join("migrations"), root().join("tests")]);
    directories
        .into_iter()
        .map(|directory| {
            let manifest = fs::read_to_string(directory.join("Cargo.toml")).expect("a manifest");
            let manifest: Table = manifest.parse().expect("a manifest is TOML");
            let name = manifest["package"]["name"].as_str().expect("a name").trim_start_matches("guildhall-");
            (name.to_owned(), manifest)
        })
        .collect()
}

/// The names in every table of dependencies, those of a target or of the tests too.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (key, value) in manifest {
        match value {
            Value::Table(table) if key.ends_with("dependencies") => found.extend(table.keys().cloned()),
            Value::Table(table) => found.extend(dependencies(table)),
            _ => {}
        }
    }
    found
}

#[test]
fn crates_know_only_those_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("domain", &[][..]),
        ("migrations", &[][..]),
        ("persistence", &["domain", "migrations"][..]),
        ("graphql", &["domain", "persistence"][..]),
        ("server", &["domain", "graphql", "persistence"][..]),
        ("tests", &["domain", "graphql", "persistence", "server"][..]),
    ]);
    let manifests = manifests();
    assert_eq!(manifests.keys().collect::<Vec<_>>(), allowed.keys().collect::<Vec<_>>());
    for (name, manifest) in &manifests {
        for known in dependencies(manifest).iter().filter_map(|known| known.strip_prefix("guildhall-")) {
            assert!(allowed[name.as_str()].contains(&known), "{name} must not know {known}");
        }
    }
}

#[test]
fn libraries_stay_in_their_rooms() {
    let rooms: [(&str, &[&str]); 8] = [
        ("sea-orm", &["persistence"]),
        ("sea-orm-migration", &["migrations", "persistence"]),
        ("sqlx", &["persistence", "tests"]),
        ("async-graphql", &["graphql", "server", "tests"]),
        ("axum", &["server", "tests"]),
        ("lettre", &["server"]),
        ("argon2", &["persistence"]),
        ("tokio", &["graphql", "persistence", "server", "tests"]),
    ];
    for (name, manifest) in manifests() {
        let known = dependencies(&manifest);
        for (library, rooms) in rooms {
            assert!(
                !known.contains(library) || rooms.contains(&name.as_str()),
                "{name} must not know {library}"
            );
        }
    }
}

#[test]
fn versions_stand_once_in_the_workspace() {
    for (name, manifest) in manifests() {
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(Value::Table(table)) = manifest.get(table) else { continue };
            for (library, requirement) in table {
                let inherited = requirement.get("workspace").and_then(Value::as_bool);
                assert_eq!(inherited, Some(true), "{name} asks for a version of {library} of its own");
            }
        }
    }
}

#[test]
fn every_module_says_what_it_is() {
    let mut silent = Vec::new();
    let mut folders = vec![root().join("crates"), root().join("migrations/src"), root().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                let is_foreign = path.ends_with("node_modules") || path.ends_with("target");
                folders.extend((!is_foreign).then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).expect("a source");
                if !source.starts_with("//!") {
                    silent.push(path);
                }
            }
        }
    }
    assert!(silent.is_empty(), "these modules do not open with `//!`: {silent:#?}");
}
