//! Workspaces: their names, who makes and changes them, what a person may do in them, and where one lands.

use futures_util::future::join_all;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, both_databases};
use serde_json::{Value, json};

both_databases!(
    App::start,
    a_name_is_made_of_the_display_name,
    ten_creations_at_once_get_ten_names,
    a_wanted_name_that_cannot_be_had_is_refused_with_its_reason,
    availability_says_why_and_what_else,
    admins_of_a_workspace_create_and_others_do_not,
    the_policy_says_who_creates,
    a_workspace_is_made_with_everything_at_once,
    bad_input_names_its_field,
    each_role_changes_what_it_may,
    absent_fields_stay_and_null_clears,
    workspaces_are_listed_by_age_in_pages,
);

pub(crate) const SEEN: &str = "query($name: String!) { workspace(name: $name) {
    id displayName description countries { code name flag } isDefault status
} }";

pub(crate) async fn create(actor: &Actor, input: Value) -> Answer {
    actor.mutate("createWorkspace", input, "workspace { id name viewerRole { key } }").await
}

async fn a_name_is_made_of_the_display_name(app: App) {
    let ada = app.set_up().await;
    for (display_name, name) in [
        ("Données d'été", "donnees-dete"),
        ("Données d’été", "donnees-dete-2"),
        ("DONNEES dete", "donnees-dete-3"),
        ("Москва", "moskva"),
        ("Admin", "admin-workspace"),
        ("🚀", "rocket"),
        ("7", "7"),
    ] {
        let made = create(&ada, json!({ "displayName": display_name })).await.ok();
        assert_eq!(made.data("/createWorkspace/workspace/name"), name);
        let seen = ada.query(SEEN, json!({ "name": name })).await.ok();
        assert_eq!(seen.data("/workspace/displayName"), display_name);
    }
}

async fn ten_creations_at_once_get_ten_names(app: App) {
    let ada = app.set_up().await;
    let made = join_all((0..10).map(|_| create(&ada, json!({ "displayName": "Field Data" })))).await;
    let mut names: Vec<String> = made
        .into_iter()
        .map(|answer| answer.ok().text("/createWorkspace/workspace/name").to_owned())
        .collect();
    names.sort_unstable();
    let mut expected: Vec<String> = (2..=10).map(|n| format!("field-data-{n}")).collect();
    expected.push("field-data".to_owned());
    expected.sort_unstable();
    assert_eq!(names, expected);
}

async fn a_wanted_name_that_cannot_be_had_is_refused_with_its_reason(app: App) {
    let ada = app.set_up().await;
    let wanted = |name: &str| json!({ "input": { "displayName": "Lab", "name": name } });
    let document = "mutation($input: CreateWorkspaceInput!) { createWorkspace(input: $input) {
        workspace { name } userErrors { code field reason message }
    } }";
    let made = ada.query(document, wanted("field-lab")).await.ok();
    assert_eq!(made.data("/createWorkspace/workspace/name"), "field-lab");
    let long = "a".repeat(64);
    for (name, reason) in [
        ("field-lab", "TAKEN"),
        ("graphql", "RESERVED"),
        ("admin", "RESERVED"),
        ("Field", "INVALID"),
        ("", "INVALID"),
        ("-a", "INVALID"),
        ("a--b", "INVALID"),
        ("lа", "INVALID"),
        ("a\u{0}", "INVALID"),
        (long.as_str(), "INVALID"),
    ] {
        let refused = ada.query(document, wanted(name)).await.refused("NAME_UNAVAILABLE");
        let error = refused.data("/createWorkspace/userErrors/0");
        assert_eq!((&error["reason"], &error["field"]), (&json!(reason), &json!(["name"])), "{name:?}");
        assert_eq!(refused.data("/createWorkspace/workspace"), &Value::Null);
    }
    assert_eq!(app.number("SELECT count(*) FROM workspaces").await, 2, "nothing is half-written");
}

