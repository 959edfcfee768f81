//! The engine's decisions: `(state, input, now) → commands`, without a clock, a database or a socket.
//!
//! A *line* is the queue of one destination: its due deliveries in memory, its attempts in flight, and what the engine
//! knows of its rows in the table. The table is authoritative, and the line is a window on its head: a delivery leaves
//! the table only when its attempt has been settled, so a line can be dropped at any time and nothing is lost.
//!
//! A delivery is *known* while it is in memory, in flight, or not yet settled. A known delivery is not taken from a
//! read again. A read that was in flight while a delivery was settled may still return the old row, so settled
//! deliveries are remembered until that read has ended.
//!
//! One decision, one file: which lane goes next ([`shares`]), which part of the table is in memory ([`window`],
//! [`budget`]), which destinations yield when slots are short ([`noise`]), how much a destination can take ([`aimd`]),
//! whether anything is sent to it at all ([`breaker`], [`failing`], [`throttle`]), which deliveries wait for others of
//! their key ([`order`]), what the result of an attempt means ([`answer`]), and what one owner leaves to the next
//! ([`ownership`], [`learned`], [`permit`]). A [`line`] combines them for one destination.
//!
//! The cost of an input depends on the lines that it concerns, never on the number of lines.
//!
//! There are two clocks. The engine's clock, `now_us`, decides when the engine acts. The database's clock decides when
//! a row is due, and the two may differ by any amount. The engine writes waits, which the database adds to its own
//! time. It reads times of the database's clock, or waits from the moment of the read. The two clocks are never
//! compared.

mod aimd;
mod answer;
mod breaker;
mod budget;
mod failing;
mod health;
pub mod item;
mod learned;
mod line;
mod message;
mod noise;
mod order;
pub mod outcome;
mod ownership;
pub mod pace;
mod permit;
pub mod retry;
pub mod shares;
#[cfg(test)]
mod tests;
mod throttle;
pub mod tuning;
mod window;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::destination::Destination;
use model::lane::Lane;
use model::settlement::{Next, Settlement};
use shared::id::{DeliveryId, DestinationId};

pub use self::message::{Command, Disabling, Found, Input, Limits, LoadedHealth, Permitted};

use self::answer::{Known, asks_for_a_back_off, frees_key, judge, put_back};
use self::budget::{Budget, counted_bytes};
use self::health::Due;
use self::item::Item;
use self::line::{Line, Step, Totals};
use self::order::behind_wait;
use self::outcome::Outcome;
use self::throttle::Throttle;
use self::tuning::READ_AGAIN_US;

/// The state of the engine.
pub struct Core {
    limits: Limits,
    budget: Budget,
    owned: HashMap<i16, i64>,
    destinations: Arc<HashMap<DestinationId, Arc<Destination>>>,
    lines: HashMap<DestinationId, Line>,
    /// Lines of destinations that this replica no longer sends to, with their epochs, until all their attempts in
    /// flight have ended.
    leaving: HashMap<(DestinationId, i64), Line>,
    /// Lines that may have something to do, each at most once.
    turn: VecDeque<DestinationId>,
    /// Lines that wait until others return slots, each at most once.
    yielding: VecDeque<DestinationId>,
    /// Noisy lines that have their fair share and take slots that no other line wants, each at most once.
    giving_way: VecDeque<DestinationId>,
    /// Slots that have been returned since the lines in [`Self::yielding`] last had a turn.
    freed: usize,
    wakes: BinaryHeap<Reverse<(u64, DestinationId)>>,
    totals: Totals,
    unsettled: usize,
    draining: bool,
    /// Nothing is sent from this time on, even if no input has fenced the engine: a process that was suspended may
    /// resume after it. Microseconds.
    owned_until_us: u64,
    /// The time until which this replica owned its shards is over, and its attempts in flight have been aborted.
    is_fenced: bool,
}

