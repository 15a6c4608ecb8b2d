//! Made-up data for measurements: an organization of any size, the same for the same numbers. Knows what such
//! an organization looks like; refuses to touch a database in which somebody is.

mod vocabulary;

use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::{
    access::{
        MemberListVisibility, OrganizationPolicy, OrganizationRole, System, SystemRole, WorkspaceCreation,
    },
    accounts::UserStatus,
    invitations::{DeliveryState, InvitationStatus},
    members::MembershipSource,
    workspaces::WorkspaceStatus,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, Iterable};
use uuid::Uuid;

use self::vocabulary::{PARAGRAPHS, TOPICS, countries, person, pick, scramble};
use crate::{
    db::{Db, Tx},
    entities::{
        invitation_grants, invitations, memberships, organization_members, organizations, users,
        workspace_descriptions, workspaces,
    },
    error::{Fault, OpError},
    instance, search,
    sql::{Single, Sql},
};

/// The password of everybody who is made up.
pub const PASSWORD: &str = "correct horse battery staple 42";

/// Pending invitations of each workspace.
const INVITATIONS: u32 = 5;

/// How much to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// People in the instance; at least one.
    pub users: u32,
    /// Workspaces in the instance; at least one.
    pub workspaces: u32,
    /// Members of each workspace; at least one and not more than `users`.
    pub members: u32,
}

/// What was made, and how to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeded {
    /// People.
    pub users: u64,
    /// Workspaces, `workspace-00001` and on.
    pub workspaces: u64,
    /// Memberships of all workspaces.
    pub memberships: u64,
    /// Pending invitations of all workspaces; no mail is sent for them and no link opens them.
    pub invitations: u64,
    /// The address of the organization's owner, who sees every workspace. The others are
    /// `user-00002@example.org` and on; user *n* is the Admin of workspace *n*.
    pub owner: String,
    /// Everybody's password.
    pub password: &'static str,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum SeedFault {
    /// The numbers do not go together.
    #[error("a workspace cannot have {members} members out of {users} users: give one to {users} of each")]
    Impossible {
        /// The members asked for.
        members: u32,
        /// The users asked for.
        users: u32,
    },
    /// Made-up people do not go beside real ones.
    #[error(
        "the database is not empty: it has an organization or a user already. Give DATABASE_URL, or a data \
         directory, of an instance that was never set up"
    )]
    NotEmpty,
    /// The database failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Fills an empty database in one transaction and marks the instance as set up.
pub async fn seed(db: &Db, proof: &System, plan: &Plan) -> Result<Seeded, SeedFault> {
    let Plan { users, workspaces, members } = *plan;
    if members == 0 || members > users || workspaces == 0 {
        return Err(SeedFault::Impossible { members, users });
    }
    let made =
        Made { plan: *plan, step: coprime_step(users), password_hash: db.hasher().hash(PASSWORD).await? };
    let filled = db
        .write::<_, ()>(proof, async |tx| {
            if !is_empty(tx).await? || !instance::claim_set_up(tx).await? {
                return Ok(false);
            }
            made.fill(tx).await?;
            Ok(true)
        })
        .await;
    match filled {
        Ok(true) => Ok(Seeded {
            users: users.into(),
            workspaces: workspaces.into(),
            memberships: u64::from(workspaces) * u64::from(members),
            invitations: u64::from(workspaces) * u64::from(INVITATIONS),
            owner: email(0),
            password: PASSWORD,
        }),
        Ok(false) => Err(SeedFault::NotEmpty),
        Err(OpError::Fault(fault)) => Err(fault.into()),
        Err(_) => Err(Fault::Crypto("making data up was refused").into()),
    }
}

async fn is_empty(tx: &Tx<'_>) -> Result<bool, Fault> {
    let sql = Sql::new("SELECT 1 FROM organizations UNION ALL SELECT 1 FROM users LIMIT 1");
    Ok(tx.one::<Single<i32>>(sql).await?.is_none())
}

/// Writes rows, as many in a statement as SQLite takes values (32,766; PostgreSQL takes twice that).
async fn insert_all<A>(tx: &Tx<'_>, rows: impl Iterator<Item = A>) -> Result<(), Fault>
where
    A: ActiveModelTrait,
{
    let size = 32_766 / <A::Entity as EntityTrait>::Column::iter().count().max(1);
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        A::Entity::insert_many(rows.by_ref().take(size)).exec_without_returning(tx.conn()).await?;
    }
    Ok(())
}

