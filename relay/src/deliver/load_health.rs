//! Reads the health that earlier owners of destinations have stored, for new lines.

use std::time::Duration;

use engine::{Input, LoadedHealth};
use shared::id::DestinationId;
use store::{Pool, destination_health};

use crate::engine_handle::Handle;

/// The most destinations in one statement.
pub(crate) const BATCH: usize = 5_000;

/// How long after a failure the query is retried.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the stored health of these destinations, each with the epoch of its shard, and passes it to the engine. It
/// retries until the query succeeds: until then the engine sends nothing to them.
pub(super) async fn run(pool: Pool, engine: Handle, lines: Vec<(DestinationId, i64)>) {
    for batch in lines.chunks(BATCH) {
        let ids: Vec<DestinationId> = batch.iter().map(|(destination, _)| *destination).collect();
        let stored = loop {
            match destination_health::load(&pool, &ids).await {
                Ok(stored) => break stored,
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "could not read the stored health of destinations; nothing is sent to them until it has been \
                         read; retrying"
                    );
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        };
        let now_us = engine.clock.now_us();
        let loaded = batch.iter().map(|(destination, epoch)| {
            let learned = stored.get(destination).map(|row| row.learned(*epoch, now_us));
            LoadedHealth { destination: *destination, epoch: *epoch, learned }
        });
        engine.tell(Input::HealthLoaded(loaded.collect()));
    }
}
