//! What the owner of a destination reports of it, and when.

use model::health::BreakerState;

use super::tuning::HOLD_STEP_US;

/// When a line is reported: at once if its state changes, otherwise every few seconds while it is sent to.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pub(super) last: Option<(u64, Summary)>,
    /// Whether anything was sent or answered since.
    pub(super) stale: bool,
    /// Whether a wake-up for the next report is set.
    pub(super) wakes: bool,
}

/// The state that is reported at once if it changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    pub(super) breaker: std::mem::Discriminant<BreakerState>,
    pub(super) is_reduced: bool,
    pub(super) back_off_until_us: Option<u64>,
    pub(super) is_active: bool,
}

impl Summary {
    pub(super) fn is_other_than(&self, before: &Self) -> bool {
        let has_other_back_off = match (before.back_off_until_us, self.back_off_until_us) {
            (None, None) => false,
            // Many responses at the same moment each extend the back-off a little.
            (Some(before_us), Some(now_us)) => now_us > before_us + HOLD_STEP_US,
            (Some(_), None) | (None, Some(_)) => true,
        };
        has_other_back_off
            || self.breaker != before.breaker
            || self.is_reduced != before.is_reduced
            || self.is_active != before.is_active
    }
}

/// When to report.
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
