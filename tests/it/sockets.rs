//! `graphql-transport-ws`, seen from outside: messages, close codes, deadlines and limits. No rule here depends on
//! the database, so SQLite is enough.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures_util::{SinkExt as _, StreamExt as _};
use guildhall_tests::{
    App, Environment,
    databases::{self, Engine},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::http::alone;

/// A subscription to which nothing happens.
const IDLE: &str = "subscription { viewerInvitationChanged { status } }";
const PROTOCOL: (&str, &str) = ("sec-websocket-protocol", "graphql-transport-ws");
const PATIENCE: Duration = Duration::from_secs(10);

/// A test of a server with other settings.
pub(crate) fn with(change: impl FnOnce(&mut Environment), test: impl AsyncFnOnce(App)) {
    databases::run(Engine::Sqlite, async |engine| App::start_with(engine, change).await, test);
}

/// One socket, with nothing said on its own but pongs.
pub(crate) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

pub(crate) async fn open(app: &App, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
    let address = format!("{}/graphql/ws", app.url.replacen("http", "ws", 1));
    let mut request = address.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    Ok(Client(connect_async(request).await?.0))
}

pub(crate) async fn connect(app: &App) -> Client {
    open(app, &[PROTOCOL]).await.unwrap()
}

/// Connected and acknowledged.
pub(crate) async fn ready(app: &App, token: Option<&str>) -> Client {
    let mut client = connect(app).await;
    client.init(token).await;
    assert_eq!(client.receive().await, json!({ "type": "connection_ack" }));
    client
}

/// The same where somebody else's place has just been given up, which the server has yet to notice.
async fn ready_at_last(app: &App, token: Option<&str>) -> Client {
    let started = Instant::now();
    loop {
        let mut client = connect(app).await;
        client.init(token).await;
        match timeout(PATIENCE, client.0.next()).await.unwrap() {
            Some(Ok(Message::Text(_))) => return client,
            refused => assert!(started.elapsed() < Duration::from_secs(2), "no place: {refused:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

impl Client {
    pub(crate) async fn text(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).await.unwrap();
    }

    pub(crate) async fn init(&mut self, token: Option<&str>) {
        let payload = token.map_or(json!({}), |token| json!({ "authorization": format!("Bearer {token}") }));
        self.text(json!({ "type": "connection_init", "payload": payload }).to_string()).await;
    }

    pub(crate) async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        let payload = json!({ "query": query, "variables": variables });
        self.text(json!({ "type": "subscribe", "id": id, "payload": payload }).to_string()).await;
    }

    pub(crate) async fn receive(&mut self) -> Value {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("no message in time") {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("no message: {other:?}"),
            }
        }
    }

    /// The close code.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("not closed in time") {
                Some(Ok(Message::Close(Some(frame)))) => {
                    assert!(!frame.reason.is_empty(), "a close code without its reason");
                    return frame.code.into();
                }
                Some(Ok(_)) => {}
                other => panic!("no close frame: {other:?}"),
            }
        }
    }

    pub(crate) async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(150), self.receive()).await.is_err()
    }
}

#[track_caller]
fn code(error: &Value) -> &str {
    error["extensions"]["code"].as_str().unwrap_or_else(|| panic!("no code: {error}"))
}

