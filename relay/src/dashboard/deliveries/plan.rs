//! What an operation on many deliveries would do, and its start.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::control::deliveries::DeliveryFilter;
use crate::control::error::Noun;
use crate::control::operations::{self, Made, NewKind, NewOperation, OperationPlan};
use crate::control::{Control, Error};
use crate::dashboard::commands::{Commands, single_quoted};
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::notice::Notice;
use crate::dashboard::values::Values;
use crate::dashboard::view;
use crate::dashboard::viewer::Viewer;
use crate::dashboard::{filter, operations::words};

/// What an operation does with deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dashboard) enum Change {
    Retry,
    Cancel,
    Release,
}

impl Change {
    const ALL: [Self; 3] = [Self::Retry, Self::Cancel, Self::Release];

    pub(in crate::dashboard) const fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Release => "release",
        }
    }

    const fn kind(self) -> NewKind {
        match self {
            Self::Retry => NewKind::RetryDeliveries,
            Self::Cancel => NewKind::CancelDeliveries,
            Self::Release => NewKind::ReleaseDeliveries,
        }
    }

    /// The kind as the REST API names it.
    const fn kind_name(self) -> &'static str {
        match self {
            Self::Retry => "retry_deliveries",
            Self::Cancel => "cancel_deliveries",
            Self::Release => "release_deliveries",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Retry => "Retry deliveries",
            Self::Cancel => "Cancel deliveries",
            Self::Release => "Release deliveries",
        }
    }

    /// What happens to each delivery.
    const fn effect(self) -> &'static str {
        match self {
            Self::Retry => {
                "Each becomes pending again and is sent like all others, at the rate of its destination. Its retry \
                 schedule starts over."
            }
            Self::Cancel => {
                "None of them is sent any more. An attempt in flight is not aborted, and its outcome does not count."
            }
            Self::Release => "Each is due at once, and is sent at the rate of its destination.",
        }
    }
}

#[derive(Template)]
#[template(path = "dashboard/delivery_plan.html")]
struct PlanPage {
    frame: Frame,
    change: Change,
    /// What is selected, in words.
    words: String,
    plan: Option<OperationPlan>,
    /// Why the selection is refused.
    problems: Vec<String>,
    /// What the form that starts the operation sends.
    hidden: Vec<(String, String)>,
    back: String,
    /// How many deliveries were ticked, if they were.
    ticked: Option<usize>,
    commands: Option<Commands>,
}

impl PlanPage {
    fn left_as_they_are(&self) -> Vec<(&'static str, i64)> {
        self.plan.as_ref().map(|plan| words::skipped(&plan.skipped)).unwrap_or_default()
    }
}

fn change(given: &Values) -> Result<Change, Error> {
    let named = given.get("change");
    Change::ALL.into_iter().find(|change| named == Some(change.name())).ok_or(Error::NotFound(Noun::Operation))
}

fn operation(change: Change, deliveries: DeliveryFilter, dry_run: bool) -> NewOperation {
    NewOperation { kind: change.kind(), deliveries: Some(deliveries), events: None, dry_run }
}

/// The page: what the operation would do.
pub(in crate::dashboard) async fn show(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let given = Values::of(&viewer.uri)?;
    let (change, wanted) = (change(&given)?, filter::read(&given)?);
    let made = match wants_nothing(&given) {
        true => Err(nothing_ticked()),
        false => operations::create(&control, &viewer.actor, operation(change, wanted.clone(), true)).await,
    };
    render(&viewer, change, &wanted, made)
}

/// Whether the form of the ticks was sent without one.
fn wants_nothing(given: &Values) -> bool {
    given.get("ticks").is_some() && given.get(filter::ID).is_none()
}

fn nothing_ticked() -> Error {
    let problem = "no delivery is ticked; go back, and tick at least one";
    Error::Invalid(vec![crate::control::field_error::FieldError::new("", problem)])
}

fn render(
    viewer: &Viewer,
    change: Change,
    wanted: &DeliveryFilter,
    made: Result<Made, Error>,
) -> Result<Response, Failure> {
    let (plan, problems) = match made {
        Ok(Made::Plan(plan)) => (Some(plan), Vec::new()),
        Ok(Made::Operation(_)) => (None, Vec::new()),
        Err(Error::Invalid(errors)) => (None, errors.iter().map(|error| view::sentence(&error.text())).collect()),
        Err(error) => return Err(error.into()),
    };
    let frame = Frame::new(viewer, change.title(), Section::Deliveries);
    let hidden = hidden(change, wanted);
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let ticked = wanted.ids.as_ref().map(Vec::len);
    let back = match ticked {
        Some(_) => frame.to("/deliveries"),
        None => frame.to(&filter::query(wanted, "/deliveries", &[])),
    };
    let commands = plan.is_some().then(|| commands(&frame, change, wanted));
    let words = filter::words(wanted);
    let mut response = page(&PlanPage { frame, change, words, plan, problems, hidden, back, ticked, commands });
    *response.status_mut() = status;
    Ok(response)
}

/// The values of the form that starts the operation.
fn hidden(change: Change, wanted: &DeliveryFilter) -> Vec<(String, String)> {
    let query = filter::query(wanted, "", &[("change", change.name())]);
    url::form_urlencoded::parse(query.trim_start_matches('?').as_bytes()).into_owned().collect()
}

fn commands(frame: &Frame, change: Change, wanted: &DeliveryFilter) -> Commands {
    let body = json!({ "kind": change.kind_name(), "deliveries": wanted }).to_string();
    let mut command = format!("tidegate delivery {}", change.name());
    if let Ok(Value::Object(object)) = serde_json::to_value(wanted) {
        if !object.contains_key("ids") {
            command.push_str(" --all");
        }
        for (name, value) in object {
            match (name.as_str(), value) {
                ("ids", Value::Array(ids)) => {
                    ids.iter()
                        .filter_map(Value::as_str)
                        .for_each(|id| command.push_str(&format!(" {}", single_quoted(id))));
                }
                (name, Value::String(text)) => {
                    let option = match name {
                        "status_class" => "status",
                        "after" => "since",
                        "before" => "until",
                        other => other,
                    };
                    command.push_str(&format!(" --{option} {}", single_quoted(&text)));
                }
                _ => {}
            }
        }
    }
    Commands::change(frame, "POST", "/v1/operations", &body, command)
}

/// Starts the operation.
pub(in crate::dashboard) async fn start(
    State(control): State<Control>,
    viewer: Viewer,
    given: Values,
) -> Result<Response, Failure> {
    let (change, wanted) = (change(&given)?, filter::read(&given)?);
    match operations::create(&control, &viewer.actor, operation(change, wanted.clone(), false)).await {
        Ok(Made::Operation(operation)) => {
            let notice = Notice::done("The operation has started. This page shows its progress.");
            Ok(notice.on(&viewer.to(&format!("/operations/{}", operation.id))))
        }
        made => render(&viewer, change, &wanted, made),
    }
}
