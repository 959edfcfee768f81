//! Supervises the tasks of a running relay. If one ends before it was told to, or panics, the relay shuts down in
//! order.
//!
//! A task of `tidegate serve` runs until it is told to stop. If one ended early and nothing noticed, the relay would
//! stay alive without doing part of its work. So each task is spawned in a [`Group`], which logs such an end with the
//! task's name, keeps it for `/readyz`, and wakes [`Supervisor::failure`]. The relay then drains and exits with an
//! error, and its process manager restarts it. Short work that tasks start, such as one attempt, is a *short task*: it
//! may end at any time, and only a panic in it counts as a failure.
//!
//! That is right for faults of the whole relay. Work that depends on the data of one row runs in [`row()`], so that its
//! panic is a failure of that row only.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use row::{RowPanic, row, row_now};

mod row;

/// A task that has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task \"{task}\" {how}")]
pub struct Failure {
    pub task: &'static str,
    pub how: End,
}

/// How a task ended that should have kept running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum End {
    #[error("stopped unexpectedly")]
    Returned,
    /// With the text of the panic.
    #[error("panicked: {0}")]
    Panicked(String),
}

/// Records every task that has failed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    failures: watch::Sender<Vec<Failure>>,
}

impl Supervisor {
    /// Creates a new group of tasks, which are stopped together.
    #[must_use]
    pub fn group(&self) -> Group {
        Group {
            supervisor: self.clone(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        }
    }

    /// Waits for the first task that fails.
    pub async fn failure(&self) -> Failure {
        let mut failures = self.failures.subscribe();
        let failed = failures.wait_for(|failures| !failures.is_empty()).await;
        match failed.ok().and_then(|failures| failures.first().cloned()) {
            Some(failure) => failure,
            // The channel is never closed: `self` holds its sender.
            None => std::future::pending().await,
        }
    }

    /// All failed tasks, in the order in which they failed.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        self.failures.borrow().clone()
    }

    fn failed(&self, task: &'static str, how: End) {
        tracing::error!(task, error = %how, "a task of the relay failed; the relay is shutting down");
        self.failures.send_modify(|failures| {
            // A short task that panics repeatedly is one failure.
            if !failures.iter().any(|failure| failure.task == task) {
                failures.push(Failure { task, how });
            }
        });
    }
}

/// Tasks that are stopped together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Group {
    supervisor: Supervisor,
    tasks: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl Group {
    /// Spawns a task that has to run until [`Group::stop_signal`]. The handle completes when the task ends, even if it
    /// panics or is aborted.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let group = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                ended = caught(task) => match ended {
                    Ok(()) if group.stop.is_cancelled() => {}
                    Ok(()) => group.supervisor.failed(name, End::Returned),
                    Err(panic) => group.panicked(name, &*panic),
                },
                () = group.abort.cancelled() => {}
            }
        })
    }

    /// Spawns work that may end at any time, and is not aborted with the tasks.
    pub fn spawn_short_task(&self, name: &'static str, job: impl Future<Output = ()> + Send + 'static) {
        let supervisor = self.supervisor.clone();
        // Combinators, because each async block around the job would hold a copy of it.
        self.tasks.spawn(AssertUnwindSafe(job).catch_unwind().map(move |ended| {
            if let Err(panic) = ended {
                supervisor.failed(name, End::Panicked(panic_text(&*panic)));
            }
        }));
    }

    /// Records a panic that was caught elsewhere as a failure of its task.
    pub fn panicked(&self, name: &'static str, panic: &(dyn Any + Send)) {
        self.supervisor.failed(name, End::Panicked(panic_text(panic)));
    }

    /// The signal that tells the tasks of this group to stop. Once it is set, they may end.
    #[must_use]
    pub fn stop_signal(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells the tasks to stop, without waiting for them.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
    }

    /// Tells the tasks to stop and waits until all of them have ended. Tasks that have not ended by the deadline are
    /// aborted. Returns whether all of them ended without being aborted.
    pub async fn stopped(&self, deadline: Instant) -> bool {
        self.stop();
        let ended = tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_ok();
        self.abort();
        ended
    }

    /// Aborts all tasks that have not ended, each at its next await point.
    pub fn abort(&self) {
        self.abort.cancel();
    }
}

/// Runs a future and catches its panic. The future is dropped before this returns.
///
/// # Errors
/// Returns the payload of the panic.
pub async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    // The future is not polled again after a panic, so nothing observes a half-finished state.
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// The message of a panic.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}

#[cfg(test)]
#[path = "supervise/tests.rs"]
mod tests;
