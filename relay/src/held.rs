//! Makes held deliveries visible: an operational event reports when deliveries of a destination begin to be held.
//!
//! A delivery can be held by a fault of its own ([`HeldBy`]). The code that holds one wakes [`run`], which records for
//! each destination and kind since when there are any, and stores one event for it. It also checks periodically while
//! there are any, when a relay starts, and rarely otherwise. So a relay that ends between the two steps hides nothing.
//!
//! If this relay cannot send to a destination at all, the configuration holds all its deliveries; [`tell_unusable`]
//! stores an event for that.

use std::collections::HashMap;
use std::time::Duration;

use model::unix_time;
use shared::id::DestinationId;
use tokio_util::sync::CancellationToken;

use crate::configuration::Snapshot;
use crate::intake::Intake;
use crate::intake::operational::{self, OperationalEvent};

/// The minimum time between two checks.
const SPACING: Duration = Duration::from_secs(1);

/// How often the relay checks, while deliveries are held, whether that has ended and whether anything is left to
/// report.
const WHILE_HELD: Duration = Duration::from_secs(30);

/// How often the relay checks while no delivery is known to be held.
const SWEEP: Duration = Duration::from_secs(600);

/// Checks until `stop` for destinations whose deliveries have begun to be held.
pub async fn run(intake: Intake, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let pause = match check(&intake).await {
            Ok(true) => WHILE_HELD,
            Ok(false) => SWEEP,
            Err(error) => {
                tracing::warn!(%error, "could not read destinations with held deliveries; retrying");
                WHILE_HELD
            }
        };
        tokio::select! {
            () = tokio::time::sleep(SPACING) => {}
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = intake.held.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Returns whether any destination has held deliveries.
async fn check(intake: &Intake) -> store::Result<bool> {
    let (begun, any) = store::held::look(&intake.pool).await?;
    for begun in begun {
        let id = begun.destination_id;
        let snapshot = intake.configuration.current();
        if let Some((customer, name)) = snapshot.customer_and_name(id) {
            tracing::warn!(
                destination = %id,
                held_by = begun.held_by.name(),
                error = begun.reason,
                "some deliveries to a destination are held; remove the cause in `error` and, if they stay held, \
                 release them with POST /v1/deliveries/release"
            );
            let operational_event = OperationalEvent::DeliveriesHeld {
                destination: id,
                name: name.to_owned(),
                held_by: begun.held_by,
                reason: begun.reason.clone(),
            };
            // The key makes it one event, even if it is stored twice.
            let key = format!("{id}/held/{}/{}", begun.held_by.name(), unix_time::unix_ms(begun.since));
            operational::or_dropped(id, operational::store(intake, customer, &key, &operational_event)).await?;
        }
        store::held::told(&intake.pool, &begun).await?;
    }
    Ok(any)
}

/// Stores an event for each destination that this relay cannot send to, until `stop`. It is one event until the
/// destination is changed.
pub async fn tell_unusable(intake: Intake, stop: CancellationToken) {
    let mut changes = intake.configuration.subscribe();
    let mut told = HashMap::new();
    loop {
        let snapshot = changes.borrow_and_update().clone();
        let all_told = match tell_new(&intake, &snapshot, &mut told).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "could not store the operational event about an unusable destination; retrying");
                false
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(WHILE_HELD), if !all_told => {}
            () = stop.cancelled() => return,
        }
    }
}

/// `told` contains the version of each destination for which an event was stored.
async fn tell_new(intake: &Intake, snapshot: &Snapshot, told: &mut HashMap<DestinationId, u64>) -> store::Result<()> {
    told.retain(|id, _| snapshot.unusable.contains_key(id));
    for (id, destination) in &snapshot.unusable {
        let version = unix_time::unix_ms(destination.updated_at);
        if told.get(id) == Some(&version) {
            continue;
        }
        let operational_event = OperationalEvent::DestinationUnusable {
            destination: *id,
            name: destination.name.clone(),
            reason: destination.reason.clone(),
        };
        let key = format!("{id}/unusable/{version}");
        operational::or_dropped(*id, operational::store(intake, destination.customer_id, &key, &operational_event))
            .await?;
        told.insert(*id, version);
    }
    Ok(())
}
