//! Deliveries, their attempts, and manual retries and cancellations.

use model::delivery::DeliveryState;
use model::held_by::HeldBy;
use serde::{Deserialize, Serialize};
use shared::id::{AttemptId, DeliveryId, DestinationId, EventId, ReplayId, RouteId, SourceId, uuid_v7_floor};
use store::deliveries::{self, AttemptRow, Cancelled, DeliveryRow, Retried, Selection};
use store::partitions::with_partitions;
use store::search::Range;
use utoipa::ToSchema;

use super::error::{Conflict, Noun};
use super::fields::Problems;
use super::owners::Owners;
use super::page::{Page, PageRequest, Window, id_range};
use super::record::{self, Action, Object};
use super::time::Timestamp;
use super::{Actor, Control, Error, Scope, destinations, routes, schema};
use crate::configuration::Snapshot;
use crate::undecided;

pub mod recent;
pub mod release;
mod waits;

pub use waits::WaitsFor;

/// A delivery.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// The id of the delivery.
    #[schema(value_type = schema::DeliveryId)]
    pub id: DeliveryId,
    /// The name of the customer that owns the delivery. Only present in a list of all customers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub customer: Option<String>,
    /// The event that is delivered.
    #[schema(value_type = schema::EventId)]
    pub event_id: EventId,
    /// The source of the event.
    #[schema(value_type = schema::SourceId)]
    pub source_id: SourceId,
    /// The destination that the event is delivered to.
    #[schema(value_type = schema::DestinationId)]
    pub destination_id: DestinationId,
    /// The name of the destination; null if the destination has been deleted.
    #[schema(required = true)]
    pub destination: Option<String>,
    /// The route that created the delivery; null if a replay created it for a destination without a route from the
    /// source.
    #[schema(value_type = Option<schema::RouteId>, required = true)]
    pub route_id: Option<RouteId>,
    /// The replay that created the delivery; null if it was created when its event was stored or released.
    #[schema(value_type = Option<schema::ReplayId>, required = true)]
    pub replay_id: Option<ReplayId>,
    /// The current state.
    pub state: DeliveryState,
    /// Why the delivery is held, as text. Absent if it is not held.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub held_reason: Option<String>,
    /// Why this delivery is held individually. Absent if it is held together with all deliveries to its destination,
    /// because the destination is paused, disabled or unusable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub held_by: Option<HeldBy>,
    /// What a pending or held delivery waits for; null once it is succeeded, dead or cancelled.
    #[schema(required = true)]
    pub waits_for: Option<WaitsFor>,
    /// When the back-off or the breaker's wait ends, if `waits_for` is `back_off` or `breaker`; otherwise null.
    #[schema(required = true)]
    pub waits_until: Option<Timestamp>,
    /// When the next attempt is due. If `waits_for` is `turn`, this time has passed. Null if `waits_for` is `order`, if
    /// the delivery is held, and once it is succeeded, dead or cancelled.
    #[schema(required = true)]
    pub next_attempt_at: Option<Timestamp>,
    /// The number of attempts so far.
    pub attempts: i16,
    /// For a dead delivery, the error class of its last attempt, such as `http_status` or `timeout`. `not_sent` for a
    /// pending delivery that the relay could not send. Otherwise null.
    #[schema(required = true)]
    pub error: Option<String>,
    /// Why the delivery is dead, was cancelled, or could not be sent; otherwise null.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// When the delivery succeeded, became dead or was cancelled; null before.
    #[schema(required = true)]
    pub settled_at: Option<Timestamp>,
}

