//! What every page has around its content: the navigation, the search box, who is signed in, and the last notice.

use askama::Template;
use axum::response::{Html, IntoResponse as _, Response};
use time::OffsetDateTime;

use super::notice::Notice;
use super::theme::Theme;
use super::viewer::{CUSTOMER, Viewer};
use super::{assets, link};
use crate::control::actor::Who;
use crate::control::{Error, Scope};

/// The sections of the dashboard, in the order of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Events,
    Destinations,
    Flow,
}

impl Section {
    /// What people work with every day.
    const DAILY: [Self; 3] = [Self::Overview, Self::Events, Self::Destinations];
    /// What is looked at now and then.
    const FURTHER: [Self; 1] = [Self::Flow];

    const fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Events => "Events",
            Self::Destinations => "Destinations",
            Self::Flow => "Flow",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Overview => "",
            Self::Events => "/events",
            Self::Destinations => "/destinations",
            Self::Flow => "/flow",
        }
    }

    /// The path of its icon in a square of 16 units.
    const fn icon(self) -> &'static str {
        match self {
            Self::Overview => "M2 9.5h3l2-6 3 9 1.5-3H14",
            Self::Events => "M2.5 4h11M2.5 8h11M2.5 12h7",
            Self::Destinations => "M2 8h8M7 5l3 3-3 3M13 3v10",
            Self::Flow => "M2 4h3c4 0 2 8 6 8h3M2 12h3c1.5 0 2-1 2.6-2.4M11 4h3M11 4c-1.5 0-2 1-2.6 2.4",
        }
    }
}

/// An entry of the navigation.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) href: String,
    pub(super) icon: &'static str,
    pub(super) is_current: bool,
}

/// What every page has around its content.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) title: String,
    pub(super) viewer: Viewer,
    pub(super) section: Option<Section>,
    /// The time at which the page is rendered.
    pub(super) now: OffsetDateTime,
}

impl Frame {
    pub(super) fn new(viewer: &Viewer, title: impl Into<String>, section: impl Into<Option<Section>>) -> Self {
        Self { title: title.into(), viewer: viewer.clone(), section: section.into(), now: OffsetDateTime::now_utc() }
    }

    /// The navigation.
    pub(super) fn daily(&self) -> Vec<Entry> {
        self.entries(&Section::DAILY)
    }

    pub(super) fn further(&self) -> Vec<Entry> {
        self.entries(&Section::FURTHER)
    }

    fn entries(&self, sections: &[Section]) -> Vec<Entry> {
        let entry = |section: &Section| Entry {
            name: section.name(),
            href: self.to(section.path()),
            icon: section.icon(),
            is_current: self.section == Some(*section),
        };
        sections.iter().map(entry).collect()
    }

    /// The URL of a page of the dashboard, for the same customer. `path` begins with a slash, or is empty.
    pub(super) fn to(&self, path: &str) -> String {
        link::with(&format!("{}{path}", super::ROOT), &[(CUSTOMER, self.viewer.customer.as_deref())])
    }

    /// The URL of a call of the REST API, for the same customer.
    pub(super) fn call(&self, path: &str) -> String {
        link::with(path, &[(CUSTOMER, self.viewer.customer.as_deref())])
    }

    /// The URL of this page with one query parameter changed.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        link::changed(&self.viewer.uri, &[(name, Some(value)), ("cursor", None)])
    }

    /// The URL of this page without a query parameter.
    pub(super) fn without(&self, name: &str) -> String {
        link::changed(&self.viewer.uri, &[(name, None), ("cursor", None)])
    }

    /// The URL of this page.
    pub(super) fn here(&self) -> String {
        self.viewer.uri.path_and_query().map_or_else(String::new, |page| page.as_str().to_owned())
    }

    #[expect(clippy::unused_self, reason = "templates call it on the frame")]
    pub(super) fn asset(&self, name: &str) -> &'static str {
        assets::path(name)
    }

    pub(super) fn notice(&self) -> Option<&Notice> {
        self.viewer.notice.as_ref()
    }

    pub(super) fn customer(&self) -> Option<&str> {
        self.viewer.customer.as_deref()
    }

    /// The customer that the session is bound to.
    pub(super) fn bound_to(&self) -> Option<&str> {
        self.viewer.actor.bound_to().map(|owner| owner.name.as_str())
    }

    /// Who is signed in.
    pub(super) fn who(&self) -> &str {
        match self.viewer.actor.who() {
            Who::Root => "root",
            Who::Token { name, .. } => name,
            Who::Session(session) => session.name.as_deref().unwrap_or(&session.subject),
        }
    }

    pub(super) fn theme(&self) -> &'static str {
        self.viewer.theme.name()
    }

    pub(super) fn themes(&self) -> [(Theme, bool); 3] {
        [Theme::System, Theme::Light, Theme::Dark].map(|theme| (theme, self.viewer.theme == theme))
    }

    pub(super) fn may_write(&self) -> bool {
        self.viewer.may(Scope::Write)
    }

    pub(super) fn may_replay(&self) -> bool {
        self.viewer.may(Scope::Replay)
    }

    pub(super) fn may_see_secrets(&self) -> bool {
        self.viewer.may(Scope::Secrets)
    }

    pub(super) fn may_read_bodies(&self) -> bool {
        self.viewer.may(Scope::Bodies)
    }

    pub(super) fn may_administer(&self) -> bool {
        self.viewer.may(Scope::Admin)
    }
}

/// Renders a page.
pub(super) fn page(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => super::failure::Failure::from(Error::Internal(error.to_string())).into_response(),
    }
}
