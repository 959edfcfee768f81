//! Operations: bulk work in the background.

use model::delivery::DeliveryState;
use model::operation::{OperationKind, OperationState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::id::{CustomerId, DestinationId, OperationId, ReplayId, uuid_v7_floor};
use store::audit::NewEntry;
use store::bulk::{Change, Tally};
use store::operations::{self, Filter, New, OperationRow, Takes};
use store::replays::{self as stored_replays, Newest};
use store::search::after;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::deliveries::DeliveryFilter;
use super::error::{Conflict, Noun};
use super::fields::{Problems, optional_object};
use super::page::{Page, PageRequest, Window};
use super::record::{self, Action, Object};
use super::replays::{self, QuarantineFilter};
use super::time::Timestamp;
use super::{Actor, Control, Error, Outcome, Scope, schema};
use crate::mint;
use crate::operations::bulk::{COUNT_WITHIN, MOST_DESTINATIONS, PLAN_WITHIN, Plan, Task};

/// An operation and its progress.
#[derive(Debug, Serialize, ToSchema)]
pub struct Operation {
    /// The id of the operation.
    #[schema(value_type = schema::OperationId)]
    pub id: OperationId,
    /// The customer that owns the operation; null if it belongs to the deployment.
    #[schema(value_type = Option<schema::CustomerId>, required = true)]
    pub customer_id: Option<CustomerId>,
    /// What the operation does.
    #[schema(value_type = schema::OperationKind)]
    pub kind: String,
    /// The state of the operation.
    #[schema(value_type = schema::OperationState)]
    pub state: OperationState,
    /// What the operation is about. `delete_customer` has the `customer_id` and the `name` of the customer; `reseal`
    /// has nothing; `retry_deliveries`, `cancel_deliveries` and `release_deliveries` have the filter `deliveries`;
    /// `replay` and `release_events` have the `replay_id` of the replay, which shows more.
    #[schema(value_type = Object)]
    pub parameters: Value,
    /// How many rows or values the operation has processed: with `delete_customer` the rows of history that it has
    /// deleted, with `reseal` the encrypted values that it has looked at, with `retry_deliveries`, `cancel_deliveries`
    /// and `release_deliveries` the deliveries that it has changed or skipped, with `replay` and `release_events` the
    /// matches of the replay.
    pub processed: i64,
    /// How many of them it could not process: with `reseal` the values that no key decrypts.
    pub failed: i64,
    /// How many deliveries the operation has retried, cancelled or released; with `replay` and `release_events` how many
    /// it has created.
    pub changed: i64,
    /// How many deliveries or events the operation has left as they are, by the reason.
    pub skipped: SkippedDeliveries,
    /// How many there are in total; null if that is not known.
    #[schema(required = true)]
    pub total: Option<i64>,
    /// How many are left, as far as `total` is known and right; null if it is not known.
    #[schema(required = true)]
    pub remaining: Option<i64>,
    /// How many the operation has processed per second, since it was created until it last made progress; null before.
    #[schema(required = true)]
    pub processed_per_s: Option<f64>,
    /// While the operation runs: why its last chunk failed; the relay retries it. If the operation has failed: why.
    /// Otherwise null.
    #[schema(required = true)]
    pub error: Option<String>,
    /// When the operation was created. It starts at once.
    pub created_at: Timestamp,
    /// When the operation last made progress or failed to.
    pub updated_at: Timestamp,
    /// When the operation ended; null while it runs.
    #[schema(required = true)]
    pub finished_at: Option<Timestamp>,
}

/// The numbers of deliveries that an operation leaves as they are, by the reason.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct SkippedDeliveries {
    /// Their destination has been deleted.
    pub destination_deleted: i64,
    /// The body of their event is no longer kept.
    pub body_not_kept: i64,
    /// They are held together with all deliveries to their destination, because it is paused, disabled or unusable.
    /// Resume the destination.
    pub held_by_destination: i64,
}

/// The kinds of operations that have a call of their own are not created here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = NewOperationKind)]
pub enum NewKind {
    /// Encrypts every stored secret with the first key in `TIDEGATE_MASTER_KEY`.
    Reseal,
    RetryDeliveries,
    CancelDeliveries,
    ReleaseDeliveries,
    ReleaseEvents,
}

