//! THE permission catalogue: every permission once, with its wire name, scope, least system role and the
//! sentence shown to people who edit roles. No other file holds a permission's name.

use super::{proof::Rights, role::SystemRole};

/// What a permission is held in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// An organization: given by the organization role and the policy.
    Organization,
    /// One workspace: given by the role of a membership.
    Workspace,
}

/// A permission as a type, so that an operation can name the one it needs.
pub trait PermissionType: Send + Sync + 'static {
    /// The permission this type stands for.
    const PERMISSION: Permission;
    /// The rights it is taken from.
    type Access: Rights;
}

macro_rules! least {
    (viewer) => {
        Some(SystemRole::Viewer)
    };
    (editor) => {
        Some(SystemRole::Editor)
    };
    (admin) => {
        Some(SystemRole::Admin)
    };
    (policy) => {
        None
    };
}

macro_rules! rights {
    (Workspace) => {
        crate::access::proof::WorkspaceAccess
    };
    (Organization) => {
        crate::access::proof::OrganizationAccess
    };
}

macro_rules! catalogue {
    ($($name:ident = $wire:literal, $scope:ident, $least:ident, $sentence:literal;)*) => {
        /// Something that a role can allow.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Permission {
            $(#[doc = $sentence] $name,)*
        }

        impl Permission {
            /// The whole catalogue, in the order in which people see it.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name over the wire and in storage, such as `members.invite`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $wire,)* }
            }

            /// What it is held in.
            pub const fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope,)* }
            }

            /// The least system role that holds it in every organization; `None` where the organization's
            /// policy or the organization role decides.
            pub const fn least_role(self) -> Option<SystemRole> {
                match self { $(Self::$name => least!($least),)* }
            }

            /// One sentence for people who edit roles.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }

        /// One type per permission; `perm::MembersInvite` stands for `members.invite`.
        pub mod perm {
            $(
                #[doc = $sentence]
                #[derive(Clone, Copy, Debug)]
                pub struct $name;

                impl super::PermissionType for $name {
                    const PERMISSION: super::Permission = super::Permission::$name;
                    type Access = rights!($scope);
                }
            )*
        }
    };
}

catalogue! {
    OrganizationView = "organization.view", Organization, policy, "See the organization and its roles.";
    OrganizationManage = "organization.manage", Organization, policy, "Manage the organization's members, roles, quotas and sign-on, and read its login activity and audit log.";
    OrganizationGovern = "organization.govern", Organization, policy, "Change the organization's policy, transfer its ownership, delete it, change an owner.";
    WorkspaceCreate = "workspace.create", Organization, policy, "Create workspaces in the organization.";

    WorkspaceView = "workspace.view", Workspace, viewer, "See the workspace: its name, home page and settings.";
    WorkspaceDescribe = "workspace.describe", Workspace, editor, "Edit the workspace's home page.";
    WorkspaceUpdate = "workspace.update", Workspace, admin, "Change the workspace's display name, countries, image, region and labels.";
    WorkspaceArchive = "workspace.archive", Workspace, admin, "Archive the workspace and restore it.";
    WorkspaceDelete = "workspace.delete", Workspace, policy, "Delete the workspace and everything in it.";
    ConfigView = "config.view", Workspace, viewer, "Read the workspace's configuration properties.";
    ConfigManage = "config.manage", Workspace, admin, "Change the workspace's configuration properties.";
    MembersView = "members.view", Workspace, viewer, "See who the workspace's members are.";
    MembersManage = "members.manage", Workspace, admin, "Change members' roles and remove members.";
    MembersInvite = "members.invite", Workspace, admin, "Invite people to the workspace.";
    InvitationsView = "invitations.view", Workspace, admin, "See the workspace's invitations and their status.";
    CredentialList = "credential.list", Workspace, editor, "See which credentials the workspace has, by name and type.";
    CredentialUse = "credential.use", Workspace, editor, "Use the workspace's credentials in workloads.";
    CredentialManage = "credential.manage", Workspace, admin, "Create, edit, delete and rotate credentials.";
    CredentialShare = "credential.share", Workspace, admin, "Lend credentials to other workspaces.";
    CredentialReveal = "credential.reveal", Workspace, admin, "Read a credential's secret values, where the organization's policy allows it.";
    ApiKeysManage = "apikeys.manage", Workspace, admin, "See, create and revoke the workspace's API keys.";
    ServiceAccountsManage = "serviceaccounts.manage", Workspace, admin, "Manage the workspace's service accounts.";
    QuotaView = "quota.view", Workspace, viewer, "See the workspace's quotas and usage.";
    AuditView = "audit.view", Workspace, admin, "Read the workspace's audit log.";
    PolicyView = "policy.view", Workspace, viewer, "Read the workspace's policies.";
    PolicyManage = "policy.manage", Workspace, admin, "Change the workspace's policies.";
    IntegrationManage = "integration.manage", Workspace, admin, "Manage the workspace's integrations.";
    FileRead = "file.read", Workspace, viewer, "Read files.";
    FileWrite = "file.write", Workspace, editor, "Write and delete files.";
    DatabaseRead = "database.read", Workspace, viewer, "Read the workspace's database.";
    DatabaseCredentials = "database.credentials", Workspace, editor, "See the credentials of the workspace's database.";
    DatabaseWrite = "database.write", Workspace, editor, "Write to the workspace's database.";
    DatabaseRotate = "database.rotate", Workspace, admin, "Rotate the password of the workspace's database.";
    DatasetRead = "dataset.read", Workspace, viewer, "Read datasets.";
    DatasetWrite = "dataset.write", Workspace, editor, "Create, change and delete datasets.";
    PipelineLaunch = "pipeline.launch", Workspace, viewer, "Run pipelines.";
    PipelineCreate = "pipeline.create", Workspace, editor, "Create, change and delete pipelines.";
    NotebookUse = "notebook.use", Workspace, editor, "Use notebooks.";
    ItemRead = "item.read", Workspace, viewer, "Read items, such as agents and tools.";
    ItemWrite = "item.write", Workspace, editor, "Create, change and delete items.";
    ItemRun = "item.run", Workspace, viewer, "Run items.";
}

impl Permission {
    /// Whether what it allows can be done in an archived workspace, where everything else only reads.
    pub const fn works_in_archive(self) -> bool {
        matches!(self, Self::WorkspaceArchive | Self::WorkspaceDelete)
    }

    /// Whether it can be used in an archived workspace: to look at what is there, or to restore or delete it. The others
    /// allow to change something, or to work with what is kept.
    pub const fn usable_in_archive(self) -> bool {
        match self {
            Self::WorkspaceView
            | Self::ConfigView
            | Self::MembersView
            | Self::InvitationsView
            | Self::CredentialList
            | Self::QuotaView
            | Self::AuditView
            | Self::PolicyView
            | Self::FileRead
            | Self::DatabaseRead
            | Self::DatabaseCredentials
            | Self::DatasetRead
            | Self::ItemRead => true,
            other => other.works_in_archive(),
        }
    }

    /// The permission of that wire name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|permission| permission.name() == name)
    }
}
