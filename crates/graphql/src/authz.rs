//! Guards: the directives that declare them, and the functions that obtain the proofs. A root field carries
//! one of the directives and calls the function of the same name; tests hold the two together.

use std::sync::Arc;

use async_graphql::{Context, ID, Result, TypeDirective};
use guildhall_domain::{
    access::{
        Actor, Granted, LetIn, Open, OrganizationAccess, OwnSession, WorkspaceAccess, catalog::PermissionType,
    },
    ids::{OrganizationId, WorkspaceId},
    text::{Slug, TextFault},
};
use guildhall_persistence::{Db, OrganizationStanding, Standing, Which, sessions::Device};

use crate::error;

/// Who asks. The transport puts it beside every request.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Who the access token stands for; `None` without one. Whether the session is still alive is asked of
    /// the database by each guard.
    pub actor: Option<Actor>,
    /// The device the request came from.
    pub device: Device,
}

/// The field needs this permission in the workspace or organization that its input names.
#[TypeDirective(location = "FieldDefinition")]
pub fn authorize(#[graphql(desc = "The permission, as the enum `Permission` has it.")] permission: String) {}

/// The field needs a signed-in caller and is about what is their own.
#[TypeDirective(location = "FieldDefinition", name = "signedIn")]
pub fn signed_in_directive() {}

/// The field is open to everyone, for the reason given.
#[TypeDirective(location = "FieldDefinition")]
pub fn anonymous(#[graphql(desc = "Why that is safe.")] reason: String) {}

pub(crate) fn db<'a>(ctx: &Context<'a>) -> &'a Db {
    ctx.data_unchecked::<Db>()
}

pub(crate) fn caller<'a>(ctx: &Context<'a>) -> &'a Caller {
    ctx.data_unchecked::<Caller>()
}

fn actor(ctx: &Context<'_>) -> Result<Actor> {
    caller(ctx).actor.ok_or_else(error::unauthenticated)
}

/// The proof that the caller is signed in.
pub(crate) async fn signed_in(ctx: &Context<'_>) -> Result<OwnSession> {
    db(ctx).own_session(actor(ctx)?).await.map_err(|error| error::read(ctx, error))
}

/// The proof that the caller is let in: a person who is signed in, or a machine with a good key.
pub(crate) async fn let_in(ctx: &Context<'_>) -> Result<LetIn> {
    db(ctx).let_in(actor(ctx)?).await.map_err(|error| error::read(ctx, error))
}

/// The caller's standing in the workspace of that id.
pub(crate) async fn standing(ctx: &Context<'_>, workspace: WorkspaceId) -> Result<Standing> {
    db(ctx).standing(actor(ctx)?, workspace).await.map_err(|error| error::read(ctx, error))
}

/// The caller's standing in the workspace of that name.
pub(crate) async fn standing_by_name(ctx: &Context<'_>, name: &str) -> Result<Standing> {
    let actor = actor(ctx)?;
    // PostgreSQL takes no NUL, not even to compare. A word reserved since may still be a workspace's name.
    if !matches!(Slug::parse(name), Ok(_) | Err(TextFault::Reserved(_))) {
        let_in(ctx).await?;
        return Err(error::not_found());
    }
    db(ctx).standing_by_name(actor, name).await.map_err(|error| error::read(ctx, error))
}

/// The proof that the caller holds `P` in the workspace.
pub(crate) async fn authorize_in<P: PermissionType<Access = WorkspaceAccess>>(
    ctx: &Context<'_>,
    workspace: &ID,
) -> Result<Granted<P>> {
    // A text that is no id names nothing that exists.
    let actor = actor(ctx)?;
    let Ok(workspace) = workspace.parse() else {
        // The session is asked for all the same, so that a stranger's answer does not depend on the text.
        let_in(ctx).await?;
        return Err(error::not_found());
    };
    let standing = db(ctx).standing(actor, workspace).await.map_err(|error| error::read(ctx, error))?;
    grant(&standing.access)
}

/// The proof that the caller holds `P`, from rights that were read already.
pub(crate) fn grant<P: PermissionType<Access = WorkspaceAccess>>(
    access: &Arc<WorkspaceAccess>,
) -> Result<Granted<P>> {
    access.grant().map_err(error::denied)
}

/// The proof that the caller holds `P` in the organization; in their earliest where none is named.
pub(crate) async fn authorize_in_organization<P: PermissionType<Access = OrganizationAccess>>(
    ctx: &Context<'_>,
    organization: Option<&ID>,
) -> Result<Granted<P>> {
    let actor = actor(ctx)?;
    let which = match organization.map(|id| id.parse::<OrganizationId>()) {
        None => Which::Earliest,
        Some(Ok(id)) => Which::Id(id),
        Some(Err(_)) => {
            let_in(ctx).await?;
            return Err(error::not_found());
        }
    };
    let standing =
        db(ctx).organization_standing(actor, which).await.map_err(|error| error::read(ctx, error))?;
    standing.access.grant().map_err(error::denied)
}

/// The caller's standing in the organization of that slug.
pub(crate) async fn organization_by_slug(ctx: &Context<'_>, slug: &str) -> Result<OrganizationStanding> {
    let actor = actor(ctx)?;
    if !matches!(Slug::parse(slug), Ok(_) | Err(TextFault::Reserved(_))) {
        let_in(ctx).await?;
        return Err(error::not_found());
    }
    let standing = db(ctx).organization_standing(actor, Which::Slug(slug)).await;
    standing.map_err(|error| error::read(ctx, error))
}

/// The proof for a field that is open to everyone.
#[expect(clippy::disallowed_methods, reason = "each caller carries @anonymous with its reason")]
pub(crate) fn open(reason: &'static str) -> Open {
    Open::because(reason)
}