impl NewKind {
    /// The scope that the creation of such an operation needs.
    const fn scope(self) -> Scope {
        match self {
            Self::Reseal => Scope::Admin,
            Self::RetryDeliveries | Self::CancelDeliveries | Self::ReleaseDeliveries | Self::ReleaseEvents => {
                Scope::Replay
            }
        }
    }
}

/// An operation to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOperation {
    /// What the operation does.
    pub kind: NewKind,
    /// Selects deliveries like the parameters of `GET /v1/deliveries`. Required with `retry_deliveries`, with `state`
    /// `dead`, `cancelled` or `succeeded`; with `cancel_deliveries`, with `state` `pending` or `held`, or without a state
    /// for both; and with `release_deliveries`, with `state` `held` or without a state. With `ids`, it has no state, and
    /// the operation leaves out the deliveries in a state that it does not change.
    #[serde(default, deserialize_with = "optional_object")]
    pub deliveries: Option<DeliveryFilter>,
    /// Selects events in quarantine. Required with `release_events`.
    #[serde(default, deserialize_with = "optional_object")]
    pub events: Option<QuarantineFilter>,
    /// If true, only says what the operation would do, and changes nothing. Not with `reseal`.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an operation would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperationPlan {
    /// Always true: nothing was changed.
    pub dry_run: bool,
    /// Whether everything that matches has been counted. If false, the real numbers may be higher.
    pub complete: bool,
    /// How many deliveries or events match.
    pub matched: i64,
    /// How many of them the operation would change. With `verifies_now` at most so many, because the events are verified
    /// again when they are released.
    pub changed: i64,
    /// How many of them it would leave as they are.
    pub skipped: SkippedDeliveries,
    /// How many deliveries to each destination would be changed; the destinations with the most come first, at most 100
    /// of them. Empty with `release_events`, because the routes decide when the events are released.
    pub destinations: Vec<PlannedDestination>,
    /// How many deliveries to all other destinations would be changed.
    pub elsewhere: i64,
    /// The minimum time to send the deliveries, in seconds: that of the destination whose rate limit takes longest. Null
    /// if nothing would be sent, or if none of the destinations has a rate limit.
    #[schema(required = true)]
    pub estimated_s: Option<f64>,
}

/// How many deliveries to a destination an operation would change.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlannedDestination {
    /// The id of the destination.
    #[schema(value_type = schema::DestinationId)]
    pub destination_id: DestinationId,
    /// The name of the destination; null if it has been deleted.
    #[schema(required = true)]
    pub destination: Option<String>,
    /// How many deliveries would be changed.
    pub changed: i64,
}

/// Selects operations.
#[derive(Debug, Clone, Copy, Default)]
pub struct OperationFilter {
    pub kind: Option<OperationKind>,
    pub state: Option<OperationState>,
}

/// The result of a call that creates an operation or plans one.
#[derive(Debug)]
pub enum Made {
    Operation(Box<Operation>),
    /// The result of a dry run.
    Plan(OperationPlan),
}

/// Creates an operation or, with `dry_run`, says what it would do. An operation that changes deliveries takes those that
/// match when their chunk is processed, and that were created, and if it retries or releases them settled or held, before
/// the call.
///
/// # Errors
/// Returns every invalid field, an error if the actor is bound to a customer and the operation belongs to the deployment,
/// or an error if a query fails.
pub async fn create(control: &Control, actor: &Actor, new: NewOperation) -> Result<Made, Error> {
    actor.require(new.kind.scope())?;
    let change = match new.kind {
        NewKind::Reseal => return reseal(control, actor, &new).await,
        NewKind::ReleaseEvents => return release_events(control, actor, new).await,
        NewKind::RetryDeliveries => Change::Retry,
        NewKind::CancelDeliveries => Change::Cancel,
        NewKind::ReleaseDeliveries => Change::Release,
    };
    let (task, shown) = task(control, actor, change, new.deliveries, new.events.is_some()).await?;
    let now_ms = control.clock.now_ms().await?;
    if new.dry_run {
        let plan = task.plan(&control.pool, &control.config.retention, now_ms, PLAN_WITHIN).await?;
        return Ok(Made::Plan(planned(control, change, &plan)));
    }
    // The operation does not depend on the count, which may take too long.
    let counted = task.plan(&control.pool, &control.config.retention, now_ms, COUNT_WITHIN).await;
    let total = counted.ok().filter(|plan| plan.complete).map(|plan| plan.tally.taken());
    let id = OperationId::from_uuid(mint::uuid());
    let selection = serde_json::to_value(&task.selection).map_err(|error| Error::Internal(error.to_string()))?;
    let new = New {
        id,
        customer: Some(task.customer),
        kind: change.kind(),
        step: "deliveries",
        parameters: json!({ "deliveries": shown }),
        total,
        takes: Some(Takes { selection, range: task.range }),
    };
    let entry = record::entry(actor, Action::OperationCreate, Object::of(id, task.customer));
    let entry = entry.with(None, Some(json!({ "kind": change.kind(), "deliveries": shown })), []);
    let row = operations::insert(&control.pool, &new, |row| answering(control, actor, row, entry)).await?;
    control.wakers.operations.notify_one();
    Ok(Made::Operation(Box::new(view(row))))
}

