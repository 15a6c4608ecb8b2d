//! How far a session reaches that an identity provider opened: into its own organization, and no other. A provider may lie, so
//! all of this is also what it gains by naming somebody of another organization.

use super::*;
use crate::invitations::{invited, token};

both_databases!(
    app,
    who_came_by_a_provider_finds_no_invitation_of_another_organization,
    who_came_by_a_provider_answers_no_invitation_of_another_organization,
    who_came_by_a_provider_is_told_of_no_invitation_of_another_organization,
    who_came_by_a_provider_takes_no_organization_over,
    who_came_by_a_provider_finds_no_transfer_of_another_organization,
    another_organization_learns_nothing_of_a_sign_in_by_a_provider,
    another_organization_learns_nothing_of_who_was_turned_away,
);

/// Eve, whom Ada's provider knows, and Olga, who invites her to another organization.
struct Cast {
    ada: Actor,
    olga: Actor,
    attic: Workspace,
    /// Eve, signed in with her password.
    eve: Actor,
    /// Eve as Ada's provider says.
    said: Actor,
}

async fn cast(app: &App) -> Cast {
    let (ada, provider) = connected(app, "DOMAIN").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let attic = olga.workspace("Attic").await;
    let eve = app.person("eve@corp.example", "Eve").await;
    provider.is("s-eve", "eve@corp.example");
    let said = signed_in(app, "eve@corp.example").await;
    assert_eq!(said.id, eve.id);
    Cast { ada, olga, attic, eve, said }
}

/// The ids of the invitations that somebody finds, with what is said of how many there are.
async fn found(actor: &Actor) -> Vec<Value> {
    let document = "{ viewer { invitations(status: [PENDING]) { totalCount nodes { id } } } }";
    let answer = actor.query(document, json!({})).await.ok();
    let nodes = answer.data("/viewer/invitations/nodes").as_array().unwrap();
    assert_eq!(answer.data("/viewer/invitations/totalCount"), nodes.len());
    nodes.iter().map(|node| node["id"].clone()).collect()
}

async fn who_came_by_a_provider_finds_no_invitation_of_another_organization(app: App) {
    let Cast { ada, olga, attic, eve, said } = cast(&app).await;
    let lab = ada.workspace("Lab").await;
    let own = invited(&ada, &lab, &eve.email, "EDITOR").await;
    let other = invited(&olga, &attic, &eve.email, "EDITOR").await;
    assert_eq!(found(&said).await, std::slice::from_ref(&own));
    assert_eq!(found(&eve).await, [own, other]);
}

async fn who_came_by_a_provider_answers_no_invitation_of_another_organization(app: App) {
    let Cast { ada, olga, attic, eve, said } = cast(&app).await;
    let id = invited(&olga, &attic, &eve.email, "EDITOR").await;
    let link = token(&app, &eve.email).await;
    let by_id = json!({ "invitationId": id });
    for mutation in ["acceptInvitation", "declineInvitation"] {
        let answer = said.mutate(mutation, by_id.clone(), "").await;
        let unknown = json!({ "invitationId": said.id.replace("usr_", "inv_") });
        let same = said.mutate(mutation, unknown, "").await;
        assert_eq!(refusal(answer, "NOT_FOUND"), refusal(same, "NOT_FOUND"));
    }
    // Who holds the link has seen what it says, and is told how to come.
    said.mutate("acceptInvitation", json!({ "token": link }), "").await.denied("ANOTHER_SIGN_IN_REQUIRED");
    assert_eq!(organizations(&said).await, ["example MEMBER"]);
    let lab = ada.workspace("Lab").await;
    let stranger = app.stranger("zoe@example.org", "Zoe").await;
    stranger.mutate("acceptInvitation", json!({ "token": link }), "").await.refused("EMAIL_MISMATCH");
    assert_eq!(found(&eve).await, [id], "it waits for her as before");
    eve.mutate("acceptInvitation", json!({ "token": link }), "").await.ok();
    assert_eq!(organizations(&eve).await.len(), 2);
    // Of the provider's own organization she answers all, by id and by link.
    let own = invited(&ada, &lab, &eve.email, "EDITOR").await;
    said.mutate("declineInvitation", json!({ "invitationId": own }), "").await.ok();
    token(&app, &eve.email).await;
    invited(&ada, &lab, &eve.email, "EDITOR").await;
    let link = token(&app, &eve.email).await;
    said.mutate("acceptInvitation", json!({ "token": link }), "").await.ok();
    // Holding a link is enough to decline, however somebody came.
    invited(&olga, &olga.workspace("Cellar").await, &eve.email, "EDITOR").await;
    let link = token(&app, &eve.email).await;
    said.mutate("declineInvitation", json!({ "token": link }), "").await.ok();
}

