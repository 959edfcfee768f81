//! The list of events, with its filters and the search in bodies.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use model::event::Verification;
use serde_json::json;

use super::commands::{Commands, single_quoted};
use super::event_rows::{self, EventRow};
use super::failure::Failure;
use super::frame::{Frame, Section, page};
use super::link;
use super::values::moment;
use super::view;
use super::viewer::Viewer;
use crate::control::events::search::{self, EventSearch};
use crate::control::events::{self, EventDeliveries, EventFilter, Exported};
use crate::control::names;
use crate::control::page::{Page, PageRequest};
use crate::control::time::Timestamp;
use crate::control::{Control, Error};

pub(super) mod replay;

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
    events: Vec<EventRow>,
    next: Option<String>,
    newest: Option<String>,
    /// How far back a list with few matches has been scanned.
    scanned_until: Option<Timestamp>,
    /// How many events and bytes of bodies were searched.
    searched: Option<(i64, i64)>,
    names: Vec<String>,
    verifications: &'static [Verification],
    /// The URL of the plan to replay all that match; otherwise why there is none.
    all: Result<String, &'static str>,
    /// If nothing matches: when the newest event of the source, or of any, was received.
    last: Option<Timestamp>,
    export: String,
    exported: usize,
    commands: Commands,
}

impl Filters {
    fn of(viewer: &Viewer) -> Self {
        let parameter = |name| link::parameter(&viewer.uri, name);
        Self {
            source: parameter("source"),
            event_type: parameter("type"),
            key: parameter("key"),
            job_key: parameter("job_key"),
            verification: parameter("verification"),
            deliveries: parameter("deliveries"),
            after: parameter("after").map(|text| moment(&text)),
            before: parameter("before").map(|text| moment(&text)),
            contains: parameter("contains"),
        }
    }

    fn filter(&self) -> EventFilter {
        EventFilter {
            source: self.source.clone(),
            event_type: self.event_type.clone(),
            key: self.key.clone(),
            job_key: self.job_key.clone(),
            verification: self.verification.as_deref().and_then(Verification::from_name),
            deliveries: match self.deliveries.as_deref() {
                Some("unmatched") => Some(EventDeliveries::Unmatched),
                Some("any_dead") => Some(EventDeliveries::AnyDead),
                Some(_) | None => None,
            },
            after: self.after.clone(),
            before: self.before.clone(),
        }
    }

