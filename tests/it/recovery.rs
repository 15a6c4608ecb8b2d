//! Getting back in: a password reset by mail, through the API and through the server's own pages, and another e-mail
//! address that both addresses confirm.

use chrono::TimeDelta;
use futures_util::future::join_all;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{
    Actor, Answer, App,
    actor::{PASSWORD, Page},
    both_databases,
    databases::Engine,
    mailbox::Captured,
    subscription::End,
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::activity::sign_in_from;

both_databases!(
    App::start,
    a_password_is_reset_by_the_mailed_link,
    the_link_works_once_for_a_while_and_a_newer_one_ends_it,
    of_many_with_one_link_one_sets_the_password,
    asking_tells_nobody_whether_an_address_has_an_account,
    nobody_is_flooded_with_mails,
    a_weak_password_leaves_the_link_as_it_was,
    who_is_disabled_gets_no_link_and_one_sent_before_is_dead,
    changing_the_password_ends_the_links,
    the_reset_proves_the_address,
    the_pages_reset_a_password_without_javascript,
    an_address_changes_once_both_have_confirmed_it,
    who_does_not_know_the_password_asks_in_vain,
    either_address_stops_the_change,
    an_address_that_is_taken_is_not_had_and_not_told,
    of_two_who_want_one_address_one_gets_it,
    both_links_at_once_change_the_address_once,
    a_recovery_code_sets_a_password_without_mail_once,
    recovery_codes_are_their_owner_s_alone,
    a_wrong_code_and_an_unknown_address_answer_alike,
    a_reset_takes_the_account_back_from_whoever_knew_the_password,
    of_many_with_one_code_one_sets_the_password,
);
both_databases!(locked_soon, a_reset_ends_the_wait_and_makes_the_network_known);

async fn locked_soon(engine: Engine) -> App {
    App::start_with(engine, |environment| {
        environment.set("GUILDHALL_TRUST_PROXY", true).set("GUILDHALL_SIGN_IN_FREE_FAILURES", 1);
    })
    .await
}

const NEW: &str = "violet kayak summit 9 ember";

async fn ask(app: &App, email: &str) -> Answer {
    app.anonymous().mutate("requestPasswordReset", json!({ "email": email }), "requested").await
}

async fn reset(app: &App, token: &str, password: &str) -> Answer {
    let input = json!({ "token": token, "newPassword": password });
    app.anonymous().mutate("resetPassword", input, "reset").await
}

async fn sign_in(app: &App, email: &str, password: &str) -> Answer {
    let input = json!({ "email": email, "password": password });
    app.anonymous().mutate("signIn", input, "user { id email }").await
}

/// The secret in the link of a mail.
fn secret(mail: &Captured) -> String {
    mail.link().split_once("token=").expect("a link with a secret").1.to_owned()
}

/// Asks, and reads the mail.
async fn asked(app: &App, email: &str) -> String {
    ask(app, email).await.ok();
    secret(&app.mail_to(email).await)
}

async fn is_signed_in(actor: &Actor) -> bool {
    !actor.query("{ viewer { user { id } } }", json!({})).await.ok().data("/viewer").is_null()
}

/// The number of mails that were meant to be sent.
async fn mails(app: &App) -> i64 {
    app.number("SELECT count(*) FROM mails WHERE status <> 'CANCELLED'").await
}

async fn a_password_is_reset_by_the_mailed_link(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Admin, "Eve").await;
    let phone = eve.again().await;
    let changes = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";
    let mut changes = phone.subscribe(changes, json!({ "id": lab.id })).await;
    changes.no_event_for(100).await;

    assert_eq!(ask(&app, " EVE@example.org").await.ok().data("/requestPasswordReset/requested"), true);
    let mail = app.mail_to(&eve.email).await;
    assert!(mail.link().starts_with(&format!("{}/reset?token=", app.url)), "{}", mail.link());
    assert!(mail.text().contains("Hello Eve") && mail.html().contains(&secret(&mail)), "{}", mail.text());
    // Nothing has happened so far.
    assert!(is_signed_in(&eve).await);
    sign_in(&app, &eve.email, PASSWORD).await.ok();

    let done = reset(&app, &secret(&mail), NEW).await.ok();
    assert_eq!(done.data("/resetPassword/reset"), true);
    for device in [&eve, &phone] {
        assert!(!is_signed_in(device).await);
        let token = json!({ "refreshToken": device.refresh_token });
        app.anonymous().mutate("refreshSession", token, "").await.refused("SESSION_INVALID");
    }
    match changes.ended().await {
        End::Errors(errors) => assert_eq!(errors[0]["extensions"]["code"], "UNAUTHENTICATED", "{errors:?}"),
        other => panic!("expected the end of a session, but: {other:?}"),
    }
    sign_in(&app, &eve.email, PASSWORD).await.refused("INVALID_CREDENTIALS");
    assert_eq!(sign_in(&app, &eve.email, NEW).await.ok().text("/signIn/user/id"), eve.id);
    let told = app.mail_to(&eve.email).await;
    assert!(told.subject().contains("was changed"), "{}", told.subject());
    assert!(!told.text().contains("token="), "{}", told.text());
    assert!(is_signed_in(&ada).await);
    // Of the secret only a hash is kept, and then nothing.
    assert_eq!(app.number("SELECT count(*) FROM password_resets").await, 0);
}

