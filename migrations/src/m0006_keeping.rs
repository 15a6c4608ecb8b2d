//! What a workspace keeps: settings, credentials and what is lent of them; and when it was archived.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // The key that a workspace's secrets are sealed with, itself sealed with the master key of that id.
        let mut keys = table(
            "workspace_keys",
            [id("workspace_id"), text("master_key_id"), bytes("wrapped"), at("created_at"), at("wrapped_at")],
        );
        keys.primary_key(Index::create().col("workspace_id"));
        belongs_to(&mut keys, "workspace_id", "workspaces");
        manager.create_table(keys).await?;

        let mut credentials = table(
            "credentials",
            [
                id("id"),
                id("workspace_id"),
                text("kind"),
                text("slug"),
                text("name"),
                text("description"),
                id_null("created_by"),
                id_null("updated_by"),
                at("created_at"),
                at("updated_at"),
            ],
        );
        credentials.primary_key(Index::create().col("id"));
        belongs_to(&mut credentials, "workspace_id", "workspaces");
        manager.create_table(credentials).await?;

        // Either `value`, in the clear, or `sealed` with its `fingerprint`.
        let mut fields = table(
            "credential_fields",
            [
                id("credential_id"),
                text("code"),
                number("place", 0),
                flag("is_secret", true),
                text_null("value"),
                bytes_null("sealed"),
                text_null("fingerprint"),
                at("updated_at"),
            ],
        );
        fields.primary_key(Index::create().col("credential_id").col("code"));
        belongs_to(&mut fields, "credential_id", "credentials");
        manager.create_table(fields).await?;

        // `workspace_id` lends to `target_id`. Of one credential and one target at most one is open.
        let mut shares = table(
            "credential_shares",
            [
                id("id"),
                id("credential_id"),
                id("workspace_id"),
                id("target_id"),
                text("status"),
                id_null("shared_by"),
                at_null("expires_at"),
                id_null("responded_by"),
                at_null("responded_at"),
                at("created_at"),
            ],
        );
        shares.primary_key(Index::create().col("id"));
        belongs_to(&mut shares, "credential_id", "credentials");
        belongs_to(&mut shares, "workspace_id", "workspaces");
        belongs_to(&mut shares, "target_id", "workspaces");
        manager.create_table(shares).await?;

        // `workspace_id` used, or tried to use, what `owner_id` has. Kept when the credential or the other workspace goes.
        let mut uses = table(
            "credential_uses",
            [
                id("id"),
                id_null("credential_id"),
                id_null("owner_id"),
                id_null("workspace_id"),
                id_null("user_id"),
                text("slug"),
                text("purpose"),
                text("outcome"),
                at("created_at"),
            ],
        );
        uses.primary_key(Index::create().col("id"));
        forgets(&mut uses, "credential_id", "credentials");
        forgets(&mut uses, "owner_id", "workspaces");
        forgets(&mut uses, "workspace_id", "workspaces");
        forgets(&mut uses, "user_id", "users");
        manager.create_table(uses).await?;

        // `value` is JSON, whatever the kind.
        let mut properties = table(
            "config_properties",
            [
                id("workspace_id"),
                text("key"),
                text("kind"),
                text("value"),
                id_null("updated_by"),
                at("updated_at"),
            ],
        );
        properties.primary_key(Index::create().col("workspace_id").col("key"));
        belongs_to(&mut properties, "workspace_id", "workspaces");
        manager.create_table(properties).await?;

        let at = match manager.get_database_backend() {
            sea_orm::DbBackend::Sqlite => "timestamp_with_timezone_text",
            _ => "timestamp with time zone",
        };
        run(
            manager,
            &[
                "CREATE INDEX workspace_keys_master ON workspace_keys (master_key_id, workspace_id)",
                "CREATE UNIQUE INDEX credentials_slug ON credentials (workspace_id, slug)",
                "CREATE INDEX credentials_page ON credentials (workspace_id, id)",
                "CREATE UNIQUE INDEX credential_shares_open ON credential_shares (credential_id, target_id) \
                     WHERE status IN ('PENDING', 'ACTIVE')",
                "CREATE INDEX credential_shares_page ON credential_shares (credential_id, id)",
                "CREATE INDEX credential_shares_owner ON credential_shares (workspace_id)",
                "CREATE INDEX credential_shares_target ON credential_shares (target_id, status)",
                "CREATE INDEX credential_shares_by ON credential_shares (shared_by)",
                "CREATE INDEX credential_uses_credential ON credential_uses (credential_id, id)",
                "CREATE INDEX credential_uses_owner ON credential_uses (owner_id, id)",
                "CREATE INDEX credential_uses_workspace ON credential_uses (workspace_id, id)",
                "CREATE INDEX credential_uses_age ON credential_uses (created_at)",
                // With which master key the body is sealed; earlier versions did not say.
                "ALTER TABLE mails ADD COLUMN master_key_id text",
                "ALTER TABLE workspace_descriptions ADD COLUMN version integer NOT NULL DEFAULT 1",
                &format!("ALTER TABLE workspaces ADD COLUMN archived_at {at}"),
                "ALTER TABLE workspaces ADD COLUMN archived_by uuid",
                // For the people who land elsewhere when a workspace is deleted.
                "CREATE INDEX users_default_workspace ON users (default_workspace_id)",
                "CREATE INDEX users_last_workspace ON users (last_workspace_id)",
            ],
        )
        .await
    }
}
