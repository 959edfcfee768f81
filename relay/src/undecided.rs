//! Evaluates undecided deliveries again, and releases the deliveries that a route has held once the route is changed.
//!
//! A filter or an order key that the relay could not evaluate in time is evaluated again after ten seconds, then less
//! and less often, down to every quarter of an hour. A filter that cannot read the event, or an order key that fails,
//! is evaluated again when its route is changed. Deliveries that were held because a transform failed become due then.
//! The time of the next try is stored before each try, so a relay that ends during one loses only that time.

use std::sync::Arc;
use std::time::Duration;

use expression::{MAX_BODY_BYTES, Turn};
use model::held_by::HeldBy;
use shared::id::DeliveryId;
use store::new_event::Undecided;
use store::partitions::with_partitions;
use store::undecided::{self, Decided, Decision, EventRow, Row};
use tokio_util::sync::CancellationToken;

use crate::configuration::{Route, Snapshot};
use crate::intake::Intake;
use crate::route::{self, Becomes};
use crate::waiting::{UNWOKEN_INTERVAL, Wakers};
use crate::{side_by_side, supervise};

/// How many deliveries are evaluated concurrently: each may have a body of [`MAX_BODY_BYTES`] in memory.
pub(crate) const AT_ONCE: i64 = 16;

/// The most held deliveries that one statement releases.
const RELEASED_AT_ONCE: i64 = 500;

/// How long the evaluation of a route may take, including the time spent waiting for its turn.
const EVALUATE_WITHIN: Duration = Duration::from_secs(60);

/// The same while a caller of the API waits for the result.
const ASK_NOW_WITHIN: Duration = Duration::from_secs(10);

/// How often writing a decision is repeated because another part of the configuration has changed in the meantime.
const WRITTEN_AT_MOST: usize = 20;

/// Evaluates due deliveries until `stop`.
pub async fn run(intake: Intake, wakers: Arc<Wakers>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let more = tokio::select! {
            more = round(&intake) => more,
            () = stop.cancelled() => return,
        };
        match more {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "could not re-evaluate undecided deliveries; retrying"),
        }
        tokio::select! {
            () = wakers.undecided.notified() => {}
            () = tokio::time::sleep(UNWOKEN_INTERVAL) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Returns whether there is more to do at once.
async fn round(intake: &Intake) -> store::Result<bool> {
    let (destinations, released) = undecided::release_changed(&intake.pool, RELEASED_AT_ONCE).await?;
    for destination in destinations {
        intake.engine.rescan(destination);
    }
    let rows = undecided::take(&intake.pool, AT_ONCE).await?;
    if rows.is_empty() {
        return Ok(is_full(released, RELEASED_AT_ONCE));
    }
    let snapshot = intake.configuration.refresh().await?;
    let more = is_full(released, RELEASED_AT_ONCE) || is_full(rows.len(), AT_ONCE);
    for decided in side_by_side::all(rows.iter().map(|row| decide(intake, &snapshot, row, EVALUATE_WITHIN))).await {
        decided?;
    }
    Ok(more)
}

/// Evaluates the route of one undecided delivery now, at the request of an API caller. Does nothing if it is not
/// undecided.
///
/// # Errors
/// Returns an error if a query fails. The delivery is then decided later, by [`run`].
pub async fn decide_now(intake: &Intake, delivery: DeliveryId) -> store::Result<()> {
    let Some(row) = undecided::take_one(&intake.pool, delivery).await? else { return Ok(()) };
    let snapshot = intake.configuration.refresh().await?;
    decide(intake, &snapshot, &row, ASK_NOW_WITHIN).await
}

fn is_full(found: usize, limit: i64) -> bool {
    i64::try_from(found).is_ok_and(|found| found >= limit)
}

async fn decide(intake: &Intake, snapshot: &Snapshot, row: &Row, within: Duration) -> store::Result<()> {
    let decision = match row.route_id.and_then(|id| snapshot.routes.get(&id)) {
        None => Decision::NotMatched(without_route(snapshot, row).to_owned()),
        Some(route) => {
            let asked = async {
                Ok(match event(intake, row, route).await? {
                    None => Decision::NotMatched("the event is past its retention period".to_owned()),
                    Some(event) => evaluate(intake, snapshot, row, route, event, within).await,
                })
            };
            let by = if route.filter.is_some() { HeldBy::Filter } else { HeldBy::OrderKey };
            or_still_undecided(row.id, by, asked).await?
        }
    };
    let mut version = snapshot.version;
    for _ in 0..WRITTEN_AT_MOST {
        match with_partitions!(&intake.pool, undecided::decide(&intake.pool, row.id, version, &decision))? {
            Decided::Done => {
                tracing::info!(delivery = %row.id, ?decision, "the relay has decided about an undecided delivery");
                intake.engine.rescan(row.destination_id);
                return Ok(());
            }
            Decided::NotUndecided => return Ok(()),
            Decided::StaleConfiguration => {
                let newer = intake.configuration.refresh().await?;
                if !is_same_for(row, snapshot, &newer) {
                    // It is evaluated again at the time that was stored when it was taken.
                    return Ok(());
                }
                version = newer.version;
            }
        }
    }
    Ok(())
}

/// Returns the decision about a delivery. If making it panics, the delivery stays undecided, and is evaluated again at
/// the time that was stored when it was taken.
async fn or_still_undecided(
    delivery: DeliveryId,
    by: HeldBy,
    decision: impl Future<Output = store::Result<Decision>>,
) -> store::Result<Decision> {
    supervise::row(decision).await.unwrap_or_else(|panic| {
        tracing::error!(
            error = %panic,
            %delivery,
            "the relay panicked while re-evaluating an undecided delivery; retrying"
        );
        Ok(Decision::Undecided { by, reason: route::storable(panic.to_string()), again: true })
    })
}

/// Why a delivery whose route is gone is cancelled.
fn without_route(snapshot: &Snapshot, row: &Row) -> &'static str {
    if snapshot.destinations.contains_key(&row.destination_id) {
        "the route was deleted before its filter could be evaluated"
    } else {
        "the destination was deleted"
    }
}

