//! The first page: what happens now, what is wrong now, the curves, and the last events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use shared::id::CustomerId;
use time::OffsetDateTime;

use super::alerts::{self, Alert};
use super::curve::{Curve, Names, Point};
use super::event_rows::{self, EventRow};
use super::failure::Failure;
use super::frame::{Frame, Section, page};
use super::kept::{Kept, Shown};
use super::viewer::Viewer;
use super::{link, view};
use crate::control::events::EventFilter;
use crate::control::overview::{self, OverviewFigures};
use crate::control::page::PageRequest;
use crate::control::stats::{self, Stats, StatsFilter, Step};
use crate::control::{Control, Error, Scope};

/// For how long what was read is shown to everyone who views the page: twenty viewers cost no more than one.
pub(crate) const FRESH: Duration = Duration::from_secs(2);

/// The most customers and ranges of which the last figures are kept, for when the database does not respond.
pub(crate) const MOST_KEPT: usize = 256;

/// The number of alerts and of events on the page.
const ALERTS_SHOWN: usize = 3;
const EVENTS_SHOWN: u32 = 8;

/// The ranges of the curves: their name, their length in seconds, and their step.
const RANGES: [(&str, &str, i64, Step); 4] = [
    ("1h", "1 hour", 3_600, Step::Minute),
    ("24h", "24 hours", 86_400, Step::Hour),
    ("7d", "7 days", 7 * 86_400, Step::Hour),
    ("30d", "30 days", 30 * 86_400, Step::Day),
];
const DEFAULT_RANGE: usize = 0;

const EVENTS: Names = Names { good: "stored", bad: "rejected" };
const DELIVERIES: Names = Names { good: "succeeded", bad: "failed attempts" };

/// What was read for the page.
#[derive(Debug)]
struct Loaded {
    read_at: OffsetDateTime,
    figures: OverviewFigures,
    alerts: Vec<Alert>,
    stats: Stats,
    events: Vec<EventRow>,
}

/// The last figures of each customer and range.
#[derive(Debug)]
pub(super) struct Overviews(Kept<(CustomerId, usize), Loaded>);

impl Default for Overviews {
    fn default() -> Self {
        Self(Kept::new(MOST_KEPT))
    }
}

#[derive(Template)]
#[template(path = "dashboard/overview.html")]
struct OverviewPage {
    frame: Frame,
    headline: String,
    loaded: Arc<Loaded>,
    /// How old the figures are, if the database does not respond.
    stale: Option<String>,
    ranges: Vec<Range>,
    incoming: Curve,
    outgoing: Curve,
    /// The steps of the set-up: what it is, where, and whether it is done. Empty once all are done.
    steps: Vec<SetUp>,
}

struct Range {
    name: &'static str,
    href: String,
    is_current: bool,
}

struct SetUp {
    text: &'static str,
    href: String,
    is_done: bool,
}

impl OverviewPage {
    fn shown_alerts(&self) -> &[Alert] {
        &self.loaded.alerts[..self.loaded.alerts.len().min(ALERTS_SHOWN)]
    }
}

/// The page.
pub(super) async fn show(
    State(control): State<Control>,
    State(overviews): State<Arc<Overviews>>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let named = link::parameter(&viewer.uri, "range");
    let range = RANGES.iter().position(|(name, ..)| named.as_deref() == Some(name)).unwrap_or(DEFAULT_RANGE);
    // Also for what is kept: it was read for another viewer.
    viewer.actor.require(Scope::Read)?;
    let key = (viewer.actor.customer()?, range);
    let read = async || {
        let loaded = load(&control, &viewer, range).await?;
        viewer.alerts.put(key.0, loaded.alerts.clone());
        Ok(loaded)
    };
    let Shown { value: loaded, stale } = overviews.0.read(key, FRESH, read).await?;
    let frame = Frame::new(&viewer, "Overview", Section::Overview);
    let ranges = RANGES.iter().enumerate().map(|(index, (name, text, ..))| Range {
        name: text,
        href: frame.with("range", name),
        is_current: index == range,
    });
    let (incoming, outgoing) = curves(&loaded.stats, range, loaded.read_at);
    Ok(page(&OverviewPage {
        headline: headline(&loaded.figures, &loaded.alerts),
        ranges: ranges.collect(),
        steps: steps(&frame, &loaded),
        incoming,
        outgoing,
        frame,
        loaded,
        stale: stale.map(view::age),
    }))
}

