//! One GraphQL operation, whichever transport brought it: from its envelope to finished answers. Knows the executor,
//! the limits and who asks; refuses to know HTTP and WebSocket.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock},
};

use async_graphql::{
    ErrorExtensionValues, Request, Response, ServerError, Value, parser::types::OperationType,
};
use axum::http::{HeaderMap, header};
use chrono::NaiveDate;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use guildhall_domain::{access::Actor, lockout::network};
use guildhall_graphql::{Handoff, Schema, batched};
use guildhall_persistence::{
    Db, ReadError,
    audit::Origin,
    idempotency::{Claim, Once},
    quotas::calls,
    sessions::Device,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    client::ClientInfo,
    document::{Document, Documents, fill_page_sizes, missing_variables},
    errors::{self, Code, coded},
    idempotency,
    identify::{Identify, Identity, Refused},
    limits::Limits,
    rates::Requests,
    request_id::RequestId,
    shared::{Shared, SharedOperations},
    socket::{Holder, Sockets},
    wire::Envelope,
};

/// Everything the transports share.
pub struct Gateway {
    pub schema: Schema,
    /// The same, whose answers tell what they cost; made when somebody first wants to know.
    pub measuring: LazyLock<Schema, Box<dyn FnOnce() -> Schema + Send>>,
    pub documents: Documents,
    pub limits: Limits,
    /// How much each may ask for.
    pub requests: Requests,
    pub identify: Identify,
    /// Subscriptions that several hold alike.
    pub shared: SharedOperations,
    /// Open WebSockets and streams of events.
    pub sockets: Sockets,
    /// Origins besides the server's own that may open a WebSocket, as browsers send them: `https://app.example.com`; `*`
    /// stands for all.
    pub origins: Vec<String>,
    /// Whether a proxy in front sets `X-Forwarded-For` and `X-Forwarded-Host`.
    pub trust_proxy: bool,
    /// Cancelled when the server stops: every socket then closes with 1001.
    pub shutdown: CancellationToken,
}

/// What async-graphql's executor for queries says of a subscription that passed validation.
const VALID_SUBSCRIPTION: &str = "Subscriptions are not supported on this transport.";
/// What it says of a mutation that passed validation where it may execute none.
const VALID_MUTATION: &str = "Schema is not configured for mutations.";

/// Who asks, and from where; both become request data.
#[derive(Debug, Clone)]
pub struct Caller {
    pub identity: Identity,
    pub client: ClientInfo,
}

impl Caller {
    /// What limits count by: the account or key, and else the network.
    pub fn holder(&self) -> Holder {
        match self.identity.actor_key() {
            Some(actor) => Holder::Actor(actor),
            None => Holder::Network(self.network()),
        }
    }

    pub fn network(&self) -> String {
        network(self.client.ip.map(|ip| ip.to_string()).as_deref())
    }
}

/// An operation that is ready to run.
pub struct Call {
    request: Request,
    document: Arc<Document>,
    /// Of a subscription: the same without data, to validate it before it runs, and whoever holds the same.
    subscription: Option<(Request, Arc<Shared>)>,
    pub kind: OperationType,
    request_id: RequestId,
    actor: Option<Actor>,
    /// Whether the answer is to tell what it cost.
    is_measured: bool,
    /// Of a mutation: the database in this request's name.
    db: Option<Db>,
    /// Of a mutation with an idempotency key.
    once: Option<Once>,
    /// Of a machine: on which day it was counted.
    counted: Option<NaiveDate>,
}

impl Call {
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// Who asks.
    pub fn actor(&self) -> Option<Actor> {
        self.actor
    }

    /// The machine that asks, if one does.
    fn machine(&self) -> Option<Actor> {
        self.actor.filter(|actor| actor.person().is_none())
    }

    /// Has each change of the mutation note that it was made.
    pub fn claim(&mut self, claim: &Arc<Claim>) {
        if let Some(db) = &self.db {
            let request = std::mem::replace(&mut self.request, Request::new(""));
            self.request = request.data(db.claiming(Arc::clone(claim)));
        }
    }
}

