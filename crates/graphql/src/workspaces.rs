//! Workspaces in the schema. A `Workspace` can be made only of a standing that grants `workspace.view`, and
//! keeps it: what needs more derives a second proof without asking the database.

use std::sync::Arc;

use async_graphql::{Context, Description, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{
        Granted, OrganizationRole, OwnSession, SystemRole, WorkspaceAccess, catalog::PermissionType, perm,
    },
    ids::WorkspaceId,
    page::{Order as DomainOrder, Page, PageArgs, Position},
    refusal::{FieldFault, InputReader, NameUnavailable, RefusalCode},
    text::{
        ConfigPrefix, CountryCode, DisplayName, ImageRef, Labels, Markdown, Region, SearchTerm, Slug,
        TextFault, parse_countries,
    },
    workspaces::{
        CreateWorkspaceCode, SetDefaultWorkspaceCode, SwitchWorkspaceCode, UpdateWorkspaceCode,
        WorkspaceStatus as DomainStatus, name_unavailable, name_unavailable_message,
    },
};
use guildhall_persistence::{
    Standing, api_keys::Keys, credential_shares::Shares, credential_uses::Uses, members::MemberFilter,
    workspaces,
};

use crate::{
    access::{AccessSource, Permission, Role, ViewerAccess, permissions},
    accounts::{User, Viewer},
    api_keys::{ApiKey, ApiKeyConnection, KeysList, default_key},
    audit::{AuditEventConnection, AuditLogFilter, Entries},
    authz::{
        self, anonymous, authorize, authorize_in, authorize_in_organization, db, grant, signed_in,
        signed_in_directive, standing_by_name,
    },
    config::{self, ConfigProperties, ConfigProperty, ConfigPropertyConnection},
    connection::{Order, Window, connection},
    credential_shares::{CredentialShareConnection, SharesList},
    credential_uses::{CredentialUseConnection, UsesList},
    credentials::{CredentialConnection, CredentialType, Credentials},
    error,
    home_page::HomePage,
    input,
    invitations::{InvitationConnection, InvitationStatus, Invitations},
    life,
    loaders::{self, Scoped},
    members::{Member, MemberConnection, Members},
    organizations::Organization,
    payload::{NameUnavailableReason, answer, payload},
    quotas::{self, Quota},
    schema::mirror,
    service_accounts::{AccountKey, ServiceAccount, ServiceAccountConnection, ServiceAccounts},
    webhooks::{WebhookConnection, Webhooks},
};

mirror! {
    /// Whether a workspace is in use.
    enum WorkspaceStatus = DomainStatus {
        /// In use.
        Active,
        /// Kept, read-only and out of the way.
        Archived,
    }
}

/// A country.
#[derive(Description)]
pub struct Country(CountryCode);

#[Object(use_type_description)]
impl Country {
    /// The ISO 3166-1 alpha-2 code, such as `KE`.
    async fn code(&self) -> &str {
        self.0.as_str()
    }
    /// The English short name of ISO 3166-1.
    async fn name(&self) -> &str {
        self.0.name()
    }
    /// The flag as an emoji.
    async fn flag(&self) -> String {
        self.0.flag()
    }
}

/// A label of a workspace.
#[derive(SimpleObject)]
pub struct Label {
    /// What it says something about, such as `team` or `example.org/cost-center`; each once.
    key: String,
    /// What it says; may be empty.
    value: String,
}

/// A workspace: the room that isolates what an organization keeps in it. To whoever may not see it, it does
/// not exist.
#[derive(Description)]
pub struct Workspace {
    view: Granted<perm::WorkspaceView>,
    row: workspaces::Workspace,
}

impl Workspace {
    pub(crate) fn new(standing: Standing) -> Result<Self> {
        Ok(Self { view: grant(&standing.access)?, row: standing.workspace })
    }

    fn key(&self) -> WorkspaceId {
        self.row.id
    }
}

