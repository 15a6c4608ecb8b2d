//! The command line and the configuration, as an operator meets them: the built binary.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use guildhall_tests::{
    Actor, Process,
    actor::PASSWORD,
    app::fresh_database,
    both_databases,
    databases::{Engine, TestDatabase, run},
    mailbox::MailServer,
    process::binary,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;

both_databases!(TestDatabase::empty, migrate_makes_the_tables_and_is_harmless_again);
both_databases!(
    fresh_database,
    operator_gives_a_locked_out_person_a_new_password,
    operator_makes_an_organization_for_somebody,
    seed_fills_only_an_empty_database
);

/// Runs the binary in a directory with these variables and no others.
fn guildhall(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(binary())
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().copied())
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", stdout(output), stderr(output));
}

#[test]
fn a_manifest_that_cannot_be_used_is_told_and_exit_1() {
    let directory = TempDir::new().unwrap();
    let manifest = directory.path().join("manifest.json");
    for (content, part) in [
        (None, "No such file"),
        (Some("[]"), "neither an Apollo persisted-query manifest"),
        (Some(r#"{"mine":"query {"}"#), "the document \"mine\": Syntax error"),
    ] {
        if let Some(content) = content {
            fs::write(&manifest, content).unwrap();
        }
        let environment =
            [("GUILDHALL_LISTEN", "127.0.0.1:0"), ("GUILDHALL_TRUSTED_DOCUMENTS", "manifest.json")];
        let output = guildhall(directory.path(), &environment, &[]);
        assert_exit(&output, 1);
        let told = stderr(&output);
        assert!(told.contains("server.trusted_documents: manifest.json: ") && told.contains(part), "{told}");
    }
}

#[test]
fn faults_of_the_configuration_are_all_told_and_exit_2() {
    let directory = TempDir::new().unwrap();
    let file = "[mail]\nsmtp_hots = \"mail\"\n[limits]\ndepth = 100\n";
    fs::write(directory.path().join("guildhall.toml"), file).unwrap();
    let environment =
        [("GUILDHALL_PLAYGROUND", "maybe"), ("GUILDHALL_LIMIT_ALIASES", "3"), ("SMTP_PORT", "x")];
    for command in
        [&["serve"][..], &[], &["migrate"], &["config"], &["seed"], &["admin", "reset-password", "a@b.c"]]
    {
        let output = guildhall(directory.path(), &environment, command);
        assert_exit(&output, 2);
        for fault in [
            "mail.smtp_hots: no such key; did you mean mail.smtp_host? (guildhall.toml line 2)",
            "limits.depth: 100 is out of range; allowed: 3 to 64 (guildhall.toml line 4)",
            "server.playground: \"maybe\" is neither true nor false (environment variable GUILDHALL_PLAYGROUND)",
            "GUILDHALL_LIMIT_ALIASES: no such setting; did you mean GUILDHALL_LIMITS_ALIASES? (environment variable GUILDHALL_LIMIT_ALIASES)",
            "mail.smtp_port: \"x\" is not a whole number; allowed: 1 to 65535 (environment variable SMTP_PORT)",
        ] {
            assert!(stderr(&output).contains(fault), "{command:?}: {fault}\n{}", stderr(&output));
        }
        assert!(output.stdout.is_empty(), "{}", stdout(&output));
    }
    assert!(!directory.path().join("data").exists(), "nothing is begun with a faulty configuration");

    let output = guildhall(directory.path(), &[], &["--config", "missing.toml"]);
    assert_exit(&output, 2);
    assert!(stderr(&output).contains("missing.toml") && stderr(&output).contains("(--config)"), "{output:?}");
    let output = guildhall(directory.path(), &[], &["sevre"]);
    assert_exit(&output, 2);
    assert!(stderr(&output).contains("serve"), "{}", stderr(&output));
}

#[test]
fn effective_configuration_is_printed_without_its_secrets() {
    let directory = TempDir::new().unwrap();
    let secrets = [
        ("JWT_AUTH_TOKEN_SECRET", "planted access secret, 32 bytes or more"),
        ("JWT_REFRESH_TOKEN_SECRET", "planted refresh secret, 32 bytes or more"),
        ("TOKEN_HASH_SECRET", "planted hashing secret, 32 bytes or more"),
        ("MASTER_KEY", "f0Kx9vQ2mZ7rT4bW8nL1cY6hJ3sD5gAaPpEeUuRrSs0="),
        ("MASTER_KEY_PREVIOUS", "q7Bn2XwV5kLt9ZcJ4mYh8RfD1sGp6TaE3uQoNiWx0Mw="),
        ("SMTP_PASSWORD", "planted mail password"),
    ];
    let others = [
        ("DATABASE_URL", "postgres://guild:planted%20db%20password@db.example.org/guild"),
        ("SMTP_HOST", "mx.example.org"),
        ("SMTP_USER", "postmaster"),
        ("SMTP_FROM", "guild@example.org"),
        ("APP_URL", "https://guild.example.org"),
    ];
    fs::write(directory.path().join("other.toml"), "[limits]\naliases = 7\n").unwrap();
    let environment = [&secrets[..], &others].concat();
    let output = guildhall(directory.path(), &environment, &["config", "--config", "other.toml"]);
    assert_exit(&output, 0);
    let printed = stdout(&output);
    let parsed: toml::Table = printed.parse().unwrap();
    assert_eq!(parsed["limits"]["aliases"].as_integer(), Some(7));
    assert_eq!(parsed["limits"]["depth"].as_integer(), Some(16));
    assert_eq!(parsed["app"]["url"].as_str(), Some("https://guild.example.org"));
    assert!(printed.contains("aliases = 7 # other.toml line 2"), "{printed}");
    assert!(printed.contains("# environment variable APP_URL"), "{printed}");
    for (name, secret) in secrets {
        assert!(!printed.contains(secret), "{name} is printed");
    }
    assert!(!printed.contains("planted"), "{printed}");
    assert!(printed.contains("db.example.org") && printed.contains("postmaster"), "{printed}");
    assert!(!directory.path().join("data").exists(), "to print makes nothing");

    // A fault shows no secret either.
    let environment = [&environment[..], &[("SMTP_TLS", "none"), ("GUILDHALL_LIMITS_DEPTH", "1")]].concat();
    let output = guildhall(directory.path(), &environment, &["config"]);
    assert_exit(&output, 2);
    assert!(!stderr(&output).contains("planted"), "{}", stderr(&output));
}

#[test]
fn schema_is_printed_as_it_is_checked_in() {
    let directory = TempDir::new().unwrap();
    // No configuration is needed, not even a right one.
    let output = guildhall(directory.path(), &[("GUILDHALL_LIMITS_DEPTH", "x")], &["schema"]);
    assert_exit(&output, 0);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema.graphql");
    assert!(stdout(&output) == fs::read_to_string(file).unwrap(), "run: guildhall schema > schema.graphql");
}

#[test]
fn every_command_explains_itself() {
    let directory = TempDir::new().unwrap();
    for command in [
        &[][..],
        &["serve"],
        &["migrate"],
        &["schema"],
        &["config"],
        &["seed"],
        &["admin"],
        &["admin", "reset-password"],
        &["admin", "create-organization"],
        &["keys"],
        &["keys", "status"],
        &["keys", "new"],
        &["keys", "rotate"],
        &["keys", "forget-previous"],
    ] {
        let output = guildhall(directory.path(), &[], &[command, &["--help"]].concat());
        assert_exit(&output, 0);
        let help = stdout(&output);
        let usage = format!("Usage: {}", [&["guildhall"], command].concat().join(" "));
        assert!(help.contains(&usage) && help.contains("Example:"), "{usage}\n{help}");
    }
    let output = guildhall(directory.path(), &[], &["--version"]);
    assert_exit(&output, 0);
    assert!(stdout(&output).starts_with("guildhall "), "{output:?}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn address_in_use_is_told_and_nothing_is_begun() {
    let directory = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = guildhall(directory.path(), &[("GUILDHALL_LISTEN", &address)], &[]);
    assert_exit(&output, 1);
    let message = stderr(&output).to_lowercase();
    assert!(message.contains(&address) && message.contains("in use"), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    assert!(!directory.path().join("data").exists());
}

#[test]
fn unreachable_database_is_told_without_its_password() {
    let directory = TempDir::new().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://guild:planted@{free}/guild");
    let output = guildhall(directory.path(), &[("DATABASE_URL", &url)], &["migrate"]);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("guildhall: database"), "{}", stderr(&output));
    assert!(
        !stderr(&output).contains("planted") && !stderr(&output).contains("panicked"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn data_directory_is_its_owners_alone() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // Whichever command is the first.
    for command in [&["migrate"][..], &["seed", "--users", "2", "--workspaces", "1", "--members", "2"]] {
        assert_exit(&guildhall(directory.path(), &[], command), 0);
        assert_eq!(mode(&data), 0o700, "after {command:?}");
    }
    assert_eq!(mode(&data.join("secrets.toml")), 0o600);
}

async fn migrate_makes_the_tables_and_is_harmless_again(database: TestDatabase) {
    let directory = TempDir::new().unwrap();
    for _ in 0..2 {
        let output = guildhall(directory.path(), &[("DATABASE_URL", &database.url)], &["migrate"]);
        assert_exit(&output, 0);
    }
    let count = "SELECT count(*) FROM users";
    let users: i64 = match database.engine() {
        Engine::Sqlite => {
            let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
            sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap()
        }
        Engine::Postgres => {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap()
        }
    };
    assert_eq!(users, 0);
}

/// A process whose secrets are made and kept in `data`, as on a machine where nobody gave any.
async fn spawn(database: &TestDatabase, mail: &MailServer, data: &Path) -> Process {
    Process::spawn_with(database, mail, |environment| {
        environment.set("GUILDHALL_DATA_DIR", data.to_str().unwrap());
        for secret in ["JWT_AUTH_TOKEN_SECRET", "JWT_REFRESH_TOKEN_SECRET", "TOKEN_HASH_SECRET", "MASTER_KEY"]
        {
            environment.unset(secret);
        }
    })
    .await
}

async fn operator_gives_a_locked_out_person_a_new_password(database: TestDatabase) {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    let mail = MailServer::start().await;
    let process = spawn(&database, &mail, &data).await;
    let (ada, _) = Actor::set_up(&process.url, &process.setup_token(), "ada@example.org", "Ada").await;
    let phone = ada.again().await;
    let environment =
        [("DATABASE_URL", database.url.as_str()), ("GUILDHALL_DATA_DIR", data.to_str().unwrap())];

    let reset = |email: &str| guildhall(directory.path(), &environment, &["admin", "reset-password", email]);
    for (unknown, told) in
        [("nobody@example.org", "nobody@example.org"), ("not an address", "e-mail address")]
    {
        let output = reset(unknown);
        assert_exit(&output, 1);
        assert!(stderr(&output).contains(told), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
    ada.again().await;

    let output = reset("Ada@Example.org");
    assert_exit(&output, 0);
    let password = stdout(&output).lines().last().unwrap();
    assert!(password.len() >= 20, "{}", stdout(&output));
    assert!(!stderr(&output).contains(password), "{}", stderr(&output));
    for actor in [&ada, &phone] {
        let seen = actor.query("{ viewer { user { id } } }", json!({})).await.ok();
        assert_eq!(seen.data("/viewer"), &Value::Null);
        let input = json!({ "refreshToken": actor.refresh_token });
        Actor::anonymous(&process.url).mutate("refreshSession", input, "").await.refused("SESSION_INVALID");
    }
    let input = json!({ "email": "ada@example.org", "password": PASSWORD });
    Actor::anonymous(&process.url).mutate("signIn", input, "").await.refused("INVALID_CREDENTIALS");
    let ada = Actor::sign_in(&process.url, "ada@example.org", password).await;
    let input = json!({ "currentPassword": password, "newPassword": "violet kayak summit 9 ember" });
    ada.mutate("changePassword", input, "").await.ok();
}

async fn operator_makes_an_organization_for_somebody(database: TestDatabase) {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    let mail = MailServer::start().await;
    let process = spawn(&database, &mail, &data).await;
    let (ada, _) = Actor::set_up(&process.url, &process.setup_token(), "ada@example.org", "Ada").await;
    let environment =
        [("DATABASE_URL", database.url.as_str()), ("GUILDHALL_DATA_DIR", data.to_str().unwrap())];
    let make = |name: &str, owner: &str| {
        guildhall(directory.path(), &environment, &["admin", "create-organization", name, owner])
    };
    for (name, owner, told) in [
        ("Field Studies", "nobody@example.org", "nobody@example.org"),
        ("Field Studies", "not an address", "e-mail address"),
        ("", "ada@example.org", "name"),
    ] {
        let output = make(name, owner);
        assert_exit(&output, 1);
        assert!(stderr(&output).contains(told), "{}", stderr(&output));
    }
    // Of one name there may be several; each has a slug and a default workspace of its own.
    for slug in ["field-studies", "field-studies-2"] {
        let output = make("Field Studies", "Ada@Example.org");
        assert_exit(&output, 0);
        let told = format!("at {slug}, with the workspace {slug}.");
        assert!(stdout(&output).contains(&told), "{}", stdout(&output));
    }
    let own = ada
        .query(
            "{ viewer { organizations { nodes { slug viewerRole } } workspaces { totalCount } } }",
            json!({}),
        )
        .await
        .ok();
    assert_eq!(
        own.data("/viewer/organizations/nodes/2"),
        &json!({ "slug": "field-studies-2", "viewerRole": "OWNER" })
    );
    assert_eq!(own.data("/viewer/workspaces/totalCount"), 3);
}

async fn seed_fills_only_an_empty_database(database: TestDatabase) {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    let environment =
        [("DATABASE_URL", database.url.as_str()), ("GUILDHALL_DATA_DIR", data.to_str().unwrap())];
    let seed = |numbers: [&str; 3]| {
        let arguments = ["seed", "--users", numbers[0], "--workspaces", numbers[1], "--members", numbers[2]];
        guildhall(directory.path(), &environment, &arguments)
    };
    let output = seed(["3", "2", "4"]);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("4 members out of 3 users"), "{}", stderr(&output));

    let output = seed(["6", "3", "4"]);
    assert_exit(&output, 0);
    let told = stdout(&output);
    assert!(told.contains("6 people, 3 workspaces, 12 memberships, 15 pending invitations."), "{told}");
    let password = told.trim_end().rsplit_once("password: ").unwrap().1;
    let owner = told.split_once("Sign in as ").unwrap().1.split_whitespace().next().unwrap();

    let again = seed(["6", "3", "4"]);
    assert_exit(&again, 1);
    assert!(stderr(&again).contains("not empty"), "{}", stderr(&again));

    let mail = MailServer::start().await;
    let process = spawn(&database, &mail, &data).await;
    assert!(!process.output().contains("/setup?token="), "a filled instance is set up");
    let owner = Actor::sign_in(&process.url, owner, password).await;
    let query = "{ viewer { workspaces { totalCount } } }";
    assert_eq!(owner.query(query, json!({})).await.ok().data("/viewer/workspaces/totalCount"), 3);
}

#[test]
fn seed_refuses_an_instance_in_use() {
    run(Engine::Sqlite, fresh_database, async |database: TestDatabase| {
        let directory = TempDir::new().unwrap();
        let data = directory.path().join("data");
        let mail = MailServer::start().await;
        let process = spawn(&database, &mail, &data).await;
        Actor::set_up(&process.url, &process.setup_token(), "ada@example.org", "Ada").await;
        let environment =
            [("DATABASE_URL", database.url.as_str()), ("GUILDHALL_DATA_DIR", data.to_str().unwrap())];
        let output = guildhall(directory.path(), &environment, &["seed"]);
        assert_exit(&output, 1);
        assert!(stderr(&output).contains("not empty"), "{}", stderr(&output));
    });
}