async fn availability_says_why_and_what_else(app: App) {
    let ada = app.set_up().await;
    ada.workspace("Lab").await;
    ada.workspace("Lab").await;
    let document = "query($name: String!) { workspaceNameAvailability(name: $name) {
        isAvailable reason suggestion message
    } }";
    for (name, available, reason, suggestion) in [
        ("den", true, Value::Null, Value::Null),
        ("lab", false, json!("TAKEN"), json!("lab-3")),
        ("api", false, json!("RESERVED"), json!("api-workspace")),
        ("Été à Paris", false, json!("INVALID"), json!("ete-a-paris")),
        ("", false, json!("INVALID"), json!("untitled")),
    ] {
        let answer = ada.query(document, json!({ "name": name })).await.ok();
        let found = answer.data("/workspaceNameAvailability");
        assert_eq!(found["isAvailable"], available, "{name:?}: {found}");
        assert_eq!((&found["reason"], &found["suggestion"]), (&reason, &suggestion), "{name:?}");
        assert_eq!(found["message"].is_null(), available, "{name:?}: {found}");
        if let Some(suggestion) = suggestion.as_str() {
            let again = ada.query(document, json!({ "name": suggestion })).await.ok();
            assert_eq!(again.data("/workspaceNameAvailability/isAvailable"), true, "{suggestion}");
        }
    }
    app.anonymous().query(document, json!({ "name": "lab" })).await.denied("UNAUTHENTICATED");
}

async fn admins_of_a_workspace_create_and_others_do_not(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let eddie = app.member(&lab, SystemRole::Editor, "Eddie").await;
    let alma = app.member(&lab, SystemRole::Admin, "Alma").await;
    for actor in [&vera, &eddie] {
        create(actor, json!({ "displayName": "Mine" })).await.denied("FORBIDDEN");
    }
    app.anonymous()
        .mutate("createWorkspace", json!({ "displayName": "Mine" }), "workspace { id }")
        .await
        .denied("UNAUTHENTICATED");
    let made = create(&alma, json!({ "displayName": "Mine" })).await.ok();
    assert_eq!(made.data("/createWorkspace/workspace/viewerRole/key"), "ADMIN");
    assert_eq!(app.number("SELECT count(*) FROM workspaces").await, 3);

    // Whoever stops administering the last one stops creating, at once.
    let id = member_id(&ada, &lab.name, "alma@example.org").await;
    let input = json!({ "workspaceId": lab.id, "memberId": id, "role": "VIEWER" });
    ada.mutate("updateMemberRole", input, "member { id }").await.ok();
    create(&alma, json!({ "displayName": "Another" })).await.ok();
    let hers = app.literal(&alma.id);
    let expired = "expires_at = '2020-01-01 00:00:00+00:00'";
    app.sql(&format!("UPDATE memberships SET {expired} WHERE user_id = {hers} AND source = 'CREATOR'")).await;
    create(&alma, json!({ "displayName": "Third" })).await.denied("FORBIDDEN");
}

/// The membership of that address in a workspace, as its admin sees it.
pub(crate) async fn member_id(admin: &Actor, workspace: &str, email: &str) -> String {
    let document = "query($name: String!, $email: String!) { workspace(name: $name) {
        members(search: $email) { nodes { id } }
    } }";
    let found = admin.query(document, json!({ "name": workspace, "email": email })).await.ok();
    found.text("/workspace/members/nodes/0/id").to_owned()
}

