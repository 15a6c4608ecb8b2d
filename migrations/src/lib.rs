//! The steps that build Guildhall's tables, oldest first. Knows sea-orm-migration only: a step never imports
//! an entity, since entities change and a step that has run does not.
//!
//! Forward only: in production a step back is a new step forward.

use sea_orm_migration::prelude::*;

mod columns;
mod m0001_accounts;
mod m0002_workspaces;
mod m0003_invitations;
mod m0004_outbox;
mod m0005_organizations;
mod m0006_keeping;
mod m0007_machines;
mod m0008_audit;
mod m0009_sign_in;
mod m0010_webhooks;
mod m0011_idempotency;
mod m0012_second_factors;
mod m0013_single_sign_on;
mod m0014_quotas;
mod m0015_workspace_search;
mod m0016_credential_search;
mod m0017_invitation_seats;
mod m0018_account_mails;
mod m0019_person_search;

/// All steps in order.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_accounts::Step),
            Box::new(m0002_workspaces::Step),
            Box::new(m0003_invitations::Step),
            Box::new(m0004_outbox::Step),
            Box::new(m0005_organizations::Step),
            Box::new(m0006_keeping::Step),
            Box::new(m0007_machines::Step),
            Box::new(m0008_audit::Step),
            Box::new(m0009_sign_in::Step),
            Box::new(m0010_webhooks::Step),
            Box::new(m0011_idempotency::Step),
            Box::new(m0012_second_factors::Step),
            Box::new(m0013_single_sign_on::Step),
            Box::new(m0014_quotas::Step),
            Box::new(m0015_workspace_search::Step),
            Box::new(m0016_credential_search::Step),
            Box::new(m0017_invitation_seats::Step),
            Box::new(m0018_account_mails::Step),
            Box::new(m0019_person_search::Step),
        ]
    }
}
