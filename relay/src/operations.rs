//! Operations: bulk work in the background that survives restarts, one chunk after the other.
//!
//! Each chunk is one short transaction that does the work and moves the cursor. A relay that ends loses at most the
//! chunk in progress, and any replica continues. Each chunk is followed by a pause as long as itself, so that on each
//! replica all operations together use at most half of the time of one connection, and deliveries are not slowed.
//!
//! A chunk that fails is tried again after a growing pause and with fewer rows, for as long as the operation runs: the
//! work has been promised to the caller. The operation shows the error.

use std::time::{Duration, Instant};

use model::operation::OperationKind;
use store::bulk::Change;
use store::operations::{self, Place};
use tokio_util::sync::CancellationToken;

use crate::waiting::{self, UNWOKEN_INTERVAL};
use crate::{App, supervise};

pub(crate) mod bulk;
mod deleted_customer;
pub(crate) mod resealing;

/// The most rows that one chunk reads. It takes some tens of milliseconds.
pub(crate) const CHUNK: i64 = 2_000;

/// The shortest pause between two chunks.
pub(crate) const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// The pause after the first failure of a chunk. It doubles with each further one.
pub(crate) const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest pause after a failure.
pub(crate) const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// How soon the operations are read again after an error.
const AFTER_ERROR: Duration = Duration::from_secs(10);

/// The longest text of an error that an operation keeps, in characters.
const LONGEST_ERROR: usize = 500;

/// Works on operations until `stop`. It is woken when one is created.
pub async fn run(app: App, stop: CancellationToken) {
    waiting::rounds(&app.wakers.operations, &stop, || round(&app)).await;
}

/// Gives each operation that is due a turn. Returns the pause before the next round.
async fn round(app: &App) -> Duration {
    let running = match operations::running(&app.pool, &OperationKind::ALL).await {
        Ok(running) => running,
        Err(error) => {
            tracing::warn!(%error, "could not read the operations; retrying");
            return AFTER_ERROR;
        }
    };
    let mut pause = UNWOKEN_INTERVAL;
    for place in &running {
        if place.wait_s > 0.0 {
            pause = pause.min(Duration::from_secs_f64(place.wait_s).max(LEAST_PAUSE));
            continue;
        }
        let begun = Instant::now();
        turn(app, place).await;
        tokio::time::sleep(begun.elapsed().max(LEAST_PAUSE)).await;
        pause = LEAST_PAUSE;
    }
    pause
}

/// Works on one chunk of an operation. An error is recorded.
async fn turn(app: &App, place: &Place) {
    let work = async {
        match OperationKind::from_name(&place.kind) {
            Some(OperationKind::DeleteCustomer) => deleted_customer::turn(app, place).await,
            Some(OperationKind::Reseal) => resealing::turn(app, place).await,
            Some(kind) => match Change::of(kind) {
                Some(change) => bulk::turn(app, place, change).await,
                // A replay, which has a table and a worker of its own.
                None => Ok(()),
            },
            None => Ok(()),
        }
    };
    let error = match supervise::row(work).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(panic) => panic.to_string(),
    };
    let (operation, kind, step) = (place.id, place.kind.as_str(), place.step.as_str());
    tracing::warn!(%operation, kind, step, error, "a chunk of an operation failed; retrying");
    let error: String = error.replace('\0', "").chars().take(LONGEST_ERROR).collect();
    if let Err(unkept) = operations::record(&app.pool, place, &error, pause_after(place.tries)).await {
        tracing::warn!(%operation, error = %unkept, "could not store why a chunk of an operation failed");
        tokio::time::sleep(AFTER_ERROR).await;
    }
}

/// How long an operation waits after a chunk that had failed `tries` times before.
fn pause_after(tries: i32) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << u32::try_from(tries).unwrap_or(0).min(16));
    doubled.min(LONGEST_RETRY)
}

/// How many rows a chunk reads that has failed `tries` times: a quarter after each failure, because it may have taken
/// too long.
fn rows_of(tries: i32) -> i64 {
    (CHUNK >> (2 * tries.clamp(0, 16))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_fails_is_retried_after_growing_pauses_and_with_fewer_rows() {
        assert_eq!([0, 1, 2, 8, 9, 1_000].map(|tries| pause_after(tries).as_secs()), [1, 2, 4, 256, 300, 300]);
        assert_eq!([0, 1, 2, 5, 6, 1_000].map(rows_of), [CHUNK, 500, 125, 1, 1, 1]);
    }
}
