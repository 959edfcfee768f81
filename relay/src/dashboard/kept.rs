//! What was read for one viewer and is shown to others for a while: twenty viewers of a page cost no more than one.
//!
//! The last value of each key is kept. When it is old, one viewer reads it again, and the others wait for that. While the
//! database does not respond, the last value is shown with its age: figures that are old and say so help more than none.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex as AsyncMutex;

use crate::control::Error;

/// For how long a read that has failed is not repeated, because the database does not respond.
pub(crate) const FAILS_FOR: Duration = Duration::from_secs(2);

/// The last values, of as many keys as there is room for.
#[derive(Debug)]
pub(super) struct Kept<K, V> {
    most: usize,
    entries: Mutex<HashMap<K, Arc<Entry<V>>>>,
}

#[derive(Debug)]
struct Entry<V> {
    /// Held by the viewer that reads.
    reading: AsyncMutex<()>,
    state: Mutex<State<V>>,
}

#[derive(Debug)]
struct State<V> {
    /// When it was last read, or tried to be.
    tried: Instant,
    known: Option<Known<V>>,
    /// When the database last did not respond, and the cause for the log.
    failed: Option<(Instant, String)>,
}

/// A value, and when it was read.
#[derive(Debug)]
pub(super) struct Known<V> {
    pub(super) at: Instant,
    pub(super) value: Arc<V>,
}

impl<V> Clone for Known<V> {
    fn clone(&self) -> Self {
        Self { at: self.at, value: Arc::clone(&self.value) }
    }
}

/// A value for a page.
#[derive(Debug)]
pub(super) struct Shown<V> {
    pub(super) value: Arc<V>,
    /// Its age, if the database does not respond.
    pub(super) stale: Option<Duration>,
}

impl<K: Copy + Eq + Hash, V> Kept<K, V> {
    /// Has room for the values of `most` keys.
    pub(super) fn new(most: usize) -> Self {
        Self { most, entries: Mutex::default() }
    }

    /// The value of a key, which is read if the last one is older than `fresh`.
    ///
    /// # Errors
    /// Returns the error of `read`; if the database does not respond, only if there is no last value.
    pub(super) async fn read(
        &self,
        key: K,
        fresh: Duration,
        read: impl AsyncFnOnce() -> Result<V, Error>,
    ) -> Result<Shown<V>, Error> {
        let entry = self.entry(key, Instant::now());
        if let Some(shown) = entry.fresh(fresh) {
            return Ok(shown);
        }
        let _reading = entry.reading.lock().await;
        // Another viewer may have read it, or failed to, while this one waited.
        if let Some(shown) = entry.fresh(fresh) {
            return Ok(shown);
        }
        let failed = entry.state().failed.clone().filter(|(at, _)| at.elapsed() < FAILS_FOR);
        if let Some((_, cause)) = failed {
            return entry.stale(cause);
        }
        entry.state().tried = Instant::now();
        match read().await {
            Ok(value) => {
                let known = entry.keep(value);
                Ok(Shown { value: known.value, stale: None })
            }
            Err(Error::Unavailable(cause)) => {
                entry.state().failed = Some((Instant::now(), cause.clone()));
                entry.stale(cause)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps a value that was just read.
    pub(super) fn put(&self, key: K, value: V) {
        self.entry(key, Instant::now()).keep(value);
    }

    /// The last value of a key.
    pub(super) fn last(&self, key: K) -> Option<Known<V>> {
        let entry = self.entries().get(&key).map(Arc::clone)?;
        entry.state().known.clone()
    }

    /// When a key was last read, or tried to be.
    pub(super) fn tried(&self, key: K) -> Option<Instant> {
        let entry = self.entries().get(&key).map(Arc::clone)?;
        let tried = entry.state().tried;
        Some(tried)
    }

    /// Notes that a key is being read.
    pub(super) fn trying(&self, key: K, now: Instant) {
        self.entry(key, now).state().tried = now;
    }

    /// Reads a key again for the next page.
    pub(super) fn forget(&self, key: K) {
        self.entries().remove(&key);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }

    /// The entry of a key. The one that was tried the longest ago makes room for a new one.
    fn entry(&self, key: K, now: Instant) -> Arc<Entry<V>> {
        let mut entries = self.entries();
        if entries.len() >= self.most && !entries.contains_key(&key) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.state().tried).map(|(key, _)| *key);
            oldest.map(|oldest| entries.remove(&oldest));
        }
        let new = || Entry {
            reading: AsyncMutex::new(()),
            state: Mutex::new(State { tried: now, known: None, failed: None }),
        };
        Arc::clone(entries.entry(key).or_insert_with(|| Arc::new(new())))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<K, Arc<Entry<V>>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Entry<V> {
    fn fresh(&self, fresh: Duration) -> Option<Shown<V>> {
        let known = self.state().known.clone().filter(|known| known.at.elapsed() < fresh)?;
        Some(Shown { value: known.value, stale: None })
    }

    /// The last value with its age; the cause as an error if there is none.
    fn stale(&self, cause: String) -> Result<Shown<V>, Error> {
        let known = self.state().known.clone().ok_or(Error::Unavailable(cause))?;
        Ok(Shown { stale: Some(known.at.elapsed()), value: known.value })
    }

    fn keep(&self, value: V) -> Known<V> {
        let now = Instant::now();
        let known = Known { at: now, value: Arc::new(value) };
        *self.state() = State { tried: now, known: Some(known.clone()), failed: None };
        known
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn viewers_at_the_same_time_cause_one_read() {
        let (kept, reads) = (Kept::new(1), AtomicUsize::new(0));
        let view = || {
            kept.read((), LONG, async || {
                tokio::task::yield_now().await;
                Ok::<_, Error>(reads.fetch_add(1, Ordering::Relaxed))
            })
        };
        let (one, other, third) = tokio::join!(view(), view(), view());
        for shown in [one, other, third] {
            assert_eq!(*shown.expect("a value").value, 0);
        }
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_old_value_is_read_again_and_shown_with_its_age_if_the_database_does_not_respond() {
        let kept = Kept::new(1);
        let away = async || Err::<u8, _>(Error::Unavailable("away".to_owned()));
        assert!(matches!(kept.read((), Duration::ZERO, away).await, Err(Error::Unavailable(_))));
        // A read that has just failed is not repeated.
        let unread = async || panic!("it is not read");
        assert!(matches!(kept.read((), Duration::ZERO, unread).await, Err(Error::Unavailable(_))));
        kept.put((), 7);
        let shown = kept.read((), Duration::ZERO, away).await.expect("the last value");
        assert!(*shown.value == 7 && shown.stale.is_some());
        let shown = kept.read((), LONG, unread).await.expect("the last value");
        assert!(*shown.value == 7 && shown.stale.is_none());
        let refused = kept.read((), Duration::ZERO, async || Err(Error::Busy)).await;
        assert!(matches!(refused, Ok(Shown { stale: Some(_), .. })), "the failure counts for a moment");
        kept.forget(());
        assert!(kept.last(()).is_none());
        assert!(matches!(kept.read((), LONG, async || Err(Error::Busy)).await, Err(Error::Busy)));
    }

    #[test]
    fn the_key_that_was_tried_the_longest_ago_makes_room() {
        let kept = Kept::new(2);
        for key in [1, 2, 3] {
            kept.put(key, ());
        }
        assert!(kept.len() == 2 && kept.last(1).is_none() && kept.last(3).is_some());
    }
}
