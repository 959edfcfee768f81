//! The header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a POST that is sent again with the same key
//! has the response of the first one, and is not carried out again.
//!
//! PUT, PATCH and DELETE do not take it: they are idempotent by themselves, and `If-Match` protects them.

use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::known::Known;
use super::problem::ApiError;
use super::{conditions, input};
use crate::control::fields::FieldError;
use crate::control::idempotency::{self, Answer, Begun, FIELD, Kept, MAX_ANSWER_BYTES};
use crate::control::{Actor, Control, Error as Refused};

/// The name of the header in requests.
pub(super) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// Marks a response that is that of an earlier request.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Carries a request with a key out once.
pub(crate) async fn once(
    State((control, known)): State<(Control, Known)>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // The method and the path of the request have no meaning for a path without a call.
    let Some(takes_key) = known.takes_key(path.as_str(), request.method()) else { return Ok(next.run(request).await) };
    let mut keys = request.headers().get_all(&HEADER).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return match request.headers().contains_key(&HEADER) {
            true => Err(invalid("is given more than once; send one key")),
            false => Ok(next.run(request).await),
        };
    };
    if !takes_key {
        // A read with a key is harmless. A change with a key would not be protected as the caller expects.
        return match *request.method() {
            Method::GET | Method::HEAD => Ok(next.run(request).await),
            _ => Err(invalid("is not supported by this endpoint; omit it")),
        };
    }
    let key = key.to_str().map_err(|_| invalid("must have printable ASCII characters, such as a UUID"))?.to_owned();
    let actor = request.extensions().get::<Actor>().cloned().ok_or(ApiError::Unauthorized)?;
    let (parts, body) = request.into_parts();
    let bytes = input::receive(Request::from_parts(parts.clone(), body), &()).await?;
    let sent = idempotency::Request::default()
        .with(parts.method.as_str().as_bytes())
        .with(parts.uri.path().as_bytes())
        .with(parts.uri.query().unwrap_or_default().as_bytes())
        .with(&bytes);
    match idempotency::begin(&control, actor, &key, sent).await? {
        Begun::Answered(answer) => Ok(replayed(answer)),
        Begun::Proceed(actor, running) => {
            let mut request = Request::from_parts(parts, Body::from(bytes));
            request.extensions_mut().insert(*actor);
            let response = next.run(request).await;
            let (response, answer) = kept(response).await?;
            running.end(answer).await;
            Ok(response)
        }
    }
}

/// A response, and the answer that is kept of it; `None` if none is.
async fn kept(response: Response) -> Result<(Response, Option<Answer>), ApiError> {
    let result = match response.status() {
        StatusCode::OK => Kept::Done,
        StatusCode::CREATED => Kept::Created,
        StatusCode::ACCEPTED => Kept::Later,
        _ => return Ok((response, None)),
    };
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
    if !is_json || size.is_none_or(|size| size > MAX_ANSWER_BYTES) {
        return Ok((response, None));
    }
    let (parts, body) = response.into_parts();
    let read = axum::body::to_bytes(body, MAX_ANSWER_BYTES).await;
    let bytes = read.map_err(|error| Refused::Internal(error.to_string()))?;
    let tag = parts.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
    let version = tag.map(|tag| tag.trim_matches('"').to_owned());
    let answer = String::from_utf8(bytes.to_vec()).ok().map(|body| Answer { result, version, body });
    Ok((Response::from_parts(parts, Body::from(bytes)), answer))
}

/// The response of an earlier request.
fn replayed(answer: Answer) -> Response {
    let Answer { result, version, body } = answer;
    let status = match result {
        Kept::Done => StatusCode::OK,
        Kept::Created => StatusCode::CREATED,
        Kept::Later => StatusCode::ACCEPTED,
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    if let Some(tag) = version.as_deref().and_then(conditions::tag) {
        headers.insert(ETAG, tag);
    }
    response
}

fn invalid(message: &str) -> ApiError {
    Refused::Invalid(vec![FieldError::new(FIELD, message)]).into()
}