/// The made-up organization. People, workspaces and seats are counted from 0.
struct Made {
    plan: Plan,
    step: u32,
    password_hash: String,
}

impl Made {
    async fn fill(&self, tx: &Tx<'_>) -> Result<(), Fault> {
        let Plan { users, workspaces, members } = self.plan;
        organizations::Entity::insert(organization()).exec_without_returning(tx.conn()).await?;
        insert_all(tx, (0..workspaces).map(|w| self.workspace(w))).await?;
        insert_all(tx, (0..workspaces).map(|w| self.description(w))).await?;
        let homes = self.homes();
        insert_all(tx, (0..users).map(|u| self.user(u, homes[u as usize]))).await?;
        insert_all(tx, (0..users).map(|u| self.organization_member(u))).await?;
        let seats = (0..workspaces).flat_map(|w| (0..members).map(move |seat| (w, seat)));
        insert_all(tx, seats.map(|(w, seat)| self.membership(w, seat))).await?;
        let invited = || (0..workspaces).flat_map(|w| (0..INVITATIONS).map(move |n| (w, n)));
        insert_all(tx, invited().map(|(w, n)| self.invitation(w, n))).await?;
        insert_all(tx, invited().map(|(w, n)| grant(w, n))).await
    }

    /// Who sits on a seat of a workspace: nobody twice in one, and two workspaces share few.
    fn sitter(&self, workspace: u32, seat: u32) -> u32 {
        let place = u64::from(workspace) + u64::from(seat) * u64::from(self.step);
        u32::try_from(place % u64::from(self.plan.users)).unwrap_or(0)
    }

    /// The first workspace of each person, where they land.
    fn homes(&self) -> Vec<Option<u32>> {
        let mut homes = vec![None; self.plan.users as usize];
        for workspace in 0..self.plan.workspaces {
            for seat in 0..self.plan.members {
                homes[self.sitter(workspace, seat) as usize].get_or_insert(workspace);
            }
        }
        homes
    }

    fn user(&self, n: u32, home: Option<u32>) -> users::ActiveModel {
        let (email, name) = (email(n), person(n));
        let made = at(Kind::User, n.into());
        let home = home.map(|workspace| id(Kind::Workspace, workspace.into()));
        users::ActiveModel {
            id: Set(id(Kind::User, n.into())),
            search_text: Set(search::of_person(&name, &email)),
            email: Set(email),
            display_name: Set(name),
            status: Set(UserStatus::Active.word().to_owned()),
            password_hash: Set(self.password_hash.clone()),
            email_verified_at: Set(Some(made)),
            last_sign_in_at: Set(None),
            created_at: Set(made),
            updated_at: Set(made),
            default_workspace_id: Set(home),
            last_workspace_id: Set(home),
            second_factor_at: Set(None),
        }
    }

    fn organization_member(&self, n: u32) -> organization_members::ActiveModel {
        let role = if n == 0 { OrganizationRole::Owner } else { OrganizationRole::Member };
        organization_members::ActiveModel {
            user_id: Set(id(Kind::User, n.into())),
            organization_id: Set(id(Kind::Organization, 0)),
            role: Set(role.word().to_owned()),
            status: Set("ACTIVE".to_owned()),
            created_at: Set(at(Kind::User, n.into())),
        }
    }

    fn workspace(&self, n: u32) -> workspaces::ActiveModel {
        let made = at(Kind::Workspace, n.into());
        let countries = countries(n);
        let topic = pick(TOPICS, n);
        let place = countries.first().map_or("World", |country| country.name());
        let display_name = format!("{topic}, {place}");
        workspaces::ActiveModel {
            id: Set(id(Kind::Workspace, n.into())),
            organization_id: Set(id(Kind::Organization, 0)),
            name: Set(name(n)),
            search_text: Set(Some(search::of_name(&display_name))),
            display_name: Set(display_name),
            countries: Set(countries.iter().map(|country| country.as_str()).collect::<Vec<_>>().join(",")),
            docker_image: Set(None),
            region: Set(None),
            labels: Set("{}".to_owned()),
            is_default: Set(n == 0),
            status: Set(WorkspaceStatus::Active.word().to_owned()),
            created_by: Set(Some(id(Kind::User, self.sitter(n, 0).into()))),
            created_at: Set(made),
            updated_at: Set(made),
            archived_at: Set(None),
            archived_by: Set(None),
        }
    }

