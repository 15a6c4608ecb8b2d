//! What a request costs does not grow with what it lists: the same statements for two rows as for forty. Each edge of the
//! graph that leads to another table has a line here.

use std::{cell::Cell, collections::BTreeSet, mem, ops::Range, time::Duration};

use guildhall_tests::{Actor, Answer, App, Workspace, both_databases, databases::Engine};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::credential_nets::{custom, lend};

both_databases!(
    App::start,
    one_check_of_a_permission_takes_one_statement,
    the_page_of_a_workspace_takes_two_statements_for_any_number_of_members,
    a_list_of_workspaces_takes_as_many_statements_for_twenty_as_for_two,
    a_list_of_invitations_takes_as_many_statements_for_forty_as_for_two,
    a_list_of_received_invitations_takes_as_many_statements_for_twenty_as_for_two,
    a_list_of_credentials_takes_as_many_statements_for_forty_as_for_two,
    credentials_of_many_workspaces_take_as_many_statements_as_those_of_two,
    machines_of_many_workspaces_take_as_many_statements_as_those_of_two,
    lists_of_many_organizations_take_as_many_statements_as_those_of_two,
    many_workspaces_by_their_ids_take_as_many_statements_as_two,
    an_invitation_takes_as_many_statements_as_was_recorded,
    an_event_costs_no_more_for_twenty_subscribers_than_for_one,
);

/// Writes rows behind the server's back, faster than people could make them.
struct Rows<'a> {
    app: &'a App,
    statements: Vec<String>,
}

impl<'a> Rows<'a> {
    fn of(app: &'a App) -> Self {
        Self { app, statements: Vec::new() }
    }

    /// The id of the row with that number, of the kind with that letter, as SQL.
    fn id(&self, kind: char, number: usize) -> String {
        self.app.literal(&format!("any_0193a1b2c3d47e8f9012{:04x}{number:08x}", u32::from(kind)))
    }

