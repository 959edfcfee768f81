//! One delivery: its state, what it waits for, its attempts, and what can be done with it.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use model::delivery::DeliveryState;
use model::unix_time;
use time::OffsetDateTime;

use super::commands::Commands;
use super::confirmation::ConfirmPage;
use super::deliveries::words;
use super::failure::Failure;
use super::frame::{Frame, Section, page};
use super::notice::Notice;
use super::values::Values;
use super::viewer::Viewer;
use super::{answer, link, view};
use crate::control::deliveries::{self, Attempt, Delivery};
use crate::control::page::{MAX_LIMIT, PageRequest};
use crate::control::{Control, Error, Scope, names, routes};

#[derive(Template)]
#[template(path = "dashboard/delivery.html")]
struct DeliveryPage {
    frame: Frame,
    delivery: Delivery,
    sentence: String,
    advice: Option<&'static str>,
    created_at: OffsetDateTime,
    /// The name of the source, if it exists.
    source: Option<String>,
    /// The name of the route: `None` if it has been deleted, empty if it has none.
    route: Option<String>,
    attempts: Vec<Attempt>,
    later: Option<String>,
    /// Whether the first attempts are left out.
    is_continued: bool,
    commands: Commands,
}

impl DeliveryPage {
    fn tone(&self) -> &'static str {
        view::delivery_tone(self.delivery.state).name()
    }

    fn path(&self, rest: &str) -> String {
        self.frame.to(&format!("/deliveries/{}{rest}", self.delivery.id))
    }

    /// The label of the button that sends it again.
    fn retry_label(&self) -> &'static str {
        match self.delivery.state {
            DeliveryState::Held if self.delivery.held_by.is_some() => "Release",
            DeliveryState::Pending | DeliveryState::Held => "Retry now",
            DeliveryState::Succeeded => "Send again",
            DeliveryState::Dead | DeliveryState::Cancelled => "Retry",
        }
    }
}

/// How long an attempt took, in milliseconds.
fn took(attempt: &Attempt) -> u64 {
    u64::try_from(attempt.latency_ms).unwrap_or_default()
}

/// The page.
pub(super) async fn show(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let given = Values::of(&viewer.uri)?;
    let delivery = deliveries::show(&control, &viewer.actor, &id).await?;
    let window = PageRequest { limit: Some(MAX_LIMIT), cursor: given.get("cursor").map(str::to_owned) };
    let attempts = deliveries::attempts(&control, &viewer.actor, &id, &window).await?;
    let route = match delivery.route_id {
        None => None,
        Some(route) => match routes::show(&control, &viewer.actor, &route.to_string()).await {
            Ok(route) => Some(route.name.unwrap_or_default()),
            Err(Error::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        },
    };
    let sources = names::names(&control, &viewer.actor)?.sources;
    let source = sources.into_iter().find(|(id, _)| *id == delivery.source_id).map(|(_, name)| name);
    let name = delivery.destination.as_deref().unwrap_or("a deleted destination");
    let frame = Frame::new(&viewer, format!("Delivery to {name}"), Section::Deliveries);
    let path = format!("/v1/deliveries/{}", delivery.id);
    let command = |verb: &str| format!("tidegate delivery {verb} {}", delivery.id);
    Ok(page(&DeliveryPage {
        sentence: words::state(&delivery),
        advice: delivery.held_by.map(words::advice),
        created_at: unix_time::timestamp(delivery.id.minted_at_ms()),
        source,
        route,
        attempts: attempts.data,
        later: attempts.next_cursor.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))])),
        is_continued: given.get("cursor").is_some(),
        commands: match viewer.may(Scope::Replay) {
            true => Commands::change(&frame, "POST", &format!("{path}/retry"), "", command("retry")),
            false => Commands::read(&frame, &format!("{path}/attempts"), command("attempts")),
        },
        frame,
        delivery,
    }))
}

/// Sends it again at once, or releases it.
pub(super) async fn retry(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let retried = deliveries::retry(&control, &viewer.actor, &id).await;
    answer::on(&viewer, &format!("/deliveries/{id}"), retried, |delivery| match delivery.state {
        DeliveryState::Held => Notice::partly(format!("It is not sent yet. {}", words::state(&delivery))),
        DeliveryState::Cancelled => Notice::partly(words::state(&delivery)),
        DeliveryState::Pending | DeliveryState::Succeeded | DeliveryState::Dead => {
            Notice::done("It is sent before all other deliveries to its destination.")
        }
    })
}

/// The page that asks before a cancellation.
pub(super) async fn confirm_cancel(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let delivery = deliveries::show(&control, &viewer.actor, &id).await?;
    viewer.actor.require(Scope::Replay)?;
    let name = delivery.destination.as_deref().unwrap_or("a deleted destination");
    let path = format!("/deliveries/{}", delivery.id);
    let sentences = vec![
        format!("The event {} is not sent to {name} any more by this delivery.", delivery.event_id),
        "An attempt in flight is not aborted, and its outcome does not count. A cancelled delivery can be retried."
            .to_owned(),
    ];
    let frame = Frame::new(&viewer, "Cancel this delivery?", Section::Deliveries);
    let page = ConfirmPage {
        is_dangerous: true,
        keep: "Keep it",
        ..ConfirmPage::new(frame, &format!("{path}/cancel"), &path, "Cancel the delivery", sentences)
    };
    Ok(page.render_page())
}

pub(super) async fn cancel(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let cancelled = deliveries::cancel(&control, &viewer.actor, &id).await;
    answer::on(&viewer, &format!("/deliveries/{id}"), cancelled, |_| Notice::done("The delivery is cancelled."))
}
