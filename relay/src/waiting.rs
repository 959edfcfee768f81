//! Checks the database for waiting background work: work that other replicas have begun or left unfinished, and work
//! that has become due. One statement covers all kinds of work, so that an idle relay rarely queries the database.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use store::Pool;
use store::waiting::{self, Waiting};

/// How often the relay checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// How often the workers that this task wakes check without being woken, in case this task fails.
pub const UNWOKEN_INTERVAL: Duration = Duration::from_secs(60);

/// Wakes the background workers. Code that creates work wakes them too.
#[derive(Debug, Default)]
pub struct Wakers {
    /// [`crate::replay`], which processes replays.
    pub replays: Notify,
    /// [`crate::replay::count()`], which counts the matches of replays.
    pub counts: Notify,
    /// [`crate::deleting`], which cancels the pending deliveries of deleted destinations.
    pub deletions: Notify,
    /// [`crate::operations`], which works on operations.
    pub operations: Notify,
    /// [`crate::body_retention`], which deletes the bodies of customers with a shorter retention.
    pub body_retention: Notify,
    /// [`crate::undecided`], which evaluates undecided deliveries again.
    pub undecided: Notify,
}

impl Wakers {
    fn wake(&self, waiting: Waiting) {
        let Waiting { replays, counts, deletions, operations, undecided } = waiting;
        let wakers = [&self.replays, &self.counts, &self.deletions, &self.operations, &self.undecided];
        for (waker, waits) in wakers.into_iter().zip([replays, counts, deletions, operations, undecided]) {
            if waits {
                waker.notify_one();
            }
        }
    }
}

/// Makes rounds until `stop`, each after the pause that the one before has returned, or earlier if `waker` wakes it. A
/// round that is in progress at `stop` is dropped.
pub(crate) async fn rounds<R: Future<Output = Duration>>(
    waker: &Notify,
    stop: &CancellationToken,
    mut round: impl FnMut() -> R,
) {
    loop {
        let pause = tokio::select! {
            pause = round() => pause,
            () = stop.cancelled() => return,
        };
        tokio::select! {
            () = waker.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Checks until `stop`. Each worker checks once when it starts.
pub async fn run(pool: Pool, wakers: Arc<Wakers>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        match waiting::look(&pool).await {
            Ok(waiting) => wakers.wake(waiting),
            Err(error) => tracing::warn!(%error, "could not look for background work; retrying"),
        }
    }
}