    /// A person in the owner's organization, with the owner's role in the workspace.
    fn member(&mut self, workspace: &Workspace, number: usize) {
        let (user, membership) = (self.id('u', number), self.id('m', number));
        let (owner, workspace) = (self.app.literal(&self.app.owner().id), self.app.literal(&workspace.id));
        self.statements.extend([
            format!(
                "INSERT INTO users (id, email, display_name, search_text, status, password_hash, email_verified_at,
                     created_at, updated_at)
                 SELECT {user}, 'member{number}@example.org', 'Member {number}', 'member {number}', status, password_hash,
                     email_verified_at, created_at, updated_at
                 FROM users WHERE id = {owner}"
            ),
            format!(
                "INSERT INTO organization_members (user_id, organization_id, role, status, created_at)
                 SELECT {user}, organization_id, 'MEMBER', status, created_at
                 FROM organization_members WHERE user_id = {owner}"
            ),
            format!(
                "INSERT INTO memberships (id, workspace_id, user_id, role_id, source, created_at, updated_at)
                 SELECT {membership}, workspace_id, {user}, role_id, source, created_at, updated_at
                 FROM memberships WHERE user_id = {owner} AND workspace_id = {workspace}"
            ),
        ]);
    }

    /// An invitation like that one, to `email` and sent by the person of that number.
    fn invitation(&mut self, like: &str, number: usize, email: &str, status: &str) {
        let (invitation, inviter, like) =
            (self.id('i', number), self.id('u', number), self.app.literal(like));
        let hash = match self.app.engine() {
            Engine::Sqlite => format!("x'{number:064x}'"),
            Engine::Postgres => format!("'\\x{number:064x}'::bytea"),
        };
        let pending = status == "PENDING";
        self.statements.extend([
            format!(
                "INSERT INTO invitations (id, organization_id, email, inviter_id, status, token_hash, expires_at, delivery,
                     created_at, updated_at)
                 SELECT {invitation}, organization_id, '{email}', {inviter}, '{status}', {hash}, expires_at, delivery,
                     created_at, updated_at
                 FROM invitations WHERE id = {like}"
            ),
            format!(
                "INSERT INTO invitation_grants (invitation_id, workspace_id, role_id, email, pending)
                 SELECT {invitation}, workspace_id, role_id, '{email}', {pending}
                 FROM invitation_grants WHERE invitation_id = {like}"
            ),
        ]);
    }

    /// An organization that the owner owns too, with a role of its own and an invitation like that one.
    fn organization(&mut self, like: &str, number: usize) {
        let [organization, role, invitation] = ['o', 'r', 'i'].map(|kind| self.id(kind, number));
        let (owner, like) = (self.app.literal(&self.app.owner().id), self.app.literal(like));
        let hash = match self.app.engine() {
            Engine::Sqlite => format!("x'{number:064x}'"),
            Engine::Postgres => format!("'\\x{number:064x}'::bytea"),
        };
        self.statements.extend([
            format!(
                "INSERT INTO organizations (id, slug, name, workspace_creation, workspace_deletion,
                     member_list_visibility, share_acceptance, created_at, updated_at)
                 SELECT {organization}, 'o-{number}', 'O {number}', workspace_creation, workspace_deletion,
                     member_list_visibility, share_acceptance, created_at, updated_at
                 FROM organizations WHERE slug = 'example'"
            ),
            format!(
                "INSERT INTO organization_members (user_id, organization_id, role, status, created_at)
                 SELECT user_id, {organization}, role, status, created_at
                 FROM organization_members WHERE user_id = {owner} AND organization_id <> {organization} LIMIT 1"
            ),
            format!(
                "INSERT INTO roles (id, organization_id, key, name, description, permissions, created_at, updated_at)
                 SELECT {role}, {organization}, 'ROLE_{number}', 'Role {number}', description, permissions, created_at,
                     updated_at
                 FROM roles WHERE key = 'VIEWER'"
            ),
            format!(
                "INSERT INTO invitations (id, organization_id, organization_role, email, inviter_id, status, token_hash,
                     expires_at, delivery, created_at, updated_at)
                 SELECT {invitation}, {organization}, organization_role, 'guest{number}@example.org', inviter_id, status,
                     {hash}, expires_at, delivery, created_at, updated_at
                 FROM invitations WHERE id = {like}"
            ),
            format!(
                "INSERT INTO invitation_grants (invitation_id, workspace_id, role_id, email, pending)
                 SELECT {invitation}, workspace_id, role_id, 'guest{number}@example.org', pending
                 FROM invitation_grants WHERE invitation_id = {like}"
            ),
        ]);
    }

    /// A credential like that one with all its fields, lent like `share` and used by the person of that number.
    fn credential(&mut self, like: &str, share: &str, number: usize) {
        let [credential, loan, used, user] = ['c', 'l', 'x', 'u'].map(|kind| self.id(kind, number));
        let (like, share) = (self.app.literal(like), self.app.literal(share));
        self.statements.extend([
            format!(
                "INSERT INTO credentials (id, workspace_id, kind, slug, name, description, created_at, updated_at)
                 SELECT {credential}, workspace_id, kind, 'store-{number}', name, description, created_at, updated_at
                 FROM credentials WHERE id = {like}"
            ),
            format!(
                "INSERT INTO credential_fields (credential_id, code, place, is_secret, value, sealed, fingerprint, updated_at)
                 SELECT {credential}, code, place, is_secret, value, sealed, fingerprint, updated_at
                 FROM credential_fields WHERE credential_id = {like}"
            ),
            format!(
                "INSERT INTO credential_shares (id, credential_id, workspace_id, target_id, status, shared_by, created_at)
                 SELECT {loan}, {credential}, workspace_id, target_id, status, {user}, created_at
                 FROM credential_shares WHERE id = {share}"
            ),
            format!(
                "INSERT INTO credential_uses (id, credential_id, owner_id, workspace_id, user_id, slug, purpose, outcome,
                     created_at)
                 SELECT {used}, {credential}, workspace_id, target_id, {user}, 'store-{number}', 'run {number}', 'USED',
                     created_at
                 FROM credential_shares WHERE id = {share}"
            ),
        ]);
    }

    async fn write(self) {
        self.app.sql(&self.statements.join(";\n")).await;
    }
}

