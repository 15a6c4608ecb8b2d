//! GraphQL over HTTP, as clients and their proxies see it: methods, media types, status codes, errors. No rule here
//! depends on the database, so SQLite is enough.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::TimeDelta;
use guildhall_tests::{
    App,
    actor::Page,
    both_databases,
    databases::{self, Engine},
};
use http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

both_databases!(App::start, a_failing_database_is_masked_wherever_it_fails);

pub(crate) const SPEC: &str = "application/graphql-response+json";
pub(crate) const JSON: &str = "application/json";

/// A test of what no database decides.
pub(crate) fn alone(test: impl AsyncFnOnce(App)) {
    databases::run(Engine::Sqlite, App::start, test);
}

pub(crate) fn post(app: &App, accept: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post(format!("{}/graphql", app.url))
        .header(header::CONTENT_TYPE, JSON)
        .header(header::ACCEPT, accept)
        .body(body.into())
        .unwrap()
}

pub(crate) async fn send(app: &App, request: Request<Bytes>) -> Page {
    app.anonymous().http(request).await
}

pub(crate) fn json_of(page: &Page) -> Value {
    serde_json::from_slice(&page.body).unwrap_or_else(|error| panic!("{error}: {page:?}"))
}

/// Status and body of an anonymous query that asks for the media type of the specification.
pub(crate) async fn ask(app: &App, query: &str) -> (StatusCode, Value) {
    let page = send(app, post(app, SPEC, json!({ "query": query }).to_string())).await;
    (page.status, json_of(&page))
}

/// The code of the first error.
#[track_caller]
pub(crate) fn code(body: &Value) -> &str {
    body["errors"][0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("no code: {body:.2000}"))
}

async fn get(app: &App, query: &str) -> Page {
    let request = Request::get(format!("{}/graphql?query={query}", app.url)).header(header::ACCEPT, SPEC);
    send(app, request.body(Bytes::new()).unwrap()).await
}

