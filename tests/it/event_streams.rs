//! Operations over server-sent events, as graphql-sse's distinct connections and `curl -N` see them. What a stream tells
//! is the same as over sockets; here is what becomes of the stream. SQLite is enough but where two processes meet.

use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use chrono::TimeDelta;
use guildhall_tests::{
    Actor, App, Environment, both_databases,
    databases::{self, Engine},
};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::http::{JSON, SPEC, alone, code, json_of};

both_databases!(App::start, changes_are_told_as_they_happen);

const CHANGES: &str = "subscription($id: ID!, $after: String) {
    invitationStatusChanged(workspaceId: $id, after: $after) { cursor status invitation { email } }
}";
/// A subscription to which nothing happens.
const IDLE: &str = "subscription { viewerInvitationChanged { status } }";
const EVENTS: &str = "text/event-stream";
const PATIENCE: Duration = Duration::from_secs(10);

fn with(change: impl FnOnce(&mut Environment), test: impl AsyncFnOnce(App)) {
    databases::run(Engine::Sqlite, async |engine| App::start_with(engine, change).await, test);
}

/// What a stream tells.
#[derive(Debug, PartialEq)]
enum Told {
    Next(Value),
    Complete,
    /// It ended without `complete`.
    Cut,
}

struct Stream {
    status: StatusCode,
    headers: HeaderMap,
    body: hyper::body::Incoming,
    read: BytesMut,
    /// Comments so far.
    comments: usize,
}

fn request(actor: &Actor, path: &str, accept: Option<&str>, body: &Value) -> Request<Full<Bytes>> {
    let mut request =
        Request::post(format!("{}{path}", actor.url)).header(header::CONTENT_TYPE, "application/json");
    if let Some(accept) = accept {
        request = request.header(header::ACCEPT, accept);
    }
    if let Some(token) = &actor.access_token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    request.body(Full::new(body.to_string().into())).unwrap()
}

impl Stream {
    async fn send(request: Request<Full<Bytes>>) -> Self {
        let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let response = timeout(PATIENCE, client.request(request)).await.expect("no answer").unwrap();
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers, body, read: BytesMut::new(), comments: 0 }
    }

    /// As the client graphql-sse asks.
    async fn open(actor: &Actor, query: &str, variables: Value) -> Self {
        let body = json!({ "query": query, "variables": variables });
        let stream = Self::send(request(actor, "/graphql/stream", Some(EVENTS), &body)).await;
        assert_eq!(
            (stream.status, &stream.headers["content-type"]),
            (StatusCode::OK, &EVENTS.parse().unwrap())
        );
        stream
    }

    async fn told(&mut self) -> Told {
        loop {
            while let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let text = String::from_utf8(self.read[..end].to_vec()).unwrap();
                self.read.advance(end + 2);
                let (mut event, mut data) = ("", None);
                for line in text.lines() {
                    match line.split_once(':').unwrap() {
                        ("event", name) => event = name.trim_start(),
                        ("data", value) => data = Some(value.trim_start()),
                        ("", _) => self.comments += 1,
                        other => panic!("unexpected: {other:?}"),
                    }
                }
                match (event, data) {
                    ("next", Some(json)) => return Told::Next(serde_json::from_str(json).unwrap()),
                    ("complete", Some("")) => return Told::Complete,
                    ("", None) => {}
                    other => panic!("unexpected: {other:?}"),
                }
            }
            match timeout(PATIENCE, self.body.frame()).await.expect("nothing in time") {
                Some(Ok(frame)) => self.read.extend_from_slice(&frame.into_data().unwrap()),
                Some(Err(error)) => panic!("broken: {error}"),
                None => return Told::Cut,
            }
        }
    }

    async fn next(&mut self) -> Value {
        match self.told().await {
            Told::Next(value) => value,
            other => panic!("no event: {other:?}"),
        }
    }

    async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(200), self.told()).await.is_err()
    }

    async fn body(self) -> Value {
        serde_json::from_slice(&self.body.collect().await.unwrap().to_bytes()).unwrap()
    }
}

async fn changes_are_told_as_they_happen(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let mut stream = Stream::open(&ada, CHANGES, json!({ "id": lab.id })).await;
    assert_eq!(stream.headers["cache-control"], "no-store");
    assert_eq!(stream.headers["x-accel-buffering"], "no");
    assert!(stream.headers.contains_key("x-request-id"));
    assert!(stream.is_silent().await);
    assert_eq!(stream.comments, 1, "something to read at once");
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let told = stream.next().await;
    assert_eq!(told["data"]["invitationStatusChanged"]["invitation"]["email"], "eve@example.org");
    assert_eq!(told["data"]["invitationStatusChanged"]["status"], "PENDING");
    app.mail_to("eve@example.org").await;
}

