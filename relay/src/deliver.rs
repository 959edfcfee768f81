//! The delivery engine: sends what is due, at the pace each destination can take.
//!
//! Destinations hash to 256 shards, and a replica sends only for the shards it leases ([`lease`]). So the rate limit and
//! the concurrency cap of a destination are kept by one process, exactly, and no row has to be claimed before it is sent.
//! What to read, send and settle is decided by [`core`], which is pure; the loop here carries it out. An attempt is made
//! by [`send`] and written by [`settle`], many in one transaction. No transaction and no pool connection is held while a
//! destination is answering.
//!
//! A crash at any line of this costs at most a repetition: the row is in the table until its attempt is settled, and the
//! next owner of the shard sends it again with the same `webhook-id`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::id::{DeliveryId, DestinationId, ReplayId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::configuration::{Configuration, POLL};
use crate::egress::Egress;
use crate::intake::Intake;
use crate::operational::{self, Cause};
use crate::store::Pool;
use crate::{mint, store};

pub mod clock;
pub mod core;
pub(crate) mod excerpts;
pub mod item;
pub mod lane;
pub mod lease;
pub(crate) mod look;
pub mod outcome;
pub mod pace;
pub(crate) mod read;
pub(crate) mod recall;
mod redirect;
pub mod report;
pub(crate) mod request;
pub mod send;
pub mod settle;
pub(crate) mod versions;

use self::clock::Clock;
use self::core::{Command, Core, Disabling, Health, Input, Limits, Run};
use self::excerpts::Excerpts;
use self::item::Item;
use self::lease::UnderWay;
use self::look::NextLook;
use self::outcome::Outcome;
use self::read::Read;
use self::send::{Attempted, Sender};
use self::versions::Versions;
use crate::store::settle::{Next, Settlement};

/// The most inputs taken before the commands they led to are carried out.
const INPUTS_AT_ONCE: usize = 256;

/// How long the last reports may take when the engine ends: up to the first while there is time, the second in any case.
const LAST_REPORTS_WITHIN: Duration = Duration::from_secs(2);
const LAST_REPORTS_AT_LEAST: Duration = Duration::from_millis(200);

/// Tells the engine things. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::UnboundedSender<Input>,
    clock: Clock,
}

impl Handle {
    /// Hands over deliveries that have just been stored.
    pub fn fresh(&self, items: Vec<Item>) {
        if !items.is_empty() {
            self.tell(Input::Fresh(items));
        }
    }

    /// Says that a delivery that has just been stored for this destination waits so long for its first attempt.
    pub fn later(&self, destination: DestinationId, wait: Duration) {
        self.tell(Input::Later { destination, wait });
    }

    /// Says that something may be due in the table for this destination.
    pub fn look(&self, destination: DestinationId) {
        self.tell(Input::Look(destination));
    }

    /// Says that a caller has asked to send this delivery at once.
    pub fn expedite(&self, destination: DestinationId, delivery: DeliveryId) {
        self.tell(Input::Expedite(vec![(destination, delivery)]));
    }

    /// Says that deliveries of this replay have been cancelled.
    pub fn replay_cancelled(&self, replay: ReplayId) {
        self.tell(Input::ReplayCancelled(replay));
    }

    /// Says that this delivery has been cancelled. An attempt that is in flight goes on.
    pub fn delivery_cancelled(&self, destination: DestinationId, delivery: DeliveryId) {
        self.tell(Input::DeliveryCancelled(destination, delivery));
    }

    fn owned(&self, shards: HashMap<i16, i64>, until_us: u64) {
        self.tell(Input::Owned { shards, until_us });
    }

    fn tell(&self, input: Input) {
        // The engine ends only with the process; what it no longer hears is in the table.
        let _ = self.inbox.send(input);
    }
}

/// What the engine works with.
pub struct Parts {
    /// The database, the configuration and the evaluator; and what stores operational events.
    pub intake: Intake,
    pub egress: Egress,
    /// Attempts at one time, over all destinations.
    pub max_in_flight: usize,
    /// Bytes of bodies that wait in memory to be sent, over all destinations.
    pub max_waiting_bytes: usize,
    /// Bytes of large bodies of attempts in flight, over all destinations.
    pub max_in_flight_bytes: usize,
}

/// The engine, ready to run.
pub struct Engine {
    handle: Handle,
    inbox: mpsc::UnboundedReceiver<Input>,
}

impl Default for Engine {
    fn default() -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        Self { handle: Handle { inbox: sender, clock: Clock::start() }, inbox }
    }
}

