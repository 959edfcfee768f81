//! What must hold at every step.

use super::*;

#[derive(Default)]
pub(super) struct Checks {
    cancelled: BTreeSet<DeliveryId>,
    /// Destinations that were sent to because a caller asked for it.
    asked: BTreeSet<DestinationId>,
    /// The state of each replica's breakers, by destination and epoch.
    breakers: BTreeMap<(usize, DestinationId, i64), BreakerState>,
    /// The theoretical arrival time of each destination's rate in an epoch, as in GCRA.
    arrivals: BTreeMap<(DestinationId, i64), u64>,
}

impl Checks {
    pub(super) fn cancelled(&mut self, id: DeliveryId) {
        self.cancelled.insert(id);
    }

    pub(super) fn crashed(&mut self, replica: usize) {
        self.breakers.retain(|(of, _, _), _| *of != replica);
    }

    /// What was cancelled may still be answered; everything else that is settled by the owner is in the table.
    pub(super) fn settled_without_a_row(&self, id: DeliveryId) {
        assert!(self.cancelled.contains(&id), "{id} was settled twice");
    }

    /// What was sent before it was cancelled and made pending again.
    pub(super) fn settled_as_another(&self, row: &Item) {
        assert!(self.cancelled.contains(&row.id), "{} was settled as it was not", row.id);
    }

    /// Attempts only grow, and by one at a time.
    pub(super) fn settled(&self, row: &Item, settlement: &Settlement) {
        let more = i32::from(settlement.attempts) - i32::from(row.attempts);
        assert_eq!(more, i32::from(settlement.attempt.is_some()), "attempts of {}", row.id);
        let free = i32::from(settlement.throttled) - i32::from(row.throttled);
        assert!((0..=more).contains(&free), "{free} of {more} attempts of {} are not charged", row.id);
    }

    /// What is sent is in the table, and within the rate of its destination.
    pub(super) fn sent(&mut self, item: &Item, row: Option<&Item>, destination: &Destination, epoch: i64, now_us: u64) {
        match row {
            // It was cancelled and made pending again, and the signal of that has not been read.
            Some(row) if row.generation != item.generation => assert!(self.cancelled.contains(&item.id)),
            Some(row) => {
                assert_eq!((row.attempts, row.throttled), (item.attempts, item.throttled), "sent as the row was before")
            }
            None => assert!(self.cancelled.contains(&item.id), "sent after it had ended"),
        }
        assert_eq!(destination.state, DestinationState::Active);
        if item.expedited {
            self.asked.insert(destination.id);
        }
        if let Some(rate) = destination.rate {
            let period_us = u64::try_from(rate.per.as_micros()).expect("short") / u64::from(rate.limit.get());
            // The burst that `pace` allows: a twentieth of a second, at least two.
            let burst = u64::from((rate.limit.get() / 20).max(2));
            let arrival = self.arrivals.entry((destination.id, epoch)).or_default();
            *arrival = (*arrival).max(now_us) + period_us;
            assert!(*arrival <= now_us + period_us * burst + 1, "more than the rate and its burst");
        }
    }

    /// What wants slots is counted, and no slot is free while a line waits for one that no other line wants.
    pub(super) fn slots(core: &Core, now_us: u64) {
        let counted = core.lines.values().filter(|line| line.is_counted).count();
        assert_eq!(core.everyone.wanting, counted);
        assert!(
            core.lines.values().all(|line| line.is_counted || line.in_flight() == 0),
            "has slots and is not counted"
        );
        let may_send = now_us < core.owned_until_us && core.unsettled < core.limits.unsettled;
        let has_slots = core.in_flight() < noise::shared_slots(core.limits.in_flight);
        assert!(!may_send || !has_slots || core.giving_way.is_empty(), "a slot is left free");
        assert!(core.in_flight() <= core.limits.in_flight, "{} in flight", core.in_flight());
    }

    /// Breakers only go from closed to open, from open to half-open, and from there to either.
    pub(super) fn breakers(&mut self, replica: usize, core: &Core) {
        for (id, line) in &core.lines {
            let now = line.breaker.state();
            let before = self.breakers.insert((replica, *id, line.epoch), now).unwrap_or_default();
            let legal = match (before, now) {
                (BreakerState::Closed, BreakerState::Closed | BreakerState::Open { .. })
                | (BreakerState::Open { .. }, BreakerState::HalfOpen { .. })
                | (BreakerState::HalfOpen { .. }, _) => true,
                (BreakerState::Open { until_us: before }, BreakerState::Open { until_us: now }) => before == now,
                // By a caller, who has resumed the destination, or asked for a delivery that has succeeded.
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
