//! Unreadable messages: messages of the queue that could not be stored as what they are.

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

/// Which unreadable messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UnreadableQuery {
    reason: Option<Reason>,
    state: Option<UnreadableState>,
    /// The most rows of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

/// Lists unreadable messages, newest first.
#[utoipa::path(get, path = "/v1/unreadable-messages", tag = "unreadable messages", params(UnreadableQuery),
    responses((status = 200, body = Page<UnreadableMessage>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<UnreadableQuery>,
) -> Result<Json<Page<UnreadableMessage>>, ApiError> {
    let UnreadableQuery { reason, state, limit, cursor } = query;
    let (filter, page) = (UnreadableFilter { reason, state }, PageRequest { limit, cursor });
    Ok(Json(unreadable::list(&control, actor, &filter, &page).await?))
}

/// Returns one unreadable message.
#[utoipa::path(get, path = "/v1/unreadable-messages/{id}", tag = "unreadable messages", params(("id" = schema::UnreadableMessageId, Path)),
    responses((status = 200, body = UnreadableMessage)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<UnreadableMessage>, ApiError> {
    Ok(Json(unreadable::show(&control, actor, &id).await?))
}

/// Returns an unreadable message, byte for byte.
///
/// The header line of the edge, then the body. A large body, which was in the edge's storage and has been fetched, follows the
/// message.
#[utoipa::path(get, path = "/v1/unreadable-messages/{id}/message", tag = "unreadable messages",
    params(("id" = schema::UnreadableMessageId, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>, headers(("content-disposition" = String, description = "An attachment whose name is the id.")), description = "The bytes of the message.")))]
pub(super) async fn message(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let Message { id, bytes } = unreadable::message(&control, actor, &id).await?;
    Ok(attachment(&id.to_string(), bytes))
}

/// Tries to store an unreadable message again, after its cause has been removed.
///
/// A message that has already been released stays as it is. The answer is 409 `still_unreadable` if the message still cannot be
/// stored.
#[utoipa::path(post, path = "/v1/unreadable-messages/{id}/release", tag = "unreadable messages",
    params(("id" = schema::UnreadableMessageId, Path)), responses((status = 200, body = UnreadableMessage), Conflicts))]
pub(super) async fn release(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<UnreadableMessage>, ApiError> {
    Ok(Json(unreadable::release(&control, actor, &id).await?))
}

/// Starts to store all unreadable messages with a reason again.
///
/// The relay tries them one after the other in the background. Those that still cannot be stored are kept, and are tried again
/// later. `GET /v1/unreadable-messages?state=waiting&reason=…` lists the rest.
#[utoipa::path(post, path = "/v1/unreadable-messages/release", tag = "unreadable messages", request_body = ReleaseOfMany,
    responses((status = 202, body = ReleasesBegun)))]
pub(super) async fn release_many(
    State(control): State<Control>,
    actor: Actor,
    Body(request): Body<ReleaseOfMany>,
) -> Result<(StatusCode, Json<ReleasesBegun>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(unreadable::release_many(&control, actor, &request).await?)))
}
