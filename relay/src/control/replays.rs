//! Replays: work in the background that makes deliveries of stored events again.

use std::collections::HashMap;
use std::time::Duration;

use model::replay::ReplayState;
use model::unix_time;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::id::{DestinationId, EventId, ReplayId, SourceId, uuid_v7_ms};
use store::Constraint;
use store::audit::NewEntry;
use store::replays::{self, ReplayRow, Steered};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{Conflict, Noun, conflict_of, without_body};
use super::fields::{self, Problems, object, optional_object};
use super::owners::Owners;
use super::page::{Page, PageRequest};
use super::patch::{given, merge};
use super::rate::{self, RateLimit};
use super::record::{self, Action, Object};
use super::time::{Timestamp, read_ms};
use super::{Actor, Control, Error, Outcome, Scope, destinations, schema, sources};
use crate::history::Retention;
use crate::replay::{self, Filter, New, State as ReplayedState, Verification as ReplayedVerification};
use crate::{configuration, secrets};

/// The most events that the filter of a replay names.
pub(crate) const MAX_EVENTS: usize = 200;

/// A replay to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReplay {
    /// Selects the events or deliveries to replay. An empty filter matches all events except those in quarantine.
    #[serde(deserialize_with = "object")]
    pub filter: ReplayFilter,
    /// The id or name of a destination to deliver to, instead of the original destinations. Route filters are not
    /// evaluated. The transform of the route from the source to this destination is used. Without such a route,
    /// replayed deliveries use the transform of their own route, and replayed events are sent unchanged.
    #[schema(value_type = Option<schema::DestinationReference>)]
    pub destination: Option<String>,
    /// The maximum number of deliveries that the replay creates in a period. The limits of each destination also apply.
    #[serde(default, deserialize_with = "optional_object")]
    pub rate_limit: Option<RateLimit>,
    /// If true, only counts the matches and creates nothing. A large history may take several calls; see `cursor`.
    #[serde(default)]
    pub dry_run: bool,
    /// Only with `dry_run`: the `next_cursor` of a dry run with the same filter, to continue counting from there.
    #[schema(value_type = Option<schema::PageCursor>)]
    pub cursor: Option<String>,
}

/// Selects the events or deliveries of a replay.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayFilter {
    /// Only events of this source (id or name).
    #[schema(value_type = Option<schema::SourceReference>)]
    pub source: Option<String>,
    /// Only deliveries to this destination (id or name).
    #[schema(value_type = Option<schema::DestinationReference>)]
    pub destination: Option<String>,
    /// Only events of this type.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Replays deliveries in this state. If omitted, events are replayed: they are routed again.
    pub state: Option<ReplayedState>,
    /// Only dead deliveries whose last attempt failed with this error class. Requires `state`: use `dead`, because all
    /// other deliveries have no error class.
    pub error: Option<String>,
    /// Only the events with these ids, up to 200. Cannot be combined with `state`.
    #[schema(value_type = Option<Vec<schema::EventId>>, min_items = 1, max_items = 200)]
    pub events: Option<Vec<String>>,
    /// Only events received at or after this time (RFC 3339).
    #[schema(value_type = Option<Timestamp>)]
    pub after: Option<String>,
    /// Only events received before this time (RFC 3339).
    #[schema(value_type = Option<Timestamp>)]
    pub before: Option<String>,
    /// `failed` replays events in quarantine instead of all others: they are released and delivered for the first time.
    /// Each event is released only once, even by concurrent replays.
    pub verification: Option<ReplayedVerification>,
    /// Only quarantined events whose verification succeeds with the current secrets and settings of their source.
    /// Requires `verification`.
    #[serde(default)]
    pub verifies_now: bool,
}

/// Selects events in quarantine.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineFilter {
    /// Only events of this source (id or name).
    #[schema(value_type = Option<schema::SourceReference>)]
    pub source: Option<String>,
    /// Only events of this type.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Only events received at or after this time (RFC 3339).
    #[schema(value_type = Option<Timestamp>)]
    pub after: Option<String>,
    /// Only events received before this time (RFC 3339).
    #[schema(value_type = Option<Timestamp>)]
    pub before: Option<String>,
    /// Only events whose verification succeeds with the current secrets and settings of their source.
    #[serde(default)]
    pub verifies_now: bool,
}

