//! The plan of a replay of events: those that were ticked in the list, or all that match its filters. It says how many
//! it would take before it begins.

use std::borrow::Borrow;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::control::fields::FieldError;
use crate::control::replays::{self, Made, NewReplay, ReplayPlan};
use crate::control::{Control, Error, Scope};
use crate::dashboard::commands::{Commands, single_quoted};
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::notice::Notice;
use crate::dashboard::values::Values;
use crate::dashboard::view;
use crate::dashboard::viewer::Viewer;

/// The filters that a replay has, with their names on the page.
const FILTERS: [(&str, &str); 6] = [
    ("source", "Source"),
    ("type", "Type"),
    ("after", "Received after"),
    ("before", "Received before"),
    ("verification", "Verification"),
    ("state", "State of the deliveries"),
];

#[derive(Template)]
#[template(path = "dashboard/events_replay.html")]
struct ReplayPage {
    frame: Frame,
    wanted: Wanted,
    plan: Option<ReplayPlan>,
    errors: Vec<FieldError>,
    commands: Commands,
}

/// What is replayed.
#[derive(Debug, Default)]
struct Wanted {
    ids: Vec<String>,
    filters: Vec<(&'static str, &'static str, String)>,
    limit: String,
    per: String,
}

impl Wanted {
    fn of(values: &Values) -> Self {
        // As they are in the URL of the list, so that the replay has the same events.
        let given = |name: &str| Some(values.raw(name).to_owned()).filter(|value| !value.is_empty());
        let filters = FILTERS.into_iter().filter_map(|(name, text)| Some((name, text, given(name)?)));
        Self {
            ids: values.listed("id").map(str::to_owned).collect(),
            filters: filters.collect(),
            limit: given("limit").unwrap_or_default(),
            per: given("per").unwrap_or_default(),
        }
    }

    /// The body of the call that does the same.
    fn request(&self) -> Value {
        let mut filter = Map::new();
        if !self.ids.is_empty() {
            filter.insert("events".to_owned(), json!(self.ids));
        }
        filter.extend(self.filters.iter().map(|(name, _, value)| ((*name).to_owned(), json!(value))));
        let mut request = Map::new();
        request.insert("filter".to_owned(), Value::Object(filter));
        if !self.limit.is_empty() {
            let limit = self.limit.parse::<i64>().map_or_else(|_| json!(self.limit), |limit| json!(limit));
            let per = if self.per.is_empty() { "second" } else { self.per.as_str() };
            request.insert("rate_limit".to_owned(), json!({ "limit": limit, "per": per }));
        }
        Value::Object(request)
    }

    fn replay(&self, dry_run: bool) -> Result<NewReplay, Error> {
        let mut request = self.request();
        request["dry_run"] = json!(dry_run);
        serde_path_to_error::deserialize(request).map_err(|error| {
            Error::Invalid(vec![FieldError::of_serde(&error.path().to_string(), &error.inner().to_string())])
        })
    }

    fn releases(&self) -> bool {
        self.filters.iter().any(|(name, ..)| *name == "verification")
    }

    fn of_deliveries(&self) -> bool {
        self.filters.iter().any(|(name, ..)| *name == "state")
    }

    /// What is counted.
    fn noun(&self, number: impl view::Int) -> String {
        if self.of_deliveries() {
            view::count(number, "delivery", "deliveries")
        } else {
            view::count(number, "event", "events")
        }
    }

    fn command(&self) -> String {
        let mut command = "tidegate replays create".to_owned();
        for id in &self.ids {
            command.push_str(" --event ");
            command.push_str(&single_quoted(id));
        }
        for (name, _, value) in &self.filters {
            command.push_str(&format!(" --{name} {}", single_quoted(value)));
        }
        if !self.limit.is_empty() {
            let per = if self.per.is_empty() { "second" } else { self.per.as_str() };
            command.push_str(&format!(" --rate {}", single_quoted(&format!("{}/{per}", self.limit))));
        }
        command
    }
}

impl ReplayPage {
    /// Whether nothing would be replayed.
    fn is_empty(&self) -> bool {
        self.plan.as_ref().is_none_or(|plan| plan.complete && plan.matched == 0)
    }

