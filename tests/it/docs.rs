//! The pages under `docs/` say what is true: their code is that of files that the check runs, and their links lead somewhere.

use std::{fs, path::PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The pages, by name.
fn pages() -> Vec<(String, String)> {
    let files = fs::read_dir(root().join("docs")).expect("docs/").map(|file| file.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn code_of_recipes_stands_in_the_files_that_are_run() {
    let mut recipes = 0;
    for (page, text) in pages() {
        for block in text.split("<!-- file: ").skip(1) {
            let (file, rest) =
                block.split_once(" -->\n```").expect("a block of code after the name of its file");
            let code =
                rest.split_once('\n').and_then(|(_, rest)| rest.split_once("\n```")).expect("its end").0;
            let source =
                fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("{page} names {file}"));
            assert!(source.contains(code), "{page}: this is not in {file} any more:\n{code}");
            recipes += 1;
        }
    }
    assert!(recipes >= 10, "{recipes}");
}

#[test]
fn every_file_they_link_to_exists() {
    for (page, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let exists = fs::exists(root().join("docs").join(target.split('#').next().unwrap())).unwrap();
            assert!(target.starts_with("https://") || exists, "{page} links to {target}");
        }
    }
}

/// Codes are found by people who were given one: each is explained.
#[test]
fn every_code_of_the_transports_is_explained() {
    let (_, api) = pages().into_iter().find(|(page, _)| page.ends_with("api.md")).expect("docs/api.md");
    let errors = include_str!("../../crates/server/src/errors.rs");
    let codes = errors.split("pub fn as_str").nth(1).and_then(|rest| rest.split("\n    }\n").next());
    let codes: Vec<&str> = codes.expect("the codes").split('"').skip(1).step_by(2).collect();
    assert!(codes.contains(&"UNAUTHENTICATED"), "{codes:?}");
    for code in codes {
        assert!(api.contains(&format!("`{code}`")), "docs/api.md does not explain {code}");
    }
}
