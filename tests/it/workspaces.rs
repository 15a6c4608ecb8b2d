//! Workspaces: their names, who makes and changes them, what a person may do in them, and where one lands.

use chrono::TimeDelta;
use futures_util::future::join_all;
use guildhall_domain::access::{Permission, SystemRole};
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
    what_may_be_done_is_what_the_role_says,
    the_organization_administers_every_workspace_and_says_so,
    a_workspace_does_not_exist_for_those_outside,
    each_chooses_where_they_land,
    losing_the_default_promotes_the_earliest_other,
    workspaces_are_listed_by_age_in_pages,
);

const SEEN: &str = "query($name: String!) { workspace(name: $name) {
    id displayName description countries { code name flag } isDefault status
} }";
const LANDS: &str = "{ viewer { defaultWorkspace { name } lastWorkspace { name } } }";

async fn create(actor: &Actor, input: Value) -> Answer {
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
async fn member_id(admin: &Actor, workspace: &str, email: &str) -> String {
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

async fn what_may_be_done_is_what_the_role_says(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    for role in SystemRole::ALL {
        let actor = app.member(&lab, role, role.title()).await;
        // The policy's defaults: deleting is the organization's, and secrets are revealed to nobody.
        let held =
            role.permissions().without(Permission::WorkspaceDelete).without(Permission::CredentialReveal);
        let wire = |permission: Permission| permission.name().replace('.', "_").to_uppercase();
        let asked: String = Permission::ALL
            .iter()
            .map(|permission| format!("{0}: can(permission: {0}) ", wire(*permission)))
            .collect();
        let document = format!(
            "query($name: String!) {{ workspace(name: $name) {{
                viewerRole {{ key name permissions }} viewerAccess {{ source }} viewerPermissions {asked}
            }} }}"
        );
        let seen = actor.query(&document, json!({ "name": lab.name })).await.ok();
        let workspace = seen.data("/workspace");
        assert_eq!(workspace["viewerRole"]["key"], role.key());
        assert_eq!(workspace["viewerAccess"]["source"], "MEMBERSHIP");
        let expected: Vec<String> = held.iter().map(wire).collect();
        assert_eq!(workspace["viewerPermissions"], json!(expected), "{role:?}");
        for permission in Permission::ALL {
            assert_eq!(workspace[wire(*permission)], held.holds(*permission), "{role:?} {permission:?}");
        }

        // And the operations agree.
        let can = |permission: Permission| workspace[wire(permission)] == true;
        let allowed = |answer: Answer| answer.errors().is_empty();
        let id = json!({ "workspaceId": lab.id });
        let described = actor.mutate("describeWorkspace", id.clone(), "workspace { id }").await;
        assert_eq!(allowed(described), can(Permission::WorkspaceDescribe), "{role:?}");
        let updated = actor.mutate("updateWorkspace", id.clone(), "workspace { id }").await;
        assert_eq!(allowed(updated), can(Permission::WorkspaceUpdate), "{role:?}");
        let email = format!("guest.of.{}@example.org", role.key().to_lowercase());
        let invited = actor.invite(&lab, &email, "VIEWER").await;
        assert_eq!(allowed(invited), can(Permission::MembersInvite), "{role:?}");
        let input = json!({ "workspaceId": lab.id, "memberId": "mem_0193a1b2c3d47e8f9012345678901234" });
        let removed = actor.mutate("removeMember", input, "member { id }").await;
        assert_eq!(allowed(removed), can(Permission::MembersManage), "{role:?}");
        let document = "query($name: String!) { workspace(name: $name) { invitations { totalCount } } }";
        let seen = actor.query(document, json!({ "name": lab.name })).await;
        assert_eq!(allowed(seen), can(Permission::InvitationsView), "{role:?}");
    }
}

async fn the_organization_administers_every_workspace_and_says_so(app: App) {
    let ada = app.set_up().await;
    let alma = app.member(app.default_workspace(), SystemRole::Admin, "Alma").await;
    let den = alma.workspace("Den").await;
    let document = "query($name: String!) { workspace(name: $name) {
        viewerRole { key } viewerAccess { source role { key } } members { totalCount nodes { principal { ... on User { email } } } }
    } }";
    let seen = ada.query(document, json!({ "name": den.name })).await.ok();
    assert_eq!(seen.data("/workspace/viewerRole/key"), "ADMIN");
    assert_eq!(
        seen.data("/workspace/viewerAccess"),
        &json!({ "source": "ORGANIZATION", "role": { "key": "ADMIN" } })
    );
    assert_eq!(seen.data("/workspace/members/totalCount"), 1, "an implicit Admin is no member");
    ada.invite(&den, "zoe@example.org", "ADMIN").await.ok();
    let input = json!({ "workspaceId": den.id });
    ada.mutate("setDefaultWorkspace", input.clone(), "workspace { id }").await.refused("NOT_FOUND");
    ada.mutate("leaveWorkspace", input, "member { id }").await.refused("NOT_FOUND");
}

