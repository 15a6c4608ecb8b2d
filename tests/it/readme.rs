//! The README says what is true: its table, its commands, and its tour with every answer in it.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use guildhall_domain::access::{OrganizationRole, Permission, SystemRole, catalog::Scope};
use guildhall_tests::{App, both_databases, databases::Engine};
use tempfile::TempDir;

use crate::policy_matrix::{held, policies};

const README: &str = include_str!("../../README.md");

both_databases!(with_mail_files, the_tour_gets_the_answers_that_are_printed);

async fn with_mail_files(engine: Engine) -> App {
    App::start_with(engine, |environment| {
        environment.unset("SMTP_HOST").unset("SMTP_PORT");
    })
    .await
}

fn between<'a>(start: &str, end: &str) -> &'a str {
    let rest = README.split_once(start).unwrap_or_else(|| panic!("the README has no {start}")).1;
    rest.split_once(end).unwrap_or_else(|| panic!("the README has no {end}")).0
}

#[test]
fn the_table_of_settings_is_the_one_of_this_version() {
    let written = between("<!-- configuration -->\n", "<!-- /configuration -->");
    let table = guildhall_server::config::reference_markdown();
    for (written, line) in written.lines().zip(table.lines()) {
        assert_eq!(written, line);
    }
    assert!(written == table, "put this table into the README:\n{table}");
}

/// Who may do what in a workspace, of everybody who belongs to the organization, as the README prints it.
fn table_of_roles() -> String {
    let mut table =
        "| permission | what it allows | Viewer | Editor | Admin |\n| --- | --- | :-: | :-: | :-: |\n"
            .to_owned();
    let of_workspace = Permission::ALL.iter().filter(|permission| permission.scope() == Scope::Workspace);
    for permission in of_workspace {
        let cells = SystemRole::ALL.map(|role| {
            let place = (Some(OrganizationRole::Member), Some(role));
            let held = policies().into_iter().map(|(_, policy)| {
                held(policy, place, Scope::Workspace).is_some_and(|held| held.holds(*permission))
            });
            let held: Vec<bool> = held.collect();
            match (held.iter().all(|held| *held), held.contains(&true)) {
                (true, _) => "✓",
                (false, true) => "policy",
                (false, false) => "–",
            }
        });
        let name = permission.name().replace('.', "_").to_uppercase();
        table += &format!("| `{name}` | {} | {} |\n", permission.sentence(), cells.join(" | "));
    }
    table
}

#[test]
fn the_table_of_roles_is_the_one_of_this_version() {
    let (written, table) = (between("<!-- roles -->\n", "<!-- /roles -->"), table_of_roles());
    assert!(written == table, "put this table into the README:\n{table}");
}

#[test]
fn the_test_command_can_be_found_by_ci() {
    let command = README.lines().find(|line| line.starts_with("cargo test"));
    assert_eq!(command, Some("cargo test --workspace --locked"));
}

#[test]
fn every_habit_it_names_is_a_recipe() {
    let recipes = include_str!("../../justfile");
    let named: Vec<_> = README.split("`just ").skip(1).map(|rest| rest.split('`').next().unwrap()).collect();
    assert!(!named.is_empty());
    for name in named {
        let is_recipe = |line: &str| line.split([' ', ':']).next() == Some(name);
        assert!(recipes.lines().any(is_recipe), "there is no `just {name}`");
    }
}

#[test]
fn every_file_it_links_to_exists() {
    for target in README.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../").to_owned() + target;
        assert!(target.starts_with("https://") || fs::exists(path).unwrap(), "{target} does not exist");
    }
}

/// A command of the tour, and what it prints according to the README.
struct Step<'a> {
    command: &'a str,
    printed: Option<&'a str>,
}

/// The blocks of code between the marks, in pairs.
fn steps() -> Vec<Step<'static>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for block in between("<!-- tour -->", "<!-- /tour -->").split("```").skip(1).step_by(2) {
        let (language, code) = block.split_once('\n').unwrap();
        match (language, steps.last_mut()) {
            ("bash", _) => steps.push(Step { command: code, printed: None }),
            // What comes after the answer is what somebody else is told meanwhile.
            ("json" | "text", Some(step)) if step.printed.is_none() => step.printed = Some(code),
            _ => {}
        }
    }
    steps
}

/// Whether the text is the pattern, in which `…` stands for anything.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut last = None;
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
        last = Some(piece);
    }
    rest.is_empty() || last.is_some_and(|last| rest.ends_with(last))
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

async fn the_tour_gets_the_answers_that_are_printed(app: App) {
    const END: &str = "\u{1e}\n";
    if let Some(missing) = ["bash", "curl", "jq"].into_iter().find(|program| !has(program)) {
        eprintln!("skipped: the README's tour needs {missing}");
        return;
    }
    let here = |text: &str| text.replace("http://127.0.0.1:8080", &app.url);
    let directory = TempDir::new().unwrap();
    symlink(app.data_dir(), directory.path().join("data")).unwrap();
    let welcome = format!("  set up here  {}/setup?token={}\n", app.url, app.setup_token);
    fs::write(directory.path().join("guildhall.log"), welcome).unwrap();

    let steps = steps();
    let script: String = steps.iter().map(|step| format!("{}printf '{END}'\n", here(step.command))).collect();
    // As long as it takes: a machine that runs tests is slower than a reader.
    let until_mailed = "until ls data/mail/*.eml > mails 2>&1; do sleep 0.1; done\n";
    let output = Command::new("timeout")
        .args(["60", "bash", "-c", &script.replace("sleep 1\n", until_mailed)])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));

    let printed = String::from_utf8(output.stdout).unwrap().replace('\r', "");
    let printed: Vec<_> = printed.split_terminator(END).collect();
    assert_eq!(printed.len(), steps.len(), "the tour did not come to its end: {printed:?}");
    for (step, printed) in steps.iter().zip(printed) {
        let expected = here(step.printed.unwrap_or_default());
        assert!(is_like(printed, &expected), "{}\nprinted\n{printed}\nnot\n{expected}", step.command);
    }
}
