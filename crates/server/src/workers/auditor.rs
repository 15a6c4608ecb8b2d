//! The auditor: gives new entries of the audit log their places in the chain, and has the chain signed. Knows when; how, the
//! database layer knows. Each process has one, and they take turns for each organization.

use std::time::Duration;

use guildhall_persistence::{Db, audit};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How often is looked without being told to: entries of processes that ended before they chained them, and checkpoints.
const POLL: Duration = Duration::from_secs(1);
/// The shortest time from one look to the next: under load one batch has the entries of many changes.
const PACE: Duration = Duration::from_millis(100);

/// Chains until told to stop, and then once more what was written meanwhile.
pub(super) async fn run(db: Db, stop: CancellationToken) {
    let mut failing = false;
    loop {
        let next = Instant::now() + PACE;
        match audit::chain(&db).await {
            Ok(_) if failing => {
                tracing::info!("the audit log is chained again");
                failing = false;
            }
            Ok(_) => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the audit log cannot be chained; trying again each second");
                }
            }
        }
        if stop.is_cancelled() {
            return;
        }
        tokio::select! {
            () = db.bus().audit_grows() => {}
            () = sleep(POLL) => {}
            () = stop.cancelled() => {}
        }
        sleep_until(next).await;
    }
}
