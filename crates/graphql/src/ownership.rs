//! Transfers of an organization's ownership in the schema.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use async_graphql::{Context, Description, ID, InputObject, Object, Result, dataloader::Loader};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Actor, Granted, OwnSession, perm},
    ids::{OrganizationId, OwnershipTransferId},
    ownership::{
        AcceptOwnershipTransferCode, CancelOwnershipTransferCode, DeclineOwnershipTransferCode,
        OwnershipTransferStatus as DomainStatus, TransferOwnershipCode,
    },
    page::{Page, PageArgs},
    refusal::{InputReader, RefusalCode, Refusals},
};
use guildhall_persistence::{ReadError, ownership};
use uuid::Uuid;

use crate::{
    accounts::User,
    authz::{authorize, authorize_in_organization, caller, db, signed_in, signed_in_directive},
    connection::connection,
    error, input,
    loaders::{self, Batches},
    organizations::Organization,
    payload::{answer, payload},
    schema::mirror,
};

mirror! {
    /// Where a transfer of ownership stands. Only `PENDING` can change.
    enum OwnershipTransferStatus = DomainStatus {
        /// Waits for the receiver's answer.
        Pending,
        /// The receiver took over.
        Accepted,
        /// The receiver declined.
        Declined,
        /// Taken back by an owner.
        Cancelled,
        /// Nobody answered within seven days.
        Expired,
        /// An owner asked again, this person or another.
        Superseded,
        /// The giver was no owner any more, or the receiver no active member.
        Void,
    }
}

/// An owner asks a member to take the organization over. Seen by its owners and by the receiver.
#[derive(Description)]
pub struct OwnershipTransfer(pub(crate) ownership::OwnershipTransfer);

#[Object(use_type_description)]
impl OwnershipTransfer {
    /// The transfer's global id.
    pub(crate) async fn id(&self) -> ID {
        self.0.id.into()
    }
    /// The organization; null when you do not see it any more, and to the receiver in a `dryRun`.
    async fn organization(&self, ctx: &Context<'_>) -> Option<Result<Organization>> {
        let actor = caller(ctx).actor?;
        // A trial of taking over would read, without a trace, what only owners do.
        if db(ctx).is_rehearsing() && actor.person() == Some(self.0.to.id) {
            return None;
        }
        let found = loaders::load(ctx, (actor, self.0.organization)).await;
        found.transpose().map(|standing| Organization::new(standing?))
    }
    /// The owner who asks. They become an admin when it is accepted.
    async fn from(&self) -> User {
        User(self.0.from.clone())
    }
    /// The member who is asked, and becomes an owner by accepting.
    async fn to(&self) -> User {
        User(self.0.to.clone())
    }
    /// Where it stands.
    async fn status(&self) -> OwnershipTransferStatus {
        self.0.status.into()
    }
    /// When it was asked for.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
    /// When it expires: seven days after it was asked for.
    async fn expires_at(&self) -> DateTime<Utc> {
        self.0.expires_at
    }
    /// When it was answered, taken back or replaced.
    async fn responded_at(&self) -> Option<DateTime<Utc>> {
        self.0.responded_at
    }
}

/// The pending transfer of an organization, as far as the holder of the proof may know of it.
#[derive(Clone)]
pub(crate) struct PendingKey(pub(crate) Granted<perm::OrganizationView>);

impl PendingKey {
    fn parts(&self) -> (Actor, OrganizationId) {
        (self.0.access().actor(), self.0.access().organization())
    }
}

impl PartialEq for PendingKey {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for PendingKey {}

impl Hash for PendingKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl Loader<PendingKey> for Batches {
    type Value = ownership::OwnershipTransfer;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[PendingKey]) -> Result<HashMap<PendingKey, Self::Value>, Self::Error> {
        let proofs: Vec<_> = keys.iter().map(|key| key.0.clone()).collect();
        let found = ownership::pending_of_each(&self.0, &proofs).await?;
        Ok(keys.iter().cloned().zip(found).filter_map(|(key, found)| Some((key, found?))).collect())
    }
}

pub(crate) struct OwnershipTransfers {
    pub(crate) proof: OwnSession,
    pub(crate) args: PageArgs<Uuid>,
}

impl OwnershipTransfers {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<OwnershipTransfer>> {
        let page = ownership::received_page(db(ctx), &self.proof, &self.args).await;
        Ok(page.map_err(|fault| error::read(ctx, fault))?.map(OwnershipTransfer))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        ownership::count_received(db(ctx), &self.proof).await.map_err(|fault| error::read(ctx, fault))
    }
}

connection! {
    /// A list of transfers of ownership.
    OwnershipTransferConnection, OwnershipTransferEdge, OwnershipTransfer, OwnershipTransfers,
    "ownershipTransfer", |transfer| transfer.0.id.uuid()
}

/// Whom to ask to take over.
#[derive(InputObject)]
pub struct TransferOwnershipInput {
    /// The organization.
    organization_id: ID,
    /// The person: an active member of it who is no owner.
    user_id: ID,
}