async fn who_came_by_a_provider_is_told_of_no_invitation_of_another_organization(app: App) {
    let Cast { ada, olga, attic, eve, said } = cast(&app).await;
    let document = "subscription($after: String) { viewerInvitationChanged(after: $after) { cursor status invitation { id } } }";
    let of = |event: &Answer| event.data("/viewerInvitationChanged/invitation/id").clone();
    let mut hers = eve.subscribe(document, json!({})).await;
    let mut told = said.subscribe(document, json!({})).await;
    let lab = ada.workspace("Lab").await;
    let first = invited(&ada, &lab, &eve.email, "EDITOR").await;
    let event = told.until(|event| of(event) == first).await;
    let cursor = event.text("/viewerInvitationChanged/cursor").to_owned();
    let other = invited(&olga, &attic, &eve.email, "EDITOR").await;
    hers.until(|event| of(event) == other).await;
    app.mailed().await;
    olga.mutate("revokeInvitation", json!({ "workspaceId": attic.id, "invitationId": other }), "").await.ok();
    let second = invited(&ada, &ada.workspace("Den").await, &eve.email, "EDITOR").await;
    hers.until(|event| of(event) == second).await;
    // Also what was missed, and what is gone.
    app.sql(&format!("DELETE FROM invitations WHERE id = {}", app.literal(other.as_str().unwrap()))).await;
    let mut missed = said.subscribe(document, json!({ "after": cursor })).await;
    for watch in [&mut told, &mut missed] {
        let event = watch.until(|event| of(event) != first).await;
        assert_eq!(of(&event), second, "{event}");
    }
}

const ACCEPT: &str = "acceptOwnershipTransfer";

async fn transfer(by: &Actor, to: &Actor) -> Value {
    let input = json!({ "organizationId": by.organization().await, "userId": to.id });
    let asked = by.mutate("transferOwnership", input, "transfer { id }").await.ok();
    json!({ "transferId": asked.data("/transferOwnership/transfer/id") })
}

async fn who_came_by_a_provider_takes_no_organization_over(app: App) {
    let Cast { ada, eve, said, .. } = cast(&app).await;
    let asked = transfer(&ada, &eve).await;
    let denied = said.mutate(ACCEPT, asked.clone(), "").await.denied("FORBIDDEN");
    assert_eq!(denied.errors()[0]["extensions"]["permission"], "ORGANIZATION_GOVERN");
    assert_eq!(organizations(&eve).await, ["example MEMBER"]);
    // Who came by it may say no; and with a password she takes over.
    said.mutate("declineOwnershipTransfer", asked, "").await.ok();
    let asked = transfer(&ada, &eve).await;
    eve.mutate(ACCEPT, asked, "").await.ok();
    assert_eq!(organizations(&eve).await, ["example OWNER"]);
    assert_eq!(organizations(&said).await, ["example ADMIN"]);
}

async fn who_came_by_a_provider_finds_no_transfer_of_another_organization(app: App) {
    let Cast { olga, attic, eve, said, .. } = cast(&app).await;
    let link = invited(&olga, &attic, &eve.email, "VIEWER").await;
    eve.mutate("acceptInvitation", json!({ "invitationId": link }), "").await.ok();
    let asked = transfer(&olga, &eve).await;
    let document = "query($id: ID!) { node(id: $id) { id }
        viewer { ownershipTransfers { totalCount nodes { id } } organizations { nodes { ownershipTransfer { id } } } } }";
    for (who, seen) in [(&said, 0), (&eve, 1)] {
        let answer = who.query(document, json!({ "id": asked["transferId"] })).await.ok();
        assert_eq!(answer.data("/viewer/ownershipTransfers/totalCount"), seen);
        assert_eq!(answer.len("/viewer/ownershipTransfers/nodes"), seen);
        let organizations = answer.data("/viewer/organizations/nodes").as_array().unwrap();
        let of_each = organizations.iter().filter(|node| !node["ownershipTransfer"].is_null());
        assert_eq!((organizations.len(), of_each.count()), (2, seen));
        assert_eq!(answer.data("/node").is_null(), seen == 0);
    }
    said.mutate(ACCEPT, asked.clone(), "").await.denied("ANOTHER_SIGN_IN_REQUIRED");
    eve.mutate(ACCEPT, asked, "").await.ok();
}

