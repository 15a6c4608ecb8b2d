//! Documents that are named instead of sent: Apollo's automatic persisted queries, `documentId`, and the manifest of the
//! documents that are trusted. No rule here depends on the database, so SQLite is enough.

use std::fs;

use bytes::Bytes;
use guildhall_tests::{
    App,
    actor::Page,
    databases::{self, Engine},
};
use http::{Request, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use url::form_urlencoded;

use crate::{
    http::{JSON, SPEC, alone, code, json_of, post, send},
    sockets::ready,
};

const NAME: &str = "query Name { __typename }";

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

fn by_hash(hash: &str) -> Value {
    json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } })
}

async fn ask(app: &App, body: Value) -> (StatusCode, Value) {
    let page = send(app, post(app, SPEC, body.to_string())).await;
    (page.status, json_of(&page))
}

async fn get(app: &App, parameters: &[(&str, &str)]) -> Page {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let request = Request::get(format!("{}/graphql?{query}", app.url)).header(header::ACCEPT, SPEC);
    send(app, request.body(Bytes::new()).unwrap()).await
}

#[test]
fn a_document_that_was_sent_once_is_found_by_its_hash() {
    alone(async |app| {
        let extensions = by_hash(&hash(NAME));
        // As Apollo's clients go about it: the hash, then both, then the hash.
        let page = send(&app, post(&app, JSON, json!({ "extensions": extensions }).to_string())).await;
        assert_eq!(page.status, StatusCode::OK, "no fault of the HTTP request");
        let unknown = json_of(&page);
        assert_eq!(code(&unknown), "PERSISTED_QUERY_NOT_FOUND");
        assert_eq!(unknown["errors"][0]["message"], "PersistedQueryNotFound");
        let named = json!({ "data": { "__typename": "Query" } });
        for body in [
            json!({ "query": NAME, "extensions": extensions }),
            json!({ "extensions": extensions }),
            json!({ "query": null, "extensions": extensions }),
            json!({ "extensions": by_hash(&hash(NAME).to_uppercase()) }),
            json!({ "documentId": format!("sha256:{}", hash(NAME)) }),
            json!({ "documentId": format!("sha256:{}", hash(NAME)), "operationName": "Name" }),
        ] {
            assert_eq!(ask(&app, body.clone()).await, (StatusCode::OK, named.clone()), "{body}");
        }
        let extensions = extensions.to_string();
        for parameters in
            [[("extensions", extensions.as_str())], [("documentId", &format!("sha256:{}", hash(NAME)))]]
        {
            assert_eq!(json_of(&get(&app, &parameters).await), named, "{parameters:?}");
        }
        let stream = Request::post(format!("{}/graphql/stream", app.url))
            .header(header::CONTENT_TYPE, JSON)
            .body(json!({ "documentId": format!("sha256:{}", hash(NAME)) }).to_string().into());
        assert!(
            send(&app, stream.unwrap()).await.text().contains(r#"data: {"data":{"__typename":"Query"}}"#)
        );
        let mut client = ready(&app, None).await;
        for (id, payload) in [
            ("a", json!({ "extensions": by_hash(&hash(NAME)) })),
            ("b", json!({ "documentId": format!("sha256:{}", hash(NAME)) })),
        ] {
            client.text(json!({ "type": "subscribe", "id": id, "payload": payload }).to_string()).await;
            assert_eq!(client.receive().await["payload"], named);
            assert_eq!(client.receive().await["type"], "complete");
        }
        let payload = json!({ "extensions": by_hash(&hash("other")) });
        client.text(json!({ "type": "subscribe", "id": "c", "payload": payload }).to_string()).await;
        let message = client.receive().await;
        assert_eq!(message["type"], "error");
        assert_eq!(message["payload"][0]["extensions"]["code"], "PERSISTED_QUERY_NOT_FOUND");
    });
}

#[test]
fn variables_and_rights_are_those_of_who_names_the_document() {
    alone(async |app| {
        let ada = app.set_up().await;
        let text = "query($n: String!) { workspace(name: $n) { displayName } }";
        let lab = ada.workspace("Lab").await;
        ada.query(text, json!({ "n": lab.name })).await.ok();
        let body = json!({ "extensions": by_hash(&hash(text)), "variables": { "n": lab.name } });
        let (_, refused) = ask(&app, body.clone()).await;
        assert_eq!(code(&refused), "UNAUTHENTICATED", "a hash is no key");
        let mut request = post(&app, SPEC, body.to_string());
        let token = format!("Bearer {}", ada.access_token.as_ref().unwrap()).parse().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, token);
        assert_eq!(json_of(&send(&app, request).await)["data"]["workspace"]["displayName"], "Lab");
        let missing = json!({ "extensions": by_hash(&hash(text)) });
        assert_eq!(code(&ask(&app, missing).await.1), "BAD_USER_INPUT", "the variable is missing");
    });
}

