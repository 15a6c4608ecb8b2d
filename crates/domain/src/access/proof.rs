//! Actors, what they may do, and the proofs of it. A proof has private fields and comes only from a verdict
//! given here, so that code which holds one need not ask again. Knows no storage.

use std::{marker::PhantomData, sync::Arc};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    catalog::{Permission, PermissionType},
    demands::{Arrival, Demand},
    machine::MachineRights,
    policy::{OrganizationPolicy, OrganizationRole},
    role::{PermissionSet, Role},
};
use crate::{
    ids::{ApiKeyId, MembershipId, OrganizationId, ServiceAccountId, SessionId, UserId, WorkspaceId},
    workspaces::WorkspaceStatus,
};

/// Who acts. Identity only: what an actor may do is read anew for every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A person on a signed-in device.
    User {
        /// The person.
        user: UserId,
        /// The device's session; it must still be alive.
        session: SessionId,
    },
    /// Whoever has an API key: a machine. It is good in the workspace of the key and nowhere else.
    Key {
        /// The key.
        key: ApiKeyId,
        /// The hash of the secret that was shown; it must still be one of the key's.
        hash: [u8; 32],
    },
    /// A service account with an access token. It is good in the account's workspace and nowhere else.
    ServiceAccount {
        /// The account.
        account: ServiceAccountId,
        /// Which of the account's secrets, by their number, the token was got with; it must still be the account's.
        generation: i32,
    },
}

impl Actor {
    /// The person; `None` for a machine.
    pub fn person(self) -> Option<UserId> {
        match self {
            Self::User { user, .. } => Some(user),
            Self::Key { .. } | Self::ServiceAccount { .. } => None,
        }
    }

    /// The number in the actor's id, whatever kind it is.
    pub fn uuid(self) -> Uuid {
        match self {
            Self::User { user, .. } => user.uuid(),
            Self::Key { key, .. } => key.uuid(),
            Self::ServiceAccount { account, .. } => account.uuid(),
        }
    }
}

/// Why an actor is turned away before the operation's own rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Not signed in, or no longer: the session ended or the account was disabled.
    SignedOut,
    /// A key or a token of a service account that is good no longer, or not while its workspace is archived.
    KeyEnded,
    /// A machine asked for something that only people have.
    NoPerson,
    /// What was asked for does not exist, or the actor may not know that it does.
    NotFound,
    /// The actor sees it and lacks this permission.
    Forbidden(Permission),
    /// The workspace is archived, so nothing in it changes.
    Archived,
    /// The organization demands something of the person that they have not done.
    Demanded(Demand),
}

/// What is known of an actor's place in a workspace, as it was read in one statement.
#[derive(Clone, Debug)]
pub struct WorkspaceFacts {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The organization it belongs to.
    pub organization: OrganizationId,
    /// Whether it is in use.
    pub status: WorkspaceStatus,
    /// That organization's policy.
    pub policy: OrganizationPolicy,
    /// What the actor is there.
    pub place: Place,
}

/// What an actor is in a workspace.
#[derive(Clone, Debug)]
pub enum Place {
    /// A person.
    Person {
        /// The role in the organization while the membership of it is active.
        organization_role: Option<OrganizationRole>,
        /// The membership, while it has not expired, and its role.
        membership: Option<(MembershipId, Role)>,
        /// How they come in; need not be known where the policy demands nothing.
        arrival: Option<Arrival>,
    },
    /// A key or service account of this workspace.
    Machine(MachineRights),
}

/// An actor's rights in one workspace.
#[derive(Clone, Debug)]
pub struct WorkspaceAccess {
    actor: Actor,
    facts: WorkspaceFacts,
    permissions: PermissionSet,
}

