//! Loans of credentials in the schema.

use std::sync::Arc;

use async_graphql::{Context, Description, ID, InputObject, Object, Result};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, WorkspaceAccess, perm},
    credentials::{
        AcceptCredentialShareCode, DeclineCredentialShareCode, ShareCredentialCode, ShareStatus,
        UnshareCredentialCode, end_of_share,
    },
    ids::{CredentialId, CredentialShareId},
    page::{Page, PageArgs},
    refusal::InputReader,
    text::SearchTerm,
};
use guildhall_persistence::credential_shares::{self, Shares};
use uuid::Uuid;

use crate::{
    accounts::User,
    authors::author,
    authz::{authorize, authorize_in, caller, db},
    connection::{Window, connection},
    credentials::{CredentialType, SharingWorkspace, reference},
    error, input, loaders,
    payload::{answer, payload},
    schema::mirror,
    workspaces::Workspace,
};

mirror! {
    /// Where a loan stands.
    enum CredentialShareStatus = ShareStatus {
        /// Waits for an admin of the borrowing workspace.
        Pending,
        /// Can be used there.
        Active,
        /// An admin of the borrowing workspace did not want it, or gave it back.
        Declined,
        /// The lender took it back.
        Revoked,
        /// Its time is over.
        Expired,
    }
}

/// The loan of a credential to another workspace. Seen by the lender with `CREDENTIAL_SHARE`, and by the borrower with
/// `CREDENTIAL_LIST` while it is offered.
#[derive(Description)]
pub struct CredentialShare {
    access: Arc<WorkspaceAccess>,
    row: credential_shares::CredentialShare,
}

#[Object(use_type_description)]
impl CredentialShare {
    /// The loan's global id.
    async fn id(&self) -> ID {
        self.row.id.into()
    }
    /// What the credential opens.
    async fn credential_type(&self) -> CredentialType {
        self.row.kind.into()
    }
    /// The slug of the credential.
    async fn slug(&self) -> &str {
        &self.row.slug
    }
    /// The name of the credential.
    async fn name(&self) -> &str {
        &self.row.name
    }
    /// The workspace that lends.
    async fn owner(&self) -> SharingWorkspace {
        SharingWorkspace(self.row.owner.clone())
    }
    /// The workspace that borrows.
    async fn target(&self) -> SharingWorkspace {
        SharingWorkspace(self.row.target.clone())
    }
    /// Where it stands.
    async fn status(&self) -> CredentialShareStatus {
        self.row.status.into()
    }
    /// Who lent it. Null where they have left the organization, and where you may not know of the person: whoever manages the
    /// members of the workspace that lists it sees everybody here, and who sees its members sees those who are one.
    async fn shared_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        author(ctx, &self.access, self.row.shared_by).await
    }
    /// When it was lent or offered.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }
    /// When it ends by itself; null: never.
    async fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.row.expires_at
    }
    /// When it was accepted, declined, given back or taken back; null when none of that happened.
    async fn responded_at(&self) -> Option<DateTime<Utc>> {
        self.row.responded_at
    }
}

pub(crate) struct SharesList {
    which: Shares,
    args: PageArgs<Uuid>,
}

impl SharesList {
    /// The list, as the arguments of the field ask for it.
    pub(crate) fn connection(which: Shares, window: &Window) -> Result<CredentialShareConnection> {
        let args = window.read(CredentialShareConnection::LIST)?;
        Ok(CredentialShareConnection::new(Self { which, args }))
    }

    async fn page(&self, ctx: &Context<'_>) -> Result<Page<CredentialShare>> {
        let page = loaders::load(ctx, (self.which.clone(), self.args.clone())).await?;
        let page = page.unwrap_or_else(|| Page::cut(&self.args, Vec::new()));
        Ok(page.map(|row| CredentialShare { access: Arc::clone(self.which.access()), row }))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(loaders::load(ctx, self.which.clone()).await?.unwrap_or(0))
    }
}

connection! {
    /// A list of loans.
    CredentialShareConnection, CredentialShareEdge, CredentialShare, SharesList, "share", |share| share.row.id.uuid()
}

/// The part of the query root about loans.
#[derive(Default)]
pub struct CredentialShareQuery;

#[Object]
impl CredentialShareQuery {
    /// Workspaces to lend a credential to: active ones of the organization that you know of and that do not have it yet,
    /// by name; at most 20.
    #[graphql(directive = authorize::apply("CREDENTIAL_SHARE".to_owned()))]
    async fn credential_share_targets(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace that owns the credential.")] workspace_id: ID,
        #[graphql(desc = "The credential.")] credential_id: ID,
        #[graphql(desc = "Part of a workspace's name, in any case; at most 100 characters.")] search: Option<
            String,
        >,
    ) -> Result<Vec<Workspace>> {
        let proof: Granted<perm::CredentialShare> = authorize_in(ctx, &workspace_id).await?;
        let search = search
            .as_deref()
            .map(SearchTerm::parse_optional)
            .transpose()
            .map_err(|fault| error::bad_input(format!("`search` {}.", fault.message())))?
            .flatten();
        let Ok(credential) = input::id::<CredentialId>(&credential_id) else {
            return Err(error::not_found());
        };
        let found = credential_shares::targets(db(ctx), &proof, credential, search.as_ref()).await;
        let found = found.map_err(|fault| error::read(ctx, fault))?.ok_or_else(error::not_found)?;
        let Some(actor) = caller(ctx).actor else { return Err(error::unauthenticated()) };
        let keys: Vec<_> = found.iter().map(|workspace| (actor, *workspace)).collect();
        let mut standings = loaders::load_many(ctx, keys).await?;
        found
            .into_iter()
            .filter_map(|workspace| standings.remove(&(actor, workspace)))
            .map(Workspace::new)
            .collect()
    }
}

