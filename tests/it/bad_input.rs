//! What nobody should send, in every argument there is. The arguments are read from the schema, so a new one is
//! attacked without a line here: each answer has a code and nothing internal, and nothing is written.

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use async_graphql::parser::{
    parse_schema,
    types::{BaseType, InputValueDefinition, Type, TypeDefinition, TypeKind, TypeSystemDefinition},
};
use chrono::TimeDelta;
use guildhall_domain::{access::SystemRole, seams};
use guildhall_persistence::{KeyMaterial, Keys};
use guildhall_tests::{
    Actor, Answer, App, Workspace,
    actor::{PASSWORD, token_of},
    both_databases,
    databases::Engine,
};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use crate::{
    credential_nets::{custom, lend},
    http::{SPEC, alone, code, json_of, post, send},
};

both_databases!(
    App::start,
    mutations_refuse_it_and_write_nothing,
    setting_up_refuses_it_and_still_works_after,
    queries_refuse_it_or_find_nothing,
    links_and_refresh_tokens_work_once,
    a_long_list_of_the_same_is_one_of_each,
);

/// The codes of top-level errors that a client's mistake can get.
const CODES: [&str; 7] = [
    "UNAUTHENTICATED",
    "FORBIDDEN",
    "NOT_FOUND",
    "BAD_USER_INPUT",
    "GRAPHQL_VALIDATION_FAILED",
    "QUERY_TOO_COMPLEX",
    "RATE_LIMITED",
];

/// Pieces of text that only the inside of the server writes.
const INTERNALS: [&str; 18] = [
    "::",
    ".rs",
    "sql",
    "select ",
    "insert ",
    "constraint",
    "relation",
    "no such table",
    "serde",
    "panicked",
    "unwrap",
    "async_graphql",
    "sea_orm",
    "option<",
    "vec<",
    "/home/",
    "/src/",
    "something went wrong",
];

static TYPES: LazyLock<BTreeMap<String, TypeDefinition>> = LazyLock::new(|| {
    let schema = parse_schema(guildhall_graphql::sdl()).expect("the schema can be parsed");
    let types = schema.definitions.into_iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Type(of) => Some((of.node.name.node.to_string(), of.node)),
        _ => None,
    });
    types.collect()
});

/// The arguments of each field of an object type.
fn fields(object: &str) -> Vec<(String, Vec<InputValueDefinition>, Type)> {
    let Some(TypeKind::Object(object)) = TYPES.get(object).map(|of| &of.kind) else { return Vec::new() };
    let fields = object.fields.iter().map(|field| {
        let arguments = field.node.arguments.iter().map(|argument| argument.node.clone()).collect();
        (field.node.name.node.to_string(), arguments, field.node.ty.node.clone())
    });
    fields.collect()
}

/// The fields of an input type; none where the type is no input type.
fn members(name: &str) -> Option<Vec<InputValueDefinition>> {
    match &TYPES.get(name)?.kind {
        TypeKind::InputObject(input) => Some(input.fields.iter().map(|field| field.node.clone()).collect()),
        _ => None,
    }
}

fn is_one_of(name: &str) -> bool {
    TYPES[name].directives.iter().any(|directive| directive.node.name.node == "oneOf")
}

/// The name inside of all lists.
fn base(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(of) => base(of),
    }
}

fn is_list(ty: &Type) -> bool {
    matches!(ty.base, BaseType::List(_))
}

/// Something wrong for an argument.
#[derive(Clone)]
struct Bad {
    why: &'static str,
    value: Value,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.60})", self.why, self.value.to_string())
    }
}

/// Everything wrong for an argument of that type.
fn all_bad(name: &str, ty: &Type) -> Vec<Bad> {
    let bad = |why, value: Value| Bad { why, value };
    let mut found = vec![bad("an object", json!({ "a": 1 })), bad("nested lists", json!([[["x"]]]))];
    if !ty.nullable {
        found.push(bad("null", Value::Null));
    }
    let scalar = base(ty);
    if members(scalar).is_some() {
        found.extend([bad("a text", json!("x")), bad("a number", json!(1))]);
        return found;
    }
    if scalar == "JSON" {
        return found.into_iter().filter(|bad| bad.value.is_null()).collect();
    }
    found.push(bad("true", json!(true)));
    match scalar {
        "Int" => found.extend([
            bad("a text", json!("1")),
            bad("a fraction", json!(1.5)),
            bad("beyond 32 bits", json!(2_147_483_648_i64)),
            bad("beyond 64 bits", json!(1e30)),
            bad("negative", json!(-1)),
        ]),
        "Boolean" => {
            found.pop();
            found.extend([bad("a text", json!("true")), bad("a number", json!(1))]);
        }
        "String" | "ID" => {
            found.push(bad("a fraction", json!(1.5)));
            found.extend(texts(name, scalar).into_iter().map(|(why, text)| bad(why, json!(text))));
        }
        // An enumeration, or a scalar that reads its text.
        _ => found.extend([
            bad("unknown", json!("NO_SUCH_VALUE")),
            bad("empty", json!("")),
            bad("NUL", json!("\0")),
        ]),
    }
    if is_list(ty) {
        // A single item stands for a list of one, so the same goes for items.
        let items =
            found.iter().map(|bad| Bad { why: bad.why, value: json!([bad.value]) }).collect::<Vec<_>>();
        found.extend(items.into_iter().filter(|bad| bad.why != "null"));
    }
    found
}