async fn the_link_works_once_for_a_while_and_a_newer_one_ends_it(app: App) {
    let ada = app.set_up().await;
    let first = asked(&app, &ada.email).await;
    let second = asked(&app, &ada.email).await;
    assert_ne!(first, second);
    let refused = reset(&app, &first, NEW).await.refused("LINK_INVALID");
    assert_eq!(refused.user_errors()[0]["field"], json!(["token"]));
    for guess in ["", "guessed", &second[1..], &format!("{second}="), "é\u{0}"] {
        reset(&app, guess, NEW).await.refused("LINK_INVALID");
    }
    reset(&app, &second, NEW).await.ok();
    reset(&app, &second, "another granite violin 9 otter").await.refused("LINK_INVALID");
    sign_in(&app, &ada.email, NEW).await.ok();

    let third = asked_after_notice(&app, &ada.email).await;
    app.advance(TimeDelta::minutes(30));
    reset(&app, &third, PASSWORD).await.refused("LINK_INVALID");
    sign_in(&app, &ada.email, NEW).await.ok();
    assert!(guildhall_persistence::housekeeping::sweep(app.db()).await.unwrap().links > 0);
}

/// The same as [`asked`], when the mail that told of a change comes first.
async fn asked_after_notice(app: &App, email: &str) -> String {
    app.mail_to(email).await;
    asked(app, email).await
}

async fn of_many_with_one_link_one_sets_the_password(app: App) {
    let ada = app.set_up().await;
    let token = asked(&app, &ada.email).await;
    let passwords: Vec<String> = (0..6).map(|number| format!("violet kayak summit {number} ember")).collect();
    let answers = join_all(passwords.iter().map(|password| reset(&app, &token, password))).await;
    let mut working = 0;
    for (answer, password) in answers.into_iter().zip(&passwords) {
        let signed_in = sign_in(&app, &ada.email, password).await;
        if answer.user_errors().is_empty() {
            working += 1;
            signed_in.ok();
        } else {
            answer.refused("LINK_INVALID");
            signed_in.refused("INVALID_CREDENTIALS");
        }
    }
    assert_eq!(working, 1);
}

async fn asking_tells_nobody_whether_an_address_has_an_account(app: App) {
    let ada = app.set_up().await;
    let bob = app.person("bob@example.org", "Bob").await;
    app.sql(&format!("UPDATE users SET status = 'DISABLED' WHERE id = {}", app.literal(&bob.id))).await;
    app.mailed().await;
    let before = mails(&app).await;
    let known = ask(&app, &ada.email).await.body;
    for other in ["zoe@example.org", &bob.email] {
        assert_eq!(ask(&app, other).await.body, known, "{other}");
    }
    app.mail_to(&ada.email).await;
    assert_eq!(mails(&app).await, before + 1);
    let cost = async |email: &str| app.count(async || _ = ask(&app, email).await.ok()).await;
    assert_eq!(cost("yan@example.org").await, cost("bob@example.org").await);
    // Six an hour: with what was asked before, Ada's are not used up.
    assert_eq!(cost(&ada.email).await, cost("xenia@example.org").await);
    // What was written down of nobody's address does not say it.
    let rows =
        app.number("SELECT count(*) FROM mails WHERE recipient LIKE 'zoe%' OR recipient LIKE 'bob%'").await;
    let invited = app
        .number("SELECT count(*) FROM mails WHERE recipient LIKE 'bob%' AND invitation_id IS NOT NULL")
        .await;
    assert_eq!(rows, invited);
}

