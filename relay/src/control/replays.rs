//! Replays: jobs that make deliveries again.

use model::unix_time;
use serde::{Deserialize, Serialize};
use shared::id::{DestinationId, ReplayId, SourceId, uuid_v7_ms};
use store::Constraint;
use store::replays::{self, ReplayRow};
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{Conflict, Noun, conflict_of, past_retention};
use super::fields::{Problems, object, optional_object};
use super::page::{Page, PageRequest, cursor, decode};
use super::rate::RateLimit;
use super::time::{Timestamp, read_ms};
use super::{Actor, Control, Error, destinations, schema, sources};
use crate::configuration;
use crate::history::Retention;
use crate::replay::{self, Filter, New, State as ReplayedState, Verification as ReplayedVerification};

/// A replay to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReplay {
    /// Which events or deliveries to replay; an empty filter matches all events.
    #[serde(deserialize_with = "object")]
    pub filter: ReplayFilter,
    /// The id or name of the destination to deliver to instead of the original destinations. No filter of a route is evaluated.
    /// The transform is that of the route from the source to this destination. Without such a route, deliveries (`filter.state`)
    /// keep the transform of their own route, and events are sent as the provider sent them.
    #[schema(value_type = Option<schema::DestinationReference>)]
    pub destination: Option<String>,
    /// The most deliveries that are created in a period. The limits of each destination apply as well.
    #[serde(default, deserialize_with = "optional_object")]
    pub rate_limit: Option<RateLimit>,
    /// Only counts the matches, as far as one call gets.
    #[serde(default)]
    pub dry_run: bool,
    /// Only with `dry_run`: the `next_cursor` of a dry run with the same filter, to continue counting from there.
    #[schema(value_type = Option<schema::PageCursor>)]
    pub cursor: Option<String>,
}

/// Which events or deliveries a replay takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayFilter {
    /// Id or name.
    #[schema(value_type = Option<schema::SourceReference>)]
    pub source: Option<String>,
    /// Id or name.
    #[schema(value_type = Option<schema::DestinationReference>)]
    pub destination: Option<String>,
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Takes deliveries with this state. Omitted: takes events and routes them again.
    pub state: Option<ReplayedState>,
    /// The error class of the last attempt; requires `state`.
    pub error: Option<String>,
    /// Received at or after this time, RFC 3339.
    #[schema(value_type = Option<Timestamp>)]
    pub after: Option<String>,
    /// Received before this time, RFC 3339.
    #[schema(value_type = Option<Timestamp>)]
    pub before: Option<String>,
    /// Takes the events in quarantine instead of all others: they are released, and delivered for the first time. Two such
    /// replays release no event twice.
    pub verification: Option<ReplayedVerification>,
    /// Takes only those events in quarantine that verify with the current secrets and settings of their source; requires
    /// `verification`.
    #[serde(default)]
    pub verifies_now: bool,
}

/// Which events or deliveries a replay takes, as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownFilter {
    #[schema(value_type = Option<schema::SourceId>, required = true)]
    pub source: Option<SourceId>,
    #[schema(value_type = Option<schema::DestinationId>, required = true)]
    pub destination: Option<DestinationId>,
    #[serde(rename = "type")]
    #[schema(required = true)]
    pub event_type: Option<String>,
    #[schema(required = true)]
    pub state: Option<ReplayedState>,
    #[schema(required = true)]
    pub error: Option<String>,
    #[schema(required = true)]
    pub after: Option<Timestamp>,
    #[schema(required = true)]
    pub before: Option<Timestamp>,
    #[schema(required = true)]
    pub verification: Option<ReplayedVerification>,
    pub verifies_now: bool,
}

/// A replay and its progress.
#[derive(Debug, Serialize, ToSchema)]
pub struct Replay {
    #[schema(value_type = schema::ReplayId)]
    pub id: ReplayId,
    /// A completed replay has created all of its deliveries, of which `pending` have not ended yet. A failed replay was stopped
    /// by the gateway, for the reason in `error`; the deliveries that it has created are kept.
    #[schema(value_type = schema::ReplayState)]
    pub state: String,
    pub filter: ShownFilter,
    /// The destination that it delivers to instead of the original destinations; null if there is none.
    #[schema(value_type = Option<schema::DestinationId>, required = true)]
    pub destination: Option<DestinationId>,
    #[schema(required = true)]
    pub rate_limit: Option<RateLimit>,
    /// How many events or deliveries the filter matches, of those that were stored or, with a state, settled before the replay
    /// was created. Null while they are being counted, and if the replay was cancelled or failed before the end of the count.
    #[schema(required = true)]
    pub matched: Option<i64>,
    /// How many matches have been counted so far; the same as `matched` if that is not null.
    pub matched_so_far: i64,
    /// How many matches have been processed.
    pub processed: i64,
    /// How many processed matches could not be delivered again.
    pub skipped: i64,
    /// Why they were skipped; null if none was.
    #[schema(required = true)]
    pub skipped_reason: Option<String>,
    /// How many deliveries have been created.
    pub created: i64,
    /// How many of the created deliveries are not settled yet. Those of a deleted destination are included until they have been
    /// cancelled in the background.
    pub pending: i64,
    /// How many of the pending deliveries are held by themselves, for example because their filter could not be evaluated. At
    /// most 10,000 are counted.
    pub held: i64,
    pub succeeded: i64,
    pub dead: i64,
    pub cancelled: i64,
    /// The shortest time that the replay takes at its rate, in seconds; null if it has no rate or `matched` is null.
    #[schema(required = true)]
    pub estimated_s: Option<f64>,
    /// Why it failed or was cancelled, how far it was, and what to do.
    #[schema(required = true)]
    pub error: Option<String>,
    pub created_at: Timestamp,
    #[schema(required = true)]
    pub finished_at: Option<Timestamp>,
}

