//! Single sign-on, with a provider on loopback that is written by hand and can lie. The walk with a provider that others have
//! written is `tests/openid`.

mod dns;
mod provider;
mod reach;

use std::process::{Command, Output, Stdio};

use chrono::TimeDelta;
use futures_util::future::join_all;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{
    Actor, Answer, App, Workspace,
    actor::Page,
    both_databases,
    databases::{Engine, run},
    process::binary,
    subscription::End,
};
use http::{StatusCode, header};
use serde_json::{Value, json};
use url::Url;

use crate::audit::did;
use provider::{CLIENT, Lie, Provider, SECRET};

both_databases!(
    app,
    whoever_is_invited_signs_in_and_finds_the_invitation,
    whoever_has_an_address_in_the_domain_becomes_a_member,
    who_joins_takes_a_seat,
    an_invitation_to_the_organization_itself_is_answered_first,
    who_is_neither_member_nor_invited_stays_outside,
    a_provider_is_believed_of_verified_domains_alone,
    the_subject_counts_and_not_the_address,
    who_is_disabled_stays_outside,
    who_has_no_password_sets_one_by_mail,
    lies_are_not_believed,
    answers_that_are_none_do_no_harm,
    nothing_is_sent_where_it_may_not_be,
    a_new_key_is_fetched,
    a_brief_token_is_completed_by_asking,
    code_and_secret_are_good_together_and_once,
    a_sign_in_is_over_in_time,
    of_those_who_come_at_once_one_gets_in,
    browsers_go_on_only_where_they_may,
    nobody_learns_what_there_is,
    trying_leaves_nothing,
    a_configuration_is_checked_and_its_secret_shown_to_nobody,
    a_secret_is_kept_for_its_provider_alone,
    admins_alone_see_and_change_it,
    a_domain_is_verified_by_its_record,
    a_domain_has_one_owner,
    an_operator_s_word_is_enough,
    what_was_sealed_is_sealed_anew,
    passwords_can_be_switched_off_but_for_owners,
    the_provider_of_another_organization_is_none_of_its_own,
    what_was_demanded_ends_with_the_provider,
    an_answer_to_another_organization_s_address_is_not_looked_at,
    a_provider_makes_nobody_an_owner,
    without_a_verified_domain_passwords_are_good_again,
    a_provider_stands_for_a_second_factor_in_its_own_organization_alone,
    providers_of_many_organizations_take_as_many_statements_as_those_of_two,
);

/// A server whose providers may be on this machine, and whose pages are also at another origin.
async fn app(engine: Engine) -> App {
    App::start_with(engine, |env| {
        env.set("GUILDHALL_SINGLE_SIGN_ON_DESTINATIONS", "127.0.0.0/8");
        env.set("GUILDHALL_CORS_ORIGINS", "https://app.example.org");
        env.set("GUILDHALL_DNS_SERVERS", dns::server());
    })
    .await
}

const CONFIGURED: &str = "singleSignOn { issuer clientId clientSecret { isSet fingerprint } provisioning passwordSignIn callbackUrl workedAt }";
const SIGNED_IN: &str = "user { id email displayName status } session { accessToken refreshToken }";

async fn configuration(ada: &Actor, provider: &Provider) -> Value {
    json!({
        "organizationId": ada.organization().await, "issuer": provider.issuer, "clientId": CLIENT, "clientSecret": SECRET,
    })
}

/// Ada's organization has verified `corp.example`, and has that provider.
async fn connected(app: &App, provisioning: &str) -> (Actor, Provider) {
    let ada = app.set_up().await;
    let provider = Provider::start().await;
    verified(app, "example", "corp.example").await;
    let mut input = configuration(&ada, &provider).await;
    input["provisioning"] = json!(provisioning);
    ada.mutate("configureSingleSignOn", input, CONFIGURED).await.ok();
    (ada, provider)
}

/// As an operator's command does.
async fn verified(app: &App, slug: &str, domain: &str) {
    let added = app
        .sql(&format!(
            "INSERT INTO organization_domains (organization_id, domain, verified_at, created_at)
             SELECT id, '{domain}', created_at, created_at FROM organizations WHERE slug = '{slug}'"
        ))
        .await;
    assert_eq!(added, 1);
}

/// A browser that began to sign in.
struct Begun {
    url: String,
    secret: String,
}

async fn begin(app: &App, input: Value) -> Begun {
    let answer =
        app.anonymous().mutate("startSingleSignOn", input, "authorizationUrl secret expiresAt").await.ok();
    Begun {
        url: answer.text("/startSingleSignOn/authorizationUrl").to_owned(),
        secret: answer.text("/startSingleSignOn/secret").to_owned(),
    }
}

/// Why it was refused, with that code.
#[track_caller]
fn refusal(answer: Answer, code: &str) -> Value {
    answer.refused(code).user_errors()[0].clone()
}

fn location(page: &Page) -> String {
    page.headers[header::LOCATION].to_str().unwrap().to_owned()
}

/// Follows to the provider, who knows the person, and gives where it sends the browser.
async fn at_provider(app: &App, begun: &Begun) -> String {
    let page = app.anonymous().get(&begun.url).await;
    assert_eq!(page.status, StatusCode::FOUND, "{page:?}");
    location(&page)
}