/// How many statements a query takes, and its answer. What a request asks for on several threads at once can come in two
/// batches on a busy machine, so the fewest of a dozen runs count; an N+1 shows in every run.
async fn cost(app: &App, actor: &Actor, document: &str) -> (u64, Answer) {
    let answer = actor.query(document, json!({})).await.ok();
    let mut fewest = u64::MAX;
    for _ in 0..4 {
        fewest = fewest.min(app.count(async || drop(actor.query(document, json!({})).await.ok())).await);
    }
    (fewest, answer)
}

async fn one_check_of_a_permission_takes_one_statement(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let document = format!(r#"{{ workspace(name: "{}") {{ can(permission: MEMBERS_INVITE) }} }}"#, lab.name);
    let (statements, answer) = cost(&app, &ada, &document).await;
    assert_eq!(answer.data("/workspace/can"), true);
    assert_eq!(statements, 1);
}

async fn the_page_of_a_workspace_takes_two_statements_for_any_number_of_members(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let invited = ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let document = |first: usize| {
        format!(
            r#"{{ workspace(name: "{}") {{
                 name displayName countries {{ code name }} viewerRole {{ key permissions }}
                 members(first: {first}) {{
                   totalCount
                   nodes {{ role {{ key }} principal {{ ... on User {{ displayName email }} }} }}
                 }}
                 invitations(status: [PENDING]) {{ totalCount }}
               }} }}"#,
            lab.name
        )
    };
    let mut rows = Rows::of(&app);
    rows.member(&lab, 1);
    rows.write().await;
    let (few, answer) = cost(&app, &ada, &document(2)).await;
    assert_eq!(answer.len("/workspace/members/nodes"), 2);

    let mut rows = Rows::of(&app);
    for number in 2..40 {
        rows.member(&lab, number);
        let email = format!("guest{number}@example.org");
        rows.invitation(invited.text("/inviteMember/invitation/id"), number, &email, "PENDING");
    }
    rows.write().await;
    let (many, answer) = cost(&app, &ada, &document(40)).await;
    assert_eq!(answer.len("/workspace/members/nodes"), 40);
    assert_eq!(answer.data("/workspace/members/totalCount"), 40);
    assert_eq!(answer.data("/workspace/invitations/totalCount"), 39);
    assert_eq!(few, many, "statements for two and for forty members");
    assert_eq!(many, 2, "the workspace with the rights, and what is listed and counted in it");
}

