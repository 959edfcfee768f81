//! A message that makes the answer to its pull unreadable, even when it is pulled alone: it is kept as it came, and
//! acknowledged, so that it holds up nothing.

use model::unreadable::Reason;
use tokio_util::sync::CancellationToken;

use super::api::{Error, Unread};
use super::{Group, Pulled, Puller};
use crate::mint;
use crate::unreadable::RawMessage;

/// The largest answer that is kept, in bytes. One message of 128 kB is less than 1 MB of JSON.
pub(crate) const MOST_KEPT_BYTES: usize = 4_000_000;

/// In place of a content type: what is kept is the queue's whole answer with the message.
pub const WHOLE_ANSWER: &str = "answer";

/// The longest id or lease id that is looked for, in bytes.
const LONGEST_ID_BYTES: usize = 8_192;

/// The most ids that are looked for.
const MOST_IDS: usize = 16;

/// What is known of a message whose answer could not be read.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    message_id: String,
    /// The message has one lease. A text that only looks like another one is unknown to the queue.
    leases: Vec<String>,
}

impl Puller {
    /// Keeps the answer to a pull of one message and acknowledges the message.
    pub(super) async fn keep_apart(&self, unread: Unread, stop: &CancellationToken) -> Pulled {
        let found = match look(&unread) {
            Ok(found) => found,
            Err(None) => return Pulled::Failed { asked: 1, error: Error::Unread(unread) },
            Err(Some(error)) => {
                let start = String::from_utf8_lossy(&unread.received[..unread.received.len().min(200)]).into_owned();
                tracing::error!(queue = self.queue.id(), start, error, "a message of the queue cannot be read");
                return Pulled::Failed { asked: 1, error: Error::Unread(unread) };
            }
        };
        let raw = RawMessage {
            queue_id: self.queue.id().to_owned(),
            message_id: found.message_id,
            accepted_at_ms: None,
            content_type: Some(WHOLE_ANSWER.to_owned()),
            bytes: unread.received,
        };
        let mut group = Group { leases: found.leases, ..Group::default() };
        group.keep(raw, Reason::AnswerNotReadable, &unread.reason, mint::now_ms());
        self.finish(group, stop).await;
        Pulled::KeptApart
    }
}

/// Looks for the ids in an answer. The error says what to do, if anything can be done: a part of an answer is pulled
/// again.
fn look(unread: &Unread) -> Result<Found, Option<String>> {
    if !unread.is_whole {
        return Err(None);
    }
    if unread.received.len() > MOST_KEPT_BYTES {
        let what = "the answer to a pull of one message is larger than any message";
        return Err(Some(format!("{what}; check TIDEGATE_QUEUE_API and what lies between the relay and it")));
    }
    let leases = strings_of(&unread.received, "lease_id");
    if leases.is_empty() {
        let what = "the answer to a pull of one message names no lease; check that TIDEGATE_QUEUE_API is Cloudflare's";
        return Err(Some(format!("{what} and that no proxy answers in its place")));
    }
    let message_id = strings_of(&unread.received, "id").into_iter().next().unwrap_or_default();
    Ok(Found { message_id, leases })
}

/// The values of the string fields of this name in a text that may not be JSON, each once, in order. A body that holds
/// such text does not count: its quotes are escaped.
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

/// The string of `: "string"`, if it is plain.
fn string_after_colon(text: &[u8]) -> Option<String> {
    let value = text.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = value.iter().take(LONGEST_ID_BYTES + 1).position(|byte| *byte == b'"')?;
    let value = std::str::from_utf8(&value[..end]).ok()?;
    (!value.is_empty() && !value.contains(['\\', '\0'])).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(received: &str, is_whole: bool) -> Unread {
        Unread { reason: "invalid escape".to_owned(), received: received.as_bytes().to_vec(), is_whole }
    }

    #[test]
    fn ids_are_found_in_what_is_no_json() {
        let raw = br#"{"messages":[{"id" : "m1","body":"\q a \"lease_id\":\"forged\"", "lease_id":
            "eyJ..l1"}]"#;
        assert_eq!(strings_of(raw, "lease_id"), ["eyJ..l1"]);
        assert_eq!(strings_of(raw, "id"), ["m1"]);
    }

    #[test]
    fn what_is_no_plain_string_is_no_id() {
        for raw in [r#""id":"#, r#""id":7"#, r#""id":"""#, r#""id":"no end"#, r#""id":"a\n""#, r#""id" "x""#, "id"] {
            assert_eq!(strings_of(raw.as_bytes(), "id"), [""; 0], "{raw}");
        }
        let long = format!("\"id\":\"{}\"", "x".repeat(LONGEST_ID_BYTES + 1));
        assert_eq!(strings_of(long.as_bytes(), "id"), [""; 0]);
    }

    #[test]
    fn ids_are_found_once_each_and_no_more_than_some() {
        let many: String = (0..40).map(|number| format!("\"id\":\"{}\",", number / 2)).collect();
        assert_eq!(strings_of(many.as_bytes(), "id").len(), MOST_IDS);
    }

    #[test]
    fn only_a_whole_answer_with_a_lease_is_given_up() {
        let with_lease = r#"{"id":"m1","lease_id":"l1","body":"\q"}"#;
        let found = Found { message_id: "m1".to_owned(), leases: vec!["l1".to_owned()] };
        assert_eq!(look(&unread(with_lease, true)), Ok(found));
        assert_eq!(look(&unread(with_lease, false)), Err(None), "the rest of it may be what matters");
        assert!(matches!(look(&unread("<html>", true)), Err(Some(_))));
        let too_large = format!("{with_lease}{}", " ".repeat(MOST_KEPT_BYTES));
        assert!(matches!(look(&unread(&too_large, true)), Err(Some(_))));
    }
}
