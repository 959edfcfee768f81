//! The form of a destination that exists.

use axum::extract::{Path, State};
use axum::response::Response;
use model::retry_policy::RetryPolicy;

use super::add::{Edited, FormPage};
use super::form::Typed;
use super::steer::path;
use crate::control::destinations::{self, Destination};
use crate::control::saved::version;
use crate::control::{Control, Scope};
use crate::dashboard::commands::{Commands, single_quoted};
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section};
use crate::dashboard::notice::Notice;
use crate::dashboard::values::{VERSION, Values};
use crate::dashboard::viewer::Viewer;
use crate::dashboard::wrong::Wrong;

/// The form.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Write)?;
    let destination = destinations::show(&control, &viewer.actor, &id).await?;
    let standard = serde_json::to_value(RetryPolicy::default()).unwrap_or_default();
    let typed = Typed::of(&destination, &standard);
    let version = version(destination.updated_at.0);
    Ok(form(&viewer, &destination, version, typed, Wrong::default()).render_page())
}

fn form(viewer: &Viewer, destination: &Destination, version: String, typed: Typed, wrong: Wrong) -> FormPage {
    let frame = Frame::new(viewer, format!("Edit {}", destination.name), Section::Destinations);
    let path = format!("/v1/destinations/{}", destination.id);
    let tidegate =
        format!("tidegate destination set {} --timeout 15s --concurrency 10", single_quoted(&destination.name));
    let body = r#"{"timeout_ms": 15000, "max_concurrency": 10}"#;
    let commands = Commands::change(&frame, "PATCH", &path, body, tidegate);
    let edited = Edited { id: destination.id.to_string(), name: destination.name.clone(), version };
    FormPage { frame, typed, wrong, edited: Some(edited), commands }
}

/// Saves the settings, unless someone has changed the destination since the form was opened.
pub(in crate::dashboard) async fn save(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
    filled: Values,
) -> Result<Response, Failure> {
    let typed = Typed::read(&filled);
    let mut wrong = Wrong::default();
    let patch = if filled.has("more_headers") { None } else { typed.patch(&mut wrong) };
    if let Some(patch) = patch {
        match destinations::change(&control, &viewer.actor, &id, patch, &filled.precondition()).await {
            Ok(saved) => {
                let page = viewer.to(&path(saved.value.id));
                let mut text = format!("The settings of {} are saved.", saved.value.name);
                if saved.value.headers_cleared {
                    text.push_str(
                        " Its static headers were removed, because the URL has another scheme, host or port.",
                    );
                }
                let notice = Notice::saved(text, saved.outcome.is_active());
                let notice = if saved.value.headers_cleared { notice.incomplete() } else { notice };
                return Ok(notice.on(&page));
            }
            Err(error) => wrong = Wrong::of(error)?,
        }
    }
    let destination = destinations::show(&control, &viewer.actor, &id).await?;
    // The form that is shown after a concurrent change is about the destination as it is now.
    let version = if wrong.is_changed() { version(destination.updated_at.0) } else { filled.raw(VERSION).to_owned() };
    Ok(form(&viewer, &destination, version, typed, wrong).render_page())
}
