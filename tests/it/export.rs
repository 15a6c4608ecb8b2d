//! Workspaces that move between instances as files, as an operator moves them: by the built binary.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use guildhall_domain::access::SystemRole;
use guildhall_tests::{
    Actor, App, Workspace,
    actor::{PASSWORD, token_of},
    both_databases,
    databases::Engine,
    process::binary,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{credentials, life::everything};

both_databases!(
    App::start,
    what_is_exported_and_imported_is_exported_alike,
    nobody_is_added_without_being_asked,
    neither_the_disabled_nor_whom_they_invited_are_exported,
    whom_a_former_admin_of_the_organization_invited_to_it_is_not_exported,
    a_dry_run_tells_the_same_and_makes_nothing,
    an_import_that_does_not_fit_says_where_and_makes_nothing,
    an_import_that_is_killed_has_made_all_or_nothing,
);

/// Runs a command of the binary beside the server, with the same database and secrets.
fn command(app: &App, directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .current_dir(directory)
        .env_clear()
        .envs(app.environment())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn guildhall(app: &App, directory: &Path, arguments: &[&str]) -> Output {
    command(app, directory, arguments).output().unwrap()
}

fn text(output: &[u8]) -> &str {
    std::str::from_utf8(output).unwrap()
}

#[track_caller]
fn done(output: &Output) -> &str {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn refused(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    text(&output.stderr)
}

const PLANTED: &str = "planted otter violin 7";

/// A workspace with something of everything.
async fn furnished(app: &App) -> (Actor, Workspace) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let input = json!({ "displayName": "Lab", "description": "# Lab\n\nHome.", "countries": ["FR", "KE"] });
    let made = ada.mutate("createWorkspace", input, "workspace { id name }").await.ok();
    let lab = Workspace {
        id: made.text("/createWorkspace/workspace/id").to_owned(),
        name: made.text("/createWorkspace/workspace/name").to_owned(),
        admin: ada.clone(),
    };
    let input = json!({ "workspaceId": lab.id, "dockerImage": "ghcr.io/example/lab:1", "region": "eu-west-1",
        "labels": [{ "key": "team", "value": "x" }, { "key": "a", "value": "" }] });
    ada.mutate("updateWorkspace", input, "").await.ok();
    let role = crate::roles::made(&ada, &organization, "Reader", &["WORKSPACE_VIEW", "FILE_READ"]).await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let of_eve = crate::members::membership(&lab, &eve).await;
    let input = json!({ "workspaceId": lab.id, "memberId": of_eve, "role": role, "expiresAt": "2999-01-01T00:00:00Z" });
    ada.mutate("updateMemberRole", input, "").await.ok();
    ada.invite(&lab, "zoe@example.org", "EDITOR").await.ok();
    let keeps = [
        ("a.text", json!({ "string": "ä \" \\ \n" })),
        ("b.number", json!({ "number": "12345678901234567890.10" })),
        ("c.truth", json!({ "boolean": true })),
        ("d.json", json!({ "json": { "b": [1, 2.5, null], "a": "x" } })),
    ];
    for (key, value) in keeps {
        let input = json!({ "workspaceId": lab.id, "key": key, "value": value });
        ada.mutate("setConfigProperty", input, "").await.ok();
    }
    let fields = json!([
        { "code": "host", "value": "db.example.org", "isSecret": false },
        { "code": "password", "value": PLANTED },
    ]);
    let input = json!({ "workspaceId": lab.id, "type": "CUSTOM", "name": "Überblick", "slug": "warehouse",
        "description": "Of everything.", "fields": fields });
    ada.mutate("createCredential", input, "").await.ok();
    everything(app).await;
    (ada, lab)
}

async fn what_is_exported_and_imported_is_exported_alike(app: App) {
    let (_, lab) = furnished(&app).await;
    let directory = TempDir::new().unwrap();
    let first = guildhall(&app, directory.path(), &["export", &lab.name]);
    let first = done(&first).to_owned();
    for secret in [PLANTED, "wks_", "usr_", "crd_"] {
        assert!(!first.contains(secret), "{first}");
    }
    // The same into a file, and nothing beside it.
    for _ in 0..2 {
        assert_eq!(done(&guildhall(&app, directory.path(), &["export", &lab.name, "lab.json"])), "");
    }
    assert_eq!(fs::read_to_string(directory.path().join("lab.json")).unwrap(), first);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    let document: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(document["workspace"]["countries"], json!(["FR", "KE"]));
    assert_eq!(document["roles"][0]["permissions"], json!(["workspace.view", "file.read"]));
    let emails: Vec<_> =
        document["members"].as_array().unwrap().iter().map(|member| &member["email"]).collect();
    assert_eq!(emails, ["ada@example.org", "eve@example.org", "zoe@example.org"]);
    assert_eq!(document["credentials"][0]["fields"][1], json!({ "code": "password", "isSecret": true }));
    assert!(first.contains("12345678901234567890.10"));

    let told = guildhall(&app, directory.path(), &["import", "lab.json", "--name", "lab-again"]);
    let told = done(&told);
    for line in [
        "Made the workspace “Lab”, named lab-again, in Example.",
        "  admin          ada@example.org",
        "  invitation     eve@example.org as Reader",
        "  invitation     zoe@example.org as Editor",
        "  configuration  4 properties",
        "  credentials    1",
        "  to be given    warehouse: password",
    ] {
        assert!(told.lines().any(|told| told == line), "{line} is not in\n{told}");
    }
    let second = guildhall(&app, directory.path(), &["export", "lab-again"]);
    assert_eq!(done(&second).replace("\"lab-again\"", "\"lab\""), first);
    what_is_to_be_given_is_given(app.owner()).await;

    // An instance that knows nothing of it makes the role as well.
    let elsewhere = App::start(app.engine()).await;
    elsewhere.set_up().await;
    let told = guildhall(&elsewhere, directory.path(), &["import", "lab.json"]);
    assert!(done(&told).contains("  new role       READER"), "{}", done(&told));
    let third = guildhall(&elsewhere, directory.path(), &["export", "lab"]);
    assert_eq!(done(&third), first);
    refused(&guildhall(&elsewhere, directory.path(), &["export", "nowhere"]));
}

/// A secret that was not in the file is missing, and said to be, until somebody gives it.
async fn what_is_to_be_given_is_given(ada: &Actor) {
    let document =
        "{ workspace(name: \"lab-again\") { id name credentials(search: \"üBERBLICK\") { nodes { id slug
        fields { code isSecret isSet value fingerprint } } } } }";
    let found = ada.query(document, json!({})).await.ok();
    let workspace = Workspace {
        id: found.text("/workspace/id").to_owned(),
        name: found.text("/workspace/name").to_owned(),
        admin: ada.clone(),
    };
    let credential = found.data("/workspace/credentials/nodes/0");
    let fields = credential["fields"].as_array().unwrap();
    let password = fields.iter().find(|field| field["code"] == "password").unwrap();
    assert_eq!((&password["isSet"], &password["fingerprint"]), (&json!(false), &Value::Null));
    let used = credentials::used(ada, &workspace, "warehouse").await.ok();
    let codes = used.data("/useCredential/values").as_array().unwrap();
    assert!(!codes.is_empty() && codes.iter().all(|value| value["code"] != "password"), "{used}");

    let id = credential["id"].as_str().unwrap();
    let with = |password: Value| {
        let fields = fields.iter().map(|field| match field["code"] == "password" {
            true => json!({ "code": "password", "value": password }),
            false => json!({ "code": field["code"], "value": null }),
        });
        json!({ "fields": fields.collect::<Vec<_>>() })
    };
    credentials::update(ada, &workspace, id, with(Value::Null)).await.refused("INVALID_INPUT");
    credentials::update(ada, &workspace, id, with(json!("given"))).await.ok();
    let used = credentials::used(ada, &workspace, "warehouse").await.ok();
    assert_eq!(credentials::value(&used, "password"), "given");
}

