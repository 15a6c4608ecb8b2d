//! Writes down now and then when service accounts and API keys were here last, so that no request has to.

use std::time::Duration;

use guildhall_domain::access::System;
use guildhall_persistence::{Db, machines::write_seen};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_secs(10);

/// Writes every ten seconds, and a last time when told to stop.
pub(super) async fn run(db: Db, stop: CancellationToken) {
    #[expect(clippy::disallowed_methods, reason = "the service notes on its own behalf who was here")]
    let proof = System::named("machines");
    let mut last = false;
    while !last {
        last = stop.run_until_cancelled(sleep(INTERVAL)).await.is_none();
        if let Err(error) = write_seen(&db, &proof).await {
            tracing::warn!(%error, "when machines were last here could not be written down");
        }
    }
}