#[test]
fn queries_and_mutations_are_one_event_and_the_end() {
    alone(async |app| {
        let ada = app.set_up().await;
        let mut stream = Stream::open(&ada, "{ __typename }", Value::Null).await;
        assert_eq!(stream.told().await, Told::Next(json!({ "data": { "__typename": "Query" } })));
        assert_eq!((stream.told().await, stream.told().await), (Told::Complete, Told::Cut));
        let make = "mutation($input: CreateWorkspaceInput!) { createWorkspace(input: $input) { workspace { displayName } } }";
        let mut stream = Stream::open(&ada, make, json!({ "input": { "displayName": "Lab" } })).await;
        assert_eq!(stream.next().await["data"]["createWorkspace"]["workspace"]["displayName"], "Lab");
        assert_eq!(stream.told().await, Told::Complete);
    });
}

#[test]
fn faults_of_the_document_are_told_in_the_stream() {
    alone(async |app| {
        let ada = app.set_up().await;
        for (query, variables, expected) in [
            ("{", Value::Null, "GRAPHQL_PARSE_FAILED"),
            ("subscription { nope }", Value::Null, "GRAPHQL_VALIDATION_FAILED"),
            ("{ nope }", Value::Null, "GRAPHQL_VALIDATION_FAILED"),
            (CHANGES, Value::Null, "BAD_USER_INPUT"),
            (CHANGES, json!({ "id": "wks_00000000000000000000000000000000" }), "NOT_FOUND"),
        ] {
            let mut stream = Stream::open(&ada, query, variables).await;
            let told = stream.next().await;
            assert_eq!(code(&told), expected, "{query} {told}");
            assert!(told["errors"][0]["extensions"]["requestId"].is_string());
            assert_eq!((stream.told().await, stream.told().await), (Told::Complete, Told::Cut), "{query}");
        }
    });
}

