//! A small map with ages, for what an isolate keeps between requests. It reads no clock: `now` is an argument.
//!
//! Nobody waits here for what another request is fetching: in a Worker a promise belongs to the request that made it.
//! The first one past an entry's time claims the refresh, the others go on with what there is.

use std::collections::HashMap;

/// How long an entry is good for, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ages {
    /// From here on the entry is still used, and refreshed in the background.
    pub(crate) fresh: u64,
    /// From here on it is not used any more.
    pub(crate) usable: u64,
    /// How long a refresh is awaited before another request may try.
    pub(crate) refresh: u64,
}

/// What the cache says about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup<V> {
    /// Use it.
    Fresh(V),
    /// Use it, and fetch it anew in the background: this caller has claimed that.
    Refresh(V),
    /// It has to be fetched before anything else can happen.
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

    /// Looks a key up and, where it is due, claims its refresh.
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

    /// What is cached under a key, unless it is due for a refresh that nobody has claimed: claims nothing.
    pub(crate) fn peek(&self, key: &str, now: u64) -> Option<V> {
        let entry = self.entries.get(key)?;
        let age = now.saturating_sub(entry.loaded_at);
        let claimed = entry.claimed_at.is_some_and(|at| now.saturating_sub(at) < entry.ages.refresh);
        (age < entry.ages.fresh || (age < entry.ages.usable && claimed)).then(|| entry.value.clone())
    }

    /// Claims a refresh out of turn, because what is cached did not do. Answers whether the caller may fetch: only where
    /// the entry is at least `min_age` milliseconds old and nobody has claimed within the last `min_age`.
    pub(crate) fn claim(&mut self, key: &str, min_age: u64, now: u64) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let last = entry.claimed_at.map_or(entry.loaded_at, |at| at.max(entry.loaded_at));
        if now.saturating_sub(last) < min_age {
            return false;
        }
        entry.claimed_at = Some(now);
        true
    }

    /// Puts a value that has just been fetched. A full cache first drops what is not usable any more, then the oldest.
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
        assert_eq!(cache.peek("a", 1_031), Some("v"), "somebody refreshes it");
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
    fn what_did_not_do_is_fetched_again_but_not_for_every_request() {
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
