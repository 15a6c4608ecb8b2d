//! When a batch of the data loader begins: after the poll in which its first key was asked for. All fields of one level
//! ask within one poll, so that a batch always holds all of them; begun at once, another thread would take it
//! away half full. Waiting some time instead would make every request that much slower.

use std::{cell::RefCell, future::poll_fn, mem, pin::pin, time::Duration};

use async_graphql::runtime::Timer;
use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
    task::{FutureObj, Spawn, SpawnError},
};
use tokio::runtime::Handle;

thread_local! {
    /// The batches that the poll under way has begun; `None` outside of [`batched`].
    static BEGUN: RefCell<Option<Vec<FutureObj<'static, ()>>>> = const { RefCell::new(None) };
}

/// Runs a GraphQL operation so that the batches of its data loaders are full.
pub async fn batched<F: Future>(operation: F) -> F::Output {
    let mut operation = pin!(operation);
    poll_fn(|context| {
        let _poll = Poll::begin();
        operation.as_mut().poll(context)
    })
    .await
}

/// A poll of an operation; begins its batches when it ends, also in a panic.
struct Poll {
    outer: Option<Vec<FutureObj<'static, ()>>>,
}

impl Poll {
    fn begin() -> Self {
        Self { outer: BEGUN.replace(Some(Vec::new())) }
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        for batch in BEGUN.replace(mem::take(&mut self.outer)).into_iter().flatten() {
            tokio::spawn(batch);
        }
    }
}

/// What the data loader spawns its batches with.
pub(crate) struct AfterPoll(Handle);

impl AfterPoll {
    pub(crate) fn current() -> Self {
        Self(Handle::current())
    }
}

impl Spawn for AfterPoll {
    fn spawn_obj(&self, batch: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        BEGUN.with_borrow_mut(|begun| match begun {
            Some(begun) => begun.push(batch),
            None => drop(self.0.spawn(batch)),
        });
        Ok(())
    }
}

/// The data loader's wait: none, since its batches begin when they are full.
pub(crate) struct NoWait;

impl Timer for NoWait {
    fn delay(&self, _: Duration) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
}
