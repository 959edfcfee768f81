//! The queue of one destination: the deliveries it holds, when it may send and when it reads.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::destination::{Destination, DestinationState};
use model::health::BreakerState as State;
use model::lane::{Lane, PerLane};
use shared::id::{DeliveryId, ReplayId};

use super::aimd::Aimd;
use super::answer::Judged;
use super::breaker::{Admission, Breaker, Change, Verdict};
use super::budget::{Budget, counted_bytes, fits_in_flight};
use super::failing::Failing;
use super::health::Reports;
use super::noise::{self, Use};
use super::order::{Keys, Turn};
use super::permit::Permit;
use super::shares::{Slots, Turns};
use super::throttle::Throttle;
use super::tuning::{DISABLING_BACK_OFF_US, RESERVED_FROM_US};
use super::window::Window;
use super::{Disabling, Found, Limits};
use crate::item::Item;
use crate::pace::Pace;

mod expedited;
mod report;

use self::expedited::Expedited;

/// The queue of one destination.
pub(super) struct Line {
    pub(super) destination: Arc<Destination>,
    pub(super) epoch: i64,
    pub(super) lanes: PerLane<Window>,
    turns: Turns,
    slots: Slots,
    /// Deliveries that are in memory, in flight, not yet settled, or about to be put back.
    known: HashMap<DeliveryId, Known>,
    keys: Keys,
    expedited: Expedited,
    /// When each attempt in flight was sent, in microseconds.
    pub(super) in_flight: HashMap<DeliveryId, u64>,
    /// Bytes of the large bodies among them.
    bytes_in_flight: usize,
    /// The attempts that were in flight when the destination answered 410: another 410 to one of them says nothing new.
    pub(super) sent_before_gone: HashSet<DeliveryId>,
    /// The attempts that were in flight when the learned state was reset: their results are ignored.
    pub(super) sent_before_forgot: HashSet<DeliveryId>,
    /// Whether the learned state of earlier owners has been loaded. Nothing is sent before.
    pub(super) has_loaded_health: bool,
    /// See [`Learned::since_us`](super::learned::Learned::since_us).
    pub(super) learned_since_us: u64,
    pub(super) pace: Option<Pace>,
    pub(super) permit: Permit,
    /// Nothing is sent until then: the destination asked for it (Retry-After), or it is being disabled.
    pub(super) back_off_until_us: u64,
    pub(super) throttle: Throttle,
    pub(super) breaker: Breaker,
    pub(super) aimd: Aimd,
    pub(super) failing: Failing,
    used: Use,
    /// How many reads in a row have returned only deliveries that are behind others of their key.
    fruitless: u32,
    pub(super) reports: Reports,
    pub(super) in_turn: bool,
    /// Whether it waits until other lines return slots.
    pub(super) yields: bool,
    /// Whether it is noisy, has its fair share, and takes slots that no other line wants.
    pub(super) gives_way: bool,
    /// Whether it is one of [`Totals::wanting`].
    pub(super) is_counted: bool,
    /// When it wakes up because it waits for its rate, for Retry-After or for a probe. A past time means that no
    /// wake-up is set.
    pub(super) wake_us: u64,
}

/// Where a known delivery was taken from.
#[derive(Debug, Clone, Copy)]
struct Known {
    lane: Lane,
    order_key: Option<i64>,
    /// In microseconds.
    due_us: u64,
}

/// The use of slots and memory by all destinations together.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) slots: Slots,
    pub(super) used: Use,
    /// Bytes of the large bodies of attempts in flight.
    pub(super) bytes_in_flight: usize,
    /// How many lines have attempts in flight or wait for a slot.
    pub(super) wanting: usize,
}

impl Totals {
    /// Counts a line that has changed.
    pub(super) fn count(&mut self, line: &mut Line) {
        let wants = line.wants_slots();
        self.wanting = self.wanting + usize::from(wants) - usize::from(line.is_counted);
        line.is_counted = wants;
    }
}

pub(super) enum Step {
    Send(Item),
    /// It would send if it had less than its fair share, or if no other line wanted the slot.
    GiveWay,
    /// It would send if other lines returned slots or memory.
    Yield,
    /// It waits until then, or until the next input.
    Wait {
        until_us: Option<u64>,
    },
}