#[Object(use_type_description)]
impl Workspace {
    /// The workspace's global id.
    pub(crate) async fn id(&self) -> ID {
        self.row.id.into()
    }
    /// The name in addresses: unique in the instance, never changed; lower-case letters, digits and single
    /// dashes, at most 63 characters.
    async fn name(&self) -> &str {
        &self.row.name
    }
    /// The name people read.
    async fn display_name(&self) -> &str {
        &self.row.display_name
    }
    /// The home page in Markdown; null when there is none. `homePage` has the same text with its version.
    async fn description(&self, ctx: &Context<'_>) -> Option<Result<String>> {
        self.page(ctx).await.map(|page| page.text).transpose()
    }
    /// The home page, with its version, and who changed it when.
    async fn home_page(&self, ctx: &Context<'_>) -> Result<HomePage> {
        Ok(HomePage { access: Arc::clone(self.view.access()), row: self.page(ctx).await? })
    }
    /// The countries the workspace is about.
    async fn countries(&self) -> Vec<Country> {
        self.row.countries.iter().filter_map(|code| CountryCode::parse(code).ok()).map(Country).collect()
    }
    /// The container image that its workloads run; null where it runs the instance's default.
    async fn docker_image(&self) -> Option<&str> {
        self.row.docker_image.as_deref()
    }
    /// The container image that its workloads run: `dockerImage`, or the instance's default.
    async fn effective_docker_image<'a>(&'a self, ctx: &Context<'a>) -> &'a str {
        self.row.docker_image.as_deref().unwrap_or_else(|| db(ctx).settings().default_image.as_str())
    }
    /// Where its workloads run, as the operator calls it; null where nobody said.
    async fn region(&self) -> Option<&str> {
        self.row.region.as_deref()
    }
    /// What it is labelled with, by key; at most 64.
    async fn labels(&self) -> Vec<Label> {
        let labels = self.row.labels.iter();
        labels.map(|(key, value)| Label { key: key.to_owned(), value: value.to_owned() }).collect()
    }
    /// Whether it is the organization's default workspace, which can be neither deleted nor archived.
    async fn is_default(&self) -> bool {
        self.row.is_default
    }
    /// Whether it is in use.
    async fn status(&self) -> WorkspaceStatus {
        self.row.status.into()
    }
    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }
    /// When its settings changed last.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.row.updated_at
    }
    /// When it was archived; null while it is in use.
    async fn archived_at(&self) -> Option<DateTime<Utc>> {
        self.row.archived_at
    }
    /// Who archived it; null while it is in use, for whoever may not see its members, and when they have left the
    /// organization.
    async fn archived_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        life::archiver(ctx, self.view.access(), self.row.archived_by).await
    }

    /// The organization it belongs to.
    async fn organization(&self, ctx: &Context<'_>) -> Result<Organization> {
        let access = self.view.access();
        let key = (access.actor(), access.organization());
        Organization::new(loaders::load(ctx, key).await?.ok_or_else(error::not_found)?)
    }

    /// Your role here: that of your membership, or Admin where you are an admin of the organization.
    async fn viewer_role(&self) -> Role {
        self.effective().role
    }
    /// Your role here and where it comes from.
    async fn viewer_access(&self) -> ViewerAccess {
        self.effective()
    }
    /// Your own membership, which you see whatever the policy hides; null where you are no member and see the workspace
    /// as an admin of the organization.
    async fn viewer_membership(&self, ctx: &Context<'_>) -> Option<Result<Member>> {
        let key = Scoped { proof: self.view.clone(), what: self.view.access().membership()? };
        Some(loaders::load(ctx, key).await.transpose()?.map(Member))
    }
    /// Everything you can do here, by the same function that guards every operation. While the workspace is archived, that is
    /// what only reads, and what restores or deletes it: other changes answer `WORKSPACE_ARCHIVED` to whoever could make
    /// them otherwise, and `explainAccess` says so.
    async fn viewer_permissions(&self) -> Vec<Permission> {
        permissions(self.view.access().usable())
    }
    /// Whether you can do this here: whether it is among `viewerPermissions`.
    async fn can(&self, #[graphql(desc = "What you would like to do.")] permission: Permission) -> bool {
        self.view.access().usable().holds(permission.0)
    }

    /// The members, by when they joined. Needs `MEMBERS_VIEW`; null with a `FORBIDDEN` error without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    #[expect(clippy::too_many_arguments, reason = "the arguments of a GraphQL field")]
    async fn members(
        &self,
        #[graphql(desc = "Part of a name or e-mail address, in any case; at most 100 characters.")]
        search: Option<String>,
        #[graphql(desc = "Only members with this role: its id, or VIEWER, EDITOR or ADMIN.")] role: Option<
            ID,
        >,
        #[graphql(desc = "How they are sorted; when absent, by when they joined.")] order_by: Option<Order>,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<MemberConnection>> {
        let window = Window { first, after, last, before };
        Some(self.members_of(search.as_deref(), role.as_ref(), order_by, &window))
    }

    /// The invitations, by when they were made. Needs `INVITATIONS_VIEW`; null with a `FORBIDDEN` error
    /// without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn invitations(
        &self,
        #[graphql(desc = "Only invitations in one of these statuses.")] status: Option<Vec<InvitationStatus>>,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<InvitationConnection>> {
        let window = Window { first, after, last, before };
        Some(self.invitations_of(status.unwrap_or_default(), &window))
    }

    /// The credentials that the workspace owns and those that others lend to it, by when they came here. Needs
    /// `CREDENTIAL_LIST`; null with a `FORBIDDEN` error without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    #[expect(clippy::too_many_arguments, reason = "the arguments of a GraphQL field")]
    async fn credentials(
        &self,
        #[graphql(desc = "Part of a name or slug, in any case; at most 100 characters.")] search: Option<
            String,
        >,
        #[graphql(name = "type", desc = "Only of this type.")] kind: Option<CredentialType>,
        #[graphql(desc = "Only borrowed ones when true, only its own when false.")] is_shared: Option<bool>,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<CredentialConnection>> {
        let window = Window { first, after, last, before };
        Some(
            grant(self.view.access()).and_then(|proof| {
                Credentials::connection(proof, search.as_deref(), kind, is_shared, &window)
            }),
        )
    }

    /// What other workspaces offer to lend here and nobody has answered, by age; `acceptCredentialShare` and
    /// `declineCredentialShare` do. Needs `CREDENTIAL_LIST`; null with a `FORBIDDEN` error without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn credential_offers(
        &self,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<CredentialShareConnection>> {
        let window = Window { first, after, last, before };
        Some(
            grant(self.view.access())
                .and_then(|proof| SharesList::connection(Shares::Offered(proof), &window)),
        )
    }

    /// Uses of the workspace's credentials from anywhere, and of any credential from here, by age; also of credentials that
    /// are deleted since. Needs `CREDENTIAL_MANAGE`; null with a `FORBIDDEN` error without it. Kept for a year.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn credential_usages(
        &self,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<CredentialUseConnection>> {
        let window = Window { first, after, last, before };
        Some(
            grant(self.view.access())
                .and_then(|proof| UsesList::connection(Uses { proof, of: None }, &window)),
        )
    }

    /// How much of everything there may be in the workspace, and how much there is. Needs `QUOTA_VIEW`; null with a
    /// `FORBIDDEN` error without it.
    #[graphql(complexity = "5 + 5 * child_complexity")]
    async fn quotas(&self, ctx: &Context<'_>) -> Option<Result<Vec<Quota>>> {
        Some(match grant(self.view.access()) {
            Ok(proof) => quotas::of_workspace(ctx, proof).await,
            Err(denied) => Err(denied),
        })
    }

    /// Who did what in the workspace, the newest first: every mutation that changed something in it. Needs `AUDIT_VIEW`; null with
    /// a `FORBIDDEN` error without it. Of credentials it shows the values of fields that are not secret.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn audit_log(
        &self,
        #[graphql(desc = "Only such entries.")] filter: Option<AuditLogFilter>,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<AuditEventConnection>> {
        let window = Window { first, after, last, before };
        Some(Entries::of_workspace(self.view.access(), filter, &window))
    }

    /// The service accounts that work here, by age. Needs `SERVICEACCOUNTS_MANAGE`; null with a `FORBIDDEN` error without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn service_accounts(
        &self,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<ServiceAccountConnection>> {
        let window = Window { first, after, last, before };
        Some(grant(self.view.access()).and_then(|proof| ServiceAccounts::connection(proof, &window)))
    }

    /// The service account of that id; null where there is none here. Needs `SERVICEACCOUNTS_MANAGE`; null with a `FORBIDDEN`
    /// error without it.
    async fn service_account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The service account's id.")] id: ID,
    ) -> Option<Result<ServiceAccount>> {
        let find = async {
            let proof: Granted<perm::ServiceAccountsManage> = grant(self.view.access())?;
            // A text that is no id names nothing.
            let Ok(id) = id.parse() else { return Ok(None) };
            let key: AccountKey = Scoped { proof: proof.clone(), what: id };
            Ok(loaders::load(ctx, key).await?.map(|row| ServiceAccount::new(proof, row)))
        };
        find.await.transpose()
    }

    /// The webhooks to which events of the workspace are told, by age. Needs `INTEGRATION_MANAGE`; null with a `FORBIDDEN`
    /// error without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn webhooks(
        &self,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<WebhookConnection>> {
        let window = Window { first, after, last, before };
        Some(grant(self.view.access()).and_then(|proof| Webhooks::connection(proof, &window)))
    }

    /// The API keys that are good here, those of service accounts too, by age. Needs `APIKEYS_MANAGE`; null with a
    /// `FORBIDDEN` error without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn api_keys(
        &self,
        #[graphql(desc = "Whether keys that were revoked or have expired are listed as well.", default)]
        include_ended: bool,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<ApiKeyConnection>> {
        let window = Window { first, after, last, before };
        Some(
            grant(self.view.access()).and_then(|proof| {
                KeysList::connection(Keys { proof, account: None, include_ended }, &window)
            }),
        )
    }

    /// The one API key that `rotateDefaultApiKey` makes and renews; null until it has. Needs `APIKEYS_MANAGE`; null with a
    /// `FORBIDDEN` error without it.
    async fn default_api_key(&self, ctx: &Context<'_>) -> Option<Result<ApiKey>> {
        let find = async { default_key(ctx, grant(self.view.access())?).await };
        find.await.transpose()
    }

    /// The configuration properties, by key: capitals before small letters. Needs `CONFIG_VIEW`; null with a `FORBIDDEN` error
    /// without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn config_properties(
        &self,
        #[graphql(
            desc = "Only properties whose key begins with this, capitals and small letters told apart."
        )]
        prefix: Option<String>,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<ConfigPropertyConnection>> {
        let window = Window { first, after, last, before };
        Some(self.config_properties_of(prefix.as_deref(), &window))
    }

    /// The configuration property of that key; null where there is none. Needs `CONFIG_VIEW`; null with a `FORBIDDEN` error
    /// without it.
    async fn config_property(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key; capitals and small letters are told apart.")] key: String,
    ) -> Option<Result<ConfigProperty>> {
        let found = async { config::property(ctx, grant(self.view.access())?, &key).await };
        found.await.transpose()
    }
}

