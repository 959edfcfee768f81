//! Deleting a source, after a page that says what will be lost.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use super::super::commands::Commands;
use super::super::failure::Failure;
use super::super::frame::{Frame, Section, page};
use super::super::notice::Notice;
use super::super::values::Values;
use super::super::view;
use super::super::viewer::Viewer;
use super::{Crumb, DAY_S, HOUR_S, traffic, unchanged_since, version_of};
use crate::api::input::Segment;
use crate::control::page::PageRequest;
use crate::control::routes::{self, Route, RouteFilter};
use crate::control::sources::{self, Source};
use crate::control::stats::{self, StatsFilter};
use crate::control::{Activity, Control, Error, Scope};

/// The most routes that the page names.
const ROUTES_NAMED: u32 = 20;

#[derive(Template)]
#[template(path = "dashboard/source_delete.html")]
struct DeletePage {
    frame: Frame,
    crumb: Crumb,
    source: Source,
    routes: Vec<Route>,
    /// Whether there are more routes.
    more: bool,
    /// The events of the last 24 hours.
    recent: i64,
    version: String,
    problem: Option<String>,
    commands: Commands,
}

async fn read(control: &Control, viewer: &Viewer, id: &str) -> Result<DeletePage, Error> {
    let source = sources::show(control, &viewer.actor, id).await?;
    let frame = Frame::new(viewer, format!("Delete {}", source.name), Section::Sources);
    let of_source = RouteFilter { source: Some(source.id.to_string()), ..RouteFilter::default() };
    let window = PageRequest { limit: Some(ROUTES_NAMED), cursor: None };
    let routes = routes::list(control, &viewer.actor, &of_source, &window).await?;
    let filter = StatsFilter { source: Some(source.id.to_string()), ..StatsFilter::default() };
    let stats = stats::show(control, &viewer.actor, &filter).await?;
    let points = traffic::points(&stats.events, DAY_S, HOUR_S, frame.now);
    let call = format!("/v1/sources/{}", source.id);
    let command = format!("tidegate source delete {} --yes", source.name);
    Ok(DeletePage {
        crumb: Crumb::of(&frame, &source),
        routes: routes.data,
        more: routes.next_cursor.is_some(),
        recent: points.iter().map(|point| point.good).sum(),
        version: version_of(&source),
        problem: None,
        commands: Commands::change(&frame, "DELETE", &call, "", command),
        frame,
        source,
    })
}

/// The page.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    viewer: Viewer,
    Segment(id): Segment,
) -> Result<Response, Failure> {
    let shown = read(&control, &viewer, &id).await?;
    viewer.actor.require(Scope::Write)?;
    Ok(page(&shown))
}

/// Deletes the source.
pub(in crate::dashboard) async fn delete(
    State(control): State<Control>,
    viewer: Viewer,
    Segment(id): Segment,
    form: Values,
) -> Result<Response, Failure> {
    let mut shown = read(&control, &viewer, &id).await?;
    let deleted = sources::delete(&control, &viewer.actor, &id, &unchanged_since(form.text("version"))).await;
    let (status, problem) = match deleted {
        Ok(activity) => {
            let name = &shown.source.name;
            let notice = match activity {
                Activity::Active => Notice::done(format!("The source {name} is deleted.")),
                Activity::Later => Notice::partly(format!("The source {name} is deleted. This relay notices in a moment.")),
            };
            return Ok(notice.on(&shown.frame.to("/sources")));
        }
        Err(Error::Edge(why)) => (StatusCode::BAD_GATEWAY, view::sentence(&why)),
        Err(Error::Changed { .. }) => (
            StatusCode::CONFLICT,
            "Someone has changed this source since you opened the page, so nothing was deleted. Read what it says now, and \
             delete it again if it is still right."
                .to_owned(),
        ),
        Err(Error::Conflict(conflict)) => (StatusCode::CONFLICT, view::sentence(conflict.detail())),
        Err(error) => return Err(error.into()),
    };
    shown.problem = Some(problem);
    Ok((status, page(&shown)).into_response())
}