async fn nobody_is_added_without_being_asked(app: App) {
    let (ada, lab) = furnished(&app).await;
    let directory = TempDir::new().unwrap();
    done(&guildhall(&app, directory.path(), &["export", &lab.name, "lab.json"]));
    // That of the invitation before.
    app.mail_to("zoe@example.org").await;
    done(&guildhall(&app, directory.path(), &["import", "lab.json", "--name", "den"]));
    let document = "{ workspace(name: \"den\") { viewerRole { key } members { nodes { source role { key } } }
        invitations { nodes { email status membershipExpiresAt role { name } } }
        credentials { nodes { slug fields { code isSet } } } } }";
    let seen = ada.query(document, json!({})).await.ok();
    assert_eq!(
        seen.data("/workspace/members/nodes"),
        &json!([{ "source": "DIRECT", "role": { "key": "ADMIN" } }])
    );
    let invitations = seen.data("/workspace/invitations/nodes");
    assert_eq!(invitations[0]["email"], "eve@example.org");
    assert_eq!(invitations[0]["role"]["name"], "Reader");
    assert_eq!(invitations[1]["status"], "PENDING");
    assert_eq!(
        seen.data("/workspace/credentials/nodes/0/fields"),
        &json!([{ "code": "host", "isSet": true }, { "code": "password", "isSet": false }])
    );
    // The mail comes from the running server, and its link opens what it says.
    let link = app.mail_to("zoe@example.org").await.link();
    let zoe = Actor::register(&app.url, token_of(&link), "Zoe").await;
    let seen = zoe.query("{ workspace(name: \"den\") { viewerRole { key } } }", json!({})).await.ok();
    assert_eq!(seen.data("/workspace/viewerRole/key"), "EDITOR");
}

