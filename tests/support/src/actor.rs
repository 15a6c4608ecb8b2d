//! Somebody who uses Guildhall over HTTP and sockets, signed in or not.

use std::{fmt, sync::LazyLock};

use async_graphql::parser::{parse_schema, types};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::{answer::Answer, subscription::Subscription};

/// Everybody's password, unless a test chooses another.
pub const PASSWORD: &str = "granite otter violin 7 lantern";

/// What came over HTTP.
#[derive(Clone, Debug)]
pub struct Page {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Page {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }
}

/// A workspace and somebody who administers it.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub id: String,
    pub name: String,
    pub admin: Actor,
}

/// Somebody at a server. Clones share the connections; tokens are as they were when this value was made.
#[derive(Clone)]
pub struct Actor {
    /// Where the server is, without a trailing slash.
    pub url: String,
    /// The global id; empty for the anonymous, as are the next two.
    pub id: String,
    pub email: String,
    pub name: String,
    pub password: String,
    pub access_token: Option<String>,
    pub refresh_token: Option<String>,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <{}>", self.name, self.email)
    }
}

impl Actor {
    /// Nobody in particular.
    pub fn anonymous(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            id: String::new(),
            email: String::new(),
            name: String::new(),
            password: PASSWORD.to_owned(),
            access_token: None,
            refresh_token: None,
            http: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// Whoever shows that key or token.
    pub fn machine(url: &str, token: &str) -> Self {
        Self { access_token: Some(token.to_owned()), ..Self::anonymous(url) }
    }

    /// The same person, with the same tokens, at another server.
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// The same person as the payload of `setUp`, `register`, `signIn` or `refreshSession` made them.
    fn signed_in(mut self, payload: &Value) -> Self {
        let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        self.access_token = text("/session/accessToken");
        self.refresh_token = text("/session/refreshToken");
        assert!(self.access_token.is_some(), "no session in {payload:#}");
        self.id = text("/user/id").unwrap_or(self.id);
        self.email = text("/user/email").unwrap_or(self.email);
        self.name = text("/user/displayName").unwrap_or(self.name);
        self
    }

    /// Makes the first account of the server.
    #[track_caller]
    pub fn set_up(
        url: &str,
        token: &str,
        email: &str,
        name: &str,
    ) -> impl Future<Output = (Self, Workspace)> {
        let (actor, input) = (
            Self::anonymous(url),
            json!({ "token": token, "email": email, "displayName": name, "password": PASSWORD,
                    "organizationName": "Example" }),
        );
        async move {
            let selection = format!("{SIGNED_IN} workspace {{ id name }}");
            let answer = actor.mutate("setUp", input, &selection).await.ok();
            let actor = actor.signed_in(answer.data("/setUp"));
            let workspace = Workspace {
                id: answer.text("/setUp/workspace/id").to_owned(),
                name: answer.text("/setUp/workspace/name").to_owned(),
                admin: actor.clone(),
            };
            (actor, workspace)
        }
    }

    /// Makes an account with the secret of an invitation's link.
    pub async fn register(url: &str, token: &str, name: &str) -> Self {
        let actor = Self::anonymous(url);
        let input = json!({ "token": token, "displayName": name, "password": PASSWORD });
        let answer = actor.mutate("register", input, SIGNED_IN).await.ok();
        actor.signed_in(answer.data("/register"))
    }

    /// Signs in anywhere.
    pub async fn sign_in(url: &str, email: &str, password: &str) -> Self {
        let actor = Self { password: password.to_owned(), ..Self::anonymous(url) };
        let input = json!({ "email": email, "password": password });
        let answer = actor.mutate("signIn", input, SIGNED_IN).await.ok();
        actor.signed_in(answer.data("/signIn"))
    }

    /// The same person in a new session: on another device, or after the clock was advanced past the tokens' end.
    pub async fn again(&self) -> Self {
        Self::sign_in(&self.url, &self.email, &self.password).await
    }

    /// The id of the organization they joined first.
    pub async fn organization(&self) -> String {
        let answer =
            self.query("{ viewer { organizations(first: 1) { nodes { id } } } }", json!({})).await.ok();
        answer.text("/viewer/organizations/nodes/0/id").to_owned()
    }

    /// Makes a workspace; its name is derived from the display name.
    pub async fn workspace(&self, display_name: &str) -> Workspace {
        let input = json!({ "displayName": display_name });
        let answer = self.mutate("createWorkspace", input, "workspace { id name }").await.ok();
        Workspace {
            id: answer.text("/createWorkspace/workspace/id").to_owned(),
            name: answer.text("/createWorkspace/workspace/name").to_owned(),
            admin: self.clone(),
        }
    }

    /// Invites an address to a workspace: the answer, with `invitation { id status delivery email }`.
    pub async fn invite(&self, workspace: &Workspace, email: &str, role: &str) -> Answer {
        let input = json!({ "workspaceId": workspace.id, "email": email, "role": role });
        self.mutate("inviteMember", input, "invitation { id status delivery email }").await
    }

    /// Runs a query or mutation over HTTP.
    pub async fn query(&self, document: &str, variables: Value) -> Answer {
        self.query_with(&[], document, variables).await
    }

    /// The same with further headers.
    pub async fn query_with(&self, headers: &[(&str, &str)], document: &str, variables: Value) -> Answer {
        let body = json!({ "query": document, "variables": variables }).to_string();
        let mut request = Request::post(format!("{}/graphql", self.url))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        if let Some(token) = &self.access_token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let page = self.http(request.body(body.into()).expect("a request")).await;
        let body = serde_json::from_slice(&page.body)
            .unwrap_or_else(|error| panic!("{}, no JSON ({error}): {:?}", page.status, page.body));
        Answer { status: page.status, headers: page.headers, body }
    }

    /// Runs one mutation with its `input`; `userErrors { code message field }` are selected beside `selection`. The
    /// payload is in the data under the mutation's name.
    pub async fn mutate(&self, mutation: &str, input: Value, selection: &str) -> Answer {
        self.mutate_with("", mutation, input, selection).await
    }

    /// The same with further arguments, such as `dryRun: true`.
    pub async fn mutate_with(
        &self,
        arguments: &str,
        mutation: &str,
        input: Value,
        selection: &str,
    ) -> Answer {
        let (variables_of, arguments) = match input_type(mutation) {
            Some(kind) => (format!("($input: {kind})"), format!("(input: $input, {arguments})")),
            None if arguments.is_empty() => (String::new(), String::new()),
            None => (String::new(), format!("({arguments})")),
        };
        let document = format!(
            "mutation{variables_of} {{ {mutation}{arguments} {{ {selection} userErrors {{ code message field }} }} }}"
        );
        let variables = if input.is_null() { json!({}) } else { json!({ "input": input }) };
        self.query(&document, variables).await
    }

    /// Starts a subscription on a socket of its own. What happens from now on is told.
    pub async fn subscribe(&self, document: &str, variables: Value) -> Subscription {
        Subscription::start(&self.url, self.access_token.as_deref(), document, variables).await
    }

    /// `GET` of a path, or of a whole address as it stands in a mail.
    pub async fn get(&self, address: &str) -> Page {
        self.http(Request::get(self.address(address)).body(Bytes::new()).expect("a request")).await
    }

    /// Submits a form as a browser does.
    pub async fn post_form(&self, address: &str, fields: &[(&str, &str)]) -> Page {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.address(address))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.http(request.body(body.into()).expect("a request")).await
    }

