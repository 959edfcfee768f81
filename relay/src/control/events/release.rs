//! Releases an event whose verification failed.

use model::event::Verification;
use store::events::{self, EventRow, Released};
use store::new_event::NewEvent;
use store::partitions::with_partitions;
use tokio::time::Instant;

use super::explain::{EventDetail, detail};
use super::{EVALUATE_WITHIN, find, view};
use crate::control::error::Conflict;
use crate::control::record::{self, Action, Object};
use crate::control::{Actor, Control, Error, Scope};
use crate::intake::arrival;
use crate::route;
use crate::waiters::JobAddress;

/// The number of times that the routes are evaluated if concurrent calls keep changing the configuration.
pub(super) const ROUNDS: usize = 5;

/// Releases an event from quarantine: it is routed as if it had just arrived. An event that was released earlier stays
/// as it is.
///
/// # Errors
/// Returns an error if the event does not exist, if its verification has not failed, if its body is no longer kept, or
/// if a query fails.
pub async fn release(control: &Control, actor: &Actor, id: &str) -> Result<EventDetail, Error> {
    actor.require(Scope::Replay)?;
    let row = find(control, actor, id).await?;
    match row.verification {
        Verification::Failed => {}
        Verification::Released => return detail(control, actor, row).await,
        Verification::Verified | Verification::Stale | Verification::Unsigned | Verification::Edited => {
            return Err(Error::Conflict(Conflict::NotFailed));
        }
    }
    let body = control.bodies.hold(row.body_size, store::pending::body(&control.pool, row.meta.id)).await?;
    let body = body.ok_or(Error::Conflict(Conflict::BodyGone))?;
    route_and_release(control, actor, &row, body.as_ref()).await?;
    // The detail reads it again: a request that held two reservations could wait for itself.
    drop(body);
    detail(control, actor, find(control, actor, id).await?).await
}

async fn route_and_release(control: &Control, actor: &Actor, row: &EventRow, body: &[u8]) -> Result<(), Error> {
    let meta = &row.meta;
    let entry = record::entry(actor, Action::EventRelease, Object::of(meta.id, row.customer_id));
    let mut snapshot = control.configuration.refresh().await?;
    for _ in 0..ROUNDS {
        // Read after the configuration: a change of the retention before the release is stored changes that too.
        let now_ms = control.clock.now_ms().await?;
        let first_with_body =
            control.config.retention.first_with_body_of(&control.pool, row.customer_id, now_ms).await?;
        if meta.id.uuid() < first_with_body {
            return Err(Error::Conflict(Conflict::BodyGone));
        }
        let answers =
            route::evaluate(&control.evaluator, &snapshot, &view(row, body), Instant::now() + EVALUATE_WITHIN).await;
        let event = NewEvent {
            id: meta.id,
            customer_id: row.customer_id,
            source_id: meta.source_id,
            received_at: meta.received_at,
            event_type: meta.event_type.clone(),
            provider_event_id: meta.provider_event_id.clone(),
            // The event was stored without a key, because its verification failed. The operator who releases it vouches
            // for it.
            dedupe_key: snapshot
                .sources
                .get(&meta.source_id)
                .and_then(|source| source.key(&meta.query, &meta.headers, body)),
            // Stored with the event.
            job: None,
            edited_of: None,
            method: meta.method.clone(),
            query: meta.query.clone(),
            headers: meta.headers.clone(),
            body: Vec::new(),
            verification: Verification::Released,
            failure: None,
            quarantine: None,
            deliveries: arrival::deliveries(&snapshot, &answers),
        };
        let days = control.releaser.intake.dedupe_days;
        match with_partitions!(&control.pool, events::release(&control.pool, &event, snapshot.version, days, &entry))? {
            Released::Done => {
                if event.has_held_delivery() {
                    control.releaser.intake.held.notify_one();
                }
                event.deliveries.iter().for_each(|made| control.engine.rescan(made.destination_id));
                if let Some(key) = &row.job_key {
                    control.waiters.wake(JobAddress::of(meta.source_id, key));
                }
                return Ok(());
            }
            Released::StaleConfiguration => snapshot = control.configuration.refresh().await?,
            Released::NotWaiting => return Ok(()),
        }
    }
    Err(Error::Conflict(Conflict::ChangedMeanwhile))
}
