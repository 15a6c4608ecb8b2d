//! What the process does besides answering requests: it reads the event log, sends mail, tells webhooks, chains the audit
//! log and forgets what is old. Knows how these tasks start and stop; refuses to know what each of them does.

mod auditor;
mod calls;
mod housekeeping;
mod machines;
mod mailer;
mod webhooks;

use std::{sync::Arc, time::Duration};

use guildhall_persistence::{Db, events, in_background};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    mail::{Mailer, Templates},
    outbound::Outbound,
};

/// How long the workers have when the process stops: a little more than those take that send what is on its way.
const STOP: Duration = Duration::from_secs(12);
/// How long a worker that broke down rests before it starts again.
const REST: Duration = Duration::from_secs(1);

/// The tasks at work. Dropping this ends them at once; [`Workers::stop`] lets them finish.
#[derive(Debug)]
pub struct Workers {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Workers {
    /// Puts the workers to work. Must be called within a Tokio runtime.
    pub fn start(
        db: &Db,
        mailer: Arc<dyn Mailer>,
        templates: Arc<Templates>,
        to_webhooks: Arc<Outbound>,
    ) -> Self {
        let mut workers = Self { tasks: JoinSet::new(), stop: CancellationToken::new() };
        let stop = workers.stop.clone();
        workers.tend("event log", {
            let (db, stop) = (db.clone(), stop.clone());
            move || events::tail(db.clone(), stop.clone().cancelled_owned())
        });
        workers.tend("mailer", {
            let (db, stop) = (db.clone(), stop.clone());
            move || mailer::run(db.clone(), Arc::clone(&mailer), Arc::clone(&templates), stop.clone())
        });
        workers.tend("webhooks", {
            let (db, stop) = (db.clone(), stop.clone());
            move || webhooks::run(db.clone(), Arc::clone(&to_webhooks), stop.clone())
        });
        workers.tend("audit log", {
            let (db, stop) = (db.clone(), stop.clone());
            move || auditor::run(db.clone(), stop.clone())
        });
        workers.tend("machines", {
            let (db, stop) = (db.clone(), stop.clone());
            move || machines::run(db.clone(), stop.clone())
        });
        workers.tend("api calls", {
            let (db, stop) = (db.clone(), stop.clone());
            move || calls::run(db.clone(), stop.clone())
        });
        workers.tend("housekeeping", {
            let db = db.clone();
            move || housekeeping::run(db.clone(), stop.clone())
        });
        workers
    }

    /// Lets each worker finish what it has begun: at most [`STOP`], however long the database is away.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(STOP, ended).await.is_err() {
            tracing::warn!(
                "stopped with work that had not finished in time; it is taken up after the next start"
            );
            self.tasks.shutdown().await;
        }
    }

    /// Runs a worker until it is told to stop. A panic is a bug, but no reason to send no more mail.
    fn tend<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        name: &'static str,
        work: impl Fn() -> F + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                // A set of one, so that the worker ends with this task.
                let mut worker = JoinSet::new();
                worker.spawn(in_background(work()));
                if let Some(Err(error)) = worker.join_next().await {
                    tracing::error!(%error, worker = name, "a worker broke down and is started again");
                    sleep(REST).await;
                }
            }
        });
    }
}