fn texts(name: &str, scalar: &str) -> Vec<(&'static str, String)> {
    const PREFIXES: [&str; 13] =
        ["org", "usr", "wks", "mbr", "rol", "inv", "crd", "shr", "bor", "use", "ses", "mai", "zzz"];
    let mut texts: Vec<(&'static str, String)> = vec![
        ("too long", "x".repeat(70_000)),
        ("10 KB", "x".repeat(10_000)),
        ("a control character", "Ann\u{1b}[2J".to_owned()),
        ("NUL", "Ann\u{0}Lee".to_owned()),
        ("a line break", "Ann\r\nBcc: eve@example.org".to_owned()),
        ("text turned round", "Ann \u{202e}nimda".to_owned()),
        ("an isolate", "Ann \u{2067}nimda".to_owned()),
        ("zero width", "Ann\u{200b}Lee".to_owned()),
        ("only zero width", "\u{200b}\u{feff}".to_owned()),
        ("a look-alike", "p\u{430}ypal".to_owned()),
        ("unassigned", "Ann\u{e0fff}".to_owned()),
        ("SQL", "' OR 1=1; DROP TABLE users --".to_owned()),
        ("empty", String::new()),
        ("blank", " \t ".to_owned()),
    ];
    match name {
        // Prose: what is no deception is welcome, and blank clears.
        "description" | "message" | "purpose" => texts.retain(|(why, text)| {
            ["a control character", "NUL", "text turned round", "an isolate"].contains(why)
                || text.len() > 65_536
        }),
        // A secret may be of anything that an environment variable can hold.
        "secret" => texts.retain(|(why, _)| ["too long", "NUL", "empty"].contains(why)),
        // A value of configuration is data, which is kept as it is.
        "string" => texts.retain(|(_, text)| text.len() > 65_536),
        // What a provider gave may be of anything that can be printed.
        "clientId" | "clientSecret" => texts.retain(|(why, _)| *why != "SQL"),
        // Blank clears.
        "dockerImage" | "region" => texts.retain(|(why, _)| !["empty", "blank"].contains(why)),
        // A label may say nothing.
        "value" => texts.retain(|(why, _)| *why != "empty"),
        // A password may be of anything that can be typed.
        "password" | "newPassword" => texts.retain(|(why, _)| {
            ["too long", "10 KB", "a control character", "NUL", "a line break", "empty", "blank"]
                .contains(why)
        }),
        "displayName" | "organizationName" => texts.retain(|(why, _)| *why != "SQL"),
        "email" => texts.extend([
            ("a look-alike", "p\u{430}ypal@example.org".to_owned()),
            ("NUL", "ann\u{0}@example.org".to_owned()),
            ("a line break", "ann@example.org\r\nBcc: eve@example.org".to_owned()),
            ("two", "ann@example.org,eve@example.org".to_owned()),
        ]),
        _ => {}
    }
    if scalar == "ID" {
        texts.extend(PREFIXES.map(|prefix| ("unknown", format!("{prefix}_{}", "0".repeat(32)))));
        texts.extend(PREFIXES.map(|prefix| ("capitals", format!("{prefix}_{}", "A".repeat(32)))));
        texts.extend(PREFIXES.map(|prefix| ("cut", format!("{prefix}_"))));
    }
    texts
}

/// Good values by the names of arguments, so that a bad one is the only fault.
type Samples = BTreeMap<&'static str, Value>;

fn sample(samples: &Samples, argument: &InputValueDefinition) -> Value {
    let name = argument.name.node.as_str();
    if let Some(known) = samples.get(name) {
        return known.clone();
    }
    let ty = &argument.ty.node;
    let one = match (base(ty), members(base(ty))) {
        (of, Some(_)) => complete(samples, of, None),
        ("Int", _) => json!(1),
        ("Boolean", _) => json!(true),
        (of, _) => match TYPES.get(of).map(|ty| &ty.kind) {
            Some(TypeKind::Enum(of)) => json!(of.values[0].node.value.node),
            _ => json!("text"),
        },
    };
    if is_list(ty) { json!([one]) } else { one }
}

