//! A small map whose entries age, for values that an isolate keeps between requests. It reads no clock: `now` is an
//! argument.
//!
//! A request never waits for the fetch of another: in a Worker a promise belongs to the request that made it. The first
//! request after an entry is due claims the refresh; the others use the old value.

use std::collections::HashMap;

/// How long an entry is good for, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ages {
    /// From this age on the entry is still used, and refreshed in the background.
    pub(crate) fresh: u64,
    /// From this age on it is not used.
    pub(crate) usable: u64,
    /// How long a refresh may take before another request may try.
    pub(crate) refresh: u64,
}

/// The state of a key in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup<V> {
    /// Use it.
    Fresh(V),
    /// Use it, and fetch it again in the background: this caller has claimed the refresh.
    Refresh(V),
    /// It has to be fetched first.
    Absent,
}

struct Entry<V> {
    value: V,
    ages: Ages,
    loaded_at: u64,
    claimed_at: Option<u64>,
}

/// The map. It never holds more than `capacity` entries.
pub(crate) struct Cache<V> {
    entries: HashMap<String, Entry<V>>,
    capacity: usize,
}

impl<V: Clone> Cache<V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), capacity }
    }

    /// Looks up a key and claims its refresh if that is due.
    pub(crate) fn lookup(&mut self, key: &str, now: u64) -> Lookup<V> {
        let Some(entry) = self.entries.get_mut(key) else { return Lookup::Absent };
        let age = now.saturating_sub(entry.loaded_at);
        if age < entry.ages.fresh {
            return Lookup::Fresh(entry.value.clone());
        }
        if age >= entry.ages.usable {
            return Lookup::Absent;
        }
        if entry.claimed_at.is_some_and(|at| now.saturating_sub(at) < entry.ages.refresh) {
            return Lookup::Fresh(entry.value.clone());
        }
        entry.claimed_at = Some(now);
        Lookup::Refresh(entry.value.clone())
    }

    /// The value of a key, unless it is due for a refresh that is not claimed yet. It claims nothing.
    pub(crate) fn peek(&self, key: &str, now: u64) -> Option<V> {
        let entry = self.entries.get(key)?;
        let age = now.saturating_sub(entry.loaded_at);
        let claimed = entry.claimed_at.is_some_and(|at| now.saturating_sub(at) < entry.ages.refresh);
        (age < entry.ages.fresh || (age < entry.ages.usable && claimed)).then(|| entry.value.clone())
    }

    /// Claims a refresh ahead of time, because the cached value did not verify a request. Returns whether the caller
    /// may fetch: the entry must be at least `min_age` milliseconds old, and the last claim as well.
    pub(crate) fn claim(&mut self, key: &str, min_age: u64, now: u64) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let last = entry.claimed_at.map_or(entry.loaded_at, |at| at.max(entry.loaded_at));
        if now.saturating_sub(last) < min_age {
            return false;
        }
        entry.claimed_at = Some(now);
        true
    }

    /// Stores a value that has just been fetched. A full cache first drops entries that are no longer usable, then the
    /// oldest.
    pub(crate) fn put(&mut self, key: &str, value: V, ages: Ages, now: u64) {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(key) {
            self.make_room(now);
        }
        self.entries.insert(key.to_owned(), Entry { value, ages, loaded_at: now, claimed_at: None });
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.entries.remove(key);
    }

    fn make_room(&mut self, now: u64) {
        self.entries.retain(|_, entry| now.saturating_sub(entry.loaded_at) < entry.ages.usable);
        if self.entries.len() < self.capacity {
            return;
        }
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.loaded_at).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGES: Ages = Ages { fresh: 30, usable: 300, refresh: 5 };

    fn with(value: &'static str) -> Cache<&'static str> {
        let mut cache = Cache::new(2);
        cache.put("a", value, AGES, 1_000);
        cache
    }

    #[test]
    fn a_look_that_claims_nothing_leaves_the_refresh_to_the_next_caller() {
        let mut cache = with("v");
        assert_eq!(cache.peek("a", 1_029), Some("v"));
        assert_eq!(cache.peek("a", 1_030), None, "it is due");
        assert_eq!(cache.lookup("a", 1_030), Lookup::Refresh("v"));
        assert_eq!(cache.peek("a", 1_031), Some("v"), "another request refreshes it");
        assert_eq!(cache.peek("a", 1_300), None);
        assert_eq!(cache.peek("b", 1_000), None);
    }

    #[test]
    fn an_entry_is_fresh_then_refreshed_by_one_caller_then_gone() {
        let mut cache = with("v");
        assert_eq!(cache.lookup("a", 1_029), Lookup::Fresh("v"));
        assert_eq!(cache.lookup("a", 1_030), Lookup::Refresh("v"), "the first one refreshes");
        assert_eq!(cache.lookup("a", 1_031), Lookup::Fresh("v"), "the second one does not wait for it");
        assert_eq!(cache.lookup("a", 1_035), Lookup::Refresh("v"), "a refresh that never came back is tried again");
        assert_eq!(cache.lookup("a", 1_300), Lookup::Absent);
        assert_eq!(cache.lookup("b", 1_000), Lookup::Absent);
    }

    #[test]
    fn an_insufficient_value_is_fetched_again_but_not_for_every_request() {
        let mut cache = with("v");
        assert!(!cache.claim("a", 20, 1_019), "it has only just been fetched");
        assert!(cache.claim("a", 20, 1_020));
        assert!(!cache.claim("a", 20, 1_039), "a flood of bad signatures costs one fetch in a while");
        assert!(cache.claim("a", 20, 1_040));
        assert!(!cache.claim("b", 20, 1_040), "nothing is cached, so nothing can be out of date");
    }

    #[test]
    fn a_full_cache_drops_the_oldest() {
        let mut cache = with("v");
        cache.put("b", "w", AGES, 1_001);
        cache.put("a", "x", AGES, 1_002);
        cache.put("c", "y", AGES, 1_003);
        assert_eq!(cache.lookup("b", 1_003), Lookup::Absent);
        assert_eq!(cache.lookup("a", 1_003), Lookup::Fresh("x"));
        assert_eq!(cache.lookup("c", 1_003), Lookup::Fresh("y"));
        assert_eq!(cache.entries.len(), 2);
    }
}
