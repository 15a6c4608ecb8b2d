//! Waiting after sign-ins that failed: how long, for whom, and that strangers keep nobody out.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use guildhall_tests::{Actor, Answer, App, actor::PASSWORD, both_databases, databases::Engine};
use serde_json::{Value, json};

use crate::activity::{example, sign_in_from};

both_databases!(
    three_free,
    an_account_waits_where_it_failed_too_often_and_nowhere_else,
    the_wait_doubles_and_ends_by_itself,
    an_address_that_nobody_has_waits_alike,
    a_right_password_starts_anew_and_a_wrong_one_is_not_forgotten,
    who_tries_from_many_networks_slows_down_strangers_alone,
    who_tries_many_accounts_from_one_network_slows_down_strangers_alone,
    what_is_tried_meanwhile_prolongs_nothing_and_is_listed_once,
    waiting_is_the_same_in_every_process_and_survives_a_restart,
    of_a_burst_no_more_than_the_free_tries_are_judged,
    sign_ins_at_once_with_the_right_password_all_succeed,
);

async fn three_free(engine: Engine) -> App {
    App::start_with(engine, |environment| {
        environment.set("GUILDHALL_TRUST_PROXY", true).set("GUILDHALL_SIGN_IN_FREE_FAILURES", 3);
    })
    .await
}

const HERE: &str = "192.0.2.1";
const THERE: &str = "192.0.2.2";
const WRONG: &str = "granite otter violin 8 lantern";

async fn fail(app: &App, ip: &str, email: &str, times: usize) {
    for _ in 0..times {
        sign_in_from(app, ip, email, WRONG).await.refused("INVALID_CREDENTIALS");
    }
}

/// How many seconds a refused sign-in has to wait, rounded up.
fn wait(app: &App, answer: &Answer) -> i64 {
    let until: DateTime<Utc> = answer.text("/signIn/userErrors/0/retryAt").parse().unwrap();
    (until - app.db().now()).num_seconds()
}

#[track_caller]
fn assert_wait(app: &App, answer: &Answer, seconds: i64) {
    let wait = wait(app, answer);
    // The test itself takes a while.
    assert!((seconds - 10..=seconds + 1).contains(&wait), "{wait} instead of {seconds}: {answer}");
}

async fn an_account_waits_where_it_failed_too_often_and_nowhere_else(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    fail(&app, HERE, &ada.email, 3).await;
    // Whatever the password is, or the spelling of the address.
    for (email, password) in [(ada.email.as_str(), PASSWORD), (" ADA@example.org", WRONG), (&ada.email, "")] {
        let refused = sign_in_from(&app, HERE, email, password).await.refused("SIGN_IN_LOCKED");
        assert_wait(&app, &refused, 30);
        assert_eq!(refused.data("/signIn/session"), &Value::Null);
        let message = refused.text("/signIn/userErrors/0/message");
        let then = refused.text("/signIn/userErrors/0/retryAt").replace("+00:00", "Z");
        assert!(message.contains(&then), "{message}");
    }
    sign_in_from(&app, THERE, &ada.email, PASSWORD).await.ok();
    sign_in_from(&app, HERE, &eve.email, PASSWORD).await.ok();
    // What is open stays open.
    assert!(!ada.query("{ viewer { user { id } } }", json!({})).await.ok().data("/viewer").is_null());
}

async fn the_wait_doubles_and_ends_by_itself(app: App) {
    let ada = app.set_up().await;
    fail(&app, HERE, &ada.email, 2).await;
    for seconds in [30, 60, 120, 240, 480, 900, 900] {
        fail(&app, HERE, &ada.email, 1).await;
        let refused = sign_in_from(&app, HERE, &ada.email, PASSWORD).await.refused("SIGN_IN_LOCKED");
        assert_wait(&app, &refused, seconds);
        app.advance(TimeDelta::seconds(seconds));
    }
    sign_in_from(&app, HERE, &ada.email, PASSWORD).await.ok();
}

