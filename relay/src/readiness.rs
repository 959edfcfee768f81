//! Whether the parts of a running relay make progress, for `/readyz`.
//!
//! Each part says when it has done its round; what that means is decided by [`problems`]. The database and the clock are not
//! here: `/readyz` asks them.
//!
//! What all replicas share is no such part. If the queue's API or the edge fails, every replica sees it at the same time: taken
//! out of a load balancer, all of them would be gone, and with them the API that operators need then. So that is reported
//! ([`Upstream`]), and the relay is ready.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::upstream::{Failing, Upstream};
use crate::moment::Moment;
use crate::supervise::{Failure, Supervisor};

pub(crate) mod upstream;

/// The engine takes a turn every two seconds at least. One that has taken none for so long hangs.
pub(crate) const ENGINE_OVERDUE: Duration = Duration::from_secs(15);

/// How long after its last renewal a lease is overdue: from then on the relay sends nothing.
pub const LEASE_OVERDUE: Duration = Duration::from_secs(8);

/// A puller takes a turn when a pull ends, and a pull ends when its messages are stored. One that has taken none for so long
/// hangs: all steps of a pull have limits, which are minutes together.
pub(crate) const PULLER_OVERDUE: Duration = Duration::from_secs(600);

/// What the parts of the relay have told.
#[derive(Debug)]
pub struct Readiness {
    supervisor: Supervisor,
    told: Mutex<Told>,
    edge: Upstream,
}

#[derive(Debug, Clone)]
struct Told {
    /// When the engine took its last turn; at first, when the relay was started.
    engine: Moment,
    /// When the last renewal of the lease that succeeded was begun; at first, when the relay was started.
    lease: Moment,
    /// By the queue, until when its puller rests after its last turn.
    pullers: BTreeMap<String, Moment>,
    /// By the queue, whether its API answers.
    queues: BTreeMap<String, Upstream>,
    is_stopping: bool,
}

impl Told {
    /// By parts that did their rounds at this moment.
    fn at(now: Moment) -> Self {
        Self { engine: now, lease: now, pullers: BTreeMap::new(), queues: BTreeMap::new(), is_stopping: false }
    }
}

impl Readiness {
    /// `edge` is told of each call to the edge.
    #[must_use]
    pub fn new(supervisor: Supervisor, edge: Upstream) -> Self {
        Self { supervisor, told: Mutex::new(Told::at(Moment::now())), edge }
    }

    /// The engine has taken a turn.
    pub fn engine_turned(&self) {
        self.told().engine = Moment::now();
    }

    /// The lease of this replica was renewed by a statement that was begun at this moment.
    pub fn lease_renewed(&self, begun: Moment) {
        self.told().lease = begun;
    }

    /// The puller of a queue has taken a turn, and rests for so long before the next.
    pub fn puller_turned(&self, queue: &str, rest: Duration) {
        self.told().pullers.insert(queue.to_owned(), Moment::now() + rest);
    }

    /// A pull of a queue has succeeded.
    pub fn pulled(&self, queue: &str) {
        self.queue(queue).succeeded();
    }

    /// A pull of a queue has failed. `error` names no addresses and ids.
    pub fn pull_failed(&self, queue: &str, error: String) {
        self.queue(queue).failed(error, Moment::now());
    }

    /// A shutdown has begun.
    pub fn stopping(&self) {
        self.told().is_stopping = true;
    }