#[test]
fn faults_of_the_request_are_told_by_its_status() {
    alone(async |app| {
        let ada = app.set_up().await;
        let nobody = app.anonymous();
        let stranger = Actor::machine(&app.url, "nonsense");
        let good = json!({ "query": IDLE });
        let form = |actor: &Actor| {
            let mut request = request(actor, "/graphql/stream", Some(EVENTS), &good);
            request.headers_mut().insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
            request
        };
        for (request, status) in [
            (request(&stranger, "/graphql/stream", Some(EVENTS), &good), StatusCode::UNAUTHORIZED),
            (request(&nobody, "/graphql/stream", Some(EVENTS), &json!([])), StatusCode::BAD_REQUEST),
            (request(&nobody, "/graphql/stream", Some(EVENTS), &json!({})), StatusCode::BAD_REQUEST),
            (request(&nobody, "/graphql/stream", Some(JSON), &good), StatusCode::NOT_ACCEPTABLE),
            (form(&ada), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ] {
            let stream = Stream::send(request).await;
            assert_eq!(stream.status, status);
            assert!(stream.headers["content-type"].to_str().unwrap().starts_with(JSON));
            code(&stream.body().await);
        }
    });
}

#[test]
fn who_accepts_events_gets_them_at_the_usual_address_too() {
    alone(async |app| {
        let ada = app.set_up().await;
        // As urql and Apollo's own transports ask: one answer rather than events, but a subscription has no such answer.
        let both = "application/graphql-response+json, application/json, text/event-stream, multipart/mixed";
        for (path, accept, query, expected) in [
            ("/graphql", Some(EVENTS), IDLE, EVENTS),
            ("/graphql", Some(EVENTS), "{ __typename }", EVENTS),
            ("/graphql", Some(both), IDLE, EVENTS),
            ("/graphql", Some(both), "{ __typename }", SPEC),
            ("/graphql", Some("*/*"), "{ __typename }", JSON),
            ("/graphql", None, IDLE, JSON),
            ("/graphql/stream", Some("*/*"), IDLE, EVENTS),
            ("/graphql/stream", None, IDLE, EVENTS),
        ] {
            let stream = Stream::send(request(&ada, path, accept, &json!({ "query": query }))).await;
            let found = stream.headers["content-type"].to_str().unwrap();
            assert!(found.starts_with(expected), "{path} {accept:?} {query}: {found}");
            assert_eq!(stream.status, StatusCode::OK);
        }
        let refused = Stream::send(request(&ada, "/graphql", Some("*/*"), &json!({ "query": IDLE }))).await;
        let refused = refused.body().await;
        assert_eq!(
            code(&refused),
            "BAD_USER_INPUT",
            "whoever accepts anything is not kept waiting for an end"
        );
        assert!(refused["errors"][0]["message"].as_str().unwrap().contains("text/event-stream"), "{refused}");
    });
}

#[test]
fn get_watches_and_queries_and_changes_nothing() {
    alone(async |app| {
        let ada = app.set_up().await;
        let get = |query: &str| {
            Request::get(format!("{}/graphql/stream?query={query}", app.url))
                .header(header::ACCEPT, EVENTS)
                .header(header::AUTHORIZATION, format!("Bearer {}", ada.access_token.as_ref().unwrap()))
                .body(Full::default())
                .unwrap()
        };
        let mut stream = Stream::send(get("subscription%7BviewerInvitationChanged%7Bstatus%7D%7D")).await;
        assert_eq!(stream.status, StatusCode::OK);
        assert!(stream.is_silent().await);
        let mut stream = Stream::send(get("%7B__typename%7D")).await;
        assert_eq!(stream.next().await["data"]["__typename"], "Query");
        let stream = Stream::send(get("mutation%7BsignOut%7BsignedOut%7D%7D")).await;
        assert_eq!(
            (stream.status, &stream.headers["allow"]),
            (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap())
        );
    });
}

#[test]
fn the_end_of_the_token_ends_the_stream_and_does_not_complete_it() {
    alone(async |app| {
        app.stop_the_clock();
        let ada = app.set_up().await;
        app.advance(TimeDelta::seconds(15 * 60 - 2));
        let started = Instant::now();
        let mut stream = Stream::open(&ada, IDLE, Value::Null).await;
        assert_eq!(stream.told().await, Told::Cut, "a client that hears of no end opens it again");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    });
}

#[test]
fn a_session_that_ends_is_told_nothing_more() {
    alone(async |app| {
        let ada = app.set_up().await;
        let lab = ada.workspace("Lab").await;
        let phone = ada.again().await;
        let mut stream = Stream::open(&phone, CHANGES, json!({ "id": lab.id })).await;
        assert!(stream.is_silent().await);
        phone.mutate("signOut", Value::Null, "signedOut").await.ok();
        ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
        assert_eq!(code(&stream.next().await), "UNAUTHENTICATED");
        assert_eq!(stream.told().await, Told::Complete);
    });
}

#[test]
fn shutdown_ends_every_stream_without_completing_it() {
    alone(async |mut app| {
        let ada = app.set_up().await;
        let mut stream = Stream::open(&ada, IDLE, Value::Null).await;
        assert!(stream.is_silent().await);
        let started = Instant::now();
        app.begin_to_stop();
        assert_eq!(stream.told().await, Told::Cut);
        app.stop().await;
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    });
}

#[test]
fn streams_and_sockets_share_their_limits() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_SOCKETS", 3).set("GUILDHALL_LIMITS_SOCKETS_PER_ACTOR", 2);
        },
        async |app| {
            let ada = app.set_up().await;
            let bob = app.person("bob@example.org", "Bob").await;
            let body = json!({ "query": IDLE });
            let ask = |actor: &Actor| request(actor, "/graphql/stream", Some(EVENTS), &body);
            let socket = ada.subscribe(IDLE, Value::Null).await;
            let mut stream = Stream::open(&ada, IDLE, Value::Null).await;
            let third = Stream::send(ask(&ada.again().await)).await;
            assert_eq!(third.status, StatusCode::TOO_MANY_REQUESTS, "one person's, whatever the session");
            assert_eq!(code(&third.body().await), "RATE_LIMITED");
            let _hers = Stream::open(&bob, IDLE, Value::Null).await;
            let fourth = Stream::send(ask(&bob)).await;
            assert_eq!(fourth.status, StatusCode::SERVICE_UNAVAILABLE, "three in all");
            assert_eq!(code(&fourth.body().await), "RATE_LIMITED");
            assert!(stream.is_silent().await);
            drop((socket, stream));
            // The server has yet to notice that they are gone.
            let (mut again, started) = (Vec::new(), Instant::now());
            while again.len() < 2 {
                let next = Stream::send(ask(&ada)).await;
                if next.status == StatusCode::OK {
                    again.push(next);
                    continue;
                }
                assert!(started.elapsed() < Duration::from_secs(2), "no place: {}", next.status);
                sleep(Duration::from_millis(50)).await;
            }
        },
    );
}

