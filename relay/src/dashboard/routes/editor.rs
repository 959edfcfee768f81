//! The editor of a route: it is tried against the newest events of its source before it is saved.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;

use super::title;
use super::tried::{Tried, place};
use super::typed::Typed;
use crate::control::names::{Names, names};
use crate::control::routes::{self, Route};
use crate::control::saved::version;
use crate::control::{Control, Saved, Scope, trial};
use crate::dashboard::commands::{Commands, single_quoted};
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::notice::Notice;
use crate::dashboard::values::{VERSION, Values};
use crate::dashboard::view::{self, Tone};
use crate::dashboard::viewer::Viewer;
use crate::dashboard::wrong::Wrong;
use crate::dashboard::{link, routes as shown};

/// Against how many of the newest events a route is tried.
const TRIED_EVENTS: i64 = 20;

/// The fields that the form shows with their problems.
const SHOWN: [&str; 8] = ["name", "source", "destination", "types", "filter", "transform", "order_key", "poison"];

#[derive(Template)]
#[template(path = "dashboard/route.html")]
struct EditorPage {
    frame: Frame,
    typed: Typed,
    wrong: Wrong,
    /// The route that is edited, and the version that the form shows; `None` for a new one.
    edited: Option<(Route, String)>,
    names: Names,
    tried: Option<Tried>,
    commands: Commands,
}

/// One of the expressions of the form.
struct Expression {
    field: &'static str,
    label: &'static str,
    hint: &'static str,
    placeholder: &'static str,
    text: String,
    problem: String,
    place: Option<(u32, u32)>,
}

impl EditorPage {
    fn action(&self) -> String {
        match &self.edited {
            Some((route, _)) => self.frame.to(&format!("/routes/{}", route.id)),
            None => self.frame.to("/routes/new"),
        }
    }

    fn tried_tone(&self) -> Tone {
        if self.tried.as_ref().is_some_and(Tried::has_failed) { Tone::Danger } else { Tone::Ok }
    }

    fn elsewhere(&self) -> Vec<String> {
        self.wrong.elsewhere(&SHOWN)
    }

    fn expressions(&self) -> [Expression; 3] {
        let expression = |field, label, hint, placeholder, text: &str| {
            let problem = self.wrong.at(field);
            Expression { field, label, hint, placeholder, text: text.to_owned(), place: place(&problem), problem }
        };
        [
            expression(
                "filter",
                "Filter",
                "True for the events that the route takes. Empty: every event.",
                "event.type == 'invoice.paid' && body.data.object.amount_paid > 0",
                &self.typed.filter,
            ),
            expression(
                "transform",
                "Transform",
                "The body to send. Empty: the bytes as they arrived.",
                "{'id': event.id, 'data': body.data}",
                &self.typed.transform,
            ),
            expression(
                "order_key",
                "Order key",
                "Deliveries with the same value are sent one after another. Empty: in any order.",
                "body.data.object.customer",
                &self.typed.order_key,
            ),
        ]
    }
}

/// The editor of a new route.
pub(in crate::dashboard) async fn show_new(
    State(control): State<Control>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Write)?;
    let parameter = |name| link::parameter(&viewer.uri, name);
    let typed = Typed::new(parameter("source"), parameter("destination"));
    render(&control, &viewer, typed, None, Wrong::default(), None)
}

/// The editor of a route.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let route = routes::show(&control, &viewer.actor, &id).await?;
    let version = version(route.updated_at.0);
    let typed = Typed::of(&route);
    render(&control, &viewer, typed, Some((route, version)), Wrong::default(), None)
}

fn render(
    control: &Control,
    viewer: &Viewer,
    typed: Typed,
    edited: Option<(Route, String)>,
    wrong: Wrong,
    tried: Option<Tried>,
) -> Result<Response, Failure> {
    let heading = edited.as_ref().map_or_else(|| "Add a route".to_owned(), |(route, _)| title(route));
    let frame = Frame::new(viewer, heading, Section::Flow);
    let names = names(control, &viewer.actor)?;
    let commands = commands(&frame, &typed, edited.as_ref().map(|(route, _)| route));
    let status = wrong.status();
    let mut response = page(&EditorPage { frame, typed, wrong, edited, names, tried, commands });
    *response.status_mut() = status;
    Ok(response)
}

