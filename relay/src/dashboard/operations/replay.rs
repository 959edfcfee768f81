//! One replay: what it takes, its progress, and how it is steered.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use model::replay::ReplayState;
use serde_json::{Value, json};
use shared::id::OperationId;

use super::progress::Progress;
use super::words;
use crate::control::operations;
use crate::control::rate::Period;
use crate::control::replays::{self, Replay, ReplayPatch};
use crate::control::{Control, Error, Scope, fields, names};
use crate::dashboard::commands::Commands;
use crate::dashboard::confirmation::ConfirmPage;
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::notice::Notice;
use crate::dashboard::values::Values;
use crate::dashboard::viewer::Viewer;
use crate::dashboard::{answer, link, view};

#[derive(Template)]
#[template(path = "dashboard/replay.html")]
struct ReplayPage {
    frame: Frame,
    replay: Replay,
    words: String,
    sentence: String,
    tone: &'static str,
    progress: Progress,
    processed_per_s: Option<f64>,
    time_left: Option<String>,
    /// The rate as it was typed, and what is wrong with it.
    limit: String,
    per: String,
    problems: Vec<String>,
    commands: Commands,
}

impl ReplayPage {
    fn path(&self, rest: &str) -> String {
        self.frame.to(&format!("/replays/{}{rest}", self.replay.id))
    }

    /// The list of its deliveries in a state; of all, if `state` is empty.
    fn deliveries(&self, state: &str) -> String {
        let state = Some(state).filter(|state| !state.is_empty());
        self.frame.to(&link::with("/deliveries", &[("replay", Some(&self.replay.id.to_string())), ("state", state)]))
    }

    /// The plan of the retry of its dead deliveries.
    fn again(&self) -> String {
        let id = self.replay.id.to_string();
        let parameters = [("replay", Some(id.as_str())), ("state", Some("dead")), ("change", Some("retry"))];
        self.frame.to(&link::with("/deliveries/plan", &parameters))
    }

    fn is_per(&self, period: &str) -> bool {
        self.per == period
    }

    fn is_open(&self) -> bool {
        matches!(self.replay.state, ReplayState::Running | ReplayState::Paused)
    }

    fn is_live(&self) -> bool {
        self.replay.state == ReplayState::Running || (!self.is_open() && self.replay.pending > self.replay.held)
    }
}

/// How it goes, in a sentence, and the tone of it. A replay that does not move says why.
fn sentence(replay: &Replay) -> (&'static str, String) {
    if let Some(reason) = &replay.waiting_reason {
        let tone = if replay.state == ReplayState::Paused { "held" } else { "warn" };
        return (tone, format!("It does not move: {}", view::sentence_rest(reason)));
    }
    let left = match (replay.pending, replay.held) {
        (0, _) => "All of its deliveries have ended.".to_owned(),
        (pending, 0) => format!("{} have not ended yet.", view::count(pending, "delivery", "deliveries")),
        (pending, held) => format!(
            "{} have not ended yet, of which {} individually held.",
            view::count(pending, "delivery", "deliveries"),
            if held == 1 { "1 is".to_owned() } else { format!("{} are", view::number(held)) }
        ),
    };
    match (replay.state, &replay.error) {
        (ReplayState::Running, _) if replay.matched.is_none() => {
            ("quiet", "It creates deliveries while the matches are still being counted.".to_owned())
        }
        (ReplayState::Running, _) => ("quiet", "It creates deliveries.".to_owned()),
        (ReplayState::Paused, _) => ("held", "It is paused. Resume it to let it continue.".to_owned()),
        (ReplayState::Completed, _) if replay.dead > 0 => {
            ("warn", format!("It has created all deliveries. {left} {} dead.", are(replay.dead)))
        }
        (ReplayState::Completed, _) => ("ok", format!("It has created all deliveries. {left}")),
        (ReplayState::Cancelled, Some(error)) => ("warn", format!("It was cancelled: {}", view::sentence(error))),
        (ReplayState::Cancelled, None) => ("quiet", "It was cancelled.".to_owned()),
        (ReplayState::Failed, Some(error)) => ("danger", view::sentence(error)),
        (ReplayState::Failed, None) => ("danger", "It could not do all of its work.".to_owned()),
    }
}

fn are(number: i64) -> String {
    if number == 1 { "1 is".to_owned() } else { format!("{} are", view::number(number)) }
}

/// The page.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let replay = replays::show(&control, &viewer.actor, &id).await?;
    let (limit, per) = match replay.rate_limit {
        Some(rate) => (rate.limit.to_string(), words::period(rate.per)),
        None => (String::new(), words::period(Period::Second)),
    };
    render(&control, &viewer, replay, (limit, per.to_owned()), Vec::new()).await
}

