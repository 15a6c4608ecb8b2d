//! Batches of what many fields ask at once. A key carries the proof that its asker may read it, so a batch
//! may serve several requests; nothing is cached, so an event or a mutation sees what is stored now.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use async_graphql::{
    Context, Error, Result,
    dataloader::{DataLoader, Loader, NoCache},
};
use guildhall_domain::{
    access::{
        Actor, Granted, OrganizationAccess, WorkspaceAccess, catalog::PermissionType, perm, role::Role,
    },
    ids::{CredentialId, InvitationId, MembershipId, OrganizationId, UserId, WorkspaceId},
    invitations::InvitationStatus,
    page::{Page, PageArgs, Position},
};
use guildhall_persistence::{
    Db, OrganizationStanding, ReadError, Standing,
    accounts::{self, User},
    counts::{self, Count},
    credential_shares::{self, CredentialShare, Shares},
    credential_uses::{self, CredentialUse, Uses},
    credentials::{self, Credential, CredentialFilter, Field},
    home_page::{self, HomePage},
    invitations::{self, Invitation},
    members::{self, Member, MemberFilter},
    organization_invitations::{self, OrganizationInvitation},
    roles,
};
use uuid::Uuid;

use crate::{
    batching::{AfterPoll, NoWait},
    error,
};

/// Where a permission is held.
pub(crate) trait Place {
    type Id: Copy + Eq + Hash;

    fn id(&self) -> Self::Id;

    /// The organization that it is, or is in.
    fn organization(&self) -> OrganizationId;
}

impl Place for WorkspaceAccess {
    type Id = WorkspaceId;

    fn id(&self) -> WorkspaceId {
        self.workspace()
    }

    fn organization(&self) -> OrganizationId {
        self.organization()
    }
}

impl Place for OrganizationAccess {
    type Id = OrganizationId;

    fn id(&self) -> OrganizationId {
        self.organization()
    }

    fn organization(&self) -> OrganizationId {
        self.organization()
    }
}

/// The key of something in a workspace or organization: the proof, and what exactly. Two askers with the same permission in
/// the same place ask the same.
pub(crate) struct Scoped<P: PermissionType<Access: Place>, T = ()> {
    pub(crate) proof: Granted<P>,
    pub(crate) what: T,
}

impl<P: PermissionType<Access: Place>, T> Scoped<P, T> {
    pub(crate) fn place(&self) -> <P::Access as Place>::Id {
        self.proof.access().id()
    }
}

impl<P: PermissionType<Access: Place>, T: Clone> Clone for Scoped<P, T> {
    fn clone(&self) -> Self {
        Self { proof: self.proof.clone(), what: self.what.clone() }
    }
}

impl<P: PermissionType<Access: Place>, T: PartialEq> PartialEq for Scoped<P, T> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place() && self.what == other.what
    }
}

impl<P: PermissionType<Access: Place>, T: Eq> Eq for Scoped<P, T> {}

impl<P: PermissionType<Access: Place>, T: Hash> Hash for Scoped<P, T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place().hash(state);
        self.what.hash(state);
    }
}

/// The home page of a workspace.
pub(crate) type HomePageKey = Scoped<perm::WorkspaceView>;
/// The asker's own membership of a workspace, which they see whatever the policy hides.
pub(crate) type OwnMembershipKey = Scoped<perm::WorkspaceView, MembershipId>;
/// A page of a workspace's members.
pub(crate) type MembersKey = Scoped<perm::MembersView, (MemberFilter, PageArgs<Position>)>;
/// A page of a workspace's invitations in those statuses.
pub(crate) type InvitationsKey = Scoped<perm::InvitationsView, (Vec<InvitationStatus>, PageArgs<Uuid>)>;
/// An invitation of a workspace.
pub(crate) type InvitationKey = Scoped<perm::InvitationsView, InvitationId>;

/// A page of a workspace's credentials.
pub(crate) type CredentialsKey = Scoped<perm::CredentialList, (CredentialFilter, PageArgs<Uuid>)>;
/// A credential of a workspace, by the number of the credential or of the loan.
pub(crate) type CredentialKey = Scoped<perm::CredentialList, Uuid>;
/// The fields of a credential of a workspace.
pub(crate) type CredentialFieldsKey = Scoped<perm::CredentialUse, CredentialId>;

