//! Documents made to hurt: each is refused with a code within a second, and the server goes on answering.

use std::time::{Duration, Instant};

use guildhall_tests::{
    Answer, App,
    databases::{self, Engine},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::http::{SPEC, alone, ask, code, json_of, post, send};

/// Longest time that any of them may take. On a busy machine too: it is far above what they need.
const PATIENCE: Duration = Duration::from_secs(1);

/// The document is refused before execution with this code, quickly, in a short answer; nothing breaks.
async fn refused(app: &App, query: &str, expected: &str) {
    let started = Instant::now();
    let (status, body) = ask(app, query).await;
    let took = started.elapsed();
    assert_eq!((status, code(&body)), (StatusCode::BAD_REQUEST, expected), "{query:.100} {body:.500}");
    assert!(body.get("data").is_none());
    assert!(body.to_string().len() < 20_000, "{query:.100}: {} bytes", body.to_string().len());
    assert!(took < PATIENCE, "{took:?} for {query:.100}");
    let (status, body) = ask(app, "{ __typename }").await;
    assert_eq!(
        (status, &body["data"]["__typename"]),
        (StatusCode::OK, &json!("Query")),
        "after {query:.100}"
    );
}

fn many(count: usize, text: &str) -> String {
    (0..count).map(|n| text.replace('#', &n.to_string())).collect()
}

#[test]
fn nested_literals_do_not_overflow_the_parser() {
    alone(async |app| {
        for (open, close) in [("[", "]"), ("{a:", "}")] {
            let nest = format!("{}1{}", open.repeat(1_600), close.repeat(1_600));
            for query in [
                format!("{{node(id:{nest}){{id}}}}"),
                format!("query($a:ID={nest}){{__typename}}"),
                format!("{{__typename @skip(if:{nest})}}"),
                format!("query @a(b:{nest}) {{__typename}}"),
                format!("{{node(id:{}", open.repeat(10_000)),
            ] {
                refused(&app, &query, "QUERY_TOO_COMPLEX").await;
            }
        }
        refused(
            &app,
            &format!("query($a:{}ID{}){{__typename}}", "[".repeat(1_600), "]".repeat(1_600)),
            "QUERY_TOO_COMPLEX",
        )
        .await;
    });
}

#[test]
fn doubling_fragments_are_not_expanded() {
    alone(async |app| {
        let fragments: String =
            (0..24).map(|n| format!("fragment f{n} on Query{{...f{} ...f{}}}", n + 1, n + 1)).collect();
        for query in [
            format!("{{...f0}} {fragments} fragment f24 on Query{{__typename}}"),
            // The same where no operation spreads them, and inside of inline fragments.
            format!("{{__typename}} {fragments} fragment f24 on Query{{__typename}}"),
            format!("{{... on Query{{...f0}}}} {fragments} fragment f24 on Query{{__typename}}"),
        ] {
            refused(&app, &query, "QUERY_TOO_COMPLEX").await;
        }
    });
}

#[test]
fn fragments_in_a_circle_are_refused() {
    alone(async |app| {
        for query in [
            "{...a} fragment a on Query{...a}",
            "{...a} fragment a on Query{...b ...b} fragment b on Query{...a ...a}",
            "{__typename} fragment a on Query{viewer{...b}} fragment b on Viewer{user{id} ...b}",
        ] {
            refused(&app, query, "GRAPHQL_VALIDATION_FAILED").await;
        }
        refused(
            &app,
            &format!("{{__typename}} {}", many(51, "fragment f# on Query{__typename} ")),
            "QUERY_TOO_COMPLEX",
        )
        .await;
    });
}

#[test]
fn sheer_quantity_is_refused() {
    alone(async |app| {
        for query in [
            format!("query {} {{__typename}}", "@a".repeat(30_000)),
            format!("{{__typename {}}}", "@skip(if:false)".repeat(3_000)),
            format!("{{ {} }}", "__typename ".repeat(4_001)),
            format!("{{ {} }}", many(10_000, "a#:__typename ")),
            format!("{{ {} }}", many(1_000, "a#:__typename ")),
            format!("{{ {} }}", many(51, "a#:__typename ")),
            format!("{{__typename}} #{}", "x".repeat(70_000)),
        ] {
            refused(&app, &query, "QUERY_TOO_COMPLEX").await;
        }
    });
}

#[test]
fn depth_is_limited_in_brackets_and_in_fields() {
    alone(async |app| {
        for depth in [17, 60, 100, 1_000] {
            let query =
                format!("{{__type(name:\"Query\"){{{}name{}}}}}", "ofType{".repeat(depth), "}".repeat(depth));
            refused(&app, &query, "QUERY_TOO_COMPLEX").await;
        }
        // Fragments do not hide it.
        let links = (0..40)
            .map(|n| format!("fragment f{n} on __Type{{ofType{{...f{}}}}}", n + 1))
            .collect::<String>();
        let query = format!("{{__type(name:\"Query\"){{...f0}}}} {links} fragment f40 on __Type{{name}}");
        refused(&app, &query, "QUERY_TOO_COMPLEX").await;
    });
}

#[test]
fn lists_in_lists_cost_what_they_multiply_to() {
    alone(async |app| {
        let person = "nodes { id joinedAt expiresAt source role { id key name permissions } principal { ... on User { id email displayName status } } }";
        for query in [
            format!(
                "{{ viewer {{ workspaces(first: 100) {{ nodes {{ members(first: 100) {{ {person} edges {{ node {{ id role {{ id key }} }} }} }} }} }} }} }}"
            ),
            format!(
                "{{ viewer {{ workspaces(last: 100) {{ edges {{ node {{ a: members(last: 100) {{ {person} }} b: members(last: 100) {{ {person} }} }} }} }} }} }}"
            ),
            // A variable counts with its value.
            format!(
                "query($n: Int = 100) {{ viewer {{ workspaces(first: $n) {{ nodes {{ a: members(first: $n) {{ {person} }} b: members(first: $n) {{ {person} }} }} }} }} }}"
            ),
        ] {
            refused(&app, &query, "QUERY_TOO_COMPLEX").await;
        }
    });
}

#[test]
fn fields_at_the_root_are_limited_wherever_they_stand() {
    async fn narrow(engine: Engine) -> App {
        App::start_with(engine, |env| {
            env.set("GUILDHALL_LIMITS_ROOT_FIELDS", 20);
        })
        .await
    }
    databases::run(Engine::Sqlite, narrow, async |app: App| {
        let viewers = |count| many(count, "a#: viewer { user { id } } ");
        refused(&app, &format!("{{ {} }}", viewers(21)), "QUERY_TOO_COMPLEX").await;
        let spread = format!("{{ ...f ... on Query {{ ...f }} }} fragment f on Query {{ {} }}", viewers(11));
        refused(&app, &spread, "QUERY_TOO_COMPLEX").await;
        let sign_outs = many(21, "a#: signOut { signedOut } ");
        refused(&app, &format!("mutation {{ {sign_outs} }}"), "QUERY_TOO_COMPLEX").await;
        let (_, body) = ask(&app, &format!("{{ {} }}", viewers(20))).await;
        assert_eq!(body["data"].as_object().unwrap().len(), 20, "{body:.300}");
    });
}

#[test]
fn every_rule_of_the_specification_holds() {
    alone(async |app| {
        for query in [
            "query($a: Int) { __typename @skip(if: $a) }",
            "query($a: Boolean) { __typename @skip(if: $a) @include(if: $b) }",
            "query($a: Boolean = 1) { __typename @skip(if: $a) }",
            "{ viewer { workspaces(first: 99999999999) { totalCount } } }",
            "{ __typename @specifiedBy(url: \"x\") }",
            "{ viewer {} }",
            r#"mutation { signIn(input: { email: "a", email: "b", password: "x" }) { user { id } } }"#,
            "mutation($i: SignInInput!, $i: SignInInput!) { signIn(input: $i) { user { id } } }",
        ] {
            let (status, body) = ask(&app, query).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{query} {body}");
            let told = code(&body);
            assert!(
                ["GRAPHQL_VALIDATION_FAILED", "GRAPHQL_PARSE_FAILED", "BAD_USER_INPUT"].contains(&told),
                "{query} {body}"
            );
            assert!(body.get("data").is_none(), "{query}");
        }
        // What async-graphql refuses too keeps its words, with what may have been meant.
        let (_, body) = ask(&app, "query($a: Int) { viewr { user { id } } __typename @skip(if: $a) }").await;
        assert!(body["errors"].to_string().contains("Did you mean"), "{body}");
        let watch =
            "subscription { a: viewerInvitationChanged { status } b: viewerInvitationChanged { status } }";
        let mut client = crate::sockets::ready(&app, None).await;
        client.subscribe("1", watch, Value::Null).await;
        let message = client.receive().await;
        assert_eq!(message["type"], "error", "{message}");
        assert_eq!(message["payload"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED");
    });
}

#[test]
fn operations_that_cannot_be_told_apart_are_refused() {
    alone(async |app| {
        refused(&app, "query A { __typename } query A { __typename }", "GRAPHQL_PARSE_FAILED").await;
        refused(&app, "query A { __typename } query B { __typename }", "BAD_USER_INPUT").await;
        refused(&app, "{ __typename } { __typename }", "GRAPHQL_PARSE_FAILED").await;
        refused(&app, "fragment a on Query { __typename }", "GRAPHQL_PARSE_FAILED").await;
        for name in ["B", "", "a", &"x".repeat(100_000)] {
            let body = json!({ "query": "query A { __typename }", "operationName": name });
            let page = send(&app, post(&app, SPEC, body.to_string())).await;
            let answer = json_of(&page);
            assert_eq!(
                (page.status, code(&answer)),
                (StatusCode::BAD_REQUEST, "BAD_USER_INPUT"),
                "{name:.20}"
            );
            assert!(page.body.len() < 1_000, "{} bytes", page.body.len());
        }
    });
}

#[test]
fn variables_of_any_size_and_depth_are_read_or_refused() {
    alone(async |app| {
        let ada = app.set_up().await;
        let query = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }";
        let timed = async |variables: Value| -> Answer {
            let started = Instant::now();
            let answer = ada.query(query, variables).await;
            assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
            answer
        };
        let fill = |count: usize| json!({ "ids": vec!["x"; count] });
        assert_eq!(timed(fill(100)).await.ok().len("/nodes"), 100);
        timed(fill(101)).await.denied("BAD_USER_INPUT");
        timed(fill(20_000)).await.denied("BAD_USER_INPUT");
        let large = timed(json!({ "ids": ["x".repeat(1_000_000)] })).await.ok();
        assert_eq!(large.data("/nodes"), &json!([null]));
        // Variables that nobody declared are ignored, whatever they hold.
        let unused: Value =
            (0..10_000).map(|n| (format!("v{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
        assert_eq!(ada.query("{ __typename }", unused).await.ok().text("/__typename"), "Query");

        for depth in [130, 10_000, 400_000] {
            let nest = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let body = format!(
                r#"{{"query":"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ id }} }}","variables":{{"ids":{nest}}}}}"#
            );
            let page = send(&app, post(&app, SPEC, body)).await;
            assert_eq!(page.status, StatusCode::BAD_REQUEST, "{depth}");
            assert_eq!(code(&json_of(&page)), "BAD_USER_INPUT", "{depth}");
        }
        let nest = format!("{}{}", "[".repeat(100), "]".repeat(100));
        let body = format!(
            r#"{{"query":"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ id }} }}","variables":{{"ids":{nest}}}}}"#
        );
        let answer = json_of(&send(&app, post(&app, SPEC, body)).await);
        assert!(["BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"].contains(&code(&answer)), "{answer}");
    });
}

/// As graphql-js writes it with all its options.
fn introspection() -> String {
    let of_type = format!("{}{}", "ofType { kind name ".repeat(9), "}".repeat(9));
    format!(
        "query IntrospectionQuery {{ __schema {{ description queryType {{ name kind }} mutationType {{ name kind }} \
         subscriptionType {{ name kind }} types {{ ...FullType }} directives {{ name description isRepeatable locations \
         args(includeDeprecated: true) {{ ...InputValue }} }} }} }} \
         fragment FullType on __Type {{ kind name description specifiedByURL isOneOf \
         fields(includeDeprecated: true) {{ name description args(includeDeprecated: true) {{ ...InputValue }} \
         type {{ ...TypeRef }} isDeprecated deprecationReason }} \
         inputFields(includeDeprecated: true) {{ ...InputValue }} interfaces {{ ...TypeRef }} \
         enumValues(includeDeprecated: true) {{ name description isDeprecated deprecationReason }} \
         possibleTypes {{ ...TypeRef }} }} \
         fragment InputValue on __InputValue {{ name description type {{ ...TypeRef }} defaultValue isDeprecated deprecationReason }} \
         fragment TypeRef on __Type {{ kind name {of_type} }}"
    )
}

#[test]
fn introspection_answers_by_default() {
    alone(async |app| {
        let (status, body) = ask(&app, &introspection()).await;
        assert_eq!(status, StatusCode::OK, "{body:.1000}");
        assert!(body.get("errors").is_none(), "{body:.1000}");
        assert_eq!(body["data"]["__schema"]["mutationType"]["name"], "Mutation");
        let (_, body) = ask(&app, "{ viewr { user { id } } }").await;
        assert!(body["errors"][0]["message"].as_str().unwrap().contains("viewer"), "a suggestion: {body}");
    });
}

#[test]
fn introspection_switched_off_tells_nothing_of_the_schema() {
    async fn closed(engine: Engine) -> App {
        App::start_with(engine, |env| {
            env.set("GUILDHALL_INTROSPECTION", false);
        })
        .await
    }
    databases::run(Engine::Sqlite, closed, async |app: App| {
        for query in [
            introspection().as_str(),
            "{ __schema { queryType { name } } }",
            "{ __type(name: \"User\") { fields { name } } }",
            "{ __typename __schema { types { name } } }",
            "query($n: String!) { __type(name: $n) { name } }",
            "query { ... on Query { __schema { queryType { name } } } }",
            "{ harmless: __schema { queryType { name } } }",
        ] {
            let body = json!({ "query": query, "variables": { "n": "User" } });
            let page = send(&app, post(&app, SPEC, body.to_string())).await;
            let answer = json_of(&page);
            let refusal = (StatusCode::BAD_REQUEST, "GRAPHQL_VALIDATION_FAILED");
            assert_eq!((page.status, code(&answer)), refusal, "{query:.60}");
            assert!(answer.get("data").is_none(), "{query:.60} {answer}");
        }
        for query in [
            "{ viewr { user { id } } }",
            "{ viewer { usr { id } } }",
            "{ workspace(nam: \"x\") { id } }",
            "mutation { signIn(input: { emial: \"x\" }) { user { id } } }",
            "{ ... on Qery { __typename } }",
            "{ viewer { workspaces { nodes { can(permission: WORKSPACE_VIW) } } } }",
        ] {
            let (_, body) = ask(&app, query).await;
            let message = body["errors"][0]["message"].as_str().unwrap().to_lowercase();
            assert!(!message.contains("did you mean"), "{query} {message}");
        }
        assert_eq!(ask(&app, "{ __typename }").await.1["data"]["__typename"], "Query");
    });
}
