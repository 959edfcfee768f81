//! Authentication: the bearer token or the session of a request, and the [`Actor`] that it stands for.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, SET_COOKIE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, Uri};
use tower_http::request_id::RequestId;
use url::form_urlencoded;

use super::problem::ApiError;
use super::server::Peer;
use super::site::{self, Site};
use crate::control::{Actor, Control, Error, authentication, await_tokens};

/// The path of the call that awaits one job, which alone takes await tokens.
pub(super) const AWAIT_PATH: &str = "/v1/await/{source}/{key}";

/// The query parameter with an await token.
pub(super) const AWAIT_TOKEN_PARAMETER: &str = "token";

/// Passes a request on if it has a token or a session that is accepted. If it has an `Authorization` header, that alone
/// counts.
pub(crate) async fn authenticate(
    State(control): State<Control>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let from = caller(request.extensions());
    if let Some(token) = await_token(&request) {
        let grant = authentication::authenticate_await(&control, &token, from).await?;
        if let Some(uri) = without_token(request.uri()) {
            *request.uri_mut() = uri;
        }
        request.extensions_mut().insert(grant);
        return Ok(next.run(request).await);
    }
    let headers = request.headers();
    let actor = if headers.contains_key(AUTHORIZATION) {
        let token = token(headers).ok_or(ApiError::Unauthorized)?;
        authentication::authenticate(&control, token, from).await?
    } else {
        let site = Site::of(control.public_url(), headers).ok_or(ApiError::Unauthorized)?;
        let session = site.session(headers).ok_or(ApiError::Unauthorized)?;
        site::check(&site, request.method(), headers).map_err(ApiError::CrossSite)?;
        match authentication::authenticate_session(&control, &session, from).await {
            // The browser forgets a session that has ended, and does not send it again.
            Err(Error::Unauthenticated) => {
                let mut response = ApiError::SessionEnded.into_response();
                response.headers_mut().insert(SET_COOKIE, site.no_session());
                return Ok(response);
            }
            authenticated => authenticated?,
        }
    };
    let actor = actor.requesting(request_id(request.extensions()));
    request.extensions_mut().insert(actor);
    Ok(next.run(request).await)
}

/// The await token of a request to await one job; `None` if it has none.
fn await_token(request: &Request) -> Option<String> {
    let path = request.extensions().get::<MatchedPath>()?;
    if path.as_str() != AWAIT_PATH {
        return None;
    }
    if request.headers().contains_key(AUTHORIZATION) {
        return token(request.headers()).filter(|token| await_tokens::has_form(token)).map(str::to_owned);
    }
    let query = form_urlencoded::parse(request.uri().query()?.as_bytes());
    query.into_iter().find(|(name, _)| name == AWAIT_TOKEN_PARAMETER).map(|(_, token)| token.into_owned())
}

/// The URI without the await token, which no handler and no log needs; `None` if it has none.
fn without_token(uri: &Uri) -> Option<Uri> {
    let pairs = form_urlencoded::parse(uri.query()?.as_bytes());
    let others = pairs.filter(|(name, _)| name != AWAIT_TOKEN_PARAMETER);
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(others).finish();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{}?{query}", uri.path())).ok()?);
    Uri::from_parts(parts).ok()
}

/// The address of the caller.
pub(crate) fn caller(extensions: &Extensions) -> IpAddr {
    // Only in tests a request comes without a connection.
    extensions.get().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(address)| *address)
}

/// The bearer token of a request; `None` if it has none.
pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer)
}

/// The id of a request, as its response and the log have it.
pub(crate) fn request_id(extensions: &Extensions) -> Option<String> {
    extensions.get::<RequestId>()?.header_value().to_str().ok().map(str::to_owned)
}

/// A request has an actor only if its token was accepted.
impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or(ApiError::Unauthorized)
    }
}

/// The token of an Authorization header. The name of the scheme is case-insensitive (RFC 9110 section 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_follows_the_scheme() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("abc"), None);
    }
}
