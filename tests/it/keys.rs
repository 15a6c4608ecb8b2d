//! The master key and its successor, as an operator meets them: the built binary beside servers that run. What is
//! wrapped is opened and made here by the written form alone, so that a change of the form is noticed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    Key, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use guildhall_tests::{
    Actor, Environment, Process,
    actor::token_of,
    app::fresh_database,
    both_databases,
    databases::{Engine, TestDatabase, run},
    mailbox::{Fault, MailServer},
    process::binary,
};
use hmac::{Hmac, Mac as _};
use serde_json::json;
use sha2::Sha256;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::credentials;

both_databases!(
    fresh_database,
    rotation_goes_on_beside_a_server_and_then_the_new_key_is_enough,
    rotation_that_was_killed_is_finished_by_the_same_command,
    two_rotations_at_once_share_the_work,
    keys_that_are_missing_stop_the_start_by_name,
    database_of_an_earlier_version_starts_and_rotates,
    key_that_nobody_gave_is_a_fault_in_the_log_and_no_end,
    damaged_key_is_named_and_holds_nothing_else_up,
    data_directory_gets_a_new_key_and_forgets_the_old_one,
);

const OLD: &str = "f0Kx9vQ2mZ7rT4bW8nL1cY6hJ3sD5gAaPpEeUuRrSs0=";
const NEW: &str = "q7Bn2XwV5kLt9ZcJ4mYh8RfD1sGp6TaE3uQoNiWx0Mw=";
const OTHER: &str = "Zk3pQ9vXs1LrT7yWc5mNb8HfJ2gDa6Ue4oKiRx0MqYw=";

/// A master key, as this version derives from it.
struct Master([u8; 32]);

impl Master {
    fn of(text: &str) -> Self {
        Self(STANDARD.decode(text).unwrap().try_into().unwrap())
    }

    fn derived(&self, purpose: &str) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.0).unwrap();
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn id(&self) -> String {
        hex::encode(&self.derived("id")[..8])
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(self.derived("wrap data keys")))
    }

    /// What a data key of a workspace is bound to.
    fn bound(&self, workspace: &str) -> Vec<u8> {
        [&[1], hex::decode(workspace).unwrap().as_slice(), self.id().as_bytes()].concat()
    }

    fn wrap(&self, workspace: &str, key: &[u8]) -> Vec<u8> {
        // Of a test, so it may be the same each time.
        let nonce = [9; 24];
        let payload = Payload { msg: key, aad: &self.bound(workspace) };
        [&nonce[..], &self.cipher().encrypt(&XNonce::from(nonce), payload).unwrap()].concat()
    }

    fn unwrap(&self, workspace: &str, wrapped: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = wrapped.split_first_chunk::<24>()?;
        let payload = Payload { msg: sealed, aad: &self.bound(workspace) };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok()
    }
}

/// Runs a statement behind everybody's back.
async fn execute(database: &TestDatabase, statement: &str) {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    match database.engine() {
        Engine::Sqlite => {
            statement.execute(&mut SqliteConnection::connect(&database.url).await.unwrap()).await.unwrap();
        }
        Engine::Postgres => {
            statement.execute(&mut PgConnection::connect(&database.url).await.unwrap()).await.unwrap();
        }
    }
}

/// The rows of `workspace_keys`: workspace and wrapped key in hexadecimal digits, between them the master key's id.
async fn data_keys(database: &TestDatabase) -> Vec<(String, String, String)> {
    match database.engine() {
        Engine::Sqlite => {
            let select =
                "SELECT lower(hex(workspace_id)), master_key_id, lower(hex(wrapped)) FROM workspace_keys";
            let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
            sqlx::query_as(select).fetch_all(&mut connection).await.unwrap()
        }
        Engine::Postgres => {
            let select = "SELECT replace(workspace_id::text, '-', ''), master_key_id, encode(wrapped, 'hex')
                          FROM workspace_keys";
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            sqlx::query_as(select).fetch_all(&mut connection).await.unwrap()
        }
    }
}