/// A page of the invitations to an organization itself, in those statuses.
pub(crate) type OrganizationInvitationsKey =
    Scoped<perm::OrganizationManage, (Vec<InvitationStatus>, PageArgs<Uuid>)>;
/// How many invitations in those statuses there are to an organization itself.
pub(crate) type OrganizationInvitationNumberKey = Scoped<perm::OrganizationManage, Vec<InvitationStatus>>;
/// A page of an organization's roles.
pub(crate) type RolesKey = Scoped<perm::OrganizationView, PageArgs<Uuid>>;
/// How many roles an organization has.
pub(crate) type RoleNumberKey = Scoped<perm::OrganizationView>;

/// Loads in batches.
pub(crate) struct Batches(pub(crate) Db);

/// The loader that every request shares.
pub(crate) type Loaders = DataLoader<Batches, NoCache>;

pub(crate) fn loaders(db: Db) -> Loaders {
    DataLoader::new(Batches(db), AfterPoll::current(), NoWait)
}

/// Loads one key, with faults logged and masked.
pub(crate) async fn load<K>(ctx: &Context<'_>, key: K) -> Result<Option<<Batches as Loader<K>>::Value>>
where
    K: Send + Sync + Hash + Eq + Clone + 'static,
    Batches: Loader<K, Error = Arc<ReadError>>,
{
    ctx.data_unchecked::<Loaders>().load_one(key).await.map_err(|fault| self::fault(ctx, &fault))
}

/// Loads several keys, those of one answer, with faults logged and masked.
pub(crate) async fn load_many<K>(
    ctx: &Context<'_>,
    keys: Vec<K>,
) -> Result<HashMap<K, <Batches as Loader<K>>::Value>>
where
    K: Send + Sync + Hash + Eq + Clone + 'static,
    Batches: Loader<K, Error = Arc<ReadError>>,
{
    ctx.data_unchecked::<Loaders>().load_many(keys).await.map_err(|fault| self::fault(ctx, &fault))
}

/// The error of a batch, for one of those who asked.
pub(crate) fn fault(ctx: &Context<'_>, fault: &ReadError) -> Error {
    match fault {
        ReadError::Denied(denied) => error::denied(*denied),
        ReadError::Fault(fault) => error::internal(ctx, fault),
    }
}

/// The keys in groups that one statement can serve.
pub(crate) fn grouped<K, G: Eq + Hash>(keys: &[K], group: impl Fn(&K) -> G) -> HashMap<G, Vec<&K>> {
    let mut groups: HashMap<G, Vec<&K>> = HashMap::new();
    for key in keys {
        groups.entry(group(key)).or_default().push(key);
    }
    groups
}

impl Loader<HomePageKey> for Batches {
    type Value = HomePage;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[HomePageKey]) -> Result<HashMap<HomePageKey, HomePage>, Self::Error> {
        let proofs: Vec<_> = keys.iter().map(|key| key.proof.clone()).collect();
        let mut found: HashMap<_, _> = home_page::pages(&self.0, &proofs).await?.into_iter().collect();
        Ok(keys.iter().filter_map(|key| Some((key.clone(), found.remove(&key.place())?))).collect())
    }
}

impl Loader<OwnMembershipKey> for Batches {
    type Value = Member;
    type Error = Arc<ReadError>;

    async fn load(
        &self,
        keys: &[OwnMembershipKey],
    ) -> Result<HashMap<OwnMembershipKey, Member>, Self::Error> {
        let proofs: Vec<_> = keys.iter().map(|key| key.proof.clone()).collect();
        let members = members::own(&self.0, &proofs).await?;
        let members: HashMap<_, _> = members.into_iter().map(|member| (member.id, member)).collect();
        Ok(keys.iter().filter_map(|key| Some((key.clone(), members.get(&key.what)?.clone()))).collect())
    }
}

