//! The layers around every call of the API: they give a request its id, trace it, limit its time, and turn a panic into
//! a response.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{map_request, map_response};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;

use super::problem::ApiError;
use crate::control::Error;
use crate::{mint, supervise};

/// The time limit of a call. Each statement of a call has a shorter limit; this one ends calls that run many
/// statements.
pub(crate) const ANSWERED_WITHIN: Duration = Duration::from_secs(120);

/// The header with the id of a request, in requests and responses.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The maximum length of an id that a caller sends, in bytes.
const LONGEST_ID: usize = 64;

/// Puts the layers around all calls of the router.
pub(super) fn around(router: Router, within: Duration) -> Router {
    let traced = TraceLayer::new_for_http()
        .make_span_with(span)
        .on_request(())
        .on_response(|response: &Response, took: Duration, _: &Span| {
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(status = response.status().as_u16(), took_ms, "the API responded to a request");
        })
        // A failure is logged when its error becomes a response.
        .on_failure(());
    // The last layer is the outermost one.
    router
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, within))
        .layer(map_response(took_too_long))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(traced)
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, NewId))
        .layer(map_request(without_odd_id))
}

/// Makes ids for requests without one.
#[derive(Clone)]
struct NewId;

impl MakeRequestId for NewId {
    fn make_request_id<B>(&mut self, _request: &http::Request<B>) -> Option<RequestId> {
        HeaderValue::try_from(mint::uuid().to_string()).ok().map(RequestId::new)
    }
}

/// The span of a request. It has the path but not the query, which may contain anything.
fn span(request: &Request) -> Span {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    tracing::info_span!("api", method = %request.method(), path = request.uri().path(), request_id = id)
}

/// Removes an id that is too long for the log, or that is more than a plain word.
async fn without_odd_id(mut request: Request) -> Request {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_odd = |id: &HeaderValue| id.is_empty() || id.len() > LONGEST_ID || !id.as_bytes().iter().all(is_plain);
    if request.headers().get(REQUEST_ID).is_some_and(is_odd) {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

/// Adds the problem document: the response of [`TimeoutLayer`] has no body.
async fn took_too_long(response: Response) -> Response {
    if response.status() == StatusCode::GATEWAY_TIMEOUT {
        tracing::warn!("a request took too long and was cancelled");
        return ApiError::TookTooLong.into_response();
    }
    response
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let error = Error::Internal(format!("the request handler panicked: {}", supervise::panic_text(&*panic)));
    ApiError::from(error).into_response()
}

#[cfg(test)]
#[path = "layers/tests.rs"]
mod tests;