/// One HTTP request of a delivery, with its outcome.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attempt {
    /// The id of the attempt.
    #[schema(value_type = schema::AttemptId)]
    pub id: AttemptId,
    /// The number of the attempt, starting at 1.
    pub number: i16,
    /// When the attempt started.
    pub started_at: Timestamp,
    /// How long the attempt took, in milliseconds.
    pub latency_ms: i32,
    /// The status of the response; null if there was none.
    #[schema(required = true)]
    pub status: Option<i16>,
    /// The error class, such as `http_status`, `timeout` or `connection_refused`; null if the attempt succeeded.
    #[schema(required = true)]
    pub error: Option<String>,
    /// What went wrong, in words; null if the attempt succeeded.
    #[schema(required = true)]
    pub detail: Option<String>,
    /// The first 16 KiB of the response body, as far as they arrived within two seconds; null if there was no response
    /// or none of its body.
    #[schema(required = true)]
    pub response_excerpt: Option<String>,
    /// If the response was a redirect, the scheme, host, port and path that it points to, up to 500 characters;
    /// otherwise null. Redirects are not followed.
    #[schema(required = true)]
    pub location: Option<String>,
}

/// The class of an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub enum StatusClass {
    #[serde(rename = "1xx")]
    Informational,
    #[serde(rename = "2xx")]
    Successful,
    #[serde(rename = "3xx")]
    Redirection,
    #[serde(rename = "4xx")]
    ClientError,
    #[serde(rename = "5xx")]
    ServerError,
}

impl StatusClass {
    /// The first digit of its statuses.
    const fn digit(self) -> i16 {
        match self {
            Self::Informational => 1,
            Self::Successful => 2,
            Self::Redirection => 3,
            Self::ClientError => 4,
            Self::ServerError => 5,
        }
    }
}

/// Selects deliveries, for a list and for operations.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveryFilter {
    /// Only deliveries of the event with this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::EventId>)]
    pub event: Option<String>,
    /// Only deliveries to the destination with this id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::DestinationReference>)]
    pub destination: Option<String>,
    /// Only deliveries in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
    /// Only dead deliveries with this error class of the last attempt, such as `http_status` or `timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Only deliveries that this route created (id or name).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::RouteReference>)]
    pub route: Option<String>,
    /// Only deliveries whose last attempt had a response with a status of this class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_class: Option<StatusClass>,
    /// Only deliveries that the replay with this id created.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::ReplayId>)]
    pub replay: Option<String>,
    /// Only the deliveries with these ids, 1 to 200 of them. Cannot be combined with other filters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<schema::DeliveryId>>, min_items = 1, max_items = 200)]
    pub ids: Option<Vec<String>>,
    /// Only deliveries created at or after this time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    pub after: Option<String>,
    /// Only deliveries created before this time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    pub before: Option<String>,
}

/// The most ids of a filter.
pub(crate) const MOST_IDS: usize = 200;

impl DeliveryFilter {
    /// Whether it has anything besides ids.
    fn has_more_than_ids(&self) -> bool {
        let Self { event, destination, state, error, route, status_class, replay, ids: _, after, before } = self;
        let texts = [event, destination, error, route, replay, after, before];
        texts.into_iter().any(Option::is_some) || state.is_some() || status_class.is_some()
    }

    /// The deliveries that it lists. Problems are noted.
    fn listed(&self, problems: &mut Problems) -> Vec<DeliveryId> {
        let Some(ids) = &self.ids else { return Vec::new() };
        if ids.is_empty() || ids.len() > MOST_IDS {
            problems.add("ids", format!("must have 1 to {MOST_IDS} ids, but has {}", ids.len()));
        }
        if self.has_more_than_ids() {
            problems.add("ids", "cannot be combined with other filters; omit them, or omit ids");
        }
        let mut read = |text: &String| match text.parse() {
            Ok(id) => Some(id),
            Err(_) => {
                problems.add("ids", format!("\"{text}\" is not a delivery id; delivery ids begin with dlv_"));
                None
            }
        };
        ids.iter().take(MOST_IDS).filter_map(&mut read).collect()
    }

