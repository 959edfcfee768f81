//! Explains an event: what was decided when it was stored, and separately what its routes would decide now.

use model::delivery::DeliveryState;
use model::event::Verification;
use model::held_by::HeldBy;
use model::unix_time;
use serde::Serialize;
use shared::header::HeaderList;
use shared::id::{DeliveryId, DestinationId, EventId, RouteId};
use store::deliveries::DeliveryRow;
use store::events::{self, EventRow, SummaryRow};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{ChangedCopy, EVALUATE_WITHIN, Event, Header, find, summary, view};
use crate::configuration::Snapshot;
use crate::control::deliveries::{self, Delivery};
use crate::control::error::Noun;
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, Error, Scope, schema};
use crate::recheck::{Recheck, Rechecker};
use crate::route::{self, Answer, Verdict};

/// The maximum number of deliveries that are shown with their event. The list of deliveries, filtered by the event, has
/// all.
pub(crate) const DELIVERIES_SHOWN: i64 = 200;

/// Headers of the provider's request that contain credentials. Their names are shown, their values are not.
const HIDDEN: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// An event with its headers, deliveries and decision, but without its body.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventDetail {
    #[serde(flatten)]
    pub event: Event,
    /// The requested id, if it is the id of a copy of this event. Only the ids of about the first 100 copies of an
    /// event are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::EventId, required = false)]
    pub copy_id: Option<EventId>,
    /// The first copy whose body differs from the event's; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub changed_copy: Option<ChangedCopy>,
    /// When the relay stored the event.
    pub stored_at: Timestamp,
    /// The HTTP method of the request.
    pub method: String,
    /// The query string of the request, without `?`.
    pub query: String,
    /// The headers of the provider's request, in their original order. The values of `authorization`, `cookie` and
    /// `proxy-authorization` are hidden.
    pub headers: Vec<Header>,
    /// The newest 200 deliveries of the event, including those of replays.
    pub deliveries: Vec<Delivery>,
    /// What was decided when the event was stored or released. Later changes to routes do not affect it.
    pub decision: Decision,
    /// What each route of the source would decide now. Empty if the body is no longer available.
    pub routes: Vec<RouteAnswer>,
    /// For an event that is or was in quarantine: whether its verification succeeds with the current secrets and
    /// settings of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub verification_now: Option<Recheck>,
}

/// What was decided when an event was stored, or when it was manually released from quarantine.
///
/// Rejected requests are not events and have no decision; see `GET /v1/rejections`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Decision {
    /// What was decided.
    pub outcome: DecisionOutcome,
    /// The outcome in words.
    pub reason: String,
    /// The id of this event, if the requested id is that of a copy. The copy was counted but not routed; all other
    /// fields are about the event itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::EventId, required = false)]
    pub copy_of: Option<EventId>,
    /// The newest 200 deliveries that this decision created, with their current states. Deliveries of replays are not
    /// included.
    pub deliveries: Vec<DecidedDelivery>,
}

/// What was decided about an event. `routed`: at least one route matched, or could not be evaluated, so that its
/// delivery is held. `no_route_matched`: no delivery was created, because no enabled route of the source matched.
/// `quarantined`: verification failed, and the event was not routed. `released`: verification failed, and the event has
/// since been released; `deliveries` lists those of a manual release, not those of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionOutcome {
    /// At least one route matched, or could not be evaluated, so that its delivery is held.
    Routed,
    /// No delivery was created: no enabled route of its source matched.
    NoRouteMatched,
    /// Verification failed, and the event was not routed.
    Quarantined,
    /// Verification failed, and the event has since been released. `deliveries` lists those of a manual release; those
    /// of a replay belong to the replay.
    Released,
}

/// A delivery that the decision created.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecidedDelivery {
    /// The id of the delivery.
    #[schema(value_type = schema::DeliveryId)]
    pub id: DeliveryId,
    /// The route that created the delivery.
    #[schema(value_type = Option<schema::RouteId>, required = true)]
    pub route_id: Option<RouteId>,
    /// The destination that the event is delivered to.
    #[schema(value_type = schema::DestinationId)]
    pub destination_id: DestinationId,
    /// The destination's name; null if it has been deleted.
    #[schema(required = true)]
    pub destination: Option<String>,
    /// The current state.
    pub state: DeliveryState,
    /// Why the delivery is held individually. Absent if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub held_by: Option<HeldBy>,
    /// Why the delivery is held, as text. Absent if it is not held.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub held_reason: Option<String>,
    /// Why the delivery is dead, was cancelled, or could not be sent; otherwise absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<String>,
}

/// What a route would decide now.
#[derive(Debug, Serialize, ToSchema)]
pub struct RouteAnswer {
    /// The id of the route.
    #[schema(value_type = schema::RouteId)]
    pub route_id: RouteId,
    /// The destination of the route.
    #[schema(value_type = schema::DestinationId)]
    pub destination_id: DestinationId,
    /// The destination's name.
    #[schema(required = true)]
    pub destination: Option<String>,
    /// Whether the route would match.
    pub outcome: RouteOutcome,
    /// Why the outcome is not `matched`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<String>,
}

