//! Unreadable messages: messages of the queue that could not be stored as events.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::attachment;
use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Conflicts};
use crate::control::page::{Page, PageRequest};
use crate::control::unreadable::{
    self, Message, Reason, ReleaseOfMany, ReleasesBegun, UnreadableFilter, UnreadableMessage, UnreadableState,
};
use crate::control::{Actor, Control, schema};

/// Query parameters of `GET /v1/unreadable-messages`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UnreadableQuery {
    /// Only messages with this reason.
    reason: Option<Reason>,
    /// Only messages in this state.
    state: Option<UnreadableState>,
    /// The maximum number of items on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

/// Lists unreadable messages, newest first.
#[utoipa::path(get, path = "/v1/unreadable-messages", tag = "unreadable-messages", security(("token" = ["read"])),
    params(UnreadableQuery),
    responses((status = 200, body = Page<UnreadableMessage>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<UnreadableQuery>,
) -> Result<Json<Page<UnreadableMessage>>, ApiError> {
    let UnreadableQuery { reason, state, limit, cursor } = query;
    let (filter, page) = (UnreadableFilter { reason, state }, PageRequest { limit, cursor });
    Ok(Json(unreadable::list(&control, &actor, &filter, &page).await?))
}

/// Returns an unreadable message.
#[utoipa::path(get, path = "/v1/unreadable-messages/{id}", tag = "unreadable-messages", security(("token" = ["read"])),
    params(("id" = schema::UnreadableMessageId, Path)),
    responses((status = 200, body = UnreadableMessage)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<UnreadableMessage>, ApiError> {
    Ok(Json(unreadable::show(&control, &actor, &id).await?))
}

/// Returns the raw bytes of an unreadable message.
///
/// The response is the header line that the edge wrote, followed by the body. A large body, which the message only
/// refers to, is appended if it has been fetched.
#[utoipa::path(get, path = "/v1/unreadable-messages/{id}/message", tag = "unreadable-messages",
    security(("token" = ["bodies"])),
    params(("id" = schema::UnreadableMessageId, Path)),
    responses((
        status = 200, content_type = "application/octet-stream", body = Vec<u8>,
        description = "The raw bytes of the message.",
        headers(("content-disposition" = String, description = "`attachment`, with the id of the message as the file name.")),
    )))]
pub(super) async fn message(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let Message { id, bytes } = unreadable::message(&control, &actor, &id).await?;
    Ok(attachment(&id.to_string(), bytes))
}

/// Releases an unreadable message: tries to store it again.
///
/// Remove the cause first. If the message still cannot be stored, the call returns 409 `still_unreadable`. Releasing a
/// message twice has no effect.
#[utoipa::path(post, path = "/v1/unreadable-messages/{id}/release", tag = "unreadable-messages",
    security(("token" = ["replay"])),
    params(("id" = schema::UnreadableMessageId, Path)), responses((status = 200, body = UnreadableMessage), Conflicts))]
pub(super) async fn release(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<UnreadableMessage>, ApiError> {
    Ok(Json(unreadable::release(&control, &actor, &id).await?))
}

/// Releases all unreadable messages that have a given reason.
///
/// The relay tries to store the messages one after another in the background. Messages that still cannot be stored are
/// kept and retried later; `GET /v1/unreadable-messages?state=waiting&reason=…` lists them.
#[utoipa::path(post, path = "/v1/unreadable-messages/release", tag = "unreadable-messages",
    security(("token" = ["replay"])),
    request_body = ReleaseOfMany, responses((status = 202, body = ReleasesBegun)))]
pub(super) async fn release_many(
    State(control): State<Control>,
    actor: Actor,
    Body(request): Body<ReleaseOfMany>,
) -> Result<(StatusCode, Json<ReleasesBegun>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(unreadable::release_many(&control, &actor, &request).await?)))
}
