//! What leaves the service: the event log that every replica reads, and the mail queue that one worker at a
//! time empties.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // No foreign keys: the log outlives what it tells of.
        let mut seq = ColumnDef::new("seq").big_integer().not_null().auto_increment().primary_key().take();
        let mut events = table(
            "events",
            [
                text("kind"),
                id_null("workspace_id"),
                id_null("user_id"),
                text_null("email"),
                id_null("subject_id"),
                text_null("state"),
                at("created_at"),
            ],
        );
        events.col(&mut seq);
        manager.create_table(events).await?;

        let mut mails = table(
            "mails",
            [
                id("id"),
                text("status"),
                text("recipient"),
                bytes_null("sealed"),
                id_null("invitation_id"),
                number("attempts", 0),
                at("due_at"),
                text_null("last_error"),
                at("created_at"),
                at("updated_at"),
            ],
        );
        mails.primary_key(Index::create().col("id"));
        belongs_to(&mut mails, "invitation_id", "invitations");
        manager.create_table(mails).await?;

        run(
            manager,
            &[
                "CREATE INDEX events_workspace ON events (workspace_id, seq)",
                "CREATE INDEX events_email ON events (email, seq)",
                "CREATE INDEX events_age ON events (created_at)",
                "CREATE INDEX mails_due ON mails (due_at) WHERE status = 'QUEUED'",
                "CREATE INDEX mails_invitation ON mails (invitation_id)",
            ],
        )
        .await
    }
}
