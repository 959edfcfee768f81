//! Messages that could not be stored as events. They are kept byte for byte, tried again, and released.
//!
//! Often the cause disappears: a newer relay knows the version, a body or a source is restored, a clock is corrected.
//! So each message is tried again after a minute, and then less and less often, down to once a day. All messages are
//! tried when a relay starts, and those of an unknown source when a source appears. An operator can request an
//! immediate try of one message, or of all with the same reason.
//!
//! A try is recorded in the database before it is made. A message that has ended the relay
//! [`MAX_UNFINISHED_TRIES`](store::unreadable::MAX_UNFINISHED_TRIES) times is tried once a day, and after
//! [`GIVEN_UP_AFTER`](store::unreadable::GIVEN_UP_AFTER) times only when an operator requests it.

use std::sync::Arc;
use std::time::Duration;

use model::unreadable::Reason;
use shared::envelope::EventHeader;
use shared::id::{EventId, UnreadableMessageId};
use store::audit::NewEntry;
use store::unreadable::{self, UnreadableRow};
use tokio_util::sync::CancellationToken;

use crate::configuration::Snapshot;
use crate::edge::{Edge, FetchError};
use crate::history::Retention;
use crate::intake::arrival::Plausible;
use crate::intake::message::{Arrival, Content, RawMessage};
use crate::intake::{Intake, Stored};
use crate::pull::decode::{Decoded, StoredBody, decode};
use crate::pull::handover::Handover;
use crate::pull::leased::{self, LeasedBody};
use crate::pull::spoilt_answer::WHOLE_ANSWER;
use crate::{stored_body, supervise};

/// How often the relay checks for due messages.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// How long a try may take, including the transfer of a large body.
const TRY_WITHIN: Duration = Duration::from_secs(60);

/// The result of a try.
#[derive(Debug, PartialEq, Eq)]
pub enum Tried {
    /// It is stored. Contains the event, if it is one.
    Released(Option<EventId>),
    StillUnreadable(Reason, String),
    /// The database or the edge did not respond.
    NotNow(String),
}

/// Everything that is needed to release messages. Cheap to clone.
#[derive(Clone)]
pub struct Releaser {
    pub intake: Intake,
    pub edge: Edge,
    pub handover: Handover,
    pub retention: Retention,
}

impl Releaser {
    /// Tries a message once more and stores the result. If a caller requests it, `entry` records a release.
    ///
    /// # Errors
    /// Returns an error if the result cannot be stored. The try can be repeated: whatever is stored already is
    /// recognised by its id.
    pub async fn try_again(&self, row: UnreadableRow, entry: Option<&NewEntry>) -> store::Result<Tried> {
        let (id, pool) = (row.id, &self.intake.pool);
        if row.released_at.is_some() {
            return Ok(Tried::Released(None));
        }
        let tried = tried(id, row.reason, self.store(row)).await;
        match &tried {
            Tried::Released(event) => unreadable::released(pool, id, *event, entry).await?,
            Tried::StillUnreadable(reason, detail) => unreadable::still_unreadable(pool, id, *reason, detail).await?,
            Tried::NotNow(_) => {
                unreadable::not_tried(pool, id).await?;
                unreadable::defer_similar(pool, id).await?;
            }
        }
        Ok(tried)
    }

    async fn store(&self, row: UnreadableRow) -> Tried {
        let raw = RawMessage {
            queue_id: row.queue_id,
            message_id: row.queue_message_id,
            accepted_at_ms: None,
            content_type: row.content_type,
            bytes: Vec::new(),
        };
        let body = match raw.content_type.as_deref() {
            None => LeasedBody::Message(row.message),
            Some(WHOLE_ANSWER) => match leased::read(&row.message) {
                Ok(mut messages) if messages.len() == 1 => messages.remove(0).body,
                Ok(_) => {
                    return Tried::StillUnreadable(
                        Reason::AnswerNotReadable,
                        "the stored response does not contain exactly one message".to_owned(),
                    );
                }
                Err(error) => return Tried::StillUnreadable(Reason::AnswerNotReadable, error.to_string()),
            },
            Some(content_type) => leased::read_text(content_type, String::from_utf8_lossy(&row.message).into_owned()),
        };
        match decode(raw, body) {
            Decoded::Unreadable { reason, detail, .. } => Tried::StillUnreadable(reason, detail),
            Decoded::Arrived(arrival) => self.store_arrival(*arrival).await,
            Decoded::Stored { raw, header, body } => match row.body {
                Some(bytes) => self.store_event(raw, *header, bytes).await,
                None => self.fetch_and_store(raw, *header, &body).await,
            },
            Decoded::Secret { handed_over, .. } => match self.handover.take(&handed_over).await {
                Ok(()) => Tried::Released(None),
                Err(FetchError::Permanent(detail)) => Tried::StillUnreadable(Reason::SecretNotOpenable, detail),
                Err(FetchError::Transient(cause)) => Tried::NotNow(cause),
            },
        }
    }

