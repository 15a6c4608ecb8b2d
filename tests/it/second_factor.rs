//! Second factors as people have them: setting one up, signing in by it, losing it. `demands.rs` has what organizations
//! demand.

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::future::join_all;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{
    Actor, Answer, App,
    actor::{PASSWORD, token_of},
    both_databases,
};
use http::{Request, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use totp_rs::Totp;

use crate::{
    activity::{behind_a_proxy, example},
    audit::guildhall,
};

both_databases!(
    behind_a_proxy,
    a_second_factor_is_set_up_and_asked_for_from_then_on,
    what_was_opened_or_made_without_it_ends,
    each_code_works_once_and_none_before_it,
    of_many_at_once_with_one_code_one_comes_in,
    a_clock_may_be_off_a_little,
    a_recovery_code_stands_for_it_once,
    nobody_learns_of_it_without_the_password,
    what_could_go_round_it_asks_for_it,
    a_reset_by_mail_is_no_way_round_it,
    it_is_replaced_by_whoever_has_it,
    it_is_switched_off_by_whoever_has_it,
    what_was_begun_is_confirmed_within_an_hour,
    guessing_is_slowed_down_from_every_network,
    of_a_burst_of_guesses_no_more_than_the_free_ones_are_looked_at,
    a_trial_takes_nothing_and_tells_no_more,
    the_page_of_an_invitation_asks_for_it,
    an_operator_takes_it_from_somebody_who_lost_it,
    it_is_kept_sealed_and_sealed_anew,
);

const REQUIRED: &str = "SECOND_FACTOR_REQUIRED";
const INVALID: &str = "SECOND_FACTOR_INVALID";
const HERE: &str = "192.0.2.1";

/// Signs in from that network.
async fn sign_in_from(
    app: &App,
    ip: &str,
    email: &str,
    password: &str,
    code: Option<&str>,
    arguments: &str,
) -> Answer {
    let document = format!(
        "mutation($input: SignInInput!) {{ signIn(input: $input{arguments}) {{
            user {{ id }} session {{ accessToken refreshToken }} userErrors {{ code field message retryAt }} }} }}"
    );
    let input = json!({ "email": email, "password": password, "code": code });
    let request = Request::post(format!("{}/graphql", app.url))
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-forwarded-for", ip)
        .body(Bytes::from(json!({ "query": document, "variables": { "input": input } }).to_string()))
        .unwrap();
    let page = app.anonymous().http(request).await;
    Answer { status: page.status, headers: page.headers, body: serde_json::from_slice(&page.body).unwrap() }
}

async fn sign_in(app: &App, who: &Actor, code: Option<&str>) -> Answer {
    sign_in_from(app, HERE, &who.email, &who.password, code, "").await
}

/// The same person on the device that signed in.
fn on(who: &Actor, answer: Answer) -> Actor {
    let answer = answer.ok();
    assert_eq!(answer.user_errors(), Vec::<&Value>::new());
    let mut there = who.clone();
    there.access_token = Some(answer.text("/signIn/session/accessToken").to_owned());
    there
}

/// The code that the app shows, that many steps from now.
fn code(app: &App, totp: &Totp, steps: i64) -> String {
    totp.generate((app.db().now().timestamp() + 30 * steps).unsigned_abs()).to_string()
}

async fn enroll(who: &Actor, code: Option<&str>) -> Answer {
    let input = json!({ "password": who.password, "code": code });
    who.mutate("enrollSecondFactor", input, "secret uri qrSvg").await
}

async fn confirm(who: &Actor, code: &str) -> Answer {
    let selection = "recoveryCodes viewer { secondFactor { confirmedAt } recoveryCodesLeft }";
    who.mutate("confirmSecondFactor", json!({ "code": code }), selection).await
}

async fn disable(who: &Actor, code: &str) -> Answer {
    let input = json!({ "password": who.password, "code": code });
    let selection = "viewer { secondFactor { confirmedAt } } demandedBy { name viewerSecondFactorDueAt }";
    who.mutate("disableSecondFactor", input, selection).await
}

