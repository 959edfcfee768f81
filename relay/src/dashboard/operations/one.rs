//! One operation that is no replay: what it does, its progress, and its cancellation.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use model::operation::OperationState;

use super::progress::Progress;
use super::{href, replay_of, words};
use crate::control::operations::{self, Operation};
use crate::control::{Control, Scope};
use crate::dashboard::commands::Commands;
use crate::dashboard::confirmation::ConfirmPage;
use crate::dashboard::failure::Failure;
use crate::dashboard::filter;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::notice::Notice;
use crate::dashboard::viewer::Viewer;
use crate::dashboard::{answer, view};

#[derive(Template)]
#[template(path = "dashboard/operation.html")]
struct OperationPage {
    frame: Frame,
    operation: Operation,
    words: String,
    sentence: String,
    tone: &'static str,
    progress: Progress,
    time_left: Option<String>,
    /// The deliveries that it takes, and the plan of the same change: their URLs.
    deliveries: Option<String>,
    again: Option<String>,
    may_cancel: bool,
    commands: Commands,
}

impl OperationPage {
    fn left_as_they_are(&self) -> Vec<(&'static str, i64)> {
        words::skipped(&self.operation.skipped)
    }
}

/// The change that operations of a kind make.
fn change(kind: &str) -> Option<&'static str> {
    match kind {
        "retry_deliveries" => Some("retry"),
        "cancel_deliveries" => Some("cancel"),
        "release_deliveries" => Some("release"),
        _ => None,
    }
}

/// The page. That of a replay is shown by its own page.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let operation = operations::show(&control, &viewer.actor, &id).await?;
    if let Some(replay) = replay_of(&operation) {
        let target = href(&viewer, &format!("/replays/{replay}"), operation.customer_id);
        return Ok(Redirect::to(&target).into_response());
    }
    let frame = Frame::new(&viewer, words::title(&operation.kind), Section::Operations);
    let wanted = words::filter_of(&operation);
    let path = |path: &str| href(&viewer, path, operation.customer_id);
    let change = change(&operation.kind);
    let deliveries = wanted.as_ref().filter(|wanted| wanted.ids.is_none());
    let deliveries = deliveries.map(|wanted| path(&filter::query(wanted, "/deliveries", &[])));
    let again = wanted.as_ref().zip(change);
    let again = again.map(|(wanted, change)| path(&filter::query(wanted, "/deliveries/plan", &[("change", change)])));
    let may_cancel = operation.state == OperationState::Running && change.is_some() && viewer.may(Scope::Replay);
    let (tone, sentence) = sentence(&operation);
    Ok(page(&OperationPage {
        words: words::of_parameters(&operation),
        sentence,
        tone,
        progress: Progress::of_operation(&operation),
        time_left: words::time_left(&operation),
        deliveries,
        again: again.filter(|_| operation.finished_at.is_some() && viewer.may(Scope::Replay)),
        may_cancel,
        commands: Commands::read(&frame, &format!("/v1/operations/{}", operation.id), ""),
        frame,
        operation,
    }))
}

/// How it goes, in a sentence, and the tone of it. An operation that does not move says why.
fn sentence(operation: &Operation) -> (&'static str, String) {
    let error = operation.error.as_deref().map(view::sentence);
    match (operation.state, error) {
        (OperationState::Running, Some(error)) => {
            ("warn", format!("It does not move: its last chunk failed, and is tried again. {error}"))
        }
        (OperationState::Running, None) => ("quiet", "It is being worked on.".to_owned()),
        (OperationState::Paused, _) => ("held", "It is paused.".to_owned()),
        (OperationState::Completed, _) => ("ok", "It has done all of its work.".to_owned()),
        (OperationState::Cancelled, _) => ("quiet", "It was cancelled. What it has done is kept.".to_owned()),
        (OperationState::Failed, Some(error)) => ("danger", format!("It could not do all of its work. {error}")),
        (OperationState::Failed, None) => ("danger", "It could not do all of its work.".to_owned()),
    }
}

/// The page that asks before a cancellation.
pub(in crate::dashboard) async fn confirm_cancel(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let operation = operations::show(&control, &viewer.actor, &id).await?;
    viewer.actor.require(Scope::Replay)?;
    let left = match operation.remaining {
        Some(left) => format!("About {} are left as they are.", view::count(left, "delivery", "deliveries")),
        None => "The deliveries that it has not come to are left as they are.".to_owned(),
    };
    let path = format!("/operations/{}", operation.id);
    let sentences = vec![
        format!(
            "{}: {} It has changed {} so far, and that is kept.",
            words::title(&operation.kind),
            words::of_parameters(&operation),
            view::count(operation.changed, "delivery", "deliveries")
        ),
        left,
    ];
    let frame = Frame::new(&viewer, "Cancel this operation?", Section::Operations);
    let page = ConfirmPage {
        is_dangerous: true,
        keep: "Let it run",
        ..ConfirmPage::new(frame, &format!("{path}/cancel"), &path, "Cancel the operation", sentences)
    };
    Ok(page.render_page())
}

pub(in crate::dashboard) async fn cancel(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let cancelled = operations::cancel(&control, &viewer.actor, &id).await;
    answer::on(&viewer, &format!("/operations/{id}"), cancelled, |_| Notice::done("The operation is cancelled."))
}
