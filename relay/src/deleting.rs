//! Cancels the pending deliveries of deleted destinations, in chunks with pauses between them.
//!
//! A deletion is answered as soon as the destination is gone from the configuration. From then on nothing is sent to
//! it, and its pending deliveries are cancelled here. Each chunk is a separate transaction that also records the
//! progress, so a relay that ends loses at most the chunk in progress. Replicas take turns: each locks the deletion
//! that it works on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use store::Pool;
use store::deleted_destinations::{self, Turn};
use store::partitions::with_partitions;
use tokio_util::sync::CancellationToken;

use crate::waiting::{UNWOKEN_INTERVAL, Wakers};

/// The most deliveries that one transaction cancels. It takes some tens of milliseconds, and the settlement of an
/// attempt in flight may have to wait that long.
pub(crate) const CHUNK: i64 = 2_000;

/// How soon the relay retries deliveries that other transactions have locked.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The shortest pause between two chunks.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// Cancels until `stop`. It is woken when there is work.
pub async fn run(pool: Pool, wakers: Arc<Wakers>, stop: CancellationToken) {
    loop {
        let begun = Instant::now();
        let turn = tokio::select! {
            turn = async { with_partitions!(&pool, deleted_destinations::take_turn(&pool, CHUNK)) } => turn,
            () = stop.cancelled() => return,
        };
        let turn = turn.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not cancel pending deliveries to a deleted destination; retrying");
            Turn::Nothing
        });
        if let Turn::Done { destination, cancelled } = turn {
            tracing::info!(
                %destination,
                cancelled,
                "all pending deliveries to a deleted destination have been cancelled"
            );
        }
        tokio::select! {
            () = wakers.deletions.notified(), if turn == Turn::Nothing => {}
            () = tokio::time::sleep(pause_after(turn, begun.elapsed())) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// How long the database is left to others after a turn that took `took`: equally long, so that cancelling takes at
/// most half of the time of one connection.
fn pause_after(turn: Turn, took: Duration) -> Duration {
    match turn {
        Turn::Nothing => UNWOKEN_INTERVAL,
        Turn::Waits => RETRY_INTERVAL,
        Turn::Cancelled(_) | Turn::Done { .. } => took.max(LEAST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_takes_long_is_followed_by_a_long_pause() {
        let pause = |took_ms| pause_after(Turn::Cancelled(CHUNK), Duration::from_millis(took_ms));
        assert_eq!([0, 40, 900].map(|took_ms| pause(took_ms).as_millis()), [10, 40, 900]);
        assert_eq!(pause_after(Turn::Nothing, Duration::ZERO), UNWOKEN_INTERVAL, "there is no work");
    }
}