/// An input with all that is required and what `given` says instead.
fn complete(samples: &Samples, input: &str, given: Option<(&str, &Value)>) -> Value {
    let mut object = Map::new();
    for member in members(input).expect("an input type") {
        let name = member.name.node.as_str();
        let needed = !is_one_of(input) && (!member.ty.node.nullable || name == "email");
        match given {
            Some((wanted, value)) if wanted == name => object.insert(name.to_owned(), value.clone()),
            // Either tells whom to invite.
            Some(("userId", _)) if name == "email" => None,
            _ if needed => object.insert(name.to_owned(), sample(samples, &member)),
            _ => None,
        };
    }
    if object.is_empty() && is_one_of(input) {
        let one = members(input).expect("an input type").remove(0);
        object.insert(one.name.node.to_string(), sample(samples, &one));
    }
    object.into()
}

/// Every bad input of that type, with the path of what is bad in it.
fn attacks(samples: &Samples, input: &str) -> Vec<(Vec<String>, Bad)> {
    let mut found = Vec::new();
    for member in members(input).expect("an input type") {
        let (name, ty) = (member.name.node.as_str(), &member.ty.node);
        let put = |value: &Value| complete(samples, input, Some((name, value)));
        // What people read, as a display name; a workspace's name stands in addresses.
        let is_readable = name == "name" && input != "CreateWorkspaceInput";
        let kind = match (input, name) {
            ("CredentialFieldInput", "value") => "secret",
            _ if is_readable => "displayName",
            _ => name,
        };
        for bad in all_bad(kind, ty) {
            found.push((vec![name.to_owned()], Bad { why: bad.why, value: put(&bad.value) }));
        }
        if members(base(ty)).is_some() {
            for (path, bad) in attacks(samples, base(ty)) {
                let list = is_list(ty);
                let path = [name.to_owned()].into_iter().chain(list.then(|| "0".to_owned())).chain(path);
                let value = if list { json!([bad.value]) } else { bad.value };
                found.push((path.collect(), Bad { why: bad.why, value: put(&value) }));
            }
        }
    }
    found
}

/// Asks for everything a payload says of refusals.
fn selection(payload: &str) -> String {
    let mut asked = String::new();
    for (name, _, ty) in fields(payload) {
        if name == "userErrors" {
            asked.push_str("userErrors { __typename code message field } ");
        } else if fields(base(&ty)).iter().any(|(name, ..)| name == "userErrors") {
            asked.push_str(&format!("{name} {{ {} }} ", selection(base(&ty))));
        }
    }
    asked
}

/// The answer is one for people: coded, short, with nothing from inside.
#[track_caller]
fn is_decent(answer: &Answer, about: &str) {
    assert!([StatusCode::OK, StatusCode::BAD_REQUEST].contains(&answer.status), "{about}: {answer:.2000}");
    for error in answer.errors() {
        let code = error["extensions"]["code"].as_str().unwrap_or("none");
        assert!(CODES.contains(&code), "{about}: {answer:.2000}");
        assert!(error["extensions"]["requestId"].is_string(), "{about}: {answer:.2000}");
    }
    let user_errors = answer.user_errors();
    for error in &user_errors {
        assert!(error["code"].is_string(), "{about}: {answer:.2000}");
    }
    for error in answer.errors().iter().chain(user_errors) {
        let message = error["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty() && message.len() <= 1_100, "{about}: {answer:.2000}");
        // What the client wrote may be quoted; what looks like the inside may not come from elsewhere.
        let lower = message.to_lowercase();
        for internal in INTERNALS {
            let own = about.to_lowercase().contains(internal);
            assert!(
                own || !lower.contains(internal),
                "“{internal}” in the answer to {about}: {answer:.2000}"
            );
        }
    }
}

fn is_refused(answer: &Answer) -> bool {
    !answer.errors().is_empty() || !answer.user_errors().is_empty()
}

/// Counts the rows of every table there is.
struct Rows {
    connection: Connection,
    select: String,
    tables: Vec<String>,
}

enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Rows {
    async fn of(app: &App) -> Self {
        let url = app.database().url.as_str();
        let mut connection = match app.engine() {
            Engine::Sqlite => Connection::Sqlite(SqliteConnection::connect(url).await.unwrap()),
            Engine::Postgres => Connection::Postgres(PgConnection::connect(url).await.unwrap()),
        };
        let tables: Vec<String> = match &mut connection {
            Connection::Sqlite(of) => {
                sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
                    .fetch_all(of)
                    .await
            }
            Connection::Postgres(of) => {
                sqlx::query_scalar(
                    "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1",
                )
                .fetch_all(of)
                .await
            }
        }
        .unwrap();
        assert!(tables.iter().any(|table| table == "invitations"), "{tables:?}");
        // How far the audit log is chained and signed, time alone decides; its entries are counted. That a sign-in failed is
        // written down, however it was tried: those who were let in are counted.
        let elsewhere = ["sign_in_tries", "audit_chains", "audit_checkpoints", "signing_keys"];
        let tables: Vec<_> =
            tables.into_iter().filter(|table| !elsewhere.contains(&table.as_str())).collect();
        let counts = tables.iter().map(|table| {
            let which = match table.as_str() {
                "events" => " WHERE kind <> 'AUDIT'",
                "login_activity" => " WHERE code NOT IN ('UNKNOWN_USER', 'WRONG_PASSWORD')",
                _ => "",
            };
            format!("CAST((SELECT count(*) FROM \"{table}\"{which}) AS TEXT)")
        });
        let select = format!("SELECT {}", counts.collect::<Vec<_>>().join(" || ' ' || "));
        Self { connection, select, tables }
    }

    async fn count(&mut self) -> BTreeMap<String, String> {
        let select = AssertSqlSafe(self.select.clone());
        let counts: String = match &mut self.connection {
            Connection::Sqlite(of) => sqlx::query_scalar(select).fetch_one(of).await,
            Connection::Postgres(of) => sqlx::query_scalar(select).fetch_one(of).await,
        }
        .unwrap();
        self.tables.iter().cloned().zip(counts.split(' ').map(str::to_owned)).collect()
    }
}

/// What of the world can be seen to change, beside the number of rows.
async fn view(actor: &Actor) -> Value {
    let view = actor
        .query(
            "{ viewer { user { email displayName } defaultWorkspace { id } lastWorkspace { id } sessions { totalCount }
                 workspaces { nodes { name displayName description countries { code } updatedAt dockerImage region labels { key value }
                     configProperties { totalCount }
                     members { nodes { id role { key } } }
                     credentials { nodes { slug name description updatedAt fields { code fingerprint }
                         shares { nodes { id status } } } }
                     invitations { nodes { id status email message expiresAt role { key } } } } } } }",
            json!({}),
        )
        .await
        .ok();
    view.body
}

