//! Organizations as they are seen: by those who belong to them, and by nobody else.

use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, both_databases, databases::Engine};
use serde_json::{Value, json};

both_databases!(
    App::start,
    each_sees_the_organization_they_belong_to,
    an_organization_does_not_exist_for_those_outside,
    a_workspace_is_made_in_the_organization_that_is_named,
    organizations_come_in_pages,
    a_name_changes_and_the_slug_stays,
    only_an_owner_sets_the_policy,
    a_policy_out_of_range_changes_nothing,
    who_creates_workspaces_follows_the_policy,
    who_deletes_workspaces_follows_the_policy,
    who_sees_the_members_follows_the_policy,
    who_reads_secret_values_follows_the_policy,
    how_long_invitations_last_follows_the_policy,
    what_later_parts_ask_is_kept,
    only_an_operator_makes_organizations_by_default,
    an_implicit_admin_is_shown_as_such_and_counts_once,
);

both_databases!(open, everybody_makes_organizations_where_the_instance_says_so,);

async fn open(engine: Engine) -> App {
    App::start_with(engine, |environment| {
        environment.set("GUILDHALL_ORGANIZATIONS_CREATION", "anyone");
    })
    .await
}

const OWN: &str = "{ viewer { organizations { totalCount nodes {
    id slug name createdAt viewerRole viewerPermissions
} } } }";
const FOUND: &str = "query($slug: String!) { organization(slug: $slug) { id name viewerRole } }";

async fn each_sees_the_organization_they_belong_to(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Editor, "Eve").await;
    let owner = ada.query(OWN, json!({})).await.ok();
    assert_eq!(owner.data("/viewer/organizations/totalCount"), 1);
    let hers = owner.data("/viewer/organizations/nodes/0");
    assert_eq!(
        (&hers["slug"], &hers["name"], &hers["viewerRole"]),
        (&json!("example"), &json!("Example"), &json!("OWNER"))
    );
    let may = |permissions: &Value, permission: &str| {
        permissions.as_array().unwrap().iter().any(|held| held == permission)
    };
    for permission in ["ORGANIZATION_VIEW", "ORGANIZATION_MANAGE", "ORGANIZATION_GOVERN", "WORKSPACE_CREATE"]
    {
        assert!(may(&hers["viewerPermissions"], permission), "{permission}");
    }
    let member = eve.query(OWN, json!({})).await.ok();
    let its = member.data("/viewer/organizations/nodes/0");
    assert_eq!((&its["id"], &its["viewerRole"]), (&hers["id"], &json!("MEMBER")));
    assert_eq!(its["viewerPermissions"], json!(["ORGANIZATION_VIEW"]));

    // By its slug, by its id and from a workspace it is the same.
    let by_slug = eve.query(FOUND, json!({ "slug": "example" })).await.ok();
    assert_eq!(by_slug.data("/organization/id"), &hers["id"]);
    let node = "query($id: ID!) { node(id: $id) { ... on Organization { slug } } }";
    assert_eq!(eve.query(node, json!({ "id": hers["id"] })).await.ok().data("/node/slug"), "example");
    let of_workspace = "query($name: String!) { workspace(name: $name) { organization { id viewerRole } } }";
    let of_workspace = eve.query(of_workspace, json!({ "name": lab.name })).await.ok();
    assert_eq!(
        of_workspace.data("/workspace/organization"),
        &json!({ "id": hers["id"], "viewerRole": "MEMBER" })
    );
    let signed_out = app.anonymous().query(FOUND, json!({ "slug": "example" })).await;
    signed_out.denied("UNAUTHENTICATED");
}

