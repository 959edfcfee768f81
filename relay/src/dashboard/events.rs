//! The list of events, with its filters and the search in bodies.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use model::event::Verification;

use super::failure::Failure;
use super::frame::{Frame, Section, page};
use super::link;
use super::view;
use super::viewer::Viewer;
use crate::control::Control;
use crate::control::events::search::{self, EventSearch};
use crate::control::events::{self, Event, EventDeliveries, EventFilter};
use crate::control::names;
use crate::control::page::{Page, PageRequest};
use crate::control::time::Timestamp;

/// The query parameters that are filters, in the order of the form.
const FILTERS: [(&str, &str); 8] = [
    ("source", "Source"),
    ("type", "Type"),
    ("key", "Provider's id"),
    ("job_key", "Job"),
    ("verification", "Verification"),
    ("deliveries", "Deliveries"),
    ("after", "Received after"),
    ("before", "Received before"),
];

/// The filters of the page, as the URL has them.
#[derive(Debug, Default)]
struct Filters {
    source: Option<String>,
    event_type: Option<String>,
    key: Option<String>,
    job_key: Option<String>,
    verification: Option<String>,
    deliveries: Option<String>,
    after: Option<String>,
    before: Option<String>,
    contains: Option<String>,
}

/// A filter that is set, and the URL of the page without it.
struct Chip {
    name: &'static str,
    value: String,
    without: String,
}

#[derive(Template)]
#[template(path = "dashboard/events.html")]
struct EventsPage {
    frame: Frame,
    filters: Filters,
    chips: Vec<Chip>,
    events: Vec<Event>,
    next: Option<String>,
    newest: Option<String>,
    /// How far back a list with few matches has been scanned.
    scanned_until: Option<Timestamp>,
    /// How many events and bytes of bodies were searched.
    searched: Option<(i64, i64)>,
    names: Vec<String>,
    verifications: &'static [Verification],
}

/// The page.
pub(super) async fn list(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let parameter = |name| link::parameter(&viewer.uri, name);
    let filters = Filters {
        source: parameter("source"),
        event_type: parameter("type"),
        key: parameter("key"),
        job_key: parameter("job_key"),
        verification: parameter("verification"),
        deliveries: parameter("deliveries"),
        after: parameter("after").map(|text| moment(&text)),
        before: parameter("before").map(|text| moment(&text)),
        contains: parameter("contains"),
    };
    let filter = EventFilter {
        source: filters.source.clone(),
        event_type: filters.event_type.clone(),
        key: filters.key.clone(),
        job_key: filters.job_key.clone(),
        verification: filters.verification.as_deref().and_then(Verification::from_name),
        deliveries: match filters.deliveries.as_deref() {
            Some("unmatched") => Some(EventDeliveries::Unmatched),
            Some("any_dead") => Some(EventDeliveries::AnyDead),
            Some(_) | None => None,
        },
        after: filters.after.clone(),
        before: filters.before.clone(),
    };
    let window = PageRequest { limit: None, cursor: parameter("cursor") };
    let (events, next, scanned_until, searched) = match &filters.contains {
        None => {
            let Page { data, next_cursor, scanned_until } = events::list(&control, &viewer.actor, filter, &window).await?;
            (data, next_cursor, scanned_until, None)
        }
        Some(contains) => {
            let EventSearch { data, next_cursor, searched_until, searched_events, searched_bytes } =
                search::search(&control, &viewer.actor, Some(contains), filter, &window).await?;
            (data, next_cursor, searched_until, Some((searched_events, searched_bytes)))
        }
    };
    let frame = Frame::new(&viewer, "Events", Section::Events);
    let chip = |(name, text): (&'static str, &'static str)| {
        let value = parameter(name)?;
        Some(Chip { name: text, value, without: frame.without(name) })
    };
    let mut chips: Vec<Chip> = FILTERS.into_iter().filter_map(chip).collect();
    chips.extend(chip(("contains", "Body contains")));
    let next = next.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))]));
    let newest = parameter("cursor").map(|_| frame.without("cursor"));
    let names = names::names(&control, &viewer.actor)?.sources.into_iter().map(|(_, name)| name).collect();
    Ok(page(&EventsPage { frame, filters, chips, events, next, newest, scanned_until, searched, names, verifications: &Verification::ALL }))
}

/// A time of a form, which has no zone and is UTC, as RFC 3339. Other texts are unchanged.
fn moment(text: &str) -> String {
    match text.len() {
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_a_form_is_utc() {
        assert_eq!(moment("2026-01-31T08:00"), "2026-01-31T08:00:00Z");
        assert_eq!(moment("2026-01-31T08:00:05"), "2026-01-31T08:00:05Z");
        assert_eq!(moment("2026-01-31T08:00:05+01:00"), "2026-01-31T08:00:05+01:00");
    }
}
