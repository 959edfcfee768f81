//! Stores arrivals: routes them, writes them in one transaction, and hands their deliveries to the engine.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::retry;
use expression::Evaluator;
use model::event::Verification;
use model::unix_time;
use model::unreadable::Reason;
use shared::id::EventId;
use store::Pool;
use store::admit::{Admitted, Batch, Held};
use store::configuration::Version;
use store::new_event::NewEvent;
use store::partitions::with_partitions;
use store::quarantine::Full;
use store::unreadable::NewUnreadable;
use time::Date;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::configuration::{Configuration, Snapshot};
use crate::engine_handle::Handle;
use crate::supervise;
use crate::waiters::{JobAddress, Waiters};
use crate::wall_clock::WallClock;

pub mod arrival;
pub mod message;
pub mod operational;
pub mod routing;

use self::arrival::{Plausible, Prepared};
use self::message::{Arrival, log_kept};
use self::routing::Routing;

/// How long the evaluation of the routes of a batch may take, including the time spent waiting for a turn. It is well
/// within the lease of the batch's messages.
pub(crate) const ROUTE_WITHIN: Duration = Duration::from_secs(20);

/// How long each database step of storing may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(70);

/// The number of rounds that may fail because the configuration has changed. After that, the configuration is locked
/// while routes are evaluated.
pub(crate) const HOLD_AFTER: u32 = 3;

/// How long routes may be evaluated while the configuration is locked: a change waits for that, and so does everything
/// that is stored after the change. PostgreSQL ends a transaction that idles for ten seconds.
pub(crate) const HOLD_WITHIN: Duration = Duration::from_secs(3);

/// Everything that is needed to store arrivals. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    pub pool: Pool,
    pub configuration: Arc<Configuration>,
    pub evaluator: Arc<Evaluator>,
    pub engine: Handle,
    pub clock: Arc<WallClock>,
    /// For how many days another event with the same key is a copy.
    pub dedupe_days: i32,
    /// Days whose partitions are known to exist.
    pub days: Arc<Mutex<HashSet<Date>>>,
    /// Locked while the configuration is locked: one batch at a time, because it takes two connections.
    pub holding: Arc<tokio::sync::Mutex<()>>,
    /// Wakes [`crate::unreadable`], which tries unreadable messages again.
    pub unreadable_due: Arc<Notify>,
    /// Wakes [`crate::held`], which reports deliveries that have begun to be held.
    pub held: Arc<Notify>,
    /// The calls that wait for an event of a job.
    pub waiters: Arc<Waiters>,
}

/// The result of storing one arrival.
#[derive(Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored, now or earlier.
    Done,
    /// It cannot be stored as an event or a rejection. Nothing was written.
    Unreadable(Reason, String),
}

/// Why nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum NotStored {
    #[error(transparent)]
    Failed(#[from] store::Error),
    /// The database took longer than [`STORE_TIMEOUT`].
    #[error("the database took longer than {} s", STORE_TIMEOUT.as_secs())]
    TookTooLong,
}

impl From<NotStored> for store::Error {
    fn from(error: NotStored) -> Self {
        match error {
            NotStored::Failed(error) => error,
            NotStored::TookTooLong => Self::took_longer_than(STORE_TIMEOUT),
        }
    }
}

impl Intake {
    /// Stores everything or nothing: events with their deliveries, and messages that cannot be stored as events as
    /// unreadable messages. It can be repeated: whatever is stored already is recognised by its id.
    ///
    /// # Errors
    /// Returns an error if the database does not answer in time, or rejects some of the data (see
    /// [`store::Error::is_data_error`]).
    pub async fn store(&self, arrivals: &[Arrival], unreadable: &[NewUnreadable]) -> Result<(), NotStored> {
        let plausible = Plausible::from_queue(in_time(self.clock.now_ms()).await?);
        let stored = self.admit(arrivals, plausible, |prepared| {
            // Copies: this future may be dropped before anything is stored.
            prepared.batch.unreadable = unreadable.to_vec();
            for (at, reason, detail) in &prepared.unreadable {
                let kept = arrivals[*at].unreadable(*reason, detail, plausible.now_ms);
                log_kept(&kept);
                prepared.batch.unreadable.push(kept);
            }
            Ok::<(), Infallible>(())
        });
        stored.await.map(drop)
    }

    /// Stores one arrival, or returns why it cannot be stored as an event or a rejection.
    ///
    /// # Errors
    /// As [`Intake::store`].
    pub async fn store_one(&self, arrival: Arrival, plausible: Plausible) -> Result<Stored, NotStored> {
        let arrivals = [arrival];
        let stored = self.admit(&arrivals, plausible, |prepared| match prepared.unreadable.pop() {
            Some((_, reason, detail)) => Err(Stored::Unreadable(reason, detail)),
            None => Ok(()),
        });
        Ok(stored.await?.err().unwrap_or(Stored::Done))
    }