fn parameter(url: &str, name: &str) -> Option<String> {
    Url::parse(url).unwrap().query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

const HOME: &str = "https://app.example.org/signed-in?lang=fr";

/// Walks to where the browser goes on: a code, or an error.
async fn walked(app: &App, begun: &Begun) -> Result<String, String> {
    let back = at_provider(app, begun).await;
    let page = app.anonymous().get(&back).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{page:?}");
    assert_eq!(page.headers[header::REFERRER_POLICY], "no-referrer");
    let home = location(&page);
    assert!(home.starts_with(HOME), "{home}");
    parameter(&home, "code").ok_or_else(|| parameter(&home, "error").unwrap())
}

async fn finish(app: &App, code: &str, secret: &str) -> Answer {
    app.anonymous().mutate("finishSingleSignOn", json!({ "code": code, "secret": secret }), SIGNED_IN).await
}

/// Signs in at the provider, and finishes.
async fn sign_in(app: &App, email: &str) -> Answer {
    let begun = begin(app, json!({ "email": email, "redirectTo": HOME })).await;
    let code = walked(app, &begun).await.unwrap();
    finish(app, &code, &begun.secret).await
}

/// The same, and who was signed in.
async fn signed_in(app: &App, email: &str) -> Actor {
    let answer = sign_in(app, email).await.ok();
    let text = |at: &str| answer.text(&format!("/finishSingleSignOn{at}")).to_owned();
    let mut actor = Actor::machine(&app.url, &text("/session/accessToken"));
    actor.id = text("/user/id");
    actor.email = text("/user/email");
    actor.name = text("/user/displayName");
    actor.refresh_token = Some(text("/session/refreshToken"));
    actor
}

async fn organizations(actor: &Actor) -> Vec<String> {
    let answer =
        actor.query("{ viewer { organizations { nodes { slug viewerRole } } } }", json!({})).await.ok();
    let nodes = answer.data("/viewer/organizations/nodes").as_array().unwrap();
    nodes
        .iter()
        .map(|node| format!("{} {}", node["slug"].as_str().unwrap(), node["viewerRole"].as_str().unwrap()))
        .collect()
}

async fn accounts(app: &App) -> i64 {
    app.number("SELECT count(*) FROM users").await
}

async fn whoever_is_invited_signs_in_and_finds_the_invitation(app: App) {
    let (ada, provider) = connected(&app, "INVITED_ONLY").await;
    let lab = ada.workspace("Lab").await;
    ada.invite(&lab, "eve@corp.example", "EDITOR").await.ok();
    provider.is("s-eve", "Eve@Corp.example");
    let eve = signed_in(&app, "eve@corp.example").await;
    assert_eq!((eve.email.as_str(), eve.name.as_str()), ("eve@corp.example", "Somebody New"));
    assert_eq!(organizations(&eve).await, Vec::<String>::new(), "signing in consents to nothing");
    let document = "{ viewer { invitations { nodes { id status } } } }";
    let waits = eve.query(document, json!({})).await.ok();
    assert_eq!(waits.data("/viewer/invitations/nodes/0/status"), "PENDING");
    let input = json!({ "invitationId": waits.data("/viewer/invitations/nodes/0/id") });
    eve.mutate("acceptInvitation", input, "").await.ok();
    assert_eq!(organizations(&eve).await, ["example MEMBER"]);
    let again = signed_in(&app, "eve@corp.example").await;
    assert_eq!(again.id, eve.id);
    assert_eq!(app.number("SELECT count(*) FROM sign_on_identities").await, 1);
    assert_eq!(app.number("SELECT count(*) FROM login_activity WHERE code = 'LOGIN' AND organization_id IS NOT NULL AND user_id IN (SELECT id FROM users WHERE email = 'eve@corp.example')").await, 1);
    let worked = ada.query(
        "query($id: ID!) { node(id: $id) { ... on Organization { singleSignOn { workedAt } } } }",
        json!({ "id": ada.organization().await }),
    );
    assert!(worked.await.ok().data("/node/singleSignOn/workedAt").is_string());
}

async fn whoever_has_an_address_in_the_domain_becomes_a_member(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    provider.is("s-eve", "eve@corp.example");
    let eve = signed_in(&app, "eve@corp.example").await;
    assert_eq!(organizations(&eve).await, ["example MEMBER"]);
    assert_eq!(accounts(&app).await, 2);
    signed_in(&app, "eve@corp.example").await;
    assert_eq!(accounts(&app).await, 2);
    let log = ada
        .query(
            "query($id: ID!) { node(id: $id) { ... on Organization { auditLog(first: 1) { nodes { action actor { id } object { kind id } after } } } } }",
            json!({ "id": ada.organization().await }),
        )
        .await
        .ok();
    assert_eq!(
        log.data("/node/auditLog/nodes/0"),
        &json!({
            "action": "finishSingleSignOn", "actor": { "id": eve.id },
            "object": { "kind": "ORGANIZATION_MEMBER", "id": eve.id },
            "after": { "email": "eve@corp.example", "role": "MEMBER", "issuer": provider.issuer },
        })
    );
    // Somebody who has an account of another organization keeps it.
    provider.is("s-olga", "olga@corp.example");
    let olga = app.stranger("olga@corp.example", "Olga").await;
    let same = signed_in(&app, "olga@corp.example").await;
    assert_eq!((&same.id, same.name.as_str()), (&olga.id, "Olga"));
    let mut places = organizations(&olga.again().await).await;
    places.sort();
    assert_eq!(places.len(), 2, "{places:?}");
    assert_eq!(places[0], "example MEMBER");
}

async fn who_joins_takes_a_seat(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    let input = |limit: i64, organization: &str| json!({ "organizationId": organization, "metric": "MEMBERS", "limit": limit });
    let organization = ada.organization().await;
    ada.mutate("setQuota", input(1, &organization), "").await.ok();
    provider.is("s-eve", "eve@corp.example");
    sign_in(&app, "eve@corp.example").await.refused("QUOTA_EXCEEDED");
    assert_eq!(accounts(&app).await, 1, "nothing is half-written");
    // A seat that waits for somebody else is taken by nobody.
    ada.mutate("setQuota", input(2, &organization), "").await.ok();
    let invited = ada.invite(app.default_workspace(), "ivan@example.org", "VIEWER").await.ok();
    sign_in(&app, "eve@corp.example").await.refused("QUOTA_EXCEEDED");
    let revoke = json!({ "workspaceId": app.default_workspace().id, "invitationId": invited.data("/inviteMember/invitation/id") });
    ada.mutate("revokeInvitation", revoke, "").await.ok();
    signed_in(&app, "eve@corp.example").await;
    // Who has a seat comes again, however few there are.
    ada.mutate("setQuota", input(0, &organization), "").await.ok();
    signed_in(&app, "eve@corp.example").await;
}

async fn an_invitation_to_the_organization_itself_is_answered_first(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    let input =
        json!({ "organizationId": ada.organization().await, "email": "eve@corp.example", "role": "ADMIN" });
    ada.mutate("inviteOrganizationMember", input, "").await.ok();
    provider.is("s-eve", "eve@corp.example");
    let eve = signed_in(&app, "eve@corp.example").await;
    assert_eq!(
        organizations(&eve).await,
        Vec::<String>::new(),
        "as a member she could not become an admin by it"
    );
    let waits = eve.query("{ viewer { invitations { nodes { id } } } }", json!({})).await.ok();
    let input = json!({ "invitationId": waits.data("/viewer/invitations/nodes/0/id") });
    eve.mutate("acceptInvitation", input, "").await.ok();
    assert_eq!(organizations(&eve).await, ["example ADMIN"]);
    assert_eq!(signed_in(&app, "eve@corp.example").await.id, eve.id);
}

async fn who_is_neither_member_nor_invited_stays_outside(app: App) {
    let (ada, provider) = connected(&app, "INVITED_ONLY").await;
    provider.is("s-eve", "eve@corp.example");
    // Who is turned away takes no seat, and nobody is warned that there are few.
    let quota = json!({ "organizationId": ada.organization().await, "metric": "MEMBERS", "limit": 2 });
    ada.mutate("setQuota", quota, "").await.ok();
    sign_in(&app, "eve@corp.example").await.refused("NOT_INVITED");
    assert_eq!(app.number("SELECT count(*) FROM quotas WHERE warned_most IS NOT NULL").await, 0);
    ada.mutate(
        "setQuota",
        json!({ "organizationId": ada.organization().await, "metric": "MEMBERS", "limit": null }),
        "",
    )
    .await
    .ok();
    sign_in(&app, "eve@corp.example").await.refused("NOT_INVITED");
    assert_eq!(accounts(&app).await, 1);
    let lab = ada.workspace("Lab").await;
    let invited = ada.invite(&lab, "eve@corp.example", "EDITOR").await.ok();
    let input = json!({ "workspaceId": lab.id, "invitationId": invited.data("/inviteMember/invitation/id") });
    ada.mutate("revokeInvitation", input, "").await.ok();
    sign_in(&app, "eve@corp.example").await.refused("NOT_INVITED");
    ada.invite(&lab, "eve@corp.example", "EDITOR").await.ok();
    app.sql("UPDATE invitations SET expires_at = created_at WHERE status = 'PENDING'").await;
    sign_in(&app, "eve@corp.example").await.refused("NOT_INVITED");
    // An invitation of another organization is none of this one.
    let olga = app.stranger("olga@example.org", "Olga").await;
    let attic = olga.workspace("Attic").await;
    olga.invite(&attic, "eve@corp.example", "EDITOR").await.ok();
    sign_in(&app, "eve@corp.example").await.refused("NOT_INVITED");
    assert_eq!(accounts(&app).await, 2);
}

/// The server's own time, which the tests move.
fn provider_time(app: &App) -> i64 {
    app.db().now().timestamp()
}

async fn a_provider_is_believed_of_verified_domains_alone(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    let bob = app.person("bob@other.example", "Bob").await;
    for email in [
        "ada@example.org",
        "bob@other.example",
        "eve@sub.corp.example",
        "eve@corp.example.org",
        "eve@xcorp.example",
    ] {
        provider.is("s-1", email);
        sign_in(&app, "eve@corp.example").await.refused("DOMAIN_UNVERIFIED");
    }
    let input = json!({ "organizationId": ada.organization().await, "domain": "other.example" });
    ada.mutate("addDomain", input, "").await.ok();
    provider.is("s-1", &bob.email);
    sign_in(&app, "eve@corp.example").await.refused("DOMAIN_UNVERIFIED");
    // What is verified for another organization is not for this one.
    let olga = app.stranger("olga@example.org", "Olga").await;
    app.sql("UPDATE organization_domains SET verified_at = created_at, organization_id = (SELECT id FROM organizations WHERE slug <> 'example') WHERE domain = 'other.example'").await;
    sign_in(&app, "eve@corp.example").await.refused("DOMAIN_UNVERIFIED");
    drop(olga);
    let input = json!({ "organizationId": ada.organization().await, "domain": "corp.example" });
    provider.is("s-1", "eve@corp.example");
    let begun = begin(&app, json!({ "organization": "example", "redirectTo": HOME })).await;
    let code = walked(&app, &begun).await.unwrap();
    ada.mutate("removeDomain", input, "removedDomain").await.ok();
    finish(&app, &code, &begun.secret).await.refused("DOMAIN_UNVERIFIED");
    assert_eq!(app.number("SELECT count(*) FROM sign_on_identities").await, 0);
}

async fn the_subject_counts_and_not_the_address(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    provider.is("s-eve", "eve@corp.example");
    let eve = signed_in(&app, "eve@corp.example").await;
    // She married.
    provider.is("s-eve", "eva.new@corp.example");
    let again = signed_in(&app, "eve@corp.example").await;
    assert_eq!((&again.id, again.email.as_str()), (&eve.id, "eve@corp.example"));
    assert_eq!(accounts(&app).await, 2);
    // The address goes to somebody else.
    provider.is("s-other", "eve@corp.example");
    sign_in(&app, "eve@corp.example").await.refused("IDENTITY_MISMATCH");
    let input = json!({ "organizationId": ada.organization().await, "userId": eve.id });
    ada.mutate("removeOrganizationMember", input, "").await.ok();
    assert_eq!(app.number("SELECT count(*) FROM sign_on_identities").await, 0, "it goes with the place");
    assert_eq!(signed_in(&app, "eve@corp.example").await.id, eve.id);
    // An account whose address has moved elsewhere is the provider's no more.
    app.sql("UPDATE users SET email = 'eve@private.example' WHERE email = 'eve@corp.example'").await;
    sign_in(&app, "eve@corp.example").await.refused("DOMAIN_UNVERIFIED");
}

async fn who_is_disabled_stays_outside(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    provider.is("s-eve", "eve@corp.example");
    let eve = signed_in(&app, "eve@corp.example").await;
    let input = json!({ "organizationId": ada.organization().await, "userId": eve.id });
    ada.mutate("disableUser", input.clone(), "").await.ok();
    sign_in(&app, "eve@corp.example").await.refused("USER_DISABLED");
    assert_eq!(app.number("SELECT count(*) FROM login_activity WHERE code = 'DISABLED'").await, 1);
    ada.mutate("enableUser", input, "").await.ok();
    signed_in(&app, "eve@corp.example").await;
    app.sql("UPDATE users SET status = 'DISABLED' WHERE email = 'eve@corp.example'").await;
    sign_in(&app, "eve@corp.example").await.refused("USER_DISABLED");
}

async fn who_has_no_password_sets_one_by_mail(app: App) {
    let (_, provider) = connected(&app, "DOMAIN").await;
    provider.is("s-eve", "eve@corp.example");
    let eve = signed_in(&app, "eve@corp.example").await;
    let guess = json!({ "email": eve.email, "password": "" });
    app.anonymous().mutate("signIn", guess, "").await.refused("INVALID_CREDENTIALS");
    let change = json!({ "currentPassword": "", "newPassword": "granite otter violin 8 lantern" });
    eve.mutate("changePassword", change, "").await.refused("INVALID_CREDENTIALS");
    app.anonymous().mutate("requestPasswordReset", json!({ "email": eve.email }), "").await.ok();
    let link = app.mail_to(&eve.email).await.link();
    let token = link.rsplit_once("token=").unwrap().1;
    let input = json!({ "token": token, "newPassword": "granite otter violin 8 lantern" });
    app.anonymous().mutate("resetPassword", input, "").await.ok();
    let same = Actor::sign_in(&app.url, &eve.email, "granite otter violin 8 lantern").await;
    assert_eq!(same.id, eve.id);
}

async fn lies_are_not_believed(app: App) {
    let (_, provider) = connected(&app, "DOMAIN").await;
    let later = provider_time(&app) + 3600;
    let told = async |lie: &Lie| {
        provider.is("s-eve", "eve@corp.example");
        provider.lies(lie.clone());
        let begun = begin(&app, json!({ "email": "eve@corp.example", "redirectTo": HOME })).await;
        walked(&app, &begun).await
    };
    for lie in [
        Lie::Claim("nonce", json!("another")),
        Lie::Claim("nonce", Value::Null),
        Lie::Claim("iss", json!("https://login.other.example")),
        Lie::Claim("aud", json!("another")),
        Lie::Claim("aud", json!([CLIENT, "another"])),
        Lie::Claim("azp", json!("another")),
        Lie::Claim("exp", json!(1_700_000_000)),
        Lie::Claim("exp", Value::Null),
        Lie::Claim("iat", json!(later)),
        Lie::Claim("nbf", json!(later)),
        Lie::Claim("sub", json!("")),
        Lie::AlgNone,
        Lie::PublicKeyAsSecret,
        Lie::ClientSecretAsSecret,
        Lie::UnknownKey,
        Lie::Tampered,
        Lie::OtherName,
    ] {
        assert_eq!(told(&lie).await, Err("PROVIDER_FAILED".to_owned()), "{lie:?}");
    }
    for lie in [
        Lie::Claim("email_verified", json!(false)),
        Lie::Claim("email_verified", json!("no")),
        Lie::Claim("email_verified", Value::Null),
        Lie::Claim("email", json!("nobody")),
    ] {
        assert_eq!(told(&lie).await, Err("EMAIL_UNVERIFIED".to_owned()), "{lie:?}");
    }
    assert_eq!(told(&Lie::Denies).await, Err("PROVIDER_REFUSED".to_owned()));
    assert!(told(&Lie::None).await.is_ok(), "the truth is");
    assert_eq!(accounts(&app).await, 1);
}

async fn answers_that_are_none_do_no_harm(app: App) {
    let (_, provider) = connected(&app, "DOMAIN").await;
    let start = json!({ "email": "eve@corp.example", "redirectTo": HOME });
    let mut lies = vec![
        Lie::Redirects(format!("{}/readyz", app.url)),
        Lie::Redirects("http://169.254.169.254/latest/meta-data".to_owned()),
        Lie::Huge,
        Lie::Garbage,
        Lie::Silent,
    ];
    for lie in &lies {
        provider.lies(lie.clone());
        app.anonymous().mutate("startSingleSignOn", start.clone(), "secret").await.refused("PROVIDER_FAILED");
    }
    provider.lies(Lie::None);
    provider.is("s-eve", "eve@corp.example");
    lies.pop();
    for lie in lies {
        let begun = begin(&app, start.clone()).await;
        let back = at_provider(&app, &begun).await;
        provider.lies(lie.clone());
        let home = location(&app.anonymous().get(&back).await);
        assert_eq!(parameter(&home, "error").as_deref(), Some("PROVIDER_FAILED"), "{lie:?}");
        provider.lies(Lie::None);
    }
}

async fn nothing_is_sent_where_it_may_not_be(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    provider.is("s-eve", "eve@corp.example");
    let start = json!({ "email": "eve@corp.example", "redirectTo": HOME });
    for (field, value) in [
        ("issuer", json!(format!("{}/", provider.issuer))),
        ("authorization_endpoint", json!("javascript:alert(1)")),
        ("authorization_endpoint", json!("http://login.example.org/authorize")),
        ("token_endpoint", json!("http://10.0.0.1/token")),
        ("token_endpoint", json!("file:///etc/passwd")),
        ("jwks_uri", json!("http://[::1]/keys")),
        ("userinfo_endpoint", json!("gopher://127.0.0.1/me")),
        ("token_endpoint", Value::Null),
    ] {
        provider.lies(Lie::Document(field, value.clone()));
        let answer = app.anonymous().mutate("startSingleSignOn", start.clone(), "secret").await;
        assert_eq!(refusal(answer, "PROVIDER_FAILED")["field"], Value::Null, "{field} {value}");
    }
    // By https, so that it stands in the document; nobody is connected to.
    for (field, value) in [
        ("token_endpoint", "https://169.254.169.254/token"),
        ("token_endpoint", "https://localhost:1/token"),
        ("jwks_uri", "https://10.0.0.1/keys"),
    ] {
        // Another provider, since what the first said is remembered.
        let provider = Provider::start().await;
        provider.is("s-eve", "eve@corp.example");
        ada.mutate("configureSingleSignOn", configuration(&ada, &provider).await, "").await.ok();
        provider.lies(Lie::Document(field, json!(value)));
        let begun = begin(&app, start.clone()).await;
        assert_eq!(walked(&app, &begun).await, Err("PROVIDER_FAILED".to_owned()), "{field} {value}");
    }
}

async fn a_new_key_is_fetched(app: App) {
    let (_, provider) = connected(&app, "DOMAIN").await;
    provider.is("s-eve", "eve@corp.example");
    signed_in(&app, "eve@corp.example").await;
    assert_eq!(provider.heard(), ["discovery", "authorize", "token", "keys"]);
    signed_in(&app, "eve@corp.example").await;
    assert_eq!(provider.heard(), ["authorize", "token"], "the rest is remembered");
    provider.rotates();
    signed_in(&app, "eve@corp.example").await;
    assert_eq!(provider.heard(), ["authorize", "token", "keys"]);
}

async fn a_brief_token_is_completed_by_asking(app: App) {
    let (_, provider) = connected(&app, "DOMAIN").await;
    provider.is_brief();
    provider.is("s-eve", "eve@corp.example");
    let eve = signed_in(&app, "eve@corp.example").await;
    assert_eq!(eve.name, "Somebody New");
    assert_eq!(provider.heard().last().map(String::as_str), Some("user info"));
    provider.lies(Lie::OtherUser);
    let begun = begin(&app, json!({ "email": "eve@corp.example", "redirectTo": HOME })).await;
    assert_eq!(walked(&app, &begun).await, Err("PROVIDER_FAILED".to_owned()));
    provider.lies(Lie::None);
    provider.says(json!({ "sub": "s-eve", "email": "eve@corp.example" }));
    let begun = begin(&app, json!({ "email": "eve@corp.example", "redirectTo": HOME })).await;
    assert_eq!(walked(&app, &begun).await, Err("EMAIL_UNVERIFIED".to_owned()));
}

async fn code_and_secret_are_good_together_and_once(app: App) {
    let (_, provider) = connected(&app, "DOMAIN").await;
    provider.is("s-eve", "eve@corp.example");
    let start = json!({ "email": "eve@corp.example", "redirectTo": HOME });
    let (mine, theirs) = (begin(&app, start.clone()).await, begin(&app, start.clone()).await);
    // Who puts a code of their own into another's browser gets nobody in, and neither does who takes one from there.
    let code = walked(&app, &mine).await.unwrap();
    finish(&app, &code, &theirs.secret).await.refused("SIGN_ON_INVALID");
    finish(&app, &code, &mine.secret).await.refused("SIGN_ON_INVALID");
    let back = at_provider(&app, &theirs).await;
    let code = parameter(&location(&app.anonymous().get(&back).await), "code").unwrap();
    let again = app.anonymous().get(&back).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND, "a browser comes back once");
    assert!(again.headers.get(header::LOCATION).is_none());
    finish(&app, &code, &theirs.secret).await.ok();
    finish(&app, &code, &theirs.secret).await.refused("SIGN_ON_INVALID");
    for state in ["", "guessed", "%00"] {
        let page = app.anonymous().get(&format!("/sso/callback/example?code=1&state={state}")).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND);
    }
    for (code, secret) in [("", ""), ("guessed", &mine.secret), ("\0", "\0")] {
        finish(&app, code, secret).await.refused("SIGN_ON_INVALID");
    }
    // Nothing of it is in the database as it is.
    let begun = begin(&app, start).await;
    let state = parameter(&begun.url, "state").unwrap();
    let code = walked(&app, &begun).await.unwrap();
    let everything = app.everything().await.join("\n");
    for secret in [&state, &begun.secret, &code, &parameter(&begun.url, "nonce").unwrap()] {
        let hex = hex::encode(secret.as_str());
        assert!(!everything.contains(secret.as_str()) && !everything.to_lowercase().contains(&hex));
    }
    assert!(!everything.contains(SECRET));
}

