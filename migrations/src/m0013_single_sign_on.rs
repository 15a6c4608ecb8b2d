//! Single sign-on: of each organization its identity provider and its domains, who is who there, and sign-ins on their way.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // A provider with another issuer or client is another row: what the one before had opened is not the new one's.
        // `worked_at`: when somebody signed in by it first.
        let mut providers = table(
            "identity_providers",
            [
                id("id"),
                id("organization_id"),
                text("issuer"),
                text("client_id"),
                text("master_key_id"),
                bytes("sealed_secret"),
                text("secret_fingerprint"),
                at("secret_set_at"),
                at("sealed_at"),
                text("provisioning"),
                at_null("worked_at"),
                at("created_at"),
                at("updated_at"),
            ],
        );
        providers.primary_key(Index::create().col("id"));
        belongs_to(&mut providers, "organization_id", "organizations");
        manager.create_table(providers).await?;

        let mut domains = table(
            "organization_domains",
            [id("organization_id"), text("domain"), at_null("verified_at"), at("created_at")],
        );
        domains.primary_key(Index::create().col("organization_id").col("domain"));
        belongs_to(&mut domains, "organization_id", "organizations");
        manager.create_table(domains).await?;

        // Who a subject of an issuer is. It goes with the person's place in the organization.
        let mut identities = table(
            "sign_on_identities",
            [
                id("id"),
                id("organization_id"),
                id("user_id"),
                text("issuer"),
                text("subject"),
                at("created_at"),
            ],
        );
        identities.primary_key(Index::create().col("id"));
        identities.foreign_key(
            ForeignKey::create()
                .from_col("user_id")
                .from_col("organization_id")
                .to_tbl("organization_members")
                .to_col("user_id")
                .to_col("organization_id")
                .on_delete(ForeignKeyAction::Cascade),
        );
        manager.create_table(identities).await?;

        // STARTED, then CALLED when the browser came back, then READY with what the provider said, then DONE.
        let mut attempts = table(
            "sign_on_attempts",
            [
                id("id"),
                id("provider_id"),
                text("status"),
                bytes("state_hash"),
                bytes("secret_hash"),
                bytes_null("code_hash"),
                text_null("redirect_to"),
                text_null("subject"),
                text_null("email"),
                text_null("name"),
                at("created_at"),
                at("expires_at"),
            ],
        );
        attempts.primary_key(Index::create().col("id"));
        belongs_to(&mut attempts, "provider_id", "identity_providers");
        manager.create_table(attempts).await?;

        run(
            manager,
            &[
                "CREATE UNIQUE INDEX identity_providers_organization ON identity_providers (organization_id)",
                "CREATE UNIQUE INDEX organization_domains_verified ON organization_domains (domain) \
                 WHERE verified_at IS NOT NULL",
                "CREATE UNIQUE INDEX sign_on_identities_subject \
                 ON sign_on_identities (organization_id, issuer, subject)",
                "CREATE UNIQUE INDEX sign_on_identities_user \
                 ON sign_on_identities (user_id, organization_id, issuer)",
                "CREATE UNIQUE INDEX sign_on_attempts_state ON sign_on_attempts (state_hash)",
                "CREATE UNIQUE INDEX sign_on_attempts_code ON sign_on_attempts (code_hash)",
                "CREATE INDEX sign_on_attempts_provider ON sign_on_attempts (provider_id)",
                "CREATE INDEX sign_on_attempts_age ON sign_on_attempts (expires_at)",
                // Beside the policy, so that the rights of every request are read without another table. The session's stays
                // when the provider is gone, and then matches none.
                "ALTER TABLE organizations ADD COLUMN identity_provider_id uuid NULL",
                "ALTER TABLE organizations ADD COLUMN password_sign_in boolean NOT NULL DEFAULT TRUE",
                "ALTER TABLE sessions ADD COLUMN identity_provider_id uuid NULL",
                "CREATE INDEX sessions_provider ON sessions (identity_provider_id) WHERE identity_provider_id IS NOT NULL",
            ],
        )
        .await
    }
}
