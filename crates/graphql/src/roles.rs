//! Roles of an organization in the schema: listing, making, changing, giving up.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result};
use guildhall_domain::{
    access::{Granted, perm},
    page::{Page, PageArgs},
    refusal::{FieldFault, InputReader},
    roles::{CreateRoleCode, DeleteRoleCode, UpdateRoleCode, parse_key, permissions_of_role},
    text::{DisplayName, Message},
};
use guildhall_persistence::roles;
use uuid::Uuid;

use crate::{
    access::{Permission, Role},
    authz::{authorize, authorize_in_organization, db},
    connection::connection,
    input,
    loaders::{self, Scoped},
    payload::{answer, payload},
};

pub(crate) struct Roles {
    pub(crate) view: Granted<perm::OrganizationView>,
    pub(crate) args: PageArgs<Uuid>,
}

impl Roles {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<Role>> {
        let key = Scoped { proof: self.view.clone(), what: self.args.clone() };
        let page = loaders::load(ctx, key).await?;
        Ok(page.unwrap_or_else(|| Page::cut(&self.args, Vec::new())).map(Role))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        let key = Scoped { proof: self.view.clone(), what: () };
        Ok(loaders::load(ctx, key).await?.unwrap_or(0))
    }
}

connection! {
    /// A list of roles.
    RoleConnection, RoleEdge, Role, Roles, "role", |role| role.0.id.uuid()
}

/// A role to make.
#[derive(InputObject)]
pub struct CreateRoleInput {
    /// The organization.
    organization_id: ID,
    /// The name people read; 1 to 80 characters.
    name: String,
    /// A short upper-case word, unique in the organization, such as `DATA_STEWARD`: 1 to 40 letters A–Z, digits and
    /// underscores. When absent, it is made of the name. It never changes.
    key: Option<String>,
    /// What the role is for; at most 500 characters.
    description: Option<String>,
    /// What it holds; permissions of scope `WORKSPACE` only. `WORKSPACE_VIEW` is part of every role.
    permissions: Vec<Permission>,
}

payload! {
    /// The role that was made.
    CreateRolePayload, CreateRoleError = CreateRoleCode {
        /// The role.
        role: Role,
    }
}

/// What to change of a role. Fields that are absent stay as they are.
#[derive(InputObject)]
pub struct UpdateRoleInput {
    /// The organization.
    organization_id: ID,
    /// The role.
    role_id: ID,
    /// The name people read; 1 to 80 characters.
    name: MaybeUndefined<String>,
    /// What the role is for, at most 500 characters; null clears it.
    description: MaybeUndefined<String>,
    /// Everything it holds from now on; permissions of scope `WORKSPACE` only. `WORKSPACE_VIEW` is part of every role.
    permissions: MaybeUndefined<Vec<Permission>>,
}

payload! {
    /// The role that was changed.
    UpdateRolePayload, UpdateRoleError = UpdateRoleCode {
        /// The role.
        role: Role,
    }
}

/// Which role to give up.
#[derive(InputObject)]
pub struct DeleteRoleInput {
    /// The organization.
    organization_id: ID,
    /// The role.
    role_id: ID,
    /// What those get who have the role: a role's id, or VIEWER, EDITOR or ADMIN. Needed while anybody has it.
    replacement: Option<ID>,
}

payload! {
    /// The role that was given up.
    DeleteRolePayload, DeleteRoleError = DeleteRoleCode {
        /// The role as it was.
        role: Role,
        /// How many members have the replacement instead.
        members_moved: i32,
        /// How many pending invitations give the replacement instead.
        invitations_moved: i32,
        /// How many service accounts have the replacement instead.
        service_accounts_moved: i32,
    }
}

fn permissions(asked: &[Permission]) -> Result<guildhall_domain::access::PermissionSet, FieldFault> {
    permissions_of_role(&asked.iter().map(|permission| permission.0).collect::<Vec<_>>())
}

/// The role part of the mutation root.
#[derive(Default)]
pub struct RoleMutation;

#[Object]
impl RoleMutation {
    /// Makes a role of the organization's own, which members, invitations and machines of all its workspaces can have.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn create_role(&self, ctx: &Context<'_>, input: CreateRoleInput) -> Result<CreateRolePayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let key = reader.optional("key", input.key.as_deref().map(parse_key));
            let name = reader.field("name", DisplayName::parse(&input.name));
            let description = input.description.as_deref().map(Message::parse_optional);
            let description = reader.optional("description", description);
            let permissions = reader.field("permissions", permissions(&input.permissions));
            let new = (|| {
                Some(roles::NewRole {
                    key: key?,
                    name: name?,
                    description: description?.flatten(),
                    permissions: permissions?,
                })
            })();
            roles::create(db(ctx), &proof, reader.all(new)?).await
        }
        .await;
        answer(ctx, outcome, |role| CreateRolePayload { role: Some(Role(role)), user_errors: Vec::new() })
    }

    /// Changes a role of the organization's own: everybody who has it holds the new permissions from their next request
    /// on. Refused where a workspace would be left without an admin.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn update_role(&self, ctx: &Context<'_>, input: UpdateRoleInput) -> Result<UpdateRolePayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("roleId", input::id(&input.role_id));
            let name = input.name.as_opt_ref().map(|name| name.map(|name| DisplayName::parse(name)));
            let name = reader.kept("name", name);
            let description = match &input.description {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(text) => reader.field("description", Message::parse_optional(text)),
            };
            let asked = input.permissions.as_opt_ref().map(|asked| asked.map(|asked| permissions(asked)));
            let permissions = reader.kept("permissions", asked);
            let id = reader.all(id)?;
            roles::update(db(ctx), &proof, id, roles::RoleChange { name, description, permissions }).await
        }
        .await;
        answer(ctx, outcome, |role| UpdateRolePayload { role: Some(Role(role)), user_errors: Vec::new() })
    }

    /// Gives up a role of the organization's own. Members, pending invitations and service accounts that have it get the replacement.
    /// Invitations of the past go on to name it.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn delete_role(&self, ctx: &Context<'_>, input: DeleteRoleInput) -> Result<DeleteRolePayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("roleId", input::id(&input.role_id));
            let replacement = reader.optional("replacement", input.replacement.as_ref().map(input::role));
            let (id, replacement) = reader.all(id.zip(replacement))?;
            roles::delete(db(ctx), &proof, id, replacement).await
        }
        .await;
        let number = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
        answer(ctx, outcome, |deleted| DeleteRolePayload {
            role: Some(Role(deleted.role)),
            members_moved: Some(number(deleted.members)),
            invitations_moved: Some(number(deleted.invitations)),
            service_accounts_moved: Some(number(deleted.service_accounts)),
            user_errors: Vec::new(),
        })
    }
}
