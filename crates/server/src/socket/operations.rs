//! The operations that run on one socket, all polled by its task. Knows ids and ends; refuses to know what the
//! operations yield.

use std::{collections::HashMap, sync::Arc};

use futures_util::{
    StreamExt,
    stream::{self, AbortHandle, Abortable, BoxStream, SelectAll},
};

use crate::gateway::Payload;

/// What comes from an operation: its id, and a payload or none at its end.
type Step = (Arc<str>, Option<Payload>);

/// Running operations by their id.
#[derive(Default)]
pub(super) struct Operations {
    streams: SelectAll<Abortable<BoxStream<'static, Step>>>,
    running: HashMap<Arc<str>, AbortHandle>,
}

impl Operations {
    pub(super) fn start(&mut self, id: String, payloads: BoxStream<'static, Payload>) {
        let id: Arc<str> = id.into();
        let (abort, registration) = AbortHandle::new_pair();
        self.running.insert(Arc::clone(&id), abort);
        let steps = payloads.map(Some).chain(stream::once(async { None }));
        let steps = steps.map(move |payload| (Arc::clone(&id), payload)).boxed();
        self.streams.push(Abortable::new(steps, registration));
    }

    /// Ends an operation: nothing more comes from it, and its id is free. Does nothing when none has this id.
    pub(super) fn stop(&mut self, id: &str) {
        if let Some(abort) = self.running.remove(id) {
            // Looked at before the stream is polled again, which then drops it.
            abort.abort();
        }
    }

    pub(super) fn runs(&self, id: &str) -> bool {
        self.running.contains_key(id)
    }

    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    /// Whether there is anything to poll.
    pub(super) fn any(&self) -> bool {
        !self.streams.is_empty()
    }

    /// The next payload of any operation, or the end of one; none when all have ended. Dropping the future loses
    /// nothing.
    pub(super) async fn next(&mut self) -> Option<Step> {
        self.streams.next().await
    }
}