async fn a_list_of_workspaces_takes_as_many_statements_for_twenty_as_for_two(app: App) {
    let ada = app.set_up().await;
    let document = r#"{ viewer { workspaces(first: 20, status: [ACTIVE, ARCHIVED]) { totalCount nodes {
        displayName description archivedBy { email } organization { slug } viewerRole { key } countries { name } labels { key }
        homePage { version } configProperty(key: "B") { text }
        configProperties(first: 2) { totalCount nodes { key value updatedBy { email } } }
        members(first: 3) { totalCount nodes { principal { ... on User { email } } } }
        invitations(first: 2, status: [PENDING]) { totalCount nodes { email role { key } } }
    } } } }"#;
    let furnish = async |number: usize| {
        let input =
            json!({ "displayName": format!("Lab {number}"), "description": format!("# Lab {number}") });
        let made = ada.mutate("createWorkspace", input, "workspace { id }").await.ok();
        let properties = ["A", "B", "C"].map(|key| json!({ "key": key, "value": { "number": number } }));
        let workspace = made.data("/createWorkspace/workspace/id");
        let eve = json!({ "workspaceId": workspace, "email": format!("eve{number}@example.org"), "role": "VIEWER" });
        ada.mutate("inviteMember", eve, "").await.ok();
        let input = json!({ "workspaceId": workspace, "properties": properties });
        ada.mutate("setConfigProperties", input, "properties { key }").await.ok();
        if number % 2 == 1 {
            let made = json!({ "workspaceId": made.data("/createWorkspace/workspace/id") });
            ada.mutate("archiveWorkspace", made, "").await.ok();
        }
    };
    furnish(1).await;
    let (few, answer) = cost(&app, &ada, document).await;
    assert_eq!(answer.len("/viewer/workspaces/nodes"), 2);
    for number in 2..20 {
        furnish(number).await;
    }
    let (many, answer) = cost(&app, &ada, document).await;
    assert_eq!(answer.len("/viewer/workspaces/nodes"), 20);
    assert_eq!(answer.data("/viewer/workspaces/nodes/19/description"), "# Lab 19");
    assert_eq!(answer.data("/viewer/workspaces/nodes/19/members/totalCount"), 1);
    assert_eq!(answer.data("/viewer/workspaces/nodes/19/archivedBy/email"), "ada@example.org");
    assert_eq!(answer.data("/viewer/workspaces/nodes/19/configProperties/totalCount"), 3);
    assert_eq!(answer.data("/viewer/workspaces/nodes/19/configProperties/nodes/1/value"), 19);
    assert_eq!(answer.data("/viewer/workspaces/nodes/19/configProperty/text"), "19");
    assert_eq!(answer.data("/viewer/workspaces/nodes/18/invitations/nodes/0/email"), "eve18@example.org");
    assert_eq!(few, many, "statements for two and for twenty workspaces");
    // The list, the pages, and whoever wrote them.
    let authors = "{ viewer { workspaces(first: 20, status: [ACTIVE, ARCHIVED]) { nodes { homePage { updatedBy { email } } } } } }";
    let (statements, answer) = cost(&app, &ada, authors).await;
    assert_eq!(answer.data("/viewer/workspaces/nodes/19/homePage/updatedBy/email"), "ada@example.org");
    assert!(statements <= 4, "{statements} statements");
}

async fn a_list_of_invitations_takes_as_many_statements_for_forty_as_for_two(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let invited = ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let like = invited.text("/inviteMember/invitation/id");
    let document = format!(
        r#"{{ workspace(name: "{}") {{ invitations(first: 40) {{
             totalCount nodes {{ email status role {{ key permissions }} inviter {{ displayName email }} }}
           }} }} }}"#,
        lab.name
    );
    let furnish = async |numbers: Range<usize>| {
        let mut rows = Rows::of(&app);
        for number in numbers {
            rows.member(&lab, number);
            rows.invitation(like, number, &format!("guest{number}@example.org"), "PENDING");
        }
        rows.write().await;
    };
    furnish(1..2).await;
    let (few, answer) = cost(&app, &ada, &document).await;
    assert_eq!(answer.len("/workspace/invitations/nodes"), 2);
    furnish(2..40).await;
    let (many, answer) = cost(&app, &ada, &document).await;
    let inviters = answer.data("/workspace/invitations/nodes").as_array().unwrap().iter();
    let inviters: BTreeSet<_> =
        inviters.map(|node| node["inviter"]["email"].as_str().unwrap().to_owned()).collect();
    assert_eq!(inviters.len(), 40, "each was sent by somebody else");
    assert_eq!(few, many, "statements for two and for forty invitations");
}

