//! Tokens for other services in the schema, and what such a service asks about them.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Actor, Granted, perm},
    refusal::InputReader,
    workspace_tokens::{IssueWorkspaceTokenCode, parse_audience},
};
use guildhall_persistence::{OpError, workspace_tokens};

use crate::{
    access::Permission,
    accounts::throttle,
    authz::{anonymous, authorize, caller, db, open, standing},
    error, input,
    payload::{answer, payload},
    rehearsal::only_now,
};

/// For which workspace and service a token is wanted.
#[derive(InputObject)]
pub struct IssueWorkspaceTokenInput {
    /// The workspace.
    workspace_id: ID,
    /// The service that it is for: what stands in `aud`, mostly an address; 1 to 200 visible ASCII characters. When absent,
    /// it is this instance's own audience.
    audience: Option<String>,
}

payload! {
    /// A token for another service.
    IssueWorkspaceTokenPayload, IssueWorkspaceTokenError = IssueWorkspaceTokenCode {
        /// A JWT, signed with EdDSA by one of the keys at `/.well-known/jwks.json`. Its claims: `sub` who, `workspace` and
        /// `workspace_name` where, `role` the key of the role there (none for an API key, which is limited besides), `iss`, `aud`, `exp`.
        token: String,
        /// When it ends: in an hour.
        expires_at: DateTime<Utc>,
    }
}

/// What the holder of a token may do now.
#[derive(SimpleObject)]
pub struct AccessCheck {
    /// Whether the token is good. All else is empty when it is not, and nothing says why.
    is_active: bool,
    /// Who holds it: the global id of a person, a service account or an API key.
    principal_id: Option<ID>,
    /// The workspace it is for.
    workspace_id: Option<ID>,
    /// The service that the token was made for; null for an API key, which is made for this one.
    audience: Option<String>,
    /// Which of the permissions that were asked about the holder has there.
    granted: Vec<Permission>,
    /// Whether the holder has all of them.
    is_allowed: bool,
}

/// How many permissions can be asked about at once.
const MAX_PERMISSIONS: usize = 100;

/// The part of the query root about tokens for other services.
#[derive(Default)]
pub struct WorkspaceTokenQuery;

#[Object]
impl WorkspaceTokenQuery {
    /// What the holder of a workspace token or an API key may do now, by the rights that every operation here is guarded by:
    /// for a service that was shown one, and needs no account of its own to ask. Rights that were lost since the token was
    /// made are lost here.
    #[graphql(directive = anonymous::apply("it tells whoever holds a token what that token is good for".to_owned()))]
    async fn check_access(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace token or API key that the service was shown.")] token: String,
        #[graphql(desc = "What its holder would like to do; at most 100 permissions.")] permissions: Vec<
            Permission,
        >,
        #[graphql(
            desc = "The service that asks, as the token's `aud` has it: give it, so that a token made for another service \
                    is good for nothing here."
        )]
        audience: Option<String>,
    ) -> Result<AccessCheck> {
        if permissions.len() > MAX_PERMISSIONS {
            return Err(error::bad_input(format!("`permissions` has more than {MAX_PERMISSIONS} entries.")));
        }
        let open = open("it tells whoever holds a token what that token is good for");
        let checked = workspace_tokens::check(db(ctx), &open, &token, audience.as_deref()).await;
        let Some(checked) = checked.map_err(|fault| error::internal(ctx, &fault))? else {
            // Only what is good for nothing counts as a try.
            throttle(ctx).machine(caller(ctx).device.ip.as_deref()).map_err(error::too_often)?;
            let none = AccessCheck {
                is_active: false,
                principal_id: None,
                workspace_id: None,
                audience: None,
                granted: Vec::new(),
                is_allowed: false,
            };
            return Ok(none);
        };
        let access = &checked.access;
        let usable = access.usable();
        let principal: ID = match access.actor() {
            Actor::User { user, .. } => user.into(),
            Actor::ServiceAccount { account, .. } => account.into(),
            Actor::Key { key, .. } => key.into(),
        };
        let is_allowed = permissions.iter().all(|permission| usable.holds(permission.0));
        Ok(AccessCheck {
            is_active: true,
            principal_id: Some(principal),
            workspace_id: Some(access.workspace().into()),
            audience: checked.audience,
            granted: permissions.into_iter().filter(|permission| usable.holds(permission.0)).collect(),
            is_allowed,
        })
    }
}

/// The part of the mutation root about tokens for other services.
#[derive(Default)]
pub struct WorkspaceTokenMutation;

#[Object]
impl WorkspaceTokenMutation {
    /// A token with which you show another service who you are in the workspace, and in which role: good for an hour, and for
    /// nothing here. It ends with your session, key or secret where that service asks `checkAccess`.
    #[graphql(directive = authorize::apply("WORKSPACE_VIEW".to_owned()))]
    async fn issue_workspace_token(
        &self,
        ctx: &Context<'_>,
        input: IssueWorkspaceTokenInput,
    ) -> Result<IssueWorkspaceTokenPayload> {
        let Ok(workspace) = input::id(&input.workspace_id) else {
            crate::authz::let_in(ctx).await?;
            return Err(error::not_found());
        };
        let standing = standing(ctx, workspace).await?;
        let proof: Granted<perm::WorkspaceView> = crate::authz::grant(&standing.access)?;
        let outcome = async {
            let mut reader = InputReader::default();
            let audience = reader.optional("audience", input.audience.as_deref().map(parse_audience));
            let audience = reader.all(audience)?;
            let name = &standing.workspace.name;
            let issued = workspace_tokens::issue(db(ctx), &proof, name, audience.as_deref()).await;
            issued.map_err(OpError::from)
        }
        .await;
        answer(ctx, outcome, |issued| IssueWorkspaceTokenPayload {
            token: only_now(ctx, issued.token),
            expires_at: Some(issued.expires_at),
            user_errors: Vec::new(),
        })
    }
}