impl Workspace {
    async fn page(&self, ctx: &Context<'_>) -> Result<guildhall_persistence::home_page::HomePage> {
        let key = Scoped { proof: self.view.clone(), what: () };
        Ok(loaders::load(ctx, key).await?.unwrap_or_default())
    }

    fn config_properties_of(
        &self,
        prefix: Option<&str>,
        window: &Window,
    ) -> Result<ConfigPropertyConnection> {
        let proof = grant(self.view.access())?;
        let prefix = prefix
            .map(ConfigPrefix::parse_optional)
            .transpose()
            .map_err(|fault| error::bad_input(format!("`prefix` {}.", fault.message())))?
            .flatten();
        let args = window.read(ConfigPropertyConnection::LIST)?;
        Ok(ConfigPropertyConnection::new(ConfigProperties { proof, prefix, args }))
    }

    fn effective(&self) -> ViewerAccess {
        let access = self.view.access();
        // The implicit Admin of an organization's admins decides wherever it gives more than the membership.
        match access.role() {
            Some(role) if role.permissions.grantable() == access.permissions().grantable() => {
                ViewerAccess { role: Role(role.clone()), source: AccessSource::Membership }
            }
            Some(role) if access.organization_role().is_none_or(|role| role == OrganizationRole::Member) => {
                ViewerAccess { role: Role(role.clone()), source: AccessSource::Membership }
            }
            _ => ViewerAccess { role: Role(SystemRole::Admin.into()), source: AccessSource::Organization },
        }
    }

