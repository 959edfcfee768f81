//! Since when a destination has had no success: after five days it is disabled.
//!
//! This is stored with each report, because no replica owns a destination for days, and the next owner loads it before
//! it sends anything.

use model::health::Run;

use super::tuning::{FAILING_DISABLES_AFTER_FAILURES, FAILING_DISABLES_AFTER_US};

#[derive(Debug, Default)]
pub(super) struct Failing {
    run: Option<Run>,
}

impl Failing {
    /// The run as earlier owners have seen it.
    pub(super) fn restored(run: Option<Run>) -> Self {
        Self { run }
    }

    /// The run; `None` if there has been no failure since the last success.
    pub(super) fn run(&self) -> Option<Run> {
        self.run
    }

    /// A success ends the run.
    pub(super) fn ended(&mut self) {
        self.run = None;
    }

    /// Counts a failure. Returns the run if the destination is to be disabled.
    pub(super) fn failed(&mut self, now_us: u64) -> Option<Run> {
        let run = self.run.get_or_insert(Run { since_us: now_us, failures: 0 });
        run.failures += 1;
        let run = *run;
        let for_days = now_us.saturating_sub(run.since_us) >= FAILING_DISABLES_AFTER_US;
        (for_days && run.failures >= FAILING_DISABLES_AFTER_FAILURES).then_some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: u64 = 24 * 3_600 * 1_000_000;

    #[test]
    fn five_days_of_failures_disable_a_destination_and_a_success_in_between_restarts_the_run() {
        let mut failing = Failing::default();
        for day in [0, 3, 4, 4, 4, 4, 4, 4, 4] {
            assert_eq!(failing.failed(day * DAY_US), None);
        }
        assert_eq!(failing.failed(5 * DAY_US), Some(Run { since_us: 0, failures: 10 }));
        failing.ended();
        for _ in 0..20 {
            assert_eq!(failing.failed(6 * DAY_US), None);
        }
    }

    #[test]
    fn failures_under_an_earlier_owner_are_part_of_the_run() {
        let mut failing = Failing::restored(Some(Run { since_us: 0, failures: 50 }));
        assert_eq!(failing.failed(4 * DAY_US), None);
        assert_eq!(failing.failed(5 * DAY_US), Some(Run { since_us: 0, failures: 52 }));
    }

    #[test]
    fn a_few_failures_far_apart_do_not_disable_a_destination() {
        let mut failing = Failing::default();
        for day in 0..9 {
            assert_eq!(failing.failed(day * DAY_US), None);
        }
    }
}
