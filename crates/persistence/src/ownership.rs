//! Transfers of an organization's ownership: asking, answering, taking back, looking at them.

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Denied, Entrance, Granted, OrganizationAccess, OrganizationRole, OwnSession, Permission, perm},
    audit::{Action, Entry, ObjectKind},
    events::Event,
    ids::{OrganizationId, OwnershipTransferId, UserId},
    ownership::{
        AcceptOwnershipTransferCode, CancelOwnershipTransferCode, DeclineOwnershipTransferCode,
        OwnershipTransferStatus, TransferOwnershipCode, effective_status, expiry, judge_asking,
        judge_pending, judge_taking_over,
    },
    page::{Page, PageArgs},
    refusal::Refusal,
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    access::{self, count, opens, page_by, where_nothing_is_demanded, word},
    accounts::User,
    db::{Db, Tx},
    error::{Fault, OpError, ReadError},
    organization_members,
    sql::{Single, Sql},
};

/// A transfer of an organization's ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnershipTransfer {
    /// Its id.
    pub id: OwnershipTransferId,
    /// The organization.
    pub organization: OrganizationId,
    /// The owner who asked.
    pub from: User,
    /// The member who was asked.
    pub to: User,
    /// Where it stands now; an expired one says so.
    pub status: OwnershipTransferStatus,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// When it was answered, taken back or replaced.
    pub responded_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

const TRANSFERS: &str = "SELECT t.id, t.organization_id, t.status, t.expires_at, t.responded_at, t.created_at, \
     giver.id AS from_user_id, giver.email AS from_email, giver.display_name AS from_display_name, \
     giver.status AS from_status, receiver.id AS to_user_id, receiver.email AS to_email, \
     receiver.display_name AS to_display_name, receiver.status AS to_status FROM ownership_transfers t \
     JOIN users giver ON giver.id = t.from_user_id JOIN users receiver ON receiver.id = t.to_user_id WHERE ";

impl FromQueryResult for OwnershipTransfer {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "id")?.into(),
            organization: row.try_get::<Uuid>(prefix, "organization_id")?.into(),
            from: User::from_query_result(row, "from_")?,
            to: User::from_query_result(row, "to_")?,
            status: word(&row.try_get::<String>(prefix, "status")?, OwnershipTransferStatus::from_word)?,
            expires_at: row.try_get(prefix, "expires_at")?,
            responded_at: row.try_get(prefix, "responded_at")?,
            created_at: row.try_get(prefix, "created_at")?,
        })
    }
}

impl OwnershipTransfer {
    /// The same with the status people see at that moment.
    fn at(mut self, now: DateTime<Utc>) -> Self {
        self.status = effective_status(self.status, self.expires_at, now);
        self
    }
}

/// Finds a transfer of the organization while that is locked.
async fn find(
    tx: &Tx<'_>,
    organization: OrganizationId,
    id: OwnershipTransferId,
) -> Result<Option<OwnershipTransfer>, Fault> {
    let sql = Sql::new(format!("{TRANSFERS} t.organization_id = "))
        .bind(organization.uuid())
        .push(" AND t.id = ")
        .bind(id.uuid());
    Ok(tx.one::<OwnershipTransfer>(sql).await?.map(|transfer| transfer.at(tx.now())))
}

/// Gives a pending transfer its final status.
async fn finish(
    tx: &Tx<'_>,
    transfer: &mut OwnershipTransfer,
    status: OwnershipTransferStatus,
) -> Result<(), Fault> {
    end_pending(tx, transfer.organization, status, |sql| sql.push(" AND id = ").bind(transfer.id.uuid()))
        .await?;
    (transfer.status, transfer.responded_at) = (status, Some(tx.now()));
    Ok(())
}

/// Ends the organization's pending transfer, if it is one of those that `which` keeps.
async fn end_pending(
    tx: &Tx<'_>,
    organization: OrganizationId,
    status: OwnershipTransferStatus,
    which: impl FnOnce(Sql) -> Sql,
) -> Result<(), Fault> {
    let sql = Sql::new("UPDATE ownership_transfers SET status = ")
        .bind(status.word())
        .push(", responded_at = ")
        .bind(tx.now())
        .push(" WHERE status = 'PENDING' AND organization_id = ")
        .bind(organization.uuid());
    tx.run(which(sql)).await?;
    Ok(())
}

