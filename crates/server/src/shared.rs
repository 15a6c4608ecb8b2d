//! Subscriptions that many hold alike: one document, the same variables, the same rights. An event is executed
//! and serialised once for all of them. Knows which subscriptions are alike; who may be told what is decided for
//! each subscriber by the graph itself.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use async_graphql::{
    Name, Request, Variables,
    parser::types::{OperationDefinition, Selection},
};
use futures_util::{FutureExt, Stream, StreamExt};
use guildhall_domain::access::PermissionSet;
use guildhall_graphql::{Ended, Turn, Watch, batched};
use tokio::sync::OnceCell;

use crate::{
    document::Document,
    errors,
    gateway::{Body, Gateway, Payload},
    request_id::RequestId,
};

/// How many answers a document keeps for those who are not told yet.
const ANSWERS: usize = 64;

/// What makes two subscriptions alike, rights apart.
#[derive(PartialEq, Eq, Hash, Clone)]
struct Key {
    document: [u8; 32],
    operation: Option<String>,
    variables: String,
}

/// The documents that are watched now.
#[derive(Default)]
pub struct SharedOperations(Mutex<HashMap<Key, Weak<Shared>>>);

/// A subscription, whoever holds it.
pub struct Shared {
    document: Arc<Document>,
    operation: Option<String>,
    variables: Variables,
    answers: Mutex<VecDeque<Kept>>,
}

/// The answer to an event for those with the same rights; made by whoever asks first.
type Kept = ((i64, PermissionSet), Arc<OnceCell<Arc<str>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedOperations {
    /// The subscription of that document and these variables: the one that others hold already, or a new one.
    pub fn of(
        &self,
        document: &Arc<Document>,
        operation: Option<&str>,
        variables: &Variables,
    ) -> Arc<Shared> {
        let mut variables = variables.clone();
        // Where a subscriber goes on from is their own, and no part of the answer to an event.
        let cursor =
            document.operation(operation).ok().and_then(|definition| cursor_variable(&definition.node));
        if let Some(name) = cursor {
            variables.remove(&name);
        }
        let key = Key {
            document: document.digest,
            operation: operation.map(str::to_owned),
            variables: serde_json::to_string(&variables).unwrap_or_default(),
        };
        let mut watched = lock(&self.0);
        if let Some(shared) = watched.get(&key).and_then(Weak::upgrade) {
            return shared;
        }
        watched.retain(|_, shared| shared.strong_count() > 0);
        let shared = Arc::new(Shared {
            document: Arc::clone(document),
            operation: key.operation.clone(),
            variables,
            answers: Mutex::default(),
        });
        watched.insert(key, Arc::downgrade(&shared));
        shared
    }
}

/// The variable that the root field's `after` takes its value from.
fn cursor_variable(definition: &OperationDefinition) -> Option<Name> {
    let Selection::Field(field) = &definition.selection_set.node.items.first()?.node else { return None };
    match &field.node.get_argument("after")?.node {
        async_graphql_value::Value::Variable(name) => Some(name.clone()),
        _ => None,
    }
}

impl Shared {
    /// What one subscriber is told.
    pub fn payloads(
        self: Arc<Self>,
        gateway: Arc<Gateway>,
        watch: Watch,
        request_id: RequestId,
    ) -> impl Stream<Item = Payload> + Send + 'static {
        watch.turns().then(move |turn| {
            let (shared, gateway, request_id) = (Arc::clone(&self), Arc::clone(&gateway), request_id.clone());
            // Boxed: the stream would keep room for an execution between the events, too.
            Box::pin(async move {
                match turn {
                    Ok(turn) => Payload::Serialized(shared.answer(&gateway, turn, &request_id).await),
                    Err(ended) => gateway.ended(&ended, &request_id),
                }
            })
        })
    }

    async fn answer(&self, gateway: &Gateway, turn: Turn, request_id: &RequestId) -> Arc<str> {
        let Some(key) = turn.key() else { return self.execute(gateway, turn, request_id).await };
        let cell = {
            let mut answers = lock(&self.answers);
            match answers.iter().find(|(kept, _)| *kept == key) {
                Some((_, cell)) => Arc::clone(cell),
                None => {
                    if answers.len() == ANSWERS {
                        answers.pop_front();
                    }
                    let cell = Arc::new(OnceCell::new());
                    answers.push_back((key, Arc::clone(&cell)));
                    cell
                }
            }
        };
        Arc::clone(cell.get_or_init(|| self.execute(gateway, turn, request_id)).await)
    }

    async fn execute(&self, gateway: &Gateway, turn: Turn, request_id: &RequestId) -> Arc<str> {
        let caller = turn.caller();
        let mut request = Request::new("").variables(self.variables.clone()).data(turn);
        request.operation_name.clone_from(&self.operation);
        request.set_parsed_query(self.document.ast.clone());
        let request = request.data(caller).data(guildhall_graphql::RequestId(request_id.shared()));
        let mut events = gateway.schema.execute_stream(request);
        let response = match AssertUnwindSafe(batched(events.next())).catch_unwind().await {
            Ok(response) => response,
            Err(panic) => return body(&Body::refused(&gateway.panicked(&*panic, request_id))),
        };
        let Some(mut response) = response else {
            return body(&Body::refused(&[errors::internal(request_id)]));
        };
        errors::finish_execution(&mut response.errors, &gateway.limits, request_id);
        body(&Body::executed(&response))
    }
}

fn body(body: &Body<'_>) -> Arc<str> {
    serde_json::to_string(body)
        .unwrap_or_else(|error| {
            tracing::error!(%error, "an answer could not be serialised");
            r#"{"data":null}"#.to_owned()
        })
        .into()
}

impl Gateway {
    /// The last payload of a subscription whose holder may not be told any more.
    fn ended(&self, ended: &Ended, request_id: &RequestId) -> Payload {
        if let Some(fault) = ended.fault() {
            tracing::error!(%fault, request_id = %request_id, "a subscription failed");
        }
        let error = ended.error().into_server_error(async_graphql::Pos::default());
        Payload::Refused(self.refusal(vec![error], request_id))
    }
}
