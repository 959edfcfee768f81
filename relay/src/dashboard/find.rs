//! The box that finds anything: one result opens its page, several are listed, and none says what was searched.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::failure::Failure;
use super::frame::{Frame, page};
use super::link;
use super::view;
use super::viewer::Viewer;
use crate::control::Control;
use crate::control::find::{self, Found, Hit, Hits};

#[derive(Template)]
#[template(path = "dashboard/find.html")]
struct FindPage {
    frame: Frame,
    wanted: String,
    results: Vec<FoundRow>,
    searched: String,
}

struct FoundRow {
    kind: &'static str,
    id: String,
    label: String,
    customer: Option<String>,
    href: String,
}

/// The page.
pub(super) async fn show(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let wanted = link::parameter(&viewer.uri, "q").unwrap_or_default().trim().to_owned();
    let Hits { hits, searched } = find::find(&control, &viewer.actor, &wanted).await?;
    let frame = Frame::new(&viewer, "Find", None);
    let mut results: Vec<FoundRow> = hits.into_iter().map(|hit| row(&frame, hit)).collect();
    if results.len() == 1
        && let Some(only) = results.pop()
    {
        return Ok(Redirect::to(&only.href).into_response());
    }
    Ok(page(&FindPage { frame, wanted, results, searched: view::list(&searched) }))
}

fn row(frame: &Frame, Hit { found, label, customer }: Hit) -> FoundRow {
    let (kind, id, path) = place(found);
    let href = if matches!(found, Found::Customer(_)) {
        link::with(super::ROOT, &[(link::CUSTOMER, Some(&label))])
    } else {
        frame.to_of(&path, customer.as_deref())
    };
    FoundRow { kind, id, label, customer, href }
}

/// What was found in a word, its id, and the path of its page below the dashboard.
fn place(found: Found) -> (&'static str, String, String) {
    match found {
        Found::Event(id) => ("Event", id.to_string(), format!("/events/{id}")),
        Found::Delivery(id) => ("Delivery", id.to_string(), format!("/deliveries/{id}")),
        Found::Attempt(id, delivery) => ("Attempt", id.to_string(), format!("/deliveries/{delivery}")),
        Found::Source(id) => ("Source", id.to_string(), format!("/sources/{id}")),
        Found::Destination(id) => ("Destination", id.to_string(), format!("/destinations/{id}")),
        Found::Route(id) => ("Route", id.to_string(), format!("/routes/{id}")),
        Found::Replay(id) => ("Replay", id.to_string(), format!("/operations/{id}")),
        Found::Operation(id) => ("Operation", id.to_string(), format!("/operations/{id}")),
        Found::Rejection(id, source) => ("Rejection", id.to_string(), format!("/sources/{source}")),
        Found::UnreadableMessage(id) => ("Unreadable message", id.to_string(), "/quarantine".to_owned()),
        Found::Customer(id) => ("Customer", id.to_string(), String::new()),
        Found::Token(id) => ("Token", id.to_string(), "/settings".to_owned()),
    }
}
