//! Signing in and getting back in: what happened at the door, and how often it failed.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // One row per organization that sees it; a row without one is seen by nobody but whoever runs the instance.
        // `address` is a fingerprint, of an address that nobody has.
        let mut activity = table(
            "login_activity",
            [
                id("id"),
                id_null("organization_id"),
                id_null("user_id"),
                text("code"),
                text_null("ip"),
                text_null("user_agent"),
                text_null("address"),
                at("created_at"),
            ],
        );
        activity.primary_key(Index::create().col("id"));
        belongs_to(&mut activity, "organization_id", "organizations");
        belongs_to(&mut activity, "user_id", "users");
        manager.create_table(activity).await?;

        // How often something failed, under a number made of what it is; and that an account signed in from a network.
        let mut tries = table(
            "sign_in_tries",
            [
                id("id"),
                number("failures", 0),
                at_null("failed_at"),
                at_null("succeeded_at"),
                flag("noted", false),
                at("expires_at"),
            ],
        );
        tries.primary_key(Index::create().col("id"));
        manager.create_table(tries).await?;

        // The link of an address that somebody asked for, whether or not anybody has it.
        let mut resets =
            table("password_resets", [id("id"), id_null("user_id"), bytes("token_hash"), at("expires_at")]);
        resets.primary_key(Index::create().col("id"));
        belongs_to(&mut resets, "user_id", "users");
        manager.create_table(resets).await?;

        // Of each person the newest wish for another address, and where it was confirmed.
        let mut changes = table(
            "email_changes",
            [
                id("user_id"),
                text("new_email"),
                bytes("old_token_hash"),
                bytes("new_token_hash"),
                flag("old_confirmed", false),
                flag("new_confirmed", false),
                at("expires_at"),
            ],
        );
        changes.primary_key(Index::create().col("user_id"));
        belongs_to(&mut changes, "user_id", "users");
        manager.create_table(changes).await?;

        let mut codes =
            table("recovery_codes", [id("id"), id("user_id"), bytes("code_hash"), at("created_at")]);
        codes.primary_key(Index::create().col("id"));
        belongs_to(&mut codes, "user_id", "users");
        manager.create_table(codes).await?;

        run(
            manager,
            &[
                "CREATE INDEX login_activity_page ON login_activity (organization_id, id)",
                "CREATE INDEX login_activity_of_user ON login_activity (organization_id, user_id, id)",
                "CREATE INDEX login_activity_user ON login_activity (user_id, code, created_at)",
                "CREATE INDEX login_activity_age ON login_activity (organization_id, created_at)",
                "CREATE INDEX sign_in_tries_age ON sign_in_tries (expires_at)",
                "CREATE UNIQUE INDEX password_resets_token ON password_resets (token_hash)",
                "CREATE INDEX password_resets_user ON password_resets (user_id)",
                "CREATE UNIQUE INDEX email_changes_old ON email_changes (old_token_hash)",
                "CREATE UNIQUE INDEX email_changes_new ON email_changes (new_token_hash)",
                "CREATE UNIQUE INDEX recovery_codes_user ON recovery_codes (user_id, code_hash)",
                "ALTER TABLE organizations ADD COLUMN login_activity_days integer NOT NULL DEFAULT 90",
            ],
        )
        .await
    }
}
