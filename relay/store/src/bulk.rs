//! The operations that change many deliveries: they retry, cancel or release what a [`Selection`] has.
//!
//! An operation searches the deliveries like a list, newest first, and changes them in chunks. The transaction of a
//! chunk locks the row of the operation, changes the deliveries and moves the cursor, so each delivery is changed once.
//! A delivery that another transaction has locked is left for the next chunk: the cursor stays above it. The deliveries
//! below it that the chunk has changed no longer match then.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use model::delivery::DeliveryState;
use model::operation::OperationKind;
use shared::id::{CustomerId, DeliveryId, DestinationId, ReplayId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::body_retention;
use super::held::{self, Release};
use super::operations::{Chunk, Place};
use super::replays::counts::{self, Counts};
use super::search::after;
use crate::column::{As, Maybe};
use crate::deliveries::{self, Ended};
use crate::{Connection, Pool, Result};

/// How an operation changes deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Settled deliveries become pending again, and are due now.
    Retry,
    /// Pending and held deliveries are cancelled.
    Cancel,
    /// Deliveries that are held individually are due now.
    Release,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Retry, Self::Cancel, Self::Release];

    /// The kind of the operation.
    #[must_use]
    pub const fn kind(self) -> OperationKind {
        match self {
            Self::Retry => OperationKind::RetryDeliveries,
            Self::Cancel => OperationKind::CancelDeliveries,
            Self::Release => OperationKind::ReleaseDeliveries,
        }
    }

    /// The change that operations of a kind make; `None` if they change no deliveries in this way.
    #[must_use]
    pub fn of(kind: OperationKind) -> Option<Self> {
        Self::ALL.into_iter().find(|change| change.kind() == kind)
    }
}

/// What decides whether a delivery is changed, besides the selection.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub customer: CustomerId,
    /// Deliveries that were settled, or held, later than this are not taken.
    pub made_at: OffsetDateTime,
    /// The relay's time, Unix time in milliseconds.
    pub now_ms: u64,
    /// The first id of an event whose body is kept, if its customer has no shorter retention.
    pub first_with_body: Uuid,
}

/// Why a delivery is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// Its destination no longer exists.
    DestinationDeleted,
    /// The body of its event is no longer kept.
    BodyNotKept,
    /// It is held together with all deliveries to its destination, so a release has no effect.
    HeldByDestination,
}

/// A delivery that an operation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub id: DeliveryId,
    pub destination_id: DestinationId,
    /// The replay that made it.
    pub replay_id: Option<ReplayId>,
    /// The state of a settled delivery.
    pub state: Option<DeliveryState>,
    /// `None` if it is changed.
    pub skipped: Option<Skipped>,
}

/// How many deliveries were taken, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub changed: i64,
    pub destination_deleted: i64,
    pub body_not_kept: i64,
    pub held_by_destination: i64,
}

impl Tally {
    /// Adds a delivery.
    pub fn add(&mut self, skipped: Option<Skipped>) {
        let count = match skipped {
            None => &mut self.changed,
            Some(Skipped::DestinationDeleted) => &mut self.destination_deleted,
            Some(Skipped::BodyNotKept) => &mut self.body_not_kept,
            Some(Skipped::HeldByDestination) => &mut self.held_by_destination,
        };
        *count += 1;
    }

    /// All deliveries that were taken.
    #[must_use]
    pub fn taken(&self) -> i64 {
        self.changed + self.destination_deleted + self.body_not_kept + self.held_by_destination
    }
}

/// What a chunk has done.
#[derive(Debug, Default)]
pub struct Applied {
    pub tally: Tally,
    /// The deliveries that were changed, with their destinations.
    pub changed: Vec<(DestinationId, DeliveryId)>,
    /// Whether the routes of some are evaluated before they are sent.
    pub undecided: bool,
    /// The order keys of cancelled deliveries. The next delivery of each is to be freed by [`deliveries::free_key`].
    pub freed: BTreeSet<(DestinationId, i64)>,
}

/// The end of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The next chunk takes deliveries before this id.
    Before(Uuid),
    /// No delivery is left.
    Last,
}