/// Gives every workspace that has none a data key, wrapped with this master key: twice the workspace's own id.
async fn give_keys(database: &TestDatabase, master: &Master) -> usize {
    let (without, uuid, bytes, now) = match database.engine() {
        Engine::Sqlite => ("lower(hex(id))", "x'$'", "x'$'", "'2026-01-01 00:00:00.000000+00:00'"),
        Engine::Postgres => ("replace(id::text, '-', '')", "'$'::uuid", "'\\x$'::bytea", "now()"),
    };
    let select =
        format!("SELECT {without} FROM workspaces WHERE id NOT IN (SELECT workspace_id FROM workspace_keys)");
    let select = AssertSqlSafe(select);
    let workspaces: Vec<String> = match database.engine() {
        Engine::Sqlite => {
            let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
            sqlx::query_scalar(select).fetch_all(&mut connection).await.unwrap()
        }
        Engine::Postgres => {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            sqlx::query_scalar(select).fetch_all(&mut connection).await.unwrap()
        }
    };
    for some in workspaces.chunks(500) {
        let values = some.iter().map(|workspace| {
            let wrapped = hex::encode(master.wrap(workspace, &key_of(workspace)));
            let (uuid, wrapped) = (uuid.replace('$', workspace), bytes.replace('$', &wrapped));
            format!("({uuid}, '{}', {wrapped}, {now}, {now})", master.id())
        });
        let values = values.collect::<Vec<_>>().join(", ");
        let columns = "workspace_id, master_key_id, wrapped, created_at, wrapped_at";
        execute(database, &format!("INSERT INTO workspace_keys ({columns}) VALUES {values}")).await;
    }
    workspaces.len()
}

fn key_of(workspace: &str) -> Vec<u8> {
    hex::decode(workspace).unwrap().repeat(2)
}

/// How many data keys are wrapped with that master key; each that says so opens with it.
async fn wrapped_with(database: &TestDatabase, master: &Master) -> usize {
    opened_with(&data_keys(database).await, master)
}

/// How many of those data keys the master key opens.
fn opened_with(rows: &[(String, String, String)], master: &Master) -> usize {
    let mine = rows.iter().filter(|(_, id, _)| *id == master.id());
    mine.inspect(|(workspace, _, wrapped)| {
        let opened = master.unwrap(workspace, &hex::decode(wrapped).unwrap());
        assert_eq!(opened, Some(key_of(workspace)), "{workspace}");
    })
    .count()
}

/// Somebody with access to the machine, who gives the secrets of the tests and one master key or another.
struct Operator {
    directory: TempDir,
    database: String,
}