#[test]
fn other_subprotocols_are_closed_with_4406() {
    alone(async |app| {
        assert_eq!(open(&app, &[]).await.unwrap().closed().await, 4406);
        // A protocol that is not confirmed makes this client give up by itself: the code is read from the wire.
        for protocol in ["graphql-ws", "Graphql-Transport-WS2"] {
            let mut stream = TcpStream::connect(app.url.trim_start_matches("http://")).await.unwrap();
            let request = format!(
                "GET /graphql/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 sec-websocket-protocol: {protocol}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
            assert!(answer.windows(2).any(|pair| pair == 4406_u16.to_be_bytes()), "{protocol}");
        }
    });
}

#[test]
fn a_request_that_is_no_websocket_is_refused_with_a_code() {
    alone(async |app| {
        let page = app.anonymous().get("/graphql/ws").await;
        assert!(page.status.is_client_error(), "{page:?}");
        let body: Value = serde_json::from_slice(&page.body).unwrap();
        assert_eq!(code(&body["errors"][0]), "BAD_USER_INPUT");
    });
}

#[test]
fn subscribing_before_the_ack_closes_with_4401() {
    alone(async |app| {
        for query in [IDLE, "{ __typename }", "{"] {
            let mut client = connect(&app).await;
            client.subscribe("1", query, Value::Null).await;
            assert_eq!(client.closed().await, 4401, "{query}");
        }
    });
}

#[test]
fn what_is_no_message_closes_with_4400() {
    alone(async |app| {
        let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(1_000));
        let deep = format!(r#"{{"type":"ping","payload":{{"a":{}"#, "[".repeat(10_000));
        for text in [
            "nonsense",
            "",
            "[]",
            "null",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"hello"}"#,
            r#"{"type":"connection_ack"}"#,
            r#"{"type":"next","id":"1"}"#,
            &long,
            &deep,
            r#"{"type":"subscribe"}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":1,"payload":{"query":"{__typename}"}}"#,
            r#"{"type":"subscribe","id":"","payload":{"query":"{__typename}"}}"#,
            r#"{"type":"subscribe","id":"1","payload":{}}"#,
            r#"{"type":"subscribe","payload":{"query":"{__typename}"}}"#,
            r#"{"type":"complete"}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{__typename}","variables":1}}"#,
            r#"{"type":"connection_init","payload":1}"#,
            r#"{"type":"ping","payload":[]}"#,
            r#"{"type":"ping","type":"pong"}"#,
            "{\"type\":\"ping\",\"payload\":{\"a\":\"\\ud800\"}}",
        ] {
            let mut client = connect(&app).await;
            client.text(text).await;
            assert_eq!(client.closed().await, 4400, "{text:.100}");
        }
        for acknowledged in [false, true] {
            let mut client = if acknowledged { ready(&app, None).await } else { connect(&app).await };
            client.0.send(Message::Binary(vec![1, 2, 3].into())).await.unwrap();
            assert_eq!(client.closed().await, 4400, "binary");
        }
    });
}

#[test]
fn a_silent_client_is_closed_with_4408() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_SOCKET_INIT_SECONDS", 1);
        },
        async |app| {
            let mut prompt = ready(&app, None).await;
            let started = Instant::now();
            let mut client = connect(&app).await;
            client.text(r#"{"type":"ping"}"#).await;
            assert_eq!(
                client.receive().await,
                json!({ "type": "pong" }),
                "a ping is answered before the ack"
            );
            assert_eq!(client.closed().await, 4408);
            assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
            assert!(prompt.is_silent().await, "the deadline ends with the ack");
        },
    );
}

#[test]
fn a_second_init_closes_with_4429() {
    alone(async |app| {
        let mut client = ready(&app, None).await;
        client.init(None).await;
        assert_eq!(client.closed().await, 4429);
    });
}

#[test]
fn an_id_in_use_closes_with_4409() {
    alone(async |app| {
        let ada = app.set_up().await;
        let mut client = ready(&app, ada.access_token.as_deref()).await;
        let id = "ä".repeat(200);
        client.subscribe(&id, IDLE, Value::Null).await;
        client.subscribe(&id, IDLE, Value::Null).await;
        assert_eq!(client.closed().await, 4409);
    });
}

#[test]
fn a_refused_token_closes_with_4403() {
    alone(async |app| {
        let ada = app.set_up().await;
        let token = ada.access_token.clone().unwrap();
        for payload in [
            json!({ "authorization": "Bearer nonsense" }),
            json!({ "Authorization": format!("Bearer {}x", token) }),
            json!({ "authorization": "Basic x" }),
            json!({ "authorization": 1 }),
            json!({ "headers": { "Authorization": "Bearer" } }),
        ] {
            let mut client = connect(&app).await;
            client.text(json!({ "type": "connection_init", "payload": payload }).to_string()).await;
            assert_eq!(client.closed().await, 4403, "{payload}");
        }
        app.advance(TimeDelta::minutes(16));
        let mut client = connect(&app).await;
        client.init(Some(&token)).await;
        assert_eq!(client.closed().await, 4403, "expired");
    });
}

#[test]
fn a_token_that_expires_closes_the_socket_with_4403() {
    alone(async |app| {
        app.stop_the_clock();
        let ada = app.set_up().await;
        app.advance(TimeDelta::seconds(15 * 60 - 2));
        let started = Instant::now();
        let mut client = ready(&app, ada.access_token.as_deref()).await;
        client.subscribe("1", IDLE, Value::Null).await;
        assert_eq!(client.closed().await, 4403);
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    });
}

