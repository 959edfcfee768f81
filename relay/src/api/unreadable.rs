//! Unreadable messages: messages of the queue that could not be stored as what they are. They belong to no customer, so
//! only the deployment's own token sees them.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use shared::id::{EventId, UnreadableMessageId};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::input::{Body, Params, Segment};
use super::page::{Page, Window};
use super::problem::{ApiError, Problems, Refusals};
use super::time::Timestamp;
use crate::App;
use crate::store::search::Range;
use crate::store::unreadable::{self, Reason, Selection, SummaryRow};
use crate::unreadable::Tried;

/// A message of the queue that could not be stored as what it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnreadableMessage {
    #[schema(value_type = String, example = "unr_0197f3c8d2a17c3e9b5d0a4c6f7e8b91")]
    pub id: UnreadableMessageId,
    pub state: UnreadableState,
    pub reason: Reason,
    /// What exactly is wrong with it.
    pub detail: String,
    /// The id of the queue; empty if it did not come out of a queue.
    pub queue_id: String,
    /// The queue's own id of it.
    pub queue_message_id: String,
    /// In bytes, with a body that was fetched.
    pub size: i32,
    pub stored_at: Timestamp,
    /// How often the relay has tried to release it by itself.
    pub tries: i32,
    /// When the relay tries it next; null if it is released, or if only an operator can release it: because its event is
    /// past the retention of bodies, or because ten tries ended with the relay.
    pub next_try_at: Option<Timestamp>,
    pub released_at: Option<Timestamp>,
    /// The event that it has become.
    #[schema(value_type = Option<String>)]
    pub event_id: Option<EventId>,
}

/// Whether an unreadable message has been released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnreadableState {
    /// It is kept, and tried again.
    Waiting,
    /// It has been stored as what it is.
    Released,
}

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

/// Which unreadable messages are to be released.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseOfMany {
    reason: Reason,
}

/// How many messages are tried.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReleasesBegun {
    pub messages: u64,
}

/// A page of unreadable messages, newest first.
#[utoipa::path(get, path = "/v1/unreadable-messages", tag = "unreadable messages", params(UnreadableQuery),
    responses((status = 200, body = Page<UnreadableMessage>), Refusals))]
pub(super) async fn list(
    State(app): State<App>,
    _: Caller,
    Params(query): Params<UnreadableQuery>,
) -> Result<Json<Page<UnreadableMessage>>, ApiError> {
    let mut problems = Problems::default();
    let window = Window::read(query.limit, query.cursor.as_deref(), &mut problems);
    problems.finish()?;
    let released = query.state.map(|state| state == UnreadableState::Released);
    let selection = Selection { reason: query.reason, released };
    let range = Range { until: window.cursor.unwrap_or(Range::ALL.until), ..Range::ALL };
    let mut search = unreadable::Page { selection, limit: window.fetch(), found: Vec::new() };
    let ended = window.search(&app, &mut search, range).await?;
    Ok(Json(window.found(ended, search.found, |row| row.id, view)))
}

/// One unreadable message.
#[utoipa::path(get, path = "/v1/unreadable-messages/{id}", tag = "unreadable messages", params(("id" = String, Path)),
    responses((status = 200, body = UnreadableMessage), Refusals))]
pub(super) async fn show(
    State(app): State<App>,
    _: Caller,
    Segment(id): Segment,
) -> Result<Json<UnreadableMessage>, ApiError> {
    Ok(Json(view(find(&app, &id).await?)))
}

/// The message itself, byte for byte: the header line of the edge and the body that follows it. A large body, which was in
/// the edge's storage and has been fetched, follows the message.
#[utoipa::path(get, path = "/v1/unreadable-messages/{id}/message", tag = "unreadable messages",
    params(("id" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", description = "the bytes that came out of the queue"), Refusals))]
pub(super) async fn message(State(app): State<App>, _: Caller, Segment(id): Segment) -> Result<Response, ApiError> {
    let id = parse(&id)?;
    let row = unreadable::find(&app.pool, id).await?.ok_or(NOT_FOUND)?;
    let mut bytes = row.message;
    bytes.extend(row.body.unwrap_or_default());
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{id}\"")) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// Tries to store a message as what it is, after its cause has been removed. One that has been released before stays as
/// it is. Answers 409 `still_unreadable` if the message still cannot be stored.
#[utoipa::path(post, path = "/v1/unreadable-messages/{id}/release", tag = "unreadable messages",
    params(("id" = String, Path)), responses((status = 200, body = UnreadableMessage), Refusals))]
pub(super) async fn release(
    State(app): State<App>,
    _: Caller,
    Segment(id): Segment,
) -> Result<Json<UnreadableMessage>, ApiError> {
    let row = unreadable::find(&app.pool, parse(&id)?).await?.ok_or(NOT_FOUND)?;
    match app.releaser.try_again(row).await? {
        Tried::Released(_) => Ok(Json(view(find(&app, &id).await?))),
        Tried::StillUnreadable(reason, detail) => {
            Err(ApiError::StillUnreadable(format!("{}: {detail}", reason.name())))
        }
        Tried::NotNow(cause) => Err(ApiError::NotTried(cause)),
    }
}

/// Makes the relay try all messages of a reason now, one after the other in the background. Those that still cannot be
/// stored stay, and are tried again later. `GET /v1/unreadable-messages?state=waiting&reason=…` shows what is left.
#[utoipa::path(post, path = "/v1/unreadable-messages/release", tag = "unreadable messages", request_body = ReleaseOfMany,
    responses((status = 202, body = ReleasesBegun), Refusals))]
pub(super) async fn release_many(
    State(app): State<App>,
    _: Caller,
    Body(ReleaseOfMany { reason }): Body<ReleaseOfMany>,
) -> Result<(StatusCode, Json<ReleasesBegun>), ApiError> {
    let messages = unreadable::try_now(&app.pool, reason).await?;
    app.releaser.intake.unreadable_due.notify_one();
    Ok((StatusCode::ACCEPTED, Json(ReleasesBegun { messages })))
}

const NOT_FOUND: ApiError = ApiError::NotFound("unreadable message");

fn parse(id: &str) -> Result<UnreadableMessageId, ApiError> {
    id.parse().map_err(|_| NOT_FOUND)
}

async fn find(app: &App, id: &str) -> Result<SummaryRow, ApiError> {
    unreadable::summary(&app.pool, parse(id)?).await?.ok_or(NOT_FOUND)
}

fn view(row: SummaryRow) -> UnreadableMessage {
    UnreadableMessage {
        id: UnreadableMessageId::from_uuid(row.id),
        state: if row.released_at.is_some() { UnreadableState::Released } else { UnreadableState::Waiting },
        reason: Reason::from_name(&row.reason),
        detail: row.detail,
        queue_id: row.queue_id,
        queue_message_id: row.queue_message_id,
        size: row.size,
        stored_at: Timestamp(row.stored_at),
        tries: row.tries,
        next_try_at: row.next_try_at.filter(|_| row.released_at.is_none()).map(Timestamp),
        released_at: row.released_at.map(Timestamp),
        event_id: row.event_id.map(EventId::from_uuid),
    }
}