/// Ends the pending transfer from somebody whose role is another one than when they asked.
pub(crate) async fn void_from(tx: &Tx<'_>, organization: OrganizationId, user: UserId) -> Result<(), Fault> {
    end_pending(tx, organization, OwnershipTransferStatus::Void, |sql| {
        sql.push(" AND from_user_id = ").bind(user.uuid())
    })
    .await
}

/// Ends the pending transfer from or to somebody who does not belong to the organization any more.
pub(crate) async fn void_of(tx: &Tx<'_>, organization: OrganizationId, user: UserId) -> Result<(), Fault> {
    end_pending(tx, organization, OwnershipTransferStatus::Void, |sql| {
        sql.push(" AND (from_user_id = ")
            .bind(user.uuid())
            .push(" OR to_user_id = ")
            .bind(user.uuid())
            .push(")")
    })
    .await
}

fn entry(action: Action, transfer: &OwnershipTransfer) -> Entry {
    Entry::of(action, ObjectKind::OwnershipTransfer, transfer.id, transfer.to.display_name.as_str())
        .in_organization(transfer.organization)
}

/// A transfer, as the audit log tells it.
fn shown(transfer: &OwnershipTransfer) -> Value {
    json!({ "from": transfer.from.email, "to": transfer.to.email, "status": transfer.status.word() })
}

/// Asks a member to take the organization over from the actor. One that is pending is replaced.
pub async fn ask(
    db: &Db,
    proof: &Granted<perm::OrganizationGovern>,
    to: UserId,
) -> Result<OwnershipTransfer, OpError<TransferOwnershipCode>> {
    db.write(proof, async |tx| {
        let access = tx.organization()?.clone();
        let (organization, by) = (access.organization(), access.person()?);
        let Some(receiver) = organization_members::find(tx, organization, to).await? else {
            return Err(Refusal::new(
                TransferOwnershipCode::NotFound,
                "This organization has no such member.",
            )
            .at("userId")
            .into());
        };
        judge_asking(&receiver.facts, by)?;
        // What nobody answered in time is over by itself; here it is written down.
        let expired = |sql: Sql| sql.push(" AND expires_at <= ").bind(tx.now());
        end_pending(tx, organization, OwnershipTransferStatus::Expired, expired).await?;
        end_pending(tx, organization, OwnershipTransferStatus::Superseded, |sql| sql).await?;
        let id: OwnershipTransferId = tx.fresh_id();
        tx.run(Sql::insert(
            "ownership_transfers",
            [
                ("id", id.uuid().into()),
                ("organization_id", organization.uuid().into()),
                ("from_user_id", by.uuid().into()),
                ("to_user_id", to.uuid().into()),
                ("status", OwnershipTransferStatus::Pending.word().into()),
                ("expires_at", expiry(tx.now()).into()),
                ("created_at", tx.now().into()),
            ],
        ))
        .await?;
        let transfer =
            find(tx, organization, id).await?.ok_or_else(|| Fault::Stored(format!("{id} went away")))?;
        tx.audit(&entry(Action::TransferOwnership, &transfer).after(shown(&transfer)))?;
        Ok(transfer)
    })
    .await
}

/// Takes a pending transfer back.
pub async fn cancel(
    db: &Db,
    proof: &Granted<perm::OrganizationGovern>,
    id: OwnershipTransferId,
) -> Result<OwnershipTransfer, OpError<CancelOwnershipTransferCode>> {
    db.write(proof, async |tx| {
        let organization = tx.organization()?.organization();
        let Some(mut transfer) = find(tx, organization, id).await? else {
            return Err(Refusal::new(
                CancelOwnershipTransferCode::NotFound,
                "This organization has no such transfer.",
            )
            .at("transferId")
            .into());
        };
        judge_pending(transfer.status)?;
        let was = shown(&transfer);
        finish(tx, &mut transfer, OwnershipTransferStatus::Cancelled).await?;
        tx.audit(&entry(Action::CancelOwnershipTransfer, &transfer).changed(was, shown(&transfer)))?;
        Ok(transfer)
    })
    .await
}

