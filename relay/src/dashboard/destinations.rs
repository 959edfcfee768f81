//! Destinations: their list, the page of one, and what is done with them.

use model::destination::DestinationState;
use model::health::BreakerName;
use time::OffsetDateTime;

use super::view::Tone;
use crate::control::destinations::health::DestinationHealth;

pub(super) mod add;
pub(super) mod edit;
pub(super) mod figures;
mod form;
pub(super) mod list;
pub(super) mod page;
mod sentences;
pub(super) mod signing;
pub(super) mod steer;
pub(super) mod test;

/// The state of a destination in one word, of which no more than this is known.
pub(super) const fn state(state: DestinationState) -> (Tone, &'static str) {
    match state {
        DestinationState::Disabled => (Tone::Danger, "Disabled"),
        DestinationState::Paused => (Tone::Held, "Paused"),
        DestinationState::Active => (Tone::Quiet, "Active"),
    }
}

/// The health of a destination in one word.
pub(super) fn condition(health: &DestinationHealth, now: OffsetDateTime) -> (Tone, &'static str) {
    if health.state != DestinationState::Active {
        return state(health.state);
    }
    if health.unusable.is_some() {
        return (Tone::Danger, "Unusable");
    }
    match health.breaker.state {
        BreakerName::Open => return (Tone::Danger, "Breaker open"),
        BreakerName::HalfOpen => return (Tone::Warn, "Probing"),
        BreakerName::Closed => {}
    }
    if health.back_off_until.is_some_and(|until| until.0 > now) {
        (Tone::Warn, "Backing off")
    } else if health.failing.is_some() {
        (Tone::Warn, "Failing")
    } else if health.reduced.is_some() {
        (Tone::Warn, "Reduced")
    } else {
        (Tone::Ok, "Healthy")
    }
}

/// The state of the circuit breaker, in one word.
pub(super) const fn breaker(state: BreakerName) -> (Tone, &'static str) {
    match state {
        BreakerName::Closed => (Tone::Ok, "Closed"),
        BreakerName::HalfOpen => (Tone::Warn, "Half-open"),
        BreakerName::Open => (Tone::Danger, "Open"),
    }
}
