//! A secret value is told to whoever uses or reveals it, and nowhere else: not in another answer, not in what the process
//! logs at its most talkative, not in a row, a file or a dump. Knows what was planted and everywhere it could have gone to.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path, time::Duration};

use axum::Router;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use bytes::Bytes;
use guildhall_tests::{
    Actor, Answer, Process, Workspace,
    app::fresh_database,
    both_databases,
    databases::{Engine, TestDatabase},
    mailbox::MailServer,
};
use http::{HeaderMap, Request, StatusCode, header};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

both_databases!(fresh_database, a_secret_value_is_told_to_nobody_else);

/// Values as nobody else writes them, and how each of them could look elsewhere.
#[derive(Default)]
struct Planted(Vec<String>);

impl Planted {
    /// Another one. Different from the others in each part, and of nothing that JSON or an address would escape.
    fn secret(&mut self, of: &str) -> String {
        let number = self.0.len();
        let value = format!("Zq{number}otter{}Kx{}w", of.replace(' ', ""), number * 7919 + 104_729);
        self.0.push(value.clone());
        value
    }

    /// Which of the values stand in those bytes, in whichever form.
    fn within(&self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for value in &self.0 {
            for (form, needle) in forms(value) {
                if has(bytes, &needle) {
                    found.push(format!("{value} as {form}"));
                }
            }
        }
        found
    }

    #[track_caller]
    fn nowhere_in(&self, bytes: impl AsRef<[u8]>, place: &str) {
        let found = self.within(bytes.as_ref());
        assert!(found.is_empty(), "{place} tells {found:#?}");
    }
}

fn has(bytes: &[u8], needle: &[u8]) -> bool {
    // What is searched has megabytes, and few places begin like a value.
    let Some((first, rest)) = needle.split_first() else { return false };
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| byte == first) {
        let after = from + at + 1;
        if bytes[after..].starts_with(rest) {
            return true;
        }
        from = after;
    }
    false
}

/// The value as text, reversed, in hexadecimal and decimal digits, and in base64 wherever it stands in what is encoded.
fn forms(value: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = value.as_bytes();
    let decimals = bytes.iter().map(u8::to_string).collect::<Vec<_>>();
    let mut forms = vec![
        ("text", bytes.to_vec()),
        ("text turned round", bytes.iter().rev().copied().collect()),
        ("UTF-16", value.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("hexadecimal digits", hex::encode(bytes).into()),
        ("hexadecimal capitals", hex::encode_upper(bytes).into()),
        ("a list of numbers", decimals.join(", ").into()),
        ("a dense list of numbers", decimals.join(",").into()),
    ];
    for before in 0..3_usize {
        // What stands before shifts the digits: those that depend on the value alone remain.
        let shifted = [&[0; 3][..before], bytes].concat();
        let whole = (shifted.len() / 3) * 4;
        let start = [0, 2, 3][before];
        forms.push(("base64", STANDARD.encode(&shifted)[start..whole].into()));
        forms.push(("base64 for addresses", URL_SAFE.encode(&shifted)[start..whole].into()));
    }
    forms
}

#[test]
fn a_planted_value_is_found_in_each_of_its_forms() {
    let mut planted = Planted::default();
    let value = planted.secret("nothing");
    planted.secret("something else");
    let around = |inner: &[u8]| [b"{\"a\": ", inner, b"} and so on"].concat();
    for length in 0..7 {
        let prefix = "x".repeat(length);
        for encoded in [
            format!("{prefix}{value}"),
            STANDARD.encode(format!("{prefix}{value}tail")),
            URL_SAFE.encode(format!("{prefix}{value}tail")),
            hex::encode(format!("{prefix}{value}tail")),
            format!("{:?}", format!("{prefix}{value}tail").as_bytes()),
        ] {
            let found = planted.within(&around(encoded.as_bytes()));
            assert!(!found.is_empty(), "{encoded}");
            assert!(found.iter().all(|found| found.starts_with(&value)), "{found:?}");
        }
    }
    assert!(planted.within(b"Zq0otter and Kx104729w").is_empty());
}

/// Every row of every table, as text.
async fn dump(database: &TestDatabase) -> String {
    let mut dump = String::new();
    match database.engine() {
        Engine::Sqlite => {
            let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
            let tables: Vec<String> =
                sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
                    .fetch_all(&mut connection)
                    .await
                    .unwrap();
            for table in tables {
                let columns: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
                    "SELECT name FROM pragma_table_info('{table}')"
                )))
                .fetch_all(&mut connection)
                .await
                .unwrap();
                let columns = columns.iter().map(|column| format!("quote(\"{column}\")")).collect::<Vec<_>>();
                let select = format!("SELECT {} FROM \"{table}\"", columns.join(" || ', ' || "));
                let rows: Vec<String> =
                    sqlx::query_scalar(AssertSqlSafe(select)).fetch_all(&mut connection).await.unwrap();
                writeln!(dump, "{table}: {}", rows.join("\n")).unwrap();
            }
        }
        Engine::Postgres => {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            let tables: Vec<String> = sqlx::query_scalar(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
                 WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
            )
            .fetch_all(&mut connection)
            .await
            .unwrap();
            for table in tables {
                for escaped in ["hex", "escape"] {
                    let set = format!("SET bytea_output = '{escaped}'");
                    sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut connection).await.unwrap();
                    let select = format!("SELECT t::text FROM {table} AS t");
                    let rows: Vec<String> =
                        sqlx::query_scalar(AssertSqlSafe(select)).fetch_all(&mut connection).await.unwrap();
                    writeln!(dump, "{table}: {}", rows.join("\n")).unwrap();
                }
            }
        }
    }
    dump
}