/// What a replay would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayPlan {
    /// Always true: nothing was created.
    pub dry_run: bool,
    /// How many events or deliveries the filter matches, of those that this call has scanned: the oldest first, starting after
    /// the cursor.
    pub matched: i64,
    /// Whether everything was scanned. If not, another dry run with `cursor` counts the rest; the sum of both `matched` is the
    /// total.
    pub complete: bool,
    /// The time up to which everything was scanned; null if it is complete. It is the time at which an event was received or,
    /// with a state, a delivery was created.
    #[schema(required = true)]
    pub scanned_until: Option<Timestamp>,
    /// The `cursor` to continue with; null if it is complete.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// The shortest time that the replay would take at its rate, in seconds; null if it has no rate.
    #[schema(required = true)]
    pub estimated_s: Option<f64>,
}

/// What a call has made.
#[derive(Debug)]
pub enum Made {
    Replay(Box<Replay>),
    /// Of a dry run.
    Plan(ReplayPlan),
}

/// Makes a replay, or with `dry_run` counts what it would take. It takes events that were stored, or with a state deliveries
/// that were settled, before the call, by the database's clock. Neither waits until all of a large history has been looked
/// at: what a replay matches is counted while it runs, and a dry run says how far it has counted.
///
/// # Errors
/// Returns every field that is wrong.
pub async fn create(control: &Control, actor: Actor, request: NewReplay) -> Result<Made, Error> {
    let dry_run = request.dry_run;
    let after = request.cursor.as_deref().and_then(decode);
    let new = read(control, actor, request).await?;
    if dry_run {
        let counted = replay::plan(&control.pool, &control.clock, &new, after).await?;
        return Ok(Made::Plan(ReplayPlan {
            dry_run,
            matched: counted.matched,
            complete: counted.after.is_none(),
            scanned_until: counted.after.map(|id| Timestamp(unix_time::timestamp(uuid_v7_ms(id)))),
            next_cursor: counted.after.map(cursor),
            estimated_s: replay::estimate_s(counted.matched, new.rate),
        }));
    }
    let made = replay::create(&control.pool, &control.clock, &control.wakers, &new).await;
    // Its destination may have been deleted since it was looked up.
    let made = made.map_err(conflict_of(&[(Constraint::Reference, Conflict::ChangedMeanwhile)]))?;
    let made = ReplayId::from_uuid(made.id);
    Ok(Made::Replay(Box::new(show(control, actor, &made.to_string()).await?)))
}

/// A page of replays, newest first.
///
/// # Errors
/// Returns what is wrong with the page that is asked for.
pub async fn list(control: &Control, actor: Actor, page: &PageRequest) -> Result<Page<Replay>, Error> {
    let window = page.window()?;
    let rows = replays::page(&control.pool, actor.customer().uuid(), window.cursor, window.fetch()).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let held = replays::held(&control.pool, &ids).await?;
    let held = |row: &ReplayRow| held.get(&row.id).copied().unwrap_or_default();
    let page = window.page(rows, |row| row.id, |row| view(held(&row), row, control.config.retention));
    let data = page.data.into_iter().collect::<Result<Vec<Replay>, Error>>()?;
    Ok(Page { data, next_cursor: page.next_cursor, scanned_until: None })
}

/// One replay and how far it is.
///
/// # Errors
/// If it does not exist.
pub async fn show(control: &Control, actor: Actor, id: &str) -> Result<Replay, Error> {
    let row = find(control, actor, id).await?;
    let held = replays::held(&control.pool, &[row.id]).await?.get(&row.id).copied();
    view(held.unwrap_or_default(), row, control.config.retention)
}

/// Ends a replay and cancels what it has made and what is not delivered yet. Attempts that are under way are not called back.
///
/// # Errors
/// If it does not exist, or has ended and nothing of it is pending.
pub async fn cancel(control: &Control, actor: Actor, id: &str) -> Result<Replay, Error> {
    let row = find(control, actor, id).await?;
    let pending = row.created - row.succeeded - row.dead - row.cancelled;
    if row.state != "running" && pending <= 0 {
        return Err(Error::Conflict(Conflict::ReplayFinished));
    }
    // In a task of its own, so that a caller that hangs up does not leave a part of a large replay pending.
    let cancelling = tokio::spawn({
        let (pool, engine, id) = (control.pool.clone(), control.engine.clone(), ReplayId::from_uuid(row.id));
        async move { replay::cancel(&pool, &engine, id).await }
    });
    cancelling.await.map_err(|error| Error::Internal(error.to_string()))??;
    show(control, actor, id).await
}

