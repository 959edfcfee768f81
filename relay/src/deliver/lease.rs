//! Keeps this replica's lease, hands shards over in order, and fences the replica when the lease cannot be kept.
//!
//! A shard that another replica is to have is first taken from the engine, which then sends nothing more for it, and
//! given up only when nothing of it is under way any more. Else its next owner would send the same again, and the
//! destination would get more at a time than it may. An attempt that hangs delays its own shard and no other. What the
//! engine reports last of each destination is under way too: the next owner goes on from it.

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

/// How long a lease lasts: together with the others' next renewal the longest that a crashed replica's destinations
/// wait for another one.
pub(crate) const LEASE: Duration = Duration::from_secs(10);

/// How often it is renewed.
pub(crate) const RENEW_EVERY: Duration = Duration::from_secs(3);

/// How soon it is tried again where the database could not be asked. Sooner than the next renewal would come: after a
/// restart of the database every connection of the pool has broken, and each tells so only when it is used.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How long after the last renewal a replica stops sending by itself. Well before the lease ends by the database's
/// clock, which began it later than this one did: no other replica can own the shards yet.
pub(crate) const FENCE_AFTER: Duration = LEASE_OVERDUE;

/// How often it is looked whether a shard that is to be given up has come to rest.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Keeps the lease of one replica.
pub struct Keeper {
    pool: Pool,
    replica: Uuid,
    engine: Handle,
    in_flight: Arc<InFlight>,
    readiness: Arc<Readiness>,
    /// When the last renewal that succeeded was begun.
    renewed: Option<Moment>,
    /// Shards that are to be given up, and that the engine has been told not to send for.
    outgoing: BTreeSet<i16>,
    /// The `until_us` that the engine was told last.
    told_us: u64,
}

impl Keeper {
    #[must_use]
    pub fn new(pool: Pool, replica: Uuid, engine: Handle, in_flight: Arc<InFlight>, readiness: Arc<Readiness>) -> Self {
        Self { pool, replica, engine, in_flight, readiness, renewed: None, outgoing: BTreeSet::new(), told_us: 0 }
    }

    /// Renews until `stop`. From `leaving` on everything is given up, shard by shard.
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

    /// Whether the database could be asked.
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

    /// Gives up what is to be given up and has come to rest. Whether the database could be asked, where it had to be.
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

    /// A database that has gone silent must not keep this waiting for longer than the lease allows.
    fn patience(&self) -> Duration {
        self.renewed.map_or(FENCE_AFTER, |at| FENCE_AFTER.saturating_sub(at.elapsed()))
    }
}

enum Round {
    Renew,
    GiveUp,
}

/// Which shards are to be given up: those that were to be already, and as many others as are more than the share. Not
/// the quiet ones first, or who joins to help would get no work.
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
    fn a_replica_gives_up_what_is_more_than_its_share() {
        assert_eq!(outgoing(&held(0..4, 2), &BTreeSet::new()), BTreeSet::from([2, 3]));
        assert_eq!(outgoing(&held(0..4, 0), &BTreeSet::new()), BTreeSet::from([0, 1, 2, 3]));
        assert_eq!(outgoing(&held(0..4, 4), &BTreeSet::new()), BTreeSet::new());
    }

    #[test]
    fn a_shard_that_is_to_be_given_up_stays_so_and_is_counted() {
        let before = BTreeSet::from([0, 9]);
        assert_eq!(outgoing(&held(0..4, 3), &before), BTreeSet::from([0]), "9 is gone already");
        assert_eq!(outgoing(&held(0..4, 2), &before), BTreeSet::from([0, 3]));
        assert_eq!(outgoing(&held(0..4, 4), &before), BTreeSet::from([0]), "the engine has forgotten it");
    }
}