/// Every file below the directory.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}

async fn sql(database: &TestDatabase, statement: &str) {
    let query = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    match database.engine() {
        Engine::Sqlite => {
            let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
            query.execute(&mut connection).await.map(drop)
        }
        Engine::Postgres => {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            query.execute(&mut connection).await.map(drop)
        }
    }
    .unwrap_or_else(|error| panic!("{error} in {statement}"));
}

/// Somebody whose every answer is searched.
struct Asker<'a> {
    actor: &'a Actor,
    answers: Vec<(String, String)>,
}

impl Asker<'_> {
    fn note(&mut self, about: &str, answer: &Answer) {
        self.answers.push((about.to_owned(), format!("{:?} {}", answer.headers, answer.body)));
    }

    async fn mutate(&mut self, mutation: &str, input: Value, selection: &str) -> Answer {
        let answer = self.actor.mutate(mutation, input, selection).await;
        self.note(mutation, &answer);
        answer
    }

    async fn query(&mut self, about: &str, document: &str, variables: Value) -> Answer {
        let answer = self.actor.query(document, variables).await;
        self.note(about, &answer);
        answer
    }

    /// Sends a body as it is.
    async fn post(&mut self, about: &str, body: impl Into<Bytes>) {
        let request = Request::post(format!("{}/graphql", self.actor.url))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.actor.access_token.as_deref().unwrap()));
        let page = self.actor.http(request.body(body.into()).unwrap()).await;
        self.answers
            .push((about.to_owned(), format!("{:?} {}", page.headers, String::from_utf8_lossy(&page.body))));
    }

    /// Begins to send a body of which the server reads no more than its length before it refuses it.
    async fn post_in_vain(&mut self, about: &str, body: &str) {
        let host = self.actor.url.trim_start_matches("http://").to_owned();
        let head = format!(
            "POST /graphql HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(&host).await.unwrap();
        stream.write_all(format!("{head}{}", &body[..1000]).as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answer)).await;
        let read = read.expect("it does not wait for the rest").unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        self.answers.push((about.to_owned(), answer));
    }
}

const CREDENTIAL: &str = "credential { id slug name description
    fields { code value fingerprint environmentVariable isSecret isSet } shares { nodes { slug name } } }";
const CREATE: &str = "mutation($input: CreateCredentialInput!) { createCredential(input: $input) {
    credential { fields { code value fingerprint } } userErrors { code message field } } }";

fn field(code: &str, value: impl Into<Value>) -> Value {
    json!({ "code": code, "value": value.into() })
}

