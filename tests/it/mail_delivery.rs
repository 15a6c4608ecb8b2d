//! Mail from the API to the mail server: in bad weather, twice, forged, and with what others must not read.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use chrono::TimeDelta;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{
    Actor, Answer, App, Workspace,
    actor::{PASSWORD, token_of},
    both_databases,
    databases::Engine,
    mailbox::Fault,
};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::sleep;

both_databases!(
    App::start,
    server_that_is_down_and_comes_back_gets_every_mail_once,
    recipient_refused_for_now_is_tried_again,
    recipient_refused_for_ever_is_told_to_the_admins_alone,
    lost_acknowledgement_makes_a_duplicate_with_the_same_message_id,
    resending_makes_the_link_sent_before_worthless,
    resending_takes_back_the_mail_that_still_waits,
    revoked_invitation_sends_no_mail,
    invitation_that_expired_before_its_mail_was_taken_sends_none,
    no_name_reaches_the_headers_of_a_mail,
    markup_in_names_is_text_in_the_mail,
    what_waits_to_be_sent_is_sealed_and_then_forgotten,
);
both_databases!(with_mail_files, mail_file_is_its_owners_alone);

async fn with_mail_files(engine: Engine) -> App {
    App::start_with(engine, |environment| {
        environment.unset("SMTP_HOST").unset("SMTP_PORT");
    })
    .await
}

const DELIVERY: &str = "query($name: String!) { workspace(name: $name) {
    invitations { nodes { id email status delivery deliveryError sentAt } }
} }";

async fn deliveries(actor: &Actor, lab: &Workspace) -> Answer {
    actor.query(DELIVERY, json!({ "name": lab.name })).await.ok()
}

