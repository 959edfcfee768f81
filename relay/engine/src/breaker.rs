//! The circuit breaker of a destination: while it is open nothing is sent, and no delivery uses up its schedule.
//!
//! It is closed until too many attempts fail, then open for a while, then half-open: one delivery is sent as the probe.
//! If the probe succeeds, the breaker closes. If it fails, the breaker opens for twice as long.

use model::health::BreakerState as State;
use shared::id::DeliveryId;

use super::tuning::{
    FAILURE_PERCENT, FAILURES_IN_A_ROW, FIRST_OPEN_US, LONGEST_OPEN_US, OPEN_SPREAD, SHARE_OF_AT_LEAST,
    SHARE_PERIOD_US, STEADY_AFTER_US,
};

#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: State,
    /// When it entered this state, in microseconds.
    since_us: u64,
    failures_in_a_row: u32,
    share: Share,
    /// As [`Self::share`], with refused deliveries too: for the reported health.
    all: Share,
    /// How often it has opened without having been closed for long.
    openings: u32,
}

/// What an attempt says about a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Succeeded,
    Failed,
    /// The destination works, and wants fewer deliveries: a reason to slow down, not to stop.
    Throttled,
    /// The destination refuses this one delivery. That says nothing about the others: a proxy in front of a destination
    /// that is down may answer like that.
    Refused,
    /// Nothing: no attempt was made, or the relay panicked during it.
    Unknown,
}

/// Whether a delivery may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Go,
    /// Not before this time in microseconds, or until the probe has ended.
    Wait {
        until_us: Option<u64>,
    },
}

/// A change of state that the result of an attempt has caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
}

impl Breaker {
    /// A breaker as an earlier owner has left it. A probe of that owner is not waited for.
    pub(super) fn restored(state: State, since_us: u64, openings: u32) -> Self {
        let state = match state {
            State::HalfOpen { .. } => State::HalfOpen { probe: None },
            State::Closed | State::Open { .. } => state,
        };
        Self { state, since_us, openings, ..Self::default() }
    }