async fn mutations_refuse_it_and_write_nothing(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let organization = ada.query("{ organization(slug: \"example\") { id } }", json!({})).await.ok();
    let organization = organization.data("/organization/id").clone();
    let asked = json!({ "organizationId": organization, "userId": eve.id });
    let asked = ada.mutate("transferOwnership", asked, "transfer { id }").await.ok();
    let pending = ada.invite(&lab, "pending@example.org", "VIEWER").await.ok();
    let token = app.mail_to("pending@example.org").await;
    ada.again().await;
    let known = ada
        .query(
            "query($n: String!) { viewer { sessions { nodes { id isCurrent } } }
               workspace(name: $n) { members { nodes { id role { key } } } } }",
            json!({ "n": lab.name }),
        )
        .await
        .ok();
    let one = |list: &str, key: &str, value: Value| {
        let list = known.data(list).as_array().unwrap();
        list.iter().find(|item| item.pointer(key) == Some(&value)).unwrap()["id"].clone()
    };
    let role = crate::roles::made(&ada, organization.as_str().unwrap(), "Own", &[]).await;
    let store = custom(&ada, &lab, "Store").await;
    let offer = custom(&ada, app.default_workspace(), "Offer").await;
    let offer = lend(&ada, app.default_workspace(), &offer, &lab.id).await;
    let (account, _) = crate::machines::account(&ada, &lab, "Nightly", "VIEWER").await;
    let (key, _) = crate::machines::key(&ada, &lab, &["FILE_READ"]).await;
    let (webhook, delivery) = crate::webhooks::furnished(&ada, &lab).await;
    let samples: Samples = [
        ("webhookId", json!(webhook)),
        ("deliveryId", json!(delivery)),
        ("url", json!("https://hooks.example.org/")),
        ("events", json!(["WORKSPACE_CHANGED"])),
        ("issuer", json!("https://login.example.org")),
        ("clientId", json!("guildhall")),
        ("domain", json!("corp.example")),
        ("serviceAccountId", json!(account)),
        ("apiKeyId", json!(key)),
        ("workspaceId", json!(lab.id)),
        ("organizationId", organization),
        ("roleId", json!(role)),
        ("userId", json!(eve.id)),
        ("transferId", asked.data("/transferOwnership/transfer/id").clone()),
        ("memberId", one("/workspace/members/nodes", "/role/key", json!("VIEWER"))),
        ("sessionId", one("/viewer/sessions/nodes", "/isCurrent", json!(false))),
        ("invitationId", pending.data("/inviteMember/invitation/id").clone()),
        ("credentialId", json!(store)),
        ("shareId", json!(offer)),
        ("targetWorkspaceId", json!(app.default_workspace().id)),
        ("type", json!("CUSTOM")),
        ("fields", json!([{ "code": "token", "value": "new" }])),
        ("role", json!("EDITOR")),
        ("email", json!("new@example.org")),
        ("newEmail", json!("new@example.org")),
        ("recoveryCode", json!("AAAA-BBBB-CCCC-DDDD")),
        ("displayName", json!("Bob")),
        ("organizationName", json!("Example")),
        ("currentPassword", json!(PASSWORD)),
        ("newPassword", json!("another granite violin 9 otter")),
        ("password", json!(PASSWORD)),
        ("token", json!(token_of(&token.link()))),
        ("refreshToken", json!(ada.refresh_token)),
    ]
    .into();

    app.mailed().await;
    // What housekeeping notes of a day a minute after the start is there already.
    guildhall_persistence::housekeeping::sweep(app.db()).await.unwrap();
    let mut rows = Rows::of(&app).await;
    let before = (rows.count().await, view(&ada).await);
    let mut sent = 0;
    for (mutation, arguments, payload) in fields("Mutation") {
        let Some(input) = arguments.iter().find(|argument| argument.name.node == "input") else { continue };
        let document = format!(
            "mutation($input: {}) {{ {mutation}(input: $input) {{ {} }} }}",
            input.ty.node,
            selection(base(&payload))
        );
        // The whole input, then each place in it.
        for value in [Value::Null, json!("x"), json!([]), json!({}), json!({ "noSuchField": 1 })] {
            let about = format!("{mutation}(input: {value})");
            let answer = ada.query(&document, json!({ "input": value })).await;
            is_decent(&answer, &about);
            assert!(is_refused(&answer), "{about}: {answer}");
        }
        for (path, bad) in attacks(&samples, base(&input.ty.node)) {
            let about = format!("{mutation}(input: {{ {} }}) with {}", path.join("."), bad);
            let answer = ada.query(&document, json!({ "input": bad.value })).await;
            sent += 1;
            is_decent(&answer, &about);
            assert!(is_refused(&answer), "{about} was accepted: {answer}");
            for error in answer.user_errors() {
                if ["INVALID_INPUT", "NAME_UNAVAILABLE", "WEAK_PASSWORD"]
                    .contains(&error["code"].as_str().unwrap())
                {
                    let at: Vec<String> = serde_json::from_value(error["field"].clone()).unwrap_or_default();
                    assert!(
                        !at.is_empty() && path.starts_with(&at) || at.starts_with(&path),
                        "{about}: {answer}"
                    );
                    let named = error["message"].as_str().unwrap().contains(at.last().unwrap());
                    assert!(named || error["code"] != "INVALID_INPUT", "{about}: {answer}");
                }
            }
        }
        assert_eq!((rows.count().await, view(&ada).await), before, "{mutation} wrote something");
    }
    assert!(sent > 500, "only {sent} inputs were found");
}

