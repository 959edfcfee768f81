//! Unreadable messages: messages of the queue that could not be stored as what they are.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::attachment;
use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Refusals};
use crate::control::page::{Page, PageRequest};
use crate::control::unreadable::{
    self, Message, Reason, ReleaseOfMany, ReleasesBegun, UnreadableFilter, UnreadableMessage, UnreadableState,
};
use crate::control::{Actor, Control};

/// Which unreadable messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UnreadableQuery {
    reason: Option<Reason>,
    state: Option<UnreadableState>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A page of unreadable messages, newest first.
#[utoipa::path(get, path = "/v1/unreadable-messages", tag = "unreadable messages", params(UnreadableQuery),
    responses((status = 200, body = Page<UnreadableMessage>), Refusals))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<UnreadableQuery>,
) -> Result<Json<Page<UnreadableMessage>>, ApiError> {
    let UnreadableQuery { reason, state, limit, cursor } = query;
    let (filter, page) = (UnreadableFilter { reason, state }, PageRequest { limit, cursor });
    Ok(Json(unreadable::list(&control, actor, &filter, &page).await?))
}

/// One unreadable message.
#[utoipa::path(get, path = "/v1/unreadable-messages/{id}", tag = "unreadable messages", params(("id" = String, Path)),
    responses((status = 200, body = UnreadableMessage), Refusals))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<UnreadableMessage>, ApiError> {
    Ok(Json(unreadable::show(&control, actor, &id).await?))
}

/// The message itself, byte for byte: the header line of the edge and the body that follows it. A large body, which was in
/// the edge's storage and has been fetched, follows the message.
#[utoipa::path(get, path = "/v1/unreadable-messages/{id}/message", tag = "unreadable messages",
    params(("id" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", description = "the bytes that came out of the queue"), Refusals))]
pub(super) async fn message(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let Message { id, bytes } = unreadable::message(&control, actor, &id).await?;
    Ok(attachment(&id.to_string(), None, bytes))
}

/// Tries to store a message as what it is, after its cause has been removed. One that has been released before stays as
/// it is. Answers 409 `still_unreadable` if the message still cannot be stored.
#[utoipa::path(post, path = "/v1/unreadable-messages/{id}/release", tag = "unreadable messages",
    params(("id" = String, Path)), responses((status = 200, body = UnreadableMessage), Refusals))]
pub(super) async fn release(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<UnreadableMessage>, ApiError> {
    Ok(Json(unreadable::release(&control, actor, &id).await?))
}

/// Makes the relay try all messages of a reason now, one after the other in the background. Those that still cannot be
/// stored stay, and are tried again later. `GET /v1/unreadable-messages?state=waiting&reason=…` shows what is left.
#[utoipa::path(post, path = "/v1/unreadable-messages/release", tag = "unreadable messages", request_body = ReleaseOfMany,
    responses((status = 202, body = ReleasesBegun), Refusals))]
pub(super) async fn release_many(
    State(control): State<Control>,
    actor: Actor,
    Body(request): Body<ReleaseOfMany>,
) -> Result<(StatusCode, Json<ReleasesBegun>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(unreadable::release_many(&control, actor, &request).await?)))
}
