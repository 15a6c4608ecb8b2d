//! Writes down now and then what machines asked for, so that no request has to.

use guildhall_persistence::{Db, quotas::calls};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Writes every few seconds, and a last time when told to stop.
pub(super) async fn run(db: Db, stop: CancellationToken) {
    let mut last = false;
    while !last {
        last = stop.run_until_cancelled(sleep(calls::INTERVAL)).await.is_none();
        if let Err(error) = calls::settle(&db).await {
            tracing::warn!(%error, "what machines asked for could not be written down");
        }
    }
}