payload! {
    /// Who was asked.
    TransferOwnershipPayload, TransferOwnershipError = TransferOwnershipCode {
        /// The transfer; it waits for the receiver.
        transfer: OwnershipTransfer,
    }
}

/// Which transfer to accept.
#[derive(InputObject)]
pub struct AcceptOwnershipTransferInput {
    /// The transfer: one to yourself.
    transfer_id: ID,
}

payload! {
    /// What you took over.
    AcceptOwnershipTransferPayload, AcceptOwnershipTransferError = AcceptOwnershipTransferCode {
        /// The transfer, accepted.
        transfer: OwnershipTransfer,
    }
}

/// Which transfer to decline.
#[derive(InputObject)]
pub struct DeclineOwnershipTransferInput {
    /// The transfer: one to yourself.
    transfer_id: ID,
}

payload! {
    /// What you declined.
    DeclineOwnershipTransferPayload, DeclineOwnershipTransferError = DeclineOwnershipTransferCode {
        /// The transfer, declined.
        transfer: OwnershipTransfer,
    }
}

/// Which transfer to take back.
#[derive(InputObject)]
pub struct CancelOwnershipTransferInput {
    /// The organization.
    organization_id: ID,
    /// The transfer.
    transfer_id: ID,
}

payload! {
    /// What was taken back.
    CancelOwnershipTransferPayload, CancelOwnershipTransferError = CancelOwnershipTransferCode {
        /// The transfer, cancelled.
        transfer: OwnershipTransfer,
    }
}

fn read_transfer<C: RefusalCode>(id: &ID) -> Result<OwnershipTransferId, Refusals<C>> {
    let mut reader = InputReader::default();
    let transfer = reader.field("transferId", input::id(id));
    reader.all(transfer)
}

/// The part of the mutation root about ownership.
#[derive(Default)]
pub struct OwnershipMutation;

#[Object]
impl OwnershipMutation {
    /// Asks an active member to take the organization over from you, within seven days. A transfer that is pending is
    /// replaced. Nothing else changes until it is accepted.
    #[graphql(directive = authorize::apply("ORGANIZATION_GOVERN".to_owned()))]
    async fn transfer_ownership(
        &self,
        ctx: &Context<'_>,
        input: TransferOwnershipInput,
    ) -> Result<TransferOwnershipPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let user = reader.field("userId", input::id(&input.user_id));
            ownership::ask(db(ctx), &proof, reader.all(user)?).await
        }
        .await;
        answer(ctx, outcome, |row| TransferOwnershipPayload {
            transfer: Some(OwnershipTransfer(row)),
            user_errors: Vec::new(),
        })
    }

    /// Takes an organization over: you become an owner, and whoever asked you an admin. `FORBIDDEN` in a session that an
    /// identity provider opened, in which nobody is an owner: sign in with your password. Where the organization lets in only who
    /// comes by its provider, it has to switch `passwordSignIn` on for that.
    #[graphql(directive = signed_in_directive::apply())]
    async fn accept_ownership_transfer(
        &self,
        ctx: &Context<'_>,
        input: AcceptOwnershipTransferInput,
    ) -> Result<AcceptOwnershipTransferPayload> {
        let proof = signed_in(ctx).await?;
        let outcome =
            async { ownership::accept(db(ctx), &proof, read_transfer(&input.transfer_id)?).await }.await;
        answer(ctx, outcome, |row| AcceptOwnershipTransferPayload {
            transfer: Some(OwnershipTransfer(row)),
            user_errors: Vec::new(),
        })
    }

    /// Declines to take an organization over.
    #[graphql(directive = signed_in_directive::apply())]
    async fn decline_ownership_transfer(
        &self,
        ctx: &Context<'_>,
        input: DeclineOwnershipTransferInput,
    ) -> Result<DeclineOwnershipTransferPayload> {
        let proof = signed_in(ctx).await?;
        let outcome =
            async { ownership::decline(db(ctx), &proof, read_transfer(&input.transfer_id)?).await }.await;
        answer(ctx, outcome, |row| DeclineOwnershipTransferPayload {
            transfer: Some(OwnershipTransfer(row)),
            user_errors: Vec::new(),
        })
    }

    /// Takes a pending transfer back; any owner may, whoever asked.
    #[graphql(directive = authorize::apply("ORGANIZATION_GOVERN".to_owned()))]
    async fn cancel_ownership_transfer(
        &self,
        ctx: &Context<'_>,
        input: CancelOwnershipTransferInput,
    ) -> Result<CancelOwnershipTransferPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome =
            async { ownership::cancel(db(ctx), &proof, read_transfer(&input.transfer_id)?).await }.await;
        answer(ctx, outcome, |row| CancelOwnershipTransferPayload {
            transfer: Some(OwnershipTransfer(row)),
            user_errors: Vec::new(),
        })
    }
}
