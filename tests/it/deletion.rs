//! Deleting a workspace: who may, what stands against it, that nothing of it is left and everybody else keeps what is theirs,
//! and that the preview told all that before.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::{join, join_all};
use guildhall_domain::access::SystemRole;
use guildhall_tests::{
    Actor, Answer, App, Process, Workspace,
    actor::{PASSWORD, token_of},
    app::fresh_database,
    both_databases,
    databases::{Engine, TestDatabase},
    mailbox::MailServer,
    subscription::End,
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{life::archive, members::membership, races::tally};

both_databases!(
    App::start,
    who_deletes_is_the_policy_s_choice,
    what_stands_against_a_deletion_is_told_before_and_nothing_is_touched,
    a_deletion_leaves_no_trace_and_takes_what_was_told,
    its_members_land_in_their_other_workspaces,
    invitations_to_it_end_and_those_to_several_lose_it,
    those_who_watch_it_are_told_that_it_is_gone,
    borrowers_are_named_as_far_as_the_asker_sees_them,
    an_archived_workspace_is_deleted_like_any_other,
    sixty_members_take_as_many_statements_as_two,
    a_deletion_and_those_who_join_at_the_same_time_agree,
    two_deletions_of_the_same_people_s_workspaces_both_succeed,
);
both_databases!(fresh_database, a_deletion_that_is_killed_has_deleted_all_or_nothing);

pub(crate) async fn delete(by: &Actor, workspace: &Workspace, remove_members: bool) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "confirmName": workspace.name, "removeMembers": remove_members });
    by.mutate("deleteWorkspace", input, &format!("workspaceId deleted {{ {COUNTS} }}")).await
}

const COUNTS: &str = "members membersBesidesOwners landings invitations credentials configProperties serviceAccounts apiKeys \
     webhooks sharesOut borrowers sharesIn lenders";

async fn impact(by: &Actor, workspace: &Workspace, remove_members: bool) -> Answer {
    let document = format!(
        "query($id: ID!, $remove: Boolean!) {{ deletionImpact(workspaceId: $id, removeMembers: $remove) {{
             workspace {{ id }} counts {{ {COUNTS} }} refusals {{ code field message }}
             members(first: 50) {{ totalCount nodes {{ principal {{ ... on User {{ email }} }} }} }}
             credentials {{ slug borrowerCount }} borrowers {{ name }} lenders {{ name }}
         }} }}"
    );
    by.query(&document, json!({ "id": workspace.id, "remove": remove_members })).await
}

/// An id that this test makes up: of no two kinds the same number.
fn made_up(prefix: &str, number: u32) -> String {
    let kind = prefix.bytes().fold(0_u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("{prefix}_0193a1b2c3d47e8f9012{kind:04x}{number:08x}")
}

/// Credentials, a key, properties, shares and uses between workspaces, behind the server's back.
struct Keeping<'a> {
    app: &'a App,
    ids: Vec<String>,
}

