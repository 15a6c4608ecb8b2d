//! The sweeper: now and then lets the database forget. Knows when; what is old the database layer knows.

use std::time::Duration;

use guildhall_persistence::{Db, housekeeping};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// The first sweep comes when the start is over and done with.
const FIRST: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Sweeps every hour, until told to stop.
pub(super) async fn run(db: Db, stop: CancellationToken) {
    let mut wait = FIRST;
    while stop.run_until_cancelled(sleep(wait)).await.is_some() {
        wait = INTERVAL;
        match stop.run_until_cancelled(housekeeping::sweep(&db)).await {
            Some(Ok(swept)) if swept == housekeeping::Swept::default() => {}
            Some(Ok(swept)) => {
                tracing::info!(?swept, "deleted what was kept long enough, and folded names for searches")
            }
            Some(Err(error)) => tracing::warn!(%error, "housekeeping failed; it is tried again in an hour"),
            None => {}
        }
    }
}