/// Changes to a replay, as a JSON merge patch (RFC 7396). Omitted fields are unchanged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayPatch {
    /// Merged with the current rate limit: `{"limit": 100}` keeps `per`. Null removes the rate limit.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<schema::RateLimitPatch>)]
    pub rate_limit: Option<Value>,
}

/// The setting of a replay that can be changed.
#[derive(Debug, Deserialize)]
struct Rate {
    #[serde(default, deserialize_with = "optional_object")]
    rate_limit: Option<RateLimit>,
}

/// The filter of a replay.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownFilter {
    /// Only events of this source; null for all.
    #[schema(value_type = Option<schema::SourceId>, required = true)]
    pub source: Option<SourceId>,
    /// Only deliveries to this destination; null for all.
    #[schema(value_type = Option<schema::DestinationId>, required = true)]
    pub destination: Option<DestinationId>,
    /// Only events of this type; null for all.
    #[serde(rename = "type")]
    #[schema(required = true)]
    pub event_type: Option<String>,
    /// Replays deliveries in this state; null if events are replayed.
    #[schema(required = true)]
    pub state: Option<ReplayedState>,
    /// Only dead deliveries whose last attempt failed with this error class; null for all.
    #[schema(required = true)]
    pub error: Option<String>,
    /// Only the events with these ids; absent for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<schema::EventId>, required = false)]
    pub events: Vec<EventId>,
    /// Only events received at or after this time; null for all.
    #[schema(required = true)]
    pub after: Option<Timestamp>,
    /// Only events received before this time; null for all.
    #[schema(required = true)]
    pub before: Option<Timestamp>,
    /// `failed` if events in quarantine are replayed; otherwise null.
    #[schema(required = true)]
    pub verification: Option<ReplayedVerification>,
    /// Whether only quarantined events are replayed whose verification succeeds with the current secrets and settings.
    pub verifies_now: bool,
}

/// A replay and its progress.
#[derive(Debug, Serialize, ToSchema)]
pub struct Replay {
    /// The id of the replay.
    #[schema(value_type = schema::ReplayId)]
    pub id: ReplayId,
    /// The name of the customer that owns the replay. Only present in a list of all customers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub customer: Option<String>,
    /// `running`: the replay is creating deliveries. `paused`: a caller has paused the replay, and it creates no
    /// deliveries until it is resumed. `completed`: all deliveries have been created; the field `pending` counts those
    /// that have not ended yet. `cancelled`: an operator cancelled the replay, or its destination was deleted. `failed`:
    /// Tidegate stopped the replay, for the reason in `error`; deliveries that were already created are kept.
    #[schema(value_type = schema::ReplayState)]
    pub state: ReplayState,
    /// The filter.
    pub filter: ShownFilter,
    /// The destination that replaces the original destinations; null if the replay uses the original ones.
    #[schema(value_type = Option<schema::DestinationId>, required = true)]
    pub destination: Option<DestinationId>,
    /// The rate limit; null if there is none.
    #[schema(required = true)]
    pub rate_limit: Option<RateLimit>,
    /// The number of events or deliveries that the filter matches. Null while they are being counted, and if the replay
    /// ended before all were counted.
    #[schema(required = true)]
    pub matched: Option<i64>,
    /// The number of matches that have been counted so far; the same as `matched` if that is not null.
    pub matched_so_far: i64,
    /// The number of matches that have been processed.
    pub processed: i64,
    /// The number of matches that could not be replayed.
    pub skipped: i64,
    /// Why matches were skipped; null if none were.
    #[schema(required = true)]
    pub skipped_reason: Option<String>,
    /// The number of deliveries that have been created.
    pub created: i64,
    /// The number of created deliveries that are not yet succeeded, dead or cancelled. Deliveries to a deleted
    /// destination are included until they have been cancelled in the background.
    pub pending: i64,
    /// How many of the pending deliveries are held individually, for example because their transform fails. Counted up
    /// to 10,000.
    pub held: i64,
    /// How many of the created deliveries have succeeded.
    pub succeeded: i64,
    /// How many of the created deliveries are dead.
    pub dead: i64,
    /// How many of the created deliveries were cancelled.
    pub cancelled: i64,
    /// The minimum duration of the replay at its rate limit, in seconds; null without a rate limit or while `matched`
    /// is null.
    #[schema(required = true)]
    pub estimated_s: Option<f64>,
    /// Why the replay is not moving now: it is paused, its rate limit allows no delivery for more than a second, or its
    /// last chunk has failed and is retried. Null if it moves, and once it has ended.
    #[schema(required = true)]
    pub waiting_reason: Option<String>,
    /// When the replay was paused; null if it is not paused.
    #[schema(required = true)]
    pub paused_at: Option<Timestamp>,
    /// Why the replay failed or was cancelled by Tidegate; null otherwise. If it failed, also where it stopped and how
    /// to continue.
    #[schema(required = true)]
    pub error: Option<String>,
    /// When the replay was created.
    pub created_at: Timestamp,
    /// When the replay completed, failed or was cancelled; null while it runs.
    #[schema(required = true)]
    pub finished_at: Option<Timestamp>,
}