/// Creates an operation that encrypts the secrets of the deployment again.
async fn reseal(control: &Control, actor: &Actor, new: &NewOperation) -> Result<Made, Error> {
    actor.require_unbound()?;
    let mut problems = Problems::default();
    for (field, is_given) in
        [("deliveries", new.deliveries.is_some()), ("events", new.events.is_some()), ("dry_run", new.dry_run)]
    {
        if is_given {
            problems.add(field, "cannot be used with the kind reseal, which is about every stored secret; omit it");
        }
    }
    problems.finish()?;
    let id = OperationId::from_uuid(mint::uuid());
    let entry = record::entry(actor, Action::OperationCreate, Object::of_deployment(id));
    let entry = entry.with(None, Some(json!({ "kind": OperationKind::Reseal })), []);
    let row = store::sealed::create(&control.pool, id, |row| answering(control, actor, row, entry)).await?;
    control.wakers.operations.notify_one();
    Ok(Made::Operation(Box::new(view(row))))
}

/// The entry of a new operation, which is the answer of its call.
fn answering(control: &Control, actor: &Actor, row: &OperationRow, entry: NewEntry) -> NewEntry {
    actor.answers(control, Outcome::Later, &view(row.clone()));
    entry
}

/// Creates a replay that releases events from quarantine.
async fn release_events(control: &Control, actor: &Actor, new: NewOperation) -> Result<Made, Error> {
    let mut problems = Problems::default();
    if new.deliveries.is_some() {
        problems.add("deliveries", "cannot be used with the kind release_events; use events");
    }
    let Some(filter) = new.events else {
        problems
            .add("events", "is required with the kind release_events; an empty object selects the whole quarantine");
        return Err(problems.finish().err().unwrap_or(Error::Internal("a problem was not noted".to_owned())));
    };
    problems.finish()?;
    if new.dry_run {
        let (matched, complete) = replays::plan_release(control, actor, filter).await?;
        let (skipped, destinations) = (SkippedDeliveries::default(), Vec::new());
        return Ok(Made::Plan(OperationPlan {
            dry_run: true,
            complete,
            matched,
            changed: matched,
            skipped,
            destinations,
            elsewhere: 0,
            estimated_s: None,
        }));
    }
    let replay = replays::release(control, actor, filter).await?;
    let id = OperationId::from_uuid(replay.uuid());
    let row = operations::find(&control.pool, Some(actor.customer()?), id).await?;
    Ok(Made::Operation(Box::new(row.map(view).ok_or(Error::NotFound(Noun::Operation))?)))
}

/// What an operation that changes deliveries takes, and its filter as it is shown.
async fn task(
    control: &Control,
    actor: &Actor,
    change: Change,
    filter: Option<DeliveryFilter>,
    names_events: bool,
) -> Result<(Task, DeliveryFilter), Error> {
    let customer = actor.customer()?;
    let kind = change.kind().name();
    let (mut problems, mut of_filter) = (Problems::default(), Problems::default());
    if names_events {
        problems.add("events", format!("cannot be used with the kind {kind}; use deliveries"));
    }
    if filter.is_none() {
        problems.add("deliveries", format!("is required with the kind {kind}"));
    }
    let shown = filter.unwrap_or_default();
    if let Some(message) = wrong_state(change, shown.state).filter(|_| shown.ids.is_none()) {
        of_filter.add("state", message);
    }
    if shown.error.is_some() && change != Change::Retry {
        of_filter.add("error", format!("cannot be used with the kind {kind}, because only dead deliveries have one"));
    }
    let window = Window::read(&PageRequest::default(), &mut of_filter);
    let (mut selection, mut range) = shown.clone().read(control, actor, window, &mut of_filter).await?;
    problems.add_of("deliveries", of_filter);
    problems.finish()?;
    match change {
        Change::Retry => {}
        Change::Cancel => selection.unsettled = true,
        Change::Release => selection.state = Some(DeliveryState::Held),
    }
    let (until, made_at) = newest(control).await?;
    range.until = range.until.min(until);
    Ok((Task { change, customer, selection, range, made_at }, shown))
}