/// What the fields of one level ask of workspaces together: members, and how many of something there are. One kind of key,
/// so that both take one statement.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    Members(MembersKey),
    Count(Count),
}

/// The answer to an [`Asked`].
#[derive(Clone)]
pub(crate) enum Answered {
    Members(Page<Member>),
    Number(u64),
}

/// How many of something there are.
pub(crate) async fn number(ctx: &Context<'_>, count: Count) -> Result<u64> {
    Ok(match load(ctx, Asked::Count(count)).await? {
        Some(Answered::Number(number)) => number,
        Some(Answered::Members(_)) | None => 0,
    })
}

impl Loader<Asked> for Batches {
    type Value = Answered;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[Asked]) -> Result<HashMap<Asked, Answered>, Self::Error> {
        let (mut lists, mut counts): (Vec<MembersKey>, Vec<Count>) = Default::default();
        for key in keys {
            match key {
                Asked::Members(key) => lists.push(key.clone()),
                Asked::Count(count) => counts.push(count.clone()),
            }
        }
        let mut answers = HashMap::with_capacity(keys.len());
        let number = |(count, number)| (Asked::Count(count), Answered::Number(number));
        for ((filter, args), group) in grouped(&lists, |key| key.what.clone()) {
            // A cursor is of one workspace, so only first pages come in numbers.
            let at_once = if args.after.is_some() || args.before.is_some() { 1 } else { group.len() };
            for group in group.chunks(at_once) {
                let proofs: Vec<_> = group.iter().map(|key| key.proof.clone()).collect();
                let counts = std::mem::take(&mut counts);
                let (mut pages, numbers) = members::pages(&self.0, &proofs, &filter, &args, &counts).await?;
                for &key in group {
                    let page = pages.remove(&key.place());
                    let page = page.unwrap_or_else(|| Page::cut(&args, Vec::new()));
                    answers.insert(Asked::Members(key.clone()), Answered::Members(page));
                }
                answers.extend(counts.into_iter().zip(numbers).map(number));
            }
        }
        let numbers = counts::counts(&self.0, &counts).await?;
        answers.extend(counts.into_iter().zip(numbers).map(number));
        Ok(answers)
    }
}

/// Whose standing in which organization.
type OrganizationKey = (Actor, OrganizationId);

impl Loader<OrganizationKey> for Batches {
    type Value = OrganizationStanding;
    type Error = Arc<ReadError>;

    async fn load(
        &self,
        keys: &[OrganizationKey],
    ) -> Result<HashMap<OrganizationKey, OrganizationStanding>, Self::Error> {
        let mut found = HashMap::with_capacity(keys.len());
        for (actor, group) in grouped(keys, |(actor, _)| *actor) {
            let ids: Vec<_> = group.iter().map(|(_, organization)| *organization).collect();
            let standings = self.0.organization_standings_of(actor, &ids).await?;
            found.extend(standings.into_iter().map(|standing| ((actor, standing.organization.id), standing)));
        }
        Ok(found)
    }
}

/// Whose standing in which workspace.
type WorkspaceKey = (Actor, WorkspaceId);

impl Loader<WorkspaceKey> for Batches {
    type Value = Standing;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[WorkspaceKey]) -> Result<HashMap<WorkspaceKey, Standing>, Self::Error> {
        let mut found = HashMap::with_capacity(keys.len());
        for (actor, group) in grouped(keys, |(actor, _)| *actor) {
            let ids: Vec<_> = group.iter().map(|(_, workspace)| *workspace).collect();
            let standings = self.0.standings_of(actor, &ids).await?;
            found.extend(standings.into_iter().map(|standing| ((actor, standing.workspace.id), standing)));
        }
        Ok(found)
    }
}

/// A permission that shows people: who sent an invitation, who is a member or did something.
trait ShowsPeople: PermissionType<Access: Place> {}

impl ShowsPeople for perm::InvitationsView {}
impl ShowsPeople for perm::MembersView {}
impl ShowsPeople for perm::OrganizationManage {}

impl<P: ShowsPeople> Loader<Scoped<P, UserId>> for Batches {
    type Value = User;
    type Error = Arc<ReadError>;