/// The result of a dry run.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayPlan {
    /// Always true: nothing was created.
    pub dry_run: bool,
    /// The number of matching events or deliveries among those that this call scanned. It scans from the oldest to the
    /// newest, starting after `cursor`.
    pub matched: i64,
    /// Whether everything has been scanned. If false, repeat the dry run with `cursor` until it is true and add up
    /// `matched`.
    pub complete: bool,
    /// Everything up to this time has been scanned: the time when an event was received or, if `filter.state` is set,
    /// when a delivery was created. Null if `complete` is true.
    #[schema(required = true)]
    pub scanned_until: Option<Timestamp>,
    /// The value for `cursor` to continue with; null if `complete` is true.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// The minimum duration of the replay, in seconds, for the matches of this call: at its rate limit, or at that of the
    /// only destination that it can have, if that is lower. Null without a rate limit.
    #[schema(required = true)]
    pub estimated_s: Option<f64>,
}

/// The result of a call that creates a replay or counts its matches.
#[derive(Debug)]
pub enum Made {
    Replay(Box<Replay>),
    /// The result of a dry run.
    Plan(ReplayPlan),
}

/// Creates a replay or, with `dry_run`, counts its matches. A replay covers events that were stored before the call or,
/// if a state is given, deliveries that reached that state before the call, by the database's clock. The call does not
/// wait until all of a large history has been scanned: a replay counts its matches while it runs, and a dry run says
/// how far it has counted.
///
/// # Errors
/// Returns every invalid field, a conflict if the destination is deleted concurrently, or an error if a query fails.
pub async fn create(control: &Control, actor: &Actor, request: NewReplay) -> Result<Made, Error> {
    actor.require(Scope::Replay)?;
    let dry_run = request.dry_run;
    let after = request.cursor.as_deref().and_then(|cursor| opened(control, cursor));
    let new = read(control, actor, request).await?;
    if dry_run {
        let counted = replay::plan(&control.pool, &control.clock, &new, after).await?;
        return Ok(Made::Plan(ReplayPlan {
            dry_run,
            matched: counted.matched,
            complete: counted.after.is_none(),
            scanned_until: counted.after.map(|id| Timestamp(unix_time::timestamp(uuid_v7_ms(id)))),
            next_cursor: counted.after.map(|id| sealed(control, id)).transpose()?,
            estimated_s: estimated_s(control, &new, counted.matched),
        }));
    }
    let record = |row: &ReplayRow| {
        if let Ok(replay) = view(0, row.clone(), control.config.retention, row.created_at) {
            actor.answers(control, Outcome::Created, &replay);
        }
        created(actor, row)
    };
    let made = replay::create(&control.pool, &control.clock, &control.wakers, &new, record).await;
    // The destination may have been deleted since it was looked up.
    let made = made.map_err(conflict_of(&[(Constraint::Reference, Conflict::ChangedMeanwhile)]))?;
    let made = made.id;
    Ok(Made::Replay(Box::new(shown(control, find(control, actor, &made.to_string()).await?).await?)))
}

