//! The work in flight, by shard: counted by the engine, read by the keeper of the lease.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use store::leases::SHARDS;

/// For each shard, the number of attempts in flight and of settlements and reports that are not written yet; and the
/// ownership that the engine has last taken in.
#[derive(Debug)]
pub struct InFlight {
    shards: Vec<AtomicUsize>,
    taken_us: AtomicU64,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| AtomicUsize::new(0)).collect(), taken_us: AtomicU64::new(0) }
    }
}

impl InFlight {
    /// An attempt is sent, its outcome is about to be settled, or a report is about to be written.
    pub fn start(&self, shard: i16) {
        if let Some(count) = self.of(shard) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Attempts were answered, or settlements or reports have been written.
    pub fn finish(&self, shards: impl IntoIterator<Item = i16>) {
        for shard in shards {
            if let Some(count) = self.of(shard) {
                count.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// The engine has taken in the ownership that lasts until `until_us`, in microseconds, and acts on it from here on.
    pub fn ownership_taken(&self, until_us: u64) {
        self.taken_us.store(until_us, Ordering::SeqCst);
    }

    /// Whether the engine has taken in that ownership, or a later one.
    #[must_use]
    pub fn has_taken_ownership(&self, until_us: u64) -> bool {
        self.taken_us.load(Ordering::SeqCst) >= until_us
    }

    /// How much work of a shard is in flight.
    #[must_use]
    pub fn count(&self, shard: i16) -> usize {
        self.of(shard).map_or(0, |count| count.load(Ordering::SeqCst))
    }

    fn of(&self, shard: i16) -> Option<&AtomicUsize> {
        self.shards.get(usize::try_from(shard).ok()?)
    }
}