async fn an_organization_does_not_exist_for_those_outside(app: App) {
    let ada = app.set_up().await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let own = ada.query(OWN, json!({})).await.ok();
    let id = own.data("/viewer/organizations/nodes/0/id");
    for slug in ["example", "of-nobody", "", "Example", "a\u{0}b", "-"] {
        let answer = olga.query(FOUND, json!({ "slug": slug })).await.ok();
        assert_eq!(answer.data("/organization"), &Value::Null, "{slug:?}");
    }
    let node = olga.query("query($id: ID!) { node(id: $id) { id } }", json!({ "id": id })).await.ok();
    assert_eq!(node.data("/node"), &Value::Null);
    let hers = olga.query(OWN, json!({})).await.ok();
    assert_eq!(hers.data("/viewer/organizations/nodes/0/name"), "Olga and Sons");
    assert_eq!(hers.data("/viewer/organizations/totalCount"), 1);
    // Somebody whose membership of it is disabled is outside as well.
    let eve = app.person("eve@example.org", "Eve").await;
    let disable = format!(
        "UPDATE organization_members SET status = 'DISABLED' WHERE user_id = {}",
        app.literal(&eve.id)
    );
    app.sql(&disable).await;
    assert_eq!(eve.query(FOUND, json!({ "slug": "example" })).await.ok().data("/organization"), &Value::Null);
    assert_eq!(eve.query(OWN, json!({})).await.ok().len("/viewer/organizations/nodes"), 0);
}

async fn a_workspace_is_made_in_the_organization_that_is_named(app: App) {
    app.set_up().await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let own = olga.query(OWN, json!({})).await.ok();
    let id = own.data("/viewer/organizations/nodes/0/id");
    let input = json!({ "organizationId": id, "displayName": "Lab" });
    let made = olga.mutate("createWorkspace", input, "workspace { organization { id } }").await.ok();
    assert_eq!(made.data("/createWorkspace/workspace/organization/id"), id);
}

async fn organizations_come_in_pages(app: App) {
    let ada = app.set_up().await;
    let user = app.literal(&ada.id);
    for number in 1..=3 {
        let id = app.literal(&format!("org_0193a1b2c3d47e8f901234567890123{number}"));
        app.sql(&format!(
            "INSERT INTO organizations (id, slug, name, workspace_creation, workspace_deletion, member_list_visibility,
                 share_acceptance, created_at, updated_at)
             SELECT {id}, 'o-{number}', 'O {number}', workspace_creation, workspace_deletion, member_list_visibility,
                 share_acceptance, created_at, updated_at
             FROM organizations WHERE slug = 'example'"
        ))
        .await;
        app.sql(&format!(
            "INSERT INTO organization_members (organization_id, user_id, role, status, created_at)
             SELECT {id}, user_id, 'MEMBER', status, created_at
             FROM organization_members WHERE user_id = {user} AND role = 'OWNER'"
        ))
        .await;
    }
    let page = "query($first: Int, $after: String) { viewer { organizations(first: $first, after: $after) {
        totalCount nodes { slug } pageInfo { endCursor hasNextPage }
    } } }";
    let mut slugs = Vec::new();
    let mut after = Value::Null;
    loop {
        let answer = ada.query(page, json!({ "first": 3, "after": after })).await.ok();
        assert_eq!(answer.data("/viewer/organizations/totalCount"), 4);
        let nodes = answer.data("/viewer/organizations/nodes").as_array().unwrap();
        slugs.extend(nodes.iter().map(|node| node["slug"].as_str().unwrap().to_owned()));
        if answer.data("/viewer/organizations/pageInfo/hasNextPage") == false {
            break;
        }
        after = answer.data("/viewer/organizations/pageInfo/endCursor").clone();
    }
    assert_eq!(slugs, ["o-1", "o-2", "o-3", "example"], "by age: the others' ids are of an earlier day");
}

const POLICY: &str = "organization { policy {
    workspaceCreation workspaceDeletion memberListVisibility shareAcceptance allowReveal
    invitationLifetimeHours apiKeyMaxLifetimeDays loginActivityDays
} }";

async fn set_policy(by: &Actor, organization: &str, mut switches: Value) -> Answer {
    switches["organizationId"] = json!(organization);
    by.mutate("updateOrganizationPolicy", switches, POLICY).await
}