/// The minimum duration of a replay of `matched` rows. Without a destination of its own or in its filter, the rates of
/// the destinations are not considered, because it is not known which of them get how many.
fn estimated_s(control: &Control, new: &New, matched: i64) -> Option<f64> {
    let snapshot = control.configuration.current();
    let only = new.destination.or(new.filter.destination);
    let of_destination = only.and_then(|id| snapshot.destinations.get(&id)?.rate);
    let estimates = [new.rate, of_destination].map(|rate| replay::estimate_s(matched, rate));
    estimates.into_iter().flatten().max_by(f64::total_cmp)
}

/// How many events in quarantine a release would take, and whether all have been counted.
///
/// # Errors
/// Returns every invalid field, or an error if a query fails.
pub(super) async fn plan_release(
    control: &Control,
    actor: &Actor,
    filter: QuarantineFilter,
) -> Result<(i64, bool), Error> {
    let new = read_release(control, actor, filter).await?;
    let counted = replay::plan(&control.pool, &control.clock, &new, None).await?;
    Ok((counted.matched, counted.after.is_none()))
}

/// Creates a replay that releases events from quarantine.
///
/// # Errors
/// Returns every invalid field, or an error if a query fails.
pub(super) async fn release(control: &Control, actor: &Actor, filter: QuarantineFilter) -> Result<ReplayId, Error> {
    let new = read_release(control, actor, filter).await?;
    let made = replay::create(&control.pool, &control.clock, &control.wakers, &new, |row| created(actor, row)).await?;
    Ok(made.id)
}

async fn read_release(control: &Control, actor: &Actor, filter: QuarantineFilter) -> Result<New, Error> {
    let (mut problems, mut of_filter) = (Problems::default(), Problems::default());
    let source = sources::id_of(control, actor, "source", filter.source.as_deref(), &mut of_filter).await?;
    let after_ms = read_ms("after", filter.after.as_deref(), &mut of_filter);
    let before_ms = read_ms("before", filter.before.as_deref(), &mut of_filter);
    problems.add_of("events", of_filter);
    problems.finish()?;
    let filter = Filter {
        source,
        event_type: filter.event_type,
        after_ms,
        before_ms,
        verification: Some(ReplayedVerification::Failed),
        verifies_now: filter.verifies_now,
        ..Filter::default()
    };
    Ok(New { customer_id: actor.customer()?, filter, destination: None, rate: None })
}

/// The cursor of a dry run. Unlike that of a list, it has to be exact, or matches would be counted twice. The row at
/// which it stopped may belong to another customer, so the cursor is sealed.
fn sealed(control: &Control, id: Uuid) -> Result<String, Error> {
    secrets::seal_cursor(&control.config.master_keys, id).map_err(Error::Internal)
}

fn opened(control: &Control, cursor: &str) -> Option<Uuid> {
    secrets::open_cursor(&control.config.master_keys, cursor)
}

/// A page of replays, newest first.
///
/// # Errors
/// Returns an error if the limit or the cursor is invalid, or if a query fails.
pub async fn list(control: &Control, actor: &Actor, page: &PageRequest) -> Result<Page<Replay>, Error> {
    actor.require(Scope::Read)?;
    let window = page.window()?;
    let rows = replays::page(&control.pool, actor.listed(), window.cursor, window.fetch()).await?;
    let ids: Vec<ReplayId> = rows.iter().map(|row| row.id).collect();
    let held = replays::held(&control.pool, &ids).await?;
    let held = |row: &ReplayRow| held.get(&row.id).copied().unwrap_or_default();
    let owners = Owners::named(control, actor, rows.iter().map(|row| (row.id, row.customer_id))).await?;
    let now = now(control).await?;
    let view = |row: ReplayRow| {
        let customer = owners.of(row.id);
        Ok(Replay { customer, ..view(held(&row), row, control.config.retention, now)? })
    };
    let page = window.page(rows, |row| row.id.uuid(), view);
    let data = page.data.into_iter().collect::<Result<Vec<Replay>, Error>>()?;
    Ok(Page { data, next_cursor: page.next_cursor, scanned_until: None })
}

