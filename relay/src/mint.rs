//! The system clock and random numbers. Pure code takes them as arguments; this module provides them.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::{ContextV7, NoContext, Timestamp, Uuid};

/// Unix time in milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A UUIDv7 with the current time. The ids of one process are ordered even within a millisecond, unless the clock is
/// set back by more than [`SET_BACK`]: from then on they have the new time.
#[must_use]
pub fn uuid() -> Uuid {
    let now = Timestamp::now(NoContext);
    let mut generator = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    generator.uuid(now)
}

/// How far the clock may go back, in seconds, without disturbing the order of ids, for instance when it is slewed. A
/// clock that was set forward by days and then back must not put all later ids into future days.
const SET_BACK: u64 = 10;

static GENERATOR: Mutex<Generator> = Mutex::new(Generator::new());

struct Generator {
    context: ContextV7,
    /// Unix seconds of the newest id.
    newest_s: u64,
}

impl Generator {
    const fn new() -> Self {
        Self { context: ContextV7::new(), newest_s: 0 }
    }

    fn uuid(&mut self, now: Timestamp) -> Uuid {
        let (now_s, nanoseconds) = now.to_unix();
        if now_s.saturating_add(SET_BACK) < self.newest_s {
            *self = Self::new();
        }
        self.newest_s = self.newest_s.max(now_s);
        Uuid::new_v7(Timestamp::from_unix(&self.context, now_s, nanoseconds))
    }
}

/// Random bytes for keys and nonces.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::Rng::fill(&mut rand::rng(), &mut bytes[..]);
    bytes
}

/// A random number from 0 to 1, for jitter.
#[must_use]
pub fn jitter() -> f64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use shared::id::uuid_v7_ms;

    use super::*;

    #[test]
    fn ids_stay_in_order_until_the_clock_is_set_back_and_then_follow_the_new_time() {
        let at = |seconds| Timestamp::from_unix(NoContext, seconds, 0);
        let mut generator = Generator::new();
        let ids: Vec<Uuid> = [1_000, 1_000, 1_000, 1_001, 995].map(|seconds| generator.uuid(at(seconds))).into();
        assert!(ids.is_sorted(), "{ids:?}");
        let ahead = generator.uuid(at(900_000));
        assert_eq!(uuid_v7_ms(ahead), 900_000_000);
        assert_eq!(uuid_v7_ms(generator.uuid(at(1_002))), 1_002_000, "a clock that was wrong has no lasting effect");
    }
}