#[test]
fn a_client_is_warned_before_its_token_expires() {
    alone(async |app| {
        app.stop_the_clock();
        let ada = app.set_up().await;
        let long = ready(&app, ada.access_token.as_deref()).await;
        // A token counts whole seconds, so that two to three are left.
        app.advance(TimeDelta::seconds(14 * 60 - 3));
        let started = Instant::now();
        let mut client = ready(&app, ada.access_token.as_deref()).await;
        let warning =
            |seconds: u64| json!({ "type": "ping", "payload": { "tokenExpiresInSeconds": seconds } });
        assert_eq!(client.receive().await, warning(60), "a minute before");
        assert!((1..4).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
        // As clients answer it: with what it said.
        client.text(json!({ "type": "pong", "payload": warning(60)["payload"] }).to_string()).await;
        assert!(client.is_silent().await, "said once");
        app.advance(TimeDelta::seconds(40));
        let mut late = ready(&app, ada.access_token.as_deref()).await;
        let told = late.receive().await;
        let seconds = told["payload"]["tokenExpiresInSeconds"].as_u64().unwrap();
        assert!((15..=25).contains(&seconds), "whoever comes later learns at once: {told}");
        assert!(ready(&app, None).await.is_silent().await, "without a token there is none to expire");
        drop(long);
    });
}

#[test]
fn strangers_of_one_network_share_their_sockets() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_SOCKETS_PER_ACTOR", 2);
        },
        async |app| {
            let ada = app.set_up().await;
            let _mine = [
                ready(&app, ada.access_token.as_deref()).await,
                ready(&app, ada.access_token.as_deref()).await,
            ];
            let first = ready(&app, None).await;
            let _second = connect(&app).await;
            sleep(Duration::from_millis(100)).await;
            assert_eq!(connect(&app).await.closed().await, 1013);
            drop(first);
            ready_at_last(&app, None).await;
        },
    );
}

#[test]
fn with_all_origins_allowed_any_page_may_open_a_socket() {
    with(
        |env| {
            env.set("GUILDHALL_CORS_ORIGINS", "*");
        },
        async |app| {
            open(&app, &[PROTOCOL, ("origin", "https://anything.example")]).await.unwrap();
        },
    );
}

#[test]
fn a_session_that_ended_gets_nothing_from_an_open_socket() {
    alone(async |app| {
        let ada = app.set_up().await;
        let mut client = ready(&app, ada.access_token.as_deref()).await;
        client.subscribe("1", "{ viewer { user { email } } }", Value::Null).await;
        assert_eq!(client.receive().await["payload"]["data"]["viewer"]["user"]["email"], "ada@example.org");
        assert_eq!(client.receive().await["type"], "complete");
        ada.mutate("signOut", Value::Null, "signedOut").await.ok();
        client.subscribe("1", r#"{ node(id: "x") { id } }"#, Value::Null).await;
        let message = client.receive().await;
        assert_eq!(code(&message["payload"]["errors"][0]), "UNAUTHENTICATED", "{message}");
    });
}

#[test]
fn shutdown_closes_every_socket_with_1001_and_ends() {
    alone(async |mut app| {
        let ada = app.set_up().await;
        let mut idle = connect(&app).await;
        let mut busy = ready(&app, ada.access_token.as_deref()).await;
        busy.subscribe("1", IDLE, Value::Null).await;
        assert!(busy.is_silent().await);
        app.begin_to_stop();
        let codes = tokio::join!(idle.closed(), busy.closed());
        assert_eq!(codes, (1001, 1001));
        drop((idle, busy));
        app.stop().await;
    });
}

#[test]
fn a_message_beyond_the_limit_closes_with_1009() {
    alone(async |app| {
        for acknowledged in [false, true] {
            let mut client = if acknowledged { ready(&app, None).await } else { connect(&app).await };
            let message = json!({ "type": "ping", "payload": { "a": "x".repeat(1_048_576) } });
            // The server may close before it has read it all.
            let _ = client.0.send(Message::text(message.to_string())).await;
            assert_eq!(client.closed().await, 1009);
        }
        let mut client = ready(&app, None).await;
        client.text(json!({ "type": "ping", "payload": { "a": "x".repeat(60_000) } }).to_string()).await;
        assert_eq!(client.receive().await["type"], "pong", "what is within the limit is answered");
    });
}

#[test]
fn too_many_sockets_close_with_1013() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_SOCKETS", 3).set("GUILDHALL_LIMITS_SOCKETS_PER_ACTOR", 1);
        },
        async |app| {
            let ada = app.set_up().await;
            let bob = app.person("bob@example.org", "Bob").await;
            let _first = ready(&app, ada.access_token.as_deref()).await;
            let mut second = connect(&app).await;
            second.init(ada.again().await.access_token.as_deref()).await;
            assert_eq!(second.closed().await, 1013, "one socket for each person, whatever the session");
            drop(second);
            let _other = ready(&app, bob.access_token.as_deref()).await;
            let third = ready_at_last(&app, None).await;
            assert_eq!(connect(&app).await.closed().await, 1013, "three sockets in all");
            drop(third);
            ready_at_last(&app, None).await;
        },
    );
}