    /// The deliveries that it selects, and the range of their ids in the window. Problems are noted.
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub(super) async fn read(
        self,
        control: &Control,
        actor: &Actor,
        window: Window,
        problems: &mut Problems,
    ) -> Result<(Selection, Range), Error> {
        let mut range = id_range(self.after.as_deref(), self.before.as_deref(), window, problems);
        let ids = self.listed(problems);
        let replay = self.replay.as_deref().and_then(|text| {
            text.parse::<ReplayId>()
                .map_err(|_| {
                    problems.add("replay", format!("\"{text}\" is not a replay id; replay ids begin with rpl_"));
                })
                .ok()
        });
        if let Some(replay) = replay {
            // No delivery is older than the replay that created it.
            let first = replay.minted_at_ms().saturating_sub(deliveries::CLOCK_DIFFERENCE_MS);
            range.from = range.from.max(uuid_v7_floor(first));
        }
        let event = self.event.as_deref().and_then(|text| {
            text.parse()
                .map_err(|_| problems.add("event", format!("\"{text}\" is not an event id; event ids begin with evt_")))
                .ok()
        });
        if self.error.is_some() && matches!(self.state, Some(DeliveryState::Pending | DeliveryState::Held)) {
            problems.add(
                "error",
                "cannot be combined with state pending or held, because only dead deliveries have an \
                 error class; omit state, or use dead",
            );
        }
        let destination =
            destinations::id_of(control, actor, "destination", self.destination.as_deref(), problems).await?;
        let route = routes::id_of(control, actor, "route", self.route.as_deref(), problems).await?;
        let snapshot = control.configuration.current();
        // The deliveries of a route all go to its destination, by whose index they are found.
        let leads_to = route.and_then(|route| snapshot.routes.get(&route)).map(|route| route.destination_id);
        let selection = Selection {
            event,
            destination: destination.or(leads_to),
            state: self.state,
            error: self.error,
            route,
            status_class: self.status_class.map(StatusClass::digit),
            replay,
            ids,
            unusable: snapshot.unusable_ids(),
            ..Selection::default()
        };
        Ok((selection, range))
    }
}

/// A page of deliveries, newest first.
///
/// # Errors
/// Returns an error if the filter, the limit or the cursor is invalid, or if a query fails.
pub async fn list(
    control: &Control,
    actor: &Actor,
    filter: DeliveryFilter,
    page: &PageRequest,
) -> Result<Page<Delivery>, Error> {
    actor.require(Scope::Read)?;
    let mut problems = Problems::default();
    let window = Window::read(page, &mut problems);
    let (selection, range) = filter.read(control, actor, window, &mut problems).await?;
    problems.finish()?;
    let snapshot = control.configuration.current();
    let mut search = deliveries::Page::begin(&control.pool, actor.listed(), selection, window.fetch()).await?;
    let ended = window.search(&control.pool, &mut search, range).await?;
    let owners = Owners::of_deliveries(control, actor, search.found.iter().map(|row| row.id)).await?;
    let view = |row: DeliveryRow| Delivery { customer: owners.of(row.id), ..view(row, &snapshot) };
    Ok(window.found(ended, search.found, |row| row.id.uuid(), view))
}

/// The delivery with this id.
///
/// # Errors
/// Returns an error if the delivery does not exist, or if a query fails.
pub async fn show(control: &Control, actor: &Actor, id: &str) -> Result<Delivery, Error> {
    actor.require(Scope::Read)?;
    find(control, actor, read_id(id)?).await
}

/// A page of the attempts of a delivery, oldest first.
///
/// # Errors
/// Returns an error if the delivery does not exist, if the limit or the cursor is invalid, or if a query fails.
pub async fn attempts(control: &Control, actor: &Actor, id: &str, page: &PageRequest) -> Result<Page<Attempt>, Error> {
    actor.require(Scope::Read)?;
    let window = page.window()?;
    let id = read_id(id)?;
    find(control, actor, id).await?;
    let rows = deliveries::attempts(&control.pool, id, window.cursor, window.fetch()).await?;
    Ok(window.page(rows, |row| row.id.uuid(), attempt_view))
}