/// What an operation came to. Its errors are complete: coded, masked, with the request id.
pub enum Payload {
    /// Refused before a resolver ran; never empty.
    Refused(Vec<ServerError>),
    /// The result of an execution.
    Executed(Response),
    /// The same, as JSON made once for many subscribers: `{"data":…}` with `errors` where there are any.
    Serialized(Arc<str>),
    /// The same, of a mutation that was carried out before.
    Replayed(Arc<str>),
}

/// A result in the order of members that the specification recommends.
#[derive(Serialize)]
pub struct Body<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub errors: &'a [ServerError],
    /// Left out when execution was never reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extensions: Option<&'a BTreeMap<String, Value>>,
}

impl<'a> Body<'a> {
    pub fn refused(errors: &'a [ServerError]) -> Self {
        Self { errors, data: None, extensions: None }
    }

    pub fn executed(response: &'a Response) -> Self {
        let extensions = (!response.extensions.is_empty()).then_some(&response.extensions);
        Self { errors: &response.errors, data: Some(&response.data), extensions }
    }
}

impl Gateway {
    pub fn new(schema: Schema, identify: Identify, limits: Limits, shutdown: CancellationToken) -> Self {
        Self {
            measuring: LazyLock::new(Box::new({
                let schema = schema.clone();
                || schema
            })),
            schema,
            documents: Documents::new(limits.document.clone()),
            shared: SharedOperations::default(),
            sockets: Sockets::new(&limits.socket),
            requests: Requests::new(None, None),
            limits,
            identify,
            origins: Vec::new(),
            trust_proxy: false,
            shutdown,
        }
    }

    /// Parses the document, selects its operation and checks what can be checked before validation. The errors are
    /// finished.
    pub fn prepare(
        &self,
        envelope: Envelope,
        caller: Caller,
        request_id: &RequestId,
    ) -> Result<Call, Vec<ServerError>> {
        self.try_prepare(envelope, caller, request_id).map_err(|errors| self.refusal(errors, request_id))
    }

    fn try_prepare(
        &self,
        mut envelope: Envelope,
        caller: Caller,
        id: &RequestId,
    ) -> Result<Call, Vec<ServerError>> {
        let document = self.documents.find(envelope.query.as_deref(), envelope.document_id.as_ref())?;
        let operation = &document.operation(envelope.operation_name.as_deref())?.node;
        document.limit_root_fields(operation, self.limits.root_fields)?;
        let missing = missing_variables(operation, &envelope.variables);
        if !missing.is_empty() {
            return Err(missing);
        }
        fill_page_sizes(operation, &mut envelope.variables);
        let kind = operation.ty;
        let subscription = (kind == OperationType::Subscription).then(|| {
            let mut rehearsal = Request::new("").variables(envelope.variables.clone());
            rehearsal.operation_name.clone_from(&envelope.operation_name);
            rehearsal.set_parsed_query(document.ast.clone());
            let operation = envelope.operation_name.as_deref();
            (rehearsal, self.shared.of(&document, operation, &envelope.variables))
        });
        let ip = caller.client.ip.map(|ip| ip.to_canonical().to_string());
        let is_measured = envelope.extensions.get("queryCost") == Some(&Value::Boolean(true));
        let actor = caller.identity.actor();
        let once = match &envelope.key {
            Some(key) if kind == OperationType::Mutation => {
                let variables = serde_json::to_vec(&envelope.variables).unwrap_or_default();
                let operation = envelope.operation_name.as_deref().unwrap_or_default();
                let body: [&[u8]; 3] = [&document.digest, operation.as_bytes(), &variables];
                Some(Once::new(self.identify.db(), actor, key, &body))
            }
            _ => None,
        };
        let mut request = envelope.into_request();
        let db = (kind == OperationType::Mutation).then(|| {
            let origin = Origin { request_id: Some(id.shared()), ip: ip.clone(), operator: false };
            self.identify.db().on_behalf_of(origin)
        });
        if let Some(db) = &db {
            // Found before the schema's own handle: what the operation changes is written down as coming from here.
            request = request.data(db.clone());
        }
        let mut request = request
            .data(guildhall_graphql::Caller { actor, device: Device { name: caller.client.user_agent, ip } })
            .data(guildhall_graphql::RequestId(id.shared()));
        request.set_parsed_query(document.ast.clone());
        Ok(Call {
            request,
            document,
            subscription,
            kind,
            request_id: id.clone(),
            actor,
            is_measured,
            db,
            once,
            counted: None,
        })
    }

