//! The pull loop: lease messages from the queue, store them, acknowledge them.
//!
//! The acknowledgement is the last thing that happens. A crash anywhere before it costs nothing: the lease runs out, the
//! message returns, and storing finds what is there already. While the database does not answer, the loop keeps what it
//! has pulled and tries again instead of pulling more, because every lease that runs out counts towards the queue's
//! limit of retries.

use std::sync::Arc;
use std::time::Duration;

use shared::envelope::{self, Body, EventHeader, Message, SecretHandedOver};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::edge::{Edge, FetchError};
use crate::intake::Intake;
use crate::retry::{database_backoff, pull_backoff};
use crate::store::admit::NewQuarantined;
use crate::{mint, store};

pub mod api;
pub mod arrival;
pub mod batch_size;
pub mod handover;
pub mod leased;
pub mod pace;
pub mod queue_settings;
mod unreadable;

use self::api::{Leased, LeasedBody, Queue};
use self::arrival::Arrival;
use self::batch_size::BatchSize;
use self::handover::Handover;
use self::pace::Pace;

/// How long the large bodies and the secrets of one pull may take to be fetched: well within the lease of their messages.
const FETCH_WITHIN: Duration = Duration::from_secs(30);

/// How long storing may take before it is tried again. It can be repeated: what is stored is found by its id.
const PATIENCE: Duration = Duration::from_secs(70);

/// Large bodies that are in memory at one time.
pub const LARGE_BODIES: usize = 4;

/// What pulls one queue.
pub struct Puller {
    pub queue: Queue,
    pub intake: Intake,
    pub edge: Edge,
    /// Bounds how many large bodies are in memory; shared by all queues.
    pub large_bodies: Arc<Semaphore>,
    pub handover: Handover,
}

/// What became of one pull of `asked` messages.
enum Pulled {
    Messages {
        asked: usize,
        found: usize,
    },
    /// One message made its answer unreadable. It was kept and acknowledged.
    KeptApart,
    Failed {
        asked: usize,
        error: api::Error,
    },
}

