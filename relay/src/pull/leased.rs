//! The messages in a response to a pull. Each is parsed separately, so that one that cannot be parsed does not affect
//! the others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The longest id or lease id that is recognised, in bytes.
const LONGEST_ID_BYTES: usize = 8_192;

/// The most ids that are searched for.
const MOST_IDS: usize = 16;

/// A message with its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    pub message_id: String,
    pub lease_id: String,
    /// How often the queue has leased it, this time included; 0 if the queue does not report it.
    pub attempts: u32,
    /// When the queue accepted it, as Unix time in milliseconds, if the queue reports it.
    pub accepted_at_ms: Option<u64>,
    /// The type set by the sender: `text`, `bytes`, `json` or `v8`. Empty if it cannot be determined.
    pub content_type: String,
    pub body: LeasedBody,
}

/// The body of a message as it came out of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeasedBody {
    Message(Vec<u8>),
    /// Not a message of Tidegate. `raw` is the string that the API returned as the body. If that is not a string, it is
    /// the JSON of the body. If the body cannot be separated from the rest, it is the JSON of the message.
    Unreadable {
        raw: Vec<u8>,
        reason: String,
    },
}

/// The usual form of a response, parsed in one pass.
#[derive(Deserialize)]
struct PlainAnswer {
    result: PlainResult,
}

#[derive(Deserialize)]
struct PlainResult {
    messages: Vec<PlainMessage>,
}

#[derive(Deserialize)]
struct PlainMessage {
    id: String,
    lease_id: String,
    attempts: u32,
    timestamp_ms: u64,
    body: String,
    metadata: PlainMetadata,
}

#[derive(Deserialize)]
struct PlainMetadata {
    #[serde(rename = "CF-Content-Type")]
    content_type: String,
}

impl PlainMessage {
    fn leased(self) -> Leased {
        Leased {
            message_id: self.id,
            lease_id: self.lease_id,
            attempts: self.attempts,
            accepted_at_ms: Some(self.timestamp_ms),
            body: read_text(&self.metadata.content_type, self.body),
            content_type: self.metadata.content_type,
        }
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Option<Pulled<'a>>,
}

#[derive(Deserialize, Default)]
struct Pulled<'a> {
    #[serde(borrow)]
    messages: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct PulledMessage<'a> {
    lease_id: String,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    attempts: Value,
    #[serde(default)]
    timestamp_ms: Value,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(default)]
    metadata: Value,
}

/// Reads a response.
///
/// # Errors
/// Returns an error if it is not JSON, or not a response to a pull. A message without a lease is left out: it returns
/// to the queue when its lease expires.
pub fn read(answer: &[u8]) -> serde_json::Result<Vec<Leased>> {
    if let Ok(plain) = serde_json::from_slice::<PlainAnswer>(answer) {
        return Ok(plain.result.messages.into_iter().map(PlainMessage::leased).collect());
    }
    let answer: Answer<'_> = serde_json::from_slice(answer)?;
    let messages = answer.result.unwrap_or_default().messages.unwrap_or_default();
    Ok(messages.into_iter().filter_map(|message| read_message(message.get())).collect())
}

fn read_message(text: &str) -> Option<Leased> {
    let message: PulledMessage<'_> = match serde_json::from_str(text) {
        Ok(message) => message,
        Err(error) => return read_leniently(text, &error),
    };
    let content_type = message.metadata.get("CF-Content-Type").and_then(Value::as_str).unwrap_or("text");
    Some(Leased {
        message_id: message.id.as_str().unwrap_or_default().to_owned(),
        lease_id: message.lease_id,
        attempts: message.attempts.as_u64().and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(0),
        accepted_at_ms: message.timestamp_ms.as_u64(),
        body: read_body(content_type, message.body.map_or("null", RawValue::get)),
        content_type: content_type.to_owned(),
    })
}

