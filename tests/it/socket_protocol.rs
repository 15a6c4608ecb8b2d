//! The points of the `graphql-transport-ws` protocol, one by one and counted: what the server has to do so that every
//! client of it works. How the limits are kept stands in `sockets.rs`.

use std::time::Duration;

use guildhall_tests::App;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::sockets::{Client, connect, open, ready, with};

const IDLE: &str = "subscription { viewerInvitationChanged { status } }";

/// The points that hold and those that do not.
#[derive(Default)]
struct Card {
    passed: usize,
    failed: Vec<String>,
}

impl Card {
    fn note(&mut self, point: &str, found: impl std::fmt::Debug + PartialEq<Value>, expected: Value) {
        match found == expected {
            true => self.passed += 1,
            false => self.failed.push(format!("{point}: {found:?}, not {expected}")),
        }
    }

    /// One that closes the socket.
    async fn closes(&mut self, point: &str, mut client: Client, code: u16) {
        let found = timeout(Duration::from_secs(5), client.closed()).await.unwrap_or_default();
        self.note(point, Value::from(found), code.into());
    }

    async fn hears(&mut self, point: &str, client: &mut Client, expected: Value) {
        let found = client.receive().await;
        self.note(point, found, expected);
    }

    async fn silent(&mut self, point: &str, client: &mut Client) {
        let found = client.is_silent().await;
        self.note(point, Value::from(found), true.into());
    }
}

async fn saying(app: &App, acknowledged: bool, text: &str) -> Client {
    let mut client = if acknowledged { ready(app, None).await } else { connect(app).await };
    client.text(text).await;
    client
}

fn subscribe(id: &str, payload: Value) -> String {
    json!({ "type": "subscribe", "id": id, "payload": payload }).to_string()
}

#[test]
fn every_point_of_the_protocol_holds() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_SOCKET_INIT_SECONDS", 1);
        },
        every_point,
    );
}

