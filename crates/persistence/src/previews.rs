//! What a change would do, told without doing it: by the same statements and the same rules as the change itself.

use guildhall_domain::{
    access::{Granted, Permission, PermissionSet, perm},
    ids::{InvitationId, MembershipId, RoleId},
    members::{RemoveMemberCode, UpdateMemberRoleCode, judge_removal, judge_role_change},
    refusal::Refusals,
};
use sea_orm::FromQueryResult;

use crate::{
    db::{Ask, Db},
    error::{Fault, OpError},
    explain,
    invitations::sent_by,
    members::{Found, Member, find, no_such_member, no_such_role},
    roles::grantable_role,
    sql::Sql,
};

/// What another role would change for a member.
#[derive(Clone, Debug)]
pub struct RoleChange {
    /// The member, as they are.
    pub member: Member,
    /// What they could do in the workspace from then on.
    pub gained: PermissionSet,
    /// What they could do until then.
    pub lost: PermissionSet,
    /// Why the change would be refused.
    pub refusals: Option<Refusals<UpdateMemberRoleCode>>,
}

/// What giving a member another role would change.
pub async fn role_change(
    db: &Db,
    proof: &Granted<perm::MembersManage>,
    member: MembershipId,
    role: RoleId,
) -> Result<RoleChange, OpError<UpdateMemberRoleCode>> {
    use UpdateMemberRoleCode as Code;
    let (read, access) = (db.read(proof), proof.access());
    access.may_change(Permission::MembersManage)?;
    let workspace = access.workspace();
    let Some(Found { member, facts }) = find(&read, workspace, "m.id", member.uuid()).await? else {
        return Err(no_such_member(Code::NotFound).into());
    };
    let Some(role) = grantable_role(&read, workspace, role).await? else {
        return Err(no_such_role().into());
    };
    let by = access.actor().person();
    let judged = judge_role_change(
        &facts,
        &role,
        member.expires_at,
        by,
        access.organization_role(),
        access.permissions(),
    );
    let person = explain::facts(&read, workspace, member.user.id).await?;
    let before = person.as_ref().map_or(PermissionSet::EMPTY, |person| person.in_workspace());
    let after = person.map_or(PermissionSet::EMPTY, |person| person.with_role(role).in_workspace());
    let beyond =
        |set: PermissionSet, other: PermissionSet| set.iter().filter(|held| !other.holds(*held)).collect();
    Ok(RoleChange {
        member,
        gained: beyond(after, before),
        lost: beyond(before, after),
        refusals: judged.err().map(Into::into),
    })
}

/// What ends with a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalImpact {
    /// The invitations to the workspace that the member sent and nobody has answered, by age.
    pub invitations: Vec<InvitationId>,
    /// Whether it is the workspace that the member lands in.
    pub is_default_workspace: bool,
    /// How many of the member's devices are signed in, while the workspace is the last one they were in.
    pub sessions: u64,
    /// How many loans of the workspace's credentials the member made. They are the workspace's, and stay.
    pub shares: u64,
    /// How many good API keys of the workspace the member made. They are the workspace's, and stay.
    pub api_keys: u64,
    /// How many of the workspace's service accounts the member made. They stay as well.
    pub service_accounts: u64,
    /// How many of the workspace's webhooks the member made. They stay, and go on telling wherever the member said.
    pub webhooks: u64,
}

/// What removing a member would do.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The member.
    pub member: Member,
    /// What would end.
    pub impact: RemovalImpact,
    /// Why the removal would be refused.
    pub refusals: Option<Refusals<RemoveMemberCode>>,
}

/// What removing a member would end.
pub async fn removal(
    db: &Db,
    proof: &Granted<perm::MembersManage>,
    member: MembershipId,
) -> Result<Removal, OpError<RemoveMemberCode>> {
    let (read, access) = (db.read(proof), proof.access());
    access.may_change(Permission::MembersManage)?;
    let Some(Found { member, facts }) = find(&read, access.workspace(), "m.id", member.uuid()).await? else {
        return Err(no_such_member(RemoveMemberCode::NotFound).into());
    };
    let judged = judge_removal(&facts, access.actor().person(), access.organization_role());
    let impact = removal_impact(&read, &member).await?;
    Ok(Removal { member, impact, refusals: judged.err().map(Into::into) })
}

/// What ends with the membership, as it is now.
pub(crate) async fn removal_impact(tx: &impl Ask, member: &Member) -> Result<RemovalImpact, Fault> {
    let (workspace, user) = (member.workspace, member.user.id);
    let sent = sent_by(tx, workspace, user).await?;
    let presence = Sql::new(
        "SELECT EXISTS (SELECT 1 FROM users u WHERE u.id = $1 AND u.default_workspace_id = $2) AS is_default, \
         (SELECT count(*) FROM sessions s JOIN users u ON u.id = s.user_id AND u.last_workspace_id = $2 \
          WHERE s.user_id = $1 AND s.ended_at IS NULL AND s.expires_at > $3) AS sessions, \
         (SELECT count(*) FROM credential_shares c WHERE c.shared_by = $1 AND c.workspace_id = $2 \
          AND c.status IN ('PENDING', 'ACTIVE') AND (c.expires_at IS NULL OR c.expires_at > $3)) AS shares, \
         (SELECT count(*) FROM api_keys k WHERE k.created_by = $1 AND k.workspace_id = $2 \
          AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $3)) AS api_keys, \
         (SELECT count(*) FROM service_accounts sa WHERE sa.created_by = $1 AND sa.workspace_id = $2) AS service_accounts, \
         (SELECT count(*) FROM webhooks h WHERE h.created_by = $1 AND h.workspace_id = $2) AS webhooks",
    )
    .values([user.uuid().into(), workspace.uuid().into(), tx.now().into()]);
    let presence = tx.one::<Presence>(presence).await?;
    let number = |read: fn(&Presence) -> i64| {
        presence.as_ref().and_then(|presence| u64::try_from(read(presence)).ok()).unwrap_or(0)
    };
    Ok(RemovalImpact {
        invitations: sent.into_iter().map(|sent| sent.id.into()).collect(),
        is_default_workspace: presence.as_ref().is_some_and(|presence| presence.is_default),
        sessions: number(|presence| presence.sessions),
        shares: number(|presence| presence.shares),
        api_keys: number(|presence| presence.api_keys),
        service_accounts: number(|presence| presence.service_accounts),
        webhooks: number(|presence| presence.webhooks),
    })
}

#[derive(Debug, FromQueryResult)]
struct Presence {
    is_default: bool,
    sessions: i64,
    shares: i64,
    api_keys: i64,
    service_accounts: i64,
    webhooks: i64,
}