/// What can be recovered from a message whose fields do not match the API.
fn read_leniently(text: &str, error: &serde_json::Error) -> Option<Leased> {
    let raw = text.as_bytes().to_vec();
    let Some(lease_id) = strings_of(&raw, "lease_id").pop() else {
        let start: String = text.chars().take(200).collect();
        tracing::error!(
            %error,
            start,
            "the queue API returned a message without a lease id; the message cannot be acknowledged and will be \
             leased again"
        );
        return None;
    };
    Some(Leased {
        message_id: strings_of(&raw, "id").into_iter().next().unwrap_or_default(),
        lease_id,
        attempts: 0,
        accepted_at_ms: None,
        content_type: String::new(),
        body: LeasedBody::Unreadable {
            raw,
            reason: format!("the queue API returned a message in an unexpected format: {error}"),
        },
    })
}

/// A body from its JSON.
fn read_body(content_type: &str, body: &str) -> LeasedBody {
    match serde_json::from_str(body) {
        Ok(text) => read_text(content_type, text),
        Err(error) if body.starts_with('"') => {
            unreadable(body.to_owned(), format!("the queue API returned a body that is not a valid string: {error}"))
        }
        Err(_) => unreadable(body.to_owned(), "the queue API returned a body that is not a string".to_owned()),
    }
}

fn unreadable(raw: String, reason: String) -> LeasedBody {
    LeasedBody::Unreadable { raw: raw.into_bytes(), reason }
}

/// A body from the string that the API returned. Undoes the encoding of its content type.
#[must_use]
pub fn read_text(content_type: &str, text: String) -> LeasedBody {
    match content_type {
        "text" => LeasedBody::Message(text.into_bytes()),
        "bytes" => match BASE64.decode(&text) {
            Ok(bytes) => LeasedBody::Message(bytes),
            Err(_) => unreadable(text, "the queue API returned a bytes body that is not base64".to_owned()),
        },
        // A JSON string that contains a message of Tidegate, sent manually or by a tool.
        "json" => {
            let json = BASE64.decode(&text).unwrap_or_else(|_| text.clone().into_bytes());
            match serde_json::from_slice(&json) {
                Ok(Value::String(message)) => LeasedBody::Message(message.into_bytes()),
                Ok(_) | Err(_) => unreadable(text, "the message is JSON, but not a string".to_owned()),
            }
        }
        other => unreadable(text, format!("the content type {other} is not supported")),
    }
}

/// The distinct values of the string fields with this name, in order, in a text that may not be JSON. Such text within
/// a body does not match, because its quotes are escaped.
pub(super) fn strings_of(raw: &[u8], name: &str) -> Vec<String> {
    let field = format!("\"{name}\"");
    let mut found = Vec::new();
    let mut rest = raw;
    while let Some(at) = rest.windows(field.len()).position(|window| window == field.as_bytes()) {
        rest = &rest[at + field.len()..];
        if let Some(value) = string_after_colon(rest)
            && !found.contains(&value)
        {
            found.push(value);
        }
        if found.len() >= MOST_IDS {
            break;
        }
    }
    found
}

