//! One entity per table. Private to this crate: what others see are the records that operations return.

macro_rules! table {
    ($name:ident = $table:literal { $($(#[$attr:meta])* $column:ident: $type:ty,)* }) => {
        pub mod $name {
            #![doc = concat!("The table `", $table, "`.")]
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
            #[sea_orm(table_name = $table)]
            pub struct Model {
                $($(#[$attr])* pub $column: $type,)*
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

table!(instance = "instance" {
    #[sea_orm(primary_key, auto_increment = false)]
    key: String,
    value: String,
    updated_at: DateTimeUtc,
});

table!(organizations = "organizations" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    slug: String,
    name: String,
    workspace_creation: String,
    workspace_deletion: String,
    member_list_visibility: String,
    share_acceptance: String,
    allow_reveal: bool,
    invitation_lifetime_hours: Option<i32>,
    api_key_max_lifetime_days: Option<i32>,
    created_at: DateTimeUtc,
    updated_at: DateTimeUtc,
    login_activity_days: i32,
    two_factor_required_since: Option<DateTimeUtc>,
    two_factor_grace_hours: i32,
    identity_provider_id: Option<Uuid>,
    password_sign_in: bool,
});

table!(identity_providers = "identity_providers" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    organization_id: Uuid,
    issuer: String,
    client_id: String,
    master_key_id: String,
    sealed_secret: Vec<u8>,
    secret_fingerprint: String,
    secret_set_at: DateTimeUtc,
    sealed_at: DateTimeUtc,
    provisioning: String,
    worked_at: Option<DateTimeUtc>,
    created_at: DateTimeUtc,
    updated_at: DateTimeUtc,
});

table!(organization_domains = "organization_domains" {
    #[sea_orm(primary_key, auto_increment = false)]
    organization_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    domain: String,
    verified_at: Option<DateTimeUtc>,
    created_at: DateTimeUtc,
});

table!(sign_on_identities = "sign_on_identities" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    organization_id: Uuid,
    user_id: Uuid,
    issuer: String,
    subject: String,
    created_at: DateTimeUtc,
});

table!(sign_on_attempts = "sign_on_attempts" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    provider_id: Uuid,
    status: String,
    state_hash: Vec<u8>,
    secret_hash: Vec<u8>,
    code_hash: Option<Vec<u8>>,
    redirect_to: Option<String>,
    subject: Option<String>,
    email: Option<String>,
    name: Option<String>,
    created_at: DateTimeUtc,
    expires_at: DateTimeUtc,
});

table!(password_resets = "password_resets" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    user_id: Option<Uuid>,
    token_hash: Vec<u8>,
    expires_at: DateTimeUtc,
});

table!(email_changes = "email_changes" {
    #[sea_orm(primary_key, auto_increment = false)]
    user_id: Uuid,
    new_email: String,
    old_token_hash: Vec<u8>,
    new_token_hash: Vec<u8>,
    old_confirmed: bool,
    new_confirmed: bool,
    expires_at: DateTimeUtc,
});

table!(recovery_codes = "recovery_codes" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    user_id: Uuid,
    code_hash: Vec<u8>,
    created_at: DateTimeUtc,
});

table!(sign_in_tries = "sign_in_tries" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    failures: i32,
    failed_at: Option<DateTimeUtc>,
    succeeded_at: Option<DateTimeUtc>,
    noted: bool,
    expires_at: DateTimeUtc,
});

table!(idempotency_keys = "idempotency_keys" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    fingerprint: Vec<u8>,
    attempt: Uuid,
    performed: i32,
    is_done: bool,
    sealed: Option<Vec<u8>>,
    leased_until: DateTimeUtc,
    expires_at: DateTimeUtc,
});

table!(login_activity = "login_activity" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    organization_id: Option<Uuid>,
    user_id: Option<Uuid>,
    code: String,
    ip: Option<String>,
    user_agent: Option<String>,
    address: Option<String>,
    created_at: DateTimeUtc,
});