/// Replays by their ids, those that the actor sees: of the customer that it is bound to, or else of all.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn several(control: &Control, actor: &Actor, ids: &[ReplayId]) -> Result<HashMap<ReplayId, Replay>, Error> {
    actor.require(Scope::Read)?;
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = replays::several(&control.pool, actor.bound_to().map(|owner| owner.id), ids).await?;
    let held = replays::held(&control.pool, ids).await?;
    let now = now(control).await?;
    let view = |row: ReplayRow| {
        let held = held.get(&row.id).copied().unwrap_or_default();
        Ok((row.id, view(held, row, control.config.retention, now)?))
    };
    rows.into_iter().map(view).collect()
}

/// A replay and its progress.
///
/// # Errors
/// Returns an error if the replay does not exist, or if a query fails.
pub async fn show(control: &Control, actor: &Actor, id: &str) -> Result<Replay, Error> {
    actor.require(Scope::Read)?;
    shown(control, find(control, actor, id).await?).await
}

/// The time by the relay's clock, which differs little from the database's.
async fn now(control: &Control) -> Result<OffsetDateTime, Error> {
    Ok(unix_time::timestamp(control.clock.now_ms().await?))
}

/// A replay as callers see it.
async fn shown(control: &Control, row: ReplayRow) -> Result<Replay, Error> {
    let held = replays::held(&control.pool, &[row.id]).await?.get(&row.id).copied();
    view(held.unwrap_or_default(), row, control.config.retention, now(control).await?)
}

/// Ends a replay and cancels those of its deliveries that are pending or held. Attempts in flight are not aborted.
///
/// # Errors
/// Returns an error if the replay does not exist, if it has ended and none of its deliveries is pending or held, or if
/// a query fails.
pub async fn cancel(control: &Control, actor: &Actor, id: &str) -> Result<Replay, Error> {
    actor.require(Scope::Replay)?;
    let row = find(control, actor, id).await?;
    let pending = row.created - row.succeeded - row.dead - row.cancelled;
    if !matches!(row.state, ReplayState::Running | ReplayState::Paused) && pending <= 0 {
        return Err(Error::Conflict(Conflict::ReplayFinished));
    }
    // A separate task continues if the caller hangs up. Otherwise a part of a large replay would stay pending.
    let cancelling = tokio::spawn({
        let entry = record::entry(actor, Action::ReplayCancel, Object::of(row.id, row.customer_id));
        let (pool, engine, id) = (control.pool.clone(), control.engine.clone(), row.id);
        async move { replay::cancel(&pool, &engine, id, &entry).await }
    });
    cancelling.await.map_err(|error| Error::Internal(error.to_string()))??;
    shown(control, find(control, actor, id).await?).await
}

/// Pauses a replay: it makes no more deliveries until it is resumed. Deliveries that it has made are sent. A paused
/// replay stays as it is.
///
/// # Errors
/// Returns an error if the replay does not exist, a conflict if it has ended, or an error if a query fails.
pub async fn pause(control: &Control, actor: &Actor, id: &str) -> Result<Replay, Error> {
    actor.require(Scope::Replay)?;
    let row = find(control, actor, id).await?;
    let entry = record::entry(actor, Action::ReplayPause, Object::of(row.id, row.customer_id));
    steered(replays::pause(&control.pool, row.id, &entry).await?)?;
    shown(control, find(control, actor, id).await?).await
}

/// Resumes a paused replay where it was. A replay that is not paused stays as it is.
///
/// # Errors
/// As [`pause`].
pub async fn resume(control: &Control, actor: &Actor, id: &str) -> Result<Replay, Error> {
    actor.require(Scope::Replay)?;
    let row = find(control, actor, id).await?;
    let entry = record::entry(actor, Action::ReplayResume, Object::of(row.id, row.customer_id));
    steered(replays::resume(&control.pool, row.id, &entry).await?)?;
    control.wakers.replays.notify_one();
    shown(control, find(control, actor, id).await?).await
}