async fn an_address_that_nobody_has_waits_alike(app: App) {
    let ada = app.set_up().await;
    let answers = async |email: &str| {
        let mut answers = Vec::new();
        for _ in 0..5 {
            let mut answer = sign_in_from(&app, HERE, email, WRONG).await;
            let error = answer.body["data"]["signIn"]["userErrors"][0].as_object_mut().unwrap();
            let retry_at = error.remove("retryAt").unwrap();
            if let Some(at) = retry_at.as_str() {
                let message = error["message"].as_str().unwrap().replace(&at.replace("+00:00", "Z"), "then");
                error["message"] = json!(message);
            }
            answers.push(answer.body.to_string());
        }
        answers
    };
    let known = answers(&ada.email).await;
    assert!(known[2].contains("INVALID_CREDENTIALS") && known[3].contains("SIGN_IN_LOCKED"), "{known:?}");
    assert_eq!(answers("zoe@example.org").await, known);
    assert_eq!(answers("no address").await, known);
    let cost = async |email: &str| app.count(async || _ = sign_in_from(&app, HERE, email, WRONG).await).await;
    assert_eq!(cost("zoe@example.org").await, cost(&ada.email).await);
}

async fn a_right_password_starts_anew_and_a_wrong_one_is_not_forgotten(app: App) {
    let ada = app.set_up().await;
    fail(&app, HERE, &ada.email, 2).await;
    sign_in_from(&app, HERE, &ada.email, PASSWORD).await.ok();
    fail(&app, HERE, &ada.email, 2).await;
    app.advance(TimeDelta::hours(23));
    fail(&app, HERE, &ada.email, 1).await;
    sign_in_from(&app, HERE, &ada.email, PASSWORD).await.refused("SIGN_IN_LOCKED");
    app.advance(TimeDelta::hours(25));
    fail(&app, HERE, &ada.email, 2).await;
    sign_in_from(&app, HERE, &ada.email, PASSWORD).await.ok();
}

async fn who_tries_from_many_networks_slows_down_strangers_alone(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    sign_in_from(&app, HERE, &ada.email, PASSWORD).await.ok();
    for network in 0..15 {
        fail(&app, &format!("198.51.100.{network}"), &ada.email, 1).await;
    }
    let refused = sign_in_from(&app, THERE, &ada.email, PASSWORD).await.refused("SIGN_IN_LOCKED");
    assert_wait(&app, &refused, 30);
    // Where she signed in before she still gets in, if she mistypes as well; and others are not concerned.
    fail(&app, HERE, &ada.email, 2).await;
    sign_in_from(&app, HERE, &ada.email, PASSWORD).await.ok();
    sign_in_from(&app, THERE, &eve.email, PASSWORD).await.ok();
    // By then the strangers have to wait for longer, and still not for good.
    app.advance(TimeDelta::minutes(15));
    sign_in_from(&app, THERE, &ada.email, PASSWORD).await.ok();
}

async fn who_tries_many_accounts_from_one_network_slows_down_strangers_alone(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    sign_in_from(&app, HERE, &ada.email, PASSWORD).await.ok();
    for number in 0..30 {
        fail(&app, HERE, &format!("member{number}@example.org"), 1).await;
    }
    let refused = sign_in_from(&app, HERE, &eve.email, PASSWORD).await.refused("SIGN_IN_LOCKED");
    assert_wait(&app, &refused, 30);
    sign_in_from(&app, HERE, "zoe@example.org", PASSWORD).await.refused("SIGN_IN_LOCKED");
    sign_in_from(&app, HERE, &ada.email, PASSWORD).await.ok();
    sign_in_from(&app, THERE, &eve.email, PASSWORD).await.ok();
    app.advance(TimeDelta::seconds(31));
    sign_in_from(&app, HERE, &eve.email, PASSWORD).await.ok();
    // A whole household is one network where addresses are many.
    for number in 0..3 {
        fail(&app, &format!("2001:db8:0:1::{number:x}"), &eve.email, 1).await;
    }
    sign_in_from(&app, "2001:db8:0:1:ffff::1", &eve.email, PASSWORD).await.refused("SIGN_IN_LOCKED");
    sign_in_from(&app, "2001:db8:0:2::1", &eve.email, PASSWORD).await.ok();
}