table!(users = "users" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    email: String,
    display_name: String,
    search_text: String,
    status: String,
    password_hash: String,
    email_verified_at: Option<DateTimeUtc>,
    last_sign_in_at: Option<DateTimeUtc>,
    created_at: DateTimeUtc,
    updated_at: DateTimeUtc,
    default_workspace_id: Option<Uuid>,
    last_workspace_id: Option<Uuid>,
    second_factor_at: Option<DateTimeUtc>,
});

table!(second_factors = "second_factors" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    user_id: Uuid,
    master_key_id: String,
    sealed: Vec<u8>,
    sealed_at: DateTimeUtc,
    last_step: Option<i64>,
    created_at: DateTimeUtc,
    confirmed_at: Option<DateTimeUtc>,
});

table!(organization_members = "organization_members" {
    #[sea_orm(primary_key, auto_increment = false)]
    user_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    organization_id: Uuid,
    role: String,
    status: String,
    created_at: DateTimeUtc,
});

table!(sessions = "sessions" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    user_id: Uuid,
    nonce: Vec<u8>,
    generation: i32,
    rotated_at: DateTimeUtc,
    device: Option<String>,
    ip: Option<String>,
    created_at: DateTimeUtc,
    last_seen_at: DateTimeUtc,
    expires_at: DateTimeUtc,
    ended_at: Option<DateTimeUtc>,
    identity_provider_id: Option<Uuid>,
});

table!(workspaces = "workspaces" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    organization_id: Uuid,
    name: String,
    display_name: String,
    countries: String,
    docker_image: Option<String>,
    region: Option<String>,
    labels: String,
    is_default: bool,
    status: String,
    created_by: Option<Uuid>,
    created_at: DateTimeUtc,
    updated_at: DateTimeUtc,
    archived_at: Option<DateTimeUtc>,
    archived_by: Option<Uuid>,
    search_text: Option<String>,
});

table!(workspace_descriptions = "workspace_descriptions" {
    #[sea_orm(primary_key, auto_increment = false)]
    workspace_id: Uuid,
    text: String,
    updated_by: Option<Uuid>,
    updated_at: DateTimeUtc,
    version: i32,
});

table!(roles = "roles" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    organization_id: Option<Uuid>,
    key: String,
    name: String,
    description: String,
    permissions: String,
    created_at: DateTimeUtc,
    updated_at: DateTimeUtc,
    deleted_at: Option<DateTimeUtc>,
});

table!(memberships = "memberships" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    workspace_id: Uuid,
    user_id: Uuid,
    role_id: Uuid,
    source: String,
    invitation_id: Option<Uuid>,
    expires_at: Option<DateTimeUtc>,
    created_at: DateTimeUtc,
    updated_at: DateTimeUtc,
});

table!(invitations = "invitations" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    organization_id: Uuid,
    email: String,
    inviter_id: Uuid,
    status: String,
    message: Option<String>,
    token_hash: Vec<u8>,
    expires_at: DateTimeUtc,
    delivery: String,
    delivery_error: Option<String>,
    sent_at: Option<DateTimeUtc>,
    responded_at: Option<DateTimeUtc>,
    created_at: DateTimeUtc,
    updated_at: DateTimeUtc,
    organization_role: Option<String>,
});

table!(invitation_grants = "invitation_grants" {
    #[sea_orm(primary_key, auto_increment = false)]
    invitation_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    workspace_id: Uuid,
    role_id: Uuid,
    email: String,
    pending: bool,
    membership_expires_at: Option<DateTimeUtc>,
});

table!(ownership_transfers = "ownership_transfers" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    organization_id: Uuid,
    from_user_id: Uuid,
    to_user_id: Uuid,
    status: String,
    expires_at: DateTimeUtc,
    responded_at: Option<DateTimeUtc>,
    created_at: DateTimeUtc,
});

table!(workspace_keys = "workspace_keys" {
    #[sea_orm(primary_key, auto_increment = false)]
    workspace_id: Uuid,
    master_key_id: String,
    wrapped: Vec<u8>,
    created_at: DateTimeUtc,
    wrapped_at: DateTimeUtc,
});

