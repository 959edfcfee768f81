//! The pull loop: lease messages from the queue, store them, acknowledge them.
//!
//! The acknowledgement is the last thing that happens. A crash anywhere before it costs nothing: the lease runs out, the
//! message returns, and storing finds what is there already. While the database does not answer, the loop keeps what it
//! has pulled and tries again instead of pulling more, because every lease that runs out counts towards the queue's
//! limit of retries.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shared::envelope::{self, Body, Message};
use sqlx::PgPool;
use time::Date;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::configuration::Configuration;
use crate::deliver::Handle;
use crate::edge::{Edge, FetchBodyError};
use crate::expression::Evaluator;
use crate::retry::pull_backoff;
use crate::store::admit::{Admitted, Batch, NewQuarantined};
use crate::{mint, store};

pub mod api;
pub mod arrival;
pub mod pace;

use self::api::{Leased, LeasedBody, Queue};
use self::arrival::Arrival;
use self::pace::Pace;

/// How soon a message comes back whose body could not be fetched.
const HAND_BACK: Duration = Duration::from_secs(10);

/// What pulls one queue.
pub struct Puller {
    pub queue: Queue,
    pub pool: PgPool,
    pub configuration: Arc<Configuration>,
    pub evaluator: Arc<Evaluator>,
    pub edge: Edge,
    pub engine: Handle,
    pub dedupe_days: i32,
    /// Days whose partitions are known to exist.
    pub days: Arc<Mutex<HashSet<Date>>>,
}

/// What became of one pull.
enum Pulled {
    Messages(usize),
    Failed(api::Error),
}