async fn what_is_tried_meanwhile_prolongs_nothing_and_is_listed_once(app: App) {
    let ada = app.set_up().await;
    fail(&app, HERE, &ada.email, 3).await;
    for _ in 0..10 {
        sign_in_from(&app, HERE, &ada.email, WRONG).await.refused("SIGN_IN_LOCKED");
    }
    let seen = example(&ada).await;
    assert_eq!(seen[..4], ["LOCKED ada", "WRONG_PASSWORD ada", "WRONG_PASSWORD ada", "WRONG_PASSWORD ada"]);
    assert_eq!(seen.len(), 5);
    app.advance(TimeDelta::seconds(31));
    fail(&app, HERE, &ada.email, 1).await;
    for _ in 0..3 {
        sign_in_from(&app, HERE, &ada.email, PASSWORD).await.refused("SIGN_IN_LOCKED");
    }
    assert_eq!(example(&ada).await[..3], ["LOCKED ada", "WRONG_PASSWORD ada", "LOCKED ada"]);
    // An address that nobody has is listed nowhere.
    fail(&app, HERE, "zoe@example.org", 3).await;
    sign_in_from(&app, HERE, "zoe@example.org", WRONG).await.refused("SIGN_IN_LOCKED");
    assert_eq!(example(&ada).await.len(), 7);
    let nobodys = "SELECT count(*) FROM login_activity WHERE user_id IS NULL AND code = 'LOCKED'";
    assert_eq!(app.number(nobodys).await, 1);
}

async fn waiting_is_the_same_in_every_process_and_survives_a_restart(app: App) {
    let ada = app.set_up().await;
    // Two processes share a database only where it is PostgreSQL; a restart is a second one for this purpose.
    fail(&app, HERE, &ada.email, 2).await;
    let counted = "SELECT count(*) FROM sign_in_tries WHERE failures = 2";
    assert_eq!(app.number(counted).await, 3);
    // Nobody reads from the rows whose account it is, or which network.
    let rows = "SELECT count(*) FROM sign_in_tries WHERE CAST(id AS text) LIKE '%ada%'";
    assert_eq!(app.number(rows).await, 0);
    // Each is forgotten in its time.
    fail(&app, HERE, &ada.email, 1).await;
    app.advance(TimeDelta::days(1) + TimeDelta::seconds(1));
    let swept = guildhall_persistence::housekeeping::sweep(app.db()).await.unwrap();
    assert_eq!(swept.tries, 3);
    sign_in_from(&app, HERE, &ada.email, PASSWORD).await.ok();
    app.advance(TimeDelta::days(89));
    assert_eq!(guildhall_persistence::housekeeping::sweep(app.db()).await.unwrap().tries, 0);
    app.advance(TimeDelta::days(2));
    assert!(guildhall_persistence::housekeeping::sweep(app.db()).await.unwrap().tries > 0);
}

async fn of_a_burst_no_more_than_the_free_tries_are_judged(app: App) {
    let ada = app.set_up().await;
    let wrong = (0..30).map(|_| sign_in_from(&app, HERE, &ada.email, WRONG));
    let answers = join_all(wrong).await;
    assert!(answers.iter().all(|answer| answer.data("/signIn/session").is_null()));
    // Every one that was judged was counted, and none that was not.
    let judged = answers.iter().filter(|answer| answer.user_error() == "INVALID_CREDENTIALS").count();
    let sum = "SELECT CAST(max(failures) AS bigint) FROM sign_in_tries";
    assert_eq!(app.number(sum).await, i64::try_from(judged).unwrap());
    assert!(judged >= 3);
    sign_in_from(&app, HERE, &ada.email, PASSWORD).await.refused("SIGN_IN_LOCKED");
}

async fn sign_ins_at_once_with_the_right_password_all_succeed(app: App) {
    let ada = app.set_up().await;
    let answers = join_all((0..20).map(|_| sign_in_from(&app, HERE, &ada.email, PASSWORD))).await;
    for answer in answers {
        answer.ok();
    }
    let _: Actor = ada.again().await;
}
