//! The list of operations: bulk work in the background, replays among it.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use model::operation::{OperationKind, OperationState};
use shared::id::{CustomerId, ReplayId};

use super::commands::Commands;
use super::failure::Failure;
use super::filter::{self, Chip};
use super::frame::{Frame, Section, page};
use super::values::Values;
use super::viewer::{CUSTOMER, Viewer};
use super::{link, view};
use crate::control::field_error::FieldError;
use crate::control::operations::{self, Operation, OperationFilter};
use crate::control::page::PageRequest;
use crate::control::replays::{self, Replay};
use crate::control::{Control, Error, names};

pub(super) mod new_replay;
pub(super) mod one;
pub(super) mod progress;
pub(super) mod replay;
pub(super) mod words;

use progress::Progress;

/// The query parameters that are filters.
const FILTERS: [(&str, &str); 2] = [("kind", "Kind"), ("state", "State")];

/// An operation as a row of the list.
struct Row {
    operation: Operation,
    title: &'static str,
    /// What it is about.
    words: String,
    href: String,
    progress: Progress,
    /// The outcomes of the deliveries of a replay.
    dead: Option<i64>,
    time_left: Option<String>,
}

#[derive(Template)]
#[template(path = "dashboard/operations.html")]
struct OperationsPage {
    frame: Frame,
    kind: Option<OperationKind>,
    state: Option<OperationState>,
    chips: Vec<Chip>,
    rows: Vec<Row>,
    next: Option<String>,
    newest: Option<String>,
    /// Whether any of them runs, so that the page reads itself again.
    is_running: bool,
    commands: Commands,
}

impl OperationsPage {
    fn is_kind(&self, kind: &OperationKind) -> bool {
        self.kind == Some(*kind)
    }

    fn is_state(&self, state: &OperationState) -> bool {
        self.state == Some(*state)
    }
}

/// The URL of an operation or replay. If the viewer acts for another customer, it names the owner.
fn href(viewer: &Viewer, path: &str, owner: Option<CustomerId>) -> String {
    let is_other =
        |owner: &CustomerId| viewer.actor.bound_to().is_none() && viewer.actor.customer().ok() != Some(*owner);
    match owner.filter(is_other) {
        Some(owner) => link::with(&format!("{}{path}", super::ROOT), &[(CUSTOMER, Some(&owner.to_string()))]),
        None => viewer.to(path),
    }
}

/// The replay that an operation is, if it is one.
pub(super) fn replay_of(operation: &Operation) -> Option<ReplayId> {
    operation.parameters.get("replay_id")?.as_str()?.parse().ok()
}

/// A value of a filter. An unknown one is refused.
pub(super) fn known<T>(
    given: &Values,
    name: &str,
    read: impl Fn(&str) -> Option<T>,
    names: &str,
) -> Result<Option<T>, Error> {
    let Some(text) = given.get(name) else { return Ok(None) };
    let problem = || Error::Invalid(vec![FieldError::new(name, format!("must be one of {names}, but is \"{text}\""))]);
    read(text).map(Some).ok_or_else(problem)
}

/// The page.
pub(super) async fn list(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let given = Values::of(&viewer.uri)?;
    let kinds = OperationKind::ALL.map(OperationKind::name).join(", ");
    let states = OperationState::ALL.map(OperationState::name).join(", ");
    let kind = known(&given, "kind", OperationKind::from_name, &kinds)?;
    let state = known(&given, "state", OperationState::from_name, &states)?;
    let window = PageRequest { limit: None, cursor: given.get("cursor").map(str::to_owned) };
    let found = operations::list(&control, &viewer.actor, OperationFilter { kind, state }, &window).await?;
    let ids: Vec<ReplayId> = found.data.iter().filter_map(replay_of).collect();
    let replays = replays::several(&control, &viewer.actor, &ids).await?;
    let names = names::names(&control, &viewer.actor)?;
    let row = |operation: Operation| {
        let replay = replay_of(&operation).and_then(|id| replays.get(&id));
        row(&viewer, operation, replay, &names)
    };
    let rows: Vec<Row> = found.data.into_iter().map(row).collect();
    let frame = Frame::new(&viewer, "Operations", Section::Operations);
    Ok(page(&OperationsPage {
        chips: filter::chips(&frame, &given, &FILTERS),
        kind,
        state,
        is_running: rows.iter().any(|row| row.operation.state == OperationState::Running),
        rows,
        next: found.next_cursor.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))])),
        newest: given.get("cursor").map(|_| frame.without("cursor")),
        commands: Commands::read(&frame, "/v1/operations", "tidegate replay list"),
        frame,
    }))
}

fn row(viewer: &Viewer, operation: Operation, replay: Option<&Replay>, names: &names::Names) -> Row {
    let words = match replay {
        Some(replay) => words::of_replay(replay, names),
        None => words::of_parameters(&operation),
    };
    let path = match replay_of(&operation) {
        Some(replay) => format!("/replays/{replay}"),
        None => format!("/operations/{}", operation.id),
    };
    Row {
        title: words::title(&operation.kind),
        words,
        href: href(viewer, &path, operation.customer_id),
        progress: replay.map_or_else(|| Progress::of_operation(&operation), Progress::of_replay),
        dead: replay.map(|replay| replay.dead),
        time_left: words::time_left(&operation),
        operation,
    }
}

/// The list of replays is that of operations.
pub(super) async fn replays(viewer: Viewer) -> Response {
    Redirect::to(&viewer.to("/operations?kind=replay")).into_response()
}
