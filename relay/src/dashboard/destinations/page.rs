//! The page of a destination: its health, its counts, its backlog, its deliveries and its keys.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use model::delivery::DeliveryState;
use model::destination::DestinationState;
use serde_json::Value;

use super::figures::{DELIVERIES, Range, Sums};
use super::form::written;
use super::sentences::{self, Sentence, cause};
use super::{breaker, condition};
use crate::control::deliveries::Delivery;
use crate::control::deliveries::recent::{self, AttemptResult};
use crate::control::destinations::health::{self, DestinationHealth};
use crate::control::destinations::signing::{self, SigningKeys};
use crate::control::destinations::{self, Destination};
use crate::control::page::PageRequest;
use crate::control::rate::{Period, RateLimit};
use crate::control::routes::{self, Route, RouteFilter};
use crate::control::stats::{self, StatsFilter};
use crate::control::{Control, Error};
use crate::dashboard::commands::{Commands, single_quoted};
use crate::dashboard::confirmation::deliveries;
use crate::dashboard::curve::Curve;
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::view::{self, Tone};
use crate::dashboard::viewer::Viewer;
use crate::dashboard::{link, routes as shown};

/// How many deliveries and routes are shown.
const DELIVERIES_SHOWN: usize = 15;
const ROUTES_SHOWN: u32 = 20;

struct RangeLink {
    text: &'static str,
    href: String,
    is_current: bool,
}

#[derive(Template)]
#[template(path = "dashboard/destination.html")]
struct DestinationPage {
    frame: Frame,
    destination: Destination,
    condition: (Tone, &'static str),
    breaker: (Tone, &'static str),
    sentences: Vec<Sentence>,
    health: DestinationHealth,
    ranges: Vec<RangeLink>,
    range: Range,
    curve: Curve,
    sums: Sums,
    results: Vec<AttemptResult>,
    /// How many deliveries the results are of.
    recent: usize,
    deliveries: Vec<Delivery>,
    routes: Vec<Route>,
    has_more_routes: bool,
    keys: Option<SigningKeys>,
    /// Why the signing keys are not known.
    keys_problem: Option<String>,
    commands: Commands,
}

impl DestinationPage {
    fn is_active(&self) -> bool {
        self.destination.state == DestinationState::Active
    }

    /// The URL of a page below this one.
    fn below(&self, rest: &str) -> String {
        self.frame.to(&format!("/destinations/{}{rest}", self.destination.id))
    }

    /// The deliveries of this destination in a state.
    fn list(&self, state: &str) -> String {
        let state = if state.is_empty() { String::new() } else { format!("&state={state}") };
        self.frame.to(&format!("/deliveries?destination={}{state}", self.destination.id))
    }

    fn replay(&self) -> String {
        self.frame.to(&format!("/replays/new?destination={}&state=dead", self.destination.id))
    }

    fn timeout(&self) -> String {
        view::duration(u64::try_from(self.destination.timeout_ms).unwrap_or_default())
    }

    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn period(&self, limit: &RateLimit) -> &'static str {
        match limit.per {
            Period::Second => "second",
            Period::Minute => "minute",
            Period::Hour => "hour",
        }
    }

    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn is_reduced(&self, rate: &health::RateNow) -> bool {
        rate.now < f64::from(rate.limit.limit)
    }

    fn retries(&self) -> String {
        policy(&self.destination.retry)
    }

    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn count_of(&self, held: &health::Held) -> String {
        deliveries(held.count, held.and_more)
    }

    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn cause(&self, held: &health::Held) -> &'static str {
        cause(held.held_by)
    }
}

/// A retry policy in words.
fn policy(retry: &Value) -> String {
    if let Some(waits) = retry["schedule_s"].as_array() {
        let count = view::count(waits.len(), "attempt", "attempts");
        return format!("{count}, after {}", written(waits.iter().filter_map(Value::as_u64)));
    }
    let seconds = |name: &str| written(retry[name].as_u64());
    format!(
        "{}: the second after {}, then {} times longer each, at most {}",
        view::count(retry["attempts"].as_i64().unwrap_or_default(), "attempt", "attempts"),
        seconds("initial_s"),
        retry["multiplier"],
        seconds("max_s")
    )
}

/// The deliveries to show: those that failed before the others, each group from the newest.
fn failed_first(mut deliveries: Vec<Delivery>) -> Vec<Delivery> {
    let rank = |delivery: &Delivery| match delivery.state {
        DeliveryState::Dead => 0,
        DeliveryState::Held => 1,
        DeliveryState::Pending if delivery.attempts > 0 => 2,
        DeliveryState::Pending => 3,
        DeliveryState::Succeeded | DeliveryState::Cancelled => 4,
    };
    deliveries.sort_by_key(rank);
    deliveries.truncate(DELIVERIES_SHOWN);
    deliveries
}

/// The page.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let actor = &viewer.actor;
    let destination = destinations::show(&control, actor, &id).await?;
    let id = destination.id.to_string();
    let frame = Frame::new(&viewer, destination.name.clone(), Section::Destinations);
    let health = health::show(&control, actor, &id).await?;
    let range = Range::named(link::parameter(&viewer.uri, "range").as_deref());
    let filter = StatsFilter {
        destination: Some(id.clone()),
        from: Some(range.from(frame.now)),
        step: range.step,
        ..StatsFilter::default()
    };
    let counts = stats::show(&control, actor, &filter).await?.deliveries;
    let newest = recent::recent(&control, actor, &id).await?;
    let of_destination = RouteFilter { destination: Some(id.clone()), ..RouteFilter::default() };
    let window = PageRequest { limit: Some(ROUTES_SHOWN), cursor: None };
    let routes = routes::list(&control, actor, &of_destination, &window).await?;
    let (keys, keys_problem) = match signing::keys(&control, actor, &id).await {
        Ok(keys) => (Some(keys), None),
        Err(Error::Conflict(conflict)) => (None, Some(conflict.detail().to_owned())),
        Err(error) => return Err(error.into()),
    };
    let links = Range::ALL.map(|each| RangeLink {
        text: each.text,
        href: frame.with("range", each.name),
        is_current: each.name == range.name,
    });
    let path = format!("/v1/destinations/{id}/health");
    let commands =
        Commands::read(&frame, &path, format!("tidegate destination health {}", single_quoted(&destination.name)));
    Ok(page(&DestinationPage {
        condition: condition(&health, frame.now),
        breaker: breaker(health.breaker.state),
        sentences: sentences::of(&destination, &health, frame.now),
        ranges: links.into(),
        range,
        curve: Curve::new(&range.points(&counts, frame.now), DELIVERIES),
        sums: Sums::of(&counts),
        results: newest.results,
        recent: newest.deliveries.len(),
        deliveries: failed_first(newest.deliveries),
        has_more_routes: routes.next_cursor.is_some(),
        routes: routes.data,
        keys,
        keys_problem,
        commands,
        health,
        destination,
        frame,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_retry_policy_is_written_in_words() {
        assert_eq!(policy(&json!({ "schedule_s": [0, 60] })), "2 attempts, after 0s 1m");
        assert_eq!(
            policy(&json!({ "initial_s": 5, "multiplier": 2.5, "max_s": 3_600, "attempts": 7 })),
            "7 attempts: the second after 5s, then 2.5 times longer each, at most 1h"
        );
    }
}