    async fn fetch_and_store(&self, raw: RawMessage, header: EventHeader, body: &StoredBody) -> Tried {
        let event = header.id;
        let bytes = match self.edge.fetch_body(&body.key, body.size, &body.sha256).await {
            Ok(bytes) => bytes,
            Err(FetchError::Transient(cause)) => return Tried::NotNow(cause),
            Err(FetchError::Permanent(detail)) => {
                // It was leased a second time after the body was stored and deleted.
                return match store::admit::is_stored(&self.intake.pool, event).await {
                    Ok(true) => Tried::Released(Some(event)),
                    Ok(false) => Tried::StillUnreadable(Reason::BodyMissing, detail),
                    Err(error) => Tried::NotNow(error.to_string()),
                };
            }
        };
        let tried = self.store_event(raw, header, bytes).await;
        if matches!(tried, Tried::Released(_)) {
            stored_body::delete_if_stored(&self.edge, &self.intake.pool, event, &body.key).await;
        }
        tried
    }

    async fn store_event(&self, raw: RawMessage, header: EventHeader, body: Vec<u8>) -> Tried {
        self.store_arrival(Arrival { raw, content: Content::Event { header, body, fetched: true } }).await
    }

    async fn store_arrival(&self, arrival: Arrival) -> Tried {
        let event = match &arrival.content {
            Content::Event { header, .. } => Some(header.id),
            Content::Rejection(_) => None,
        };
        let now_ms = match self.intake.clock.now_ms().await {
            Ok(now_ms) => now_ms,
            Err(error) => return Tried::NotNow(error.to_string()),
        };
        let plausible = Plausible::from_history(now_ms, self.retention.first_with_body(now_ms));
        match self.intake.store_one(arrival, plausible).await.map_err(store::Error::from) {
            Ok(Stored::Done) => Tried::Released(event),
            Ok(Stored::Unreadable(reason, detail)) => Tried::StillUnreadable(reason, detail),
            Err(error) if error.is_data_error() => {
                Tried::StillUnreadable(Reason::RefusedByDatabase, format!("the database rejected the message: {error}"))
            }
            Err(error) => Tried::NotNow(error.to_string()),
        }
    }
}

/// Returns the result of a try, which may take [`TRY_WITHIN`]. If the relay panics on a message, the message is still
/// unreadable, with the `reason` for which it is kept.
async fn tried(message: UnreadableMessageId, reason: Reason, stored: impl Future<Output = Tried>) -> Tried {
    match tokio::time::timeout(TRY_WITHIN, supervise::row(stored)).await {
        Ok(Ok(tried)) => tried,
        Ok(Err(panic)) => {
            tracing::error!(
                error = %panic,
                unreadable_message = %message,
                "the relay panicked while retrying an unreadable message"
            );
            Tried::StillUnreadable(reason, panic.to_string().replace('\0', "\u{fffd}"))
        }
        Err(_) => Tried::NotNow(format!("timed out after {} s", TRY_WITHIN.as_secs())),
    }
}