async fn can(actor: &Actor, workspace: &Workspace, permission: &str) -> bool {
    let document =
        format!("query($name: String!) {{ workspace(name: $name) {{ can(permission: {permission}) }} }}");
    let answer = actor.query(&document, json!({ "name": workspace.name })).await.ok();
    answer.data("/workspace/can").as_bool().unwrap()
}

/// Makes somebody who belongs to the organization an admin of it.
async fn promote(app: &App, actor: &Actor) {
    let promoted =
        format!("UPDATE organization_members SET role = 'ADMIN' WHERE user_id = {}", app.literal(&actor.id));
    app.sql(&promoted).await;
}

async fn a_name_changes_and_the_slug_stays(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let change = async |name: Value| {
        let input = json!({ "organizationId": organization, "name": name });
        ada.mutate("updateOrganization", input, "organization { slug name }").await
    };
    let changed = change(json!("  Example & Daughters ")).await.ok();
    assert_eq!(
        changed.data("/updateOrganization/organization"),
        &json!({ "slug": "example", "name": "Example & Daughters" })
    );
    for bad in [Value::Null, json!(""), json!("a".repeat(81)), json!("a\u{0}b")] {
        let refused = change(bad).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["name"]));
    }
    let found = ada.query(FOUND, json!({ "slug": "example" })).await.ok();
    assert_eq!(found.data("/organization/name"), "Example & Daughters");
}

async fn only_an_owner_sets_the_policy(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let orla = app.member(&lab, SystemRole::Viewer, "Orla").await;
    promote(&app, &orla).await;
    for somebody in [&adam, &orla] {
        set_policy(somebody, &organization, json!({ "allowReveal": true })).await.denied("FORBIDDEN");
    }
    // Everybody sees it, with the defaults of the contract.
    let seen = "{ organization(slug: \"example\") { policy {
        workspaceCreation workspaceDeletion memberListVisibility shareAcceptance allowReveal
        invitationLifetimeHours apiKeyMaxLifetimeDays loginActivityDays
    } } }";
    let defaults = json!({
        "workspaceCreation": "WORKSPACE_ADMINS", "workspaceDeletion": "ORGANIZATION_ADMINS",
        "memberListVisibility": "MEMBERS", "shareAcceptance": "NOT_REQUIRED", "allowReveal": false,
        "invitationLifetimeHours": null, "apiKeyMaxLifetimeDays": null,
        "loginActivityDays": 90,
    });
    assert_eq!(adam.query(seen, json!({})).await.ok().data("/organization/policy"), &defaults);
    // What is not named stays.
    set_policy(&ada, &organization, json!({ "allowReveal": true })).await.ok();
    let answer = set_policy(&ada, &organization, json!({ "apiKeyMaxLifetimeDays": 30 })).await.ok();
    let mut expected = defaults;
    expected["allowReveal"] = json!(true);
    expected["apiKeyMaxLifetimeDays"] = json!(30);
    assert_eq!(answer.data("/updateOrganizationPolicy/organization/policy"), &expected);
    assert_eq!(adam.query(seen, json!({})).await.ok().data("/organization/policy"), &expected);
}

async fn a_policy_out_of_range_changes_nothing(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    for (field, bad) in [
        ("invitationLifetimeHours", 0),
        ("invitationLifetimeHours", 2161),
        ("apiKeyMaxLifetimeDays", -1),
        ("apiKeyMaxLifetimeDays", 3651),
        ("apiKeyMaxLifetimeDays", i32::MAX),
        ("loginActivityDays", 0),
        ("loginActivityDays", 3651),
    ] {
        let refused = set_policy(&ada, &organization, json!({ "allowReveal": true, field: bad })).await;
        assert_eq!(refused.refused("INVALID_INPUT").user_errors()[0]["field"], json!([field]));
    }
    let answer = set_policy(&ada, &organization, json!({})).await.ok();
    assert_eq!(answer.data("/updateOrganizationPolicy/organization/policy/allowReveal"), false);
    set_policy(&ada, &organization, json!({ "invitationLifetimeHours": 2160 })).await.ok();
    let cleared = set_policy(&ada, &organization, json!({ "invitationLifetimeHours": null })).await.ok();
    let hours = "/updateOrganizationPolicy/organization/policy/invitationLifetimeHours";
    assert_eq!(cleared.data(hours), &Value::Null);
}