/// What lending a credential takes.
#[derive(InputObject)]
pub struct ShareCredentialInput {
    /// The workspace that owns it.
    workspace_id: ID,
    /// The credential.
    credential_id: ID,
    /// The workspace to lend it to: one of the same organization that you know of.
    target_workspace_id: ID,
    /// When the loan ends by itself; null or absent: never.
    expires_at: Option<DateTime<Utc>>,
}

payload! {
    /// What was lent.
    ShareCredentialPayload, ShareCredentialError = ShareCredentialCode {
        /// The loan.
        share: CredentialShare,
    }
}

/// Which loan.
#[derive(InputObject)]
pub struct UnshareCredentialInput {
    /// The workspace that lends.
    workspace_id: ID,
    /// The loan.
    share_id: ID,
}

payload! {
    /// What was taken back.
    UnshareCredentialPayload, UnshareCredentialError = UnshareCredentialCode {
        /// The loan.
        share: CredentialShare,
    }
}

/// Which offer.
#[derive(InputObject)]
pub struct AcceptCredentialShareInput {
    /// The workspace that it is offered to.
    workspace_id: ID,
    /// The loan.
    share_id: ID,
}

payload! {
    /// What was accepted.
    AcceptCredentialSharePayload, AcceptCredentialShareError = AcceptCredentialShareCode {
        /// The loan.
        share: CredentialShare,
    }
}

/// Which offer or loan.
#[derive(InputObject)]
pub struct DeclineCredentialShareInput {
    /// The workspace that it is offered or lent to.
    workspace_id: ID,
    /// The loan: its own id, or that of the borrowed credential.
    share_id: ID,
}

payload! {
    /// What was declined or given back.
    DeclineCredentialSharePayload, DeclineCredentialShareError = DeclineCredentialShareCode {
        /// The loan.
        share: CredentialShare,
    }
}

/// The part of the mutation root about loans.
#[derive(Default)]
pub struct CredentialShareMutation;

#[Object]
impl CredentialShareMutation {
    /// Lends a credential to another workspace of the organization, whose members can then use it and neither read nor
    /// change it. Where the policy `shareAcceptance` is REQUIRED, an admin of that workspace accepts first.
    #[graphql(directive = authorize::apply("CREDENTIAL_SHARE".to_owned()))]
    async fn share_credential(
        &self,
        ctx: &Context<'_>,
        input: ShareCredentialInput,
    ) -> Result<ShareCredentialPayload> {
        let proof: Granted<perm::CredentialShare> = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let at = reader.field("credentialId", reference(&input.credential_id));
            let target = reader.field("targetWorkspaceId", input::id(&input.target_workspace_id));
            let end = input.expires_at.map(|end| end_of_share(end, db(ctx).now()));
            let end = reader.optional("expiresAt", end);
            let ((at, target), end) = reader.all(at.zip(target).zip(end))?;
            credential_shares::share(db(ctx), &proof, at, target, end).await
        }
        .await;
        answer(ctx, outcome, |share| ShareCredentialPayload {
            share: Some(CredentialShare { access: Arc::clone(proof.access()), row: share }),
            user_errors: Vec::new(),
        })
    }

    /// Takes back what was lent or offered: the next use in the other workspace fails.
    #[graphql(directive = authorize::apply("CREDENTIAL_SHARE".to_owned()))]
    async fn unshare_credential(
        &self,
        ctx: &Context<'_>,
        input: UnshareCredentialInput,
    ) -> Result<UnshareCredentialPayload> {
        let proof: Granted<perm::CredentialShare> = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("shareId", input::id(&input.share_id));
            credential_shares::unshare(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |share| UnshareCredentialPayload {
            share: Some(CredentialShare { access: Arc::clone(proof.access()), row: share }),
            user_errors: Vec::new(),
        })
    }

    /// Accepts a credential that is offered to the workspace.
    #[graphql(directive = authorize::apply("CREDENTIAL_MANAGE".to_owned()))]
    async fn accept_credential_share(
        &self,
        ctx: &Context<'_>,
        input: AcceptCredentialShareInput,
    ) -> Result<AcceptCredentialSharePayload> {
        let proof: Granted<perm::CredentialManage> = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("shareId", input::id(&input.share_id));
            credential_shares::accept(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |share| AcceptCredentialSharePayload {
            share: Some(CredentialShare { access: Arc::clone(proof.access()), row: share }),
            user_errors: Vec::new(),
        })
    }

    /// Declines a credential that is offered to the workspace, or gives back one that it borrows.
    #[graphql(directive = authorize::apply("CREDENTIAL_MANAGE".to_owned()))]
    async fn decline_credential_share(
        &self,
        ctx: &Context<'_>,
        input: DeclineCredentialShareInput,
    ) -> Result<DeclineCredentialSharePayload> {
        let proof: Granted<perm::CredentialManage> = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = match reference(&input.share_id) {
                Ok(guildhall_persistence::credentials::CredentialRef::Borrowed(id)) => Ok(id.uuid().into()),
                _ => input::id::<CredentialShareId>(&input.share_id),
            };
            let id = reader.field("shareId", id);
            credential_shares::decline(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |share| DeclineCredentialSharePayload {
            share: Some(CredentialShare { access: Arc::clone(proof.access()), row: share }),
            user_errors: Vec::new(),
        })
    }
}
