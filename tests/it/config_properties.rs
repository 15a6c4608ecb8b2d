//! Configuration properties: who reads and who sets them, values of every kind, batches, pages, limits, and what looks like a
//! secret.

use futures_util::future::join_all;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, both_databases};
use serde_json::{Value, json};

use crate::races::tally;

both_databases!(
    App::start,
    all_members_read_and_admins_set,
    a_role_without_the_permission_reads_nothing,
    values_of_every_kind_come_back_as_they_were_given,
    numbers_keep_every_digit,
    a_property_says_who_set_it_and_when,
    keys_and_values_that_cannot_be_had_are_named,
    a_batch_is_set_whole_or_not_at_all,
    a_deleted_property_is_gone_and_told_as_it_was,
    properties_are_listed_by_key_in_pages,
    a_thousand_properties_are_the_limit,
    the_limit_holds_for_many_at_once,
    what_looks_like_a_secret_is_set_with_a_warning,
);

const PROPERTY: &str = "key kind value text updatedAt updatedBy { email }";

async fn set(actor: &Actor, lab: &Workspace, key: &str, value: Value) -> Answer {
    let input = json!({ "workspaceId": lab.id, "key": key, "value": value });
    let selection = format!("property {{ {PROPERTY} }} warnings {{ field message }}");
    actor.mutate("setConfigProperty", input, &selection).await
}

async fn set_all(actor: &Actor, lab: &Workspace, properties: &[(&str, Value)]) -> Answer {
    let properties: Vec<_> =
        properties.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    let input = json!({ "workspaceId": lab.id, "properties": properties });
    let selection = format!("properties {{ {PROPERTY} }} warnings {{ field message }}");
    actor.mutate("setConfigProperties", input, &selection).await
}

async fn delete(actor: &Actor, lab: &Workspace, key: &str) -> Answer {
    let input = json!({ "workspaceId": lab.id, "key": key });
    actor.mutate("deleteConfigProperty", input, &format!("property {{ {PROPERTY} }}")).await
}

async fn get(actor: &Actor, lab: &Workspace, key: &str) -> Value {
    let document = format!(
        "query($name: String!, $key: String!) {{ workspace(name: $name) {{ configProperty(key: $key) {{ {PROPERTY} }} }} }}"
    );
    let seen = actor.query(&document, json!({ "name": lab.name, "key": key })).await.ok();
    seen.data("/workspace/configProperty").clone()
}

async fn keys(actor: &Actor, lab: &Workspace) -> Value {
    let document =
        "query($name: String!) { workspace(name: $name) { configProperties { totalCount nodes { key } } } }";
    let seen = actor.query(document, json!({ "name": lab.name })).await.ok();
    let list = seen.data("/workspace/configProperties");
    let keys: Vec<_> = list["nodes"].as_array().unwrap().iter().map(|node| node["key"].clone()).collect();
    assert_eq!(list["totalCount"], keys.len());
    json!(keys)
}

async fn all_members_read_and_admins_set(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let edda = app.member(&lab, SystemRole::Editor, "Edda").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let year = json!({ "number": 2026 });
    for (actor, code) in [
        (&vera, "FORBIDDEN"),
        (&edda, "FORBIDDEN"),
        (&olga, "NOT_FOUND"),
        (&app.anonymous(), "UNAUTHENTICATED"),
    ] {
        set(actor, &lab, "YEAR", year.clone()).await.denied(code);
        set_all(actor, &lab, &[("YEAR", year.clone())]).await.denied(code);
        delete(actor, &lab, "YEAR").await.denied(code);
    }
    assert_eq!(keys(&vera, &lab).await, json!([]));
    set(&adam, &lab, "YEAR", year.clone()).await.ok();
    set_all(&adam, &lab, &[("A", json!({ "boolean": true })), ("B", json!({ "string": "b" }))]).await.ok();
    for actor in [&vera, &edda, &adam, &ada] {
        assert_eq!(get(actor, &lab, "YEAR").await["value"], 2026, "{}", actor.name);
        assert_eq!(keys(actor, &lab).await, json!(["A", "B", "YEAR"]), "{}", actor.name);
    }
    delete(&vera, &lab, "A").await.denied("FORBIDDEN");
    delete(&adam, &lab, "A").await.ok();
    assert_eq!(keys(&vera, &lab).await, json!(["B", "YEAR"]));
    // Another workspace has properties of its own.
    let den = ada.workspace("Den").await;
    assert_eq!(get(&ada, &den, "YEAR").await, Value::Null);
    set(&ada, &den, "YEAR", json!({ "number": 1 })).await.ok();
    delete(&ada, &den, "YEAR").await.ok();
    assert_eq!(get(&ada, &lab, "YEAR").await["value"], 2026);
}

