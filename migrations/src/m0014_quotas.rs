//! Quotas: how much organizations and workspaces may use, and how much they do.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // In each table `scope_id` is the workspace's number, or the organization's where there is no workspace. Days are
        // texts like 2026-11-21, which both databases compare alike.

        // `most`: what the organization's admins allow; `ceiling`: what the operator allows the organization. `warned_most`
        // and `warned_period`: of which limit, in which period, somebody was warned last.
        let mut quotas = table(
            "quotas",
            [
                id("scope_id"),
                text("metric"),
                id("organization_id"),
                id_null("workspace_id"),
                big_null("most"),
                big_null("ceiling"),
                big_null("warned_most"),
                text_null("warned_period"),
                at("updated_at"),
            ],
        );
        quotas.primary_key(Index::create().col("scope_id").col("metric"));
        belongs_to(&mut quotas, "organization_id", "organizations");
        belongs_to(&mut quotas, "workspace_id", "workspaces");
        manager.create_table(quotas).await?;

        // What was used in the period that began on that day, of what is counted by adding up.
        let mut totals = table(
            "usage_totals",
            [
                id("scope_id"),
                text("metric"),
                id("organization_id"),
                id_null("workspace_id"),
                text("period"),
                big("used"),
            ],
        );
        totals.primary_key(Index::create().col("scope_id").col("metric"));
        belongs_to(&mut totals, "organization_id", "organizations");
        belongs_to(&mut totals, "workspace_id", "workspaces");
        manager.create_table(totals).await?;

        // For charts: what was used on a day, or how much there was at the end of it.
        let mut days = table(
            "usage_days",
            [
                id("scope_id"),
                text("metric"),
                id("organization_id"),
                id_null("workspace_id"),
                text("day"),
                big("used"),
            ],
        );
        days.primary_key(Index::create().col("scope_id").col("metric").col("day"));
        belongs_to(&mut days, "organization_id", "organizations");
        belongs_to(&mut days, "workspace_id", "workspaces");
        manager.create_table(days).await?;

        run(
            manager,
            &[
                "CREATE INDEX quotas_workspace ON quotas (workspace_id) WHERE workspace_id IS NOT NULL",
                "CREATE INDEX quotas_organization ON quotas (organization_id)",
                "CREATE INDEX usage_totals_workspace ON usage_totals (workspace_id) WHERE workspace_id IS NOT NULL",
                "CREATE INDEX usage_totals_organization ON usage_totals (organization_id)",
                "CREATE INDEX usage_days_workspace ON usage_days (workspace_id) WHERE workspace_id IS NOT NULL",
                "CREATE INDEX usage_days_organization ON usage_days (organization_id)",
                "CREATE INDEX usage_days_day ON usage_days (day)",
            ],
        )
        .await
    }
}
