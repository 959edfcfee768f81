//! Unreadable messages: messages of the queue that could not be stored as events. They belong to no customer: most of
//! them name no source that is known. So only actors that are not bound to a customer may see them. For all others, a
//! list is forbidden and a message does not exist.

use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::id::{EventId, UnreadableMessageId};
use store::search::Range;
use store::unreadable::{self, Selection, SummaryRow};
use utoipa::ToSchema;

use super::error::Noun;
use super::page::{Page, PageRequest};
use super::record::{self, Action, Object};
use super::time::Timestamp;
use super::{Actor, Control, Error, Scope, schema};
use crate::unreadable::Tried;

pub use model::unreadable::Reason;

/// A message of the queue that could not be stored as an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnreadableMessage {
    /// The id of the unreadable message.
    #[schema(value_type = schema::UnreadableMessageId)]
    pub id: UnreadableMessageId,
    /// The current state.
    pub state: UnreadableState,
    /// The kind of fault.
    pub reason: Reason,
    /// The fault, in words.
    pub detail: String,
    /// The id of the queue; empty if the message did not come from a queue.
    pub queue_id: String,
    /// The id of the message in the queue.
    pub queue_message_id: String,
    /// The size in bytes, including a body that was fetched.
    pub size: i32,
    /// When the relay stored the message.
    pub stored_at: Timestamp,
    /// The number of times the relay has automatically retried to store the message.
    pub tries: i32,
    /// When the relay retries next. Null if the message has been released, or if it must be released manually: its
    /// event is past the retention period of bodies, or the relay stopped during ten retries.
    #[schema(required = true)]
    pub next_try_at: Option<Timestamp>,
    /// When the message was released; null before.
    #[schema(required = true)]
    pub released_at: Option<Timestamp>,
    /// The event as which the message was stored; null if the message has not been released or did not contain an
    /// event.
    #[schema(value_type = Option<schema::EventId>, required = true)]
    pub event_id: Option<EventId>,
}

/// The state of an unreadable message. `waiting`: the message is kept, and the relay retries it. `released`: the relay
/// has stored the event, the counts of rejections or the secret that the message contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnreadableState {
    /// The message is kept, and the relay retries it.
    Waiting,
    /// The relay has stored the content of the message.
    Released,
}

/// Selects unreadable messages.
#[derive(Debug, Default)]
pub struct UnreadableFilter {
    pub reason: Option<Reason>,
    pub state: Option<UnreadableState>,
}

/// Selects the unreadable messages to release.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseOfMany {
    /// Releases all waiting messages with this reason.
    pub reason: Reason,
}

/// The messages whose release has started.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReleasesBegun {
    /// The number of messages that the relay retries.
    pub messages: u64,
}

/// The bytes of an unreadable message.
#[derive(Debug)]
pub struct Message {
    pub id: UnreadableMessageId,
    pub bytes: Vec<u8>,
}

/// A page of unreadable messages, newest first.
///
/// # Errors
/// Returns an error if the limit or the cursor is invalid, or if a query fails.
pub async fn list(
    control: &Control,
    actor: &Actor,
    filter: &UnreadableFilter,
    page: &PageRequest,
) -> Result<Page<UnreadableMessage>, Error> {
    actor.require(Scope::Read)?;
    actor.require_unbound()?;
    let window = page.window()?;
    let released = filter.state.map(|state| state == UnreadableState::Released);
    let selection = Selection { reason: filter.reason, released };
    let range = Range { until: window.cursor.unwrap_or(Range::ALL.until), ..Range::ALL };
    let mut search = unreadable::Page { selection, limit: window.fetch(), found: Vec::new() };
    let ended = window.search(&control.pool, &mut search, range).await?;
    Ok(window.found(ended, search.found, |row| row.id.uuid(), view))
}

/// The unreadable message with this id.
///
/// # Errors
/// Returns an error if the message does not exist, or if a query fails.
pub async fn show(control: &Control, actor: &Actor, id: &str) -> Result<UnreadableMessage, Error> {
    actor.require(Scope::Read)?;
    shown(control, parse(actor, id)?).await
}

/// A message as callers see it.
async fn shown(control: &Control, id: UnreadableMessageId) -> Result<UnreadableMessage, Error> {
    unreadable::summary(&control.pool, id).await?.map(view).ok_or(NOT_FOUND)
}

/// The message itself, byte for byte: the header line that the edge wrote, and the body that follows it. A large body
/// that the relay has fetched from the edge's storage is appended.
///
/// # Errors
/// Returns an error if the message does not exist, or if a query fails.
pub async fn message(control: &Control, actor: &Actor, id: &str) -> Result<Message, Error> {
    actor.require(Scope::Bodies)?;
    let id = parse(actor, id)?;
    let row = unreadable::find(&control.pool, id).await?.ok_or(NOT_FOUND)?;
    record::read(control, actor, Action::UnreadableMessageRead, Object::of_deployment(id)).await?;
    let mut bytes = row.message;
    bytes.extend(row.body.unwrap_or_default());
    Ok(Message { id, bytes })
}

/// Tries again to store a message, after its cause has been removed. A message that was released earlier stays as it
/// is.
///
/// # Errors
/// Returns an error if the message does not exist, still cannot be stored, or cannot be tried now, or if a query fails.
pub async fn release(control: &Control, actor: &Actor, id: &str) -> Result<UnreadableMessage, Error> {
    actor.require(Scope::Replay)?;
    let id = parse(actor, id)?;
    let row = unreadable::find(&control.pool, id).await?.ok_or(NOT_FOUND)?;
    let entry = record::entry(actor, Action::UnreadableMessageRelease, Object::of_deployment(id));
    match control.releaser.try_again(row, Some(&entry)).await? {
        Tried::Released(_) => shown(control, id).await,
        Tried::StillUnreadable(reason, detail) => Err(Error::StillUnreadable(format!("{}: {detail}", reason.name()))),
        Tried::NotNow(cause) => Err(Error::NotTried(cause)),
    }
}

/// Makes the relay try all messages with this reason now, one after another in the background. Messages that still
/// cannot be stored are kept and tried again later.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn release_many(control: &Control, actor: &Actor, request: &ReleaseOfMany) -> Result<ReleasesBegun, Error> {
    actor.require(Scope::Replay)?;
    actor.require_unbound()?;
    let record = |messages: u64| {
        let after = json!({ "reason": request.reason, "messages": messages });
        Some(record::entry(actor, Action::UnreadableMessagesRelease, Object::default()).with(None, Some(after), []))
    };
    let messages = unreadable::try_now(&control.pool, request.reason, record).await?;
    control.releaser.intake.unreadable_due.notify_one();
    Ok(ReleasesBegun { messages })
}

const NOT_FOUND: Error = Error::NotFound(Noun::UnreadableMessage);

fn parse(actor: &Actor, id: &str) -> Result<UnreadableMessageId, Error> {
    actor.require_unbound().map_err(|_| NOT_FOUND)?;
    id.parse().map_err(|_| NOT_FOUND)
}

fn view(row: SummaryRow) -> UnreadableMessage {
    UnreadableMessage {
        id: row.id,
        state: if row.released_at.is_some() { UnreadableState::Released } else { UnreadableState::Waiting },
        reason: row.reason,
        detail: row.detail,
        queue_id: row.queue_id,
        queue_message_id: row.queue_message_id,
        size: row.size,
        stored_at: Timestamp(row.stored_at),
        tries: row.tries,
        next_try_at: row.next_try_at.filter(|_| row.released_at.is_none()).map(Timestamp),
        released_at: row.released_at.map(Timestamp),
        event_id: row.event_id,
    }
}