    async fn load(
        &self,
        keys: &[Scoped<P, UserId>],
    ) -> Result<HashMap<Scoped<P, UserId>, User>, Self::Error> {
        let Some(first) = keys.first() else { return Ok(HashMap::new()) };
        let whom = |key: &Scoped<P, UserId>| (key.proof.access().organization(), key.what);
        let wanted: Vec<_> = keys.iter().map(whom).collect();
        let users = accounts::in_organizations(&self.0, &first.proof, &wanted).await?;
        Ok(keys.iter().filter_map(|key| Some((key.clone(), users.get(&whom(key))?.clone()))).collect())
    }
}

impl Loader<OrganizationInvitationsKey> for Batches {
    type Value = Page<OrganizationInvitation>;
    type Error = Arc<ReadError>;

    async fn load(
        &self,
        keys: &[OrganizationInvitationsKey],
    ) -> Result<HashMap<OrganizationInvitationsKey, Self::Value>, Self::Error> {
        let listed =
            |key: &OrganizationInvitationsKey| (key.proof.clone(), key.what.0.clone(), key.what.1.clone());
        let wanted: Vec<_> = keys.iter().map(listed).collect();
        Ok(keys.iter().cloned().zip(organization_invitations::pages(&self.0, &wanted).await?).collect())
    }
}

impl Loader<OrganizationInvitationNumberKey> for Batches {
    type Value = u64;
    type Error = Arc<ReadError>;

    async fn load(
        &self,
        keys: &[OrganizationInvitationNumberKey],
    ) -> Result<HashMap<OrganizationInvitationNumberKey, u64>, Self::Error> {
        let wanted: Vec<_> = keys.iter().map(|key| (key.proof.clone(), key.what.clone())).collect();
        Ok(keys.iter().cloned().zip(organization_invitations::numbers(&self.0, &wanted).await?).collect())
    }
}

impl Loader<RolesKey> for Batches {
    type Value = Page<Role>;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[RolesKey]) -> Result<HashMap<RolesKey, Page<Role>>, Self::Error> {
        let wanted: Vec<_> = keys.iter().map(|key| (key.proof.clone(), key.what.clone())).collect();
        Ok(keys.iter().cloned().zip(roles::pages(&self.0, &wanted).await?).collect())
    }
}

impl Loader<RoleNumberKey> for Batches {
    type Value = u64;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[RoleNumberKey]) -> Result<HashMap<RoleNumberKey, u64>, Self::Error> {
        let proofs: Vec<_> = keys.iter().map(|key| key.proof.clone()).collect();
        Ok(keys.iter().cloned().zip(roles::numbers(&self.0, &proofs).await?).collect())
    }
}

impl Loader<InvitationKey> for Batches {
    type Value = Invitation;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[InvitationKey]) -> Result<HashMap<InvitationKey, Invitation>, Self::Error> {
        let mut found = HashMap::with_capacity(keys.len());
        for group in grouped(keys, Scoped::place).into_values() {
            let Some(first) = group.first() else { continue };
            let ids: Vec<_> = group.iter().map(|key| key.what).collect();
            let rows = invitations::by_ids(&self.0, &first.proof, &ids).await?;
            let rows: HashMap<_, _> = rows.into_iter().map(|row| (row.id, row)).collect();
            found.extend(
                group.into_iter().filter_map(|key| Some((key.clone(), rows.get(&key.what)?.clone()))),
            );
        }
        Ok(found)
    }
}

impl Loader<CredentialsKey> for Batches {
    type Value = Page<Credential>;
    type Error = Arc<ReadError>;

    async fn load(
        &self,
        keys: &[CredentialsKey],
    ) -> Result<HashMap<CredentialsKey, Page<Credential>>, Self::Error> {
        let mut pages = HashMap::with_capacity(keys.len());
        for ((filter, args), group) in grouped(keys, |key| key.what.clone()) {
            let proofs: Vec<_> = group.iter().map(|key| key.proof.clone()).collect();
            let mut rows: HashMap<WorkspaceId, Vec<Credential>> = HashMap::new();
            for credential in credentials::pages(&self.0, &proofs, &filter, &args).await? {
                rows.entry(credential.workspace).or_default().push(credential);
            }
            for key in group {
                let rows = rows.remove(&key.place()).unwrap_or_default();
                pages.insert(key.clone(), Page::cut(&args, rows));
            }
        }
        Ok(pages)
    }
}

