//! What each part of this relay has reported, so that operators find the part that fails.

use std::time::Duration;

use uuid::Uuid;

use super::upstream::Failing;
use super::{ENGINE_OVERDUE, LEASE_OVERDUE, PULLER_OVERDUE, Readiness, Told};
use crate::moment::Moment;

/// What the parts of this relay have reported.
#[derive(Debug, Clone)]
pub struct Parts {
    /// How long ago the engine took its last turn, and whether that is too long.
    pub engine: Duration,
    pub engine_is_overdue: bool,
    /// How long ago the lease was renewed, and whether that is too long.
    pub lease: Duration,
    pub lease_is_overdue: bool,
    /// As which replica this relay holds its lease; `None` until the engine has started.
    pub replica: Option<Uuid>,
    /// The background tasks that have failed.
    pub failed_tasks: Vec<&'static str>,
    pub is_stopping: bool,
    pub queues: Vec<QueuePart>,
}

/// What the puller of a queue has reported.
#[derive(Debug, Clone)]
pub struct QueuePart {
    pub id: String,
    /// How long ago a pull succeeded; `None` if none has since the relay started.
    pub pulled: Option<Duration>,
    /// How long ago a pull brought messages; `None` if none has since the relay started.
    pub brought: Option<Duration>,
    /// How long the oldest message of that pull had waited in the queue, in milliseconds, if the queue reports it.
    pub waited_ms: Option<u64>,
    /// Since when all calls fail, and the last error.
    pub failing: Option<Failing>,
    /// Whether the puller makes no progress.
    pub is_stuck: bool,
}

impl Readiness {
    /// What the parts have reported until now.
    #[must_use]
    pub fn parts(&self) -> Parts {
        let failed = self.supervisor.failures().iter().map(|failure| failure.task).collect();
        parts(&self.told(), failed, Moment::now())
    }
}

fn parts(told: &Told, failed_tasks: Vec<&'static str>, now: Moment) -> Parts {
    let (engine, lease) = (now.since(told.engine), now.since(told.lease));
    let queue = |(id, rested): (&String, &Moment)| {
        let pulls = told.pulls.get(id).copied().unwrap_or_default();
        QueuePart {
            id: id.clone(),
            pulled: pulls.last.map(|at| now.since(at)),
            brought: pulls.with_messages.map(|(at, _)| now.since(at)),
            waited_ms: pulls.with_messages.and_then(|(_, waited_ms)| waited_ms),
            failing: told.queues.get(id).and_then(|queue| queue.failing(now)),
            is_stuck: now.since(*rested) >= PULLER_OVERDUE,
        }
    };
    Parts {
        engine,
        engine_is_overdue: engine >= ENGINE_OVERDUE,
        lease,
        lease_is_overdue: lease >= LEASE_OVERDUE,
        replica: told.replica,
        failed_tasks,
        is_stopping: told.is_stopping,
        queues: told.pullers.iter().map(queue).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::upstream::Upstream;
    use super::*;
    use crate::supervise::Supervisor;

    #[test]
    fn each_part_says_how_long_ago_it_made_progress_and_whether_that_is_too_long() {
        let start = Moment::after_start(Duration::from_secs(1_000));
        let mut told = Told::at(start);
        told.pullers.insert("q1".to_owned(), start);
        let at = |seconds| parts(&told, Vec::new(), start + Duration::from_secs(seconds));
        let early = at(7);
        assert_eq!((early.engine, early.lease_is_overdue), (Duration::from_secs(7), false));
        assert!(at(8).lease_is_overdue && !at(14).engine_is_overdue && at(15).engine_is_overdue);
        assert!(!at(599).queues[0].is_stuck && at(600).queues[0].is_stuck);
    }

    #[test]
    fn a_queue_says_when_it_was_pulled_and_how_long_its_messages_had_waited() {
        let readiness = Readiness::new(Supervisor::default(), Upstream::default());
        assert!(readiness.parts().queues.is_empty());
        readiness.puller_turned("q1", Duration::ZERO);
        let queue = readiness.parts().queues.remove(0);
        assert_eq!((queue.pulled, queue.brought, queue.waited_ms), (None, None, None));
        readiness.pulled("q1");
        readiness.messages_pulled("q1", Some(250));
        let queue = readiness.parts().queues.remove(0);
        assert!(queue.pulled.is_some() && queue.brought.is_some());
        assert_eq!((queue.waited_ms, queue.is_stuck), (Some(250), false));
    }
}