    /// Completes errors made before execution.
    pub fn refusal(&self, mut errors: Vec<ServerError>, request_id: &RequestId) -> Vec<ServerError> {
        errors::finish_refusal(&mut errors, &self.limits, request_id);
        errors
    }

    /// Runs a query or a mutation; one with an idempotency key unless it ran before.
    pub async fn execute(self: &Arc<Self>, mut call: Call) -> Payload {
        if let Some(machine) = call.machine() {
            match self.count(machine, &call.request_id).await {
                Ok(counted) => call.counted = counted,
                Err(errors) => return Payload::Refused(errors),
            }
        }
        match call.once.take() {
            None => self.run(call).await,
            // Boxed: rare, and larger than the rest.
            Some(once) => Box::pin(idempotency::execute(self, call, once)).await,
        }
    }

    /// Counts an operation of a machine against the quota of its workspace. Boxed: people's operations, which are not counted,
    /// would keep the room for it in their own state.
    fn count<'a>(
        &'a self,
        machine: Actor,
        request_id: &'a RequestId,
    ) -> BoxFuture<'a, Result<Option<NaiveDate>, Vec<ServerError>>> {
        Box::pin(async move {
            let db = self.identify.db();
            let error = match calls::count(db, machine).await {
                Ok(Ok(counted)) => return Ok(counted),
                // Whoever is let in no more is told that instead, by the operation.
                Ok(Err(_)) if matches!(db.let_in(machine).await, Err(ReadError::Denied(_))) => {
                    return Ok(None);
                }
                Ok(Err(exceeded)) => errors::quota_exceeded(&exceeded),
                Err(fault) => {
                    tracing::error!(%request_id, %fault, "an operation could not be counted");
                    errors::internal(request_id)
                }
            };
            Err(self.refusal(vec![error], request_id))
        })
    }

    /// Runs a query or a mutation.
    pub async fn run(&self, call: Call) -> Payload {
        if !call.document.faults.is_empty() {
            return Payload::Refused(self.faults(call.request, &call.document, &call.request_id).await);
        }
        let counted = call.machine().zip(call.counted);
        let schema = if call.is_measured { &*self.measuring } else { &self.schema };
        match AssertUnwindSafe(batched(schema.execute(call.request))).catch_unwind().await {
            Ok(mut response) if errors::never_executed(&response) => {
                // There is nowhere else to tell it.
                let cost = response.extensions.remove("queryCost");
                for error in response.errors.iter_mut().filter(|_| cost.is_some()) {
                    let extensions = error.extensions.get_or_insert_with(ErrorExtensionValues::default);
                    extensions.set("queryCost", cost.clone().unwrap_or_default());
                }
                Payload::Refused(self.refusal(response.errors, &call.request_id))
            }
            Ok(response) => {
                if let Some((machine, day)) = counted
                    && response.errors.iter().any(errors::is_unauthenticated)
                {
                    calls::give_back(self.identify.db(), machine, day).await;
                }
                self.executed(response, &call.request_id)
            }
            Err(panic) => Payload::Executed(Response::from_errors(self.panicked(&*panic, &call.request_id))),
        }
    }

    /// Runs an operation of any kind. A `Refused` is the last item.
    pub fn stream(self: &Arc<Self>, call: Call) -> BoxStream<'static, Payload> {
        let gateway = Arc::clone(self);
        match call.kind {
            OperationType::Subscription => {
                // Boxed on its own: the stream would keep the room for its state, some KiB, for as long as it lives.
                stream::once(Box::pin(gateway.subscribe(call))).flatten().boxed()
            }
            _ => stream::once(async move { gateway.execute(call).await }).boxed(),
        }
    }

    async fn subscribe(self: Arc<Self>, call: Call) -> BoxStream<'static, Payload> {
        let machine = call.machine();
        let Call { request, document, subscription, request_id, .. } = call;
        let Some((rehearsal, shared)) = subscription else { return stream::empty().boxed() };
        if let Some(errors) = self.rehearse(rehearsal, &request_id).await {
            return stream::once(async { Payload::Refused(errors) }).boxed();
        }
        if !document.faults.is_empty() {
            let errors = self.refusal(document.faults.clone(), &request_id);
            return stream::once(async { Payload::Refused(errors) }).boxed();
        }
        if let Some(machine) = machine
            && let Err(errors) = self.count(machine, &request_id).await
        {
            return stream::once(async { Payload::Refused(errors) }).boxed();
        }
        let handoff = Handoff::default();
        let request = request.data(handoff.clone());
        let mut events = AssertUnwindSafe(self.schema.execute_stream(request)).catch_unwind();
        // A resolver that shares leaves its subscriber in the hand-off and streams nothing.
        let Some(first) = events.next().await else {
            return match handoff.take() {
                Some(watch) => shared.payloads(self, watch, request_id).boxed(),
                None => stream::empty().boxed(),
            };
        };
        let payloads = stream::iter([first]).chain(events).map(move |event| match event {
            Ok(response) => self.executed(response, &request_id),
            // Ends the subscription: there is no event to tell of.
            Err(panic) => Payload::Refused(self.panicked(&*panic, &request_id)),
        });
        payloads.boxed()
    }

    /// The errors that keep a subscription from starting. In its stream they look like those of an event whose
    /// resolver failed, which have to be masked; the executor for queries validates first and stops there.
    async fn rehearse(&self, rehearsal: Request, request_id: &RequestId) -> Option<Vec<ServerError>> {
        match AssertUnwindSafe(self.schema.execute(rehearsal)).catch_unwind().await {
            Ok(response) if response.errors.iter().any(|error| error.message == VALID_SUBSCRIPTION) => None,
            Ok(response) => Some(self.refusal(response.errors, request_id)),
            Err(panic) => Some(self.panicked(&*panic, request_id)),
        }
    }

    /// The errors of a document that does not fit the schema: async-graphql's where it has any, since they suggest what
    /// was meant. It is let answer questions about the schema only, so nothing runs.
    async fn faults(
        &self,
        request: Request,
        document: &Document,
        request_id: &RequestId,
    ) -> Vec<ServerError> {
        let validated = self.schema.execute(request.only_introspection());
        let own = match AssertUnwindSafe(validated).catch_unwind().await {
            Ok(response) if errors::never_executed(&response) => response.errors,
            Ok(_) => Vec::new(),
            Err(panic) => return self.panicked(&*panic, request_id),
        };
        let passed = own.is_empty() || own.iter().any(|error| error.message == VALID_MUTATION);
        self.refusal(if passed { document.faults.clone() } else { own }, request_id)
    }

    fn executed(&self, mut response: Response, request_id: &RequestId) -> Payload {
        errors::finish_execution(&mut response.errors, &self.limits, request_id);
        Payload::Executed(response)
    }

    pub fn panicked(&self, panic: &(dyn Any + Send), request_id: &RequestId) -> Vec<ServerError> {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(%request_id, message = text.unwrap_or("not a text"), "a resolver panicked");
        self.refusal(vec![errors::internal(request_id)], request_id)
    }
}

/// The token of an `Authorization` value: `None` without a value, an error when it is not `Bearer …`.
pub fn bearer(value: Option<&str>) -> Result<Option<&str>, Refused> {
    let Some(value) = value else { return Ok(None) };
    match value.trim().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(Some(token.trim()))
        }
        _ => Err(Refused::Invalid),
    }
}

/// The `Authorization` header; one that is repeated or not text counts as an invalid token.
pub fn bearer_of(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refused::Invalid);
    }
    bearer(Some(value.to_str().map_err(|_| Refused::Invalid)?))
}

/// What a refused credential reads like.
pub fn refused_error(refused: Refused) -> ServerError {
    match refused {
        Refused::Invalid => coded(
            Code::Unauthenticated,
            "The token or API key is not valid: sign in again, or use another key.",
            None,
        ),
        Refused::Expired => {
            coded(Code::Unauthenticated, "The token has expired: refresh it or sign in again.", None)
        }
    }
}