async fn render(
    control: &Control,
    viewer: &Viewer,
    replay: Replay,
    (limit, per): (String, String),
    problems: Vec<String>,
) -> Result<Response, Failure> {
    let operation = OperationId::from_uuid(replay.id.uuid()).to_string();
    let operation = operations::show(control, &viewer.actor, &operation).await?;
    let names = names::names(control, &viewer.actor)?;
    let frame = Frame::new(viewer, words::title(&operation.kind), Section::Operations);
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let (tone, sentence) = sentence(&replay);
    let mut response = page(&ReplayPage {
        words: words::of_replay(&replay, &names),
        sentence,
        tone,
        progress: Progress::of_replay(&replay),
        processed_per_s: operation.processed_per_s,
        time_left: words::time_left(&operation),
        limit,
        per,
        problems,
        commands: Commands::read(
            &frame,
            &format!("/v1/replays/{}", replay.id),
            format!("tidegate replay watch {}", replay.id),
        ),
        frame,
        replay,
    });
    *response.status_mut() = status;
    Ok(response)
}

pub(in crate::dashboard) async fn pause(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let paused = replays::pause(&control, &viewer.actor, &id).await;
    let text = "The replay is paused. Deliveries that it has created are sent.";
    answer::on(&viewer, &format!("/replays/{id}"), paused, |_| Notice::done(text))
}

pub(in crate::dashboard) async fn resume(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let resumed = replays::resume(&control, &viewer.actor, &id).await;
    answer::on(&viewer, &format!("/replays/{id}"), resumed, |_| Notice::done("The replay continues where it was."))
}

/// Changes the rate. An empty limit removes it.
pub(in crate::dashboard) async fn change_rate(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
    given: Values,
) -> Result<Response, Failure> {
    let (limit, per) = (given.get("limit").unwrap_or_default(), given.get("per").unwrap_or("second"));
    let rate = rate_limit(limit, per);
    let changed = match fields::read::<ReplayPatch>(json!({ "rate_limit": rate })) {
        Ok(patch) => replays::change(&control, &viewer.actor, &id, patch).await,
        Err(error) => Err(error),
    };
    match changed {
        Err(Error::Invalid(errors)) => {
            let replay = replays::show(&control, &viewer.actor, &id).await?;
            let problems = errors.iter().map(words::problem).collect();
            render(&control, &viewer, replay, (limit.to_owned(), per.to_owned()), problems).await
        }
        other => answer::on(&viewer, &format!("/replays/{id}"), other, |replay| match replay.rate_limit {
            Some(rate) => Notice::done(format!("The replay creates at most {}.", words::rate(rate))),
            None => Notice::done("The replay has no rate limit of its own any more."),
        }),
    }
}

/// The rate limit of a form as the REST API has it; null without a limit.
pub(super) fn rate_limit(limit: &str, per: &str) -> Value {
    match limit {
        "" => Value::Null,
        // What is no number is refused with the message for it.
        limit => json!({ "limit": limit.parse::<i64>().map_or_else(|_| json!(limit), Value::from), "per": per }),
    }
}

/// The page that asks before a cancellation.
pub(in crate::dashboard) async fn confirm_cancel(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let replay = replays::show(&control, &viewer.actor, &id).await?;
    viewer.actor.require(Scope::Replay)?;
    let path = format!("/replays/{}", replay.id);
    let sentences = vec![
        format!(
            "It creates no more deliveries. Of the {} that it has created, {} pending or held and cancelled with it.",
            view::number(replay.created),
            are(replay.pending)
        ),
        format!(
            "{} succeeded already, and stay so. Attempts in flight are not aborted.",
            view::number(replay.succeeded)
        ),
    ];
    let frame = Frame::new(&viewer, "Cancel this replay?", Section::Operations);
    let page = ConfirmPage {
        is_dangerous: true,
        keep: "Let it run",
        ..ConfirmPage::new(frame, &format!("{path}/cancel"), &path, "Cancel the replay", sentences)
    };
    Ok(page.render_page())
}

pub(in crate::dashboard) async fn cancel(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let cancelled = replays::cancel(&control, &viewer.actor, &id).await;
    answer::on(&viewer, &format!("/replays/{id}"), cancelled, |_| Notice::done("The replay is cancelled."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_limit_is_none_and_a_limit_that_is_no_number_is_refused_with_its_field() {
        assert_eq!(rate_limit("", "minute"), Value::Null);
        assert_eq!(rate_limit("50", "minute"), json!({ "limit": 50, "per": "minute" }));
        let read = fields::read::<crate::control::rate::RateLimit>(rate_limit("many", "minute"));
        assert!(matches!(read, Err(Error::Invalid(errors)) if errors[0].field == "limit"), "a field error");
    }
}
