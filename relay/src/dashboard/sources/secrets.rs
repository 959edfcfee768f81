//! The secrets of a source: by hint, and how they are replaced without rejecting a request.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::json;
use time::OffsetDateTime;

use super::super::commands::Commands;
use super::super::failure::{self, Failure};
use super::super::field::{self, Field, Input};
use super::super::frame::{Frame, Section, page};
use super::super::notice::Notice;
use super::super::values::Values;
use super::super::view::{self, Markup};
use super::super::viewer::Viewer;
use super::{Crumb, edge, unchanged_since, version_of};
use crate::api::input::Segment;
use crate::control::audit::{self, Action, AuditEntry, AuditFilter};
use crate::control::page::PageRequest;
use crate::control::providers::Provider;
use crate::control::sources::{self, NewSecret, Source, SourcePatch};
use crate::control::{Actor, Control, Error, Outcome, Saved, providers};

/// How many of the last changes of a source are looked at for the last change of its secrets.
const CHANGES_LOOKED_AT: u32 = 20;

#[derive(Template)]
#[template(path = "dashboard/source_secrets.html")]
struct SecretsPage {
    frame: Frame,
    crumb: Crumb,
    edge: Markup,
    source: Source,
    provider: Provider,
    changed: Option<Changed>,
    add: Field,
    only: Field,
    version: String,
    errors: Vec<String>,
    commands: Commands,
}

/// When and by whom the secrets of a source were last changed.
pub(super) struct Changed {
    pub(super) at: OffsetDateTime,
    pub(super) by: String,
}

/// The field of a secret.
pub(super) fn field(provider: &Provider, name: &str, label: &str) -> Field {
    let help = provider.secret_help.map(view::sentence).unwrap_or_default();
    let handed = match provider.secret {
        "handed_over" => " Leave it empty: the provider hands it over with its first request.",
        _ => "",
    };
    let hint = format!("{help}{handed} It is stored encrypted and never shown again.");
    Field::new(name, label, hint.trim(), Input::Secret).required(provider.secret == "required")
}

/// The secret that was typed. Blanks and line ends around it come from copying, and a key of several lines ends its
/// lines with LF.
pub(super) fn typed(form: &Values, name: &str) -> Option<String> {
    Some(form.lines(name).trim().to_owned()).filter(|secret| !secret.is_empty())
}

/// The last change of the secrets, if it is among the last changes of the source. Someone who is bound to a customer
/// does not see the audit log.
pub(super) async fn changed(control: &Control, actor: &Actor, source: &Source) -> Result<Option<Changed>, Error> {
    if actor.bound_to().is_some() {
        return Ok(None);
    }
    let filter = AuditFilter { object: Some(source.id.to_string()), ..AuditFilter::default() };
    let window = PageRequest { limit: Some(CHANGES_LOOKED_AT), cursor: None };
    let entries = audit::list(control, actor, filter, &window).await?.data;
    Ok(entries.into_iter().find(of_secrets).map(|entry| Changed { at: entry.at.0, by: entry.actor.name }))
}

fn of_secrets(entry: &AuditEntry) -> bool {
    let names = entry.after.as_ref().and_then(|after| after["secrets_changed"].as_array());
    names.is_some_and(|names| !names.is_empty()) || entry.action == Action::SourceAddSecret.name()
}

async fn read(control: &Control, viewer: &Viewer, id: &str) -> Result<SecretsPage, Error> {
    let source = sources::show(control, &viewer.actor, id).await?;
    let provider = providers::show(&viewer.actor, &source.provider)?;
    let frame = Frame::new(viewer, format!("Secrets of {}", source.name), Section::Sources);
    let call = format!("/v1/sources/{}/secrets", source.id);
    let command = format!("tidegate source rotate-secret {} --secret-stdin", source.name);
    Ok(SecretsPage {
        crumb: Crumb::of(&frame, &source),
        changed: changed(control, &viewer.actor, &source).await?,
        add: field(&provider, "secret", "New secret").required(true),
        only: field(&provider, "secrets", "The secret to keep").required(true),
        version: version_of(&source),
        errors: Vec::new(),
        commands: Commands::change(&frame, "POST", &call, "{\"secret\": \"…\"}", command),
        edge: edge(source.edge),
        frame,
        source,
        provider,
    })
}

/// The page.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    viewer: Viewer,
    Segment(id): Segment,
) -> Result<Response, Failure> {
    Ok(page(&read(&control, &viewer, &id).await?))
}

/// Does what one of the forms of the page asks for.
pub(in crate::dashboard) async fn act(
    State(control): State<Control>,
    viewer: Viewer,
    Segment(id): Segment,
    form: Values,
) -> Result<Response, Failure> {
    let shown = read(&control, &viewer, &id).await?;
    match form.text("do") {
        "add" => add(&control, &viewer, &id, &form, shown).await,
        "only" => keep_one(&control, &viewer, &id, &form, shown).await,
        _ => Err(failure::not_found().await),
    }
}

/// Adds a secret. The source accepts the others too.
async fn add(
    control: &Control,
    viewer: &Viewer,
    id: &str,
    form: &Values,
    mut shown: SecretsPage,
) -> Result<Response, Failure> {
    let Some(secret) = typed(form, "secret") else {
        shown.add.errors.push("Paste the new secret.".to_owned());
        return Ok(refused(&shown));
    };
    match sources::add_secret(control, &viewer.actor, id, NewSecret { secret }).await {
        Ok(saved) => Ok(said(&saved, "accepts the new secret and the ones before").on(&shown.here())),
        Err(error) => {
            // The source has one list of secrets, and the form one field.
            shown.add.name = "secrets".to_owned();
            shown.errors = field::place(field::shown(error, "secrets")?, [&mut shown.add]);
            shown.add.name = "secret".to_owned();
            Ok(refused(&shown))
        }
    }
}

/// Keeps one secret. Requests that are signed with another one are rejected from then on.
async fn keep_one(
    control: &Control,
    viewer: &Viewer,
    id: &str,
    form: &Values,
    mut shown: SecretsPage,
) -> Result<Response, Failure> {
    let Some(secret) = typed(form, "secrets") else {
        shown.only.errors.push("Paste the secret to keep.".to_owned());
        return Ok(refused(&shown));
    };
    let patch = SourcePatch { provider: None, secrets: Some(json!([secret])), config: None };
    match sources::change(control, &viewer.actor, id, patch, &unchanged_since(form.text("version"))).await {
        Ok(saved) => Ok(said(&saved, "accepts this secret alone").on(&shown.here())),
        Err(Error::Changed { .. }) => {
            shown.errors.push(
                "Someone has changed this source since you opened the page, so nothing was done. Look at the secrets that \
                 it has now, and do it again."
                    .to_owned(),
            );
            Ok(refused(&shown))
        }
        Err(error) => {
            shown.errors = field::place(field::shown(error, "secrets")?, [&mut shown.only]);
            Ok(refused(&shown))
        }
    }
}

impl SecretsPage {
    fn here(&self) -> String {
        self.frame.to(&format!("/sources/{}/secrets", self.source.id))
    }
}

fn refused(shown: &SecretsPage) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, page(shown)).into_response()
}

fn said(saved: &Saved<Source>, what: &str) -> Notice {
    let name = &saved.value.name;
    match saved.outcome {
        Outcome::Created | Outcome::Updated => Notice::done(format!("The source {name} {what}.")),
        Outcome::Later => Notice::partly(format!(
            "Saved: the source {name} {what} as soon as the edge confirms it. Until then it verifies with the secrets \
             before."
        )),
    }
}
