//! Organizations that are run: custom roles that can be given up, memberships that an invitation limits in time,
//! invitations to the organization itself, transfers of ownership.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Of each organization at most one is pending: the newest asks.
        let mut transfers = table(
            "ownership_transfers",
            [
                id("id"),
                id("organization_id"),
                id("from_user_id"),
                id("to_user_id"),
                text("status"),
                at("expires_at"),
                at_null("responded_at"),
                at("created_at"),
            ],
        );
        transfers.primary_key(Index::create().col("id"));
        belongs_to(&mut transfers, "organization_id", "organizations");
        belongs_to(&mut transfers, "from_user_id", "users");
        belongs_to(&mut transfers, "to_user_id", "users");
        manager.create_table(transfers).await?;

        let at = match manager.get_database_backend() {
            sea_orm::DbBackend::Sqlite => "timestamp_with_timezone_text",
            _ => "timestamp with time zone",
        };
        run(
            manager,
            &[
                "CREATE UNIQUE INDEX ownership_transfers_pending ON ownership_transfers (organization_id) WHERE status = 'PENDING'",
                "CREATE INDEX ownership_transfers_to ON ownership_transfers (to_user_id, id)",
                // A role that was given up stays for the history that names it; its key is free again.
                &format!("ALTER TABLE roles ADD COLUMN deleted_at {at}"),
                "DROP INDEX roles_key",
                "CREATE UNIQUE INDEX roles_key ON roles (organization_id, key) WHERE deleted_at IS NULL",
                "ALTER TABLE organizations ADD COLUMN api_key_max_lifetime_days integer",
                // The role in the organization; null where only workspaces are meant.
                "ALTER TABLE invitations ADD COLUMN organization_role text",
                "CREATE UNIQUE INDEX invitations_organization ON invitations (organization_id, email) \
                     WHERE status = 'PENDING' AND organization_role IS NOT NULL",
                "CREATE INDEX invitations_of_organization ON invitations (organization_id, id) \
                     WHERE organization_role IS NOT NULL",
                // When the membership that comes of it ends; null: never.
                &format!("ALTER TABLE invitation_grants ADD COLUMN membership_expires_at {at}"),
            ],
        )
        .await
    }
}