async fn setting_up_refuses_it_and_still_works_after(app: App) {
    let samples: Samples = [
        ("token", json!(app.setup_token)),
        ("email", json!("ada@example.org")),
        ("displayName", json!("Ada")),
        ("organizationName", json!("Example")),
        ("password", json!(PASSWORD)),
    ]
    .into();
    let mut rows = Rows::of(&app).await;
    let before = rows.count().await;
    let nobody = app.anonymous();
    let document = format!(
        "mutation($input: SetUpInput!) {{ setUp(input: $input) {{ {} }} }}",
        selection("SetUpPayload")
    );
    for (path, bad) in attacks(&samples, "SetUpInput") {
        let about = format!("setUp(input: {{ {} }}) with {}", path.join("."), bad);
        let answer = nobody.query(&document, json!({ "input": bad.value })).await;
        is_decent(&answer, &about);
        assert!(is_refused(&answer), "{about} was accepted: {answer}");
    }
    assert_eq!(rows.count().await, before);
    app.set_up().await;
}

/// Where objects with arguments are found.
fn route(object: &str, Workspace { id, name: workspace, .. }: &Workspace, field: &str) -> Option<String> {
    match object {
        "Query" => Some(field.to_owned()),
        "Viewer" => Some(format!("viewer {{ {field} }}")),
        "Organization" => Some(format!("organization(slug: \"example\") {{ {field} }}")),
        "Workspace" => Some(format!("workspace(name: \"{workspace}\") {{ {field} }}")),
        "DeletionImpact" => Some(format!("deletionImpact(workspaceId: \"{id}\") {{ {field} }}")),
        "Credential" => {
            Some(format!("workspace(name: \"{workspace}\") {{ credentials {{ nodes {{ {field} }} }} }}"))
        }
        "ServiceAccount" => {
            Some(format!("workspace(name: \"{workspace}\") {{ serviceAccounts {{ nodes {{ {field} }} }} }}"))
        }
        "Webhook" => {
            Some(format!("workspace(name: \"{workspace}\") {{ webhooks {{ nodes {{ {field} }} }} }}"))
        }
        "OrganizationMember" => {
            Some(format!("organization(slug: \"example\") {{ members {{ nodes {{ {field} }} }} }}"))
        }
        "Mutation" | "Subscription" => None,
        other => panic!("{other} has a field with arguments: say how to reach it"),
    }
}

