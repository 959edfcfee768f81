//! The invariants that are checked at every step, whichever replica owns a destination.

use super::*;

/// How much of a back-off the next owner may not know if the earlier one is killed.
const BACK_OFF_SLACK_US: u64 = super::super::super::tuning::HOLD_STEP_US;

#[derive(Default)]
pub(super) struct Checks {
    cancelled: BTreeSet<DeliveryId>,
    /// Destinations that were sent an expedited delivery.
    asked: BTreeSet<DestinationId>,
    /// The state of each replica's breakers, by destination and epoch.
    breakers: BTreeMap<(usize, DestinationId, i64), BreakerState>,
    /// The theoretical arrival time of each destination's rate, as in GCRA.
    arrivals: BTreeMap<DestinationId, u64>,
    /// The back-offs that destinations have asked for with Retry-After.
    back_offs: BTreeMap<DestinationId, Vec<BackOff>>,
    /// Breakers that are open according to the newest report, with the end of that time in microseconds.
    open: BTreeMap<DestinationId, u64>,
    /// When an expedited delivery last succeeded, in microseconds.
    worked_us: BTreeMap<DestinationId, u64>,
}

/// A back-off that a destination has asked for.
struct BackOff {
    until_us: u64,
    answered_us: u64,
    /// The replica that received the response, and the epoch in which it owned the destination.
    replica: usize,
    epoch: i64,
    /// Whether a report of it has been written. If the replica is killed before, the back-off is lost.
    is_stored: bool,
}

impl Checks {
    pub(super) fn cancelled(&mut self, id: DeliveryId) {
        self.cancelled.insert(id);
    }

    /// A replica is gone, and with it everything it has not stored.
    pub(super) fn crashed(&mut self, replica: usize) {
        self.breakers.retain(|(of, _, _), _| *of != replica);
        for back_offs in self.back_offs.values_mut() {
            back_offs.retain(|back_off| back_off.is_stored || back_off.replica != replica);
        }
    }

    /// A destination has asked for a back-off.
    pub(super) fn backs_off(&mut self, destination: DestinationId, owner: (usize, i64), until_us: u64, now_us: u64) {
        let back_off = BackOff { until_us, answered_us: now_us, replica: owner.0, epoch: owner.1, is_stored: false };
        self.back_offs.entry(destination).or_default().push(back_off);
    }

    /// A report has been written.
    pub(super) fn reported(&mut self, replica: usize, health: &Health) {
        for back_off in self.back_offs.entry(health.destination).or_default() {
            let is_of_it = (back_off.replica, back_off.epoch) == (replica, health.epoch);
            back_off.is_stored |= is_of_it && back_off.answered_us <= health.at_us;
        }
        match health.learned.breaker {
            BreakerState::Open { .. }
                if self.worked_us.get(&health.destination).is_some_and(|at_us| health.at_us <= *at_us) =>
            {
                None
            }
            BreakerState::Open { until_us } => self.open.insert(health.destination, until_us),
            BreakerState::Closed | BreakerState::HalfOpen { .. } => self.open.remove(&health.destination),
        };
    }

    /// A destination has a new address or was resumed: it has asked for nothing yet. Its rate continues.
    pub(super) fn begins_anew(&mut self, destination: DestinationId) {
        self.back_offs.remove(&destination);
        self.open.remove(&destination);
    }

    /// An expedited delivery has succeeded: that ends a back-off and closes the breaker.
    pub(super) fn works(&mut self, destination: DestinationId, now_us: u64) {
        self.begins_anew(destination);
        self.worked_us.insert(destination, now_us);
    }

    /// A cancelled delivery may still be answered. Any other one that its owner settles is in the table.
    pub(super) fn settled_without_a_row(&self, id: DeliveryId) {
        assert!(self.cancelled.contains(&id), "{id} was settled twice");
    }

    /// The delivery was cancelled and made pending again after it was sent.
    pub(super) fn settled_as_another(&self, row: &Item) {
        assert!(self.cancelled.contains(&row.id), "{} was settled in another state", row.id);
    }

    /// Attempts only grow, by one at a time.
    pub(super) fn settled(&self, row: &Item, settlement: &Settlement) {
        let more = i32::from(settlement.attempts) - i32::from(row.attempts);
        assert_eq!(more, i32::from(settlement.attempt.is_some()), "attempts of {}", row.id);
        let free = i32::from(settlement.throttled) - i32::from(row.throttled);
        assert!((0..=more).contains(&free), "{free} of {more} attempts of {} are not charged", row.id);
    }

