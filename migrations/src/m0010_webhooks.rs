//! Webhooks: where a workspace's events are told, and what was or is to be sent there.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut webhooks = table(
            "webhooks",
            [
                id("id"),
                id("workspace_id"),
                text("name"),
                text("url"),
                // Words of events, as JSON.
                text("events"),
                text("status"),
                text_null("disabled_reason"),
                at_null("disabled_at"),
                bytes("sealed_secret"),
                at("secret_made_at"),
                // Signs as well until `previous_until`.
                bytes_null("sealed_previous"),
                at_null("previous_until"),
                // How far the event log was gathered for it, and the audit log where it takes that.
                big("event_cursor"),
                big_null("audit_cursor"),
                // When the earliest of its deliveries is due, and until when somebody is at one.
                at_null("due_at"),
                at_null("leased_until"),
                at_null("failing_since"),
                id_null("created_by"),
                at("created_at"),
                at("updated_at"),
            ],
        );
        webhooks.primary_key(Index::create().col("id"));
        belongs_to(&mut webhooks, "workspace_id", "workspaces");
        manager.create_table(webhooks).await?;

        let mut deliveries = table(
            "webhook_deliveries",
            [
                id("id"),
                id("webhook_id"),
                // The `type` of the payload.
                text("kind"),
                text("payload"),
                text("state"),
                // All tries, and those since it was queued or replayed last.
                number("attempts", 0),
                number("tries", 0),
                at("due_at"),
                at_null("tried_at"),
                at_null("delivered_at"),
                ColumnDef::new("response_status").integer().null().take(),
                text_null("response_body"),
                text_null("fault"),
                at("created_at"),
                at("updated_at"),
            ],
        );
        deliveries.primary_key(Index::create().col("id"));
        belongs_to(&mut deliveries, "webhook_id", "webhooks");
        manager.create_table(deliveries).await?;

        run(
            manager,
            &[
                "CREATE INDEX webhooks_page ON webhooks (workspace_id, id)",
                "CREATE INDEX webhooks_due ON webhooks (due_at) WHERE status = 'ACTIVE' AND due_at IS NOT NULL",
                "CREATE INDEX webhook_deliveries_page ON webhook_deliveries (webhook_id, id)",
                "CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, due_at) WHERE state = 'PENDING'",
                "CREATE INDEX webhook_deliveries_age ON webhook_deliveries (created_at)",
                // What was added to the log of one workspace since.
                "CREATE INDEX audit_events_in_workspace ON audit_events (workspace_id, place) WHERE place IS NOT NULL",
            ],
        )
        .await
    }
}