/// Whether a result from one snapshot is valid in another: snapshots share the parts that have not changed.
fn is_same_for(row: &Row, then: &Snapshot, now: &Snapshot) -> bool {
    let source = row.source_id;
    let of = |snapshot: &Snapshot| {
        let route = row.route_id.and_then(|id| snapshot.routes.get(&id));
        (route.map(Arc::as_ptr), snapshot.sources.get(&source).map(Arc::as_ptr))
    };
    of(then) == of(now)
}

async fn event(intake: &Intake, row: &Row, route: &Route) -> store::Result<Option<EventRow>> {
    let reads_body = route::evaluated(route).is_some() || route.order_key.is_some();
    let largest = if reads_body { i32::try_from(MAX_BODY_BYTES).unwrap_or(i32::MAX) } else { -1 };
    undecided::event(&intake.pool, row.event_id, largest).await
}

async fn evaluate(
    intake: &Intake,
    snapshot: &Snapshot,
    row: &Row,
    route: &Arc<Route>,
    event: EventRow,
    within: Duration,
) -> Decision {
    let turn = Turn::within(row.source_id, within);
    let body_bytes = usize::try_from(event.body_size).unwrap_or(usize::MAX);
    let event_type = event.meta.event_type.clone();
    let input = route::input_of(event.meta, snapshot.source_name(turn.source), event.body, body_bytes);
    let input = Arc::new(input);
    let (routes, event_type) = (std::slice::from_ref(route), event_type.as_deref());
    let answers = route::evaluate_routes(&intake.evaluator, turn, routes, event_type, || Arc::clone(&input)).await;
    let Some(answer) = answers.into_iter().next() else {
        let reason = "the route could not be evaluated".to_owned();
        return Decision::Undecided { by: HeldBy::Filter, reason, again: true };
    };
    match answer.becomes() {
        Becomes::Due { order_key } => Decision::Matched { order_key, route_version: route.version },
        Becomes::Held(Undecided { by, reason, again }) => Decision::Undecided { by, reason, again },
        Becomes::Nothing(reason) => Decision::NotMatched(reason.into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_delivery_whose_evaluation_panics_stays_undecided_with_the_reason() {
        let delivery = DeliveryId::mint(1, [1; 10]);
        let decision = or_still_undecided(delivery, HeldBy::OrderKey, async { panic!("a\0key") }).await;
        let Ok(Decision::Undecided { by, reason, again }) = decision else { panic!("{decision:?}") };
        assert_eq!((by, reason.as_str(), again), (HeldBy::OrderKey, "the relay panicked: a\u{fffd}key", true));
        let failed =
            or_still_undecided(delivery, HeldBy::Filter, async { Err(store::Error::took_longer_than(Duration::ZERO)) })
                .await;
        assert!(failed.is_err());
    }
}
