//! What a line reports of its destination, and when.

use model::health::Health;
use model::lane::{Lane, PerLane};

use super::Line;
use crate::health::{Due, Reports, Summary};
use crate::tuning::REPORT_EVERY_US;

impl Line {
    /// Whether the line is to be reported. At most one wake-up is requested at a time.
    pub(crate) fn report_due(&mut self, now_us: u64) -> Due {
        // A report would overwrite the stored state that has not been loaded yet.
        if !self.has_loaded_health {
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

    pub(crate) fn report(&mut self, now_us: u64) -> Health {
        let permit_us = self.permit.reported();
        Health { permit_us, ..self.health(false, now_us) }
    }

    /// The state that the next owner needs and that has not been reported; nothing is sent after it. A line with a rate
    /// always reports, so that the next owner knows that nothing more was sent.
    pub(crate) fn last_report(&mut self, now_us: u64) -> Option<Health> {
        if !self.has_loaded_health {
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
            back_off_until_us: self.back_off_until(now_us),
            is_active: self.is_active(),
        }
    }
}