    fn members_of(
        &self,
        search: Option<&str>,
        role: Option<&ID>,
        order: Option<Order>,
        window: &Window,
    ) -> Result<MemberConnection> {
        let proof = grant(self.view.access())?;
        let search = search
            .map(SearchTerm::parse_optional)
            .transpose()
            .map_err(|fault| error::bad_input(format!("`search` {}.", fault.message())))?
            .flatten();
        let role = role
            .map(input::role)
            .transpose()
            .map_err(|FieldFault(message)| error::bad_input(format!("`role` {message}.")))?;
        let args = window.read(MemberConnection::LIST)?;
        let order = Order::read(order);
        Ok(MemberConnection::new(Members { proof, filter: MemberFilter { search, role, order }, args }))
    }

    fn invitations_of(&self, status: Vec<InvitationStatus>, window: &Window) -> Result<InvitationConnection> {
        let proof = grant(self.view.access())?;
        let args = window.read(InvitationConnection::LIST)?;
        let statuses = input::distinct([status]);
        Ok(InvitationConnection::new(Invitations { proof, statuses, args }))
    }
}

pub(crate) struct Workspaces {
    pub(crate) proof: OwnSession,
    /// Only workspaces in one of these; those in use where there is none.
    pub(crate) statuses: Vec<DomainStatus>,
    pub(crate) order: DomainOrder,
    pub(crate) args: PageArgs<Position>,
}

