//! One entry: who did what, to what, and what it was before and after. Knows what is too long to be repeated; what is
//! secret the operations leave out.

use std::fmt;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    access::policy::words,
    ids::{OrganizationId, UserId, WorkspaceId},
};

words! {
    /// What kind of actor did it.
    ActorKind {
        /// A person.
        Person = "PERSON",
        /// A service account of a workspace.
        ServiceAccount = "SERVICE_ACCOUNT",
        /// An API key.
        ApiKey = "API_KEY",
        /// Whoever runs the instance, on its command line.
        Operator = "OPERATOR",
        /// The service itself.
        System = "SYSTEM",
    }
}

words! {
    /// What was done: the name of the mutation, or an operator's command.
    Action {
        /// The instance was set up.
        SetUp = "setUp",
        /// An account was made by way of an invitation, which it accepted.
        Register = "register",
        /// An organization was made.
        CreateOrganization = "createOrganization",
        /// An organization got another name.
        UpdateOrganization = "updateOrganization",
        /// An organization's policy changed.
        UpdateOrganizationPolicy = "updateOrganizationPolicy",
        /// A role was made.
        CreateRole = "createRole",
        /// A role changed.
        UpdateRole = "updateRole",
        /// A role was given up.
        DeleteRole = "deleteRole",
        /// A member of the organization got another role in it.
        UpdateOrganizationMember = "updateOrganizationMember",
        /// Somebody was removed from the organization.
        RemoveOrganizationMember = "removeOrganizationMember",
        /// Somebody left the organization.
        LeaveOrganization = "leaveOrganization",
        /// A member of the organization lost every access.
        DisableUser = "disableUser",
        /// A member of the organization was signed out everywhere.
        EndMemberSessions = "endMemberSessions",
        /// A member of the organization got every access back.
        EnableUser = "enableUser",
        /// Ownership of the organization was offered.
        TransferOwnership = "transferOwnership",
        /// Ownership was taken over.
        AcceptOwnershipTransfer = "acceptOwnershipTransfer",
        /// Ownership was declined.
        DeclineOwnershipTransfer = "declineOwnershipTransfer",
        /// The offer of ownership was taken back.
        CancelOwnershipTransfer = "cancelOwnershipTransfer",
        /// Somebody was invited to the organization.
        InviteOrganizationMember = "inviteOrganizationMember",
        /// An invitation to the organization was sent again.
        ResendOrganizationInvitation = "resendOrganizationInvitation",
        /// An invitation to the organization was taken back.
        RevokeOrganizationInvitation = "revokeOrganizationInvitation",
        /// A workspace was made.
        CreateWorkspace = "createWorkspace",
        /// A workspace's settings changed.
        UpdateWorkspace = "updateWorkspace",
        /// A workspace's home page changed.
        DescribeWorkspace = "describeWorkspace",
        /// A workspace was archived.
        ArchiveWorkspace = "archiveWorkspace",
        /// A workspace was restored.
        RestoreWorkspace = "restoreWorkspace",
        /// A workspace was deleted.
        DeleteWorkspace = "deleteWorkspace",
        /// A configuration property was set.
        SetConfigProperty = "setConfigProperty",
        /// Several configuration properties were set.
        SetConfigProperties = "setConfigProperties",
        /// A configuration property was deleted.
        DeleteConfigProperty = "deleteConfigProperty",
        /// Somebody was invited to a workspace.
        InviteMember = "inviteMember",
        /// Somebody was invited to a workspace, together with others.
        InviteMembers = "inviteMembers",
        /// An invitation was sent again.
        ResendInvitation = "resendInvitation",
        /// An invitation was taken back.
        RevokeInvitation = "revokeInvitation",
        /// An invitation was accepted.
        AcceptInvitation = "acceptInvitation",
        /// An invitation was declined.
        DeclineInvitation = "declineInvitation",
        /// A member of a workspace got another role.
        UpdateMemberRole = "updateMemberRole",
        /// Somebody was removed from a workspace.
        RemoveMember = "removeMember",
        /// Somebody left a workspace.
        LeaveWorkspace = "leaveWorkspace",
        /// A credential was made.
        CreateCredential = "createCredential",
        /// A credential changed.
        UpdateCredential = "updateCredential",
        /// A credential was deleted.
        DeleteCredential = "deleteCredential",
        /// A credential's secret values were shown to a person.
        RevealCredential = "revealCredential",
        /// A credential was lent, or offered.
        ShareCredential = "shareCredential",
        /// What was lent was taken back.
        UnshareCredential = "unshareCredential",
        /// The loan of a credential was accepted.
        AcceptCredentialShare = "acceptCredentialShare",
        /// The loan of a credential was declined, or given back.
        DeclineCredentialShare = "declineCredentialShare",
        /// A service account was made.
        CreateServiceAccount = "createServiceAccount",
        /// A service account changed.
        UpdateServiceAccount = "updateServiceAccount",
        /// A service account got another secret.
        RotateServiceAccountSecret = "rotateServiceAccountSecret",
        /// A service account was deleted, with its keys.
        DeleteServiceAccount = "deleteServiceAccount",
        /// An API key was made.
        CreateApiKey = "createApiKey",
        /// An API key got another secret.
        RotateApiKey = "rotateApiKey",
        /// A workspace's default API key was made, or got another secret.
        RotateDefaultApiKey = "rotateDefaultApiKey",
        /// An API key was revoked.
        RevokeApiKey = "revokeApiKey",
        /// A webhook was made.
        CreateWebhook = "createWebhook",
        /// A webhook changed.
        UpdateWebhook = "updateWebhook",
        /// A webhook got another secret.
        RotateWebhookSecret = "rotateWebhookSecret",
        /// A webhook was deleted, with its deliveries.
        DeleteWebhook = "deleteWebhook",
        /// A delivery of a webhook was sent again.
        ReplayWebhookDelivery = "replayWebhookDelivery",
        /// A webhook was tried.
        SendTestWebhook = "sendTestWebhook",
        /// The service stopped a webhook that does not answer any more.
        DisableWebhook = "disableWebhook",
        /// An organization's identity provider was named, or changed.
        ConfigureSingleSignOn = "configureSingleSignOn",
        /// An organization's identity provider was removed.
        RemoveSingleSignOn = "removeSingleSignOn",
        /// Somebody came by the organization's identity provider, and got an account or became a member.
        FinishSingleSignOn = "finishSingleSignOn",
        /// A domain was added to an organization.
        AddDomain = "addDomain",
        /// A domain was verified as an organization's.
        VerifyDomain = "verifyDomain",
        /// A domain was removed from an organization.
        RemoveDomain = "removeDomain",
        /// An operator said that a domain is an organization's.
        AdminVerifyDomain = "admin verify-domain",
        /// An operator took a domain from the organization that had verified it.
        AdminUnverifyDomain = "admin unverify-domain",
        /// A quota was set, or taken away.
        SetQuota = "setQuota",
        /// Credits were spent; the object's name is what on.
        SpendCredits = "spendCredits",
        /// Somebody said that there is more of something, or less; of services only that there is less.
        AdjustUsage = "adjustUsage",
        /// An operator set what an organization may have at the most.
        AdminSetQuota = "admin set-quota",
        /// An operator made an organization.
        AdminCreateOrganization = "admin create-organization",
        /// An operator gave somebody a fresh password.
        AdminResetPassword = "admin reset-password",
        /// Somebody lost their second factor, and an operator took it from the account.
        AdminResetSecondFactor = "admin reset-second-factor",
        /// An operator made a workspace of a file.
        Import = "import",
    }
}