impl Engine {
    /// What tells the engine things.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `stop` says until when it may take: then sends nothing new and waits until what is in flight is settled,
    /// no longer than that. Gives its shards back before it returns.
    pub async fn run(mut self, parts: Parts, mut stop: oneshot::Receiver<Instant>) {
        let Parts { intake, egress, max_in_flight, max_waiting_bytes, max_in_flight_bytes } = parts;
        let (pool, configuration) = (intake.pool.clone(), Arc::clone(&intake.configuration));
        let evaluator = Arc::clone(&intake.evaluator);
        let replica = mint::uuid();
        let tasks = TaskTracker::new();
        let background = CancellationToken::new();
        let (settlements, settle_inbox) = settle::channel();
        let under_way = Arc::new(UnderWay::default());
        let (settled, settled_shards) = (self.handle.clone(), Arc::clone(&under_way));
        let parked = Arc::clone(&intake.parked);
        let settling = tasks.spawn(settle::run(pool.clone(), settle_inbox, move |batch, done| {
            settled_shards.ended(batch.iter().map(|settlement| settlement.shard));
            if batch.iter().any(|settlement| matches!(settlement.next, Next::Parked { .. })) {
                parked.notify_one();
            }
            let (batch, others): (Vec<_>, Vec<_>) = batch.into_iter().partition(|settlement| done.has(settlement));
            let at_us = done.at.map_or(u64::MAX, mint::unix_us);
            settled.tell(Input::Settled { settlements: batch, at_us });
            if !others.is_empty() {
                settled.tell(Input::NotSettled(others));
            }
        }));
        let leaving = CancellationToken::new();
        let keeper = lease::Keeper::new(pool.clone(), replica, self.handle.clone(), Arc::clone(&under_way));
        let next_look = Arc::new(tokio::sync::Mutex::new(NextLook::default()));
        let leasing = {
            let (pool, next) = (pool.clone(), Arc::clone(&next_look));
            let (leaving, stop) = (leaving.clone(), background.clone());
            tokio::spawn(async move {
                // Nothing is owned before, and so nothing is read that a signal of before would have told of.
                tokio::select! {
                    () = look::begin_signals(&pool, &next) => keeper.run(leaving, stop).await,
                    () = stop.cancelled() => {}
                }
            })
        };
        let (reports, report_inbox) = mpsc::unbounded_channel();
        let writer = report::Writer {
            pool: pool.clone(),
            clock: self.handle.clock,
            engine: self.handle.clone(),
            under_way: Arc::clone(&under_way),
        };
        let mut reporting = tokio::spawn(writer.run(report_inbox));
        let (reads, read_inbox) = mpsc::unbounded_channel();
        let read_inbox = Arc::new(tokio::sync::Mutex::new(read_inbox));
        let reading: Vec<_> = (0..read::AT_ONCE)
            .map(|_| tokio::spawn(read::run(pool.clone(), Arc::clone(&read_inbox), self.handle.clone())))
            .collect();
        let watching = tokio::spawn(watch_configuration(Arc::clone(&configuration), self.handle.clone()));
        let mut machine = Machine {
            core: Core::new(Limits::new(max_in_flight, max_waiting_bytes, max_in_flight_bytes)),
            clock: self.handle.clock,
            handle: self.handle.clone(),
            sender: Arc::new(Sender {
                pool: pool.clone(),
                egress,
                configuration,
                evaluator,
                versions: Versions::new(pool.clone()),
            }),
            settlements,
            reports,
            reads,
            excerpts: Arc::default(),
            attempts: HashMap::new(),
            under_way,
            pool: pool.clone(),
            intake,
            tasks: tasks.clone(),
            next_look,
        };

        let mut poll = tokio::time::interval(POLL);
        let mut stopping = None;
        loop {
            let wake = machine.core.wake_at_us().map(|at_us| machine.clock.timer(at_us));
            let mut inputs = Vec::new();
            tokio::select! {
                _ = self.inbox.recv_many(&mut inputs, INPUTS_AT_ONCE) => {}
                () = sleep_until(wake) => inputs.push(Input::Woken),
                _ = poll.tick() => machine.find_next_due(),
                deadline = &mut stop, if stopping.is_none() => {
                    machine.core.drain();
                    leaving.cancel();
                    // Who told nobody is gone: nothing is waited for.
                    stopping = Some(deadline.map_or_else(|_| tokio::time::Instant::now(), Into::into));
                }
                () = sleep_until(stopping), if stopping.is_some() => {
                    tracing::warn!(in_flight = machine.core.in_flight(), "the shutdown's time is up; what is in flight will be sent again");
                    break;
                }
            }
            machine.take(inputs);
            if stopping.is_some() && machine.core.is_idle() {
                break;
            }
        }
        // Before the shards are given back: the next owners go on from these.
        machine.report_last();
        drop(machine);
        let now = tokio::time::Instant::now();
        let until = stopping.unwrap_or(now).clamp(now + LAST_REPORTS_AT_LEAST, now + LAST_REPORTS_WITHIN);
        if tokio::time::timeout_at(until, &mut reporting).await.is_err() {
            tracing::warn!(
                "could not store what is known of the destinations in time; the next owners wait for one send of each rate"
            );
        }
        background.cancel();
        let _ = leasing.await;
        watching.abort();
        settling.abort();
        reading.iter().for_each(tokio::task::JoinHandle::abort);
        reporting.abort();
        if let Err(error) = store::leases::release(&pool, replica).await {
            tracing::warn!(error = %error, "could not give the shards back; another replica takes them when the lease has expired");
        }
    }
}