async fn nobody_is_flooded_with_mails(app: App) {
    let ada = app.set_up().await;
    for email in [ada.email.as_str(), "zoe@example.org"] {
        for _ in 0..6 {
            ask(&app, email).await.ok();
        }
        ask(&app, &email.to_uppercase()).await.refused("RATE_LIMITED");
    }
    for number in 0..46 {
        ask(&app, &format!("member{number}@example.org")).await.ok();
    }
    ask(&app, "yan@example.org").await.refused("RATE_LIMITED");
    for bad in ["", "no address", "ada@example.org\u{0}", &"a".repeat(300)] {
        let refused = ask(&app, bad).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["email"]));
    }
}

async fn a_weak_password_leaves_the_link_as_it_was(app: App) {
    let ada = app.set_up().await;
    let token = asked(&app, &ada.email).await;
    for weak in ["", "short", "ada@example.org", "password123"] {
        let refused = reset(&app, &token, weak).await.refused("WEAK_PASSWORD");
        assert_eq!(refused.user_errors()[0]["field"], json!(["newPassword"]));
    }
    assert!(is_signed_in(&ada).await);
    reset(&app, &token, NEW).await.ok();
}

async fn who_is_disabled_gets_no_link_and_one_sent_before_is_dead(app: App) {
    app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    let token = asked(&app, &eve.email).await;
    let disabled = async |status: &str| {
        app.sql(&format!("UPDATE users SET status = '{status}' WHERE id = {}", app.literal(&eve.id))).await;
    };
    disabled("DISABLED").await;
    reset(&app, &token, NEW).await.refused("LINK_INVALID");
    disabled("ACTIVE").await;
    sign_in(&app, &eve.email, PASSWORD).await.ok();
}

async fn changing_the_password_ends_the_links(app: App) {
    let ada = app.set_up().await;
    let token = asked(&app, &ada.email).await;
    let input = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
    ada.mutate("changePassword", input, "").await.ok();
    reset(&app, &token, "another granite violin 9 otter").await.refused("LINK_INVALID");
    sign_in(&app, &ada.email, NEW).await.ok();
}

async fn the_reset_proves_the_address(app: App) {
    app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    let unproven = format!(
        "UPDATE users SET status = 'UNVERIFIED', email_verified_at = NULL WHERE id = {}",
        app.literal(&eve.id)
    );
    app.sql(&unproven).await;
    let token = asked(&app, &eve.email).await;
    reset(&app, &token, NEW).await.ok();
    let proven = "SELECT count(*) FROM users WHERE status = 'ACTIVE' AND email_verified_at IS NOT NULL";
    assert_eq!(app.number(proven).await, 2);
}

async fn a_reset_ends_the_wait_and_makes_the_network_known(app: App) {
    let ada = app.set_up().await;
    let locked = async || sign_in_from(&app, "127.0.0.1", &ada.email, "wrong").await;
    locked().await.refused("INVALID_CREDENTIALS");
    for number in 0..4 {
        let ip = format!("198.51.100.{number}");
        sign_in_from(&app, &ip, &ada.email, "wrong").await.refused("INVALID_CREDENTIALS");
    }
    sign_in_from(&app, "127.0.0.1", &ada.email, PASSWORD).await.refused("SIGN_IN_LOCKED");
    sign_in_from(&app, "192.0.2.9", &ada.email, PASSWORD).await.refused("SIGN_IN_LOCKED");
    let token = asked(&app, &ada.email).await;
    reset(&app, &token, NEW).await.ok();
    sign_in_from(&app, "192.0.2.9", &ada.email, NEW).await.ok();
    // Whoever goes on guessing keeps her out neither where she reset it nor where she signed in since.
    for number in 10..16 {
        sign_in_from(&app, &format!("198.51.100.{number}"), &ada.email, "wrong").await;
    }
    sign_in_from(&app, "203.0.113.1", &ada.email, NEW).await.refused("SIGN_IN_LOCKED");
    sign_in_from(&app, "192.0.2.9", &ada.email, NEW).await.ok();
    sign_in_from(&app, "127.0.0.1", &ada.email, NEW).await.ok();
}