async fn every_point(app: App) {
    let ada = app.set_up().await;
    let token = ada.access_token.as_deref();
    let mut card = Card::default();
    let (init, ack) = (r#"{"type":"connection_init"}"#, json!({ "type": "connection_ack" }));
    let next =
        |id: &str| json!({ "type": "next", "id": id, "payload": { "data": { "__typename": "Query" } } });
    let complete = |id: &str| json!({ "type": "complete", "id": id });

    card.closes("a socket without a subprotocol is closed", open(&app, &[]).await.unwrap(), 4406).await;
    for (point, text) in [
        ("connection_init is acknowledged", init),
        ("its payload may be null", r#"{"type":"connection_init","payload":null}"#),
        ("its payload may be any object", r#"{"type":"connection_init","payload":{"a":[1]}}"#),
    ] {
        let mut client = saying(&app, false, text).await;
        card.hears(point, &mut client, ack.clone()).await;
    }
    card.closes("no connection_init in time", connect(&app).await, 4408).await;
    card.closes("a second connection_init", saying(&app, true, init).await, 4429).await;
    let mut twice = saying(&app, false, init).await;
    twice.text(init).await;
    card.closes("a second one before the answer", twice, 4429).await;
    let early = subscribe("1", json!({ "query": "{ __typename }" }));
    card.closes("a subscribe before the acknowledgement", saying(&app, false, &early).await, 4401).await;
    let forbidden = r#"{"type":"connection_init","payload":{"Authorization":"Bearer nonsense"}}"#;
    card.closes("a connection_init that is refused", saying(&app, false, forbidden).await, 4403).await;
    for (point, text) in [
        ("what is no JSON", "{"),
        ("JSON that is no object", "[]"),
        ("a message without a type", "{}"),
        ("a type that is not known", r#"{"type":"start"}"#),
        ("a message that only servers send", r#"{"type":"next","id":"1","payload":{}}"#),
        ("a payload of connection_init that is no object", r#"{"type":"connection_init","payload":"a"}"#),
        ("a payload of ping that is no object", r#"{"type":"ping","payload":"a"}"#),
        ("a subscribe without an id", r#"{"type":"subscribe","payload":{"query":"{__typename}"}}"#),
        (
            "a subscribe with an empty id",
            r#"{"type":"subscribe","id":"","payload":{"query":"{__typename}"}}"#,
        ),
        ("a subscribe without a payload", r#"{"type":"subscribe","id":"1"}"#),
        ("a subscribe without a document", r#"{"type":"subscribe","id":"1","payload":{}}"#),
        (
            "variables that are no object",
            r#"{"type":"subscribe","id":"1","payload":{"query":"{__typename}","variables":1}}"#,
        ),
        ("a complete without an id", r#"{"type":"complete"}"#),
    ] {
        card.closes(point, saying(&app, true, text).await, 4400).await;
    }
    let mut client = saying(&app, false, r#"{"type":"ping"}"#).await;
    card.hears("a ping is answered before the acknowledgement", &mut client, json!({ "type": "pong" })).await;
    let mut client = saying(&app, true, r#"{"type":"ping","payload":{"n":1}}"#).await;
    let pong = json!({ "type": "pong", "payload": { "n": 1 } });
    card.hears("a ping's payload comes back", &mut client, pong).await;
    client.text(r#"{"type":"pong","payload":{"n":1}}"#).await;
    card.silent("a pong that nobody asked for is ignored", &mut client).await;

    client.text(subscribe("1", json!({ "query": "{ __typename }", "extensions": { "a": 1 } }))).await;
    card.hears("a query's result is a next", &mut client, next("1")).await;
    card.hears("and then it is complete", &mut client, complete("1")).await;
    let several = "query A { viewer { user { id } } } query B { __typename }";
    client.text(subscribe("1", json!({ "query": several, "operationName": "B" }))).await;
    card.hears("operationName chooses, and the id is free again", &mut client, next("1")).await;
    client.receive().await;
    let typed = "query($b: Boolean!) { __typename viewer @include(if: $b) { user { id } } }";
    client.text(subscribe("1", json!({ "query": typed, "variables": { "b": false } }))).await;
    card.hears("variables are used", &mut client, next("1")).await;
    client.receive().await;
    for (point, query) in
        [("a fault of syntax is an error", "{"), ("a fault of validation is an error", "{ nope }")]
    {
        client.text(subscribe("2", json!({ "query": query }))).await;
        let told = client.receive().await;
        let is_list = told["payload"].as_array().is_some_and(|errors| !errors.is_empty());
        card.note(point, json!([told["type"], told["id"], is_list]), json!(["error", "2", true]));
    }
    card.silent("no complete follows an error", &mut client).await;
    client.text(subscribe("2", json!({ "query": "{ __typename }" }))).await;
    card.hears("the id of an error is free again", &mut client, next("2")).await;
    client.receive().await;
    client.text(subscribe("3", json!({ "query": r#"{ node(id: "x") { id } }"# }))).await;
    let told = client.receive().await;
    let shape = json!([told["type"], told["payload"]["data"], told["payload"]["errors"].is_array()]);
    card.note("errors of execution come with the data", shape, json!(["next", { "node": null }, true]));
    card.hears("and the operation is complete", &mut client, complete("3")).await;

    let mut client = ready(&app, token).await;
    client.text(subscribe("a", json!({ "query": IDLE }))).await;
    client.text(subscribe("b", json!({ "query": "{ __typename }" }))).await;
    card.hears("operations run beside each other", &mut client, next("b")).await;
    client.receive().await;
    client.text(json!({ "type": "complete", "id": "unknown" }).to_string()).await;
    card.silent("a complete of what does not run is ignored", &mut client).await;
    client.text(json!({ "type": "complete", "id": "a" }).to_string()).await;
    card.silent("a client's complete is not answered", &mut client).await;
    client.text(subscribe("a", json!({ "query": "{ __typename }" }))).await;
    card.hears("and frees the id", &mut client, next("a")).await;
    client.receive().await;
    client.text(subscribe("a", json!({ "query": IDLE }))).await;
    client.text(subscribe("a", json!({ "query": IDLE }))).await;
    card.closes("an id that is in use", client, 4409).await;

    println!("graphql-transport-ws: {}/{}", card.passed, card.passed + card.failed.len());
    assert!(card.failed.is_empty(), "{:#?}", card.failed);
    assert!(card.passed >= 40, "{}", card.passed);
}