#[test]
fn a_dead_peer_is_closed_and_a_living_one_is_not() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_SOCKET_PING_SECONDS", 5).set("GUILDHALL_LIMITS_SOCKETS", 2);
        },
        async |app| {
            let mut living = ready(&app, None).await;
            let dead = ready(&app, None).await;
            // Reading is what makes this client answer pings. The dead one has a second to say goodbye.
            assert!(timeout(Duration::from_millis(11_500), living.receive()).await.is_err());
            let _room = ready(&app, None).await;
            living.subscribe("1", "{ __typename }", Value::Null).await;
            assert_eq!(living.receive().await["type"], "next");
            drop(dead);
        },
    );
}

#[test]
fn a_slow_reader_is_closed() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_SOCKETS", 1);
        },
        async |app| {
            let mut slow = ready(&app, None).await;
            let query = "{ __schema { types { name description fields { name description args { name description } } } } }";
            for id in 0..100 {
                slow.subscribe(&id.to_string(), &format!("{query} #{id}"), Value::Null).await;
            }
            let started = Instant::now();
            loop {
                let mut next = connect(&app).await;
                next.init(None).await;
                match timeout(PATIENCE, next.0.next()).await.unwrap() {
                    Some(Ok(Message::Text(_))) => break,
                    _ => assert!(
                        started.elapsed() < Duration::from_secs(30),
                        "the slow reader is still served"
                    ),
                }
                sleep(Duration::from_millis(200)).await;
            }
        },
    );
}

#[test]
fn foreign_origins_are_refused_before_the_upgrade() {
    with(
        |env| {
            env.set("GUILDHALL_CORS_ORIGINS", "https://app.example.org");
        },
        async |app| {
            for origin in
                ["https://evil.example", "null", "https://app.example.org.evil.example", "http://127.0.0.1:1"]
            {
                let Err(Error::Http(response)) = open(&app, &[PROTOCOL, ("origin", origin)]).await else {
                    panic!("{origin} was let in");
                };
                assert_eq!(response.status(), 403);
                let body: Value = serde_json::from_slice(response.body().as_deref().unwrap()).unwrap();
                assert_eq!(code(&body["errors"][0]), "FORBIDDEN");
            }
            for origin in [app.url.as_str(), "https://app.example.org"] {
                open(&app, &[PROTOCOL, ("origin", origin)]).await.unwrap();
            }
        },
    );
}

#[test]
fn queries_mutations_and_events_run_over_the_socket() {
    alone(async |app| {
        let ada = app.set_up().await;
        let lab = ada.workspace("Lab").await;
        let mut client = ready(&app, ada.access_token.as_deref()).await;
        client.subscribe("q", "{ __typename }", Value::Null).await;
        let next = json!({ "type": "next", "id": "q", "payload": { "data": { "__typename": "Query" } } });
        assert_eq!(client.receive().await, next);
        assert_eq!(client.receive().await, json!({ "type": "complete", "id": "q" }));

        let changes = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";
        client.subscribe("q", changes, json!({ "id": lab.id })).await;
        assert!(client.is_silent().await, "an id is free again after its end");
        let invite =
            "mutation($input: InviteMemberInput!) { inviteMember(input: $input) { userErrors { code } } }";
        let input = json!({ "workspaceId": lab.id, "email": "eve@example.org", "role": "VIEWER" });
        client.subscribe("m", invite, json!({ "input": input })).await;
        let (mut answered, mut told) = (false, false);
        while !(answered && told) {
            let message = client.receive().await;
            match (message["id"].as_str(), message["type"].as_str()) {
                (Some("m"), Some("next")) => {
                    assert_eq!(message["payload"]["data"]["inviteMember"]["userErrors"], json!([]));
                }
                (Some("m"), Some("complete")) => answered = true,
                (Some("q"), Some("next")) => {
                    told |= message["payload"]["data"]["invitationStatusChanged"]["status"] == "PENDING";
                }
                _ => panic!("unexpected: {message}"),
            }
        }
    });
}