    /// Why this relay cannot do its part of the work now; empty if it can.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        problems(&self.told(), &self.supervisor.failures(), Moment::now())
    }

    /// Whether the API of a queue fails: of several, the one that has failed the longest.
    #[must_use]
    pub fn queue_failing(&self) -> Option<Failing> {
        let now = Moment::now();
        let told = self.told();
        told.queues.values().filter_map(|queue| queue.failing(now)).min_by_key(|failing| failing.since)
    }

    /// Whether the edge fails.
    #[must_use]
    pub fn edge_failing(&self) -> Option<Failing> {
        self.edge.failing(Moment::now())
    }

    fn queue(&self, id: &str) -> Upstream {
        self.told().queues.entry(id.to_owned()).or_default().clone()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn problems(told: &Told, failures: &[Failure], now: Moment) -> Vec<String> {
    // Everybody may ask: the log has the rest.
    let mut problems: Vec<String> = failures
        .iter()
        .map(|failure| format!("the background task \"{}\" has failed; see the relay's log", failure.task))
        .collect();
    if told.is_stopping {
        problems.push("the relay is shutting down".to_owned());
    }
    let idle = now.since(told.engine);
    if idle >= ENGINE_OVERDUE {
        problems.push(format!("the delivery engine has made no progress for {} s", idle.as_secs()));
    }
    let unrenewed = now.since(told.lease);
    if unrenewed >= LEASE_OVERDUE {
        let for_s = unrenewed.as_secs();
        problems.push(format!("the relay has not renewed its lease for {for_s} s, so it sends nothing"));
    }
    let stuck = told.pullers.values().filter(|rested| now.since(**rested) >= PULLER_OVERDUE).count();
    if stuck > 0 {
        let for_s = PULLER_OVERDUE.as_secs();
        let pullers = if stuck == 1 { "queue puller has" } else { "queue pullers have" };
        problems.push(format!("{stuck} {pullers} made no progress for more than {for_s} s"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::upstream::FAILS_FOR;
    use super::*;
    use crate::supervise::End;

    fn readiness() -> Readiness {
        Readiness::new(Supervisor::default(), Upstream::default())
    }

    fn after(seconds: u64, change: impl FnOnce(&mut Told, Moment)) -> Vec<String> {
        let now = Moment::now();
        let later = now + Duration::from_secs(seconds);
        let mut told = Told::at(later);
        change(&mut told, now);
        problems(&told, &[], later)
    }

    #[test]
    fn a_relay_that_was_just_started_and_one_whose_parts_do_their_rounds_are_ready() {
        let now = Moment::now();
        assert_eq!(problems(&Told::at(now), &[], now), Vec::<String>::new());
        assert_eq!(readiness().problems(), Vec::<String>::new());
    }

    #[test]
    fn an_engine_that_takes_no_turn_is_named_when_it_is_overdue_until_it_takes_one() {
        let said = |seconds| after(seconds, |told, at| told.engine = at);
        assert_eq!(said(14), Vec::<String>::new());
        assert_eq!(said(15), ["the delivery engine has made no progress for 15 s"]);

        let readiness = readiness();
        let begun = readiness.told().engine;
        readiness.engine_turned();
        assert!(readiness.told().engine >= begun);
    }

    #[test]
    fn a_lease_is_named_from_when_nothing_is_sent_because_of_it() {
        let said = |seconds| after(seconds, |told, at| told.lease = at);
        assert_eq!(said(7), Vec::<String>::new());
        assert_eq!(said(8), ["the relay has not renewed its lease for 8 s, so it sends nothing"]);
    }

    #[test]
    fn a_puller_is_named_when_it_is_overdue_after_its_rest_until_it_takes_a_turn() {
        let said = |seconds| {
            after(seconds, |told, at| {
                told.pullers.insert("q1".to_owned(), at + Duration::from_secs(60));
            })
        };
        assert_eq!(said(60 + 599), Vec::<String>::new());
        assert_eq!(said(60 + 600), ["1 queue puller has made no progress for more than 600 s"]);

        let readiness = readiness();
        let now = Moment::now();
        readiness.puller_turned("q1", Duration::from_secs(60));
        assert!(readiness.told().pullers["q1"] >= now + Duration::from_secs(60));
    }

    #[test]
    fn an_upstream_that_fails_is_no_problem_of_this_relay_and_is_reported_with_its_first_failure() {
        let readiness = readiness();
        let failed = |queue: &str, times| {
            for _ in 0..times {
                readiness.queue(queue).failed(format!("{queue} answered 500"), Moment::after_start(Duration::ZERO));
            }
        };
        readiness.pull_failed("q2", "it cannot be reached".to_owned());
        failed("q1", 2);
        let failing = readiness.queue_failing().expect("it fails");
        assert_eq!((failing.since, failing.error.as_str()), (Moment::after_start(Duration::ZERO), "q1 answered 500"));
        readiness.edge.failed("it answered 503".to_owned(), Moment::after_start(Duration::ZERO));
        readiness.edge.failed("it answered 503".to_owned(), Moment::after_start(FAILS_FOR));
        assert!(readiness.edge_failing().is_some());
        assert_eq!(readiness.problems(), Vec::<String>::new());
        readiness.pulled("q1");
        assert_eq!(readiness.queue_failing(), None);
    }

    #[test]
    fn a_task_that_has_failed_and_a_shutdown_are_named() {
        let now = Moment::now();
        let failure = Failure { task: "pull", how: End::Panicked("by chance".to_owned()) };
        let said = problems(&Told { is_stopping: true, ..Told::at(now) }, &[failure], now);
        assert_eq!(
            said,
            ["the background task \"pull\" has failed; see the relay's log", "the relay is shutting down"]
        );
    }
}
