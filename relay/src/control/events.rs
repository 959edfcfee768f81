//! Events: the requests as they were received, byte for byte, and the decisions about them.

use std::time::Duration;

use model::event::Verification;
use serde::{Deserialize, Serialize};
use shared::id::{EventId, SourceId};
use store::events::{self, DeliveriesOf, Erased, EventRow, Selection, SummaryRow};
use utoipa::ToSchema;

use super::bodies::Body;
use super::error::{Conflict, Noun};
use super::fields::Problems;
use super::owners::Owners;
use super::page::{Page, PageRequest, Window, id_range};
use super::record::{self, Action, Object};
use super::time::Timestamp;
use super::{Actor, Control, Error, Scope, schema, sources};
use crate::route::EventView;

pub use crate::recheck::RecheckOutcome;

pub use attempts::{DELIVERIES_WITH_ATTEMPTS, EventAttempt, EventAttempts, attempts};
pub use deliver::{CreatedDelivery, EventDelivered, EventDelivery, EventEdit, deliver};
pub use explain::{DecidedDelivery, Decision, DecisionOutcome, EventDetail, RouteAnswer, RouteOutcome, explain};
pub use export::{EXPORTED_EVENTS, Exported, export};
pub use marks::{Marks, marks};
pub use release::release;

pub(crate) mod attempts;
pub(crate) mod deliver;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod marks;
mod release;
pub mod search;
pub mod verify_now;

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
    pub verification: Verification,
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
    /// When the body was erased by a call of the API. Absent if it was not; a body whose retention period has passed is
    /// not erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub body_erased_at: Option<Timestamp>,
    /// The job of an AI provider that the event is about. Absent if it is about none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub job: Option<EventJob>,
    /// The event of which this one is an edited copy, which a caller has sent. Absent if it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::EventId, required = false)]
    pub edited_of: Option<EventId>,
}

/// The job of an AI provider that an event is about.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventJob {
    /// The provider's id of the job, or the value of `job_key` in the `config` of the source.
    pub key: String,
    /// The state of the job, as the provider writes it; null if the event has none.
    #[schema(required = true)]
    pub state: Option<String>,
    /// Whether the event ends the job, and how: true if well, false if badly. Null if the job goes on, or if the end
    /// states of the provider are not known.
    #[schema(required = true)]
    pub good: Option<bool>,
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

/// Selects events.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// The id or name of a source.
    pub source: Option<String>,
    pub event_type: Option<String>,
    /// The provider's id of the event.
    pub key: Option<String>,
    /// The key of the job that the event is about.
    pub job_key: Option<String>,
    pub verification: Option<Verification>,
    pub deliveries: Option<EventDeliveries>,
    /// Received at or after this time (RFC 3339).
    pub after: Option<String>,
    /// Received before this time (RFC 3339).
    pub before: Option<String>,
}

/// What has become of the deliveries of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventDeliveries {
    Unmatched,
    AnyDead,
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
    let selection = selection(filter, source);
    let mut search = events::Page::begin(&control.pool, actor.listed(), selection, window.fetch()).await?;
    let ended = window.search(&control.pool, &mut search, range).await?;
    let owners = Owners::of_events(control, actor, search.found.iter().map(|row| row.id)).await?;
    let view = |row: SummaryRow| Event { customer: owners.of(row.id), ..summary(row) };
    Ok(window.found(ended, search.found, |row| row.id.uuid(), view))
}

fn selection(filter: EventFilter, source: Option<SourceId>) -> Selection {
    Selection {
        source,
        event_type: filter.event_type,
        provider_event_id: filter.key,
        job_key: filter.job_key,
        verification: filter.verification,
        deliveries: filter.deliveries.map(|deliveries| match deliveries {
            EventDeliveries::Unmatched => DeliveriesOf::None,
            EventDeliveries::AnyDead => DeliveriesOf::AnyDead,
        }),
    }
}

/// The body of an event, byte for byte.
///
/// # Errors
/// Returns an error if the event does not exist, if its body is no longer kept, or if a query fails.
pub async fn body(control: &Control, actor: &Actor, id: &str) -> Result<Content, Error> {
    actor.require(Scope::Bodies)?;
    let row = find(control, actor, id).await?;
    record::read(control, actor, Action::EventReadBody, Object::of(row.meta.id, row.customer_id)).await?;
    let body = control.bodies.hold(row.body_size, store::pending::body(&control.pool, row.meta.id)).await?;
    let gone = match row.body_erased_at {
        Some(_) => Error::BodyErased,
        None => Error::PastRetention(control.config.retention),
    };
    let body = body.ok_or(gone)?;
    Ok(Content { id: row.meta.id, body })
}

/// Erases the body of an event, which cannot be undone. The event itself stays, and says that its body was erased.
///
/// # Errors
/// Returns an error if the event does not exist, a conflict if a delivery of it is pending or held, or an error if a
/// query fails.
pub async fn erase_body(control: &Control, actor: &Actor, id: &str) -> Result<(), Error> {
    actor.require(Scope::Admin)?;
    let id: EventId = id.parse().map_err(|_| Error::NotFound(Noun::Event))?;
    let customer = actor.customer()?;
    let entry = record::entry(actor, Action::EventEraseBody, Object::of(id, customer));
    match events::erase_body(&control.pool, customer, id, &entry).await? {
        Erased::Done => Ok(()),
        Erased::Needed => Err(Error::Conflict(Conflict::BodyNeeded)),
        Erased::Unknown => Err(Error::NotFound(Noun::Event)),
    }
}

/// The body of the first copy whose body differs from that of the event, byte for byte.
///
/// # Errors
/// Returns an error if the event does not exist or has no such copy, or if a query fails.
pub async fn changed_copy_body(control: &Control, actor: &Actor, id: &str) -> Result<Content, Error> {
    actor.require(Scope::Bodies)?;
    let row = find(control, actor, id).await?;
    let copy = events::changed_copy(&control.pool, row.meta.id).await?.ok_or(Error::NotFound(Noun::ChangedCopy))?;
    record::read(control, actor, Action::EventReadBody, Object::of(row.meta.id, row.customer_id)).await?;
    let body = control.bodies.hold(copy.body_size, events::changed_copy_body(&control.pool, row.meta.id)).await?;
    let body = body.ok_or(Error::NotFound(Noun::ChangedCopy))?;
    Ok(Content { id: copy.id, body })
}

async fn find(control: &Control, actor: &Actor, id: &str) -> Result<EventRow, Error> {
    let id: EventId = id.parse().map_err(|_| Error::NotFound(Noun::Event))?;
    events::find(&control.pool, actor.customer()?, id).await?.ok_or(Error::NotFound(Noun::Event))
}

fn view<'a>(row: &'a EventRow, body: &'a [u8]) -> EventView<'a> {
    EventView::of(&row.meta, row.source_name.as_deref().unwrap_or_default(), body)
}

pub(super) fn summary(row: SummaryRow) -> Event {
    let (state, good) = (row.job_state, row.job_good);
    Event {
        id: row.id,
        customer: None,
        source_id: row.source_id,
        source: row.source_name,
        received_at: Timestamp(row.received_at),
        event_type: row.event_type,
        key: row.provider_event_id,
        body_size: row.body_size,
        verification: row.verification,
        failure: row.failure_cause.zip(row.failure_detail).map(|(cause, detail)| EventFailure { cause, detail }),
        copies: row.copies,
        same_key_as: row.same_key_as,
        body_erased_at: row.body_erased_at.map(Timestamp),
        job: row.job_key.map(|key| EventJob { key, state, good }),
        edited_of: row.edited_of,
    }
}
