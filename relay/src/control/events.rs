//! Events: the requests as they were received, byte for byte, and the decisions about them.

use std::time::Duration;

use model::unix_time;
use serde::{Deserialize, Serialize};
use shared::header::HeaderList;
use shared::id::{EventId, SourceId};
use store::events::{self, EventRow, Selection, SummaryRow};
use utoipa::ToSchema;
use uuid::Uuid;

use super::bodies::Body;
use super::error::Noun;
use super::fields::Problems;
use super::owners::Owners;
use super::page::{Page, PageRequest, Window, id_range};
use super::time::Timestamp;
use super::{Actor, Control, Error, Scope, schema, sources};
use crate::route::EventView;

pub use explain::{DecidedDelivery, Decision, DecisionOutcome, EventDetail, RouteAnswer, RouteOutcome, explain};
pub use release::release;

pub(crate) mod explain;
mod release;

/// How long a caller waits for the evaluation of an event's routes.
pub(crate) const EVALUATE_WITHIN: Duration = Duration::from_secs(10);

/// An event without its headers and body.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// The id of the event.
    #[schema(value_type = schema::EventId)]
    pub id: EventId,
    /// The name of the customer that owns the event. Only present in a list of all customers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub customer: Option<String>,
    /// The source that received the event.
    #[schema(value_type = schema::SourceId)]
    pub source_id: SourceId,
    /// The name of the source; null if it has been deleted.
    #[schema(required = true)]
    pub source: Option<String>,
    /// When the edge received the request.
    pub received_at: Timestamp,
    /// The event type; null if the request has none.
    #[serde(rename = "type")]
    #[schema(required = true)]
    pub event_type: Option<String>,
    /// The provider's id of the event, or the value of `key` in the `config` of the source; null if the request has
    /// none. Copies are recognised by it; see also `same_key_as`.
    #[schema(required = true)]
    pub key: Option<String>,
    /// The size of the body in bytes.
    pub body_size: i32,
    /// The result of verification.
    #[schema(value_type = Verification)]
    pub verification: String,
    /// Why verification failed, if the event is or was in quarantine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub failure: Option<EventFailure>,
    /// The number of copies of this event that have arrived.
    pub copies: i32,
    /// The id of an earlier event with the same key but a different body. Both events are stored and delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::EventId, required = false)]
    pub same_key_as: Option<EventId>,
}

/// Why the verification of an event failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventFailure {
    /// A machine-readable code that does not change between versions, such as `signature_mismatch`.
    #[schema(example = "signature_mismatch")]
    pub cause: String,
    /// What is wrong, in words. It is never sent to the provider.
    #[schema(example = "the signature does not match; check that the source has the provider's current secret")]
    pub detail: String,
}

/// A copy whose body differs from the event's, from a provider whose resends may have a different body.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedCopy {
    /// The event id that the edge returned when it acknowledged the copy.
    #[schema(value_type = schema::EventId)]
    pub id: EventId,
    /// When the copy arrived.
    pub received_at: Timestamp,
    /// The size of the body in bytes.
    pub body_size: i32,
}

/// A header of the provider's request.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Header {
    /// The name, in lower case.
    pub name: String,
    /// The value.
    pub value: String,
}

/// The result of verifying an event. `verified`: the signature or credentials are valid. `stale`: the signature is
/// valid but its timestamp is outside the tolerance, and `on_stale` is `accept_flagged`. `unsigned`: the source
/// requires no signature. `failed`: verification failed, and the event is in quarantine. `released`: verification
/// failed, and the event has been released from quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// The signature or credentials are valid.
    Verified,
    /// The signature is valid but its timestamp is outside the tolerance, and `on_stale` is `accept_flagged`.
    Stale,
    /// The source requires no signature.
    Unsigned,
    /// Verification failed, and the event is in quarantine: it is not delivered until it is released.
    Failed,
    /// Verification failed, and the event has been released.
    Released,
}

impl Verification {
    fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Stale => "stale",
            Self::Unsigned => "unsigned",
            Self::Failed => "failed",
            Self::Released => "released",
        }
    }
}

/// Selects events.
#[derive(Debug, Default)]
pub struct EventFilter {
    /// The id or name of a source.
    pub source: Option<String>,
    pub event_type: Option<String>,
    /// The provider's id of the event.
    pub key: Option<String>,
    pub verification: Option<Verification>,
    /// Received at or after this time (RFC 3339).
    pub after: Option<String>,
    /// Received before this time (RFC 3339).
    pub before: Option<String>,
}

