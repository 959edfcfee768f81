//! What the owner of a destination sees of it, and when it is told to others.

use shared::id::DestinationId;

use super::aimd::Reason;
use super::breaker::State;
use super::failing::Run;
use super::line::Line;
use super::tuning::REPORT_EVERY_US;
use crate::deliver::lane::{Lane, PerLane};

/// How a destination takes what it is sent. Times are Unix microseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    pub destination: DestinationId,
    pub epoch: i64,
    pub breaker: State,
    /// `None` where the breaker has never been in another state.
    pub breaker_since_us: Option<u64>,
    /// The destination has asked for a pause until then.
    pub held_until_us: Option<u64>,
    /// Why less is sent than the limits allow, and since when.
    pub reduced: Option<(Reason, u64)>,
    /// How many attempts may be in flight now.
    pub concurrency: usize,
    /// What part of its rate limit it is sent now, up to 1.
    pub rate_factor: f64,
    pub in_flight: usize,
    /// Deliveries in memory.
    pub waiting: PerLane<usize>,
    /// Attempts and failures in the last half minute, or up to a whole one.
    pub recent: (u32, u32),
    /// How long its answers take of late.
    pub latency_us: Option<f64>,
    pub failing: Option<Run>,
    /// Whether [`Self::failing`] is the whole run, and not only what this owner has seen of it.
    pub failing_is_whole: bool,
    pub at_us: u64,
}

/// When a line is reported: at once where its state changes, else every few seconds while it is sent to.
#[derive(Debug, Default)]
pub(super) struct Reports {
    last: Option<(u64, Summary)>,
    /// An answer has come since.
    stale: bool,
    /// It is woken up to be reported.
    pub(super) wakes: bool,
}

/// What is reported at once where it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summary {
    breaker: std::mem::Discriminant<State>,
    is_reduced: bool,
    is_held: bool,
    is_active: bool,
}

/// Whether to report.
pub(super) enum Due {
    Now,
    At { at_us: u64 },
    Never,
}

impl Reports {
    pub(super) fn answered(&mut self) {
        self.stale = true;
    }
}

impl Line {
    /// Whether the line is to be reported; at most one wake is asked for at a time.
    pub(super) fn report_due(&mut self, now_us: u64) -> Due {
        let summary = self.summary(now_us);
        let reports = &mut self.reports;
        let Some((at_us, last)) = reports.last else { return Due::Now };
        let next_us = at_us + REPORT_EVERY_US;
        if last != summary || (reports.stale && now_us >= next_us) {
            Due::Now
        } else if reports.stale && !std::mem::replace(&mut reports.wakes, true) {
            Due::At { at_us: next_us }
        } else {
            Due::Never
        }
    }

    pub(super) fn report(&mut self, now_us: u64) -> Health {
        let summary = self.summary(now_us);
        self.reports = super::health::Reports { last: Some((now_us, summary)), stale: false, wakes: false };
        let mut waiting = PerLane::default();
        for lane in Lane::ALL {
            waiting[lane] = self.lanes[lane].waiting();
        }
        Health {
            destination: self.destination.id,
            epoch: self.epoch,
            breaker: self.breaker.state(),
            breaker_since_us: Some(self.breaker.since_us()).filter(|since_us| *since_us > 0),
            held_until_us: self.held_until(now_us),
            reduced: self.aimd.reduced(),
            concurrency: self.concurrency(),
            rate_factor: self.aimd.rate_factor(),
            in_flight: self.in_flight(),
            waiting,
            recent: self.breaker.recent(),
            latency_us: self.aimd.latency_us(),
            failing: self.failing.run(),
            failing_is_whole: self.failing.is_whole(),
            at_us: now_us,
        }
    }

    fn summary(&self, now_us: u64) -> Summary {
        Summary {
            breaker: std::mem::discriminant(&self.breaker.state()),
            is_reduced: self.aimd.reduced().is_some(),
            is_held: self.held_until(now_us).is_some(),
            is_active: self.is_active(),
        }
    }
}