/// A settled delivery that a retry may take.
struct SettledRow {
    id: DeliveryId,
    destination_id: DestinationId,
    event_id: Uuid,
    replay_id: Option<ReplayId>,
    state: DeliveryState,
    has_destination: bool,
}

/// A pending delivery that a cancellation or a release may take.
struct PendingRow {
    id: DeliveryId,
    destination_id: DestinationId,
    replay_id: Option<ReplayId>,
    /// Whether it is held individually.
    is_held: bool,
    /// Whether it was held later than the operation was created.
    is_held_later: bool,
}

/// The settled deliveries of these ids; locked, if `$lock` says so.
macro_rules! settled_rows {
    ($connection:expr, $ids:expr, $bounds:expr $(, $lock:literal)?) => {
        sqlx::query_as!(
            SettledRow,
            r#"select id as "id!: As<DeliveryId>", destination_id as "destination_id!: As<DestinationId>", event_id,
                      replay_id as "replay_id!: Maybe<ReplayId>", state as "state!: As<DeliveryState>",
                      exists (select from destinations where destinations.id = settled.destination_id)
                          as "has_destination!"
               from settled_deliveries settled
               where id = any($1) and customer_id = $2 and settled_at <= $3"# $(+ $lock)?,
            $ids,
            $bounds.customer.uuid(),
            $bounds.made_at
        )
        .fetch_all(&mut *$connection)
        .await?
    };
}

/// The pending deliveries of these ids; locked, if `$lock` says so.
macro_rules! pending_rows {
    ($connection:expr, $ids:expr, $bounds:expr $(, $lock:literal)?) => {
        sqlx::query_as!(
            PendingRow,
            r#"select id as "id!: As<DeliveryId>", destination_id as "destination_id!: As<DestinationId>",
                      replay_id as "replay_id!: Maybe<ReplayId>", held_reason is not null as "is_held!",
                      coalesce(held_at > $3, false) as "is_held_later!"
               from pending_deliveries where id = any($1) and customer_id = $2"# $(+ $lock)?,
            $ids,
            $bounds.customer.uuid(),
            $bounds.made_at
        )
        .fetch_all(&mut *$connection)
        .await?
    };
}

/// Settled deliveries as a retry takes them.
async fn retried(connection: &mut Connection, rows: Vec<SettledRow>, bounds: Bounds) -> Result<Vec<Taken>> {
    let days = body_retention::days_of(&mut *connection, bounds.customer).await?;
    let first = body_retention::first_with_body(bounds.now_ms, days, bounds.first_with_body);
    let events: Vec<Uuid> = rows.iter().map(|row| row.event_id).collect();
    let bodies = sqlx::query_scalar!("select event_id from event_bodies where event_id = any($1)", &events)
        .fetch_all(connection)
        .await?;
    let bodies: HashSet<Uuid> = bodies.into_iter().collect();
    let taken = rows.into_iter().map(|row| {
        // Partitions that are past their retention may be about to be dropped.
        let is_kept = bodies.contains(&row.event_id) && row.event_id.min(row.id.uuid()) >= first;
        let skipped = match (row.has_destination, is_kept) {
            (false, _) => Some(Skipped::DestinationDeleted),
            (true, false) => Some(Skipped::BodyNotKept),
            (true, true) => None,
        };
        let SettledRow { id, destination_id, replay_id, state, .. } = row;
        Taken { id, destination_id, replay_id, state: Some(state), skipped }
    });
    Ok(taken.collect())
}

/// Pending deliveries as a cancellation or a release takes them.
fn cancelled_or_released(rows: Vec<PendingRow>, change: Change) -> Vec<Taken> {
    let is_release = change == Change::Release;
    let rows = rows.into_iter().filter(|row| !(is_release && row.is_held_later));
    let taken = rows.map(|PendingRow { id, destination_id, replay_id, is_held, .. }| {
        let skipped = (is_release && !is_held).then_some(Skipped::HeldByDestination);
        Taken { id, destination_id, replay_id, state: None, skipped }
    });
    taken.collect()
}