fn texts(answer: &Answer, pointer: &str) -> Vec<String> {
    answer.data(pointer).as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Sets a second factor up: the app, and the recovery codes. The clock stands, and the code of this step is used.
async fn set_up(app: &App, who: &Actor) -> (Totp, Vec<String>) {
    app.stop_the_clock();
    let begun = enroll(who, None).await.ok();
    let totp = Totp::from_url(begun.text("/enrollSecondFactor/uri")).unwrap();
    let done = confirm(who, &code(app, &totp, 0)).await.ok();
    assert_eq!(
        app.mail_to(&who.email).await.subject(),
        "A second factor was set up for your account at Guildhall"
    );
    (totp, texts(&done, "/confirmSecondFactor/recoveryCodes"))
}

/// The clock goes on to where the app shows a new code.
fn next_step(app: &App) {
    app.advance(TimeDelta::seconds(30));
}

async fn is_signed_in(who: &Actor) -> bool {
    !who.query("{ viewer { user { id } } }", json!({})).await.ok().data("/viewer").is_null()
}

async fn a_second_factor_is_set_up_and_asked_for_from_then_on(app: App) {
    let ada = app.set_up().await;
    app.stop_the_clock();
    let wrong = json!({ "password": "wrong" });
    ada.mutate("enrollSecondFactor", wrong, "secret").await.refused("INVALID_CREDENTIALS");
    app.anonymous()
        .mutate("enrollSecondFactor", json!({ "password": PASSWORD }), "secret")
        .await
        .denied("UNAUTHENTICATED");
    confirm(&ada, "123456").await.refused("ENROLLMENT_MISSING");
    let begun = enroll(&ada, None).await.ok();
    let (secret, uri) = (begun.text("/enrollSecondFactor/secret"), begun.text("/enrollSecondFactor/uri"));
    assert!(secret.len() == 32 && uri.starts_with("otpauth://totp/Guildhall%20"), "{uri}");
    assert!(uri.contains(secret) && uri.contains("ada%40example.org"), "{uri}");
    let svg = begun.text("/enrollSecondFactor/qrSvg");
    assert!(svg.starts_with("<svg ") && svg.contains("<title>") && !svg.contains(secret), "{svg}");
    let totp = Totp::from_url(uri).unwrap();
    // Nothing is asked for before it is in force.
    sign_in(&app, &ada, None).await.ok();
    let refused = confirm(&ada, "000000").await.refused(INVALID);
    assert_eq!(refused.user_errors()[0]["field"], json!(["code"]));
    let first = code(&app, &totp, 0);
    let done = confirm(&ada, &format!(" {} {} ", &first[..3], &first[3..])).await.ok();
    assert_eq!(done.len("/confirmSecondFactor/recoveryCodes"), 5);
    assert_eq!(done.data("/confirmSecondFactor/viewer/recoveryCodesLeft"), 5);
    assert!(done.data("/confirmSecondFactor/viewer/secondFactor/confirmedAt").is_string());
    let mail = app.mail_to(&ada.email).await;
    assert!(
        mail.subject().contains("second factor was set up") && mail.text().contains("127.0.0.1"),
        "{}",
        mail.text()
    );
    // It is asked for, whatever else is right, and what is wrong is told first.
    let asked = sign_in(&app, &ada, None).await.refused(REQUIRED);
    assert_eq!(asked.user_errors()[0]["field"], json!(["code"]));
    assert_eq!((asked.data("/signIn/session"), asked.data("/signIn/user")), (&Value::Null, &Value::Null));
    sign_in(&app, &ada, Some(" ")).await.refused("INVALID_INPUT");
    next_step(&app);
    let second = code(&app, &totp, 0);
    sign_in_from(&app, HERE, &ada.email, "wrong", Some(&second), "").await.refused("INVALID_CREDENTIALS");
    sign_in(&app, &ada, Some("000000")).await.refused(INVALID);
    let other = on(&ada, sign_in(&app, &ada, Some(&format!("{} {}", &second[..3], &second[3..]))).await);
    assert!(is_signed_in(&other).await && is_signed_in(&ada).await);
    assert_eq!(
        example(&ada).await[..4],
        ["LOGIN ada", "WRONG_SECOND_FACTOR ada", "WRONG_PASSWORD ada", "SECOND_FACTOR_ASKED ada"]
    );
}

async fn what_was_opened_or_made_without_it_ends(app: App) {
    let ada = app.set_up().await;
    let other = ada.again().await;
    let made = ada.mutate("generateRecoveryCodes", json!({ "password": PASSWORD }), "codes").await.ok();
    assert_eq!(
        app.mail_to(&ada.email).await.subject(),
        "New recovery codes were made for your account at Guildhall"
    );
    let old = texts(&made, "/generateRecoveryCodes/codes");
    let (_, fresh) = set_up(&app, &ada).await;
    assert!(!is_signed_in(&other).await && is_signed_in(&ada).await);
    let refreshed = json!({ "refreshToken": other.refresh_token });
    app.anonymous()
        .mutate("refreshSession", refreshed, "session { accessToken }")
        .await
        .refused("SESSION_INVALID");
    sign_in(&app, &ada, Some(&old[0])).await.refused(INVALID);
    let recover =
        json!({ "email": ada.email, "recoveryCode": old[1], "newPassword": "violet kayak summit 3 ember" });
    app.anonymous()
        .mutate("resetPasswordWithRecoveryCode", recover, "reset")
        .await
        .refused("INVALID_CREDENTIALS");
    sign_in(&app, &ada, Some(&fresh[0])).await.ok();
}

async fn each_code_works_once_and_none_before_it(app: App) {
    let ada = app.set_up().await;
    let (totp, _) = set_up(&app, &ada).await;
    // The one it was confirmed with is used.
    sign_in(&app, &ada, Some(&code(&app, &totp, 0))).await.refused(INVALID);
    next_step(&app);
    let now = code(&app, &totp, 0);
    on(&ada, sign_in(&app, &ada, Some(&now)).await);
    sign_in(&app, &ada, Some(&now)).await.refused(INVALID);
    // Also for anything else that asks for it.
    disable(&ada, &now).await.refused(INVALID);
    let next = code(&app, &totp, 1);
    on(&ada, sign_in(&app, &ada, Some(&next)).await);
    // One that was shown before and not used is good for nothing after a newer one.
    sign_in(&app, &ada, Some(&now)).await.refused(INVALID);
}

async fn of_many_at_once_with_one_code_one_comes_in(app: App) {
    let ada = app.set_up().await;
    let (totp, _) = set_up(&app, &ada).await;
    next_step(&app);
    let code = code(&app, &totp, 0);
    let answers = join_all((0..20).map(|_| sign_in(&app, &ada, Some(&code)))).await;
    let came_in = answers.iter().filter(|answer| answer.user_errors().is_empty()).count();
    assert_eq!(came_in, 1);
    for answer in answers.iter().filter(|answer| !answer.user_errors().is_empty()) {
        assert!([INVALID, "SIGN_IN_LOCKED"].contains(&answer.user_error()), "{answer}");
    }
    assert_eq!(app.number("SELECT count(*) FROM sessions WHERE ended_at IS NULL").await, 2);
}

async fn a_clock_may_be_off_a_little(app: App) {
    let ada = app.set_up().await;
    let (totp, _) = set_up(&app, &ada).await;
    app.advance(TimeDelta::minutes(10));
    for (steps, is_right) in [(-2, false), (2, false), (-1, true), (0, true), (1, true)] {
        let answer = sign_in(&app, &ada, Some(&code(&app, &totp, steps))).await;
        match is_right {
            true => drop(on(&ada, answer)),
            false => drop(answer.refused(INVALID)),
        }
    }
}

async fn a_recovery_code_stands_for_it_once(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    let (_, codes) = set_up(&app, &ada).await;
    let (_, of_eve) = set_up(&app, &eve).await;
    sign_in(&app, &ada, Some(&of_eve[0])).await.refused(INVALID);
    let again = on(&ada, sign_in(&app, &ada, Some(&codes[0].to_lowercase().replace('-', " "))).await);
    sign_in(&app, &ada, Some(&codes[0])).await.refused(INVALID);
    let left = again.query("{ viewer { recoveryCodesLeft } }", json!({})).await.ok();
    assert_eq!(left.data("/viewer/recoveryCodesLeft"), 4);
    let answers = join_all((0..10).map(|_| sign_in(&app, &ada, Some(&codes[1])))).await;
    assert_eq!(answers.iter().filter(|answer| answer.user_errors().is_empty()).count(), 1);
}

async fn nobody_learns_of_it_without_the_password(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    set_up(&app, &ada).await;
    for code in [None, Some("123456"), Some("AAAA-BBBB-CCCC-DDDD")] {
        let guess = async |email: &str| sign_in_from(&app, HERE, email, "wrong", code, "").await;
        let with = guess(&ada.email).await.refused("INVALID_CREDENTIALS").body;
        for email in [eve.email.as_str(), "zoe@example.org", "no address"] {
            assert_eq!(guess(email).await.body, with, "{email}");
        }
    }
    let cost = async |email: &str| {
        app.count(async || _ = sign_in_from(&app, "192.0.2.9", email, "wrong", Some("123456"), "").await)
            .await
    };
    assert_eq!(cost(&ada.email).await, cost(&eve.email).await);
    // Nor do others see it in the person.
    let answer = eve
        .query("query($id: ID!) { node(id: $id) { ... on User { status } } }", json!({ "id": ada.id }))
        .await;
    answer.ok();
    let types = eve.query("{ __type(name: \"User\") { fields { name } } }", json!({})).await;
    assert!(!types.body.to_string().to_lowercase().contains("factor"), "{types}");
}

async fn what_could_go_round_it_asks_for_it(app: App) {
    let ada = app.set_up().await;
    let (totp, codes) = set_up(&app, &ada).await;
    let make = async |code: Option<&str>| {
        let input = json!({ "password": PASSWORD, "code": code });
        ada.mutate("generateRecoveryCodes", input, "codes").await
    };
    make(None).await.refused(REQUIRED);
    make(Some("000000")).await.refused(INVALID);
    enroll(&ada, None).await.refused(REQUIRED);
    enroll(&ada, Some("AAAA-BBBB-CCCC-DDDD")).await.refused(INVALID);
    disable(&ada, "").await.refused("INVALID_INPUT");
    disable(&ada, "000000").await.refused(INVALID);
    let wrong = json!({ "password": "wrong", "code": codes[0] });
    ada.mutate("disableSecondFactor", wrong, "demandedBy { id }").await.refused("INVALID_CREDENTIALS");
    // None of that used anything up.
    assert_eq!(app.number("SELECT count(*) FROM recovery_codes").await, 5);
    next_step(&app);
    let made = texts(&make(Some(&code(&app, &totp, 0))).await.ok(), "/generateRecoveryCodes/codes");
    sign_in(&app, &ada, Some(&codes[0])).await.refused(INVALID);
    on(&ada, sign_in(&app, &ada, Some(&made[0])).await);
}

async fn a_reset_by_mail_is_no_way_round_it(app: App) {
    const NEW: &str = "violet kayak summit 3 ember";
    let ada = app.set_up().await;
    let (totp, codes) = set_up(&app, &ada).await;
    app.anonymous().mutate("requestPasswordReset", json!({ "email": ada.email }), "requested").await.ok();
    let link = app.mail_to(&ada.email).await.link();
    let token = link.split_once("token=").unwrap().1;
    app.anonymous()
        .mutate("resetPassword", json!({ "token": token, "newPassword": NEW }), "reset")
        .await
        .ok();
    let mut ada = ada;
    ada.password = NEW.to_owned();
    sign_in(&app, &ada, None).await.refused(REQUIRED);
    next_step(&app);
    on(&ada, sign_in(&app, &ada, Some(&code(&app, &totp, 0))).await);
    // Whoever lost the app as well still has what was made with it; each code stands for one thing.
    let recover = json!({ "email": ada.email, "recoveryCode": codes[0], "newPassword": PASSWORD });
    app.anonymous().mutate("resetPasswordWithRecoveryCode", recover, "reset").await.ok();
    ada.password = PASSWORD.to_owned();
    sign_in(&app, &ada, None).await.refused(REQUIRED);
    sign_in(&app, &ada, Some(&codes[0])).await.refused(INVALID);
    on(&ada, sign_in(&app, &ada, Some(&codes[1])).await);
}

async fn it_is_replaced_by_whoever_has_it(app: App) {
    let ada = app.set_up().await;
    let (old, codes) = set_up(&app, &ada).await;
    next_step(&app);
    let begun = enroll(&ada, Some(&code(&app, &old, 0))).await.ok();
    let new = Totp::from_url(begun.text("/enrollSecondFactor/uri")).unwrap();
    // The old one holds until the new one is confirmed.
    next_step(&app);
    sign_in(&app, &ada, Some(&code(&app, &new, 0))).await.refused(INVALID);
    on(&ada, sign_in(&app, &ada, Some(&code(&app, &old, 0))).await);
    confirm(&ada, &code(&app, &old, 1)).await.refused(INVALID);
    confirm(&ada, &code(&app, &new, 0)).await.ok();
    next_step(&app);
    sign_in(&app, &ada, Some(&code(&app, &old, 0))).await.refused(INVALID);
    sign_in(&app, &ada, Some(&codes[0])).await.refused(INVALID);
    on(&ada, sign_in(&app, &ada, Some(&code(&app, &new, 0))).await);
    assert_eq!(app.number("SELECT count(*) FROM second_factors").await, 1);
}

async fn it_is_switched_off_by_whoever_has_it(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    let (_, of_ada) = set_up(&app, &ada).await;
    let organization = ada.organization().await;
    let policy =
        json!({ "organizationId": organization, "requireTwoFactor": true, "twoFactorGraceHours": 0 });
    ada.mutate("updateOrganizationPolicy", policy, "organization { id }").await.ok();
    let look = "query { viewer { workspaces { totalCount } } }";
    assert_eq!(eve.query(look, json!({})).await.ok().data("/viewer/workspaces/totalCount"), 0);
    let (totp, codes) = set_up(&app, &eve).await;
    assert_eq!(eve.query(look, json!({})).await.ok().data("/viewer/workspaces/totalCount"), 1);
    next_step(&app);
    let off = disable(&eve, &code(&app, &totp, 0)).await.ok();
    assert_eq!(off.data("/disableSecondFactor/viewer/secondFactor"), &Value::Null);
    assert_eq!(off.text("/disableSecondFactor/demandedBy/0/name"), "Example");
    assert!(off.data("/disableSecondFactor/demandedBy/0/viewerSecondFactorDueAt").is_string());
    assert!(app.mail_to(&eve.email).await.subject().contains("was switched off"));
    assert_eq!(eve.query(look, json!({})).await.ok().data("/viewer/workspaces/totalCount"), 0);
    on(&eve, sign_in(&app, &eve, None).await);
    disable(&eve, &codes[0]).await.refused("NOT_FOUND");
    // By a recovery code as well.
    disable(&ada, &of_ada[0]).await.ok();
    on(&ada, sign_in(&app, &ada, Some("whatever")).await);
}

async fn what_was_begun_is_confirmed_within_an_hour(app: App) {
    let ada = app.set_up().await;
    app.stop_the_clock();
    let first = Totp::from_url(enroll(&ada, None).await.ok().text("/enrollSecondFactor/uri")).unwrap();
    let second = Totp::from_url(enroll(&ada, None).await.ok().text("/enrollSecondFactor/uri")).unwrap();
    confirm(&ada, &code(&app, &first, 0)).await.refused(INVALID);
    app.advance(TimeDelta::hours(1));
    let ada = ada.again().await;
    confirm(&ada, &code(&app, &second, 0)).await.refused("ENROLLMENT_MISSING");
    on(&ada, sign_in(&app, &ada, None).await);
}

async fn guessing_is_slowed_down_from_every_network(app: App) {
    let ada = app.set_up().await;
    let (totp, codes) = set_up(&app, &ada).await;
    next_step(&app);
    on(&ada, sign_in(&app, &ada, Some(&code(&app, &totp, 0))).await);
    for network in 0..10 {
        let ip = format!("198.51.100.{network}");
        sign_in_from(&app, &ip, &ada.email, PASSWORD, Some("000000"), "").await.refused(INVALID);
    }
    // Not even the right one, from wherever she signed in before.
    let right = code(&app, &totp, 1);
    let locked = sign_in(&app, &ada, Some(&right)).await.refused("SIGN_IN_LOCKED");
    assert!(locked.data("/signIn/userErrors/0/retryAt").is_string(), "{locked}");
    assert_eq!(locked.data("/signIn/userErrors/0/field"), &json!(["code"]));
    // Nor by what asks for it elsewhere; and nobody without the password learns that it waits.
    disable(&ada, &right).await.refused("RATE_LIMITED");
    sign_in_from(&app, HERE, &ada.email, "wrong", Some(&right), "").await.refused("INVALID_CREDENTIALS");
    // She is not kept out: nobody guesses recovery codes.
    on(&ada, sign_in(&app, &ada, Some(&codes[0])).await);
    // Who came in by one has shown who they are.
    on(&ada, sign_in(&app, &ada, Some(&right)).await);
    assert!(example(&ada).await.contains(&"LOCKED ada".to_owned()));
}

async fn of_a_burst_of_guesses_no_more_than_the_free_ones_are_looked_at(app: App) {
    let ada = app.set_up().await;
    set_up(&app, &ada).await;
    let ips: Vec<String> = (0..30).map(|network| format!("198.51.100.{network}")).collect();
    let guesses = ips.iter().map(|ip| sign_in_from(&app, ip, &ada.email, PASSWORD, Some("000000"), ""));
    let answers = join_all(guesses).await;
    let looked_at = answers.iter().filter(|answer| answer.user_error() == INVALID).count();
    assert!(looked_at <= 10, "{looked_at}");
    assert!(answers.iter().all(|answer| [INVALID, "SIGN_IN_LOCKED"].contains(&answer.user_error())));
}

async fn a_trial_takes_nothing_and_tells_no_more(app: App) {
    let ada = app.set_up().await;
    app.stop_the_clock();
    let input = json!({ "password": PASSWORD });
    let trial = ada.mutate_with("dryRun: true", "enrollSecondFactor", input, "secret uri qrSvg").await.ok();
    for secret in ["secret", "uri", "qrSvg"] {
        assert_eq!(trial.data(&format!("/enrollSecondFactor/{secret}")), &Value::Null, "{secret}");
    }
    assert_eq!(app.number("SELECT count(*) FROM second_factors").await, 0);
    let begun = enroll(&ada, None).await.ok();
    let totp = Totp::from_url(begun.text("/enrollSecondFactor/uri")).unwrap();
    let input = json!({ "code": code(&app, &totp, 0) });
    let opened = "recoveryCodes viewer { workspaces { totalCount } }";
    let trial = ada.mutate_with("dryRun: true", "confirmSecondFactor", input, opened).await.ok();
    // Nor does it open, without a trace, what a second factor is demanded for.
    assert_eq!(
        trial.data("/confirmSecondFactor"),
        &json!({ "recoveryCodes": null, "viewer": null, "userErrors": [] })
    );
    on(&ada, sign_in(&app, &ada, None).await);
    confirm(&ada, &code(&app, &totp, 0)).await.ok();
    next_step(&app);
    let right = code(&app, &totp, 0);
    let try_to = async |code: Option<&str>| {
        sign_in_from(&app, HERE, &ada.email, PASSWORD, code, ", dryRun: true").await
    };
    try_to(None).await.refused(REQUIRED);
    try_to(Some("000000")).await.refused(INVALID);
    let trial = try_to(Some(&right)).await.ok();
    assert_eq!((trial.data("/signIn/session"), trial.user_errors().len()), (&Value::Null, 0));
    // It is good still, and the wrong one is counted and told.
    on(&ada, sign_in(&app, &ada, Some(&right)).await);
    let told = example(&ada).await;
    assert!(told.contains(&"WRONG_SECOND_FACTOR ada".to_owned()), "{told:?}");
    for _ in 0..10 {
        try_to(Some("000000")).await;
    }
    sign_in(&app, &ada, Some(&code(&app, &totp, 1))).await.refused("SIGN_IN_LOCKED");
}

async fn the_page_of_an_invitation_asks_for_it(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    let (totp, _) = set_up(&app, &eve).await;
    next_step(&app);
    let lab = ada.workspace("Lab").await;
    ada.invite(&lab, &eve.email, "VIEWER").await.ok();
    let link = app.mail_to(&eve.email).await.link();
    let page = format!("/invitations/{}", token_of(&link));
    let nobody = app.anonymous();
    assert!(
        !nobody.get(&page).await.text().contains("name=\"code\""),
        "it is asked for only where it is needed"
    );
    let send = async |password: &str, code: Option<&str>| {
        let mut fields = vec![("intent", "sign_in"), ("email", eve.email.as_str()), ("password", password)];
        fields.extend(code.map(|code| ("code", code)));
        nobody.post_form(&page, &fields).await
    };
    assert!(!send("wrong", None).await.text().contains("name=\"code\""));
    let asked = send(PASSWORD, None).await;
    assert_eq!(asked.status, 422);
    let html = asked.text();
    assert!(
        html.contains("name=\"code\"") && html.contains("one-time-code") && html.contains("second factor"),
        "{html}"
    );
    assert!(!html.contains(PASSWORD));
    let wrong = send(PASSWORD, Some("000000")).await;
    assert!(wrong.text().contains("name=\"code\""), "{}", wrong.text());
    let done = send(PASSWORD, Some(&code(&app, &totp, 0))).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(app.number("SELECT count(*) FROM memberships").await, 4);
}

async fn an_operator_takes_it_from_somebody_who_lost_it(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let directory = TempDir::new().unwrap();
    let reset = |email: &str| {
        let done = guildhall(&app, directory.path(), &["admin", "reset-second-factor", email]);
        let told = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        (done.status.success(), told)
    };
    let (done, told) = reset(&eve.email);
    assert!(!done && told.contains("has no second factor"), "{told}");
    let (done, told) = reset("nobody@example.org");
    assert!(!done && told.contains("no account"), "{told}");
    set_up(&app, &eve).await;
    let (done, told) = reset(&eve.email);
    assert!(done && told.contains("password alone"), "{told}");
    assert!(!is_signed_in(&eve).await);
    on(&eve, sign_in(&app, &eve, None).await);
    assert_eq!(app.number("SELECT count(*) FROM recovery_codes").await, 0);
    // The clock stands here, and not in the operator's process, whose mail is due by its own.
    app.advance(TimeDelta::minutes(5));
    assert!(app.mail_to(&eve.email).await.subject().contains("was switched off"));
    app.chained().await;
    let log = ada
        .query(
            "{ viewer { organizations { nodes { auditLog(first: 1) { nodes { action actor { kind } object { id } } } } } } }",
            json!({}),
        )
        .await
        .ok();
    let entry = log.data("/viewer/organizations/nodes/0/auditLog/nodes/0");
    assert_eq!(
        (&entry["action"], &entry["actor"]["kind"]),
        (&json!("admin reset-second-factor"), &json!("OPERATOR"))
    );
    assert_eq!(entry["object"]["id"], eve.id.as_str());
}

async fn it_is_kept_sealed_and_sealed_anew(app: App) {
    let ada = app.set_up().await;
    let (totp, codes) = set_up(&app, &ada).await;
    let secret = totp.secret().to_base32();
    let bytes = hex::encode(totp.secret().as_ref());
    for row in app.everything().await {
        let row = row.to_lowercase();
        assert!(!row.contains(&secret.to_lowercase()) && !row.contains(&bytes), "{row}");
        assert!(codes.iter().all(|code| !row.contains(&code.to_lowercase())), "{row}");
    }
    let directory = TempDir::new().unwrap();
    let old = app.environment().find(|(name, _)| *name == "MASTER_KEY").unwrap().1.to_owned();
    let new = "YW5vdGhlciBtYXN0ZXIga2V5IG9mIHRoZSB0ZXN0cyE=";
    let rotate = |to: &str, from: &str| {
        let mut command = std::process::Command::new(guildhall_tests::process::binary());
        command.current_dir(directory.path()).env_clear().envs(app.environment());
        let output = command
            .envs([("MASTER_KEY", to), ("MASTER_KEY_PREVIOUS", from)])
            .args(["keys", "rotate"])
            .output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let before = app.rows("second_factors").await;
    let (done, told) = rotate(new, &old);
    assert!(done && told.contains("1 second factor"), "{told}");
    assert_ne!(app.rows("second_factors").await, before);
    // And back again, which the server knows.
    let (done, told) = rotate(&old, new);
    assert!(done && told.contains("1 second factor"), "{told}");
    next_step(&app);
    on(&ada, sign_in(&app, &ada, Some(&code(&app, &totp, 0))).await);
    // What is another's opens for nobody else.
    let eve = app.person("eve@example.org", "Eve").await;
    set_up(&app, &eve).await;
    let of =
        |who: &Actor| format!("(SELECT sealed FROM second_factors WHERE user_id = {})", app.literal(&who.id));
    app.sql(&format!(
        "UPDATE second_factors SET sealed = {} WHERE user_id = {}",
        of(&ada),
        app.literal(&eve.id)
    ))
    .await;
    next_step(&app);
    let stolen = code(&app, &totp, 0);
    assert_eq!(sign_in(&app, &eve, Some(&stolen)).await.code(), "INTERNAL");
}
