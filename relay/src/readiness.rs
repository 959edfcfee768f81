//! Whether the parts of a running relay make progress, for `/readyz`.
//!
//! Each part reports when it has completed a round; [`problems`] decides what that means. The database and the clock
//! are not part of this: `/readyz` checks them itself.
//!
//! Services that all replicas share do not count. If the queue's API or the edge fails, every replica notices at the
//! same time. If that made them unready, a load balancer would remove all of them, and with them the API that operators
//! need then. So such a failure is reported ([`Upstream`]), but the relay stays ready.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

pub use self::parts::{Parts, QueuePart};
pub use self::upstream::{Failing, Upstream};
use crate::moment::Moment;
use crate::supervise::{Failure, Supervisor};

mod parts;
pub(crate) mod upstream;

/// The engine takes a turn at least every two seconds. If it has taken none for this long, it hangs.
pub(crate) const ENGINE_OVERDUE: Duration = Duration::from_secs(15);

/// How long after its last renewal a lease is overdue. From then on the relay sends nothing.
pub const LEASE_OVERDUE: Duration = Duration::from_secs(8);

/// A puller takes a turn when a pull ends, and a pull ends when its messages are stored. If it has taken none for this
/// long, it hangs: every step of a pull has a time limit, and together they amount to minutes.
pub(crate) const PULLER_OVERDUE: Duration = Duration::from_secs(600);

/// The reports of the relay's parts.
#[derive(Debug)]
pub struct Readiness {
    supervisor: Supervisor,
    told: Mutex<Told>,
    edge: Upstream,
}

#[derive(Debug, Clone)]
struct Told {
    /// When the engine took its last turn; initially, when the relay started.
    engine: Moment,
    /// When the last successful renewal of the lease began; initially, when the relay started.
    lease: Moment,
    /// By queue: when the rest of its puller after the last turn ends.
    pullers: BTreeMap<String, Moment>,
    /// By queue: whether calls to its API succeed.
    queues: BTreeMap<String, Upstream>,
    /// By queue: the last pull that succeeded, and the last one that brought messages.
    pulls: BTreeMap<String, Pulls>,
    /// As which replica this relay holds its lease.
    replica: Option<Uuid>,
    is_stopping: bool,
}

/// The pulls of a queue.
#[derive(Debug, Clone, Copy, Default)]
struct Pulls {
    last: Option<Moment>,
    /// The last pull that brought messages, and how long the oldest of them had waited in the queue, in milliseconds.
    with_messages: Option<(Moment, Option<u64>)>,
}

impl Told {
    /// The state in which every part has completed its round at this moment.
    fn at(now: Moment) -> Self {
        Self {
            engine: now,
            lease: now,
            pullers: BTreeMap::new(),
            queues: BTreeMap::new(),
            pulls: BTreeMap::new(),
            replica: None,
            is_stopping: false,
        }
    }
}

impl Readiness {
    /// `edge` is notified of each call to the edge.
    #[must_use]
    pub fn new(supervisor: Supervisor, edge: Upstream) -> Self {
        Self { supervisor, told: Mutex::new(Told::at(Moment::now())), edge }
    }

    /// The engine has taken a turn.
    pub fn engine_turned(&self) {
        self.told().engine = Moment::now();
    }

    /// A statement that began at this moment has renewed the lease of this replica.
    pub fn lease_renewed(&self, begun: Moment) {
        self.told().lease = begun;
    }

    /// The puller of a queue has taken a turn, and rests for this long before the next.
    pub fn puller_turned(&self, queue: &str, rest: Duration) {
        self.told().pullers.insert(queue.to_owned(), Moment::now() + rest);
    }

    /// The engine begins to hold the lease of this replica.
    pub fn leases_as(&self, replica: Uuid) {
        self.told().replica = Some(replica);
    }

    /// A pull of a queue has succeeded.
    pub fn pulled(&self, queue: &str) {
        self.queue(queue).succeeded();
        self.told().pulls.entry(queue.to_owned()).or_default().last = Some(Moment::now());
    }

    /// A pull has brought messages. The oldest of them had waited this long in the queue, if the queue reports it.
    pub fn messages_pulled(&self, queue: &str, waited_ms: Option<u64>) {
        self.told().pulls.entry(queue.to_owned()).or_default().with_messages = Some((Moment::now(), waited_ms));
    }

    /// A pull of a queue has failed. `error` contains no addresses or ids.
    pub fn pull_failed(&self, queue: &str, error: String) {
        self.queue(queue).failed(error, Moment::now());
    }

    /// A shutdown has begun.
    pub fn stopping(&self) {
        self.told().is_stopping = true;
    }

    /// Why this relay cannot do its part of the work now. Empty if it can.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        problems(&self.told(), &self.supervisor.failures(), Moment::now())
    }

    /// Whether the API of a queue fails. If several fail, the one that has failed for the longest time.
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
    // Anyone can read this without authentication; the details are in the log.
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
    fn a_relay_that_has_just_started_is_ready() {
        let now = Moment::now();
        assert_eq!(problems(&Told::at(now), &[], now), Vec::<String>::new());
        assert_eq!(readiness().problems(), Vec::<String>::new());
    }

    #[test]
    fn an_engine_that_takes_no_turn_is_reported_once_it_is_overdue() {
        let said = |seconds| after(seconds, |told, at| told.engine = at);
        assert_eq!(said(14), Vec::<String>::new());
        assert_eq!(said(15), ["the delivery engine has made no progress for 15 s"]);

        let readiness = readiness();
        let begun = readiness.told().engine;
        readiness.engine_turned();
        assert!(readiness.told().engine >= begun);
    }

    #[test]
    fn a_lease_is_reported_from_the_moment_at_which_sending_is_suspended() {
        let said = |seconds| after(seconds, |told, at| told.lease = at);
        assert_eq!(said(7), Vec::<String>::new());
        assert_eq!(said(8), ["the relay has not renewed its lease for 8 s, so it sends nothing"]);
    }

    #[test]
    fn a_puller_that_takes_no_turn_after_its_rest_is_reported_once_it_is_overdue() {
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
    fn a_failing_upstream_is_reported_since_its_first_failure_and_is_not_a_problem_of_this_relay() {
        let readiness = readiness();
        let failed = |queue: &str, times| {
            for _ in 0..times {
                readiness.queue(queue).failed(format!("{queue} answered 500"), Moment::after_start(Duration::ZERO));
            }
        };
        readiness.pull_failed("q2", "it cannot be reached".to_owned());
        failed("q1", 2);
        let failing = readiness.queue_failing().expect("q1 fails");
        assert_eq!((failing.since, failing.error.as_str()), (Moment::after_start(Duration::ZERO), "q1 answered 500"));
        readiness.edge.failed("it answered 503".to_owned(), Moment::after_start(Duration::ZERO));
        readiness.edge.failed("it answered 503".to_owned(), Moment::after_start(FAILS_FOR));
        assert!(readiness.edge_failing().is_some());
        assert_eq!(readiness.problems(), Vec::<String>::new());
        readiness.pulled("q1");
        assert_eq!(readiness.queue_failing(), None);
    }

    #[test]
    fn a_failed_task_and_a_shutdown_are_reported() {
        let now = Moment::now();
        let failure = Failure { task: "pull", how: End::Panicked("by chance".to_owned()) };
        let said = problems(&Told { is_stopping: true, ..Told::at(now) }, &[failure], now);
        assert_eq!(
            said,
            ["the background task \"pull\" has failed; see the relay's log", "the relay is shutting down"]
        );
    }
}
