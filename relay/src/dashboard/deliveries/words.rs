//! A delivery and its attempts in sentences.

use std::borrow::Borrow;

use model::delivery::DeliveryState;
use model::held_by::HeldBy;

use crate::control::deliveries::{Attempt, Delivery, WaitsFor};
use crate::dashboard::view;

/// What a delivery waits for, in a word or two.
pub(in crate::dashboard) fn waits_for(on: impl Borrow<WaitsFor>) -> &'static str {
    match *on.borrow() {
        WaitsFor::Turn => "Its turn",
        WaitsFor::Schedule => "Its schedule",
        WaitsFor::BackOff => "Back-off",
        WaitsFor::Breaker => "Open breaker",
        WaitsFor::Order => "Order key",
        WaitsFor::Destination => "Destination",
        WaitsFor::Release => "Release",
    }
}

/// The state of a delivery in a sentence.
pub(in crate::dashboard) fn state(delivery: &Delivery) -> String {
    let attempts = view::count(delivery.attempts, "attempt", "attempts");
    match delivery.state {
        DeliveryState::Succeeded => format!("The destination accepted it after {attempts}."),
        DeliveryState::Dead => match &delivery.reason {
            Some(reason) => view::sentence(reason),
            None => format!("No further attempt follows after {attempts}."),
        },
        DeliveryState::Cancelled => match &delivery.reason {
            Some(reason) => format!("It was cancelled: {}", view::sentence(reason)),
            None => "It was cancelled.".to_owned(),
        },
        DeliveryState::Pending | DeliveryState::Held => match delivery.waits_for {
            Some(on) => waits(delivery, on),
            None => "It is being sent.".to_owned(),
        },
    }
}

/// What a delivery waits for, in a sentence.
fn waits(delivery: &Delivery, on: WaitsFor) -> String {
    let held = delivery.held_reason.as_deref().map(view::sentence).unwrap_or_default();
    match on {
        WaitsFor::Turn => match &delivery.reason {
            Some(reason) => format!("It is due, and could not be sent: {}", view::sentence(reason)),
            None => {
                "It is due, and is sent as soon as the rate limit and the concurrency of its destination permit."
                    .to_owned()
            }
        },
        WaitsFor::Schedule => "It waits for the time of its next attempt.".to_owned(),
        WaitsFor::BackOff => {
            "Its destination has asked for a pause (status 429, or 503 with Retry-After). A manual retry is sent at once."
                .to_owned()
        }
        WaitsFor::Breaker => {
            "The breaker of its destination is open, because attempts failed one after another. A manual retry is sent \
             at once."
                .to_owned()
        }
        WaitsFor::Order => "An earlier delivery with the same order key is sent first.".to_owned(),
        WaitsFor::Destination => format!("{held} It is sent when the destination is active again."),
        WaitsFor::Release => held,
    }
}

/// What to do about a delivery that is held individually.
pub(in crate::dashboard) const fn advice(held_by: HeldBy) -> &'static str {
    match held_by {
        HeldBy::Filter => "Correct the filter of the route, then release the delivery: the filter is evaluated again.",
        HeldBy::OrderKey => "Correct the order key of the route, then release the delivery: it is evaluated again.",
        HeldBy::Transform => "Correct the transform of the route, then release the delivery.",
        HeldBy::Url => "Correct the URL of the destination, then release the delivery.",
        HeldBy::Body => {
            "The body is gone, so it cannot be sent. Cancel it, and ask the provider to send the event again."
        }
        HeldBy::Attempt => "Check at the destination whether it has the event, then release the delivery or cancel it.",
        HeldBy::Route => "Its own transform is no longer known. Releasing it uses the present one.",
    }
}

/// The layer at which an attempt failed, by its error class.
pub(in crate::dashboard) fn layer(class: &str) -> &'static str {
    match class {
        "name_not_resolved" => "Name (DNS)",
        "connection_refused" | "connect_timeout" | "unreachable" => "Connection",
        "tls_failed" => "TLS",
        "timeout" | "no_response" | "not_http" | "too_much_before_answer" => "HTTP",
        "http_status" => "Response",
        "not_sent" => "This relay",
        class if class.starts_with("egress") => "Rules for requests that leave",
        _ => "Failure",
    }
}

/// The outcome of an attempt in a sentence that names the layer.
pub(in crate::dashboard) fn outcome(attempt: &Attempt) -> String {
    let Some(class) = &attempt.error else {
        return match attempt.status {
            Some(status) => format!("Accepted with status {status}."),
            None => "Accepted.".to_owned(),
        };
    };
    let detail = attempt.detail.clone().unwrap_or_else(|| view::capital(class));
    format!("{}: {}", layer(class), view::sentence(&detail))
}

/// The most characters of a response that a page shows of each attempt.
pub(crate) const MOST_EXCERPT: usize = 4_000;

/// The beginning of a response, and how many characters it has in total if it is cut.
pub(in crate::dashboard) fn excerpt(text: &str) -> (String, Option<usize>) {
    let shown: String = text.chars().take(MOST_EXCERPT).collect();
    let is_cut = shown.len() < text.len();
    (shown, is_cut.then(|| text.chars().count()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::time::Timestamp;

    fn attempt(status: Option<i16>, error: Option<&str>, detail: Option<&str>) -> Attempt {
        Attempt {
            id: shared::id::AttemptId::mint(1, [1; 10]),
            number: 1,
            started_at: Timestamp(time::OffsetDateTime::UNIX_EPOCH),
            latency_ms: 5,
            status,
            error: error.map(str::to_owned),
            detail: detail.map(str::to_owned),
            response_excerpt: None,
            location: None,
        }
    }

    #[test]
    fn an_outcome_names_the_layer_that_failed() {
        for (status, error, detail, text) in [
            (Some(204), None, None, "Accepted with status 204."),
            (None, Some("name_not_resolved"), Some("the host has no address"), "Name (DNS): The host has no address."),
            (None, Some("tls_failed"), None, "TLS: Tls failed."),
            (Some(500), Some("http_status"), Some("status 500"), "Response: Status 500."),
            (None, Some("egress_blocked"), Some("x"), "Rules for requests that leave: X."),
        ] {
            assert_eq!(outcome(&attempt(status, error, detail)), text);
        }
    }

    #[test]
    fn a_long_response_is_cut_between_characters_and_says_how_long_it_is() {
        assert_eq!(excerpt("short"), ("short".to_owned(), None));
        let (shown, all) = excerpt(&"ü".repeat(MOST_EXCERPT + 7));
        assert_eq!((shown.chars().count(), all), (MOST_EXCERPT, Some(MOST_EXCERPT + 7)));
    }
}
