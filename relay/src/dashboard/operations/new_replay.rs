//! A new replay: a form, the plan of what it would take, and its start.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::replay::rate_limit;
use super::words;
use crate::control::field_error::FieldError;
use crate::control::replays::{self, Made, NewReplay, ReplayPlan};
use crate::control::{Control, Error, fields, names};
use crate::dashboard::commands::{Commands, single_quoted};
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::notice::Notice;
use crate::dashboard::values::Values;
use crate::dashboard::viewer::Viewer;
use crate::dashboard::{link, view};

/// The fields of the form that are the filter of the replay, as the REST API names them.
const FILTER: [&str; 7] = ["source", "type", "destination", "state", "error", "after", "before"];

/// The other fields of the form.
const MORE: [&str; 3] = ["to", "limit", "per"];

/// The query parameter that asks for the plan, and those that continue its count.
const PLAN: &str = "plan";
const CURSOR: &str = "cursor";
const COUNTED: &str = "counted";

/// What is replayed: the state that the REST API has, and its name.
const STATES: [(&str, &str); 4] = [
    ("", "Events: they are routed again"),
    ("dead", "Dead deliveries"),
    ("cancelled", "Cancelled deliveries"),
    ("succeeded", "Succeeded deliveries"),
];

#[derive(Template)]
#[template(path = "dashboard/new_replay.html")]
struct NewReplayPage {
    frame: Frame,
    given: Values,
    sources: Vec<String>,
    destinations: Vec<String>,
    errors: Vec<FieldError>,
    plan: Option<Plan>,
    commands: Option<Commands>,
}

/// What a replay would take.
struct Plan {
    matched: i64,
    plan: ReplayPlan,
    /// The URL of the plan that continues the count.
    count_on: Option<String>,
}

impl NewReplayPage {
    fn value(&self, name: &str) -> &str {
        self.given.get(name).unwrap_or_default()
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.value(name) == value
    }

    /// What is wrong with a field of the form.
    fn errors_of(&self, name: &str) -> Vec<String> {
        let errors = self.errors.iter().filter(|error| field(&error.field) == name);
        errors.map(words::problem).collect()
    }

    /// What is wrong with the form as a whole.
    fn other_errors(&self) -> Vec<String> {
        let is_known = |name: &str| FILTER.contains(&name) || MORE.contains(&name);
        let errors = self.errors.iter().filter(|error| !is_known(field(&error.field)));
        errors.map(|error| view::sentence(&error.text())).collect()
    }

    /// The values of the form that starts the replay.
    fn hidden(&self) -> Vec<(&'static str, &str)> {
        FILTER.into_iter().chain(MORE).filter_map(|name| Some((name, self.given.get(name)?))).collect()
    }
}

/// The field of the form that a field of the REST API is.
fn field(name: &str) -> &str {
    match name {
        "destination" => "to",
        "rate_limit" | "rate_limit.limit" => "limit",
        "rate_limit.per" => "per",
        name => name.strip_prefix("filter.").unwrap_or(name),
    }
}

/// The request as the REST API has it.
fn request(given: &Values, dry_run: bool) -> Map<String, Value> {
    let mut request = Map::new();
    request.insert("filter".to_owned(), Value::Object(given.object(&FILTER)));
    if let Some(to) = given.get("to") {
        request.insert("destination".to_owned(), json!(to));
    }
    if let Some(limit) = given.get("limit") {
        request.insert("rate_limit".to_owned(), rate_limit(limit, given.get("per").unwrap_or("second")));
    }
    if dry_run {
        request.insert("dry_run".to_owned(), json!(true));
    }
    request
}

async fn create(control: &Control, viewer: &Viewer, request: Map<String, Value>) -> Result<Made, Error> {
    let new: NewReplay = fields::read(Value::Object(request))?;
    replays::create(control, &viewer.actor, new).await
}

