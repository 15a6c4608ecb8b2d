//! Lists that people sort: by name or by age, both ways, page by page in either direction.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, App, Workspace, both_databases};
use serde_json::{Value, json};

both_databases!(
    App::start,
    members_are_sorted_by_name_whatever_its_case,
    pages_of_a_sorted_list_lose_and_repeat_nobody,
    members_of_an_organization_and_workspaces_are_sorted_too,
    the_first_pages_of_many_lists_are_sorted_in_one_statement,
    a_cursor_outlives_its_row_and_no_other_text_is_one,
);

/// Joins people of those names, in that order.
async fn joined(app: &App, workspace: &Workspace, names: &[&str]) {
    for (number, name) in names.iter().enumerate() {
        let eve = app.member(workspace, SystemRole::Viewer, &format!("Person{number}")).await;
        eve.mutate("updateProfile", json!({ "displayName": name }), "").await.ok();
    }
}

const MEMBERS: &str = "query($name: String!, $order: Order, $first: Int, $after: String, $last: Int, $before: String) {
    workspace(name: $name) { members(orderBy: $order, first: $first, after: $after, last: $last, before: $before) {
        nodes { id principal { ... on User { displayName } } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    } } }";

async fn page(by: &Actor, workspace: &Workspace, order: &Value, window: Value) -> (Vec<String>, Value) {
    let mut variables = json!({ "name": workspace.name, "order": order });
    variables.as_object_mut().unwrap().extend(window.as_object().unwrap().clone());
    let answer = by.query(MEMBERS, variables).await.ok();
    let nodes = answer.data("/workspace/members/nodes").as_array().unwrap();
    let names = nodes.iter().map(|node| node["principal"]["displayName"].as_str().unwrap().to_owned());
    (names.collect(), answer.data("/workspace/members/pageInfo").clone())
}

async fn members_are_sorted_by_name_whatever_its_case(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    joined(&app, &lab, &["zoe", "Émile", "bea", "Bob", "Carl"]).await;
    let names = async |order: Value| page(&ada, &lab, &order, json!({})).await.0;
    let sorted = ["Ada", "bea", "Bob", "Carl", "zoe", "Émile"];
    assert_eq!(names(json!({ "field": "NAME" })).await, sorted);
    let turned: Vec<_> = sorted.into_iter().rev().collect();
    assert_eq!(names(json!({ "field": "NAME", "direction": "DESC" })).await, turned);
    let by_age = ["Ada", "zoe", "Émile", "bea", "Bob", "Carl"];
    assert_eq!(names(Value::Null).await, by_age);
    assert_eq!(names(json!({ "field": "CREATED_AT" })).await, by_age);
    let turned: Vec<_> = by_age.into_iter().rev().collect();
    assert_eq!(names(json!({ "field": "CREATED_AT", "direction": "DESC" })).await, turned);
}

async fn pages_of_a_sorted_list_lose_and_repeat_nobody(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    joined(&app, &lab, &["Bob", "bob", "Ada", "ada", "Carl", "BOB"]).await;
    for order in [
        json!({ "field": "NAME" }),
        json!({ "field": "NAME", "direction": "DESC" }),
        json!({ "field": "CREATED_AT", "direction": "DESC" }),
        Value::Null,
    ] {
        let (all, info) = page(&ada, &lab, &order, json!({})).await;
        assert_eq!(
            (all.len(), &info["hasNextPage"], &info["hasPreviousPage"]),
            (7, &json!(false), &json!(false))
        );
        let (mut forward, mut window) = (Vec::new(), json!({ "first": 2 }));
        loop {
            let (names, info) = page(&ada, &lab, &order, window).await;
            forward.extend(names);
            if info["hasNextPage"] == false {
                break;
            }
            window = json!({ "first": 2, "after": info["endCursor"] });
        }
        assert_eq!(forward, all, "{order}");
        let (mut backward, mut window) = (Vec::new(), json!({ "last": 2 }));
        loop {
            let (names, info) = page(&ada, &lab, &order, window).await;
            backward.splice(0..0, names);
            if info["hasPreviousPage"] == false {
                break;
            }
            window = json!({ "last": 2, "before": info["startCursor"] });
        }
        assert_eq!(backward, all, "{order}");
    }
}

