//! The settings of a source, as a form that keeps what was typed.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use super::super::commands::Commands;
use super::super::failure::Failure;
use super::super::field::{self, Input};
use super::super::frame::{Frame, Section, page};
use super::super::notice::Notice;
use super::super::values::Values;
use super::super::view;
use super::super::viewer::Viewer;
use super::options::{self, Part};
use super::{Crumb, unchanged_since, version_of};
use crate::api::input::Segment;
use crate::control::sources::{self, Source, SourcePatch};
use crate::control::{Control, Error, Outcome, Scope, providers};

#[derive(Template)]
#[template(path = "dashboard/source_settings.html")]
struct SettingsPage {
    frame: Frame,
    crumb: Crumb,
    source: Source,
    parts: Vec<Part>,
    version: String,
    errors: Vec<String>,
    commands: Commands,
}

async fn read(control: &Control, viewer: &Viewer, id: &str) -> Result<SettingsPage, Error> {
    let source = sources::show(control, &viewer.actor, id).await?;
    let provider = providers::show(&viewer.actor, &source.provider)?;
    let frame = Frame::new(viewer, format!("Settings of {}", source.name), Section::Sources);
    let call = format!("/v1/sources/{}", source.id);
    let (body, command) =
        ("{\"config\": {\"tolerance_s\": 600}}", format!("tidegate source set {} --set tolerance_s=600", source.name));
    Ok(SettingsPage {
        crumb: Crumb::of(&frame, &source),
        parts: options::parts(&provider, &source.config),
        version: version_of(&source),
        errors: Vec::new(),
        commands: Commands::change(&frame, "PATCH", &call, body, command),
        frame,
        source,
    })
}

/// The page.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    viewer: Viewer,
    Segment(id): Segment,
) -> Result<Response, Failure> {
    let shown = read(&control, &viewer, &id).await?;
    viewer.actor.require(Scope::Write)?;
    Ok(page(&shown))
}

/// Changes the settings.
pub(in crate::dashboard) async fn change(
    State(control): State<Control>,
    viewer: Viewer,
    Segment(id): Segment,
    form: Values,
) -> Result<Response, Failure> {
    let mut shown = read(&control, &viewer, &id).await?;
    let config = options::patch(&mut shown.parts, &form);
    let patch = SourcePatch { provider: None, secrets: None, config: Some(config) };
    match sources::change(&control, &viewer.actor, &id, patch, &unchanged_since(form.text("version"))).await {
        Ok(saved) => {
            let name = &saved.value.name;
            let notice = match saved.outcome {
                Outcome::Created | Outcome::Updated => {
                    Notice::done(format!("The settings of {name} are saved and active at the edge."))
                }
                Outcome::Later => Notice::partly(format!(
                    "The settings of {name} are saved. The edge has not confirmed them yet; the relay keeps trying."
                )),
            };
            Ok(notice.on(&shown.crumb.href))
        }
        Err(Error::Changed { .. }) => {
            shown.errors.push(
                "Someone has changed this source since you opened the page, so nothing was saved. What you typed is still \
                 here. Compare it with the present settings of the source, and save it again to replace them."
                    .to_owned(),
            );
            Ok((StatusCode::CONFLICT, page(&shown)).into_response())
        }
        Err(error) => {
            let errors = field::shown(error, "name")?;
            shown.errors = field::place(errors, shown.parts.iter_mut().flat_map(|part| &mut part.fields));
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page(&shown)).into_response())
        }
    }
}
