//! Organizations, people, who belongs where, and signed-in devices.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // What the instance knows of itself, such as the check value of its master key.
        let mut instance = table("instance", [text("key"), text("value"), at("updated_at")]);
        instance.primary_key(Index::create().col("key"));
        manager.create_table(instance).await?;

        let mut organizations = table(
            "organizations",
            [
                id("id"),
                text("slug"),
                text("name"),
                text("workspace_creation"),
                text("workspace_deletion"),
                text("member_list_visibility"),
                text("share_acceptance"),
                flag("allow_reveal", false),
                ColumnDef::new("invitation_lifetime_hours").integer().null().take(),
                at("created_at"),
                at("updated_at"),
            ],
        );
        organizations.primary_key(Index::create().col("id"));
        manager.create_table(organizations).await?;

        let mut users = table(
            "users",
            [
                id("id"),
                text("email"),
                text("display_name"),
                // Display name and e-mail in lower case by Unicode, which SQLite cannot do itself.
                text("search_text"),
                text("status"),
                text("password_hash"),
                at_null("email_verified_at"),
                at_null("last_sign_in_at"),
                at("created_at"),
                at("updated_at"),
            ],
        );
        users.primary_key(Index::create().col("id"));
        manager.create_table(users).await?;

        let mut members = table(
            "organization_members",
            [id("organization_id"), id("user_id"), text("role"), text("status"), at("created_at")],
        );
        members.primary_key(Index::create().col("user_id").col("organization_id"));
        belongs_to(&mut members, "organization_id", "organizations");
        belongs_to(&mut members, "user_id", "users");
        manager.create_table(members).await?;

        let mut sessions = table(
            "sessions",
            [
                id("id"),
                id("user_id"),
                bytes("nonce"),
                number("generation", 1),
                at("rotated_at"),
                text_null("device"),
                text_null("ip"),
                at("created_at"),
                at("last_seen_at"),
                at("expires_at"),
                at_null("ended_at"),
            ],
        );
        sessions.primary_key(Index::create().col("id"));
        belongs_to(&mut sessions, "user_id", "users");
        manager.create_table(sessions).await?;

        run(
            manager,
            &[
                "CREATE UNIQUE INDEX organizations_slug ON organizations (slug)",
                "CREATE UNIQUE INDEX users_email ON users (email)",
                "CREATE INDEX organization_members_organization ON organization_members (organization_id, user_id)",
                "CREATE INDEX sessions_user ON sessions (user_id) WHERE ended_at IS NULL",
            ],
        )
        .await
    }
}