fn shows(page: &Page, status: StatusCode, text: &str) {
    assert_eq!(page.status, status, "{}", page.text());
    assert!(page.text().contains(text), "{text}: {}", page.text());
    assert!(!page.text().contains("<script"));
    assert_eq!(page.headers["cache-control"], "no-store");
    assert_eq!(page.headers["referrer-policy"], "no-referrer");
}

async fn the_pages_reset_a_password_without_javascript(app: App) {
    let ada = app.set_up().await;
    let nobody = app.anonymous();
    let ask = async |email: &str| nobody.post_form("/reset", &[("intent", "ask"), ("email", email)]).await;
    shows(&nobody.get("/reset").await, StatusCode::OK, "name=\"email\"");
    shows(&ask("no address").await, StatusCode::UNPROCESSABLE_ENTITY, "The address ");
    let known = ask(&ada.email).await;
    shows(&known, StatusCode::OK, "Look into your mails");
    assert_eq!(ask("zoe@example.org").await.body, known.body);

    let mail = app.mail_to(&ada.email).await;
    let token = secret(&mail);
    // Looking changes nothing, however often.
    for _ in 0..3 {
        shows(&nobody.get(&mail.link()).await, StatusCode::OK, "name=\"password\"");
    }
    let set = async |token: &str, password: &str| {
        nobody.post_form("/reset", &[("intent", "reset"), ("token", token), ("password", password)]).await
    };
    let weak = set(&token, "password").await;
    shows(&weak, StatusCode::UNPROCESSABLE_ENTITY, "aria-invalid");
    assert!(weak.text().contains(&token));
    shows(&set("guessed", NEW).await, StatusCode::NOT_FOUND, "not valid");
    shows(&nobody.get("/reset?token=guessed").await, StatusCode::NOT_FOUND, "not valid");
    shows(&nobody.post_form("/reset", &[("token", &token)]).await, StatusCode::BAD_REQUEST, "what to do");
    shows(&set(&token, NEW).await, StatusCode::OK, "Your password is set");
    shows(&nobody.get(&mail.link()).await, StatusCode::NOT_FOUND, "not valid");
    sign_in(&app, &ada.email, NEW).await.ok();
    assert_eq!(app.number("SELECT count(*) FROM sessions WHERE ended_at IS NULL").await, 1);
}

async fn want(actor: &Actor, password: &str, email: &str) -> Answer {
    let input = json!({ "password": password, "newEmail": email });
    actor.mutate("requestEmailChange", input, "requested").await
}

async fn confirm(app: &App, token: &str) -> Answer {
    app.anonymous().mutate("confirmEmailChange", json!({ "token": token }), "changed").await
}