impl Core {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            budget: Budget::new(limits.bodies, limits.rows),
            owned: HashMap::new(),
            destinations: Arc::default(),
            lines: HashMap::new(),
            leaving: HashMap::new(),
            turn: VecDeque::new(),
            yielding: VecDeque::new(),
            giving_way: VecDeque::new(),
            freed: 0,
            wakes: BinaryHeap::new(),
            totals: Totals::default(),
            unsettled: 0,
            draining: false,
            owned_until_us: 0,
            is_fenced: true,
        }
    }

    /// Takes an input at `now_us` (Unix time in microseconds, never running backwards) and returns the commands to
    /// carry out.
    pub fn handle(&mut self, input: Input, now_us: u64) -> Vec<Command> {
        let mut commands = Vec::new();
        self.fence(now_us, &mut commands);
        match input {
            Input::Fenced => {
                self.owned_until_us = 0;
                self.fence(now_us, &mut commands);
            }
            Input::Owned { shards, until_us } => {
                (self.owned_until_us, self.is_fenced) = (until_us, false);
                // A renewal mostly changes no shard, and walking all lines costs an idle relay its processor time.
                if self.owned != shards {
                    self.owned = shards;
                    self.arrange(now_us, &mut commands);
                }
            }
            Input::Configured(destinations) => {
                self.destinations = destinations;
                self.arrange(now_us, &mut commands);
            }
            Input::Fresh(items) => self.fresh(items, now_us),
            Input::Rescan(destination) => self.rescan(destination, now_us),
            Input::Found { destination, lane, epoch, found } => {
                if let Some(line) = self.lines.get_mut(&destination).filter(|line| line.epoch == epoch) {
                    let read_us = found.read_us;
                    let behind = line.found(lane, found, &self.budget, now_us);
                    self.unsettled += behind.len();
                    let (shard, wait) = (line.destination.shard, |item| behind_wait(item, read_us));
                    let put_back = behind.iter().map(|item| put_back(item, shard, epoch, wait(item)));
                    commands.extend(put_back.map(Command::Settle));
                    self.give_turn(destination);
                }
            }
            Input::NotFound { destination, lane, epoch } => {
                if let Some(line) = self.lines.get_mut(&destination).filter(|line| line.epoch == epoch) {
                    line.lanes[lane].has_not_read(now_us + READ_AGAIN_US);
                    self.wakes.push(Reverse((now_us + READ_AGAIN_US, destination)));
                }
            }
            Input::NextDue { destination, lane, due_us, wait } => {
                // A line that cannot send now is not read. A later scan finds the row again.
                if self.lines.get(&destination).is_some_and(|line| line.could_send(now_us)) {
                    self.due_in(destination, lane, wait, due_us, now_us);
                }
            }
            Input::Later { destination, wait } => {
                // The delivery was stored just now, so the next read begins before it anyway.
                self.due_in(destination, Lane::Fresh, wait, u64::MAX, now_us);
            }
            Input::Answered { item, epoch, shard, outcome, jitter } => {
                self.answered(&item, epoch, shard, outcome, jitter, now_us, &mut commands);
            }
            Input::Settled { settlements, at_us } => self.settled(&settlements, at_us, now_us),
            Input::NotSettled(settlements) => self.not_settled(&settlements, now_us),
            Input::HealthLoaded(loaded) => self.loaded(loaded, now_us),
            Input::Permitted(permitted) => self.permitted(&permitted),
            Input::Expedite(deliveries) => self.expedite(deliveries, now_us, &mut commands),
            Input::Expedited { destination, epoch, asked, items } => {
                if let Some(line) = self.lines.get_mut(&destination).filter(|line| line.epoch == epoch) {
                    line.found_expedited(&asked, items, &self.budget);
                    self.give_turn(destination);
                }
            }
            Input::ReplayCancelled(replay) => {
                for line in self.lines.values_mut() {
                    line.replay_cancelled(replay, now_us);
                }
            }
            Input::DeliveryCancelled(destination, delivery) => {
                if let Some(line) = self.lines.get_mut(&destination) {
                    line.delivery_cancelled(delivery);
                    // The next delivery of its key may go.
                    self.rescan(destination, now_us);
                }
            }
            Input::Woken => {}
        }
        while let Some(Reverse((at_us, destination))) = self.wakes.peek().copied() {
            if at_us > now_us {
                break;
            }
            self.wakes.pop();
            self.give_turn(destination);
        }
        self.run(now_us, &mut commands);
        commands
    }

    /// When [`Input::Woken`] is due, in microseconds.
    #[must_use]
    pub fn wake_at_us(&self) -> Option<u64> {
        let wake_us = self.wakes.peek().map(|Reverse((at_us, _))| *at_us);
        let ends = self.in_flight() > 0 && !self.is_fenced && self.owned_until_us < u64::MAX;
        let fence_us = ends.then_some(self.owned_until_us);
        wake_us.into_iter().chain(fence_us).min()
    }

    /// Stops sending. Attempts in flight still end and are settled.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether no attempt is in flight or waiting to be settled.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight() == 0 && self.unsettled == 0
    }

    /// Attempts in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.totals.slots.total()
    }

    /// Whether any line could send now if it had due deliveries, which only the table knows.
    #[must_use]
    pub fn could_send(&self, now_us: u64) -> bool {
        self.lines.values().any(|line| line.could_send(now_us))
    }

    fn fresh(&mut self, items: Vec<Item>, now_us: u64) {
        for item in items {
            let id = item.destination_id;
            if let Some(line) = self.lines.get_mut(&id) {
                line.fresh(item, &self.budget, &self.limits, now_us);
                self.give_turn(id);
            }
        }
    }

    fn rescan(&mut self, destination: DestinationId, now_us: u64) {
        if let Some(line) = self.lines.get_mut(&destination) {
            line.rescan(now_us);
            self.give_turn(destination);
        }
    }

    fn expedite(&mut self, deliveries: Vec<(DestinationId, DeliveryId)>, now_us: u64, commands: &mut Vec<Command>) {
        if self.draining || now_us >= self.owned_until_us {
            return;
        }
        let mut of_lines: BTreeMap<DestinationId, Vec<DeliveryId>> = BTreeMap::new();
        for (destination, delivery) in deliveries {
            of_lines.entry(destination).or_default().push(delivery);
        }
        for (destination, deliveries) in of_lines {
            let Some(line) = self.lines.get_mut(&destination) else { continue };
            let (epoch, deliveries) = (line.epoch, line.expedite(deliveries));
            if !deliveries.is_empty() {
                commands.push(Command::ReadExpedited { destination, epoch, deliveries });
            }
        }
    }

    /// A row becomes due after a wait that begins now, at `due_us` by the database's clock. The table is read by then.
    fn due_in(&mut self, destination: DestinationId, lane: Lane, wait: Duration, due_us: u64, now_us: u64) {
        let Some(line) = self.lines.get_mut(&destination) else { return };
        line.lanes[lane].read_again_from(due_us);
        if wait.is_zero() {
            line.lanes[lane].rescan(now_us);
            self.give_turn(destination);
        } else if let Some(wake_us) = line.lanes[lane].due_at(now_us.saturating_add(microseconds(wait))) {
            self.wakes.push(Reverse((wake_us, destination)));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one input, destructured once")]
    fn answered(
        &mut self,
        item: &Item,
        epoch: i64,
        shard: i16,
        outcome: Outcome,
        jitter: f64,
        now_us: u64,
        commands: &mut Vec<Command>,
    ) {
        let id = item.destination_id;
        self.totals.slots.give_back(item.lane());
        self.totals.used.in_flight -= 1;
        self.totals.bytes_in_flight -= counted_bytes(item.event.body_bytes);
        self.freed += 1;
        let is_here = self.lines.get(&id).is_some_and(|line| line.epoch == epoch);
        let line = if is_here { self.lines.get_mut(&id) } else { self.leaving.get_mut(&(id, epoch)) };
        let mut line = line.and_then(|line| line.ended(item).map(|ended| (line, ended)));
        let policy = self.destinations.get(&id).map(|destination| destination.retry.clone()).unwrap_or_default();
        let back_off_until_us = asks_for_a_back_off(&outcome).then(|| match &mut line {
            // An expedited delivery was sent during a back-off: its 429 does not extend the back-off.
            Some((line, ended)) if ended.is_current && line.is_expedited_probe(item.id) => {
                match line.throttle.lasts_until(now_us) {
                    Some(until_us) => until_us,
                    None => line.throttle.throttled(now_us, jitter, now_us),
                }
            }
            Some((line, ended)) if ended.is_current => line.throttle.throttled(ended.sent_us, jitter, now_us),
            // The line of another owner, or of another address, is left unchanged: the delivery alone waits, for a
            // first back-off.
            Some(_) | None => Throttle::default().throttled(now_us, jitter, now_us),
        });
        let known = Known { gone: line.as_ref().is_some_and(|(_, ended)| ended.known_gone), back_off_until_us };
        let judged = judge(item, outcome, &policy, known, jitter, now_us);
        if let Some((line, ended)) = line {
            #[expect(clippy::cast_precision_loss, reason = "a duration")]
            self.totals.used.time.add(now_us.saturating_sub(ended.sent_us) as f64, now_us);
            if let Some(why) = line.learn(item.id, &judged, ended, jitter, now_us) {
                commands.push(Command::Disable(id, why));
            }
        }
        if is_here {
            // At once: the line's turn may come late, and the next owner needs the report.
            self.report(id, now_us, commands);
            self.give_turn(id);
        } else {
            self.is_leaving(id, epoch, now_us, commands);
        }
        self.unsettled += 1;
        commands.push(Command::Settle(Settlement {
            delivery_id: item.id,
            destination_id: id,
            event_id: item.event.meta.id,
            shard,
            epoch,
            replay_id: item.replay_id,
            attempts: i16::try_from(judged.attempts).unwrap_or(i16::MAX),
            attempts_before: i16::try_from(item.attempts).unwrap_or(i16::MAX),
            generation: item.generation,
            expedited: item.expedited,
            throttled: i16::try_from(judged.throttled).unwrap_or(i16::MAX),
            order_key: item.order_key,
            frees_key: frees_key(&judged, item.skips),
            attempt: judged.attempt,
            next: judged.next,
        }));
    }

    fn settled(&mut self, settlements: &[Settlement], at_us: u64, now_us: u64) {
        for settlement in settlements {
            self.unsettled -= 1;
            let destination = settlement.destination_id;
            let delivery = settlement.delivery_id;
            let stays = match settlement.next {
                Next::Behind { .. } => true,
                // If another delivery of its key ends, this one can become due before its wait is over.
                Next::NotSent { .. } => settlement.order_key.is_some(),
                Next::Succeeded | Next::Dead { .. } | Next::Held { .. } | Next::RetryIn(_) => false,
            };
            let Some(line) = self.lines.get_mut(&destination).filter(|line| line.epoch == settlement.epoch) else {
                // The line is used again if its destination returns in the same epoch.
                if let Some(line) = self.leaving.get_mut(&(destination, settlement.epoch)) {
                    line.settled(delivery, stays);
                }
                continue;
            };
            line.settled(delivery, stays);
            match &settlement.next {
                Next::RetryIn(wait) | Next::NotSent { wait, .. } => {
                    let attempts = u16::try_from(settlement.attempts).unwrap_or(0);
                    let lane = Lane::of(settlement.replay_id.is_some(), attempts);
                    let due_us = at_us.saturating_add(microseconds(*wait));
                    self.due_in(destination, lane, *wait, due_us, now_us);
                }
                Next::Succeeded | Next::Dead { .. } | Next::Held { .. } | Next::Behind { .. } => {}
            }
            if settlement.order_key.is_some()
                && let Some(line) = self.lines.get_mut(&destination)
            {
                line.order_settled(now_us);
            }
            self.give_turn(destination);
        }
    }

    /// The rows of these may be due now, whatever the results of the attempts: they are read again.
    fn not_settled(&mut self, settlements: &[Settlement], now_us: u64) {
        for settlement in settlements {
            self.unsettled -= 1;
            let destination = settlement.destination_id;
            if let Some(line) = self.lines.get_mut(&destination).filter(|line| line.epoch == settlement.epoch) {
                line.settled(settlement.delivery_id, true);
                self.rescan(destination, now_us);
            }
        }
    }

    fn give_turn(&mut self, destination: DestinationId) {
        if let Some(line) = self.lines.get_mut(&destination) {
            if !std::mem::replace(&mut line.in_turn, true) {
                self.turn.push_back(destination);
            }
            self.totals.count(line);
        }
    }

    /// Lets each line in turn send one delivery, round after round, until none can. The slots that remain go to the
    /// lines that give way, one delivery each, except for those that are kept for other destinations.
    fn run(&mut self, now_us: u64, commands: &mut Vec<Command>) {
        if self.draining || now_us >= self.owned_until_us {
            return;
        }
        self.resume_yielding();
        while self.in_flight() < self.limits.in_flight && self.unsettled < self.limits.unsettled {
            let in_turn = self.turn.pop_front();
            let is_spare = in_turn.is_none();
            let has_spare = self.in_flight() < noise::shared_slots(self.limits.in_flight);
            let spare = || if has_spare { self.giving_way.pop_front() } else { None };
            let Some(destination) = in_turn.or_else(spare) else { return };
            let Some(line) = self.lines.get_mut(&destination) else { continue };
            line.gives_way &= !is_spare;
            match line.step(is_spare, now_us, &self.limits, &self.totals) {
                Step::Send(item) => {
                    self.totals.slots.take(item.lane());
                    self.totals.used.in_flight += 1;
                    self.totals.bytes_in_flight += counted_bytes(item.event.body_bytes);
                    let (destination, epoch) = (Arc::clone(&line.destination), line.epoch);
                    if is_spare {
                        line.gives_way = true;
                        self.giving_way.push_back(destination.id);
                    } else {
                        self.turn.push_back(destination.id);
                    }
                    commands.push(Command::Send { item, destination, epoch });
                }
                Step::GiveWay => {
                    line.in_turn = false;
                    if !std::mem::replace(&mut line.gives_way, true) {
                        self.giving_way.push_back(destination);
                    }
                }
                Step::Yield => {
                    line.in_turn = false;
                    if !std::mem::replace(&mut line.yields, true) {
                        self.yielding.push_back(destination);
                    }
                }
                Step::Wait { until_us } => {
                    line.in_turn = false;
                    if let Some(until_us) = until_us
                        && (line.wake_us <= now_us || until_us < line.wake_us)
                    {
                        line.wake_us = until_us;
                        self.wakes.push(Reverse((until_us, destination)));
                    }
                }
            }
            self.totals.count(line);
            self.read(destination, now_us, commands);
            self.report(destination, now_us, commands);
        }
    }

    /// Lets lines that have yielded try again: two for each slot that was returned, because the first may still have to
    /// wait when the second need not.
    fn resume_yielding(&mut self) {
        for _ in 0..2 * std::mem::take(&mut self.freed) {
            let Some(destination) = self.yielding.pop_front() else { return };
            if let Some(line) = self.lines.get_mut(&destination) {
                line.yields = false;
                self.give_turn(destination);
            }
        }
    }

    fn read(&mut self, destination: DestinationId, now_us: u64, commands: &mut Vec<Command>) {
        let Some(line) = self.lines.get_mut(&destination) else { return };
        for lane in Lane::ALL {
            if let Some((limit, begin_us)) = line.read(lane, now_us, &self.limits, &self.budget) {
                let (epoch, bodies) = (line.epoch, self.budget.has_room());
                let (known, busy) = (line.known(), line.busy(lane));
                commands.push(Command::Read { destination, lane, epoch, limit, begin_us, known, busy, bodies });
            }
        }
    }

    fn report(&mut self, destination: DestinationId, now_us: u64, commands: &mut Vec<Command>) {
        let Some(line) = self.lines.get_mut(&destination) else { return };
        match line.report_due(now_us) {
            Due::Now => commands.push(Command::Report(Box::new(line.report(now_us)))),
            Due::At { at_us } => self.wakes.push(Reverse((at_us, destination))),
            Due::Never => {}
        }
    }
}

/// A duration in microseconds, at most `u64::MAX`.
#[must_use]
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