    #[expect(clippy::unused_self, reason = "the template calls it on the page")]
    fn ms(&self, seconds: impl Borrow<f64>) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; an estimate")]
        let ms = (seconds.borrow().max(0.0) * 1_000.0) as u64;
        ms
    }

    /// How many of the ticked events are not taken.
    fn left_out(&self) -> i64 {
        let ticked = i64::try_from(self.wanted.ids.len()).unwrap_or(i64::MAX);
        self.plan.as_ref().map_or(0, |plan| if plan.complete { ticked - plan.matched } else { 0 })
    }

    fn errors_of(&self, field: &str) -> Vec<String> {
        let of_field = |error: &&FieldError| error.field.starts_with(field);
        self.errors.iter().filter(of_field).map(|error| view::sentence(&error.message)).collect()
    }

    fn other_errors(&self) -> Vec<String> {
        let is_other = |error: &&FieldError| !error.field.starts_with("rate_limit");
        self.errors.iter().filter(is_other).map(|error| view::sentence(&error.message)).collect()
    }
}

/// The plan.
pub(in crate::dashboard) async fn plan(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let wanted = Wanted::of(&Values::of(&viewer.uri)?);
    render(&control, &viewer, wanted, Vec::new()).await
}

async fn render(
    control: &Control,
    viewer: &Viewer,
    wanted: Wanted,
    errors: Vec<FieldError>,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Replay)?;
    let (plan, errors) = if errors.is_empty() {
        match planned(control, viewer, &wanted).await {
            Ok(plan) => (plan, errors),
            Err(Error::Invalid(errors)) => (None, errors),
            Err(error) => return Err(error.into()),
        }
    } else {
        (None, errors)
    };
    let frame = Frame::new(viewer, "Replay", Section::Events);
    let body = wanted.request().to_string();
    let commands = Commands::change(&frame, "POST", "/v1/replays", &body, wanted.command());
    let is_refused = !errors.is_empty();
    let mut response = page(&ReplayPage { frame, wanted, plan, errors, commands });
    if is_refused {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

async fn planned(control: &Control, viewer: &Viewer, wanted: &Wanted) -> Result<Option<ReplayPlan>, Error> {
    match replays::create(control, &viewer.actor, wanted.replay(true)?).await? {
        Made::Plan(plan) => Ok(Some(plan)),
        Made::Replay(_) => Ok(None),
    }
}

/// Begins the replay.
pub(in crate::dashboard) async fn begin(
    State(control): State<Control>,
    viewer: Viewer,
    values: Values,
) -> Result<Response, Failure> {
    let wanted = Wanted::of(&values);
    let made = match wanted.replay(false) {
        Ok(request) => replays::create(&control, &viewer.actor, request).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(Made::Replay(replay)) => {
            let page = viewer.to(&format!("/operations/{}", replay.id));
            Ok(Notice::done("The replay has begun.").on(&page))
        }
        Ok(Made::Plan(_)) => Err(Error::Internal("a replay was only planned".to_owned()).into()),
        Err(Error::Invalid(errors)) => render(&control, &viewer, wanted, errors).await,
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(pairs: &[(&str, &str)]) -> Wanted {
        Wanted::of(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_replay_has_the_ticked_events_or_the_filters_of_the_list() {
        let ticked = wanted(&[("id", "evt_1"), ("id", "evt_2"), ("customer", "acme")]);
        assert_eq!(ticked.request(), json!({ "filter": { "events": ["evt_1", "evt_2"] } }));
        let all = wanted(&[("source", "a"), ("type", ""), ("limit", "5"), ("per", "minute")]);
        assert_eq!(
            all.request(),
            json!({ "filter": { "source": "a" }, "rate_limit": { "limit": 5, "per": "minute" } })
        );
        assert_eq!(all.command(), "tidegate replays create --source 'a' --rate '5/minute'");
    }

    #[test]
    fn a_value_that_no_replay_has_is_refused_by_its_field() {
        let error = wanted(&[("state", "x"), ("limit", "5")]).replay(true).expect_err("is refused");
        assert!(matches!(&error, Error::Invalid(errors) if errors[0].field == "filter.state"), "{error:?}");
        let error = wanted(&[("limit", "many")]).replay(true).expect_err("is refused");
        assert!(matches!(&error, Error::Invalid(errors) if errors[0].field.starts_with("rate_limit")), "{error:?}");
    }
}
