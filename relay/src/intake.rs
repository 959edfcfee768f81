//! Stores what has arrived: routes it, writes it in one transaction, and hands its deliveries to the engine.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::retry;
use expression::Evaluator;
use model::unix_time;
use model::unreadable::Reason;
use shared::id::SourceId;
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
use crate::wall_clock::WallClock;

pub mod arrival;
pub mod message;
pub mod operational;
pub mod routing;

use self::arrival::{Plausible, Prepared};
use self::message::Arrival;
use self::routing::Routing;

/// How long the routes of a batch may take to answer, the time in which they wait for their turn included: well within the
/// lease of its messages.
pub(crate) const ROUTE_WITHIN: Duration = Duration::from_secs(20);

/// How long the database may take for one of the steps of storing.
const STORE_TIMEOUT: Duration = Duration::from_secs(70);

/// After how many rounds, each of which was in vain because the configuration had changed, it is held while routes are
/// asked.
pub(crate) const HOLD_AFTER: u32 = 3;

/// How long routes may be asked while the configuration is held: a change waits for that, and so does everything that is
/// stored after the change. PostgreSQL ends a transaction that idles for ten seconds.
pub(crate) const HOLD_WITHIN: Duration = Duration::from_secs(3);

/// What it takes to store. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    pub pool: Pool,
    pub configuration: Arc<Configuration>,
    pub evaluator: Arc<Evaluator>,
    pub engine: Handle,
    pub clock: Arc<WallClock>,
    /// For how many days an event with the same key is a duplicate.
    pub dedupe_days: i32,
    /// Days whose partitions are known to exist.
    pub days: Arc<Mutex<HashSet<Date>>>,
    /// Held while the configuration is held: by one batch at a time, because it takes two connections.
    pub holding: Arc<tokio::sync::Mutex<()>>,
    /// Wakes [`crate::unreadable`], which tries unreadable messages again.
    pub unreadable_due: Arc<Notify>,
    /// Wakes [`crate::held`], which tells of deliveries that have begun to be held.
    pub held: Arc<Notify>,
}

/// What became of an arrival that was stored by itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored, now or before.
    Done,
    /// It cannot be stored as what it is; nothing was written.
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
    /// Stores all of it, or nothing: events with their deliveries, and what cannot be stored as what it is as an unreadable
    /// message. It can be repeated: what is stored already is found by its id.
    ///
    /// # Errors
    /// Returns an error if the database does not answer in time, or refuses some of it (see
    /// [`store::Error::is_data_error`]).
    pub async fn store(&self, arrivals: &[Arrival], unreadable: &[NewUnreadable]) -> Result<(), NotStored> {
        let plausible = Plausible::from_queue(in_time(self.clock.now_ms()).await?);
        let stored = self.admit(arrivals, plausible, |prepared| {
            // Copies: this future may be dropped before anything is stored.
            prepared.batch.unreadable = unreadable.to_vec();
            for (at, reason, detail) in &prepared.unreadable {
                tracing::error!(
                    kind = reason.name(),
                    error = detail,
                    "a message could not be stored as an event and was kept as an unreadable message; see \
                     GET /v1/unreadable-messages"
                );
                prepared.batch.unreadable.push(arrivals[*at].unreadable(*reason, detail, plausible.now_ms));
            }
            Ok::<(), Infallible>(())
        });
        stored.await.map(drop)
    }

    /// Stores one arrival, or says why it cannot be stored as what it is.
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

    /// Routes and stores. What `check` refuses is returned, and nothing is written.
    ///
    /// If the configuration changes meanwhile, the routes of the sources that have changed are asked again. After
    /// [`HOLD_AFTER`] rounds the configuration is held while they are asked, so that changes without end do not keep
    /// anything from being stored.
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
                    // Before the configuration is read, so that what is read is as new as it can be.
                    tokio::time::sleep(retry::stale_pause(round)).await;
                    snapshot = in_time(self.configuration.refresh()).await?;
                    round += 1;
                }
                Admitted::Stored { stored, copies, full } => {
                    tracing::debug!(events = stored.len(), copies, "events were stored");
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

    /// Says that a source keeps no more of what fails. If that is not stored, it is told again when the count has doubled.
    async fn quarantine_full(&self, snapshot: &Snapshot, full: Full) {
        let Some(source) = snapshot.sources.get(&SourceId::from_uuid(full.source_id)) else { return };
        tracing::warn!(
            source = %source.id,
            name = source.name,
            "the quarantine of a source is full; until the next hour, events that fail verification are counted but \
             not stored"
        );
        match supervise::row(operational::quarantine_full(self, source, full.hour)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, source = %source.id, "could not store an operational event"),
            // What called this has been stored.
            Err(panic) => {
                tracing::error!(
                    error = %panic,
                    source = %source.id,
                    "the relay panicked while storing an operational event; the event was dropped"
                );
            }
        }
    }

    /// The newest snapshot, read again if it lacks the source of an arrival.
    async fn snapshot_for(&self, arrivals: &[Arrival]) -> store::Result<Arc<Snapshot>> {
        let snapshot = self.configuration.current();
        if arrivals.iter().any(|arrival| arrival.source().is_some_and(|id| !snapshot.sources.contains_key(&id))) {
            return self.configuration.refresh().await;
        }
        Ok(snapshot)
    }

    async fn write(&self, batch: &Batch, version: Version, held: Option<Held>, now_ms: u64) -> store::Result<Admitted> {
        let mut days: Vec<Date> =
            batch.events.iter().map(|event| unix_time::timestamp(shared::id::uuid_v7_ms(event.id)).date()).collect();
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

/// Waits for the database. It does not cover the time in which routes are asked, which has a limit of its own.
async fn in_time<T>(asked: impl Future<Output = store::Result<T>>) -> Result<T, NotStored> {
    match tokio::time::timeout(STORE_TIMEOUT, asked).await {
        Ok(answered) => answered.map_err(NotStored::Failed),
        Err(_) => Err(NotStored::TookTooLong),
    }
}
