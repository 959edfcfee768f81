//! The pull loop: lease messages from the queue, store them, acknowledge them.
//!
//! The acknowledgement is the last step. A crash before it loses nothing: the lease expires, the message returns, and
//! storing recognises what is stored already. While the database does not respond, the loop keeps the messages it has
//! pulled and retries instead of pulling more, because every expired lease counts towards the queue's limit of retries.

use std::sync::Arc;
use std::time::Duration;

use engine::retry::pull_backoff;
use model::unreadable::Reason;
use shared::envelope::EventHeader;
use store::unreadable::NewUnreadable;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::edge::{Edge, FetchError};
use crate::intake::Intake;
use crate::readiness::Readiness;
use crate::{mint, stored_body, supervise};

pub mod api;
pub mod batch_size;
pub mod decode;
pub mod handover;
pub mod leased;
pub mod pace;
pub mod queue_settings;
pub mod spoilt_answer;
pub(crate) mod storing;

use self::api::Queue;
use self::batch_size::BatchSize;
use self::decode::{Decoded, StoredBody, decode};
use self::handover::Handover;
use self::leased::{Leased, LeasedBody};
use self::pace::Pace;
use crate::intake::message::{Arrival, Content, RawMessage, log_kept};

/// How long fetching the large bodies and the secrets of one pull may take. It is well within the lease of their
/// messages.
pub(crate) const FETCH_WITHIN: Duration = Duration::from_secs(30);

/// A fetch that had this much time and did not complete has failed. One that had less was begun too late.
const FETCH_ALONE: Duration = Duration::from_secs(20);

/// How soon a message returns if there was no time left to fetch its body. Nothing has failed: the time was spent on
/// other bodies of the pull.
const NOT_REACHED_DELAY: Duration = Duration::from_secs(5);

/// A message that was leased more often than this is stored before it is read: after a hundred leases the queue moves
/// it to the dead-letter queue, which deletes it after another hundred.
pub(crate) const MANY_LEASES: u32 = 20;

const TIMED_OUT: &str = "timed out";

/// The number of large bodies that are in memory at one time.
pub const LARGE_BODIES: usize = 4;

/// Pulls one queue.
pub struct Puller {
    pub queue: Queue,
    pub intake: Intake,
    pub edge: Edge,
    /// Bounds the number of large bodies in memory; shared by all queues.
    pub large_bodies: Arc<Semaphore>,
    pub handover: Handover,
    /// Is notified of each turn, and of whether pulls succeed.
    pub readiness: Arc<Readiness>,
}

/// The result of one pull of `asked` messages.
enum Pulled {
    Messages {
        asked: usize,
        found: usize,
    },
    /// One message made its response unreadable. It was kept and acknowledged.
    KeptApart,
    Failed {
        asked: usize,
        error: api::Error,
    },
}

