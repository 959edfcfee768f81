//! What can be done with an event: deliver it again, release it from quarantine, erase its body.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;

use crate::control::events::{self, EventDelivery, EventDetail, RouteOutcome};
use crate::control::fields::FieldError;
use crate::control::{Control, Error, Scope, names};
use crate::dashboard::commands::{Commands, single_quoted};
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::notice::Notice;
use crate::dashboard::values::Values;
use crate::dashboard::view;
use crate::dashboard::viewer::Viewer;

#[derive(Template)]
#[template(path = "dashboard/event_deliver.html")]
struct DeliverPage {
    frame: Frame,
    detail: EventDetail,
    /// The destinations of the routes that would match now.
    matching: Vec<String>,
    destinations: Vec<String>,
    chosen: String,
    error: Option<String>,
    commands: Commands,
}

#[derive(Template)]
#[template(path = "dashboard/event_erase.html")]
struct ErasePage {
    frame: Frame,
    detail: EventDetail,
    unsettled: usize,
    problem: Option<String>,
    commands: Commands,
}

impl DeliverPage {
    fn path(&self, rest: &str) -> String {
        self.frame.to(&format!("/events/{}{rest}", self.detail.event.id))
    }
}

impl ErasePage {
    fn path(&self, rest: &str) -> String {
        self.frame.to(&format!("/events/{}{rest}", self.detail.event.id))
    }

    fn deliveries(&self) -> String {
        self.frame.to(&format!("/deliveries?event={}", self.detail.event.id))
    }
}

/// The page on which an event is delivered again.
pub(in crate::dashboard) async fn deliver_page(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    render_deliver(&control, &viewer, &id, String::new(), None).await
}

async fn render_deliver(
    control: &Control,
    viewer: &Viewer,
    id: &str,
    chosen: String,
    error: Option<String>,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Replay)?;
    let detail = events::explain(control, &viewer.actor, id).await?;
    let matching = detail.routes.iter().filter(|answer| answer.outcome == RouteOutcome::Matched);
    let matching = matching.filter_map(|answer| answer.destination.clone()).collect();
    let destinations = names::names(control, &viewer.actor)?.destinations.into_iter().map(|(_, name)| name).collect();
    let frame = Frame::new(viewer, "Deliver again", Section::Events);
    let path = format!("/v1/events/{}/deliver", detail.event.id);
    let commands = Commands::change(
        &frame,
        "POST",
        &path,
        "{\"destination\":\"NAME\"}",
        format!("tidegate events deliver {} --to NAME", detail.event.id),
    );
    let is_refused = error.is_some();
    let mut response = page(&DeliverPage { frame, detail, matching, destinations, chosen, error, commands });
    if is_refused {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// Sends an event again to one destination.
pub(in crate::dashboard) async fn deliver(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
    values: Values,
) -> Result<Response, Failure> {
    let chosen = values.text("destination").to_owned();
    let destination = Some(chosen.clone()).filter(|name| !name.is_empty());
    let request = EventDelivery { destination, edit: None };
    match events::deliver(&control, &viewer.actor, &id, request).await {
        Ok(made) => {
            let text = format!("A new delivery to {chosen} was created.");
            Ok(Notice::done(text).on(&to_event(&viewer, &made.event_id.to_string())))
        }
        Err(Error::Invalid(errors)) => {
            let error = message(&errors, "destination");
            render_deliver(&control, &viewer, &id, chosen, Some(error)).await
        }
        Err(error) => Err(error.into()),
    }
}

/// What is wrong with a field; with any other if there is nothing about it.
pub(in crate::dashboard) fn message(errors: &[FieldError], field: &str) -> String {
    let of_field = errors.iter().find(|error| error.field == field).or_else(|| errors.first());
    of_field.map_or_else(String::new, |error| view::sentence(&error.message))
}

/// The URL of the page of an event.
pub(in crate::dashboard) fn to_event(viewer: &Viewer, id: &str) -> String {
    viewer.to(&format!("/events/{id}"))
}

/// Releases an event from quarantine.
pub(in crate::dashboard) async fn release(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let released = events::release(&control, &viewer.actor, &id).await?;
    let made = view::count(released.decision.deliveries.len(), "delivery", "deliveries");
    let notice = match released.decision.deliveries.len() {
        0 => Notice::partly("The event was released from quarantine, and no route matched it."),
        _ => Notice::done(format!("The event was released from quarantine: {made}.")),
    };
    Ok(notice.on(&to_event(&viewer, &id)))
}

/// The page that asks before a body is erased.
pub(in crate::dashboard) async fn erase_page(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    render_erase(&control, &viewer, &id, None).await
}

async fn render_erase(
    control: &Control,
    viewer: &Viewer,
    id: &str,
    problem: Option<String>,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Admin)?;
    let detail = events::explain(control, &viewer.actor, id).await?;
    let frame = Frame::new(viewer, "Erase the body", Section::Events);
    let unsettled = detail.deliveries.iter().filter(|delivery| !delivery.state.is_settled()).count();
    let path = format!("/v1/events/{}/body", detail.event.id);
    let command = format!("tidegate events erase-body {}", single_quoted(&detail.event.id.to_string()));
    let commands = Commands::change(&frame, "DELETE", &path, "", command);
    let is_refused = problem.is_some();
    let mut response = page(&ErasePage { frame, detail, unsettled, problem, commands });
    if is_refused {
        *response.status_mut() = StatusCode::CONFLICT;
    }
    Ok(response)
}

/// Erases the body of an event.
pub(in crate::dashboard) async fn erase(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    match events::erase_body(&control, &viewer.actor, &id).await {
        Ok(()) => Ok(Notice::done("The body was erased.").on(&to_event(&viewer, &id))),
        Err(error @ Error::Conflict(_)) => {
            let problem = view::sentence(&Failure::from(error).problem().detail);
            render_erase(&control, &viewer, &id, Some(problem)).await
        }
        Err(error) => Err(error.into()),
    }
}
