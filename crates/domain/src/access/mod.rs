//! Who may do what: the catalogue of permissions, roles as sets of them, actors, and the proofs without
//! which no operation runs. Knows no storage; whoever loads the facts asks here for the verdict.

pub mod catalog;
pub mod demands;
pub mod explain;
pub mod machine;
pub mod policy;
pub mod proof;
pub mod role;

pub use catalog::{Permission, perm};
pub use demands::{Arrival, Demand, Entrance};
pub use policy::{
    MemberListVisibility, OrganizationPolicy, OrganizationRole, ShareAcceptance, WorkspaceCreation,
    WorkspaceDeletion,
};
pub use proof::{
    Actor, Denied, Granted, LetIn, Open, OrganizationAccess, OwnSession, Proof, Recheck, System,
    WorkspaceAccess,
};
pub use role::{PermissionSet, Role, SystemRole};