async fn a_workspace_does_not_exist_for_those_outside(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.person("vera@example.org", "Vera").await;
    let sam = app.stranger("sam@example.net", "Sam").await;
    for outsider in [&vera, &sam] {
        for name in [lab.name.as_str(), "no-such-workspace", "", "NOT A NAME"] {
            let seen = outsider.query(SEEN, json!({ "name": name })).await.ok();
            assert_eq!(seen.data("/workspace"), &Value::Null, "{name:?}");
        }
        let id = json!({ "workspaceId": lab.id });
        for mutation in ["switchWorkspace", "setDefaultWorkspace", "updateWorkspace", "describeWorkspace"] {
            outsider.mutate(mutation, id.clone(), "workspace { id }").await.denied("NOT_FOUND");
        }
        outsider.mutate("leaveWorkspace", id, "member { id }").await.denied("NOT_FOUND");
        outsider.invite(&lab, "zoe@example.org", "VIEWER").await.denied("NOT_FOUND");
        let found = outsider.query("query($id: ID!) { node(id: $id) { id } }", json!({ "id": lab.id })).await;
        assert_eq!(found.ok().data("/node"), &Value::Null);
    }
    app.anonymous().query(SEEN, json!({ "name": lab.name })).await.denied("UNAUTHENTICATED");
    let wrong = json!({ "workspaceId": "usr_0193a1b2c3d47e8f9012345678901234" });
    ada.mutate("switchWorkspace", wrong, "workspace { id }").await.denied("NOT_FOUND");
}

async fn each_chooses_where_they_land(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let seen = ada.query(LANDS, json!({})).await.ok();
    assert_eq!(seen.data("/viewer/defaultWorkspace/name"), &json!(app.default_workspace().name));

    let input = json!({ "workspaceId": lab.id });
    let selection = "viewer { defaultWorkspace { name } lastWorkspace { name } }";
    let set = ada.mutate("setDefaultWorkspace", input, selection).await.ok();
    assert_eq!(set.data("/setDefaultWorkspace/viewer/defaultWorkspace/name"), "lab");
    let input = json!({ "workspaceId": den.id });
    let switched = ada.mutate("switchWorkspace", input, selection).await.ok();
    assert_eq!(
        switched.data("/switchWorkspace/viewer"),
        &json!({ "defaultWorkspace": { "name": "lab" }, "lastWorkspace": { "name": "den" } })
    );
    // It is remembered for the person, not for the session.
    app.advance(TimeDelta::days(1));
    let seen = ada.again().await.query(LANDS, json!({})).await.ok();
    assert_eq!(
        seen.data("/viewer"),
        &json!({ "defaultWorkspace": { "name": "lab" }, "lastWorkspace": { "name": "den" } })
    );
}

async fn losing_the_default_promotes_the_earliest_other(app: App) {
    let ada = app.set_up().await;
    let (first, second) = (ada.workspace("First").await, ada.workspace("Second").await);
    let third = ada.workspace("Third").await;
    let eve = app.member(&third, SystemRole::Viewer, "Eve").await;
    for workspace in [&second, &first] {
        ada.invite(workspace, "eve@example.org", "VIEWER").await.ok();
        let link = app.mail_to("eve@example.org").await.link();
        let token = guildhall_tests::actor::token_of(&link);
        eve.mutate("acceptInvitation", json!({ "token": token }), "invitation { id }").await.ok();
    }
    let lands = async || {
        let seen = eve.query(LANDS, json!({})).await.ok();
        let name = |which: &str| seen.data(&format!("/viewer/{which}"))["name"].as_str().map(str::to_owned);
        (name("defaultWorkspace"), name("lastWorkspace"))
    };
    let both = |name: &str| (Some(name.to_owned()), Some(name.to_owned()));
    assert_eq!(lands().await, both("third"));

    eve.mutate("leaveWorkspace", json!({ "workspaceId": third.id }), "viewer { user { id } }").await.ok();
    assert_eq!(lands().await, both("second"), "she joined it before the first");
    let id = member_id(&ada, "first", "eve@example.org").await;
    ada.mutate("removeMember", json!({ "workspaceId": first.id, "memberId": id }), "member { id }")
        .await
        .ok();
    assert_eq!(lands().await, both("second"), "another loss changes nothing");
    let id = member_id(&ada, "second", "eve@example.org").await;
    ada.mutate("removeMember", json!({ "workspaceId": second.id, "memberId": id }), "member { id }")
        .await
        .ok();
    assert_eq!(lands().await, (None, None));

    // Losing all of them keeps the account.
    let eve = eve.again().await;
    let seen = eve.query("{ viewer { user { status } workspaces { totalCount } } }", json!({})).await.ok();
    assert_eq!(
        seen.data("/viewer"),
        &json!({ "user": { "status": "ACTIVE" }, "workspaces": { "totalCount": 0 } })
    );
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
