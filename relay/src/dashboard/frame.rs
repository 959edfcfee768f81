//! What every page has around its content: the navigation, the search box, who is signed in, and the last notice.

use askama::Template;
use axum::response::{Html, IntoResponse as _, Response};
use time::OffsetDateTime;

use super::notice::Notice;
use super::switcher::Switcher;
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
    Deliveries,
    Alerts,
    Sources,
    Destinations,
    Operations,
    Flow,
    Quarantine,
    System,
    Settings,
}

impl Section {
    /// What people work with every day.
    const DAILY: [Self; 7] = [
        Self::Overview,
        Self::Events,
        Self::Deliveries,
        Self::Alerts,
        Self::Sources,
        Self::Destinations,
        Self::Operations,
    ];
    /// What is looked at now and then.
    const FURTHER: [Self; 4] = [Self::Flow, Self::Quarantine, Self::System, Self::Settings];

    /// Whether the viewer may see anything of it.
    fn is_for(self, viewer: &Viewer) -> bool {
        self != Self::System || viewer.may_of_deployment(Scope::Read)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Events => "Events",
            Self::Alerts => "Alerts",
            Self::System => "System",
            Self::Settings => "Settings",
            Self::Deliveries => "Deliveries",
            Self::Operations => "Operations",
            Self::Quarantine => "Quarantine",
            Self::Sources => "Sources",
            Self::Destinations => "Destinations",
            Self::Flow => "Flow",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Overview => "",
            Self::Events => "/events",
            Self::Alerts => "/alerts",
            Self::System => "/system",
            Self::Settings => "/settings",
            Self::Deliveries => "/deliveries",
            Self::Operations => "/operations",
            Self::Quarantine => "/quarantine",
            Self::Sources => "/sources",
            Self::Destinations => "/destinations",
            Self::Flow => "/flow",
        }
    }

    /// The path of its icon in a square of 16 units.
    const fn icon(self) -> &'static str {
        match self {
            Self::Overview => "M2 9.5h3l2-6 3 9 1.5-3H14",
            Self::Events => "M2.5 4h11M2.5 8h11M2.5 12h7",
            Self::Alerts => "M8 2.5 14.5 13.5h-13zM8 6.5v3.2M8 11.6v.1",
            Self::System => "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.1M5 11h.1",
            Self::Settings => "M2.5 4.5h6M12.5 4.5h1M10.5 2.8v3.4M2.5 11.5h1M7.5 11.5h6M5.5 9.8v3.4",
            Self::Deliveries => "M2 8h9M8 4.5 11.5 8 8 11.5M14 3v10",
            Self::Operations => "M13.5 8A5.5 5.5 0 1 1 12 4.2M12 1.5v3H9",
            Self::Quarantine => "M8 1.8 13 4v4c0 3-2 5-5 6.2C5 13 3 11 3 8V4zM8 5.5v3M8 10.8v.1",
            Self::Sources => "M8 2v7.5M5 6.5l3 3 3-3M2.5 11.5v2h11v-2",
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
    /// How many need someone; `None` if there are none.
    pub(super) count: Option<usize>,
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
            count: self.count_of(*section),
        };
        sections.iter().filter(|section| section.is_for(&self.viewer)).map(entry).collect()
    }

    fn count_of(&self, section: Section) -> Option<usize> {
        self.viewer.alert_count().filter(|count| section == Section::Alerts && *count > 0)
    }

    /// The choice of a customer; `None` if the viewer has no choice.
    pub(super) fn switcher(&self) -> Option<Switcher> {
        if !self.viewer.may_of_deployment(Scope::Read) {
            return None;
        }
        let path = format!("{}{}", super::ROOT, self.section.map_or("", Section::path));
        Some(Switcher::new(path, self.customer(), &self.viewer.customers))
    }

    /// The URL of a page of the dashboard, for the same customer. `path` begins with a slash, or is empty.
    pub(super) fn to(&self, path: &str) -> String {
        self.viewer.to(path)
    }

    /// The URL of a page about an object of this customer; without one, for the same customer.
    pub(super) fn to_of(&self, path: &str, customer: Option<&str>) -> String {
        link::with(&format!("{}{path}", super::ROOT), &[(CUSTOMER, customer.or(self.viewer.customer.as_deref()))])
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
