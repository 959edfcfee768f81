//! Whether the parts of a running relay make progress, for `/readyz`.
//!
//! Each part says when it has done its round; what that means is decided by [`Readiness::problems`]. The database and the
//! clock are not here: `/readyz` asks them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::moment::Moment;
use crate::supervise::{Failure, Supervisor};

/// The engine takes a turn every two seconds at least. One that has taken none for so long hangs.
pub(crate) const ENGINE_OVERDUE: Duration = Duration::from_secs(15);

/// How long after its last renewal a lease is overdue: from then on the relay sends nothing.
pub const LEASE_OVERDUE: Duration = Duration::from_secs(8);

/// The pulls of a queue have to fail for so long before the relay is not ready: a short failure is no reason to take a
/// relay out of a load balancer.
pub(crate) const PULLS_FAIL_FOR: Duration = Duration::from_secs(15);

/// What the parts of the relay have told.
#[derive(Debug)]
pub struct Readiness {
    supervisor: Supervisor,
    told: Mutex<Told>,
}

#[derive(Debug, Clone)]
struct Told {
    /// When the engine took its last turn; at first, when the relay was started.
    engine: Moment,
    /// When the last renewal of the lease that succeeded was begun; at first, when the relay was started.
    lease: Moment,
    /// The queues whose last pull failed, with when that began.
    failing: BTreeMap<String, Moment>,
    is_stopping: bool,
}

impl Readiness {
    #[must_use]
    pub fn new(supervisor: Supervisor) -> Self {
        let now = Moment::now();
        let told = Told { engine: now, lease: now, failing: BTreeMap::new(), is_stopping: false };
        Self { supervisor, told: Mutex::new(told) }
    }

    /// The engine has taken a turn.
    pub fn engine_turned(&self) {
        self.told().engine = Moment::now();
    }

    /// The lease of this replica was renewed by a statement that was begun at this moment.
    pub fn lease_renewed(&self, begun: Moment) {
        self.told().lease = begun;
    }

    /// A pull of a queue has succeeded.
    pub fn pulled(&self, queue: &str) {
        self.told().failing.remove(queue);
    }

    /// A pull of a queue has failed.
    pub fn pull_failed(&self, queue: &str) {
        self.told().failing.entry(queue.to_owned()).or_insert_with(Moment::now);
    }

    /// A shutdown has begun.
    pub fn stopping(&self) {
        self.told().is_stopping = true;
    }

    /// Why the relay cannot do all of its work now; empty if it can.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        problems(&self.told(), &self.supervisor.failures(), Moment::now())
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn problems(told: &Told, failures: &[Failure], now: Moment) -> Vec<String> {
    // Everybody may ask: the log has the rest.
    let mut problems: Vec<String> =
        failures.iter().map(|failure| format!("the task \"{}\" has failed", failure.task)).collect();
    if told.is_stopping {
        problems.push("the relay is shutting down".to_owned());
    }
    let idle = now.since(told.engine);
    if idle >= ENGINE_OVERDUE {
        problems.push(format!("the delivery engine has not taken a turn for {} s", idle.as_secs()));
    }
    let unrenewed = now.since(told.lease);
    if unrenewed >= LEASE_OVERDUE {
        let for_s = unrenewed.as_secs();
        problems.push(format!("the lease of the relay was not renewed for {for_s} s, so it sends nothing"));
    }
    let failing = told.failing.values().filter(|since| now.since(**since) >= PULLS_FAIL_FOR).count();
    if failing > 0 {
        let for_s = PULLS_FAIL_FOR.as_secs();
        let queues = if failing == 1 { "queue" } else { "queues" };
        problems.push(format!("all pulls of {failing} {queues} have failed for more than {for_s} s"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::End;

    /// A relay that did all of its rounds at this moment.
    fn working(now: Moment) -> Told {
        Told { engine: now, lease: now, failing: BTreeMap::new(), is_stopping: false }
    }

    fn after(seconds: u64, change: impl FnOnce(&mut Told, Moment)) -> Vec<String> {
        let now = Moment::now();
        let later = now + Duration::from_secs(seconds);
        let mut told = working(later);
        change(&mut told, now);
        problems(&told, &[], later)
    }

    #[test]
    fn a_relay_that_was_just_started_and_one_whose_parts_do_their_rounds_are_ready() {
        let now = Moment::now();
        assert_eq!(problems(&working(now), &[], now), Vec::<String>::new());
        assert_eq!(Readiness::new(Supervisor::default()).problems(), Vec::<String>::new());
    }

    #[test]
    fn an_engine_that_takes_no_turn_is_named_when_it_is_overdue_until_it_takes_one() {
        let said = |seconds| after(seconds, |told, at| told.engine = at);
        assert_eq!(said(14), Vec::<String>::new());
        assert_eq!(said(15), ["the delivery engine has not taken a turn for 15 s"]);

        let readiness = Readiness::new(Supervisor::default());
        let begun = readiness.told().engine;
        readiness.engine_turned();
        assert!(readiness.told().engine >= begun);
    }

    #[test]
    fn a_lease_is_named_from_when_nothing_is_sent_because_of_it() {
        let said = |seconds| after(seconds, |told, at| told.lease = at);
        assert_eq!(said(7), Vec::<String>::new());
        assert_eq!(said(8), ["the lease of the relay was not renewed for 8 s, so it sends nothing"]);
    }

    #[test]
    fn queues_are_counted_when_their_pulls_have_failed_for_a_while_and_not_after_one_that_succeeds() {
        let failing = |told: &mut Told, at| {
            told.failing.insert("q1".to_owned(), at);
        };
        assert_eq!(after(14, failing), Vec::<String>::new());
        assert_eq!(after(15, failing), ["all pulls of 1 queue have failed for more than 15 s"]);

        let readiness = Readiness::new(Supervisor::default());
        readiness.pull_failed("q1");
        let since = readiness.told().failing["q1"];
        readiness.pull_failed("q1");
        assert!(readiness.told().failing["q1"] == since, "the run of failures began with the first");
        readiness.pulled("q1");
        assert!(readiness.told().failing.is_empty());
    }

    #[test]
    fn a_task_that_has_failed_and_a_shutdown_are_named() {
        let now = Moment::now();
        let failure = Failure { task: "pull", how: End::Panicked("by chance".to_owned()) };
        let said = problems(&Told { is_stopping: true, ..working(now) }, &[failure], now);
        assert_eq!(said, ["the task \"pull\" has failed", "the relay is shutting down"]);
    }
}