/// Changes the rate of a replay that runs or is paused.
///
/// # Errors
/// Returns every invalid field, an error if the replay does not exist, a conflict if it has ended or another call changes
/// its rate concurrently, or an error if a query fails.
pub async fn change(control: &Control, actor: &Actor, id: &str, patch: ReplayPatch) -> Result<Replay, Error> {
    actor.require(Scope::Replay)?;
    let row = find(control, actor, id).await?;
    let Some(patch) = patch.rate_limit else { return shown(control, row).await };
    let before = json!({ "rate_limit": RateLimit::of_columns(row.rate_limit, row.rate_per.as_deref()) });
    let mut after = before.clone();
    merge(&mut after, json!({ "rate_limit": patch }));
    let Rate { rate_limit } = fields::read(after)?;
    let mut problems = Problems::default();
    let rate = rate_limit.and_then(|rate| rate.read(&mut problems));
    problems.finish()?;
    let after = json!({ "rate_limit": rate_limit });
    if after == before {
        return shown(control, row).await;
    }
    let entry = record::entry(actor, Action::ReplayUpdate, Object::of(row.id, row.customer_id));
    let entry = entry.with(Some(before), Some(after), []);
    let interval = rate.map_or(Duration::ZERO, |rate| rate.per / rate.limit.get());
    steered(replays::set_rate(&control.pool, &row, rate::columns(rate), interval, &entry).await?)?;
    control.wakers.replays.notify_one();
    shown(control, find(control, actor, id).await?).await
}

fn steered(steered: Steered) -> Result<(), Error> {
    match steered {
        Steered::Done | Steered::Already => Ok(()),
        Steered::Ended => Err(Error::Conflict(Conflict::ReplayEnded)),
        Steered::ChangedMeanwhile => Err(Error::Conflict(Conflict::ChangedMeanwhile)),
    }
}

/// Why a replay is not moving at `now`; `None` if it moves or has ended.
fn waiting_reason(row: &ReplayRow, now: OffsetDateTime) -> Option<String> {
    match row.state {
        ReplayState::Completed | ReplayState::Cancelled | ReplayState::Failed => return None,
        ReplayState::Paused => return Some("it is paused; resume it to let it continue".to_owned()),
        ReplayState::Running => {}
    }
    if let Some(error) = row.begun_error.as_deref().filter(|_| row.begun_here() > 0) {
        return Some(format!("its last chunk failed, and is retried: {error}"));
    }
    let waits = row.rate_limit.is_some() && row.next_at > now + WAITS_FROM;
    waits.then(|| {
        let at = unix_time::timestamp(unix_time::unix_ms(row.next_at)).format(&Rfc3339).unwrap_or_default();
        format!("its rate limit allows the next delivery at {at}; change the rate limit to let it continue earlier")
    })
}

/// From which wait on a replay with a rate limit counts as not moving.
const WAITS_FROM: Duration = Duration::from_secs(1);

/// The entry of the audit log of a new replay.
fn created(actor: &Actor, row: &ReplayRow) -> NewEntry {
    let after = json!({
        "filter": row.filter, "destination": row.destination_id,
        "rate_limit": RateLimit::of_columns(row.rate_limit, row.rate_per.as_deref()),
    });
    record::entry(actor, Action::ReplayCreate, Object::of(row.id, row.customer_id)).with(None, Some(after), [])
}

async fn find(control: &Control, actor: &Actor, id: &str) -> Result<ReplayRow, Error> {
    let id: ReplayId = id.parse().map_err(|_| Error::NotFound(Noun::Replay))?;
    replays::find(&control.pool, actor.customer()?, id).await?.ok_or(Error::NotFound(Noun::Replay))
}

