//! What searches look through: the names of credentials, folded. A step for each table, so that none holds one while it waits
//! for the other, as those do who are at work meanwhile.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Filled by housekeeping, which holds few rows at once and none for long.
        run(manager, &["ALTER TABLE credentials ADD COLUMN search_text text"]).await
    }
}
