//! A message that makes the response to its pull unreadable, even when it is pulled alone. It is kept as it came and
//! acknowledged, so that it does not hold up other messages.

use model::unreadable::Reason;
use tokio_util::sync::CancellationToken;

use super::api::{Error, Unread};
use super::leased::strings_of;
use super::{Group, Pulled, Puller};
use crate::intake::message::RawMessage;
use crate::mint;

/// The largest response that is kept, in bytes. One message of 128 kB is less than 1 MB of JSON.
pub(crate) const MOST_KEPT_BYTES: usize = 4_000_000;

/// Stored in place of a content type: the queue's whole response with the message is kept.
pub const WHOLE_ANSWER: &str = "answer";

/// What is known of a message whose response could not be read.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    message_id: String,
    /// Contains the lease of the message. Other texts that match by accident are harmless: the queue does not know
    /// them.
    leases: Vec<String>,
}

impl Puller {
    /// Keeps the response to a pull of one message and acknowledges the message.
    pub(super) async fn keep_apart(&self, unread: Unread, stop: &CancellationToken) -> Pulled {
        let found = match find(&unread) {
            Ok(found) => found,
            Err(None) => return Pulled::Failed { asked: 1, error: Error::Unread(unread) },
            Err(Some(error)) => {
                let start = String::from_utf8_lossy(&unread.received[..unread.received.len().min(200)]).into_owned();
                tracing::error!(
                    queue = self.queue.id(),
                    start,
                    error,
                    "the response to a pull could not be parsed; its messages return to the queue when their leases \
                     expire"
                );
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

/// Finds the ids in a response. The error says what to do, if an operator can do anything. If the response is
/// incomplete, the message is pulled again.
fn find(unread: &Unread) -> Result<Found, Option<String>> {
    if !unread.is_whole {
        return Err(None);
    }
    if unread.received.len() > MOST_KEPT_BYTES {
        let what = "the response to a pull of one message is larger than any message can be";
        return Err(Some(format!("{what}; check TIDEGATE_QUEUE_API, and proxies between the relay and the API")));
    }
    let leases = strings_of(&unread.received, "lease_id");
    if leases.is_empty() {
        let what = "the response to a pull of one message contains no lease id";
        return Err(Some(format!(
            "{what}; check that TIDEGATE_QUEUE_API is Cloudflare's and that no proxy responds in its place"
        )));
    }
    let message_id = strings_of(&unread.received, "id").into_iter().next().unwrap_or_default();
    Ok(Found { message_id, leases })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(received: &str, is_whole: bool) -> Unread {
        Unread { reason: "invalid escape".to_owned(), received: received.as_bytes().to_vec(), is_whole }
    }

    #[test]
    fn only_a_complete_response_with_a_lease_is_kept_apart() {
        let with_lease = r#"{"id":"m1","lease_id":"l1","body":"\q"}"#;
        let found = Found { message_id: "m1".to_owned(), leases: vec!["l1".to_owned()] };
        assert_eq!(find(&unread(with_lease, true)), Ok(found));
        assert_eq!(find(&unread(with_lease, false)), Err(None), "the missing rest may be the cause");
        assert!(matches!(find(&unread("<html>", true)), Err(Some(_))));
        let too_large = format!("{with_lease}{}", " ".repeat(MOST_KEPT_BYTES));
        assert!(matches!(find(&unread(&too_large, true)), Err(Some(_))));
    }
}
