//! A message of the queue, raw and parsed.

use model::unreadable::Reason;
use sha2::{Digest as _, Sha256};
use shared::envelope::{EventHeader, RejectionSample};
use shared::id::{SourceId, UnreadableMessageId, uuid_v7};
use store::unreadable::NewUnreadable;
use uuid::Uuid;

/// If the queue accepted a message longer ago than this, in milliseconds, that time is not used in its id. It is less
/// than the shortest retention of history, so that the message is kept for a while whatever its age.
const ACCEPTED_WITHIN_MS: u64 = 10 * 86_400_000;

/// A message as it came out of the queue, and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// Empty if it did not come out of a queue.
    pub queue_id: String,
    pub message_id: String,
    /// When the queue accepted it, in Unix milliseconds; `None` if the queue does not report it.
    pub accepted_at_ms: Option<u64>,
    /// The queue's content type if `bytes` are as the queue's API returned them; `None` if they are the message itself.
    pub content_type: Option<String>,
    pub bytes: Vec<u8>,
}

impl RawMessage {
    /// The row that keeps the message.
    #[must_use]
    pub fn unreadable(self, reason: Reason, detail: &str, now_ms: u64) -> NewUnreadable {
        NewUnreadable {
            id: UnreadableMessageId::from_uuid(self.id(now_ms)),
            queue_id: self.queue_id.replace('\0', ""),
            queue_message_id: self.message_id.replace('\0', ""),
            content_type: self.content_type.map(|content_type| content_type.replace('\0', "")),
            reason,
            detail: detail.replace('\0', "\u{fffd}"),
            message: self.bytes,
            body: None,
        }
    }

    /// An id that is the same each time the queue leases the message.
    #[must_use]
    pub fn id(&self, now_ms: u64) -> Uuid {
        // Includes the bytes, in case the queue supplies no id.
        let hash = Sha256::new()
            .chain_update(&self.queue_id)
            .chain_update([0])
            .chain_update(&self.message_id)
            .chain_update([0])
            .chain_update(&self.bytes)
            .finalize();
        let mut random = [0; 10];
        random.copy_from_slice(&hash[..10]);
        let accepted = self
            .accepted_at_ms
            .filter(|at| (now_ms.saturating_sub(ACCEPTED_WITHIN_MS)..=now_ms.saturating_add(60_000)).contains(at));
        uuid_v7(accepted.unwrap_or(now_ms), random)
    }
}

/// A message that could be parsed, with its raw form.
pub struct Arrival {
    pub raw: RawMessage,
    pub content: Content,
}

/// The content of a message.
pub enum Content {
    Event {
        header: EventHeader,
        body: Vec<u8>,
        /// Whether the body was fetched from object storage. Then it is not part of the raw message.
        fetched: bool,
    },
    Rejection(RejectionSample),
}

impl Arrival {
    /// The source through which it arrived.
    #[must_use]
    pub fn source(&self) -> Option<SourceId> {
        match &self.content {
            Content::Event { header, .. } => Some(header.source),
            Content::Rejection(sample) => Some(sample.source),
        }
    }

    /// The size of its body in bytes.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        match &self.content {
            Content::Event { body, .. } => body.len(),
            Content::Rejection(_) => 0,
        }
    }

    /// The row that keeps it if it cannot be stored as an event or a rejection: the message byte for byte, and the body
    /// if that was stored elsewhere.
    #[must_use]
    pub fn unreadable(&self, reason: Reason, detail: &str, now_ms: u64) -> NewUnreadable {
        let body = match &self.content {
            Content::Event { body, fetched: true, .. } => Some(body.clone()),
            Content::Event { fetched: false, .. } | Content::Rejection(_) => None,
        };
        NewUnreadable { body, ..self.raw.clone().unreadable(reason, detail, now_ms) }
    }
}

pub(super) fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// Reports a message that is about to be stored as an unreadable message.
pub(crate) fn log_kept(kept: &NewUnreadable) {
    tracing::error!(
        unreadable_message = %kept.id,
        message_id = kept.queue_message_id,
        kind = kept.reason.name(),
        error = kept.detail,
        "a message could not be stored as an event and was kept as an unreadable message; see GET /v1/unreadable-messages"
    );
}