impl Puller {
    /// Pulls until `stop`; what has been leased by then is still stored and acknowledged.
    pub async fn run(self: Arc<Self>, idle: Duration, stop: CancellationToken) {
        let mut pace = Pace::new(idle);
        let mut batch = BatchSize::default();
        let mut backoff = pull_backoff();
        let mut pulls = JoinSet::new();
        while !stop.is_cancelled() {
            while pulls.len() < pace.pulls_at_once() {
                pulls.spawn(Arc::clone(&self).pull_once(batch.get(), stop.clone()));
            }
            let Some(pulled) = pulls.join_next().await else { continue };
            let now = std::time::Instant::now();
            let pause = match pulled {
                Ok(Pulled::Messages { asked, found }) => {
                    backoff.reset();
                    batch.succeeded(asked, found, now);
                    pace.after(asked, found)
                }
                Ok(Pulled::KeptApart) => {
                    // There may be more of its kind: messages that are pulled alone do not harm one another.
                    batch.failed(1, now);
                    backoff.reset();
                    pace.after(1, 1)
                }
                Ok(Pulled::Failed { asked, error }) => {
                    let pause = match &error {
                        api::Error::Status { retry_after: Some(pause), .. } => *pause,
                        api::Error::Unread(_) => {
                            batch.failed(asked, now);
                            backoff.next_pause(mint::jitter())
                        }
                        api::Error::Status { .. }
                        | api::Error::Unreachable(_)
                        | api::Error::PullNotEnabled { .. }
                        | api::Error::Forbidden { .. }
                        | api::Error::NotFound { .. } => backoff.next_pause(mint::jitter()),
                    };
                    pace.after(asked, 0);
                    tracing::warn!(
                        queue = self.queue.id(),
                        pause_ms = u64::try_from(pause.as_millis()).unwrap_or(0),
                        asked,
                        next = batch.get(),
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

    async fn pull_once(self: Arc<Self>, asked: usize, stop: CancellationToken) -> Pulled {
        let leased = match self.queue.pull(asked).await {
            Ok(leased) if leased.is_empty() => return Pulled::Messages { asked, found: 0 },
            Ok(leased) => leased,
            Err(api::Error::Unread(unread)) if asked == 1 => return self.keep_apart(unread, &stop).await,
            Err(error) => return Pulled::Failed { asked, error },
        };
        let count = leased.len();
        let deadline = Instant::now() + FETCH_WITHIN;
        let mut small = Group::default();
        let mut large = Vec::new();
        for message in leased {
            match decode(&message) {
                Decoded::Arrived(arrival) => small.arrivals.push(*arrival),
                Decoded::Unreadable { reason, raw } => {
                    tracing::error!(message = message.message_id, reason, "a message is quarantined");
                    small.quarantined.push(quarantine(&message.message_id, reason, raw));
                }
                Decoded::Stored(header, stored) => {
                    large.push((message, *header, stored));
                    continue;
                }
                // First, because what is signed with it comes after it; and handed out again where that fails.
                Decoded::Secret { handed_over, raw } => {
                    let taken = tokio::time::timeout_at(deadline, self.handover.take(&handed_over)).await;
                    match taken.unwrap_or_else(|_| Err(FetchError::Later("it takes too long".to_owned()))) {
                        Ok(()) => {}
                        Err(FetchError::Gone(reason)) => {
                            tracing::error!(message = message.message_id, reason, "a message is quarantined");
                            small.quarantined.push(quarantine(&message.message_id, reason, raw));
                        }
                        Err(FetchError::Later(reason)) => {
                            self.hand_back(&message.lease_id, message.attempts, &reason).await;
                            continue;
                        }
                    }
                }
            }
            small.leases.push(message.lease_id);
        }
        // What came with its messages first: it must not wait for a body that is slow to come.
        if !self.finish(small, &stop).await {
            return Pulled::Messages { asked, found: count };
        }
        for (message, header, stored) in large {
            if !self.take_large(message, header, stored, deadline, &stop).await {
                break;
            }
        }
        Pulled::Messages { asked, found: count }
    }

    /// Stores and acknowledges a group. Returns false when it is told to stop while the database does not answer: then
    /// the leases run out and the messages return.
    async fn finish(&self, group: Group, stop: &CancellationToken) -> bool {
        if group.leases.is_empty() {
            return true;
        }
        if !self.store(group.arrivals, group.quarantined, stop).await {
            return false;
        }
        if let Err(error) = self.queue.acknowledge(&group.leases).await {
            tracing::warn!(
                queue = self.queue.id(),
                messages = group.leases.len(),
                "stored but not acknowledged, they return and are found stored: {error}"
            );
        }
        true
    }

    /// One event whose body is at the edge: fetched, stored, acknowledged, and deleted there. One at a time, because each
    /// may be as large as the cap allows.
    async fn take_large(
        &self,
        message: Leased,
        header: EventHeader,
        stored: StoredBody,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> bool {
        let _memory = self.large_bodies.acquire().await;
        let fetch = self.edge.fetch_body(&stored.key, stored.size, &stored.sha256);
        let fetched = tokio::time::timeout_at(deadline, fetch).await;
        let mut group = Group { leases: vec![message.lease_id.clone()], ..Group::default() };
        match fetched {
            Ok(Ok(body)) => group.arrivals.push(Arrival::Event(message.message_id, header, body)),
            Ok(Err(FetchError::Gone(reason))) => {
                match store::admit::is_stored(&self.intake.pool, header.id.uuid()).await {
                    // Handed out a second time, after the body was stored and deleted.
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::error!(event = %header.id, reason, "a message is quarantined");
                        group.quarantined.push(quarantine(&message.message_id, reason, message.body.into_bytes()));
                    }
                    Err(error) => return self.hand_back(&message.lease_id, message.attempts, &error.to_string()).await,
                }
            }
            Ok(Err(FetchError::Later(reason))) => {
                return self.hand_back(&message.lease_id, message.attempts, &reason).await;
            }
            Err(_) => return self.hand_back(&message.lease_id, message.attempts, "it takes too long").await,
        }
        // What is quarantined refers to its body, be it the wrong one: it stays for the person who looks.
        let keep_body = !group.quarantined.is_empty();
        if !self.finish(group, stop).await {
            return false;
        }
        if keep_body {
            return true;
        }
        // Left behind it costs storage and nothing else; the bucket's lifecycle rule takes it.
        if let Err(error) = self.edge.delete_body(&stored.key).await {
            tracing::warn!(key = stored.key, "a stored body was not deleted from the edge: {error}");
        }
        true
    }

    async fn hand_back(&self, lease: &str, attempts: u32, reason: &str) -> bool {
        let delay = hand_back_delay(attempts);
        tracing::warn!(
            delay_s = delay.as_secs(),
            "what a message refers to cannot be had now, it is handed back: {reason}"
        );
        if let Err(error) = self.queue.hand_back(lease, delay).await {
            tracing::warn!("a message could not be handed back; it returns when its lease ends: {error}");
        }
        true
    }

    /// Stores all of it; returns false only when it is told to stop while the database does not answer.
    async fn store(&self, arrivals: Vec<Arrival>, quarantined: Vec<NewQuarantined>, stop: &CancellationToken) -> bool {
        let mut waiting = vec![(arrivals, quarantined)];
        while let Some((mut group, mut quarantined)) = waiting.pop() {
            let mut backoff = database_backoff();
            loop {
                let stored = tokio::time::timeout(PATIENCE, self.intake.store(&group, &quarantined)).await;
                let Err(error) = stored.unwrap_or(Err(sqlx::Error::PoolTimedOut)) else { break };
                // Nothing but quarantine rows is left of an empty group: those are never refused for what they hold.
                if store::is_data_error(&error) && !group.is_empty() {
                    if group.len() > 1 {
                        // One of them is to blame; the others must not wait for it.
                        tracing::warn!(error = %error, messages = group.len(), "a batch was refused by the database; halving it");
                        let second = group.split_off(group.len() / 2);
                        waiting.extend([(group, quarantined), (second, Vec::new())]);
                        break;
                    }
                    let reason = format!("the database refused it: {error}");
                    tracing::error!(reason, "a message is quarantined");
                    quarantined.extend(group.drain(..).map(|arrival| arrival.quarantined(&reason)));
                    continue;
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
}

/// Messages that are stored in one transaction and acknowledged in one call.
#[derive(Default)]
struct Group {
    arrivals: Vec<Arrival>,
    quarantined: Vec<NewQuarantined>,
    leases: Vec<String>,
}

/// Where a large body is.
struct StoredBody {
    key: String,
    size: u64,
    sha256: String,
}

enum Decoded {
    Arrived(Box<Arrival>),
    Stored(Box<EventHeader>, StoredBody),
    Secret { handed_over: SecretHandedOver, raw: Vec<u8> },
    Unreadable { reason: String, raw: Vec<u8> },
}

fn decode(message: &Leased) -> Decoded {
    let bytes = match &message.body {
        LeasedBody::Message(bytes) => bytes,
        LeasedBody::Unreadable { raw, reason } => {
            return Decoded::Unreadable { reason: reason.clone(), raw: raw.clone() };
        }
    };
    let id = message.message_id.clone();
    match envelope::decode(bytes) {
        Ok(Message::Rejection(sample)) => Decoded::Arrived(Box::new(Arrival::Rejection(id, sample, bytes.clone()))),
        Ok(Message::Secret(handed_over)) => Decoded::Secret { handed_over, raw: bytes.clone() },
        Ok(Message::Event(header, Body::Inline(body))) => Decoded::Arrived(Box::new(Arrival::Event(id, header, body))),
        Ok(Message::Event(header, Body::Stored { key, size, sha256 })) => {
            Decoded::Stored(Box::new(header), StoredBody { key, size, sha256 })
        }
        Err(error) => Decoded::Unreadable { reason: error.to_string(), raw: bytes.clone() },
    }
}

/// How soon a message comes back whose body or secret could not be fetched: 10 s after the first time, doubled up to 6
/// hours. The queue hands a message out a hundred times; at this pace that takes longer than it keeps it.
fn hand_back_delay(attempts: u32) -> Duration {
    Duration::from_secs((10 << attempts.saturating_sub(1).min(12)).min(6 * 3600))
}

fn quarantine(message_id: &str, reason: String, message: Vec<u8>) -> NewQuarantined {
    NewQuarantined {
        id: mint::uuid(),
        queue_message_id: message_id.replace('\0', ""),
        reason: reason.replace('\0', ""),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_handed_back_ever_more_rarely_so_that_it_outlives_an_outage() {
        let delays: Vec<u64> = (1..=4).map(|attempts| hand_back_delay(attempts).as_secs()).collect();
        assert_eq!(delays, [10, 20, 40, 80]);
        assert_eq!(hand_back_delay(100), Duration::from_secs(6 * 3600));
        let all: u64 = (1..=100).map(|attempts| hand_back_delay(attempts).as_secs()).sum();
        assert!(all > 14 * 86_400, "a hundred times take longer than the fourteen days a queue keeps a message");
    }
}