/// What is wrong with the state in the filter of an operation; `None` if nothing is.
fn wrong_state(change: Change, state: Option<DeliveryState>) -> Option<&'static str> {
    match (change, state) {
        (Change::Retry, None) => Some("is required with the kind retry_deliveries; use dead, cancelled or succeeded"),
        (Change::Retry, Some(DeliveryState::Pending | DeliveryState::Held)) => {
            Some("must be dead, cancelled or succeeded, because pending and held deliveries have yet to be sent")
        }
        (Change::Cancel, Some(DeliveryState::Succeeded | DeliveryState::Dead | DeliveryState::Cancelled)) => {
            Some("must be pending or held, because other deliveries have ended; omit it for both")
        }
        (
            Change::Release,
            Some(DeliveryState::Pending | DeliveryState::Succeeded | DeliveryState::Dead | DeliveryState::Cancelled),
        ) => Some("must be held, because no other deliveries can be released; it can be omitted"),
        (Change::Retry | Change::Cancel | Change::Release, _) => None,
    }
}

/// The upper bound of the ids of deliveries that an operation created now can take, and the time by the database's
/// clock. A clock that ran ahead may have minted a greater id.
async fn newest(control: &Control) -> Result<(uuid::Uuid, OffsetDateTime), Error> {
    let from = uuid_v7_floor(control.clock.now_ms().await?);
    let Newest { now, delivery_id, .. } = stored_replays::newest(&control.pool, from).await?;
    Ok((delivery_id.map_or(from, |id| after(id.uuid())), now))
}

/// The plan as callers see it.
fn planned(control: &Control, change: Change, plan: &Plan) -> OperationPlan {
    let snapshot = control.configuration.current();
    let name = |id| snapshot.customer_and_name(id).map(|(_, name)| name.to_owned());
    let mut destinations: Vec<PlannedDestination> = plan
        .destinations
        .iter()
        .map(|(id, changed)| PlannedDestination { destination_id: *id, destination: name(*id), changed: *changed })
        .collect();
    destinations.sort_by_key(|planned| std::cmp::Reverse(planned.changed));
    let sent = destinations.iter().filter(|_| change != Change::Cancel);
    let estimates = sent.filter_map(|planned| {
        crate::replay::estimate_s(planned.changed, snapshot.destinations.get(&planned.destination_id)?.rate)
    });
    let estimated_s = estimates.max_by(f64::total_cmp);
    destinations.truncate(MOST_DESTINATIONS);
    let named: i64 = destinations.iter().map(|planned| planned.changed).sum();
    OperationPlan {
        dry_run: true,
        complete: plan.complete,
        matched: plan.tally.taken(),
        changed: plan.tally.changed,
        skipped: skipped(plan.tally),
        elsewhere: plan.tally.changed - named,
        destinations,
        estimated_s,
    }
}

fn skipped(tally: Tally) -> SkippedDeliveries {
    let Tally { destination_deleted, body_not_kept, held_by_destination, .. } = tally;
    SkippedDeliveries { destination_deleted, body_not_kept, held_by_destination }
}

/// A page of operations, newest first: those of the customer that the actor is bound to, or else all, also those of the
/// deployment.
///
/// # Errors
/// Returns an error if the limit or the cursor is invalid, or if a query fails.
pub async fn list(
    control: &Control,
    actor: &Actor,
    filter: OperationFilter,
    page: &PageRequest,
) -> Result<Page<Operation>, Error> {
    actor.require(Scope::Read)?;
    let window = page.window()?;
    let filter = Filter { customer: seen_by(actor), kind: filter.kind, state: filter.state };
    let rows = operations::page(&control.pool, filter, window.cursor, window.fetch()).await?;
    Ok(window.page(rows, |row| row.id.uuid(), view))
}

