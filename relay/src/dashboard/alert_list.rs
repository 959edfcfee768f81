//! The page of alerts.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::alerts::{Alert, Alerts};
use super::commands::Commands;
use super::failure::Failure;
use super::frame::{Frame, Section, page};
use super::kept::Shown;
use super::view;
use super::viewer::Viewer;
use crate::control::Control;

#[derive(Template)]
#[template(path = "dashboard/alerts.html")]
struct AlertsPage {
    frame: Frame,
    alerts: Arc<Vec<Alert>>,
    /// How old the alerts are, if the database does not respond.
    stale: Option<String>,
    commands: Commands,
}

/// The page.
pub(super) async fn show(
    State(control): State<Control>,
    State(kept): State<Arc<Alerts>>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let Shown { value: alerts, stale } = kept.read(&control, &viewer.actor).await?;
    let stale = stale.map(view::age);
    let frame = Frame::new(&viewer, "Alerts", Section::Alerts);
    let commands = Commands::read(&frame, "/v1/overview", "tidegate attention list");
    Ok(page(&AlertsPage { frame, alerts, stale, commands }))
}
