//! The delivery engine: sends due deliveries, at the pace each destination can take.
//!
//! Destinations hash to 256 shards, and a replica sends only for the shards it leases ([`lease`]). So one process alone
//! enforces the rate limit and the concurrency cap of a destination, exactly, and no row has to be claimed before it is
//! sent. [`engine`], which is pure, decides which deliveries to read, send and settle; the loop here carries its
//! decisions out. [`send`] makes an attempt, and [`settle`] writes many of them in one transaction. No transaction and
//! no pool connection is held while the relay waits for a destination.
//!
//! A crash at any point costs at most a repeated send: the row stays in the table until its attempt is settled, and the
//! next owner of the shard sends it again with the same `webhook-id`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use egress::Egress;
use engine::item::Item;
use engine::{Command, Core, Disabling, Input};
use futures_util::future::AbortHandle;
use model::health::Health;
use model::settlement::Settlement;
use shared::id::{DeliveryId, DestinationId};
use store::Pool;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::configuration::{Configuration, POLL};
use crate::engine_handle::Handle;
use crate::engine_handle::clock::Clock;
use crate::intake::Intake;
use crate::mint;
use crate::readiness::Readiness;
use crate::supervise::{self, Group};

mod answered;
mod disabling;
pub(crate) mod excerpts;
mod guarded;
pub mod lease;
pub(crate) mod load_health;
pub(crate) mod read;
mod redirect;
pub mod report;
pub(crate) mod request;
pub(crate) mod scan;
pub mod send;
pub mod settle;
pub(crate) mod versions;
mod workers;

use self::disabling::disable;
use self::excerpts::Excerpts;
use self::guarded::guarded;
use self::lease::InFlight;
use self::read::Read;
use self::scan::NextScan;
use self::send::{Attempted, Sender};

/// The most inputs handled before the commands they led to are carried out.
const INPUTS_AT_ONCE: usize = 256;

/// The components the engine works with.
pub struct Parts {
    /// The group in which the engine's tasks are spawned.
    pub tasks: Group,
    /// Is notified of each turn of the engine and each renewal of the lease.
    pub readiness: Arc<Readiness>,
    /// The database, the configuration, the evaluator, and the means to store operational events.
    pub intake: Intake,
    pub egress: Egress,
    /// Maximum number of attempts in flight, over all destinations.
    pub max_in_flight: usize,
    /// Maximum bytes of bodies that wait in memory to be sent, over all destinations.
    pub max_waiting_bytes: usize,
    /// Maximum bytes of large bodies of attempts in flight, over all destinations.
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
    /// Returns a handle to send inputs to the engine.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `stop` delivers a deadline. Then it sends nothing new, and waits until all attempts in flight are
    /// settled or the deadline has passed. Releases its shards before it returns, even if it panics.
    pub async fn run(self, parts: Parts, stop: oneshot::Receiver<Instant>) {
        let Self { handle, inbox } = self;
        let (pool, tasks) = (parts.intake.pool.clone(), parts.tasks.clone());
        let replica = mint::uuid();
        parts.readiness.leases_as(replica);
        let leaving = CancellationToken::new();
        let (machine, workers) = workers::start(handle, parts, replica, leaving.clone());
        let stopping = match supervise::caught(machine.run(inbox, stop, leaving)).await {
            Ok(until) => until,
            Err(panic) => {
                tasks.panicked("delivery engine", &*panic);
                None
            }
        };
        workers.end(stopping).await;
        if let Err(error) = store::leases::release(&pool, replica).await {
            tracing::warn!(
                %error,
                "could not release the shards; another replica takes them over when the lease expires"
            );
        }
    }
}

/// The core, and the parts that carry out its commands. The attempts in flight are aborted when it is dropped.
struct Machine {
    core: Core,
    clock: Clock,
    handle: Handle,
    sender: Arc<Sender>,
    settlements: Arc<mpsc::UnboundedSender<Settlement>>,
    reports: mpsc::UnboundedSender<Health>,
    reads: mpsc::UnboundedSender<Read>,
    excerpts: Arc<Excerpts>,
    /// The attempts in flight, with the epochs in which they were sent.
    attempts: HashMap<(DeliveryId, i64), AbortHandle>,
    in_flight: Arc<InFlight>,
    pool: Pool,
    intake: Intake,
    tasks: Group,
    readiness: Arc<Readiness>,
    /// Locked while a scan for the next due deliveries runs.
    next_scan: Arc<tokio::sync::Mutex<NextScan>>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its workers may end now, because their channels close with it.
        self.tasks.stop();
        self.attempts.drain().for_each(|(_, attempt)| attempt.abort());
    }
}

