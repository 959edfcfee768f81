//! Stores what has arrived: routes it, writes it in one transaction, and hands its deliveries to the engine.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use time::Date;
use tokio::sync::Notify;

use crate::configuration::{Configuration, Snapshot};
use crate::deliver::Handle;
use crate::expression::Evaluator;
use crate::pull::arrival::{self, Arrival, Plausible, Prepared};
use crate::store::Pool;
use crate::store::admit::{Admitted, Batch};
use crate::store::configuration::Version;
use crate::store::partitions::with_partitions;
use crate::store::unreadable::{NewUnreadable, Reason};
use crate::wall_clock::WallClock;
use crate::{mint, retry, store};

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
    /// Wakes [`crate::unreadable`], which tries unreadable messages again.
    pub unreadable_due: Arc<Notify>,
}

/// What became of an arrival that was stored by itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored, now or before.
    Done,
    /// It cannot be stored as what it is; nothing was written.
    Unreadable(Reason, String),
}

impl Intake {
    /// Stores all of it, or nothing: events with their deliveries, and what cannot be stored as what it is as an unreadable
    /// message. It can be repeated: what is stored already is found by its id.
    ///
    /// # Errors
    /// Returns an error if the database does not answer, or refuses some of it (see [`store::is_data_error`]).
    pub async fn store(&self, arrivals: &[Arrival], unreadable: &[NewUnreadable]) -> Result<(), sqlx::Error> {
        let plausible = Plausible::from_queue(self.clock.now_ms().await?);
        let stored = self.admit(arrivals, plausible, |prepared| {
            // Copies: this future may be dropped before anything is stored.
            prepared.batch.unreadable = unreadable.to_vec();
            for (at, reason, detail) in &prepared.unreadable {
                tracing::error!(reason = reason.name(), detail, "a message is kept as unreadable");
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
    pub async fn store_one(&self, arrival: Arrival, plausible: Plausible) -> Result<Stored, sqlx::Error> {
        let arrivals = [arrival];
        let stored = self.admit(&arrivals, plausible, |prepared| match prepared.unreadable.pop() {
            Some((_, reason, detail)) => Err(Stored::Unreadable(reason, detail)),
            None => Ok(()),
        });
        Ok(stored.await?.err().unwrap_or(Stored::Done))
    }

    /// Routes and stores. What `check` refuses is returned, and nothing is written.
    async fn admit<E>(
        &self,
        arrivals: &[Arrival],
        plausible: Plausible,
        mut check: impl FnMut(&mut Prepared) -> Result<(), E>,
    ) -> Result<Result<(), E>, sqlx::Error> {
        let mut snapshot = self.snapshot_for(arrivals).await?;
        let mut round = 0;
        loop {
            // The routes are asked again only if the configuration has changed. The pause bounds what it costs if it is
            // changed without end.
            tokio::time::sleep(retry::stale_pause(round)).await;
            let mut prepared = arrival::prepare(arrivals, &snapshot, &self.evaluator, plausible).await;
            if let Err(refused) = check(&mut prepared) {
                return Ok(Err(refused));
            }
            match self.write(&prepared.batch, snapshot.version, plausible.now_ms).await? {
                Admitted::StaleConfiguration => snapshot = self.configuration.refresh().await?,
                Admitted::Stored { stored, duplicates } => {
                    tracing::debug!(stored = stored.len(), duplicates, "stored");
                    self.engine.fresh(prepared.fresh(&stored));
                    return Ok(Ok(()));
                }
            }
            round += 1;
        }
    }

    /// The newest snapshot, read again if it lacks the source of an arrival.
    async fn snapshot_for(&self, arrivals: &[Arrival]) -> Result<Arc<Snapshot>, sqlx::Error> {
        let snapshot = self.configuration.current();
        if arrivals.iter().any(|arrival| arrival.source().is_some_and(|id| !snapshot.sources.contains_key(&id))) {
            return self.configuration.refresh().await;
        }
        Ok(snapshot)
    }

    async fn write(&self, batch: &Batch, version: Version, now_ms: u64) -> Result<Admitted, sqlx::Error> {
        let mut days: Vec<Date> =
            batch.events.iter().map(|event| mint::timestamp(shared::id::uuid_v7_ms(event.id)).date()).collect();
        days.push(mint::timestamp(now_ms).date());
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
        with_partitions!(&self.pool, store::admit::admit(&self.pool, batch, version, self.dedupe_days))
    }
}
