//! Invitations, and the workspaces each of them opens.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut invitations = table(
            "invitations",
            [
                id("id"),
                id("organization_id"),
                text("email"),
                id("inviter_id"),
                text("status"),
                text_null("message"),
                bytes("token_hash"),
                at("expires_at"),
                text("delivery"),
                text_null("delivery_error"),
                at_null("sent_at"),
                at_null("responded_at"),
                at("created_at"),
                at("updated_at"),
            ],
        );
        invitations.primary_key(Index::create().col("id"));
        belongs_to(&mut invitations, "organization_id", "organizations");
        belongs_to(&mut invitations, "inviter_id", "users");
        manager.create_table(invitations).await?;

        let mut grants = table(
            "invitation_grants",
            [
                id("invitation_id"),
                id("workspace_id"),
                id("role_id"),
                // Copies of the invitation's own, for the unique index below.
                text("email"),
                flag("pending", true),
            ],
        );
        grants.primary_key(Index::create().col("invitation_id").col("workspace_id"));
        belongs_to(&mut grants, "invitation_id", "invitations");
        belongs_to(&mut grants, "workspace_id", "workspaces");
        refers_to(&mut grants, "role_id", "roles");
        manager.create_table(grants).await?;

        run(
            manager,
            &[
                "CREATE UNIQUE INDEX invitations_token ON invitations (token_hash)",
                "CREATE INDEX invitations_email ON invitations (email, id)",
                "CREATE INDEX invitations_inviter ON invitations (inviter_id) WHERE status = 'PENDING'",
                "CREATE INDEX invitation_grants_page ON invitation_grants (workspace_id, invitation_id)",
                "CREATE UNIQUE INDEX invitation_grants_pending ON invitation_grants (workspace_id, email) WHERE pending",
                "CREATE INDEX invitation_grants_role ON invitation_grants (role_id)",
            ],
        )
        .await
    }
}
