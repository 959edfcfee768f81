//! Times and ids of the events that a test makes. The ids of one process grow in the order in which they are made, also
//! within a millisecond.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use shared::id::EventId;

static MINTED: Mutex<Minted> = Mutex::new(Minted { newest_ms: 0, count: 0 });

struct Minted {
    /// The newest time of an event, in Unix milliseconds. It grows even if the clock is set back.
    newest_ms: u64,
    count: u32,
}

/// The time of receipt of an event that arrives now, in Unix milliseconds, and its id.
#[must_use]
pub fn event() -> (u64, EventId) {
    let mut minted = MINTED.lock().unwrap_or_else(PoisonError::into_inner);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = minted.newest_ms.max(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    minted.newest_ms = now_ms;
    (now_ms, minted.id(now_ms))
}

/// The id of an event that arrived at this time.
#[must_use]
pub fn event_at(received_at_ms: u64) -> EventId {
    MINTED.lock().unwrap_or_else(PoisonError::into_inner).id(received_at_ms)
}

impl Minted {
    fn id(&mut self, at_ms: u64) -> EventId {
        self.count += 1;
        // The version and the variant of a UUID replace bits of the bytes 0 and 2, so the count comes after them.
        let mut random = [0; 10];
        random[3..7].copy_from_slice(&self.count.to_be_bytes());
        random[7..].copy_from_slice(&rand::random::<[u8; 3]>());
        EventId::mint(at_ms, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_also_within_a_millisecond() {
        let ids: Vec<EventId> = (0..1_000).map(|_| event_at(7)).collect();
        assert!(ids.is_sorted_by(|a, b| a < b) && ids.iter().all(|id| id.minted_at_ms() == 7));
        let events: Vec<(u64, EventId)> = (0..1_000).map(|_| event()).collect();
        assert!(events.is_sorted_by(|a, b| a.1 < b.1) && events.iter().all(|(at, id)| id.minted_at_ms() == *at));
    }
}
