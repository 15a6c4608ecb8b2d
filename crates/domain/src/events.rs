//! What happened, for those who watch. An event says that something changed and where to look; who may see
//! it is asked when it is delivered.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    access::{Actor, policy::words},
    ids::{InvitationId, OrganizationId, SessionId, UserId, WorkspaceId},
    invitations::InvitationStatus,
    quotas::{Metric, QuotaScope},
    text::Email,
};

words! {
    /// What kind of thing happened.
    EventKind {
        /// An invitation was made, answered, resent, revoked or its mail was delivered.
        Invitation = "INVITATION",
        /// A person's rights changed or ended, in a workspace or wherever they have any.
        Access = "ACCESS",
        /// A person's session ended.
        Session = "SESSION",
        /// A workspace's settings or life changed.
        Workspace = "WORKSPACE",
        /// A credential, or what is lent of it, changed.
        Credential = "CREDENTIAL",
        /// The audit log of an organization has grown.
        Audit = "AUDIT",
        /// From now on a webhook takes events of a workspace.
        Webhook = "WEBHOOK",
        /// A quota is nearly used up.
        Quota = "QUOTA",
    }
}

words! {
    /// What changed of a workspace.
    WorkspaceChange {
        /// Its display name, countries, image, region or labels.
        Settings = "SETTINGS",
        /// Its home page.
        HomePage = "HOME_PAGE",
        /// Its configuration properties.
        Config = "CONFIG",
        /// It was archived.
        Archived = "ARCHIVED",
        /// It was restored.
        Restored = "RESTORED",
        /// It was deleted.
        Deleted = "DELETED",
    }
}

words! {
    /// What changed of a credential: for the workspace that owns it, and from `Offered` on for one that borrows it.
    CredentialChange {
        /// It was made.
        Created = "CREATED",
        /// Its name, description or fields changed: a new secret value among them is a rotation.
        Updated = "UPDATED",
        /// It was deleted.
        Deleted = "DELETED",
        /// It was lent, and can be used in the borrowing workspace at once.
        Shared = "SHARED",
        /// It was offered, and waits for an admin of the borrowing workspace.
        ShareOffered = "SHARE_OFFERED",
        /// The offer was accepted.
        ShareAccepted = "SHARE_ACCEPTED",
        /// The offer was declined, or the borrower gave it back.
        ShareDeclined = "SHARE_DECLINED",
        /// It was taken back.
        Unshared = "UNSHARED",
        /// It is offered to this workspace, and waits for one of its admins.
        Offered = "OFFERED",
        /// It is lent to this workspace, which can use it from now on.
        Borrowed = "BORROWED",
        /// Its owner changed it.
        BorrowedUpdated = "BORROWED_UPDATED",
        /// It is not lent to this workspace any more.
        Returned = "RETURNED",
    }
}

impl CredentialChange {
    /// Whether it tells a borrower, of what is then a loan.
    pub fn is_of_borrower(self) -> bool {
        self >= Self::Offered
    }
}

