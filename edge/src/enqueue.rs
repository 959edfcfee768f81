//! Sends a message to the queue, before the provider gets "accepted".

use std::time::Duration;

use worker::wasm_bindgen::JsValue;
use worker::{Delay, Queue, QueueContentType, RawMessageBuilder};

use crate::log;

/// The pauses before the second and the third attempt, in milliseconds. Attempts and pauses together take less than the
/// second for which the strictest providers wait.
const PAUSES_MS: [u64; 2] = [100, 300];

/// Why a message is not in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The queue is overloaded or failed; the provider should try again soon.
    Busy,
    /// The queue accepts nothing until an operator acts: it is full, disabled, or over the limit of a free plan.
    Closed,
}

impl SendError {
    /// When the provider should try again, in seconds.
    pub(crate) fn retry_after_s(self) -> u32 {
        match self {
            Self::Busy => 5,
            Self::Closed => 60,
        }
    }
}

/// Sends a text. Each attempt sends the same text, and so the same event id: if an earlier attempt did arrive, the
/// relay recognises the copy.
///
/// # Errors
/// Returns an error if all attempts fail. The message may or may not be in the queue.
pub(crate) async fn enqueue(queue: &Queue, message: &str) -> Result<(), SendError> {
    let message = JsValue::from_str(message);
    let send = async || {
        // Never `send` of a value: that turns maps into `{}`.
        let text = RawMessageBuilder::new(message.clone()).build_with_content_type(QueueContentType::Text);
        queue.send_raw(text).await.map_err(|error| error.to_string())
    };
    match send().await {
        Ok(()) => Ok(()),
        Err(error) => enqueue_again(send, error).await,
    }
}

/// Tries again to send a message after an attempt that failed with `error`. `send` makes one attempt.
///
/// # Errors
/// Returns an error under the conditions of [`enqueue`].
pub(crate) async fn enqueue_again(
    send: impl AsyncFn() -> Result<(), String>,
    mut error: String,
) -> Result<(), SendError> {
    let mut pauses = PAUSES_MS.iter();
    loop {
        match (classify(&error), pauses.next()) {
            (SendError::Busy, Some(pause)) => {
                log::warn("sending a message to the queue failed; retrying", &[("error", &error)]);
                Delay::from(Duration::from_millis(*pause)).await;
            }
            (kind @ (SendError::Busy | SendError::Closed), _) => {
                log::error("a message could not be sent to the queue", &[("error", &error)]);
                return Err(kind);
            }
        }
        match send().await {
            Ok(()) => return Ok(()),
            Err(again) => error = again,
        }
    }
}

/// Reads the error code that a queue puts in brackets at the end of its message (Cloudflare's list of Queues error
/// codes). An unknown code and a missing one count as transient.
fn classify(text: &str) -> SendError {
    let code = text.rsplit_once('(').and_then(|(_, rest)| rest.split(')').next());
    match code {
        // Queue not found, storage limit exceeded, queue disabled, free tier limit exceeded.
        Some("10104" | "10251" | "10252" | "10253") => SendError::Closed,
        Some(_) | None => SendError::Busy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overloaded_queue_is_tried_again_and_a_closed_one_is_not() {
        for (text, wanted) in [
            ("Queue is overloaded. Please back off. (10250)", SendError::Busy),
            ("Unknown Internal Error (15000)", SendError::Busy),
            ("Queue send failed: Too Many Requests", SendError::Busy),
            ("", SendError::Busy),
            ("((", SendError::Busy),
            ("Storage limit exceeded (10251)", SendError::Closed),
            ("Queue is disabled (10252)", SendError::Closed),
            ("Free tier limit exceeded (10253)", SendError::Closed),
        ] {
            assert_eq!(classify(text), wanted, "{text}");
        }
    }

    #[test]
    fn all_tries_together_stay_below_a_second() {
        assert!(PAUSES_MS.iter().sum::<u64>() < 500, "the tries themselves need time too");
    }
}