/// A transfer to the actor, with its organization locked; `among` narrows which, and `may` says whether they may answer it.
async fn load_own<C>(
    tx: &Tx<'_>,
    proof: &OwnSession,
    id: OwnershipTransferId,
    among: &str,
    may: impl FnOnce(&OrganizationAccess) -> Result<(), Denied>,
    missing: C,
) -> Result<OwnershipTransfer, OpError<C>> {
    let own = Sql::new("SELECT t.organization_id FROM ownership_transfers t WHERE t.id = ")
        .bind(id.uuid())
        .push(" AND t.to_user_id = ")
        .bind(proof.user().uuid())
        .push(among);
    if let Some(Single(organization)) = tx.one::<Single<Uuid>>(own).await? {
        let organization = organization.into();
        tx.lock_organization(organization).await?;
        // Whoever has not done what the organization demands answers nothing in it; who has no place there is told otherwise.
        match access::organization(tx.conn(), proof.actor(), organization, tx.now()).await {
            Ok(access) => may(&access)?,
            Err(ReadError::Denied(_)) => {}
            Err(fault) => return Err(fault.into()),
        }
        // Read again under the lock: another answer may have come first.
        if let Some(transfer) = find(tx, organization, id).await? {
            return Ok(transfer);
        }
    }
    Err(Refusal::new(missing, "You have no such transfer of ownership.").at("transferId").into())
}

/// Takes the organization over: the actor becomes an owner, and whoever asked them an admin.
pub async fn accept(
    db: &Db,
    proof: &OwnSession,
    id: OwnershipTransferId,
) -> Result<OwnershipTransfer, OpError<AcceptOwnershipTransferCode>> {
    let outcome = db
        .write(proof, async |tx| {
            let missing = AcceptOwnershipTransferCode::NotFound;
            let mut transfer =
                load_own(tx, proof, id, "", OrganizationAccess::may_become_owner, missing).await?;
            judge_pending(transfer.status)?;
            let (organization, from, to) = (transfer.organization, transfer.from.id, transfer.to.id);
            let giver = organization_members::find(tx, organization, from).await?;
            let receiver = organization_members::find(tx, organization, to).await?;
            let (giver, receiver) = (giver.map(|found| found.facts), receiver.map(|found| found.facts));
            if let Err(refusal) = judge_taking_over(giver.as_ref(), receiver.as_ref()) {
                tx.unaudited("it was void before somebody noticed");
                finish(tx, &mut transfer, OwnershipTransferStatus::Void).await?;
                // Committed: it is void for everybody from now on.
                return Ok(Err(refusal));
            }
            for (user, role) in [(to, OrganizationRole::Owner), (from, OrganizationRole::Admin)] {
                organization_members::set(tx, organization, user, "role", role.word()).await?;
                tx.append(Event::Rights { user });
            }
            let was = shown(&transfer);
            finish(tx, &mut transfer, OwnershipTransferStatus::Accepted).await?;
            tx.audit(&entry(Action::AcceptOwnershipTransfer, &transfer).changed(was, shown(&transfer)))?;
            Ok(Ok(transfer))
        })
        .await?;
    outcome.map_err(Into::into)
}

/// Declines to take the organization over.
pub async fn decline(
    db: &Db,
    proof: &OwnSession,
    id: OwnershipTransferId,
) -> Result<OwnershipTransfer, OpError<DeclineOwnershipTransferCode>> {
    db.write(proof, async |tx| {
        let may = |access: &OrganizationAccess| access.may_change(Permission::OrganizationView);
        let mut transfer =
            load_own(tx, proof, id, OF_ACTIVE, may, DeclineOwnershipTransferCode::NotFound).await?;
        judge_pending(transfer.status)?;
        let was = shown(&transfer);
        finish(tx, &mut transfer, OwnershipTransferStatus::Declined).await?;
        tx.audit(&entry(Action::DeclineOwnershipTransfer, &transfer).changed(was, shown(&transfer)))?;
        Ok(transfer)
    })
    .await
}

