//! Who did what: the audit log, its chains with their signed checkpoints, and the keys that sign.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Refers to nothing but its organization: it outlives workspaces and people. `place` and the hashes are filled in
        // when the entry is chained.
        let mut events = table(
            "audit_events",
            [
                id("id"),
                id("organization_id"),
                id_null("workspace_id"),
                at("created_at"),
                text("actor_kind"),
                text_null("actor_id"),
                text("actor_name"),
                text("action"),
                text("object_kind"),
                text("object_id"),
                text("object_name"),
                text_null("before_json"),
                text_null("after_json"),
                text_null("request_id"),
                text_null("ip"),
                big_null("place"),
                text_null("previous_hash"),
                text_null("hash"),
            ],
        );
        events.primary_key(Index::create().col("id"));
        belongs_to(&mut events, "organization_id", "organizations");
        manager.create_table(events).await?;

        // Where each chain ends, and up to where it is signed. Its row is locked while the chain grows.
        let mut chains = table(
            "audit_chains",
            [id("organization_id"), big("place"), text("hash"), big("signed_place"), at("signed_at")],
        );
        chains.primary_key(Index::create().col("organization_id"));
        belongs_to(&mut chains, "organization_id", "organizations");
        manager.create_table(chains).await?;

        let mut checkpoints = table(
            "audit_checkpoints",
            [
                id("organization_id"),
                big("place"),
                text("hash"),
                at("created_at"),
                text("key_id"),
                bytes("signature"),
            ],
        );
        checkpoints.primary_key(Index::create().col("organization_id").col("place"));
        belongs_to(&mut checkpoints, "organization_id", "organizations");
        manager.create_table(checkpoints).await?;

        // `sealed` is the private key, sealed with the master key of that id.
        let mut keys = table(
            "signing_keys",
            [
                id("id"),
                text("purpose"),
                bytes("public_key"),
                text("master_key_id"),
                bytes("sealed"),
                at("created_at"),
                at("sealed_at"),
                at_null("retired_at"),
            ],
        );
        keys.primary_key(Index::create().col("id"));
        manager.create_table(keys).await?;

        run(
            manager,
            &[
                "CREATE INDEX audit_events_page ON audit_events (organization_id, id)",
                "CREATE INDEX audit_events_workspace ON audit_events (workspace_id, id)",
                "CREATE UNIQUE INDEX audit_events_place ON audit_events (organization_id, place)",
                "CREATE INDEX audit_events_unchained ON audit_events (organization_id, id) WHERE place IS NULL",
                // One key of a purpose signs at a time.
                "CREATE UNIQUE INDEX signing_keys_current ON signing_keys (purpose) WHERE retired_at IS NULL",
            ],
        )
        .await
    }
}
