//! A message of the local queue, and the forms in which its body is sent.

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

/// Cloudflare's limit for one message, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 128_000;
/// Cloudflare's limit for one batch of messages that a Worker sends, in bytes.
pub const MAX_BATCH_BYTES: usize = 256_000;

/// The content type that the sender set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentType {
    Text,
    /// Cloudflare's default.
    #[default]
    Json,
    Bytes,
    /// A structured clone: no consumer outside of Workers can read it.
    V8,
}

impl ContentType {
    /// The name in `CF-Content-Type`, `x-msg-fmt` and `contentType`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Bytes => "bytes",
            Self::V8 => "v8",
        }
    }

    /// Parses that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Text, Self::Json, Self::Bytes, Self::V8].into_iter().find(|kind| kind.name() == name)
    }
}

/// The form in which a pull returns a body of content type `json`: production has been seen to use both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JsonBodies {
    /// As documented.
    #[default]
    Base64,
    /// As seen in production.
    Plain,
}

/// An accepted message. Cloning it does not copy the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Unix time in milliseconds.
    pub accepted_at_ms: u64,
    pub content_type: ContentType,
    /// The raw bytes; for `json` the bytes of its text.
    pub body: Bytes,
}

impl Message {
    /// A message with a fresh id.
    #[must_use]
    pub fn new(accepted_at_ms: u64, content_type: ContentType, body: impl Into<Bytes>) -> Self {
        Self { id: crate::random::text(), accepted_at_ms, content_type, body: body.into() }
    }

    /// The size of the body in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.body.len() as u64
    }

    /// The body as a pull returns it.
    #[must_use]
    pub fn pulled_body(&self, json: JsonBodies) -> String {
        let plain = || String::from_utf8_lossy(&self.body).into_owned();
        match (self.content_type, json) {
            (ContentType::Text, _) | (ContentType::Json, JsonBodies::Plain) => plain(),
            (ContentType::Json, JsonBodies::Base64) | (ContentType::Bytes | ContentType::V8, _) => {
                BASE64.encode(&self.body)
            }
        }
    }
}

/// A leased message.
#[derive(Debug, Clone)]
pub struct Pulled {
    pub message: Message,
    /// The number of deliveries, including this one.
    pub attempts: u32,
    pub lease_id: String,
}
