//! Sessions: with which browsers authenticate after a sign-in.

use axum::Json;
use axum::extract::State;
use axum::response::AppendHeaders;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::auth;
use super::input::{Params, Segment};
use super::problem::{ApiError, Conflicts};
use super::query::PageQuery;
use super::site::{self, Site};
use crate::control::page::Page;
use crate::control::sessions::{self, EndedSessions, LIFETIME, Session};
use crate::control::{Actor, Control, schema};

type SetCookie = AppendHeaders<[(HeaderName, HeaderValue); 1]>;

/// Signs in: creates a session of the token that the request has.
///
/// The response sets the cookie of the session, which authenticates further requests in the place of the token. The
/// session has the scopes and the customer of the token, and ends after 12 hours, or when the token does. A session
/// cannot create another one.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", security(("token" = [])),
    responses((status = 201, body = Session, headers(("set-cookie" = String, description = "The cookie of the session."))),
        Conflicts))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    headers: HeaderMap,
) -> Result<(StatusCode, SetCookie, Json<Session>), ApiError> {
    let site = Site::of(control.public_url(), &headers).filter(|site| site.may_have_sessions());
    let site = site.ok_or(ApiError::PlainHttp)?;
    // A proxy that replaces the host would make a browser get the cookie of another site.
    site::check_origin(&site, &headers).map_err(ApiError::CrossSite)?;
    let token = auth::token(&headers).unwrap_or_default();
    let made = sessions::create_session(&control, &actor, token).await?;
    let cookie = site.new_session(made.secret.reveal(), LIFETIME);
    Ok((StatusCode::CREATED, AppendHeaders([(SET_COOKIE, cookie)]), Json(made.session)))
}

/// Lists the sessions that are accepted, newest first.
///
/// A caller with the scope `admin` sees all of them, and every other caller those of its own token or user. A session
/// of a root token that has been removed from the relay's settings is no longer accepted, and is listed until it
/// expires.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", security(("token" = [])), params(PageQuery),
    responses((status = 200, body = Page<Session>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Session>>, ApiError> {
    Ok(Json(sessions::list_sessions(&control, &actor, &query.into()).await?))
}

/// Signs out everywhere: ends all sessions of the caller's token or user.
///
/// No relay accepts them from now on. The token itself stays valid.
#[utoipa::path(delete, path = "/v1/sessions", tag = "sessions", security(("token" = [])),
    responses((status = 200, body = EndedSessions)))]
pub(super) async fn end_all(State(control): State<Control>, actor: Actor) -> Result<Json<EndedSessions>, ApiError> {
    Ok(Json(sessions::end_all_sessions(&control, &actor).await?))
}

/// Signs out: ends the session of the request and removes its cookie.
///
/// A request with a token has no session: the response is 409 (`no_session`).
#[utoipa::path(delete, path = "/v1/sessions/current", tag = "sessions", security(("token" = [])),
    responses((status = 204, description = "Ended.",
        headers(("set-cookie" = String, description = "Removes the cookie of the session."))), Conflicts))]
pub(super) async fn end_current(
    State(control): State<Control>,
    actor: Actor,
    headers: HeaderMap,
) -> Result<(StatusCode, SetCookie), ApiError> {
    sessions::end_this_session(&control, &actor).await?;
    let site = Site::of(control.public_url(), &headers).ok_or(ApiError::Unauthorized)?;
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(SET_COOKIE, site.no_session())])))
}

/// Ends a session.
///
/// No relay accepts it from now on. A caller with the scope `admin` can end any session, and every other caller those
/// of its own token or user. Ending a session twice has no effect.
#[utoipa::path(post, path = "/v1/sessions/{id}/end", tag = "sessions", security(("token" = [])),
    params(("id" = schema::SessionId, Path)), responses((status = 200, body = Session)))]
pub(super) async fn end(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Session>, ApiError> {
    Ok(Json(sessions::end_session(&control, &actor, &id).await?))
}