async fn a_role_without_the_permission_reads_nothing(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    set(&ada, &lab, "YEAR", json!({ "number": 2026 })).await.ok();
    let organization = ada.organization().await;
    for (name, held, reads) in [("Blind", &[][..], false), ("Setter", &["CONFIG_MANAGE"][..], false)] {
        let role = crate::roles::made(&ada, &organization, name, held).await;
        crate::members::set_role(&ada, &lab, &crate::members::membership(&lab, &vera).await, &role)
            .await
            .ok();
        for field in ["configProperties { totalCount }", "configProperty(key: \"YEAR\") { value }"] {
            let document = format!("query($name: String!) {{ workspace(name: $name) {{ id {field} }} }}");
            let answer = vera.query(&document, json!({ "name": lab.name })).await;
            assert_eq!(answer.errors().is_empty(), reads, "{name}: {answer}");
            assert_eq!(answer.code(), "FORBIDDEN", "{name}: {answer}");
            assert_eq!(answer.data("/workspace/id"), &json!(lab.id), "the rest is answered");
        }
    }
    // Who sets without reading is told nothing of what is there.
    let answer = set(&vera, &lab, "YEAR", json!({ "number": 2027 })).await.ok();
    assert_eq!(answer.data("/setConfigProperty/property"), &Value::Null);
    let answer = delete(&vera, &lab, "YEAR").await.ok();
    assert_eq!(answer.data("/deleteConfigProperty/property"), &Value::Null);
    assert_eq!(get(&ada, &lab, "YEAR").await, Value::Null);
}

async fn values_of_every_kind_come_back_as_they_were_given(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let nested = json!({ "b": [1, -2.5, null, true, "é"], "a": { "": {} } });
    let long = "é".repeat(32 * 1024);
    for (value, kind, read) in [
        (json!({ "string": "" }), "STRING", json!("")),
        (json!({ "string": "a\u{0}\n\"\\\u{202e}🚀" }), "STRING", json!("a\u{0}\n\"\\\u{202e}🚀")),
        (json!({ "string": "true" }), "STRING", json!("true")),
        (json!({ "string": long }), "STRING", json!(long)),
        (json!({ "number": 7 }), "NUMBER", json!(7)),
        (json!({ "number": -0.5 }), "NUMBER", json!(-0.5)),
        (json!({ "boolean": false }), "BOOLEAN", json!(false)),
        (json!({ "boolean": true }), "BOOLEAN", json!(true)),
        (json!({ "json": nested }), "JSON", nested.clone()),
        (json!({ "json": [] }), "JSON", json!([])),
        (json!({ "json": "text" }), "JSON", json!("text")),
    ] {
        let answer = set(&ada, &lab, "VALUE", value.clone()).await.ok();
        let seen = get(&ada, &lab, "VALUE").await;
        assert_eq!(&seen, answer.data("/setConfigProperty/property"));
        assert_eq!((&seen["kind"], &seen["value"]), (&json!(kind), &read), "{value}");
        assert_eq!(serde_json::from_str::<Value>(seen["text"].as_str().unwrap()).unwrap(), read);
    }
    // The same in a document, where names are no variables, and with its members in their order.
    let document = r#"mutation($id: ID!) { setConfigProperty(input: { workspaceId: $id, key: "VALUE",
        value: { json: { b: 1, a: [{}, 2.5, "x", null, false] } } }) { property { text } } }"#;
    let answer = ada.query(document, json!({ "id": lab.id })).await.ok();
    let text = answer.data("/setConfigProperty/property/text");
    assert_eq!(text, r#"{"b":1,"a":[{},2.5,"x",null,false]}"#);
    for bad in [
        json!({}),
        json!({ "string": "a", "number": 1 }),
        json!({ "string": null }),
        json!({ "json": null }),
        json!({ "number": true }),
        json!({ "number": [1] }),
        json!({ "boolean": 1 }),
        json!("text"),
    ] {
        let answer = set(&ada, &lab, "VALUE", bad.clone()).await;
        assert!(!answer.errors().is_empty(), "{bad}: {answer}");
    }
}