    /// Routes and stores. If `check` refuses, its error is returned and nothing is written.
    ///
    /// If the configuration changes concurrently, the routes of the changed sources are evaluated again. After
    /// [`HOLD_AFTER`] rounds the configuration is locked during the evaluation, so that a constant stream of changes
    /// cannot keep arrivals from being stored.
    async fn admit<E>(
        &self,
        arrivals: &[Arrival],
        plausible: Plausible,
        mut check: impl FnMut(&mut Prepared) -> Result<(), E>,
    ) -> Result<Result<(), E>, NotStored> {
        let until = Instant::now() + ROUTE_WITHIN;
        let mut snapshot = in_time(self.snapshot_for(arrivals)).await?;
        let mut routing = Routing::of(arrivals.len());
        let mut round = 0;
        loop {
            let turn = if round >= HOLD_AFTER { Some(self.holding.lock().await) } else { None };
            let held = match &turn {
                Some(_) => Some(in_time(store::admit::hold(&self.pool)).await?),
                None => None,
            };
            let until = match &held {
                Some(held) => {
                    snapshot = in_time(self.configuration.after(held.version())).await?;
                    until.min(Instant::now() + HOLD_WITHIN)
                }
                None => until,
            };
            let span = tracing::debug_span!("route", messages = arrivals.len());
            routing.evaluate(arrivals, &snapshot, &self.evaluator, until).instrument(span).await;
            let mut prepared = arrival::prepare(arrivals, &snapshot, &routing, plausible);
            if let Err(refused) = check(&mut prepared) {
                return Ok(Err(refused));
            }
            match in_time(self.write(&prepared.batch, snapshot.version, held, plausible.now_ms)).await? {
                Admitted::StaleConfiguration => {
                    // Before the configuration is read, so that it is as new as possible.
                    tokio::time::sleep(retry::stale_pause(round)).await;
                    snapshot = in_time(self.configuration.refresh()).await?;
                    round += 1;
                }
                Admitted::Stored { stored, copies, full } => {
                    tracing::debug!(events = stored.len(), copies, "events were stored");
                    self.wake(&prepared.batch.events, &stored);
                    if prepared.batch.events.iter().any(NewEvent::has_held_delivery) {
                        self.held.notify_one();
                    }
                    self.engine.fresh(prepared.fresh(&stored));
                    for (destination, wait) in prepared.later(&stored) {
                        self.engine.later(destination, wait);
                    }
                    for full in full {
                        self.quarantine_full(&snapshot, full).await;
                    }
                    return Ok(Ok(()));
                }
            }
        }
    }

    /// Wakes the calls of this relay that wait for a job of these events, without the detour over the database.
    fn wake(&self, events: &[NewEvent], stored: &HashSet<EventId>) {
        let is_shown = |event: &&NewEvent| stored.contains(&event.id) && event.verification != Verification::Failed;
        let jobs = events.iter().filter(is_shown).filter_map(|event| Some((event.source_id, event.job.as_ref()?)));
        jobs.for_each(|(source, job)| self.waiters.wake(JobAddress::of(source, &job.key)));
    }

    /// Reports that the quarantine of a source is full. If the report cannot be stored, it is repeated when the count
    /// has doubled.
    async fn quarantine_full(&self, snapshot: &Snapshot, full: Full) {
        let Some(source) = snapshot.sources.get(&full.source_id) else { return };
        tracing::warn!(
            source = %source.id,
            name = source.name,
            "the quarantine of a source is full; until the next hour, events that fail verification are counted but \
             not stored"
        );
        match supervise::row(operational::quarantine_full(self, source, full.hour)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, source = %source.id, "could not store an operational event"),
            // The batch that filled the quarantine has been stored already.
            Err(panic) => {
                tracing::error!(
                    error = %panic,
                    source = %source.id,
                    "the relay panicked while storing an operational event; the event was dropped"
                );
            }
        }
    }

    /// The newest snapshot; it is read again if it lacks the source of an arrival.
    async fn snapshot_for(&self, arrivals: &[Arrival]) -> store::Result<Arc<Snapshot>> {
        let snapshot = self.configuration.current();
        if arrivals.iter().any(|arrival| arrival.source().is_some_and(|id| !snapshot.sources.contains_key(&id))) {
            return self.configuration.refresh().await;
        }
        Ok(snapshot)
    }

    async fn write(&self, batch: &Batch, version: Version, held: Option<Held>, now_ms: u64) -> store::Result<Admitted> {
        let mut days: Vec<Date> =
            batch.events.iter().map(|event| unix_time::timestamp(event.id.minted_at_ms()).date()).collect();
        days.push(unix_time::timestamp(now_ms).date());
        days.sort_unstable();
        days.dedup();
        for day in days {
            let known = self.days.lock().is_ok_and(|days| days.contains(&day));
            if !known {
                store::partitions::create_day(&self.pool, day).await?;
                if let Ok(mut days) = self.days.lock() {
                    days.insert(day);
                }
            }
        }
        match held {
            Some(held) => held.admit(batch, version, self.dedupe_days).await,
            None => with_partitions!(&self.pool, store::admit::admit(&self.pool, batch, version, self.dedupe_days)),
        }
    }
}

/// Waits for the database. The evaluation of routes is not covered; it has its own limit.
async fn in_time<T>(asked: impl Future<Output = store::Result<T>>) -> Result<T, NotStored> {
    match tokio::time::timeout(STORE_TIMEOUT, asked).await {
        Ok(answered) => answered.map_err(NotStored::Failed),
        Err(_) => Err(NotStored::TookTooLong),
    }
}