async fn neither_the_disabled_nor_whom_they_invited_are_exported(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let organization = ada.organization().await;
    let eve = app.member(&lab, SystemRole::Admin, "Eve").await;
    let max = app.member(&lab, SystemRole::Admin, "Max").await;
    let sue = app.member(&lab, SystemRole::Admin, "Sue").await;
    let kim = app.person("kim@example.org", "Kim").await;
    for (inviter, email, role) in [
        (&ada, "ben@example.org", "VIEWER"),
        (&ada, "kim@example.org", "EDITOR"),
        (&eve, "of.eve@example.org", "ADMIN"),
        (&max, "of.max@example.org", "VIEWER"),
        (&sue, "of.sue@example.org", "VIEWER"),
    ] {
        inviter.invite(&lab, email, role).await.ok();
    }
    for disabled in [&eve, &kim] {
        let input = json!({ "organizationId": organization, "userId": disabled.id });
        ada.mutate("disableUser", input, "").await.ok();
    }
    app.sql(&format!("UPDATE users SET status = 'DISABLED' WHERE id = {}", app.literal(&max.id))).await;
    let of_sue = crate::members::membership(&lab, &sue).await;
    let input = json!({ "workspaceId": lab.id, "memberId": of_sue, "role": "VIEWER" });
    ada.mutate("updateMemberRole", input, "").await.ok();

    let directory = TempDir::new().unwrap();
    done(&guildhall(&app, directory.path(), &["export", &lab.name, "lab.json"]));
    let elsewhere = App::start(app.engine()).await;
    elsewhere.set_up().await;
    let told = guildhall(&elsewhere, directory.path(), &["import", "lab.json"]);
    let invited: Vec<_> =
        done(&told).lines().filter_map(|line| line.strip_prefix("  invitation     ")).collect();
    assert_eq!(invited, ["ben@example.org as Viewer", "sue@example.org as Viewer"]);
    let exported = fs::read_to_string(directory.path().join("lab.json")).unwrap();
    for email in ["eve@", "max@", "kim@", "of.sue@"] {
        assert!(!exported.contains(email), "{exported}");
    }
}

