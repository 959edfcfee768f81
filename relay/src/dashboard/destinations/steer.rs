//! Pausing, resuming and deleting a destination.

use std::fmt;

use axum::extract::{Path, State};
use axum::response::Response;
use model::destination::DestinationState;
use serde_json::{Value, json};

use crate::control::destinations::health::{self, DestinationHealth};
use crate::control::destinations::{self, Destination, DestinationPatch};
use crate::control::page::PageRequest;
use crate::control::routes::{self, RouteFilter};
use crate::control::saved::version;
use crate::control::{Control, Scope};
use crate::dashboard::commands::{Commands, single_quoted};
use crate::dashboard::confirmation::{Asks, ConfirmPage, deliveries};
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section};
use crate::dashboard::notice::Notice;
use crate::dashboard::values::Values;
use crate::dashboard::view;
use crate::dashboard::viewer::Viewer;
use crate::dashboard::wrong::Wrong;

/// The most routes that a confirmation counts.
const ROUTES_COUNTED: u32 = 200;

/// The path of the page of a destination, below the dashboard.
pub(super) fn path(id: impl fmt::Display) -> String {
    format!("/destinations/{id}")
}

/// The list and the destination, as the pages above a page.
pub(super) fn above(frame: &Frame, destination: &Destination) -> Vec<(String, String)> {
    vec![
        ("Destinations".to_owned(), frame.to("/destinations")),
        (destination.name.clone(), frame.to(&path(destination.id))),
    ]
}

/// Holds the deliveries of a destination.
pub(in crate::dashboard) async fn pause(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let saved = destinations::pause(&control, &viewer.actor, &id).await?;
    let text = format!("{} is paused. Its deliveries are held until it is resumed.", saved.value.name);
    Ok(Notice::saved(text, saved.outcome.is_active()).on(&viewer.to(&path(saved.value.id))))
}

/// Asks before held deliveries are sent, and at which rate.
pub(in crate::dashboard) async fn confirm_resume(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Write)?;
    let destination = destinations::show(&control, &viewer.actor, &id).await?;
    let limit = destination.rate_limit.map(|limit| limit.limit.to_string()).unwrap_or_default();
    let per = destination.rate_limit.and_then(|limit| serde_json::to_value(limit.per).ok());
    let per = per.as_ref().and_then(Value::as_str).unwrap_or("second").to_owned();
    resume_page(&control, &viewer, destination, Asks::Rate { limit, per }, Wrong::default()).await
}

async fn resume_page(
    control: &Control,
    viewer: &Viewer,
    destination: Destination,
    asks: Asks,
    wrong: Wrong,
) -> Result<Response, Failure> {
    let health = health::show(control, &viewer.actor, &destination.id.to_string()).await?;
    let frame = Frame::new(viewer, format!("Resume {}", destination.name), Section::Destinations);
    let own = path(destination.id);
    let command = format!("tidegate destination resume {} --rate 20/s", single_quoted(&destination.name));
    let page = ConfirmPage {
        above: above(&frame, &destination),
        asks,
        wrong,
        version: Some(version(destination.updated_at.0)),
        commands: Some(Commands::change(&frame, "POST", &format!("/v1{own}/resume"), "", command)),
        ..ConfirmPage::new(frame, &format!("{own}/resume"), &own, "Resume", sentences_of_resume(&destination, &health))
    };
    Ok(page.render_page())
}

fn sentences_of_resume(destination: &Destination, health: &DestinationHealth) -> Vec<String> {
    let pending = &health.pending;
    let individually: i64 = health.held.iter().map(|held| held.count).sum();
    let mut sentences = Vec::new();
    if destination.state == DestinationState::Active {
        sentences.push("It is not paused: deliveries are being sent.".to_owned());
    } else if let Some(reason) = &destination.state_reason {
        sentences.push(format!("It was disabled: {reason}. Make sure that it works again."));
    }
    let will = if pending.count <= 1 && !pending.and_more { "is" } else { "are" };
    sentences.push(format!(
        "{} {will} sent, the oldest first, and its health begins anew.",
        view::sentence(&deliveries(pending.count, pending.and_more)).trim_end_matches('.')
    ));
    if individually > 0 {
        sentences.push(format!(
            "Of these, {} {} held for another cause and wait for a release or a mended route.",
            view::number(individually),
            if individually == 1 { "is" } else { "are" }
        ));
    }
    sentences
}