/// Waits until the only invitation of the workspace is delivered so, and answers it.
async fn delivered(actor: &Actor, lab: &Workspace, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut seen = Value::Null;
    for _ in 0..200 {
        seen = deliveries(actor, lab).await.data("/workspace/invitations/nodes/0").clone();
        if wanted(&seen) {
            return seen;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("the mail stands elsewhere: {seen}");
}

/// Waits until no mail is such a one.
async fn no_mail(app: &App, such: &str) {
    let such = format!("SELECT count(*) FROM mails WHERE {such}");
    let mut waited = 0;
    while app.number(&such).await > 0 {
        waited += 1;
        assert!(waited < 200, "still: {such}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until each mail was tried without success, and nothing is on its way.
async fn tried(app: &App) {
    no_mail(app, "status = 'QUEUED' AND last_error IS NULL").await;
}

/// Long enough for another attempt to come due, if there were one: the queue is looked at each second.
async fn nothing_more_comes(app: &App, mails: usize) {
    no_mail(app, "status = 'QUEUED'").await;
    sleep(Duration::from_millis(1500)).await;
    let arrived = app.mail.messages();
    assert_eq!(
        arrived.len(),
        mails,
        "{:?}",
        arrived.iter().map(|mail| (&mail.to, mail.subject())).collect::<Vec<_>>()
    );
}

async fn server_that_is_down_and_comes_back_gets_every_mail_once(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.mail.fault(Fault::Refuse).await;
    for number in 0..5 {
        ada.invite(&lab, &format!("eve{number}@example.org"), "VIEWER").await.ok();
    }
    // For an hour.
    tried(&app).await;
    for _ in 0..3 {
        app.sql("UPDATE mails SET last_error = NULL").await;
        app.advance(TimeDelta::minutes(20));
        tried(&app).await;
    }
    let ada = ada.again().await;
    for node in deliveries(&ada, &lab).await.data("/workspace/invitations/nodes").as_array().unwrap() {
        assert_eq!((&node["delivery"], &node["sentAt"]), (&json!("QUEUED"), &Value::Null), "{node}");
        assert_eq!(node["deliveryError"], "The mail server refused the connection.", "{node}");
    }
    app.mail.fault(Fault::None).await;
    app.advance(TimeDelta::minutes(12));
    let mut links = Vec::new();
    for number in 0..5 {
        links.push(app.mail_to(&format!("eve{number}@example.org")).await.link());
    }
    // Whoever answers before it is written down that the mail was taken also takes the mail back.
    no_mail(&app, "status <> 'SENT'").await;
    for link in links {
        Actor::register(&app.url, token_of(&link), "Eve").await;
    }
    app.advance(TimeDelta::hours(1));
    nothing_more_comes(&app, 5).await;
    let seen = deliveries(&ada.again().await, &lab).await;
    for node in seen.data("/workspace/invitations/nodes").as_array().unwrap() {
        assert_eq!((&node["delivery"], &node["deliveryError"]), (&json!("SENT"), &Value::Null), "{node}");
        assert!(node["sentAt"].is_string(), "{node}");
    }
}

async fn recipient_refused_for_now_is_tried_again(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.mail.fault(Fault::Recipient(451, "4.7.1 greylisted, come back".into())).await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    tried(&app).await;
    let waits = delivered(&ada, &lab, |seen| !seen["deliveryError"].is_null()).await;
    assert_eq!(waits["delivery"], "QUEUED");
    assert!(waits["deliveryError"].as_str().unwrap().contains("greylisted"), "{waits}");
    app.mail.fault(Fault::None).await;
    app.advance(TimeDelta::seconds(10));
    app.mail_to("eve@example.org").await;
    let sent = delivered(&ada, &lab, |seen| seen["delivery"] == "SENT").await;
    assert_eq!(sent["deliveryError"], Value::Null);
    nothing_more_comes(&app, 1).await;
}

async fn recipient_refused_for_ever_is_told_to_the_admins_alone(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vic = app.member(&lab, SystemRole::Viewer, "Vic").await;
    let edna = app.member(&lab, SystemRole::Editor, "Edna").await;
    let den = ada.workspace("Den").await;
    let changes = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) {
        status invitation { delivery deliveryError }
    } }";
    let mut changes = ada.subscribe(changes, json!({ "id": den.id })).await;
    app.mail.fault(Fault::Recipient(550, "5.1.1 no such user here".into())).await;
    ada.invite(&den, "nobody@example.org", "VIEWER").await.ok();
    let told =
        changes.until(|event| event.data("/invitationStatusChanged/invitation/delivery") == "FAILED").await;
    assert_eq!(told.data("/invitationStatusChanged/status"), "PENDING");
    let failed = delivered(&ada, &den, |seen| seen["delivery"] == "FAILED").await;
    let error = failed["deliveryError"].as_str().unwrap();
    assert!(error.contains("550 5.1.1 no such user here"), "{error}");
    assert_eq!((&failed["status"], &failed["sentAt"]), (&json!("PENDING"), &Value::Null));

    // Those who are no admins see no invitation, nor anything of its mail; those outside not even the workspace.
    ada.invite(&lab, "nobody@example.org", "VIEWER").await.ok();
    for member in [&vic, &edna] {
        let hidden = member.query(DELIVERY, json!({ "name": lab.name })).await;
        assert_eq!(hidden.data("/workspace/invitations"), &Value::Null);
        let node = "query($id: ID!) { node(id: $id) { ... on Invitation { deliveryError } } }";
        let node = member.query(node, json!({ "id": failed["id"] })).await;
        assert_eq!(node.data("/node"), &Value::Null);
        assert!(
            !hidden.body.to_string().contains("no such user")
                && !node.body.to_string().contains("no such user")
        );
        hidden.denied("FORBIDDEN");
        let outside = member.query(DELIVERY, json!({ "name": den.name })).await.ok();
        assert_eq!(outside.data("/workspace"), &Value::Null);
    }
    // The mail server must have refused this one too, before it takes mails again.
    no_mail(&app, "status = 'QUEUED'").await;

    // It is given up, until somebody sends it anew.
    app.mail.fault(Fault::None).await;
    let before = app.mail.messages().len();
    app.advance(TimeDelta::minutes(11));
    nothing_more_comes(&app, before).await;
    let input = json!({ "workspaceId": den.id, "invitationId": failed["id"] });
    let resent = ada.mutate("resendInvitation", input, "invitation { delivery deliveryError }").await.ok();
    assert_eq!(
        resent.data("/resendInvitation/invitation"),
        &json!({ "delivery": "QUEUED", "deliveryError": null })
    );
    app.mail_to("nobody@example.org").await;
    delivered(&ada, &den, |seen| seen["delivery"] == "SENT" && seen["deliveryError"].is_null()).await;
}

async fn lost_acknowledgement_makes_a_duplicate_with_the_same_message_id(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.mail.fault(Fault::DropAfterData).await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let first = app.mail_to("eve@example.org").await;
    tried(&app).await;
    app.mail.fault(Fault::None).await;
    app.advance(TimeDelta::seconds(10));
    let second = app.mail_to("eve@example.org").await;
    assert_eq!(first.message_id(), second.message_id(), "mail programs show one of the two");
    assert_eq!((first.subject(), first.text()), (second.subject(), second.text()));
    delivered(&ada, &lab, |seen| seen["delivery"] == "SENT").await;
    nothing_more_comes(&app, 2).await;
    Actor::register(&app.url, token_of(&first.link()), "Eve").await;
}

async fn resending_makes_the_link_sent_before_worthless(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let invited = ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let old = app.mail_to("eve@example.org").await;
    delivered(&ada, &lab, |seen| seen["delivery"] == "SENT").await;
    let id = invited.data("/inviteMember/invitation/id");
    let input = json!({ "workspaceId": lab.id, "invitationId": id, "role": "EDITOR" });
    ada.mutate("resendInvitation", input, "invitation { id }").await.ok();
    let new = app.mail_to("eve@example.org").await;
    assert_ne!(old.link(), new.link());
    assert_ne!(old.message_id(), new.message_id());
    nothing_more_comes(&app, 2).await;

    let nobody = app.anonymous();
    let preview = "query($token: String!) { invitationByToken(token: $token) { status } }";
    let seen = nobody.query(preview, json!({ "token": token_of(&old.link()) })).await.ok();
    assert_eq!(seen.data("/invitationByToken"), &Value::Null);
    assert_eq!(nobody.get(&old.link()).await.status, StatusCode::NOT_FOUND);
    let input = json!({ "token": token_of(&old.link()), "displayName": "Eve", "password": PASSWORD });
    nobody.mutate("register", input, "user { id }").await.refused("LINK_INVALID");
    let eve = Actor::register(&app.url, token_of(&new.link()), "Eve").await;
    let role = "query($name: String!) { workspace(name: $name) { viewerRole { key } } }";
    let seen = eve.query(role, json!({ "name": lab.name })).await.ok();
    assert_eq!(seen.data("/workspace/viewerRole/key"), "EDITOR");
}

async fn resending_takes_back_the_mail_that_still_waits(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.mail.fault(Fault::Refuse).await;
    let invited = ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    tried(&app).await;
    let id = invited.data("/inviteMember/invitation/id");
    ada.mutate("resendInvitation", json!({ "workspaceId": lab.id, "invitationId": id }), "").await.ok();
    tried(&app).await;
    app.mail.fault(Fault::None).await;
    app.advance(TimeDelta::minutes(11));
    let mail = app.mail_to("eve@example.org").await;
    nothing_more_comes(&app, 1).await;
    Actor::register(&app.url, token_of(&mail.link()), "Eve").await;
}

async fn revoked_invitation_sends_no_mail(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.mail.fault(Fault::Refuse).await;
    let invited = ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    tried(&app).await;
    let id = invited.data("/inviteMember/invitation/id");
    let revoked = json!({ "workspaceId": lab.id, "invitationId": id });
    let revoked = ada.mutate("revokeInvitation", revoked, "invitation { delivery }").await.ok();
    assert_eq!(revoked.data("/revokeInvitation/invitation/delivery"), "CANCELLED");
    app.mail.fault(Fault::None).await;
    app.advance(TimeDelta::minutes(11));
    nothing_more_comes(&app, 0).await;
    assert_eq!(app.number("SELECT count(*) FROM mails WHERE sealed IS NOT NULL").await, 0);
}

async fn invitation_that_expired_before_its_mail_was_taken_sends_none(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.mail.fault(Fault::Refuse).await;
    let invited = ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    tried(&app).await;
    app.mail.fault(Fault::None).await;
    app.advance(TimeDelta::days(8));
    let ada = ada.again().await;
    let seen = delivered(&ada, &lab, |invitation| invitation["delivery"] == "FAILED").await;
    assert_eq!(seen["status"], "EXPIRED");
    let why = "The invitation expired before the mail server took its mail. Send it again.";
    assert_eq!(seen["deliveryError"], why);
    nothing_more_comes(&app, 0).await;
    // What it says to do works.
    let id = invited.data("/inviteMember/invitation/id");
    ada.mutate("resendInvitation", json!({ "workspaceId": lab.id, "invitationId": id }), "").await.ok();
    let mail = app.mail_to("eve@example.org").await;
    Actor::register(&app.url, token_of(&mail.link()), "Eve").await;
}

/// The names of the headers of a mail, in lower case.
fn header_names(raw: &[u8]) -> Vec<String> {
    let raw = String::from_utf8_lossy(raw);
    let head = raw.split("\r\n\r\n").next().unwrap();
    let lines = head.lines().filter(|line| !line.starts_with([' ', '\t']));
    lines.map(|line| line.split(':').next().unwrap().to_lowercase()).collect()
}

async fn no_name_reaches_the_headers_of_a_mail(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    for name in [
        "Lab\r\nBcc: mallory@example.org",
        "Lab\nBcc: mallory@example.org",
        "Lab\r\n\r\nHello",
        "Lab\u{85}Bcc: mallory@example.org",
        "=?utf-8?Q?Lab=0D=0ABcc:_mallory@example.org?=",
        "=?utf-8?B?TGFiDQpCY2M6IG1hbGxvcnlAZXhhbXBsZS5vcmc=?=",
    ] {
        let refused = ada.mutate("createWorkspace", json!({ "displayName": name }), "").await;
        refused.refused("INVALID_INPUT");
        let input = json!({ "workspaceId": lab.id, "displayName": name });
        ada.mutate("updateWorkspace", input, "").await.refused("INVALID_INPUT");
        ada.mutate("updateProfile", json!({ "displayName": name }), "").await.refused("INVALID_INPUT");
    }
    for email in [
        "eve@example.org\r\nBcc: mallory@example.org",
        "eve@example.org, mallory@example.org",
        "Eve <eve@example.org>",
        "\"eve\r\nBcc: mallory\"@example.org",
        "eve@example.org>\r\nRCPT TO:<mallory@example.org",
    ] {
        ada.invite(&lab, email, "VIEWER").await.refused("INVALID_INPUT");
    }

    // A plain mail, to compare with.
    ada.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
    let plain = header_names(&app.mail_to("zoe@example.org").await.raw);
    // What looks like a header and is allowed stays within the one it belongs to.
    let name = "Bcc: mallory@example.org, \"x\" <y@example.org>";
    ada.mutate("updateProfile", json!({ "displayName": name }), "").await.ok();
    let den = ada.workspace("Content-Type:\u{2028}text/html; charset=утф").await;
    let input = json!({ "workspaceId": den.id, "email": "eve@example.org", "role": "VIEWER",
                        "message": "Hello,\r\n.\r\nBcc: mallory@example.org\n\nQUIT" });
    ada.mutate("inviteMember", input, "").await.ok();
    let mail = app.mail_to("eve@example.org").await;
    assert_eq!(header_names(&mail.raw), plain);
    assert_eq!(mail.to, ["eve@example.org"]);
    // Dots are replaced by a look-alike, so that no mail program makes a link of a name.
    let subject = mail.subject();
    assert!(subject.starts_with("Bcc: mallory@example") && subject.contains("text/html"), "{subject}");
    assert!(!subject.contains("example.org"), "{subject}");
    assert!(mail.text().contains("QUIT"), "{}", mail.text());
    nothing_more_comes(&app, 2).await;
}

async fn markup_in_names_is_text_in_the_mail(app: App) {
    let ada = app.set_up().await;
    let name = "<img src=x onerror=alert(1)>\" & 'Ada'";
    ada.mutate("updateProfile", json!({ "displayName": name }), "").await.ok();
    let lab = ada.workspace("<script>alert(2)</script> {{ link }}").await;
    let message = "</p><a href=\"https://mallory.example\">Click</a>\n<style>*{display:none}</style>";
    let input =
        json!({ "workspaceId": lab.id, "email": "eve@example.org", "role": "VIEWER", "message": message });
    ada.mutate("inviteMember", input, "").await.ok();
    let mail = app.mail_to("eve@example.org").await;
    let html = mail.html();
    for inert in ["<img", "<script", "mallory.example\"", "<style>*", "href=\"https://mallory"] {
        assert!(!html.contains(inert), "{inert} in {html}");
    }
    for shown in ["&lt;img", "&lt;script", "{{ link }}"] {
        assert!(html.contains(shown), "{shown} is not in {html}");
    }
    // Plain text shows it as it was written.
    for shown in [name, "<script>alert(2)</script>", "<style>*{display:none}</style>"] {
        assert!(mail.text().contains(shown), "{shown} is not in {}", mail.text());
    }
    let page = app.anonymous().get(&mail.link()).await;
    for inert in ["<img src=x", "<script>alert", "<style>*", "<a href=\"https://mallory"] {
        assert!(!page.text().contains(inert), "{inert} in {}", page.text());
    }
}

/// Everything that the database holds of mails, invitations, events and sessions, as somebody who steals it reads it.
async fn stolen(app: &App) -> Vec<u8> {
    let url = &app.database().url;
    match app.engine() {
        Engine::Sqlite => {
            let path = url.trim_start_matches("sqlite://").split('?').next().unwrap();
            ["", "-wal"]
                .iter()
                .flat_map(|suffix| fs::read(format!("{path}{suffix}")).unwrap_or_default())
                .collect()
        }
        Engine::Postgres => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let mut dump = Vec::new();
            for (table, bytes) in [
                ("mails", Some("sealed")),
                ("invitations", Some("token_hash")),
                ("sessions", Some("nonce")),
                ("events", None),
                ("users", None),
                ("instance", None),
            ] {
                let rows = format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} t");
                let text: String =
                    sqlx::query_scalar(AssertSqlSafe(rows)).fetch_one(&mut connection).await.unwrap();
                dump.extend(text.into_bytes());
                let Some(column) = bytes else { continue };
                let rows = format!("SELECT {column} FROM {table} WHERE {column} IS NOT NULL");
                let raw: Vec<Vec<u8>> =
                    sqlx::query_scalar(AssertSqlSafe(rows)).fetch_all(&mut connection).await.unwrap();
                dump.extend(raw.concat());
            }
            dump
        }
    }
}

#[track_caller]
fn assert_absent(dump: &[u8], secret: &str) {
    assert!(!secret.is_empty());
    let found = dump.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(!found, "{secret} stands in the database");
}

async fn what_waits_to_be_sent_is_sealed_and_then_forgotten(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.mail.fault(Fault::Refuse).await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    tried(&app).await;
    let waiting = stolen(&app).await;
    // What is looked for can be found where it stands.
    assert!(waiting.windows(15).any(|window| window == b"eve@example.org"));
    app.mail.fault(Fault::None).await;
    app.advance(TimeDelta::seconds(10));
    let mail = app.mail_to("eve@example.org").await;
    delivered(&ada, &lab, |seen| seen["delivery"] == "SENT").await;
    assert_eq!(app.number("SELECT count(*) FROM mails WHERE sealed IS NOT NULL").await, 0);
    assert_eq!(app.number("SELECT count(*) FROM mails").await, 1);
    let sent = stolen(&app).await;
    for dump in [&waiting, &sent] {
        assert_absent(dump, token_of(&mail.link()));
        assert_absent(dump, "/invitations/");
        // The rest of what signs somebody in.
        assert_absent(dump, PASSWORD);
        assert_absent(dump, &app.setup_token);
        assert_absent(dump, ada.refresh_token.as_deref().unwrap());
        assert_absent(dump, ada.access_token.as_deref().unwrap());
    }
}

async fn mail_file_is_its_owners_alone(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    delivered(&ada, &lab, |seen| seen["delivery"] == "SENT").await;
    let directory = app.data_dir().join("mail");
    let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|file| file.unwrap()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(files[0].path().extension().unwrap(), "eml");
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
}