/// What a change would do with these deliveries now. Those that it would not take are left out.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn plan(pool: &Pool, change: Change, ids: &[DeliveryId], bounds: Bounds) -> Result<Vec<Taken>> {
    let ids = uuids(ids);
    let connection = &mut pool.acquire().await?;
    match change {
        Change::Retry => {
            let rows = settled_rows!(connection, &ids, bounds);
            retried(connection, rows, bounds).await
        }
        Change::Cancel | Change::Release => Ok(cancelled_or_released(pending_rows!(connection, &ids, bounds), change)),
    }
}

fn uuids(ids: &[DeliveryId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.uuid()).collect()
}

/// Locks the deliveries that a change takes, except those that other transactions have locked. Also returns the last of
/// the latter.
async fn lock(
    connection: &mut Connection,
    change: Change,
    ids: &[Uuid],
    bounds: Bounds,
) -> Result<(Vec<Taken>, Option<Uuid>)> {
    let last_but = |locked: &HashSet<Uuid>, all: Vec<Uuid>| all.into_iter().filter(|id| !locked.contains(id)).max();
    match change {
        Change::Retry => {
            let rows = settled_rows!(connection, ids, bounds, " order by id for update skip locked");
            let locked: HashSet<Uuid> = rows.iter().map(|row| row.id.uuid()).collect();
            let all = settled_rows!(connection, ids, bounds).iter().map(|row| row.id.uuid()).collect();
            Ok((retried(connection, rows, bounds).await?, last_but(&locked, all)))
        }
        Change::Cancel | Change::Release => {
            let rows = pending_rows!(connection, ids, bounds, " order by id for update skip locked");
            let locked: HashSet<Uuid> = rows.iter().map(|row| row.id.uuid()).collect();
            let all = pending_rows!(connection, ids, bounds).iter().map(|row| row.id.uuid()).collect();
            Ok((cancelled_or_released(rows, change), last_but(&locked, all)))
        }
    }
}

/// Changes the deliveries that a search has found, and moves the operation to `end`. `None` if another replica works on
/// the operation, or if it is no longer at this place.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written, or the response to the commit was lost.
pub async fn apply(
    pool: &Pool,
    place: &Place,
    change: Change,
    found: &[DeliveryId],
    bounds: Bounds,
    end: End,
) -> Result<Option<Applied>> {
    let Some(mut chunk) = Chunk::begin(pool, place).await? else { return Ok(None) };
    let connection = &mut chunk.transaction;
    // Keeps destinations from being deleted, and retentions from becoming shorter, before the commit.
    super::configuration::hold(connection).await?;
    let (mut taken, left) = lock(connection, change, &uuids(found), bounds).await?;
    if let Some(left) = left {
        // The next chunk begins at the delivery that is left, and finds again what is skipped below it.
        taken.retain(|taken| taken.skipped.is_none() || taken.id.uuid() > left);
    }
    let changed: Vec<&Taken> = taken.iter().filter(|taken| taken.skipped.is_none()).collect();
    let ids: Vec<Uuid> = changed.iter().map(|taken| taken.id.uuid()).collect();
    let mut applied = Applied::default();
    if change == Change::Retry {
        deliveries::back_to_pending(connection, &ids).await?;
    }
    match change {
        Change::Retry | Change::Release => {
            let due = held::make_due(connection, &ids, Release::ByCaller).await?;
            applied.undecided = due.iter().any(|due| due.undecided);
        }
        Change::Cancel => {
            let ended = deliveries::end_pending(connection, None, &ids).await?;
            applied.freed = ended.iter().filter_map(Ended::freed).collect();
        }
    }
    counts::add(connection, &of_replays(change, changed.iter().copied())).await?;
    taken.iter().for_each(|taken| applied.tally.add(taken.skipped));
    applied.changed = changed.iter().map(|taken| (taken.destination_id, taken.id)).collect();
    let (end, wait) = match left {
        Some(left) => (End::Before(after(left)), LOCKED_PAUSE),
        None => (end, Duration::ZERO),
    };
    advance(connection, place, applied.tally, end, wait).await?;
    chunk.transaction.commit_changes().await?;
    Ok(Some(applied))
}

