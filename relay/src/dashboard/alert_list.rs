//! The page of alerts.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::alerts::{self, Kept, Known};
use super::commands::Commands;
use super::failure::Failure;
use super::frame::{Frame, Section, page};
use super::view;
use super::viewer::Viewer;
use crate::control::overview;
use crate::control::{Control, Error, Scope};

#[derive(Template)]
#[template(path = "dashboard/alerts.html")]
struct AlertsPage {
    frame: Frame,
    known: Arc<Known>,
    /// How old the alerts are, if the database does not respond.
    stale: Option<String>,
    commands: Commands,
}

/// The page.
pub(super) async fn show(
    State(control): State<Control>,
    State(kept): State<Arc<Kept>>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    // Also for what is kept: it was read for another viewer.
    viewer.actor.require(Scope::Read)?;
    let customer = viewer.actor.customer()?;
    let (known, stale) = match kept.fresh(customer) {
        Some(known) => (known, None),
        None => match (overview::show(&control, &viewer.actor).await, kept.last(customer)) {
            (Ok(found), _) => {
                let alerts = found.findings.into_iter().map(alerts::of).collect();
                (kept.put(customer, alerts), None)
            }
            // Alerts that are old and say so help more than none.
            (Err(Error::Unavailable(_)), Some(known)) => {
                let age = view::duration(u64::try_from(known.at.elapsed().as_millis()).unwrap_or(u64::MAX));
                (known, Some(age))
            }
            (Err(error), _) => return Err(error.into()),
        },
    };
    let frame = Frame::new(&viewer, "Alerts", Section::Alerts);
    let commands = Commands::read(&frame, "/v1/overview", "tidegate attention list");
    Ok(page(&AlertsPage { frame, known, stale, commands }))
}
