//! Organizations as they are seen: by those who belong to them, and by nobody else.

use guildhall_domain::access::SystemRole;
use guildhall_tests::{App, both_databases};
use serde_json::{Value, json};

both_databases!(
    App::start,
    each_sees_the_organization_they_belong_to,
    an_organization_does_not_exist_for_those_outside,
    a_workspace_is_made_in_the_organization_that_is_named,
    organizations_come_in_pages,
);

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