#[test]
fn a_hash_of_something_else_is_refused_and_stores_nothing() {
    alone(async |app| {
        let wrong = json!({ "query": NAME, "extensions": by_hash(&hash("{ viewer { user { id } } }")) });
        let (status, answer) = ask(&app, wrong).await;
        assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, "BAD_USER_INPUT"));
        for text in [NAME, "{ viewer { user { id } } }"] {
            let (_, answer) = ask(&app, json!({ "extensions": by_hash(&hash(text)) })).await;
            assert_eq!(code(&answer), "PERSISTED_QUERY_NOT_FOUND", "{text}");
        }
        let unparsed = json!({ "query": "{", "extensions": by_hash(&hash("{")) });
        assert_eq!(code(&ask(&app, unparsed).await.1), "GRAPHQL_PARSE_FAILED");
        let unparsed = json!({ "extensions": by_hash(&hash("{")) });
        assert_eq!(code(&ask(&app, unparsed).await.1), "PERSISTED_QUERY_NOT_FOUND");
        for wrong in [
            json!({ "extensions": { "persistedQuery": 1 } }),
            json!({ "extensions": { "persistedQuery": { "version": 2, "sha256Hash": "x" } } }),
            json!({ "extensions": { "persistedQuery": { "version": 1 } } }),
            json!({ "documentId": 1 }),
            json!({ "documentId": "a", "extensions": by_hash("b") }),
        ] {
            let (status, answer) = ask(&app, wrong.clone()).await;
            assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, "BAD_USER_INPUT"), "{wrong}");
        }
        let (_, answer) = ask(&app, json!({ "documentId": "never-heard-of" })).await;
        assert_eq!(code(&answer), "PERSISTED_QUERY_NOT_FOUND");
    });
}

#[test]
fn a_mutation_is_named_by_post_only() {
    alone(async |app| {
        let text = "mutation { signOut { signedOut } }";
        ask(&app, json!({ "query": text })).await;
        let page = get(&app, &[("extensions", &by_hash(&hash(text)).to_string())]).await;
        assert_eq!(
            (page.status, &page.headers["allow"]),
            (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap())
        );
    });
}

/// A test of a server that was given this manifest.
fn trusting(manifest: &Value, test: impl AsyncFnOnce(App)) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("manifest.json");
    fs::write(&path, manifest.to_string()).unwrap();
    let start = async |engine| {
        App::start_with(engine, |env| {
            env.set("GUILDHALL_TRUSTED_DOCUMENTS", path.display());
        })
        .await
    };
    databases::run(Engine::Sqlite, start, test);
}

async fn only_what_is_trusted_runs(app: App) {
    let named = json!({ "data": { "__typename": "Query" } });
    for body in [
        json!({ "documentId": "name" }),
        json!({ "documentId": format!("sha256:{}", hash(NAME)) }),
        json!({ "extensions": by_hash("name") }),
        json!({ "extensions": by_hash(&hash(NAME)) }),
        json!({ "query": NAME }),
        json!({ "query": NAME, "documentId": "name" }),
        json!({ "query": NAME, "extensions": by_hash(&hash(NAME)) }),
    ] {
        assert_eq!(ask(&app, body.clone()).await, (StatusCode::OK, named.clone()), "{body}");
    }
    for body in [
        json!({ "query": format!("{NAME} ") }),
        json!({ "query": "{ __typename }" }),
        json!({ "query": "{ __schema { types { name } } }" }),
        // Not even parsed.
        json!({ "query": "{" }),
        json!({ "query": format!("{{node(id:{}", "[".repeat(10_000)) }),
        json!({ "query": "{ viewer { user { id } } }", "documentId": "name" }),
        json!({ "query": NAME, "documentId": "other" }),
        json!({ "documentId": "never-heard-of" }),
        json!({ "extensions": by_hash(&hash("{ __typename }")) }),
        json!({ "query": "{ __typename }", "extensions": by_hash(&hash("{ __typename }")) }),
    ] {
        let (status, answer) = ask(&app, body.clone()).await;
        assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, "DOCUMENT_NOT_TRUSTED"), "{body:.100}");
        assert!(answer.get("data").is_none());
    }
    assert_eq!(json_of(&get(&app, &[("documentId", "name")]).await), named);
    let mut client = ready(&app, None).await;
    let payload = json!({ "documentId": "name" });
    client.text(json!({ "type": "subscribe", "id": "a", "payload": payload }).to_string()).await;
    assert_eq!(client.receive().await["payload"], named);
    assert_eq!(client.receive().await["type"], "complete");
    client.subscribe("b", "{ __typename }", Value::Null).await;
    let message = client.receive().await;
    assert_eq!(message["payload"][0]["extensions"]["code"], "DOCUMENT_NOT_TRUSTED", "{message}");
}

#[test]
fn only_documents_of_the_manifest_of_graphql_codegen_run() {
    trusting(
        &json!({ "name": NAME, "other": "query { viewer { user { id } } }" }),
        only_what_is_trusted_runs,
    );
}

#[test]
fn only_documents_of_the_manifest_of_apollo_run() {
    let operations = json!([
        { "id": "name", "name": "Name", "type": "query", "body": NAME },
        { "id": "other", "name": "Other", "type": "query", "body": "query Other { viewer { user { id } } }" },
    ]);
    let format = "apollo-persisted-query-manifest";
    trusting(&json!({ "format": format, "version": 1, "operations": operations }), only_what_is_trusted_runs);
}

#[test]
fn a_trusted_document_of_another_version_is_refused_and_keeps_nothing_from_starting() {
    trusting(&json!({ "old": "{ fieldOfYore }", "name": NAME }), async |app| {
        assert_eq!(code(&ask(&app, json!({ "documentId": "old" })).await.1), "GRAPHQL_VALIDATION_FAILED");
        assert_eq!(ask(&app, json!({ "documentId": "name" })).await.0, StatusCode::OK);
    });
}