/// The string in `: "string"`, if it has no escapes.
fn string_after_colon(text: &[u8]) -> Option<String> {
    let value = text.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = value.iter().take(LONGEST_ID_BYTES + 1).position(|byte| *byte == b'"')?;
    let value = std::str::from_utf8(&value[..end]).ok()?;
    (!value.is_empty() && !value.contains(['\\', '\0'])).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_body_is_used_as_it_is() {
        assert_eq!(read_body("text", "\"aGVsbG8=\""), LeasedBody::Message(b"aGVsbG8=".to_vec()));
    }

    #[test]
    fn bytes_are_decoded_from_base64() {
        assert_eq!(read_body("bytes", "\"AP8K\""), LeasedBody::Message(vec![0, 0xff, b'\n']));
    }

    #[test]
    fn a_json_body_is_read_plain_and_in_base64() {
        let base64 = BASE64.encode("\"message\"");
        for body in ["\"message\"", base64.as_str()] {
            assert_eq!(read_body("json", &json!(body).to_string()), LeasedBody::Message(b"message".to_vec()));
        }
    }

    #[test]
    fn a_body_that_cannot_be_read_is_kept() {
        for (content_type, body) in
            [("v8", json!("x")), ("bytes", json!("/w=!")), ("json", json!("{}")), ("text", json!({}))]
        {
            assert!(
                matches!(read_body(content_type, &body.to_string()), LeasedBody::Unreadable { .. }),
                "{content_type}"
            );
        }
    }

    #[test]
    fn a_result_without_messages_is_an_empty_pull() {
        for body in [r#"{"success":true,"result":{}}"#, r#"{"success":true,"result":null}"#, r#"{"success":true}"#] {
            assert_eq!(read(body.as_bytes()).expect("reads"), []);
        }
    }

    #[test]
    fn a_message_is_read_with_its_age_and_its_content_type() {
        let answer = json!({ "result": { "messages": [{
            "id": "m1", "lease_id": "l1", "attempts": 3, "timestamp_ms": 1_764_000_000_000_u64, "body": "aGk=",
            "metadata": { "CF-Content-Type": "bytes" },
        }]}});
        let wanted = Leased {
            message_id: "m1".to_owned(),
            lease_id: "l1".to_owned(),
            attempts: 3,
            accepted_at_ms: Some(1_764_000_000_000),
            content_type: "bytes".to_owned(),
            body: LeasedBody::Message(b"hi".to_vec()),
        };
        assert_eq!(read(answer.to_string().as_bytes()).expect("reads"), [wanted]);
    }

    #[test]
    fn a_message_that_cannot_be_read_does_not_affect_the_others() {
        let answer = r#"{"result":{"messages":[
            {"id":"m1","lease_id":"l1","body":"\ud800"},
            {"id":"m2","lease_id":"l2","body":"good","metadata":null},
            {"id":"m3","body":"without a lease"},
            {"id":"m4","lease_id":"l4","lease_id":"l4","body":"twice"},
            {"id":"m5","lease_id":"l5"}
        ]}}"#;
        let read = read(answer.as_bytes()).expect("reads");
        let leases: Vec<(&str, &str)> = read.iter().map(|m| (m.message_id.as_str(), m.lease_id.as_str())).collect();
        assert_eq!(leases, [("m1", "l1"), ("m2", "l2"), ("m4", "l4"), ("m5", "l5")]);
        let LeasedBody::Unreadable { raw, .. } = &read[0].body else { panic!("{:?}", read[0]) };
        assert_eq!(raw.as_slice(), br#""\ud800""#, "as the queue returned it");
        assert_eq!(read[1].body, LeasedBody::Message(b"good".to_vec()));
        for message in &read[2..] {
            assert!(matches!(message.body, LeasedBody::Unreadable { .. }), "{message:?}");
        }
    }

    #[test]
    fn a_response_that_is_not_json_is_an_error() {
        for answer in ["<html>", r#"{"result":{"messages":[{"lease_id":"l1","body":"\q"}]}}"#, r#"{"result":{"mess"#] {
            assert!(read(answer.as_bytes()).is_err(), "{answer}");
        }
    }

    #[test]
    fn ids_are_found_in_text_that_is_not_json() {
        let raw = br#"{"messages":[{"id" : "m1","body":"\q a \"lease_id\":\"forged\"", "lease_id":
            "eyJ..l1"}]"#;
        assert_eq!(strings_of(raw, "lease_id"), ["eyJ..l1"]);
        assert_eq!(strings_of(raw, "id"), ["m1"]);
    }

    #[test]
    fn only_a_plain_string_is_an_id() {
        for raw in [r#""id":"#, r#""id":7"#, r#""id":"""#, r#""id":"no end"#, r#""id":"a\n""#, r#""id" "x""#, "id"] {
            assert_eq!(strings_of(raw.as_bytes(), "id"), [""; 0], "{raw}");
        }
        let long = format!("\"id\":\"{}\"", "x".repeat(LONGEST_ID_BYTES + 1));
        assert_eq!(strings_of(long.as_bytes(), "id"), [""; 0]);
    }

    #[test]
    fn each_id_is_found_once_up_to_a_maximum() {
        let many: String = (0..40).map(|number| format!("\"id\":\"{}\",", number / 2)).collect();
        assert_eq!(strings_of(many.as_bytes(), "id").len(), MOST_IDS);
    }
}