impl Workspaces {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<Workspace>> {
        let page = db(ctx)
            .standings(&self.proof, self.statuses(), self.order, &self.args)
            .await
            .map_err(|fault| error::read(ctx, fault))?;
        let (has_previous, has_next) = (page.has_previous, page.has_next);
        let items = page.items.into_iter().map(Workspace::new).collect::<Result<_>>()?;
        Ok(Page { items, has_previous, has_next })
    }

    fn statuses(&self) -> &[DomainStatus] {
        if self.statuses.is_empty() { &[DomainStatus::Active] } else { &self.statuses }
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        db(ctx).count_standings(&self.proof, self.statuses()).await.map_err(|fault| error::read(ctx, fault))
    }
}

connection! {
    /// A list of workspaces.
    WorkspaceConnection, WorkspaceEdge, Workspace, Workspaces, "workspace",
    |workspace| Position::of(&workspace.row.display_name, workspace.key().uuid())
}

/// Whether a workspace name can be had.
#[derive(SimpleObject)]
pub struct NameAvailability {
    /// Whether it can.
    is_available: bool,
    /// Why not.
    reason: Option<NameUnavailableReason>,
    /// Why not, as a sentence.
    message: Option<String>,
    /// A free name close to it; null when it can be had as it is.
    suggestion: Option<String>,
}

/// The workspace part of the query root.
#[derive(Default)]
pub struct WorkspaceQuery;

#[Object]
impl WorkspaceQuery {
    /// The workspace of that name; null when there is none or you may not see it.
    #[graphql(directive = authorize::apply("WORKSPACE_VIEW".to_owned()))]
    async fn workspace(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The name in addresses.")] name: String,
    ) -> Option<Result<Workspace>> {
        match standing_by_name(ctx, &name).await {
            Ok(standing) => Some(Workspace::new(standing)),
            Err(fault) if error::is_not_found(&fault) => None,
            Err(fault) => Some(Err(fault)),
        }
    }