impl WorkspaceAccess {
    /// The verdict on the facts; `NotFound` for an actor who may not know of the workspace, whatever else is demanded.
    pub fn assess(actor: Actor, facts: WorkspaceFacts, now: DateTime<Utc>) -> Result<Arc<Self>, Denied> {
        let (permissions, unmet) = match &facts.place {
            Place::Person { organization_role, membership, arrival } => {
                let role = membership.as_ref().map(|(_, role)| role.permissions);
                (facts.policy.in_workspace(role, *organization_role), facts.policy.unmet(*arrival, now))
            }
            Place::Machine(_) if facts.status == WorkspaceStatus::Archived => return Err(Denied::KeyEnded),
            Place::Machine(rights) => (facts.policy.in_workspace(Some(rights.held()), None), None),
        };
        if !permissions.holds(Permission::WorkspaceView) {
            return Err(Denied::NotFound);
        }
        if let Some(demand) = unmet {
            return Err(Denied::Demanded(demand));
        }
        Ok(Arc::new(Self { actor, facts, permissions }))
    }

    /// Who acts.
    pub fn actor(&self) -> Actor {
        self.actor
    }

    /// The person who acts; denied to a machine.
    pub fn person(&self) -> Result<UserId, Denied> {
        self.actor.person().ok_or(Denied::NoPerson)
    }

    /// The workspace.
    pub fn workspace(&self) -> WorkspaceId {
        self.facts.workspace
    }

    /// The organization of the workspace.
    pub fn organization(&self) -> OrganizationId {
        self.facts.organization
    }

    /// The organization's policy.
    pub fn policy(&self) -> &OrganizationPolicy {
        &self.facts.policy
    }

    /// The role of the actor's own membership, or of the service account; `None` for an organization admin who is no
    /// member, and for a key of the workspace itself.
    pub fn role(&self) -> Option<&Role> {
        match &self.facts.place {
            Place::Person { membership, .. } => membership.as_ref().map(|(_, role)| role),
            Place::Machine(rights) => rights.role.as_ref(),
        }
    }

    /// The actor's own membership.
    pub fn membership(&self) -> Option<MembershipId> {
        match &self.facts.place {
            Place::Person { membership, .. } => membership.as_ref().map(|(id, _)| *id),
            Place::Machine(_) => None,
        }
    }

    /// The actor's role in the organization.
    pub fn organization_role(&self) -> Option<OrganizationRole> {
        match &self.facts.place {
            Place::Person { organization_role, .. } => *organization_role,
            Place::Machine(_) => None,
        }
    }

    /// Everything the actor may do in the workspace.
    pub fn permissions(&self) -> PermissionSet {
        self.permissions
    }

    /// Whether the workspace is archived.
    pub fn is_archived(&self) -> bool {
        self.facts.status == WorkspaceStatus::Archived
    }

    /// Everything the actor can do in the workspace as it is: of what they may do, in an archived one only what reads, and
    /// what ends that. The guards ask for what they may do, so that a change in an archived workspace is refused for what
    /// it is, and not for a right that is missing.
    pub fn usable(&self) -> PermissionSet {
        if self.is_archived() { self.permissions.in_archive() } else { self.permissions }
    }

    /// Denies a change that the permission would allow in a workspace in use: an archived one is only restored or deleted.
    pub fn may_change(&self, permission: Permission) -> Result<(), Denied> {
        if !self.permissions.holds(permission) {
            return Err(Denied::Forbidden(permission));
        }
        match self.facts.status {
            WorkspaceStatus::Archived if !permission.works_in_archive() => Err(Denied::Archived),
            _ => Ok(()),
        }
    }

    /// The proof that the actor holds `P`.
    pub fn grant<P: PermissionType<Access = Self>>(self: &Arc<Self>) -> Result<Granted<P>, Denied> {
        if self.permissions.holds(P::PERMISSION) {
            Ok(Granted { access: Arc::clone(self), permission: PhantomData })
        } else {
            Err(Denied::Forbidden(P::PERMISSION))
        }
    }
}

/// What is known of an actor's place in an organization.
#[derive(Clone, Copy, Debug)]
pub struct OrganizationFacts {
    /// The organization.
    pub organization: OrganizationId,
    /// Its policy.
    pub policy: OrganizationPolicy,
    /// The actor's role while the membership is active.
    pub role: Option<OrganizationRole>,
    /// Whether the actor is an admin of any workspace in it.
    pub administers_a_workspace: bool,
    /// How the actor comes in, where they have a role.
    pub arrival: Option<Arrival>,
}

