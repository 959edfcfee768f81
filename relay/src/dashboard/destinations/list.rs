//! The list of destinations, with the counts and the health of each.

use std::collections::HashMap;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use shared::id::DestinationId;

use super::figures::{DAY, DELIVERIES, Sums};
use super::{breaker, condition, state};
use crate::control::destinations::health::DestinationHealth;
use crate::control::destinations::{self, Destination};
use crate::control::page::{Page, PageRequest};
use crate::control::stats::{self, DeliveryStats, SeveralFilter};
use crate::control::{Control, Error};
use crate::dashboard::commands::Commands;
use crate::dashboard::curve;
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::view::{self, Markup, Tone};
use crate::dashboard::viewer::{CUSTOMER, Viewer};
use crate::dashboard::{ROOT, link};

/// How many destinations are on a page.
const ROWS: u32 = 50;

struct Row {
    href: String,
    destination: Destination,
    condition: (Tone, &'static str),
    health: Option<DestinationHealth>,
    spark: Option<Markup>,
    sums: Sums,
}

impl Row {
    fn breaker(&self) -> Option<Markup> {
        let state = self.health.as_ref()?.breaker.state;
        let (tone, word) = breaker(state);
        Some(view::badge(tone, word))
    }
}

#[derive(Template)]
#[template(path = "dashboard/destinations.html")]
struct DestinationsPage {
    frame: Frame,
    rows: Vec<Row>,
    next: Option<String>,
    newest: Option<String>,
    commands: Commands,
}

/// The page.
pub(in crate::dashboard) async fn show(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let cursor = link::parameter(&viewer.uri, "cursor");
    let newest = cursor.as_ref().map(|_| link::changed(&viewer.uri, &[("cursor", None)]));
    let window = PageRequest { limit: Some(ROWS), cursor };
    let Page { data, next_cursor, .. } = destinations::list(&control, &viewer.actor, &window).await?;
    let frame = Frame::new(&viewer, "Destinations", Section::Destinations);
    // Counts and health are read for one customer at a time.
    let (mut counts, mut health) = if viewer.sees_all() || data.is_empty() {
        (HashMap::new(), HashMap::new())
    } else {
        let ids = ids_of(data.iter().map(|destination| destination.id));
        (counts_of(&control, &viewer, ids.clone(), &frame).await?, health_of(&control, &viewer, &ids).await?)
    };
    let sees_all = viewer.sees_all();
    let row = |destination: Destination| {
        let health = health.remove(&destination.id);
        let stats = counts.remove(&destination.id).unwrap_or_default();
        let path = format!("/destinations/{}", destination.id);
        let href = match &destination.customer {
            Some(customer) => link::with(&format!("{ROOT}{path}"), &[(CUSTOMER, Some(customer))]),
            None => frame.to(&path),
        };
        Row {
            href,
            condition: health.as_ref().map_or_else(|| state(destination.state), |health| condition(health, frame.now)),
            spark: (!sees_all).then(|| curve::spark(&DAY.points(&stats, frame.now), DELIVERIES)),
            sums: Sums::of(&stats),
            destination,
            health,
        }
    };
    let rows = data.into_iter().map(row).collect();
    let next = next_cursor.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))]));
    let commands = Commands::read(&frame, "/v1/destinations", "tidegate destination list");
    Ok(page(&DestinationsPage { frame, rows, next, newest, commands }))
}

/// Ids as the control layer reads them.
pub(in crate::dashboard) fn ids_of(ids: impl Iterator<Item = DestinationId>) -> String {
    ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

/// The counts of the last day of these destinations.
pub(in crate::dashboard) async fn counts_of(
    control: &Control,
    viewer: &Viewer,
    ids: String,
    frame: &Frame,
) -> Result<HashMap<DestinationId, Vec<DeliveryStats>>, Error> {
    let filter = SeveralFilter { ids, from: Some(DAY.from(frame.now)), to: None, step: DAY.step };
    let found = stats::of_destinations(control, &viewer.actor, filter).await?.destinations;
    Ok(found.into_iter().map(|found| (found.destination_id, found.deliveries)).collect())
}

/// The health of these destinations.
pub(in crate::dashboard) async fn health_of(
    control: &Control,
    viewer: &Viewer,
    ids: &str,
) -> Result<HashMap<DestinationId, DestinationHealth>, Error> {
    let found = stats::health_of(control, &viewer.actor, ids).await?.destinations;
    Ok(found.into_iter().map(|health| (health.destination_id, health)).collect())
}