async fn a_sign_in_is_over_in_time(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    provider.is("s-eve", "eve@corp.example");
    let start = json!({ "email": "eve@corp.example", "redirectTo": HOME });
    let begun = begin(&app, start.clone()).await;
    let code = walked(&app, &begun).await.unwrap();
    app.advance(TimeDelta::minutes(2));
    finish(&app, &code, &begun.secret).await.refused("SIGN_ON_INVALID");
    let begun = begin(&app, start.clone()).await;
    let back = at_provider(&app, &begun).await;
    app.advance(TimeDelta::minutes(15));
    assert_eq!(app.anonymous().get(&back).await.status, StatusCode::NOT_FOUND);
    guildhall_persistence::housekeeping::sweep(app.db()).await.unwrap();
    assert_eq!(app.number("SELECT count(*) FROM sign_on_attempts").await, 0);
    let begun = begin(&app, start).await;
    let ada = ada.again().await;
    let input = json!({ "organizationId": ada.organization().await });
    ada.mutate("removeSingleSignOn", input.clone(), "organizationId").await.ok();
    let back = at_provider(&app, &begun).await;
    assert_eq!(app.anonymous().get(&back).await.status, StatusCode::NOT_FOUND, "it goes with its provider");
    ada.mutate("removeSingleSignOn", input, "").await.refused("NOT_FOUND");
}

