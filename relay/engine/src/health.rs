//! What the owner of a destination sees of it, and when it is told to others.

use model::health::{BreakerState, Health};
use model::lane::{Lane, PerLane};

use super::line::Line;
use super::tuning::{HOLD_STEP_US, REPORT_EVERY_US};

/// When a line is reported: at once if its state changes, else every few seconds while it is sent to.
#[derive(Debug, Default)]
pub(super) struct Reports {
    last: Option<(u64, Summary)>,
    /// Something was sent or answered since.
    stale: bool,
    /// It is woken up to be reported.
    pub(super) wakes: bool,
}

/// What is reported at once if it changes.
#[derive(Debug, Clone, Copy)]
struct Summary {
    breaker: std::mem::Discriminant<BreakerState>,
    is_reduced: bool,
    held_until_us: Option<u64>,
    is_active: bool,
}

impl Summary {
    fn is_other_than(&self, before: &Self) -> bool {
        let is_held_longer = match (before.held_until_us, self.held_until_us) {
            (None, None) => false,
            // Many answers of one moment each ask for a little more.
            (Some(before_us), Some(now_us)) => now_us > before_us + HOLD_STEP_US,
            (Some(_), None) | (None, Some(_)) => true,
        };
        is_held_longer
            || self.breaker != before.breaker
            || self.is_reduced != before.is_reduced
            || self.is_active != before.is_active
    }
}

/// Whether to report.
pub(super) enum Due {
    Now,
    At { at_us: u64 },
    Never,
}

impl Reports {
    /// Something was sent or answered.
    pub(super) fn changed(&mut self) {
        self.stale = true;
    }
}

impl Line {
    /// Whether the line is to be reported; at most one wake is asked for at a time.
    pub(super) fn report_due(&mut self, now_us: u64) -> Due {
        // What it would say takes the place of what it has not been told yet.
        if !self.is_recalled {
            return Due::Never;
        }
        let summary = self.summary(now_us);
        let is_permit = self.permit.is_to_be_reported();
        let reports = &mut self.reports;
        let Some((at_us, last)) = reports.last else { return Due::Now };
        let next_us = at_us + REPORT_EVERY_US;
        if is_permit || summary.is_other_than(&last) || (reports.stale && now_us >= next_us) {
            Due::Now
        } else if reports.stale && !std::mem::replace(&mut reports.wakes, true) {
            Due::At { at_us: next_us }
        } else {
            Due::Never
        }
    }

    pub(super) fn report(&mut self, now_us: u64) -> Health {
        let permit_us = self.permit.reported();
        Health { permit_us, ..self.health(false, now_us) }
    }

    /// What the next owner has to know of it that has not been reported; nothing is sent after it. A rate is always reported,
    /// so that the next owner knows that nothing more was sent.
    pub(super) fn last_report(&mut self, now_us: u64) -> Option<Health> {
        if !self.is_recalled {
            return None;
        }
        let summary = self.summary(now_us);
        let has_changed = self.reports.last.is_none_or(|(_, last)| summary.is_other_than(&last));
        (self.reports.stale || has_changed || self.pace.is_some()).then(|| self.health(true, now_us))
    }

    fn health(&mut self, is_last: bool, now_us: u64) -> Health {
        let summary = self.summary(now_us);
        self.reports = Reports { last: Some((now_us, summary)), stale: false, wakes: false };
        let mut waiting = PerLane::default();
        for lane in Lane::ALL {
            waiting[lane] = self.lanes[lane].waiting();
        }
        Health {
            destination: self.destination.id,
            shard: self.destination.shard,
            epoch: self.epoch,
            learned: self.learned(is_last, now_us),
            permit_us: None,
            concurrency: self.concurrency(),
            rate_factor: self.aimd.rate_factor(),
            in_flight: self.in_flight(),
            waiting,
            recent: self.breaker.recent(),
            latency_us: self.aimd.latency_us(),
            at_us: now_us,
        }
    }

    fn summary(&self, now_us: u64) -> Summary {
        Summary {
            breaker: std::mem::discriminant(&self.breaker.state()),
            is_reduced: self.aimd.reduction().is_some(),
            held_until_us: self.held_until(now_us),
            is_active: self.is_active(),
        }
    }
}
