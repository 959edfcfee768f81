//! Why an event was delivered or not, in a sentence, and what each route decided and would decide now.

use std::collections::HashSet;

use model::delivery::DeliveryState;
use model::event::Verification;
use shared::id::{DestinationId, RouteId};
use time::OffsetDateTime;

use crate::control::deliveries::{Delivery, WaitsFor};
use crate::control::events::{DecisionOutcome, EventDetail, RouteOutcome};
use crate::control::routes::Route;
use crate::dashboard::view::{self, Tone};

/// The most destinations that the sentence names.
const NAMED: usize = 3;

/// Why an event was delivered or not: sentences, and the tone of the worst of them.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::dashboard) struct Why {
    pub(in crate::dashboard) tone: Tone,
    pub(in crate::dashboard) text: String,
}

/// What a route decided, and what it would decide now.
#[derive(Debug)]
pub(in crate::dashboard) struct RouteVerdict {
    pub(in crate::dashboard) id: RouteId,
    pub(in crate::dashboard) name: Option<String>,
    pub(in crate::dashboard) destination_id: DestinationId,
    pub(in crate::dashboard) destination: String,
    /// What decides, in the order in which it is evaluated: what it is, and the expression.
    pub(in crate::dashboard) decides: Vec<(&'static str, String)>,
    pub(in crate::dashboard) then: (Tone, String),
    pub(in crate::dashboard) now: (Tone, String),
    /// Why it would decide so now.
    pub(in crate::dashboard) reason: Option<String>,
    /// When the route was changed after the event was stored.
    pub(in crate::dashboard) changed_at: Option<OffsetDateTime>,
}

/// Why the event was delivered or not.
pub(in crate::dashboard) fn why(detail: &EventDetail, now: OffsetDateTime) -> Why {
    if detail.event.verification == Verification::Failed {
        let detail = detail.event.failure.as_ref().map_or("", |failure| failure.detail.as_str());
        let text = format!(
            "Not delivered: verification failed, so the event is in quarantine. {} Release it to route it.",
            view::sentence(detail)
        );
        return Why { tone: Tone::Warn, text };
    }
    if detail.deliveries.is_empty() {
        let matched = detail.routes.iter().filter(|answer| answer.outcome == RouteOutcome::Matched).count();
        let then = match detail.decision.outcome {
            DecisionOutcome::Released => "Not delivered: no route matched when it was released.",
            DecisionOutcome::Routed | DecisionOutcome::NoRouteMatched | DecisionOutcome::Quarantined => {
                "Not delivered: no enabled route of its source matched when it was stored."
            }
        };
        let now = match matched {
            0 => "None would match now.".to_owned(),
            matched => format!("{} would match now: deliver it again.", view::count(matched, "route", "routes")),
        };
        return Why { tone: Tone::Quiet, text: format!("{then} {now}") };
    }
    let mut known = HashSet::new();
    // The newest delivery to a destination counts: an earlier one may have been replayed.
    let mut newest: Vec<&Delivery> =
        detail.deliveries.iter().filter(|delivery| known.insert(delivery.destination_id)).collect();
    if newest.iter().all(|delivery| delivery.state == DeliveryState::Succeeded) {
        let names: Vec<&str> = newest.iter().take(NAMED).map(|delivery| name(delivery)).collect();
        let more = match newest.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let last = newest.iter().filter_map(|delivery| delivery.settled_at).map(|at| at.0).max();
        let after =
            last.map(|at| (at - detail.event.received_at.0).whole_milliseconds()).and_then(|ms| u64::try_from(ms).ok());
        let after = after.map_or_else(String::new, |ms| format!(", {} after it was received", view::duration(ms)));
        return Why { tone: Tone::Ok, text: format!("Delivered to {}{more}{after}.", names.join(", ")) };
    }
    newest.sort_by_key(|delivery| rank(delivery.state));
    let tone = newest.first().map_or(Tone::Quiet, |worst| view::delivery_tone(worst.state));
    let delivered = newest.iter().filter(|delivery| delivery.state == DeliveryState::Succeeded).count();
    let open: Vec<&Delivery> =
        newest.into_iter().filter(|delivery| delivery.state != DeliveryState::Succeeded).collect();
    let mut sentences: Vec<String> = open.iter().take(NAMED).map(|delivery| of_delivery(delivery, now)).collect();
    match open.len().saturating_sub(NAMED) {
        0 => {}
        more => sentences.push(format!("{} more below.", view::count(more, "delivery", "deliveries"))),
    }
    if delivered > 0 {
        sentences.push(format!("Delivered to {}.", view::count(delivered, "other destination", "other destinations")));
    }
    Why { tone, text: sentences.join(" ") }
}

const fn rank(state: DeliveryState) -> u8 {
    match state {
        DeliveryState::Dead => 0,
        DeliveryState::Held => 1,
        DeliveryState::Pending => 2,
        DeliveryState::Cancelled => 3,
        DeliveryState::Succeeded => 4,
    }
}

fn name(delivery: &Delivery) -> &str {
    delivery.destination.as_deref().unwrap_or("a deleted destination")
}

/// Why a delivery has not succeeded.
fn of_delivery(delivery: &Delivery, now: OffsetDateTime) -> String {
    let name = name(delivery);
    let attempts = view::count(delivery.attempts, "attempt", "attempts");
    let because = |reason: &Option<String>| reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    let text = match delivery.state {
        DeliveryState::Dead => format!("Not delivered to {name}: dead after {attempts}{}", because(&delivery.reason)),
        DeliveryState::Cancelled => format!("Not delivered to {name}: cancelled{}", because(&delivery.reason)),
        DeliveryState::Held => format!("Not delivered to {name} yet: held{}", because(&delivery.held_reason)),
        DeliveryState::Pending => format!("Not delivered to {name} yet: {}", waits(delivery, now)),
        DeliveryState::Succeeded => format!("Delivered to {name}"),
    };
    view::sentence(&text)
}

/// What a pending delivery waits for.
pub(in crate::dashboard) fn waits(delivery: &Delivery, now: OffsetDateTime) -> String {
    let until = |at: Option<OffsetDateTime>| match at.map(|at| (at - now).whole_milliseconds()) {
        Some(ms @ 1..) => format!(" in {}", view::duration(u64::try_from(ms).unwrap_or(u64::MAX))),
        Some(_) | None => String::new(),
    };
    let next = until(delivery.next_attempt_at.map(|at| at.0));
    let failed = match delivery.attempts {
        ..=0 => String::new(),
        attempts => format!(" after {}", view::count(attempts, "failed attempt", "failed attempts")),
    };
    match delivery.waits_for {
        Some(WaitsFor::Turn) | None => format!("it is due{failed}, and waits for its turn"),
        Some(WaitsFor::Schedule) => format!("it waits for its next attempt{failed}{next}"),
        Some(WaitsFor::BackOff) => {
            format!("the destination asked to wait; it goes on{}", until(delivery.waits_until.map(|at| at.0)))
        }
        Some(WaitsFor::Breaker) => format!(
            "the breaker of the destination is open, because its attempts fail; it is probed{}",
            until(delivery.waits_until.map(|at| at.0))
        ),
        Some(WaitsFor::Order) => "an earlier delivery with the same order key comes first".to_owned(),
        Some(WaitsFor::Destination | WaitsFor::Release) => "it is held".to_owned(),
    }
}

/// What each route decided, and what it would decide now.
pub(in crate::dashboard) fn of_routes(detail: &EventDetail, routes: &[Route]) -> Vec<RouteVerdict> {
    let mut verdicts: Vec<RouteVerdict> = routes.iter().map(|route| of_route(detail, route)).collect();
    // Routes that have been deleted since have left deliveries.
    for made in &detail.decision.deliveries {
        let Some(id) = made.route_id.filter(|id| verdicts.iter().all(|verdict| verdict.id != *id)) else { continue };
        verdicts.push(RouteVerdict {
            id,
            name: None,
            destination_id: made.destination_id,
            destination: made.destination.clone().unwrap_or_else(|| "a deleted destination".to_owned()),
            decides: Vec::new(),
            then: (view::delivery_tone(made.state), format!("matched, {}", made.state.name())),
            now: (Tone::Quiet, "deleted".to_owned()),
            reason: None,
            changed_at: None,
        });
    }
    verdicts
}

fn of_route(detail: &EventDetail, route: &Route) -> RouteVerdict {
    let stored = detail.stored_at.0;
    let made = detail.decision.deliveries.iter().find(|delivery| delivery.route_id == Some(route.id));
    let then = match made {
        Some(made) => (view::delivery_tone(made.state), format!("matched, {}", made.state.name())),
        None if detail.event.verification == Verification::Failed => (Tone::Quiet, "not evaluated".to_owned()),
        None if route.created_at.0 > stored => (Tone::Quiet, "did not exist".to_owned()),
        None => (Tone::Quiet, "no delivery".to_owned()),
    };
    let answer = detail.routes.iter().find(|answer| answer.route_id == route.id);
    let now = match answer.map(|answer| answer.outcome) {
        None => (Tone::Quiet, "not known: the body is no longer kept".to_owned()),
        Some(RouteOutcome::Matched) => (Tone::Ok, "matches".to_owned()),
        Some(RouteOutcome::Off) => (Tone::Quiet, "disabled".to_owned()),
        Some(RouteOutcome::TypeNotMatched) => (Tone::Quiet, "other type".to_owned()),
        Some(RouteOutcome::NotMatched) => (Tone::Quiet, "does not match".to_owned()),
        Some(RouteOutcome::FilterFailed) => (Tone::Danger, "filter fails".to_owned()),
        Some(RouteOutcome::Undecided) => (Tone::Held, "undecided".to_owned()),
        Some(RouteOutcome::Unordered) => (Tone::Held, "order key fails".to_owned()),
    };
    let mut decides = Vec::new();
    if !route.types.is_empty() {
        decides.push(("types", route.types.join(", ")));
    }
    decides.extend(route.filter.clone().map(|filter| ("filter", filter)));
    decides.extend(route.order_key.clone().map(|key| ("order key", key)));
    RouteVerdict {
        id: route.id,
        name: route.name.clone(),
        destination_id: route.destination_id,
        destination: route.destination.clone(),
        decides,
        then,
        now,
        reason: answer.and_then(|answer| answer.reason.clone()),
        changed_at: Some(route.updated_at.0).filter(|at| *at > stored && route.created_at.0 <= stored),
    }
}
