//! Workspaces, roles and memberships.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut workspaces = table(
            "workspaces",
            [
                id("id"),
                id("organization_id"),
                text("name"),
                text("display_name"),
                text("countries"),
                text_null("docker_image"),
                text_null("region"),
                text("labels"),
                flag("is_default", false),
                text("status"),
                id_null("created_by"),
                at("created_at"),
                at("updated_at"),
            ],
        );
        workspaces.primary_key(Index::create().col("id"));
        belongs_to(&mut workspaces, "organization_id", "organizations");
        manager.create_table(workspaces).await?;

        // Apart from the workspace's row, since it is large and every permission check reads that one.
        let mut descriptions = table(
            "workspace_descriptions",
            [id("workspace_id"), text("text"), id_null("updated_by"), at("updated_at")],
        );
        descriptions.primary_key(Index::create().col("workspace_id"));
        belongs_to(&mut descriptions, "workspace_id", "workspaces");
        manager.create_table(descriptions).await?;

        let mut roles = table(
            "roles",
            [
                id("id"),
                id_null("organization_id"),
                text("key"),
                text("name"),
                text("description"),
                // Names of permissions, as JSON; the three system roles take theirs from the catalogue.
                text("permissions"),
                at("created_at"),
                at("updated_at"),
            ],
        );
        roles.primary_key(Index::create().col("id"));
        belongs_to(&mut roles, "organization_id", "organizations");
        manager.create_table(roles).await?;

        let mut memberships = table(
            "memberships",
            [
                id("id"),
                id("workspace_id"),
                id("user_id"),
                id("role_id"),
                text("source"),
                id_null("invitation_id"),
                at_null("expires_at"),
                at("created_at"),
                at("updated_at"),
            ],
        );
        memberships.primary_key(Index::create().col("id"));
        belongs_to(&mut memberships, "workspace_id", "workspaces");
        belongs_to(&mut memberships, "user_id", "users");
        refers_to(&mut memberships, "role_id", "roles");
        manager.create_table(memberships).await?;

        let now = "'2026-01-01 00:00:00+00:00'";
        for (id, key, name) in [("1", "VIEWER", "Viewer"), ("2", "EDITOR", "Editor"), ("3", "ADMIN", "Admin")]
        {
            let uuid = match manager.get_database_backend() {
                sea_orm::DbBackend::Sqlite => format!("x'0000000000007000800000000000000{id}'"),
                _ => format!("'00000000-0000-7000-8000-00000000000{id}'"),
            };
            manager
                .get_connection()
                .execute_unprepared(&format!(
                    "INSERT INTO roles (id, organization_id, key, name, description, permissions, created_at, updated_at) \
                     VALUES ({uuid}, NULL, '{key}', '{name}', '', '[]', {now}, {now})"
                ))
                .await?;
        }

        run(
            manager,
            &[
                "CREATE UNIQUE INDEX workspaces_name ON workspaces (name)",
                "CREATE INDEX workspaces_organization ON workspaces (organization_id)",
                "CREATE UNIQUE INDEX workspaces_default ON workspaces (organization_id) WHERE is_default",
                "CREATE UNIQUE INDEX memberships_principal ON memberships (workspace_id, user_id)",
                "CREATE INDEX memberships_page ON memberships (workspace_id, id)",
                "CREATE INDEX memberships_user ON memberships (user_id, id)",
                "CREATE INDEX memberships_role ON memberships (role_id)",
                "CREATE UNIQUE INDEX roles_key ON roles (organization_id, key)",
                "ALTER TABLE users ADD COLUMN default_workspace_id uuid REFERENCES workspaces (id) ON DELETE SET NULL",
                "ALTER TABLE users ADD COLUMN last_workspace_id uuid REFERENCES workspaces (id) ON DELETE SET NULL",
            ],
        )
        .await
    }
}