async fn find(control: &Control, actor: Actor, id: &str) -> Result<ReplayRow, Error> {
    let id: ReplayId = id.parse().map_err(|_| Error::NotFound(Noun::Replay))?;
    replays::find(&control.pool, actor.customer().uuid(), id.uuid()).await?.ok_or(Error::NotFound(Noun::Replay))
}

async fn read(control: &Control, actor: Actor, request: NewReplay) -> Result<New, Error> {
    let mut problems = Problems::default();
    let filter = request.filter;
    let source = sources::id_of(control, actor, "filter.source", filter.source.as_deref(), &mut problems).await?;
    let of =
        destinations::id_of(control, actor, "filter.destination", filter.destination.as_deref(), &mut problems).await?;
    let destination = match request.destination.as_deref() {
        None => None,
        Some(text) => problems.named("destination", text, destinations::find(control, actor, text).await)?,
    };
    let destination = destination.map(|row| DestinationId::from_uuid(row.id));
    let after_ms = read_ms("filter.after", filter.after.as_deref(), &mut problems);
    let before_ms = read_ms("filter.before", filter.before.as_deref(), &mut problems);
    if after_ms.zip(before_ms).is_some_and(|(after, before)| after >= before) {
        problems.add("filter.before", "must be later than filter.after");
    }
    match request.cursor.as_deref() {
        Some(_) if !request.dry_run => problems.add("cursor", "requires dry_run; omit it"),
        Some(text) if decode(text).is_none() => {
            problems.add("cursor", "is not the next_cursor of a dry run; omit it to count from the beginning");
        }
        Some(_) | None => {}
    }
    if filter.error.is_some() && filter.state.is_none() {
        problems.add("filter.error", "requires filter.state, because only deliveries have errors; use dead");
    }
    if filter.verifies_now && filter.verification.is_none() {
        problems.add(
            "filter.verifies_now",
            "requires filter.verification, because only events in quarantine are verified again; use failed",
        );
    }
    if filter.verification.is_some() {
        // Whatever is released goes its whole way, once.
        for (field, given) in [
            ("filter.state", filter.state.is_some()),
            ("filter.destination", filter.destination.is_some()),
            ("destination", request.destination.is_some()),
        ] {
            if given {
                problems.add(field, "cannot be combined with filter.verification, because a released event is delivered by all of its routes; omit it");
            }
        }
    }
    let rate = request.rate_limit.and_then(|rate| rate.read(&mut problems));
    problems.finish()?;
    let filter = Filter {
        source,
        destination: of,
        event_type: filter.event_type,
        state: filter.state,
        error: filter.error,
        after_ms,
        before_ms,
        verification: filter.verification,
        verifies_now: filter.verifies_now,
    };
    Ok(New { customer_id: actor.customer(), filter, destination, rate })
}

fn view(held: i64, row: ReplayRow, retention: Retention) -> Result<Replay, Error> {
    let filter: Filter = serde_json::from_value(row.filter).map_err(|error| Error::Internal(error.to_string()))?;
    let rate = configuration::rate(row.rate_limit, row.rate_per.as_deref());
    // What was being stored when the replay was made may have been counted before its commit and taken after it.
    let matched = (!row.counting).then_some(row.matched.max(row.processed));
    Ok(Replay {
        id: ReplayId::from_uuid(row.id),
        state: row.state,
        filter: ShownFilter {
            source: filter.source,
            destination: filter.destination,
            event_type: filter.event_type,
            state: filter.state,
            error: filter.error,
            after: filter.after_ms.map(|at_ms| Timestamp(unix_time::timestamp(at_ms))),
            before: filter.before_ms.map(|at_ms| Timestamp(unix_time::timestamp(at_ms))),
            verification: filter.verification,
            verifies_now: filter.verifies_now,
        },
        destination: row.destination_id.map(DestinationId::from_uuid),
        rate_limit: rate.map(RateLimit::from),
        matched,
        matched_so_far: matched.unwrap_or(row.matched.max(row.processed)),
        processed: row.processed,
        skipped: row.skipped,
        skipped_reason: (row.skipped > 0).then(|| past_retention(retention)),
        created: row.created,
        pending: (row.created - row.succeeded - row.dead - row.cancelled).max(0),
        held,
        succeeded: row.succeeded,
        dead: row.dead,
        cancelled: row.cancelled,
        estimated_s: matched.and_then(|matched| replay::estimate_s(matched, rate)),
        error: row.error,
        created_at: Timestamp(row.created_at),
        finished_at: row.finished_at.map(Timestamp),
    })
}