async fn numbers_keep_every_digit(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let digits = "123456789".repeat(100);
    for text in [
        "12345678901234567890123456789",
        "-0.10000000000000000000000001",
        "1e400",
        "6.02e23",
        "1.50",
        digits.as_str(),
    ] {
        set(&ada, &lab, "N", json!({ "number": text })).await.ok();
        let seen = get(&ada, &lab, "N").await;
        assert_eq!((&seen["kind"], &seen["text"]), (&json!("NUMBER"), &json!(text)));
        assert_eq!(seen["value"].is_null(), text == "1e400" || text.len() > 400, "{seen}");
    }
    // As JSON numbers, in a variable and in the document alike, all that 64 bits hold.
    for number in ["9007199254740993", "18446744073709551615", "-9223372036854775808", "0.1"] {
        let value: Value = serde_json::from_str(number).unwrap();
        set(&ada, &lab, "N", json!({ "number": value })).await.ok();
        assert_eq!(get(&ada, &lab, "N").await["text"], number);
        let document = format!(
            r#"mutation($id: ID!) {{ setConfigProperty(input: {{ workspaceId: $id, key: "M", value: {{ number: {number} }} }})
               {{ property {{ text }} }} }}"#
        );
        let answer = ada.query(&document, json!({ "id": lab.id })).await.ok();
        assert_eq!(answer.data("/setConfigProperty/property/text"), number);
    }
    // What would have lost digits on the way is refused, and says how to give it.
    let before = get(&ada, &lab, "M").await;
    for value in ["number: 12345678901234567890123", "json: { a: [12345678901234567890123] }"] {
        let document = format!(
            r#"mutation($id: ID!) {{ setConfigProperty(input: {{ workspaceId: $id, key: "M", value: {{ {value} }} }})
               {{ userErrors {{ code field message }} }} }}"#
        );
        let refused = ada.query(&document, json!({ "id": lab.id })).await.refused("INVALID_INPUT");
        let error = refused.user_errors()[0];
        assert_eq!(error["field"], json!(["value"]));
        assert!(error["message"].as_str().unwrap().contains("as a text"), "{error}");
    }
    for bad in ["", "abc", "0x10", "01", "1 2", "NaN", "١"] {
        let refused = set(&ada, &lab, "M", json!({ "number": bad })).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["value"]), "{bad}");
    }
    assert_eq!(get(&ada, &lab, "M").await, before);
}