    fn description(&self, n: u32) -> workspace_descriptions::ActiveModel {
        let paragraphs: Vec<&str> = (0..1 + n % 4).map(|part| pick(PARAGRAPHS, n / 3 + part)).collect();
        workspace_descriptions::ActiveModel {
            workspace_id: Set(id(Kind::Workspace, n.into())),
            text: Set(format!("# {}\n\n{}\n", pick(TOPICS, n), paragraphs.join("\n\n"))),
            updated_by: Set(Some(id(Kind::User, self.sitter(n, 0).into()))),
            updated_at: Set(at(Kind::Workspace, n.into())),
            version: Set(1),
        }
    }

    fn membership(&self, workspace: u32, seat: u32) -> memberships::ActiveModel {
        let (role, source) = match (seat, seat % 3) {
            (0, _) if workspace == 0 => (SystemRole::Admin, MembershipSource::Setup),
            (0, _) => (SystemRole::Admin, MembershipSource::Creator),
            (_, 1) => (SystemRole::Editor, MembershipSource::Invitation),
            _ => (SystemRole::Viewer, MembershipSource::Invitation),
        };
        let number = u64::from(workspace) * u64::from(self.plan.members) + u64::from(seat);
        let made = at(Kind::Membership, number);
        memberships::ActiveModel {
            id: Set(id(Kind::Membership, number)),
            workspace_id: Set(id(Kind::Workspace, workspace.into())),
            user_id: Set(id(Kind::User, self.sitter(workspace, seat).into())),
            role_id: Set(role.id().uuid()),
            source: Set(source.word().to_owned()),
            invitation_id: Set(None),
            expires_at: Set(None),
            created_at: Set(made),
            updated_at: Set(made),
        }
    }

    fn invitation(&self, workspace: u32, n: u32) -> invitations::ActiveModel {
        let number = invitation_number(workspace, n);
        let made = at(Kind::Invitation, number);
        // 32 bytes that no secret is known to have as its hash.
        let hash = (0..4).flat_map(|part| scramble(number * 4 + part).to_be_bytes()).collect();
        invitations::ActiveModel {
            id: Set(id(Kind::Invitation, number)),
            organization_id: Set(id(Kind::Organization, 0)),
            email: Set(invitee(workspace, n)),
            inviter_id: Set(id(Kind::User, self.sitter(workspace, 0).into())),
            status: Set(InvitationStatus::Pending.word().to_owned()),
            message: Set(n.is_multiple_of(2).then(|| pick(PARAGRAPHS, n).to_owned())),
            token_hash: Set(hash),
            expires_at: Set(moment(FAR_FUTURE)),
            delivery: Set(DeliveryState::Sent.word().to_owned()),
            delivery_error: Set(None),
            sent_at: Set(Some(made)),
            responded_at: Set(None),
            created_at: Set(made),
            updated_at: Set(made),
            organization_role: Set(None),
        }
    }
}

fn organization() -> organizations::ActiveModel {
    let policy = OrganizationPolicy::default();
    let made = at(Kind::Organization, 0);
    organizations::ActiveModel {
        id: Set(id(Kind::Organization, 0)),
        slug: Set("example".to_owned()),
        name: Set("Example Health Alliance".to_owned()),
        workspace_creation: Set(WorkspaceCreation::word(policy.workspace_creation).to_owned()),
        workspace_deletion: Set(policy.workspace_deletion.word().to_owned()),
        member_list_visibility: Set(MemberListVisibility::word(policy.member_list_visibility).to_owned()),
        share_acceptance: Set(policy.share_acceptance.word().to_owned()),
        allow_reveal: Set(policy.allow_reveal),
        invitation_lifetime_hours: Set(None),
        api_key_max_lifetime_days: Set(None),
        login_activity_days: Set(i32::from(policy.login_activity_days)),
        identity_provider_id: Set(None),
        password_sign_in: Set(true),
        created_at: Set(made),
        updated_at: Set(made),
        two_factor_required_since: Set(None),
        two_factor_grace_hours: Set(i32::from(policy.two_factor_grace_hours)),
    }
}