/// Tries messages again until `stop`. The first time it tries all of them, because this relay may be newer than the one
/// that kept them.
pub async fn run(releaser: Releaser, stop: CancellationToken) {
    let pool = &releaser.intake.pool;
    if let Err(error) = unreadable::try_after_start(pool).await {
        tracing::warn!(
            %error,
            "could not schedule unreadable messages for an immediate retry; they are retried on their normal schedule"
        );
    }
    let mut known = releaser.intake.configuration.current();
    while !stop.is_cancelled() {
        if let Err(error) = may_try(&releaser, &mut known).await {
            tracing::warn!(
                error,
                "retries of unreadable messages are suspended until the cause in `error` is resolved"
            );
            tokio::select! {
                () = tokio::time::sleep(CHECK_INTERVAL) => continue,
                () = stop.cancelled() => return,
            }
        }
        match unreadable::begin_next_try(pool).await {
            Ok(Some(row)) => {
                try_one(&releaser, row).await;
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "could not query unreadable messages that are due; retrying"),
        }
        tokio::select! {
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
            () = releaser.intake.unreadable_due.notified() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Whether messages can be checked now. Makes those of unknown sources due if a source has appeared.
async fn may_try(releaser: &Releaser, known: &mut Arc<Snapshot>) -> Result<(), String> {
    if let Some(wrong) = releaser.intake.clock.is_wrong().await.map_err(|error| error.to_string())? {
        return Err(wrong);
    }
    let current = releaser.intake.configuration.current();
    if current.sources.keys().any(|id| !known.sources.contains_key(id)) {
        unreadable::try_now(&releaser.intake.pool, Reason::UnknownSource, |_| None)
            .await
            .map_err(|error| error.to_string())?;
    }
    *known = current;
    Ok(())
}

async fn try_one(releaser: &Releaser, row: UnreadableRow) {
    let (id, unfinished) = (row.id, row.unfinished_tries);
    if unfinished > 1 {
        tracing::error!(
            unreadable_message = %id,
            unfinished,
            "the relay stopped while retrying an unreadable message; the message may be the cause"
        );
    }
    match releaser.try_again(row, None).await {
        Ok(Tried::Released(event)) => {
            let event = event.map(|event| event.to_string());
            tracing::info!(unreadable_message = %id, event, "an unreadable message was released");
        }
        Ok(Tried::StillUnreadable(reason, detail)) => {
            tracing::info!(unreadable_message = %id, kind = reason.name(), error = detail, "a message is still unreadable");
        }
        Ok(Tried::NotNow(error)) => {
            tracing::warn!(
                unreadable_message = %id,
                error,
                "an unreadable message could not be retried; retrying later"
            );
        }
        Err(error) => {
            tracing::warn!(
                unreadable_message = %id,
                %error,
                "could not store the result of retrying an unreadable message"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::id::uuid_v7_ms;

    use super::*;

    const NOW_MS: u64 = 1_764_000_000_000;

    fn raw(accepted_at_ms: Option<u64>) -> RawMessage {
        RawMessage {
            queue_id: "queue".to_owned(),
            message_id: "message".to_owned(),
            accepted_at_ms,
            content_type: None,
            bytes: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_message_on_which_the_relay_panics_keeps_its_reason() {
        let id = UnreadableMessageId::mint(1, [1; 10]);
        let tried = tried(id, Reason::UnknownVersion, async { panic!("its header") }).await;
        let detail = "the relay panicked: its header".to_owned();
        assert_eq!(tried, Tried::StillUnreadable(Reason::UnknownVersion, detail));
    }

    #[test]
    fn a_message_has_the_same_id_each_time_the_queue_leases_it() {
        let accepted = Some(NOW_MS - 5_000);
        assert_eq!(raw(accepted).id(NOW_MS), raw(accepted).id(NOW_MS + 86_400_000));
        for other in [
            RawMessage { message_id: "other".to_owned(), ..raw(accepted) },
            RawMessage { bytes: b"other".to_vec(), ..raw(accepted) },
        ] {
            assert_ne!(raw(accepted).id(NOW_MS), other.id(NOW_MS));
        }
    }

    #[test]
    fn the_retention_of_a_message_with_an_old_or_missing_time_begins_now() {
        for accepted in [None, Some(0), Some(NOW_MS - 20 * 86_400_000), Some(NOW_MS + 120_000)] {
            assert_eq!(uuid_v7_ms(raw(accepted).id(NOW_MS)), NOW_MS, "{accepted:?}");
        }
    }
}