async fn a_property_says_who_set_it_and_when(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    set_all(&ada, &lab, &[("A", json!({ "number": 1 })), ("B", json!({ "number": 2 }))]).await.ok();
    let first = get(&vera, &lab, "A").await;
    assert_eq!(first["updatedBy"]["email"], ada.email);
    app.advance(chrono::TimeDelta::seconds(5));
    // What is there already stays with whoever set it.
    set_all(&adam, &lab, &[("A", json!({ "number": 1 })), ("B", json!({ "number": 3 }))]).await.ok();
    assert_eq!(get(&vera, &lab, "A").await, first);
    let second = get(&vera, &lab, "B").await;
    assert_eq!(second["updatedBy"]["email"], adam.email);
    assert!(second["updatedAt"].as_str() > first["updatedAt"].as_str());
    // The same digits as another kind are another value.
    set(&adam, &lab, "A", json!({ "json": 1 })).await.ok();
    assert_eq!(get(&vera, &lab, "A").await["updatedBy"]["email"], adam.email);
    app.sql("UPDATE organizations SET member_list_visibility = 'ADMINS'").await;
    assert_eq!(get(&vera, &lab, "B").await["updatedBy"], Value::Null);
    assert_eq!(get(&ada, &lab, "B").await["updatedBy"]["email"], adam.email);
}

async fn keys_and_values_that_cannot_be_had_are_named(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (long, huge) = ("k".repeat(129), "x".repeat(64 * 1024 + 1));
    for key in ["", " ", "1A", "a b", "a..b", "a.", "é", "a\u{0}", "a/b", "$A", long.as_str()] {
        let refused = set(&ada, &lab, key, json!({ "number": 1 })).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["key"]), "{key:?}");
        let refused = delete(&ada, &lab, key).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["key"]), "{key:?}");
        assert_eq!(get(&ada, &lab, key).await, Value::Null);
    }
    for value in [json!({ "string": huge }), json!({ "json": [huge] }), json!({ "json": { "a": huge } })] {
        let refused = set(&ada, &lab, "A", value).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["value"]));
        assert_eq!(refused.data("/setConfigProperty/warnings"), &Value::Null);
    }
    let both = set(&ada, &lab, "", json!({ "number": "x" })).await.refused("INVALID_INPUT");
    assert_eq!(both.user_errors().len(), 2);
    assert_eq!(app.number("SELECT count(*) FROM config_properties").await, 0);
}

async fn a_batch_is_set_whole_or_not_at_all(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    set(&ada, &lab, "OLD", json!({ "number": 1 })).await.ok();
    let one = json!({ "number": 2 });
    let refused = set_all(
        &ada,
        &lab,
        &[
            ("OLD", one.clone()),
            ("a b", json!({ "number": "x" })),
            ("NEW", one.clone()),
            ("NEW", one.clone()),
            ("BIG", json!({ "string": "x".repeat(70_000) })),
            ("FINE", one.clone()),
        ],
    )
    .await
    .refused("INVALID_INPUT");
    let fields: Vec<_> = refused.user_errors().iter().map(|error| error["field"].clone()).collect();
    let expected = json!([
        ["properties", "1", "key"],
        ["properties", "1", "value"],
        ["properties", "3", "key"],
        ["properties", "4", "value"]
    ]);
    assert_eq!(json!(fields), expected);
    assert_eq!(
        (keys(&ada, &lab).await, get(&ada, &lab, "OLD").await["value"].clone()),
        (json!(["OLD"]), json!(1))
    );
    // Keys that differ by a capital are two.
    let set =
        set_all(&ada, &lab, &[("old", one.clone()), ("OLD", one.clone()), ("Z", one.clone())]).await.ok();
    let told: Vec<_> =
        ["0", "1", "2"].map(|n| set.data(&format!("/setConfigProperties/properties/{n}/key"))).into();
    assert_eq!(json!(told), json!(["old", "OLD", "Z"]), "in the order of the input");
    assert_eq!(keys(&ada, &lab).await, json!(["OLD", "Z", "old"]));
    let names: Vec<String> = (0..101).map(|n| format!("K{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), one.clone())).collect();
    for wrong in [&many[..], &[]] {
        let refused = set_all(&ada, &lab, wrong).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["properties"]));
    }
    set_all(&ada, &lab, &many[..100]).await.ok();
    assert_eq!(app.number("SELECT count(*) FROM config_properties").await, 103);
}

