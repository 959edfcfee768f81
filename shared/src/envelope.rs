//! The message that crosses the queue: one line of JSON, a newline, then the body of the request.
//!
//! A message is sent as text or as bytes, the content types that the pull API returns without ambiguity. In a text the
//! body is literal if it is UTF-8 without a NUL, else base64; in bytes it is always literal. A body that does not fit
//! is put into object storage first, and the message carries its key.
//!
//! The header line is versioned. A reader that does not know the version returns [`DecodeError::UnknownVersion`] and
//! keeps the message, so that an edge that is newer than its relay loses nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::header::HeaderList;
use crate::id::{EventId, SourceId};
use crate::verify::Rejection;

/// The version that [`encode`] writes.
pub const VERSION: u32 = 1;

/// The largest message that is sent, in bytes: Cloudflare's limit of 128,000 less 1,000 for the roughly 100 bytes of
/// metadata that count against it.
pub const MAX_MESSAGE_BYTES: usize = 127_000;

/// The facts of an event, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventHeader {
    /// Minted once by the edge, kept when a send is tried again.
    pub id: EventId,
    pub source: SourceId,
    /// When the request arrived, Unix time in milliseconds.
    pub received_at_ms: u64,
    pub method: String,
    /// The query of the request's URL without its `?`; empty if there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query: String,
    pub headers: HeaderList,
    pub verification: Verification,
}

/// How the origin of an event was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// The source's scheme accepted the request.
    Verified,
    /// The source's scheme accepted the signature, and its time was out of tolerance: an old request, or one sent again.
    Stale,
    /// The source has no scheme: anyone who knew the URL could send it.
    Unsigned,
    /// The scheme refused the request and the source asks for quarantine: never forwarded until released.
    Failed(Failure),
}

/// Why a request that is kept all the same failed verification, for the source's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable code of [`Rejection`].
    pub cause: String,
    pub detail: String,
}

impl From<&Rejection> for Failure {
    fn from(rejection: &Rejection) -> Self {
        Self { cause: rejection.code().to_owned(), detail: rejection.detail() }
    }
}

/// The place of an event's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// In the message itself.
    Inline(Vec<u8>),
    /// In the edge's object storage, under `key`; `size` in bytes, `sha256` in lower-case hexadecimal.
    Stored { key: String, size: u64, sha256: String },
}

/// Refused requests, counted over a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectionSample {
    pub source: SourceId,
    /// A stable code of [`crate::verify::Rejection`].
    pub cause: String,
    /// The fault of the last of them, for the source's owner. It never contains a secret or a signature that verifies.
    pub detail: String,
    /// How many requests were refused for this cause since the last sample of the same isolate; at least 1.
    pub count: u64,
    pub first_at_ms: u64,
    pub last_at_ms: u64,
    /// The size of the last refused body in bytes.
    pub size: u64,
    /// The class of the last sender's address, such as `ipv4`, `ipv6` or `unknown`: never the address itself.
    pub remote: String,
}

/// A secret that a provider has handed over to a source that had none. The provider signs with it from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretHandedOver {
    pub source: SourceId,
    /// Sealed with a key that only the edge has, so that a reader of the queue learns nothing. The edge opens it for
    /// the relay.
    pub sealed: String,
}

/// A message of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Event(EventHeader, Body),
    Rejection(RejectionSample),
    Secret(SecretHandedOver),
}

/// Why a message could not be read. The relay keeps it as an unreadable message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the message has no header line")]
    NoHeaderLine,
    #[error("the header line is not a known message: {0}")]
    Header(String),
    #[error(
        "the message has format version {0}, which this relay does not support; upgrade the relay, then release the \
         message"
    )]
    UnknownVersion(u32),
    #[error("the header line is not UTF-8")]
    NotText,
    #[error("the body is flagged as base64 but does not decode")]
    Base64,
}

#[derive(Serialize, Deserialize)]
struct VersionLine {
    v: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    v: u32,
    #[serde(flatten)]
    content: Content,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Content {
    Event {
        #[serde(flatten)]
        header: EventHeader,
        body: BodyLine,
    },
    Rejection(RejectionSample),
    Secret(SecretHandedOver),
}

/// The [`Line`] of an event for writing, which copies nothing.
#[derive(Serialize)]
struct EventLine<'a> {
    v: u32,
    kind: &'static str,
    #[serde(flatten)]
    header: &'a EventHeader,
    body: BodyLine,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "in", rename_all = "snake_case")]
enum BodyLine {
    Text,
    Base64,
    /// As it is, in a message of bytes.
    Bytes,
    Stored {
        key: String,
        size: u64,
        sha256: String,
    },
}