    /// Every country of ISO 3166-1, by name: for the form in which countries are chosen.
    #[graphql(
        directive = anonymous::apply("it is the same for everybody: a public standard".to_owned()),
        complexity = "1 + 25 * child_complexity"
    )]
    async fn countries(&self) -> Vec<Country> {
        CountryCode::all().into_iter().map(Country).collect()
    }

    /// Whether a workspace of that name can be made, and why not. Names are unique in the instance, so a
    /// taken one says nothing about who has it.
    #[graphql(directive = signed_in_directive::apply())]
    async fn workspace_name_availability(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The wanted name.")] name: String,
    ) -> Result<NameAvailability> {
        let proof = signed_in(ctx).await?;
        let unavailable = |reason: NameUnavailable, suggestion: Option<Slug>| NameAvailability {
            is_available: false,
            reason: Some(reason.into()),
            message: Some(name_unavailable_message(&name, reason)),
            suggestion: suggestion.map(Slug::into_string),
        };
        let parsed = Slug::parse(&name);
        let taken = async |slug: &Slug| {
            workspaces::is_name_taken(db(ctx), &proof, slug).await.map_err(|fault| error::read(ctx, fault))
        };
        let reason = match &parsed {
            Ok(slug) if !taken(slug).await? => {
                return Ok(NameAvailability {
                    is_available: true,
                    reason: None,
                    message: None,
                    suggestion: None,
                });
            }
            Ok(_) => NameUnavailable::Taken,
            Err(TextFault::Reserved(_)) => NameUnavailable::Reserved,
            Err(_) => NameUnavailable::Invalid,
        };
        let derived = parsed.unwrap_or_else(|_| Slug::derive(&name));
        for candidate in guildhall_domain::workspaces::candidate_names(&derived).take(20) {
            if !taken(&candidate).await? {
                return Ok(unavailable(reason, Some(candidate)));
            }
        }
        Ok(unavailable(reason, None))
    }
}

/// A label.
#[derive(InputObject)]
pub struct LabelInput {
    /// 1 to 63 letters and digits, with `-`, `_` or `.` between them, after a domain and a `/` if need be; each once.
    key: String,
    /// At most 63 letters and digits, with `-`, `_` or `.` between them; may be empty.
    value: String,
}

/// What making a workspace takes.
#[derive(InputObject)]
pub struct CreateWorkspaceInput {
    /// The organization; when absent, the one you joined first.
    organization_id: Option<ID>,
    /// The name in addresses, which never changes: 1 to 63 lower-case letters, digits and single dashes.
    /// When absent, it is made of the display name.
    name: Option<String>,
    /// The name people read; 1 to 80 characters.
    display_name: String,
    /// The home page in Markdown; at most 64 KiB.
    description: Option<String>,
    /// ISO 3166-1 alpha-2 codes.
    countries: Option<Vec<String>>,
    /// The container image that its workloads run, such as `ghcr.io/acme/tools:1.2`. When absent or blank, the instance's default.
    docker_image: Option<String>,
    /// Where its workloads run: 1 to 63 letters and digits, with `-`, `_`, `.` or `/` between them.
    region: Option<String>,
    /// At most 64.
    labels: Option<Vec<LabelInput>>,
}

payload! {
    /// What was made.
    CreateWorkspacePayload, CreateWorkspaceError = CreateWorkspaceCode {
        /// The workspace; you are its Admin.
        workspace: Workspace,
    }
}

/// What of a workspace changes. An absent field stays as it is.
#[derive(InputObject)]
pub struct UpdateWorkspaceInput {
    /// The workspace.
    workspace_id: ID,
    /// The name people read; 1 to 80 characters.
    display_name: MaybeUndefined<String>,
    /// All the countries it is about, as ISO 3166-1 alpha-2 codes; null or empty for none.
    countries: MaybeUndefined<Vec<String>>,
    /// The container image that its workloads run, such as `ghcr.io/acme/tools:1.2`; null or blank for the instance's default.
    docker_image: MaybeUndefined<String>,
    /// Where its workloads run: 1 to 63 letters and digits, with `-`, `_`, `.` or `/` between them; null or blank for nowhere.
    region: MaybeUndefined<String>,
    /// All its labels, at most 64; null or empty for none.
    labels: MaybeUndefined<Vec<LabelInput>>,
}

