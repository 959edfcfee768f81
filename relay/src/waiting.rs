//! Looks for work in the background that waits in the database: what other replicas have begun or left unfinished, and what
//! has become due. It is one statement for all kinds of work, so that a relay without any asks the database rarely.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use store::Pool;
use store::waiting::{self, Waiting};

/// How often the relay looks.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// How often those that are woken by this look by themselves, in case this fails.
pub const UNWOKEN_INTERVAL: Duration = Duration::from_secs(60);

/// Wakes those that work in the background. Those who make work wake them too.
#[derive(Debug, Default)]
pub struct Wakers {
    /// [`crate::replay`], which works off replays.
    pub replays: Notify,
    /// [`crate::replay::count`], which counts what replays match.
    pub counts: Notify,
    /// [`crate::deleting`], which cancels what is pending for deleted destinations.
    pub deletions: Notify,
    /// [`crate::undecided`], which decides again what no route could decide.
    pub undecided: Notify,
}

impl Wakers {
    fn wake(&self, waiting: Waiting) {
        let Waiting { replays, counts, deletions, undecided } = waiting;
        let wakers = [&self.replays, &self.counts, &self.deletions, &self.undecided];
        for (waker, waits) in wakers.into_iter().zip([replays, counts, deletions, undecided]) {
            if waits {
                waker.notify_one();
            }
        }
    }
}

/// Looks until `stop`. Each worker looks once by itself when it starts.
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