async fn queries_refuse_it_or_find_nothing(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let store = custom(&ada, &lab, "Store").await;
    crate::machines::account(&ada, &lab, "Nightly", "VIEWER").await;
    crate::webhooks::furnished(&ada, &lab).await;
    let samples: Samples = [
        ("workspaceId", json!(lab.id)),
        ("id", json!(lab.id)),
        ("name", json!(lab.name)),
        ("credentialId", json!(store)),
        ("slug", json!("store")),
    ]
    .into();
    // What housekeeping notes of a day a minute after the start is there already.
    guildhall_persistence::housekeeping::sweep(app.db()).await.unwrap();
    let mut rows = Rows::of(&app).await;
    let before = rows.count().await;
    for object in TYPES.keys() {
        for (field, arguments, ty) in fields(object) {
            for argument in &arguments {
                let given = |other: &&InputValueDefinition| {
                    !other.ty.node.nullable || other.name.node == argument.name.node
                };
                let declared = arguments.iter().filter(given);
                let (variables, passed): (Vec<_>, Vec<_>) = declared
                    .clone()
                    .map(|other| {
                        let name = &other.name.node;
                        (format!("${name}: {}", other.ty.node), format!("{name}: ${name}"))
                    })
                    .unzip();
                let composite = TYPES
                    .get(base(&ty))
                    .is_some_and(|ty| !matches!(ty.kind, TypeKind::Enum(_) | TypeKind::Scalar));
                let below = if composite { "{ __typename }" } else { "" };
                let call = format!("{field}({}) {below}", passed.join(", "));
                let Some(selection) = route(object, &lab, &call) else { continue };
                let document = format!("query({}) {{ {selection} }}", variables.join(", "));
                let name = argument.name.node.as_str();
                for bad in all_bad(name, &argument.ty.node) {
                    let about = format!("{object}.{field}({name}:) with {bad}");
                    let values = declared.clone().map(|other| {
                        let value =
                            if other.name.node == name { bad.value.clone() } else { sample(&samples, other) };
                        (other.name.node.to_string(), value)
                    });
                    let answer = ada.query(&document, values.collect::<Map<_, _>>().into()).await;
                    is_decent(&answer, &about);
                    let text = ["String", "ID"].contains(&base(&argument.ty.node))
                        && !["after", "before"].contains(&name);
                    let number = bad.value.is_number() && base(&argument.ty.node) == "ID";
                    let read = text && (bad.value.is_string() || bad.value[0].is_string()) || number;
                    assert!(is_refused(&answer) || read, "{about} was read: {answer}");
                }
            }
        }
    }
    assert_eq!(rows.count().await, before);
}

#[test]
fn subscriptions_refuse_it() {
    alone(async |app| {
        let ada = app.set_up().await;
        let samples: Samples = [("workspaceId", json!(app.default_workspace().id))].into();
        let mut client = crate::sockets::ready(&app, ada.access_token.as_deref()).await;
        let mut id = 0;
        for (field, arguments, _) in fields("Subscription") {
            for argument in &arguments {
                for bad in all_bad(argument.name.node.as_str(), &argument.ty.node) {
                    id += 1;
                    let (mut declared, mut passed, mut values) = (Vec::new(), Vec::new(), Map::new());
                    for other in &arguments {
                        let name = other.name.node.as_str();
                        let own = other.name.node == argument.name.node;
                        if own || !other.ty.node.nullable {
                            declared.push(format!("${name}: {}", other.ty.node));
                            passed.push(format!("{name}: ${name}"));
                            let value = if own { bad.value.clone() } else { sample(&samples, other) };
                            values.insert(name.to_owned(), value);
                        }
                    }
                    let document = format!(
                        "subscription({}) {{ {field}({}) {{ cursor }} }}",
                        declared.join(", "),
                        passed.join(", ")
                    );
                    let about = format!("{field}({}:) with {bad}", argument.name.node);
                    if bad.value.to_string().len() > 60_000 {
                        continue; // A socket takes no message of that size.
                    }
                    client.subscribe(&id.to_string(), &document, values.into()).await;
                    let message = client.receive().await;
                    assert_eq!(message["id"], id.to_string(), "{about}: {message}");
                    let errors = match message["type"].as_str() {
                        Some("next") => {
                            assert_eq!(client.receive().await["type"], "complete", "{about}");
                            message["payload"]["errors"].clone()
                        }
                        _ => message["payload"].clone(),
                    };
                    let body = json!({ "errors": errors });
                    let answer = Answer { status: StatusCode::OK, headers: header::HeaderMap::new(), body };
                    is_decent(&answer, &about);
                    assert!(is_refused(&answer), "{about}: {message}");
                }
            }
        }
        assert!(id > 50, "only {id} were sent");
    });
}