async fn members_of_an_organization_and_workspaces_are_sorted_too(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    joined(&app, &lab, &["zoe", "Bob"]).await;
    ada.workspace("attic").await;
    let document = "query($order: Order) { viewer {
        workspaces(orderBy: $order) { nodes { displayName } }
        organizations { nodes { members(orderBy: $order) { nodes { user { displayName } } } } }
    } }";
    let by_name =
        ada.query(document, json!({ "order": { "field": "NAME", "direction": "DESC" } })).await.ok();
    let workspaces = by_name.data("/viewer/workspaces/nodes").as_array().unwrap();
    let names: Vec<_> =
        workspaces.iter().map(|node| node["displayName"].as_str().unwrap().to_lowercase()).collect();
    assert!(names.is_sorted_by(|one, other| one > other), "{names:?}");
    assert_eq!(names.last().unwrap(), "attic");
    let members = by_name.data("/viewer/organizations/nodes/0/members/nodes").as_array().unwrap();
    let names: Vec<_> = members.iter().map(|node| node["user"]["displayName"].as_str().unwrap()).collect();
    assert_eq!(names, ["zoe", "Bob", "Ada"]);
}

async fn the_first_pages_of_many_lists_are_sorted_in_one_statement(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    joined(&app, &lab, &["zoe", "Bob"]).await;
    ada.workspace("Den").await;
    let document = "query($order: Order) { viewer { workspaces { nodes { displayName members(first: 2, orderBy: $order) {
        nodes { principal { ... on User { displayName } } } pageInfo { hasNextPage }
    } } } } }";
    for (direction, expected) in [("ASC", ["Ada", "Bob"]), ("DESC", ["zoe", "Bob"])] {
        let order = json!({ "field": "NAME", "direction": direction });
        let mut answer = None;
        let statements = app
            .count(async || answer = Some(ada.query(document, json!({ "order": order })).await.ok()))
            .await;
        assert_eq!(statements, 3, "the session, the workspaces, and the members of all");
        let answer = answer.unwrap();
        let nodes = answer.data("/viewer/workspaces/nodes").as_array().unwrap();
        let of_lab = nodes.iter().find(|node| node["displayName"] == "Lab").unwrap();
        let names: Vec<_> = of_lab["members"]["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| &node["principal"]["displayName"])
            .collect();
        assert_eq!(names, expected);
        assert_eq!(of_lab["members"]["pageInfo"]["hasNextPage"], true);
    }
}

async fn a_cursor_outlives_its_row_and_no_other_text_is_one(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    joined(&app, &lab, &["Bob", "Carl", "Dora"]).await;
    let order = json!({ "field": "NAME" });
    let (names, info) = page(&ada, &lab, &order, json!({ "first": 2 })).await;
    assert_eq!(names, ["Ada", "Bob"]);
    let answer = ada.query(MEMBERS, json!({ "name": lab.name, "order": order })).await.ok();
    let bob = answer.data("/workspace/members/nodes/1/id");
    ada.mutate("removeMember", json!({ "workspaceId": lab.id, "memberId": bob }), "").await.ok();
    let (names, _) = page(&ada, &lab, &order, json!({ "first": 2, "after": info["endCursor"] })).await;
    assert_eq!(names, ["Carl", "Dora"]);
    let nil = "0".repeat(32);
    for text in [
        "member:".to_owned(),
        "member:short".to_owned(),
        format!("member:{nil}a\0b"),
        format!("workspace:{nil}ada"),
    ] {
        let variables = json!({ "name": lab.name, "after": URL_SAFE_NO_PAD.encode(&text) });
        let answer = ada.query(MEMBERS, variables).await;
        assert_eq!(answer.code(), "BAD_USER_INPUT", "{text:?}");
    }
}
