//! Choosing the provider of a new source.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::failure::Failure;
use super::super::frame::{Frame, Section, page};
use super::super::link;
use super::super::view;
use super::super::viewer::Viewer;
use super::create::{self, SourceForm};
use super::groups::{Group, groups};
use crate::control::{Control, Error, providers};

#[derive(Template)]
#[template(path = "dashboard/source_providers.html")]
struct ProvidersPage {
    frame: Frame,
    choice: Choice,
}

/// The providers to choose from.
pub(in crate::dashboard) struct Choice {
    /// The path of the page, which takes the chosen provider as its parameter.
    pub(in crate::dashboard) path: &'static str,
    /// The text that was searched for.
    pub(in crate::dashboard) text: String,
    pub(in crate::dashboard) groups: Vec<Group>,
}

impl Choice {
    /// The providers that match the search of this page.
    pub(in crate::dashboard) fn of(viewer: &Viewer, path: &'static str) -> Result<Self, Error> {
        let text = link::parameter(&viewer.uri, "q").unwrap_or_default();
        let groups = groups(providers::list(&viewer.actor)?.data, text.trim());
        Ok(Self { path, text, groups })
    }

    /// The path of the page, for its form.
    pub(in crate::dashboard) fn path_of(&self) -> String {
        format!("{}{}", super::super::ROOT, self.path)
    }

    /// The page with a provider chosen.
    pub(in crate::dashboard) fn choose(&self, frame: &Frame, id: &str) -> String {
        link::with(&frame.to(self.path), &[("provider", Some(id))])
    }

    /// The page with all providers.
    pub(in crate::dashboard) fn all(&self, frame: &Frame) -> String {
        frame.to(self.path)
    }
}

/// The page: the providers, or the form of the one that the URL names.
pub(in crate::dashboard) async fn show(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let frame = Frame::new(&viewer, "Add a source", Section::Sources);
    let Some(id) = link::parameter(&viewer.uri, "provider") else {
        let choice = Choice::of(&viewer, "/sources/new")?;
        return Ok(page(&ProvidersPage { frame, choice }));
    };
    let form = SourceForm::new(&control, &viewer.actor, &id)?;
    Ok(create::render(frame, form))
}
