//! Calls that wait for an event of a job, by the address of the job.
//!
//! A waiter is woken when an event of one of its jobs is stored or released, by this relay or another one, and then
//! looks into the database. It joins before it looks for the first time, so it does not matter which comes first: the
//! event or the call. While it waits, it holds no connection to the database, and only an entry here for each job.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use shared::id::SourceId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use follow::run;

mod follow;

/// The most calls that wait at a time on one relay.
pub const MAX_WAITERS: usize = 10_000;

/// The most calls of one token that wait at a time on one relay, those with its await tokens included: half of all, so
/// that no token can take the places of all others.
pub const MAX_WAITERS_OF_TOKEN: usize = 5_000;

/// The address of a job: a hash of its source and its key. If two jobs had the same one, an
/// event of one would wake the waiters of the other, which would look and find nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobAddress(u128);

impl JobAddress {
    /// The address of the job with this key at this source.
    #[must_use]
    pub fn of(source: SourceId, key: &str) -> Self {
        let hash = Sha256::new().chain_update(source.uuid().as_bytes()).chain_update(key).finalize();
        let mut first = [0; 16];
        first.copy_from_slice(&hash[..16]);
        Self(u128::from_be_bytes(first))
    }
}

/// Why a call cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Its token has too many waiting calls.
    OfToken,
    /// The relay has too many.
    OfRelay,
}

/// The waiting calls of this relay.
#[derive(Debug, Default)]
pub struct Waiters {
    entries: Mutex<Entries>,
    /// Woken when a first call waits.
    first: Notify,
    /// Cancelled when the relay shuts down: from then on no call waits.
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Entries {
    by_job: HashMap<JobAddress, Vec<Arc<Notify>>>,
    /// How many calls of each token wait.
    by_token: HashMap<Uuid, usize>,
    count: usize,
}

/// A call that waits. Dropping it ends the wait.
#[derive(Debug)]
pub struct Waiter {
    waiters: Arc<Waiters>,
    jobs: Box<[JobAddress]>,
    token: Uuid,
    woken: Arc<Notify>,
}

impl Waiters {
    /// Adds a call of this token that waits for these jobs.
    ///
    /// # Errors
    /// Returns [`Full`] if too many calls wait already.
    pub fn join(self: &Arc<Self>, token: Uuid, jobs: Box<[JobAddress]>) -> Result<Waiter, Full> {
        let woken = Arc::new(Notify::new());
        let mut entries = self.entries();
        if entries.count >= MAX_WAITERS {
            return Err(Full::OfRelay);
        }
        let of_token = entries.by_token.entry(token).or_default();
        if *of_token >= MAX_WAITERS_OF_TOKEN {
            return Err(Full::OfToken);
        }
        *of_token += 1;
        entries.count += 1;
        self.first.notify_one();
        for job in &jobs {
            entries.by_job.entry(*job).or_default().push(Arc::clone(&woken));
        }
        drop(entries);
        Ok(Waiter { waiters: Arc::clone(self), jobs, token, woken })
    }

    /// Wakes the calls that wait for a job.
    pub fn wake(&self, job: JobAddress) {
        if let Some(waiting) = self.entries().by_job.get(&job) {
            waiting.iter().for_each(|woken| woken.notify_one());
        }
    }

    /// Wakes all calls: one of their jobs may have had an event that was not reported.
    pub fn wake_all(&self) {
        self.entries().by_job.values().flatten().for_each(|woken| woken.notify_one());
    }

    /// Waits until a call waits, or one has waited since the last call of this function.
    async fn first(&self) {
        self.first.notified().await;
    }

    /// Whether no call waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries().count == 0
    }

    /// Ends all waits, because the relay shuts down.
    pub fn close(&self) {
        self.closed.cancel();
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Waits until an event of one of the jobs was stored since the last call of this function; false if the relay shuts
    /// down.
    pub async fn woken(&self) -> bool {
        tokio::select! {
            () = self.woken.notified() => true,
            () = self.waiters.closed.cancelled() => false,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut entries = self.waiters.entries();
        entries.count -= 1;
        if let Some(of_token) = entries.by_token.get_mut(&self.token) {
            *of_token -= 1;
            if *of_token == 0 {
                entries.by_token.remove(&self.token);
            }
        }
        for job in &self.jobs {
            let Some(waiting) = entries.by_job.get_mut(job) else { continue };
            if let Some(at) = waiting.iter().position(|woken| Arc::ptr_eq(woken, &self.woken)) {
                waiting.swap_remove(at);
            }
            if waiting.is_empty() {
                entries.by_job.remove(job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn address(key: &str) -> JobAddress {
        JobAddress::of(SourceId::mint(1, [1; 10]), key)
    }

    #[test]
    fn a_job_is_that_of_one_source() {
        assert_eq!(address("a"), address("a"));
        assert_ne!(address("a"), address("b"));
        assert_ne!(address("a"), JobAddress::of(SourceId::mint(1, [2; 10]), "a"));
    }

    #[tokio::test]
    async fn a_waiter_is_woken_by_each_of_its_jobs_also_before_it_waits_and_by_no_other() {
        let waiters = Arc::new(Waiters::default());
        let waiter = waiters.join(Uuid::nil(), [address("a"), address("b")].into()).expect("joins");
        waiters.wake(address("c"));
        assert_eq!(waiter.woken().now_or_never(), None);
        for job in ["a", "b"] {
            waiters.wake(address(job));
            assert_eq!(waiter.woken().now_or_never(), Some(true), "{job}");
            assert_eq!(waiter.woken().now_or_never(), None, "{job}");
        }
        waiters.wake_all();
        assert_eq!(waiter.woken().now_or_never(), Some(true));
        waiters.close();
        assert_eq!(waiter.woken().now_or_never(), Some(false));
    }

    #[test]
    fn a_token_and_all_tokens_have_a_limit_and_a_wait_that_ends_gives_its_place_back() {
        let waiters = Arc::new(Waiters::default());
        let join = |token: u128| waiters.join(Uuid::from_u128(token), [address("a"), address("b")].into());
        let mut first: Vec<Waiter> = (0..MAX_WAITERS_OF_TOKEN).map(|_| join(1).expect("joins")).collect();
        assert_eq!(join(1).err(), Some(Full::OfToken));
        let second: Vec<Waiter> = (0..MAX_WAITERS - MAX_WAITERS_OF_TOKEN).map(|_| join(2).expect("joins")).collect();
        assert_eq!(join(3).err(), Some(Full::OfRelay));
        first.pop();
        assert!(join(3).is_ok() && join(1).is_ok());
        drop((first, second));
        assert!(waiters.is_empty() && waiters.entries().by_job.is_empty() && waiters.entries().by_token.is_empty());
    }
}