async fn of_those_who_come_at_once_one_gets_in(app: App) {
    let (_, provider) = connected(&app, "DOMAIN").await;
    provider.is("s-eve", "eve@corp.example");
    let start = json!({ "email": "eve@corp.example", "redirectTo": HOME });
    let begun = begin(&app, start.clone()).await;
    let back = at_provider(&app, &begun).await;
    let browser = app.anonymous();
    let pages = join_all((0..6).map(|_| browser.get(&back))).await;
    let came: Vec<_> = pages.iter().filter(|page| page.status == StatusCode::SEE_OTHER).collect();
    assert_eq!(came.len(), 1);
    let code = parameter(&location(came[0]), "code").unwrap();
    let answers = join_all((0..6).map(|_| finish(&app, &code, &begun.secret))).await;
    let (got, rest): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.user_errors().is_empty());
    assert_eq!(got.len(), 1);
    assert!(rest.iter().all(|answer| answer.user_error() == "SIGN_ON_INVALID"));
    assert_eq!(app.number("SELECT count(*) FROM sessions WHERE identity_provider_id IS NOT NULL").await, 1);
    // One person on several devices at once, for the first time.
    provider.is("s-max", "max@corp.example");
    let mut ready = Vec::new();
    for _ in 0..4 {
        let begun = begin(&app, start.clone()).await;
        ready.push((walked(&app, &begun).await.unwrap(), begun.secret));
    }
    let answers = join_all(ready.iter().map(|(code, secret)| finish(&app, code, secret))).await;
    let mut ids: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.ok().text("/finishSingleSignOn/user/id").to_owned())
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

async fn browsers_go_on_only_where_they_may(app: App) {
    let (_, provider) = connected(&app, "DOMAIN").await;
    provider.is("s-eve", "eve@corp.example");
    for target in [
        "https://evil.example/",
        "https://app.example.org.evil.example/",
        "https://app.example.org@evil.example/",
        "http://app.example.org/",
        "https://app.example.org:444/",
        "//evil.example/",
        "/home",
        "javascript:alert(1)",
        "data:text/html,x",
        "https:app.example.org",
        "",
    ] {
        let input = json!({ "email": "eve@corp.example", "redirectTo": target });
        let refused = app.anonymous().mutate("startSingleSignOn", input, "secret").await;
        if target == "https:app.example.org" {
            // Which browsers read as https://app.example.org.
            refused.ok();
            continue;
        }
        assert_eq!(refusal(refused, "INVALID_INPUT")["field"], json!(["redirectTo"]), "{target}");
    }
    let own = format!("{}/playground#x", app.url);
    let begun = begin(&app, json!({ "organization": "example", "redirectTo": own })).await;
    let home = location(&app.anonymous().get(&at_provider(&app, &begun).await).await);
    assert!(home.starts_with(&format!("{}/playground?code=", app.url)), "{home}");
    // Where nowhere is named, a page shows the code.
    let begun = begin(&app, json!({ "email": "eve@corp.example" })).await;
    let page = app.anonymous().get(&at_provider(&app, &begun).await).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");
    let code = page.text().split("<p>").find_map(|part| {
        let code = part.split("</p>").next()?;
        (code.len() == 43 && !code.contains(' ')).then(|| code.to_owned())
    });
    finish(&app, &code.expect("a code"), &begun.secret).await.ok();
    provider.lies(Lie::Denies);
    let begun = begin(&app, json!({ "email": "eve@corp.example" })).await;
    let page = app.anonymous().get(&at_provider(&app, &begun).await).await;
    assert!(page.status == StatusCode::BAD_GATEWAY && page.text().contains("You are not signed in"));
}

