//! The list of deliveries, with its filters and what can be done with many of them.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use model::delivery::DeliveryState;
use model::unix_time;
use time::OffsetDateTime;

use super::commands::{Commands, single_quoted};
use super::failure::Failure;
use super::filter::{self, Chip};
use super::frame::{Frame, Section, page};
use super::values::Values;
use super::viewer::{CUSTOMER, Viewer};
use super::{link, view};
use crate::control::deliveries::{self, Delivery, DeliveryFilter};
use crate::control::page::{Page, PageRequest};
use crate::control::time::Timestamp;
use crate::control::{Control, names};

pub(super) mod plan;
pub(crate) mod words;

use plan::Change;

/// The classes of statuses that attempts are filtered by.
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The error classes that are offered for choice. Others can be typed.
const ERROR_CLASSES: [&str; 10] = [
    "http_status",
    "timeout",
    "connection_refused",
    "connect_timeout",
    "name_not_resolved",
    "tls_failed",
    "no_response",
    "unreachable",
    "not_http",
    "egress_blocked",
];

/// A change of all deliveries that match, and the URL of its plan.
struct OfAll {
    text: String,
    href: String,
}

#[derive(Template)]
#[template(path = "dashboard/deliveries.html")]
struct DeliveriesPage {
    frame: Frame,
    given: Values,
    chips: Vec<Chip>,
    deliveries: Vec<Delivery>,
    next: Option<String>,
    newest: Option<String>,
    scanned_until: Option<Timestamp>,
    destinations: Vec<String>,
    of_all: Vec<OfAll>,
    commands: Commands,
}

impl DeliveriesPage {
    fn value(&self, name: &str) -> &str {
        self.given.get(name).unwrap_or_default()
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.value(name) == value
    }

    fn is_bulk(&self) -> bool {
        self.frame.may_replay() && !self.frame.viewer.sees_all()
    }
}

/// The URL of a delivery. In a list of all customers it names the customer of the delivery.
fn href(frame: &Frame, delivery: &Delivery) -> String {
    of_owner(frame, &format!("/deliveries/{}", delivery.id), delivery.customer.as_deref())
}

/// The URL of its event.
fn event_href(frame: &Frame, delivery: &Delivery) -> String {
    of_owner(frame, &format!("/events/{}", delivery.event_id), delivery.customer.as_deref())
}

/// The URL of a page about an object of `owner`, if the page is a list of all customers.
pub(super) fn of_owner(frame: &Frame, path: &str, owner: Option<&str>) -> String {
    match owner {
        Some(owner) => link::with(&format!("{}{path}", super::ROOT), &[(CUSTOMER, Some(owner))]),
        None => frame.to(path),
    }
}

/// When a delivery was created.
fn created_at(delivery: &Delivery) -> OffsetDateTime {
    unix_time::timestamp(delivery.id.minted_at_ms())
}

/// The page.
pub(super) async fn list(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let given = Values::of(&viewer.uri)?;
    let wanted = filter::read(&given)?;
    let window = PageRequest { limit: None, cursor: given.get("cursor").map(str::to_owned) };
    let found = deliveries::list(&control, &viewer.actor, wanted.clone(), &window).await?;
    let Page { data, next_cursor, scanned_until } = found;
    let frame = Frame::new(&viewer, "Deliveries", Section::Deliveries);
    let chips = filter::chips(&frame, &given, &filter::FILTERS);
    let names = names::names(&control, &viewer.actor)?.destinations;
    Ok(page(&DeliveriesPage {
        chips,
        deliveries: data,
        next: next_cursor.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))])),
        newest: given.get("cursor").map(|_| frame.without("cursor")),
        scanned_until,
        destinations: names.into_iter().map(|(_, name)| name).collect(),
        of_all: of_all(&frame, &wanted),
        commands: commands(&frame, &wanted, &given),
        given,
        frame,
    }))
}

/// What can be done with all deliveries that match.
fn of_all(frame: &Frame, wanted: &DeliveryFilter) -> Vec<OfAll> {
    let of = |change: Change, state: Option<DeliveryState>, text: &str| {
        let mut more = vec![("change", change.name())];
        more.extend(state.map(|state| ("state", state.name())));
        OfAll { text: text.to_owned(), href: frame.to(&filter::query(wanted, "/deliveries/plan", &more)) }
    };
    match wanted.state {
        None if wanted.error.is_some() => vec![of(Change::Retry, Some(DeliveryState::Dead), "Retry all that match")],
        None => vec![
            of(Change::Retry, Some(DeliveryState::Dead), "Retry all dead"),
            of(Change::Release, Some(DeliveryState::Held), "Release all held"),
            of(Change::Cancel, None, "Cancel all pending and held"),
        ],
        Some(DeliveryState::Dead | DeliveryState::Cancelled | DeliveryState::Succeeded) => {
            vec![of(Change::Retry, None, "Retry all that match")]
        }
        Some(DeliveryState::Pending) => vec![of(Change::Cancel, None, "Cancel all that match")],
        Some(DeliveryState::Held) => {
            vec![of(Change::Release, None, "Release all that match"), of(Change::Cancel, None, "Cancel all that match")]
        }
    }
}

fn commands(frame: &Frame, wanted: &DeliveryFilter, given: &Values) -> Commands {
    let mut command = "tidegate delivery list".to_owned();
    for (option, parameter) in [
        ("--destination", "destination"),
        ("--state", "state"),
        ("--error", "error"),
        ("--status", "status_class"),
        ("--since", "after"),
    ] {
        if let Some(value) = given.get(parameter) {
            command.push_str(&format!(" {option} {}", single_quoted(&super::values::moment(value))));
        }
    }
    Commands::read(frame, &filter::query(wanted, "/v1/deliveries", &[]), command)
}