/// One of those operations.
///
/// # Errors
/// Returns an error if the operation does not exist, or if a query fails.
pub async fn show(control: &Control, actor: &Actor, id: &str) -> Result<Operation, Error> {
    actor.require(Scope::Read)?;
    find(control, actor, id).await.map(view)
}

/// Cancels an operation: a replay, or one that changes deliveries. What it has done is kept.
///
/// # Errors
/// Returns an error if the operation does not exist, a conflict if it has ended or is of another kind, or an error if a
/// query fails.
pub async fn cancel(control: &Control, actor: &Actor, id: &str) -> Result<Operation, Error> {
    actor.require(Scope::Replay)?;
    let row = find(control, actor, id).await?;
    if row.is_replay {
        let customer = row.customer_id.ok_or(Error::NotFound(Noun::Operation))?;
        let replay = ReplayId::from_uuid(row.id.uuid());
        replays::cancel(control, &actor.clone().acting_for(customer), &replay.to_string()).await?;
        return find(control, actor, id).await.map(view);
    }
    let kinds = Change::ALL.map(Change::kind);
    if !kinds.iter().any(|kind| kind.name() == row.kind) {
        return Err(Error::Conflict(Conflict::NotCancellable));
    }
    let object = Object::of_deployment(row.id).owned_by(row.customer_id);
    let entry = record::entry(actor, Action::OperationCancel, object);
    if !operations::cancel(&control.pool, row.id, &kinds, &entry).await? {
        return Err(Error::Conflict(Conflict::OperationFinished));
    }
    find(control, actor, id).await.map(view)
}

async fn find(control: &Control, actor: &Actor, id: &str) -> Result<OperationRow, Error> {
    let id = id.parse().map_err(|_| Error::NotFound(Noun::Operation))?;
    operations::find(&control.pool, seen_by(actor), id).await?.ok_or(Error::NotFound(Noun::Operation))
}

/// The customer whose operations the actor sees; `None` if it sees all.
fn seen_by(actor: &Actor) -> Option<CustomerId> {
    actor.bound_to().map(|owner| owner.id)
}

pub(super) fn view(row: OperationRow) -> Operation {
    let parameters = match row.is_replay {
        true => json!({ "replay_id": ReplayId::from_uuid(row.id.uuid()) }),
        false => row.parameters,
    };
    let is_open = row.finished_at.is_none();
    Operation {
        id: row.id,
        customer_id: row.customer_id,
        kind: row.kind,
        state: row.state,
        parameters,
        processed: row.processed,
        failed: row.failed,
        changed: row.changed,
        skipped: SkippedDeliveries {
            destination_deleted: row.skipped_destination_deleted,
            body_not_kept: row.skipped_body_not_kept,
            held_by_destination: row.skipped_held_by_destination,
        },
        total: row.total,
        remaining: if is_open { row.total.map(|total| (total - row.processed).max(0)) } else { Some(0) },
        processed_per_s: per_second(row.processed, row.updated_at - row.created_at),
        error: row.error,
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
        finished_at: row.finished_at.map(Timestamp),
    }
}

/// How many were processed per second; `None` if none was.
fn per_second(processed: i64, within: time::Duration) -> Option<f64> {
    let seconds = within.as_seconds_f64();
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    (processed > 0 && seconds > 0.0).then(|| processed as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_takes_only_the_states_in_which_it_has_an_effect() {
        let takes = |change| {
            let states = DeliveryState::ALL.into_iter().filter(|state| wrong_state(change, Some(*state)).is_none());
            states.map(DeliveryState::name).collect::<Vec<_>>()
        };
        assert_eq!(takes(Change::Retry), ["succeeded", "dead", "cancelled"]);
        assert_eq!(takes(Change::Cancel), ["pending", "held"]);
        assert_eq!(takes(Change::Release), ["held"]);
        let of_all = Change::ALL.map(|change| wrong_state(change, None).is_none());
        assert_eq!(of_all, [false, true, true], "what is retried has to be named");
    }

    #[test]
    fn a_speed_needs_progress() {
        assert_eq!(per_second(0, time::Duration::seconds(5)), None);
        assert_eq!(per_second(5, time::Duration::ZERO), None);
        assert_eq!(per_second(100, time::Duration::seconds(5)), Some(20.0));
    }
}
