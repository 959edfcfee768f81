//! Rotating and showing the signing secret of a destination.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;

use super::steer::{above, path};
use crate::control::destinations::signing::{self, Rotation, SigningSecret};
use crate::control::destinations::{self, Destination};
use crate::control::{Control, Scope};
use crate::dashboard::commands::{Commands, single_quoted};
use crate::dashboard::confirmation::{Asks, ConfirmPage};
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::notice::LATER;
use crate::dashboard::values::Values;
use crate::dashboard::view;
use crate::dashboard::viewer::Viewer;
use crate::dashboard::wrong::Wrong;

#[derive(Template)]
#[template(path = "dashboard/destination_secret.html")]
struct SecretPage {
    frame: Frame,
    destination: Destination,
    secret: SigningSecret,
    /// What was done besides showing it.
    lead: &'static str,
    is_later: bool,
}

/// Asks before the signing secret is replaced.
pub(in crate::dashboard) async fn confirm_rotation(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Secrets)?;
    let destination = destinations::show(&control, &viewer.actor, &id).await?;
    Ok(rotation_page(&viewer, &destination, "86400".to_owned(), Wrong::default()))
}

fn rotation_page(viewer: &Viewer, destination: &Destination, overlap_s: String, wrong: Wrong) -> Response {
    let frame = Frame::new(viewer, format!("Rotate the signing secret of {}", destination.name), Section::Destinations);
    let own = path(destination.id);
    let sentences = vec![
        "A new secret is made and shown on the next page. From then on, every delivery is signed with it.".to_owned(),
        "At most three secrets sign at a time: if there are three already, the oldest one stops at once.".to_owned(),
    ];
    let command = format!("tidegate destination rotate-secret {} --overlap 24h", single_quoted(&destination.name));
    let call = format!("/v1{own}/signing-secret/rotate");
    let page = ConfirmPage {
        above: above(&frame, destination),
        asks: Asks::Overlap { overlap_s },
        wrong,
        commands: Some(Commands::change(&frame, "POST", &call, r#"{"overlap_s": 86400}"#, command)),
        ..ConfirmPage::new(frame, &format!("{own}/rotate"), &own, "Rotate the secret", sentences)
    };
    page.render_page()
}

/// Replaces the signing secret, and shows the new one.
pub(in crate::dashboard) async fn rotate(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
    filled: Values,
) -> Result<Response, Failure> {
    let destination = destinations::show(&control, &viewer.actor, &id).await?;
    let overlap_s = filled.get("overlap_s").unwrap_or_default().to_owned();
    let Ok(seconds) = overlap_s.parse() else {
        let mut wrong = Wrong::default();
        wrong.add("overlap_s", "must be a whole number of seconds");
        return Ok(rotation_page(&viewer, &destination, overlap_s, wrong));
    };
    let rotation = Rotation { signing_secret: None, overlap_s: Some(seconds) };
    match signing::rotate(&control, &viewer.actor, &destination.id.to_string(), rotation).await {
        Ok(saved) => {
            let title = format!("The signing secret of {} is rotated", destination.name);
            let frame = Frame::new(&viewer, title, Section::Destinations);
            let lead = "Give the new secret to the receiver before the previous one stops signing.";
            let is_later = !saved.outcome.is_active();
            Ok(page(&SecretPage { frame, destination, secret: saved.value, lead, is_later }))
        }
        Err(error) => Ok(rotation_page(&viewer, &destination, overlap_s, Wrong::of(error)?)),
    }
}

/// Asks before the signing secret is shown.
pub(in crate::dashboard) async fn confirm_reveal(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Secrets)?;
    let destination = destinations::show(&control, &viewer.actor, &id).await?;
    let frame = Frame::new(&viewer, format!("Show the signing secret of {}", destination.name), Section::Destinations);
    let own = path(destination.id);
    let sentences = vec![
        "The secret is shown on the next page, and the audit log records that you have seen it.".to_owned(),
        "Anyone who has it can forge deliveries to this destination.".to_owned(),
    ];
    let call = format!("/v1{own}/signing-secret");
    let page = ConfirmPage {
        above: above(&frame, &destination),
        commands: Some(Commands::read(&frame, &call, format!("tidegate api {call}"))),
        ..ConfirmPage::new(frame, &format!("{own}/secret"), &own, "Show the secret", sentences)
    };
    Ok(page.render_page())
}

/// Shows the signing secret, which is recorded.
pub(in crate::dashboard) async fn reveal(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let destination = destinations::show(&control, &viewer.actor, &id).await?;
    let secret = signing::show(&control, &viewer.actor, &destination.id.to_string()).await?;
    let frame = Frame::new(&viewer, format!("The signing secret of {}", destination.name), Section::Destinations);
    let lead = "The audit log has recorded that you have seen it.";
    Ok(page(&SecretPage { frame, destination, secret, lead, is_later: false }))
}
