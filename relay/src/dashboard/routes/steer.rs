//! Enabling, disabling and deleting a route.

use axum::extract::{Path, State};
use axum::response::Response;

use super::editor::saved_notice;
use super::title;
use crate::control::routes::{self, Route, RoutePatch};
use crate::control::saved::version;
use crate::control::{Control, Precondition, Scope};
use crate::dashboard::commands::{Commands, single_quoted};
use crate::dashboard::confirmation::ConfirmPage;
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section};
use crate::dashboard::notice::Notice;
use crate::dashboard::values::Values;
use crate::dashboard::viewer::Viewer;
use crate::dashboard::wrong::Wrong;

/// Lets a route match events again.
pub(in crate::dashboard) async fn enable(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    switch(&control, &viewer, &id, true).await
}

/// Lets a route match no events.
pub(in crate::dashboard) async fn disable(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    switch(&control, &viewer, &id, false).await
}

async fn switch(control: &Control, viewer: &Viewer, id: &str, enabled: bool) -> Result<Response, Failure> {
    let patch = RoutePatch {
        name: None,
        types: None,
        filter: None,
        transform: None,
        order_key: None,
        poison: None,
        enabled: Some(Some(enabled)),
    };
    let saved = routes::change(control, &viewer.actor, id, patch, &Precondition::default()).await?;
    Ok(saved_notice(viewer, &saved, if enabled { "is enabled" } else { "is disabled, and matches no events" }))
}

/// Asks before a route is deleted.
pub(in crate::dashboard) async fn confirm_delete(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Write)?;
    let route = routes::show(&control, &viewer.actor, &id).await?;
    Ok(delete_page(&viewer, &route, Wrong::default()))
}

fn delete_page(viewer: &Viewer, route: &Route, wrong: Wrong) -> Response {
    let frame = Frame::new(viewer, format!("Delete the route {}", title(route)), Section::Flow);
    let id = route.id;
    let sentences = vec![
        format!("Events of {} no longer go to {} by this route.", route.source, route.destination),
        "Deliveries that it has created are still sent, with the transform of the time when they were created."
            .to_owned(),
        "To stop it for a while, disable it instead.".to_owned(),
    ];
    let own = format!("/routes/{id}");
    let command = format!("tidegate route delete {}", single_quoted(route.name.as_deref().unwrap_or(&id.to_string())));
    let page = ConfirmPage {
        above: vec![("Flow".to_owned(), frame.to("/flow")), (title(route), frame.to(&own))],
        wrong,
        is_dangerous: true,
        version: Some(version(route.updated_at.0)),
        commands: Some(Commands::change(&frame, "DELETE", &format!("/v1{own}"), "", command)),
        ..ConfirmPage::new(frame, &format!("{own}/delete"), &own, "Delete the route", sentences)
    };
    page.render_page()
}

/// Deletes the route, unless someone has changed it since the page was opened.
pub(in crate::dashboard) async fn delete(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
    filled: Values,
) -> Result<Response, Failure> {
    let route = routes::show(&control, &viewer.actor, &id).await?;
    match routes::delete(&control, &viewer.actor, &route.id.to_string(), &filled.precondition()).await {
        Ok(activity) => {
            let text = format!("The route {} is deleted.", title(&route));
            Ok(Notice::saved(text, activity.is_active()).on(&viewer.to("/flow")))
        }
        Err(error) => Ok(delete_page(&viewer, &route, Wrong::of(error)?)),
    }
}
