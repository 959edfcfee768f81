//! The page of an event: its way through every stage, what its routes decided, its deliveries with their attempts, its
//! content, and how it was verified.

use std::fmt::Write as _;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use model::delivery::DeliveryState;
use model::event::Verification;

use self::body::{Content, Tab};
use self::verdict::{RouteVerdict, Why};
use self::way::Way;
use super::commands::Commands;
use super::failure::Failure;
use super::frame::{Frame, Section, page};
use super::link;
use super::view;
use super::viewer::Viewer;
use crate::control::deliveries::Delivery;
use crate::control::events::{self, EventAttempt, EventAttempts, EventDetail};
use crate::control::page::PageRequest;
use crate::control::providers::{self, Provider};
use crate::control::routes::{self, Route, RouteFilter};
use crate::control::sources::{self, Source};
use crate::control::{Control, Error};

pub(super) mod actions;
mod body;
mod check;
mod difference;
pub(super) mod edit;
mod text;
mod verdict;
mod way;

/// The most routes of a source that the page shows.
const ROUTES_SHOWN: u32 = 100;

#[derive(Template)]
#[template(path = "dashboard/event.html")]
struct EventPage {
    frame: Frame,
    detail: EventDetail,
    why: Why,
    way: Way,
    routes: Vec<RouteVerdict>,
    more_routes: bool,
    attempts: EventAttempts,
    /// The deliveries whose attempts are shown.
    shown: usize,
    transforms: Vec<Route>,
    source: Option<Source>,
    provider: Option<Provider>,
    tab: Tab,
    tabs: Vec<(Tab, String)>,
    content: Content,
    commands: Commands,
}

/// The page.
pub(super) async fn show(
    State(control): State<Control>,
    headers: HeaderMap,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let detail = events::explain(&control, &viewer.actor, &id).await?;
    let attempts = events::attempts(&control, &viewer.actor, &detail).await?;
    let source = match sources::show(&control, &viewer.actor, &detail.event.source_id.to_string()).await {
        Ok(source) => Some(source),
        Err(Error::NotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let (found, more_routes) = match &source {
        None => (Vec::new(), false),
        Some(source) => {
            let filter = RouteFilter { source: Some(source.id.to_string()), ..RouteFilter::default() };
            let window = PageRequest { limit: Some(ROUTES_SHOWN), cursor: None };
            let page = routes::list(&control, &viewer.actor, &filter, &window).await?;
            (page.data, page.next_cursor.is_some())
        }
    };
    let tab = Tab::of(link::parameter(&viewer.uri, "tab").as_deref());
    let content = body::content(&control, &viewer, &detail, tab, headers.contains_key("tidegate-live")).await?;
    let title = detail.event.event_type.clone().unwrap_or_else(|| "Event without a type".to_owned());
    let frame = Frame::new(&viewer, title, Section::Events);
    let provider = source.as_ref().and_then(|source| providers::show(&viewer.actor, &source.provider).ok());
    let tabs =
        Tab::of_event(&detail).into_iter().map(|tab| (tab, format!("{}#content-of", frame.with("tab", tab.value()))));
    let path = format!("/v1/events/{}", detail.event.id);
    Ok(page(&EventPage {
        why: verdict::why(&detail, frame.now),
        way: way::of(&detail, &attempts, frame.now),
        routes: verdict::of_routes(&detail, &found),
        more_routes,
        shown: detail.deliveries.len().min(events::DELIVERIES_WITH_ATTEMPTS.into()),
        transforms: found.into_iter().filter(|route| route.transform.is_some()).collect(),
        tabs: tabs.collect(),
        commands: Commands::read(&frame, &path, format!("tidegate events show {}", detail.event.id)),
        attempts,
        source,
        provider,
        tab,
        content,
        frame,
        detail,
    }))
}

impl EventPage {
    fn path(&self, rest: &str) -> String {
        self.frame.to(&format!("/events/{}{rest}", self.detail.event.id))
    }

    fn body_url(&self, rest: &str) -> String {
        self.frame.call(&format!("/v1/events/{}{rest}", self.detail.event.id))
    }

    fn new_route(&self) -> String {
        self.frame.to(&format!("/routes/new?source={}", self.detail.event.source_id))
    }

    fn all_deliveries(&self) -> String {
        self.frame.to(&format!("/deliveries?event={}", self.detail.event.id))
    }

    fn source_page(&self) -> String {
        self.frame.to(&format!("/sources/{}", self.detail.event.source_id))
    }

    /// The events with the same value.
    fn same(&self, name: &str, value: &str) -> String {
        link::with(&self.frame.to("/events"), &[(name, Some(value))])
    }

    fn shown_deliveries(&self) -> &[Delivery] {
        &self.detail.deliveries[..self.shown]
    }

    fn is_open(&self, tab: &Tab) -> bool {
        self.tab == *tab
    }

    #[expect(clippy::unused_self, reason = "the template calls it on the page")]
    fn visible(&self, text: &str) -> String {
        text::visible(text)
    }

    const fn is_in_quarantine(&self) -> bool {
        matches!(self.detail.event.verification, Verification::Failed)
    }

    fn attempts_of(&self, delivery: &Delivery) -> &[EventAttempt] {
        self.attempts.of.get(&delivery.id).map_or(&[], Vec::as_slice)
    }

    fn url_of(&self, delivery: &Delivery) -> Option<&str> {
        self.attempts.urls.get(&delivery.id).map(String::as_str)
    }

    /// What a delivery sends, as far as that is known.
    fn sent_body(&self, delivery: &Delivery) -> &'static str {
        let is_of = |route: &Route| Some(route.id) == delivery.route_id;
        if self.transforms.iter().any(is_of) {
            "the result of the route's transform; it is not kept"
        } else {
            "the bytes of the event, unchanged, unless the route had a transform then"
        }
    }

    fn state_text(&self, delivery: &Delivery) -> String {
        match delivery.state {
            DeliveryState::Pending => view::sentence(&verdict::waits(delivery, self.frame.now)),
            DeliveryState::Held => view::sentence(delivery.held_reason.as_deref().unwrap_or_default()),
            DeliveryState::Dead | DeliveryState::Cancelled => {
                view::sentence(delivery.reason.as_deref().unwrap_or_default())
            }
            DeliveryState::Succeeded => String::new(),
        }
    }

    fn verification_text(&self) -> &'static str {
        match self.detail.event.verification {
            Verification::Verified => "The signature or credential was right when the request arrived.",
            Verification::Stale => "The signature was right, but its signed time was older than the tolerance.",
            Verification::Unsigned => "The source verifies nothing, so anyone who knows its URL can send.",
            Verification::Failed => "The request is not proven to be from the provider.",
            Verification::Released => "Verification failed, and someone released the event all the same.",
            Verification::Edited => "A caller made this event by editing another one.",
        }
    }

    /// The hints of the source's present secrets.
    fn secret_hints(&self) -> String {
        let mut text = String::new();
        for secret in self.source.iter().flat_map(|source| &source.secrets) {
            let _ = write!(text, "{}{}", if text.is_empty() { "" } else { ", " }, secret.hint);
        }
        text
    }
}
