//! The engine's decisions: `(state, input, now) → commands`, without a clock, a database or a socket.
//!
//! A *line* is the queue of one destination: the deliveries that are due and in memory, the attempts in flight, and what
//! is known of the rows in the table. The rows are the truth and the line is a window on their head: a delivery leaves
//! the table only when its attempt has been settled, so a line can be dropped at any time and nothing is lost.
//!
//! A delivery that is in memory, in flight, or answered and not yet settled is *known*; it is not taken from a read
//! again. A read that was under way while a delivery was settled may still show its old row, so what is settled is
//! remembered until the read has ended.
//!
//! One decision, one file: which lane goes next ([`shares`]), what of the table is in memory ([`window`], [`budget`]),
//! who yields when slots are short ([`noise`]), how much a destination can take ([`aimd`]), whether it is sent to at all
//! ([`breaker`], [`failing`], [`throttle`]), what goes one after the other ([`order`]), and what an answer means ([`answer`]). A [`line`] puts them together for one destination.
//! Every input costs as much as the lines it concerns, never as much as there are lines.
//!
//! There are two clocks. When something is done goes by the engine's own, `now_us`. When a row is due goes by the
//! database's, which may be another by any amount. What is written is a wait, which the database adds to its time; what is
//! read is a time of the database, or a wait from the moment of the reading. The two are never compared.

mod aimd;
mod answer;
mod breaker;
mod budget;
mod failing;
mod health;
mod line;
mod message;
mod noise;
mod order;
mod shares;
#[cfg(test)]
mod tests;
mod throttle;
mod tuning;
mod window;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use shared::id::{DeliveryId, DestinationId, ReplayId};

pub use self::aimd::Reason;
pub use self::breaker::State as BreakerState;
pub use self::failing::Run;
pub use self::health::Health;
pub use self::message::{Command, Disabling, Found, Input, Limits};

use self::answer::{Known, asks_for_a_pause, frees_key, judge, put_back};
use self::budget::{Budget, counted_bytes};
use self::health::Due;
use self::line::{Consequences, Everyone, Line, Step};
use self::order::behind_wait;
use self::throttle::Throttle;
use self::tuning::READ_AGAIN_US;
use super::item::Item;
use super::lane::Lane;
use super::outcome::Outcome;
use super::pace::SetClock;
use crate::configuration::{Poison, Snapshot};
use crate::store::settle::{Next, Settlement};

/// The state of the engine.
pub struct Core {
    limits: Limits,
    budget: Budget,
    clock: SetClock,
    owned: HashMap<i16, i64>,
    snapshot: Arc<Snapshot>,
    lines: HashMap<DestinationId, Line>,
    /// Lines that may have something to do, each at most once.
    turn: VecDeque<DestinationId>,
    /// Lines that wait for others to give slots back, each at most once.
    yielding: VecDeque<DestinationId>,
    /// Lines that have more than their fair share and take what no other line wants, each at most once.
    giving_way: VecDeque<DestinationId>,
    /// Slots that have been given back since the lines in [`Self::yielding`] were asked last.
    freed: usize,
    wakes: BinaryHeap<Reverse<(u64, DestinationId)>>,
    everyone: Everyone,
    unsettled: usize,
    draining: bool,
    /// Nothing is sent after it, whether or not anyone has said so: a process that was stopped for a while finds itself
    /// behind it. Microseconds.
    owned_until_us: u64,
}

