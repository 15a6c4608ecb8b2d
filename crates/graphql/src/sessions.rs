//! Signed-in devices in the schema.

use async_graphql::{Context, Description, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::OwnSession,
    page::{Page, PageArgs},
    refusal::InputReader,
    sessions::{RefreshSessionCode, RevokeSessionCode, SignOutCode},
};
use guildhall_persistence::{OpError, sessions};
use uuid::Uuid;

use crate::{
    accounts::{Viewer, guard_token},
    authz::{anonymous, caller, db, open, signed_in, signed_in_directive},
    connection::connection,
    error, input,
    payload::{answer, payload},
    rehearsal::only_now,
};

/// The tokens of a signed-in client. Keep them out of logs and URLs.
#[derive(Description)]
pub struct SessionTokens(pub(crate) sessions::SignedIn);

#[Object(use_type_description)]
impl SessionTokens {
    /// A JWT for the header `Authorization: Bearer …`, and for `connection_init` of a socket. It says who
    /// you are and never what you may do.
    async fn access_token(&self) -> &str {
        &self.0.access.token
    }
    /// When the access token ends. Refresh before.
    async fn expires_at(&self) -> DateTime<Utc> {
        self.0.access.expires_at
    }
    /// For `refreshSession`, once: each refresh gives the next one.
    async fn refresh_token(&self) -> &str {
        &self.0.refresh_token
    }
    /// When the session ends unless it is refreshed.
    async fn refresh_expires_at(&self) -> DateTime<Utc> {
        self.0.refresh_expires_at
    }
}

/// A signed-in device. Only the person it belongs to sees it.
#[derive(Description)]
pub struct Session {
    row: sessions::SessionRow,
    is_current: bool,
}

impl Session {
    pub(crate) fn new(row: sessions::SessionRow, proof: &OwnSession) -> Self {
        Self { is_current: row.id() == proof.session(), row }
    }
}

#[Object(use_type_description)]
impl Session {
    /// The session's global id.
    pub(crate) async fn id(&self) -> ID {
        self.row.id().into()
    }
    /// What the device says of itself: its `User-Agent`, at most 200 characters.
    async fn device(&self) -> Option<&str> {
        self.row.device.as_deref()
    }
    /// The IP address it refreshed from last.
    async fn ip(&self) -> Option<&str> {
        self.row.ip.as_deref()
    }
    /// When the device signed in.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }
    /// When it refreshed last.
    async fn last_seen_at(&self) -> DateTime<Utc> {
        self.row.last_seen_at
    }
    /// When it ends unless it is refreshed.
    async fn expires_at(&self) -> DateTime<Utc> {
        self.row.expires_at
    }
    /// Whether this is the session you are asking through.
    async fn is_current(&self) -> bool {
        self.is_current
    }
}

pub(crate) struct Sessions {
    pub(crate) proof: OwnSession,
    pub(crate) args: PageArgs<Uuid>,
}

impl Sessions {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<Session>> {
        let page = sessions::page(db(ctx), &self.proof, &self.args)
            .await
            .map_err(|fault| error::read(ctx, fault))?;
        Ok(page.map(|row| Session::new(row, &self.proof)))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        sessions::count_live(db(ctx), &self.proof).await.map_err(|fault| error::read(ctx, fault))
    }
}

connection! {
    /// A list of signed-in devices.
    SessionConnection, SessionEdge, Session, Sessions, "session", |session| session.row.id().uuid()
}

/// What refreshing takes.
#[derive(InputObject)]
pub struct RefreshSessionInput {
    /// The newest refresh token of the session. For a few seconds after a refresh the token before it gets
    /// the same answer again, so that tabs which refresh at once all go on; using an older one ends the
    /// session.
    refresh_token: String,
}

payload! {
    /// The next tokens.
    RefreshSessionPayload, RefreshSessionError = RefreshSessionCode {
        /// Use these from now on.
        session: SessionTokens,
    }
}

/// What signing out takes: nothing but the access token of the request.
#[derive(SimpleObject)]
pub struct SignOutPayload {
    /// Whether the session has ended.
    signed_out: bool,
    /// Why nothing was changed; empty after success.
    user_errors: Vec<crate::payload::SignOutError>,
}

impl crate::payload::Refusable for SignOutPayload {
    type Code = SignOutCode;

    fn refused(refusals: guildhall_domain::refusal::Refusals<SignOutCode>) -> Self {
        Self { signed_out: false, user_errors: refusals.0.into_iter().map(Into::into).collect() }
    }
}

/// What ending a session takes.
#[derive(InputObject)]
pub struct RevokeSessionInput {
    /// One of your own sessions.
    session_id: ID,
}

payload! {
    /// The sessions that are left.
    RevokeSessionPayload, RevokeSessionError = RevokeSessionCode {
        /// The id of the session that has ended.
        session_id: ID,
        /// Your own view.
        viewer: Viewer,
    }
}

/// The session part of the mutation root.
#[derive(Default)]
pub struct SessionMutation;

#[Object]
impl SessionMutation {
    /// Exchanges a refresh token for the next pair of tokens.
    #[graphql(directive = anonymous::apply("the refresh token is the credential".to_owned()))]
    async fn refresh_session(
        &self,
        ctx: &Context<'_>,
        input: RefreshSessionInput,
    ) -> Result<RefreshSessionPayload> {
        let proof = open("guarded by the refresh token");
        let outcome = sessions::refresh(db(ctx), &proof, &input.refresh_token, &caller(ctx).device).await;
        // Only who is wrong is counted: a thousand people behind one address refresh some dozens of times a minute.
        if matches!(outcome, Err(OpError::Refused(_))) {
            guard_token(ctx)?;
        }
        answer(ctx, outcome, |signed_in| RefreshSessionPayload {
            session: only_now(ctx, SessionTokens(signed_in)),
            user_errors: Vec::new(),
        })
    }

    /// Ends the session that asks.
    #[graphql(directive = signed_in_directive::apply())]
    async fn sign_out(&self, ctx: &Context<'_>) -> Result<SignOutPayload> {
        let proof = signed_in(ctx).await?;
        answer(ctx, sessions::sign_out(db(ctx), &proof).await, |()| SignOutPayload {
            signed_out: true,
            user_errors: Vec::new(),
        })
    }

    /// Ends one of your own sessions, on whatever device it is.
    #[graphql(directive = signed_in_directive::apply())]
    async fn revoke_session(
        &self,
        ctx: &Context<'_>,
        input: RevokeSessionInput,
    ) -> Result<RevokeSessionPayload> {
        let proof = signed_in(ctx).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("sessionId", input::id(&input.session_id));
            sessions::revoke(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |()| RevokeSessionPayload {
            session_id: Some(input.session_id),
            viewer: Some(Viewer::new(proof)),
            user_errors: Vec::new(),
        })
    }
}
