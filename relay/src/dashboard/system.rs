//! The state of the deployment: the parts of this relay, replicas, queues, the edge, the database, limits and settings.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::commands::Commands;
use super::failure::Failure;
use super::frame::{Frame, Section, page};
use super::kept::Kept;
use super::view::{self, Tone};
use super::viewer::Viewer;
use crate::config::ShownSetting;
use crate::control::system::{self, PartState, ReplicaState, Sizes, Stored, System};
use crate::control::{Control, Error, Scope};

/// For how long the state is shown to everyone who views the page.
pub(crate) const FRESH: Duration = Duration::from_secs(2);

/// For how long the sizes of tables are shown: measuring them costs more.
pub(crate) const SIZES_FRESH: Duration = Duration::from_secs(60);

/// What was read last.
#[derive(Debug)]
pub(super) struct Systems {
    state: Kept<(), System>,
    sizes: Kept<(), Sizes>,
}

impl Default for Systems {
    fn default() -> Self {
        Self { state: Kept::new(1), sizes: Kept::new(1) }
    }
}

/// A limit that is met in daily work.
struct Limit {
    name: &'static str,
    value: String,
    /// The setting that changes it; empty if it is fixed.
    setting: &'static str,
}

#[derive(Template)]
#[template(path = "dashboard/system.html")]
struct SystemPage {
    frame: Frame,
    system: Arc<System>,
    /// `None` if the database does not respond.
    sizes: Option<Arc<Sizes>>,
    limits: Vec<Limit>,
    /// Empty for a viewer who may not administer the deployment.
    settings: Vec<ShownSetting>,
    commands: Commands,
}

impl SystemPage {
    fn stored(&self) -> Option<&Stored> {
        self.system.stored.as_ref()
    }

    /// The page in one sentence.
    fn headline(&self) -> String {
        let failing = self.system.parts.iter().find(|part| part.state != PartState::Working);
        match failing {
            Some(part) => format!("{}: {}", part.name, part.detail),
            None => "Every part of this relay works.".to_owned(),
        }
    }

    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn part(&self, state: &PartState) -> (Tone, &'static str) {
        match state {
            PartState::Working => (Tone::Ok, "Working"),
            PartState::Degraded => (Tone::Warn, "Degraded"),
            PartState::Failing => (Tone::Danger, "Failing"),
        }
    }

    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn replica(&self, state: &ReplicaState) -> (Tone, &'static str) {
        match state {
            ReplicaState::Active => (Tone::Ok, "Active"),
            ReplicaState::Leaving => (Tone::Held, "Leaving"),
            ReplicaState::Expired => (Tone::Danger, "Expired"),
        }
    }
}

/// The page.
pub(super) async fn show(
    State(control): State<Control>,
    State(kept): State<Arc<Systems>>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    // Also for what is kept: it was read for another viewer.
    if let Err(error) = viewer.actor.require(Scope::Read).and_then(|()| viewer.actor.require_unbound()) {
        return Err(error.into());
    }
    let state = kept.state.read((), FRESH, async || system::show(&control, &viewer.actor).await).await?.value;
    let sizes = async || system::sizes(&control, &viewer.actor).await;
    let sizes = match &state.stored {
        None => None,
        Some(_) => match kept.sizes.read((), SIZES_FRESH, sizes).await {
            // Older ones are not shown: the page says that they are at most a minute old.
            Ok(sizes) => Some(sizes.value).filter(|_| sizes.stale.is_none()),
            Err(Error::Unavailable(_)) => None,
            Err(error) => return Err(error.into()),
        },
    };
    let frame = Frame::new(&viewer, "System", Section::System);
    let settings = match viewer.may_of_deployment(Scope::Admin) {
        true => system::settings(&control, &viewer.actor)?.to_vec(),
        false => Vec::new(),
    };
    let limits = limits(&system::limits(&control, &viewer.actor)?);
    let curl = "curl \"$TIDEGATE_URL/readyz\"".to_owned();
    let commands = Commands { curl, command: "tidegate doctor".to_owned() };
    Ok(page(&SystemPage { frame, system: state, sizes, limits, settings, commands }))
}

fn limits(limits: &system::Limits) -> Vec<Limit> {
    let limit = |name, value: String, setting| Limit { name, value, setting };
    let count = |count: usize| view::number(count);
    vec![
        limit("Body of an event", view::bytes(limits.max_body_bytes), "TIDEGATE_MAX_BODY_BYTES"),
        limit("Attempts in flight", count(limits.max_in_flight), "TIDEGATE_MAX_IN_FLIGHT"),
        limit("Memory for bodies that wait", view::bytes(limits.max_waiting_bytes), "TIDEGATE_MAX_WAITING_BYTES"),
        limit(
            "Memory for large bodies in flight",
            view::bytes(limits.max_in_flight_bytes),
            "TIDEGATE_MAX_IN_FLIGHT_BYTES",
        ),
        limit(
            "Connections to the database",
            view::number(limits.database_connections),
            "TIDEGATE_DATABASE_CONNECTIONS",
        ),
        limit(
            "Requests of a token or session a minute",
            view::number(limits.requests_per_minute),
            "TIDEGATE_API_REQUESTS_PER_MINUTE",
        ),
        limit("Sessions of a token or user", view::number(limits.sessions), ""),
        limit("Length of a session", view::duration(limits.session_ms), ""),
        limit("Rows of a page of a list", view::number(limits.page), ""),
    ]
}