async fn read(control: &Control, actor: &Actor, request: NewReplay) -> Result<New, Error> {
    let mut problems = Problems::default();
    let filter = request.filter;
    let source = sources::id_of(control, actor, "filter.source", filter.source.as_deref(), &mut problems).await?;
    let of =
        destinations::id_of(control, actor, "filter.destination", filter.destination.as_deref(), &mut problems).await?;
    let destination = match request.destination.as_deref() {
        None => None,
        Some(text) => problems.named("destination", text, destinations::find(control, actor, text).await)?,
    };
    let destination = destination.map(|row| row.id);
    let after_ms = read_ms("filter.after", filter.after.as_deref(), &mut problems);
    let before_ms = read_ms("filter.before", filter.before.as_deref(), &mut problems);
    if after_ms.zip(before_ms).is_some_and(|(after, before)| after >= before) {
        problems.add("filter.before", "must be later than filter.after");
    }
    match request.cursor.as_deref() {
        Some(_) if !request.dry_run => {
            problems.add("cursor", "can only be used with dry_run; omit cursor, or set dry_run to true");
        }
        Some(text) if opened(control, text).is_none() => {
            problems.add(
                "cursor",
                "is not a valid cursor; use the next_cursor of a dry run, or omit it to count from the beginning",
            );
        }
        Some(_) | None => {}
    }
    if filter.error.is_some() && filter.state.is_none() {
        problems.add("filter.error", "can only be used with filter.state \"dead\"; set filter.state to dead");
    }
    if filter.verifies_now && filter.verification.is_none() {
        problems.add(
            "filter.verifies_now",
            "can only be used with filter.verification \"failed\", because only quarantined events are verified again",
        );
    }
    if filter.verification.is_some() {
        // A released event is routed by all routes of its source, once.
        for (field, given) in [
            ("filter.state", filter.state.is_some()),
            ("filter.destination", filter.destination.is_some()),
            ("destination", request.destination.is_some()),
        ] {
            if given {
                problems.add(
                    field,
                    "cannot be combined with filter.verification, because a released event is routed by all \
                     routes of its source; omit one of them",
                );
            }
        }
    }
    if filter.events.is_some() && filter.state.is_some() {
        problems
            .add("filter.events", "cannot be combined with filter.state, which selects deliveries; omit one of them");
    }
    let events = filter.events.map(|ids| event_ids(&ids, &mut problems)).unwrap_or_default();
    let rate = request.rate_limit.and_then(|rate| rate.read(&mut problems));
    problems.finish()?;
    let filter = Filter {
        source,
        destination: of,
        event_type: filter.event_type,
        state: filter.state,
        error: filter.error,
        events,
        after_ms,
        before_ms,
        verification: filter.verification,
        verifies_now: filter.verifies_now,
    };
    Ok(New { customer_id: actor.customer()?, filter, destination, rate })
}

/// The ids of the events that a replay is limited to.
fn event_ids(texts: &[String], problems: &mut Problems) -> Vec<EventId> {
    if !(1..=MAX_EVENTS).contains(&texts.len()) {
        problems.add("filter.events", format!("must have 1 to {MAX_EVENTS} ids, but has {}", texts.len()));
    }
    let mut ids = Vec::new();
    for (at, text) in texts.iter().enumerate().take(MAX_EVENTS) {
        match text.parse() {
            Ok(id) => ids.push(id),
            Err(_) => problems.add(
                format!("filter.events[{at}]"),
                format!("\"{text}\" is not an event id; event ids begin with evt_"),
            ),
        }
    }
    ids
}

fn view(held: i64, row: ReplayRow, retention: Retention, now: OffsetDateTime) -> Result<Replay, Error> {
    let filter: Filter =
        serde_json::from_value(row.filter.clone()).map_err(|error| Error::Internal(error.to_string()))?;
    let rate = configuration::rate(row.rate_limit, row.rate_per.as_deref());
    // The count may miss rows that were being stored when the replay was created, although the replay processes them.
    // So `processed` can exceed the count.
    let matched = (!row.counting).then_some(row.matched.max(row.processed));
    Ok(Replay {
        id: row.id,
        waiting_reason: waiting_reason(&row, now),
        paused_at: row.paused_at.filter(|_| row.state == ReplayState::Paused).map(Timestamp),
        customer: None,
        state: row.state,
        filter: ShownFilter {
            source: filter.source,
            destination: filter.destination,
            event_type: filter.event_type,
            state: filter.state,
            error: filter.error,
            events: filter.events,
            after: filter.after_ms.map(|at_ms| Timestamp(unix_time::timestamp(at_ms))),
            before: filter.before_ms.map(|at_ms| Timestamp(unix_time::timestamp(at_ms))),
            verification: filter.verification,
            verifies_now: filter.verifies_now,
        },
        destination: row.destination_id,
        rate_limit: rate.map(RateLimit::from),
        matched,
        matched_so_far: matched.unwrap_or(row.matched.max(row.processed)),
        processed: row.processed,
        skipped: row.skipped,
        skipped_reason: (row.skipped > 0).then(|| without_body(retention)),
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