impl Loader<CredentialKey> for Batches {
    type Value = Credential;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[CredentialKey]) -> Result<HashMap<CredentialKey, Credential>, Self::Error> {
        let mut found = HashMap::with_capacity(keys.len());
        for group in grouped(keys, Scoped::place).into_values() {
            let Some(first) = group.first() else { continue };
            let ids: Vec<_> = group.iter().map(|key| key.what).collect();
            let rows = credentials::by_ids(&self.0, &first.proof, &ids).await?;
            let rows: HashMap<_, _> = rows.into_iter().map(|row| (row.at.uuid(), row)).collect();
            found.extend(
                group.into_iter().filter_map(|key| Some((key.clone(), rows.get(&key.what)?.clone()))),
            );
        }
        Ok(found)
    }
}

impl Loader<CredentialFieldsKey> for Batches {
    type Value = Vec<Field>;
    type Error = Arc<ReadError>;

    async fn load(
        &self,
        keys: &[CredentialFieldsKey],
    ) -> Result<HashMap<CredentialFieldsKey, Vec<Field>>, Self::Error> {
        let workspaces = grouped(keys, Scoped::place);
        let proofs: Vec<_> =
            workspaces.values().filter_map(|keys| Some(keys.first()?.proof.clone())).collect();
        let ids: Vec<_> = grouped(keys, |key| key.what).into_keys().collect();
        let fields = credentials::fields(&self.0, &proofs, &ids).await?;
        let of = |key: &CredentialFieldsKey| fields.get(&(key.place(), key.what)).cloned();
        Ok(keys.iter().filter_map(|key| Some((key.clone(), of(key)?))).collect())
    }
}

/// A page of loans.
type SharesKey = (Shares, PageArgs<Uuid>);

impl Loader<InvitationsKey> for Batches {
    type Value = Page<Invitation>;
    type Error = Arc<ReadError>;

    async fn load(
        &self,
        keys: &[InvitationsKey],
    ) -> Result<HashMap<InvitationsKey, Page<Invitation>>, Self::Error> {
        let listed = |key: &InvitationsKey| (key.proof.clone(), key.what.0.clone(), key.what.1.clone());
        let wanted: Vec<_> = keys.iter().map(listed).collect();
        Ok(keys.iter().cloned().zip(invitations::pages(&self.0, &wanted).await?).collect())
    }
}

impl Loader<SharesKey> for Batches {
    type Value = Page<CredentialShare>;
    type Error = Arc<ReadError>;

    async fn load(
        &self,
        keys: &[SharesKey],
    ) -> Result<HashMap<SharesKey, Page<CredentialShare>>, Self::Error> {
        Ok(keys.iter().cloned().zip(credential_shares::pages(&self.0, keys).await?).collect())
    }
}

impl Loader<Shares> for Batches {
    type Value = u64;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[Shares]) -> Result<HashMap<Shares, u64>, Self::Error> {
        Ok(keys.iter().cloned().zip(credential_shares::numbers(&self.0, keys).await?).collect())
    }
}

/// A page of uses.
type UsesKey = (Uses, PageArgs<Uuid>);

impl Loader<UsesKey> for Batches {
    type Value = Page<CredentialUse>;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[UsesKey]) -> Result<HashMap<UsesKey, Page<CredentialUse>>, Self::Error> {
        Ok(keys.iter().cloned().zip(credential_uses::pages(&self.0, keys).await?).collect())
    }
}

impl Loader<Uses> for Batches {
    type Value = u64;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[Uses]) -> Result<HashMap<Uses, u64>, Self::Error> {
        Ok(keys.iter().cloned().zip(credential_uses::numbers(&self.0, keys).await?).collect())
    }
}