async fn an_address_changes_once_both_have_confirmed_it(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    let phone = eve.again().await;
    for old_first in [true, false] {
        let eve =
            Actor::sign_in(&app.url, if old_first { "eve@example.org" } else { "eva@example.org" }, PASSWORD)
                .await;
        let wanted = if old_first { "eva@example.org" } else { "eve@example.org" };
        want(&eve, PASSWORD, &wanted.to_uppercase()).await.ok();
        let (old, new) = (app.mail_to(&eve.email).await, app.mail_to(wanted).await);
        assert!(old.text().contains(wanted) && new.text().contains(&eve.email));
        let (first, second) = if old_first { (&old, &new) } else { (&new, &old) };
        let half = confirm(&app, &secret(first)).await.ok();
        assert_eq!(half.data("/confirmEmailChange/changed"), false);
        // Once more is as good as once.
        assert_eq!(confirm(&app, &secret(first)).await.ok().data("/confirmEmailChange/changed"), false);
        assert!(is_signed_in(&eve).await);
        sign_in(&app, wanted, PASSWORD).await.refused("INVALID_CREDENTIALS");
        let done = confirm(&app, &secret(second)).await.ok();
        assert_eq!(done.data("/confirmEmailChange/changed"), true);
        assert!(!is_signed_in(&eve).await);
        sign_in(&app, &eve.email, PASSWORD).await.refused("INVALID_CREDENTIALS");
        let again = sign_in(&app, wanted, PASSWORD).await.ok();
        assert_eq!(
            (again.text("/signIn/user/id"), again.text("/signIn/user/email")),
            (eve.id.as_str(), wanted)
        );
        for used in [first, second] {
            confirm(&app, &secret(used)).await.refused("LINK_INVALID");
        }
    }
    assert!(!is_signed_in(&phone).await && is_signed_in(&ada).await);
    // Admins find her under the address she has.
    let found = "{ organization(slug: \"example\") { members(search: \"eve@\") { totalCount } } }";
    assert_eq!(ada.query(found, json!({})).await.ok().data("/organization/members/totalCount"), 1);
}

async fn who_does_not_know_the_password_asks_in_vain(app: App) {
    let ada = app.set_up().await;
    let before = mails(&app).await;
    let refused = want(&ada, "wrong", "new@example.org").await.refused("INVALID_CREDENTIALS");
    assert_eq!(refused.user_errors()[0]["field"], json!(["password"]));
    want(&app.anonymous(), PASSWORD, "new@example.org").await.denied("UNAUTHENTICATED");
    for bad in ["", "no address", "ada@example.org", "new@example.org\u{0}"] {
        let refused = want(&ada, PASSWORD, bad).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["newEmail"]));
    }
    assert_eq!(mails(&app).await, before);
    assert_eq!(app.number("SELECT count(*) FROM email_changes").await, 0);
}

async fn either_address_stops_the_change(app: App) {
    let ada = app.set_up().await;
    let nobody = app.anonymous();
    let mut wanted = Vec::new();
    for (number, by_new) in [true, false].into_iter().enumerate() {
        let new = format!("new{number}@example.org");
        want(&ada, PASSWORD, &new).await.ok();
        let (at_old, at_new) = (app.mail_to(&ada.email).await, app.mail_to(&new).await);
        let (by, other) = if by_new { (&at_new, &at_old) } else { (&at_old, &at_new) };
        confirm(&app, &secret(other)).await.ok();
        shows(&nobody.get(&by.link()).await, StatusCode::OK, &new);
        let stopped = nobody.post_form("/email", &[("intent", "cancel"), ("token", &secret(by))]).await;
        shows(&stopped, StatusCode::OK, "was stopped");
        for link in [by, other] {
            confirm(&app, &secret(link)).await.refused("LINK_INVALID");
            let cancel = json!({ "token": secret(link) });
            nobody.mutate("cancelEmailChange", cancel, "").await.refused("LINK_INVALID");
            shows(&nobody.get(&link.link()).await, StatusCode::NOT_FOUND, "not valid");
        }
        wanted.push(new);
    }
    // A newer wish ends the one before, and each lasts a day.
    want(&ada, PASSWORD, "new2@example.org").await.ok();
    let first = secret(&app.mail_to("new2@example.org").await);
    want(&ada, PASSWORD, "new3@example.org").await.ok();
    let second = secret(&app.mail_to("new3@example.org").await);
    confirm(&app, &first).await.refused("LINK_INVALID");
    app.advance(TimeDelta::days(1));
    confirm(&app, &second).await.refused("LINK_INVALID");
    assert!(is_signed_in(&ada.again().await).await);
}

