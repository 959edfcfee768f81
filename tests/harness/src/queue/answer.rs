//! The response to a pull, as the faults change it: garbled, slow, or cut off.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::Sleep;

use super::{Faults, Garble, Garbled};
use crate::server::Cut;

/// The interval between two parts of a slow response.
const TICK: Duration = Duration::from_millis(20);

/// Garbles every message of a response whose body contains a text.
pub(super) fn garble(answer: String, fault: Option<&Garbled>) -> String {
    let Some(Garbled { holding, how }) = fault else { return answer };
    let wrong = match how {
        Garble::NotJson => r"\q",
        Garble::LoneSurrogate => r"\ud800",
    };
    // Escaped, as inside a JSON string.
    let written = serde_json::Value::from(holding.as_str()).to_string();
    let written = written.trim_matches('"');
    answer.replace(written, &format!("{wrong}{written}"))
}

/// A body that may be slow, and may be cut off before its end.
#[derive(Debug)]
pub(super) struct Paced {
    rest: Bytes,
    /// The number of bytes that are still sent before the connection is closed.
    cut_after: Option<usize>,
    /// The number of bytes per tick; `None` sends all at once.
    at_a_time: Option<usize>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(super) fn new(text: String, faults: &Faults) -> Self {
        let rest = Bytes::from(text);
        let too_large = faults.pull_cut_above_bytes > 0 && rest.len() as u64 > faults.pull_cut_above_bytes;
        let per_tick = usize::try_from(faults.pull_bytes_per_s / 50).unwrap_or(usize::MAX).max(1);
        Self {
            cut_after: too_large.then_some(rest.len() / 2),
            rest,
            at_a_time: (faults.pull_bytes_per_s > 0).then_some(per_tick),
            pause: None,
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(pause) = self.pause.as_mut() {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        if self.cut_after == Some(0) {
            return Poll::Ready(Some(Err(Cut::Close)));
        }
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let most = self.cut_after.unwrap_or(self.rest.len());
        let now = self.at_a_time.map_or(most, |at_a_time| at_a_time.min(most));
        self.cut_after = self.cut_after.map(|left| left - now);
        // Also before the cut: hyper flushes a frame only while the body is pending.
        let waits = self.at_a_time.is_some() || self.cut_after == Some(0);
        self.pause = waits.then(|| Box::pin(tokio::time::sleep(TICK)));
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(now)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