async fn nobody_learns_what_there_is(app: App) {
    let (ada, _) = connected(&app, "DOMAIN").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    verified(&app, &format!("of-{}", olga.id.trim_start_matches("usr_")), "olga.example").await;
    let input = json!({ "organizationId": ada.organization().await, "domain": "waiting.example" });
    ada.mutate("addDomain", input, "").await.ok();
    let mut answers = Vec::new();
    for input in [
        json!({ "email": "nobody@nowhere.example" }),
        json!({ "email": "ada@example.org" }),
        json!({ "email": "eve@olga.example" }),
        json!({ "email": "eve@waiting.example" }),
        json!({ "organization": "nobody" }),
        json!({ "organization": "default" }),
        json!({ "organization": "\0" }),
        json!({ "organization": format!("of-{}", olga.id.trim_start_matches("usr_")) }),
    ] {
        let answer = app.anonymous().mutate("startSingleSignOn", input, "secret").await;
        answers.push(refusal(answer, "SINGLE_SIGN_ON_UNAVAILABLE"));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    for input in [json!({}), json!({ "email": "eve@corp.example", "organization": "example" })] {
        app.anonymous().mutate("startSingleSignOn", input, "secret").await.refused("INVALID_INPUT");
    }
}

async fn trying_leaves_nothing(app: App) {
    let (_, provider) = connected(&app, "DOMAIN").await;
    provider.is("s-eve", "eve@corp.example");
    let input = json!({ "email": "eve@corp.example", "redirectTo": HOME });
    let anonymous = app.anonymous();
    let tried = anonymous
        .mutate_with("dryRun: true", "startSingleSignOn", input.clone(), "authorizationUrl secret")
        .await;
    assert_eq!(
        tried.ok().data("/startSingleSignOn"),
        &json!({ "authorizationUrl": null, "secret": null, "userErrors": [] })
    );
    assert_eq!(provider.heard(), Vec::<String>::new(), "nobody is asked for a trial");
    assert_eq!(app.number("SELECT count(*) FROM sign_on_attempts").await, 0);
    let begun = begin(&app, input).await;
    let code = walked(&app, &begun).await.unwrap();
    let finishing = json!({ "code": code, "secret": begun.secret });
    let tried = anonymous.mutate_with("dryRun: true", "finishSingleSignOn", finishing, SIGNED_IN).await.ok();
    assert_eq!(tried.data("/finishSingleSignOn/session"), &Value::Null);
    assert_eq!(tried.data("/finishSingleSignOn/user/email"), "eve@corp.example");
    assert_eq!(accounts(&app).await, 1);
    finish(&app, &code, &begun.secret).await.ok();
}

async fn a_configuration_is_checked_and_its_secret_shown_to_nobody(app: App) {
    let ada = app.set_up().await;
    let provider = Provider::start().await;
    let good = configuration(&ada, &provider).await;
    for (field, value, code) in [
        ("issuer", "http://10.0.0.1", "DESTINATION_REFUSED"),
        ("issuer", "https://169.254.169.254", "DESTINATION_REFUSED"),
        ("issuer", "https://[::1]", "DESTINATION_REFUSED"),
        ("issuer", "http://login.example.org", "DESTINATION_REFUSED"),
        ("issuer", "https://login.example.org?x=1", "INVALID_INPUT"),
        ("issuer", "login.example.org", "INVALID_INPUT"),
        ("clientId", "", "INVALID_INPUT"),
        ("clientSecret", " padded", "INVALID_INPUT"),
    ] {
        let mut input = good.clone();
        input[field] = json!(value);
        let answer = ada.mutate("configureSingleSignOn", input, CONFIGURED).await;
        assert_eq!(refusal(answer, code)["field"], json!([field]), "{value}");
    }
    let mut without = good.clone();
    without["clientSecret"] = Value::Null;
    let answer = ada.mutate("configureSingleSignOn", without, "").await;
    assert_eq!(refusal(answer, "INVALID_INPUT")["field"], json!(["clientSecret"]));
    let (made, entry) = did(&app, &ada, "configureSingleSignOn", good, CONFIGURED).await;
    let made = made.data("/configureSingleSignOn/singleSignOn").clone();
    assert_eq!((&made["provisioning"], &made["passwordSignIn"]), (&json!("INVITED_ONLY"), &json!(true)));
    assert_eq!(made["callbackUrl"], json!(format!("{}/sso/callback/example", app.url)));
    assert_eq!((&made["workedAt"], &made["clientSecret"]["isSet"]), (&Value::Null, &json!(true)));
    assert_eq!(entry["after"]["clientSecret"]["fingerprint"], made["clientSecret"]["fingerprint"]);
    let fields = json!({ "organizationId": ada.organization().await, "issuer": provider.issuer, "clientId": CLIENT,
        "provisioning": "DOMAIN" });
    let (changed, entry) = did(&app, &ada, "configureSingleSignOn", fields.clone(), CONFIGURED).await;
    assert_eq!(changed.data("/configureSingleSignOn/singleSignOn/clientSecret"), &made["clientSecret"]);
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "provisioning": "INVITED_ONLY" }), &json!({ "provisioning": "DOMAIN" }))
    );
    let mut off = fields;
    off["passwordSignIn"] = json!(false);
    ada.mutate("configureSingleSignOn", off, "").await.refused("PROVIDER_UNPROVEN");
    let hex = hex::encode(SECRET);
    let everything = app.everything().await.join("\n").to_lowercase();
    assert!(!everything.contains(&SECRET.to_lowercase()) && !everything.contains(&hex));
    let input = json!({ "organizationId": ada.organization().await });
    let (_, entry) = did(&app, &ada, "removeSingleSignOn", input, "organizationId").await;
    assert_eq!(entry["object"]["kind"], "IDENTITY_PROVIDER");
}

async fn a_secret_is_kept_for_its_provider_alone(app: App) {
    let (ada, _) = connected(&app, "DOMAIN").await;
    let other = Provider::start().await;
    for (field, value) in [("issuer", other.issuer.as_str()), ("clientId", "another")] {
        let mut input = configuration(&ada, &other).await;
        let present = ada
            .query("query($id: ID!) { node(id: $id) { ... on Organization { singleSignOn { issuer clientId } } } }",
                json!({ "id": ada.organization().await }))
            .await
            .ok();
        for same in ["issuer", "clientId"] {
            input[same] = present.data(&format!("/node/singleSignOn/{same}")).clone();
        }
        input[field] = json!(value);
        input["clientSecret"] = Value::Null;
        let answer = ada.mutate("configureSingleSignOn", input, "").await;
        assert_eq!(refusal(answer, "INVALID_INPUT")["field"], json!(["clientSecret"]), "{field}");
    }
    assert_eq!(other.heard(), Vec::<String>::new());
}

async fn admins_alone_see_and_change_it(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    let eve = app.member(app.default_workspace(), SystemRole::Admin, "Eve").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let id = ada.organization().await;
    let own = olga.organization().await;
    for field in ["singleSignOn { issuer }", "domains { domain recordValue }"] {
        let document = format!("query($id: ID!) {{ node(id: $id) {{ ... on Organization {{ {field} }} }} }}");
        eve.query(&document, json!({ "id": id })).await.denied("FORBIDDEN");
        let unseen = olga.query(&document, json!({ "id": id })).await.ok();
        assert_eq!(unseen.data("/node"), &Value::Null);
        let mine = olga.query(&document, json!({ "id": own })).await.ok();
        assert!(!mine.to_string().contains(&provider.issuer) && !mine.to_string().contains("corp.example"));
    }
    let inputs = [
        ("configureSingleSignOn", configuration(&ada, &provider).await),
        ("removeSingleSignOn", json!({ "organizationId": id })),
        ("addDomain", json!({ "organizationId": id, "domain": "more.example" })),
        ("verifyDomain", json!({ "organizationId": id, "domain": "corp.example" })),
        ("removeDomain", json!({ "organizationId": id, "domain": "corp.example" })),
    ];
    for (mutation, input) in inputs {
        eve.mutate(mutation, input.clone(), "").await.denied("FORBIDDEN");
        olga.mutate(mutation, input.clone(), "").await.denied("NOT_FOUND");
        app.anonymous().mutate(mutation, input, "").await.denied("UNAUTHENTICATED");
    }
    let foreign = json!({ "organizationId": own, "domain": "corp.example" });
    for mutation in ["verifyDomain", "removeDomain"] {
        olga.mutate(mutation, foreign.clone(), "").await.refused("NOT_FOUND");
    }
    let count = "SELECT count(*) FROM organization_domains WHERE verified_at IS NOT NULL";
    assert_eq!(app.number(count).await, 1);
}

const DOMAIN: &str = "domain { domain isVerified verifiedAt recordName recordValue }";

