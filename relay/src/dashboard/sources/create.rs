//! The form of a new source: its name, its secret, and what its provider needs.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::{Map, Value};

use super::super::failure::Failure;
use super::super::field::{self, Field, Input};
use super::super::frame::{Frame, Section, page};
use super::super::notice::Notice;
use super::super::values::Values;
use super::super::view;
use super::super::viewer::Viewer;
use super::secrets;
use crate::control::providers::{Provider, ProviderSetting};
use crate::control::sources::{self, Source, SourceSpec};
use crate::control::{Actor, Control, Error, Outcome, Saved, names, providers};

#[derive(Template)]
#[template(path = "dashboard/source_new.html")]
struct NewPage {
    frame: Frame,
    form: SourceForm,
}

/// The form of a new source.
pub(in crate::dashboard) struct SourceForm {
    pub(in crate::dashboard) provider: Provider,
    pub(in crate::dashboard) name: Field,
    /// `None` if the provider has no secret.
    pub(in crate::dashboard) secret: Option<Field>,
    /// The settings of the provider that have to be set, and the others.
    pub(in crate::dashboard) needed: Vec<Field>,
    pub(in crate::dashboard) further: Vec<Field>,
    /// What is wrong with the form as a whole.
    pub(in crate::dashboard) errors: Vec<String>,
}

impl SourceForm {
    /// An empty form, with a name that is not taken.
    pub(in crate::dashboard) fn new(control: &Control, actor: &Actor, provider: &str) -> Result<Self, Error> {
        let provider = providers::show(actor, provider)?;
        let taken: Vec<String> = names::names(control, actor)?.sources.into_iter().map(|(_, name)| name).collect();
        let name = Field::new(
            "name",
            "Name",
            "1 to 64 characters: a–z, 0–9, - and _. It cannot be changed later.",
            Input::Text,
        );
        let secret = (provider.secret != "none").then(|| secrets::field(&provider, "secrets", "Secret"));
        let (needed, further) = settings(&provider).partition(|setting| setting.required);
        let name = name.required(true).with(free(provider.id, &taken));
        Ok(Self { provider, name, secret, needed, further, errors: Vec::new() })
    }

    /// Whether the further settings are open: something was typed there, or is wrong.
    pub(in crate::dashboard) fn shows_further(&self) -> bool {
        self.further.iter().any(|field| !field.value.is_empty() || !field.errors.is_empty())
    }

    fn fields(&mut self) -> impl Iterator<Item = &mut Field> {
        let settings = self.needed.iter_mut().chain(&mut self.further);
        std::iter::once(&mut self.name).chain(&mut self.secret).chain(settings)
    }

    /// The source that was described.
    fn spec(&mut self, form: &Values) -> SourceSpec {
        self.fields().for_each(|field| field.typed(form));
        let config: Map<String, Value> = (self.needed.iter().chain(&self.further))
            .filter(|field| !field.value.is_empty())
            .filter_map(|field| Some((field.name.strip_prefix("config.")?.to_owned(), field.value.as_str().into())))
            .collect();
        let secret = self.secret.as_ref().and_then(|field| secrets::typed(form, &field.name));
        SourceSpec {
            name: Some(self.name.value.clone()).filter(|name| !name.is_empty()),
            provider: self.provider.id.to_owned(),
            secrets: secret.map(|secret| vec![secret]),
            config: Some(Value::Object(config)),
        }
    }

    /// Creates the source. If it is refused, the form says why.
    pub(in crate::dashboard) async fn create(
        &mut self,
        control: &Control,
        actor: &Actor,
        form: &Values,
    ) -> Result<Option<Saved<Source>>, Error> {
        let spec = self.spec(form);
        match sources::create(control, actor, spec).await {
            Ok(saved) => Ok(Some(saved)),
            Err(error) => {
                let errors = field::shown(error, "name")?;
                self.errors = field::place(errors, self.fields());
                Ok(None)
            }
        }
    }
}

/// The settings of a provider as fields.
pub(super) fn settings(provider: &Provider) -> impl Iterator<Item = Field> {
    provider.settings.iter().map(|setting: &ProviderSetting| {
        let default = match setting.default {
            None | Some("") => String::new(),
            Some(default) => format!(" Without it: {default}."),
        };
        let hint = format!("{}{default}", view::sentence(setting.help));
        let label = view::capital(setting.name);
        Field::new(format!("config.{}", setting.name), label, hint, Input::Text).required(setting.required)
    })
}

/// A name that no source has: the id of the provider, with a number if it is taken.
fn free(provider: &str, taken: &[String]) -> String {
    let is_free = |name: &String| !taken.contains(name);
    let numbered = (2..).map(|number| format!("{provider}-{number}"));
    std::iter::once(provider.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
}

/// The page of the form. If something is wrong with it, the status says so.
pub(super) fn render(frame: Frame, form: SourceForm) -> Response {
    page(&NewPage { frame, form })
}

/// Creates the source.
pub(in crate::dashboard) async fn create(
    State(control): State<Control>,
    viewer: Viewer,
    posted: Values,
) -> Result<Response, Failure> {
    let mut form = SourceForm::new(&control, &viewer.actor, posted.text("provider"))?;
    let frame = Frame::new(&viewer, "Add a source", Section::Sources);
    match form.create(&control, &viewer.actor, &posted).await? {
        Some(saved) => Ok(created(&saved).on(&frame.to(&format!("/sources/{}", saved.value.id)))),
        None => Ok((StatusCode::UNPROCESSABLE_ENTITY, render(frame, form)).into_response()),
    }
}

/// What a form that has saved a source says.
pub(in crate::dashboard) fn created(saved: &Saved<Source>) -> Notice {
    let name = &saved.value.name;
    match saved.outcome {
        Outcome::Created | Outcome::Updated => {
            Notice::done(format!("The source {name} is saved and active at the edge."))
        }
        Outcome::Later => Notice::partly(format!(
            "The source {name} is saved. The edge has not confirmed it yet; the relay keeps trying."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggested_name_is_not_taken() {
        let taken = ["stripe", "stripe-2"].map(str::to_owned);
        assert_eq!(free("stripe", &taken), "stripe-3");
        assert_eq!(free("github", &taken), "github");
    }
}
