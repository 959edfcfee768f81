//! Deliveries: each event on its way to each destination, what was tried, and trying again.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::id::{AttemptId, CustomerId, DeliveryId, DestinationId, EventId, ReplayId, RouteId, SourceId};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::destinations;
use super::input::{Params, Segment};
use super::page::{Page, PageQuery, Window};
use super::problem::{ApiError, Conflict, Problems, Refusals};
use super::time::{Timestamp, id_range};
use crate::configuration::Snapshot;
use crate::held::HeldBy;
use crate::store::deliveries::{self, AttemptRow, Cancelled, DeliveryRow, Retried, Selection};
use crate::store::partitions::with_partitions;
use crate::{App, undecided};

pub(crate) mod release;
mod waits;

pub use waits::WaitsFor;

/// A delivery.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    #[schema(value_type = String, example = "dlv_0197f3c8d2a17c3e9b5d0a4c6f7e8b91")]
    pub id: DeliveryId,
    #[schema(value_type = String)]
    pub event_id: EventId,
    #[schema(value_type = String)]
    pub source_id: SourceId,
    #[schema(value_type = String)]
    pub destination_id: DestinationId,
    /// The destination's name; null where it has been deleted.
    pub destination: Option<String>,
    #[schema(value_type = Option<String>)]
    pub route_id: Option<RouteId>,
    /// The replay that made it.
    #[schema(value_type = Option<String>)]
    pub replay_id: Option<ReplayId>,
    #[schema(value_type = DeliveryState)]
    pub state: String,
    /// What a held delivery waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_reason: Option<String>,
    /// What holds a delivery by itself. Left out if all deliveries of its destination are held: it is paused, disabled or
    /// unusable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<HeldBy>,
    /// What a delivery that is pending or held waits for; null once it has ended.
    pub waits_for: Option<WaitsFor>,
    /// Until when `waits_for` lasts, if it is `pause` or `breaker`; else null.
    pub held_until: Option<Timestamp>,
    /// When it is tried next. In the past if `waits_for` is `turn`. Null if that is not known (`order`), if it is held, and
    /// once it has ended.
    pub next_attempt_at: Option<Timestamp>,
    pub attempts: i16,
    /// The error class of the last attempt, of a delivery that is dead; `not_sent` while a delivery waits because the relay
    /// could not send it.
    pub error: Option<String>,
    /// Why it is dead or cancelled, or could not be sent.
    pub reason: Option<String>,
    pub settled_at: Option<Timestamp>,
}

/// The states of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Waits for its next attempt, or is being sent.
    Pending,
    /// Waits: its destination is paused, disabled or unusable, or it is held by something of its own (`held_by`). Or its
    /// destination was deleted, and it is about to be cancelled.
    Held,
    Succeeded,
    /// Given up; it can be retried or replayed.
    Dead,
    Cancelled,
}

impl DeliveryState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One HTTP try of a delivery.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attempt {
    #[schema(value_type = String, example = "att_0197f3c8d2a17c3e9b5d0a4c6f7e8b91")]
    pub id: AttemptId,
    /// Counted from 1.
    pub number: i16,
    pub started_at: Timestamp,
    pub latency_ms: i32,
    /// The status of the answer; null where there was none.
    pub status: Option<i16>,
    /// The error class; null where the attempt succeeded.
    pub error: Option<String>,
    /// What happened, for the destination's owner.
    pub detail: Option<String>,
    /// The first 16 KiB of the answer's body.
    pub response_excerpt: Option<String>,
    /// Where a redirect points to: its scheme, host, port and path, up to 500 characters. Redirects are not followed. Null if
    /// the answer was none.
    pub location: Option<String>,
}

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveryQuery {
    /// The id of an event.
    event: Option<String>,
    /// Id or name.
    destination: Option<String>,
    state: Option<DeliveryState>,
    /// The error class of the last attempt; only settled deliveries have one.
    error: Option<String>,
    /// Made at or after this time, RFC 3339.
    after: Option<String>,
    /// Made before this time, RFC 3339.
    before: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A page of deliveries, newest first.
#[utoipa::path(get, path = "/v1/deliveries", tag = "deliveries", params(DeliveryQuery),
    responses((status = 200, body = Page<Delivery>), Refusals))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(query): Params<DeliveryQuery>,
) -> Result<Json<Page<Delivery>>, ApiError> {
    let mut problems = Problems::default();
    let window = Window::read(query.limit, query.cursor.as_deref(), &mut problems);
    let range = id_range(query.after.as_deref(), query.before.as_deref(), window, &mut problems);
    let event = query.event.as_deref().and_then(|text| {
        text.parse().map_err(|_| problems.add("event", format!("\"{text}\" is not the id of an event, evt_…"))).ok()
    });
    if query.error.is_some() && matches!(query.state, Some(DeliveryState::Pending | DeliveryState::Held)) {
        problems.add("error", "goes with settled deliveries only; take away the state, or ask for dead ones");
    }
    let destination =
        destinations::id_of(&app, caller.customer, "destination", query.destination.as_deref(), &mut problems).await?;
    problems.finish()?;
    let state = query.state.map(DeliveryState::as_str);
    let snapshot = app.configuration.current();
    let selection = Selection { event, destination, state, error: query.error, unusable: snapshot.unusable_ids() };
    let mut search =
        deliveries::Page { customer: caller.customer, selection, limit: window.fetch(), found: Vec::new() };
    let ended = window.search(&app, &mut search, range).await?;
    Ok(Json(window.found(ended, search.found, |row| row.id, |row| view(row, &snapshot))))
}