/// The pending transfer of each organization in turn, for those who may know of it: its owners and the receiver.
pub async fn pending_of_each(
    db: &Db,
    proofs: &[Granted<perm::OrganizationView>],
) -> Result<Vec<Option<OwnershipTransfer>>, ReadError> {
    let Some(proof) = proofs.first() else { return Ok(Vec::new()) };
    let sql = Sql::new(format!("{TRANSFERS} t.status = 'PENDING' AND t.expires_at > "))
        .bind(db.now())
        .push(" AND t.organization_id IN ")
        .bind_list(proofs.iter().map(|proof| proof.access().organization().uuid()));
    let rows: Vec<OwnershipTransfer> = db.read(proof).all(sql).await?;
    let known = |proof: &Granted<perm::OrganizationView>| {
        let access = proof.access();
        let row = rows.iter().find(|row| row.organization == access.organization())?;
        let governs = access.permissions().holds(Permission::OrganizationGovern);
        let is_opened = access.arrival().is_some_and(|arrival| arrival.by != Entrance::OtherProvider);
        (governs || is_opened && Some(row.to.id) == access.actor().person()).then(|| row.clone())
    };
    Ok(proofs.iter().map(known).collect())
}

/// Of the transfers `t` those to somebody who is active in the organization.
const OF_ACTIVE: &str = " AND EXISTS (SELECT 1 FROM organization_members om WHERE om.organization_id = t.organization_id \
     AND om.user_id = t.to_user_id AND om.status = 'ACTIVE')";

/// Transfers `t` to the actor that are pending, in organizations where they are active and which the session opens.
fn received_sql(sql: Sql, proof: &OwnSession, now: DateTime<Utc>) -> Sql {
    sql.push("t.status = 'PENDING' AND t.expires_at > ")
        .bind(now)
        .push(" AND t.to_user_id = ")
        .bind(proof.user().uuid())
        .push(OF_ACTIVE)
        .push(" AND ")
        .append(opens(proof, "t.organization_id"))
}

/// The pending transfers to the actor, by age.
pub async fn received_page(
    db: &Db,
    proof: &OwnSession,
    args: &PageArgs<Uuid>,
) -> Result<Page<OwnershipTransfer>, ReadError> {
    let sql = received_sql(Sql::new(TRANSFERS), proof, db.now());
    Ok(Page::cut(args, db.read(proof).all(page_by(sql, args, "t.id")).await?))
}

/// How many transfers [`received_page`] lists in all.
pub async fn count_received(db: &Db, proof: &OwnSession) -> Result<u64, ReadError> {
    let sql = received_sql(Sql::new("SELECT count(*) FROM ownership_transfers t WHERE "), proof, db.now());
    count(db.read(proof).one(sql).await?)
}

/// A transfer, if the actor may see it: they are active in its organization, which the session opens, and its receiver, or an
/// owner of whom nothing is demanded first.
pub async fn visible(
    db: &Db,
    proof: &OwnSession,
    id: OwnershipTransferId,
) -> Result<Option<OwnershipTransfer>, ReadError> {
    let sql = Sql::new(format!("{TRANSFERS} t.id = "))
        .bind(id.uuid())
        .push(
            " AND EXISTS (SELECT 1 FROM organization_members om JOIN organizations o ON o.id = om.organization_id \
             JOIN users me ON me.id = om.user_id JOIN sessions s ON s.user_id = me.id AND s.id = ",
        )
        .bind(proof.session().uuid())
        .push(" WHERE om.organization_id = t.organization_id AND om.status = 'ACTIVE' AND om.user_id = ")
        .bind(proof.user().uuid())
        .push(" AND (om.user_id = t.to_user_id OR om.role = 'OWNER'");
    let has_second_factor = "me.second_factor_at IS NOT NULL";
    let sql = where_nothing_is_demanded(sql, db.engine(), "om", has_second_factor, db.now())
        .push(")) AND ")
        .append(opens(proof, "t.organization_id"));
    let row: Option<OwnershipTransfer> = db.read(proof).one(sql).await?;
    Ok(row.map(|transfer| transfer.at(db.now())))
}