impl Line {
    pub(super) fn new(destination: Arc<Destination>, epoch: i64, limits: &Limits) -> Self {
        let mut lanes = PerLane::default();
        for lane in Lane::ALL {
            lanes[lane] = Window::unread(limits.unseen_us);
        }
        Self {
            learned_since_us: destination.learned_since_us(),
            pace: destination.rate.map(Pace::new),
            destination,
            epoch,
            lanes,
            turns: Turns::default(),
            slots: Slots::default(),
            known: HashMap::new(),
            keys: Keys::default(),
            expedited: Expedited::default(),
            in_flight: HashMap::new(),
            bytes_in_flight: 0,
            sent_before_gone: HashSet::new(),
            sent_before_forgot: HashSet::new(),
            has_loaded_health: false,
            permit: Permit::default(),
            back_off_until_us: 0,
            throttle: Throttle::default(),
            breaker: Breaker::default(),
            aimd: Aimd::unreduced(),
            failing: Failing::default(),
            used: Use::default(),
            fruitless: 0,
            reports: Reports::default(),
            in_turn: false,
            yields: false,
            gives_way: false,
            is_counted: false,
            wake_us: 0,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.destination.state == DestinationState::Active
    }

    /// Takes a delivery that has just been stored into memory, or notes that it must be read.
    pub(super) fn fresh(&mut self, item: Item, budget: &Budget, limits: &Limits, now_us: u64) {
        let lane = item.lane();
        let window = &mut self.lanes[lane];
        let room = window.is_up_to_date(now_us) && window.waiting() < limits.line.min(budget.rows());
        if room && item.order_key.is_none() && self.is_active() && self.breaker.state() == State::Closed {
            self.take(lane, item, budget);
        } else {
            self.lanes[lane].rescan(now_us);
        }
    }

    /// Takes the result of a read of a lane. Returns the deliveries to put back because they are behind others of their
    /// key.
    pub(super) fn found(&mut self, lane: Lane, found: Found, budget: &Budget, now_us: u64) -> Vec<Item> {
        let Found { mut items, complete, read_us } = found;
        let discards = self.lanes[lane].discards();
        if discards || !self.is_active() || self.breaker.open_until(now_us).is_some() {
            self.lanes[lane].has_read(complete, None, now_us);
            self.lanes[lane].rescan(now_us);
            return Vec::new();
        }
        items.sort_unstable_by_key(|item| (item.due_us, item.id));
        let last_us = items.last().map(|item| item.due_us);
        let seen_us = if complete { Some(read_us) } else { last_us };
        let settled_during_read = self.lanes[lane].has_read(complete, seen_us, now_us);
        let mut behind = Vec::new();
        let waiting = self.lanes[lane].waiting();
        for item in items {
            if self.known.contains_key(&item.id) || settled_during_read.contains(&item.id) {
                continue;
            }
            match item.order_key.map_or(Turn::Now, |key| self.keys.turn(key, &item)) {
                Turn::Now => self.take(lane, item, budget),
                Turn::AfterSettled => {
                    self.lanes[lane].read_again_from(item.due_us);
                    if let Some(key) = item.order_key {
                        // No delivery of the key before that time is unread, in whatever order they have become due.
                        self.keys.read_in_vain(key, lane, self.lanes[lane].begin_us());
                    }
                }
                Turn::Behind => {
                    self.known.insert(item.id, Known { lane, order_key: item.order_key, due_us: item.due_us });
                    behind.push(item);
                }
            }
        }
        if self.lanes[lane].waiting() > waiting {
            self.fruitless = 0;
        } else if !behind.is_empty() {
            self.fruitless = self.fruitless.saturating_add(1);
        }
        behind
    }

    /// Drops deliveries that wait in memory.
    pub(super) fn drop_ready(&mut self, is_gone: impl Fn(&Item) -> bool) {
        for lane in Lane::ALL {
            for id in self.lanes[lane].drop_ready(&is_gone) {
                self.forget(id);
            }
        }
        for id in self.expedited.drop_ready(&is_gone) {
            if let Some(Known { lane, due_us, .. }) = self.forget(id) {
                self.lanes[lane].read_again_from(due_us);
            }
        }
    }

    /// A delivery was cancelled: it is not sent, whether it waits in memory or a read in flight returns it.
    pub(super) fn delivery_cancelled(&mut self, id: DeliveryId) {
        self.drop_ready(|item| item.id == id);
        self.expedited.changed(id);
        for lane in Lane::ALL {
            self.lanes[lane].settled(id);
        }
    }

    /// Deliveries of a replay were cancelled: those that wait in memory are not sent, and the result of a read in
    /// flight is discarded and read again.
    pub(super) fn replay_cancelled(&mut self, replay: ReplayId, now_us: u64) {
        self.drop_ready(|item| item.replay_id == Some(replay));
        self.expedited.replay_cancelled();
        self.lanes[Lane::Replay].is_outdated(now_us);
    }

    /// A delivery has been settled, or this replica may no longer settle it. `stays` if its row may be unchanged.
    pub(super) fn settled(&mut self, id: DeliveryId, stays: bool) {
        if let Some(Known { lane, order_key, due_us }) = self.forget(id) {
            self.lanes[lane].settled(id);
            self.expedited.changed(id);
            if stays {
                self.lanes[lane].read_again_from(due_us);
                if let Some(key) = order_key {
                    self.keys.put_back(key, lane, due_us);
                }
            }
        }
    }

    /// An ordered delivery has been settled or put back: another one of its key may go.
    pub(super) fn order_settled(&mut self, now_us: u64) {
        for lane in [Lane::Fresh, Lane::Retry] {
            self.lanes[lane].rescan(now_us);
        }
    }

    /// The table may have due deliveries, in any lane.
    pub(super) fn rescan(&mut self, now_us: u64) {
        for lane in Lane::ALL {
            self.lanes[lane].rescan(now_us);
        }
    }

    /// Applies a configuration. Returns whether the line may have something to do.
    pub(super) fn configure(&mut self, destination: &Arc<Destination>, now_us: u64) -> bool {
        match (&mut self.pace, destination.rate) {
            (Some(pace), Some(rate)) if pace.rate() == rate => {}
            (Some(pace), Some(rate)) => pace.set_rate(rate, now_us),
            (pace, rate) => *pace = rate.map(Pace::new),
        }
        let was_active = self.is_active();
        self.destination = Arc::clone(destination);
        let is_another = destination.learned_since_us() > self.learned_since_us;
        self.learned_since_us = self.learned_since_us.max(destination.learned_since_us());
        if is_another || (self.is_active() && !was_active) {
            self.forget_learned();
        }
        if !self.is_active() {
            self.forget_ready(now_us);
        } else if !was_active {
            self.rescan(now_us);
        }
        self.is_active()
    }

    /// Stops sending, because the destination has another owner or was removed. The results of the attempts in flight
    /// are still learned from.
    pub(super) fn leave(&mut self, now_us: u64) {
        self.forget_ready(now_us);
        (self.in_turn, self.yields, self.gives_way, self.is_counted) = (false, false, false, false);
    }

    /// What the line does with a slot; `is_spare` if no other line wants the slot.
    pub(super) fn step(&mut self, is_spare: bool, now_us: u64, limits: &Limits, totals: &Totals) -> Step {
        if !self.is_active() || !self.has_loaded_health {
            return Step::Wait { until_us: None };
        }
        if let Some(step) = self.step_expedited(now_us, limits, totals) {
            return step;
        }
        if let Some(until_us) = self.blocked_until(now_us) {
            return Step::Wait { until_us: Some(until_us) };
        }
        let slots = self.concurrency().min(limits.in_flight);
        let waiting = |lane: &Lane| self.lanes[*lane].waiting() > 0 && self.slots.admits(*lane, slots);
        if !Lane::ALL.iter().any(waiting) {
            return Step::Wait { until_us: None };
        }
        let short = noise::slots_are_short(totals.slots.total(), limits.in_flight);
        let has_its_share =
            self.in_flight() >= noise::fair_share(noise::shared_slots(limits.in_flight), totals.wanting);
        if short && !is_spare && has_its_share && noise::is_noisy(&self.used, &totals.used, now_us) {
            return Step::GiveWay;
        }
        let admitted =
            Lane::ALL.into_iter().filter(waiting).filter(|lane| totals.slots.admits(*lane, limits.in_flight));
        let Some(lane) = self.turns.next(admitted) else { return Step::Yield };
        let bytes = counted_bytes(self.lanes[lane].next_body_bytes());
        if !fits_in_flight(bytes, self.bytes_in_flight, totals.bytes_in_flight, limits.in_flight_bytes) {
            return Step::Yield;
        }
        if let Admission::Wait { until_us } = self.breaker.admit(now_us) {
            return Step::Wait { until_us };
        }
        if let Some(wait) = self.wait_for_pace(now_us) {
            return wait;
        }
        match self.lanes[lane].pop() {
            Some(item) => {
                self.turns.went(lane);
                self.send(item, bytes, now_us)
            }
            None => Step::Wait { until_us: None },
        }
    }

    /// Sends a delivery that was taken from memory. Its body counts as `bytes` in flight.
    fn send(&mut self, item: Item, bytes: usize, now_us: u64) -> Step {
        self.slots.take(item.lane());
        self.used.in_flight += 1;
        self.bytes_in_flight += bytes;
        self.in_flight.insert(item.id, now_us);
        self.breaker.sent(item.id);
        self.reports.changed();
        Step::Send(item)
    }

    /// Takes one send from the rate, or returns what the line waits for.
    fn wait_for_pace(&mut self, now_us: u64) -> Option<Step> {
        let pace = self.pace.as_mut()?;
        let until_us = match pace.wait_us(now_us) {
            Some(wait_us) => Some(now_us + wait_us),
            None if pace.spacing_us() >= RESERVED_FROM_US && !self.permit.take(now_us) => None,
            None => {
                let wait_us = pace.take(self.aimd.rate_factor(), now_us).err()?;
                Some(now_us + wait_us)
            }
        };
        Some(Step::Wait { until_us })
    }

    /// Whether a lane is to be read from the table now: up to how many rows that are not known, and from which due time
    /// on. A line that cannot send, or has enough in memory, is not read, however many deliveries wait in the table.
    pub(super) fn read(&mut self, lane: Lane, now_us: u64, limits: &Limits, budget: &Budget) -> Option<(usize, u64)> {
        if !self.could_send(now_us) {
            return None;
        }
        let chunk = self.chunk(limits).min(budget.rows());
        let begin_us = self.lanes[lane].read(now_us, chunk)?;
        self.lanes[lane].reserve(budget.reserve_rows(chunk));
        Some((chunk, begin_us))
    }

    /// The deliveries that a read need not return.
    pub(super) fn known(&self) -> Vec<DeliveryId> {
        self.known.keys().copied().collect()
    }

    /// The keys that a read of a lane skips.
    pub(super) fn busy(&self, lane: Lane) -> Vec<i64> {
        self.keys.busy(lane)
    }

    /// Whether it could send now if it had a due delivery.
    pub(super) fn could_send(&self, now_us: u64) -> bool {
        self.is_active() && self.has_loaded_health && self.blocked_until(now_us).is_none()
    }

    /// An attempt is no longer in flight; `None` if this line did not send it.
    pub(super) fn ended(&mut self, item: &Item) -> Option<Ended> {
        let id = item.id;
        let sent_us = self.in_flight.remove(&id)?;
        self.bytes_in_flight -= counted_bytes(item.event.body_bytes);
        if let Some(known) = self.known.get(&id) {
            self.slots.give_back(known.lane);
            self.used.in_flight -= 1;
            if let Some(key) = known.order_key {
                self.keys.answered(key, id);
            }
        }
        let is_current = !self.sent_before_forgot.remove(&id);
        let had_gone = self.sent_before_gone.remove(&id);
        Some(Ended { sent_us, is_current, known_gone: had_gone || !is_current })
    }

    /// Learns from the result of an attempt; `jitter` is in 0..1. Returns why the destination is to be disabled, if it
    /// is.
    pub(super) fn learn(
        &mut self,
        id: DeliveryId,
        judged: &Judged,
        ended: Ended,
        jitter: f64,
        now_us: u64,
    ) -> Option<Disabling> {
        let sent_us = ended.sent_us;
        let limit = self.destination.max_concurrency;
        let taken_us = as_f64(now_us.saturating_sub(sent_us));
        self.used.time.add(taken_us, now_us);
        self.reports.changed();
        self.probed(id, if ended.is_current { judged.verdict } else { Verdict::Unknown }, now_us);
        if !ended.is_current {
            return None;
        }
        self.back_off_until_us = self.back_off_until_us.max(judged.back_off_until_us.unwrap_or(0));
        if let Some(why) = judged.overloaded {
            self.aimd.overloaded(why, sent_us, limit, now_us);
        }
        let mut disable = None;
        match judged.verdict {
            Verdict::Succeeded => {
                // The latency up to the head of the response, if an attempt was made: the excerpt of the body may take
                // longer.
                let latency_us =
                    judged.attempt.as_ref().map_or(taken_us, |attempt| f64::from(attempt.latency_ms) * 1e3);
                self.aimd.succeeded(sent_us, latency_us, limit, now_us);
                self.failing.ended();
                self.throttle.succeeded(sent_us);
            }
            Verdict::Failed | Verdict::Throttled | Verdict::Refused => {
                if let Some(run) = self.failing.failed(now_us) {
                    self.back_off_until_us = self.back_off_until_us.max(now_us + DISABLING_BACK_OFF_US);
                    disable = Some(Disabling::Failing(run));
                }
            }
            Verdict::Unknown => {}
        }
        match self.breaker.answered(id, judged.verdict, jitter, now_us) {
            // A destination that is down must not take memory from others.
            Some(Change::Opened) => self.forget_ready(now_us),
            Some(Change::Closed) => self.aimd.restart(limit, now_us),
            None => {}
        }
        if judged.gone {
            self.sent_before_gone = self.in_flight.keys().copied().collect();
            disable = Some(Disabling::Gone);
        }
        disable
    }

    /// How many attempts may be in flight now.
    pub(super) fn concurrency(&self) -> usize {
        self.aimd.concurrency(self.destination.max_concurrency)
    }

    /// Until when nothing may be sent, in microseconds; `None` if the line may send now.
    fn blocked_until(&self, now_us: u64) -> Option<u64> {
        self.back_off_until(now_us).max(self.breaker.open_until(now_us))
    }

    /// The end of the back-off that the destination has asked for, in microseconds; `None` if it has passed.
    pub(super) fn back_off_until(&self, now_us: u64) -> Option<u64> {
        Some(self.back_off_until_us).filter(|until_us| *until_us > now_us)
    }

    /// Whether it has attempts in flight or waits for a slot.
    fn wants_slots(&self) -> bool {
        let waits = self.in_turn || self.yields || self.gives_way;
        let has_some = self.expedited.is_waiting() || Lane::ALL.into_iter().any(|lane| self.lanes[lane].waiting() > 0);
        self.in_flight() > 0 || (waits && has_some)
    }

    /// How many attempts are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether a delivery is in memory, in flight, or about to be settled.
    #[cfg(test)]
    pub(super) fn is_known(&self, id: DeliveryId) -> bool {
        self.known.contains_key(&id)
    }

    /// Whether a delivery is known, or is read once another one of its key has been settled.
    #[cfg(test)]
    pub(super) fn knows(&self, lane: Lane, item: &Item) -> bool {
        self.is_known(item.id) || item.order_key.is_some_and(|key| self.busy(lane).contains(&key))
    }

    /// How many attempts that were sent at `since_us` or later are in flight.
    #[cfg(test)]
    pub(super) fn in_flight_since(&self, since_us: u64) -> usize {
        self.in_flight.values().filter(|sent_us| **sent_us >= since_us).count()
    }

    /// Takes a delivery into memory, unless it is known already.
    fn take(&mut self, lane: Lane, item: Item, budget: &Budget) {
        if let Entry::Vacant(entry) = self.known.entry(item.id) {
            entry.insert(Known { lane, order_key: item.order_key, due_us: item.due_us });
            if let Some(key) = item.order_key {
                self.keys.taken(key, item.id);
            }
            self.lanes[lane].take(item, budget);
        }
    }

    /// Forgets a delivery, and returns what was known of it.
    fn forget(&mut self, id: DeliveryId) -> Option<Known> {
        let known = self.known.remove(&id)?;
        if let Some(key) = known.order_key {
            let in_vain = self.keys.left(key, id);
            for lane in Lane::ALL {
                if let Some(due_us) = in_vain[lane] {
                    self.lanes[lane].read_again_since(due_us);
                }
            }
        }
        Some(known)
    }

    /// Drops the deliveries that wait in memory. Their rows are in the table, and are read again when they can be sent.
    fn forget_ready(&mut self, now_us: u64) {
        self.drop_ready(|_| true);
        self.rescan(now_us);
    }

    /// How many deliveries are worth reading: two seconds of a slow destination's rate, or one probe. The number
    /// doubles with each read that has returned nothing to send, so that a long queue behind one delivery is not read
    /// one by one.
    fn chunk(&self, limits: &Limits) -> usize {
        let chunk = if self.breaker.state() == State::Closed { self.chunk_by_rate() } else { 1 };
        chunk.saturating_mul(1 << self.fruitless.min(16)).min(limits.read)
    }

    fn chunk_by_rate(&self) -> usize {
        self.destination.rate.map_or(usize::MAX, |rate| {
            let two_seconds = 2.0 * f64::from(rate.limit.get()) / rate.per.as_secs_f64();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates, and is then capped"
            )]
            (two_seconds as usize).max(8)
        })
    }
}

/// An attempt that is no longer in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// When it was sent, in microseconds.
    pub(super) sent_us: u64,
    /// Whether its result says something about the destination as it is now.
    pub(super) is_current: bool,
    /// The destination is known to be gone, or the attempt went to another address: a 410 says nothing new.
    pub(super) known_gone: bool,
}

#[expect(clippy::cast_precision_loss, reason = "durations of attempts")]
fn as_f64(value: u64) -> f64 {
    value as f64
}