impl Operator {
    fn new(database: &TestDatabase) -> Self {
        Self { directory: TempDir::new().unwrap(), database: database.url.clone() }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn command(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .current_dir(self.directory.path())
            .env_clear()
            .env("DATABASE_URL", &self.database)
            .env("GUILDHALL_DATA_DIR", self.data())
            .env("GUILDHALL_LISTEN", "127.0.0.1:0")
            .envs(environment.iter().copied())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Begins a command, with these master keys: the current one, then previous ones.
    fn begin(&self, keys: &[&str], arguments: &[&str]) -> Child {
        let previous = keys[1..].join(",");
        let environment = [
            ("JWT_AUTH_TOKEN_SECRET", "access tokens of the tests, signed"),
            ("JWT_REFRESH_TOKEN_SECRET", "refresh tokens of the tests, made"),
            ("TOKEN_HASH_SECRET", "links and tokens of the tests, hashed"),
            ("MASTER_KEY", keys[0]),
            ("MASTER_KEY_PREVIOUS", &previous),
        ];
        self.command(&environment, arguments).spawn().unwrap()
    }

    async fn run(&self, keys: &[&str], arguments: &[&str]) -> Ended {
        ended(self.begin(keys, arguments)).await
    }

    async fn rotate(&self, keys: &[&str]) -> Ended {
        self.run(keys, &["keys", "rotate"]).await
    }

    /// As [`Self::run`], with the keys of the data directory.
    async fn run_on_files(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
        ended(self.command(environment, arguments).spawn().unwrap()).await
    }

    /// Fills the database with workspaces, each of which has a data key.
    async fn fill(&self, database: &TestDatabase, workspaces: u32) -> usize {
        let number = workspaces.to_string();
        let arguments = ["seed", "--users", "2", "--members", "1", "--workspaces", &number];
        self.run(&[OLD], &arguments).await.exit(0);
        let made = give_keys(database, &Master::of(OLD)).await;
        assert_eq!(made, usize::try_from(workspaces).unwrap());
        made
    }
}

/// How a command ended. None of them ever prints a key.
struct Ended(Output);

async fn ended(mut child: Child) -> Ended {
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("it does not end: {}", String::from_utf8_lossy(&output.stderr));
        }
        sleep(Duration::from_millis(5)).await;
    }
    let ended = Ended(child.wait_with_output().unwrap());
    for key in [OLD, NEW, OTHER] {
        assert!(!ended.all().contains(key.trim_end_matches('=')), "a key is printed: {}", ended.all());
    }
    ended
}

impl Ended {
    fn all(&self) -> String {
        let Output { stdout, stderr, .. } = &self.0;
        format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr))
    }

    #[track_caller]
    fn exit(&self, code: i32) -> String {
        assert_eq!(self.0.status.code(), Some(code), "{}", self.all());
        self.all()
    }

    /// The start is refused, in these words among others.
    #[track_caller]
    fn refused(&self, words: &[&str]) {
        let message = self.exit(1);
        for word in words {
            assert!(message.contains(word), "{word} is not in: {message}");
        }
        assert!(!message.contains("panicked") && !message.contains("Guildhall answers"), "{message}");
    }

    /// How many data keys it says to have wrapped.
    #[track_caller]
    fn moved(&self) -> usize {
        let message = self.all();
        let number = message.split_once("the keys of ").and_then(|(_, rest)| rest.split(' ').next());
        number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{message}"))
    }
}

/// Lets a server have these master keys: the current one, then previous ones.
fn given(keys: &'static [&'static str]) -> impl FnOnce(&mut Environment) {
    move |environment| {
        environment.set("MASTER_KEY", keys[0]).set("MASTER_KEY_PREVIOUS", keys[1..].join(","));
    }
}

async fn serve(database: &TestDatabase, mail: &MailServer, keys: &'static [&'static str]) -> Process {
    Process::spawn_with(database, mail, given(keys)).await
}

/// Makes queued mails due, whoever had claimed them.
async fn let_mails_be_due(database: &TestDatabase) {
    execute(database, "UPDATE mails SET due_at = created_at WHERE status = 'QUEUED'").await;
}