    /// Sends any request, as it is, to its absolute address. Redirects are not followed.
    pub async fn http(&self, request: Request<Bytes>) -> Page {
        let uri = request.uri().clone();
        let response = self.http.request(request.map(Full::new)).await;
        let response = response.unwrap_or_else(|error| panic!("no answer from {uri}: {error:?}"));
        let (parts, body) = response.into_parts();
        let body =
            body.collect().await.unwrap_or_else(|error| panic!("half an answer from {uri}: {error:?}"));
        Page { status: parts.status, headers: parts.headers, body: body.to_bytes() }
    }

    fn address(&self, address: &str) -> String {
        if address.starts_with('/') { format!("{}{address}", self.url) } else { address.to_owned() }
    }
}

const SIGNED_IN: &str = "user { id email displayName } session { accessToken refreshToken }";

/// The last part of an address: the secret of an invitation's link.
pub fn token_of(link: &str) -> &str {
    link.rsplit('/').next().unwrap_or_default()
}

/// The type of a mutation's `input`, as the schema declares it, such as `InviteMemberInput!`.
fn input_type(mutation: &str) -> Option<String> {
    static SCHEMA: LazyLock<types::ServiceDocument> =
        LazyLock::new(|| parse_schema(guildhall_graphql::sdl()).expect("the schema can be parsed"));
    let fields = SCHEMA.definitions.iter().find_map(|definition| match definition {
        types::TypeSystemDefinition::Type(of) if of.node.name.node == "Mutation" => match &of.node.kind {
            types::TypeKind::Object(object) => Some(&object.fields),
            _ => None,
        },
        _ => None,
    });
    let fields = fields.expect("the schema has mutations");
    let field = fields.iter().find(|field| field.node.name.node == mutation);
    let field = field.unwrap_or_else(|| panic!("no mutation {mutation}"));
    let input = field.node.arguments.iter().find(|argument| argument.node.name.node == "input");
    input.map(|input| input.node.ty.node.to_string())
}