    /// The query of a replay of all that match; otherwise why a replay cannot select the same.
    fn replayed(&self) -> Result<Vec<(&'static str, Option<&str>)>, &'static str> {
        if self.key.is_some() || self.job_key.is_some() || self.contains.is_some() {
            return Err("A replay does not select by the provider's id, a job or the body: tick events.");
        }
        let failed = Verification::Failed.name();
        if self.verification.as_deref().is_some_and(|name| name != failed) {
            return Err("A replay does not select by this verification: tick events.");
        }
        let state = match self.deliveries.as_deref() {
            None => None,
            Some("any_dead") if self.verification.is_none() => Some("dead"),
            Some(_) => return Err("A replay does not select events that matched no route: tick events."),
        };
        Ok(vec![
            ("source", self.source.as_deref()),
            ("type", self.event_type.as_deref()),
            ("after", self.after.as_deref()),
            ("before", self.before.as_deref()),
            ("verification", self.verification.as_deref()),
            ("state", state),
        ])
    }

    /// The query of the call that lists the same.
    fn query(&self) -> Vec<(&'static str, Option<&str>)> {
        vec![
            ("source", self.source.as_deref()),
            ("type", self.event_type.as_deref()),
            ("key", self.key.as_deref()),
            ("job_key", self.job_key.as_deref()),
            ("verification", self.verification.as_deref()),
            ("deliveries", self.deliveries.as_deref()),
            ("after", self.after.as_deref()),
            ("before", self.before.as_deref()),
            ("contains", self.contains.as_deref()),
        ]
    }

    fn commands(&self, frame: &Frame) -> Commands {
        let path = if self.contains.is_some() { "/v1/events/search" } else { "/v1/events" };
        let mut command = "tidegate events list".to_owned();
        for (name, value) in self.query() {
            if let Some(value) = value {
                command.push_str(&format!(" --{} {}", name.replace('_', "-"), single_quoted(value)));
            }
        }
        Commands::read(frame, &link::with(path, &self.query()), command)
    }
}

/// The page.
pub(super) async fn list(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let parameter = |name| link::parameter(&viewer.uri, name);
    let filters = Filters::of(&viewer);
    let filter = filters.filter();
    let window = PageRequest { limit: None, cursor: parameter("cursor") };
    let (events, next, scanned_until, searched) = match &filters.contains {
        None => {
            let Page { data, next_cursor, scanned_until } =
                events::list(&control, &viewer.actor, filter, &window).await?;
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
    let last = match events.is_empty() && !chips.is_empty() {
        true => newest_of(&control, &viewer, filters.source.clone()).await?,
        false => None,
    };
    let all = filters.replayed().map(|query| link::with(&frame.to("/events/replay"), &query));
    let export = link::changed(&viewer.uri, &[("cursor", None)]);
    let export = export.replacen("/dashboard/events", "/dashboard/events/export", 1);
    Ok(page(&EventsPage {
        events: event_rows::of(&control, &viewer.actor, events).await?,
        commands: filters.commands(&frame),
        verifications: &Verification::ALL,
        exported: events::EXPORTED_EVENTS,
        frame,
        filters,
        chips,
        next,
        newest,
        scanned_until,
        searched,
        names,
        all,
        last,
        export,
    }))
}

/// When the newest event of a source was received, or of any source.
async fn newest_of(control: &Control, viewer: &Viewer, source: Option<String>) -> Result<Option<Timestamp>, Failure> {
    let filter = EventFilter { source, ..EventFilter::default() };
    let window = PageRequest { limit: Some(1), cursor: None };
    let newest = events::list(control, &viewer.actor, filter, &window).await?;
    Ok(newest.data.first().map(|event| event.received_at))
}

/// The newest events that match, one in JSON on each line. If they are not all, the last line says how to go on.
pub(super) async fn export(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let Exported { events, next_cursor, scanned_until } =
        events::export(&control, &viewer.actor, &Filters::of(&viewer).filter()).await?;
    let mut lines = String::new();
    for event in &events {
        lines.push_str(&serde_json::to_string(event).map_err(|error| Error::Internal(error.to_string()))?);
        lines.push('\n');
    }
    if next_cursor.is_some() {
        let exported = events.len();
        let end =
            json!({ "incomplete": { "events": exported, "next_cursor": next_cursor, "scanned_until": scanned_until } });
        lines.push_str(&format!("{end}\n"));
    }
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/jsonl; charset=utf-8")),
        (CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"events.jsonl\"")),
    ];
    Ok((headers, lines).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_of_all_that_match_has_their_filters_or_says_why_not() {
        let some = |text: &str| Some(text.to_owned());
        let filters = Filters { source: some("a"), deliveries: some("any_dead"), ..Filters::default() };
        let query = filters.replayed().expect("can be replayed");
        assert!(query.contains(&("source", Some("a"))) && query.contains(&("state", Some("dead"))), "{query:?}");
        for filters in [
            Filters { key: some("k"), ..Filters::default() },
            Filters { contains: some("text"), ..Filters::default() },
            Filters { verification: some("stale"), ..Filters::default() },
            Filters { deliveries: some("unmatched"), ..Filters::default() },
            Filters { deliveries: some("any_dead"), verification: some("failed"), ..Filters::default() },
        ] {
            assert!(filters.replayed().is_err(), "{filters:?}");
        }
    }
}
