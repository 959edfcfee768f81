//! An event as the input of expressions.

use std::sync::OnceLock;

use cel::common::value::Val;
use serde_json::{Value as Json, json};
use shared::header::HeaderList;
use shared::reader::{self, Content};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::value::{dismantle, from_json, from_plain};
use super::{ExpressionError, MAX_BODY_BYTES};

/// The fields of the name `event`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFields {
    pub id: String,
    pub event_type: Option<String>,
    /// The source's name.
    pub source: String,
    pub provider_event_id: Option<String>,
    /// Unix time in milliseconds.
    pub received_at_ms: u64,
    pub method: String,
    /// Without its `?`.
    pub query: String,
}

/// An event, prepared for any number of expressions. The value of each of the three names is built when the first
/// expression uses it, and kept for the others. An event that no expression reads costs nothing.
#[derive(Debug)]
pub struct Input {
    event: EventFields,
    headers: HeaderList,
    /// `None` if it was not read.
    body: Option<Vec<u8>>,
    body_bytes: usize,
    event_value: OnceLock<Box<dyn Val>>,
    headers_value: OnceLock<Box<dyn Val>>,
    body_value: OnceLock<Result<Box<dyn Val>, ExpressionError>>,
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Some(Ok(value)) = self.body_value.take() {
            dismantle(value);
        }
    }
}

impl Input {
    /// Takes an event. Nothing is parsed yet.
    #[must_use]
    pub fn new(event: EventFields, headers: HeaderList, body: Vec<u8>) -> Self {
        let body_bytes = body.len();
        let mut input = Self::without_body(event, headers, body_bytes);
        input.body = Some(body);
        input
    }

    /// Takes an event whose body of `body_bytes` bytes was not read. Expressions that do not use `body` have the same
    /// result as with it. Those that use it also have the same result if it is larger than [`MAX_BODY_BYTES`]; for a
    /// smaller body they fail with [`super::ExpressionError::Internal`].
    #[must_use]
    pub fn without_body(event: EventFields, headers: HeaderList, body_bytes: usize) -> Self {
        Self {
            event,
            headers,
            body: None,
            body_bytes,
            event_value: OnceLock::new(),
            headers_value: OnceLock::new(),
            body_value: OnceLock::new(),
        }
    }

    /// Why expressions cannot read the body, if they cannot.
    pub(super) fn body_problem(&self) -> Option<ExpressionError> {
        if self.body_bytes > MAX_BODY_BYTES {
            return Some(ExpressionError::BodyTooLarge(self.body_bytes));
        }
        match self.body_value() {
            Some(Ok(_)) => None,
            Some(Err(problem)) => Some(problem.clone()),
            // A bug of the caller, which must decide nothing.
            None => Some(ExpressionError::Internal),
        }
    }

    fn body_value(&self) -> Option<&Result<Box<dyn Val>, ExpressionError>> {
        let body = self.body.as_deref()?;
        Some(self.body_value.get_or_init(|| body_value(&self.headers, body)))
    }

    pub(super) fn get(&self, name: &str) -> Option<&dyn Val> {
        let value = match name {
            "event" => self.event_value.get_or_init(|| event_value(&self.event)),
            "headers" => self.headers_value.get_or_init(|| headers_value(&self.headers)),
            // `Program::evaluate` has rejected a larger one before.
            "body" if self.body_bytes <= MAX_BODY_BYTES => return self.body_value()?.as_deref().ok(),
            _ => return None,
        };
        Some(value.as_ref())
    }
}

fn event_value(event: &EventFields) -> Box<dyn Val> {
    let received_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(event.received_at_ms) * 1_000_000)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok());
    from_plain(json!({
        "id": event.id,
        "type": event.event_type,
        "source": event.source,
        "provider_event_id": event.provider_event_id,
        "received_at": received_at,
        "received_at_ms": event.received_at_ms,
        "method": event.method,
        "query": event.query,
    }))
}

fn headers_value(headers: &HeaderList) -> Box<dyn Val> {
    let mut map = serde_json::Map::new();
    for (name, value) in headers.iter() {
        match map.get_mut(name) {
            Some(Json::String(joined)) => {
                joined.push_str(", ");
                joined.push_str(value);
            }
            _ => {
                map.insert(name.to_owned(), Json::String(value.to_owned()));
            }
        }
    }
    from_plain(Json::Object(map))
}

fn body_value(headers: &HeaderList, body: &[u8]) -> Result<Box<dyn Val>, ExpressionError> {
    match reader::read(headers, body, MAX_BODY_BYTES.min(reader::decoded_limit(body.len()))) {
        Content::Document(document) => Ok(from_json(document.root())),
        Content::Text(text) => Ok(from_plain(text.into())),
        Content::Nothing => Ok(from_plain(Json::Null)),
        Content::TooDeep => Err(ExpressionError::BodyTooDeep),
        Content::TooLarge => Err(ExpressionError::DecodedBodyTooLarge),
    }
}