    /// A delivery that is sent is in the table, within the rate of its destination, and sent neither during a back-off
    /// nor while the breaker is open.
    pub(super) fn sent(
        &mut self,
        item: &Item,
        row: Option<&Item>,
        destination: &Destination,
        owner: (usize, i64),
        now_us: u64,
    ) {
        match row {
            // It was cancelled and made pending again, and the signal of that has not been read.
            Some(row) if row.generation != item.generation => assert!(self.cancelled.contains(&item.id)),
            Some(row) => {
                assert_eq!((row.attempts, row.throttled), (item.attempts, item.throttled), "sent with an outdated row")
            }
            None => assert!(self.cancelled.contains(&item.id), "sent after it had ended"),
        }
        assert_eq!(destination.state, DestinationState::Active);
        if item.expedited {
            self.asked.insert(destination.id);
        } else {
            self.may_be_sent_to(destination.id, owner, now_us);
        }
        if let Some(rate) = destination.rate {
            let (limit, period_us) = (u64::from(rate.limit.get()), u64::try_from(rate.per.as_micros()).expect("short"));
            // The burst that `pace` allows: a twentieth of a second, and two at rates of at least two a second.
            let least = if limit * 1_000_000 >= 2 * period_us { 2 } else { 1 };
            let burst = (limit * 50_000 / period_us).max(least);
            let arrival = self.arrivals.entry(destination.id).or_default();
            *arrival = (*arrival).max(now_us) + period_us / limit;
            assert!(*arrival <= now_us + period_us / limit * burst + 1, "more than the rate and its burst");
        }
    }

    fn may_be_sent_to(&self, destination: DestinationId, owner: (usize, i64), now_us: u64) {
        // A replica that loses the database before it has stored a back-off loses the back-off too, like one that is
        // killed.
        let is_own = |back_off: &BackOff| (back_off.replica, back_off.epoch) == owner;
        let is_known = |back_off: &&BackOff| back_off.is_stored || is_own(back_off);
        for back_off in self.back_offs.get(&destination).into_iter().flatten().filter(is_known) {
            let slack_us = if is_own(back_off) { 0 } else { BACK_OFF_SLACK_US };
            let early_us = back_off.until_us.saturating_sub(now_us);
            assert!(early_us <= slack_us, "sent {early_us} us before the end of a back-off, by {owner:?}");
        }
        let open_us = self.open.get(&destination).map_or(0, |until_us| until_us.saturating_sub(now_us));
        assert_eq!(open_us, 0, "sent {open_us} us before the probe of a breaker that is open");
    }

    /// Lines that want slots are counted, and no slot is free while a line gives way.
    pub(super) fn slots(core: &Core, now_us: u64) {
        let counted = core.lines.values().filter(|line| line.is_counted).count();
        assert_eq!(core.totals.wanting, counted);
        assert!(
            core.lines.values().all(|line| line.is_counted || line.in_flight() == 0),
            "a line has slots and is not counted"
        );
        let may_send = now_us < core.owned_until_us && core.unsettled < core.limits.unsettled;
        let has_slots = core.in_flight() < noise::shared_slots(core.limits.in_flight);
        assert!(!may_send || !has_slots || core.giving_way.is_empty(), "a slot is left free");
        assert!(core.in_flight() <= core.limits.in_flight, "{} in flight", core.in_flight());
    }

    /// Breakers only go from closed to open, from open to half-open, and from there to either. With a new owner they
    /// begin in any state.
    pub(super) fn breakers(&mut self, replica: usize, core: &Core) {
        for (id, line) in core.lines.iter().filter(|(_, line)| line.has_loaded_health) {
            let now = line.breaker.state();
            let Some(before) = self.breakers.insert((replica, *id, line.epoch), now) else { continue };
            let legal = match (before, now) {
                (BreakerState::Closed, BreakerState::Closed | BreakerState::Open { .. })
                | (BreakerState::Open { .. }, BreakerState::HalfOpen { .. })
                | (BreakerState::HalfOpen { .. }, _) => true,
                (BreakerState::Open { until_us: before }, BreakerState::Open { until_us: now }) => before == now,
                // The operator has resumed the destination, changed its address, or expedited a delivery that has
                // succeeded.
                (BreakerState::Open { .. }, BreakerState::Closed) => {
                    line.breaker.since_us() == 0 || self.asked.contains(id)
                }
                (BreakerState::Closed, BreakerState::HalfOpen { .. }) => false,
            };
            assert!(legal, "a breaker went from {before:?} to {now:?}");
            if let BreakerState::HalfOpen { .. } = now {
                let probes = line.in_flight_since(line.breaker.since_us());
                assert!(probes <= 1, "{probes} probes at a time");
            }
        }
    }
}
