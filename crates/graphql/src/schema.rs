//! The schema put together: merged roots, limits, and what every document may cost.

use std::sync::Arc;

use async_graphql::{MergedObject, MergedSubscription, SDLExportOptions};
use guildhall_persistence::Db;

use crate::{
    access, accounts, api_keys, audit, config,
    cost::QueryCost,
    credential_shares,
    credential_tests::CredentialTester,
    credentials, descriptions, explain, home_page, invitations, life,
    live::Rechecks,
    loaders, members, node, organization_invitations, organization_members, organizations, ownership,
    previews, quotas, recovery,
    rehearsal::Rehearsable,
    roles, second_factor, service_accounts, sessions,
    single_sign_on::{self, IdentityProviders},
    throttle::Throttle,
    webhooks::{self, WebhookDestinations},
    workspace_changes, workspace_tokens, workspaces,
};

/// Declares a GraphQL enum with the same values as an enum of the domain, and the ways between them. A value
/// missing on either side does not compile.
macro_rules! mirror {
    ($(#[$doc:meta])* enum $name:ident = $remote:path { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(async_graphql::Enum, Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl From<$remote> for $name {
            fn from(value: $remote) -> Self {
                use $remote as Remote;
                match value { $(Remote::$variant => Self::$variant,)* }
            }
        }

        impl From<$name> for $remote {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => Self::$variant,)* }
            }
        }
    };
}
pub(crate) use mirror;

/// Everything that can be asked.
#[derive(MergedObject, Default)]
pub struct Query(
    node::NodeQuery,
    access::AccessQuery,
    organizations::OrganizationQuery,
    accounts::AccountQuery,
    workspaces::WorkspaceQuery,
    members::MemberQuery,
    explain::ExplainQuery,
    previews::PreviewQuery,
    life::LifeQuery,
    invitations::InvitationQuery,
    credentials::CredentialQuery,
    workspace_tokens::WorkspaceTokenQuery,
    credential_shares::CredentialShareQuery,
    quotas::QuotaQuery,
);

/// Everything that can be changed. Each field takes one `input` and answers the changed objects together
/// with `userErrors`; when `userErrors` is not empty, nothing was changed.
///
/// With `dryRun: true` a mutation is only tried: every check is made, and the payload is what it would be, including
/// what is selected below the changed objects. Nothing is changed or sent and nobody is told. Ids of objects that
/// would be made are made up anew each time, and secrets are null. What is limited, such as tries of passwords and
/// invitations, is counted all the same.
#[derive(MergedObject, Default)]
pub struct Mutation(
    accounts::AccountMutation,
    sessions::SessionMutation,
    single_sign_on::SingleSignOnMutation,
    recovery::RecoveryMutation,
    second_factor::SecondFactorMutation,
    workspaces::WorkspaceMutation,
    home_page::HomePageMutation,
    config::ConfigMutation,
    life::LifeMutation,
    organizations::OrganizationMutation,
    organization_invitations::OrganizationInvitationMutation,
    roles::RoleMutation,
    service_accounts::ServiceAccountMutation,
    api_keys::ApiKeyMutation,
    workspace_tokens::WorkspaceTokenMutation,
    webhooks::WebhookMutation,
    members::MemberMutation,
    organization_members::OrganizationMemberMutation,
    ownership::OwnershipMutation,
    invitations::InvitationMutation,
    credentials::CredentialMutation,
    credential_shares::CredentialShareMutation,
    quotas::QuotaMutation,
);

/// Everything that can be watched.
#[derive(MergedSubscription, Default)]
pub struct Subscription(
    invitations::InvitationSubscription,
    credentials::CredentialSubscription,
    workspace_changes::WorkspaceSubscription,
    audit::AuditSubscription,
    quotas::QuotaSubscription,
);

/// The schema.
pub type Schema = async_graphql::Schema<Query, Rehearsable<Mutation>, Subscription>;

/// What a document may ask for, checked before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How deep selections nest. Standard introspection needs 15.
    pub depth: usize,
    /// The sum of the fields' costs; a list counts its page size times. Standard introspection needs 250.
    pub complexity: usize,
    /// How many aliases it has.
    pub aliases: usize,
    /// How many directives a field has.
    pub directives: usize,
    /// Whether the schema can be asked for; when not, error messages make no suggestions either.
    pub introspection: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 16, complexity: 2000, aliases: 50, directives: 50, introspection: true }
    }
}

fn builder() -> async_graphql::SchemaBuilder<Query, Rehearsable<Mutation>, Subscription> {
    Schema::build(Query::default(), Rehearsable::default(), Subscription::default())
        .register_output_type::<node::Node>()
        .register_output_type::<crate::payload::UserError>()
        .register_output_type::<descriptions::Described>()
}

/// What the resolvers of a schema work with.
#[derive(Clone)]
pub struct Resources {
    /// The database.
    pub db: Db,
    /// Counts what is tried often.
    pub throttle: Arc<Throttle>,
    /// Tries credentials against their services.
    pub credential_tester: Arc<dyn CredentialTester>,
    /// Says where a webhook may be.
    pub webhook_destinations: Arc<dyn WebhookDestinations>,
    /// Asks identity providers and DNS.
    pub identity_providers: Arc<dyn IdentityProviders>,
}

/// The schema over those resources.
pub fn build(resources: Resources, limits: Limits) -> Schema {
    let schema = limited(resources, limits);
    schema.limit_depth(limits.depth).limit_complexity(limits.complexity).finish()
}

/// The same schema, whose answers tell what they cost. An executor with an extension asks it at each field, so only those
/// who want to know use this one.
pub fn build_measuring(resources: Resources, limits: Limits) -> Schema {
    limited(resources, limits).extension(QueryCost(limits)).finish()
}

fn limited(
    resources: Resources,
    limits: Limits,
) -> async_graphql::SchemaBuilder<Query, Rehearsable<Mutation>, Subscription> {
    let Resources { db, throttle, credential_tester, webhook_destinations, identity_providers } = resources;
    let rechecks = Arc::new(Rechecks::new(&db));
    let builder = builder()
        .data(loaders::loaders(db.clone()))
        .data(db)
        .data(throttle)
        .data(credential_tester)
        .data(webhook_destinations)
        .data(identity_providers)
        .data(rechecks)
        .limit_aliases(limits.aliases)
        .limit_directives(limits.directives);
    match limits.introspection {
        true => builder,
        false => builder.disable_introspection().disable_suggestions(),
    }
}

/// The schema in its definition language, sorted: the content of `schema.graphql`.
pub fn sdl() -> String {
    let sdl = builder().finish().sdl_with_options(
        SDLExportOptions::new().sorted_fields().sorted_arguments().sorted_enum_items().include_specified_by(),
    );
    descriptions::of_directives(sdl.trim_end())
}