/// Writes an event whose body travels in the message. Returns `None` if it does not fit into [`MAX_MESSAGE_BYTES`]:
/// then the body has to be stored first, and [`encode_stored`] writes the message.
///
/// If the headers alone are too large for a message, `encode_stored` cannot help; the edge caps them before.
#[must_use]
pub fn encode_inline(header: &EventHeader, body: &[u8]) -> Option<String> {
    let mut message = String::new();
    write_inline(&mut message, header, body).then_some(message)
}

/// Appends the same to `out` and returns whether the message fits. If it does not, the content of `out` is undefined.
#[must_use]
pub fn write_inline(out: &mut String, header: &EventHeader, body: &[u8]) -> bool {
    // The cheap test first: a body that cannot fit is not scanned for UTF-8.
    if body.len() > MAX_MESSAGE_BYTES {
        return false;
    }
    let before = out.len();
    match std::str::from_utf8(body) {
        // A queue cuts a text at the first character of this value.
        Ok(text) if !body.contains(&0) => write(out, header, BodyLine::Text, text),
        Ok(_) | Err(_) => write(out, header, BodyLine::Base64, &BASE64.encode(body)),
    }
    out.len() - before <= MAX_MESSAGE_BYTES
}

/// Writes a message of bytes without its body of `size` bytes, which the caller appends. Returns whether the whole fits
/// into [`MAX_MESSAGE_BYTES`].
#[must_use]
pub fn write_head(out: &mut String, header: &EventHeader, size: usize) -> bool {
    let before = out.len();
    write(out, header, BodyLine::Bytes, "");
    out.len() - before + size <= MAX_MESSAGE_BYTES
}

/// Writes an event whose body travels in the message. Returns `None` if it does not fit into [`MAX_MESSAGE_BYTES`]:
/// then the body has to be stored first, and [`encode_stored`] writes the message.
#[must_use]
pub fn encode_stored(header: &EventHeader, key: &str, size: u64, sha256: &str) -> String {
    let mut message = String::new();
    let body = BodyLine::Stored { key: key.to_owned(), size, sha256: sha256.to_owned() };
    write(&mut message, header, body, "");
    message
}

/// Writes a sample of rejections.
#[must_use]
pub fn encode_rejection(sample: &RejectionSample) -> String {
    let mut message = String::new();
    write_line(&mut message, &Line { v: VERSION, content: Content::Rejection(sample.clone()) }, "");
    message
}

/// Writes a secret that was handed over.
#[must_use]
pub fn encode_secret(handed_over: &SecretHandedOver) -> String {
    let mut message = String::new();
    write_line(&mut message, &Line { v: VERSION, content: Content::Secret(handed_over.clone()) }, "");
    message
}

fn write(out: &mut String, header: &EventHeader, body: BodyLine, text: &str) {
    write_line(out, &EventLine { v: VERSION, kind: "event", header, body }, text);
}

fn write_line(out: &mut String, line: &impl Serialize, text: &str) {
    // Strings, numbers and string keys only: JSON can hold all of it.
    let line = serde_json::to_string(line).unwrap_or_default();
    out.reserve(line.len() + 1 + text.len());
    out.push_str(&line);
    out.push('\n');
    out.push_str(text);
}

