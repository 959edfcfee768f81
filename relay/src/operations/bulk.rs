//! Retries, cancels or releases the deliveries that an operation takes.
//!
//! The deliveries are searched as for a list, newest first. The search takes no lock. The transaction that changes what
//! it has found locks the operation and the deliveries, and checks each delivery again ([`store::bulk`]). Deliveries
//! that become due wait in the lanes of their destinations, like all others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use shared::id::{CustomerId, DeliveryId, DestinationId};
use store::bulk::{self, Applied, Bounds, Change, End, Tally};
use store::deliveries::{self, Selection};
use store::operations::Place;
use store::partitions::with_partitions;
use store::search::{self, Limits, Order, Outcome, Range};
use store::{Pool, Result};
use time::OffsetDateTime;

use super::rows_of;
use crate::App;
use crate::history::Retention;

/// The most deliveries that one chunk changes: the size of one transaction.
pub(crate) const AT_ONCE: i64 = 1_000;

/// The limits of a chunk's search for matching deliveries. When one is reached, the cursor moves to where the search
/// stopped. The time is short, because other operations wait for their turn.
pub(crate) const RANGE_LIMITS: Limits =
    Limits { first: 2_000, largest: 20_000, total: 100_000, within: Duration::from_millis(250) };

/// How long one call plans.
pub(crate) const PLAN_WITHIN: Duration = Duration::from_secs(5);

/// The most deliveries that one call plans.
pub(crate) const MOST_PLANNED: i64 = 100_000;

/// How long the call that creates an operation counts what it takes.
pub(crate) const COUNT_WITHIN: Duration = Duration::from_secs(1);

/// The most destinations that a plan names.
pub(crate) const MOST_DESTINATIONS: usize = 100;

/// What an operation changes.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub change: Change,
    pub customer: CustomerId,
    pub selection: Selection,
    /// The ids of the deliveries.
    pub range: Range,
    /// Deliveries that were settled, or held, later are not taken.
    pub made_at: OffsetDateTime,
}

/// What an operation would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub tally: Tally,
    /// How many deliveries to each destination would be changed.
    pub destinations: BTreeMap<DestinationId, i64>,
    /// Whether all deliveries have been found. Otherwise there may be more.
    pub complete: bool,
}

impl Task {
    fn bounds(&self, retention: &Retention, now_ms: u64) -> Bounds {
        let first_with_body = retention.first_with_body(now_ms);
        Bounds { customer: self.customer, made_at: self.made_at, now_ms, first_with_body }
    }

    /// The first deliveries of a range, and where the next ones begin.
    async fn search(&self, pool: &Pool, range: Range, limit: i64, limits: Limits) -> Result<(Vec<DeliveryId>, End)> {
        if !self.selection.ids.is_empty() {
            return self.listed(pool, range, limit).await;
        }
        let mut page = deliveries::Page::begin(pool, Some(self.customer), self.selection.clone(), limit).await?;
        let outcome = search::run(pool, &mut page, Order::NewestFirst, range, limits).await?;
        let found: Vec<DeliveryId> = page.found.into_iter().map(|row| row.id).collect();
        let end = end(outcome, found.last().copied());
        Ok((found, end))
    }

    /// The first deliveries of a range among those that the task lists by their ids. Which of them are in a state that
    /// the task changes is checked by [`bulk::plan`] and [`bulk::apply`]; a release takes only held ones.
    async fn listed(&self, pool: &Pool, range: Range, limit: i64) -> Result<(Vec<DeliveryId>, End)> {
        let Selection { ids, unusable, .. } = &self.selection;
        let (found, end) = listed(ids, range, usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(match self.change {
            Change::Retry | Change::Cancel => (found, end),
            Change::Release => (deliveries::held_of(pool, self.customer, &found, unusable).await?, end),
        })
    }

    /// What the task would do now, as far as it is found within `within`.
    ///
    /// # Errors
    /// Returns an error if a statement fails.
    pub(crate) async fn plan(&self, pool: &Pool, retention: &Retention, now_ms: u64, within: Duration) -> Result<Plan> {
        let bounds = self.bounds(retention, now_ms);
        let begun = Instant::now();
        let mut plan = Plan::default();
        let mut range = self.range;
        while plan.tally.taken() < MOST_PLANNED {
            let left = within.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(plan);
            }
            let limits = Limits { within: left, ..RANGE_LIMITS };
            let (found, end) = self.search(pool, range, AT_ONCE, limits).await?;
            for taken in bulk::plan(pool, self.change, &found, bounds).await? {
                plan.tally.add(taken.skipped);
                if taken.skipped.is_none() {
                    *plan.destinations.entry(taken.destination_id).or_default() += 1;
                }
            }
            match end {
                End::Before(id) => range.until = id,
                End::Last => return Ok(Plan { complete: true, ..plan }),
            }
        }
        Ok(plan)
    }
}