payload! {
    /// What was changed.
    UpdateWorkspacePayload, UpdateWorkspaceError = UpdateWorkspaceCode {
        /// The workspace.
        workspace: Workspace,
    }
}

/// Which workspace you are in.
#[derive(InputObject)]
pub struct SwitchWorkspaceInput {
    /// The workspace.
    workspace_id: ID,
}

payload! {
    /// Where you are.
    SwitchWorkspacePayload, SwitchWorkspaceError = SwitchWorkspaceCode {
        /// The workspace.
        workspace: Workspace,
        /// Your own view, with `lastWorkspace` changed.
        viewer: Viewer,
    }
}

/// Which workspace you land in.
#[derive(InputObject)]
pub struct SetDefaultWorkspaceInput {
    /// A workspace you are a member of.
    workspace_id: ID,
}

payload! {
    /// Where you land.
    SetDefaultWorkspacePayload, SetDefaultWorkspaceError = SetDefaultWorkspaceCode {
        /// The workspace.
        workspace: Workspace,
        /// Your own view, with `defaultWorkspace` changed.
        viewer: Viewer,
    }
}

/// The workspace part of the mutation root.
#[derive(Default)]
pub struct WorkspaceMutation;

fn countries(codes: &[String]) -> std::result::Result<Vec<CountryCode>, FieldFault> {
    parse_countries(codes)
        .map_err(|(index, fault)| FieldFault(format!("at position {index} {}", fault.message())))
}

fn labels<C: RefusalCode>(reader: &mut InputReader<C>, list: &[LabelInput]) -> Option<Labels> {
    let pairs: Vec<_> = list.iter().map(|label| (label.key.as_str(), label.value.as_str())).collect();
    let faults = match Labels::parse(&pairs) {
        Ok(labels) => return Some(labels),
        Err(faults) => faults,
    };
    for fault in faults {
        let wrong = Err::<(), _>(FieldFault(fault.message));
        match fault.at {
            Some((index, part)) => reader.item("labels", index, part, wrong),
            None => reader.field("labels", wrong),
        };
    }
    None
}

/// A workspace as it is after a change, seen with the rights that the change was made with.
pub(crate) fn changed<P: PermissionType<Access = WorkspaceAccess>>(
    proof: &Granted<P>,
    row: workspaces::Workspace,
) -> Option<Workspace> {
    Some(Workspace { view: grant(proof.access()).ok()?, row })
}

/// The workspace as it is seen with these rights now.
async fn seen(ctx: &Context<'_>, view: &Granted<perm::WorkspaceView>) -> Result<Workspace> {
    Workspace::new(authz::standing(ctx, view.access().workspace()).await?)
}