/// Reads a message.
///
/// # Errors
/// Returns an error if the message cannot be read, see [`DecodeError`]. The caller still has the message.
pub fn decode(message: &[u8]) -> Result<Message, DecodeError> {
    let end = message.iter().position(|byte| *byte == b'\n').ok_or(DecodeError::NoHeaderLine)?;
    let (header, rest) = (&message[..end], &message[end + 1..]);
    let header = std::str::from_utf8(header).map_err(|_| DecodeError::NotText)?;
    let not_known = |error: serde_json::Error| DecodeError::Header(error.to_string());
    let VersionLine { v } = serde_json::from_str(header).map_err(not_known)?;
    if v != VERSION {
        return Err(DecodeError::UnknownVersion(v));
    }
    let Line { content, .. } = serde_json::from_str(header).map_err(not_known)?;
    Ok(match content {
        Content::Rejection(sample) => Message::Rejection(sample),
        Content::Secret(handed_over) => Message::Secret(handed_over),
        Content::Event { header, body } => {
            let body = match body {
                BodyLine::Text | BodyLine::Bytes => Body::Inline(rest.to_vec()),
                BodyLine::Base64 => Body::Inline(BASE64.decode(rest).map_err(|_| DecodeError::Base64)?),
                BodyLine::Stored { key, size, sha256 } => Body::Stored { key, size, sha256 },
            };
            Message::Event(header, body)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> EventHeader {
        EventHeader {
            id: EventId::mint(1_764_000_000_123, [1; 10]),
            source: SourceId::mint(1_764_000_000_000, [2; 10]),
            received_at_ms: 1_764_000_000_123,
            method: "POST".to_owned(),
            query: "a=1&b=%20".to_owned(),
            headers: HeaderList::new([("Content-Type", "application/json"), ("X-Quote", "a \"b\" \\ \u{e9}")]),
            verification: Verification::Verified,
        }
    }

    fn round_trip(body: &[u8]) -> Message {
        let message = encode_inline(&header(), body).expect("fits");
        decode(message.as_bytes()).expect("decodes")
    }

    #[test]
    fn text_binary_and_empty_bodies_survive_byte_for_byte() {
        let every_byte: Vec<u8> = (0..=255).collect();
        for body in [b"{\"a\":\n1}\n".as_slice(), b"", b"\n", "h\u{e9}\u{1f600}".as_bytes(), &every_byte] {
            assert_eq!(round_trip(body), Message::Event(header(), Body::Inline(body.to_vec())));
        }
    }

    #[test]
    fn a_body_that_does_not_fit_is_not_encoded_inline() {
        assert!(encode_inline(&header(), &vec![b'a'; MAX_MESSAGE_BYTES - 1_000]).is_some());
        assert!(encode_inline(&header(), &vec![b'a'; MAX_MESSAGE_BYTES]).is_none());
        assert!(encode_inline(&header(), &vec![0xff; 100_000]).is_none(), "base64 makes it a third larger");
    }

    #[test]
    fn a_body_that_a_queue_would_cut_travels_as_base64() {
        let message = encode_inline(&header(), b"a\0b").expect("fits");
        assert!(!message.contains('\0') && message.contains("base64"), "{message}");
        assert_eq!(round_trip(b"a\0b"), Message::Event(header(), Body::Inline(b"a\0b".to_vec())));
    }

    #[test]
    fn a_message_of_bytes_is_written_without_its_body_which_follows_as_it_is() {
        let body: Vec<u8> = (0..=255).collect();
        let mut head = String::new();
        assert!(write_head(&mut head, &header(), body.len()));
        let message = [head.as_bytes(), &body].concat();
        assert_eq!(decode(&message), Ok(Message::Event(header(), Body::Inline(body))));
        assert!(!write_head(&mut String::new(), &header(), MAX_MESSAGE_BYTES - 100), "the line needs more than that");
    }

    #[test]
    fn a_stored_body_is_carried_by_reference() {
        let message = encode_stored(&header(), "evt_1", 1_000_000, "00ff");
        let body = Body::Stored { key: "evt_1".to_owned(), size: 1_000_000, sha256: "00ff".to_owned() };
        assert_eq!(decode(message.as_bytes()), Ok(Message::Event(header(), body)));
    }

    #[test]
    fn why_an_unverified_event_was_refused_travels_with_it() {
        let failure = Failure::from(&Rejection::TimestampOld { age_s: 412, tolerance_s: 300 });
        assert_eq!(
            (failure.cause.as_str(), failure.detail.as_str()),
            ("timestamp_old", "the timestamp is 412 s old; the tolerance is 300 s")
        );
        let header = EventHeader { verification: Verification::Failed(failure), ..header() };
        let message = encode_inline(&header, b"x").expect("fits");
        assert_eq!(decode(message.as_bytes()), Ok(Message::Event(header, Body::Inline(b"x".to_vec()))));
    }

    #[test]
    fn a_message_that_cannot_be_read_says_why() {
        let good = encode_inline(&header(), b"x").expect("fits");
        assert_eq!(decode(b"{\"v\":1}"), Err(DecodeError::NoHeaderLine));
        assert_eq!(decode(good.replacen("\"v\":1", "\"v\":7", 1).as_bytes()), Err(DecodeError::UnknownVersion(7)));
        assert_eq!(
            decode(good.replacen("\"in\":\"text\"", "\"in\":\"base64\"", 1).as_bytes()),
            Err(DecodeError::Base64)
        );
        assert_eq!(decode(b"\xff\n"), Err(DecodeError::NotText));
        assert!(matches!(decode(b"{}\n"), Err(DecodeError::Header(_))));
        assert!(matches!(decode(b"{\"v\":1,\"kind\":\"other\"}\n"), Err(DecodeError::Header(_))));
    }

    #[test]
    fn a_rejection_sample_survives() {
        let sample = RejectionSample {
            source: header().source,
            cause: "signature_mismatch".to_owned(),
            detail: "the signature does not match".to_owned(),
            count: 17,
            first_at_ms: 1,
            last_at_ms: 2,
            size: 3,
            remote: "ipv4".to_owned(),
        };
        assert_eq!(decode(encode_rejection(&sample).as_bytes()), Ok(Message::Rejection(sample)));
    }

    #[test]
    fn a_secret_that_was_handed_over_survives() {
        let handed_over = SecretHandedOver { source: header().source, sealed: "s1.72cd6e84.AAAA".to_owned() };
        assert_eq!(decode(encode_secret(&handed_over).as_bytes()), Ok(Message::Secret(handed_over)));
    }
}