words! {
    /// What kind of thing it was done to.
    ObjectKind {
        /// An organization.
        Organization = "ORGANIZATION",
        /// Somebody's place in the organization; the id is the person's.
        OrganizationMember = "ORGANIZATION_MEMBER",
        /// A transfer of the organization's ownership.
        OwnershipTransfer = "OWNERSHIP_TRANSFER",
        /// A role.
        Role = "ROLE",
        /// A workspace.
        Workspace = "WORKSPACE",
        /// A workspace's home page; the id is the workspace's.
        HomePage = "HOME_PAGE",
        /// One configuration property; the id is its key.
        ConfigProperty = "CONFIG_PROPERTY",
        /// Several configuration properties; the id is the workspace's.
        ConfigProperties = "CONFIG_PROPERTIES",
        /// Somebody's membership of a workspace.
        Membership = "MEMBERSHIP",
        /// An invitation.
        Invitation = "INVITATION",
        /// A credential.
        Credential = "CREDENTIAL",
        /// The loan of a credential.
        CredentialShare = "CREDENTIAL_SHARE",
        /// A service account.
        ServiceAccount = "SERVICE_ACCOUNT",
        /// An API key.
        ApiKey = "API_KEY",
        /// A webhook.
        Webhook = "WEBHOOK",
        /// A person's account.
        User = "USER",
        /// An organization's identity provider; the id is the organization's.
        IdentityProvider = "IDENTITY_PROVIDER",
        /// A domain of an organization; the id is the domain.
        Domain = "DOMAIN",
    }
}

/// What it was done to, by the name that it had then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What kind of thing.
    pub kind: ObjectKind,
    /// Its id as the interface has it, or its key.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Who did it, where the proof of the change does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A person with an account.
    Person(UserId),
    /// Somebody who has only shown that mail to this address reaches them.
    Address(String),
}

/// Something that somebody did, to be written in the transaction in which it is done.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was done.
    pub action: Action,
    /// To what.
    pub object: Object,
    /// In which organization, unless the proof says.
    pub organization: Option<OrganizationId>,
    /// In which workspace, unless the proof says; `Some(None)`: in none.
    pub workspace: Option<Option<WorkspaceId>>,
    /// By whom, unless the proof says.
    pub by: Option<By>,
    before: Option<Value>,
    after: Option<Value>,
    idle: bool,
}