async fn a_domain_is_verified_by_its_record(app: App) {
    let ada = app.set_up().await;
    let id = ada.organization().await;
    let domain = format!("proven-{:?}.example", app.engine()).to_lowercase();
    let input = json!({ "organizationId": id, "domain": domain });
    ada.mutate("verifyDomain", input.clone(), DOMAIN).await.refused("NOT_FOUND");
    let added = ada.mutate("addDomain", input.clone(), DOMAIN).await.ok();
    let text = |field: &str| added.text(&format!("/addDomain/domain/{field}")).to_owned();
    let (name, value) = (text("recordName"), text("recordValue"));
    let refused = ada.mutate("verifyDomain", input.clone(), DOMAIN).await;
    let message = refusal(refused, "RECORD_MISSING")["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&name) && message.contains(&value), "{message}");
    dns::publish(&name, &["v=spf1 -all"]);
    dns::publish(&name, &[&format!("{value}0")]);
    dns::publish(&domain, &[&value]);
    ada.mutate("verifyDomain", input.clone(), DOMAIN).await.refused("RECORD_MISSING");
    dns::fail(&name);
    ada.mutate("verifyDomain", input.clone(), DOMAIN).await.refused("LOOKUP_FAILED");
    dns::forget(&name);
    dns::publish(&name, &["v=spf1 -all"]);
    // Long texts come in parts.
    let (one, other) = value.split_at(20);
    dns::publish(&name, &[one, other]);
    let (verified, entry) = did(&app, &ada, "verifyDomain", input.clone(), DOMAIN).await;
    assert_eq!(verified.data("/verifyDomain/domain/isVerified"), true);
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "isVerified": false }), &json!({ "isVerified": true }))
    );
    ada.mutate("verifyDomain", input, DOMAIN).await.ok();

    let olga = app.stranger("olga@example.org", "Olga").await;
    let theirs = json!({ "organizationId": olga.organization().await, "domain": domain });
    let added = olga.mutate("addDomain", theirs.clone(), DOMAIN).await.ok();
    olga.mutate("verifyDomain", theirs.clone(), DOMAIN).await.refused("RECORD_MISSING");
    dns::publish(&name, &[added.text("/addDomain/domain/recordValue")]);
    olga.mutate("verifyDomain", theirs.clone(), DOMAIN).await.refused("DOMAIN_TAKEN");
    let mut last = olga.mutate("verifyDomain", theirs.clone(), DOMAIN).await;
    for _ in 0..10 {
        last = olga.mutate("verifyDomain", theirs.clone(), DOMAIN).await;
    }
    last.refused("RATE_LIMITED");
    let ours = json!({ "organizationId": id, "domain": domain });
    ada.mutate("removeDomain", ours, "removedDomain").await.ok();
    let taken = app.number("SELECT count(*) FROM organization_domains WHERE verified_at IS NOT NULL").await;
    assert_eq!(taken, 0);
}

async fn a_domain_has_one_owner(app: App) {
    let ada = app.set_up().await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let (id, own) = (ada.organization().await, olga.organization().await);
    let add = json!({ "organizationId": id, "domain": " Corp.Example " });
    let (added, entry) = did(&app, &ada, "addDomain", add.clone(), DOMAIN).await;
    let domain = added.data("/addDomain/domain").clone();
    assert_eq!((&domain["domain"], &domain["isVerified"]), (&json!("corp.example"), &json!(false)));
    assert_eq!(domain["recordName"], "_guildhall.corp.example");
    assert_eq!(entry["object"], json!({ "kind": "DOMAIN", "id": "corp.example", "name": "corp.example" }));
    ada.mutate("addDomain", add, "").await.refused("ALREADY_EXISTS");
    // Others may say the same, and prove it by another record.
    let add = json!({ "organizationId": own, "domain": "corp.example" });
    let theirs = olga.mutate("addDomain", add, DOMAIN).await.ok();
    assert_ne!(theirs.data("/addDomain/domain/recordValue"), &domain["recordValue"]);
    for number in 0..19 {
        let add = json!({ "organizationId": id, "domain": format!("corp{number}.example") });
        ada.mutate("addDomain", add, "").await.ok();
    }
    let add = json!({ "organizationId": id, "domain": "more.example" });
    ada.mutate("addDomain", add, "").await.refused("LIMIT_REACHED");
    let remove = json!({ "organizationId": id, "domain": "corp1.example" });
    did(&app, &ada, "removeDomain", remove.clone(), "removedDomain").await;
    ada.mutate("removeDomain", remove, "").await.refused("NOT_FOUND");
    let listed = ada
        .query(
            "query($id: ID!) { node(id: $id) { ... on Organization { domains { domain } } } }",
            json!({ "id": id }),
        )
        .await
        .ok();
    assert_eq!(listed.data("/node/domains").as_array().unwrap().len(), 19);
}

fn command(app: &App, arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .current_dir(app.data_dir())
        .env_clear()
        .envs(app.environment())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

async fn an_operator_s_word_is_enough(app: App) {
    let ada = app.set_up().await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let other = format!("of-{}", olga.id.trim_start_matches("usr_"));
    let told = |arguments: &[&str]| {
        let output = command(&app, &[&["admin", "verify-domain"], arguments].concat());
        let said = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.code().unwrap(), String::from_utf8(said).unwrap().trim().to_owned())
    };
    assert_eq!(told(&["example", "Corp.Example"]), (0, "corp.example is verified for example.".to_owned()));
    assert_eq!(told(&["example", "corp.example"]).0, 0);
    let taken = told(&[&other, "corp.example"]);
    assert!(
        taken.0 == 1 && taken.1.contains("is verified for example: an admin there has to remove it"),
        "{taken:?}"
    );
    assert_eq!(told(&["nobody", "corp.example"]).0, 1);
    assert_eq!(told(&["example", "corp"]).0, 1);
    let log = ada
        .query(
            "query($id: ID!) { node(id: $id) { ... on Organization { domains { domain isVerified } auditLog(first: 1) { nodes { action actor { kind } } } } } }",
            json!({ "id": ada.organization().await }),
        )
        .await
        .ok();
    assert_eq!(log.data("/node/domains"), &json!([{ "domain": "corp.example", "isVerified": true }]));
    assert_eq!(
        log.data("/node/auditLog/nodes/0"),
        &json!({ "action": "admin verify-domain", "actor": { "kind": "OPERATOR" } })
    );
}

