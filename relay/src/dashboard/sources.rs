//! The list of sources, each with its curve of the last day, and what the pages of a source share.

use std::collections::HashMap;

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use axum::routing::get;
use shared::id::SourceId;
use time::OffsetDateTime;

use super::commands::Commands;
use super::failure::{self, Failure};
use super::frame::{Frame, Section, page};
use super::values::MAX_PASTED_BYTES;
use super::view::{self, Markup, Tone};
use super::viewer::{CUSTOMER, Viewer};
use super::{Dashboard, curve, link};
use crate::control::page::{Page, PageRequest};
use crate::control::sources::{self, EdgeState, Source};
use crate::control::stats::{self, SeveralFilter, Step};
use crate::control::{Actor, Control, Error, Precondition, providers, saved};

pub(super) mod causes;
pub(super) mod check;
pub(super) mod choose;
pub(super) mod create;
pub(super) mod delete;
pub(super) mod groups;
pub(super) mod one;
pub(super) mod options;
pub(super) mod places;
pub(super) mod sample;
pub(super) mod secrets;
pub(super) mod settings;
pub(super) mod steps;
pub(super) mod traffic;

/// The pages of sources.
pub(super) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/dashboard/sources", get(list))
        .route("/dashboard/sources/new", get(choose::show).post(create::create))
        .route("/dashboard/sources/{id}", get(one::show))
        .route("/dashboard/sources/{id}/settings", get(settings::show).post(settings::change))
        .route("/dashboard/sources/{id}/secrets", get(secrets::show).post(secrets::act))
        .route(
            "/dashboard/sources/{id}/check",
            get(check::show).post(check::check).layer(DefaultBodyLimit::max(MAX_PASTED_BYTES)),
        )
        .route("/dashboard/sources/{id}/sample", get(failure::not_found).post(sample::send))
        .route("/dashboard/sources/{id}/delete", get(delete::show).post(delete::delete))
}

const DAY_S: i64 = 86_400;
const HOUR_S: i64 = 3_600;

/// How far back the last event of a source is looked for, in days.
const LAST_EVENT_DAYS: i64 = 7;

/// A row of the list.
struct Row {
    source: Source,
    provider: String,
    href: String,
    edge: Markup,
    /// `None` if the sources of all customers are shown.
    traffic: Option<Traffic>,
}

/// What a source has received.
struct Traffic {
    spark: Markup,
    stored: i64,
    rejected: i64,
    /// To the minute; `None` if there was none within a week.
    last: Option<OffsetDateTime>,
}

#[derive(Template)]
#[template(path = "dashboard/sources.html")]
struct SourcesPage {
    frame: Frame,
    rows: Vec<Row>,
    next: Option<String>,
    newest: Option<String>,
    commands: Commands,
}

/// The page.
pub(super) async fn list(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let window = PageRequest { limit: None, cursor: link::parameter(&viewer.uri, "cursor") };
    let Page { data, next_cursor, .. } = sources::list(&control, &viewer.actor, &window).await?;
    let frame = Frame::new(&viewer, "Sources", Section::Sources);
    let mut traffic = match viewer.sees_all() {
        true => HashMap::new(),
        false => traffic_of(&control, &viewer.actor, &data, frame.now).await?,
    };
    let row = |source: Source| Row {
        provider: provider_name(&viewer.actor, &source.provider),
        href: href(&frame, &source),
        edge: edge(source.edge),
        traffic: traffic.remove(&source.id),
        source,
    };
    let rows = data.into_iter().map(row).collect();
    let next = next_cursor.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))]));
    let newest = window.cursor.map(|_| frame.without("cursor"));
    let commands = Commands::read(&frame, "/v1/sources", "tidegate source list");
    Ok(page(&SourcesPage { frame, rows, next, newest, commands }))
}

/// What each of these sources has received, by two statements for all of them.
async fn traffic_of(
    control: &Control,
    actor: &Actor,
    sources: &[Source],
    now: OffsetDateTime,
) -> Result<HashMap<SourceId, Traffic>, Error> {
    if sources.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<String> = sources.iter().map(|source| source.id.to_string()).collect();
    let filter = SeveralFilter { ids: ids.join(","), from: None, to: None, step: Step::Hour };
    let counts = stats::of_sources(control, actor, filter).await?;
    let ids: Vec<SourceId> = sources.iter().map(|source| source.id).collect();
    let last = stats::last_of_sources(control, actor, &ids, now - time::Duration::days(LAST_EVENT_DAYS)).await?;
    let of = |counts: stats::SourceStats| {
        let points = traffic::points(&counts.events, DAY_S, HOUR_S, now);
        let sum = |count: fn(&curve::Point) -> i64| points.iter().map(count).sum();
        let traffic = Traffic {
            spark: curve::spark(&points, traffic::NAMES),
            stored: sum(|point| point.good),
            rejected: sum(|point| point.bad),
            last: last.get(&counts.source_id).copied(),
        };
        (counts.source_id, traffic)
    };
    Ok(counts.sources.into_iter().map(of).collect())
}

/// The page of a source. In the list of all customers it names the customer of the source.
fn href(frame: &Frame, source: &Source) -> String {
    let path = format!("/sources/{}", source.id);
    match &source.customer {
        Some(customer) => link::with(&format!("{}{path}", super::ROOT), &[(CUSTOMER, Some(customer))]),
        None => frame.to(&path),
    }
}

/// The name of a provider; its id if the catalogue no longer has it.
pub(super) fn provider_name(actor: &Actor, id: &str) -> String {
    providers::show(actor, id).map_or_else(|_| id.to_owned(), |provider| provider.name.to_owned())
}

/// Whether the edge has the newest configuration of a source.
pub(super) fn edge(state: EdgeState) -> Markup {
    match state {
        EdgeState::Active => view::badge(Tone::Ok, "Active"),
        EdgeState::Pending => view::badge(Tone::Warn, "Not active yet"),
    }
}

/// The version of a source, as a form carries it.
fn version_of(source: &Source) -> String {
    saved::version(source.updated_at.0)
}

/// A change is made only if the source still has the version that the form carries.
fn unchanged_since(version: &str) -> Precondition {
    Precondition { versions: Some(vec![version.to_owned()]), ..Precondition::default() }
}

/// The crumb of the pages of a source: the list, and the source itself.
struct Crumb {
    name: String,
    href: String,
}

impl Crumb {
    fn of(frame: &Frame, source: &Source) -> Self {
        Self { name: source.name.clone(), href: frame.to(&format!("/sources/{}", source.id)) }
    }
}
