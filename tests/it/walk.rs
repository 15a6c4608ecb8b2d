//! The main job from an empty machine to an accepted invitation, as people would do it.

use std::time::Duration;

use guildhall_tests::{
    Actor, App,
    actor::{PASSWORD, token_of},
    both_databases,
    databases::Engine,
};
use http::StatusCode;
use serde_json::json;

both_databases!(App::start, the_whole_walk, the_walk_by_api_alone);
both_databases!(with_mail_files, without_a_mail_server_the_link_is_in_a_file);

const CHANGES: &str = "subscription($id: ID!) {
    invitationStatusChanged(workspaceId: $id) { status cursor invitation { id email status inviter { displayName } } }
}";

async fn with_mail_files(engine: Engine) -> App {
    App::start_with(engine, |environment| {
        environment.unset("SMTP_HOST").unset("SMTP_PORT");
    })
    .await
}

/// The form on a page that has a button for `intent`: where it goes, and its hidden fields.
fn form(html: &str, intent: &str) -> (String, Vec<(String, String)>) {
    let button = format!(r#"name="intent" value="{intent}""#);
    let mut forms = html.split("<form").skip(1).filter_map(|form| form.split("</form>").next());
    let form = forms.find(|form| form.contains(&button));
    let form = form.unwrap_or_else(|| panic!("no button {intent} in {html}"));
    let hidden = form.split('<').filter(|tag| tag.contains(r#"type="hidden""#));
    let fields = hidden.map(|input| (attribute(input, "name"), attribute(input, "value"))).collect();
    (attribute(form, "action"), fields)
}

/// The first attribute of that name, as a browser reads it.
fn attribute(tag: &str, name: &str) -> String {
    let value = tag.split(&format!(r#" {name}=""#)).nth(1).and_then(|rest| rest.split('"').next());
    let value = value.unwrap_or_else(|| panic!("no {name} in {tag}"));
    value.replace("&#x2f;", "/").replace("&amp;", "&")
}

async fn the_whole_walk(app: App) {
    let nobody = app.anonymous();
    let input = |token: &str| {
        json!({ "token": token, "email": "ada@example.org", "displayName": "Ada Lovelace",
                "password": PASSWORD, "organizationName": "Engines" })
    };

    // Whoever comes first on the network is not the owner: the secret of the link is.
    nobody.mutate("setUp", input("guessed"), "user { id }").await.refused("LINK_INVALID");
    let set_up = nobody
        .mutate("setUp", input(&app.setup_token), "user { email } workspace { isDefault viewerRole { key } }")
        .await
        .ok();
    assert_eq!(
        set_up.data("/setUp/workspace"),
        &json!({ "isDefault": true, "viewerRole": { "key": "ADMIN" } })
    );
    nobody.mutate("setUp", input(&app.setup_token), "user { id }").await.refused("SETUP_DONE");

    let input = json!({ "email": "ada@example.org", "password": "not this one" });
    nobody.mutate("signIn", input, "user { id }").await.refused("INVALID_CREDENTIALS");
    let ada = Actor::sign_in(&app.url, "Ada@Example.org", PASSWORD).await;
    let lab = ada.workspace("Difference Engine").await;
    assert_eq!(lab.name, "difference-engine");

    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let invited = ada.invite(&lab, "Eve@Example.org", "VIEWER").await.ok();
    assert_eq!(invited.data("/inviteMember/invitation/status"), "PENDING");
    assert_eq!(invited.data("/inviteMember/invitation/email"), "eve@example.org");
    let told = changes.within(Duration::from_secs(1)).await.ok();
    assert_eq!(told.data("/invitationStatusChanged/status"), "PENDING");
    assert_eq!(told.data("/invitationStatusChanged/invitation/inviter/displayName"), "Ada Lovelace");

    let mail = app.mail_to("eve@example.org").await;
    let link = mail.link();
    assert!(link.starts_with(&format!("{}/invitations/", app.url)), "{link}");
    let token = token_of(&link);
    let preview = "query($token: String!) { invitationByToken(token: $token) {
        status inviterName organizationName maskedEmail workspaces { displayName role { key } }
    } }";
    let preview = nobody.query(preview, json!({ "token": token })).await.ok();
    assert_ne!(preview.data("/invitationByToken/maskedEmail"), "eve@example.org");
    assert_eq!(
        preview.data("/invitationByToken/workspaces"),
        &json!([{ "displayName": "Difference Engine", "role": { "key": "VIEWER" } }])
    );

    let page = nobody.get(&link).await;
    assert_eq!(page.status, StatusCode::OK);
    for shown in ["Ada Lovelace", "Engines", "Difference Engine", "Viewer"] {
        assert!(page.text().contains(shown), "{shown} is not on the page: {}", page.text());
    }
    assert!(!page.text().contains("<script"), "the page works without JavaScript");
    let (action, fields) = form(page.text(), "register");
    let filled_in = |password: &'static str| {
        let typed = [("display_name", "Eve"), ("password", password), ("intent", "register")];
        let hidden = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        hidden.chain(typed).collect::<Vec<_>>()
    };
    let refused = nobody.post_form(&action, &filled_in("password")).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text().contains(r#"value="Eve""#), "what was typed is kept: {}", refused.text());
    let welcome = nobody.post_form(&action, &filled_in(PASSWORD)).await;
    assert_eq!(welcome.status, StatusCode::OK, "{}", welcome.text());
    assert!(welcome.text().contains("Welcome"), "{}", welcome.text());

    let accepted =
        |event: &guildhall_tests::Answer| event.data("/invitationStatusChanged/status") == "ACCEPTED";
    let told = tokio::time::timeout(Duration::from_secs(1), changes.until(accepted)).await;
    let told = told.expect("the admin is told within a second").ok();
    assert_eq!(
        told.data("/invitationStatusChanged/invitation/id"),
        invited.data("/inviteMember/invitation/id")
    );

    let eve = Actor::sign_in(&app.url, "eve@example.org", PASSWORD).await;
    let query = "query($name: String!) {
        workspace(name: $name) { id displayName viewerRole { key } can(permission: MEMBERS_INVITE) }
        viewer { user { status } workspaces { nodes { name } } }
    }";
    let seen = eve.query(query, json!({ "name": lab.name })).await.ok();
    assert_eq!(
        seen.data("/workspace"),
        &json!({ "id": lab.id, "displayName": "Difference Engine", "viewerRole": { "key": "VIEWER" },
                 "can": false })
    );
    assert_eq!(
        seen.data("/viewer/user/status"),
        "ACTIVE",
        "registering through the link verifies the e-mail"
    );
    assert_eq!(seen.data("/viewer/workspaces/nodes"), &json!([{ "name": lab.name }]));
    eve.invite(&lab, "mallory@example.org", "VIEWER").await.denied("FORBIDDEN");

    // The link is used up, and what was not invited is not seen.
    let again = nobody.get(&link).await;
    assert!(!again.text().contains("<form"), "{}", again.text());
    let hidden = eve.query(query, json!({ "name": "example" })).await;
    assert_eq!(hidden.data("/workspace"), &json!(null));
    app.stop().await;
}

async fn the_walk_by_api_alone(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    ada.invite(&lab, "eve@example.org", "EDITOR").await.ok();
    ada.invite(&lab, "eve@example.org", "EDITOR").await.refused("ALREADY_INVITED");
    let link = app.mail_to("eve@example.org").await.link();
    let eve = Actor::register(&app.url, token_of(&link), "Eve").await;
    changes.until(|event| event.data("/invitationStatusChanged/status") == "ACCEPTED").await;

    // Somebody who has an account is asked too.
    let den = ada.workspace("Den").await;
    let mine = "subscription { viewerInvitationChanged { status invitation { id inviterName } } }";
    let mut received = eve.subscribe(mine, json!({})).await;
    ada.invite(&den, "eve@example.org", "VIEWER").await.ok();
    let told = received.next().await.ok();
    assert_eq!(told.data("/viewerInvitationChanged/status"), "PENDING");
    let query = "query($name: String!) { workspace(name: $name) { id } }";
    let hidden = eve.query(query, json!({ "name": den.name })).await.ok();
    assert_eq!(hidden.data("/workspace"), &json!(null), "nothing of it is read before the answer");
    let input = json!({ "invitationId": told.data("/viewerInvitationChanged/invitation/id") });
    eve.mutate("acceptInvitation", input, "invitation { status }").await.ok();
    let seen = eve.query(query, json!({ "name": den.name })).await.ok();
    assert_eq!(seen.text("/workspace/id"), den.id);
}

async fn without_a_mail_server_the_link_is_in_a_file(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let directory = app.data_dir().join("mail");
    let mut waited = 0;
    let mail = loop {
        let files = std::fs::read_dir(&directory).into_iter().flatten();
        let mail =
            files.map(|file| file.unwrap().path()).find(|file| file.extension().is_some_and(|e| e == "eml"));
        if let Some(mail) = mail {
            break std::fs::read_to_string(mail).unwrap();
        }
        waited += 1;
        assert!(waited < 250, "no mail in {}", directory.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(mail.contains("eve@example.org"), "{mail}");
    assert!(mail.replace("=\r\n", "").contains(&format!("{}/invitations/", app.url)), "{mail}");
}