fn commands(frame: &Frame, typed: &Typed, route: Option<&Route>) -> Commands {
    let mut body = serde_json::json!({ "recent": { "source": typed.source, "limit": TRIED_EVENTS } });
    let mut options = String::new();
    for (name, option, text) in [
        ("filter", "--filter", &typed.filter),
        ("transform", "--transform", &typed.transform),
        ("order_key", "--order-key", &typed.order_key),
    ] {
        if !text.trim().is_empty() {
            body[name] = text.as_str().into();
            options = format!("{options} {option} {}", single_quoted(text));
        }
    }
    let named = route.map_or_else(
        || format!("--source {}", single_quoted(if typed.source.is_empty() { "SOURCE" } else { &typed.source })),
        |route| single_quoted(route.name.as_deref().unwrap_or(&route.id.to_string())),
    );
    let tidegate = format!("tidegate route try {named}{options} --last {TRIED_EVENTS}");
    Commands::change(frame, "POST", "/v1/routes/try", &body.to_string(), tidegate)
}

/// Tries what is typed.
async fn try_out(
    control: &Control,
    viewer: &Viewer,
    typed: Typed,
    edited: Option<(Route, String)>,
) -> Result<Response, Failure> {
    let trial = typed.trial(edited.as_ref().map(|(route, _)| route.id.to_string()), TRIED_EVENTS);
    match trial::try_out(control, &viewer.actor, trial).await {
        Ok(report) => render(control, viewer, typed, edited, Wrong::default(), Some(Tried::of(report))),
        Err(error) => {
            let wrong = Wrong::of(error)?.renamed("recent.source", "source");
            render(control, viewer, typed, edited, wrong, None)
        }
    }
}

/// Tries or creates the route that is typed.
pub(in crate::dashboard) async fn send_new(
    State(control): State<Control>,
    viewer: Viewer,
    filled: Values,
) -> Result<Response, Failure> {
    let typed = Typed::read(&filled);
    if filled.has("try") {
        return try_out(&control, &viewer, typed, None).await;
    }
    match routes::create(&control, &viewer.actor, typed.spec()).await {
        Ok(saved) => Ok(saved_notice(&viewer, &saved, "is created")),
        Err(error) => render(&control, &viewer, typed, None, Wrong::of(error)?, None),
    }
}

/// Tries or saves what is typed, unless someone has changed the route since the form was opened.
pub(in crate::dashboard) async fn send(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
    filled: Values,
) -> Result<Response, Failure> {
    let route = routes::show(&control, &viewer.actor, &id).await?;
    let opened = filled.raw(VERSION).to_owned();
    // Neither can be changed, so the form does not send them.
    let typed = Typed { source: route.source.clone(), destination: route.destination.clone(), ..Typed::read(&filled) };
    if filled.has("try") {
        return try_out(&control, &viewer, typed, Some((route, opened))).await;
    }
    let id = route.id.to_string();
    match routes::change(&control, &viewer.actor, &id, typed.patch(), &filled.precondition()).await {
        Ok(saved) => Ok(saved_notice(&viewer, &saved, "is saved")),
        Err(error) => {
            let wrong = Wrong::of(error)?;
            let version = if wrong.is_changed() { version(route.updated_at.0) } else { opened };
            render(&control, &viewer, typed, Some((route, version)), wrong, None)
        }
    }
}

/// Goes to the page of a route, with a notice of what was done.
pub(super) fn saved_notice(viewer: &Viewer, saved: &Saved<Route>, done: &str) -> Response {
    let text = format!("The route {} {done}.", title(&saved.value));
    Notice::saved(text, saved.outcome.is_active()).on(&viewer.to(&format!("/routes/{}", saved.value.id)))
}