impl Core {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            budget: Budget::new(limits.bodies, limits.rows),
            clock: SetClock::default(),
            owned: HashMap::new(),
            snapshot: Arc::default(),
            lines: HashMap::new(),
            turn: VecDeque::new(),
            yielding: VecDeque::new(),
            giving_way: VecDeque::new(),
            freed: 0,
            wakes: BinaryHeap::new(),
            everyone: Everyone::default(),
            unsettled: 0,
            draining: false,
            owned_until_us: 0,
        }
    }

    /// Takes an input at `now_us` (Unix time in microseconds, never running backwards) and says what is to be done.
    pub fn handle(&mut self, input: Input, now_us: u64) -> Vec<Command> {
        self.clock.set_us(now_us);
        let mut commands = Vec::new();
        match input {
            Input::Fenced => self.owned_until_us = 0,
            Input::Owned { shards, until_us } => {
                self.owned_until_us = until_us;
                self.owned = shards;
                self.arrange(now_us);
            }
            Input::Configured(snapshot) => {
                self.snapshot = snapshot;
                self.arrange(now_us);
            }
            Input::Fresh(items) => self.fresh(items, now_us),
            Input::Look(destination) => self.look(destination, now_us),
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
                // A line that cannot send now is not read, and is looked at again later.
                if self.lines.get(&destination).is_some_and(|line| line.could_send(now_us)) {
                    self.due_in(destination, lane, wait, due_us, now_us);
                }
            }
            Input::Later { destination, wait } => {
                // It was written just now, so the next read begins before it anyway.
                self.due_in(destination, Lane::Fresh, wait, u64::MAX, now_us);
            }
            Input::Answered { item, epoch, shard, outcome, jitter } => {
                self.answered(&item, epoch, shard, outcome, jitter, now_us, &mut commands);
            }
            Input::Settled { settlements, at_us } => self.settled(&settlements, at_us, now_us),
            Input::Recalled { destination, epoch, run } => {
                if let Some(line) = self.lines.get_mut(&destination).filter(|line| line.epoch == epoch) {
                    line.failing.recalled(run);
                }
            }
            Input::NotRecalled { destination, epoch } => {
                if let Some(line) = self.lines.get_mut(&destination).filter(|line| line.epoch == epoch) {
                    line.failing.not_recalled();
                }
            }
            Input::ReplayCancelled(replay) => {
                for line in self.lines.values_mut() {
                    line.drop_ready(|item| item.replay_id == Some(replay));
                }
            }
            Input::DeliveryCancelled(destination, delivery) => {
                if let Some(line) = self.lines.get_mut(&destination) {
                    line.drop_ready(|item| item.id == delivery);
                    // The next one of its key may go.
                    self.look(destination, now_us);
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
        self.wakes.peek().map(|Reverse((at_us, _))| *at_us)
    }

    /// Stops sending; what is in flight is still answered and settled.
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
        self.everyone.slots.total()
    }

    /// Whether any line could send now if there was something: only the table can tell.
    #[must_use]
    pub fn could_send(&self, now_us: u64) -> bool {
        self.lines.values().any(|line| line.could_send(now_us))
    }

    /// Makes the lines those of the owned shards and of the present configuration.
    fn arrange(&mut self, now_us: u64) {
        let (owned, snapshot, everyone) = (&self.owned, &self.snapshot, &mut self.everyone);
        self.lines.retain(|id, line| {
            let shard = snapshot.destinations.get(id).map(|destination| destination.shard);
            let stays = shard.and_then(|shard| owned.get(&shard)) == Some(&line.epoch);
            if !stays {
                everyone.wanting -= usize::from(line.is_counted);
            }
            stays
        });
        let mut changed = Vec::new();
        for (id, destination) in &snapshot.destinations {
            let Some(epoch) = owned.get(&destination.shard) else { continue };
            let line =
                self.lines.entry(*id).or_insert_with(|| Line::new(Arc::clone(destination), *epoch, &self.limits));
            if line.configure(destination, &self.clock, now_us) {
                changed.push(*id);
            }
        }
        // In one order, so that the same inputs always lead to the same commands.
        changed.sort_unstable();
        for id in changed {
            self.give_turn(id);
        }
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

    fn look(&mut self, destination: DestinationId, now_us: u64) {
        if let Some(line) = self.lines.get_mut(&destination) {
            line.look(now_us);
            self.give_turn(destination);
        }
    }

    /// A row is due after a wait that begins now, and at `due_us` by the database's clock: by that the table is read.
    fn due_in(&mut self, destination: DestinationId, lane: Lane, wait: Duration, due_us: u64, now_us: u64) {
        let Some(line) = self.lines.get_mut(&destination) else { return };
        line.lanes[lane].let_go(due_us);
        if wait.is_zero() {
            line.lanes[lane].look(now_us);
            self.give_turn(destination);
        } else if let Some(wake_us) = line.lanes[lane].due_at(now_us.saturating_add(microseconds(wait))) {
            self.wakes.push(Reverse((wake_us, destination)));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one input, taken apart once")]
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
        self.everyone.slots.give_back(item.lane());
        self.everyone.used.in_flight -= 1;
        self.everyone.bytes_in_flight -= counted_bytes(item.event.body_bytes);
        self.freed += 1;
        let line = self.lines.get_mut(&id).filter(|line| line.epoch == epoch);
        let (line, sent_us, known_gone) = match line {
            Some(line) => {
                let (sent_us, known_gone) = line.landed(item);
                (Some(line), sent_us, known_gone)
            }
            None => (None, None, false),
        };
        let policy =
            self.snapshot.destinations.get(&id).map(|destination| destination.retry.clone()).unwrap_or_default();
        let mut line = line.zip(sent_us);
        let pause_until_us = asks_for_a_pause(&outcome).then(|| match &mut line {
            Some((line, sent_us)) => line.throttle.throttled(*sent_us, jitter, now_us),
            // Another replica owns it, and learns of it by itself.
            None => Throttle::default().throttled(now_us, jitter, now_us),
        });
        let judged = judge(item, outcome, &policy, Known { gone: known_gone, pause_until_us }, jitter, now_us);
        if let Some((line, sent_us)) = line {
            #[expect(clippy::cast_precision_loss, reason = "a duration")]
            self.everyone.used.time.add(now_us.saturating_sub(sent_us) as f64, now_us);
            let Consequences { recall, disable } = line.learn(item.id, &judged, sent_us, jitter, now_us);
            if recall {
                commands.push(Command::Recall { destination: id, epoch });
            }
            if let Some(why) = disable {
                commands.push(Command::Disable(id, why));
            }
            self.give_turn(id);
        }
        let skips = item
            .route_id
            .and_then(|id| self.snapshot.routes.get(&id))
            .is_some_and(|route| route.poison == Poison::Skip);
        self.unsettled += 1;
        commands.push(Command::Settle(Settlement {
            delivery_id: item.id.uuid(),
            destination_id: id.uuid(),
            event_id: item.event.id.uuid(),
            shard,
            epoch,
            replay_id: item.replay_id.map(ReplayId::uuid),
            attempts: i16::try_from(judged.attempts).unwrap_or(i16::MAX),
            throttled: i16::try_from(judged.throttled).unwrap_or(i16::MAX),
            order_key: item.order_key,
            frees_key: frees_key(&judged, skips),
            attempt: judged.attempt,
            next: judged.next,
        }));
    }

    fn settled(&mut self, settlements: &[Settlement], at_us: u64, now_us: u64) {
        for settlement in settlements {
            self.unsettled -= 1;
            let destination = DestinationId::from_uuid(settlement.destination_id);
            let delivery = DeliveryId::from_uuid(settlement.delivery_id);
            let Some(line) = self.lines.get_mut(&destination).filter(|line| line.epoch == settlement.epoch) else {
                continue;
            };
            let stays = match settlement.next {
                Next::Behind { .. } => true,
                // When another one of its key ends, it may be made due before the time that it was given.
                Next::NotSent { .. } => settlement.order_key.is_some(),
                Next::Succeeded | Next::Dead { .. } | Next::Parked { .. } | Next::RetryIn(_) => false,
            };
            line.settled(delivery, stays);
            match &settlement.next {
                Next::RetryIn(wait) | Next::NotSent { wait, .. } => {
                    let attempts = u16::try_from(settlement.attempts).unwrap_or(0);
                    let lane = Lane::of(settlement.replay_id.is_some(), attempts);
                    let due_us = at_us.saturating_add(microseconds(*wait));
                    self.due_in(destination, lane, *wait, due_us, now_us);
                }
                Next::Succeeded | Next::Dead { .. } | Next::Parked { .. } | Next::Behind { .. } => {}
            }
            if settlement.order_key.is_some()
                && let Some(line) = self.lines.get_mut(&destination)
            {
                line.order_settled(now_us);
            }
            self.give_turn(destination);
        }
    }

    fn give_turn(&mut self, destination: DestinationId) {
        if let Some(line) = self.lines.get_mut(&destination) {
            if !std::mem::replace(&mut line.in_turn, true) {
                self.turn.push_back(destination);
            }
            self.everyone.count(line);
        }
    }

    /// Lets every line in turn send one delivery, round after round, until none can. What they leave free goes to the lines
    /// that give way, one delivery each, but for what is kept for lines that come.
    fn run(&mut self, now_us: u64, commands: &mut Vec<Command>) {
        if self.draining || now_us >= self.owned_until_us {
            return;
        }
        self.ask_yielding();
        while self.in_flight() < self.limits.in_flight && self.unsettled < self.limits.unsettled {
            let in_turn = self.turn.pop_front();
            let is_spare = in_turn.is_none();
            let has_spare = self.in_flight() < noise::shared_slots(self.limits.in_flight);
            let spare = || if has_spare { self.giving_way.pop_front() } else { None };
            let Some(destination) = in_turn.or_else(spare) else { return };
            let Some(line) = self.lines.get_mut(&destination) else { continue };
            line.gives_way &= !is_spare;
            match line.step(is_spare, now_us, &self.limits, &self.everyone) {
                Step::Send(item) => {
                    self.everyone.slots.take(item.lane());
                    self.everyone.used.in_flight += 1;
                    self.everyone.bytes_in_flight += counted_bytes(item.event.body_bytes);
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
            self.everyone.count(line);
            self.read(destination, now_us, commands);
            self.report(destination, now_us, commands);
        }
    }

    /// Lets lines that have yielded try again: two for each slot that has come back, because the first may still have to
    /// wait where the second has not.
    fn ask_yielding(&mut self) {
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

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