/// A body as it was received. It comes from the sender and must not be trusted.
#[derive(Debug)]
pub struct Content {
    /// The id with which the edge acknowledged the request.
    pub id: EventId,
    pub body: Body,
}

/// A page of events, newest first.
///
/// # Errors
/// Returns an error if the filter, the limit or the cursor is invalid, or if a query fails.
pub async fn list(
    control: &Control,
    actor: &Actor,
    filter: EventFilter,
    page: &PageRequest,
) -> Result<Page<Event>, Error> {
    actor.require(Scope::Read)?;
    let mut problems = Problems::default();
    let window = Window::read(page, &mut problems);
    let range = id_range(filter.after.as_deref(), filter.before.as_deref(), window, &mut problems);
    let source = sources::id_of(control, actor, "source", filter.source.as_deref(), &mut problems).await?;
    problems.finish()?;
    let selection = Selection {
        source,
        event_type: filter.event_type,
        provider_event_id: filter.key,
        verification: filter.verification.map(Verification::as_str),
    };
    let mut search = events::Page { customer: actor.listed(), selection, limit: window.fetch(), found: Vec::new() };
    let ended = window.search(&control.pool, &mut search, range).await?;
    let ids: Vec<Uuid> = search.found.iter().map(|row| row.id).collect();
    let owners = Owners::of_events(control, actor, &ids).await?;
    let view = |row: SummaryRow| Event { customer: owners.of(row.id), ..summary(row) };
    Ok(window.found(ended, search.found, |row| row.id, view))
}

/// The body of an event, byte for byte.
///
/// # Errors
/// Returns an error if the event does not exist, if its body is no longer kept, or if a query fails.
pub async fn body(control: &Control, actor: &Actor, id: &str) -> Result<Content, Error> {
    actor.require(Scope::Bodies)?;
    let row = find(control, actor, id).await?;
    let body = control.bodies.read(&control.pool, row.id, row.body_size).await?;
    let body = body.ok_or(Error::PastRetention(control.config.retention))?;
    Ok(Content { id: EventId::from_uuid(row.id), body })
}

/// The body of the first copy whose body differs from that of the event, byte for byte.
///
/// # Errors
/// Returns an error if the event does not exist or has no such copy, or if a query fails.
pub async fn changed_copy_body(control: &Control, actor: &Actor, id: &str) -> Result<Content, Error> {
    actor.require(Scope::Bodies)?;
    let row = find(control, actor, id).await?;
    let copy = events::changed_copy(&control.pool, row.id).await?.ok_or(Error::NotFound(Noun::ChangedCopy))?;
    let body = control.bodies.read_changed_copy(&control.pool, row.id, copy.body_size).await?;
    let body = body.ok_or(Error::NotFound(Noun::ChangedCopy))?;
    Ok(Content { id: EventId::from_uuid(copy.id), body })
}

async fn find(control: &Control, actor: &Actor, id: &str) -> Result<EventRow, Error> {
    let id: EventId = id.parse().map_err(|_| Error::NotFound(Noun::Event))?;
    events::find(&control.pool, actor.customer()?, id).await?.ok_or(Error::NotFound(Noun::Event))
}

fn view<'a>(row: &'a EventRow, headers: &'a HeaderList, body: &'a [u8]) -> EventView<'a> {
    EventView {
        id: EventId::from_uuid(row.id),
        source_id: SourceId::from_uuid(row.source_id),
        source_name: row.source_name.as_deref().unwrap_or_default(),
        event_type: row.event_type.as_deref(),
        provider_event_id: row.provider_event_id.as_deref(),
        received_at_ms: unix_time::unix_ms(row.received_at),
        method: &row.method,
        query: &row.query,
        headers,
        body,
    }
}

fn headers(row: &EventRow) -> HeaderList {
    serde_json::from_value(row.headers.clone()).unwrap_or_default()
}

fn summary(row: SummaryRow) -> Event {
    Event {
        id: EventId::from_uuid(row.id),
        customer: None,
        source_id: SourceId::from_uuid(row.source_id),
        source: row.source_name,
        received_at: Timestamp(row.received_at),
        event_type: row.event_type,
        key: row.provider_event_id,
        body_size: row.body_size,
        verification: row.verification,
        failure: row.failure_cause.zip(row.failure_detail).map(|(cause, detail)| EventFailure { cause, detail }),
        copies: row.copies,
        same_key_as: row.same_key_as.map(EventId::from_uuid),
    }
}