#[test]
fn bodies_that_are_no_text_are_400() {
    alone(async |app| {
        let query = r#"{"query":"mutation($i: SignInInput!) { signIn(input: $i) { userErrors { code } } }","variables":{"i":{"email":"EMAIL","password":"x"}}}"#;
        let bodies: Vec<Vec<u8>> = vec![
            query.replace("EMAIL", r"\ud800").into(),
            query.replace("EMAIL", r"\udc00\ud800").into(),
            query.replace("EMAIL", r"\ud83d").into(),
            query.replace("EMAIL", r"\u12").into(),
            query.replace("EMAIL", "a\u{0}b").into(),
            query.replace("EMAIL", "a\nb").into(),
            query.replace("\"email\"", r#""\ud800""#).into(),
            [&query.as_bytes()[..40], &[0xff, 0xfe], &query.as_bytes()[40..]].concat(),
            [b"\xff\xfe".as_slice(), query.as_bytes()].concat(),
            query.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            vec![0; 1_000],
        ];
        for body in bodies {
            let shown = String::from_utf8_lossy(&body).into_owned();
            let page = send(&app, post(&app, SPEC, body)).await;
            let answer = json_of(&page);
            assert_eq!((page.status, code(&answer)), (StatusCode::BAD_REQUEST, "BAD_USER_INPUT"), "{shown}");
            assert!(!answer.to_string().contains("serde"), "{answer}");
        }
        // `{"query":"{__typename}"}`, compressed: what is not offered is not unpacked.
        let packed = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xabV*,M-\xaaT\xb2R\xaa\x8e\x8f/\xa9,H\xcdK\xccM\xadU\xaa\x05\x00]\xe2\xd1\x97\x18\x00\x00\x00";
        let mut request = post(&app, SPEC, packed.to_vec());
        request.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        let page = send(&app, request).await;
        assert!(page.status.is_client_error(), "{page:?}");
        assert_eq!(code(&json_of(&page)), "BAD_USER_INPUT");
    });
}