/// Makes one credential of each type; the input that made the S3 one.
async fn make_each_type(ada: &mut Asker<'_>, lab: &Workspace, planted: &mut Planted) {
    let gcs = json!({ "type": "service_account", "private_key": planted.secret("gcs key") }).to_string();
    let pem = format!("-----BEGIN\n{}\n-----END", planted.secret("pem"));
    for (kind, name, fields) in [
        (
            "S3",
            "Bucket",
            vec![
                field("bucket_name", "field-data"),
                field("access_key_id", "AKIApublic"),
                field("secret_access_key", planted.secret("s3")),
            ],
        ),
        ("GCS", "Cloud", vec![field("bucket_name", "field-data"), field("service_account_key", gcs)]),
        (
            "POSTGRESQL",
            "Database",
            vec![
                field("host", "db.example.org"),
                field("database", "analytics"),
                field("username", "reader"),
                field("password", planted.secret("postgres")),
            ],
        ),
        (
            "DHIS2",
            "Registry",
            vec![
                field("api_url", "https://dhis2.example.org"),
                field("username", "admin"),
                field("password", planted.secret("dhis2")),
            ],
        ),
        (
            "IASO",
            "Field",
            vec![
                field("api_url", "https://iaso.example.org"),
                field("username", "admin"),
                field("password", planted.secret("iaso")),
            ],
        ),
        (
            "CUSTOM",
            "Vault",
            vec![
                field("token", planted.secret("custom")),
                field("certificate", pem),
                field("long", planted.secret("long").repeat(1_000)),
                json!({ "code": "host", "value": "a-public-heron", "isSecret": false }),
            ],
        ),
    ] {
        let input = json!({ "workspaceId": lab.id, "type": kind, "name": name, "fields": fields,
                            "description": format!("The {kind} of the lab") });
        ada.mutate("createCredential", input, CREDENTIAL).await.ok();
    }
}

