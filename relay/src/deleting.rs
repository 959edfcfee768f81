//! Cancels what is pending for destinations that were deleted, in chunks with pauses between them.
//!
//! A deletion is answered when the destination is gone from the configuration. From then on nothing is sent to it, and what
//! is pending for it is cancelled here. Each chunk is a transaction of its own that also writes how far it came, so a relay
//! that ends costs at most the chunk that was under way. Replicas take turns: each locks the deletion that it works on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use store::Pool;
use store::deleted_destinations::{self, Turn};
use store::partitions::with_partitions;
use tokio_util::sync::CancellationToken;

use crate::waiting::{UNWOKEN_INTERVAL, Wakers};

/// The most deliveries that one transaction cancels: some tens of milliseconds, for which an attempt that was under way may
/// have to wait until it can be settled.
pub(crate) const CHUNK: i64 = 2_000;

/// How soon the relay looks again at deliveries that others have locked.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The shortest pause between two chunks.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// Cancels until `stop`; it is woken if there is something to do.
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

/// How long the others have the database for themselves after a turn that took so long: as long again, so that cancelling
/// takes at most half of the time of one connection.
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
        assert_eq!(pause_after(Turn::Nothing, Duration::ZERO), UNWOKEN_INTERVAL, "nothing is to be done");
    }
}