async fn a_deleted_property_is_gone_and_told_as_it_was(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    set(&ada, &lab, "A", json!({ "string": "x" })).await.ok();
    let seen = get(&ada, &lab, "A").await;
    let refused = delete(&ada, &lab, "a").await.refused("NOT_FOUND");
    assert_eq!(refused.user_errors()[0]["field"], json!(["key"]));
    let answers = join_all((0..6).map(|_| delete(&ada, &lab, "A"))).await;
    assert_eq!(json!(tally(&answers)), json!({ "OK": 1, "NOT_FOUND": 5 }));
    let told = answers.iter().find(|answer| answer.user_errors().is_empty()).unwrap();
    assert_eq!(told.data("/deleteConfigProperty/property"), &seen);
    assert_eq!(keys(&ada, &lab).await, json!([]));
}

async fn properties_are_listed_by_key_in_pages(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let sorted = ["A", "B", "Z", "_x", "a", "a-b", "a.b", "a_b", "report.a", "report.b", "reporter"];
    let given: Vec<_> = sorted.iter().rev().map(|key| (*key, json!({ "boolean": true }))).collect();
    set_all(&ada, &lab, &given).await.ok();
    let document = "query($name: String!, $prefix: String, $first: Int, $after: String, $last: Int, $before: String) {
        workspace(name: $name) { configProperties(prefix: $prefix, first: $first, after: $after, last: $last, before: $before) {
            totalCount edges { cursor node { key } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }";
    let ask = async |mut variables: Value| {
        variables["name"] = json!(lab.name);
        ada.query(document, variables).await
    };
    let page = async |variables: Value| {
        let answer = ask(variables).await.ok();
        let list = answer.data("/workspace/configProperties").clone();
        let keys: Vec<_> =
            list["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["key"].clone()).collect();
        (json!(keys), list)
    };
    assert_eq!(page(json!({})).await.0, json!(sorted), "byte by byte on both databases");
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let (keys, list) = page(json!({ "first": 3, "after": after })).await;
        assert_eq!(list["totalCount"], sorted.len());
        seen.extend(keys.as_array().unwrap().clone());
        after = list["pageInfo"]["endCursor"].clone();
        if list["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(json!(seen), json!(sorted));
    let (keys, list) = page(json!({ "last": 2, "before": after })).await;
    assert_eq!(keys, json!(["report.a", "report.b"]));
    assert_eq!(list["pageInfo"]["hasPreviousPage"], true);
    // A cursor is a position, also after its property is gone.
    delete(&ada, &lab, "reporter").await.ok();
    assert_eq!(page(json!({ "last": 1, "before": after })).await.0, json!(["report.b"]));
    for (prefix, expected) in [
        (json!("report."), json!(["report.a", "report.b"])),
        (json!("a"), json!(["a", "a-b", "a.b", "a_b"])),
        (json!("a_"), json!(["a_b"])),
        (json!("REPORT"), json!([])),
        (json!(""), json!(sorted[..10])),
    ] {
        let (keys, list) = page(json!({ "prefix": prefix })).await;
        assert_eq!((&keys, &list["totalCount"]), (&expected, &json!(expected.as_array().unwrap().len())));
    }
    for bad in [
        json!({ "prefix": "%" }),
        json!({ "prefix": "a\u{0}" }),
        json!({ "prefix": "a".repeat(129) }),
        json!({ "after": "x" }),
        json!({ "first": 0 }),
        json!({ "first": 101 }),
        json!({ "first": 1, "last": 1 }),
    ] {
        ask(bad).await.denied("BAD_USER_INPUT");
    }
}

/// Fills a workspace up behind the server's back.
async fn fill(app: &App, lab: &Workspace, count: usize) {
    let id = app.literal(&lab.id);
    let at = "2026-01-01 00:00:00+00:00";
    let rows: Vec<_> = (0..count).map(|n| format!("({id}, 'K{n}', 'NUMBER', '{n}', '{at}')")).collect();
    let columns = "(workspace_id, key, kind, value, updated_at)";
    app.sql(&format!("INSERT INTO config_properties {columns} VALUES {}", rows.join(", "))).await;
}

async fn a_thousand_properties_are_the_limit(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    fill(&app, &lab, 998).await;
    let one = json!({ "number": 1 });
    let three = [("A", one.clone()), ("B", one.clone()), ("C", one.clone())];
    let refused = set_all(&ada, &lab, &three).await.refused("LIMIT_REACHED");
    assert!(refused.user_errors()[0]["message"].as_str().unwrap().contains("1000"));
    assert_eq!(app.number("SELECT count(*) FROM config_properties").await, 998);
    set_all(&ada, &lab, &three[..2]).await.ok();
    set(&ada, &lab, "C", one.clone()).await.refused("LIMIT_REACHED");
    // Those that are there can be changed, and one that goes makes room.
    set_all(&ada, &lab, &[("A", json!({ "number": 2 })), ("K7", json!({ "number": 2 }))]).await.ok();
    delete(&ada, &lab, "K0").await.ok();
    set(&ada, &lab, "C", one.clone()).await.ok();
    // Another workspace has room of its own.
    let den = ada.workspace("Den").await;
    set(&ada, &den, "C", one).await.ok();
}

async fn the_limit_holds_for_many_at_once(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    fill(&app, &lab, 997).await;
    let names: Vec<String> = (0..8).map(|n| format!("NEW{n}")).collect();
    let answers = join_all(names.iter().map(|name| set(&ada, &lab, name, json!({ "boolean": true })))).await;
    assert_eq!(json!(tally(&answers)), json!({ "OK": 3, "LIMIT_REACHED": 5 }));
    assert_eq!(app.number("SELECT count(*) FROM config_properties").await, 1000);
    // The same key at once is one property.
    let answers = join_all((0..8).map(|n| set(&ada, &lab, "K1", json!({ "number": n })))).await;
    assert_eq!(json!(tally(&answers)), json!({ "OK": 8 }));
    assert_eq!(app.number("SELECT count(*) FROM config_properties").await, 1000);
}

async fn what_looks_like_a_secret_is_set_with_a_warning(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let url = "postgres://app:hunter2@db.example.org/lab";
    for (key, value, fields) in [
        ("REPORT_YEAR", json!({ "number": 2026 }), json!([])),
        ("PASSWORD_MIN_LENGTH", json!({ "number": 12 }), json!([])),
        ("DB_PASSWORD", json!({ "string": "hunter2" }), json!([["key"]])),
        ("DATABASE", json!({ "string": url }), json!([["value"]])),
        ("apiKey", json!({ "string": url }), json!([["key"], ["value"]])),
        ("SETTINGS", json!({ "json": { "db": { "password": "hunter2" } } }), json!([["value"]])),
    ] {
        let answer = set(&ada, &lab, key, value).await.ok();
        let warnings = answer.data("/setConfigProperty/warnings").as_array().unwrap().clone();
        let told: Vec<_> = warnings.iter().map(|warning| warning["field"].clone()).collect();
        assert_eq!(json!(told), fields, "{key}");
        for warning in &warnings {
            let message = warning["message"].as_str().unwrap();
            assert!(message.contains("credential") && !message.contains("hunter2"), "{message}");
        }
        assert_ne!(get(&ada, &lab, key).await, Value::Null, "{key} is set all the same");
    }
    let answer = set_all(
        &ada,
        &lab,
        &[
            ("A", json!({ "number": 1 })),
            ("TOKEN", json!({ "string": "x" })),
            ("B", json!({ "string": url })),
        ],
    )
    .await
    .ok();
    let warnings = answer.data("/setConfigProperties/warnings").as_array().unwrap();
    let told: Vec<_> = warnings.iter().map(|warning| warning["field"].clone()).collect();
    assert_eq!(json!(told), json!([["properties", "1", "key"], ["properties", "2", "value"]]));
}
