//! What service accounts and API keys have in common in the schema.

use async_graphql::{Description, ID, Object};
use guildhall_domain::machines::MachineKind as DomainKind;
use guildhall_persistence::machines::MachineRef;

use crate::schema::mirror;

mirror! {
    /// What kind of machine.
    enum MachineKind = DomainKind {
        /// An API key, of a workspace or of a service account.
        ApiKey,
        /// A service account with an access token of its own.
        ServiceAccount,
    }
}

/// A service account or API key as it was called when it did something. It may be gone since; `node` has it while it is there.
#[derive(Description)]
pub struct Machine(pub(crate) MachineRef);

#[Object(use_type_description)]
impl Machine {
    /// What kind of machine.
    async fn kind(&self) -> MachineKind {
        self.0.kind.into()
    }
    /// The global id that it has, or had.
    async fn id(&self) -> ID {
        self.0.global_id().into()
    }
    /// The name it had then.
    async fn name(&self) -> &str {
        &self.0.name
    }
}