/// An actor's rights in one organization.
#[derive(Clone, Debug)]
pub struct OrganizationAccess {
    actor: Actor,
    facts: OrganizationFacts,
    permissions: PermissionSet,
    unmet: Option<Demand>,
}

impl OrganizationAccess {
    /// The verdict on the facts; `NotFound` for an actor who may not know of the organization. Who has not done what it
    /// demands sees it, so as to learn that, and nothing more.
    pub fn assess(actor: Actor, facts: OrganizationFacts, now: DateTime<Utc>) -> Result<Arc<Self>, Denied> {
        let mut permissions = facts.policy.in_organization(facts.role, facts.administers_a_workspace);
        if !permissions.holds(Permission::OrganizationView) {
            return Err(Denied::NotFound);
        }
        let unmet = facts.policy.unmet(facts.arrival, now);
        if unmet.is_some() {
            permissions = PermissionSet::EMPTY.with(Permission::OrganizationView);
        }
        Ok(Arc::new(Self { actor, facts, permissions, unmet }))
    }

    /// What the organization demands of the actor that they have not done.
    pub fn unmet(&self) -> Option<Demand> {
        self.unmet
    }

    /// How the actor comes in.
    pub fn arrival(&self) -> Option<Arrival> {
        self.facts.arrival
    }

    /// Denies a change that the permission would allow. Who has not done what is demanded changes nothing, not even what
    /// seeing the organization is enough for.
    pub fn may_change(&self, permission: Permission) -> Result<(), Denied> {
        match self.unmet {
            Some(demand) => Err(Denied::Demanded(demand)),
            None if self.permissions.holds(permission) => Ok(()),
            None => Err(Denied::Forbidden(permission)),
        }
    }

    /// Denies becoming an owner, unless in a session in which owners govern: a provider that lies would make one of whomever
    /// it likes.
    pub fn may_become_owner(&self) -> Result<(), Denied> {
        self.may_change(Permission::OrganizationView)?;
        match self.facts.arrival.map(|arrival| arrival.by.caps(OrganizationRole::Owner)) {
            Some(OrganizationRole::Owner) => Ok(()),
            _ => Err(Denied::Forbidden(Permission::OrganizationGovern)),
        }
    }

    /// Who acts.
    pub fn actor(&self) -> Actor {
        self.actor
    }

    /// The person who acts: machines have no place in an organization.
    pub fn person(&self) -> Result<UserId, Denied> {
        self.actor.person().ok_or(Denied::NoPerson)
    }

    /// The organization.
    pub fn organization(&self) -> OrganizationId {
        self.facts.organization
    }

    /// Its policy.
    pub fn policy(&self) -> &OrganizationPolicy {
        &self.facts.policy
    }

    /// The actor's role in the organization.
    pub fn role(&self) -> Option<OrganizationRole> {
        self.facts.role
    }

    /// Everything the actor may do in the organization itself.
    pub fn permissions(&self) -> PermissionSet {
        self.permissions
    }

    /// The proof that the actor holds `P`.
    pub fn grant<P: PermissionType<Access = Self>>(self: &Arc<Self>) -> Result<Granted<P>, Denied> {
        if self.permissions.holds(P::PERMISSION) {
            Ok(Granted { access: Arc::clone(self), permission: PhantomData })
        } else {
            Err(self.unmet.map_or(Denied::Forbidden(P::PERMISSION), Denied::Demanded))
        }
    }
}

/// The proof that an actor holds `P`, and in which workspace or organization.
pub struct Granted<P: PermissionType> {
    access: Arc<P::Access>,
    permission: PhantomData<P>,
}

impl<P: PermissionType> Clone for Granted<P> {
    fn clone(&self) -> Self {
        Self { access: Arc::clone(&self.access), permission: PhantomData }
    }
}

impl<P: PermissionType> Granted<P> {
    /// The rights it was taken from: a further proof needs no further statement.
    pub fn access(&self) -> &Arc<P::Access> {
        &self.access
    }
}