async fn who_creates_workspaces_follows_the_policy(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let viewer = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let admin = app.member(&lab, SystemRole::Admin, "Adam").await;
    let orla = app.member(&lab, SystemRole::Viewer, "Orla").await;
    promote(&app, &orla).await;
    for (policy, by_admin, by_viewer) in
        [("ORGANIZATION_ADMINS", false, false), ("WORKSPACE_ADMINS", true, false), ("ANY_MEMBER", true, true)]
    {
        set_policy(&ada, &organization, json!({ "workspaceCreation": policy })).await.ok();
        for (somebody, may) in [(&orla, true), (&admin, by_admin), (&viewer, by_viewer)] {
            let input = json!({ "organizationId": organization, "displayName": "Den" });
            let answer = somebody.mutate("createWorkspace", input, "workspace { id }").await;
            if may {
                answer.ok()
            } else {
                answer.denied("FORBIDDEN")
            };
        }
    }
}

async fn who_deletes_workspaces_follows_the_policy(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let editor = app.member(&lab, SystemRole::Editor, "Edda").await;
    let admin = app.member(&lab, SystemRole::Admin, "Adam").await;
    for (policy, by_admin) in [("ORGANIZATION_ADMINS", false), ("WORKSPACE_ADMINS", true)] {
        set_policy(&ada, &organization, json!({ "workspaceDeletion": policy })).await.ok();
        let may = [&ada, &admin, &editor].map(|somebody| can(somebody, &lab, "WORKSPACE_DELETE"));
        let may = futures_util::future::join_all(may).await;
        assert_eq!(may, [true, by_admin, false], "{policy}");
    }
}

async fn who_sees_the_members_follows_the_policy(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let editor = app.member(&lab, SystemRole::Editor, "Edda").await;
    let admin = app.member(&lab, SystemRole::Admin, "Adam").await;
    for (policy, by_editor) in [("ADMINS", false), ("MEMBERS", true)] {
        set_policy(&ada, &organization, json!({ "memberListVisibility": policy })).await.ok();
        crate::members::list(&admin, &lab, json!({})).await.ok();
        let seen = crate::members::list(&editor, &lab, json!({})).await;
        if by_editor {
            seen.ok()
        } else {
            seen.denied("FORBIDDEN")
        };
    }
}

async fn who_reads_secret_values_follows_the_policy(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let editor = app.member(&lab, SystemRole::Editor, "Edda").await;
    for allowed in [true, false] {
        set_policy(&ada, &organization, json!({ "allowReveal": allowed })).await.ok();
        assert_eq!(can(&ada, &lab, "CREDENTIAL_REVEAL").await, allowed);
        assert!(!can(&editor, &lab, "CREDENTIAL_REVEAL").await);
    }
}

async fn how_long_invitations_last_follows_the_policy(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    ada.invite(&lab, "early@example.org", "VIEWER").await.ok();
    set_policy(&ada, &organization, json!({ "invitationLifetimeHours": 1 })).await.ok();
    ada.invite(&lab, "late@example.org", "VIEWER").await.ok();
    app.advance(chrono::TimeDelta::minutes(61));
    let ada = ada.again().await;
    let document =
        "query($name: String!) { workspace(name: $name) { invitations { nodes { email status } } } }";
    let answer = ada.query(document, json!({ "name": lab.name })).await.ok();
    assert_eq!(
        answer.data("/workspace/invitations/nodes"),
        &json!([
            { "email": "early@example.org", "status": "PENDING" },
            { "email": "late@example.org", "status": "EXPIRED" }
        ])
    );
}

