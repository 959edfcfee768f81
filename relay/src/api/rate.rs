//! Limits the requests of each caller, and says in each response how many more it may make
//! (draft-ietf-httpapi-ratelimit-headers).

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue};

use super::problem::ApiError;
use crate::control::await_tokens::Grant;
use crate::control::error::whole_seconds;
use crate::control::request_rate::{PERIOD, Quota};
use crate::control::{Actor, Control, Error};

/// The limit: a number of requests in a number of seconds.
pub(super) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is left of the limit.
pub(super) const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// Passes a request on if its caller may make one more.
pub(crate) async fn limit(State(control): State<Control>, request: Request, next: Next) -> Result<Response, ApiError> {
    let extensions = request.extensions();
    let caller = extensions.get().map(Actor::caller).or_else(|| extensions.get().map(Grant::caller));
    let quota = control.count_request(&caller.ok_or(ApiError::Unauthorized)?);
    let mut response = match quota.wait {
        None => next.run(request).await,
        Some(wait) => ApiError::from(Error::TooManyRequests(wait)).into_response(),
    };
    let headers = response.headers_mut();
    for (name, text) in [(POLICY, policy(&quota)), (LEFT, left(&quota))] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

fn policy(quota: &Quota) -> String {
    format!("\"caller\";q={};w={}", quota.limit, PERIOD.as_secs())
}

fn left(quota: &Quota) -> String {
    format!("\"caller\";r={};t={}", quota.remaining, whole_seconds(quota.recovers_in))
}