async fn whom_a_former_admin_of_the_organization_invited_to_it_is_not_exported(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let organization = ada.organization().await;
    let orla = app.member(&lab, SystemRole::Admin, "Orla").await;
    let input = |role: &str| json!({ "organizationId": organization, "userId": orla.id, "role": role });
    ada.mutate("updateOrganizationMember", input("ADMIN"), "").await.ok();
    for (inviter, email) in [(&ada, "of.ada@example.org"), (&orla, "of.orla@example.org")] {
        let workspaces = json!([{ "workspaceId": lab.id, "role": "EDITOR" }]);
        let input = json!({ "organizationId": organization, "email": email, "workspaces": workspaces });
        inviter.mutate("inviteOrganizationMember", input, "").await.ok();
    }
    // To the lab alone she may invite as its Admin.
    orla.invite(&lab, "to.lab@example.org", "VIEWER").await.ok();
    let exported = async || {
        let directory = TempDir::new().unwrap();
        done(&guildhall(&app, directory.path(), &["export", &lab.name, "lab.json"]));
        let text = fs::read_to_string(directory.path().join("lab.json")).unwrap();
        let emails = ["of.ada@", "of.orla@", "to.lab@"];
        emails.into_iter().filter(|email| text.contains(email)).collect::<Vec<_>>()
    };
    assert_eq!(exported().await, ["of.ada@", "of.orla@", "to.lab@"]);
    ada.mutate("updateOrganizationMember", input("MEMBER"), "").await.ok();
    assert_eq!(exported().await, ["of.ada@", "to.lab@"]);
    // As it could not be accepted here.
    let link = app.mail_to("of.orla@example.org").await.link();
    let account = json!({ "token": token_of(&link), "displayName": "Zoe", "password": PASSWORD });
    app.anonymous().mutate("register", account, "user { id }").await.refused("INVITER_LOST_PERMISSION");
}

async fn a_dry_run_tells_the_same_and_makes_nothing(app: App) {
    let (_, lab) = furnished(&app).await;
    let directory = TempDir::new().unwrap();
    done(&guildhall(&app, directory.path(), &["export", &lab.name, "lab.json"]));
    let before = everything(&app).await;
    let dry = guildhall(&app, directory.path(), &["import", "lab.json", "--name", "den", "--dry-run"]);
    assert_eq!(everything(&app).await, before);
    let wet = guildhall(&app, directory.path(), &["import", "lab.json", "--name", "den"]);
    let expected =
        done(&wet).replace("Made the", "Would make the") + "Nothing was made: this was a dry run.\n";
    assert_eq!(done(&dry), expected);
    // What would be refused is refused in a dry run too.
    let dry = guildhall(&app, directory.path(), &["import", "lab.json", "--dry-run"]);
    assert!(refused(&dry).contains("`workspace.name` is taken"), "{}", refused(&dry));
}

