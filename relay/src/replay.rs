//! Replays: jobs that make deliveries again.
//!
//! A replay takes events, or settled deliveries where its filter names a state, oldest first and in chunks. Each chunk
//! makes its deliveries and moves the cursor in one transaction, so a replay goes on after a crash where it was, and no
//! chunk is made twice. What it takes is fixed when it is made: nothing that comes later is part of it.
//!
//! Deliveries of a replay carry the `webhook-id` of their event like the first ones did. They are routed anew: the
//! filters and transforms of today apply, unless the replay names a destination of its own.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::header::HeaderList;
use shared::id::{CustomerId, DestinationId, EventId, ReplayId, SourceId};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::configuration::{self, Rate, Snapshot};
use crate::recheck::Rechecks;
use crate::route::{self, EventView, Verdict};
use crate::store::partitions::with_partitions;
use crate::store::replays::{self, Advanced, Chunk, DeliveryRow, EventRow, Made, ReplayRow, Selection};
use crate::{App, mint};

/// The most rows of one chunk.
const CHUNK: i64 = 1_000;

/// How often replays are looked for that another replica has made, or has left unfinished.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How soon a replay is taken up again that could not go on.
const AGAIN: Duration = Duration::from_secs(1);

/// What a replay takes, with ids; stored with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<DestinationId>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// With a state, the last deliveries in that state are taken; without one, the events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The error class of the last attempt; only with a state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Received at or after this time, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// Received before this time, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_ms: Option<u64>,
    /// With it, the events in quarantine are taken in place of all others, and are released by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// Of the events in quarantine only those that verify by what their source has now; the others stay there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verifies_now: bool,
}

/// The one verification that can be asked for: events whose signature failed are never replayed with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReplayFilterVerification)]
pub enum Verification {
    Failed,
}

/// The states of deliveries that can be replayed. What is pending or held is still to be delivered anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReplayFilterState)]
pub enum State {
    Succeeded,
    Dead,
    Cancelled,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a new replay is made of; the names in it have been looked up already.
#[derive(Debug, Clone)]
pub struct New {
    pub customer_id: CustomerId,
    pub filter: Filter,
    /// Deliver here in place of the original destinations.
    pub destination: Option<DestinationId>,
    pub rate: Option<Rate>,
}

/// How many events or deliveries a replay would take, now.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn plan(app: &App, new: &New) -> Result<i64, sqlx::Error> {
    let until = mint::uuid();
    count(app, new, until).await
}

/// Makes a replay and wakes the worker.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn create(app: &App, new: &New) -> Result<ReplayRow, sqlx::Error> {
    let until = mint::uuid();
    let (rate_limit, rate_per) = match new.rate {
        None => (None, None),
        Some(rate) => (i32::try_from(rate.limit.get()).ok(), Some(rate.per_name().to_owned())),
    };
    let row = ReplayRow {
        id: mint::uuid(),
        customer_id: new.customer_id.uuid(),
        filter: serde_json::to_value(&new.filter).unwrap_or_default(),
        destination_id: new.destination.map(DestinationId::uuid),
        rate_limit,
        rate_per,
        state: "running".to_owned(),
        matched: count(app, new, until).await?,
        until_id: until,
        cursor_id: None,
        next_at: time::OffsetDateTime::now_utc(),
        processed: 0,
        created: 0,
        skipped: 0,
        succeeded: 0,
        dead: 0,
        cancelled: 0,
        error: None,
        created_at: time::OffsetDateTime::now_utc(),
        finished_at: None,
    };
    replays::insert(&app.pool, &row).await?;
    app.replays_pending.notify_one();
    Ok(row)
}

/// Ends a replay and cancels what it has made and what is not delivered yet.
///
/// # Errors
/// Where the database cannot be asked; it can be called again.
pub async fn cancel(app: &App, id: ReplayId) -> Result<(), sqlx::Error> {
    replays::cancel(&app.pool, id.uuid()).await?;
    while with_partitions!(&app.pool, replays::cancel_pending(&app.pool, id.uuid(), 5_000))? > 0 {}
    app.engine.replay_cancelled(id);
    Ok(())
}

async fn count(app: &App, new: &New, until: Uuid) -> Result<i64, sqlx::Error> {
    let selection = selection(&new.filter, new.customer_id.uuid(), until);
    match new.filter.state {
        None => replays::count_events(&app.pool, &selection).await,
        Some(_) => replays::count_deliveries(&app.pool, &selection, until).await,
    }
}

fn selection(filter: &Filter, customer_id: Uuid, until: Uuid) -> Selection {
    let floor = shared::id::uuid_v7_floor;
    Selection {
        customer_id,
        source_id: filter.source.map(SourceId::uuid),
        destination_id: filter.destination.map(DestinationId::uuid),
        event_type: filter.event_type.clone(),
        state: filter.state.map(|state| state.as_str().to_owned()),
        error: filter.error.clone(),
        failed: filter.verification.is_some(),
        from_event: filter.after_ms.map_or(Uuid::nil(), floor),
        until_event: filter.before_ms.map_or(until, floor).min(until),
    }
}

