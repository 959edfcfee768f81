//! The state that an owner of a destination has learned and that the next owner needs: the back-off that the
//! destination asked for, its condition (breaker, reduction, run of failures), and the time of the last send (rate).
//!
//! It is stored with each report. A line sends nothing before it has loaded the stored state. A change of the
//! destination's address (scheme, host or port), or its resumption, resets everything except the rate: earlier results
//! say nothing about the destination as it is now.

use model::health::Learned;

use super::aimd::Aimd;
use super::breaker::Breaker;
use super::failing::Failing;
use super::line::Line;
use super::throttle::Throttle;
use super::tuning::RESERVED_FROM_US;

impl Line {
    /// The state to be stored. `is_last` if this owner sends nothing more.
    pub(super) fn learned(&self, is_last: bool, now_us: u64) -> Learned {
        let permitted_us = if is_last { None } else { self.permit.until_us() };
        Learned {
            since_us: self.learned_since_us,
            back_off_until_us: self.back_off_until(now_us),
            back_offs: self.throttle.back_offs(),
            breaker: self.breaker.state(),
            breaker_since_us: Some(self.breaker.since_us()).filter(|since_us| *since_us > 0),
            openings: self.breaker.openings(),
            reduced: self.aimd.reduction(),
            failing: self.failing.run(),
            paced_us: permitted_us.max(self.pace.as_ref().and_then(|pace| pace.last_us())),
            is_last,
        }
    }

    /// Continues from the stored state; `None` if there is none. From here on the line may send.
    pub(super) fn loaded(&mut self, learned: Option<Learned>, now_us: u64) {
        self.has_loaded_health = true;
        let Some(learned) = learned else { return };
        if let Some(pace) = &mut self.pace {
            if let Some(paced_us) = learned.paced_us {
                pace.restore(paced_us, now_us);
            }
            // At slower rates each send is stored before it is made.
            if !learned.is_last && pace.spacing_us() < RESERVED_FROM_US {
                pace.wait_one(now_us);
            }
        }
        if learned.since_us < self.learned_since_us {
            return;
        }
        // The stored state can be newer than the configuration that this replica has read.
        self.learned_since_us = learned.since_us;
        self.back_off_until_us = learned.back_off_until_us.unwrap_or(0);
        self.throttle = Throttle::restored(learned.back_offs);
        self.breaker = Breaker::restored(learned.breaker, learned.breaker_since_us.unwrap_or(0), learned.openings);
        self.aimd = Aimd::restored(learned.reduced, now_us);
        self.failing = Failing::restored(learned.failing);
    }

    /// Resets the learned state except for the rate; the results of attempts in flight are ignored from here on.
    pub(super) fn forget_learned(&mut self) {
        self.back_off_until_us = 0;
        self.throttle = Throttle::default();
        self.breaker = Breaker::default();
        self.aimd = Aimd::unreduced();
        self.failing = Failing::default();
        self.sent_before_gone.clear();
        self.sent_before_forgot = self.in_flight.keys().copied().collect();
    }
}
