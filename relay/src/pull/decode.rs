//! Decodes a message as the queue hands it out.

use model::unreadable::Reason;
use shared::envelope::{self, Body, DecodeError, EventHeader, Message, SecretHandedOver};

use super::leased::LeasedBody;
use crate::intake::message::{Arrival, Content, RawMessage};
use crate::supervise;

/// Refers to a large body.
pub struct StoredBody {
    /// The key in the edge's object storage.
    pub key: String,
    /// The size in bytes.
    pub size: u64,
    /// The SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// The content of a message.
pub enum Decoded {
    /// An arrival that can be stored as it is.
    Arrived(Box<Arrival>),
    /// An event whose body has to be fetched first.
    Stored { raw: RawMessage, header: Box<EventHeader>, body: StoredBody },
    /// A secret that a provider has handed over to a source.
    Secret { raw: RawMessage, handed_over: SecretHandedOver },
    /// A message that is kept as it is.
    Unreadable { raw: RawMessage, reason: Reason, detail: String },
}

/// Reads a message. `raw` describes its origin; its bytes are replaced by those of `body`.
#[must_use]
pub fn decode(raw: RawMessage, body: LeasedBody) -> Decoded {
    match body {
        LeasedBody::Message(bytes) => read(RawMessage { content_type: None, bytes, ..raw }),
        LeasedBody::Unreadable { raw: bytes, reason: detail } => {
            Decoded::Unreadable { raw: RawMessage { bytes, ..raw }, reason: Reason::NotDecodable, detail }
        }
    }
}

fn read(raw: RawMessage) -> Decoded {
    read_by(raw, envelope::decode)
}

/// A panic on one message must not prevent the storage of the other messages of its pull.
fn read_by(raw: RawMessage, decode: impl FnOnce(&[u8]) -> Result<Message, DecodeError>) -> Decoded {
    let decoded = match supervise::row_now(|| decode(&raw.bytes)) {
        Ok(decoded) => decoded,
        Err(panic) => return Decoded::Unreadable { raw, reason: Reason::NotDecodable, detail: panic.to_string() },
    };
    match decoded {
        Ok(Message::Rejection(sample)) => {
            Decoded::Arrived(Box::new(Arrival { raw, content: Content::Rejection(sample) }))
        }
        Ok(Message::Secret(handed_over)) => Decoded::Secret { raw, handed_over },
        Ok(Message::Event(header, Body::Inline(body))) => {
            Decoded::Arrived(Box::new(Arrival { raw, content: Content::Event { header, body, fetched: false } }))
        }
        Ok(Message::Event(header, Body::Stored { key, size, sha256 })) => {
            Decoded::Stored { raw, header: Box::new(header), body: StoredBody { key, size, sha256 } }
        }
        Err(error) => Decoded::Unreadable { raw, reason: reason(&error), detail: error.to_string() },
    }
}

fn reason(error: &DecodeError) -> Reason {
    match error {
        DecodeError::UnknownVersion(_) => Reason::UnknownVersion,
        DecodeError::NoHeaderLine | DecodeError::Header(_) | DecodeError::NotText | DecodeError::Base64 => {
            Reason::NotDecodable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_on_which_the_relay_panics_is_kept_as_unreadable_with_its_bytes() {
        let raw = RawMessage {
            queue_id: "queue".to_owned(),
            message_id: "message".to_owned(),
            accepted_at_ms: None,
            content_type: None,
            bytes: b"its bytes".to_vec(),
        };
        let decoded = read_by(raw, |bytes| panic!("{} bytes", bytes.len()));
        let Decoded::Unreadable { raw, reason, detail } = decoded else { panic!("the message was read") };
        assert_eq!((raw.bytes.as_slice(), reason), (&b"its bytes"[..], Reason::NotDecodable));
        assert_eq!(detail, "the relay panicked: 9 bytes");
    }
}