/// Works off replays until `stop`.
pub async fn run(app: App, stop: CancellationToken) {
    loop {
        let mut pause = LOOK_EVERY;
        match replays::running(&app.pool).await {
            Ok(rows) => {
                for row in rows {
                    if stop.is_cancelled() {
                        return;
                    }
                    let wait = Duration::from_millis(mint::unix_ms(row.next_at).saturating_sub(mint::now_ms()));
                    pause = pause.min(if wait.is_zero() { turn(&app, row).await } else { wait });
                }
            }
            Err(error) => tracing::warn!(error = %error, "cannot look for replays; trying again"),
        }
        tokio::select! {
            () = app.replays_pending.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One chunk of one replay; says how long it is until the next.
async fn turn(app: &App, row: ReplayRow) -> Duration {
    let replay = ReplayId::from_uuid(row.id);
    match advance(app, &row).await {
        Ok(Turn::Moved { pause }) => pause,
        Ok(Turn::Elsewhere) => AGAIN,
        Ok(Turn::Completed) => {
            tracing::info!(%replay, "replay completed");
            LOOK_EVERY
        }
        Err(Problem::Database(error)) => {
            tracing::warn!(%replay, error = %error, "cannot go on with the replay; trying again");
            AGAIN
        }
        Err(Problem::Broken(problem)) => {
            tracing::error!(%replay, problem, "the replay cannot go on");
            let _ = replays::complete(&app.pool, row.id, Some(&problem)).await;
            LOOK_EVERY
        }
    }
}

enum Turn {
    Moved {
        pause: Duration,
    },
    /// Another replica is at it, or it has been cancelled.
    Elsewhere,
    Completed,
}

/// Makes the next chunk; anew where the configuration changes before it is stored, so that what is replayed is never
/// routed by an old one.
async fn advance(app: &App, row: &ReplayRow) -> Result<Turn, Problem> {
    let (limit, pause) = chunk_of(configuration::rate(row.rate_limit, row.rate_per.as_deref()));
    let mut snapshot = app.configuration.refresh().await?;
    loop {
        let chunk = chunk(app, row, limit, &snapshot).await?;
        if chunk.cursor.is_none() {
            replays::complete(&app.pool, row.id, None).await?;
            return Ok(Turn::Completed);
        }
        match replays::advance(&app.pool, row, snapshot.version, &chunk, pause).await? {
            Advanced::StaleConfiguration => snapshot = app.configuration.refresh().await?,
            Advanced::Elsewhere => return Ok(Turn::Elsewhere),
            Advanced::Moved => {
                let destinations: BTreeSet<Uuid> = chunk.made.iter().map(|made| made.destination_id).collect();
                for destination in destinations {
                    app.engine.look(DestinationId::from_uuid(destination));
                }
                return Ok(Turn::Moved { pause });
            }
        }
    }
}

/// How many rows to take at a time, and how long to wait after them, so that a replay keeps its rate.
fn chunk_of(rate: Option<Rate>) -> (i64, Duration) {
    let Some(rate) = rate else { return (CHUNK, Duration::ZERO) };
    let per_second = f64::from(rate.limit.get()) / rate.per.as_secs_f64();
    // A quarter of a second's worth at a time, so that a rate is not a burst every second.
    #[expect(clippy::cast_possible_truncation, reason = "capped at the size of a chunk")]
    let rows = ((per_second / 4.0) as i64).clamp(1, CHUNK);
    #[expect(clippy::cast_precision_loss, reason = "at most the size of a chunk")]
    (rows, Duration::from_secs_f64(rows as f64 / per_second))
}

enum Problem {
    Database(sqlx::Error),
    Broken(String),
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

async fn chunk(app: &App, row: &ReplayRow, limit: i64, snapshot: &Snapshot) -> Result<Chunk, Problem> {
    let filter: Filter =
        serde_json::from_value(row.filter.clone()).map_err(|error| Problem::Broken(format!("its filter: {error}")))?;
    let selection = selection(&filter, row.customer_id, row.until_id);
    let first_with_body = app.config.retention.first_with_body(mint::now_ms());
    if filter.state.is_some() {
        let rows = replays::next_deliveries(&app.pool, &selection, row.until_id, row.cursor_id, limit).await?;
        let whole = rows.iter().filter(|delivery| delivery.body && delivery.event_id >= first_with_body);
        let skipped = rows.len() - whole.clone().count();
        let made = whole.filter_map(|delivery| again(delivery, row.destination_id, snapshot)).collect();
        let cursor = rows.last().map(|row| row.id);
        return Ok(Chunk { cursor, processed: rows.len(), skipped, made, released: Vec::new() });
    }
    let rows = replays::next_events(&app.pool, &selection, row.cursor_id, limit).await?;
    let (mut made, mut released, mut skipped) = (Vec::new(), Vec::new(), 0);
    let mut rechecks = Rechecks::default();
    for event in &rows {
        let Some(body) = event.body.as_deref().filter(|_| event.id >= first_with_body) else {
            skipped += 1;
            continue;
        };
        let headers: HeaderList = serde_json::from_value(event.headers.clone()).unwrap_or_default();
        let event = view(event, &headers, body, snapshot);
        if filter.verifies_now && !rechecks.verifies(app, CustomerId::from_uuid(row.customer_id), &event).await? {
            continue;
        }
        if filter.verification.is_some() {
            released.push(event.id.uuid());
        }
        let targets = match row.destination_id {
            Some(destination) => vec![(destination, route_between(snapshot, event.source_id.uuid(), destination))],
            None => routed(app, snapshot, &event, filter.destination).await,
        };
        made.extend(targets.into_iter().map(|(destination_id, route_id)| Made {
            id: mint::uuid(),
            destination_id,
            event_id: event.id.uuid(),
            source_id: event.source_id.uuid(),
            route_id,
        }));
    }
    Ok(Chunk { cursor: rows.last().map(|row| row.id), processed: rows.len(), skipped, made, released })
}

/// The delivery that is made for a settled one; none where its destination is gone.
fn again(delivery: &DeliveryRow, other: Option<Uuid>, snapshot: &Snapshot) -> Option<Made> {
    let destination_id = other.unwrap_or(delivery.destination_id);
    snapshot.destinations.get(&DestinationId::from_uuid(destination_id))?;
    let route_id = route_between(snapshot, delivery.source_id, destination_id);
    Some(Made {
        id: mint::uuid(),
        destination_id,
        event_id: delivery.event_id,
        source_id: delivery.source_id,
        route_id: route_id.or(delivery.route_id),
    })
}

fn route_between(snapshot: &Snapshot, source: Uuid, destination: Uuid) -> Option<Uuid> {
    let routes = snapshot.routes_of_source.get(&SourceId::from_uuid(source))?;
    routes.iter().find(|route| route.destination_id.uuid() == destination).map(|route| route.id.uuid())
}

async fn routed(
    app: &App,
    snapshot: &Snapshot,
    event: &EventView<'_>,
    only: Option<DestinationId>,
) -> Vec<(Uuid, Option<Uuid>)> {
    let answers = route::ask(&app.evaluator, snapshot, event).await;
    answers
        .into_iter()
        .filter(|answer| {
            matches!(answer.verdict, Verdict::Matched | Verdict::Undecided { .. } | Verdict::Unordered { .. })
        })
        .filter(|answer| only.is_none_or(|only| answer.route.destination_id == only))
        .map(|answer| (answer.route.destination_id.uuid(), Some(answer.route.id.uuid())))
        .collect()
}

fn view<'a>(event: &'a EventRow, headers: &'a HeaderList, body: &'a [u8], snapshot: &'a Snapshot) -> EventView<'a> {
    let source_id = SourceId::from_uuid(event.source_id);
    EventView {
        id: EventId::from_uuid(event.id),
        source_id,
        source_name: snapshot.sources.get(&source_id).map_or("", |source| source.name.as_str()),
        event_type: event.event_type.as_deref(),
        provider_event_id: event.provider_event_id.as_deref(),
        received_at_ms: mint::unix_ms(event.received_at),
        method: &event.method,
        query: &event.query,
        headers,
        body,
    }
}

/// How long a replay of `matched` rows takes at least, in seconds; `None` where it has no rate.
#[must_use]
pub fn estimate_s(matched: i64, rate: Option<Rate>) -> Option<f64> {
    let rate = rate?;
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    Some(matched as f64 * rate.per.as_secs_f64() / f64::from(NonZeroU32::get(rate.limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(limit: u32, per_s: u64) -> Option<Rate> {
        NonZeroU32::new(limit).map(|limit| Rate { limit, per: Duration::from_secs(per_s) })
    }

    #[test]
    fn a_replay_without_a_rate_takes_full_chunks_and_never_waits() {
        assert_eq!(chunk_of(None), (CHUNK, Duration::ZERO));
    }

    #[test]
    fn a_rate_is_kept_by_waiting_as_long_as_the_chunk_is_worth() {
        assert_eq!(chunk_of(rate(100, 1)), (25, Duration::from_millis(250)));
        assert_eq!(chunk_of(rate(10, 60)), (1, Duration::from_secs(6)));
        assert_eq!(chunk_of(rate(100_000, 1)), (1_000, Duration::from_millis(10)));
    }

    #[test]
    fn the_estimate_is_the_number_over_the_rate() {
        assert_eq!(estimate_s(600, rate(60, 60)), Some(600.0));
        assert_eq!(estimate_s(600, None), None);
    }
}