async fn the_policy_says_who_creates(app: App) {
    let ada = app.set_up().await;
    let vera = app.person("vera@example.org", "Vera").await;
    app.sql("UPDATE organizations SET workspace_creation = 'ANY_MEMBER'").await;
    let made = create(&vera, json!({ "displayName": "Vera's" })).await.ok();
    assert_eq!(made.data("/createWorkspace/workspace/viewerRole/key"), "ADMIN");
    app.sql("UPDATE organizations SET workspace_creation = 'ORGANIZATION_ADMINS'").await;
    create(&vera, json!({ "displayName": "More" })).await.denied("FORBIDDEN");
    create(&ada, json!({ "displayName": "More" })).await.ok();

    // In somebody else's organization nobody creates anything.
    app.sql("UPDATE organizations SET workspace_creation = 'ANY_MEMBER'").await;
    let sam = app.stranger("sam@example.net", "Sam").await;
    let theirs = sam.id.replace("usr_", "org_");
    let input = json!({ "displayName": "Spy", "organizationId": theirs });
    create(&vera, input.clone()).await.denied("NOT_FOUND");
    create(&sam, input).await.ok();
}

async fn a_workspace_is_made_with_everything_at_once(app: App) {
    let ada = app.set_up().await;
    let input = json!({
        "displayName": "  Malaria   Survey ", "name": "malaria", "description": "# Hello\r\n\nworld",
        "countries": ["ke", "FR"],
    });
    create(&ada, input).await.ok();
    let seen = ada.query(SEEN, json!({ "name": "malaria" })).await.ok();
    let workspace = seen.data("/workspace");
    assert_eq!(workspace["displayName"], "Malaria Survey");
    assert_eq!(workspace["description"], "# Hello\n\nworld");
    assert_eq!(
        (&workspace["isDefault"], &workspace["status"]),
        (&json!(false), &json!("ACTIVE")),
        "{workspace}"
    );
    let codes: Vec<&Value> =
        workspace["countries"].as_array().unwrap().iter().map(|country| &country["code"]).collect();
    assert!(codes.contains(&&json!("KE")) && codes.contains(&&json!("FR")) && codes.len() == 2, "{codes:?}");
    let kenya = workspace["countries"].as_array().unwrap().iter().find(|c| c["code"] == "KE").unwrap();
    assert_eq!((&kenya["name"], &kenya["flag"]), (&json!("Kenya"), &json!("🇰🇪")));
}

async fn bad_input_names_its_field(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (long, huge) = ("a".repeat(81), "a".repeat(64 * 1024 + 1));
    for (field, value) in [
        ("displayName", json!("")),
        ("displayName", json!("   ")),
        ("displayName", json!(long)),
        ("displayName", json!("L\u{202e}ab")),
        ("displayName", json!("pаypal")),
        ("displayName", json!("nul\u{0}")),
        ("description", json!(huge)),
        ("countries", json!(["KE", "XX"])),
        ("countries", json!([""])),
    ] {
        let mut input = json!({ "displayName": "Fine" });
        input[field] = value.clone();
        let refused = create(&ada, input).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!([field]), "{value}");

        let mut input = json!({ "workspaceId": lab.id });
        input[field] = value;
        let mutation = if field == "description" { "describeWorkspace" } else { "updateWorkspace" };
        let refused = ada.mutate(mutation, input, "workspace { id }").await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!([field]));
    }
    // All faults of one input are told at once.
    let input = json!({ "displayName": "", "name": "A B", "countries": ["XX"] });
    let fields: Vec<Value> =
        create(&ada, input).await.user_errors().iter().map(|error| error["field"][0].clone()).collect();
    assert_eq!(fields, ["name", "displayName", "countries"]);
    assert_eq!(app.number("SELECT count(*) FROM workspaces").await, 2);
}

