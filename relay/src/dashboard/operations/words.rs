//! Operations in words.

use std::borrow::Borrow;

use model::operation::OperationState;
use model::replay::ReplayState;
use shared::id::{DestinationId, SourceId};

use crate::control::deliveries::DeliveryFilter;
use crate::control::field_error::FieldError;
use crate::control::fields;
use crate::control::names::Names;
use crate::control::operations::{Operation, SkippedDeliveries};
use crate::control::rate::{Period, RateLimit};
use crate::control::replays::{Replay, ShownFilter};
use crate::dashboard::filter;
use crate::dashboard::view::{self, Markup, Tone};

/// What an operation does.
pub(in crate::dashboard) fn title(kind: &str) -> &'static str {
    match kind {
        "delete_customer" => "Delete a customer",
        "reseal" => "Encrypt secrets again",
        "retry_deliveries" => "Retry deliveries",
        "cancel_deliveries" => "Cancel deliveries",
        "release_deliveries" => "Release deliveries",
        "release_events" => "Release from quarantine",
        "replay" => "Replay",
        _ => "Operation",
    }
}

/// What an operation that is no replay is about.
pub(in crate::dashboard) fn of_parameters(operation: &Operation) -> String {
    if let Some(filter) = filter_of(operation) {
        return view::sentence(&filter::words(&filter));
    }
    match operation.kind.as_str() {
        "reseal" => "All stored secrets, with the first master key.".to_owned(),
        "delete_customer" => {
            let name = operation.parameters.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
            format!("Everything that {name} owned.")
        }
        _ => String::new(),
    }
}

/// The filter of an operation that changes deliveries.
pub(in crate::dashboard) fn filter_of(operation: &Operation) -> Option<DeliveryFilter> {
    fields::read(operation.parameters.get("deliveries")?.clone()).ok()
}

/// What a replay takes.
pub(in crate::dashboard) fn of_replay(replay: &Replay, names: &Names) -> String {
    let source = |id: SourceId| {
        let known = names.sources.iter().find(|(known, _)| *known == id);
        known.map_or_else(|| id.to_string(), |(_, name)| name.clone())
    };
    let destination = |id: DestinationId| {
        let known = names.destinations.iter().find(|(known, _)| *known == id);
        known.map_or_else(|| id.to_string(), |(_, name)| name.clone())
    };
    let ShownFilter {
        source: of,
        destination: to,
        event_type,
        state,
        error,
        after,
        before,
        verification,
        verifies_now,
        events,
    } = &replay.filter;
    let mut words = match (state, verification) {
        (Some(state), _) => format!("{} deliveries", state_name(*state)),
        (None, Some(_)) => "events in quarantine".to_owned(),
        (None, None) => "events".to_owned(),
    };
    if !events.is_empty() {
        words = view::count(events.len(), "event", "events");
    }
    let time = |at: &Option<crate::control::time::Timestamp>| at.map(|at| view::minute(at.0));
    for (text, value) in [
        ("of", of.map(source)),
        ("to", to.map(destination)),
        ("with the type", event_type.clone()),
        ("with the error class", error.clone()),
        ("received from", time(after)),
        ("received before", time(before)),
        ("again to", replay.destination.map(destination)),
    ] {
        if let Some(value) = value {
            words.push_str(&format!(" {text} {value}"));
        }
    }
    if *verifies_now {
        words.push_str(" that verify now");
    }
    view::sentence(&words)
}

fn state_name(state: impl serde::Serialize) -> String {
    let value = serde_json::to_value(state).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// Why deliveries are left as they are, with their numbers; without those of which there are none.
pub(in crate::dashboard) fn skipped(skipped: &SkippedDeliveries) -> Vec<(&'static str, i64)> {
    let SkippedDeliveries { destination_deleted, body_not_kept, held_by_destination } = skipped;
    let reasons = [
        ("Their destination has been deleted", *destination_deleted),
        ("The body of their event is no longer kept", *body_not_kept),
        ("Their destination is paused, disabled or unusable: resume it", *held_by_destination),
    ];
    reasons.into_iter().filter(|(_, number)| *number > 0).collect()
}

/// How long an operation takes until its end at its present speed; `None` if that is not known.
pub(in crate::dashboard) fn time_left(operation: &Operation) -> Option<String> {
    let (left, speed) = (operation.remaining?, operation.processed_per_s?);
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    (operation.state == OperationState::Running && left > 0 && speed > 0.0).then(|| seconds(left as f64 / speed))
}

/// A duration in seconds, as pages write it.
pub(in crate::dashboard) fn seconds(seconds: impl Borrow<f64>) -> String {
    let ms = (*seconds.borrow() * 1_000.0).clamp(0.0, 1e15);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range")]
    let ms = ms as u64;
    view::duration(ms)
}

/// A rate limit, such as `100 per second`.
pub(in crate::dashboard) fn rate(rate: impl Borrow<RateLimit>) -> String {
    let RateLimit { limit, per } = *rate.borrow();
    format!("{} per {}", view::number(limit), period(per))
}

/// What is wrong with a field of a form, in a sentence. A form has no JSON.
pub(in crate::dashboard) fn problem(error: &FieldError) -> String {
    view::sentence(&error.message.replace("a JSON number", "a whole number"))
}

/// A period as the REST API names it.
pub(in crate::dashboard) const fn period(period: Period) -> &'static str {
    match period {
        Period::Second => "second",
        Period::Minute => "minute",
        Period::Hour => "hour",
    }
}

/// The state of an operation.
pub(in crate::dashboard) fn state(state: impl Borrow<OperationState>) -> Markup {
    let state = *state.borrow();
    let tone = match state {
        OperationState::Running => Tone::Warn,
        OperationState::Paused => Tone::Held,
        OperationState::Completed => Tone::Ok,
        OperationState::Cancelled => Tone::Quiet,
        OperationState::Failed => Tone::Danger,
    };
    view::badge(tone, &view::capital(state.name()))
}

/// The state of a replay.
pub(in crate::dashboard) fn replay_state(of: impl Borrow<ReplayState>) -> Markup {
    state(match *of.borrow() {
        ReplayState::Running => OperationState::Running,
        ReplayState::Paused => OperationState::Paused,
        ReplayState::Completed => OperationState::Completed,
        ReplayState::Cancelled => OperationState::Cancelled,
        ReplayState::Failed => OperationState::Failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reasons_that_have_deliveries_are_named() {
        let none = SkippedDeliveries::default();
        assert!(skipped(&none).is_empty());
        let some = SkippedDeliveries { body_not_kept: 3, ..none };
        assert_eq!(skipped(&some), [("The body of their event is no longer kept", 3)]);
    }

    #[test]
    fn seconds_and_rates_are_written_for_people() {
        assert_eq!([0.25, 90.0, 7_200.0].map(|value: f64| seconds(value)), ["250 ms", "90 s", "2 h"]);
        assert_eq!(seconds(f64::INFINITY), seconds(1e12), "a number that is no time does not panic");
        assert_eq!(rate(RateLimit { limit: 1_500, per: Period::Minute }), "1,500 per minute");
    }
}
