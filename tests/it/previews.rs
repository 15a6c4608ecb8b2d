//! What a change would do, told before: it is what the change then does, and telling it changes nothing.

use std::collections::BTreeSet;

use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, actor::token_of, both_databases};
use serde_json::{Value, json};

use crate::members::{membership, set_role};

both_databases!(
    App::start,
    a_simulated_change_of_role_is_what_really_happens,
    a_simulated_change_of_role_is_refused_as_the_real_one,
    what_a_removal_would_end_is_what_ends,
    a_removal_tells_of_the_webhooks_that_the_member_made,
    a_removal_that_would_be_refused_says_so,
    invitations_are_shown_to_those_who_may_see_them,
    a_preview_takes_as_many_statements_for_nine_invitations_as_for_one,
);

const ROLE: &str = "rol_0193a1b2c3d47e8f9012345678901234";

/// A role of the owner's organization. Those of one's own have no operation yet.
async fn custom_role(app: &App, permissions: &str) {
    app.sql(&format!(
        "INSERT INTO roles (id, organization_id, key, name, description, permissions, created_at, updated_at)
         SELECT {}, id, 'CUSTOM', 'Custom', '', '[{permissions}]', created_at, updated_at
         FROM organizations ORDER BY created_at LIMIT 1",
        app.literal(ROLE)
    ))
    .await;
}

async fn simulate(by: &Actor, workspace: &Workspace, member: &str, role: &str) -> Answer {
    let document = "query($workspace: ID!, $member: ID!, $role: ID!) {
        simulateRoleChange(workspaceId: $workspace, memberId: $member, role: $role) {
            member { id role { key } } gained lost refusals { code field message }
    } }";
    by.query(document, json!({ "workspace": workspace.id, "member": member, "role": role })).await
}

const IMPACT: &str = "invitationCount invitations { id email } isDefaultWorkspace sessionCount shareCount";

async fn preview_removal(by: &Actor, workspace: &Workspace, member: &str) -> Answer {
    let document = format!(
        "query($workspace: ID!, $member: ID!) {{ removalImpact(workspaceId: $workspace, memberId: $member) {{
             member {{ id role {{ key }} }} impact {{ {IMPACT} }} refusals {{ code field message }}
         }} }}"
    );
    by.query(&document, json!({ "workspace": workspace.id, "member": member })).await
}

async fn remove(by: &Actor, workspace: &Workspace, member: &str) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "memberId": member });
    by.mutate("removeMember", input, &format!("member {{ id role {{ key }} }} ended {{ {IMPACT} }}")).await
}

/// What somebody may do in the workspace; nothing where it does not exist for them.
async fn permissions(actor: &Actor, workspace: &Workspace) -> BTreeSet<String> {
    let document = "query($name: String!) { workspace(name: $name) { viewerPermissions } }";
    let answer = actor.query(document, json!({ "name": workspace.name })).await.ok();
    texts(&answer.data("/workspace")["viewerPermissions"])
}