table!(credentials = "credentials" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    workspace_id: Uuid,
    kind: String,
    slug: String,
    name: String,
    description: String,
    created_by: Option<Uuid>,
    updated_by: Option<Uuid>,
    created_at: DateTimeUtc,
    updated_at: DateTimeUtc,
    search_text: Option<String>,
});

table!(credential_fields = "credential_fields" {
    #[sea_orm(primary_key, auto_increment = false)]
    credential_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    code: String,
    place: i32,
    is_secret: bool,
    value: Option<String>,
    sealed: Option<Vec<u8>>,
    fingerprint: Option<String>,
    updated_at: DateTimeUtc,
});

table!(credential_shares = "credential_shares" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    credential_id: Uuid,
    workspace_id: Uuid,
    target_id: Uuid,
    status: String,
    shared_by: Option<Uuid>,
    expires_at: Option<DateTimeUtc>,
    responded_by: Option<Uuid>,
    responded_at: Option<DateTimeUtc>,
    created_at: DateTimeUtc,
});

table!(credential_uses = "credential_uses" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    credential_id: Option<Uuid>,
    owner_id: Option<Uuid>,
    workspace_id: Option<Uuid>,
    user_id: Option<Uuid>,
    slug: String,
    purpose: String,
    outcome: String,
    created_at: DateTimeUtc,
    machine_id: Option<Uuid>,
    machine_kind: Option<String>,
    machine_name: Option<String>,
});

table!(service_accounts = "service_accounts" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    workspace_id: Uuid,
    name: String,
    name_key: String,
    description: String,
    role_id: Uuid,
    generation: i32,
    secret_hash: Vec<u8>,
    secret_hint: String,
    secret_made_at: DateTimeUtc,
    created_by: Option<Uuid>,
    created_at: DateTimeUtc,
    updated_at: DateTimeUtc,
    last_used_at: Option<DateTimeUtc>,
});

table!(api_keys = "api_keys" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    workspace_id: Uuid,
    service_account_id: Option<Uuid>,
    name: String,
    prefix: String,
    secret_hash: Vec<u8>,
    previous_hash: Option<Vec<u8>>,
    previous_until: Option<DateTimeUtc>,
    permissions: String,
    is_default: bool,
    created_by: Option<Uuid>,
    created_at: DateTimeUtc,
    rotated_at: Option<DateTimeUtc>,
    expires_at: Option<DateTimeUtc>,
    revoked_at: Option<DateTimeUtc>,
    revoked_by: Option<Uuid>,
    last_used_at: Option<DateTimeUtc>,
});

table!(config_properties = "config_properties" {
    #[sea_orm(primary_key, auto_increment = false)]
    workspace_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    key: String,
    kind: String,
    value: String,
    updated_by: Option<Uuid>,
    updated_at: DateTimeUtc,
});

table!(events = "events" {
    #[sea_orm(primary_key)]
    seq: i64,
    kind: String,
    workspace_id: Option<Uuid>,
    user_id: Option<Uuid>,
    email: Option<String>,
    subject_id: Option<Uuid>,
    state: Option<String>,
    created_at: DateTimeUtc,
});

table!(mails = "mails" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    status: String,
    recipient: String,
    sealed: Option<Vec<u8>>,
    master_key_id: Option<String>,
    invitation_id: Option<Uuid>,
    attempts: i32,
    due_at: DateTimeUtc,
    last_error: Option<String>,
    created_at: DateTimeUtc,
    updated_at: DateTimeUtc,
});

table!(audit_events = "audit_events" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    organization_id: Uuid,
    workspace_id: Option<Uuid>,
    created_at: DateTimeUtc,
    actor_kind: String,
    actor_id: Option<String>,
    actor_name: String,
    action: String,
    object_kind: String,
    object_id: String,
    object_name: String,
    before_json: Option<String>,
    after_json: Option<String>,
    request_id: Option<String>,
    ip: Option<String>,
    place: Option<i64>,
    previous_hash: Option<String>,
    hash: Option<String>,
});

table!(audit_chains = "audit_chains" {
    #[sea_orm(primary_key, auto_increment = false)]
    organization_id: Uuid,
    place: i64,
    hash: String,
    signed_place: i64,
    signed_at: DateTimeUtc,
});