/// Sets the rate limit, if it was changed, and sends the held deliveries.
pub(in crate::dashboard) async fn resume(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
    filled: Values,
) -> Result<Response, Failure> {
    let destination = destinations::show(&control, &viewer.actor, &id).await?;
    let id = destination.id.to_string();
    let per = filled.get("rate_per").unwrap_or("second").to_owned();
    let now = destination.rate_limit.and_then(|limit| serde_json::to_value(limit).ok()).unwrap_or_default();
    let limit = filled.get("rate_limit").unwrap_or_default().to_owned();
    let typed = match limit.replace(',', "").parse::<i64>() {
        Ok(number) => Ok(json!({ "limit": number, "per": per })),
        Err(_) if limit.is_empty() => Ok(Value::Null),
        Err(_) => Err(format!("must be a whole number, but is \"{limit}\"")),
    };
    let asks = Asks::Rate { limit, per };
    let rate = match typed {
        Ok(rate) => rate,
        Err(text) => {
            let mut wrong = Wrong::default();
            wrong.add("rate_limit", text);
            return resume_page(&control, &viewer, destination, asks, wrong).await;
        }
    };
    // A form without the field, such as that of another program, resumes at the rate of the destination.
    if filled.has("rate_limit") && rate != now {
        let patch = DestinationPatch { rate_limit: Some(rate), ..nothing() };
        if let Err(error) = destinations::change(&control, &viewer.actor, &id, patch, &filled.precondition()).await {
            return resume_page(&control, &viewer, destination, asks, Wrong::of(error)?).await;
        }
    }
    let saved = destinations::resume(&control, &viewer.actor, &id).await?;
    let text = format!("{} is resumed. Its deliveries are being sent.", saved.value.name);
    Ok(Notice::saved(text, saved.outcome.is_active()).on(&viewer.to(&path(id))))
}

const fn nothing() -> DestinationPatch {
    DestinationPatch {
        url: None,
        rate_limit: None,
        max_concurrency: None,
        timeout_ms: None,
        retry: None,
        append_query: None,
        headers: None,
        signing_secret: None,
    }
}

/// Asks before a destination is deleted.
pub(in crate::dashboard) async fn confirm_delete(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Write)?;
    let destination = destinations::show(&control, &viewer.actor, &id).await?;
    delete_page(&control, &viewer, destination, Wrong::default()).await
}

async fn delete_page(
    control: &Control,
    viewer: &Viewer,
    destination: Destination,
    wrong: Wrong,
) -> Result<Response, Failure> {
    let id = destination.id.to_string();
    let health = health::show(control, &viewer.actor, &id).await?;
    let filter = RouteFilter { destination: Some(id.clone()), ..RouteFilter::default() };
    let window = PageRequest { limit: Some(ROUTES_COUNTED), cursor: None };
    let found = routes::list(control, &viewer.actor, &filter, &window).await?;
    let routes = match (found.data.len(), found.next_cursor.is_some()) {
        (0, _) => "It has no route.".to_owned(),
        (count, false) => format!("Its {} deleted with it.", view::count(count, "route is", "routes are")),
        (count, true) => format!("Its more than {} routes are deleted with it.", view::number(count)),
    };
    let pending = &health.pending;
    let pending = match pending.count {
        0 => "No delivery is pending.".to_owned(),
        _ => format!(
            "{} cancelled and never sent: {} pending or held.",
            view::sentence(&deliveries(pending.count, pending.and_more)).trim_end_matches('.').to_owned()
                + if pending.count == 1 { " is" } else { " are" },
            if pending.count == 1 { "it is" } else { "they are" }
        ),
    };
    let frame = Frame::new(viewer, format!("Delete {}", destination.name), Section::Destinations);
    let sentences = vec![
        pending,
        routes,
        "Its deliveries and attempts stay in history, but cannot be retried to it. Its signing secret and its static headers \
         are gone."
            .to_owned(),
    ];
    let own = path(&id);
    let command = format!("tidegate destination delete {}", single_quoted(&destination.name));
    let page = ConfirmPage {
        above: above(&frame, &destination),
        wrong,
        is_dangerous: true,
        version: Some(version(destination.updated_at.0)),
        commands: Some(Commands::change(&frame, "DELETE", &format!("/v1{own}"), "", command)),
        ..ConfirmPage::new(frame, &format!("{own}/delete"), &own, "Delete the destination", sentences)
    };
    Ok(page.render_page())
}

/// Deletes the destination, unless someone has changed it since the page was opened.
pub(in crate::dashboard) async fn delete(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
    filled: Values,
) -> Result<Response, Failure> {
    let destination = destinations::show(&control, &viewer.actor, &id).await?;
    match destinations::delete(&control, &viewer.actor, &destination.id.to_string(), &filled.precondition()).await {
        Ok(activity) => {
            let text = format!("{} is deleted. Its pending deliveries are being cancelled.", destination.name);
            Ok(Notice::saved(text, activity.is_active()).on(&viewer.to("/destinations")))
        }
        Err(error) => delete_page(&control, &viewer, destination, Wrong::of(error)?).await,
    }
}