/// Something that happened, to be written in the transaction in which it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The invitation to `email` now stands at `status` in this workspace.
    Invitation {
        /// The invitation.
        invitation: InvitationId,
        /// The workspace that is told.
        workspace: WorkspaceId,
        /// The invitee, who is told as well.
        email: Email,
        /// The status it has from now on.
        status: InvitationStatus,
    },
    /// The invitation to `email`, which opens no workspace, now stands at `status`.
    OrganizationInvitation {
        /// The invitation.
        invitation: InvitationId,
        /// The invitee, who is told.
        email: Email,
        /// The status it has from now on.
        status: InvitationStatus,
    },
    /// The person's rights in the workspace are to be read anew.
    Access {
        /// The workspace.
        workspace: WorkspaceId,
        /// The person.
        user: UserId,
    },
    /// The rights of the workspace's machines are to be read anew.
    Machines {
        /// The workspace.
        workspace: WorkspaceId,
    },
    /// The person's rights are to be read anew wherever they have any: their place in an organization changed.
    Rights {
        /// The person.
        user: UserId,
    },
    /// The workspace changed.
    Workspace {
        /// The workspace.
        workspace: WorkspaceId,
        /// What of it.
        change: WorkspaceChange,
    },
    /// A credential that the workspace owns changed, or one that it borrows.
    Credential {
        /// The workspace that is told.
        workspace: WorkspaceId,
        /// The credential, or the loan of it.
        subject: Uuid,
        /// What of it.
        change: CredentialChange,
    },
    /// The session is over, or all of the person's sessions are.
    Session {
        /// The person.
        user: UserId,
        /// Which one; `None`: all of them may be.
        session: Option<SessionId>,
    },
    /// From now on a webhook takes events of the workspace: for the service's own tasks, which look after no others.
    Webhook {
        /// The workspace.
        workspace: WorkspaceId,
        /// Its organization.
        organization: OrganizationId,
    },
    /// Nine tenths of a quota are used.
    Quota {
        /// The workspace in which the last of it was used.
        workspace: WorkspaceId,
        /// Of what.
        metric: Metric,
        /// Whose quota.
        scope: QuotaScope,
    },
    /// The audit log of the organization has grown.
    Audit {
        /// The organization.
        organization: OrganizationId,
    },
}

impl Event {
    /// The address it is told to, if any.
    pub fn email(&self) -> Option<&str> {
        match self {
            Self::Invitation { email, .. } | Self::OrganizationInvitation { email, .. } => {
                Some(email.as_str())
            }
            Self::Access { .. }
            | Self::Machines { .. }
            | Self::Rights { .. }
            | Self::Session { .. }
            | Self::Workspace { .. }
            | Self::Credential { .. }
            | Self::Webhook { .. }
            | Self::Quota { .. }
            | Self::Audit { .. } => None,
        }
    }
}

/// An event as it was read back from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its place in the log; later events have higher numbers, with gaps.
    pub seq: i64,
    /// What kind of thing happened.
    pub kind: EventKind,
    /// The workspace it happened in.
    pub workspace: Option<WorkspaceId>,
    /// The person it is about.
    pub user: Option<UserId>,
    /// The e-mail address it is about.
    pub email: Option<String>,
    /// The object it is about: an invitation, a session.
    pub subject: Option<Uuid>,
    /// The state the object took.
    pub state: Option<String>,
    /// When it happened.
    pub at: DateTime<Utc>,
}

impl Recorded {
    /// The organization whose audit log has grown, if that is what it says.
    pub fn audited(&self) -> Option<OrganizationId> {
        self.subject.filter(|_| self.kind == EventKind::Audit).map(Into::into)
    }

    /// The workspace of which a webhook takes events from now on, and its organization, if that is what it says.
    pub fn webhook(&self) -> Option<(WorkspaceId, OrganizationId)> {
        let organization = self.subject.filter(|_| self.kind == EventKind::Webhook)?;
        Some((self.workspace?, organization.into()))
    }

    /// Of what a quota is nearly used up, and whose, if that is what it says.
    pub fn quota(&self) -> Option<(Metric, QuotaScope)> {
        let state = self.state.as_deref().filter(|_| self.kind == EventKind::Quota)?;
        let (scope, metric) = state.split_once(' ')?;
        Some((Metric::from_word(metric)?, QuotaScope::from_word(scope)?))
    }

    /// Whether it can change what that actor may do: who they are, or what the workspace's machines may.
    pub fn concerns(&self, actor: Actor) -> bool {
        match actor.person() {
            Some(person) => self.user == Some(person),
            None => matches!(self.kind, EventKind::Access | EventKind::Workspace),
        }
    }

    /// Whether it says that a workspace is no more.
    pub fn ends_a_workspace(&self) -> bool {
        self.kind == EventKind::Workspace && self.state.as_deref() == Some(WorkspaceChange::Deleted.word())
    }
}
