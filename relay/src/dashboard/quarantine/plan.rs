//! What a release of many events would take, and its start.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::FILTERS;
use crate::control::operations::{self, Made, NewKind, NewOperation, OperationPlan};
use crate::control::replays::QuarantineFilter;
use crate::control::{Control, Error, fields};
use crate::dashboard::commands::Commands;
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::notice::Notice;
use crate::dashboard::operations::replay_of;
use crate::dashboard::values::Values;
use crate::dashboard::viewer::Viewer;
use crate::dashboard::{link, view};

/// The parameter that selects the events that verify now.
const VERIFIES: &str = "verifies_now";

#[derive(Template)]
#[template(path = "dashboard/quarantine_plan.html")]
struct PlanPage {
    frame: Frame,
    /// What is selected.
    words: String,
    verifies_now: bool,
    plan: Option<OperationPlan>,
    problems: Vec<String>,
    hidden: Vec<(String, String)>,
    back: String,
    commands: Commands,
}

/// The filter as the REST API has it.
fn object(given: &Values) -> Map<String, Value> {
    let mut object = given.object(&FILTERS.map(|(name, _)| name));
    if given.get(VERIFIES).is_some() {
        object.insert(VERIFIES.to_owned(), json!(true));
    }
    object
}

async fn create(control: &Control, viewer: &Viewer, given: &Values, dry_run: bool) -> Result<Made, Error> {
    let filter: QuarantineFilter = fields::read(Value::Object(object(given)))?;
    let new = NewOperation { kind: NewKind::ReleaseEvents, deliveries: None, events: Some(filter), dry_run };
    operations::create(control, &viewer.actor, new).await
}

/// The page.
pub(in crate::dashboard) async fn show(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let given = Values::of(&viewer.uri)?;
    let made = create(&control, &viewer, &given, true).await;
    render(&viewer, &given, made)
}

fn render(viewer: &Viewer, given: &Values, made: Result<Made, Error>) -> Result<Response, Failure> {
    let (plan, problems) = match made {
        Ok(Made::Plan(plan)) => (Some(plan), Vec::new()),
        Ok(Made::Operation(_)) => (None, Vec::new()),
        Err(Error::Invalid(errors)) => (None, errors.iter().map(|error| view::sentence(&error.text())).collect()),
        Err(error) => return Err(error.into()),
    };
    let frame = Frame::new(viewer, "Release from quarantine", Section::Quarantine);
    let values = given.object(&FILTERS.map(|(name, _)| name));
    let hidden = values.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    let hidden: Vec<(String, String)> = hidden.collect();
    let pairs: Vec<(&str, Option<&str>)> =
        hidden.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))).collect();
    let back = frame.to(&link::with("/quarantine", &pairs));
    let body = json!({ "kind": "release_events", "events": object(given) }).to_string();
    let verifies_now = given.get(VERIFIES).is_some();
    let command = format!("tidegate quarantine release{}", if verifies_now { " --verifies-now" } else { "" });
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let mut response = page(&PlanPage {
        words: words(&hidden, verifies_now),
        verifies_now,
        plan,
        problems,
        commands: Commands::change(&frame, "POST", "/v1/operations", &body, command),
        hidden,
        back,
        frame,
    });
    *response.status_mut() = status;
    Ok(response)
}

fn words(values: &[(String, String)], verifies_now: bool) -> String {
    let mut words = "events in quarantine".to_owned();
    for (name, text) in
        [("source", "of"), ("type", "with the type"), ("after", "received from"), ("before", "received before")]
    {
        if let Some((_, value)) = values.iter().find(|(found, _)| found == name) {
            words.push_str(&format!(" {text} {value}"));
        }
    }
    if verifies_now {
        words.push_str(" that verify now");
    }
    view::sentence(&words)
}

/// Starts the release.
pub(in crate::dashboard) async fn start(
    State(control): State<Control>,
    viewer: Viewer,
    given: Values,
) -> Result<Response, Failure> {
    match create(&control, &viewer, &given, false).await {
        Ok(Made::Operation(operation)) => {
            let notice = Notice::done("The release has started. This page shows its progress.");
            let path = match replay_of(&operation) {
                Some(replay) => format!("/replays/{replay}"),
                None => format!("/operations/{}", operation.id),
            };
            Ok(notice.on(&viewer.to(&path)))
        }
        made => render(&viewer, &given, made),
    }
}
