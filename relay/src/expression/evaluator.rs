//! Evaluation for asynchronous callers: on a few threads of its own, with a bounded queue.
//!
//! The runtime's own threads must not be held for [`DEADLINE`], and its pool for blocking work has neither the stack
//! that a deep expression needs nor a bound that makes callers fail fast.

use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{DEADLINE, ExpressionError, Filter, Input, OrderKey, Transform, Transformed};

/// Enough for an expression of the greatest depth in an unoptimised build; only what is used of it is ever touched.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// How long a caller waits for a free thread before it is told [`ExpressionError::TooSlow`].
const QUEUE_WAIT: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce() + Send>;

/// A bounded pool of threads that evaluate expressions. Cheap to clone; the threads end with the last clone.
#[derive(Debug, Clone)]
pub struct Evaluator {
    queue: SyncSender<Job>,
}

impl Evaluator {
    /// Starts `threads` threads; up to `waiting` evaluations may wait for one.
    ///
    /// # Errors
    /// Where the machine refuses a thread.
    pub fn start(threads: NonZeroUsize, waiting: usize) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(waiting);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..threads.get() {
            let jobs = Arc::clone(&jobs);
            let builder = thread::Builder::new().name(format!("expression-{number}")).stack_size(STACK_BYTES);
            builder.spawn(move || run(&jobs))?;
        }
        Ok(Self { queue })
    }

    /// Asks a filter; as [`Filter::matches`].
    ///
    /// # Errors
    /// As [`Filter::matches`]; [`ExpressionError::Busy`] at once where too many evaluations wait already.
    pub async fn matches(&self, filter: Filter, input: Arc<Input>) -> Result<bool, ExpressionError> {
        self.evaluate(1, move || filter.matches(&input)).await?
    }

    /// Asks several filters about the same event, one after the other, with a single change of threads. The answers are
    /// in the order of the filters.
    pub async fn matches_all(&self, filters: Vec<Filter>, input: Arc<Input>) -> Vec<Result<bool, ExpressionError>> {
        self.evaluate_all(filters, move |filter| filter.matches(&input)).await
    }

    /// Asks for an event's order keys, as [`Self::matches_all`].
    pub async fn order_keys(
        &self,
        keys: Vec<OrderKey>,
        input: Arc<Input>,
    ) -> Vec<Result<Option<i64>, ExpressionError>> {
        self.evaluate_all(keys, move |key| key.hash(&input)).await
    }

    /// Makes an event's new body; as [`Transform::apply`].
    ///
    /// # Errors
    /// As [`Transform::apply`]; [`ExpressionError::Busy`] at once where too many evaluations wait already.
    pub async fn apply(&self, transform: Transform, input: Arc<Input>) -> Result<Transformed, ExpressionError> {
        self.evaluate(1, move || transform.apply(&input)).await?
    }

    async fn evaluate_all<E: Send + 'static, T: Clone + Send + 'static>(
        &self,
        expressions: Vec<E>,
        evaluate: impl Fn(&E) -> Result<T, ExpressionError> + Send + 'static,
    ) -> Vec<Result<T, ExpressionError>> {
        let count = expressions.len();
        match self.evaluate(count, move || expressions.iter().map(evaluate).collect()).await {
            Ok(answers) => answers,
            Err(error) => vec![Err(error); count],
        }
    }

    pub(super) async fn evaluate<T: Send + 'static>(
        &self,
        count: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ExpressionError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || {
            // Whoever has stopped waiting costs nothing more.
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        });
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => ExpressionError::Busy,
            TrySendError::Disconnected(_) => ExpressionError::Internal,
        })?;
        let deadline = QUEUE_WAIT + DEADLINE * u32::try_from(count).unwrap_or(u32::MAX);
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(ExpressionError::Internal),
            Err(_) => Err(ExpressionError::TooSlow),
        }
    }
}

fn run(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // One thread waits for a job while the others wait for the lock. No job runs while it is held.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