/// Whether a route matches an event. `matched`: it matches. `off`: the route is disabled. `type_not_matched`: the
/// event's type is not one of the route's `types`; the filter is not evaluated. `not_matched`: the filter returned
/// false. `filter_failed`: the filter cannot be evaluated for this event. `undecided`: the filter could not be
/// evaluated for now; a delivery would be created and held. `unordered`: the filter matches, but the order key cannot
/// be evaluated for this event; the delivery would be held until the route is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteOutcome {
    /// The route matches.
    Matched,
    /// The route is disabled.
    Off,
    /// The event's type is not one of the route's types. The filter is not evaluated.
    TypeNotMatched,
    /// The filter is false.
    NotMatched,
    /// The filter fails on this event.
    FilterFailed,
    /// The filter could not be evaluated; a delivery is created and held until it can be evaluated.
    Undecided,
    /// The filter matches, but the order key cannot be evaluated for this event; the delivery is held until the route
    /// is changed.
    Unordered,
}

/// An event with its headers and deliveries, what was decided when it was stored, and what each route would decide now.
/// For the id of a copy, the original event is returned.
///
/// # Errors
/// Returns an error if the event does not exist, or if a query fails.
pub async fn explain(control: &Control, actor: &Actor, id: &str) -> Result<EventDetail, Error> {
    actor.require(Scope::Read)?;
    let id: EventId = id.parse().map_err(|_| Error::NotFound(Noun::Event))?;
    if let Some(row) = events::find(&control.pool, actor.customer()?, id).await? {
        return detail(control, actor, row).await;
    }
    let event = events::of_copy(&control.pool, id).await?.ok_or(Error::NotFound(Noun::Event))?;
    let detail = detail(control, actor, find(control, actor, &event.to_string()).await?).await?;
    let decision = Decision { copy_of: Some(event), ..detail.decision };
    Ok(EventDetail { copy_id: Some(id), decision, ..detail })
}

pub(super) async fn detail(control: &Control, actor: &Actor, row: EventRow) -> Result<EventDetail, Error> {
    let snapshot = control.configuration.current();
    let (event, verification) = (row.meta.id, row.verification);
    let rows = of_event(control, actor, event, None, &snapshot).await?;
    let made = match i64::try_from(rows.len()) {
        // These are all deliveries of the event.
        Ok(found) if found < DELIVERIES_SHOWN => rows.iter().filter(|row| row.replay_id.is_none()).cloned().collect(),
        Ok(_) | Err(_) => of_event(control, actor, event, Some(false), &snapshot).await?,
    };
    // A delivery without a route was sent by a caller. Only an edited event may have been stored for it.
    let is_decided = |row: &DeliveryRow| row.route_id.is_some() || verification == Verification::Edited;
    let made = made.into_iter().filter(is_decided).map(|row| deliveries::view(row, &snapshot)).collect();
    let (routes, verification_now) = match control
        .bodies
        .hold(row.body_size, store::pending::body(&control.pool, event))
        .await?
    {
        Some(body) => {
            let event = view(&row, body.as_ref());
            let recheck = match row.failure_cause {
                Some(_) => {
                    let rechecker = Rechecker::of(&control.pusher, actor.customer()?, event.source_id).await?;
                    Some(rechecker.check(&event))
                }
                None => None,
            };
            (route::evaluate(&control.evaluator, &snapshot, &event, Instant::now() + EVALUATE_WITHIN).await, recheck)
        }
        // Filters need the body.
        None => (Vec::new(), None),
    };
    let changed_copy = events::changed_copy(&control.pool, event).await?;
    Ok(EventDetail {
        copy_id: None,
        changed_copy: changed_copy.map(|copy| ChangedCopy {
            id: copy.id,
            received_at: Timestamp(unix_time::timestamp(copy.id.minted_at_ms())),
            body_size: copy.body_size,
        }),
        stored_at: Timestamp(row.stored_at),
        method: row.meta.method.clone(),
        query: row.meta.query.clone(),
        headers: shown(&row.meta.headers),
        deliveries: rows.into_iter().map(|row| deliveries::view(row, &snapshot)).collect(),
        decision: decision(&row, made),
        routes: routes
            .into_iter()
            .map(|answer| route_view(answer, row.meta.event_type.as_deref(), &snapshot))
            .collect(),
        verification_now,
        event: summary(SummaryRow {
            id: row.meta.id,
            source_id: row.meta.source_id,
            source_name: row.source_name,
            received_at: row.meta.received_at,
            event_type: row.meta.event_type,
            provider_event_id: row.meta.provider_event_id,
            body_size: row.body_size,
            verification: row.verification,
            failure_cause: row.failure_cause,
            failure_detail: row.failure_detail,
            copies: row.copies,
            same_key_as: row.same_key_as,
            body_erased_at: row.body_erased_at,
            job_key: row.job_key,
            job_state: row.job_state,
            job_good: row.job_good,
            edited_of: row.edited_of,
        }),
    })
}