async fn rotation_goes_on_beside_a_server_and_then_the_new_key_is_enough(database: TestDatabase) {
    let operator = Operator::new(&database);
    let mail = MailServer::start().await;
    mail.fault(Fault::Refuse).await;
    let (old, new) = (Master::of(OLD), Master::of(NEW));

    let mut process = serve(&database, &mail, &[OLD]).await;
    let (ada, lab) = Actor::set_up(&process.url, &process.setup_token(), "ada@example.org", "Ada").await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    assert!(!process.output().contains("keys rotate"), "{}", process.output());
    assert!(process.terminate().await.success());
    let keys = give_keys(&database, &old).await;
    assert!(keys > 0);

    // Nothing has changed by a start with the new key, except what is sealed from now on.
    let mut process = serve(&database, &mail, &[NEW, OLD]).await;
    let ada = ada.at(&process.url);
    let output = process.output();
    assert!(output.contains("WARN") && output.contains("guildhall keys rotate"), "{output}");
    ada.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
    assert_eq!(wrapped_with(&database, &old).await, keys);
    operator.run(&[NEW], &["serve"]).await.refused(&[
        "other secrets",
        &old.id(),
        &new.id(),
        "MASTER_KEY_PREVIOUS",
    ]);

    let status = operator.run(&[NEW, OLD], &["keys", "status"]).await.exit(0);
    assert!(status.contains(&format!("master key {}  0 workspaces, 1 queued mail\n", new.id())), "{status}");
    let held = format!("previous   {}  {keys} workspace", old.id());
    assert!(status.contains(&held) && status.contains("guildhall keys rotate"), "{status}");

    let rotated = operator.rotate(&[NEW, OLD]).await;
    let told = rotated.exit(0);
    assert_eq!(rotated.moved(), keys);
    assert!(told.contains("and 1 queued mail.") && told.contains("MASTER_KEY_PREVIOUS"), "{told}");
    let seen = ada.query("{ viewer { user { id } } }", json!({})).await.ok();
    assert_eq!(seen.text("/viewer/user/id"), ada.id);
    ada.invite(&lab, "mia@example.org", "VIEWER").await.ok();
    assert!(process.terminate().await.success());

    assert_eq!(wrapped_with(&database, &new).await, keys);
    operator.run(&[OLD], &["serve"]).await.refused(&["other secrets", &old.id(), &new.id()]);
    let again = operator.rotate(&[NEW]).await;
    again.exit(0);
    assert_eq!(again.moved(), 0);
    let status = operator.run(&[NEW], &["keys", "status"]).await.exit(0);
    assert!(!status.contains("rotate") && !status.contains(&old.id()), "{status}");

    mail.fault(Fault::None).await;
    let_mails_be_due(&database).await;
    let process = serve(&database, &mail, &[NEW]).await;
    assert!(!process.output().contains("WARN"), "{}", process.output());
    for (email, name) in [("eve@example.org", "Eve"), ("zoe@example.org", "Zoe"), ("mia@example.org", "Mia")]
    {
        let link = mail.next_for(email).await.link();
        Actor::register(&process.url, token_of(&link), name).await;
    }
}

/// Whoever changes this workspace's data key takes for ever.
async fn obstruct(database: &TestDatabase, workspace: &str) {
    let statement = match database.engine() {
        Engine::Sqlite => format!(
            "CREATE TRIGGER obstacle BEFORE UPDATE ON workspace_keys WHEN NEW.workspace_id = x'{workspace}' BEGIN
                 SELECT count(*) FROM workspace_keys a, workspace_keys b, workspace_keys c, workspace_keys d;
             END"
        ),
        Engine::Postgres => format!(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN PERFORM pg_sleep(600); RETURN NEW; END';
             CREATE TRIGGER obstacle BEFORE UPDATE ON workspace_keys FOR EACH ROW
                 WHEN (NEW.workspace_id = '{workspace}'::uuid) EXECUTE FUNCTION wait()"
        ),
    };
    execute(database, &statement).await;
}

async fn clear_the_way(database: &TestDatabase) {
    match database.engine() {
        Engine::Sqlite => execute(database, "DROP TRIGGER obstacle").await,
        Engine::Postgres => {
            // The server notices only when the sleep is over that nobody waits for the answer any more.
            database.kill_connections().await;
            execute(database, "DROP TRIGGER obstacle ON workspace_keys").await;
        }
    }
}

