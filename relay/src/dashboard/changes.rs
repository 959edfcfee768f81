//! Tells a page that something has changed, as server-sent events. The page then reads itself again.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};

use super::failure::Failure;
use super::viewer::Viewer;
use crate::control::Control;
use crate::control::pulses::{self, Sent};

/// Has nginx pass each event on at once.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The stream of pulses.
pub(super) async fn follow(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let pulses = pulses::open(&control, &viewer.actor)?;
    let events = unfold((pulses, true), |(mut pulses, is_first)| async move {
        if is_first {
            return Some((Ok::<_, Infallible>(Bytes::from_static(b"retry: 2000\n\n")), (pulses, false)));
        }
        let text: &[u8] = match pulses.next().await? {
            Sent::Changed => b"event: changed\ndata:\n\n",
            Sent::Heartbeat => b": heartbeat\n\n",
        };
        Some((Ok(Bytes::from_static(text)), (pulses, false)))
    });
    let mut response = Body::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}
