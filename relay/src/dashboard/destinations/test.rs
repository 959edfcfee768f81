//! Sends an event that is stored already to a destination, as a test.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use model::destination::DestinationState;
use model::health::BreakerName;

use crate::control::destinations::health::{self, DestinationHealth};
use crate::control::destinations::{self, Destination};
use crate::control::events::{self, Event, EventDelivery, EventFilter};
use crate::control::page::PageRequest;
use crate::control::routes::{self, RouteFilter};
use crate::control::{Control, Scope};
use crate::dashboard::commands::{Commands, single_quoted};
use crate::dashboard::confirmation::deliveries;
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::notice::Notice;
use crate::dashboard::values::Values;
use crate::dashboard::view;
use crate::dashboard::viewer::Viewer;
use crate::dashboard::wrong::Wrong;

/// How many of the newest events are offered.
const OFFERED: u32 = 8;

#[derive(Template)]
#[template(path = "dashboard/destination_test.html")]
struct TestPage {
    frame: Frame,
    destination: Destination,
    /// What is sent later than now, and why.
    waits: Option<String>,
    events: Vec<Event>,
    wrong: Wrong,
    chosen: String,
    commands: Commands,
}

impl TestPage {
    fn elsewhere(&self) -> Vec<String> {
        self.wrong.elsewhere(&[])
    }

    fn is_chosen(&self, event: &Event, first: &bool) -> bool {
        if self.chosen.is_empty() { *first } else { event.id.to_string() == self.chosen }
    }
}

/// The events that may be sent.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Replay)?;
    render(&control, &viewer, &id, Wrong::default(), String::new()).await
}

async fn render(
    control: &Control,
    viewer: &Viewer,
    id: &str,
    wrong: Wrong,
    chosen: String,
) -> Result<Response, Failure> {
    let destination = destinations::show(control, &viewer.actor, id).await?;
    let id = destination.id.to_string();
    let health = health::show(control, &viewer.actor, &id).await?;
    let filter = RouteFilter { destination: Some(id), ..RouteFilter::default() };
    let one = PageRequest { limit: Some(1), cursor: None };
    let route = routes::list(control, &viewer.actor, &filter, &one).await?.data.pop();
    let newest = PageRequest { limit: Some(OFFERED), cursor: None };
    // Events of a source that leads here are the most alike to what it will get.
    let of_source = EventFilter { source: route.map(|route| route.source_id.to_string()), ..EventFilter::default() };
    let is_routed = of_source.source.is_some();
    let mut events = events::list(control, &viewer.actor, of_source, &newest).await?.data;
    if events.is_empty() && is_routed {
        events = events::list(control, &viewer.actor, EventFilter::default(), &newest).await?.data;
    }
    let frame = Frame::new(viewer, format!("Send a test to {}", destination.name), Section::Destinations);
    let event = events.first().map_or_else(|| "EVENT".to_owned(), |event| event.id.to_string());
    let body = serde_json::json!({ "destination": destination.name }).to_string();
    let commands = Commands::change(
        &frame,
        "POST",
        &format!("/v1/events/{event}/deliver"),
        &body,
        format!("tidegate event deliver {event} --to {}", single_quoted(&destination.name)),
    );
    let waits = waits(&destination, &health);
    let status = wrong.status();
    let mut response = page(&TestPage { frame, destination, waits, events, wrong, chosen, commands });
    *response.status_mut() = status;
    Ok(response)
}

/// Why a delivery that is created now is not sent now.
fn waits(destination: &Destination, health: &DestinationHealth) -> Option<String> {
    let behind = match health.pending.count {
        0 => String::new(),
        count => format!(" It waits with {}.", deliveries(count, health.pending.and_more)),
    };
    let text = match destination.state {
        DestinationState::Paused => "It is paused: the test is held until it is resumed.",
        DestinationState::Disabled => "It is disabled: the test is held until it is resumed.",
        DestinationState::Active if health.breaker.state == BreakerName::Open => {
            "Its circuit breaker is open: the test is sent once a probe has succeeded."
        }
        DestinationState::Active => return None,
    };
    Some(format!("{text}{behind}"))
}

/// Sends the event, and goes to its delivery.
pub(in crate::dashboard) async fn send(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
    filled: Values,
) -> Result<Response, Failure> {
    let destination = destinations::show(&control, &viewer.actor, &id).await?;
    let chosen = filled.get("event").unwrap_or_default().to_owned();
    if chosen.is_empty() {
        let mut wrong = Wrong::default();
        wrong.add("event", "is required; choose an event");
        return render(&control, &viewer, &id, wrong, chosen).await;
    }
    let request = EventDelivery { destination: Some(destination.id.to_string()), edit: None };
    match events::deliver(&control, &viewer.actor, &chosen, request).await {
        Ok(sent) => {
            let frame = Frame::new(&viewer, "", Section::Destinations);
            let page = match sent.deliveries.first() {
                Some(delivery) => frame.to(&format!("/deliveries/{}", delivery.id)),
                None => frame.to(&format!("/destinations/{}", destination.id)),
            };
            Ok(Notice::done(format!("The event is on its way to {}.", destination.name)).on(&page))
        }
        Err(error) => render(&control, &viewer, &id, Wrong::of(error)?, chosen).await,
    }
}
