//! The services that all replicas call and none of them can restart: the queue's API and the edge.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::moment::Moment;

/// All calls have to fail for this long, and there have to be at least two, before an upstream counts as failing. A
/// short failure does not count.
pub(crate) const FAILS_FOR: Duration = Duration::from_secs(15);

/// A run of failed calls.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    since: Moment,
    calls: u32,
    /// The error of the last call. Anyone can read it, so it contains no addresses or ids.
    error: String,
}

/// Whether the calls to one upstream succeed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Upstream(Arc<Mutex<Option<Run>>>);

/// An upstream that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// The first failure of the run.
    pub since: Moment,
    /// The error of the last failure, without addresses or ids.
    pub error: String,
}

impl Upstream {
    /// A call has succeeded.
    pub fn succeeded(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A call has failed at this moment. `error` contains no addresses or ids.
    pub fn failed(&self, error: String, now: Moment) {
        let mut run = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, calls) = run.as_ref().map_or((now, 0), |run| (run.since, run.calls));
        *run = Some(Run { since, calls: calls.saturating_add(1), error });
    }

    /// Whether it fails: all calls for [`FAILS_FOR`] or longer have failed, and there was more than one.
    #[must_use]
    pub fn failing(&self, now: Moment) -> Option<Failing> {
        let run = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let fails = run.calls > 1 && now.since(run.since) >= FAILS_FOR;
        fails.then_some(Failing { since: run.since, error: run.error })
    }

    /// Starts a call. It counts as failed unless it is reported as succeeded.
    pub(crate) fn call(&self) -> Call {
        Call { upstream: self.clone(), error: Some("no response in time".to_owned()) }
    }
}

/// A call in flight. If it is dropped, its caller gave up waiting.
pub(crate) struct Call {
    upstream: Upstream,
    error: Option<String>,
}

impl Call {
    pub(crate) fn succeeded(mut self) {
        self.error = None;
        self.upstream.succeeded();
    }

    pub(crate) fn failed(mut self, error: String) {
        self.error = Some(error);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(error) = self.error.take() {
            self.upstream.failed(error, Moment::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Moment, seconds: u64) -> Moment {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn an_upstream_fails_once_its_calls_have_failed_for_a_while_and_until_one_succeeds() {
        let (upstream, start) = (Upstream::default(), Moment::after_start(Duration::from_secs(1_000)));
        assert_eq!(upstream.failing(start), None);
        upstream.failed("it answered 500".to_owned(), start);
        assert_eq!(upstream.failing(after(start, 600)), None, "a single failed call does not count");
        upstream.failed("it answered 503".to_owned(), after(start, 3));
        assert_eq!(upstream.failing(after(start, 14)), None);
        let failing = Failing { since: start, error: "it answered 503".to_owned() };
        assert_eq!(upstream.failing(after(start, 15)), Some(failing));
        upstream.succeeded();
        assert_eq!(upstream.failing(after(start, 16)), None);
    }

    #[test]
    fn a_call_that_its_caller_abandons_counts_as_failed() {
        let upstream = Upstream::default();
        drop(upstream.call());
        upstream.call().failed("it cannot be reached".to_owned());
        let later = Moment::now() + FAILS_FOR;
        assert_eq!(upstream.failing(later).map(|failing| failing.error), Some("it cannot be reached".to_owned()));
        drop(upstream.call());
        assert_eq!(upstream.failing(later).map(|failing| failing.error), Some("no response in time".to_owned()));
        upstream.call().succeeded();
        assert_eq!(upstream.failing(later), None);
    }
}