/// The most bytes of what was before, and of what is after.
pub const LONGEST: usize = 16 * 1024;
/// Texts above this many bytes are told by their length and hash.
const LONGEST_TEXT: usize = 2 * 1024;
/// The most bytes of an object's name.
const LONGEST_NAME: usize = 512;

impl Entry {
    /// That `action` was done to that object.
    pub fn of(action: Action, kind: ObjectKind, id: impl fmt::Display, name: impl Into<String>) -> Self {
        let mut name = name.into();
        name.truncate(name.floor_char_boundary(LONGEST_NAME));
        Self {
            action,
            object: Object { kind, id: id.to_string(), name },
            organization: None,
            workspace: None,
            by: None,
            before: None,
            after: None,
            idle: false,
        }
    }

    /// What of it was there before. Never a secret.
    pub fn before(mut self, value: Value) -> Self {
        self.before = Some(value);
        self
    }

    /// What of it is there now. Never a secret.
    pub fn after(mut self, value: Value) -> Self {
        self.after = Some(value);
        self
    }

    /// What it was and what it is, of two objects with the same fields: only those that differ are kept. Where none does,
    /// nothing was done, and nothing is written.
    pub fn changed(mut self, before: Value, after: Value) -> Self {
        let (mut was, mut is) = (fields(before), fields(after));
        let same: Vec<String> = was
            .iter()
            .filter(|(field, value)| is.get(*field) == Some(value))
            .map(|(field, _)| field.clone())
            .collect();
        for field in &same {
            was.remove(field);
            is.remove(field);
        }
        self.idle = was.is_empty() && is.is_empty();
        self.before = Some(Value::Object(was));
        self.after = Some(Value::Object(is));
        self
    }

    /// In that organization.
    pub fn in_organization(mut self, organization: OrganizationId) -> Self {
        self.organization = Some(organization);
        self
    }

    /// In that workspace; in none of them, although the proof is of one.
    pub fn in_workspace(mut self, workspace: Option<WorkspaceId>) -> Self {
        self.workspace = Some(workspace);
        self
    }

    /// By somebody whom the proof does not name.
    pub fn by(mut self, by: By) -> Self {
        self.by = Some(by);
        self
    }

    /// Whether nothing was changed.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// What was before, as it is stored.
    pub fn stored_before(&self) -> Option<String> {
        self.before.as_ref().map(bounded)
    }

    /// What is after, as it is stored.
    pub fn stored_after(&self) -> Option<String> {
        self.after.as_ref().map(bounded)
    }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

/// As JSON of at most [`LONGEST`] bytes. A text that is too long is told by its length and SHA-256, and so is the whole.
fn bounded(value: &Value) -> String {
    let mut value = value.clone();
    shorten(&mut value);
    let text = value.to_string();
    if text.len() <= LONGEST { text } else { told(text.as_bytes()).to_string() }
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > LONGEST_TEXT => *value = told(text.as_bytes()),
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}

fn told(bytes: &[u8]) -> Value {
    json!({ "bytes": bytes.len(), "sha256": hex::encode(Sha256::digest(bytes)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry::of(Action::UpdateRole, ObjectKind::Role, "rol_1", "Auditor")
    }

    #[test]
    fn of_a_change_only_what_differs_is_told() {
        let changed = entry().changed(
            json!({ "name": "a", "region": null, "labels": {} }),
            json!({ "name": "b", "region": "EU", "labels": {} }),
        );
        assert!(!changed.is_idle());
        assert_eq!(changed.stored_before().unwrap(), r#"{"name":"a","region":null}"#);
        assert_eq!(changed.stored_after().unwrap(), r#"{"name":"b","region":"EU"}"#);
        assert!(entry().changed(json!({ "name": "a" }), json!({ "name": "a" })).is_idle());
        let added = entry().changed(json!({}), json!({ "key": 1 }));
        assert_eq!(
            (added.stored_before().unwrap(), added.stored_after().unwrap()),
            ("{}".into(), r#"{"key":1}"#.into())
        );
    }

    #[test]
    fn what_is_too_long_is_told_by_its_length_and_hash() {
        let page = "x".repeat(LONGEST_TEXT + 1);
        let stored = entry().after(json!({ "text": page })).stored_after().unwrap();
        assert!(stored.starts_with(r#"{"text":{"bytes":2049,"sha256":""#), "{stored}");
        let many: Vec<String> = (0..LONGEST).map(|n| n.to_string()).collect();
        let stored = entry().after(json!(many)).stored_after().unwrap();
        assert!(stored.len() < 200 && stored.starts_with(r#"{"bytes":"#), "{stored}");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = Entry::of(Action::CreateRole, ObjectKind::Role, 1, "ä".repeat(400)).object.name;
        assert_eq!(name.len(), LONGEST_NAME);
    }
}