/// What an organization's admin reads of what happened at the door, the newest first.
async fn activity(by: &Actor, user: &Actor) -> Vec<String> {
    let document = "query($id: ID!, $user: ID!) { node(id: $id) { ... on Organization {
        loginActivity(filter: { userId: $user }) { totalCount nodes { code } } } } }";
    let variables = json!({ "id": by.organization().await, "user": user.id });
    let answer = by.query(document, variables).await.ok();
    let nodes = answer.data("/node/loginActivity/nodes").as_array().unwrap();
    assert_eq!(answer.data("/node/loginActivity/totalCount"), nodes.len());
    nodes.iter().map(|node| node["code"].as_str().unwrap().to_owned()).collect()
}

/// Eve belongs to Olga's organization too, and what was written down so far is forgotten.
async fn at_both(app: &App, Cast { olga, attic, eve, .. }: &Cast) {
    let id = invited(olga, attic, &eve.email, "VIEWER").await;
    eve.mutate("acceptInvitation", json!({ "invitationId": id }), "").await.ok();
    app.sql("DELETE FROM login_activity").await;
}

async fn another_organization_learns_nothing_of_a_sign_in_by_a_provider(app: App) {
    let cast = cast(&app).await;
    at_both(&app, &cast).await;
    let Cast { ada, olga, eve, .. } = &cast;
    // Signing in and out, and a refresh token that comes back.
    let out = signed_in(&app, &eve.email).await;
    out.mutate("signOut", Value::Null, "").await.ok();
    let stolen = signed_in(&app, &eve.email).await;
    let refresh = json!({ "refreshToken": stolen.refresh_token });
    app.anonymous().mutate("refreshSession", refresh.clone(), "").await.ok();
    app.advance(TimeDelta::minutes(5));
    app.anonymous().mutate("refreshSession", refresh, "").await.refused("SESSION_INVALID");
    assert_eq!(activity(ada, eve).await, ["REFRESH_REUSED", "LOGIN", "LOGOUT", "LOGIN"]);
    assert_eq!(activity(olga, eve).await, Vec::<String>::new());
    // What a password opens is everybody's whose member she is.
    let again = eve.again().await;
    again.mutate("signOut", Value::Null, "").await.ok();
    assert_eq!(activity(ada, eve).await[..2], ["LOGOUT", "LOGIN"]);
    assert_eq!(activity(olga, eve).await, ["LOGOUT", "LOGIN"]);
}

async fn another_organization_learns_nothing_of_who_was_turned_away(app: App) {
    let cast = cast(&app).await;
    at_both(&app, &cast).await;
    let Cast { ada, olga, eve, .. } = &cast;
    let disable = json!({ "organizationId": ada.organization().await, "userId": eve.id });
    ada.mutate("disableUser", disable, "").await.ok();
    sign_in(&app, &eve.email).await.refused("USER_DISABLED");
    assert_eq!(activity(ada, eve).await, ["DISABLED"]);
    assert_eq!(activity(olga, eve).await, Vec::<String>::new());
    // Nor does anybody where nobody is disabled but the account itself.
    app.sql(&format!("UPDATE users SET status = 'DISABLED' WHERE id = {}", app.literal(&eve.id))).await;
    sign_in(&app, &eve.email).await.refused("USER_DISABLED");
    assert_eq!(activity(ada, eve).await, ["DISABLED", "DISABLED"]);
    assert_eq!(activity(olga, eve).await, Vec::<String>::new());
}