impl Keeping<'_> {
    async fn credential(&mut self, workspace: &Workspace, number: u32) -> String {
        let id = made_up("crd", number);
        let (row, of) = (self.app.literal(&id), self.app.literal(&workspace.id));
        for statement in [
            format!(
                "INSERT INTO credentials (id, workspace_id, kind, slug, name, description, created_at, updated_at)
                 SELECT {row}, id, 'CUSTOM', 'credential-{number}', 'Credential', '', created_at, updated_at
                 FROM workspaces WHERE id = {of}"
            ),
            format!(
                "INSERT INTO credential_fields (credential_id, code, place, is_secret, value, updated_at)
                 SELECT {row}, 'HOST', 0, FALSE, 'example.org', created_at FROM workspaces WHERE id = {of}"
            ),
        ] {
            self.app.sql(&statement).await;
        }
        self.ids.push(id.clone());
        id
    }

    async fn share(&mut self, credential: &str, from: &Workspace, to: &Workspace, number: u32, status: &str) {
        let id = made_up("shr", number);
        let [row, credential, from, to] = [&id, credential, &from.id, &to.id].map(|id| self.app.literal(id));
        self.app
            .sql(&format!(
                "INSERT INTO credential_shares (id, credential_id, workspace_id, target_id, status, created_at)
                 SELECT {row}, {credential}, {from}, {to}, '{status}', created_at FROM workspaces WHERE id = {from}"
            ))
            .await;
        self.ids.push(id);
    }

    async fn used(&mut self, credential: &str, owner: &Workspace, by: &Workspace, number: u32) -> String {
        let id = made_up("use", number);
        let [row, credential, owner, by] =
            [&id, credential, &owner.id, &by.id].map(|id| self.app.literal(id));
        self.app
            .sql(&format!(
                "INSERT INTO credential_uses (id, credential_id, owner_id, workspace_id, slug, purpose, outcome, created_at)
                 SELECT {row}, {credential}, {owner}, {by}, 'x', 'test', 'OK', created_at FROM workspaces WHERE id = {owner}"
            ))
            .await;
        id
    }

    async fn property(&self, workspace: &Workspace, key: &str) {
        let of = self.app.literal(&workspace.id);
        self.app
            .sql(&format!(
                "INSERT INTO config_properties (workspace_id, key, kind, value, updated_at)
                 SELECT id, '{key}', 'STRING', '\"x\"', created_at FROM workspaces WHERE id = {of}"
            ))
            .await;
    }

    /// A webhook with a delivery that waits.
    async fn webhook(&self, workspace: &Workspace, number: u32) -> [String; 2] {
        let ids = [made_up("whk", number), made_up("whd", number)];
        let (of, [webhook, delivery]) =
            (self.app.literal(&workspace.id), ids.each_ref().map(|id| self.app.literal(id)));
        let bytes = match self.app.engine() {
            Engine::Sqlite => "x'00'",
            Engine::Postgres => r"'\x00'::bytea",
        };
        for statement in [
            format!(
                "INSERT INTO webhooks (id, workspace_id, name, url, events, status, sealed_secret, secret_made_at, event_cursor,
                     created_at, updated_at)
                 SELECT {webhook}, id, 'CI', 'https://hooks.invalid/', '[]', 'PAUSED', {bytes}, created_at, 0, created_at, created_at
                 FROM workspaces WHERE id = {of}"
            ),
            format!(
                "INSERT INTO webhook_deliveries (id, webhook_id, kind, payload, state, due_at, created_at, updated_at)
                 SELECT {delivery}, {webhook}, 'ping', '{{}}', 'PENDING', created_at, created_at, created_at
                 FROM workspaces WHERE id = {of}"
            ),
        ] {
            assert_eq!(self.app.sql(&statement).await, 1);
        }
        ids
    }

    async fn key(&self, workspace: &Workspace) {
        let of = self.app.literal(&workspace.id);
        let bytes = match self.app.engine() {
            Engine::Sqlite => "x'00'",
            Engine::Postgres => r"'\x00'::bytea",
        };
        self.app
            .sql(&format!(
                "INSERT INTO workspace_keys (workspace_id, master_key_id, wrapped, created_at, wrapped_at)
                 SELECT id, 'k', {bytes}, created_at, created_at FROM workspaces WHERE id = {of}"
            ))
            .await;
    }
}

/// Where any of the ids stands, as table and column.
async fn traces(app: &App, ids: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let literals: Vec<String> = ids.iter().map(|id| app.literal(id)).collect();
    for table in app.tables().await {
        for column in app.columns(&table, true).await {
            let select =
                format!("SELECT count(*) FROM \"{table}\" WHERE \"{column}\" IN ({})", literals.join(", "));
            if app.number(&select).await > 0 {
                found.insert(format!("{table}.{column}"));
            }
        }
    }
    found
}

/// Whether the place keeps what happened, also to what is gone.
fn is_history(place: &str) -> bool {
    place.starts_with("events.") || place.starts_with("audit_events.")
}

async fn who_deletes_is_the_policy_s_choice(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    for policy in ["ORGANIZATION_ADMINS", "WORKSPACE_ADMINS"] {
        let input = json!({ "organizationId": organization, "workspaceDeletion": policy });
        ada.mutate("updateOrganizationPolicy", input, "").await.ok();
        let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
        let adam = app.member(&lab, SystemRole::Admin, &format!("Adam {policy}")).await;
        let edda = app.member(&lab, SystemRole::Editor, &format!("Edda {policy}")).await;
        for workspace in [&lab, &den] {
            for actor in [&edda, &adam] {
                let code = if workspace.id == lab.id { "FORBIDDEN" } else { "NOT_FOUND" };
                if actor.id == adam.id && policy == "WORKSPACE_ADMINS" && code == "FORBIDDEN" {
                    continue;
                }
                delete(actor, workspace, true).await.denied(code);
                impact(actor, workspace, true).await.denied(code);
            }
        }
        let by = if policy == "WORKSPACE_ADMINS" { &adam } else { &ada };
        let told = impact(by, &lab, true).await.ok();
        assert_eq!(told.data("/deletionImpact/refusals"), &json!([]));
        let deleted = delete(by, &lab, true).await.ok();
        assert_eq!(deleted.data("/deleteWorkspace/workspaceId"), &json!(lab.id));
        // Gone, for those who deleted it as well.
        delete(by, &lab, true).await.denied("NOT_FOUND");
        delete(&ada, &lab, true).await.denied("NOT_FOUND");
        let seen = "query($name: String!) { workspace(name: $name) { id } }";
        assert_eq!(ada.query(seen, json!({ "name": lab.name })).await.ok().data("/workspace"), &Value::Null);
        // Its name is free again.
        assert_eq!(ada.workspace("Lab").await.name, lab.name);
        delete(&ada, &ada.workspace("Own").await, false).await.ok();
    }
}