impl Puller {
    /// Pulls until `stop`; what has been leased by then is still stored and acknowledged.
    pub async fn run(self: Arc<Self>, idle: Duration, stop: CancellationToken) {
        let mut pace = Pace::new(idle);
        let mut backoff = pull_backoff();
        let mut pulls = JoinSet::new();
        while !stop.is_cancelled() {
            while pulls.len() < pace.pulls_at_once() {
                pulls.spawn(Arc::clone(&self).pull_once(stop.clone()));
            }
            let Some(pulled) = pulls.join_next().await else { continue };
            let pause = match pulled {
                Ok(Pulled::Messages(count)) => {
                    backoff.reset();
                    pace.after(count)
                }
                Ok(Pulled::Failed(error)) => {
                    let pause = match &error {
                        api::Error::Status { retry_after: Some(pause), .. } => *pause,
                        api::Error::Status { .. }
                        | api::Error::Unreachable(_)
                        | api::Error::PullNotEnabled { .. }
                        | api::Error::Forbidden { .. }
                        | api::Error::NotFound { .. }
                        | api::Error::Format(_) => backoff.next_pause(mint::jitter()),
                    };
                    pace.after(0);
                    tracing::warn!(
                        queue = self.queue.id(),
                        pause_ms = u64::try_from(pause.as_millis()).unwrap_or(0),
                        "{error}"
                    );
                    pause
                }
                Err(panicked) => {
                    tracing::error!(error = %panicked, "a pull ended abnormally; its messages return to the queue");
                    backoff.next_pause(mint::jitter())
                }
            };
            if !pause.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        while pulls.join_next().await.is_some() {}
    }

    async fn pull_once(self: Arc<Self>, stop: CancellationToken) -> Pulled {
        let leased = match self.queue.pull().await {
            Ok(leased) if leased.is_empty() => return Pulled::Messages(0),
            Ok(leased) => leased,
            Err(error) => return Pulled::Failed(error),
        };
        let count = leased.len();
        let mut arrivals = Vec::with_capacity(count);
        let mut done = Vec::with_capacity(count);
        let mut hand_back = Vec::new();
        let mut quarantined = Vec::new();
        let mut fetched = Vec::new();
        for message in leased {
            match self.read(&message).await {
                Read::Arrived(arrival, key) => {
                    arrivals.push(*arrival);
                    fetched.extend(key);
                    done.push(message.lease_id);
                }
                Read::Unreadable { reason, raw } => {
                    tracing::error!(message = message.message_id, reason, "a message is quarantined");
                    quarantined.push(quarantine(&message.message_id, reason, raw));
                    done.push(message.lease_id);
                }
                Read::Later => hand_back.push(message.lease_id),
            }
        }
        if !self.store(arrivals, quarantined, &stop).await {
            // Stopping while the database does not answer: the leases run out and the messages return.
            return Pulled::Messages(count);
        }
        if let Err(error) = self.queue.acknowledge(&done, &hand_back, HAND_BACK).await {
            tracing::warn!(
                queue = self.queue.id(),
                messages = done.len(),
                "stored but not acknowledged, they return and are found stored: {error}"
            );
            return Pulled::Messages(count);
        }
        for key in fetched {
            // Left behind it costs storage and nothing else; the bucket's lifecycle rule takes it.
            if let Err(error) = self.edge.delete_body(&key).await {
                tracing::warn!(key, "a stored body was not deleted from the edge: {error}");
            }
        }
        Pulled::Messages(count)
    }

    async fn read(&self, message: &Leased) -> Read {
        let text = match &message.body {
            LeasedBody::Text(text) => text,
            LeasedBody::Unreadable { raw, reason } => {
                return Read::Unreadable { reason: reason.clone(), raw: raw.clone() };
            }
        };
        match envelope::decode(text) {
            Ok(Message::Rejection(sample)) => {
                Read::Arrived(Box::new(Arrival::Rejection(message.message_id.clone(), sample, text.clone())), None)
            }
            Ok(Message::Event(header, Body::Inline(body))) => {
                Read::Arrived(Box::new(Arrival::Event(message.message_id.clone(), header, body)), None)
            }
            Ok(Message::Event(header, Body::Stored { key, size, sha256 })) => {
                match self.edge.fetch_body(&key, size, &sha256).await {
                    Ok(body) => {
                        Read::Arrived(Box::new(Arrival::Event(message.message_id.clone(), header, body)), Some(key))
                    }
                    Err(FetchBodyError::Gone(reason)) => Read::Unreadable { reason, raw: text.clone() },
                    Err(FetchBodyError::Later(reason)) => {
                        tracing::warn!(event = %header.id, "its body cannot be fetched from the edge now; the message is handed back: {reason}");
                        Read::Later
                    }
                }
            }
            Err(error) => Read::Unreadable { reason: error.to_string(), raw: text.clone() },
        }
    }

    /// Stores all of it; returns false only when it is told to stop while the database does not answer.
    async fn store(&self, arrivals: Vec<Arrival>, quarantined: Vec<NewQuarantined>, stop: &CancellationToken) -> bool {
        let mut quarantined = Some(quarantined);
        let mut waiting = vec![arrivals];
        while let Some(group) = waiting.pop() {
            let mut backoff = pull_backoff();
            let also = quarantined.take().unwrap_or_default();
            let mut batch = Batch { quarantined: also, ..Batch::default() };
            loop {
                let error = match self.try_store(&group, &mut batch).await {
                    Ok(()) => break,
                    Err(error) => error,
                };
                // Nothing but quarantine rows is left of an empty group: those are never refused for what they hold.
                if store::is_data_error(&error) && !group.is_empty() {
                    if group.len() > 1 {
                        // One of them is to blame; the others must not wait for it.
                        tracing::warn!(error = %error, messages = group.len(), "a batch was refused by the database; halving it");
                        quarantined = Some(std::mem::take(&mut batch.quarantined));
                        let mut first = group;
                        let second = first.split_off(first.len() / 2);
                        waiting.extend([first, second]);
                        break;
                    }
                    let reason = format!("the database refused it: {error}");
                    batch.quarantined.extend(group.iter().map(|arrival| arrival.quarantined(&reason)));
                    waiting.push(Vec::new());
                    quarantined = Some(std::mem::take(&mut batch.quarantined));
                    tracing::error!(reason, "a message is quarantined");
                    break;
                }
                tracing::warn!(error = %error, messages = group.len(), "cannot store; trying again");
                tokio::select! {
                    () = tokio::time::sleep(backoff.next_pause(mint::jitter())) => {}
                    () = stop.cancelled() => return false,
                }
            }
        }
        true
    }

    async fn try_store(&self, arrivals: &[Arrival], batch: &mut Batch) -> Result<(), sqlx::Error> {
        let mut snapshot = self.configuration.current();
        if arrivals.iter().any(|arrival| arrival.source().is_some_and(|id| !snapshot.sources.contains_key(&id))) {
            snapshot = self.configuration.refresh().await?;
        }
        loop {
            let mut prepared = arrival::prepare(arrivals, &snapshot, &self.evaluator, mint::now_ms()).await;
            let own_quarantined = prepared.batch.quarantined.len();
            prepared.batch.quarantined.append(&mut batch.quarantined);
            let result = self.admit(&prepared.batch, snapshot.revision).await;
            // What came in with the batch stays with the caller until it is stored.
            batch.quarantined = prepared.batch.quarantined.split_off(own_quarantined);
            match result? {
                Admitted::RoutedByOldConfiguration { revision } => {
                    snapshot = self.configuration.at_least(revision).await?;
                }
                Admitted::Stored { stored, duplicates } => {
                    batch.quarantined.clear();
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

enum Read {
    /// With the key of the body in the edge's storage, where it was there.
    Arrived(Box<Arrival>, Option<String>),
    Unreadable {
        reason: String,
        raw: String,
    },
    Later,
}

fn quarantine(message_id: &str, reason: String, raw: String) -> NewQuarantined {
    NewQuarantined {
        id: mint::uuid(),
        queue_message_id: message_id.replace('\0', ""),
        reason: reason.replace('\0', ""),
        message: raw.into_bytes(),
    }
}
