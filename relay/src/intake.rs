//! Stores what has arrived: routes it, writes it in one transaction, and hands its deliveries to the engine.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use sqlx::PgPool;
use time::Date;

use crate::configuration::Configuration;
use crate::deliver::Handle;
use crate::expression::Evaluator;
use crate::pull::arrival::{self, Arrival};
use crate::store::admit::{Admitted, Batch, NewQuarantined};
use crate::{mint, store};

/// What it takes to store. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    pub pool: PgPool,
    pub configuration: Arc<Configuration>,
    pub evaluator: Arc<Evaluator>,
    pub engine: Handle,
    /// For how many days an event with the same key is a duplicate.
    pub dedupe_days: i32,
    /// Days whose partitions are known to exist.
    pub days: Arc<Mutex<HashSet<Date>>>,
}

impl Intake {
    /// Stores all of it, or nothing. It can be repeated: what is stored already is found by its id.
    ///
    /// # Errors
    /// Where the database cannot be asked, or refuses some of it (see [`store::is_data_error`]).
    pub async fn store(&self, arrivals: &[Arrival], quarantined: &[NewQuarantined]) -> Result<(), sqlx::Error> {
        let mut snapshot = self.configuration.current();
        if arrivals.iter().any(|arrival| arrival.source().is_some_and(|id| !snapshot.sources.contains_key(&id))) {
            snapshot = self.configuration.refresh().await?;
        }
        loop {
            let mut prepared = arrival::prepare(arrivals, &snapshot, &self.evaluator, mint::now_ms()).await;
            // Copies: this future may be dropped before anything is stored.
            prepared.batch.quarantined.extend(quarantined.iter().cloned());
            match self.admit(&prepared.batch, snapshot.revision).await? {
                Admitted::RoutedByOldConfiguration { revision } => {
                    snapshot = self.configuration.at_least(revision).await?;
                }
                Admitted::Stored { stored, duplicates } => {
                    tracing::debug!(stored = stored.len(), duplicates, "stored");
                    self.engine.fresh(prepared.fresh(&stored));
                    return Ok(());
                }
            }
        }
    }

    async fn admit(&self, batch: &Batch, revision: i64) -> Result<Admitted, sqlx::Error> {
        let mut days: Vec<Date> =
            batch.events.iter().map(|event| mint::timestamp(shared::id::uuid_v7_ms(event.id)).date()).collect();
        days.push(time::OffsetDateTime::now_utc().date());
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
        store::admit::admit(&self.pool, batch, revision, self.dedupe_days).await
    }
}