#[test]
fn comments_keep_an_idle_stream_open() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_SOCKET_PING_SECONDS", 5);
        },
        async |app| {
            let ada = app.set_up().await;
            let mut stream = Stream::open(&ada, IDLE, Value::Null).await;
            assert!(timeout(Duration::from_millis(5_500), stream.told()).await.is_err());
            assert_eq!(stream.comments, 2);
        },
    );
}

#[test]
fn a_reader_that_stands_still_is_cut_off() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_SOCKETS", 1);
        },
        async |app| {
            let ada = app.set_up().await;
            // A long answer, and a client with a small buffer that reads none of it.
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let address = app.url.trim_start_matches("http://").parse().unwrap();
            let mut slow: TcpStream = socket.connect(address).await.unwrap();
            let all = "{ types { name description fields { name description args { name description } } } }";
            let aliases: String = (0..40).map(|n| format!("a{n}: __schema {all} ")).collect();
            let body = json!({ "query": format!("{{ {aliases} }}") }).to_string();
            let head = format!(
                "POST /graphql HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            slow.write_all(head.as_bytes()).await.unwrap();
            // The first of the answer comes when the stream has its place.
            slow.peek(&mut [0]).await.unwrap();
            let ask = || request(&ada, "/graphql/stream", Some(EVENTS), &json!({ "query": IDLE }));
            assert_eq!(
                Stream::send(ask()).await.status,
                StatusCode::SERVICE_UNAVAILABLE,
                "the place is taken"
            );
            let started = Instant::now();
            while Stream::send(ask()).await.status != StatusCode::OK {
                assert!(started.elapsed() < Duration::from_secs(25), "the slow reader is still served");
                sleep(Duration::from_millis(500)).await;
            }
            // What was on its way, and then the end.
            let mut rest = Vec::new();
            let _ = timeout(PATIENCE, slow.read_to_end(&mut rest)).await.expect("the connection is open");
            assert!(!String::from_utf8_lossy(&rest).contains("event: complete"));
        },
    );
}

#[test]
fn after_a_break_another_process_tells_what_was_missed_and_what_comes() {
    databases::run(Engine::Postgres, App::start, async |app: App| {
        let ada = app.set_up().await;
        let other = app.second_process().await;
        let lab = ada.workspace("Lab").await;
        let elsewhere = ada.at(&other.url);
        let email = |told: &Value| {
            told["data"]["invitationStatusChanged"]["invitation"]["email"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let mut stream = Stream::open(&elsewhere, CHANGES, json!({ "id": lab.id })).await;
        ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
        let told = stream.next().await;
        assert_eq!(email(&told), "eve@example.org");
        let cursor = told["data"]["invitationStatusChanged"]["cursor"].as_str().unwrap().to_owned();
        other.stop().await;
        while stream.told().await != Told::Cut {}
        ada.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
        let mut stream = Stream::open(&ada, CHANGES, json!({ "id": lab.id, "after": cursor })).await;
        ada.invite(&lab, "kim@example.org", "VIEWER").await.ok();
        let mut seen = Vec::new();
        while seen.last().map(String::as_str) != Some("kim@example.org") {
            seen.push(email(&stream.next().await));
        }
        // Beside them, that the mails were sent.
        let of = |email: &str| seen.iter().position(|seen| seen == email);
        assert!(of("zoe@example.org").is_some() && of("zoe@example.org") < of("kim@example.org"), "{seen:?}");
    });
}

#[test]
fn events_are_not_compressed() {
    alone(async |app| {
        let body = json!({ "query": "{ __schema { types { name fields { name } } } }" });
        let mut request = request(&app.anonymous(), "/graphql", Some(EVENTS), &body);
        request.headers_mut().insert(header::ACCEPT_ENCODING, "gzip, br".parse().unwrap());
        let mut stream = Stream::send(request).await;
        assert!(!stream.headers.contains_key(header::CONTENT_ENCODING), "they would be held back");
        stream.next().await;
        let page = app.anonymous().get("/graphql/stream").await;
        assert_eq!((page.status, code(&json_of(&page))), (StatusCode::BAD_REQUEST, "BAD_USER_INPUT"));
    });
}
