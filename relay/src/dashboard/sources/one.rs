//! A source: its URL, what is to be done at the provider, what arrives, and what is rejected.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::commands::Commands;
use super::super::curve::Curve;
use super::super::event_rows::{self, EventRow};
use super::super::failure::Failure;
use super::super::frame::{Frame, Section, page};
use super::super::link;
use super::super::view::{self, Markup};
use super::super::viewer::Viewer;
use super::secrets::{self, Changed};
use super::steps::{self, Step};
use super::traffic::{self, DEFAULT_RANGE, RANGES};
use super::{causes, edge};
use crate::api::input::Segment;
use crate::control::events::{self, EventFilter};
use crate::control::page::PageRequest;
use crate::control::providers::Provider;
use crate::control::rejections::{self, Rejection, RejectionFilter};
use crate::control::sources::{self, EdgeState, Samples, Source};
use crate::control::stats::{self, StatsFilter};
use crate::control::{Actor, Control, Error, providers};

const EVENTS_SHOWN: u32 = 8;
const REJECTIONS_SHOWN: u32 = 8;

#[derive(Template)]
#[template(path = "dashboard/source.html")]
struct SourcePage {
    frame: Frame,
    source: Source,
    provider: Option<Provider>,
    edge: Markup,
    /// The version of the API in which the source names an error of the edge.
    is_active: bool,
    steps: Vec<Step>,
    changed: Option<Changed>,
    events: Vec<EventRow>,
    rejections: Vec<Refused>,
    ranges: Vec<Range>,
    curve: Curve,
    copies: i64,
    samples: Samples,
    commands: Commands,
}

/// Rejections of one cause, and what to do.
pub(in crate::dashboard) struct Refused {
    pub(in crate::dashboard) rejection: Rejection,
    pub(in crate::dashboard) cause: String,
    pub(in crate::dashboard) advice: &'static str,
}

struct Range {
    name: &'static str,
    href: String,
    is_current: bool,
}

/// The page.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    viewer: Viewer,
    Segment(id): Segment,
) -> Result<Response, Failure> {
    let source = sources::show(&control, &viewer.actor, &id).await?;
    let provider = providers::show(&viewer.actor, &source.provider).ok();
    let frame = Frame::new(&viewer, source.name.clone(), Section::Sources);
    let named = link::parameter(&viewer.uri, "range");
    let range = RANGES.iter().position(|(name, ..)| named.as_deref() == Some(name)).unwrap_or(DEFAULT_RANGE);
    let events = last_events(&control, &viewer.actor, &source, EVENTS_SHOWN).await?;
    let rejections = last_rejections(&control, &viewer.actor, &source, REJECTIONS_SHOWN).await?;
    let (curve, copies) = curve(&control, &viewer.actor, &source, range, frame.now).await?;
    let ranges = RANGES.iter().enumerate().map(|(index, (name, text, ..))| Range {
        name: text,
        href: frame.with("range", name),
        is_current: index == range,
    });
    let call = format!("/v1/sources/{}", source.id);
    Ok(page(&SourcePage {
        steps: provider.as_ref().map(|provider| steps::of(provider, &source, !events.is_empty())).unwrap_or_default(),
        changed: secrets::changed(&control, &viewer.actor, &source).await?,
        samples: samples(&viewer.actor, &source)?,
        ranges: ranges.collect(),
        commands: Commands::read(&frame, &call, format!("tidegate source get {}", source.name)),
        edge: edge(source.edge),
        is_active: source.edge == EdgeState::Active,
        frame,
        provider,
        events,
        rejections,
        curve,
        copies,
        source,
    }))
}

/// The samples that can be sent. A provider that the catalogue no longer has, has none.
pub(in crate::dashboard) fn samples(actor: &Actor, source: &Source) -> Result<Samples, Error> {
    match sources::samples(actor, source) {
        Err(Error::NotFound(_)) => {
            Ok(Samples { types: Vec::new(), refused: Some("the catalogue no longer has this provider".to_owned()) })
        }
        found => found,
    }
}

/// The last events of a source.
pub(in crate::dashboard) async fn last_events(
    control: &Control,
    actor: &Actor,
    source: &Source,
    limit: u32,
) -> Result<Vec<EventRow>, Error> {
    let filter = EventFilter { source: Some(source.id.to_string()), ..EventFilter::default() };
    let newest = events::list(control, actor, filter, &PageRequest { limit: Some(limit), cursor: None }).await?;
    event_rows::of(control, actor, newest.data).await
}

/// The last rejections of a source.
pub(in crate::dashboard) async fn last_rejections(
    control: &Control,
    actor: &Actor,
    source: &Source,
    limit: u32,
) -> Result<Vec<Refused>, Error> {
    let filter = RejectionFilter { source: Some(source.id.to_string()), ..RejectionFilter::default() };
    let found = rejections::list(control, actor, &filter, &PageRequest { limit: Some(limit), cursor: None }).await?;
    let refused = |rejection: Rejection| Refused {
        cause: view::capital(&rejection.cause),
        advice: causes::advice(&rejection.cause),
        rejection,
    };
    Ok(found.data.into_iter().map(refused).collect())
}

async fn curve(
    control: &Control,
    actor: &Actor,
    source: &Source,
    range: usize,
    now: OffsetDateTime,
) -> Result<(Curve, i64), Error> {
    let (_, _, seconds, step, step_s) = RANGES[range];
    let rfc3339 = |at: OffsetDateTime| at.format(&Rfc3339).ok();
    let filter = StatsFilter {
        source: Some(source.id.to_string()),
        destination: None,
        from: rfc3339(now - time::Duration::seconds(seconds)),
        to: rfc3339(now),
        step,
    };
    let stats = stats::show(control, actor, &filter).await?;
    let copies = stats.events.iter().map(|row| row.copies).sum();
    Ok((Curve::new(&traffic::points(&stats.events, seconds, step_s, now), traffic::NAMES), copies))
}
