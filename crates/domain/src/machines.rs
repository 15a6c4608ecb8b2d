//! Machines that act: service accounts and API keys. Says what there is of both; what each of them is stands in
//! `service_accounts.rs` and `api_keys.rs`, and what they may do in `access/machine.rs`.

use crate::access::policy::words;

words! {
    /// What kind of machine.
    MachineKind {
        /// An API key, of a workspace or of a service account.
        ApiKey = "API_KEY",
        /// A service account with an access token of its own.
        ServiceAccount = "SERVICE_ACCOUNT",
    }
}
