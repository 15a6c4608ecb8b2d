//! Organizations in the schema. An `Organization` can be made only of a standing that grants `organization.view`, and
//! keeps it.

use async_graphql::{Context, Description, ID, Object, Result};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Actor, Granted, OrganizationRole as DomainRole, perm},
    page::{Page, PageArgs},
    text::SearchTerm,
};
use guildhall_persistence::{
    self as persistence, OrganizationStanding, organization_members::OrganizationMemberFilter,
};
use uuid::Uuid;

use crate::{
    access::{Permission, permissions},
    authz::{authorize, db, organization_by_slug},
    connection::{Window, connection},
    error, loaders,
    organization_members::{OrganizationMemberConnection, OrganizationMemberStatus, OrganizationMembers},
    ownership::{OwnershipTransfer, PendingKey},
    schema::mirror,
};

mirror! {
    /// What somebody is in an organization.
    enum OrganizationRole = DomainRole {
        /// May everything in it. There is always one.
        Owner,
        /// Manages its members and administers every workspace.
        Admin,
        /// Belongs to it.
        Member,
    }
}

/// An organization: it holds workspaces, and people belong to it. To whoever does not, it does not exist.
#[derive(Description)]
pub struct Organization {
    view: Granted<perm::OrganizationView>,
    row: persistence::Organization,
}

impl Organization {
    pub(crate) fn new(standing: OrganizationStanding) -> Result<Self> {
        Ok(Self { view: standing.access.grant().map_err(error::denied)?, row: standing.organization })
    }
}

#[Object(use_type_description)]
impl Organization {
    /// The organization's global id: what `createWorkspace` takes.
    pub(crate) async fn id(&self) -> ID {
        self.row.id.into()
    }
    /// The name in addresses: unique in the instance, never changed; lower-case letters, digits and single dashes.
    async fn slug(&self) -> &str {
        &self.row.slug
    }
    /// The name people read.
    async fn name(&self) -> &str {
        &self.row.name
    }
    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }
    /// Your role in it.
    async fn viewer_role(&self) -> Result<OrganizationRole> {
        self.view.access().role().map(Into::into).ok_or_else(error::not_found)
    }
    /// Everything you may do in the organization itself. What you may do in a workspace of it, the workspace says.
    async fn viewer_permissions(&self) -> Vec<Permission> {
        permissions(self.view.access().permissions())
    }

    /// The pending transfer of its ownership; null when there is none, or you are neither an owner nor the one who is asked.
    async fn ownership_transfer(&self, ctx: &Context<'_>) -> Option<Result<OwnershipTransfer>> {
        let found = loaders::load(ctx, PendingKey(self.view.clone())).await;
        found.map(|found| found.map(OwnershipTransfer)).transpose()
    }

    /// The people who belong to it, by the age of their accounts. Needs `ORGANIZATION_MANAGE`; null with a `FORBIDDEN` error
    /// without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    #[expect(clippy::too_many_arguments, reason = "the arguments of a GraphQL field")]
    async fn members(
        &self,
        #[graphql(desc = "Part of a name or e-mail address, in any case; at most 100 characters.")]
        search: Option<String>,
        #[graphql(desc = "Only members with this role.")] role: Option<OrganizationRole>,
        #[graphql(desc = "Only members with this status.")] status: Option<OrganizationMemberStatus>,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<OrganizationMemberConnection>> {
        let window = Window { first, after, last, before };
        Some(self.members_of(search.as_deref(), role, status, &window))
    }
}

impl Organization {
    fn members_of(
        &self,
        search: Option<&str>,
        role: Option<OrganizationRole>,
        status: Option<OrganizationMemberStatus>,
        window: &Window,
    ) -> Result<OrganizationMemberConnection> {
        let proof = self.view.access().grant().map_err(error::denied)?;
        let search = search
            .map(SearchTerm::parse_optional)
            .transpose()
            .map_err(|fault| error::bad_input(format!("`search` {}.", fault.message())))?
            .flatten();
        let filter =
            OrganizationMemberFilter { search, role: role.map(Into::into), status: status.map(Into::into) };
        let args = window.read(OrganizationMemberConnection::LIST)?;
        Ok(OrganizationMemberConnection::new(OrganizationMembers { proof, filter, args }))
    }
}

pub(crate) struct Organizations {
    pub(crate) actor: Actor,
    pub(crate) args: PageArgs<Uuid>,
}

impl Organizations {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<Organization>> {
        let page = db(ctx).organization_standings(self.actor, &self.args).await;
        let page = page.map_err(|fault| error::read(ctx, fault))?;
        let (has_previous, has_next) = (page.has_previous, page.has_next);
        let items = page.items.into_iter().map(Organization::new).collect::<Result<_>>()?;
        Ok(Page { items, has_previous, has_next })
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        db(ctx).count_organization_standings(self.actor).await.map_err(|fault| error::read(ctx, fault))
    }
}

connection! {
    /// A list of organizations.
    OrganizationConnection, OrganizationEdge, Organization, Organizations, "organization",
    |organization| organization.row.id.uuid()
}

/// The organization part of the query root.
#[derive(Default)]
pub struct OrganizationQuery;

#[Object]
impl OrganizationQuery {
    /// The organization of that slug; null when there is none or you do not belong to it.
    #[graphql(directive = authorize::apply("ORGANIZATION_VIEW".to_owned()))]
    async fn organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The name in addresses.")] slug: String,
    ) -> Option<Result<Organization>> {
        match organization_by_slug(ctx, &slug).await {
            Ok(standing) => Some(Organization::new(standing)),
            Err(fault) if error::is_not_found(&fault) => None,
            Err(fault) => Some(Err(fault)),
        }
    }
}