    /// How often it has opened without having been closed for long.
    pub(super) fn openings(&self) -> u32 {
        self.openings
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Since when it has been in its state, Unix time in microseconds; 0 if it has never been in another one.
    pub(super) fn since_us(&self) -> u64 {
        self.since_us
    }

    /// Until when nothing may be sent; `None` if it is not open now.
    pub(super) fn open_until(&self, now_us: u64) -> Option<u64> {
        match self.state {
            State::Open { until_us } => Some(until_us).filter(|until_us| *until_us > now_us),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// Whether a waiting delivery may be sent. This half-opens an open breaker whose time has passed.
    pub(super) fn admit(&mut self, now_us: u64) -> Admission {
        if let State::Open { until_us } = self.state
            && now_us >= until_us
        {
            self.enter(State::HalfOpen { probe: None }, now_us);
        }
        match self.state {
            State::Closed | State::HalfOpen { probe: None } => Admission::Go,
            State::Open { until_us } => Admission::Wait { until_us: Some(until_us) },
            State::HalfOpen { probe: Some(_) } => Admission::Wait { until_us: None },
        }
    }

    /// A delivery that was admitted is sent.
    pub(super) fn sent(&mut self, id: DeliveryId) {
        if let State::HalfOpen { probe } = &mut self.state {
            *probe = Some(id);
        }
    }

    /// Whether it is half-open and its probe is in flight.
    pub(super) fn has_probe(&self) -> bool {
        matches!(self.state, State::HalfOpen { probe: Some(_) })
    }

    /// The destination works: an expedited probe has succeeded, whatever the state. Returns whether this has closed the
    /// breaker.
    pub(super) fn close(&mut self, now_us: u64) -> bool {
        if self.state == State::Closed {
            return false;
        }
        (self.failures_in_a_row, self.share, self.all) = (0, Share::default(), Share::default());
        self.enter(State::Closed, now_us);
        true
    }

    /// Recent attempts and failures, refused deliveries included: in the present period of [`SHARE_PERIOD_US`] and the
    /// one before.
    pub(super) fn recent(&self) -> (u32, u32) {
        self.all.sum()
    }

    /// Learns from the result of an attempt. `jitter` is in 0..1.
    pub(super) fn answered(&mut self, id: DeliveryId, verdict: Verdict, jitter: f64, now_us: u64) -> Option<Change> {
        match verdict {
            Verdict::Succeeded | Verdict::Failed => {
                let failed = verdict == Verdict::Failed;
                self.share.add(failed, now_us);
                self.all.add(failed, now_us);
            }
            Verdict::Refused => self.all.add(true, now_us),
            Verdict::Throttled | Verdict::Unknown => {}
        }
        match self.state {
            State::Closed => self.answered_while_closed(verdict, jitter, now_us),
            // Sent before the breaker opened, so it says nothing new.
            State::Open { .. } => None,
            State::HalfOpen { probe } if probe != Some(id) => None,
            State::HalfOpen { .. } => match verdict {
                Verdict::Succeeded => self.close(now_us).then_some(Change::Closed),
                Verdict::Failed | Verdict::Throttled => Some(self.open(jitter, now_us)),
                // The next delivery is the probe.
                Verdict::Refused | Verdict::Unknown => {
                    self.state = State::HalfOpen { probe: None };
                    None
                }
            },
        }
    }

    fn answered_while_closed(&mut self, verdict: Verdict, jitter: f64, now_us: u64) -> Option<Change> {
        let failed = match verdict {
            Verdict::Succeeded => false,
            Verdict::Failed => true,
            Verdict::Throttled | Verdict::Refused | Verdict::Unknown => return None,
        };
        self.failures_in_a_row = if failed { self.failures_in_a_row + 1 } else { 0 };
        if !failed || (self.failures_in_a_row < FAILURES_IN_A_ROW && !self.share.is_too_much()) {
            return None;
        }
        if now_us >= self.since_us + STEADY_AFTER_US {
            self.openings = 0;
        }
        Some(self.open(jitter, now_us))
    }

    fn open(&mut self, jitter: f64, now_us: u64) -> Change {
        let longest = LONGEST_OPEN_US / FIRST_OPEN_US;
        let wait_us = FIRST_OPEN_US * 2_u64.saturating_pow(self.openings).min(longest);
        self.openings = self.openings.saturating_add(1);
        let factor = 1.0 - OPEN_SPREAD + 2.0 * OPEN_SPREAD * jitter.clamp(0.0, 1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "minutes, in microseconds"
        )]
        let wait_us = (wait_us as f64 * factor) as u64;
        self.enter(State::Open { until_us: now_us + wait_us }, now_us);
        Change::Opened
    }

    fn enter(&mut self, state: State, now_us: u64) {
        self.state = state;
        self.since_us = now_us;
    }
}

/// Attempts and failures in the present period and the one before.
#[derive(Debug, Default)]
struct Share {
    period: u64,
    now: (u32, u32),
    before: (u32, u32),
}

impl Share {
    fn add(&mut self, failed: bool, now_us: u64) {
        let period = now_us / SHARE_PERIOD_US;
        if period != self.period {
            self.before = if period == self.period + 1 { self.now } else { (0, 0) };
            (self.period, self.now) = (period, (0, 0));
        }
        self.now = (self.now.0.saturating_add(1), self.now.1.saturating_add(u32::from(failed)));
    }

    fn sum(&self) -> (u32, u32) {
        (self.now.0.saturating_add(self.before.0), self.now.1.saturating_add(self.before.1))
    }

    fn is_too_much(&self) -> bool {
        let (attempts, failures) = self.sum();
        attempts >= SHARE_OF_AT_LEAST && u64::from(failures) * 100 >= u64::from(attempts) * u64::from(FAILURE_PERCENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_US: u64 = 1_764_000_000_000_000;

    fn id(number: u8) -> DeliveryId {
        DeliveryId::mint(1, [number; 10])
    }

    /// A breaker that has just opened for the first time.
    fn open() -> Breaker {
        let mut breaker = Breaker::default();
        for failure in 1..=FAILURES_IN_A_ROW {
            let change = breaker.answered(id(1), Verdict::Failed, 0.5, START_US);
            assert_eq!(change, (failure == FAILURES_IN_A_ROW).then_some(Change::Opened));
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_nothing_is_sent_until_its_time_has_passed() {
        let mut breaker = open();
        let until_us = START_US + FIRST_OPEN_US;
        assert_eq!(breaker.admit(until_us - 1), Admission::Wait { until_us: Some(until_us) });
        assert_eq!(breaker.admit(until_us), Admission::Go);
        breaker.sent(id(2));
        assert_eq!(breaker.admit(until_us), Admission::Wait { until_us: None }, "one probe at a time");
    }

    #[test]
    fn a_probe_that_succeeds_closes_it_and_one_that_fails_opens_it_for_twice_as_long() {
        let mut breaker = open();
        let mut now_us = START_US;
        for times in [1, 2, 4, 8, 16, 32, 60, 60] {
            let until_us = breaker.open_until(now_us).expect("open");
            assert_eq!(until_us - now_us, times * FIRST_OPEN_US);
            now_us = until_us;
            assert_eq!(breaker.admit(now_us), Admission::Go);
            breaker.sent(id(2));
            assert_eq!(breaker.answered(id(3), Verdict::Succeeded, 0.5, now_us), None, "only the probe counts");
            assert_eq!(breaker.answered(id(2), Verdict::Failed, 0.5, now_us), Some(Change::Opened));
        }
        now_us = breaker.open_until(now_us).expect("open");
        breaker.admit(now_us);
        breaker.sent(id(4));
        assert_eq!(breaker.answered(id(4), Verdict::Unknown, 0.5, now_us), None);
        assert_eq!(breaker.admit(now_us), Admission::Go, "an attempt that was not made is no probe");
        breaker.sent(id(5));
        assert_eq!(breaker.answered(id(5), Verdict::Succeeded, 0.5, now_us), Some(Change::Closed));
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn another_owner_keeps_the_time_of_the_probe_and_opens_it_for_twice_as_long_if_the_probe_fails() {
        let before = open();
        let mut breaker = Breaker::restored(before.state(), before.since_us(), before.openings());
        let until_us = START_US + FIRST_OPEN_US;
        assert_eq!(breaker.admit(until_us - 1), Admission::Wait { until_us: Some(until_us) });
        assert_eq!(breaker.admit(until_us), Admission::Go);
        breaker.sent(id(2));
        let mut breaker = Breaker::restored(breaker.state(), breaker.since_us(), breaker.openings());
        assert_eq!(breaker.admit(until_us), Admission::Go, "the probe of the earlier owner is not waited for");
        breaker.sent(id(3));
        assert_eq!(breaker.answered(id(3), Verdict::Failed, 0.5, until_us), Some(Change::Opened));
        assert_eq!(breaker.open_until(until_us), Some(until_us + 2 * FIRST_OPEN_US));
    }

    #[test]
    fn a_high_share_of_failures_opens_it_once_there_are_enough_attempts() {
        let mut breaker = Breaker::default();
        let mut opened_after = None;
        for attempt in 1..=40_u32 {
            let verdict = if attempt % 4 == 0 { Verdict::Succeeded } else { Verdict::Failed };
            if breaker.answered(id(1), verdict, 0.5, START_US) == Some(Change::Opened) {
                opened_after = Some(attempt);
                break;
            }
        }
        assert_eq!(opened_after, Some(SHARE_OF_AT_LEAST + 1), "the twentieth succeeded");
    }

    #[test]
    fn half_of_the_attempts_may_fail_and_429_is_not_a_failure() {
        let mut breaker = Breaker::default();
        for attempt in 0..1_000_u32 {
            let verdict = if attempt % 2 == 0 { Verdict::Succeeded } else { Verdict::Failed };
            assert_eq!(breaker.answered(id(1), verdict, 0.5, START_US), None);
            assert_eq!(breaker.answered(id(1), Verdict::Throttled, 0.5, START_US), None);
        }
    }

    #[test]
    fn refused_deliveries_neither_open_it_nor_keep_it_open() {
        let mut breaker = Breaker::default();
        for _ in 0..1_000 {
            assert_eq!(breaker.answered(id(1), Verdict::Refused, 0.5, START_US), None);
        }
        assert_eq!(breaker.recent(), (1_000, 1_000), "they are reported");
        for _ in 1..FAILURES_IN_A_ROW {
            breaker.answered(id(1), Verdict::Failed, 0.5, START_US);
            assert_eq!(breaker.answered(id(1), Verdict::Refused, 0.5, START_US), None, "not counted");
        }
        assert_eq!(breaker.answered(id(1), Verdict::Failed, 0.5, START_US), Some(Change::Opened));

        let now_us = breaker.open_until(START_US).expect("open");
        for number in 2..10 {
            assert_eq!(breaker.admit(now_us), Admission::Go, "a refused probe is followed by another one");
            breaker.sent(id(number));
            assert_eq!(breaker.answered(id(number), Verdict::Refused, 0.5, now_us), None);
        }
        breaker.admit(now_us);
        breaker.sent(id(20));
        assert_eq!(breaker.answered(id(20), Verdict::Succeeded, 0.5, now_us), Some(Change::Closed));
    }
}