/// Sends bytes as they are and reads until the server has answered its first piece.
async fn raw(app: &App, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(app.url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = timeout(Duration::from_secs(5), stream.read(&mut answer)).await.expect("no answer").unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[test]
fn every_answer_carries_the_request_id_it_was_given() {
    alone(async |app| {
        for (given, kept) in [("mine-1", true), ("not ok", false)] {
            let mut request = post(&app, SPEC, r#"{"query":"{ nope }"}"#);
            request.headers_mut().insert("x-request-id", given.parse().unwrap());
            let page = send(&app, request).await;
            let id = page.headers["x-request-id"].to_str().unwrap();
            assert_eq!(id == given, kept, "{given}: {id}");
            assert!(kept || id.len() == 36, "{id}");
            assert_eq!(json_of(&page)["errors"][0]["extensions"]["requestId"], id);
        }
        for path in ["/healthz", "/playground", "/nowhere"] {
            assert!(app.anonymous().get(path).await.headers.contains_key("x-request-id"), "{path}");
        }
    });
}

#[test]
fn answers_name_their_type_and_what_they_vary_by() {
    alone(async |app| {
        for (accept, content_type) in [
            ("*/*", "application/json; charset=utf-8"),
            (JSON, "application/json; charset=utf-8"),
            (SPEC, "application/graphql-response+json; charset=utf-8"),
            (
                "application/json;q=0.5, application/graphql-response+json",
                "application/graphql-response+json; charset=utf-8",
            ),
        ] {
            let page = send(&app, post(&app, accept, r#"{"query":"{ __typename }"}"#)).await;
            assert_eq!(page.status, StatusCode::OK);
            assert_eq!(page.headers["content-type"], content_type, "{accept}");
            let vary = page.headers.get_all("vary").iter().map(|value| value.to_str().unwrap());
            assert!(vary.flat_map(|value| value.split(',')).any(|name| name.trim() == "accept"), "{page:?}");
            assert_eq!(page.headers["cache-control"], "no-store");
            assert_eq!(json_of(&page), json!({ "data": { "__typename": "Query" } }));
        }
        let request = Request::post(format!("{}/graphql", app.url)).header(header::CONTENT_TYPE, JSON);
        let page = send(&app, request.body(r#"{"query":"{ __typename }"}"#.into()).unwrap()).await;
        assert_eq!(page.headers["content-type"], "application/json; charset=utf-8", "without Accept");
    });
}

#[test]
fn nothing_acceptable_is_406() {
    alone(async |app| {
        for accept in ["text/html", "application/json;q=0", "application/json;charset=latin1"] {
            let page = send(&app, post(&app, accept, r#"{"query":"{ __typename }"}"#)).await;
            assert_eq!(page.status, StatusCode::NOT_ACCEPTABLE, "{accept}");
            assert_eq!(code(&json_of(&page)), "BAD_USER_INPUT");
        }
    });
}

#[test]
fn types_that_browsers_send_across_sites_are_refused_with_415() {
    alone(async |app| {
        for content_type in [
            Some("text/plain"),
            Some("multipart/form-data; boundary=x"),
            Some("application/x-www-form-urlencoded"),
            Some("application/json; charset=latin1"),
            Some("application/jsonx"),
            Some("application/graphql"),
            Some(""),
            None,
        ] {
            let mut request = post(&app, SPEC, r#"{"query":"{ __typename }"}"#);
            request.headers_mut().remove(header::CONTENT_TYPE);
            if let Some(value) = content_type {
                request.headers_mut().insert(header::CONTENT_TYPE, value.parse().unwrap());
            }
            let page = send(&app, request).await;
            assert_eq!(page.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type:?}");
            assert_eq!(code(&json_of(&page)), "BAD_USER_INPUT");
        }
    });
}

#[test]
fn malformed_requests_are_400_with_a_coded_error_and_no_data() {
    alone(async |app| {
        let deep = format!(r#"{{"query":"{{viewer}}","variables":{{"a":{}"#, "[".repeat(100_000));
        for body in [
            "",
            " ",
            "{",
            "null",
            "1",
            "\"{__typename}\"",
            "[]",
            r#"[{"query":"{__typename}"}]"#,
            r#"{"query":"{__typename}"} {"query":"{__typename}"}"#,
            r#"{"query":"{__typename}","query":"{__typename}"}"#,
            r#"{"query":"{__typename}","variables":{"a":{"b":1,"b":2}}}"#,
            r#"{"query":1}"#,
            r#"{"query":null}"#,
            r#"{"query":["{__typename}"]}"#,
            "{}",
            r#"{"query":"{__typename}","variables":[]}"#,
            r#"{"query":"{__typename}","variables":"{}"}"#,
            r#"{"query":"{__typename}","operationName":1}"#,
            r#"{"query":"{__typename}","extensions":1}"#,
            r#"{"query":"{__typename}","variables":{"a":NaN}}"#,
            r#"{"query":"{__typename}","variables":{"a":1e999}}"#,
            "\u{feff}{}",
            &deep,
        ] {
            for accept in [SPEC, JSON] {
                let page = send(&app, post(&app, accept, body.to_owned())).await;
                assert_eq!(page.status, StatusCode::BAD_REQUEST, "{body:.80}");
                let answer = json_of(&page);
                assert_eq!(code(&answer), "BAD_USER_INPUT", "{body:.80}");
                assert!(answer.get("data").is_none());
            }
        }
    });
}

#[test]
fn members_that_graphql_does_not_know_are_ignored() {
    alone(async |app| {
        let body =
            r#"{"query":"{__typename}","variables":null,"operationName":null,"extensions":null,"id":[1]}"#;
        let page = send(&app, post(&app, SPEC, body)).await;
        assert_eq!(
            (page.status, json_of(&page)),
            (StatusCode::OK, json!({ "data": { "__typename": "Query" } }))
        );
    });
}

#[test]
fn a_large_body_is_refused_with_413_without_being_waited_for() {
    alone(async |app| {
        let head = "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        let announced = raw(&app, format!("{head}content-length: 10485760\r\n\r\n").as_bytes()).await;
        assert!(announced.starts_with("HTTP/1.1 413 "), "{announced}");
        assert!(announced.contains("BAD_USER_INPUT"), "{announced}");

        // Chunks tell no length: just over a megabyte of them, and no end.
        let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        for _ in 0..17 {
            chunked.extend_from_slice(b"10000\r\n");
            chunked.resize(chunked.len() + 65_536, b' ');
            chunked.extend_from_slice(b"\r\n");
        }
        let streamed = raw(&app, &chunked).await;
        assert!(streamed.starts_with("HTTP/1.1 413 "), "{streamed}");

        let (status, _) = ask(&app, "{ __typename }").await;
        assert_eq!(status, StatusCode::OK);
    });
}

#[test]
fn the_limit_of_a_body_is_met_exactly() {
    async fn small(engine: Engine) -> App {
        App::start_with(engine, |env| {
            env.set("GUILDHALL_LIMITS_BODY_BYTES", 2_000).set("GUILDHALL_LIMITS_DOCUMENT_BYTES", 1_500);
        })
        .await
    }
    databases::run(Engine::Sqlite, small, async |app: App| {
        for (bytes, status) in [(2_000, StatusCode::OK), (2_001, StatusCode::PAYLOAD_TOO_LARGE)] {
            let body = format!("{:bytes$}", r#"{"query":"{ __typename }"}"#);
            assert_eq!(send(&app, post(&app, SPEC, body)).await.status, status, "{bytes}");
        }
        for (bytes, status) in [(1_500, StatusCode::OK), (1_501, StatusCode::BAD_REQUEST)] {
            assert_eq!(ask(&app, &format!("{:bytes$}", "{ __typename }")).await.0, status, "{bytes}");
        }
    });
}

#[test]
fn get_runs_queries_only() {
    alone(async |app| {
        let ada = app.set_up().await;
        assert_eq!(get(&app, "%7B__typename%7D").await.status, StatusCode::OK);
        let named = get(&app, "query+A%7B__typename%7D&operationName=A&variables=&extensions=%7B%7D").await;
        assert_eq!(json_of(&named)["data"]["__typename"], "Query");
        for mutation in [
            "mutation%7BsignOut%7BsignedOut%7D%7D",
            "mutation+M%7BsignOut%7BsignedOut%7D%7D",
            "mutation+M%7BsignOut%7BsignedOut%7D%7D&operationName=M",
            "query+Q%7B__typename%7D+mutation+M%7BsignOut%7BsignedOut%7D%7D&operationName=M",
        ] {
            let request = Request::get(format!("{}/graphql?query={mutation}", app.url))
                .header(header::AUTHORIZATION, format!("Bearer {}", ada.access_token.as_ref().unwrap()));
            let page = send(&app, request.body(Bytes::new()).unwrap()).await;
            assert_eq!(page.status, StatusCode::METHOD_NOT_ALLOWED, "{mutation}");
            assert_eq!(page.headers["allow"], "POST");
            assert_eq!(code(&json_of(&page)), "BAD_USER_INPUT");
        }
        let viewer = ada.query("{ viewer { user { email } } }", json!({})).await.ok();
        assert_eq!(viewer.text("/viewer/user/email"), "ada@example.org", "nothing was run");
        let chosen = "query+Q%7B__typename%7D+mutation+M%7BsignOut%7BsignedOut%7D%7D&operationName=Q";
        assert_eq!(get(&app, chosen).await.status, StatusCode::OK, "the operation chosen is a query");

        for bad in [
            "%7B__typename%7D&query=%7B__typename%7D",
            "%7B__typename%7D&variables=%5B%5D",
            "%7B__typename%7D&variables=nonsense",
            "%7B__typename%7D&extensions=1",
            "",
        ] {
            let page = get(&app, bad).await;
            assert_eq!(
                (page.status, code(&json_of(&page))),
                (StatusCode::BAD_REQUEST, "BAD_USER_INPUT"),
                "{bad}"
            );
        }
    });
}

#[test]
fn other_methods_are_405() {
    alone(async |app| {
        for method in ["PUT", "DELETE", "PATCH"] {
            let request = Request::builder().method(method).uri(format!("{}/graphql", app.url));
            let page = send(&app, request.body(Bytes::new()).unwrap()).await;
            assert_eq!(page.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(page.headers["allow"], "GET, POST");
            assert_eq!(code(&json_of(&page)), "BAD_USER_INPUT");
        }
    });
}

#[test]
fn only_configured_origins_may_read_answers_in_a_browser() {
    async fn with_a_frontend(engine: Engine) -> App {
        App::start_with(engine, |env| {
            env.set("GUILDHALL_CORS_ORIGINS", "https://app.example.org");
        })
        .await
    }
    databases::run(Engine::Sqlite, with_a_frontend, async |app: App| {
        for (origin, allowed) in [
            ("https://app.example.org", true),
            ("https://evil.example", false),
            ("https://app.example.org.evil.example", false),
            ("null", false),
        ] {
            let preflight = Request::options(format!("{}/graphql", app.url))
                .header(header::ORIGIN, origin)
                .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
                .header(
                    header::ACCESS_CONTROL_REQUEST_HEADERS,
                    "authorization,content-type,idempotency-key,x-request-id",
                );
            let mut request = post(&app, JSON, r#"{"query":"{ __typename }"}"#);
            request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
            for request in [preflight.body(Bytes::new()).unwrap(), request] {
                let page = send(&app, request).await;
                let answer = page.headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
                assert_eq!(answer.is_some_and(|value| value == origin), allowed, "{origin} {page:?}");
                assert!(!page.headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
                let list = |name| {
                    let value = page.headers.get(name).map(|value| value.to_str().unwrap());
                    value.unwrap_or_default().to_lowercase()
                };
                let (may_send, may_read) =
                    (list(header::ACCESS_CONTROL_ALLOW_HEADERS), list(header::ACCESS_CONTROL_EXPOSE_HEADERS));
                for name in ["authorization", "content-type", "idempotency-key", "x-request-id"] {
                    assert!(may_send.contains(name) || !may_read.is_empty(), "{name}: {page:?}");
                }
                for name in ["x-request-id", "retry-after", "ratelimit", "ratelimit-policy"] {
                    assert!(may_read.contains(name) || !may_send.is_empty(), "{name}: {page:?}");
                }
            }
        }
    });
}

#[test]
fn a_bad_token_is_401_and_never_anonymous() {
    alone(async |app| {
        let ada = app.set_up().await;
        let good = ada.access_token.clone().unwrap();
        let cut = &good[..good.len() - 2];
        for token in [
            "Bearer nonsense",
            &format!("Bearer {cut}"),
            &format!("Bearer {}", ada.refresh_token.as_ref().unwrap()),
            "Bearer a.b.c",
            "Basic abc",
            "Bearer",
            "Bearer ",
            "",
            &good,
        ] {
            for accept in [SPEC, JSON] {
                let mut request = post(&app, accept, r#"{"query":"{ __typename }"}"#);
                request.headers_mut().insert(header::AUTHORIZATION, token.parse().unwrap());
                let page = send(&app, request).await;
                assert_eq!(page.status, StatusCode::UNAUTHORIZED, "{token}");
                assert!(page.headers.contains_key(header::WWW_AUTHENTICATE));
                let body = json_of(&page);
                assert_eq!(code(&body), "UNAUTHENTICATED");
                assert!(body.get("data").is_none());
            }
        }
        let signed_in = async |scheme: &str| {
            let mut request = post(&app, SPEC, r#"{"query":"{ viewer { user { email } } }"}"#);
            let value = format!("{scheme} {good}").parse().unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, value);
            send(&app, request).await
        };
        assert_eq!(json_of(&signed_in("bearer").await)["data"]["viewer"]["user"]["email"], "ada@example.org");

        let mut twice = post(&app, SPEC, r#"{"query":"{ __typename }"}"#);
        for _ in 0..2 {
            twice.headers_mut().append(header::AUTHORIZATION, format!("Bearer {good}").parse().unwrap());
        }
        assert_eq!(send(&app, twice).await.status, StatusCode::UNAUTHORIZED, "two tokens are none");

        app.advance(TimeDelta::minutes(16));
        let expired = signed_in("Bearer").await;
        assert_eq!(expired.status, StatusCode::UNAUTHORIZED);
        assert!(expired.text().contains("expired"), "{expired:?}");
    });
}

#[test]
fn refusals_before_execution_have_codes_and_no_data() {
    alone(async |app| {
        let of_type = format!("{}name{}", "ofType { ".repeat(20), " }".repeat(20));
        for (query, expected) in [
            ("", "GRAPHQL_PARSE_FAILED"),
            ("{", "GRAPHQL_PARSE_FAILED"),
            ("{ nope }", "GRAPHQL_VALIDATION_FAILED"),
            ("{ viewer }", "GRAPHQL_VALIDATION_FAILED"),
            ("{ workspace { id } }", "GRAPHQL_VALIDATION_FAILED"),
            ("{ ...a } fragment a on Query { ...a }", "GRAPHQL_VALIDATION_FAILED"),
            (
                &format!("{{ __type(name: \"Query\") {{ fields {{ type {{ {of_type} }} }} }} }}"),
                "QUERY_TOO_COMPLEX",
            ),
            (
                &format!("{{ {} }}", (0..60).map(|n| format!("a{n}: __typename ")).collect::<String>()),
                "QUERY_TOO_COMPLEX",
            ),
            (&format!("{{ {} }}", "viewer { user { id } } ".repeat(700)), "QUERY_TOO_COMPLEX"),
            (&format!("{{ {} }}", "__typename ".repeat(51)), "QUERY_TOO_COMPLEX"),
            (&format!("{{ __typename {} }}", "@skip(if:false)".repeat(51)), "QUERY_TOO_COMPLEX"),
            (&format!("{{node(id:{}{}){{id}}}}", "[".repeat(1_600), "]".repeat(1_600)), "QUERY_TOO_COMPLEX"),
            ("query A { __typename } query B { __typename }", "BAD_USER_INPUT"),
            ("query A($id: ID!) { node(id: $id) { id } }", "BAD_USER_INPUT"),
            ("subscription { viewerInvitationChanged { status } }", "BAD_USER_INPUT"),
        ] {
            let (status, body) = ask(&app, query).await;
            assert_eq!((status, code(&body)), (StatusCode::BAD_REQUEST, expected), "{query:.80} {body}");
            assert!(body.get("data").is_none());
            let page = send(&app, post(&app, JSON, json!({ "query": query }).to_string())).await;
            assert_eq!(page.status, StatusCode::OK, "application/json tells about HTTP only");
            assert!(json_of(&page).get("data").is_none());
        }
    });
}

#[test]
fn several_requests_at_once_are_refused_and_told_so() {
    alone(async |app| {
        let page =
            send(&app, post(&app, JSON, r#"[{"query":"{__typename}"},{"query":"{__typename}"}]"#)).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST);
        assert!(page.text().contains("batches are not supported, send one JSON object"), "{}", page.text());
    });
}

async fn a_failing_database_is_masked_wherever_it_fails(app: App) {
    let ada = app.set_up().await;
    app.sql("ALTER TABLE workspaces RENAME TO elsewhere").await;
    for query in
        ["{ viewer { workspaces { nodes { id } } } }", "{ viewer { user { id } defaultWorkspace { id } } }"]
    {
        let answer = ada.query(query, json!({})).await.denied("INTERNAL");
        assert_eq!(answer.status, StatusCode::OK);
        let text = answer.body.to_string();
        for word in ["workspaces\" does not", "no such", "relation", "sql", "elsewhere"] {
            assert!(!text.to_lowercase().contains(word), "{text}");
        }
        assert_eq!(
            answer.errors()[0]["extensions"]["requestId"],
            answer.headers["x-request-id"].to_str().unwrap()
        );
    }
    let input = json!({ "displayName": "Lab" });
    ada.mutate("createWorkspace", input, "workspace { id }").await.denied("INTERNAL");
}

#[test]
fn a_coded_error_of_a_resolver_keeps_its_message_beside_the_data() {
    alone(async |app| {
        let (status, body) = ask(&app, r#"{ __typename node(id: "x") { id } }"#).await;
        assert_eq!(status, StatusCode::OK, "it was executed");
        assert_eq!(body["data"], json!({ "__typename": "Query", "node": null }));
        assert_eq!(code(&body), "UNAUTHENTICATED");
        assert_eq!(body["errors"][0]["message"], "Sign in: this needs a valid access token.");
        assert_eq!(body["errors"][0]["path"], json!(["node"]));
        assert!(body["errors"][0]["extensions"]["requestId"].is_string());
    });
}

#[test]
fn an_answer_has_at_most_20_errors() {
    alone(async |app| {
        let unknown = format!("{{ {} }}", (0..1_000).map(|n| format!("x{n} ")).collect::<String>());
        let directives =
            format!("query {} {{ __typename }}", (0..1_900).map(|n| format!("@x{n} ")).collect::<String>());
        for query in [unknown, directives] {
            let (_, body) = ask(&app, &query).await;
            let errors = body["errors"].as_array().unwrap().len();
            assert!((1..=20).contains(&errors), "{errors}");
        }
    });
}

#[test]
fn a_value_is_not_repeated_at_length_in_the_error() {
    alone(async |app| {
        let ada = app.set_up().await;
        let long = "x".repeat(500_000);
        for (query, variables) in [
            (format!("{{ {} }}", "x".repeat(50_000)).as_str(), json!({})),
            ("query($n: Int!) { viewer { workspaces(first: $n) { totalCount } } }", json!({ "n": long })),
            ("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", json!({ "ids": [[[long]]] })),
            ("query($n: String!) { workspace(name: $n) { can(permission: NO) } }", json!({ "n": long })),
            (
                "mutation($i: SignInInput!) { signIn(input: $i) { user { id } } }",
                json!({ "i": { "email": [long] } }),
            ),
            (
                "mutation($i: SignInInput!) { signIn(input: $i) { user { id } } }",
                json!({ "i": { long.as_str(): 1 } }),
            ),
        ] {
            let answer = ada.query(query, variables).await;
            assert!(!answer.errors().is_empty(), "{query:.80} {answer:.300}");
            let size = answer.body.to_string().len();
            assert!(size < 5_000, "{query:.80}: {size} bytes");
        }
    });
}

#[test]
fn the_worst_that_passes_the_guard_is_answered_in_time() {
    alone(async |app| {
        let many = |range: std::ops::Range<i32>, text: &str| -> String {
            range.map(|n| text.replace('#', &n.to_string())).collect()
        };
        let links: String =
            (0..49).map(|n| format!("fragment f{n} on Query{{...f{} {}}}", n + 1, "a ".repeat(8))).collect();
        for query in [
            format!("{{{}}} fragment f on Query{{{}}}", "...f ".repeat(999), "__typename ".repeat(18)),
            format!("{{...f0}} {links} fragment f49 on Query{{__typename}}"),
            format!("{}{{__typename}}{}", "{...on Query".repeat(63), "}".repeat(63)),
            format!("{{ {} }}", "viewer { __typename } ".repeat(600)),
            format!("{{ {} }}", many(0..3_900, "x# ")),
            format!("{{ {} }}", "a: __typename a: viewer { __typename } ".repeat(400)),
            format!("query {} {{ __typename }}", many(0..1_900, "@x# ")),
            format!("{{ nodes(ids: [{}]) {{ id }} }}", "1 ".repeat(3_900)),
            format!("{{ nodes(ids: {}1{}) {{ id }} }}", "[".repeat(60), "]".repeat(60)),
        ] {
            let started = Instant::now();
            ask(&app, &query).await;
            assert!(started.elapsed() < Duration::from_secs(1), "{:?} {query:.80}", started.elapsed());
        }
    });
}

#[test]
fn answers_are_compressed_for_those_who_can_read_that() {
    alone(async |app| {
        let mut request = post(&app, SPEC, r#"{"query":"{ __schema { types { name fields { name } } } }"}"#);
        request.headers_mut().insert(header::ACCEPT_ENCODING, "gzip".parse().unwrap());
        let page = send(&app, request).await;
        assert_eq!(page.headers[header::CONTENT_ENCODING], "gzip");
        assert_eq!(page.body[..2], [0x1f, 0x8b]);
        let vary = page.headers.get_all("vary").iter().map(|value| value.to_str().unwrap().to_lowercase());
        assert!(vary.collect::<Vec<_>>().join(",").contains("accept-encoding"));
        let mut request = post(&app, SPEC, r#"{"query":"{ __schema { types { name fields { name } } } }"}"#);
        request.headers_mut().insert(header::ACCEPT_ENCODING, "gzip;q=0.5, br".parse().unwrap());
        assert_eq!(send(&app, request).await.headers[header::CONTENT_ENCODING], "br");
        let mut request = post(&app, SPEC, r#"{"query":"{ __typename }"}"#);
        request.headers_mut().insert(header::ACCEPT_ENCODING, "gzip, br".parse().unwrap());
        let page = send(&app, request).await;
        assert!(!page.headers.contains_key(header::CONTENT_ENCODING), "a short answer only grows");
    });
}

/// Asks with `extensions` beside the document.
async fn extended(app: &App, query: &str, extensions: Value) -> Value {
    let body = json!({ "query": query, "extensions": extensions }).to_string();
    let request = Request::post(format!("{}/graphql", app.url)).header("content-type", "application/json");
    serde_json::from_slice(&send(app, request.body(body.into()).unwrap()).await.body).unwrap()
}

#[test]
fn whoever_asks_is_told_what_an_operation_costs() {
    alone(async |app: App| {
        let document = "{ permissionCatalogue { name } viewer { user { id } } }";
        let told = extended(&app, document, json!({ "queryCost": true })).await;
        let cost = &told["extensions"]["queryCost"];
        assert_eq!(
            (&cost["depth"], &cost["depthLimit"], &cost["complexityLimit"]),
            (&json!(3), &json!(16), &json!(2000))
        );
        assert!(cost["complexity"].as_i64().unwrap() >= 5, "{told}");
        for quiet in [json!({}), json!({ "queryCost": false }), json!({ "queryCost": "yes" })] {
            assert_eq!(extended(&app, document, quiet).await["extensions"], Value::Null);
        }
        // Beyond the limit it tells by how much.
        let page = |inner: &str| {
            format!("workspaces(first: 100) {{ nodes {{ members(first: 100) {{ nodes {{ {inner} }} }} }} }}")
        };
        let large =
            format!("{{ viewer {{ {} }} }}", page("workspace { members(first: 100) { nodes { id } } }"));
        let refused = extended(&app, &large, json!({ "queryCost": true })).await;
        let error = &refused["errors"][0]["extensions"];
        assert_eq!(error["code"], "QUERY_TOO_COMPLEX", "{refused}");
        assert!(error["queryCost"]["complexity"].as_i64().unwrap() > 2000, "{refused}");
        assert_eq!(
            extended(&app, &large, json!({})).await["errors"][0]["extensions"]["code"],
            "QUERY_TOO_COMPLEX"
        );
    });
}