async fn an_address_that_is_taken_is_not_had_and_not_told(app: App) {
    let ada = app.set_up().await;
    let bob = app.person("bob@example.org", "Bob").await;
    let free = want(&ada, PASSWORD, "free@example.org").await.ok().body;
    app.mail_to(&ada.email).await;
    app.mail_to("free@example.org").await;
    app.mailed().await;
    let before = mails(&app).await;
    assert_eq!(want(&ada, PASSWORD, &bob.email).await.body, free);
    confirm(&app, &secret(&app.mail_to(&ada.email).await)).await.ok();
    assert_eq!(mails(&app).await, before + 1, "Bob gets no mail");
    let cost = async |email: &str| app.count(async || _ = want(&ada, PASSWORD, email).await.ok()).await;
    assert_eq!(cost(&bob.email).await, cost("yan@example.org").await);
    sign_in(&app, &bob.email, PASSWORD).await.ok();
}

async fn of_two_who_want_one_address_one_gets_it(app: App) {
    let ada = app.set_up().await;
    let bob = app.person("bob@example.org", "Bob").await;
    let mut links = Vec::new();
    for person in [&ada, &bob] {
        want(person, PASSWORD, "shared@example.org").await.ok();
        confirm(&app, &secret(&app.mail_to(&person.email).await)).await.ok();
        links.push(secret(&app.mail_to("shared@example.org").await));
    }
    let answers = join_all(links.iter().map(|link| confirm(&app, link))).await;
    let (done, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.user_errors().is_empty());
    assert_eq!(done.len(), 1);
    refused.into_iter().next().unwrap().refused("LINK_INVALID");
    assert_eq!(app.number("SELECT count(*) FROM users WHERE email = 'shared@example.org'").await, 1);
    assert_eq!(
        app.number("SELECT count(*) FROM users WHERE email IN ('ada@example.org', 'bob@example.org')").await,
        1
    );
}

async fn both_links_at_once_change_the_address_once(app: App) {
    let ada = app.set_up().await;
    want(&ada, PASSWORD, "new@example.org").await.ok();
    let links = [secret(&app.mail_to(&ada.email).await), secret(&app.mail_to("new@example.org").await)];
    let answers = join_all(links.iter().map(|link| confirm(&app, link))).await;
    let changed: Vec<Value> =
        answers.into_iter().map(|answer| answer.ok().data("/confirmEmailChange/changed").clone()).collect();
    assert_eq!(changed.iter().filter(|changed| **changed == true).count(), 1, "{changed:?}");
    sign_in(&app, "new@example.org", PASSWORD).await.ok();
}

async fn codes(app: &App, actor: &Actor) -> Vec<String> {
    let made = actor.mutate("generateRecoveryCodes", json!({ "password": PASSWORD }), "codes").await.ok();
    assert!(app.mail_to(&actor.email).await.subject().starts_with("New recovery codes were made"));
    let codes = made.data("/generateRecoveryCodes/codes").as_array().unwrap();
    codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect()
}

async fn recover(app: &App, email: &str, code: &str, password: &str) -> Answer {
    let input = json!({ "email": email, "recoveryCode": code, "newPassword": password });
    app.anonymous().mutate("resetPasswordWithRecoveryCode", input, "reset").await
}

async fn left(actor: &Actor) -> i64 {
    let answer = actor.query("{ viewer { recoveryCodesLeft } }", json!({})).await.ok();
    answer.data("/viewer/recoveryCodesLeft").as_i64().unwrap()
}

async fn a_recovery_code_sets_a_password_without_mail_once(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    assert_eq!(left(&eve).await, 0);
    let codes = codes(&app, &eve).await;
    assert_eq!((codes.len(), left(&eve).await), (5, 5));
    recover(&app, &eve.email, &codes[0], "password").await.refused("WEAK_PASSWORD");
    recover(&app, &eve.email.to_uppercase(), &codes[0].to_lowercase().replace('-', " "), NEW).await.ok();
    assert!(!is_signed_in(&eve).await && is_signed_in(&ada).await);
    sign_in(&app, &eve.email, PASSWORD).await.refused("INVALID_CREDENTIALS");
    let again = Actor::sign_in(&app.url, &eve.email, NEW).await;
    assert_eq!(left(&again).await, 4);
    recover(&app, &eve.email, &codes[0], PASSWORD).await.refused("INVALID_CREDENTIALS");
    recover(&app, &eve.email, &codes[4], PASSWORD).await.ok();
    assert_eq!(left(&eve.again().await).await, 3);
    assert!(app.mail_to(&eve.email).await.subject().contains("was changed"));
}