#[test]
fn faults_of_the_document_are_one_error_message_without_complete() {
    alone(async |app| {
        let mut client = ready(&app, None).await;
        let deep = format!("{{node(id:{}{}){{id}}}}", "[".repeat(1_600), "]".repeat(1_600));
        for (query, expected) in [
            ("subscription {", "GRAPHQL_PARSE_FAILED"),
            ("subscription { nope }", "GRAPHQL_VALIDATION_FAILED"),
            ("subscription { viewerInvitationChanged }", "GRAPHQL_VALIDATION_FAILED"),
            ("{ nope }", "GRAPHQL_VALIDATION_FAILED"),
            (
                "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }",
                "BAD_USER_INPUT",
            ),
            (&format!("{IDLE} {IDLE}").replace("subscription", "subscription A"), "GRAPHQL_PARSE_FAILED"),
            (
                &format!(
                    "{} {}",
                    IDLE.replace("subscription", "subscription A"),
                    IDLE.replace("subscription", "subscription B")
                ),
                "BAD_USER_INPUT",
            ),
            (&deep, "QUERY_TOO_COMPLEX"),
        ] {
            client.subscribe("1", query, Value::Null).await;
            let message = client.receive().await;
            assert_eq!(
                (&message["type"], &message["id"]),
                (&json!("error"), &json!("1")),
                "{query:.80} {message}"
            );
            assert_eq!(code(&message["payload"][0]), expected, "{query:.80} {message}");
            assert!(message["payload"][0]["extensions"]["requestId"].is_string());
            assert!(client.is_silent().await, "{query:.80}");
        }
    });
}

#[test]
fn a_subscription_that_is_not_allowed_says_so_and_ends() {
    alone(async |app| {
        let ada = app.set_up().await;
        let changes = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";
        for (token, id, expected) in [
            (None, app.default_workspace().id.as_str(), "UNAUTHENTICATED"),
            (ada.access_token.as_deref(), "wks_00000000000000000000000000000000", "NOT_FOUND"),
            (ada.access_token.as_deref(), "nonsense", "NOT_FOUND"),
        ] {
            let mut client = ready(&app, token).await;
            client.subscribe("1", changes, json!({ "id": id })).await;
            let message = client.receive().await;
            let error = match message["type"].as_str() {
                Some("next") => &message["payload"]["errors"][0],
                _ => &message["payload"][0],
            };
            assert_eq!(code(error), expected, "{message}");
            if message["type"] == "next" {
                assert_eq!(client.receive().await["type"], "complete");
            }
        }
    });
}

#[test]
fn complete_stops_an_operation_and_frees_its_id() {
    alone(async |app| {
        let ada = app.set_up().await;
        let mut client = ready(&app, ada.access_token.as_deref()).await;
        let changes = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";
        let workspace = app.default_workspace();
        client.subscribe("1", changes, json!({ "id": workspace.id })).await;
        assert!(client.is_silent().await);
        client.text(r#"{"type":"complete","id":"1"}"#).await;
        client.text(r#"{"type":"complete","id":"unknown"}"#).await;
        client.subscribe("1", IDLE, Value::Null).await;
        client.text(r#"{"type":"ping","payload":{"n":1}}"#).await;
        assert_eq!(client.receive().await, json!({ "type": "pong", "payload": { "n": 1 } }));
        ada.invite(workspace, "eve@example.org", "VIEWER").await.ok();
        app.mail_to("eve@example.org").await;
        assert!(client.is_silent().await, "the stopped operation speaks under the new one's id");
    });
}

#[test]
fn operations_beyond_the_limit_are_refused_and_the_socket_lives() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_OPERATIONS_PER_SOCKET", 2);
        },
        async |app| {
            let ada = app.set_up().await;
            let mut client = ready(&app, ada.access_token.as_deref()).await;
            for id in ["1", "2", "3"] {
                client.subscribe(id, IDLE, Value::Null).await;
            }
            let message = client.receive().await;
            assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!("3")));
            assert_eq!(code(&message["payload"][0]), "RATE_LIMITED");
            client.text(r#"{"type":"complete","id":"1"}"#).await;
            client.subscribe("3", "{ __typename }", Value::Null).await;
            assert_eq!(client.receive().await["type"], "next");
        },
    );
}

#[test]
fn a_clients_close_is_answered() {
    alone(async |app| {
        let mut client = ready(&app, None).await;
        client.0.close(None).await.unwrap();
        let answer = timeout(Duration::from_secs(1), client.0.next()).await.unwrap();
        assert!(matches!(answer, Some(Ok(Message::Close(_))) | None), "{answer:?}");
    });
}
