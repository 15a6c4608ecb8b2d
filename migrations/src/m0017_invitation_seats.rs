//! Which addresses have a seat in an organization by being invited: counted for each organization each hour, and at each
//! invitation where seats are limited.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &["CREATE INDEX invitations_seats ON invitations (organization_id, email) WHERE status = 'PENDING'"],
        )
        .await
    }
}