async fn an_import_that_does_not_fit_says_where_and_makes_nothing(app: App) {
    let (ada, lab) = furnished(&app).await;
    let organization = ada.organization().await;
    let directory = TempDir::new().unwrap();
    done(&guildhall(&app, directory.path(), &["export", &lab.name, "lab.json"]));
    let good = fs::read_to_string(directory.path().join("lab.json")).unwrap();
    let bad = |change: &dyn Fn(&mut Value)| {
        let mut document: Value = serde_json::from_str(&good).unwrap();
        change(&mut document);
        fs::write(directory.path().join("bad.json"), document.to_string()).unwrap();
    };
    // What housekeeping notes of a day a minute after the start is there already.
    guildhall_persistence::housekeeping::sweep(app.db()).await.unwrap();
    let before = everything(&app).await;
    let import = |file: &str, more: &[&str]| {
        let arguments = [&["import", file], more].concat();
        let output = guildhall(&app, directory.path(), &arguments);
        refused(&output).to_owned()
    };
    let den = ["--name", "den"];
    assert!(
        import("lab.json", &[])
            .contains("`workspace.name` is taken: lab. Give the workspace another one with --name")
    );
    assert!(import("lab.json", &["--name", "Den"]).contains("`--name`"));
    assert!(import("lab.json", &["--name", "den", "--organization", "nowhere"]).contains("`--organization`"));
    assert!(import("nowhere.json", &den).contains("nowhere.json"));
    for (change, told) in [
        (&(|file: &mut Value| file["version"] = json!(7)) as &dyn Fn(&mut Value), "version 7"),
        (&|file: &mut Value| file["more"] = json!(1), "unknown field `more`"),
        (&|file: &mut Value| file["workspace"]["countries"][1] = json!("XX"), "`workspace.countries[1]`"),
        (
            &|file: &mut Value| file["roles"][0]["permissions"][1] = json!("file.raed"),
            "`roles[0].permissions[1]`",
        ),
        (&|file: &mut Value| file["roles"][0]["permissions"] = json!([]), "`roles[0].key`"),
        (&|file: &mut Value| file["members"][0]["role"] = json!("BOSS"), "`members[0].role`"),
        (&|file: &mut Value| file["config"][0]["kind"] = json!("TEXT"), "`config[0].kind`"),
        (&|file: &mut Value| file["credentials"][0]["kind"] = json!("FTP"), "`credentials[0].kind`"),
        (
            &|file: &mut Value| file["credentials"][0]["fields"][1]["value"] = json!(PLANTED),
            "`credentials[0].fields[1].value`",
        ),
    ] {
        bad(change);
        let output = import("bad.json", &den);
        assert!(output.contains(told), "{told}: {output}");
        assert!(!output.contains(PLANTED), "{output}");
    }
    // All that is wrong, at once.
    bad(&|file| {
        file["workspace"]["displayName"] = json!("");
        file["members"][1]["email"] = json!("nobody");
    });
    let output = import("bad.json", &den);
    assert!(output.contains("`workspace.displayName`") && output.contains("`members[1].email`"), "{output}");
    assert_eq!(everything(&app).await, before);
    // Where there are several organizations, one is named.
    app.stranger("olga@example.org", "Olga").await;
    assert!(import("lab.json", &den).contains("`--organization`"));
    let document = "query($id: ID!) { node(id: $id) { ... on Organization { slug } } }";
    let slug = ada.query(document, json!({ "id": organization })).await.ok().text("/node/slug").to_owned();
    let more = ["import", "lab.json", "--name", "den", "--organization", &slug];
    done(&guildhall(&app, directory.path(), &more));
}

async fn an_import_that_is_killed_has_made_all_or_nothing(app: App) {
    let (_, lab) = furnished(&app).await;
    let directory = TempDir::new().unwrap();
    let exported = guildhall(&app, directory.path(), &["export", &lab.name]);
    let mut document: Value = serde_json::from_str(done(&exported)).unwrap();
    // Enough that it takes its time.
    document["workspace"]["name"] = json!("den");
    let many = (0..400).map(|number| json!({ "email": format!("g{number}@example.org"), "role": "VIEWER" }));
    document["members"].as_array_mut().unwrap().extend(many);
    fs::write(directory.path().join("den.json"), document.to_string()).unwrap();
    // How long one takes here says when to kill others.
    let started = std::time::Instant::now();
    done(&guildhall(&app, directory.path(), &["import", "den.json", "--name", "hut"]));
    let whole = started.elapsed();
    let counts = async || {
        let dens = app.number("SELECT count(*) FROM workspaces WHERE name = 'den'").await;
        let properties = "SELECT count(*) FROM config_properties p JOIN workspaces w ON w.id = p.workspace_id WHERE w.name = 'den'";
        let grants = "SELECT count(*) FROM invitation_grants g JOIN workspaces w ON w.id = g.workspace_id WHERE w.name = 'den'";
        (dens, app.number(properties).await, app.number(grants).await)
    };
    for part in [5, 7, 8, 9] {
        let mut child = command(&app, directory.path(), &["import", "den.json"]).spawn().unwrap();
        tokio::time::sleep(whole * part / 10).await;
        // It may have ended before.
        let _ = child.kill();
        child.wait().unwrap();
        // PostgreSQL notices when it next talks to whom it worked for.
        tokio::time::sleep(Duration::from_millis(if app.engine() == Engine::Postgres { 300 } else { 0 }))
            .await;
        match counts().await {
            (0, 0, 0) => {}
            made => {
                assert_eq!(made, (1, 4, 402));
                return;
            }
        }
    }
    done(&guildhall(&app, directory.path(), &["import", "den.json"]));
    assert_eq!(counts().await, (1, 4, 402));
}
