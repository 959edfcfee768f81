//! The flow: which sources send to which destinations, as a drawing and as a table.

use std::collections::HashMap;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use shared::id::{DestinationId, SourceId};

use self::drawing::{Drawing, Line, Node};
use super::commands::Commands;
use super::destinations::figures::{DAY, Sums};
use super::destinations::list::{counts_of, health_of, ids_of};
use super::destinations::{condition, figures};
use super::failure::Failure;
use super::frame::{Frame, Section, page};
use super::view::{self, Tone};
use super::viewer::{CUSTOMER, Viewer};
use super::{ROOT, link, routes as shown};
use crate::control::page::PageRequest;
use crate::control::routes::{self, Route, RouteFilter};
use crate::control::stats::{self, SeveralFilter};
use crate::control::{Control, Error};

mod drawing;

/// How many routes are drawn, and are in the table.
const ROUTES: u32 = 100;

struct Row {
    route: Route,
    href: String,
    source: String,
    destination: String,
    condition: (Tone, &'static str),
    traffic: Option<i64>,
}

#[derive(Template)]
#[template(path = "dashboard/flow.html")]
struct FlowPage {
    frame: Frame,
    drawing: Drawing,
    rows: Vec<Row>,
    all: usize,
    next: Option<String>,
    newest: Option<String>,
    commands: Commands,
}

impl FlowPage {
    /// How many routes are on other pages.
    fn others(&self) -> usize {
        self.all.saturating_sub(self.rows.len())
    }
}

/// What is known of the traffic and the health of what the routes join.
#[derive(Default)]
struct Known {
    /// The events of each source within a day.
    stored: HashMap<SourceId, i64>,
    /// The deliveries to each destination that ended within a day.
    settled: HashMap<DestinationId, i64>,
    conditions: HashMap<DestinationId, (Tone, &'static str)>,
}

/// The page.
pub(super) async fn show(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let cursor = link::parameter(&viewer.uri, "cursor");
    let newest = cursor.as_ref().map(|_| link::changed(&viewer.uri, &[("cursor", None)]));
    let window = PageRequest { limit: Some(ROUTES), cursor };
    let found = routes::list(&control, &viewer.actor, &RouteFilter::default(), &window).await?;
    let counts = routes::counts(&control, &viewer.actor)?;
    let frame = Frame::new(&viewer, "Flow", Section::Flow);
    // Counts and health are read for one customer at a time.
    let known = if viewer.sees_all() || found.data.is_empty() {
        Known::default()
    } else {
        known(&control, &viewer, &found.data, &frame).await?
    };
    let row = |route: Route| {
        let only = counts.of_destination.get(&route.destination_id).is_some_and(|count| *count == 1);
        let to = |path: &str| match &route.customer {
            Some(customer) => link::with(&format!("{ROOT}{path}"), &[(CUSTOMER, Some(customer))]),
            None => frame.to(path),
        };
        Row {
            href: to(&format!("/routes/{}", route.id)),
            source: to(&format!("/sources/{}", route.source_id)),
            destination: to(&format!("/destinations/{}", route.destination_id)),
            condition: worst(&route, known.conditions.get(&route.destination_id).copied()),
            traffic: traffic(&route, only, &known),
            route,
        }
    };
    let rows: Vec<Row> = found.data.into_iter().map(row).collect();
    let next = found.next_cursor.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))]));
    let commands = Commands::read(&frame, "/v1/routes", "tidegate route list");
    let drawing = draw(&rows, &known);
    Ok(page(&FlowPage { drawing, rows, all: counts.all, next, newest, commands, frame }))
}

async fn known(control: &Control, viewer: &Viewer, routes: &[Route], frame: &Frame) -> Result<Known, Error> {
    let ids = ids_of(routes.iter().map(|route| route.destination_id));
    let health = health_of(control, viewer, &ids).await?;
    let settled = counts_of(control, viewer, ids, frame).await?;
    let sources: Vec<String> = routes.iter().map(|route| route.source_id.to_string()).collect();
    let filter =
        SeveralFilter { ids: sources.join(","), from: Some(DAY.from(frame.now)), to: None, step: figures::DAY.step };
    let stored = stats::of_sources(control, &viewer.actor, filter).await?.sources;
    let sum = |counts: &[stats::EventStats]| counts.iter().map(|count| count.stored).sum();
    Ok(Known {
        stored: stored.into_iter().map(|source| (source.source_id, sum(&source.events))).collect(),
        settled: settled
            .into_iter()
            .map(|(id, counts)| {
                let sums = Sums::of(&counts);
                (id, sums.succeeded + sums.dead)
            })
            .collect(),
        conditions: health.into_iter().map(|(id, health)| (id, condition(&health, frame.now))).collect(),
    })
}

/// The condition of a route: its own if it does not work, otherwise that of its destination.
fn worst(route: &Route, destination: Option<(Tone, &'static str)>) -> (Tone, &'static str) {
    match shown::condition(route) {
        (Tone::Ok, word) => destination.unwrap_or((Tone::Quiet, word)),
        own => own,
    }
}

/// How much went by a route within a day: all that its destination got if it is the only route there, or all events of
/// its source if it takes every one. Otherwise it is not known, because only sources and destinations are counted.
fn traffic(route: &Route, is_only: bool, known: &Known) -> Option<i64> {
    if is_only {
        return known.settled.get(&route.destination_id).copied();
    }
    let takes_all = route.enabled && route.types.is_empty() && route.filter.is_none();
    known.stored.get(&route.source_id).copied().filter(|_| takes_all)
}

fn draw(rows: &[Row], known: &Known) -> Drawing {
    let source = |row: &Row| Node {
        id: row.route.source_id.to_string(),
        name: row.route.source.clone(),
        href: row.source.clone(),
        condition: None,
        more: known.stored.get(&row.route.source_id).map(|count| view::count(*count, "event", "events")),
    };
    let destination = |row: &Row| Node {
        id: row.route.destination_id.to_string(),
        name: row.route.destination.clone(),
        href: row.destination.clone(),
        condition: known.conditions.get(&row.route.destination_id).copied(),
        more: known.settled.get(&row.route.destination_id).map(|count| view::count(*count, "delivery", "deliveries")),
    };
    let line = |row: &Row| Line {
        from: row.route.source_id.to_string(),
        to: row.route.destination_id.to_string(),
        href: row.href.clone(),
        title: format!(
            "{}: {}{}",
            shown::title(&row.route),
            row.condition.1,
            row.traffic.map(|count| format!(", {} in 24 hours", view::number(count))).unwrap_or_default()
        ),
        tone: row.condition.0,
        traffic: row.traffic,
    };
    Drawing::new(rows.iter().map(source), rows.iter().map(destination), rows.iter().map(line).collect())
}
