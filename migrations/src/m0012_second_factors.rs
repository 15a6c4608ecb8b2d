//! Second factors: what codes are computed from, who has one, and since when an organization demands it.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // The secret that an authenticator app shares with this service, sealed with the master key of that id. Of each person
        // at most one is in force, and one waits to be confirmed. `last_step`: the newest whose code was used.
        let mut factors = table(
            "second_factors",
            [
                id("id"),
                id("user_id"),
                text("master_key_id"),
                bytes("sealed"),
                at("sealed_at"),
                big_null("last_step"),
                at("created_at"),
                at_null("confirmed_at"),
            ],
        );
        factors.primary_key(Index::create().col("id"));
        belongs_to(&mut factors, "user_id", "users");
        manager.create_table(factors).await?;

        let at = match manager.get_database_backend() {
            sea_orm::DbBackend::Sqlite => "timestamp_with_timezone_text",
            _ => "timestamp with time zone",
        };
        run(
            manager,
            &[
                "CREATE UNIQUE INDEX second_factors_user ON second_factors (user_id) WHERE confirmed_at IS NOT NULL",
                "CREATE UNIQUE INDEX second_factors_waiting ON second_factors (user_id) WHERE confirmed_at IS NULL",
                "CREATE INDEX second_factors_master ON second_factors (master_key_id, id)",
                // Rights are read with the person's row, so it says there whether one is in force.
                &format!("ALTER TABLE users ADD COLUMN second_factor_at {at}"),
                &format!("ALTER TABLE organizations ADD COLUMN two_factor_required_since {at}"),
                "ALTER TABLE organizations ADD COLUMN two_factor_grace_hours integer NOT NULL DEFAULT 168",
            ],
        )
        .await
    }
}