/// Everything that is refused with a secret in it, by rules, by the schema, by the parser and before.
async fn be_refused(ada: &mut Asker<'_>, lab: &Workspace, vault: &str, planted: &mut Planted) {
    let update =
        |fields: Vec<Value>| json!({ "workspaceId": lab.id, "credentialId": vault, "fields": fields });
    for (fields, code) in [
        (vec![field("Token", planted.secret("bad code"))], "INVALID_INPUT"),
        (vec![field(&planted.secret("as code"), "x")], "INVALID_INPUT"),
        (vec![field("token", planted.secret("too long").repeat(4_000))], "INVALID_INPUT"),
        (vec![field("token", format!("{}\0", planted.secret("nul")))], "INVALID_INPUT"),
        (
            vec![field("token", planted.secret("twice")), field("token", planted.secret("again"))],
            "INVALID_INPUT",
        ),
        ((0..51).map(|n| field(&format!("f{n}"), planted.secret("many"))).collect(), "INVALID_INPUT"),
        (vec![field("token", planted.secret("beside")), field("unknown", Value::Null)], "INVALID_INPUT"),
    ] {
        ada.mutate("updateCredential", update(fields), CREDENTIAL).await.refused(code);
    }
    let create = |kind: &str, fields: Vec<Value>| json!({ "workspaceId": lab.id, "type": kind, "name": "Refused", "fields": fields });
    let user_info = format!("https://admin:{}@dhis2.example.org", planted.secret("user info"));
    let rest = [field("username", "admin"), field("password", planted.secret("beside an address"))];
    for (kind, fields) in [
        ("DHIS2", [vec![field("api_url", user_info)], rest.to_vec()].concat()),
        ("DHIS2", [vec![field("api_url", planted.secret("no address"))], rest.to_vec()].concat()),
        (
            "POSTGRESQL",
            vec![field("port", planted.secret("port")), field("passwort", planted.secret("typo"))],
        ),
        (
            "GCS",
            vec![field(
                "service_account_key",
                format!("{{\"private_key\": \"{}\"", planted.secret("cut json")),
            )],
        ),
        ("GCS", vec![field("service_account_key", format!("[\"{}\"]", planted.secret("json list")))]),
        ("S3", vec![field("secret_access_key", format!("{}\n", planted.secret("line break")))]),
    ] {
        ada.mutate("createCredential", create(kind, fields), CREDENTIAL).await.refused("INVALID_INPUT");
    }
    // Of the wrong type, or in the wrong place.
    let good = |secret: String| create("CUSTOM", vec![field("token", secret)]);
    for (path, is_whole) in [
        ("/type", true),
        ("/workspaceId", true),
        ("/slug", true),
        ("/fields", true),
        ("/fields/0", true),
        ("/fields/0/isSecret", true),
        ("/fields/0/value", false),
        ("/name", false),
    ] {
        let mut input = good(planted.secret("beside what is wrong"));
        input["slug"] = json!("refused");
        input["fields"][0]["isSecret"] = json!(true);
        let secret = planted.secret("in the wrong place");
        *input.pointer_mut(path).unwrap() = if is_whole { json!(secret) } else { json!({ "a": [secret] }) };
        let answer =
            ada.query(&format!("createCredential with {path}"), CREATE, json!({ "input": input })).await;
        assert!(!answer.errors().is_empty() || !answer.user_errors().is_empty(), "{answer}");
    }
    let mut input = good(planted.secret("beside what is unknown"));
    input["password"] = json!(planted.secret("unknown field"));
    ada.query("an unknown field", CREATE, json!({ "input": input }))
        .await
        .denied("GRAPHQL_VALIDATION_FAILED");
    ada.query(
        "an unknown variable",
        CREATE,
        json!({ "input": good(planted.secret("a")), "other": planted.secret("b") }),
    )
    .await;
    ada.query("no variable", CREATE, json!({ "inputs": good(planted.secret("misnamed")) })).await;
    for (mutation, input) in [
        ("deleteCredential", json!({ "workspaceId": lab.id, "credentialId": planted.secret("id") })),
        ("useCredential", json!({ "workspaceId": lab.id, "slug": planted.secret("slug"), "purpose": "x" })),
        (
            "useCredential",
            json!({ "workspaceId": planted.secret("workspace"), "slug": "vault", "purpose": "x" }),
        ),
        (
            "shareCredential",
            json!({ "workspaceId": lab.id, "credentialId": vault, "targetWorkspaceId": planted.secret("target") }),
        ),
        (
            "shareCredential",
            json!({ "workspaceId": lab.id, "credentialId": vault, "targetWorkspaceId": lab.id,
                    "expiresAt": planted.secret("date") }),
        ),
    ] {
        let answer = ada.mutate(mutation, input, "").await;
        assert!(!answer.errors().is_empty() || !answer.user_errors().is_empty(), "{answer}");
    }

    // Literals, where what is wrong stands beside the secret or is the secret.
    let literal = |rest: String| {
        format!(
            r#"mutation {{ createCredential(input: {{ workspaceId: "{}", {rest} }}) {{ credential {{ id }} userErrors {{ message }} }} }}"#,
            lab.id
        )
    };
    for (about, rest) in [
        (
            "a literal of no field",
            format!(r#"type: CUSTOM, name: "a", secret: "{}", fields: []"#, planted.secret("no field")),
        ),
        ("a literal of no type", format!(r#"type: "{}", name: "a", fields: []"#, planted.secret("no type"))),
        ("a word of no type", format!(r#"type: {}, name: "a", fields: []"#, planted.secret("no word"))),
        (
            "a literal of no list",
            format!(r#"type: CUSTOM, name: "a", fields: "{}""#, planted.secret("no list")),
        ),
        (
            "no end of a text",
            format!(
                r#"type: CUSTOM, name: "a", fields: [{{ code: "token", value: "{} }}]"#,
                planted.secret("no end")
            ),
        ),
        (
            "no quotes",
            format!(
                r#"type: CUSTOM, name: "a", fields: [{{ code: "token", value: {}! }}]"#,
                planted.secret("no quotes")
            ),
        ),
        (
            "no comma",
            format!(
                r#"type: CUSTOM, name: "a", fields: [{{ code: "token" value: "{}" = }}]"#,
                planted.secret("no sense")
            ),
        ),
        (
            "an escape",
            format!(
                r#"type: CUSTOM, name: "a", fields: [{{ code: "token", value: "\q{}" }}]"#,
                planted.secret("escape")
            ),
        ),
    ] {
        let answer = ada.query(about, &literal(rest), json!({})).await;
        assert!(!answer.errors().is_empty(), "{answer}");
    }
    let secret = planted.secret("argument");
    let unknown = format!(r#"{{ credentialTypes(password: "{secret}") {{ name }} }}"#);
    ada.query("an unknown argument", &unknown, json!({})).await.denied("GRAPHQL_VALIDATION_FAILED");

    // Bodies that are no request.
    let whole =
        json!({ "query": CREATE, "variables": { "input": good(planted.secret("cut body")) } }).to_string();
    ada.post("half a body", whole[..whole.len() - 9].to_owned()).await;
    ada.post("a body with more after it", format!("{whole} and {}", planted.secret("after the body"))).await;
    ada.post(
        "variables that are a text",
        json!({ "query": CREATE, "variables": planted.secret("variables") }).to_string(),
    )
    .await;
    ada.post("a list", format!("[{whole}]")).await;
    let mut bytes = whole.into_bytes();
    bytes.push(0xff);
    ada.post("no text", bytes).await;
    let oversize = good(planted.secret("oversize").repeat(200_000));
    let oversize = json!({ "query": CREATE, "variables": { "input": oversize } }).to_string();
    ada.post_in_vain("an oversize body", &oversize).await;
    let address = format!("/graphql?query=mutation{{x(a:%22{}%22)}}", planted.secret("address"));
    let page = ada.actor.get(&address).await;
    ada.answers.push(("GET".to_owned(), page.text().to_owned()));
    let address = format!("/graphql?variables={}", planted.secret("variables of an address"));
    let page = ada.actor.get(&address).await;
    ada.answers.push(("GET".to_owned(), page.text().to_owned()));
}

/// Faults of the server, with a secret on its way.
async fn fail(ada: &mut Asker<'_>, lab: &Workspace, database: &TestDatabase, planted: &mut Planted) {
    let (make, drop) = match database.engine() {
        Engine::Sqlite => (
            "CREATE TRIGGER broken BEFORE INSERT ON credential_fields BEGIN SELECT RAISE(ABORT, 'broken'); END",
            "DROP TRIGGER broken",
        ),
        Engine::Postgres => (
            "ALTER TABLE credential_fields ADD CONSTRAINT broken CHECK (code = 'broken') NOT VALID",
            "ALTER TABLE credential_fields DROP CONSTRAINT broken",
        ),
    };
    sql(database, make).await;
    let input = json!({ "workspaceId": lab.id, "type": "CUSTOM", "name": "Broken",
                        "fields": [field("token", planted.secret("fault"))] });
    ada.mutate("createCredential", input, CREDENTIAL).await.denied("INTERNAL");
    sql(database, drop).await;
    // A value that was moved to another credential, or damaged.
    sql(
        database,
        "UPDATE credential_fields SET sealed = (SELECT f.sealed FROM credential_fields f WHERE f.code = 'token' ORDER BY 1 LIMIT 1)
         WHERE code = 'secret_access_key'",
    )
    .await;
    let input = json!({ "workspaceId": lab.id, "slug": "bucket", "purpose": "damaged" });
    ada.mutate("useCredential", input, "values { value }").await.denied("INTERNAL");
}

async fn a_secret_value_is_told_to_nobody_else(database: TestDatabase) {
    let (engine, mail) = (database.engine(), MailServer::start().await);
    let mut process = Process::spawn_with(&database, &mail, |environment| {
        // Mails go into files, which are searched as well.
        environment
            .set("GUILDHALL_LOG", "trace")
            .set("GUILDHALL_CREDENTIALS_TEST_DESTINATIONS", "127.0.0.0/8")
            // The subscriptions are read last of all, and answer no ping before.
            .set("GUILDHALL_LIMITS_SOCKET_PING_SECONDS", 3600)
            .unset("SMTP_HOST")
            .unset("MASTER_KEY");
    })
    .await;
    let (owner, attic) = Actor::set_up(&process.url, &process.setup_token(), "ada@example.org", "Ada").await;
    let lab = owner.workspace("Lab").await;
    owner.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    sql(&database, "UPDATE organizations SET allow_reveal = true").await;
    let mut planted = Planted::default();
    let mut ada = Asker { actor: &owner, answers: Vec::new() };
    let document = "subscription($id: ID!) { credentialChanged(workspaceId: $id) {
        change credentialId credential { name fields { code value fingerprint } } } }";
    let mut news = [
        owner.subscribe(document, json!({ "id": lab.id })).await,
        owner.subscribe(document, json!({ "id": attic.id })).await,
    ];

    make_each_type(&mut ada, &lab, &mut planted).await;
    let list = format!(
        r#"{{ workspace(name: "{}") {{ credentials {{ nodes {{ id slug name fields {{ code value fingerprint isSet }} }} }} }} }}"#,
        lab.name
    );
    let listed = ada.query("the list", &list, json!({})).await.ok();
    let nodes = listed.data("/workspace/credentials/nodes").as_array().unwrap().clone();
    assert_eq!(nodes.len(), 6);
    let made = |slug: &str| {
        nodes.iter().find(|node| node["slug"] == slug).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (vault, database_credential) = (made("vault"), made("database"));
    be_refused(&mut ada, &lab, &vault, &mut planted).await;

    // Rotated, lent, used, shown, taken back.
    let rotated = planted.secret("rotated");
    let input = json!({ "workspaceId": lab.id, "credentialId": vault, "fields": [
        field("token", rotated.clone()), field("certificate", Value::Null), field("host", Value::Null) ] });
    ada.mutate("updateCredential", input, CREDENTIAL).await.ok();
    let input = json!({ "workspaceId": lab.id, "credentialId": vault, "targetWorkspaceId": attic.id });
    let share = ada.mutate("shareCredential", input, "share { id name }").await.ok();
    let used = json!({ "workspaceId": attic.id, "slug": "vault", "purpose": "the nightly run" });
    // Told where it is to be told: so the rest of this test can find something.
    let values = owner.mutate("useCredential", used.clone(), "values { code value }").await.ok();
    assert!(values.to_string().contains(&rotated), "{values}");
    let input = json!({ "workspaceId": lab.id, "credentialId": vault });
    let values = owner.mutate("revealCredential", input, "values { code value }").await.ok();
    assert!(values.to_string().contains(&rotated), "{values}");
    assert!(!planted.within(values.to_string().as_bytes()).is_empty());
    // Tried at somebody who tells all that is said to him.
    let echo = async |headers: HeaderMap| (StatusCode::UNAUTHORIZED, format!("{headers:?}"));
    let port = crate::credential_tests::serve(Router::new().fallback(echo)).await;
    let input = json!({ "workspaceId": lab.id, "type": "DHIS2", "name": "Echo", "fields": [
        field("api_url", format!("http://127.0.0.1:{port}")), field("username", "admin"),
        field("password", planted.secret("echo")) ] });
    let made = ada.mutate("createCredential", input, CREDENTIAL).await.ok();
    let echo = made.data("/createCredential/credential/id").clone();
    for credential in [&echo, &json!(database_credential)] {
        let input = json!({ "workspaceId": lab.id, "credentialId": credential });
        let tried = ada.mutate("testCredential", input, "report { passed reason message }").await.ok();
        assert_eq!(tried.data("/testCredential/report/passed"), false, "{tried}");
    }
    // Without the values, the same answers tell none; and a workspace that borrows is not shown any.
    ada.mutate("useCredential", used.clone(), CREDENTIAL).await.ok();
    let input = json!({ "workspaceId": lab.id, "credentialId": vault });
    ada.mutate("revealCredential", input, CREDENTIAL).await.ok();
    // On a socket, too.
    let document =
        "mutation($input: UseCredentialInput!) { useCredential(input: $input) { values { value } } }";
    let told = owner.subscribe(document, json!({ "input": used })).await.next().await.ok();
    assert!(told.to_string().contains(&rotated), "{told}");
    let input = json!({ "workspaceId": lab.id, "type": "CUSTOM", "name": "By socket",
                        "fields": [field("token", planted.secret("socket"))] });
    let told = owner.subscribe(CREATE, json!({ "input": input })).await.next().await.ok();
    ada.note("createCredential on a socket", &told);
    let input =
        json!({ "workspaceId": lab.id, "type": planted.secret("socket, wrong"), "name": "x", "fields": [] });
    let told = owner.subscribe(CREATE, json!({ "input": input })).await.ended().await;
    ada.answers.push(("a wrong type on a socket".to_owned(), format!("{told:?}")));

    let all = format!(
        r#"{{ a: workspace(name: "{}") {{ credentials {{ nodes {{ {CREDENTIAL_PARTS} }} }} credentialUsages {{ nodes {{ slug purpose outcome }} }} auditLog(first: 100) {{ nodes {{ action object {{ name }} before after }} }} }}
              b: workspace(name: "{}") {{ credentials {{ nodes {{ {CREDENTIAL_PARTS} }} }} credentialUsages {{ nodes {{ slug purpose outcome }} }} }} }}"#,
        lab.name, attic.name
    );
    ada.query("everything", &all, json!({})).await.ok();
    fail(&mut ada, &lab, &database, &mut planted).await;
    let shared = json!({ "workspaceId": lab.id, "shareId": share.data("/shareCredential/share/id") });
    ada.mutate("unshareCredential", shared, "share { name }").await.ok();
    let input = json!({ "workspaceId": lab.id, "credentialId": vault });
    ada.mutate("deleteCredential", input, "deletedCredentialId").await.ok();
    for subscription in &mut news {
        let wanted =
            |event: &Answer| ["DELETED", "RETURNED"].contains(&event.text("/credentialChanged/change"));
        loop {
            let event = subscription.next().await;
            ada.note("news", &event);
            if wanted(&event) {
                break;
            }
        }
    }

    let mut wrong = BTreeSet::new();
    for (about, answer) in &ada.answers {
        wrong.extend(
            planted
                .within(answer.as_bytes())
                .into_iter()
                .map(|found| format!("{about}: {found}\n{answer:.600}")),
        );
    }
    // What is in the log while the process runs, and what it says while it ends.
    let home = match engine {
        Engine::Sqlite => {
            let path = database.url.trim_start_matches("sqlite://");
            Some(Path::new(path.split('?').next().unwrap()).parent().unwrap().to_owned())
        }
        Engine::Postgres => None,
    };
    let rows = dump(&database).await;
    assert!(
        rows.contains("a-public-heron") || rows.contains("AKIApublic"),
        "the dump holds what is no secret"
    );
    let mut places = vec![("the rows".to_owned(), rows.into_bytes())];
    let look = |when: &str, places: &mut Vec<(String, Vec<u8>)>| {
        for directory in home.iter().map(std::path::PathBuf::as_path).chain([process.data_dir()]) {
            places
                .extend(files(directory).into_iter().map(|(path, bytes)| (format!("{when}: {path}"), bytes)));
        }
    };
    look("running", &mut places);
    if let Some(home) = &home {
        let wal = files(home).into_iter().any(|(path, bytes)| path.ends_with("-wal") && !bytes.is_empty());
        assert!(wal, "the write-ahead log was searched");
    }
    process.terminate().await;
    places
        .extend(files(process.data_dir()).into_iter().map(|(path, bytes)| (format!("ended: {path}"), bytes)));
    if let Some(home) = &home {
        places.extend(files(home).into_iter().map(|(path, bytes)| (format!("ended: {path}"), bytes)));
    }
    let log = process.output();
    assert!(log.contains("TRACE") && log.contains("a request failed"), "the log was talkative:\n{log:.3000}");
    assert!(places.iter().any(|(place, _)| place.contains("/mail/")), "mails were searched");
    assert!(
        places.iter().any(|(place, _)| place.ends_with("master_key") || place.contains("secret")),
        "{:?}",
        places.iter().map(|(place, _)| place).collect::<Vec<_>>()
    );
    for (place, bytes) in &places {
        for found in planted.within(bytes) {
            wrong.insert(format!("{place}: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
    assert!(planted.0.len() > 100, "{} values were planted", planted.0.len());
    planted.nowhere_in(log, "the log");
}

const CREDENTIAL_PARTS: &str =
    "id slug name description fields { code value fingerprint } usages { nodes { purpose } }
    shares { nodes { slug name } }";