/// The proof that whoever acts is let in: a person whose session is alive, or a machine whose key is good.
#[derive(Clone, Copy, Debug)]
pub struct LetIn {
    actor: Actor,
}

impl LetIn {
    /// The verdict on whether the session is alive and its user may use it, or the key is good and its workspace in use.
    pub fn assess(actor: Actor, alive: bool) -> Result<Self, Denied> {
        match actor {
            _ if alive => Ok(Self { actor }),
            Actor::User { .. } => Err(Denied::SignedOut),
            Actor::Key { .. } | Actor::ServiceAccount { .. } => Err(Denied::KeyEnded),
        }
    }

    /// Who acts.
    pub fn actor(&self) -> Actor {
        self.actor
    }
}

/// The proof that a person is signed in, for what is about themselves.
#[derive(Clone, Copy, Debug)]
pub struct OwnSession {
    user: UserId,
    session: SessionId,
}

impl OwnSession {
    /// The verdict on whether it is a person who was let in.
    pub fn of(present: LetIn) -> Result<Self, Denied> {
        match present.actor {
            Actor::User { user, session } => Ok(Self { user, session }),
            Actor::Key { .. } | Actor::ServiceAccount { .. } => Err(Denied::NoPerson),
        }
    }

    /// Who acts.
    pub fn actor(&self) -> Actor {
        Actor::User { user: self.user, session: self.session }
    }

    /// The person.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }
}

/// An operation open to anyone who can reach the service: signing in, or answering by a secret link.
#[derive(Clone, Copy, Debug)]
pub struct Open(());

impl Open {
    /// Opens the door without a right; `reason` says why that is safe.
    pub fn because(_reason: &'static str) -> Self {
        Self(())
    }
}

/// The service itself at work: mailer, event log, operator commands.
#[derive(Clone, Copy, Debug)]
pub struct System(());

impl System {
    /// The part of the service that acts.
    pub fn named(_part: &'static str) -> Self {
        Self(())
    }
}

/// What has to hold again inside the transaction of a change.
#[derive(Clone, Copy, Debug)]
pub enum Recheck {
    /// The actor still holds the permission in the workspace.
    Workspace(Actor, WorkspaceId, Permission),
    /// The actor still holds the permission in the organization.
    Organization(Actor, OrganizationId, Permission),
    /// The actor is still let in.
    LetIn(Actor),
    /// Nothing: the proof names no actor.
    Nothing,
}

mod sealed {
    pub trait Sealed {}
}

/// What opens a session with the database. Sealed: only the types of this module are proofs.
pub trait Proof: sealed::Sealed + Send + Sync {
    /// What to ask again before a change is written.
    fn recheck(&self) -> Recheck;
}

impl<P: PermissionType> sealed::Sealed for Granted<P> {}
impl<P: PermissionType> Proof for Granted<P> {
    fn recheck(&self) -> Recheck {
        self.access.recheck(P::PERMISSION)
    }
}

impl sealed::Sealed for LetIn {}
impl Proof for LetIn {
    fn recheck(&self) -> Recheck {
        Recheck::LetIn(self.actor)
    }
}

impl sealed::Sealed for OwnSession {}
impl Proof for OwnSession {
    fn recheck(&self) -> Recheck {
        Recheck::LetIn(self.actor())
    }
}

impl sealed::Sealed for Open {}
impl Proof for Open {
    fn recheck(&self) -> Recheck {
        Recheck::Nothing
    }
}

impl sealed::Sealed for System {}
impl Proof for System {
    fn recheck(&self) -> Recheck {
        Recheck::Nothing
    }
}

/// The rights a permission is taken from: those in a workspace or those in an organization.
pub trait Rights: Send + Sync + 'static {
    /// What to ask again so that `permission` still holds.
    fn recheck(&self, permission: Permission) -> Recheck;
}

impl Rights for WorkspaceAccess {
    fn recheck(&self, permission: Permission) -> Recheck {
        Recheck::Workspace(self.actor, self.workspace(), permission)
    }
}

impl Rights for OrganizationAccess {
    fn recheck(&self, permission: Permission) -> Recheck {
        Recheck::Organization(self.actor, self.organization(), permission)
    }
}
