//! The last form of the Greek sigma is folded like the other, so that a part of a name is found wherever it ends.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &["UPDATE users SET search_text = replace(search_text, 'ς', 'σ') WHERE search_text LIKE '%ς%'"],
        )
        .await
    }
}