table!(audit_checkpoints = "audit_checkpoints" {
    #[sea_orm(primary_key, auto_increment = false)]
    organization_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    place: i64,
    hash: String,
    created_at: DateTimeUtc,
    key_id: String,
    signature: Vec<u8>,
});

table!(signing_keys = "signing_keys" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    purpose: String,
    public_key: Vec<u8>,
    master_key_id: String,
    sealed: Vec<u8>,
    created_at: DateTimeUtc,
    sealed_at: DateTimeUtc,
    retired_at: Option<DateTimeUtc>,
});

table!(webhooks = "webhooks" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    workspace_id: Uuid,
    name: String,
    url: String,
    events: String,
    status: String,
    disabled_reason: Option<String>,
    disabled_at: Option<DateTimeUtc>,
    sealed_secret: Vec<u8>,
    secret_made_at: DateTimeUtc,
    sealed_previous: Option<Vec<u8>>,
    previous_until: Option<DateTimeUtc>,
    event_cursor: i64,
    audit_cursor: Option<i64>,
    due_at: Option<DateTimeUtc>,
    leased_until: Option<DateTimeUtc>,
    failing_since: Option<DateTimeUtc>,
    created_by: Option<Uuid>,
    created_at: DateTimeUtc,
    updated_at: DateTimeUtc,
});

table!(webhook_deliveries = "webhook_deliveries" {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    webhook_id: Uuid,
    kind: String,
    payload: String,
    state: String,
    attempts: i32,
    tries: i32,
    due_at: DateTimeUtc,
    tried_at: Option<DateTimeUtc>,
    delivered_at: Option<DateTimeUtc>,
    response_status: Option<i32>,
    response_body: Option<String>,
    fault: Option<String>,
    created_at: DateTimeUtc,
    updated_at: DateTimeUtc,
});

table!(quotas = "quotas" {
    #[sea_orm(primary_key, auto_increment = false)]
    scope_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    metric: String,
    organization_id: Uuid,
    workspace_id: Option<Uuid>,
    most: Option<i64>,
    ceiling: Option<i64>,
    warned_most: Option<i64>,
    warned_period: Option<String>,
    updated_at: DateTimeUtc,
});

table!(usage_totals = "usage_totals" {
    #[sea_orm(primary_key, auto_increment = false)]
    scope_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    metric: String,
    organization_id: Uuid,
    workspace_id: Option<Uuid>,
    period: String,
    used: i64,
});

table!(usage_days = "usage_days" {
    #[sea_orm(primary_key, auto_increment = false)]
    scope_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    metric: String,
    organization_id: Uuid,
    workspace_id: Option<Uuid>,
    #[sea_orm(primary_key, auto_increment = false)]
    day: String,
    used: i64,
});

/// Reads a row of every table with every column that this version knows: fails where a migration is missing.
pub(crate) async fn select_each(conn: &impl sea_orm::ConnectionTrait) -> Result<(), sea_orm::DbErr> {
    use sea_orm::EntityTrait;

    macro_rules! select {
        ($($table:ident),*) => { $($table::Entity::find().one(conn).await?;)* };
    }
    select!(
        instance,
        organizations,
        users,
        organization_members,
        sessions,
        login_activity,
        sign_in_tries,
        idempotency_keys,
        password_resets,
        email_changes,
        recovery_codes,
        identity_providers,
        organization_domains,
        sign_on_identities,
        sign_on_attempts,
        second_factors,
        workspaces,
        workspace_descriptions,
        workspace_keys,
        service_accounts,
        api_keys,
        credentials,
        credential_fields,
        credential_shares,
        credential_uses,
        config_properties,
        roles,
        memberships,
        invitations,
        invitation_grants,
        ownership_transfers,
        events,
        mails,
        audit_events,
        audit_chains,
        audit_checkpoints,
        signing_keys,
        webhooks,
        webhook_deliveries,
        quotas,
        usage_totals,
        usage_days
    );
    Ok(())
}