async fn a_list_of_received_invitations_takes_as_many_statements_for_twenty_as_for_two(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let invited = ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let like = invited.text("/inviteMember/invitation/id");
    let document = "{ viewer { invitations(first: 20) {
        totalCount nodes { organizationName inviterName workspaces { displayName role { key } } } } } }";
    let furnish = async |numbers: Range<usize>| {
        let mut rows = Rows::of(&app);
        for number in numbers {
            rows.member(&lab, number);
            rows.invitation(like, number, &ada.email, "DECLINED");
        }
        rows.write().await;
    };
    furnish(0..2).await;
    let (few, answer) = cost(&app, &ada, document).await;
    assert_eq!(answer.len("/viewer/invitations/nodes"), 2);
    furnish(2..20).await;
    let (many, answer) = cost(&app, &ada, document).await;
    assert_eq!(answer.len("/viewer/invitations/nodes"), 20);
    assert_eq!(answer.data("/viewer/invitations/nodes/19/workspaces/0/displayName"), "Lab");
    assert_eq!(few, many, "statements for two and for twenty invitations");
}

/// What is told of a credential, in parts that lead to workspaces at different depths: asked for at once, what comes at
/// nearly the same time may or may not come in one batch.
const OF_A_CREDENTIAL: [&str; 3] = [
    "name slug isShared sharedFrom { workspace { name workspace { displayName } } } fields { code value fingerprint }",
    "shares(first: 1) { totalCount nodes { status sharedBy { email } target { name workspace { displayName } } } }",
    "usages(first: 1) { totalCount nodes { purpose user { email } workspace { name workspace { displayName } } } }",
];