/// The newest deliveries of an event. If `replayed` is set, only those that replays created, or only those that no
/// replay created.
async fn of_event(
    control: &Control,
    actor: &Actor,
    event: EventId,
    replayed: Option<bool>,
    snapshot: &Snapshot,
) -> Result<Vec<DeliveryRow>, Error> {
    let unusable = snapshot.unusable_ids();
    let customer = actor.customer()?;
    Ok(store::deliveries::of_event(&control.pool, customer, event, replayed, unusable, DELIVERIES_SHOWN).await?)
}

/// What was decided about an event, from its row and the deliveries that no replay created.
fn decision(row: &EventRow, made: Vec<Delivery>) -> Decision {
    let cause = row.failure_cause.as_deref().unwrap_or("not verified");
    let (outcome, reason) = match row.verification {
        Verification::Failed => (
            DecisionOutcome::Quarantined,
            format!(
                "verification failed ({cause}), so the event was quarantined and not routed; release it to route it"
            ),
        ),
        Verification::Released if made.is_empty() => (
            DecisionOutcome::Released,
            format!(
                "verification failed ({cause}); the event has since been released, either manually without a matching \
                 route, or by a replay"
            ),
        ),
        Verification::Released => (
            DecisionOutcome::Released,
            format!(
                "verification failed ({cause}); the event has since been released, which created {}",
                count(made.len())
            ),
        ),
        Verification::Edited if made.iter().any(|delivery| delivery.route_id.is_none()) => (
            DecisionOutcome::Routed,
            "the event is an edited copy, which a caller has sent to this destination".to_owned(),
        ),
        Verification::Verified | Verification::Stale | Verification::Unsigned | Verification::Edited
            if made.is_empty() =>
        {
            (
                DecisionOutcome::NoRouteMatched,
                "no enabled route of the source matched when the event was stored; create a replay to route it again"
                    .to_owned(),
            )
        }
        Verification::Verified | Verification::Stale | Verification::Unsigned | Verification::Edited => (
            DecisionOutcome::Routed,
            format!("the routes of the source created {} when the event was stored", count(made.len())),
        ),
    };
    let deliveries = made.into_iter().map(decided).collect();
    Decision { outcome, reason, copy_of: None, deliveries }
}

fn count(deliveries: usize) -> String {
    match i64::try_from(deliveries) {
        Ok(1) => "1 delivery".to_owned(),
        Ok(count) if count < DELIVERIES_SHOWN => format!("{count} deliveries"),
        Ok(_) | Err(_) => format!("at least {DELIVERIES_SHOWN} deliveries"),
    }
}

fn decided(delivery: Delivery) -> DecidedDelivery {
    let Delivery { id, route_id, destination_id, destination, state, held_by, held_reason, reason, .. } = delivery;
    DecidedDelivery { id, route_id, destination_id, destination, state, held_by, held_reason, reason }
}

fn shown(headers: &HeaderList) -> Vec<Header> {
    let value =
        |name: &str, value: &str| if HIDDEN.contains(&name) { "(not shown)".to_owned() } else { value.to_owned() };
    headers.iter().map(|(name, text)| Header { name: name.to_owned(), value: value(name, text) }).collect()
}

fn route_view(answer: Answer, event_type: Option<&str>, snapshot: &Snapshot) -> RouteAnswer {
    let (outcome, reason) = match answer.verdict {
        Verdict::Matched => (RouteOutcome::Matched, None),
        Verdict::Off => (RouteOutcome::Off, Some("the route is disabled".to_owned())),
        Verdict::OtherType => (RouteOutcome::TypeNotMatched, Some(other_type(event_type))),
        Verdict::NotMatched => (RouteOutcome::NotMatched, Some("the filter is false for this event".to_owned())),
        Verdict::FilterFailed { reason } => (RouteOutcome::FilterFailed, Some(reason)),
        Verdict::Undecided { reason, .. } => (RouteOutcome::Undecided, Some(reason)),
        Verdict::Unordered { reason, .. } => (RouteOutcome::Unordered, Some(reason)),
    };
    let destination = snapshot.destinations.get(&answer.route.destination_id);
    RouteAnswer {
        route_id: answer.route.id,
        destination_id: answer.route.destination_id,
        destination: destination.map(|destination| destination.name.clone()),
        outcome,
        reason,
    }
}

/// Why a route that takes only events of some types does not match an event of this type.
fn other_type(event_type: Option<&str>) -> String {
    match event_type {
        Some(found) => format!("the event's type \"{found}\" is not one of the route's types"),
        None => "the event has no type, and the route takes only events of its types".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_among_the_headers_are_not_shown() {
        let headers = HeaderList::new([("Authorization", "Basic secret"), ("X-Event", "paid"), ("cookie", "secret")]);
        let shown = serde_json::to_string(&shown(&headers)).expect("json");
        assert!(shown.contains("paid") && shown.contains("authorization") && !shown.contains("secret"), "{shown}");
    }
}
