//! The mails that wait and belong to no invitation, mostly about somebody's own account: they come before all invitations.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &["CREATE INDEX mails_account_due ON mails (due_at) WHERE status = 'QUEUED' AND invitation_id IS NULL"],
        )
        .await
    }
}