/// One delivery.
#[utoipa::path(get, path = "/v1/deliveries/{id}", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, body = Delivery), Refusals))]
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(find(&app, caller.customer, read_id(&id)?).await?))
}

/// Every try of a delivery, oldest first.
#[utoipa::path(get, path = "/v1/deliveries/{id}/attempts", tag = "deliveries", params(("id" = String, Path), PageQuery),
    responses((status = 200, body = Page<Attempt>), Refusals))]
pub(super) async fn attempts(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Attempt>>, ApiError> {
    let window = query.window()?;
    let id = read_id(&id)?;
    find(&app, caller.customer, id).await?;
    let rows = deliveries::attempts(&app.pool, id, window.cursor, window.fetch()).await?;
    Ok(Json(window.page(rows, |row| row.id, attempt_view)))
}

/// Sends a delivery now, whichever relay sends for its destination. One that was settled becomes pending again, with the same
/// id and a fresh retry schedule, without the wait before its first attempt; one that is held by something of its own is released. It is sent with the transform that its
/// route has now, or had last if the route is deleted. One that no filter has approved is decided first: the answer shows what
/// became of it, which is `cancelled` with the reason if it is not to be sent, and `held` if that is still not known.
///
/// It goes before all others of its destination, and it is sent even while the destination has asked for a pause or its breaker
/// is open: if it succeeds that is over, and if it fails all stays as it was. It is not sent while the destination is paused or
/// disabled, beyond its rate and its concurrency, or before an earlier delivery of its order key: then `waits_for` of the
/// answer says what it waits for, and it is sent first as soon as that is over. Asking again before it is sent changes nothing
/// and answers the same.
#[utoipa::path(post, path = "/v1/deliveries/{id}/retry", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, body = Delivery), Refusals))]
pub(super) async fn retry(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Delivery>, ApiError> {
    let id = read_id(&id)?;
    let first_with_body = app.config.retention.first_with_body(app.clock.now_ms().await?);
    match deliveries::retry(&app.pool, caller.customer, id, first_with_body).await? {
        Retried::Due { destination } => app.engine.expedite(destination, id),
        Retried::Undecided => undecided::decide_now(&app.releaser.intake, id).await?,
        Retried::NotFound => return Err(ApiError::NotFound("delivery")),
        Retried::DestinationGone => return Err(ApiError::Conflict(Conflict::DestinationGone)),
        Retried::BodyGone => return Err(ApiError::Conflict(Conflict::BodyGone)),
    }
    Ok(Json(find(&app, caller.customer, id).await?))
}

/// Cancels a pending or held delivery. The relay that sends for its destination learns of it usually within two seconds and
/// does not send it any more. An attempt that is under way by then is not called back, and does not change the delivery. One that
/// is cancelled already is answered the same.
#[utoipa::path(post, path = "/v1/deliveries/{id}/cancel", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, body = Delivery), Refusals))]
pub(super) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Delivery>, ApiError> {
    let id = read_id(&id)?;
    match with_partitions!(&app.pool, deliveries::cancel(&app.pool, caller.customer, id))? {
        Cancelled::Done => {}
        Cancelled::NotPending => return Err(ApiError::Conflict(Conflict::NotPending)),
        Cancelled::NotFound => return Err(ApiError::NotFound("delivery")),
    }
    let delivery = find(&app, caller.customer, id).await?;
    app.engine.delivery_cancelled(delivery.destination_id, id);
    Ok(Json(delivery))
}

async fn find(app: &App, customer: CustomerId, id: DeliveryId) -> Result<Delivery, ApiError> {
    let snapshot = app.configuration.current();
    let row = deliveries::find(&app.pool, customer, id, snapshot.unusable_ids()).await?;
    row.map(|row| view(row, &snapshot)).ok_or(ApiError::NotFound("delivery"))
}

fn read_id(text: &str) -> Result<DeliveryId, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound("delivery"))
}

pub(super) fn view(row: DeliveryRow, snapshot: &Snapshot) -> Delivery {
    let unusable = snapshot.unusable.get(&DestinationId::from_uuid(row.destination_id));
    let unusable = unusable.filter(|_| row.state == "held").map(|unusable| unusable.held_reason());
    let waits = waits::of(&row);
    Delivery {
        id: DeliveryId::from_uuid(row.id),
        event_id: EventId::from_uuid(row.event_id),
        source_id: SourceId::from_uuid(row.source_id),
        destination_id: DestinationId::from_uuid(row.destination_id),
        destination: row.destination_name,
        route_id: row.route_id.map(RouteId::from_uuid),
        replay_id: row.replay_id.map(ReplayId::from_uuid),
        waits_for: waits.map(|waits| waits.on),
        held_until: waits.and_then(|waits| waits.until).map(Timestamp),
        next_attempt_at: waits.and_then(|waits| waits.next_attempt_at).map(Timestamp),
        state: row.state,
        held_reason: row.held_reason.or(unusable),
        held_by: row.parked_by.as_deref().map(HeldBy::from_name),
        attempts: row.attempts,
        error: row.error,
        reason: row.reason,
        settled_at: row.settled_at.map(Timestamp),
    }
}

fn attempt_view(row: AttemptRow) -> Attempt {
    Attempt {
        id: AttemptId::from_uuid(row.id),
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