async fn what_was_sealed_is_sealed_anew(app: App) {
    let (_, provider) = connected(&app, "DOMAIN").await;
    let before = app.rows("identity_providers").await;
    let old = app.environment().find(|(name, _)| *name == "MASTER_KEY").unwrap().1.to_owned();
    let rotate = |key: &str, previous: &str, arguments: &[&str]| {
        Command::new(binary())
            .args(arguments)
            .current_dir(app.data_dir())
            .env_clear()
            .envs(app.environment())
            .env("MASTER_KEY", key)
            .env("MASTER_KEY_PREVIOUS", previous)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    const NEW: &str = "q7Bn2XwV5kLt9ZcJ4mYh8RfD1sGp6TaE3uQoNiWx0Mw=";
    let status = rotate(NEW, &old, &["keys", "status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("1 client secret"), "{status:?}");
    let rotated = rotate(NEW, &old, &["keys", "rotate"]);
    assert!(rotated.status.success(), "{rotated:?}");
    assert!(String::from_utf8_lossy(&rotated.stdout).contains("1 client secret"), "{rotated:?}");
    assert_ne!(app.rows("identity_providers").await, before);
    // And back, so that the server which runs opens it: the secret is the same.
    let back = rotate(&old, NEW, &["keys", "rotate"]);
    assert!(back.status.success(), "{back:?}");
    provider.is("s-eve", "eve@corp.example");
    signed_in(&app, "eve@corp.example").await;
}

/// Somebody has signed in by the provider, and nothing else is good any more.
async fn switched_off(app: &App, ada: &Actor, provider: &Provider) -> Actor {
    provider.is("s-eve", "eve@corp.example");
    let eve = signed_in(app, "eve@corp.example").await;
    let mut input = configuration(ada, provider).await;
    input["provisioning"] = json!("DOMAIN");
    input["clientSecret"] = Value::Null;
    input["passwordSignIn"] = json!(false);
    let (changed, entry) = did(app, ada, "configureSingleSignOn", input, CONFIGURED).await;
    assert_eq!(changed.data("/configureSingleSignOn/singleSignOn/passwordSignIn"), false);
    assert_eq!(entry["after"], json!({ "passwordSignIn": false }));
    eve
}

const SEEN: &str = "query($n: String!) { workspace(name: $n) { id } }";

async fn passwords_can_be_switched_off_but_for_owners(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    let max = app.member(app.default_workspace(), SystemRole::Editor, "Max").await;
    let amy = app.member(app.default_workspace(), SystemRole::Viewer, "Amy").await;
    let id = ada.organization().await;
    let input = json!({ "organizationId": id, "userId": amy.id, "role": "ADMIN" });
    ada.mutate("updateOrganizationMember", input, "").await.ok();
    let home = app.default_workspace().clone();
    let named = json!({ "n": home.name });
    let (key, text) = crate::machines::key(&ada, &home, &["WORKSPACE_VIEW"]).await;
    drop(key);
    for actor in [&max, &amy] {
        assert_eq!(actor.query(SEEN, named.clone()).await.ok().data("/workspace/id"), &json!(home.id));
    }
    let mut watch = max
        .subscribe(
            "subscription($id: ID!) { workspaceChanged(workspaceId: $id) { cursor } }",
            json!({ "id": home.id }),
        )
        .await;
    let eve = switched_off(&app, &ada, &provider).await;
    for actor in [&max, &amy] {
        actor.query(SEEN, named.clone()).await.denied("SINGLE_SIGN_ON_REQUIRED");
        let input = json!({ "workspaceId": home.id, "displayName": "Mine" });
        actor.mutate("updateWorkspace", input, "").await.denied("SINGLE_SIGN_ON_REQUIRED");
        let input = json!({ "organizationId": id, "domain": "mine.example" });
        actor.mutate("addDomain", input, "").await.denied("SINGLE_SIGN_ON_REQUIRED");
        let document =
            "query($id: ID!) { node(id: $id) { ... on Organization { singleSignOn { issuer } } } }";
        actor.query(document, json!({ "id": id })).await.denied("SINGLE_SIGN_ON_REQUIRED");
        let again = Actor::sign_in(&app.url, &actor.email, &actor.password).await;
        again.query(SEEN, named.clone()).await.denied("SINGLE_SIGN_ON_REQUIRED");
        // Of themselves and of others they go on as before.
        again.query("{ viewer { user { email } invitations { totalCount } } }", json!({})).await.ok();
    }
    assert_eq!(
        ada.again().await.query(SEEN, named.clone()).await.ok().data("/workspace/id"),
        &json!(home.id)
    );
    let input = json!({ "workspaceId": home.id, "displayName": "Home" });
    ada.mutate("updateWorkspace", input, "").await.ok();
    let End::Errors(errors) = watch.ended().await else { panic!("it ends with the next event") };
    assert_eq!(errors[0]["extensions"]["code"], "SINGLE_SIGN_ON_REQUIRED");
    let machine = Actor::machine(&app.url, &text);
    machine.query(SEEN, named.clone()).await.ok();
    // Who came by the provider is there, also after a refresh, and as an admin.
    assert_eq!(organizations(&eve).await, ["example MEMBER"]);
    let input = json!({ "organizationId": id, "userId": eve.id, "role": "ADMIN" });
    ada.mutate("updateOrganizationMember", input, "").await.ok();
    assert_eq!(eve.query(SEEN, named.clone()).await.ok().data("/workspace/id"), &json!(home.id));
    let refreshed = json!({ "refreshToken": eve.refresh_token });
    let refreshed = app.anonymous().mutate("refreshSession", refreshed, "session { accessToken }").await.ok();
    let eve = Actor::machine(&app.url, refreshed.text("/refreshSession/session/accessToken"));
    assert_eq!(eve.query(SEEN, named).await.ok().data("/workspace/id"), &json!(home.id));
}

async fn the_provider_of_another_organization_is_none_of_its_own(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    switched_off(&app, &ada, &provider).await;
    // Olga's organization has a provider too, and a domain; Max belongs to both.
    let olga = app.stranger("olga@example.org", "Olga").await;
    let theirs = Provider::start().await;
    verified(&app, &format!("of-{}", olga.id.trim_start_matches("usr_")), "olga.example").await;
    let mut input = configuration(&olga, &theirs).await;
    input["provisioning"] = json!("DOMAIN");
    olga.mutate("configureSingleSignOn", input, "").await.ok();
    let max = app.person("max@olga.example", "Max").await;
    theirs.is("s-max", "max@olga.example");
    let there = signed_in(&app, "max@olga.example").await;
    assert_eq!(there.id, max.id);
    let named = json!({ "n": app.default_workspace().name });
    there.query(SEEN, named.clone()).await.denied("SINGLE_SIGN_ON_REQUIRED");
    assert_eq!(organizations(&there).await.len(), 2);
    let attic = olga.workspace("Attic").await;
    let input = json!({ "organizationId": olga.organization().await, "userId": max.id, "role": "ADMIN" });
    olga.mutate("updateOrganizationMember", input, "").await.ok();
    assert_eq!(
        there.query(SEEN, json!({ "n": attic.name })).await.ok().data("/workspace/id"),
        &json!(attic.id)
    );
}

async fn an_answer_to_another_organization_s_address_is_not_looked_at(app: App) {
    let (_, provider) = connected(&app, "DOMAIN").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    provider.is("s-eve", "eve@corp.example");
    let begun = begin(&app, json!({ "email": "eve@corp.example", "redirectTo": HOME })).await;
    let back = at_provider(&app, &begun).await;
    assert!(back.contains("/sso/callback/example?"), "{back}");
    for other in
        [format!("of-{}", olga.id.trim_start_matches("usr_")), "nobody".to_owned(), "exam%00ple".to_owned()]
    {
        let elsewhere = back.replace("/sso/callback/example?", &format!("/sso/callback/{other}?"));
        assert_eq!(app.anonymous().get(&elsewhere).await.status, StatusCode::NOT_FOUND);
    }
    // It is good where it belongs.
    let home = location(&app.anonymous().get(&back).await);
    finish(&app, &parameter(&home, "code").unwrap(), &begun.secret).await.ok();
}

async fn a_provider_makes_nobody_an_owner(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    app.sql("UPDATE users SET email = 'ada@corp.example' WHERE email = 'ada@example.org'").await;
    provider.is("s-ada", "ada@corp.example");
    let by_provider = signed_in(&app, "ada@corp.example").await;
    assert_eq!(by_provider.id, ada.id);
    assert_eq!(organizations(&by_provider).await, ["example ADMIN"]);
    let id = ada.organization().await;
    let input = json!({ "organizationId": id, "allowReveal": true });
    by_provider.mutate("updateOrganizationPolicy", input.clone(), "").await.denied("FORBIDDEN");
    ada.mutate("updateOrganizationPolicy", input, "").await.ok();
    assert_eq!(organizations(&ada).await, ["example OWNER"]);
    // Removed, it leaves nobody in.
    let (mut watch, document) =
        (Vec::new(), "subscription($id: ID!) { workspaceChanged(workspaceId: $id) { cursor } }");
    watch.push(by_provider.subscribe(document, json!({ "id": app.default_workspace().id })).await);
    ada.mutate("removeSingleSignOn", json!({ "organizationId": id }), "").await.ok();
    by_provider.query(SEEN, json!({ "n": app.default_workspace().name })).await.denied("UNAUTHENTICATED");
    let refresh = json!({ "refreshToken": by_provider.refresh_token });
    app.anonymous().mutate("refreshSession", refresh, "").await.refused("SESSION_INVALID");
    watch.remove(0).ended().await;
}

async fn without_a_verified_domain_passwords_are_good_again(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    let max = app.member(app.default_workspace(), SystemRole::Editor, "Max").await;
    switched_off(&app, &ada, &provider).await;
    let named = json!({ "n": app.default_workspace().name });
    max.query(SEEN, named.clone()).await.denied("SINGLE_SIGN_ON_REQUIRED");
    // What an operator does whom the new holder of a domain has asked.
    #[expect(clippy::disallowed_methods, reason = "what the operator's command does")]
    let operator = guildhall_domain::access::System::named("operator");
    let take = async || {
        guildhall_persistence::single_sign_on::take_as_operator(app.db(), &operator, "corp.example").await
    };
    assert_eq!(take().await.unwrap().as_deref(), Some("example"));
    assert_eq!(take().await.unwrap(), None);
    max.query(SEEN, named.clone()).await.ok();
    let begin = json!({ "email": "eve@corp.example", "redirectTo": HOME });
    app.anonymous().mutate("startSingleSignOn", begin, "").await.refused("SINGLE_SIGN_ON_UNAVAILABLE");
    // Nor are they switched off before there is one again: nobody but owners would be let in.
    let mut input = configuration(&ada, &provider).await;
    input["provisioning"] = json!("DOMAIN");
    input["passwordSignIn"] = json!(false);
    let waits = json!({ "organizationId": ada.organization().await, "domain": "waits.example" });
    ada.mutate("addDomain", waits, "").await.ok();
    let why = refusal(ada.mutate("configureSingleSignOn", input.clone(), "").await, "DOMAIN_UNVERIFIED");
    assert_eq!(why["field"], json!(["passwordSignIn"]));
    assert!(why["message"].as_str().unwrap().contains("`verifyDomain`"), "{why}");
    max.query(SEEN, named.clone()).await.ok();
    verified(&app, "example", "corp.example").await;
    ada.mutate("configureSingleSignOn", input, "").await.ok();
    max.query(SEEN, named).await.denied("SINGLE_SIGN_ON_REQUIRED");
    assert_eq!(
        app.number("SELECT count(*) FROM audit_events WHERE action = 'admin unverify-domain'").await,
        1
    );
}

async fn what_was_demanded_ends_with_the_provider(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    let max = app.member(app.default_workspace(), SystemRole::Editor, "Max").await;
    let eve = switched_off(&app, &ada, &provider).await;
    let named = json!({ "n": app.default_workspace().name });
    // Another client is another provider, by which nobody has come yet.
    let mut input = configuration(&ada, &provider).await;
    input["clientId"] = json!("another");
    ada.mutate("configureSingleSignOn", input.clone(), "").await.refused("PROVIDER_UNPROVEN");
    input["passwordSignIn"] = json!(true);
    ada.mutate("configureSingleSignOn", input, "").await.ok();
    max.query(SEEN, named.clone()).await.ok();
    // The sessions that the first one opened have ended: it may be gone since it lied.
    eve.query(SEEN, named.clone()).await.denied("UNAUTHENTICATED");
    app.sql("UPDATE organizations SET password_sign_in = FALSE WHERE slug = 'example'").await;
    max.query(SEEN, named.clone()).await.denied("SINGLE_SIGN_ON_REQUIRED");
    ada.mutate("removeSingleSignOn", json!({ "organizationId": ada.organization().await }), "").await.ok();
    max.query(SEEN, named).await.ok();
}

async fn a_provider_stands_for_a_second_factor_in_its_own_organization_alone(app: App) {
    let (ada, provider) = connected(&app, "DOMAIN").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let attic = olga.workspace("Attic").await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&attic, SystemRole::Editor, "Eve").await;
    app.sql("UPDATE users SET email = 'eve@corp.example' WHERE email = 'eve@example.org'").await;
    provider.is("s-eve", "eve@corp.example");
    let by_provider = signed_in(&app, "eve@corp.example").await;
    assert_eq!(by_provider.id, eve.id);
    let input = json!({ "organizationId": ada.organization().await, "userId": eve.id, "role": "ADMIN" });
    ada.mutate("updateOrganizationMember", input, "").await.ok();
    let seen =
        async |who: &Actor, workspace: &Workspace| who.query(SEEN, json!({ "n": workspace.name })).await;
    // The provider would let in whomever it likes, so it opens nothing elsewhere.
    seen(&by_provider, &lab).await.ok();
    seen(&by_provider, &attic).await.denied("ANOTHER_SIGN_IN_REQUIRED");
    app.sql("UPDATE users SET second_factor_at = created_at WHERE email = 'eve@corp.example'").await;
    seen(&by_provider, &lab).await.ok();
    seen(&by_provider, &attic).await.denied("ANOTHER_SIGN_IN_REQUIRED");
    let lists = "{ viewer { workspaces { totalCount nodes { name } } } }";
    let own = by_provider.query(lists, json!({})).await.ok();
    let names = own.data("/viewer/workspaces/nodes").to_string();
    assert!(names.contains(&lab.name) && !names.contains(&attic.name), "{names}");
    assert_eq!(own.data("/viewer/workspaces/totalCount"), &json!(own.len("/viewer/workspaces/nodes")));
    seen(&eve, &attic).await.ok();
    let person = "query($id: ID!) { node(id: $id) { id } }";
    let unseen = by_provider.query(person, json!({ "id": olga.id })).await.ok();
    assert_eq!(unseen.data("/node"), &Value::Null);
    assert!(eve.query(person, json!({ "id": olga.id })).await.ok().data("/node").is_object());
    // Where a second factor is demanded, the organization's own provider is in charge of that.
    app.sql("UPDATE users SET second_factor_at = NULL").await;
    app.sql("UPDATE organizations SET two_factor_required_since = created_at, two_factor_grace_hours = 0")
        .await;
    seen(&by_provider, &lab).await.ok();
    seen(&by_provider, &attic).await.denied("ANOTHER_SIGN_IN_REQUIRED");
    seen(&eve, &lab).await.denied("SECOND_FACTOR_REQUIRED");
    let own = by_provider.query(lists, json!({})).await.ok();
    assert_eq!(own.data("/viewer/workspaces/totalCount"), &json!(own.len("/viewer/workspaces/nodes")));
    assert!(own.to_string().contains(&lab.name) && !own.to_string().contains(&attic.name));
}

async fn providers_of_many_organizations_take_as_many_statements_as_those_of_two(app: App) {
    let (ada, _) = connected(&app, "DOMAIN").await;
    let found = async |number: usize| {
        let document = "{ viewer { organizations(first: 50) { nodes { singleSignOn { issuer } domains { domain } } } } }";
        let answer = ada.query(document, json!({})).await.ok();
        assert_eq!(answer.len("/viewer/organizations/nodes"), number);
        let listed = answer.data("/viewer/organizations/nodes").as_array().unwrap();
        assert!(listed.iter().all(|node| node["domains"].as_array().unwrap().len() == 1), "{answer}");
    };
    let add = async |from: usize, to: usize| {
        for number in from..to {
            let id = app.literal(&format!("org_{number:032x}"));
            let user = app.literal(&ada.id);
            app.sql(&format!(
                "INSERT INTO organizations (id, slug, name, workspace_creation, workspace_deletion,
                     member_list_visibility, share_acceptance, created_at, updated_at)
                 SELECT {id}, 'org-{number}', 'Org {number}', workspace_creation, workspace_deletion,
                     member_list_visibility, share_acceptance, created_at, updated_at
                 FROM organizations WHERE slug = 'example'"
            ))
            .await;
            app.sql(&format!(
                "INSERT INTO organization_members (user_id, organization_id, role, status, created_at)
                 SELECT {user}, {id}, role, status, created_at FROM organization_members WHERE user_id = {user} LIMIT 1"
            ))
            .await;
            verified(&app, &format!("org-{number}"), &format!("corp{number}.example")).await;
        }
    };
    add(1, 2).await;
    let few = app.count(async || found(2).await).await;
    add(2, 12).await;
    assert_eq!(app.count(async || found(12).await).await, few);
}

#[test]
fn a_sign_in_goes_on_in_another_process() {
    run(Engine::Postgres, app, async |app: App| {
        let (_, provider) = connected(&app, "DOMAIN").await;
        let other = app
            .second_process_with(|env| {
                env.set("GUILDHALL_SINGLE_SIGN_ON_DESTINATIONS", "127.0.0.0/8");
                env.set("GUILDHALL_CORS_ORIGINS", "https://app.example.org");
                env.set("APP_URL", &app.url);
            })
            .await;
        provider.is("s-eve", "eve@corp.example");
        let begun = begin(&app, json!({ "email": "eve@corp.example", "redirectTo": HOME })).await;
        let back = at_provider(&app, &begun).await;
        let home = location(&app.anonymous().get(&back.replace(&app.url, &other.url)).await);
        let code = parameter(&home, "code").unwrap();
        let here = finish(&app, &code, &begun.secret);
        let there = finish(&other, &code, &begun.secret);
        let (here, there) = tokio::join!(here, there);
        let got = [&here, &there].into_iter().filter(|answer| answer.user_errors().is_empty()).count();
        assert_eq!(got, 1);
    });
}