async fn recovery_codes_are_their_owner_s_alone(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    let of_ada = codes(&app, &ada).await;
    let first = codes(&app, &eve).await;
    let second = codes(&app, &eve).await;
    assert_eq!(left(&eve).await, 5);
    for code in [&of_ada[0], &first[0]] {
        recover(&app, &eve.email, code, NEW).await.refused("INVALID_CREDENTIALS");
    }
    let wrong = json!({ "password": "wrong" });
    eve.mutate("generateRecoveryCodes", wrong.clone(), "codes").await.refused("INVALID_CREDENTIALS");
    app.anonymous().mutate("generateRecoveryCodes", wrong, "codes").await.denied("UNAUTHENTICATED");
    app.sql(&format!("UPDATE users SET status = 'DISABLED' WHERE id = {}", app.literal(&eve.id))).await;
    recover(&app, &eve.email, &second[0], NEW).await.refused("INVALID_CREDENTIALS");
    app.sql(&format!("UPDATE users SET status = 'ACTIVE' WHERE id = {}", app.literal(&eve.id))).await;
    recover(&app, &eve.email, &second[0], NEW).await.ok();
}

async fn a_wrong_code_and_an_unknown_address_answer_alike(app: App) {
    let ada = app.set_up().await;
    codes(&app, &ada).await;
    let wrong =
        recover(&app, &ada.email, "AAAA-BBBB-CCCC-DDDD", NEW).await.refused("INVALID_CREDENTIALS").body;
    for (email, code) in
        [("zoe@example.org", "AAAA-BBBB-CCCC-DDDD"), ("zoe@example.org", ""), (&ada.email, "é\u{0}")]
    {
        assert_eq!(recover(&app, email, code, NEW).await.body, wrong);
    }
    let cost = async |email: &str| app.count(async || _ = recover(&app, email, "AAAA", NEW).await).await;
    assert_eq!(cost("zoe@example.org").await, cost(&ada.email).await);
    recover(&app, "no address", "AAAA", NEW).await.refused("INVALID_INPUT");
    // Strangers who try codes make nobody wait.
    assert_eq!(app.number("SELECT count(*) FROM sign_in_tries WHERE failures > 0").await, 0);
    assert!(app.number("SELECT count(*) FROM login_activity WHERE code = 'WRONG_PASSWORD'").await > 0);
}

async fn a_reset_takes_the_account_back_from_whoever_knew_the_password(app: App) {
    let ada = app.set_up().await;
    // Somebody who knows her password makes codes, and asks for an address of their own.
    let codes = codes(&app, &ada).await;
    want(&ada, PASSWORD, "eve@example.org").await.ok();
    let (hers, theirs) =
        (secret(&app.mail_to(&ada.email).await), secret(&app.mail_to("eve@example.org").await));
    confirm(&app, &theirs).await.ok();
    let token = asked(&app, &ada.email).await;
    reset(&app, &token, NEW).await.ok();
    recover(&app, &ada.email, &codes[0], "granite otter violin 9 lamp").await.refused("INVALID_CREDENTIALS");
    confirm(&app, &hers).await.refused("LINK_INVALID");
    sign_in(&app, &ada.email, NEW).await.ok();
}

async fn of_many_with_one_code_one_sets_the_password(app: App) {
    let ada = app.set_up().await;
    let code = codes(&app, &ada).await.remove(0);
    let passwords: Vec<String> = (0..5).map(|number| format!("violet kayak summit {number} ember")).collect();
    let answers = join_all(passwords.iter().map(|password| recover(&app, &ada.email, &code, password))).await;
    let mut working = 0;
    for (answer, password) in answers.into_iter().zip(&passwords) {
        let signed_in = sign_in(&app, &ada.email, password).await;
        if answer.user_errors().is_empty() {
            working += 1;
            signed_in.ok();
        } else {
            answer.refused("INVALID_CREDENTIALS");
        }
    }
    assert_eq!(working, 1);
}