/// The core with what carries its commands out.
struct Machine {
    core: Core,
    clock: Clock,
    handle: Handle,
    sender: Arc<Sender>,
    settlements: Arc<mpsc::UnboundedSender<Settlement>>,
    reports: mpsc::UnboundedSender<Health>,
    reads: mpsc::UnboundedSender<Read>,
    excerpts: Arc<Excerpts>,
    /// The attempts in flight, with the epochs they were sent in.
    attempts: HashMap<(DeliveryId, i64), AbortHandle>,
    under_way: Arc<UnderWay>,
    pool: Pool,
    intake: Intake,
    tasks: TaskTracker,
    /// Locked while the table is asked when the next deliveries are due.
    next_look: Arc<tokio::sync::Mutex<NextLook>>,
}

impl Machine {
    fn take(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            let (answered, attempt) = if let Input::Answered { item, epoch, shard, outcome, .. } = &input {
                self.attempts.remove(&(item.id, *epoch));
                (Some(*shard), outcome.attempt().map(|attempt| attempt.id))
            } else {
                (None, None)
            };
            let owned_until_us = if let Input::Owned { until_us, .. } = &input { Some(*until_us) } else { None };
            for command in self.core.handle(input, self.clock.now_us()) {
                match command {
                    Command::Send { item, destination, epoch } => self.send(item, &destination, epoch),
                    Command::Read { destination, lane, epoch, limit, begin_us, known, busy, bodies } => {
                        let read = Read { destination, lane, epoch, limit, begin_us, known, busy, bodies };
                        let _ = self.reads.send(read);
                    }
                    Command::ReadExpedited { destination, epoch, deliveries } => {
                        self.read_expedited(destination, epoch, deliveries);
                    }
                    Command::Settle(settlement) => {
                        self.under_way.begun(settlement.shard);
                        self.settle(settlement);
                    }
                    Command::Recall(lines) => {
                        self.tasks.spawn(recall::run(self.pool.clone(), self.handle.clone(), lines));
                    }
                    Command::BreakOff => self.break_off(),
                    Command::Disable(destination, why) => self.disable(destination, why),
                    Command::Report(health) => self.report(*health),
                }
            }
            // Of an attempt that is not settled here.
            if let Some(attempt) = attempt {
                self.excerpts.take(attempt);
            }
            // Last: from its answer on it is the settlement that is under way.
            self.under_way.ended(answered);
            if let Some(until_us) = owned_until_us {
                self.under_way.heard(until_us);
            }
        }
    }

    /// Hands a settlement to the writer: at once, or when the rest of the answer's excerpt has arrived.
    fn settle(&self, mut settlement: Settlement) {
        let settlements = Arc::clone(&self.settlements);
        let rest = settlement.attempt.as_ref().and_then(|attempt| self.excerpts.take(attempt.id));
        let Some(rest) = rest else {
            let _ = settlements.send(settlement);
            return;
        };
        self.tasks.spawn(async move {
            let excerpt = rest.finish().await;
            if let Some(attempt) = &mut settlement.attempt {
                attempt.response_excerpt = excerpt;
            }
            let _ = settlements.send(settlement);
        });
    }

    fn send(&mut self, item: Item, destination: &Arc<crate::configuration::Destination>, epoch: i64) {
        self.under_way.begun(destination.shard);
        let (sender, handle, destination) = (Arc::clone(&self.sender), self.handle.clone(), Arc::clone(destination));
        let excerpts = Arc::clone(&self.excerpts);
        // In a task of its own, so that a panic in it is an attempt that was not made and not a slot lost for ever.
        let attempt = tokio::spawn({
            let (item, destination) = (item.clone(), Arc::clone(&destination));
            async move { sender.attempt(&item, &destination).await }
        });
        self.attempts.insert((item.id, epoch), attempt.abort_handle());
        self.tasks.spawn(async move {
            let Attempted { mut outcome, rest } = attempt.await.unwrap_or_else(|error| not_made(&error).into());
            if let Some(rest) = rest {
                // Before the outcome is told, which leads to the settlement that needs it.
                excerpts.keep(&mut outcome, rest);
            }
            handle.tell(Input::Answered { item, epoch, shard: destination.shard, outcome, jitter: mint::jitter() });
        });
    }

    /// Closes the connections of all attempts that have not been answered.
    fn break_off(&mut self) {
        tracing::warn!(
            attempts = self.attempts.len(),
            "attempts are broken off, because another replica may send for their destinations"
        );
        self.attempts.drain().for_each(|(_, attempt)| attempt.abort());
    }

    fn report(&self, health: Health) {
        self.under_way.begun(health.shard);
        let _ = self.reports.send(health);
    }

    /// Stores what the next owners have to know.
    fn report_last(&mut self) {
        for health in self.core.last_reports(self.clock.now_us()) {
            self.report(health);
        }
    }

    /// Looks in the tables for what the lines do not know of.
    fn find_next_due(&self) {
        // A database that is slow must not be asked ever more often at a time.
        let Ok(next) = Arc::clone(&self.next_look).try_lock_owned() else { return };
        let lanes = self.core.could_send(self.clock.now_us());
        let configuration = Arc::clone(&self.intake.configuration);
        self.tasks.spawn(look::look(self.pool.clone(), configuration, self.handle.clone(), next, lanes));
    }

    fn read_expedited(&self, destination: DestinationId, epoch: i64, asked: Vec<DeliveryId>) {
        let (pool, handle) = (self.pool.clone(), self.handle.clone());
        self.tasks.spawn(async move {
            let items = read::expedited(&pool, destination, &asked).await.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "cannot read deliveries that are to be sent at once; the next look tries again");
                Vec::new()
            });
            handle.tell(Input::Expedited { destination, epoch, asked, items });
        });
    }

    fn disable(&self, id: DestinationId, why: Disabling) {
        let intake = self.intake.clone();
        let (cause, reason) = match why {
            Disabling::Gone => (Cause::Gone, "the destination answered 410 (gone)".to_owned()),
            Disabling::Failing(run) => (Cause::Failing, failing_reason(run)),
        };
        self.tasks.spawn(async move {
            let disabled = async {
                if let Some(destination) = intake.configuration.current().destinations.get(&id) {
                    match operational::destination_disabled(&intake, destination, cause, &reason).await {
                        // What can never be told must not keep it from being disabled.
                        Err(error) if store::is_data_error(&error) => {
                            tracing::error!(error = %error, destination = %id, "the database refuses the event of its disabling");
                        }
                        told => told?,
                    }
                }
                store::destinations::disable(&intake.pool, id.uuid(), &reason).await
            };
            match disabled.await {
                Ok(Some(version)) => {
                    tracing::warn!(destination = %id, reason, "destination disabled; its deliveries are held");
                    let _ = intake.configuration.after(version).await;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = %error, destination = %id, "cannot disable; the next failure tries again");
                }
            }
        });
    }
}

/// The outcome of an attempt whose task has not ended by itself.
fn not_made(error: &tokio::task::JoinError) -> Outcome {
    let reason = if error.is_cancelled() {
        "the lease of this replica has ended, so the attempt was broken off; the destination may have received it"
            .to_owned()
    } else {
        error.to_string()
    };
    Outcome::NotSent { reason }
}

fn failing_reason(run: Run) -> String {
    let since = mint::timestamp(run.since_us / 1000);
    let since = since.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
    format!("all {} attempts since {since} have failed; mend the destination and resume it", run.failures)
}

/// Tells the engine of every new configuration, and looks for one if the look for what is due does not, because the database
/// is slow.
async fn watch_configuration(configuration: Arc<Configuration>, handle: Handle) {
    let mut changes = configuration.subscribe();
    let mut poll = tokio::time::interval(POLL);
    handle.tell(Input::Configured(configuration.current()));
    loop {
        tokio::select! {
            _ = changes.changed() => handle.tell(Input::Configured(configuration.current())),
            _ = poll.tick() => if configuration.compared_ago() > POLL + POLL / 4
                && let Err(error) = configuration.refresh().await
            {
                tracing::warn!(error = %error, "cannot look for a new configuration; trying again");
            },
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