/// Where the deliveries after those that a search has found begin.
fn end(outcome: Outcome, last: Option<DeliveryId>) -> End {
    match (outcome, last) {
        (Outcome::Full, Some(last)) => End::Before(last.uuid()),
        (Outcome::Stopped(rest), _) => End::Before(rest.until),
        (Outcome::Full, None) | (Outcome::End, _) => End::Last,
    }
}

/// The newest of these deliveries that are in the range, at most `limit`, and where the next ones begin.
fn listed(ids: &[DeliveryId], range: Range, limit: usize) -> (Vec<DeliveryId>, End) {
    let within = ids.iter().copied().filter(|id| id.uuid() >= range.from && id.uuid() < range.until);
    let sorted: BTreeSet<DeliveryId> = within.collect();
    let found: Vec<DeliveryId> = sorted.iter().rev().copied().take(limit.max(1)).collect();
    match found.last() {
        Some(last) if found.len() < sorted.len() => (found.clone(), End::Before(last.uuid())),
        Some(_) | None => (found, End::Last),
    }
}

/// The task of an operation.
fn task(app: &App, place: &Place, change: Change) -> std::result::Result<Task, String> {
    let (Some(customer), Some(selection), Some(from), Some(until)) =
        (place.customer_id, place.selection.clone(), place.from_id, place.until_id)
    else {
        return Err("the operation names no deliveries; cancel it, and create another one".to_owned());
    };
    let selection: Selection = serde_json::from_value(selection)
        .map_err(|error| format!("this relay cannot read which deliveries it takes: {error}"))?;
    let selection = Selection { unusable: app.configuration.current().unusable_ids(), ..selection };
    let range = Range { from, until: place.cursor.unwrap_or(until).min(until) };
    Ok(Task { change, customer, selection, range, made_at: place.created_at })
}

/// Works on one chunk.
///
/// # Errors
/// Returns why the chunk failed.
pub(super) async fn turn(app: &App, place: &Place, change: Change) -> std::result::Result<(), String> {
    let task = task(app, place, change)?;
    match chunk(app, place, &task).await {
        Ok(Some(applied)) => {
            tell(app, change, &applied).await.map_err(|error| error.to_string())?;
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn chunk(app: &App, place: &Place, task: &Task) -> Result<Option<Applied>> {
    let bounds = task.bounds(&app.config.retention, app.clock.now_ms().await?);
    let limit = rows_of(place.tries).min(AT_ONCE);
    let (found, end) = task.search(&app.pool, task.range, limit, RANGE_LIMITS).await?;
    with_partitions!(&app.pool, bulk::apply(&app.pool, place, task.change, &found, bounds, end))
}

/// Tells the engine of this replica what has changed. The others find it by their scans and signals.
async fn tell(app: &App, change: Change, applied: &Applied) -> Result<()> {
    if change == Change::Cancel {
        for (destination, delivery) in &applied.changed {
            app.engine.delivery_cancelled(*destination, *delivery);
        }
        for (destination, key) in &applied.freed {
            deliveries::free_key(&app.pool, *destination, *key).await?;
        }
        let destinations: BTreeSet<DestinationId> = applied.freed.iter().map(|(destination, _)| *destination).collect();
        destinations.into_iter().for_each(|destination| app.engine.rescan(destination));
        return Ok(());
    }
    let destinations: BTreeSet<DestinationId> = applied.changed.iter().map(|(destination, _)| *destination).collect();
    destinations.into_iter().for_each(|destination| app.engine.rescan(destination));
    if applied.undecided {
        app.wakers.undecided.notify_one();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn listed_deliveries_are_taken_newest_first_and_once() {
        let id = |number: u128| DeliveryId::from_uuid(Uuid::from_u128(number));
        let ids = [id(3), id(9), id(5), id(3), id(7)];
        let range = Range { from: Uuid::from_u128(3), until: Uuid::from_u128(9) };
        assert_eq!(listed(&ids, range, 9), (vec![id(7), id(5), id(3)], End::Last));
        assert_eq!(listed(&ids, range, 2), (vec![id(7), id(5)], End::Before(id(5).uuid())));
        let rest = Range { until: id(5).uuid(), ..range };
        assert_eq!(listed(&ids, rest, 2), (vec![id(3)], End::Last));
        assert_eq!(listed(&[], range, 2), (vec![], End::Last));
    }

    #[test]
    fn a_chunk_ends_at_the_last_delivery_that_was_found_or_where_the_search_stopped() {
        let last = DeliveryId::from_uuid(Uuid::from_u128(9));
        let rest = Range { from: Uuid::nil(), until: Uuid::from_u128(5) };
        assert_eq!(end(Outcome::Full, Some(last)), End::Before(last.uuid()));
        assert_eq!(end(Outcome::Stopped(rest), Some(last)), End::Before(rest.until));
        assert_eq!(end(Outcome::Stopped(rest), None), End::Before(rest.until));
        assert_eq!(end(Outcome::End, Some(last)), End::Last);
    }
}