impl Machine {
    /// Runs until `stop` delivers a deadline, and then until that has passed or nothing is in flight. Returns the
    /// deadline.
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Input>,
        mut stop: oneshot::Receiver<Instant>,
        leaving: CancellationToken,
    ) -> Option<tokio::time::Instant> {
        let mut poll = tokio::time::interval(POLL);
        let mut stopping = None;
        loop {
            self.readiness.engine_turned();
            let wake = self.core.wake_at_us().map(|at_us| self.clock.timer(at_us));
            let mut inputs = Vec::new();
            tokio::select! {
                _ = inbox.recv_many(&mut inputs, INPUTS_AT_ONCE) => {}
                () = sleep_until(wake) => inputs.push(Input::Woken),
                _ = poll.tick() => self.find_next_due(),
                deadline = &mut stop, if stopping.is_none() => {
                    self.core.drain();
                    leaving.cancel();
                    // If the sender was dropped, stop at once.
                    stopping = Some(deadline.map_or_else(|_| tokio::time::Instant::now(), Into::into));
                }
                () = sleep_until(stopping), if stopping.is_some() => {
                    tracing::warn!(
                        in_flight = self.core.in_flight(),
                        "shutdown timed out; attempts in flight are aborted and sent again later"
                    );
                    break;
                }
            }
            self.take(inputs);
            if stopping.is_some() && self.core.is_idle() {
                break;
            }
        }
        // Before the shards are released: the next owners continue from these reports.
        self.report_last();
        stopping
    }

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
                        self.in_flight.start(settlement.shard);
                        self.settle(settlement);
                    }
                    Command::LoadHealth(lines) => {
                        self.tasks.spawn_short_task(
                            "load of the health of destinations",
                            load_health::run(self.pool.clone(), self.handle.clone(), lines),
                        );
                    }
                    Command::BreakOff => self.break_off(),
                    Command::Disable(destination, why) => self.disable(destination, why),
                    Command::Report(health) => self.report(*health),
                }
            }
            // If the attempt is not settled here, its excerpt is dropped.
            if let Some(attempt) = attempt {
                self.excerpts.take(attempt);
            }
            // Last, so that the shard is never counted as idle: the settlement was counted before the attempt is
            // discounted.
            self.in_flight.finish(answered);
            if let Some(until_us) = owned_until_us {
                self.in_flight.ownership_taken(until_us);
            }
        }
    }

    /// Hands a settlement to the writer: at once, or when the rest of the response's excerpt has arrived.
    fn settle(&self, mut settlement: Settlement) {
        let settlements = Arc::clone(&self.settlements);
        let rest = settlement.attempt.as_ref().and_then(|attempt| self.excerpts.take(attempt.id));
        let Some(rest) = rest else {
            let _ = settlements.send(settlement);
            return;
        };
        self.tasks.spawn_short_task("excerpt of an answer", async move {
            let excerpt = rest.finish(settlement.delivery_id).await;
            if let Some(attempt) = &mut settlement.attempt {
                attempt.response_excerpt = excerpt;
            }
            let _ = settlements.send(settlement);
        });
    }

    fn send(&mut self, item: Item, destination: &Arc<model::destination::Destination>, epoch: i64) {
        self.in_flight.start(destination.shard);
        let (sender, handle, destination) = (Arc::clone(&self.sender), self.handle.clone(), Arc::clone(destination));
        let excerpts = Arc::clone(&self.excerpts);
        let (abort, registration) = AbortHandle::new_pair();
        self.attempts.insert((item.id, epoch), abort);
        self.tasks.spawn_short_task("attempt", async move {
            let Attempted { mut outcome, rest } =
                guarded(item.id, sender.attempt(&item, &destination), registration).await;
            if let Some(rest) = rest {
                // Before the outcome is reported, because the settlement that follows needs the excerpt.
                excerpts.keep(item.id, &mut outcome, rest).await;
            }
            handle.tell(Input::Answered { item, epoch, shard: destination.shard, outcome, jitter: mint::jitter() });
        });
    }

    /// Closes the connections of all attempts that are still waiting for a response.
    fn break_off(&mut self) {
        tracing::warn!(
            attempts = self.attempts.len(),
            "attempts in flight are aborted, because another replica may already be sending to their destinations"
        );
        self.attempts.drain().for_each(|(_, attempt)| attempt.abort());
    }

    fn report(&self, health: Health) {
        self.in_flight.start(health.shard);
        let _ = self.reports.send(health);
    }

    /// Stores the final reports, from which the next owners continue.
    fn report_last(&mut self) {
        for health in self.core.last_reports(self.clock.now_us()) {
            self.report(health);
        }
    }

    /// Scans the tables for deliveries that the lines do not have.
    fn find_next_due(&self) {
        // At most one scan runs at a time, so that scans do not pile up on a slow database.
        let Ok(next) = Arc::clone(&self.next_scan).try_lock_owned() else { return };
        let lanes = self.core.could_send(self.clock.now_us());
        let configuration = Arc::clone(&self.intake.configuration);
        let scan = scan::scan(self.pool.clone(), configuration, self.handle.clone(), next, lanes);
        self.tasks.spawn_short_task("look for what is due", scan);
    }

    fn read_expedited(&self, destination: DestinationId, epoch: i64, asked: Vec<DeliveryId>) {
        let (pool, handle) = (self.pool.clone(), self.handle.clone());
        self.tasks.spawn_short_task("reader of what is to be sent at once", async move {
            let items = read::expedited(&pool, destination, &asked).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "could not read expedited deliveries; retrying");
                Vec::new()
            });
            handle.tell(Input::Expedited { destination, epoch, asked, items });
        });
    }

    fn disable(&self, destination: DestinationId, why: Disabling) {
        self.tasks.spawn_short_task("disabling of a destination", disable(self.intake.clone(), destination, why));
    }
}

/// Notifies the engine of every new configuration. If a slow database delays the scan, which also checks for a new
/// configuration, this task checks for one.
async fn watch_configuration(configuration: Arc<Configuration>, handle: Handle) {
    let mut changes = configuration.subscribe();
    let mut poll = tokio::time::interval(POLL);
    let destinations = || Arc::clone(&configuration.current().destinations);
    handle.tell(Input::Configured(destinations()));
    loop {
        tokio::select! {
            _ = changes.changed() => handle.tell(Input::Configured(destinations())),
            _ = poll.tick() => if configuration.compared_ago() > POLL + POLL / 4
                && let Err(error) = configuration.refresh().await
            {
                tracing::warn!(%error, "could not compare the configuration with the database; retrying");
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
