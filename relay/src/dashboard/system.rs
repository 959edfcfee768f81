//! The state of the deployment: the parts of this relay, replicas, queues, the edge, the database, limits and settings.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::commands::Commands;
use super::failure::Failure;
use super::frame::{Frame, Section, page};
use super::view::{self, Tone};
use super::viewer::Viewer;
use crate::config::ShownSetting;
use crate::control::system::{self, PartState, ReplicaState, Sizes, Stored, System};
use crate::control::{Control, Error, Scope};

/// For how long the state is shown to everyone who views the page.
pub(crate) const FRESH: Duration = Duration::from_secs(2);

/// For how long the sizes of tables are shown: measuring them costs more.
pub(crate) const SIZES_FRESH: Duration = Duration::from_secs(60);

/// What was read last, and when.
#[derive(Debug, Default)]
pub(super) struct Kept {
    state: Mutex<Option<(Instant, Arc<System>)>>,
    sizes: Mutex<Option<(Instant, Arc<Sizes>)>>,
}

fn kept<T>(kept: &Mutex<Option<(Instant, Arc<T>)>>, fresh: Duration) -> Option<Arc<T>> {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.as_ref().filter(|(at, _)| at.elapsed() < fresh).map(|(_, value)| Arc::clone(value))
}

fn keep<T>(kept: &Mutex<Option<(Instant, Arc<T>)>>, value: T) -> Arc<T> {
    let value = Arc::new(value);
    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), Arc::clone(&value)));
    value
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
    State(kept_before): State<Arc<Kept>>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    // Also for what is kept: it was read for another viewer.
    if let Err(error) = viewer.actor.require(Scope::Read).and_then(|()| viewer.actor.require_unbound()) {
        return Err(error.into());
    }
    let state = match kept(&kept_before.state, FRESH) {
        Some(state) => state,
        None => keep(&kept_before.state, system::show(&control, &viewer.actor).await?),
    };
    let sizes = match kept(&kept_before.sizes, SIZES_FRESH) {
        Some(sizes) => Some(sizes),
        None if state.stored.is_none() => None,
        None => match system::sizes(&control, &viewer.actor).await {
            Ok(sizes) => Some(keep(&kept_before.sizes, sizes)),
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