fn grant(workspace: u32, n: u32) -> invitation_grants::ActiveModel {
    let role = if n == 0 { SystemRole::Editor } else { SystemRole::Viewer };
    invitation_grants::ActiveModel {
        invitation_id: Set(id(Kind::Invitation, invitation_number(workspace, n))),
        workspace_id: Set(id(Kind::Workspace, workspace.into())),
        role_id: Set(role.id().uuid()),
        email: Set(invitee(workspace, n)),
        pending: Set(true),
        membership_expires_at: Set(None),
    }
}

fn invitation_number(workspace: u32, n: u32) -> u64 {
    u64::from(workspace) * u64::from(INVITATIONS) + u64::from(n)
}

fn name(workspace: u32) -> String {
    format!("workspace-{:05}", u64::from(workspace) + 1)
}

fn email(n: u32) -> String {
    format!("user-{:05}@example.org", u64::from(n) + 1)
}

fn invitee(workspace: u32, n: u32) -> String {
    format!("invitee-{:05}-{}@example.net", u64::from(workspace) + 1, n + 1)
}

/// A step that visits each of `count` places before it comes back to the first, near the golden section,
/// which spreads the visits evenly.
fn coprime_step(count: u32) -> u32 {
    let gcd = |mut a: u32, mut b: u32| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let golden = u32::try_from(u64::from(count) * 618 / 1000).unwrap_or(1).max(1);
    (golden..=count).find(|step| gcd(*step, count) == 1).unwrap_or(1)
}

/// What an id is of: each kind has its own moments and its own random part.
#[derive(Clone, Copy)]
enum Kind {
    Organization,
    User,
    Workspace,
    Membership,
    Invitation,
}

/// 2025-01-01 and 2100-01-01, in milliseconds of Unix time.
const BEGINNING: u64 = 1_735_689_600_000;
const FAR_FUTURE: u64 = 4_102_444_800_000;

/// The moment in which a thing was made: one every ten milliseconds, each kind from a month of its own.
fn millis(kind: Kind, n: u64) -> u64 {
    const MONTH: u64 = 30 * 24 * 3_600_000;
    BEGINNING + kind as u64 * MONTH + n * 10
}

fn moment(millis: u64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::milliseconds(i64::try_from(millis).unwrap_or(0))
}

fn at(kind: Kind, n: u64) -> DateTime<Utc> {
    moment(millis(kind, n))
}

/// The `n`th id of a kind: a UUIDv7, so ids sort in the order of their numbers.
fn id(kind: Kind, n: u64) -> Uuid {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&scramble(n).to_be_bytes());
    random[8] = kind as u8;
    uuid::Builder::from_unix_timestamp_millis(millis(kind, n), &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use guildhall_domain::text::{Email, Slug};

    use super::*;

    #[test]
    fn every_address_is_stored_as_the_api_would_store_it() {
        for n in [0, 9, 99_999, u32::MAX] {
            assert_eq!(Email::parse(&email(n)).unwrap().as_str(), email(n));
            assert_eq!(Email::parse(&invitee(n, 4)).unwrap().as_str(), invitee(n, 4));
            assert_eq!(Slug::parse(&name(n)).unwrap().into_string(), name(n));
        }
    }

    #[test]
    fn nobody_sits_twice_in_a_workspace() {
        for users in [1, 2, 7, 20, 100, 10_000] {
            let members = users.min(20);
            let plan = Plan { users, workspaces: 50, members };
            let made = Made { plan, step: coprime_step(users), password_hash: String::new() };
            for workspace in 0..50 {
                let sitters: HashSet<u32> = (0..members).map(|seat| made.sitter(workspace, seat)).collect();
                assert_eq!(sitters.len(), members as usize, "{users} users, workspace {workspace}");
            }
        }
    }

    #[test]
    fn ids_are_of_version_7_sorted_and_the_same_each_time() {
        let ids: Vec<Uuid> = (0..1000).map(|n| id(Kind::User, n)).collect();
        assert!(ids.is_sorted() && ids.iter().all(|id| id.get_version_num() == 7));
        assert_eq!(id(Kind::User, 0), id(Kind::User, 0));
        assert_ne!(id(Kind::User, 0), id(Kind::Workspace, 0));
    }
}