#[Object]
impl WorkspaceMutation {
    /// Makes a workspace, with you as its Admin. Who may is the organization's policy.
    #[graphql(directive = authorize::apply("WORKSPACE_CREATE".to_owned()))]
    async fn create_workspace(
        &self,
        ctx: &Context<'_>,
        input: CreateWorkspaceInput,
    ) -> Result<CreateWorkspacePayload> {
        let proof =
            authorize_in_organization::<perm::WorkspaceCreate>(ctx, input.organization_id.as_ref()).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let name = match input.name.as_deref().map(Slug::parse).transpose() {
                Ok(name) => Some(name),
                Err(fault) => {
                    let reason = match fault {
                        TextFault::Reserved(_) => NameUnavailable::Reserved,
                        _ => NameUnavailable::Invalid,
                    };
                    let text = input.name.as_deref().unwrap_or_default();
                    reader.refuse(name_unavailable(
                        CreateWorkspaceCode::NameUnavailable,
                        "name",
                        text,
                        reason,
                    ));
                    None
                }
            };
            let display_name = reader.field("displayName", DisplayName::parse(&input.display_name));
            let description = input.description.as_deref().map(Markdown::parse_or_clear);
            let description = reader.optional("description", description);
            let countries = reader.field("countries", countries(&input.countries.unwrap_or_default()));
            let image = input.docker_image.as_deref().map(ImageRef::parse_or_clear);
            let image = reader.optional("dockerImage", image);
            let region = input.region.as_deref().map(Region::parse_or_clear);
            let region = reader.optional("region", region);
            let labels = labels(&mut reader, &input.labels.unwrap_or_default());
            let new = (|| {
                Some(workspaces::NewWorkspace {
                    name: name?,
                    display_name: display_name?,
                    description: description?.flatten(),
                    countries: countries?,
                    docker_image: image?.flatten(),
                    region: region?.flatten(),
                    labels: labels?,
                })
            })();
            workspaces::create(db(ctx), &proof, reader.all(new)?).await
        }
        .await;
        let made = match outcome {
            Ok(made) => made,
            Err(error) => return answer(ctx, Err::<CreateWorkspacePayload, _>(error), |payload| payload),
        };
        let standing = authz::standing(ctx, made.id).await?;
        Ok(CreateWorkspacePayload { workspace: Some(Workspace::new(standing)?), user_errors: Vec::new() })
    }

    /// Changes a workspace's settings; those that are absent stay.
    #[graphql(directive = authorize::apply("WORKSPACE_UPDATE".to_owned()))]
    async fn update_workspace(
        &self,
        ctx: &Context<'_>,
        input: UpdateWorkspaceInput,
    ) -> Result<UpdateWorkspacePayload> {
        let proof = authorize_in::<perm::WorkspaceUpdate>(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let display_name = input.display_name.as_opt_ref();
            let display_name = reader
                .kept("displayName", display_name.map(|name| name.map(|name| DisplayName::parse(name))));
            let countries = match &input.countries {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(Vec::new()),
                MaybeUndefined::Value(codes) => reader.field("countries", countries(codes)),
            };
            let docker_image = match &input.docker_image {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(image) => reader.field("dockerImage", ImageRef::parse_or_clear(image)),
            };
            let region = match &input.region {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(region) => reader.field("region", Region::parse_or_clear(region)),
            };
            let labels = match &input.labels {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(Labels::default()),
                MaybeUndefined::Value(list) => labels(&mut reader, list),
            };
            reader.finish()?;
            let change =
                workspaces::WorkspaceChange { display_name, countries, docker_image, region, labels };
            workspaces::update(db(ctx), &proof, change).await
        }
        .await;
        answer(ctx, outcome, |row| UpdateWorkspacePayload {
            workspace: changed(&proof, row),
            user_errors: Vec::new(),
        })
    }

    /// Remembers the workspace as the one you were in last. It changes no right: each operation says itself
    /// which workspace it is about.
    #[graphql(directive = authorize::apply("WORKSPACE_VIEW".to_owned()))]
    async fn switch_workspace(
        &self,
        ctx: &Context<'_>,
        input: SwitchWorkspaceInput,
    ) -> Result<SwitchWorkspacePayload> {
        let proof = authorize_in::<perm::WorkspaceView>(ctx, &input.workspace_id).await?;
        let outcome = workspaces::switch(db(ctx), &proof).await;
        let (workspace, viewer) = (seen(ctx, &proof).await?, Viewer::new(signed_in(ctx).await?));
        answer(ctx, outcome, |()| SwitchWorkspacePayload {
            workspace: Some(workspace),
            viewer: Some(viewer),
            user_errors: Vec::new(),
        })
    }

    /// Makes the workspace the one you land in after signing in.
    #[graphql(directive = authorize::apply("WORKSPACE_VIEW".to_owned()))]
    async fn set_default_workspace(
        &self,
        ctx: &Context<'_>,
        input: SetDefaultWorkspaceInput,
    ) -> Result<SetDefaultWorkspacePayload> {
        let proof = authorize_in::<perm::WorkspaceView>(ctx, &input.workspace_id).await?;
        let outcome = workspaces::set_default(db(ctx), &proof).await;
        let (workspace, viewer) = (seen(ctx, &proof).await?, Viewer::new(signed_in(ctx).await?));
        answer(ctx, outcome, |()| SetDefaultWorkspacePayload {
            workspace: Some(workspace),
            viewer: Some(viewer),
            user_errors: Vec::new(),
        })
    }
}
