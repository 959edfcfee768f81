//! Keeps this replica's lease, and fences it when the lease cannot be kept.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Handle;
use super::core::Input;
use crate::store::leases;

/// How long a lease lasts: the longest a crashed replica's destinations wait for another one.
const LEASE: Duration = Duration::from_secs(12);

/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// How long after the last renewal a replica stops sending by itself. Well before the lease ends by the database's
/// clock, which began it later than this one did: no other replica can own the shards yet.
const FENCE_AFTER: Duration = Duration::from_secs(8);

/// Renews until `stop`.
pub async fn run(pool: PgPool, replica: Uuid, engine: Handle, stop: CancellationToken) {
    let mut renewed: Option<Instant> = None;
    let mut ticks = tokio::time::interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let begun = Instant::now();
        let lease_ms = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        // A database that has gone silent must not keep this waiting for longer than the lease allows.
        let patience = renewed.map_or(FENCE_AFTER, |at| FENCE_AFTER.saturating_sub(at.elapsed()));
        let renewal = tokio::time::timeout(patience, leases::renew(&pool, replica, lease_ms));
        let outcome = tokio::select! {
            outcome = renewal => outcome,
            () = stop.cancelled() => return,
        };
        match outcome {
            Ok(Ok(shards)) => {
                renewed = Some(begun);
                let shards = shards.iter().map(|shard| (shard.shard, shard.epoch)).collect();
                engine.owned(shards, begun + FENCE_AFTER);
            }
            Ok(Err(error)) => tracing::warn!(error = %error, "cannot renew the lease of this replica; trying again"),
            Err(_) => tracing::warn!("the lease of this replica could not be renewed in time; trying again"),
        }
        if renewed.is_some_and(|at| at.elapsed() >= FENCE_AFTER) {
            tracing::warn!("nothing is sent until the lease of this replica has been renewed");
            renewed = None;
            engine.tell(Input::Fenced);
        }
    }
}
