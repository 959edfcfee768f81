//! Events that are kept although they failed verification: why, whether they verify now, and their release.

use std::collections::{BTreeMap, HashMap};

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use model::event::Verification;
use shared::id::EventId;

use super::commands::Commands;
use super::deliveries::of_owner;
use super::failure::Failure;
use super::filter::{self, Chip};
use super::frame::{Frame, Section, page};
use super::notice::Notice;
use super::values::{Values, moment};
use super::viewer::Viewer;
use super::{answer, link, view};
use crate::control::events::verify_now::{self, Recheck, RecheckOutcome};
use crate::control::events::{self, Event, EventFilter};
use crate::control::page::PageRequest;
use crate::control::time::Timestamp;
use crate::control::{Control, Error, names};

pub(super) mod messages;
pub(super) mod plan;

/// The query parameters that are filters.
const FILTERS: [(&str, &str); 4] =
    [("source", "Source"), ("type", "Type"), ("after", "Received after"), ("before", "Received before")];

/// The events of a page. Each is verified again.
const ROWS: u32 = 25;

#[derive(Template)]
#[template(path = "dashboard/quarantine.html")]
struct QuarantinePage {
    frame: Frame,
    given: Values,
    chips: Vec<Chip>,
    events: Vec<Event>,
    verifies: HashMap<EventId, Recheck>,
    /// How many events of the page have each cause, the most first.
    causes: Vec<(String, usize)>,
    next: Option<String>,
    newest: Option<String>,
    scanned_until: Option<Timestamp>,
    sources: Vec<String>,
    /// The plans of a release of all that match, and of those that verify now.
    plan_all: String,
    plan_verifying: String,
    commands: Commands,
}

impl QuarantinePage {
    fn value(&self, name: &str) -> &str {
        self.given.get(name).unwrap_or_default()
    }

    fn verifies_now(&self, event: &Event) -> Option<&Recheck> {
        self.verifies.get(&event.id)
    }

    /// Why an event does not verify now, unless it is for the same reason as when it was received.
    fn other_reason(&self, event: &Event) -> Option<&str> {
        let reason = self.verifies_now(event)?.reason.as_deref()?;
        let is_same = event.failure.as_ref().is_some_and(|failure| failure.detail == reason);
        (!is_same).then_some(reason)
    }

    fn may_release(&self) -> bool {
        self.frame.may_replay() && !self.frame.viewer.sees_all()
    }

    fn has_messages(&self) -> bool {
        self.frame.bound_to().is_none()
    }
}

fn event_href(frame: &Frame, event: &Event) -> String {
    of_owner(frame, &format!("/events/{}", event.id), event.customer.as_deref())
}

fn outcome(recheck: &Recheck) -> view::Markup {
    match recheck.outcome {
        RecheckOutcome::Verifies => view::badge(view::Tone::Ok, "Verifies"),
        RecheckOutcome::Fails => view::badge(view::Tone::Danger, "Fails"),
        RecheckOutcome::Unknown => view::badge(view::Tone::Quiet, "Not known"),
    }
}

/// The page.
pub(super) async fn show(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let given = Values::of(&viewer.uri)?;
    let text = |name| given.get(name).map(str::to_owned);
    let wanted = EventFilter {
        source: text("source"),
        event_type: text("type"),
        verification: Some(Verification::Failed),
        after: given.get("after").map(moment),
        before: given.get("before").map(moment),
        ..EventFilter::default()
    };
    let window = PageRequest { limit: Some(ROWS), cursor: text("cursor") };
    let found = events::list(&control, &viewer.actor, wanted, &window).await?;
    let ids: Vec<EventId> = found.data.iter().map(|event| event.id).collect();
    let verifies = match viewer.sees_all() {
        true => HashMap::new(),
        // The page is worth showing without it while other requests hold the memory for bodies.
        false => match verify_now::verify_now(&control, &viewer.actor, &ids).await {
            Err(Error::Busy) => HashMap::new(),
            checked => checked?,
        },
    };
    let frame = Frame::new(&viewer, "Quarantine", Section::Quarantine);
    let plan = |verifies: Option<&str>| {
        let mut pairs: Vec<(&str, Option<&str>)> = FILTERS.iter().map(|(name, _)| (*name, given.get(name))).collect();
        pairs.push(("verifies_now", verifies));
        frame.to(&link::with("/quarantine/plan", &pairs))
    };
    let command = match given.get("source") {
        Some(source) => format!("tidegate quarantine list --source {}", super::commands::single_quoted(source)),
        None => "tidegate quarantine list".to_owned(),
    };
    let call = link::with(
        "/v1/events",
        &[("verification", Some("failed")), ("source", given.get("source")), ("type", given.get("type"))],
    );
    Ok(page(&QuarantinePage {
        chips: filter::chips(&frame, &given, &FILTERS),
        causes: causes(&found.data),
        events: found.data,
        verifies,
        next: found.next_cursor.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))])),
        newest: given.get("cursor").map(|_| frame.without("cursor")),
        scanned_until: found.scanned_until,
        sources: names::names(&control, &viewer.actor)?.sources.into_iter().map(|(_, name)| name).collect(),
        plan_all: plan(None),
        plan_verifying: plan(Some("true")),
        commands: Commands::read(&frame, &call, command),
        given,
        frame,
    }))
}

fn causes(events: &[Event]) -> Vec<(String, usize)> {
    let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
    for failure in events.iter().filter_map(|event| event.failure.as_ref()) {
        *causes.entry(&failure.cause).or_default() += 1;
    }
    let mut causes: Vec<(String, usize)> = causes.into_iter().map(|(cause, count)| (cause.to_owned(), count)).collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    causes
}

/// Releases one event.
pub(super) async fn release(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let released = events::release(&control, &viewer.actor, &id).await;
    answer::on(&viewer, "/quarantine", released, |event| match event.deliveries.len() {
        0 => Notice::partly("The event is released, and no route matches it."),
        made => Notice::done(format!("The event is released: {}.", view::count(made, "delivery", "deliveries"))),
    })
}