fn texts(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// What would tell that something was written: rows and when they changed.
async fn traces(app: &App) -> Vec<i64> {
    let mut traces = Vec::new();
    for select in [
        // The mailer tells of pending invitations whenever it has sent one.
        "SELECT count(*) FROM events WHERE kind <> 'AUDIT' AND (state IS NULL OR state <> 'PENDING')",
        "SELECT count(*) FROM mails",
        "SELECT count(*) FROM memberships",
        "SELECT count(*) FROM memberships m WHERE m.updated_at = m.created_at",
        "SELECT count(*) FROM invitations WHERE status = 'PENDING'",
        "SELECT count(*) FROM users u JOIN memberships m ON m.workspace_id = u.default_workspace_id AND m.user_id = u.id",
        "SELECT count(*) FROM users u JOIN memberships m ON m.workspace_id = u.last_workspace_id AND m.user_id = u.id",
        "SELECT count(*) FROM sessions WHERE ended_at IS NULL",
    ] {
        traces.push(app.number(select).await);
    }
    traces
}

async fn a_simulated_change_of_role_is_what_really_happens(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Viewer, "Bob").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let orla = app.member(&lab, SystemRole::Viewer, "Orla").await;
    let orla_is = format!("user_id = {}", app.literal(&orla.id));
    app.sql(&format!("UPDATE organization_members SET role = 'ADMIN' WHERE {orla_is}")).await;
    let his = membership(&lab, &bob).await;
    custom_role(&app, r#""workspace.view","members.view","file.write","workspace.delete""#).await;
    let policies = [
        "allow_reveal = FALSE",
        "allow_reveal = TRUE, workspace_deletion = 'WORKSPACE_ADMINS', member_list_visibility = 'ADMINS'",
    ];
    let mut changed = 0;
    for policy in policies {
        app.sql(&format!("UPDATE organizations SET {policy}")).await;
        for role in ["EDITOR", "EDITOR", "ADMIN", ROLE, "VIEWER", "ADMIN", "EDITOR", ROLE, "VIEWER"] {
            let (before, untouched) = (permissions(&bob, &lab).await, traces(&app).await);
            let by = if role == ROLE { &ada } else { &adam };
            let simulated = simulate(by, &lab, &his, role).await.ok();
            assert_eq!(traces(&app).await, untouched, "simulating {role}");
            assert_eq!(permissions(&bob, &lab).await, before, "simulating {role}");
            let simulated = simulated.data("/simulateRoleChange");
            assert_eq!((&simulated["member"]["id"], &simulated["refusals"]), (&json!(his), &json!([])));
            set_role(by, &lab, &his, role).await.ok();
            let after = permissions(&bob, &lab).await;
            assert_eq!(texts(&simulated["gained"]), &after - &before, "{role} under {policy}");
            assert_eq!(texts(&simulated["lost"]), &before - &after, "{role} under {policy}");
            changed += usize::from(before != after);
        }
        // Whoever administers the organization has no less.
        let simulated = simulate(&ada, &lab, &membership(&lab, &orla).await, "EDITOR").await.ok();
        let simulated = simulated.data("/simulateRoleChange");
        assert_eq!((&simulated["gained"], &simulated["lost"]), (&json!([]), &json!([])));
    }
    assert!(changed >= 14, "only {changed} of the changes changed anything");

    // Whoever was a member for a time is none any more, in the preview as in earnest.
    app.sql(&format!(
        "UPDATE memberships SET expires_at = '2020-01-01 00:00:00+00:00' WHERE id = {}",
        app.literal(&his)
    ))
    .await;
    let simulated = simulate(&ada, &lab, &his, "ADMIN").await.ok();
    assert_eq!(simulated.data("/simulateRoleChange/refusals/0/code"), "NOT_FOUND");
    set_role(&ada, &lab, &his, "ADMIN").await.refused("NOT_FOUND");
    assert_eq!(permissions(&bob, &lab).await, BTreeSet::new());
}

async fn a_simulated_change_of_role_is_refused_as_the_real_one(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let rita = app.member(&lab, SystemRole::Viewer, "Rita").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let milo = app.member(&den, SystemRole::Viewer, "Milo").await;
    custom_role(&app, r#""workspace.view","members.view","members.manage","members.invite""#).await;
    set_role(&ada, &lab, &membership(&lab, &rita).await, ROLE).await.ok();
    let (adas, eves) = (membership(&lab, &ada).await, membership(&lab, &eve).await);
    let milos = membership(&den, &milo).await;
    let nobody = "mbr_0193a1b2c3d47e8f9012345678901234";
    let unknown = "rol_0193a1b2c3d47e8f9012345678901235";
    for (by, member, role, code) in [
        (&rita, &*eves, "EDITOR", "PRIVILEGE_ESCALATION"),
        (&rita, &*adas, ROLE, ""),
        (&rita, &*adas, "VIEWER", "PRIVILEGE_ESCALATION"),
        (&ada, &*milos, "ADMIN", "NOT_FOUND"),
        (&ada, nobody, "ADMIN", "NOT_FOUND"),
        (&ada, &*eves, unknown, "INVALID_INPUT"),
        (&ada, "nonsense", "BOSS", "INVALID_INPUT"),
    ] {
        let simulated = simulate(by, &lab, member, role).await.ok();
        let real = set_role(by, &lab, member, role).await;
        assert_eq!(
            simulated.data("/simulateRoleChange/refusals"),
            real.data("/updateMemberRole/userErrors"),
            "{member} {role}"
        );
        let told = &simulated.data("/simulateRoleChange/refusals")[0]["code"];
        assert_eq!(told.as_str().unwrap_or_default(), code);
    }
    // The change is shown where it is refused, unless there is nothing to show.
    set_role(&ada, &lab, &adas, "ADMIN").await.ok();
    set_role(&ada, &lab, &membership(&lab, &rita).await, "VIEWER").await.ok();
    let simulated = simulate(&ada, &lab, &adas, "VIEWER").await.ok();
    assert_eq!(simulated.data("/simulateRoleChange/refusals/0/code"), "LAST_ADMIN");
    let real = set_role(&ada, &lab, &adas, "VIEWER").await.refused("LAST_ADMIN");
    assert_eq!(simulated.data("/simulateRoleChange/refusals"), real.data("/updateMemberRole/userErrors"));
    assert_eq!(simulated.data("/simulateRoleChange/member/role/key"), "ADMIN");
    assert_eq!(
        simulate(&ada, &lab, nobody, "VIEWER").await.ok().data("/simulateRoleChange/member"),
        &Value::Null
    );

    simulate(&eve, &lab, &eves, "ADMIN").await.denied("FORBIDDEN");
    simulate(&milo, &lab, &eves, "ADMIN").await.denied("NOT_FOUND");
}

async fn what_a_removal_would_end_is_what_ends(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    ada.invite(&den, &bob.email, "ADMIN").await.ok();
    let input = json!({ "token": token_of(&app.mail_to(&bob.email).await.link()) });
    bob.mutate("acceptInvitation", input, "invitation { id }").await.ok();
    let mut sent = Vec::new();
    for (by, workspace, email) in [
        (&bob, &lab, "one@example.org"),
        (&ada, &lab, "two@example.org"),
        (&bob, &den, "three@example.org"),
        (&bob, &lab, "four@example.org"),
        (&bob, &lab, "five@example.org"),
    ] {
        let invited = by.invite(workspace, email, "VIEWER").await.ok();
        sent.push((email, invited.text("/inviteMember/invitation/id").to_owned()));
    }
    let input = json!({ "workspaceId": lab.id, "invitationId": sent[4].1 });
    bob.mutate("revokeInvitation", input, "invitation { id }").await.ok();
    let elsewhere = bob.again().await;
    bob.mutate("switchWorkspace", json!({ "workspaceId": lab.id }), "workspace { id }").await.ok();
    bob.mutate("setDefaultWorkspace", json!({ "workspaceId": lab.id }), "workspace { id }").await.ok();

    let credential = crate::credentials::made(&bob, &lab, "Store", "hunter2").await;
    crate::credential_sharing::lent(&bob, &lab, &credential, &den).await;

    let (in_lab, in_den) = (membership(&lab, &bob).await, membership(&den, &bob).await);
    let untouched = traces(&app).await;
    let preview = preview_removal(&ada, &lab, &in_lab).await.ok();
    let expected = json!({
        "invitationCount": 2,
        "invitations": [{ "id": sent[0].1, "email": sent[0].0 }, { "id": sent[3].1, "email": sent[3].0 }],
        "isDefaultWorkspace": true,
        "sessionCount": 2,
        "shareCount": 1,
    });
    assert_eq!(preview.data("/removalImpact/impact"), &expected);
    assert_eq!(preview.data("/removalImpact/refusals"), &json!([]));
    let there = preview_removal(&ada, &den, &in_den).await.ok();
    assert_eq!(
        there.data("/removalImpact/impact"),
        &json!({
            "invitationCount": 1, "invitations": [{ "id": sent[2].1, "email": sent[2].0 }],
            "isDefaultWorkspace": false, "sessionCount": 0, "shareCount": 0,
        })
    );
    assert_eq!(traces(&app).await, untouched, "a preview writes nothing");

    let removed = remove(&ada, &lab, &in_lab).await.ok();
    assert_eq!(removed.data("/removeMember/ended"), preview.data("/removalImpact/impact"));
    assert_eq!(removed.data("/removeMember/member"), preview.data("/removalImpact/member"));
    // Exactly that has ended: what was named is revoked, and what was not is as it was.
    let pending = "query($name: String!) { workspace(name: $name) { invitations(status: PENDING) { nodes { email } } } }";
    for (workspace, left) in [(&lab, "two@example.org"), (&den, "three@example.org")] {
        let answer = ada.query(pending, json!({ "name": workspace.name })).await.ok();
        assert_eq!(answer.data("/workspace/invitations/nodes"), &json!([{ "email": left }]));
    }
    // What he lent is the workspace's, and stays lent.
    crate::credentials::used(&ada, &den, "store").await.ok();
    let lands = "{ viewer { defaultWorkspace { id } lastWorkspace { id } } }";
    for device in [&bob, &elsewhere] {
        let answer = device.query(lands, json!({})).await.ok();
        assert_eq!(answer.data("/viewer/defaultWorkspace/id"), &json!(den.id));
        assert_eq!(answer.data("/viewer/lastWorkspace/id"), &json!(den.id));
    }
    // Which it is now where he fell back to.
    let there = preview_removal(&ada, &den, &in_den).await.ok();
    assert_eq!(there.data("/removalImpact/impact/isDefaultWorkspace"), true);
    assert_eq!(there.data("/removalImpact/impact/sessionCount"), 2);
    elsewhere.mutate("signOut", json!(null), "").await.ok();
    let there = preview_removal(&ada, &den, &in_den).await.ok();
    assert_eq!(there.data("/removalImpact/impact/sessionCount"), 1);
    let removed = remove(&ada, &den, &in_den).await.ok();
    assert_eq!(removed.data("/removeMember/ended"), there.data("/removalImpact/impact"));
}

async fn a_removal_tells_of_the_webhooks_that_the_member_made(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    // Of the three in the lab Bob made two, one of which is paused; what he made elsewhere does not count.
    crate::webhooks::furnished(&ada, &lab).await;
    let (paused, _) = crate::webhooks::furnished(&bob, &lab).await;
    crate::webhooks::furnished(&bob, &lab).await;
    let input = json!({ "workspaceId": lab.id, "webhookId": paused, "isEnabled": false });
    bob.mutate("updateWebhook", input, "").await.ok();
    crate::webhooks::furnished(&ada, &field).await;
    let member = membership(&lab, &bob).await;
    let document = "query($w: ID!, $m: ID!) { removalImpact(workspaceId: $w, memberId: $m) { impact { webhookCount } } }";
    let impact = ada.query(document, json!({ "w": lab.id, "m": member })).await.ok();
    assert_eq!(impact.data("/removalImpact/impact/webhookCount"), 2);
    let input = json!({ "workspaceId": lab.id, "memberId": member });
    let removed = ada.mutate("removeMember", input, "ended { webhookCount }").await.ok();
    assert_eq!(removed.data("/removeMember/ended/webhookCount"), 2);
    // They are the workspace's, and stay.
    let document = "query($name: String!) { workspace(name: $name) { webhooks { totalCount } } }";
    let left = ada.query(document, json!({ "name": lab.name })).await.ok();
    assert_eq!(left.data("/workspace/webhooks/totalCount"), 3);
}

async fn a_removal_that_would_be_refused_says_so(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let milo = app.member(&den, SystemRole::Viewer, "Milo").await;
    let (adas, eves) = (membership(&lab, &ada).await, membership(&lab, &eve).await);
    ada.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
    for (by, workspace, member, code) in [
        (&bob, &lab, adas.as_str(), "OWNER_PROTECTED"),
        (&ada, &den, &membership(&den, &ada).await, "LAST_ADMIN"),
        (&ada, &lab, &membership(&den, &milo).await, "NOT_FOUND"),
        (&ada, &lab, "mbr_0193a1b2c3d47e8f9012345678901234", "NOT_FOUND"),
        (&ada, &lab, "nonsense", "INVALID_INPUT"),
    ] {
        let preview = preview_removal(by, workspace, member).await.ok();
        let untouched = traces(&app).await;
        let real = remove(by, workspace, member).await.refused(code);
        assert_eq!(preview.data("/removalImpact/refusals"), real.data("/removeMember/userErrors"));
        assert_eq!(real.data("/removeMember/ended"), &Value::Null);
        assert_eq!(traces(&app).await, untouched);
        let is_member = ["OWNER_PROTECTED", "LAST_ADMIN"].contains(&code);
        assert_eq!(preview.data("/removalImpact/impact").is_object(), is_member, "{preview}");
    }
    let preview = preview_removal(&bob, &lab, &adas).await.ok();
    assert_eq!(preview.data("/removalImpact/impact/invitationCount"), 1);
    preview_removal(&eve, &lab, &eves).await.denied("FORBIDDEN");
    preview_removal(&milo, &lab, &eves).await.denied("NOT_FOUND");
}

async fn invitations_are_shown_to_those_who_may_see_them(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let rita = app.member(&lab, SystemRole::Viewer, "Rita").await;
    custom_role(&app, r#""workspace.view","members.view","members.manage""#).await;
    set_role(&ada, &lab, &membership(&lab, &rita).await, ROLE).await.ok();
    bob.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
    let his = membership(&lab, &bob).await;
    let preview = preview_removal(&rita, &lab, &his).await.denied("FORBIDDEN");
    assert_eq!(preview.data("/removalImpact/impact/invitations"), &Value::Null);
    assert_eq!(preview.data("/removalImpact/impact/invitationCount"), 1);
    let preview = preview_removal(&ada, &lab, &his).await.ok();
    assert_eq!(preview.data("/removalImpact/impact/invitations/0/email"), "zoe@example.org");
}

async fn a_preview_takes_as_many_statements_for_nine_invitations_as_for_one(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let his = membership(&lab, &bob).await;
    let document =
        "query($workspace: ID!, $member: ID!) { removalImpact(workspaceId: $workspace, memberId: $member) {
        impact { invitationCount invitations { email inviter { email } } } } }";
    let mut costs = Vec::new();
    for invitations in [1, 9] {
        for number in costs.len()..invitations {
            bob.invite(&lab, &format!("guest{number}@example.org"), "VIEWER").await.ok();
            app.mail_to(&format!("guest{number}@example.org")).await;
        }
        let variables = json!({ "workspace": lab.id, "member": his });
        costs.push(
            app.count(async || {
                let answer = ada.query(document, variables.clone()).await.ok();
                assert_eq!(answer.data("/removalImpact/impact/invitationCount"), invitations);
                assert_eq!(answer.len("/removalImpact/impact/invitations"), invitations);
            })
            .await,
        );
    }
    assert_eq!(costs[0], costs[1]);
}