#[test]
fn forged_access_tokens_are_401() {
    alone(async |app| {
        let ada = app.set_up().await;
        let real = ada.access_token.clone().unwrap();
        let payload = real.split('.').nth(1).unwrap();
        let (head, signature) = (real.split('.').next().unwrap(), real.rsplit('.').next().unwrap());
        let now = seams::Clock::now(&seams::System);
        let (actor, _) = app.db().keys().identify(&real, now).unwrap();
        let made = |secret: &str, issuer: &str, audience: &str| {
            let keys = Keys::new(&KeyMaterial {
                access_secret: secret,
                refresh_secret: "refresh tokens of the tests, made",
                token_hash_secret: "links and tokens of the tests, hashed",
                master_key: &[7; 32],
                previous_master_keys: Vec::new(),
                issuer,
                audience,
                access_lifetime: TimeDelta::minutes(15),
                refresh_lifetime: TimeDelta::days(1),
            });
            keys.access_token(actor, now).unwrap().token
        };
        let secret = "access tokens of the tests, signed";
        let ask = async |token: &str| {
            let mut request = post(&app, SPEC, r#"{"query":"{ viewer { user { email } } }"}"#);
            request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
            send(&app, request).await
        };
        let good = ask(&made(secret, "guildhall", "guildhall")).await;
        assert_eq!(
            json_of(&good)["data"]["viewer"]["user"]["email"],
            "ada@example.org",
            "the forger's tools work"
        );

        let other =
            format!("{}.{payload}", made("a secret that nobody uses here at all", "guildhall", "guildhall"));
        for (how, token) in [
            // {"alg":"none","typ":"JWT"} and {"alg":"NONE","typ":"JWT"}
            ("alg none", format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.")),
            ("alg none, signed", format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.{signature}")),
            ("alg NONE", format!("eyJhbGciOiJOT05FIiwidHlwIjoiSldUIn0.{payload}.")),
            // {"alg":"HS512","typ":"JWT"} and {"alg":"RS256","typ":"JWT"}
            ("another algorithm", format!("eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.{payload}.{signature}")),
            (
                "a public key's algorithm",
                format!("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.{payload}.{signature}"),
            ),
            ("no signature", format!("{head}.{payload}.")),
            ("two parts", format!("{head}.{payload}")),
            ("four parts", other),
            ("another secret", made("a secret that nobody uses here at all", "guildhall", "guildhall")),
            ("another audience", made(secret, "guildhall", "somebody else")),
            ("another issuer", made(secret, "somebody else", "guildhall")),
            ("a refresh token", ada.refresh_token.clone().unwrap()),
            ("too long", "x".repeat(20_000)),
        ] {
            let page = ask(&token).await;
            assert_eq!(page.status, StatusCode::UNAUTHORIZED, "{how}");
            assert_eq!(code(&json_of(&page)), "UNAUTHENTICATED", "{how}");
            assert!(page.body.len() < 1_000, "{how}: {} bytes", page.body.len());
        }

        // A real token whose session has ended.
        ada.mutate("signOut", Value::Null, "signedOut").await.ok();
        let input = json!({ "displayName": "Eve" });
        ada.mutate("updateProfile", input, "user { id }").await.denied("UNAUTHENTICATED");
        assert_eq!(json_of(&ask(&real).await)["data"], json!({ "viewer": null }));
    });
}

async fn links_and_refresh_tokens_work_once(app: App) {
    let ada = app.set_up().await;
    let nobody = app.anonymous();
    let lab = ada.workspace("Lab").await;

    // The link: used by registering, then dead.
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let link = app.mail_to("eve@example.org").await.link();
    let eve = Actor::register(&app.url, token_of(&link), "Eve").await;
    let mut rows = Rows::of(&app).await;
    let before = rows.count().await;
    let input = json!({ "token": token_of(&link), "displayName": "Mallory", "password": PASSWORD });
    let again = nobody.mutate("register", input, "user { id }").await;
    assert!(
        ["LINK_INVALID", "INVITATION_NOT_PENDING", "ACCOUNT_EXISTS"].contains(&again.user_error()),
        "{again}"
    );
    for mutation in ["acceptInvitation", "declineInvitation"] {
        let answer = eve.mutate(mutation, json!({ "token": token_of(&link) }), "invitation { id }").await;
        assert!(["LINK_INVALID", "INVITATION_NOT_PENDING"].contains(&answer.user_error()), "{answer}");
    }
    let input = json!({ "token": app.setup_token, "email": "mallory@example.org", "displayName": "Mallory",
                        "password": PASSWORD, "organizationName": "Mine" });
    nobody.mutate("setUp", input, "user { id }").await.refused("SETUP_DONE");
    assert_eq!(rows.count().await, before);

    // A refresh token: replayed after the grace it ends the session.
    let refresh = async |token: &str| {
        nobody
            .mutate(
                "refreshSession",
                json!({ "refreshToken": token }),
                "session { accessToken refreshToken }",
            )
            .await
    };
    let first = eve.refresh_token.clone().unwrap();
    let second = refresh(&first).await.ok().text("/refreshSession/session/refreshToken").to_owned();
    app.advance(TimeDelta::minutes(2));
    refresh(&first).await.refused("SESSION_INVALID");
    refresh(&second).await.refused("SESSION_INVALID");
    eve.mutate("updateProfile", json!({ "displayName": "E" }), "user { id }").await.denied("UNAUTHENTICATED");

    // Expired ones.
    let stale = ada.refresh_token.clone().unwrap();
    ada.invite(&lab, "late@example.org", "VIEWER").await.ok();
    let link = app.mail_to("late@example.org").await.link();
    app.advance(TimeDelta::days(31));
    refresh(&stale).await.refused("SESSION_INVALID");
    let input = json!({ "token": token_of(&link), "displayName": "Late", "password": PASSWORD });
    nobody.mutate("register", input, "user { id }").await.refused("INVITATION_EXPIRED");
}

async fn a_long_list_of_the_same_is_one_of_each(app: App) {
    let ada = app.set_up().await;
    // More than either database takes values in a statement.
    for (document, value, there) in [
        (
            "query($list: [WorkspaceStatus!]) { viewer { workspaces(status: $list) { totalCount } } }",
            "ACTIVE",
            1,
        ),
        (
            "query($list: [InvitationStatus!]) { viewer { invitations(status: $list) { totalCount } } }",
            "PENDING",
            0,
        ),
    ] {
        let answer = ada.query(document, json!({ "list": vec![value; 70_000] })).await.ok();
        let list = answer.data("/viewer").as_object().unwrap().values().next().unwrap();
        assert_eq!(list["totalCount"], there, "{document}");
    }
    let document = "query($slug: String!, $list: [AuditObjectKind!]) { organization(slug: $slug) {
        auditLog(filter: { objectKind: $list }) { totalCount } } }";
    let variables = json!({ "slug": "example", "list": vec!["WORKSPACE"; 70_000] });
    let answer = ada.query(document, variables).await.ok();
    assert!(answer.data("/organization/auditLog/totalCount").is_number());
}