async fn load(control: &Control, viewer: &Viewer, range: usize) -> Result<Loaded, Error> {
    let (_, _, seconds, step) = RANGES[range];
    let now = OffsetDateTime::now_utc();
    let from = now - time::Duration::seconds(seconds);
    let filter = StatsFilter { from: Some(rfc3339(from)), to: Some(rfc3339(now)), step, ..StatsFilter::default() };
    let newest = PageRequest { limit: Some(EVENTS_SHOWN), cursor: None };
    let found = overview::show(control, &viewer.actor).await?;
    let stats = stats::show(control, &viewer.actor, &filter).await?;
    let events = crate::control::events::list(control, &viewer.actor, EventFilter::default(), &newest).await?;
    let events = event_rows::of(control, &viewer.actor, events.data).await?;
    let alerts = found.findings.into_iter().map(alerts::of).collect();
    Ok(Loaded { read_at: now, figures: found.figures, alerts, stats, events })
}

fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

/// The page in one sentence.
fn headline(figures: &OverviewFigures, alerts: &[Alert]) -> String {
    if let Some(worst) = alerts.first() {
        let others = i64::try_from(alerts.len() - 1).unwrap_or(i64::MAX);
        let more = match others {
            0 => String::new(),
            others => format!(" {} more.", view::count(others, "alert", "alerts")),
        };
        return format!("{}{more}", worst.text);
    }
    match (figures.delivered_within_p95_ms, figures.pending) {
        (Some(ms), _) => format!("All is well: 95 % of deliveries arrive within {}.", view::duration(ms)),
        (None, 0) => "Nothing is wrong, and nothing waits.".to_owned(),
        (None, pending) => {
            format!("Nothing is wrong; {} on the way.", view::count(pending, "delivery is", "deliveries are"))
        }
    }
}

fn steps(frame: &Frame, loaded: &Loaded) -> Vec<SetUp> {
    let step = |text, path: &str, is_done| SetUp { text, href: frame.to(path), is_done };
    let figures = &loaded.figures;
    let steps = vec![
        step("Add a source: a provider that sends webhooks", "/sources/new", figures.sources > 0),
        step("Add a destination: where they go", "/destinations/new", figures.destinations > 0),
        step("Connect them with a route", "/routes/new", figures.routes > 0),
        step("See the first event arrive", "/events", !loaded.events.is_empty()),
    ];
    if steps.iter().all(|step| step.is_done) { Vec::new() } else { steps }
}

/// The curves of events and of deliveries, with a bar for each step also where nothing happened.
fn curves(stats: &Stats, range: usize, now: OffsetDateTime) -> (Curve, Curve) {
    let (_, _, seconds, step) = RANGES[range];
    let step_s = match step {
        Step::Minute => 60,
        Step::Hour => 3_600,
        Step::Day => 86_400,
    };
    let first = (now.unix_timestamp() - seconds).div_euclid(step_s) + 1;
    let last = now.unix_timestamp().div_euclid(step_s);
    let events: HashMap<i64, (i64, i64)> =
        stats.events.iter().map(|row| (row.at.0.unix_timestamp(), (row.stored, row.rejected))).collect();
    let deliveries: HashMap<i64, (i64, i64)> =
        stats.deliveries.iter().map(|row| (row.at.0.unix_timestamp(), (row.succeeded, row.failed_attempts))).collect();
    let points = |counts: &HashMap<i64, (i64, i64)>| -> Vec<Point> {
        let point = |index: i64| {
            let (good, bad) = counts.get(&(index * step_s)).copied().unwrap_or_default();
            let at = OffsetDateTime::from_unix_timestamp(index * step_s).unwrap_or(now);
            Point { at, good, bad }
        };
        (first..=last).map(point).collect()
    };
    (Curve::new(&points(&events), EVENTS), Curve::new(&points(&deliveries), DELIVERIES))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::control::stats::EventStats;
    use crate::control::time::Timestamp;

    #[test]
    fn a_curve_has_a_bar_for_each_step_up_to_now() {
        let now = datetime!(2026-01-31 08:00:30 UTC);
        let at = |minute| Timestamp(now - time::Duration::minutes(minute) - time::Duration::seconds(30));
        let stats = Stats {
            step: Step::Minute,
            from: at(60),
            to: at(0),
            events: vec![EventStats { at: at(0), stored: 3, copies: 0, rejected: 1 }],
            deliveries: Vec::new(),
        };
        let (incoming, outgoing) = curves(&stats, DEFAULT_RANGE, now);
        assert_eq!(incoming.drawing.to_string().matches("<title>").count(), 60);
        assert_eq!((incoming.good, incoming.bad, outgoing.good), (3, 1, 0));
        assert_eq!(incoming.from, Some(datetime!(2026-01-31 07:01 UTC)));
    }
}
