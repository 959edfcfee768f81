//! Expedited deliveries: a caller has asked to send them at once.
//!
//! They go before all others of their destination, within its rate, its concurrency and the order of their key. During
//! a back-off, or while the breaker is open, they are sent one at a time, as probes: a success ends the back-off and
//! closes the breaker, and a failure leaves both as they are.

use std::collections::{HashSet, VecDeque};

use model::health::BreakerState as State;
use shared::id::DeliveryId;

use super::{Known, Line, Step, Totals};
use crate::Limits;
use crate::breaker::Verdict;
use crate::budget::{Budget, Kept, counted_bytes, fits_in_flight};
use crate::item::Item;
use crate::order::Turn;
use crate::throttle::Throttle;
use crate::tuning::MOST_EXPEDITED;

#[derive(Default)]
pub(super) struct Expedited {
    /// The deliveries that may be sent, in order.
    ready: VecDeque<Kept>,
    /// Deliveries whose rows are being read.
    reading: HashSet<DeliveryId>,
    /// Those of them that have been settled, or may have been cancelled, since: their rows are not taken from the read.
    outdated: HashSet<DeliveryId>,
    /// The one in flight that was sent during a back-off or while the breaker was open.
    probe: Option<DeliveryId>,
}

impl Expedited {
    pub(super) fn is_waiting(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Drops deliveries that wait in memory, and returns them.
    pub(super) fn drop_ready(&mut self, is_gone: impl Fn(&Item) -> bool) -> Vec<DeliveryId> {
        let gone = self.ready.iter().filter(|kept| is_gone(&kept.item)).map(|kept| kept.item.id).collect();
        self.ready.retain(|kept| !is_gone(&kept.item));
        gone
    }

    /// A delivery was settled or cancelled: it is not taken from a read in flight. If it is still to be sent, it is
    /// requested again.
    pub(super) fn changed(&mut self, id: DeliveryId) {
        if self.reading.contains(&id) {
            self.outdated.insert(id);
        }
    }

    /// Some deliveries were cancelled: nothing is taken from reads in flight. The others are requested again.
    pub(super) fn replay_cancelled(&mut self) {
        self.outdated.clone_from(&self.reading);
    }

    /// The rows of these have been read. Returns those that may be taken.
    fn has_read(&mut self, asked: &[DeliveryId]) -> HashSet<DeliveryId> {
        asked.iter().filter(|id| self.reading.remove(id) && !self.outdated.remove(id)).copied().collect()
    }

    fn waits(&self, id: DeliveryId) -> bool {
        self.ready.iter().any(|kept| kept.item.id == id)
    }
}

impl Line {
    /// Callers have expedited these. Returns those whose rows are to be read now. The others are being sent or read, or
    /// the next scan requests them again.
    pub(crate) fn expedite(&mut self, ids: Vec<DeliveryId>) -> Vec<DeliveryId> {
        if !self.is_active() {
            return Vec::new();
        }
        let mut read = Vec::new();
        for id in ids {
            let room = self.expedited.ready.len() + self.expedited.reading.len() < MOST_EXPEDITED;
            let is_new = !self.in_flight.contains_key(&id) && !self.expedited.waits(id);
            if room && is_new && self.expedited.reading.insert(id) {
                read.push(id);
            }
        }
        read
    }

    /// The rows of these have been read; `items` are those that are still expedited.
    pub(crate) fn found_expedited(&mut self, asked: &[DeliveryId], items: Vec<Item>, budget: &Budget) {
        let asked = self.expedited.has_read(asked);
        if !self.is_active() {
            return;
        }
        for item in items.into_iter().filter(|item| asked.contains(&item.id)) {
            // It may already wait in its lane, from an earlier read.
            self.drop_ready(|waiting| waiting.id == item.id);
            let turn = item.order_key.map_or(Turn::Now, |key| self.keys.turn(key, &item));
            if self.known.contains_key(&item.id) || turn != Turn::Now {
                continue;
            }
            let known = Known { lane: item.lane(), order_key: item.order_key, due_us: item.due_us };
            self.known.insert(item.id, known);
            if let Some(key) = item.order_key {
                self.keys.taken(key, item.id);
            }
            self.expedited.ready.push_back(budget.keep(item));
        }
    }

    /// What the line does with a slot, if an expedited delivery is to be sent now or next; `None` if the lanes may use
    /// it.
    pub(super) fn step_expedited(&mut self, now_us: u64, limits: &Limits, totals: &Totals) -> Option<Step> {
        let bytes = counted_bytes(self.expedited.ready.front()?.item.event.body_bytes);
        if self.in_flight() >= self.concurrency().min(limits.in_flight) {
            return None;
        }
        // This half-opens a breaker whose time has passed, and the expedited delivery is its probe.
        let _ = self.breaker.admit(now_us);
        let is_blocked = self.blocked_until(now_us).is_some() || self.breaker.state() != State::Closed;
        if is_blocked && (self.expedited.probe.is_some() || self.breaker.has_probe()) {
            return None;
        }
        if !fits_in_flight(bytes, self.bytes_in_flight, totals.bytes_in_flight, limits.in_flight_bytes) {
            return Some(Step::Yield);
        }
        if let Some(wait) = self.wait_for_pace(now_us) {
            return Some(wait);
        }
        let item = self.expedited.ready.pop_front()?.item;
        if is_blocked {
            self.expedited.probe = Some(item.id);
        }
        Some(self.send(item, bytes, now_us))
    }

    /// Whether this attempt was sent during a back-off or while the breaker was open.
    pub(crate) fn is_expedited_probe(&self, id: DeliveryId) -> bool {
        self.expedited.probe == Some(id)
    }

    /// Learns from the result of an expedited probe; other attempts are ignored.
    pub(super) fn probed(&mut self, id: DeliveryId, verdict: Verdict, now_us: u64) {
        if !self.is_expedited_probe(id) {
            return;
        }
        self.expedited.probe = None;
        if verdict == Verdict::Succeeded {
            self.back_off_until_us = 0;
            self.throttle = Throttle::default();
            if self.breaker.close(now_us) {
                self.aimd.restart(self.destination.max_concurrency, now_us);
            }
        }
    }
}