async fn each_role_changes_what_it_may(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let eddie = app.member(&lab, SystemRole::Editor, "Eddie").await;
    let alma = app.member(&lab, SystemRole::Admin, "Alma").await;
    let named = |name: &str| json!({ "workspaceId": lab.id, "displayName": name });
    let page = |text: &str| json!({ "workspaceId": lab.id, "description": text });
    for actor in [&vera, &eddie] {
        actor.mutate("updateWorkspace", named("Mine"), "workspace { id }").await.denied("FORBIDDEN");
    }
    vera.mutate("describeWorkspace", page("mine"), "workspace { id }").await.denied("FORBIDDEN");
    let described = eddie.mutate("describeWorkspace", page("# Home"), "workspace { description }").await.ok();
    assert_eq!(described.data("/describeWorkspace/workspace/description"), "# Home");
    let input = json!({ "workspaceId": lab.id, "displayName": "Laboratory", "countries": ["CH"] });
    let updated = alma.mutate("updateWorkspace", input, "workspace { name displayName }").await.ok();
    assert_eq!(
        updated.data("/updateWorkspace/workspace"),
        &json!({ "name": "lab", "displayName": "Laboratory" })
    );
    let seen = vera.query(SEEN, json!({ "name": "lab" })).await.ok();
    assert_eq!(seen.data("/workspace/description"), "# Home");
    assert_eq!(seen.data("/workspace/countries/0/code"), "CH");
}

async fn absent_fields_stay_and_null_clears(app: App) {
    let ada = app.set_up().await;
    let input = json!({ "displayName": "Lab", "countries": ["KE"], "description": "text" });
    let id = create(&ada, input).await.ok().text("/createWorkspace/workspace/id").to_owned();
    let update = async |input: Value| {
        ada.mutate("updateWorkspace", input, "workspace { displayName countries { code } }").await
    };
    let updated = update(json!({ "workspaceId": id, "displayName": "Den" })).await.ok();
    assert_eq!(
        updated.data("/updateWorkspace/workspace"),
        &json!({ "displayName": "Den", "countries": [{ "code": "KE" }] })
    );
    let cleared = update(json!({ "workspaceId": id, "countries": null })).await.ok();
    assert_eq!(cleared.data("/updateWorkspace/workspace"), &json!({ "displayName": "Den", "countries": [] }));
    let refused = update(json!({ "workspaceId": id, "displayName": null })).await.refused("INVALID_INPUT");
    assert_eq!(refused.user_errors()[0]["field"], json!(["displayName"]));
    for nothing in [json!(null), json!(" \n")] {
        let text = json!({ "workspaceId": id, "description": "text" });
        ada.mutate("describeWorkspace", text, "workspace { id }").await.ok();
        let input = json!({ "workspaceId": id, "description": nothing });
        let cleared = ada.mutate("describeWorkspace", input, "workspace { description }").await.ok();
        assert_eq!(cleared.data("/describeWorkspace/workspace/description"), &Value::Null);
    }
}

async fn workspaces_are_listed_by_age_in_pages(app: App) {
    let ada = app.set_up().await;
    for n in 0..4 {
        ada.workspace(&format!("W {n}")).await;
    }
    let document = "query($first: Int, $after: String, $last: Int, $before: String) { viewer {
        workspaces(first: $first, after: $after, last: $last, before: $before) {
            totalCount nodes { name } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        }
    } }";
    let page = async |variables: Value| {
        let answer = ada.query(document, variables).await.ok();
        let list = answer.data("/viewer/workspaces").clone();
        let names: Vec<String> = list["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(list["totalCount"], 5);
        (names, list["pageInfo"].clone())
    };
    let (names, info) = page(json!({ "first": 2 })).await;
    assert_eq!((names, &info["hasNextPage"]), (vec!["example".to_owned(), "w-0".to_owned()], &json!(true)));
    let (names, info) = page(json!({ "first": 3, "after": info["endCursor"] })).await;
    assert_eq!(
        (names.as_slice(), &info["hasNextPage"]),
        (&["w-1", "w-2", "w-3"].map(String::from)[..], &json!(false))
    );
    let (names, info) = page(json!({ "last": 2, "before": info["startCursor"] })).await;
    assert_eq!(
        (names.as_slice(), &info["hasPreviousPage"]),
        (&["example", "w-0"].map(String::from)[..], &json!(false))
    );
    for bad in
        [json!({ "first": 0 }), json!({ "first": 101 }), json!({ "last": -1 }), json!({ "after": "x" })]
    {
        ada.query(document, bad).await.denied("BAD_USER_INPUT");
    }
}
