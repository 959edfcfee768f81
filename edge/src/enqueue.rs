//! Sending a message to the queue: durable before the provider hears "accepted".

use std::time::Duration;

use worker::wasm_bindgen::JsValue;
use worker::{Delay, Queue, QueueContentType, RawMessageBuilder};

use crate::log;

/// The pauses before the second and the third try, in milliseconds. Together with the tries they stay below the second
/// that the strictest providers wait for an answer.
const PAUSES_MS: [u64; 2] = [100, 300];

/// Why a message is not in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The queue is overloaded or failed; the provider should come again soon.
    Busy,
    /// The queue takes nothing until somebody acts: it is full, disabled, or over the limit of a free plan.
    Closed,
}

impl SendError {
    /// When the provider should come again, in seconds.
    pub(crate) fn retry_after_s(self) -> u32 {
        match self {
            Self::Busy => 5,
            Self::Closed => 60,
        }
    }
}

/// Sends a text. A failed try is repeated with the same text, and so with the same event id: where the first try did
/// arrive after all, the relay recognises the second.
///
/// # Errors
/// See [`SendError`]; the message may or may not be in the queue.
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

/// Goes on with a message after a try that failed with `error`; `send` makes one try.
///
/// # Errors
/// As [`enqueue`].
pub(crate) async fn enqueue_again(
    send: impl AsyncFn() -> Result<(), String>,
    mut error: String,
) -> Result<(), SendError> {
    let mut pauses = PAUSES_MS.iter();
    loop {
        log::error("the queue does not take a message", &[("error", &error)]);
        match (classify(&error), pauses.next()) {
            (SendError::Busy, Some(pause)) => Delay::from(Duration::from_millis(*pause)).await,
            (error @ (SendError::Busy | SendError::Closed), _) => return Err(error),
        }
        match send().await {
            Ok(()) => return Ok(()),
            Err(again) => error = again,
        }
    }
}

/// Reads the error code that a queue puts in brackets at the end of its message (Cloudflare's list of Queues error
/// codes). A code that is not known, and none at all, count as passing.
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
