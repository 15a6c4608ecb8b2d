//! The record of uses of credentials in the schema.

use async_graphql::{Context, Description, ID, Object, Result};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    credentials::UseOutcome,
    page::{Page, PageArgs},
};
use guildhall_persistence::credential_uses::{self, Uses};
use uuid::Uuid;

use crate::{
    accounts::User,
    connection::{Window, connection},
    credentials::SharingWorkspace,
    loaders,
    machines::Machine,
    schema::mirror,
};

mirror! {
    /// How a use of a credential ended.
    enum CredentialUseOutcome = UseOutcome {
        /// The values were handed out for a workload.
        Used,
        /// All values were shown to a person.
        Revealed,
        /// The connection was tried with the values.
        Tested,
        /// Refused: the user may not use credentials there.
        Forbidden,
        /// Refused: the workspace, or the one that lends, is archived.
        Suspended,
        /// Refused: what was lent was taken back, given back or is not accepted yet.
        NotShared,
        /// Refused: the loan has ended.
        Expired,
    }
}

/// A use of a credential, or a try. Seen with `CREDENTIAL_MANAGE` in the workspace that owns the credential and in the one
/// that it was used from.
#[derive(Description)]
pub struct CredentialUse(credential_uses::CredentialUse);

#[Object(use_type_description)]
impl CredentialUse {
    /// The use's global id.
    async fn id(&self) -> ID {
        self.0.id.into()
    }
    /// The slug of the credential.
    async fn slug(&self) -> &str {
        &self.0.slug
    }
    /// The person who asked; null when a machine did, or when they have left the organization.
    async fn user(&self) -> Option<User> {
        self.0.user.clone().map(User)
    }
    /// The service account or API key that asked; null when a person did.
    async fn machine(&self) -> Option<Machine> {
        self.0.machine.clone().map(Machine)
    }
    /// The workspace it was asked from; null when that was deleted.
    async fn workspace(&self) -> Option<SharingWorkspace> {
        self.0.workspace.clone().map(SharingWorkspace)
    }
    /// The workspace that owned the credential; null when that was deleted.
    async fn owner(&self) -> Option<SharingWorkspace> {
        self.0.owner.clone().map(SharingWorkspace)
    }
    /// What for, as the asker said; empty when a person had the values shown.
    async fn purpose(&self) -> &str {
        &self.0.purpose
    }
    /// How it ended.
    async fn outcome(&self) -> CredentialUseOutcome {
        self.0.outcome.into()
    }
    /// When.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

pub(crate) struct UsesList {
    uses: Uses,
    args: PageArgs<Uuid>,
}

impl UsesList {
    /// The list, as the arguments of the field ask for it.
    pub(crate) fn connection(uses: Uses, window: &Window) -> Result<CredentialUseConnection> {
        let args = window.read(CredentialUseConnection::LIST)?;
        Ok(CredentialUseConnection::new(Self { uses, args }))
    }

    async fn page(&self, ctx: &Context<'_>) -> Result<Page<CredentialUse>> {
        let page = loaders::load(ctx, (self.uses.clone(), self.args.clone())).await?;
        Ok(page.unwrap_or_else(|| Page::cut(&self.args, Vec::new())).map(CredentialUse))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(loaders::load(ctx, self.uses.clone()).await?.unwrap_or(0))
    }
}

connection! {
    /// A list of uses of credentials.
    CredentialUseConnection, CredentialUseEdge, CredentialUse, UsesList, "use", |used| used.0.id.uuid()
}