async fn what_stands_against_a_deletion_is_told_before_and_nothing_is_touched(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let input = json!({ "organizationId": organization, "workspaceDeletion": "WORKSPACE_ADMINS" });
    ada.mutate("updateOrganizationPolicy", input, "").await.ok();
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let home = app.default_workspace();
    let before = crate::life::everything(&app).await;
    for (workspace, name, remove_members, codes) in [
        (home, home.name.as_str(), true, vec!["DEFAULT_PROTECTED"]),
        (home, "wrong", false, vec!["DEFAULT_PROTECTED"]),
        (&lab, "wrong", true, vec!["CONFIRMATION_MISMATCH"]),
        (&lab, "Lab", true, vec!["CONFIRMATION_MISMATCH"]),
        (&lab, "", false, vec!["CONFIRMATION_MISMATCH", "WORKSPACE_NOT_EMPTY"]),
        (&lab, lab.name.as_str(), false, vec!["WORKSPACE_NOT_EMPTY"]),
    ] {
        let input =
            json!({ "workspaceId": workspace.id, "confirmName": name, "removeMembers": remove_members });
        let answer = ada.mutate("deleteWorkspace", input, "workspaceId").await;
        let errors = answer.data("/deleteWorkspace/userErrors").as_array().unwrap().clone();
        let told: Vec<&str> = errors.iter().map(|error| error["code"].as_str().unwrap()).collect();
        assert_eq!(told, codes, "{answer}");
        // A preview has no name that could be wrong.
        let preview = impact(&ada, workspace, remove_members).await.ok();
        let expected: Vec<_> =
            errors.iter().filter(|error| error["code"] != "CONFIRMATION_MISMATCH").cloned().collect();
        assert_eq!(preview.data("/deletionImpact/refusals"), &json!(expected));
    }
    assert_eq!(crate::life::everything(&app).await, before);
    // Whoever does not own the organization counts, also where they ask themselves and are the last.
    let hers = json!({ "workspaceId": lab.id, "memberId": membership(&lab, &ada).await });
    adam.mutate("removeMember", hers, "").await.refused("OWNER_PROTECTED");
    ada.mutate("leaveWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    delete(&adam, &lab, false).await.refused("WORKSPACE_NOT_EMPTY");
    delete(&ada, &lab, false).await.refused("WORKSPACE_NOT_EMPTY");
    // A membership that has run out gives nothing, and stands against nothing.
    let run_out = format!(
        "UPDATE memberships SET expires_at = '2020-01-01 00:00:00+00:00' WHERE user_id = {} AND workspace_id = {}",
        app.literal(&adam.id),
        app.literal(&lab.id)
    );
    app.sql(&run_out).await;
    let told = impact(&ada, &lab, false).await.ok();
    assert_eq!(told.data("/deletionImpact/counts/members"), 0);
    delete(&ada, &lab, false).await.ok();
}

async fn a_deletion_leaves_no_trace_and_takes_what_was_told(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let (lab, den, hut) =
        (ada.workspace("Lab").await, ada.workspace("Den").await, ada.workspace("Hut").await);
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    app.member(&lab, SystemRole::Editor, "Edda").await;
    let mut inside: Vec<String> = vec![lab.id.clone()];
    for actor in [&ada, &eve] {
        inside.push(membership(&lab, actor).await);
        actor.mutate("setDefaultWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
        actor.mutate("switchWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    }
    ada.mutate("describeWorkspace", json!({ "workspaceId": lab.id, "description": "# Lab" }), "").await.ok();
    // Invitations of every kind.
    for (email, ends) in [("zoe@example.org", None), ("max@example.org", Some("revokeInvitation"))] {
        let invited = ada.invite(&lab, email, "VIEWER").await.ok();
        let id = invited.text("/inviteMember/invitation/id").to_owned();
        if let Some(ends) = ends {
            let input = json!({ "workspaceId": lab.id, "invitationId": id });
            ada.mutate(ends, input, "").await.ok();
        }
        inside.push(id);
    }
    let input = json!({ "organizationId": organization, "email": "ivy@example.org", "workspaces": [
        { "workspaceId": lab.id, "role": "VIEWER" }, { "workspaceId": den.id, "role": "EDITOR" },
    ] });
    let kept = ada.mutate("inviteOrganizationMember", input, "invitation { id }").await.ok();
    let kept = kept.text("/inviteOrganizationMember/invitation/id").to_owned();
    // What it keeps, lends and borrows; and what others keep.
    let mut keeping = Keeping { app: &app, ids: Vec::new() };
    let (own, other) = (keeping.credential(&lab, 1).await, keeping.credential(&lab, 2).await);
    keeping.share(&own, &lab, &den, 1, "ACTIVE").await;
    keeping.share(&own, &lab, &hut, 2, "PENDING").await;
    keeping.share(&other, &lab, &den, 3, "ACTIVE").await;
    keeping.share(&other, &lab, &hut, 4, "DECLINED").await;
    keeping.property(&lab, "one").await;
    keeping.property(&lab, "two").await;
    keeping.property(&den, "three").await;
    keeping.key(&lab).await;
    let (account, _) = crate::machines::account(&ada, &lab, "Nightly", "VIEWER").await;
    let (ended, _) = crate::machines::key(&ada, &lab, &["FILE_READ"]).await;
    ada.mutate("revokeApiKey", json!({ "workspaceId": lab.id, "apiKeyId": ended }), "").await.ok();
    let input =
        json!({ "workspaceId": lab.id, "serviceAccountId": account, "name": "CI", "permissions": [] });
    ada.mutate("createApiKey", input, "").await.ok();
    inside.extend([account, ended, crate::machines::key(&ada, &lab, &["FILE_READ"]).await.0]);
    let foreign = keeping.credential(&den, 3).await;
    keeping.share(&foreign, &den, &lab, 5, "ACTIVE").await;
    inside.extend(keeping.ids.iter().filter(|id| **id != foreign).cloned());
    let by_den = keeping.used(&own, &lab, &den, 1).await;
    let of_den = keeping.used(&foreign, &den, &lab, 2).await;
    inside.push(keeping.used(&own, &lab, &lab, 3).await);
    inside.extend(keeping.webhook(&lab, 1).await);
    app.sql("UPDATE credential_uses SET credential_id = credential_id").await;
    crate::life::everything(&app).await;

    let preview = impact(&ada, &lab, true).await.ok();
    let told = preview.data("/deletionImpact");
    assert_eq!(
        told["counts"],
        json!({
            "members": 3, "membersBesidesOwners": 2, "landings": 3, "invitations": 2, "credentials": 2,
            "configProperties": 2, "serviceAccounts": 1, "apiKeys": 2, "webhooks": 1, "sharesOut": 3, "borrowers": 2, "sharesIn": 1, "lenders": 1,
        })
    );
    assert_eq!(told["members"]["totalCount"], 3);
    let credentials = json!([{ "slug": "credential-1", "borrowerCount": 2 }, { "slug": "credential-2", "borrowerCount": 1 }]);
    assert_eq!(told["credentials"], credentials);
    assert_eq!(told["borrowers"], json!([{ "name": den.name }, { "name": hut.name }]));
    assert_eq!(told["lenders"], json!([{ "name": den.name }]));
    // Each table, as it will be without what was told.
    let rows = async |table: &str| app.number(&format!("SELECT count(*) FROM {table}")).await;
    let tables = [
        ("memberships", 3),
        ("credentials", 2),
        ("credential_fields", 2),
        ("config_properties", 2),
        ("workspace_keys", 1),
        ("service_accounts", 1),
        ("api_keys", 3),
        ("webhooks", 1),
        ("webhook_deliveries", 1),
        ("workspace_descriptions", 1),
        // Those in answer to which the two joined are history of the workspace.
        ("invitations", 4),
        ("invitation_grants", 5),
        ("credential_shares", 5),
        ("credential_uses", 1),
        ("workspaces", 1),
        ("users", 0),
        ("organization_members", 0),
        ("roles", 0),
    ];
    let mut before = Vec::new();
    for (table, _) in tables {
        before.push(rows(table).await);
    }
    let last = app.number("SELECT max(seq) FROM events").await;
    let deleted = delete(&ada, &lab, true).await.ok();
    assert_eq!(deleted.data("/deleteWorkspace/deleted"), &told["counts"], "what was told is what went");
    for ((table, gone), before) in tables.into_iter().zip(before) {
        assert_eq!(before - rows(table).await, gone, "{table}");
    }
    // The log remembers that it was.
    let left = traces(&app, &inside).await;
    assert!(left.iter().all(|place| is_history(place)), "{left:?}");
    assert!(left.contains("events.workspace_id"), "the test looks at nothing: {left:?}");
    // What concerns others is still theirs, without what is gone.
    let [by_den, of_den, den_id] = [&by_den, &of_den, &den.id].map(|id| app.literal(id));
    let use_of = async |id: &str, whole: &str| {
        app.number(&format!("SELECT count(*) FROM credential_uses WHERE id = {id} AND {whole}")).await
    };
    let borrowed = format!("owner_id IS NULL AND credential_id IS NULL AND workspace_id = {den_id}");
    assert_eq!(use_of(&by_den, &borrowed).await, 1);
    let lent = format!("owner_id = {den_id} AND workspace_id IS NULL AND credential_id IS NOT NULL");
    assert_eq!(use_of(&of_den, &lent).await, 1);
    assert_eq!(
        traces(&app, &[kept]).await.len(),
        4,
        "the invitation to several, its grant, its mail and its events"
    );
    // Each workspace that lent or borrowed is told of each share that is over.
    let told = async |workspace: &Workspace| {
        let of = app.literal(&workspace.id);
        let news = format!(
            "SELECT state FROM events WHERE seq > {last} AND kind = 'CREDENTIAL' AND workspace_id = {of} ORDER BY state"
        );
        app.texts(&news).await
    };
    assert_eq!(told(&den).await, ["RETURNED", "RETURNED", "SHARE_DECLINED"]);
    assert_eq!(told(&hut).await, ["RETURNED"]);
    assert!(told(&lab).await.is_empty());
}

const LANDS: &str = "{ viewer { defaultWorkspace { name } lastWorkspace { name } } }";

async fn its_members_land_in_their_other_workspaces(app: App) {
    let ada = app.set_up().await;
    let (lab, den, hut) =
        (ada.workspace("Lab").await, ada.workspace("Den").await, ada.workspace("Hut").await);
    let mut people = Vec::new();
    for (name, default, last) in [
        ("Both", Some(&lab), Some(&lab)),
        ("Default", Some(&lab), Some(&hut)),
        ("Last", Some(&hut), Some(&lab)),
        ("Neither", Some(&hut), Some(&hut)),
        ("Only", None, None),
    ] {
        let actor = app.member(if name == "Only" { &lab } else { &den }, SystemRole::Viewer, name).await;
        if name != "Only" {
            for workspace in [&hut, &lab] {
                let invited = ada.invite(workspace, &actor.email, "VIEWER").await.ok();
                let input = json!({ "invitationId": invited.data("/inviteMember/invitation/id") });
                actor.mutate("acceptInvitation", input, "").await.ok();
            }
        }
        for (choose, workspace) in [("setDefaultWorkspace", default), ("switchWorkspace", last)] {
            if let Some(workspace) = workspace {
                actor.mutate(choose, json!({ "workspaceId": workspace.id }), "").await.ok();
            }
        }
        people.push(actor);
    }
    // An admin of the organization was in it without being a member.
    let orla = app.person("orla@example.org", "Orla").await;
    let of_hers = app.literal(&orla.id);
    app.sql(&format!("UPDATE organization_members SET role = 'ADMIN' WHERE user_id = {of_hers}")).await;
    orla.mutate("switchWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    // Rather a workspace in use than the one joined first.
    archive(&ada, &den).await.ok();
    delete(&ada, &lab, true).await.ok();
    crate::life::restore(&ada, &den).await.ok();
    for (actor, default, last) in [
        (&people[0], json!(hut.name), json!(hut.name)),
        (&people[1], json!(hut.name), json!(hut.name)),
        (&people[2], json!(hut.name), json!(hut.name)),
        (&people[3], json!(hut.name), json!(hut.name)),
        (&people[4], Value::Null, Value::Null),
        (&orla, json!(app.default_workspace().name), json!(app.default_workspace().name)),
    ] {
        let lands = actor.query(LANDS, json!({})).await.ok();
        let viewer = lands.data("/viewer");
        assert_eq!(viewer["defaultWorkspace"]["name"], default, "{}", actor.name);
        assert_eq!(viewer["lastWorkspace"]["name"], last, "{}", actor.name);
    }
}

async fn invitations_to_it_end_and_those_to_several_lose_it(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let eve = app.person("eve@example.org", "Eve").await;
    let invited = ada.invite(&lab, &eve.email, "VIEWER").await.ok();
    let id = invited.data("/inviteMember/invitation/id").clone();
    let link = app.mail_to(&eve.email).await.link();
    let input = json!({ "organizationId": organization, "email": "ivy@example.org", "workspaces": [
        { "workspaceId": lab.id, "role": "VIEWER" }, { "workspaceId": den.id, "role": "EDITOR" },
    ] });
    ada.mutate("inviteOrganizationMember", input, "invitation { id }").await.ok();
    let ivys = app.mail_to("ivy@example.org").await.link();
    // That a mail was taken is told as well, and here before anybody listens.
    app.mailed().await;
    let changes = "subscription { viewerInvitationChanged { status invitation { id } } }";
    let mut watching = eve.subscribe(changes, json!({})).await;
    watching.no_event_for(100).await;
    delete(&ada, &lab, false).await.ok();
    let told = watching.next().await;
    assert_eq!(told.data("/viewerInvitationChanged"), &json!({ "status": "REVOKED", "invitation": null }));
    // The link answers, and there is nothing to answer.
    let page = app.anonymous().get(&link).await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(page.text().contains("This link is not valid"), "{}", page.text());
    eve.mutate("acceptInvitation", json!({ "token": token_of(&link) }), "").await.refused("LINK_INVALID");
    eve.mutate("acceptInvitation", json!({ "invitationId": id }), "").await.refused("NOT_FOUND");
    let list = "{ viewer { invitations { totalCount nodes { id workspaces { name } } } } }";
    let seen = eve.query(list, json!({})).await.ok();
    assert_eq!(seen.data("/viewer/invitations/totalCount"), 1, "her first one, to the default workspace");
    // The other opens what is left.
    let ivy = Actor::register(&app.url, token_of(&ivys), "Ivy").await;
    let seen = ivy.query(list, json!({})).await.ok();
    assert_eq!(seen.data("/viewer/invitations/nodes/0/workspaces"), &json!([{ "name": den.name }]));
    let lands = ivy.query(LANDS, json!({})).await.ok();
    assert_eq!(lands.data("/viewer/defaultWorkspace/name"), &json!(den.name));
}

async fn those_who_watch_it_are_told_that_it_is_gone(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let changes = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";
    let mut watching = Vec::new();
    for actor in [&ada, &adam] {
        watching.push(actor.subscribe(changes, json!({ "id": lab.id })).await);
    }
    for watching in &mut watching {
        watching.no_event_for(100).await;
    }
    delete(&ada, &lab, true).await.ok();
    for mut watching in watching {
        let End::Errors(errors) = watching.ended().await else { panic!("no word of why") };
        assert_eq!(errors[0]["extensions"]["code"], "NOT_FOUND");
    }
}

async fn borrowers_are_named_as_far_as_the_asker_sees_them(app: App) {
    let ada = app.set_up().await;
    let input =
        json!({ "organizationId": ada.organization().await, "workspaceDeletion": "WORKSPACE_ADMINS" });
    ada.mutate("updateOrganizationPolicy", input, "").await.ok();
    let (lab, den, hut) =
        (ada.workspace("Lab").await, ada.workspace("Den").await, ada.workspace("Hut").await);
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let mut keeping = Keeping { app: &app, ids: Vec::new() };
    let (lent, borrowed) = (keeping.credential(&lab, 1).await, keeping.credential(&hut, 2).await);
    keeping.share(&lent, &lab, &den, 1, "ACTIVE").await;
    keeping.share(&lent, &lab, &hut, 2, "ACTIVE").await;
    keeping.share(&borrowed, &hut, &lab, 3, "PENDING").await;
    let seen = async |actor: &Actor| {
        let told = impact(actor, &lab, true).await.ok();
        let told = told.data("/deletionImpact").clone();
        assert_eq!((&told["counts"]["borrowers"], &told["counts"]["lenders"]), (&json!(2), &json!(1)));
        (told["borrowers"].clone(), told["lenders"].clone())
    };
    let named = |workspaces: &[&Workspace]| {
        json!(workspaces.iter().map(|workspace| json!({ "name": workspace.name })).collect::<Vec<_>>())
    };
    assert_eq!(seen(&ada).await, (named(&[&den, &hut]), named(&[&hut])));
    assert_eq!(seen(&adam).await, (named(&[]), named(&[])));
    let invited = ada.invite(&hut, &adam.email, "VIEWER").await.ok();
    let input = json!({ "invitationId": invited.data("/inviteMember/invitation/id") });
    adam.mutate("acceptInvitation", input, "").await.ok();
    assert_eq!(seen(&adam).await, (named(&[&hut]), named(&[&hut])));
}

async fn an_archived_workspace_is_deleted_like_any_other(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.member(&lab, SystemRole::Viewer, "Eve").await;
    archive(&ada, &lab).await.ok();
    delete(&ada, &lab, false).await.refused("WORKSPACE_NOT_EMPTY");
    delete(&ada, &lab, true).await.ok();
    assert_eq!(
        traces(&app, &[lab.id]).await,
        BTreeSet::from(["audit_events.workspace_id".to_owned(), "events.workspace_id".to_owned()])
    );
}

/// People in the owner's organization, members of the workspace, who land there.
async fn crowd(app: &App, workspace: &Workspace, range: std::ops::Range<u32>) {
    let (owner, of) = (app.literal(&app.owner().id), app.literal(&workspace.id));
    let mut statements = Vec::new();
    for number in range {
        let (user, member) = (app.literal(&made_up("usr", number)), app.literal(&made_up("mbr", number)));
        statements.extend([
            format!(
                "INSERT INTO users (id, email, display_name, search_text, status, password_hash, email_verified_at, created_at,
                     updated_at, default_workspace_id, last_workspace_id)
                 SELECT {user}, 'm{number}@example.org', 'Member', 'member', status, password_hash, email_verified_at,
                     created_at, updated_at, {of}, {of} FROM users WHERE id = {owner}"
            ),
            format!(
                "INSERT INTO organization_members (user_id, organization_id, role, status, created_at)
                 SELECT {user}, organization_id, 'MEMBER', status, created_at FROM organization_members WHERE user_id = {owner}"
            ),
            format!(
                "INSERT INTO memberships (id, workspace_id, user_id, role_id, source, created_at, updated_at)
                 SELECT {member}, workspace_id, {user}, role_id, source, created_at, updated_at
                 FROM memberships WHERE user_id = {owner} AND workspace_id = {of}"
            ),
        ]);
    }
    app.sql(&statements.join(";\n")).await;
}

async fn sixty_members_take_as_many_statements_as_two(app: App) {
    let ada = app.set_up().await;
    let mut costs = Vec::new();
    let mut next = 0;
    for members in [2, 60] {
        // On a busy machine a batch may be cut in two.
        let mut fewest = u64::MAX;
        for _ in 0..3 {
            let lab = ada.workspace("Lab").await;
            crowd(&app, &lab, next..next + members).await;
            next += members;
            let before = app.statements();
            let deleted = delete(&ada, &lab, true).await.ok();
            fewest = fewest.min(app.statements() - before);
            assert_eq!(deleted.data("/deleteWorkspace/deleted/landings"), members);
        }
        costs.push(fewest);
    }
    assert_eq!(costs[0], costs[1], "for 2 members and for 60");
    assert!(costs[0] <= 25, "{} statements", costs[0]);
}

async fn a_deletion_and_those_who_join_at_the_same_time_agree(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    for round in 0..10 {
        let lab = ada.workspace(&format!("Lab {round}")).await;
        let invited = ada.invite(&lab, &eve.email, "VIEWER").await.ok();
        let accept = json!({ "invitationId": invited.data("/inviteMember/invitation/id") });
        let email = format!("guest{round}@example.org");
        ada.invite(&lab, &email, "VIEWER").await.ok();
        let link = app.mail_to(&email).await.link();
        let register = json!({ "token": token_of(&link), "displayName": "Guest", "password": PASSWORD });
        let home = json!({ "workspaceId": lab.id });
        let nobody = app.anonymous();
        let (deleted, answers) = join(
            delete(&ada, &lab, round % 2 == 0),
            join_all([
                Box::pin(async { eve.mutate("acceptInvitation", accept, "").await })
                    as std::pin::Pin<Box<dyn Future<Output = Answer>>>,
                Box::pin(async { nobody.mutate("register", register, "").await }),
                Box::pin(async { ada.invite(&lab, "late@example.org", "VIEWER").await }),
                Box::pin(async { ada.mutate("setDefaultWorkspace", home, "").await }),
            ]),
        )
        .await;
        let known = ["OK", "NOT_FOUND", "LINK_INVALID"];
        let told = tally(&answers);
        assert!(told.keys().all(|code| known.contains(&code.as_str())), "round {round}: {told:?}");
        let (outcome, _) = tally([&deleted]).pop_first().unwrap();
        let is_there =
            app.number(&format!("SELECT count(*) FROM workspaces WHERE id = {}", app.literal(&lab.id))).await;
        match outcome.as_str() {
            "OK" => {
                assert_eq!(is_there, 0);
                let left = traces(&app, std::slice::from_ref(&lab.id)).await;
                assert!(left.iter().all(|place| is_history(place)), "round {round}: {left:?}");
            }
            "WORKSPACE_NOT_EMPTY" => assert!(is_there == 1 && round % 2 == 1, "{deleted}"),
            _ => panic!("round {round}: {deleted}"),
        }
        // Nobody points to what is gone, and who has another workspace lands in it.
        let lands = eve.query(LANDS, json!({})).await.ok();
        assert_eq!(lands.data("/viewer/defaultWorkspace/name"), &json!(app.default_workspace().name));
        let lost = app.number("SELECT count(*) FROM users u WHERE default_workspace_id IS NULL AND EXISTS (SELECT 1 FROM memberships m WHERE m.user_id = u.id)").await;
        assert_eq!(lost, 0, "round {round}");
    }
}

async fn two_deletions_of_the_same_people_s_workspaces_both_succeed(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    for round in 0..6 {
        let mut workspaces = Vec::new();
        for name in ["One", "Two", "Three"] {
            let workspace = ada.workspace(&format!("{name} {round}")).await;
            let invited = ada.invite(&workspace, &eve.email, "VIEWER").await.ok();
            let input = json!({ "invitationId": invited.data("/inviteMember/invitation/id") });
            eve.mutate("acceptInvitation", input, "").await.ok();
            workspaces.push(workspace);
        }
        for actor in [&ada, &eve] {
            actor.mutate("setDefaultWorkspace", json!({ "workspaceId": workspaces[0].id }), "").await.ok();
            actor.mutate("switchWorkspace", json!({ "workspaceId": workspaces[1].id }), "").await.ok();
        }
        // The third is left while the others go, and would fall back into them.
        let leave = eve.mutate("leaveWorkspace", json!({ "workspaceId": workspaces[2].id }), "");
        let (left, deleted) =
            join(leave, join_all(workspaces[..2].iter().map(|workspace| delete(&ada, workspace, true))))
                .await;
        left.ok();
        for deleted in deleted {
            deleted.ok();
        }
        let lands = eve.query(LANDS, json!({})).await.ok();
        let home = json!(app.default_workspace().name);
        assert_eq!(lands.data("/viewer/defaultWorkspace/name"), &home, "round {round}");
        assert_eq!(lands.data("/viewer/lastWorkspace/name"), &home, "round {round}");
        delete(&ada, &workspaces[2], true).await.ok();
    }
}

async fn a_deletion_that_is_killed_has_deleted_all_or_nothing(database: TestDatabase) {
    let mail = MailServer::start().await;
    let mut process = Process::spawn(&database, &mail).await;
    let (mut ada, _) = Actor::set_up(&process.url, &process.setup_token(), "ada@example.org", "Ada").await;
    let lab = ada.workspace("Lab").await;
    // Enough that the deletion takes its time.
    let emails: Vec<_> = (0..100)
        .map(|number| json!({ "email": format!("g{number}@example.org"), "role": "VIEWER" }))
        .collect();
    let input = json!({ "workspaceId": lab.id, "invitees": emails });
    ada.mutate("inviteMembers", input, "").await.ok();
    let input = json!({ "input": { "workspaceId": lab.id, "confirmName": lab.name, "removeMembers": true } });
    let document = "mutation($input: DeleteWorkspaceInput!) { deleteWorkspace(input: $input) { workspaceId userErrors { code } } }";
    for delay in [0, 3, 6, 12, 25] {
        // Whoever waits for an answer gets none; the request is sent all the same.
        let asking = tokio::spawn({
            let (ada, input) = (ada.clone(), input.clone());
            async move { ada.query(document, input).await }
        });
        tokio::time::sleep(Duration::from_millis(delay)).await;
        process.kill();
        asking.abort();
        process = Process::spawn(&database, &mail).await;
        ada = ada.at(&process.url).again().await;
        let seen = "query($name: String!) { workspace(name: $name) { invitations(status: [PENDING]) { totalCount } } }";
        let seen = ada.query(seen, json!({ "name": lab.name })).await.ok();
        if seen.data("/workspace").is_null() {
            ada.query(document, input.clone()).await.denied("NOT_FOUND");
            return;
        }
        assert_eq!(seen.data("/workspace/invitations/totalCount"), 100, "all or nothing, after {delay} ms");
    }
    // The same command finishes.
    let done = ada.query(document, input).await.ok();
    assert_eq!(done.data("/deleteWorkspace/workspaceId"), &json!(lab.id));
}