/// The form and, once it is filled in, the plan.
pub(in crate::dashboard) async fn show(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let given = Values::of(&viewer.uri)?;
    if given.get(PLAN).is_none() {
        return render(&control, &viewer, given, Vec::new(), None);
    }
    let mut request = request(&given, true);
    if let Some(cursor) = given.get(CURSOR) {
        request.insert("cursor".to_owned(), json!(cursor));
    }
    match create(&control, &viewer, request).await {
        Ok(Made::Plan(plan)) => {
            let before: i64 = given.get(COUNTED).and_then(|text| text.parse().ok()).unwrap_or_default();
            let matched = before.max(0).saturating_add(plan.matched);
            let count_on = plan.next_cursor.as_deref().map(|cursor| {
                let counted = matched.to_string();
                link::changed(&viewer.uri, &[(CURSOR, Some(cursor)), (COUNTED, Some(&counted))])
            });
            render(&control, &viewer, given, Vec::new(), Some(Plan { matched, plan, count_on }))
        }
        Ok(Made::Replay(_)) => render(&control, &viewer, given, Vec::new(), None),
        Err(Error::Invalid(errors)) => render(&control, &viewer, given, errors, None),
        Err(error) => Err(error.into()),
    }
}

fn render(
    control: &Control,
    viewer: &Viewer,
    given: Values,
    errors: Vec<FieldError>,
    plan: Option<Plan>,
) -> Result<Response, Failure> {
    let names = names::names(control, &viewer.actor)?;
    let frame = Frame::new(viewer, "New replay", Section::Operations);
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let commands = plan.is_some().then(|| commands(&frame, &given));
    let mut response = page(&NewReplayPage {
        sources: names.sources.into_iter().map(|(_, name)| name).collect(),
        destinations: names.destinations.into_iter().map(|(_, name)| name).collect(),
        frame,
        given,
        errors,
        plan,
        commands,
    });
    *response.status_mut() = status;
    Ok(response)
}

fn commands(frame: &Frame, given: &Values) -> Commands {
    let body = Value::Object(request(given, false)).to_string();
    let mut command = "tidegate replay create".to_owned();
    for (name, option) in [
        ("source", "source"),
        ("type", "type"),
        ("destination", "destination"),
        ("state", "state"),
        ("error", "error"),
        ("after", "since"),
        ("before", "until"),
        ("to", "to"),
    ] {
        if let Some(value) = given.get(name) {
            let value = crate::dashboard::values::moment(value);
            command.push_str(&format!(" --{option} {}", single_quoted(&value)));
        }
    }
    if let Some(limit) = given.get("limit") {
        let per = match given.get("per") {
            Some("minute") => "min",
            Some("hour") => "h",
            Some(_) | None => "s",
        };
        command.push_str(&format!(" --rate {}", single_quoted(&format!("{limit}/{per}"))));
    }
    Commands::change(frame, "POST", "/v1/replays", &body, command)
}

/// Starts the replay.
pub(in crate::dashboard) async fn start(
    State(control): State<Control>,
    viewer: Viewer,
    given: Values,
) -> Result<Response, Failure> {
    match create(&control, &viewer, request(&given, false)).await {
        Ok(Made::Replay(replay)) => {
            let notice = Notice::done("The replay has started. This page shows its progress.");
            Ok(notice.on(&viewer.to(&format!("/replays/{}", replay.id))))
        }
        Ok(Made::Plan(_)) => render(&control, &viewer, given, Vec::new(), None),
        Err(Error::Invalid(errors)) => render(&control, &viewer, given, errors, None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_the_request_of_the_rest_api_and_its_errors_belong_to_fields() {
        let uri =
            "/dashboard/replays/new?plan=1&source=a&type=&state=dead&to=b&limit=5&per=minute&after=2026-01-31T08:00";
        let given = Values::of(&uri.parse().expect("a URI")).expect("values");
        let wanted = json!({
            "filter": { "source": "a", "state": "dead", "after": "2026-01-31T08:00:00Z" },
            "destination": "b", "rate_limit": { "limit": 5, "per": "minute" }, "dry_run": true,
        });
        assert_eq!(Value::Object(request(&given, true)), wanted);
        assert_eq!(
            ["filter.source", "destination", "rate_limit.limit", "filter.destination", ""].map(field),
            ["source", "to", "limit", "destination", ""]
        );
    }
}
