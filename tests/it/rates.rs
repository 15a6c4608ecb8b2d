//! How many operations somebody may ask for, over all transports; and what the refusal says. Counted in memory, so
//! SQLite is enough.

use bytes::Bytes;
use guildhall_tests::{
    Actor, App, Environment,
    databases::{self, Engine},
};
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    http::{JSON, code, json_of, post, send},
    sockets::ready,
};

fn with(change: impl FnOnce(&mut Environment), test: impl AsyncFnOnce(App)) {
    databases::run(Engine::Sqlite, async |engine| App::start_with(engine, change).await, test);
}

fn number(headers: &http::HeaderMap, limit: &str, parameter: &str) -> u64 {
    let all = headers["ratelimit"].to_str().unwrap();
    let one = all.split(", ").find(|one| one.starts_with(&format!("\"{limit}\""))).unwrap();
    let value = one.split(';').find_map(|part| part.strip_prefix(&format!("{parameter}=")));
    value.unwrap().parse().unwrap()
}

#[test]
fn every_answer_tells_what_is_left_and_too_many_are_refused_with_429() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_REQUESTS_PER_MINUTE_PER_IP", 5);
        },
        async |app| {
            let ask = async |body: &str| send(&app, post(&app, JSON, body.to_owned())).await;
            for (n, body) in
                [r#"{"query":"{__typename}"}"#, "nonsense", r#"{"query":"{"}"#].iter().enumerate()
            {
                let page = ask(body).await;
                assert_eq!(page.headers["ratelimit-policy"], "\"network\";q=5;w=60", "{body}");
                assert_eq!(number(&page.headers, "network", "r"), 4 - n as u64, "{body}");
                assert!((1..=60).contains(&number(&page.headers, "network", "t")));
                assert!(!page.headers.contains_key(header::RETRY_AFTER));
            }
            let mut bad = post(&app, JSON, r#"{"query":"{__typename}"}"#);
            bad.headers_mut().insert(header::AUTHORIZATION, "Bearer nonsense".parse().unwrap());
            assert_eq!(send(&app, bad).await.status, StatusCode::UNAUTHORIZED, "counts as well");
            assert_eq!(ask(r#"{"query":"{__typename}"}"#).await.status, StatusCode::OK);
            for path in ["/graphql", "/graphql/stream"] {
                let request = Request::post(format!("{}{path}", app.url)).header(header::CONTENT_TYPE, JSON);
                let page = send(&app, request.body(r#"{"query":"{__typename}"}"#.into()).unwrap()).await;
                assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
                let answer = json_of(&page);
                assert_eq!(code(&answer), "RATE_LIMITED");
                assert!(answer.get("data").is_none());
                let seconds = answer["errors"][0]["extensions"]["retryAfterSeconds"].as_u64().unwrap();
                assert!((1..=12).contains(&seconds), "{answer}");
                assert_eq!(page.headers[header::RETRY_AFTER], seconds.to_string().as_str());
                assert_eq!(number(&page.headers, "network", "r"), 0);
            }
            let page = app.anonymous().get("/healthz").await;
            assert_eq!(page.status, StatusCode::OK, "what is no operation is not counted");
            assert!(!page.headers.contains_key("ratelimit"));
        },
    );
}

#[test]
fn each_account_has_a_share_of_its_own_over_all_transports() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_REQUESTS_PER_MINUTE", 6);
        },
        async |app| {
            let ada = app.set_up().await;
            let phone = ada.again().await;
            let first = ada.query("{ __typename }", json!({})).await.ok();
            assert_eq!(first.headers["ratelimit-policy"], "\"actor\";q=6;w=60");
            assert_eq!(number(&first.headers, "actor", "r"), 5, "setting up and signing in was nobody's yet");
            assert_eq!(number(&phone.query("{ __typename }", json!({})).await.ok().headers, "actor", "r"), 4);
            let mut client = ready(&app, ada.access_token.as_deref()).await;
            for id in ["1", "2", "3", "4"] {
                client.subscribe(id, "{ __typename }", Value::Null).await;
                assert_eq!(client.receive().await["type"], "next", "{id}");
                assert_eq!(client.receive().await["type"], "complete");
            }
            client.subscribe("5", "{ __typename }", Value::Null).await;
            let message = client.receive().await;
            assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!("5")));
            let extensions = &message["payload"][0]["extensions"];
            assert_eq!(extensions["code"], "RATE_LIMITED");
            assert!((1..=10).contains(&extensions["retryAfterSeconds"].as_u64().unwrap()), "{message}");
            client.text(r#"{"type":"ping"}"#).await;
            assert_eq!(client.receive().await["type"], "pong", "the socket lives");
            let refused = phone.query("{ __typename }", json!({})).await.denied("RATE_LIMITED");
            assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
            app.anonymous().query("{ __typename }", json!({})).await.ok();
            let bob = Actor::sign_in(&app.url, "ada@example.org", &ada.password).await;
            bob.query("{ __typename }", json!({})).await.denied("RATE_LIMITED");
        },
    );
}

#[test]
fn only_refresh_tokens_that_are_refused_are_counted() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_TOKEN_ATTEMPTS_PER_MINUTE", 2);
        },
        async |app| {
            let mut token = app.set_up().await.refresh_token.unwrap();
            let refresh = async |token: &str| {
                let input = json!({ "refreshToken": token });
                app.anonymous().mutate("refreshSession", input, "session { refreshToken }").await
            };
            for _ in 0..5 {
                let answer = refresh(&token).await.ok();
                token = answer.text("/refreshSession/session/refreshToken").to_owned();
            }
            // Setting up was a try as well.
            refresh("nonsense").await.refused("SESSION_INVALID");
            refresh("nonsense").await.denied("RATE_LIMITED");
            refresh(&token).await.ok();
        },
    );
}

#[test]
fn whoever_is_refused_too_many_tries_learns_when_to_try_again() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_TOKEN_ATTEMPTS_PER_MINUTE", 1);
        },
        async |app| {
            app.set_up().await;
            let input = json!({ "refreshToken": "nonsense" });
            let refused = app.anonymous().mutate("refreshSession", input, "session { accessToken }").await;
            let refused = refused.denied("RATE_LIMITED");
            let seconds = &refused.errors()[0]["extensions"]["retryAfterSeconds"];
            assert!((1..=60).contains(&seconds.as_u64().unwrap()), "{refused}");
            let ask = || {
                let body = "grant_type=client_credentials&client_id=x&client_secret=y";
                Request::post(format!("{}/oauth/token", app.url))
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(Bytes::from(body))
                    .unwrap()
            };
            send(&app, ask()).await;
            let page = send(&app, ask()).await;
            assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
            let seconds: u64 = page.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&seconds));
        },
    );
}