async fn a_list_of_credentials_takes_as_many_statements_for_forty_as_for_two(app: App) {
    let ada = app.set_up().await;
    let (lab, attic) = (ada.workspace("Lab").await, ada.workspace("Attic").await);
    let store = custom(&ada, &lab, "Store").await;
    let share = lend(&ada, &lab, &store, &attic.id).await;
    let of = |workspace: &Workspace, part: &str| {
        format!(r#"{{ workspace(name: "{}") {{ {part} }} }}"#, workspace.name)
    };
    let mut lists = vec![
        (
            of(
                &lab,
                "credentialUsages(first: 40) { totalCount nodes { purpose user { email } \
                      workspace { workspace { name } } owner { workspace { name } } } }",
            ),
            "credentialUsages",
        ),
        (
            of(
                &attic,
                "credentialOffers(first: 40) { totalCount nodes { name sharedBy { email } \
                        owner { workspace { name } } target { workspace { name } } } }",
            ),
            "credentialOffers",
        ),
    ];
    for (workspace, part) in [&lab, &attic].into_iter().flat_map(|of| OF_A_CREDENTIAL.map(|part| (of, part)))
    {
        let list = format!("credentials(first: 40) {{ totalCount nodes {{ {part} }} }}");
        lists.push((of(workspace, &list), "credentials"));
    }
    let furnish = async |numbers: Range<usize>| {
        let mut rows = Rows::of(&app);
        for number in numbers {
            rows.member(&lab, number);
            rows.credential(&store, &share, number);
        }
        rows.write().await;
    };
    let costs = async |expected: usize| {
        let mut costs = Vec::new();
        for (document, list) in &lists {
            let status = if *list == "credentialOffers" { "PENDING" } else { "ACTIVE" };
            app.sql(&format!("UPDATE credential_shares SET status = '{status}'")).await;
            let (statements, answer) = cost(&app, &ada, document).await;
            let number = expected - usize::from(*list == "credentialUsages");
            assert_eq!(answer.len(&format!("/workspace/{list}/nodes")), number, "{answer}");
            assert_eq!(answer.data(&format!("/workspace/{list}/totalCount")), number);
            costs.push(statements);
        }
        costs
    };
    furnish(1..2).await;
    let few = costs(2).await;
    furnish(2..40).await;
    let many = costs(40).await;
    assert_eq!(few, many, "statements for two and for forty");
}

async fn credentials_of_many_workspaces_take_as_many_statements_as_those_of_two(app: App) {
    let ada = app.set_up().await;
    let documents = [
        "credentials(first: 3) { totalCount nodes { name fields { code } } }",
        "credentials(first: 3) { nodes { shares(first: 1) { totalCount nodes { target { workspace { name } } } } } }",
        "credentials(first: 3) { nodes { usages(first: 1) { totalCount nodes { owner { workspace { name } } } } } }",
        "credentialOffers(first: 1) { totalCount nodes { owner { workspace { name } } } }",
        "credentialUsages(first: 3) { totalCount nodes { user { email } workspace { workspace { name } } } }",
        "auditLog(first: 3) { totalCount nodes { action actor { name } object { name } } }",
    ]
    .map(|part| format!("{{ viewer {{ workspaces(first: 20) {{ nodes {{ {part} }} }} }} }}"));
    let costs = async |number: usize| {
        let mut costs = Vec::new();
        for document in &documents {
            let (statements, answer) = cost(&app, &ada, document).await;
            assert_eq!(answer.len("/viewer/workspaces/nodes"), number);
            costs.push(statements);
        }
        costs
    };
    let furnish = async |number: usize| {
        let lab = ada.workspace(&format!("Lab {number}")).await;
        let store = custom(&ada, &lab, "Store").await;
        lend(&ada, &lab, &store, &app.default_workspace().id).await;
        crate::credential_nets::using(&ada, &lab, "store").await.ok();
    };
    furnish(1).await;
    let few = costs(2).await;
    for number in 2..20 {
        furnish(number).await;
    }
    assert_eq!(few, costs(20).await, "statements for two and for twenty workspaces");
    let told = ada.query(&documents[0], json!({})).await.ok();
    assert_eq!(told.data("/viewer/workspaces/nodes/0/credentials/totalCount"), 19);
    assert_eq!(told.len("/viewer/workspaces/nodes/19/credentials/nodes/0/fields"), 2);
    let told = ada.query(&documents[1], json!({})).await.ok();
    assert_eq!(told.data("/viewer/workspaces/nodes/19/credentials/nodes/0/shares/totalCount"), 1);
    let told = ada.query(&documents[2], json!({})).await.ok();
    assert_eq!(told.data("/viewer/workspaces/nodes/19/credentials/nodes/0/usages/totalCount"), 1);
    let told = ada.query(&documents[4], json!({})).await.ok();
    assert_eq!(told.data("/viewer/workspaces/nodes/19/credentialUsages/totalCount"), 1);
}

async fn machines_of_many_workspaces_take_as_many_statements_as_those_of_two(app: App) {
    let ada = app.set_up().await;
    let parts = [
        "serviceAccounts(first: 3) { totalCount nodes { name createdBy { email } role { key } workspace { name } } }",
        "serviceAccounts(first: 3) { nodes { apiKeys(first: 2) { totalCount nodes { prefix } } } }",
        "apiKeys(first: 3) { totalCount nodes { prefix createdBy { email } serviceAccount { name } } }",
        "defaultApiKey { prefix createdBy { email } }",
        "quotas { metric used limit remaining }",
        "webhooks(first: 3) { totalCount nodes { name createdBy { email } workspace { name } } }",
        "webhooks(first: 3) { nodes { deliveries(first: 2) { totalCount nodes { eventType webhook { name } } } } }",
    ];
    let documents =
        parts.map(|part| format!("{{ viewer {{ workspaces(first: 12) {{ nodes {{ {part} }} }} }} }}"));
    let costs = async |number: usize| {
        let mut costs = Vec::new();
        for document in &documents {
            let (statements, answer) = cost(&app, &ada, document).await;
            assert_eq!(answer.len("/viewer/workspaces/nodes"), number);
            costs.push(statements);
        }
        costs
    };
    // Two of each in each but the default one.
    let furnish = async |number: usize| {
        let lab = ada.workspace(&format!("Lab {number}")).await;
        for name in ["Nightly", "Weekly"] {
            let (account, _) = crate::machines::account(&ada, &lab, name, "VIEWER").await;
            let input = json!({ "workspaceId": lab.id, "serviceAccountId": account, "name": name, "permissions": [] });
            ada.mutate("createApiKey", input, "").await.ok();
        }
        ada.mutate("rotateDefaultApiKey", json!({ "workspaceId": lab.id }), "").await.ok();
        crate::webhooks::furnished(&ada, &lab).await;
        crate::webhooks::furnished(&ada, &lab).await;
    };
    furnish(1).await;
    let few = costs(2).await;
    for number in 2..12 {
        furnish(number).await;
    }
    assert_eq!(few, costs(12).await, "statements for two and for twelve workspaces");
    let told = ada.query(&documents[1], json!({})).await.ok();
    let last = "/viewer/workspaces/nodes/11/serviceAccounts/nodes/1/apiKeys/totalCount";
    assert_eq!(told.data(last), 1);
}

async fn lists_of_many_organizations_take_as_many_statements_as_those_of_two(app: App) {
    let ada = app.set_up().await;
    let (lab, example) = (ada.workspace("Lab").await, ada.organization().await);
    let input = json!({ "organizationId": example, "email": "guest@example.org",
        "workspaces": [{ "workspaceId": lab.id, "role": "EDITOR" }] });
    let invited = ada.mutate("inviteOrganizationMember", input, "invitation { id }").await.ok();
    let like = invited.text("/inviteOrganizationMember/invitation/id");
    let parts = [
        "roles(last: 2) { totalCount nodes { key permissions } }",
        "invitations(first: 2, status: [PENDING]) { totalCount nodes { email inviter { email } workspaces { name role { key } } } }",
    ];
    let documents = parts
        .map(|part| format!("{{ viewer {{ organizations(first: 12) {{ nodes {{ slug {part} }} }} }} }}"));
    let costs = async |number: usize| {
        let mut costs = Vec::new();
        for document in &documents {
            let (statements, answer) = cost(&app, &ada, document).await;
            assert_eq!(answer.len("/viewer/organizations/nodes"), number);
            costs.push(statements);
        }
        costs
    };
    let furnish = async |numbers: Range<usize>| {
        let mut rows = Rows::of(&app);
        for number in numbers {
            rows.organization(like, number);
        }
        rows.write().await;
    };
    furnish(1..2).await;
    let few = costs(2).await;
    furnish(2..12).await;
    assert_eq!(few, costs(12).await, "statements for two and for twelve organizations");
    // To each what is its own.
    let [roles, invitations] = &documents;
    let (roles, invitations) = (ada.query(roles, json!({})).await, ada.query(invitations, json!({})).await);
    for place in 0..11 {
        let number = place + 1;
        let at = format!("/viewer/organizations/nodes/{place}");
        assert_eq!(roles.data(&format!("{at}/slug")), &format!("o-{number}"));
        let last =
            (roles.data(&format!("{at}/roles/totalCount")), roles.text(&format!("{at}/roles/nodes/1/key")));
        assert_eq!(last, (&json!(4), &*format!("ROLE_{number}")));
        assert_eq!(
            invitations.data(&format!("{at}/invitations")),
            &json!({ "totalCount": 1, "nodes": [{
                "email": format!("guest{number}@example.org"), "inviter": { "email": "ada@example.org" },
                "workspaces": [{ "name": "lab", "role": { "key": "EDITOR" } }],
            }] })
        );
    }
}

async fn many_workspaces_by_their_ids_take_as_many_statements_as_two(app: App) {
    let ada = app.set_up().await;
    let mut ids = vec![ada.organization().await, "wks_0193a1b2c3d47e8f9012345678901234".to_owned()];
    for number in 0..12 {
        ids.push(ada.workspace(&format!("Lab {number}")).await.id);
    }
    let hers = app.stranger("olga@example.org", "Olga").await.workspace("Hers").await;
    ids.push(hers.id);
    let document = |ids: &[String]| {
        let ids = json!(ids);
        format!(
            "{{ nodes(ids: {ids}) {{ id ... on Workspace {{ displayName }} ... on Organization {{ slug }} }} }}"
        )
    };
    let (few, _) = cost(&app, &ada, &document(&ids[..4])).await;
    let (many, answer) = cost(&app, &ada, &document(&ids)).await;
    assert_eq!(few, many, "statements for two and for twelve workspaces");
    // In their order, and null where she sees nothing.
    let mut expected = vec![json!({ "id": ids[0], "slug": "example" }), Value::Null];
    let labs = ids[2..14].iter().enumerate();
    expected.extend(labs.map(|(number, id)| json!({ "id": id, "displayName": format!("Lab {number}") })));
    expected.push(Value::Null);
    assert_eq!(answer.data("/nodes"), &json!(expected));
}

/// How many statements have run, beside requests too, once none runs any more.
async fn at_rest(app: &App) -> u64 {
    let all = || app.statements() + app.background_statements();
    // The chain of the audit log follows in its own time, and that a mail was taken is written down after it was.
    app.chained().await;
    app.mailed().await;
    let mut before = all();
    loop {
        sleep(Duration::from_millis(40)).await;
        let now = all();
        if mem::replace(&mut before, now) == now {
            return now;
        }
    }
}

/// The fewest statements of several runs, with those of mailer and event log, which may have more to do than what was
/// asked of them. No more runs than needed to come down to `enough`.
async fn fewest(app: &App, runs: usize, enough: u64, mut work: impl AsyncFnMut(usize)) -> u64 {
    let mut fewest = u64::MAX;
    for run in 0..runs {
        // What the run before has set going comes to rest first.
        let before = at_rest(app).await;
        work(run).await;
        fewest = fewest.min(at_rest(app).await - before);
        if fewest <= enough {
            break;
        }
    }
    fewest
}

async fn an_invitation_takes_as_many_statements_as_was_recorded(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    // A change of these numbers is a change of what every invitation costs, from the request until its mail is sent and
    // everybody told: say why in the commit. The last seven, eight on PostgreSQL, chain its entry of the audit log and tell that, which
    // under load is done for all entries of a tenth of a second together. PostgreSQL locks the workspace's row and notifies other processes, and SQLite has one writer.
    let recorded = match app.engine() {
        Engine::Sqlite => 13 + 7,
        Engine::Postgres => 16 + 8,
    };
    let statements = fewest(&app, 20, recorded, async |run| {
        let email = format!("guest{run}@example.org");
        ada.invite(&lab, &email, "VIEWER").await.ok();
        app.mail_to(&email).await;
    })
    .await;
    assert_eq!(statements, recorded);
}

async fn an_event_costs_no_more_for_twenty_subscribers_than_for_one(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let document = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) {
        status invitation { email role { key } inviter { displayName } } } }";
    // Invitations that have been mailed: what happens to them then is one event and no mail.
    let pending = Cell::new(0);
    let invite = async |runs: usize| {
        let mut ids = Vec::new();
        for _ in 0..runs {
            let email = format!("guest{}@example.org", pending.replace(pending.get() + 1));
            let invited = ada.invite(&lab, &email, "VIEWER").await.ok();
            app.mail_to(&email).await;
            ids.push(invited.text("/inviteMember/invitation/id").to_owned());
        }
        ids
    };
    let mut costs = Vec::new();
    for sessions in [1, 20] {
        let invitations = invite(6).await;
        let mut subscriptions = Vec::new();
        for _ in 0..sessions {
            subscriptions.push(ada.again().await.subscribe(document, json!({ "id": lab.id })).await);
        }
        let statements = fewest(&app, invitations.len(), 0, async |run| {
            let input = json!({ "workspaceId": lab.id, "invitationId": invitations[run] });
            ada.mutate("revokeInvitation", input, "").await.ok();
            for subscription in &mut subscriptions {
                let revoked = |event: &Answer| event.data("/invitationStatusChanged/status") == "REVOKED";
                subscription.until(revoked).await.ok();
            }
        })
        .await;
        costs.push(statements);
    }
    // Subscribers wake on several threads, so that their rechecks can come in a few batches instead of one.
    assert!(costs[1] <= costs[0] + 3, "statements of an event for one subscriber and for twenty: {costs:?}");
}
