//! Keeps this replica's lease, hands shards over in order, and fences the replica when the lease cannot be kept.
//!
//! A shard that is to move to another replica is first taken from the engine, which then sends nothing more for it. It
//! is given up only when nothing of it is in flight any more. Otherwise its next owner would send the same deliveries
//! again, and the destination would receive more concurrent requests than it may. An attempt that hangs delays only its
//! own shard. The engine's final report on each destination counts as in flight too: the next owner continues from it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::Input;
use store::Pool;
use store::leases::{self, Held, Shard};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::engine_handle::Handle;
use crate::moment::Moment;
use crate::readiness::{LEASE_OVERDUE, Readiness};

mod in_flight;

pub use in_flight::InFlight;

/// How long a lease lasts. This, plus the time until the other replicas' next renewal, is the longest that a crashed
/// replica's destinations wait for a new owner.
pub(crate) const LEASE: Duration = Duration::from_secs(10);

/// How often it is renewed.
pub(crate) const RENEW_EVERY: Duration = Duration::from_secs(3);

/// How soon a failed query is retried. This is sooner than the next renewal: after a restart of the database every
/// connection of the pool is broken, and each shows that only when it is used.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How long after the last renewal a replica stops sending. That is well before the lease ends by the database's clock,
/// which started it later than this clock did. So no other replica can own the shards yet.
pub(crate) const FENCE_AFTER: Duration = LEASE_OVERDUE;

/// How often the keeper checks whether a shard that is to be given up has become idle.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Keeps the lease of one replica.
pub struct Keeper {
    pool: Pool,
    replica: Uuid,
    engine: Handle,
    in_flight: Arc<InFlight>,
    readiness: Arc<Readiness>,
    /// When the last successful renewal began.
    renewed: Option<Moment>,
    /// Shards that are to be given up. The engine has been told not to send for them.
    outgoing: BTreeSet<i16>,
    /// The `until_us` that the engine was last given.
    told_us: u64,
}

impl Keeper {
    #[must_use]
    pub fn new(pool: Pool, replica: Uuid, engine: Handle, in_flight: Arc<InFlight>, readiness: Arc<Readiness>) -> Self {
        Self { pool, replica, engine, in_flight, readiness, renewed: None, outgoing: BTreeSet::new(), told_us: 0 }
    }

    /// Renews until `stop`. Once `leaving` is set, all shards are given up, one by one.
    pub async fn run(mut self, leaving: CancellationToken, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(RENEW_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut left = false;
        let mut check_after = CHECK_INTERVAL;
        loop {
            let round = tokio::select! {
                _ = ticks.tick() => Round::Renew,
                () = leaving.cancelled(), if !left => Round::Renew,
                () = tokio::time::sleep(check_after), if !self.outgoing.is_empty() => Round::GiveUp,
                () = stop.cancelled() => return,
            };
            left = leaving.is_cancelled();
            let work = async {
                match round {
                    Round::Renew => self.renew(left).await,
                    Round::GiveUp => self.give_up().await,
                }
            };
            let done = tokio::select! {
                done = work => done,
                () = stop.cancelled() => return,
            };
            match (&round, done) {
                (Round::Renew, true) => {}
                (Round::Renew, false) => ticks.reset_after(RETRY_INTERVAL),
                (Round::GiveUp, done) => check_after = if done { CHECK_INTERVAL } else { RETRY_INTERVAL },
            }
            if self.renewed.is_some_and(|at| at.elapsed() >= FENCE_AFTER) {
                tracing::warn!("lease renewal is overdue; sending is suspended");
                self.renewed = None;
                self.engine.tell(Input::Fenced);
            }
        }
    }

    /// Returns whether the query succeeded.
    async fn renew(&mut self, leaving: bool) -> bool {
        let begun = Moment::now();
        let lease_ms = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        let renewal = leases::renew(&self.pool, self.replica, lease_ms, leaving);
        match tokio::time::timeout(self.patience(), renewal).await {
            Ok(Ok(held)) => {
                self.renewed = Some(begun);
                self.readiness.lease_renewed(begun);
                self.outgoing = outgoing(&held, &self.outgoing);
                let kept = held.shards.iter().filter(|held| !self.outgoing.contains(&held.shard));
                self.told_us = self.engine.clock.at_us(begun + FENCE_AFTER);
                self.engine.owned(kept.map(|held| (held.shard, held.epoch)).collect(), self.told_us);
                return true;
            }
            Ok(Err(error)) => tracing::warn!(%error, "could not renew the lease; retrying"),
            Err(_) => tracing::warn!("renewing the lease timed out; retrying"),
        }
        false
    }

    /// Gives up the outgoing shards that have become idle. Returns false if a query was necessary and failed.
    async fn give_up(&mut self) -> bool {
        if !self.in_flight.has_taken_ownership(self.told_us) {
            return true;
        }
        let at_rest: Vec<i16> =
            self.outgoing.iter().copied().filter(|shard| self.in_flight.count(*shard) == 0).collect();
        if at_rest.is_empty() {
            return true;
        }
        let giving = leases::give_back(&self.pool, self.replica, &at_rest);
        match tokio::time::timeout(self.patience(), giving).await {
            Ok(Ok(())) => {
                self.outgoing.retain(|shard| !at_rest.contains(shard));
                return true;
            }
            Ok(Err(error)) => tracing::warn!(%error, "could not release shards; retrying"),
            Err(_) => tracing::warn!("releasing shards timed out; retrying"),
        }
        false
    }

    /// If the database stops responding, this must not wait longer than the lease allows.
    fn patience(&self) -> Duration {
        self.renewed.map_or(FENCE_AFTER, |at| FENCE_AFTER.saturating_sub(at.elapsed()))
    }
}

enum Round {
    Renew,
    GiveUp,
}

/// The shards that are to be given up: those that were already outgoing, and as many others as exceed the share. Idle
/// shards are not preferred: otherwise a replica that has joined to share the load would get no work.
fn outgoing(held: &Held, before: &BTreeSet<i16>) -> BTreeSet<i16> {
    let shards = || held.shards.iter().rev().map(|Shard { shard, .. }| *shard);
    let already = shards().filter(|shard| before.contains(shard));
    let others = shards().filter(|shard| !before.contains(shard));
    let more = held.shards.len().saturating_sub(held.share).saturating_sub(already.clone().count());
    already.chain(others.take(more)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(shards: impl IntoIterator<Item = i16>, share: usize) -> Held {
        Held { shards: shards.into_iter().map(|shard| Shard { shard, epoch: 1 }).collect(), share }
    }

    #[test]
    fn a_replica_gives_up_the_shards_above_its_share() {
        assert_eq!(outgoing(&held(0..4, 2), &BTreeSet::new()), BTreeSet::from([2, 3]));
        assert_eq!(outgoing(&held(0..4, 0), &BTreeSet::new()), BTreeSet::from([0, 1, 2, 3]));
        assert_eq!(outgoing(&held(0..4, 4), &BTreeSet::new()), BTreeSet::new());
    }

    #[test]
    fn an_outgoing_shard_stays_outgoing_and_counts_as_given_up() {
        let before = BTreeSet::from([0, 9]);
        assert_eq!(outgoing(&held(0..4, 3), &before), BTreeSet::from([0]), "9 is gone already");
        assert_eq!(outgoing(&held(0..4, 2), &before), BTreeSet::from([0, 3]));
        assert_eq!(outgoing(&held(0..4, 4), &before), BTreeSet::from([0]), "the engine has forgotten it");
    }
}
