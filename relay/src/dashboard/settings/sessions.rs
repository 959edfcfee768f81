//! Sessions: who is signed in, and ending them.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::SET_COOKIE;

use super::super::commands::Commands;
use super::super::confirmation::ConfirmPage;
use super::super::failure::Failure;
use super::super::frame::{Frame, page};
use super::super::link;
use super::super::notice::Notice;
use super::super::view;
use super::super::viewer::Viewer;
use super::{Link, Tab, of_deployment, tab};
use crate::control::page::PageRequest;
use crate::control::sessions::{self, Session};
use crate::control::{Control, Scope};

#[derive(Template)]
#[template(path = "dashboard/settings_sessions.html")]
struct SessionsPage {
    frame: Frame,
    tabs: Vec<Link>,
    sessions: Vec<Session>,
    /// Whether the list has the sessions of all, and not only those of the viewer.
    has_all: bool,
    next: Option<String>,
    newest: Option<String>,
    commands: Commands,
}

/// The list.
pub(super) async fn list(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let cursor = link::parameter(&viewer.uri, "cursor");
    let newest_first = PageRequest { limit: None, cursor: cursor.clone() };
    let found = sessions::list_sessions(&control, &viewer.actor, &newest_first).await?;
    let (frame, tabs) = tab(&viewer, Tab::Sessions);
    let next = found.next_cursor.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))]));
    let newest = cursor.map(|_| frame.without("cursor"));
    let has_all = viewer.may_of_deployment(Scope::Admin);
    let commands = of_deployment("GET", "/v1/sessions", "", "tidegate api /v1/sessions");
    Ok(page(&SessionsPage { tabs, sessions: found.data, has_all, next, newest, commands, frame }))
}

/// Ends a session. Ending the session of the browser is signing out.
pub(super) async fn end(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let session = sessions::end_session(&control, &viewer.actor, &id).await?;
    if session.current {
        return Ok(signed_out(&viewer));
    }
    let (frame, _) = tab(&viewer, Tab::Sessions);
    Ok(Notice::done("The session has ended.").on(&frame.to(Tab::Sessions.path())))
}

/// Says what signing out everywhere does.
pub(super) async fn confirm(viewer: Viewer) -> Response {
    let (mut frame, _) = tab(&viewer, Tab::Sessions);
    frame.title = "Sign out everywhere".to_owned();
    let effects = vec![
        format!("All sessions of {} end, on every browser, this one included.", frame.who()),
        "Tokens stay valid. To end what a token can do, revoke it.".to_owned(),
    ];
    let page = ConfirmPage {
        is_dangerous: true,
        keep: "Keep them",
        ..ConfirmPage::new(frame, "/settings/sessions/end", Tab::Sessions.path(), "Sign out everywhere", effects)
    };
    page.render_page()
}

/// Ends all sessions of the viewer's own token or user.
pub(super) async fn end_all(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    sessions::end_all_sessions(&control, &viewer.actor).await?;
    Ok(signed_out(&viewer))
}

/// Sends the browser to the sign-in, without its session.
fn signed_out(viewer: &Viewer) -> Response {
    let mut response = Redirect::to(&format!("{}/sign-in", super::super::ROOT)).into_response();
    response.headers_mut().append(SET_COOKIE, viewer.site.no_session());
    response
}