async fn rotation_that_was_killed_is_finished_by_the_same_command(database: TestDatabase) {
    let operator = Operator::new(&database);
    let (old, new) = (Master::of(OLD), Master::of(NEW));
    let all = operator.fill(&database, 500).await;
    let mut workspaces: Vec<_> = data_keys(&database).await.into_iter().map(|(id, _, _)| id).collect();
    workspaces.sort();
    obstruct(&database, &workspaces[250]).await;

    let mut child = operator.begin(&[NEW, OLD], &["keys", "rotate"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while wrapped_with(&database, &new).await == 0 {
        assert!(Instant::now() < deadline, "it does not begin");
    }
    // Time to get into the midst of a transaction, out of which the obstacle does not let it.
    sleep(Duration::from_millis(500)).await;
    assert!(child.try_wait().unwrap().is_none(), "it ended");
    child.kill().unwrap();
    child.wait().unwrap();
    clear_the_way(&database).await;
    let moved = wrapped_with(&database, &new).await;
    assert!(0 < moved && moved < all, "killed after {moved} of {all}");
    assert_eq!(wrapped_with(&database, &old).await, all - moved);

    // Half of it is no state to start in without both keys.
    operator.run(&[NEW], &["serve"]).await.refused(&["other secrets", &old.id()]);
    let left = format!("the secrets of {moved} workspaces are sealed with {}", new.id());
    operator.run(&[OLD], &["serve"]).await.refused(&[&left, "MASTER_KEY_PREVIOUS"]);
    let rotated = operator.rotate(&[NEW, OLD]).await;
    rotated.exit(0);
    assert_eq!(rotated.moved(), all - moved);
    assert_eq!(wrapped_with(&database, &new).await, all);

    // And back, killed at whatever it was doing.
    for pause in [0, 10, 30, 60, 100, 150, 200, 300] {
        let mut child = operator.begin(&[OLD, NEW], &["keys", "rotate"]);
        sleep(Duration::from_millis(pause)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        // In one look: what was killed may have been committing.
        let rows = data_keys(&database).await;
        assert_eq!(opened_with(&rows, &old) + opened_with(&rows, &new), all, "after {pause} ms");
    }
    operator.rotate(&[OLD, NEW]).await.exit(0);
    assert_eq!(wrapped_with(&database, &old).await, all);
    operator.run(&[OLD], &["keys", "rotate"]).await.exit(0);
}

async fn two_rotations_at_once_share_the_work(database: TestDatabase) {
    let operator = Operator::new(&database);
    let (old, new) = (Master::of(OLD), Master::of(NEW));
    let all = operator.fill(&database, 600).await;
    let [first, second] = [(), ()].map(|()| operator.begin(&[NEW, OLD], &["keys", "rotate"]));
    let (first, second) = tokio::join!(ended(first), ended(second));
    first.exit(0);
    second.exit(0);
    assert_eq!(first.moved() + second.moved(), all, "{}{}", first.all(), second.all());
    assert_eq!(wrapped_with(&database, &new).await, all);

    // In opposite directions they are a mistake, of which both end and nothing is lost.
    let (back, forth) =
        (operator.begin(&[OLD, NEW], &["keys", "rotate"]), operator.begin(&[NEW, OLD], &["keys", "rotate"]));
    let (back, forth) = tokio::join!(ended(back), ended(forth));
    assert!([0, 1].contains(&back.0.status.code().unwrap()), "{}", back.all());
    assert!([0, 1].contains(&forth.0.status.code().unwrap()), "{}", forth.all());
    assert_eq!(wrapped_with(&database, &new).await + wrapped_with(&database, &old).await, all);
    operator.rotate(&[NEW, OLD]).await.exit(0);
    assert_eq!(wrapped_with(&database, &new).await, all);
    operator.rotate(&[NEW]).await.exit(0);
}

async fn keys_that_are_missing_stop_the_start_by_name(database: TestDatabase) {
    let operator = Operator::new(&database);
    let (other, new) = (Master::of(OTHER), Master::of(NEW));
    operator.run(&[NEW], &["seed", "--users", "2", "--members", "1", "--workspaces", "2"]).await.exit(0);
    assert_eq!(give_keys(&database, &other).await, 2);
    for arguments in [&["serve"][..], &["keys", "rotate"], &["admin", "reset-password", "a@example.org"]] {
        let words = ["the secrets of 2 workspaces", &other.id(), "MASTER_KEY_PREVIOUS"];
        operator.run(&[NEW], arguments).await.refused(&words);
        operator.run(&[NEW, OLD], arguments).await.refused(&words);
    }
    // To look at it is allowed.
    let status = operator.run(&[NEW], &["keys", "status"]).await.exit(0);
    assert!(status.contains(&format!("NOT GIVEN  {}  2 workspaces", other.id())), "{status}");
    let status = operator.run(&[OLD], &["keys", "status"]).await.exit(0);
    assert!(status.contains(&format!("NOT GIVEN  {}  the database is under it", new.id())), "{status}");

    operator.rotate(&[NEW, OLD, OTHER]).await.exit(0);
    assert_eq!(wrapped_with(&database, &new).await, 2);
    // Whatever the master keys are, the other secrets are compared as before.
    for (name, value) in [
        ("JWT_REFRESH_TOKEN_SECRET", "another refresh secret, long enough too"),
        ("TOKEN_HASH_SECRET", "another hashing secret, long enough too!"),
    ] {
        let previous = format!("{OLD},{OTHER}");
        let mut environment = vec![
            ("JWT_AUTH_TOKEN_SECRET", "access tokens of the tests, signed"),
            ("JWT_REFRESH_TOKEN_SECRET", "refresh tokens of the tests, made"),
            ("TOKEN_HASH_SECRET", "links and tokens of the tests, hashed"),
            ("MASTER_KEY", NEW),
            ("MASTER_KEY_PREVIOUS", &previous),
        ];
        environment.retain(|(given, _)| *given != name);
        environment.push((name, value));
        operator.run_on_files(&environment, &["serve"]).await.refused(&["other secrets", name]);
    }
}

async fn database_of_an_earlier_version_starts_and_rotates(database: TestDatabase) {
    let operator = Operator::new(&database);
    let mail = MailServer::start().await;
    mail.fault(Fault::Refuse).await;
    let mut process = serve(&database, &mail, &[OLD]).await;
    let (ada, lab) = Actor::set_up(&process.url, &process.setup_token(), "ada@example.org", "Ada").await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    process.kill();
    // Such a one noted neither.
    let as_before = async || {
        execute(&database, "DELETE FROM instance WHERE key = 'master_key_id'").await;
        execute(&database, "UPDATE mails SET master_key_id = NULL").await;
    };
    as_before().await;
    operator.run(&[NEW], &["serve"]).await.refused(&["other secrets", "MASTER_KEY"]);
    let mut process = serve(&database, &mail, &[OLD]).await;
    assert!(process.terminate().await.success());

    as_before().await;
    let told = operator.rotate(&[NEW, OLD]).await.exit(0);
    assert!(told.contains("and 1 queued mail."), "{told}");
    mail.fault(Fault::None).await;
    let_mails_be_due(&database).await;
    let process = serve(&database, &mail, &[NEW]).await;
    let link = mail.next_for("eve@example.org").await.link();
    Actor::register(&process.url, token_of(&link), "Eve").await;
}

async fn key_that_nobody_gave_is_a_fault_in_the_log_and_no_end(database: TestDatabase) {
    let mail = MailServer::start().await;
    mail.fault(Fault::Refuse).await;
    let mut process = serve(&database, &mail, &[OLD]).await;
    let (ada, lab) = Actor::set_up(&process.url, &process.setup_token(), "ada@example.org", "Ada").await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !process.output().contains("feedfeedfeedfeed") {
        assert!(Instant::now() < deadline, "{}", process.output());
        execute(&database, "UPDATE mails SET master_key_id = 'feedfeedfeedfeed', due_at = created_at").await;
        sleep(Duration::from_millis(200)).await;
    }
    let output = process.output();
    let line = output.lines().find(|line| line.contains("feedfeedfeedfeed")).unwrap();
    assert!(line.contains("ERROR") && line.contains("MASTER_KEY_PREVIOUS"), "{line}");
    assert!(process.runs());
    ada.query("{ viewer { user { id } } }", json!({})).await.ok();
    // It waits for the key, and no longer than any other mail.
    let query = "query($name: String!) { workspace(name: $name) { invitations { nodes { delivery } } } }";
    let seen = ada.query(query, json!({ "name": lab.name })).await.ok();
    assert_eq!(seen.data("/workspace/invitations/nodes/0/delivery"), "QUEUED");
}

async fn damaged_key_is_named_and_holds_nothing_else_up(database: TestDatabase) {
    let operator = Operator::new(&database);
    let (old, new) = (Master::of(OLD), Master::of(NEW));
    let all = operator.fill(&database, 250).await;
    let (damaged, _, _) = data_keys(&database).await.swap_remove(120);
    let (id, junk) = match database.engine() {
        Engine::Sqlite => (format!("x'{damaged}'"), "x'00'"),
        Engine::Postgres => (format!("'{damaged}'::uuid"), "'\\x00'::bytea"),
    };
    execute(&database, &format!("UPDATE workspace_keys SET wrapped = {junk} WHERE workspace_id = {id}"))
        .await;
    let told = operator.rotate(&[NEW, OLD]).await.exit(1);
    assert!(told.contains(&format!("The data key of wks_{damaged} is damaged")), "{told}");
    assert_eq!(wrapped_with(&database, &new).await, all - 1);
    operator.run(&[NEW], &["serve"]).await.refused(&["other secrets", &old.id()]);

    // From a backup.
    let wrapped = hex::encode(old.wrap(&damaged, &key_of(&damaged)));
    let wrapped = junk.replace("00", &wrapped);
    execute(&database, &format!("UPDATE workspace_keys SET wrapped = {wrapped} WHERE workspace_id = {id}"))
        .await;
    operator.rotate(&[NEW, OLD]).await.exit(0);
    assert_eq!(wrapped_with(&database, &new).await, all);
    operator.rotate(&[NEW]).await.exit(0);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The master key of a secrets file, then the previous ones.
fn kept(file: &Path) -> Vec<String> {
    let content: toml::Table = fs::read_to_string(file).unwrap().parse().unwrap();
    let previous = content.get("master_key_previous").and_then(|keys| keys.as_array());
    let keys = [&content["master_key"]].into_iter().chain(previous.into_iter().flatten());
    keys.map(|key| key.as_str().unwrap().to_owned()).collect()
}

/// A server that keeps its secrets in that directory.
async fn serve_from(database: &TestDatabase, mail: &MailServer, data: &Path) -> Process {
    Process::spawn_with(database, mail, |environment| {
        environment.set("GUILDHALL_DATA_DIR", data.to_str().unwrap());
        for secret in ["JWT_AUTH_TOKEN_SECRET", "JWT_REFRESH_TOKEN_SECRET", "TOKEN_HASH_SECRET", "MASTER_KEY"]
        {
            environment.unset(secret);
        }
    })
    .await
}

async fn data_directory_gets_a_new_key_and_forgets_the_old_one(database: TestDatabase) {
    let operator = Operator::new(&database);
    let (mail, file) = (MailServer::start().await, operator.data().join("secrets.toml"));
    let keys = async |arguments: &[&str]| operator.run_on_files(&[], &[&["keys"], arguments].concat()).await;
    keys(&["new"]).await.refused(&["secrets.toml"]);
    assert!(!operator.data().exists());

    let mut process = serve_from(&database, &mail, &operator.data()).await;
    let (ada, _) = Actor::set_up(&process.url, &process.setup_token(), "ada@example.org", "Ada").await;
    let before = kept(&file);
    let old = Master::of(&before[0]);
    let lab = ada.workspace("Vault").await;
    let number = give_keys(&database, &old).await;
    credentials::made(&ada, &lab, "Store", "hunter2-before").await;
    let told = keys(&["new"]).await.exit(0);
    let after = kept(&file);
    assert_eq!(after[1..], before);
    let new = Master::of(&after[0]);
    assert!(told.contains(&new.id()) && told.contains(&old.id()) && told.contains("keys rotate"), "{told}");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&operator.data()), 0o700);
    // The server does not know of it until it is started again.
    ada.query("{ viewer { user { id } } }", json!({})).await.ok();
    assert!(process.terminate().await.success());

    let process = serve_from(&database, &mail, &operator.data()).await;
    let ada = ada.at(&process.url).again().await;
    keys(&["forget-previous"]).await.refused(&["still needed", "keys rotate"]);
    assert_eq!(kept(&file), after);
    let read = async |by: &Actor| {
        let used = credentials::used(by, &lab, "store").await.ok();
        assert_eq!(credentials::value(&used, "password"), "hunter2-before");
    };
    read(&ada).await;
    // Values are handed out all the while.
    let (told, ()) = tokio::join!(keys(&["rotate"]), async {
        for _ in 0..20 {
            read(&ada).await;
        }
    });
    let told = told.exit(0);
    assert!(told.contains("guildhall keys forget-previous"), "{told}");
    assert_eq!(wrapped_with(&database, &new).await, number);
    let status = keys(&["status"]).await.exit(0);
    assert!(status.contains("guildhall keys forget-previous"), "{status}");

    // Where keys are given, they are not the directory's business.
    operator.run_on_files(&[("MASTER_KEY", OTHER)], &["keys", "new"]).await.refused(&[
        "MASTER_KEY",
        "MASTER_KEY_PREVIOUS",
        "openssl",
    ]);
    let given = [("MASTER_KEY_PREVIOUS", OTHER)];
    operator.run_on_files(&given, &["keys", "forget-previous"]).await.refused(&["MASTER_KEY_PREVIOUS"]);
    assert_eq!(kept(&file), after);

    let told = keys(&["forget-previous"]).await.exit(0);
    assert!(told.contains(&old.id()), "{told}");
    assert_eq!(kept(&file), after[..1]);
    assert_eq!(mode(&file), 0o600);
    let files: Vec<_> =
        fs::read_dir(operator.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!files.iter().any(|name| name.to_string_lossy().starts_with(".secrets")), "{files:?}");
    for output in [told, status] {
        assert!(!after.iter().any(|key| output.contains(key.trim_end_matches('='))), "a key is printed");
    }
    keys(&["forget-previous"]).await.exit(0);
    ada.query("{ viewer { user { id } } }", json!({})).await.ok();
    drop(process);
    let process = serve_from(&database, &mail, &operator.data()).await;
    read(&ada.at(&process.url)).await;
}

#[test]
fn new_key_that_was_interrupted_loses_none() {
    run(Engine::Sqlite, fresh_database, async |database: TestDatabase| {
        let operator = Operator::new(&database);
        operator.run_on_files(&[], &["keys", "status"]).await.exit(0);
        let file = operator.data().join("secrets.toml");
        let first = kept(&file);
        for pause in [1, 2, 4, 6, 8, 10, 15] {
            let mut child = operator.command(&[], &["keys", "new"]).spawn().unwrap();
            let before = kept(&file);
            sleep(Duration::from_millis(pause)).await;
            child.kill().unwrap();
            child.wait().unwrap();
            let after = kept(&file);
            assert!(after.ends_with(&first) && after.ends_with(&before), "after {pause} ms");
            assert_eq!(mode(&file), 0o600);
        }
        // Whatever was left behind is nobody else's to read.
        for entry in fs::read_dir(operator.data()).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
        operator.run_on_files(&[], &["keys", "new"]).await.exit(0);
        operator.run_on_files(&[], &["keys", "rotate"]).await.exit(0);
        operator.run_on_files(&[], &["keys", "forget-previous"]).await.exit(0);
        assert_eq!(kept(&file).len(), 1);
    });
}
