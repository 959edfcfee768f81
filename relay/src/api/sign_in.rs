//! Sign-in with OpenID Connect, for browsers. These are no calls of the API: the browser goes from page to page, and
//! the last one gives it the cookie of a session.

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;

use super::auth;
use super::input::Params;
use super::problem::ApiError;
use super::site::Site;
use crate::control::sessions::LIFETIME;
use crate::control::sign_in::{self, Answer, WITHIN};
use crate::control::{Control, Error};

/// The pages of the sign-in.
pub(super) fn pages() -> Router<Control> {
    Router::new().route(sign_in::START, get(start)).route(sign_in::CALLBACK, get(callback))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    /// The path of the relay to which the browser goes in the end.
    return_to: Option<String>,
}

/// Sends the browser to the provider.
async fn start(
    State(control): State<Control>,
    headers: HeaderMap,
    Params(query): Params<Start>,
) -> Result<Response, ApiError> {
    let begun = sign_in::begin(&control, query.return_to.as_deref()).await?;
    let site = Site::of(control.public_url(), &headers).ok_or(ApiError::PlainHttp)?;
    redirect(&begun.url, &[site.new_sign_in(begun.remembered.reveal(), WITHIN)])
}

/// What the provider adds to the URL. Other parameters have no meaning for the relay.
#[derive(Debug, Default, Deserialize)]
struct Callback {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// Receives the browser from the provider.
async fn callback(State(control): State<Control>, request: Request) -> Response {
    let request_id = auth::request_id(request.extensions());
    let Some(site) = Site::of(control.public_url(), request.headers()) else {
        return ApiError::PlainHttp.into_response();
    };
    let query = Query::<Callback>::try_from_uri(request.uri()).map(|Query(query)| query).unwrap_or_default();
    let remembered = site.sign_in(request.headers());
    let answer = Answer {
        state: query.state.as_deref().unwrap_or_default(),
        code: query.code.as_deref(),
        error: query.error.as_deref(),
        issuer: query.iss.as_deref(),
    };
    let finished = sign_in::finish(&control, &answer, remembered.as_deref(), request_id).await;
    let response = finished.map_err(ApiError::from).and_then(|signed_in| {
        let session = site.new_session(signed_in.made.secret.reveal(), LIFETIME);
        redirect(&signed_in.return_to, &[session])
    });
    let mut response = response.unwrap_or_else(ApiError::into_response);
    // A sign-in ends once.
    response.headers_mut().append(SET_COOKIE, site.no_sign_in());
    response
}

/// Sends the browser to a URL, with these cookies.
fn redirect(url: &str, cookies: &[HeaderValue]) -> Result<Response, ApiError> {
    let location = HeaderValue::try_from(url).map_err(|error| Error::Internal(error.to_string()))?;
    let mut response = (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response();
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie.clone());
    }
    Ok(response)
}
