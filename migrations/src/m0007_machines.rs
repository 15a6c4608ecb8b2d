//! Machines: service accounts, and API keys of workspaces and of service accounts.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut accounts = table(
            "service_accounts",
            [
                id("id"),
                id("workspace_id"),
                text("name"),
                // The name in lower case by Unicode: no two of a workspace are called the same.
                text("name_key"),
                text("description"),
                id("role_id"),
                // Which of its secrets is the present one: a token that was got with another is good no longer.
                number("generation", 1),
                bytes("secret_hash"),
                text("secret_hint"),
                at("secret_made_at"),
                id_null("created_by"),
                at("created_at"),
                at("updated_at"),
                at_null("last_used_at"),
            ],
        );
        accounts.primary_key(Index::create().col("id"));
        belongs_to(&mut accounts, "workspace_id", "workspaces");
        refers_to(&mut accounts, "role_id", "roles");
        manager.create_table(accounts).await?;

        // The previous secret of a key that was rotated is good until `previous_until`.
        let mut keys = table(
            "api_keys",
            [
                id("id"),
                id("workspace_id"),
                id_null("service_account_id"),
                text("name"),
                text("prefix"),
                bytes("secret_hash"),
                bytes_null("previous_hash"),
                at_null("previous_until"),
                // Names of permissions, as JSON.
                text("permissions"),
                flag("is_default", false),
                id_null("created_by"),
                at("created_at"),
                at_null("rotated_at"),
                at_null("expires_at"),
                at_null("revoked_at"),
                id_null("revoked_by"),
                at_null("last_used_at"),
            ],
        );
        keys.primary_key(Index::create().col("id"));
        belongs_to(&mut keys, "workspace_id", "workspaces");
        belongs_to(&mut keys, "service_account_id", "service_accounts");
        manager.create_table(keys).await?;

        run(
            manager,
            &[
                "CREATE UNIQUE INDEX service_accounts_name ON service_accounts (workspace_id, name_key)",
                "CREATE INDEX service_accounts_page ON service_accounts (workspace_id, id)",
                "CREATE INDEX service_accounts_role ON service_accounts (role_id)",
                "CREATE INDEX api_keys_page ON api_keys (workspace_id, id)",
                "CREATE INDEX api_keys_account ON api_keys (service_account_id, id)",
                "CREATE UNIQUE INDEX api_keys_default ON api_keys (workspace_id) WHERE is_default AND revoked_at IS NULL",
                "CREATE INDEX api_keys_author ON api_keys (created_by) WHERE revoked_at IS NULL",
                // Which machine used it, and what it was called; kept when the machine goes.
                "ALTER TABLE credential_uses ADD COLUMN machine_id uuid",
                "ALTER TABLE credential_uses ADD COLUMN machine_kind text",
                "ALTER TABLE credential_uses ADD COLUMN machine_name text",
            ],
        )
        .await
    }
}