/// How soon an operation tries again to change deliveries that other transactions have locked.
const LOCKED_PAUSE: Duration = Duration::from_millis(20);

/// What a change adds to the counts of the replays that have made the deliveries.
fn of_replays<'t>(change: Change, changed: impl Iterator<Item = &'t Taken>) -> BTreeMap<ReplayId, Counts> {
    let mut counts: BTreeMap<ReplayId, Counts> = BTreeMap::new();
    for taken in changed {
        let Some(replay) = taken.replay_id else { continue };
        let counts = counts.entry(replay).or_default();
        match (change, taken.state) {
            (Change::Cancel, _) => counts.cancelled += 1,
            (Change::Retry, Some(state)) => counts.take_back(state),
            (Change::Retry, None) | (Change::Release, _) => {}
        }
    }
    counts
}

/// Moves an operation and counts what a chunk has done. The row is locked.
async fn advance(connection: &mut Connection, place: &Place, tally: Tally, end: End, wait: Duration) -> Result<()> {
    let (cursor, is_last) = match end {
        End::Before(id) => (Some(id), false),
        End::Last => (place.cursor, true),
    };
    sqlx::query!(
        "update operations
         set cursor_id = $2, processed = processed + $3, changed = changed + $4,
             skipped_destination_deleted = skipped_destination_deleted + $5,
             skipped_body_not_kept = skipped_body_not_kept + $6,
             skipped_held_by_destination = skipped_held_by_destination + $7, tries = 0, error = null,
             updated_at = clock_timestamp(), next_at = clock_timestamp() + $8::float8 * interval '1 second',
             state = case when $9 then 'completed' else state end,
             finished_at = case when $9 then clock_timestamp() end
         where id = $1",
        place.id.uuid(),
        cursor,
        tally.taken(),
        tally.changed,
        tally.destination_deleted,
        tally.body_not_kept,
        tally.held_by_destination,
        wait.as_secs_f64(),
        is_last
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(replay: Option<ReplayId>, state: Option<DeliveryState>) -> Taken {
        let (id, destination_id) = (DeliveryId::mint(1, [1; 10]), DestinationId::mint(1, [2; 10]));
        Taken { id, destination_id, replay_id: replay, state, skipped: None }
    }

    #[test]
    fn a_kind_of_operation_makes_at_most_one_change() {
        for change in Change::ALL {
            assert_eq!(Change::of(change.kind()), Some(change));
        }
        assert_eq!((Change::of(OperationKind::Reseal), Change::of(OperationKind::Replay)), (None, None));
    }

    #[test]
    fn every_delivery_is_counted_as_changed_or_by_the_reason_for_which_it_is_not() {
        let mut tally = Tally::default();
        let reasons = [Skipped::DestinationDeleted, Skipped::BodyNotKept, Skipped::HeldByDestination];
        for skipped in [None, None].into_iter().chain(reasons.map(Some)) {
            tally.add(skipped);
        }
        assert_eq!((tally.changed, tally.taken()), (2, 5));
        assert_eq!((tally.destination_deleted, tally.body_not_kept, tally.held_by_destination), (1, 1, 1));
    }

    #[test]
    fn the_replays_of_changed_deliveries_count_what_they_have_become() {
        let [one, other] = [1, 2].map(|byte| ReplayId::mint(1, [byte; 10]));
        let dead = Some(DeliveryState::Dead);
        let retried = [taken(Some(one), dead), taken(Some(one), dead), taken(None, dead)];
        let succeeded = taken(Some(other), Some(DeliveryState::Succeeded));
        let counts = of_replays(Change::Retry, retried.iter().chain([&succeeded]));
        let wanted =
            [(one, Counts { dead: -2, ..Counts::default() }), (other, Counts { succeeded: -1, ..Counts::default() })];
        assert_eq!(counts, wanted.into());
        let pending = [taken(Some(one), None), taken(Some(one), None)];
        assert_eq!(of_replays(Change::Cancel, pending.iter()), [(one, Counts::cancelled(2))].into());
        assert_eq!(of_replays(Change::Release, pending.iter()), [(one, Counts::default())].into());
    }
}
