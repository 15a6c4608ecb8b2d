//! Nobody learns of what they may not see: an id of somebody else's answers as an id that nobody has, to the byte and to
//! the number of statements. Knows one operation for each place of the schema that takes an id; refuses to know what
//! the answer is, as long as it is the same.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use async_graphql::parser::types::{BaseType, InputValueDefinition, Type, TypeKind};
use bytes::Bytes;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, both_databases};
use http::{Request, header};
use serde_json::{Value, json};

use crate::{
    credential_nets::{custom, lend},
    guards_enforced::{RootField, root_fields, types},
};

both_databases!(
    App::start,
    a_stranger_s_answers_do_not_tell_a_foreign_id_from_an_unknown_one,
    another_workspace_of_the_organization_is_as_foreign,
    an_address_with_an_account_elsewhere_is_invited_like_any_other,
    a_cursor_of_another_tenant_is_a_mere_position,
    a_cursor_of_another_list_is_refused,
    events_stay_with_their_tenant,
);

/// What follows the name of a root field. `%workspace%` stands for an id under test, `%own …%` for one of the caller's.
const OPERATIONS: &[(&str, &str)] = &[
    ("credential", r#"(workspaceId: "%workspace%", slug: "store") { id name }"#),
    ("credential", r#"(workspaceId: "%own workspace%", slug: "%name%/store") { id name }"#),
    ("credentialShareTargets", r#"(workspaceId: "%workspace%", credentialId: "%credential%") { id name }"#),
    (
        "credentialShareTargets",
        r#"(workspaceId: "%own workspace%", credentialId: "%credential%") { id name }"#,
    ),
    ("explainAccess", r#"(workspaceId: "%workspace%", permission: FILE_READ) { isAllowed message }"#),
    (
        "explainAccess",
        r#"(workspaceId: "%own workspace%", userId: "%person%", permission: FILE_READ) { isAllowed message }"#,
    ),
    (
        "explainAccess",
        r#"(workspaceId: "%own workspace%", userId: "%person%", permission: WORKSPACE_CREATE) { isAllowed message }"#,
    ),
    (
        "deletionImpact",
        r#"(workspaceId: "%workspace%") { counts { members } borrowers { id } refusals { code field message } }"#,
    ),
    ("node", r#"(id: "%workspace%") { id ... on Workspace { name } }"#),
    ("node", r#"(id: "%member%") { id ... on Member { role { key } } }"#),
    ("node", r#"(id: "%invitation%") { id ... on Invitation { email } }"#),
    ("node", r#"(id: "%session%") { id ... on Session { device } }"#),
    ("node", r#"(id: "%person%") { id ... on User { email } }"#),
    ("node", r#"(id: "%role%") { id ... on Role { key } }"#),
    ("node", r#"(id: "%organization%") { id }"#),
    ("node", r#"(id: "%transfer%") { id ... on OwnershipTransfer { status } }"#),
    ("node", r#"(id: "%credential%") { id ... on Credential { name } }"#),
    ("node", r#"(id: "%borrowed%") { id ... on Credential { name } }"#),
    ("node", r#"(id: "%share%") { id }"#),
    ("node", r#"(id: "%account%") { id ... on ServiceAccount { name } }"#),
    ("node", r#"(id: "%key%") { id ... on ApiKey { name prefix } }"#),
    ("node", r#"(id: "%webhook%") { id ... on Webhook { name url } }"#),
    ("node", r#"(id: "%delivery%") { id ... on WebhookDelivery { eventType payload } }"#),
    ("nodes", r#"(ids: ["%workspace%", "%member%", "%own workspace%", "%invitation%", "%person%"]) { id }"#),
    ("organization", r#"(slug: "%slug%") { id name viewerRole }"#),
    (
        "removalImpact",
        r#"(workspaceId: "%workspace%", memberId: "%member%") { impact { invitationCount } refusals { code field message } }"#,
    ),
    (
        "removalImpact",
        r#"(workspaceId: "%own workspace%", memberId: "%member%") { impact { invitationCount } refusals { code field message } }"#,
    ),
    ("searchUsers", r#"(workspaceId: "%workspace%", query: "a") { id email }"#),
    (
        "simulateRoleChange",
        r#"(workspaceId: "%workspace%", memberId: "%member%", role: "ADMIN") { gained lost refusals { code field message } }"#,
    ),
    (
        "simulateRoleChange",
        r#"(workspaceId: "%own workspace%", memberId: "%member%", role: "ADMIN") { gained lost refusals { code field message } }"#,
    ),
    (
        "simulateRoleChange",
        r#"(workspaceId: "%own workspace%", memberId: "%own member%", role: "%role%") { gained lost refusals { code field message } }"#,
    ),
    ("workspace", r#"(name: "%name%") { id members { totalCount } invitations { totalCount } }"#),
    ("workspace", r#"(name: "%own name%") { members(role: "%role%") { totalCount nodes { id } } }"#),
    (
        "acceptInvitation",
        r#"(input: { invitationId: "%invitation%" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "acceptOwnershipTransfer",
        r#"(input: { transferId: "%transfer%" }) { transfer { id } userErrors { code field message } }"#,
    ),
    (
        "archiveWorkspace",
        r#"(input: { workspaceId: "%workspace%" }) { workspace { id } userErrors { code field message } }"#,
    ),
    (
        "restoreWorkspace",
        r#"(input: { workspaceId: "%workspace%" }) { workspace { id } userErrors { code field message } }"#,
    ),
    (
        "deleteWorkspace",
        r#"(input: { workspaceId: "%workspace%", confirmName: "lab", removeMembers: true }) { workspaceId userErrors { code field message } }"#,
    ),
    (
        "cancelOwnershipTransfer",
        r#"(input: { organizationId: "%organization%", transferId: "%transfer%" }) { transfer { id } userErrors { code field message } }"#,
    ),
    (
        "cancelOwnershipTransfer",
        r#"(input: { organizationId: "%own organization%", transferId: "%transfer%" }) { transfer { id } userErrors { code field message } }"#,
    ),
    (
        "createWorkspace",
        r#"(input: { organizationId: "%organization%", displayName: "Den" }) { workspace { id } userErrors { code field message } }"#,
    ),
    (
        "createRole",
        r#"(input: { organizationId: "%organization%", name: "Mine", permissions: [] }) { role { id } userErrors { code field message } }"#,
    ),
    (
        "deleteRole",
        r#"(input: { organizationId: "%organization%", roleId: "%role%" }) { role { id } userErrors { code field message } }"#,
    ),
    (
        "deleteRole",
        r#"(input: { organizationId: "%own organization%", roleId: "%role%" }) { role { id } userErrors { code field message } }"#,
    ),
    (
        "deleteRole",
        r#"(input: { organizationId: "%own organization%", roleId: "%own role%", replacement: "%role%" }) { role { id } userErrors { code field message } }"#,
    ),
    (
        "deleteConfigProperty",
        r#"(input: { workspaceId: "%workspace%", key: "YEAR" }) { property { key } userErrors { code field message } }"#,
    ),
    (
        "declineInvitation",
        r#"(input: { invitationId: "%invitation%" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "declineOwnershipTransfer",
        r#"(input: { transferId: "%transfer%" }) { transfer { id } userErrors { code field message } }"#,
    ),
    (
        "describeWorkspace",
        r#"(input: { workspaceId: "%workspace%", description: "Mine" }) { workspace { id } userErrors { code field message } }"#,
    ),
    (
        "describeWorkspace",
        r#"(input: { workspaceId: "%workspace%", description: "Mine", version: 7 }) { current { text version } userErrors { code field message } }"#,
    ),
    (
        "disableUser",
        r#"(input: { organizationId: "%organization%", userId: "%person%" }) { member { role } userErrors { code field message } }"#,
    ),
    (
        "disableUser",
        r#"(input: { organizationId: "%own organization%", userId: "%person%" }) { member { role } userErrors { code field message } }"#,
    ),
    (
        "endMemberSessions",
        r#"(input: { organizationId: "%organization%", userId: "%person%" }) { member { role } userErrors { code field message } }"#,
    ),
    (
        "endMemberSessions",
        r#"(input: { organizationId: "%own organization%", userId: "%person%" }) { member { role } userErrors { code field message } }"#,
    ),
    (
        "enableUser",
        r#"(input: { organizationId: "%organization%", userId: "%person%" }) { member { role } userErrors { code field message } }"#,
    ),
    (
        "enableUser",
        r#"(input: { organizationId: "%own organization%", userId: "%person%" }) { member { role } userErrors { code field message } }"#,
    ),
    (
        "inviteMember",
        r#"(input: { workspaceId: "%workspace%", email: "me@example.org", role: "ADMIN" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "inviteMember",
        r#"(input: { workspaceId: "%own workspace%", userId: "%stranger%", role: "VIEWER" }) { invitation { id email } userErrors { code field message } }"#,
    ),
    (
        "inviteMember",
        r#"(input: { workspaceId: "%own workspace%", email: "me@example.org", role: "%role%" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "inviteMembers",
        r#"(input: { workspaceId: "%workspace%", invitees: [{ email: "me@example.org", role: "ADMIN" }] }) { results { invitation { id } } userErrors { code field message } }"#,
    ),
    (
        "inviteMembers",
        r#"(input: { workspaceId: "%own workspace%", invitees: [{ userId: "%stranger%", role: "VIEWER" }, { email: "me@example.org", role: "%role%" }] }) { results { invitation { id } userErrors { code field message } } userErrors { code field message } }"#,
    ),
    (
        "leaveOrganization",
        r#"(input: { organizationId: "%organization%" }) { endedMemberships { id } userErrors { code field message } }"#,
    ),
    (
        "inviteOrganizationMember",
        r#"(input: { organizationId: "%organization%", email: "me@example.org" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "inviteOrganizationMember",
        r#"(input: { organizationId: "%own organization%", email: "me@example.org", workspaces: [{ workspaceId: "%workspace%", role: "VIEWER" }] }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "inviteOrganizationMember",
        r#"(input: { organizationId: "%own organization%", email: "me@example.org", workspaces: [{ workspaceId: "%own workspace%", role: "%role%" }] }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "resendOrganizationInvitation",
        r#"(input: { organizationId: "%organization%", invitationId: "%invitation%" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "resendOrganizationInvitation",
        r#"(input: { organizationId: "%own organization%", invitationId: "%invitation%" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "revokeOrganizationInvitation",
        r#"(input: { organizationId: "%organization%", invitationId: "%invitation%" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "revokeOrganizationInvitation",
        r#"(input: { organizationId: "%own organization%", invitationId: "%invitation%" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "leaveWorkspace",
        r#"(input: { workspaceId: "%workspace%" }) { member { id } userErrors { code field message } }"#,
    ),
    (
        "removeMember",
        r#"(input: { workspaceId: "%workspace%", memberId: "%member%" }) { member { id } userErrors { code field message } }"#,
    ),
    (
        "removeMember",
        r#"(input: { workspaceId: "%own workspace%", memberId: "%member%" }) { member { id } userErrors { code field message } }"#,
    ),
    (
        "removeOrganizationMember",
        r#"(input: { organizationId: "%organization%", userId: "%person%" }) { member { role } endedMemberships { id } userErrors { code field message } }"#,
    ),
    (
        "removeOrganizationMember",
        r#"(input: { organizationId: "%own organization%", userId: "%person%" }) { member { role } endedMemberships { id } userErrors { code field message } }"#,
    ),
    (
        "resendInvitation",
        r#"(input: { workspaceId: "%workspace%", invitationId: "%invitation%" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "resendInvitation",
        r#"(input: { workspaceId: "%own workspace%", invitationId: "%invitation%" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "resendInvitation",
        r#"(input: { workspaceId: "%own workspace%", invitationId: "%own invitation%", role: "%role%" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "revokeInvitation",
        r#"(input: { workspaceId: "%workspace%", invitationId: "%invitation%" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "revokeInvitation",
        r#"(input: { workspaceId: "%own workspace%", invitationId: "%invitation%" }) { invitation { id } userErrors { code field message } }"#,
    ),
    (
        "setConfigProperty",
        r#"(input: { workspaceId: "%workspace%", key: "YEAR", value: { number: 1 } }) { property { key } userErrors { code field message } }"#,
    ),
    (
        "setConfigProperties",
        r#"(input: { workspaceId: "%workspace%", properties: [{ key: "YEAR", value: { number: 1 } }] }) { properties { key } userErrors { code field message } }"#,
    ),
    (
        "revokeSession",
        r#"(input: { sessionId: "%session%" }) { sessionId userErrors { code field message } }"#,
    ),
    (
        "setDefaultWorkspace",
        r#"(input: { workspaceId: "%workspace%" }) { workspace { id } userErrors { code field message } }"#,
    ),
    (
        "switchWorkspace",
        r#"(input: { workspaceId: "%workspace%" }) { workspace { id } userErrors { code field message } }"#,
    ),
    (
        "transferOwnership",
        r#"(input: { organizationId: "%organization%", userId: "%person%" }) { transfer { id } userErrors { code field message } }"#,
    ),
    (
        "transferOwnership",
        r#"(input: { organizationId: "%own organization%", userId: "%person%" }) { transfer { id } userErrors { code field message } }"#,
    ),
    (
        "updateMemberRole",
        r#"(input: { workspaceId: "%workspace%", memberId: "%member%", role: "ADMIN" }) { member { id } userErrors { code field message } }"#,
    ),
    (
        "updateMemberRole",
        r#"(input: { workspaceId: "%own workspace%", memberId: "%member%", role: "ADMIN" }) { member { id } userErrors { code field message } }"#,
    ),
    (
        "updateMemberRole",
        r#"(input: { workspaceId: "%own workspace%", memberId: "%own member%", role: "%role%" }) { member { id } userErrors { code field message } }"#,
    ),
    (
        "updateOrganization",
        r#"(input: { organizationId: "%organization%", name: "Mine" }) { organization { id } userErrors { code field message } }"#,
    ),
    (
        "updateOrganizationPolicy",
        r#"(input: { organizationId: "%organization%", allowReveal: true }) { organization { id } userErrors { code field message } }"#,
    ),
    (
        "configureSingleSignOn",
        r#"(input: { organizationId: "%organization%", issuer: "https://login.invalid", clientId: "x", clientSecret: "y" }) { singleSignOn { issuer } userErrors { code field message } }"#,
    ),
    (
        "removeSingleSignOn",
        r#"(input: { organizationId: "%organization%" }) { organizationId userErrors { code field message } }"#,
    ),
    (
        "addDomain",
        r#"(input: { organizationId: "%organization%", domain: "mine.invalid" }) { domain { domain } userErrors { code field message } }"#,
    ),
    (
        "verifyDomain",
        r#"(input: { organizationId: "%organization%", domain: "mine.invalid" }) { domain { domain } userErrors { code field message } }"#,
    ),
    (
        "removeDomain",
        r#"(input: { organizationId: "%organization%", domain: "mine.invalid" }) { removedDomain userErrors { code field message } }"#,
    ),
    (
        "updateRole",
        r#"(input: { organizationId: "%organization%", roleId: "%role%", name: "Mine" }) { role { id } userErrors { code field message } }"#,
    ),
    (
        "updateRole",
        r#"(input: { organizationId: "%own organization%", roleId: "%role%", name: "Mine" }) { role { id } userErrors { code field message } }"#,
    ),
    (
        "updateOrganizationMember",
        r#"(input: { organizationId: "%organization%", userId: "%person%", role: ADMIN }) { member { role } userErrors { code field message } }"#,
    ),
    (
        "updateOrganizationMember",
        r#"(input: { organizationId: "%own organization%", userId: "%person%", role: ADMIN }) { member { role } userErrors { code field message } }"#,
    ),
    (
        "updateWorkspace",
        r#"(input: { workspaceId: "%workspace%", displayName: "Mine" }) { workspace { id } userErrors { code field message } }"#,
    ),
    (
        "updateCredential",
        r#"(input: { workspaceId: "%workspace%", credentialId: "%credential%", name: "Mine" }) { credential { id name } userErrors { code field message } }"#,
    ),
    (
        "updateCredential",
        r#"(input: { workspaceId: "%workspace%", credentialId: "%borrowed%", name: "Mine" }) { credential { id name } userErrors { code field message } }"#,
    ),
    (
        "deleteCredential",
        r#"(input: { workspaceId: "%workspace%", credentialId: "%credential%", force: true }) { deletedCredentialId userErrors { code field message } }"#,
    ),
    (
        "deleteCredential",
        r#"(input: { workspaceId: "%workspace%", credentialId: "%borrowed%", force: true }) { deletedCredentialId userErrors { code field message } }"#,
    ),
    (
        "revealCredential",
        r#"(input: { workspaceId: "%workspace%", credentialId: "%credential%" }) { values { value } userErrors { code field message } }"#,
    ),
    (
        "revealCredential",
        r#"(input: { workspaceId: "%workspace%", credentialId: "%borrowed%" }) { values { value } userErrors { code field message } }"#,
    ),
    (
        "shareCredential",
        r#"(input: { workspaceId: "%workspace%", credentialId: "%credential%", targetWorkspaceId: "%own workspace%" }) { share { id } userErrors { code field message } }"#,
    ),
    (
        "shareCredential",
        r#"(input: { workspaceId: "%workspace%", credentialId: "%borrowed%", targetWorkspaceId: "%own workspace%" }) { share { id } userErrors { code field message } }"#,
    ),
    (
        "unshareCredential",
        r#"(input: { workspaceId: "%workspace%", shareId: "%share%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "unshareCredential",
        r#"(input: { workspaceId: "%workspace%", shareId: "%offer%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "acceptCredentialShare",
        r#"(input: { workspaceId: "%workspace%", shareId: "%share%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "acceptCredentialShare",
        r#"(input: { workspaceId: "%workspace%", shareId: "%offer%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "declineCredentialShare",
        r#"(input: { workspaceId: "%workspace%", shareId: "%share%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "declineCredentialShare",
        r#"(input: { workspaceId: "%workspace%", shareId: "%offer%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "declineCredentialShare",
        r#"(input: { workspaceId: "%workspace%", shareId: "%borrowed%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "updateCredential",
        r#"(input: { workspaceId: "%own workspace%", credentialId: "%credential%", name: "Mine" }) { credential { id name } userErrors { code field message } }"#,
    ),
    (
        "updateCredential",
        r#"(input: { workspaceId: "%own workspace%", credentialId: "%borrowed%", name: "Mine" }) { credential { id name } userErrors { code field message } }"#,
    ),
    (
        "deleteCredential",
        r#"(input: { workspaceId: "%own workspace%", credentialId: "%credential%", force: true }) { deletedCredentialId userErrors { code field message } }"#,
    ),
    (
        "deleteCredential",
        r#"(input: { workspaceId: "%own workspace%", credentialId: "%borrowed%", force: true }) { deletedCredentialId userErrors { code field message } }"#,
    ),
    (
        "revealCredential",
        r#"(input: { workspaceId: "%own workspace%", credentialId: "%credential%" }) { values { value } userErrors { code field message } }"#,
    ),
    (
        "revealCredential",
        r#"(input: { workspaceId: "%own workspace%", credentialId: "%borrowed%" }) { values { value } userErrors { code field message } }"#,
    ),
    (
        "shareCredential",
        r#"(input: { workspaceId: "%own workspace%", credentialId: "%credential%", targetWorkspaceId: "%own workspace%" }) { share { id } userErrors { code field message } }"#,
    ),
    (
        "shareCredential",
        r#"(input: { workspaceId: "%own workspace%", credentialId: "%borrowed%", targetWorkspaceId: "%own workspace%" }) { share { id } userErrors { code field message } }"#,
    ),
    (
        "unshareCredential",
        r#"(input: { workspaceId: "%own workspace%", shareId: "%share%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "unshareCredential",
        r#"(input: { workspaceId: "%own workspace%", shareId: "%offer%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "acceptCredentialShare",
        r#"(input: { workspaceId: "%own workspace%", shareId: "%share%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "acceptCredentialShare",
        r#"(input: { workspaceId: "%own workspace%", shareId: "%offer%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "declineCredentialShare",
        r#"(input: { workspaceId: "%own workspace%", shareId: "%share%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "declineCredentialShare",
        r#"(input: { workspaceId: "%own workspace%", shareId: "%offer%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "declineCredentialShare",
        r#"(input: { workspaceId: "%own workspace%", shareId: "%borrowed%" }) { share { id name } userErrors { code field message } }"#,
    ),
    (
        "createCredential",
        r#"(input: { workspaceId: "%workspace%", type: CUSTOM, name: "Mine", fields: [{ code: "token", value: "mine" }] }) { credential { id } userErrors { code field message } }"#,
    ),
    (
        "shareCredential",
        r#"(input: { workspaceId: "%own workspace%", credentialId: "%own credential%", targetWorkspaceId: "%workspace%" }) { share { id target { name } } userErrors { code field message } }"#,
    ),
    (
        "useCredential",
        r#"(input: { workspaceId: "%workspace%", slug: "store", purpose: "mine" }) { values { value } userErrors { code field message } }"#,
    ),
    (
        "useCredential",
        r#"(input: { workspaceId: "%own workspace%", slug: "%name%/store", purpose: "mine" }) { values { value } userErrors { code field message } }"#,
    ),
    (
        "testCredential",
        r#"(input: { workspaceId: "%workspace%", credentialId: "%credential%" }) { userErrors { code field message } }"#,
    ),
    (
        "testCredential",
        r#"(input: { workspaceId: "%workspace%", credentialId: "%borrowed%" }) { userErrors { code field message } }"#,
    ),
    (
        "testCredential",
        r#"(input: { workspaceId: "%own workspace%", credentialId: "%credential%" }) { userErrors { code field message } }"#,
    ),
    (
        "testCredential",
        r#"(input: { workspaceId: "%own workspace%", credentialId: "%borrowed%" }) { userErrors { code field message } }"#,
    ),
    (
        "updateServiceAccount",
        r#"(input: { workspaceId: "%workspace%", serviceAccountId: "%account%", description: "mine" }) { serviceAccount { id name } userErrors { code field message } }"#,
    ),
    (
        "rotateServiceAccountSecret",
        r#"(input: { workspaceId: "%workspace%", serviceAccountId: "%account%" }) { serviceAccount { id name } userErrors { code field message } }"#,
    ),
    (
        "deleteServiceAccount",
        r#"(input: { workspaceId: "%workspace%", serviceAccountId: "%account%" }) { deletedServiceAccountId userErrors { code field message } }"#,
    ),
    (
        "usage",
        r#"(workspaceId: "%workspace%", metric: CREDITS, from: "2026-01-01", to: "2026-01-02") { used }"#,
    ),
    (
        "spendCredits",
        r#"(input: { workspaceId: "%workspace%", amount: 1, purpose: "Mine" }) { quota { used } userErrors { code field message } }"#,
    ),
    (
        "adjustUsage",
        r#"(input: { workspaceId: "%workspace%", metric: ITEMS, by: 1 }) { quota { used } userErrors { code field message } }"#,
    ),
    (
        "setQuota",
        r#"(input: { organizationId: "%organization%", metric: ITEMS, limit: 1 }) { quota { used } userErrors { code field message } }"#,
    ),
    (
        "setQuota",
        r#"(input: { organizationId: "%own organization%", workspaceId: "%workspace%", metric: ITEMS, limit: 1 }) { quota { used } userErrors { code field message } }"#,
    ),
    ("quotaWarning", r#"(workspaceId: "%workspace%") { cursor }"#),
    (
        "updateWebhook",
        r#"(input: { workspaceId: "%workspace%", webhookId: "%webhook%", isEnabled: false }) { webhook { id name } userErrors { code field message } }"#,
    ),
    (
        "rotateWebhookSecret",
        r#"(input: { workspaceId: "%workspace%", webhookId: "%webhook%" }) { webhook { id name } userErrors { code field message } }"#,
    ),
    (
        "deleteWebhook",
        r#"(input: { workspaceId: "%workspace%", webhookId: "%webhook%" }) { deletedWebhookId userErrors { code field message } }"#,
    ),
    (
        "sendTestWebhook",
        r#"(input: { workspaceId: "%workspace%", webhookId: "%webhook%" }) { delivery { eventType } userErrors { code field message } }"#,
    ),
    (
        "replayWebhookDelivery",
        r#"(input: { workspaceId: "%workspace%", deliveryId: "%delivery%" }) { delivery { id } userErrors { code field message } }"#,
    ),
    (
        "updateWebhook",
        r#"(input: { workspaceId: "%own workspace%", webhookId: "%webhook%", isEnabled: false }) { webhook { id name } userErrors { code field message } }"#,
    ),
    (
        "rotateWebhookSecret",
        r#"(input: { workspaceId: "%own workspace%", webhookId: "%webhook%" }) { webhook { id name } userErrors { code field message } }"#,
    ),
    (
        "deleteWebhook",
        r#"(input: { workspaceId: "%own workspace%", webhookId: "%webhook%" }) { deletedWebhookId userErrors { code field message } }"#,
    ),
    (
        "sendTestWebhook",
        r#"(input: { workspaceId: "%own workspace%", webhookId: "%webhook%" }) { delivery { eventType } userErrors { code field message } }"#,
    ),
    (
        "replayWebhookDelivery",
        r#"(input: { workspaceId: "%own workspace%", deliveryId: "%delivery%" }) { delivery { id } userErrors { code field message } }"#,
    ),
    (
        "createWebhook",
        r#"(input: { workspaceId: "%workspace%", name: "Mine", url: "https://hooks.example.org/", events: [WORKSPACE_CHANGED] }) { webhook { name } userErrors { code field message } }"#,
    ),
    (
        "rotateApiKey",
        r#"(input: { workspaceId: "%workspace%", apiKeyId: "%key%" }) { apiKey { id name } userErrors { code field message } }"#,
    ),
    (
        "revokeApiKey",
        r#"(input: { workspaceId: "%workspace%", apiKeyId: "%key%" }) { apiKey { id name } userErrors { code field message } }"#,
    ),
    (
        "createApiKey",
        r#"(input: { workspaceId: "%workspace%", serviceAccountId: "%account%", name: "Mine", permissions: [] }) { apiKey { prefix } userErrors { code field message } }"#,
    ),
    (
        "updateServiceAccount",
        r#"(input: { workspaceId: "%own workspace%", serviceAccountId: "%account%", description: "mine" }) { serviceAccount { id name } userErrors { code field message } }"#,
    ),
    (
        "rotateServiceAccountSecret",
        r#"(input: { workspaceId: "%own workspace%", serviceAccountId: "%account%" }) { serviceAccount { id name } userErrors { code field message } }"#,
    ),
    (
        "deleteServiceAccount",
        r#"(input: { workspaceId: "%own workspace%", serviceAccountId: "%account%" }) { deletedServiceAccountId userErrors { code field message } }"#,
    ),
    (
        "rotateApiKey",
        r#"(input: { workspaceId: "%own workspace%", apiKeyId: "%key%" }) { apiKey { id name } userErrors { code field message } }"#,
    ),
    (
        "revokeApiKey",
        r#"(input: { workspaceId: "%own workspace%", apiKeyId: "%key%" }) { apiKey { id name } userErrors { code field message } }"#,
    ),
    (
        "createApiKey",
        r#"(input: { workspaceId: "%own workspace%", serviceAccountId: "%account%", name: "Mine", permissions: [] }) { apiKey { prefix } userErrors { code field message } }"#,
    ),
    (
        "createServiceAccount",
        r#"(input: { workspaceId: "%workspace%", name: "Mine", role: "VIEWER" }) { serviceAccount { name } userErrors { code field message } }"#,
    ),
    (
        "createServiceAccount",
        r#"(input: { workspaceId: "%own workspace%", name: "Mine", role: "%role%" }) { serviceAccount { name } userErrors { code field message } }"#,
    ),
    (
        "updateServiceAccount",
        r#"(input: { workspaceId: "%own workspace%", serviceAccountId: "%own account%", role: "%role%" }) { serviceAccount { name } userErrors { code field message } }"#,
    ),
    (
        "rotateDefaultApiKey",
        r#"(input: { workspaceId: "%workspace%" }) { apiKey { id } userErrors { code field message } }"#,
    ),
    (
        "issueWorkspaceToken",
        r#"(input: { workspaceId: "%workspace%" }) { expiresAt userErrors { code field message } }"#,
    ),
    ("credentialChanged", r#"(workspaceId: "%workspace%") { cursor credential { name } }"#),
    ("auditLogChanged", r#"(workspaceId: "%workspace%") { cursor event { action } }"#),
    ("organizationAuditLogChanged", r#"(organizationId: "%organization%") { cursor event { action } }"#),
    ("workspaceChanged", r#"(workspaceId: "%workspace%") { cursor change workspace { id } }"#),
    ("invitationStatusChanged", r#"(workspaceId: "%workspace%") { cursor invitation { email } }"#),
];

/// The parts of an operation between the `%`: text and placeholders in turn.
fn placeholders(rest: &str) -> impl Iterator<Item = &str> {
    rest.split('%').skip(1).step_by(2)
}

/// Every argument and input field of a root field that takes an id.
fn id_places(field: &RootField) -> Vec<String> {
    fn look(
        places: &mut Vec<String>,
        field: &str,
        inputs: &[async_graphql::Positioned<InputValueDefinition>],
    ) {
        fn named(of: &Type) -> &str {
            match &of.base {
                BaseType::Named(name) => name.as_str(),
                BaseType::List(items) => named(items),
            }
        }
        for input in inputs {
            match named(&input.node.ty.node) {
                "ID" => places.push(format!("{field}.{}", input.node.name.node)),
                name => {
                    let of = types().into_iter().find(|of| of.name.node == name).map(|of| of.kind);
                    if let Some(TypeKind::InputObject(of)) = of {
                        look(places, field, &of.fields);
                    }
                }
            }
        }
    }
    let mut places = Vec::new();
    look(&mut places, field.name(), &field.definition.arguments);
    places
}

#[test]
fn every_place_that_takes_an_id_is_tried_here() {
    let tried: BTreeSet<String> = OPERATIONS
        .iter()
        .flat_map(|(field, rest)| {
            let mut parts = rest.split('%');
            let mut before = parts.next().unwrap_or_default().to_owned();
            let mut tried = Vec::new();
            while let (Some(name), Some(after)) = (parts.next(), parts.next()) {
                let place =
                    before.rsplit(": ").next().filter(|between| between.trim_matches(['"', '[']).is_empty());
                let argument = before.rsplit(": ").nth(1).and_then(|text| text.rsplit([' ', '(']).next());
                if let (Some(_), Some(argument), false) = (place, argument, name.starts_with("own ")) {
                    tried.push(format!("{field}.{argument}"));
                }
                before = after.to_owned();
            }
            tried
        })
        .collect();
    let wanted: BTreeSet<String> = root_fields().iter().flat_map(id_places).collect();
    assert!(wanted.len() > 25, "the schema was not read: {wanted:?}");
    let missing: Vec<_> = wanted.difference(&tried).collect();
    assert!(missing.is_empty(), "write operations in OPERATIONS that give a foreign id to: {missing:#?}");
}

/// Ids by the names of their placeholders.
type Ids = BTreeMap<&'static str, String>;

/// As well-formed, as long and as old, and of nothing.
fn unknown(ids: &Ids) -> Ids {
    let other = |id: &String| {
        let last = if id.ends_with('a') { 'b' } else { 'a' };
        format!("{}{last}", &id[..id.len() - 1])
    };
    ids.iter().map(|(name, id)| (*name, other(id))).collect()
}

/// The answer without what differs from request to request, and with the placeholders in the place of the ids.
async fn answer(actor: &Actor, document: &str, ids: &Ids) -> String {
    let masked = |mut text: String| {
        for (name, id) in ids {
            text = text.replace(id.as_str(), &format!("%{name}%"));
        }
        text
    };
    let without_request_id = |body: &str, parsed: &Value| {
        let errors = parsed["errors"].as_array().into_iter().flatten();
        errors
            .filter_map(|error| error["extensions"]["requestId"].as_str())
            .fold(body.to_owned(), |body, id| body.replace(id, "%request%"))
    };
    if document.starts_with("subscription") {
        let mut subscription = actor.subscribe(document, json!({})).await;
        let Answer { body, .. } = subscription.next().await;
        let end = subscription.ended().await;
        return masked(format!("{}\n{end:?}", without_request_id(&body.to_string(), &body)));
    }
    let request = Request::post(format!("{}/graphql", actor.url))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", actor.access_token.as_deref().unwrap()))
        .body(Bytes::from(json!({ "query": document }).to_string()));
    let page = actor.http(request.unwrap()).await;
    let parsed: Value = serde_json::from_slice(&page.body).unwrap();
    let headers: BTreeMap<_, _> = page
        .headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
        .collect();
    masked(format!("{}\n{headers:?}\n{}", page.status, without_request_id(page.text(), &parsed)))
}

/// Has somebody try every operation with the ids of others and with ids of nothing. Operations that ask for an id which
/// `foreign` lacks are left out; returns how many were tried.
async fn compare(app: &App, actor: &Actor, own: &Ids, foreign: &Ids) -> usize {
    let (unknown, mut tried, mut wrong) = (unknown(foreign), 0, Vec::new());
    let fields = root_fields();
    for (name, rest) in OPERATIONS {
        let known = |name: &str| match name.strip_prefix("own ") {
            Some(name) => own.contains_key(name),
            None => foreign.contains_key(name),
        };
        if !placeholders(rest).all(known) {
            continue;
        }
        tried += 1;
        let operation = fields.iter().find(|field| field.name() == *name).unwrap().operation;
        let document = |ids: &Ids| {
            let mut document = format!("{operation} {{ {name}{rest} }}");
            for (prefix, ids) in [("own ", own), ("", ids)] {
                for (name, id) in ids {
                    document = document.replace(&format!("%{prefix}{name}%"), id);
                }
            }
            document
        };
        let (theirs, nobodys) = (document(foreign), document(&unknown));
        let told = (answer(actor, &theirs, foreign).await, answer(actor, &nobodys, &unknown).await);
        // The mailer and the event log look around every second: a difference that is real is there each time.
        let mut cost = (0, 0);
        for _ in 0..3 {
            cost = (
                app.count(async || drop(answer(actor, &theirs, foreign).await)).await,
                app.count(async || drop(answer(actor, &nobodys, &unknown).await)).await,
            );
            if cost.0 == cost.1 {
                break;
            }
        }
        if told.0 != told.1 {
            wrong.push(format!("{name}{rest}\n  of others: {}\n  of nobody: {}", told.0, told.1));
        }
        if cost.0 != cost.1 {
            wrong.push(format!(
                "{name}{rest} takes {} statements for others' and {} for nobody's",
                cost.0, cost.1
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    tried
}

/// A workspace with a pending invitation in it, a credential that it lends and one that it borrows, and somebody who
/// administers it.
struct Tenant {
    workspace: Workspace,
    ids: Ids,
}

impl Tenant {
    /// `partner` is another workspace of the organization, whose admin sees both.
    async fn furnish(app: &App, workspace: Workspace, partner: &Workspace, guest: &str) -> Self {
        let admin = workspace.admin.clone();
        let (owned, here) = (&partner.admin, &workspace.id);
        let credential = custom(&admin, &workspace, "Store").await;
        let share = lend(owned, &workspace, &credential, &partner.id).await;
        let [borrowed, offered] =
            [custom(owned, partner, "Depot").await, custom(owned, partner, "Offered depot").await];
        let borrowed = lend(owned, partner, &borrowed, here).await.replace("shr_", "bor_");
        let offer = lend(owned, partner, &offered, here).await;
        app.sql(&format!(
            "UPDATE credential_shares SET status = 'PENDING' WHERE id = {}",
            app.literal(&offer)
        ))
        .await;
        let (account, _) = crate::machines::account(&admin, &workspace, "Nightly", "VIEWER").await;
        let (key, _) = crate::machines::key(&admin, &workspace, &["FILE_READ"]).await;
        let (webhook, delivery) = crate::webhooks::furnished(&admin, &workspace).await;
        let invited = admin.invite(&workspace, guest, "EDITOR").await.ok();
        app.mail_to(guest).await;
        let own = format!(
            r#"{{ workspace(name: "{}") {{ members(first: 1) {{ nodes {{ id }} }} }}
                 viewer {{ sessions(first: 1) {{ nodes {{ id }} }} }} }}"#,
            workspace.name
        );
        let own = admin.query(&own, json!({})).await.ok();
        let ids = Ids::from([
            ("workspace", workspace.id.clone()),
            ("name", workspace.name.clone()),
            ("credential", credential),
            ("share", share),
            ("borrowed", borrowed),
            ("offer", offer),
            ("account", account),
            ("key", key),
            ("webhook", webhook),
            ("delivery", delivery),
            ("member", own.text("/workspace/members/nodes/0/id").to_owned()),
            ("invitation", invited.text("/inviteMember/invitation/id").to_owned()),
            ("session", own.text("/viewer/sessions/nodes/0/id").to_owned()),
        ]);
        Self { workspace, ids }
    }

    /// What its admin sees of it.
    async fn seen(&self) -> Value {
        let document = format!(
            r#"{{ workspace(name: "{}") {{ displayName description updatedAt
                    members {{ nodes {{ id role {{ key }} }} }}
                    credentials {{ nodes {{ id name updatedAt shares {{ nodes {{ id status }} }} }} }}
                    serviceAccounts {{ nodes {{ id description updatedAt secretPrefix }} }}
                    apiKeys(includeEnded: true) {{ nodes {{ id status prefix }} }}
                    webhooks {{ nodes {{ id status updatedAt secretCreatedAt deliveries {{ totalCount }} }} }}
                    credentialOffers {{ nodes {{ id status }} }} credentialUsages {{ totalCount }}
                    invitations {{ nodes {{ id status expiresAt role {{ key }} }} }} }}
                 viewer {{ sessions {{ totalCount }} }} }}"#,
            self.workspace.name
        );
        self.workspace.admin.query(&document, json!({})).await.ok().body
    }
}

/// Two organizations that have nothing to do with each other: that of whoever set the instance up, and Olga's, whose
/// organization has the same id as she.
async fn two_tenants(app: &App) -> (Tenant, Tenant) {
    let ada = app.set_up().await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let partner = app.default_workspace();
    let mut own = Tenant::furnish(app, ada.workspace("Tower").await, partner, "ivan@example.org").await;
    let organization = ada.organization().await;
    own.ids.insert("role", crate::roles::made(&ada, &organization, "Keeper", &[]).await);
    own.ids.insert("organization", organization);
    let partner = olga.workspace("Partner").await;
    let mut foreign = Tenant::furnish(app, olga.workspace("Lab").await, &partner, "ivy@example.org").await;
    let role = crate::roles::made(&olga, &olga.organization().await, "Warden", &[]).await;
    let transfer = "otr_0193a1b2c3d47e8f9012345678901234";
    app.sql(&format!(
        "INSERT INTO ownership_transfers (id, organization_id, from_user_id, to_user_id, status, expires_at, created_at)
         SELECT {}, organization_id, user_id, user_id, 'PENDING', '2999-01-01 00:00:00+00:00', created_at
         FROM organization_members WHERE user_id = {}",
        app.literal(transfer),
        app.literal(&olga.id)
    ))
    .await;
    foreign.ids.extend([
        ("transfer", transfer.to_owned()),
        ("person", olga.id.clone()),
        ("stranger", olga.id.clone()),
        ("organization", olga.id.replace("usr_", "org_")),
        ("slug", olga.id.replace("usr_", "of-")),
        ("role", role),
    ]);
    (own, foreign)
}

async fn a_stranger_s_answers_do_not_tell_a_foreign_id_from_an_unknown_one(app: App) {
    let (own, foreign) = two_tenants(&app).await;
    let before = foreign.seen().await;
    let tried = compare(&app, &own.workspace.admin, &own.ids, &foreign.ids).await;
    assert_eq!(tried, OPERATIONS.len(), "some operation asks for an id that this test does not know");
    assert_eq!(foreign.seen().await, before, "nothing of the other tenant has changed");
}

async fn another_workspace_of_the_organization_is_as_foreign(app: App) {
    let ada = app.set_up().await;
    let (lab, attic) = (ada.workspace("Lab").await, ada.workspace("Attic").await);
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let milo = app.member(&attic, SystemRole::Admin, "Milo").await;
    let partner = app.default_workspace();
    let (lab, attic) = (Workspace { admin: adam.clone(), ..lab }, Workspace { admin: milo.clone(), ..attic });
    let own = Tenant::furnish(&app, lab, partner, "ivan@example.org").await;
    let mut foreign = Tenant::furnish(&app, attic, partner, "ivy@example.org").await;
    foreign.ids.insert("person", milo.id.clone());
    let before = foreign.seen().await;
    let tried = compare(&app, &adam, &own.ids, &foreign.ids).await;
    // The others are about organizations, and these two belong to the same.
    assert!(tried >= 34, "only {tried} operations were tried");
    assert_eq!(foreign.seen().await, before, "nothing of the other workspace has changed");
}

async fn an_address_with_an_account_elsewhere_is_invited_like_any_other(app: App) {
    let (own, foreign) = two_tenants(&app).await;
    let ada = &own.workspace.admin;
    for name in ["Mia", "Max"] {
        app.member(&foreign.workspace, SystemRole::Viewer, name).await;
    }
    let input = |email: &str| json!({ "workspaceId": own.workspace.id, "email": email, "role": "VIEWER" });
    let told = async |email: &str| {
        let selection = "invitation { email status delivery role { key } inviter { email } respondedAt }";
        let answer = ada.mutate("inviteMember", input(email), selection).await.ok();
        let mail = app.mail_to(email).await;
        (answer.body.to_string().replace(email, "%email%"), mail.subject())
    };
    let people = ["olga@example.org", "mia@example.org", "max@example.org"];
    let nobody = ["oleg@example.org", "mab@example.org", "moe@example.org"];
    // The mailer works beside the request, so the fewest statements of three tell what the request itself takes.
    let mut costs = (u64::MAX, u64::MAX);
    for (somebody, nobody) in people.into_iter().zip(nobody) {
        assert_eq!(told(somebody).await, told(nobody).await, "{somebody} has an account, {nobody} has none");
    }
    let turn = Cell::new(0);
    for (emails, cost) in [(people, &mut costs.0), (nobody, &mut costs.1)] {
        *cost = app
            .count(async || {
                let email = emails[turn.replace(turn.get() + 1) % 3];
                ada.mutate("inviteMember", input(email), "invitation { id }")
                    .await
                    .refused("ALREADY_INVITED");
            })
            .await;
    }
    assert_eq!(costs.0, costs.1, "statements for an address with and without an account");
}

/// The ids of a list of the caller's, from both sides of a cursor.
async fn around(actor: &Actor, list: &str, cursor: &str) -> (Vec<String>, Vec<String>) {
    let page = async |window: &str| {
        // `viewer.sessions` and the like are two levels, the lists of a workspace as well.
        let (parent, list) = list.split_once('.').unwrap();
        let document = format!(r#"{{ {parent} {{ {list}({window}: "{cursor}") {{ nodes {{ id }} }} }} }}"#);
        let answer = actor.query(&document, json!({})).await.ok();
        let parent = parent.split('(').next().unwrap();
        let nodes = answer.data(&format!("/{parent}/{list}/nodes")).as_array().unwrap().clone();
        nodes.iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    (page("first: 9, before").await, page("first: 9, after").await)
}

async fn a_cursor_of_another_tenant_is_a_mere_position(app: App) {
    let ada = app.set_up().await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    // Made in turn, so that what is Olga's stands between what is Ada's.
    let tower = ada.workspace("Tower").await;
    let first = ada.invite(&tower, "ivan@example.org", "VIEWER").await.ok();
    let lab = olga.workspace("Lab").await;
    olga.invite(&lab, "ivy@example.org", "VIEWER").await.ok();
    let keep = ada.workspace("Keep").await;
    let second = ada.invite(&tower, "igor@example.org", "VIEWER").await.ok();

    let cursors = format!(
        r#"{{ workspace(name: "{}") {{ members {{ edges {{ cursor }} }} invitations {{ edges {{ cursor }} }} }}
             viewer {{ workspaces {{ edges {{ cursor }} }} sessions {{ edges {{ cursor }} }} }} }}"#,
        lab.name
    );
    let cursors = olga.query(&cursors, json!({})).await.ok();
    let invitation = |answer: &Answer| vec![answer.text("/inviteMember/invitation/id").to_owned()];
    let of_tower = format!(r#"workspace(name: "{}").invitations"#, tower.name);
    let seen = around(&ada, &of_tower, cursors.text("/workspace/invitations/edges/0/cursor")).await;
    assert_eq!(seen, (invitation(&first), invitation(&second)));
    let seen = around(&ada, "viewer.workspaces", cursors.text("/viewer/workspaces/edges/0/cursor")).await;
    assert_eq!(seen, (vec![app.default_workspace().id.clone(), tower.id.clone()], vec![keep.id]));
    let of_tower = format!(r#"workspace(name: "{}").members"#, tower.name);
    let seen = around(&ada, &of_tower, cursors.text("/workspace/members/edges/0/cursor")).await;
    assert_eq!((seen.0.len(), seen.1.len()), (1, 0), "Ada was the only member before Olga joined hers");
    let seen = around(&ada, "viewer.sessions", cursors.text("/viewer/sessions/edges/0/cursor")).await;
    assert_eq!((seen.0.len(), seen.1.len()), (1, 0), "Ada signed in before Olga did");
}

async fn a_cursor_of_another_list_is_refused(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    ada.invite(&lab, "ivan@example.org", "VIEWER").await.ok();
    let store = custom(&ada, &lab, "Store").await;
    crate::credential_nets::using(&ada, &lab, "store").await.ok();
    let share = lend(&ada, &lab, &store, &app.default_workspace().id).await;
    let offer = custom(&ada, app.default_workspace(), "Offer").await;
    let offer = lend(&ada, app.default_workspace(), &offer, &lab.id).await;
    app.sql(&format!("UPDATE credential_shares SET status = 'PENDING' WHERE id = {}", app.literal(&offer)))
        .await;
    let of_lab = format!(r#"workspace(name: "{}")"#, lab.name);
    let of_store = format!(r#"credential(workspaceId: "{}", slug: "store")"#, lab.id);
    let lists = [
        (of_lab.as_str(), "workspace", "credentials"),
        (of_lab.as_str(), "workspace", "credentialUsages"),
        (of_lab.as_str(), "workspace", "auditLog"),
        (of_store.as_str(), "credential", "shares"),
        (of_lab.as_str(), "workspace", "members"),
        (of_lab.as_str(), "workspace", "invitations"),
        ("viewer", "viewer", "workspaces"),
        ("viewer", "viewer", "sessions"),
    ];
    let mut cursors = Vec::new();
    for (parent, key, list) in lists {
        let document = format!("{{ {parent} {{ {list} {{ pageInfo {{ endCursor }} }} }} }}");
        let answer = ada.query(&document, json!({})).await.ok();
        cursors.push(answer.text(&format!("/{key}/{list}/pageInfo/endCursor")).to_owned());
    }
    // Two lists of loans: a cursor of the one is a position in the other.
    let offers = "credentialOffers { pageInfo { endCursor } }";
    let offers = ada.query(&format!("{{ {of_lab} {{ {offers} }} }}"), json!({})).await.ok();
    let cursor = offers.text("/workspace/credentialOffers/pageInfo/endCursor");
    let shares = format!(r#"{{ {of_store} {{ shares(before: "{cursor}") {{ nodes {{ id }} }} }} }}"#);
    let shares = ada.query(&shares, json!({})).await.ok();
    assert_eq!(shares.data("/credential/shares/nodes"), &json!([{ "id": share }]));
    for (place, (parent, _, list)) in lists.into_iter().enumerate() {
        for (of, cursor) in cursors.iter().enumerate() {
            let document = format!(r#"{{ {parent} {{ {list}(after: "{cursor}") {{ nodes {{ id }} }} }} }}"#);
            let answer = ada.query(&document, json!({})).await;
            if of == place {
                answer.ok();
            } else {
                answer.denied("BAD_USER_INPUT");
            }
        }
    }
}

async fn events_stay_with_their_tenant(app: App) {
    let (own, foreign) = two_tenants(&app).await;
    let (ada, olga) = (own.workspace.admin.clone(), foreign.workspace.admin.clone());
    let workspace = "subscription($id: ID!, $after: String) {
        invitationStatusChanged(workspaceId: $id, after: $after) { cursor status invitation { id email } } }";
    let mine = "subscription($after: String) {
        viewerInvitationChanged(after: $after) { cursor status invitation { id } } }";
    // That a mail was taken is told as well, and here before anybody listens.
    app.mailed().await;
    let mut theirs = olga.subscribe(workspace, json!({ "id": foreign.workspace.id })).await;
    let invited = olga.invite(&foreign.workspace, "eve@example.org", "VIEWER").await.ok();
    let told = theirs.next().await.ok();
    assert_eq!(told.data("/invitationStatusChanged/invitation/email"), "eve@example.org");
    let cursor = told.text("/invitationStatusChanged/cursor");

    // From now on, and from an event on that was the other tenant's.
    let id = &own.workspace.id;
    let mut heard = [
        ada.subscribe(workspace, json!({ "id": id })).await,
        ada.subscribe(workspace, json!({ "id": id, "after": cursor })).await,
        ada.subscribe(mine, json!({})).await,
        ada.subscribe(mine, json!({ "after": cursor })).await,
    ];
    app.mail_to("eve@example.org").await;
    let input = json!({
        "workspaceId": foreign.workspace.id,
        "invitationId": invited.data("/inviteMember/invitation/id"),
    });
    olga.mutate("resendInvitation", input.clone(), "").await.ok();
    olga.mutate("revokeInvitation", input, "").await.ok();
    let told = |event: &Answer| event.data("/invitationStatusChanged/status") == "REVOKED";
    theirs.until(told).await;
    for subscription in &mut heard {
        subscription.no_event_for(250).await;
    }

    // They do listen.
    ada.invite(&own.workspace, "eva@example.org", "VIEWER").await.ok();
    for subscription in &mut heard[..2] {
        let told = subscription.next().await.ok();
        assert_eq!(told.data("/invitationStatusChanged/invitation/email"), "eva@example.org");
    }
    olga.invite(&foreign.workspace, &ada.email, "VIEWER").await.ok();
    for subscription in &mut heard[2..] {
        subscription.next().await.ok();
    }
}
