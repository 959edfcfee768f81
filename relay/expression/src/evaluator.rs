//! Evaluation for asynchronous callers: on a few separate threads, with a bounded queue.
//!
//! The runtime's threads must not be blocked for as long as an evaluation may take, and its pool for blocking work has
//! neither the stack that a deep expression needs nor a bound.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use shared::id::SourceId;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::lines::{Full, Lines};
use super::program::Evaluated;
use super::{ExpressionError, Filter, Input, MAX_STEPS, MAX_STEPS_OF_EVENT, OrderKey, Transform, Transformed};

/// Enough for an expression of the maximum depth in an unoptimised build. Only the part that is used is ever touched.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// How often a caller checks for room while the queue is full.
const ROOM_INTERVAL: Duration = Duration::from_millis(20);

type Task = Box<dyn FnOnce() + Send>;

/// The source whose turn an evaluation takes, and until when its caller waits for the result.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    pub source: SourceId,
    pub until: Instant,
}

impl Turn {
    /// A turn whose caller waits for `patience` from now.
    #[must_use]
    pub fn within(source: SourceId, patience: Duration) -> Self {
        Self { source, until: Instant::now() + patience }
    }
}

/// Bounded pools of threads that evaluate expressions: one for filters and order keys, one for transforms. Cheap to
/// clone; the threads end with the last clone.
#[derive(Debug, Clone)]
pub struct Evaluator {
    deciding: Arc<Pool>,
    transforming: Arc<Pool>,
}

impl Evaluator {
    /// Starts `threads` threads for filters and order keys, and as many for transforms. Up to `waiting` evaluations may
    /// wait for each pool.
    ///
    /// # Errors
    /// Returns an error if a thread cannot be started.
    pub fn start(threads: NonZeroUsize, waiting: usize) -> io::Result<Self> {
        let pool = |name| Pool::start(name, threads, waiting).map(Arc::new);
        Ok(Self { deciding: pool("decide")?, transforming: pool("transform")? })
    }

    /// Evaluates several filters for the same event, one after the other, with a single change of threads. The results
    /// are in the order of the filters. Together they may cost [`MAX_STEPS_OF_EVENT`].
    pub async fn matches_all(
        &self,
        turn: Turn,
        filters: Vec<Filter>,
        input: Arc<Input>,
    ) -> Vec<Result<bool, ExpressionError>> {
        self.deciding.evaluate_all(turn, filters, move |filter, steps| filter.evaluate(&input, steps)).await
    }

    /// Evaluates an event's order keys, as [`Self::matches_all`].
    pub async fn order_keys(
        &self,
        turn: Turn,
        keys: Vec<OrderKey>,
        input: Arc<Input>,
    ) -> Vec<Result<Option<i64>, ExpressionError>> {
        self.deciding.evaluate_all(turn, keys, move |key, steps| key.evaluate(&input, steps)).await
    }

    /// Makes an event's new body, as [`Transform::apply`].
    ///
    /// # Errors
    /// As [`Transform::apply`]. Returns [`ExpressionError::Busy`] if the queue was full until the turn's end, and
    /// [`ExpressionError::TooSlow`] if the evaluation waited or ran until then.
    pub async fn apply(
        &self,
        turn: Turn,
        transform: Transform,
        input: Arc<Input>,
    ) -> Result<Transformed, ExpressionError> {
        self.transforming.evaluate(turn, move || transform.apply(&input)).await?
    }

    /// Runs `work` on a thread for filters and order keys.
    pub(super) async fn decide<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ExpressionError> {
        self.deciding.evaluate(turn, work).await
    }

    /// Runs `work` on a thread for transforms.
    pub(super) async fn transform<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ExpressionError> {
        self.transforming.evaluate(turn, work).await
    }
}

#[derive(Debug)]
struct Pool {
    queue: Arc<Queue>,
}

impl Pool {
    fn start(name: &str, threads: NonZeroUsize, waiting: usize) -> io::Result<Self> {
        let queue = Arc::new(Queue {
            state: Mutex::new(State { lines: Lines::new(waiting), closed: false }),
            changed: Condvar::new(),
        });
        // If a thread cannot be started, dropping this ends the others.
        let pool = Self { queue: Arc::clone(&queue) };
        for number in 0..threads.get() {
            let queue = Arc::clone(&queue);
            let builder = thread::Builder::new().name(format!("{name}-{number}")).stack_size(STACK_BYTES);
            builder.spawn(move || queue.run())?;
        }
        Ok(pool)
    }

    async fn evaluate_all<E: Send + 'static, T: Clone + Send + 'static>(
        &self,
        turn: Turn,
        expressions: Vec<E>,
        evaluate: impl Fn(&E, u64) -> Evaluated<T> + Send + 'static,
    ) -> Vec<Result<T, ExpressionError>> {
        let count = expressions.len();
        match self.evaluate(turn, move || within_budget(&expressions, evaluate)).await {
            Ok(answers) => answers,
            Err(error) => vec![Err(error); count],
        }
    }

    async fn evaluate<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ExpressionError> {
        let (answer, answered) = oneshot::channel();
        let mut task: Task = Box::new(move || {
            // An evaluation is skipped if its caller has stopped waiting.
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        });
        while let Err(refused) = self.queue.push(turn.source.uuid(), task) {
            task = refused;
            let next_try = Instant::now() + ROOM_INTERVAL;
            if next_try > turn.until {
                return Err(ExpressionError::Busy);
            }
            tokio::time::sleep_until(next_try).await;
        }
        match tokio::time::timeout_at(turn.until, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(ExpressionError::Internal),
            Err(_) => Err(ExpressionError::TooSlow),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
    }
}

/// Evaluates one expression after the other while their common budget lasts.
fn within_budget<E, T>(
    expressions: &[E],
    evaluate: impl Fn(&E, u64) -> Evaluated<T>,
) -> Vec<Result<T, ExpressionError>> {
    let mut left = MAX_STEPS_OF_EVENT;
    let answers = expressions.iter().map(|expression| {
        let steps = left.min(MAX_STEPS);
        let evaluated = evaluate(expression, steps);
        left -= evaluated.steps;
        match evaluated.result {
            Err(ExpressionError::TooExpensive) if steps < MAX_STEPS => Err(ExpressionError::TooExpensiveTogether),
            result => result,
        }
    });
    answers.collect()
}

struct State {
    lines: Lines<Task>,
    closed: bool,
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the task if there is no room for it.
    fn push(&self, source: Uuid, task: Task) -> Result<(), Task> {
        let mut state = self.lock();
        if state.lines.check(source) == Err(Full) {
            return Err(task);
        }
        state.lines.push(source, task);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn run(&self) {
        loop {
            let mut state = self.lock();
            let task = loop {
                if state.closed {
                    return;
                }
                match state.lines.pop() {
                    Some(task) => break task,
                    None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(state);
            // The caller gets an error, because the sender of the result is dropped. The thread continues.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(task)) {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                tracing::error!(error = text.as_deref().unwrap_or("no text"), "an evaluation panicked");
            }
        }
    }
}