async fn what_later_parts_ask_is_kept(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    for acceptance in ["REQUIRED", "NOT_REQUIRED"] {
        let answer = set_policy(&ada, &organization, json!({ "shareAcceptance": acceptance })).await.ok();
        let kept = answer.data("/updateOrganizationPolicy/organization/policy/shareAcceptance");
        assert_eq!(kept, acceptance);
    }
    for days in [json!(1), json!(3650), Value::Null] {
        let answer = set_policy(&ada, &organization, json!({ "apiKeyMaxLifetimeDays": days })).await.ok();
        assert_eq!(answer.data("/updateOrganizationPolicy/organization/policy/apiKeyMaxLifetimeDays"), &days);
    }
}

const MADE: &str =
    "organization { id slug name viewerRole } workspace { name displayName isDefault viewerRole { key } }";

async fn only_an_operator_makes_organizations_by_default(app: App) {
    let ada = app.set_up().await;
    ada.mutate("createOrganization", json!({ "name": "Mine" }), MADE).await.refused("OPERATOR_ONLY");
    assert_eq!(ada.query(OWN, json!({})).await.ok().data("/viewer/organizations/totalCount"), 1);
}

async fn everybody_makes_organizations_where_the_instance_says_so(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let made = vera.mutate("createOrganization", json!({ "name": "Example" }), MADE).await.ok();
    let made = made.data("/createOrganization");
    assert_eq!(
        (&made["organization"]["slug"], &made["organization"]["viewerRole"]),
        (&json!("example-2"), &json!("OWNER"))
    );
    assert_eq!(
        made["workspace"],
        json!({ "name": "example-2", "displayName": "Example", "isDefault": true, "viewerRole": { "key": "ADMIN" } })
    );
    // It is nobody else's, and theirs stays where it is.
    let found = ada.query(FOUND, json!({ "slug": "example-2" })).await.ok();
    assert_eq!(found.data("/organization"), &Value::Null);
    assert_eq!(vera.query(OWN, json!({})).await.ok().data("/viewer/organizations/totalCount"), 2);
    for bad in ["", " ", "a\u{202E}b"] {
        vera.mutate("createOrganization", json!({ "name": bad }), MADE).await.refused("INVALID_INPUT");
    }
    app.anonymous()
        .mutate("createOrganization", json!({ "name": "Ours" }), MADE)
        .await
        .denied("UNAUTHENTICATED");
}

async fn an_implicit_admin_is_shown_as_such_and_counts_once(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let orla = app.member(&lab, SystemRole::Viewer, "Orla").await;
    let document = "query($name: String!) {
        workspace(name: $name) {
            viewerAccess { source role { key } } viewerMembership { role { key } } members { totalCount }
        }
        viewer { workspaces { totalCount nodes { name } } }
    }";
    let seen = async || orla.query(document, json!({ "name": lab.name })).await.ok();
    let as_viewer = seen().await;
    assert_eq!(
        as_viewer.data("/workspace/viewerAccess"),
        &json!({ "source": "MEMBERSHIP", "role": { "key": "VIEWER" } })
    );
    assert_eq!(as_viewer.data("/viewer/workspaces/totalCount"), 1);
    promote(&app, &orla).await;
    let as_admin = seen().await;
    assert_eq!(
        as_admin.data("/workspace/viewerAccess"),
        &json!({ "source": "ORGANIZATION", "role": { "key": "ADMIN" } })
    );
    assert_eq!(as_admin.data("/workspace/viewerMembership/role/key"), "VIEWER");
    assert_eq!(as_admin.data("/workspace/members/totalCount"), 2);
    // The default workspace, of which she is no member, and the one of which she is.
    assert_eq!(
        as_admin.data("/viewer/workspaces"),
        &json!({ "totalCount": 2, "nodes": [{ "name": "example" }, { "name": "lab" }] })
    );
}