/// Marks a delivery to be sent at once, by whichever replica owns its destination. A settled delivery becomes pending
/// again, with the same id. An individually held delivery (`held_by`) is released. If it is undecided, its filter and
/// order key are evaluated first.
///
/// # Errors
/// Returns an error if the delivery, its destination or the body of its event no longer exists, or if a query fails.
pub async fn retry(control: &Control, actor: &Actor, id: &str) -> Result<Delivery, Error> {
    actor.require(Scope::Replay)?;
    let id = read_id(id)?;
    let customer = actor.customer()?;
    let entry = record::entry(actor, Action::DeliveryRetry, Object::of(id, customer));
    let now_ms = control.clock.now_ms().await?;
    let first_with_body = control.config.retention.first_with_body(now_ms);
    match deliveries::retry(&control.pool, customer, id, now_ms, first_with_body, &entry).await? {
        Retried::Due { destination } => control.engine.expedite(destination, id),
        Retried::Undecided => undecided::decide_now(&control.releaser.intake, id).await?,
        Retried::NotFound => return Err(Error::NotFound(Noun::Delivery)),
        Retried::DestinationGone => return Err(Error::Conflict(Conflict::DestinationGone)),
        Retried::BodyGone => return Err(Error::Conflict(Conflict::BodyGone)),
    }
    find(control, actor, id).await
}

/// Cancels a pending or held delivery. An attempt in flight is not aborted, and its outcome does not change the
/// delivery. A delivery that is already cancelled stays as it is.
///
/// # Errors
/// Returns an error if the delivery does not exist, if it has succeeded or is dead, or if a query fails.
pub async fn cancel(control: &Control, actor: &Actor, id: &str) -> Result<Delivery, Error> {
    actor.require(Scope::Replay)?;
    let id = read_id(id)?;
    let customer = actor.customer()?;
    let entry = record::entry(actor, Action::DeliveryCancel, Object::of(id, customer));
    match with_partitions!(&control.pool, deliveries::cancel(&control.pool, customer, id, &entry))? {
        Cancelled::Done => {}
        Cancelled::NotPending => return Err(Error::Conflict(Conflict::NotPending)),
        Cancelled::NotFound => return Err(Error::NotFound(Noun::Delivery)),
    }
    let delivery = find(control, actor, id).await?;
    control.engine.delivery_cancelled(delivery.destination_id, id);
    Ok(delivery)
}

async fn find(control: &Control, actor: &Actor, id: DeliveryId) -> Result<Delivery, Error> {
    let snapshot = control.configuration.current();
    let row = deliveries::find(&control.pool, actor.customer()?, id, snapshot.unusable_ids()).await?;
    row.map(|row| view(row, &snapshot)).ok_or(Error::NotFound(Noun::Delivery))
}

fn read_id(text: &str) -> Result<DeliveryId, Error> {
    text.parse().map_err(|_| Error::NotFound(Noun::Delivery))
}

pub(super) fn view(row: DeliveryRow, snapshot: &Snapshot) -> Delivery {
    let unusable = snapshot.unusable.get(&row.destination_id);
    let unusable = unusable.filter(|_| row.state == DeliveryState::Held).map(|unusable| unusable.held_reason());
    let waits = waits::of(&row);
    Delivery {
        id: row.id,
        customer: None,
        event_id: row.event_id,
        source_id: row.source_id,
        destination_id: row.destination_id,
        destination: row.destination_name,
        route_id: row.route_id,
        replay_id: row.replay_id,
        waits_for: waits.map(|waits| waits.on),
        waits_until: waits.and_then(|waits| waits.until).map(Timestamp),
        next_attempt_at: waits.and_then(|waits| waits.next_attempt_at).map(Timestamp),
        state: row.state,
        held_reason: row.held_reason.or(unusable),
        held_by: row.held_by,
        attempts: row.attempts,
        error: row.error,
        reason: row.reason,
        settled_at: row.settled_at.map(Timestamp),
    }
}

fn attempt_view(row: AttemptRow) -> Attempt {
    Attempt {
        id: row.id,
        number: row.number,
        started_at: Timestamp(row.started_at),
        latency_ms: row.latency_ms,
        status: row.status,
        error: row.error,
        detail: row.detail,
        response_excerpt: row.response_excerpt,
        location: row.location,
    }
}
