//! Idempotency keys: what was asked with each, and what was answered.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // `id` is a number made of who asked and the key. `performed`: how many transactions of the attempt were committed.
        // An attempt that is not done has until `leased_until`; who comes later takes over where nothing was performed. The
        // answer of one that is done is told until then.
        let mut keys = table(
            "idempotency_keys",
            [
                id("id"),
                bytes("fingerprint"),
                id("attempt"),
                number("performed", 0),
                flag("is_done", false),
                bytes_null("sealed"),
                at("leased_until"),
                at("expires_at"),
            ],
        );
        keys.primary_key(Index::create().col("id"));
        manager.create_table(keys).await?;
        let mut expiry = Index::create();
        expiry.name("idempotency_keys_expires_at").table("idempotency_keys").col("expires_at");
        manager.create_index(expiry).await
    }
}