impl Puller {
    /// Pulls until `stop`. Messages that have been leased by then are still stored and acknowledged.
    pub async fn run(self: Arc<Self>, idle: Duration, stop: CancellationToken) {
        let mut pace = Pace::new(idle);
        let mut batch = BatchSize::default();
        let mut backoff = pull_backoff();
        let mut pulls = JoinSet::new();
        self.readiness.puller_turned(self.queue.id(), Duration::ZERO);
        while !stop.is_cancelled() {
            if let Err(error) = self.may_pull().await {
                tracing::warn!(
                    queue = self.queue.id(),
                    error,
                    "no messages are pulled until the cause in `error` is resolved; checking again"
                );
                let pause = backoff.next_pause(mint::jitter());
                self.readiness.puller_turned(self.queue.id(), pause);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            while pulls.len() < pace.pulls_at_once() {
                let span = tracing::info_span!("pull", queue = self.queue.id());
                pulls.spawn(Arc::clone(&self).pull_once(batch.get(), stop.clone()).instrument(span));
            }
            let Some(pulled) = pulls.join_next().await else { continue };
            let now = std::time::Instant::now();
            match &pulled {
                Ok(Pulled::Messages { .. } | Pulled::KeptApart) => self.readiness.pulled(self.queue.id()),
                Ok(Pulled::Failed { error, .. }) => self.readiness.pull_failed(self.queue.id(), error.public()),
                Err(_) => {
                    self.readiness.pull_failed(self.queue.id(), "the relay panicked while pulling".to_owned());
                }
            }
            let pause = match pulled {
                Ok(Pulled::Messages { asked, found }) => {
                    backoff.reset();
                    batch.succeeded(asked, found, now);
                    pace.after(asked, found)
                }
                Ok(Pulled::KeptApart) => {
                    batch.kept_apart(now);
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
                        api::Error::TimedOut | api::Error::Status { status: 502 | 504 | 524, .. } => {
                            batch.timed_out(asked);
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
                        %error,
                        "a pull failed; retrying"
                    );
                    pause
                }
                Err(panicked) => {
                    tracing::error!(
                        queue = self.queue.id(),
                        error = %panicked,
                        "the relay panicked during a pull; the messages return to the queue when their leases expire"
                    );
                    backoff.next_pause(mint::jitter())
                }
            };
            self.readiness.puller_turned(self.queue.id(), pause);
            if !pause.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        while pulls.join_next().await.is_some() {}
    }

    /// Whether messages can be checked and stored: the database responds, and its clock agrees with the relay's.
    ///
    /// # Errors
    /// Returns why not.
    async fn may_pull(&self) -> Result<(), String> {
        match self.intake.clock.is_wrong().await {
            Ok(None) => Ok(()),
            Ok(Some(wrong)) => Err(wrong),
            Err(error) => Err(format!("the database does not respond: {error}")),
        }
    }

    async fn pull_once(self: Arc<Self>, asked: usize, stop: CancellationToken) -> Pulled {
        let leased = match self.queue.pull(asked).await {
            Ok(leased) if leased.is_empty() => return Pulled::Messages { asked, found: 0 },
            Ok(leased) => leased,
            Err(api::Error::Unread(unread)) if asked == 1 => return self.keep_apart(unread, &stop).await,
            Err(error) => return Pulled::Failed { asked, error },
        };
        let count = leased.len();
        let now_ms = mint::now_ms();
        let oldest = leased.iter().filter_map(|message| message.accepted_at_ms).min();
        self.readiness.messages_pulled(self.queue.id(), oldest.map(|at| now_ms.saturating_sub(at)));
        let (worn, leased): (Vec<_>, Vec<_>) = leased.into_iter().partition(|message| message.attempts > MANY_LEASES);
        // Before anything is read: one of them may have ended the relay each time.
        if !self.finish(self.set_aside(worn, now_ms), &stop).await {
            return Pulled::Messages { asked, found: count };
        }
        let deadline = Instant::now() + FETCH_WITHIN;
        let mut small = Group::default();
        let mut large = Vec::new();
        for message in leased {
            let Leased { message_id, lease_id, attempts, accepted_at_ms, content_type, body } = message;
            let raw = self.raw(message_id, accepted_at_ms, content_type);
            match decode(raw, body) {
                Decoded::Arrived(arrival) => small.arrivals.push(*arrival),
                Decoded::Unreadable { raw, reason, detail } => small.keep(raw, reason, &detail, now_ms),
                Decoded::Stored { raw, header, body } => {
                    large.push(Large { raw, lease_id, attempts, header: *header, body });
                    continue;
                }
                // First, because the events that are signed with it come after it. If that fails, the message is
                // returned to the queue.
                Decoded::Secret { raw, handed_over } => {
                    let taken = in_time(deadline, self.handover.take(&handed_over)).await;
                    match taken.unwrap_or_else(|_| Err(FetchError::Transient(TIMED_OUT.to_owned()))) {
                        Ok(()) => {}
                        Err(FetchError::Permanent(detail)) => {
                            small.keep(raw, Reason::SecretNotOpenable, &detail, now_ms);
                        }
                        Err(FetchError::Transient(reason)) => {
                            self.hand_back(lease_id, hand_back_delay(attempts), &reason).await;
                            continue;
                        }
                    }
                }
            }
            small.leases.push(lease_id);
        }
        // Messages with their body first: they must not wait for a large body that is slow to arrive.
        if !self.finish(small, &stop).await {
            return Pulled::Messages { asked, found: count };
        }
        let mut not_reached = Vec::new();
        for message in large {
            let memory = tokio::time::timeout_at(deadline, self.large_bodies.acquire()).await;
            if memory.is_err() || Instant::now() >= deadline {
                not_reached.push(message.lease_id);
            } else if !self.take_large(message, deadline, &stop).await {
                break;
            }
        }
        if !not_reached.is_empty() {
            tracing::info!(
                queue = self.queue.id(),
                messages = not_reached.len(),
                "some large bodies could not be fetched in time; their messages are returned to the queue"
            );
            self.hand_back_all(&not_reached, NOT_REACHED_DELAY).await;
        }
        Pulled::Messages { asked, found: count }
    }

    /// Keeps messages as they are if the queue has leased them more than [`MANY_LEASES`] times. Whatever
    /// prevented their storage, they are read one by one from the database later.
    fn set_aside(&self, messages: Vec<Leased>, now_ms: u64) -> Group {
        let mut group = Group::default();
        for message in messages {
            let Leased { message_id, lease_id, attempts, accepted_at_ms, content_type, body } = message;
            let raw = self.raw(message_id, accepted_at_ms, content_type);
            let raw = match body {
                LeasedBody::Message(bytes) => RawMessage { content_type: None, bytes, ..raw },
                LeasedBody::Unreadable { raw: bytes, .. } => RawMessage { bytes, ..raw },
            };
            let detail = format!("the queue has leased the message {attempts} times");
            tracing::warn!(
                message_id = raw.message_id,
                attempts,
                "a message was leased too many times; storing it as an unreadable message before parsing it"
            );
            group.set_aside(raw, Reason::LeasedTooOften, &detail, now_ms);
            group.leases.push(lease_id);
        }
        group
    }

    fn raw(&self, message_id: String, accepted_at_ms: Option<u64>, content_type: String) -> RawMessage {
        RawMessage {
            queue_id: self.queue.id().to_owned(),
            message_id,
            accepted_at_ms,
            content_type: Some(content_type),
            bytes: Vec::new(),
        }
    }

    /// Stores and acknowledges a group. Returns false if it is told to stop while the database does not respond: then
    /// the leases expire and the messages return.
    async fn finish(&self, group: Group, stop: &CancellationToken) -> bool {
        if group.leases.is_empty() {
            return true;
        }
        let due_now = group.unreadable.iter().any(|message| message.reason == Reason::LeasedTooOften);
        if !self.store(group.arrivals, group.unreadable, stop).await {
            return false;
        }
        if due_now {
            self.intake.unreadable_due.notify_one();
        }
        if let Err(error) = self.queue.acknowledge(&group.leases).await {
            tracing::warn!(
                queue = self.queue.id(),
                messages = group.leases.len(),
                %error,
                "could not acknowledge stored messages; they will be leased again and recognised as already stored"
            );
        }
        true
    }

    /// Handles one event whose body is at the edge: fetches the body, stores and acknowledges the event, and deletes
    /// the body at the edge. One at a time, because each body may be as large as the limit allows.
    async fn take_large(&self, message: Large, deadline: Instant, stop: &CancellationToken) -> bool {
        let Large { raw, lease_id, attempts, header, body: stored } = message;
        let begun = Instant::now();
        let event = header.id;
        let fetched = in_time(deadline, self.edge.fetch_body(&stored.key, stored.size, &stored.sha256)).await;
        let mut group = Group { leases: vec![lease_id.clone()], ..Group::default() };
        match fetched {
            Ok(Ok(body)) => {
                group.arrivals.push(Arrival { raw, content: Content::Event { header, body, fetched: true } });
            }
            Ok(Err(FetchError::Permanent(detail))) => {
                match store::admit::is_stored(&self.intake.pool, event).await {
                    // Leased a second time, after the body was stored and deleted.
                    Ok(true) => {}
                    Ok(false) => group.keep(raw, Reason::BodyMissing, &detail, mint::now_ms()),
                    Err(error) => {
                        return self.hand_back(lease_id, hand_back_delay(attempts), &error.to_string()).await;
                    }
                }
            }
            Ok(Err(FetchError::Transient(reason))) => {
                return self.hand_back(lease_id, hand_back_delay(attempts), &reason).await;
            }
            Err(_) => return self.hand_back(lease_id, cut_delay(begun.elapsed(), attempts), TIMED_OUT).await,
        }
        // An unreadable message refers to its body, even if that is the wrong one. It is kept for the operator.
        let keep_body = !group.unreadable.is_empty();
        if !self.finish(group, stop).await {
            return false;
        }
        if !keep_body {
            stored_body::delete_if_stored(&self.edge, &self.intake.pool, event, &stored.key).await;
        }
        true
    }

    async fn hand_back(&self, lease: String, delay: Duration, reason: &str) -> bool {
        tracing::warn!(
            delay_s = delay.as_secs(),
            error = reason,
            "could not fetch the body or secret that a message refers to; the message is returned to the queue"
        );
        self.hand_back_all(&[lease], delay).await;
        true
    }

    async fn hand_back_all(&self, leases: &[String], delay: Duration) {
        if let Err(error) = self.queue.hand_back(leases, delay).await {
            tracing::warn!(%error, "could not return messages to the queue; they return when their leases expire");
        }
    }
}

/// Waits until `deadline` for the data that a message refers to. A panic delays that message and does not affect the
/// others.
async fn in_time<T>(
    deadline: Instant,
    fetch: impl Future<Output = Result<T, FetchError>>,
) -> Result<Result<T, FetchError>, Elapsed> {
    let fetched = tokio::time::timeout_at(deadline, supervise::row(fetch)).await?;
    Ok(fetched.unwrap_or_else(|panic| {
        tracing::error!(error = %panic, "the relay panicked while fetching what a message refers to");
        Err(FetchError::Transient(panic.to_string()))
    }))
}

/// Messages that are stored in one transaction and acknowledged in one call.
#[derive(Default)]
struct Group {
    arrivals: Vec<Arrival>,
    unreadable: Vec<NewUnreadable>,
    leases: Vec<String>,
}

impl Group {
    fn keep(&mut self, raw: RawMessage, reason: Reason, detail: &str, now_ms: u64) {
        self.set_aside(raw, reason, detail, now_ms);
        self.unreadable.last().into_iter().for_each(log_kept);
    }

    fn set_aside(&mut self, raw: RawMessage, reason: Reason, detail: &str, now_ms: u64) {
        self.unreadable.push(raw.unreadable(reason, detail, now_ms));
    }
}

/// A message whose body has to be fetched.
struct Large {
    raw: RawMessage,
    lease_id: String,
    attempts: u32,
    header: EventHeader,
    body: StoredBody,
}

/// How soon a message returns if its body or secret could not be fetched: after 10 s the first time, then doubled each
/// time, up to 6 hours. The queue leases a message a hundred times; at this pace that takes longer than the retention
/// of the queue.
fn hand_back_delay(attempts: u32) -> Duration {
    Duration::from_secs((10 << attempts.saturating_sub(1).min(12)).min(6 * 3600))
}

/// The same for a message whose body was cut off by the deadline of its pull after the fetch had taken `taken`: other
/// bodies that were fetched before it may have used up the time.
fn cut_delay(taken: Duration, attempts: u32) -> Duration {
    if taken < FETCH_ALONE { NOT_REACHED_DELAY } else { hand_back_delay(attempts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fetch_that_panics_is_retried_later() {
        let deadline = Instant::now() + FETCH_WITHIN;
        let fetched: Result<Result<(), FetchError>, _> = in_time(deadline, async { panic!("its body") }).await;
        let Ok(Err(FetchError::Transient(reason))) = fetched else { panic!("{fetched:?}") };
        assert_eq!(reason, "the relay panicked: its body");
    }

    #[test]
    fn only_a_fetch_that_had_its_full_time_is_delayed_exponentially() {
        let seconds = |taken_s, attempts| cut_delay(Duration::from_secs(taken_s), attempts).as_secs();
        assert_eq!((seconds(1, 1), seconds(19, 15)), (5, 5));
        assert_eq!((seconds(20, 1), seconds(30, 15)), (10, 6 * 3600));
    }

    #[test]
    fn the_delays_of_a_returned_message_grow_so_that_it_outlives_an_outage() {
        let delays: Vec<u64> = (1..=4).map(|attempts| hand_back_delay(attempts).as_secs()).collect();
        assert_eq!(delays, [10, 20, 40, 80]);
        assert_eq!(hand_back_delay(100), Duration::from_secs(6 * 3600));
        let all: u64 = (1..=100).map(|attempts| hand_back_delay(attempts).as_secs()).sum();
        assert!(
            all > 14 * 86_400,
            "a hundred leases take longer than the fourteen days for which a queue keeps a message"
        );
    }
}
