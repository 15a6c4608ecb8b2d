//! Guildhall from Rust: types that `graphql_client` makes of `walk.graphql` and the schema, a session, and subscriptions
//! that outlive a break of the connection.

use std::{fmt, time::Duration};

use async_stream::try_stream;
use chrono::{TimeDelta, Utc};
use futures_util::{Stream, StreamExt};
use graphql_client::{GraphQLQuery, Response};
use graphql_ws_client::graphql::StreamingOperation;
use serde_json::json;
use tokio::{sync::Mutex, time::sleep};
use tokio_tungstenite::tungstenite::{client::IntoClientRequest, http::HeaderValue};

type DateTime = chrono::DateTime<Utc>;

macro_rules! operations {
    ($($name:ident),* $(,)?) => {$(
        #[derive(GraphQLQuery)]
        #[graphql(
            schema_path = "../../../schema.graphql",
            query_path = "../walk.graphql",
            variables_derives = "Debug, Clone",
            response_derives = "Debug, Clone, PartialEq"
        )]
        pub struct $name;
    )*};
}

operations!(
    SetUp,
    SignIn,
    RefreshSession,
    CreateWorkspace,
    InviteMember,
    RevokeInvitation,
    InvitationByToken,
    Register,
    Workspace,
    InvitationStatusChanged,
);

/// Why an operation was not carried out at all. What a mutation refuses is in its `user_errors` instead.
#[derive(Debug)]
pub enum Error {
    Http(reqwest::Error),
    GraphQl(Vec<graphql_client::Error>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => error.fmt(f),
            Self::GraphQl(errors) => errors.iter().try_for_each(|error| writeln!(f, "{error}")),
        }
    }
}

impl std::error::Error for Error {}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error)
    }
}

/// What `signIn`, `register` and `refreshSession` give.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub access_token: String,
    pub expires_at: DateTime,
    pub refresh_token: String,
}

/// A client of one server, on behalf of one person once they are signed in.
pub struct Guildhall {
    url: String,
    socket_url: String,
    http: reqwest::Client,
    tokens: Mutex<Option<Tokens>>,
}

impl Guildhall {
    /// `url` without a trailing slash.
    pub fn new(url: &str) -> Self {
        let socket_url = format!("{}/graphql/ws", url.replacen("http", "ws", 1));
        Self { url: url.to_owned(), socket_url, http: reqwest::Client::new(), tokens: Mutex::new(None) }
    }

    /// Where subscriptions are reached, if elsewhere.
    pub fn with_socket_at(mut self, url: &str) -> Self {
        self.socket_url = format!("{}/graphql/ws", url.replacen("http", "ws", 1));
        self
    }

    pub async fn signed_in(&self, tokens: Tokens) {
        *self.tokens.lock().await = Some(tokens);
    }

    /// Carries out a query or mutation.
    pub async fn run<Q: GraphQLQuery>(&self, variables: Q::Variables) -> Result<Q::ResponseData, Error> {
        let authorization = self.authorization().await?;
        self.post::<Q>(variables, authorization).await
    }

    async fn post<Q: GraphQLQuery>(
        &self,
        variables: Q::Variables,
        authorization: Option<String>,
    ) -> Result<Q::ResponseData, Error> {
        let mut request = self.http.post(format!("{}/graphql", self.url)).json(&Q::build_query(variables));
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer: Response<Q::ResponseData> = request.send().await?.json().await?;
        match (answer.data, answer.errors) {
            (Some(data), None) => Ok(data),
            (_, errors) => Err(Error::GraphQl(errors.unwrap_or_default())),
        }
    }

    /// The header `Authorization`. The access token lasts 15 minutes, and is refreshed before it ends.
    async fn authorization(&self) -> Result<Option<String>, Error> {
        let expires_at = self.tokens.lock().await.as_ref().map(|tokens| tokens.expires_at);
        if expires_at.is_some_and(|end| end - Utc::now() < TimeDelta::seconds(30)) {
            self.refresh().await?;
        }
        Ok(self.tokens.lock().await.as_ref().map(|tokens| format!("Bearer {}", tokens.access_token)))
    }

    /// Gets new tokens; whoever asks meanwhile waits for them. Who can have none any more is signed out.
    pub async fn refresh(&self) -> Result<(), Error> {
        let mut tokens = self.tokens.lock().await;
        if let Some(old) = tokens.take() {
            let input = refresh_session::RefreshSessionInput { refresh_token: old.refresh_token };
            let given = self.post::<RefreshSession>(refresh_session::Variables { input }, None).await?;
            *tokens = given.refresh_session.session.map(|session| Tokens {
                access_token: session.access_token,
                expires_at: session.expires_at,
                refresh_token: session.refresh_token,
            });
        }
        Ok(())
    }

    /// Every change of the workspace's invitations, for good: after a break of the connection it asks for what was
    /// missed. Where a change says `resync_required`, as the first one does, read the list anew.
    pub fn watch_invitations(
        &self,
        workspace_id: String,
        pause: Duration,
    ) -> impl Stream<Item = Result<InvitationChange, Error>> + '_ {
        try_stream! {
            let mut after = "now".to_owned();
            loop {
                let authorization = self.authorization().await?;
                let variables =
                    invitation_status_changed::Variables { workspace_id: workspace_id.clone(), after: Some(after.clone()) };
                let operation = StreamingOperation::<InvitationStatusChanged>::new(variables);
                if let Some(mut events) = self.subscribe(operation, authorization).await {
                    while let Some(Ok(event)) = events.next().await {
                        match (event.data, event.errors) {
                            (Some(data), None) => {
                                let change = data.invitation_status_changed;
                                after.clone_from(&change.cursor);
                                yield change;
                            }
                            (_, errors) => {
                                Err(Error::GraphQl(errors.unwrap_or_default()))?;
                            }
                        }
                    }
                }
                sleep(pause).await;
            }
        }
    }

    /// Opens a socket for one subscription; `None` where that is not possible now.
    async fn subscribe(
        &self,
        operation: StreamingOperation<InvitationStatusChanged>,
        authorization: Option<String>,
    ) -> Option<graphql_ws_client::Subscription<StreamingOperation<InvitationStatusChanged>>> {
        let mut request = self.socket_url.as_str().into_client_request().ok()?;
        let protocol = HeaderValue::from_static("graphql-transport-ws");
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let (connection, _) = tokio_tungstenite::connect_async(request).await.ok()?;
        let client = graphql_ws_client::Client::build(connection)
            .payload(json!({ "authorization": authorization }))
            .ok()?;
        client.subscribe(operation).await.ok()
    }
}

/// A change of an invitation, as the subscription tells it.
pub type InvitationChange = invitation_status_changed::InvitationStatusChangedInvitationStatusChanged;
