//! Counting refusals, so that the relay can show "17 requests refused: signature mismatch" and a flood costs nothing.
//!
//! The first refusal of a source for a cause is reported at once. Those of the next ten seconds are counted and
//! reported together.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use shared::envelope::{RejectionSample, encode_rejection};
use shared::id::SourceId;
use shared::verify::Rejection;
use worker::{Context, Delay, Queue};

use crate::enqueue::enqueue;
use crate::{host, log};

/// At most one message per source and cause in this many milliseconds.
const WINDOW_MS: u64 = 10_000;

/// At most this many messages of all sources and causes together in one window, per isolate.
const MESSAGES_PER_WINDOW: u32 = 20;

/// At most this many refusals are explained in one window, per isolate: an explanation costs as much as a few verifications.
const EXPLANATIONS_PER_WINDOW: u32 = 20;

/// How many pairs of source and cause are counted at a time; others are not counted.
const CAPACITY: usize = 500;

/// A refused request.
pub(crate) struct Refused {
    pub(crate) source: SourceId,
    pub(crate) cause: &'static str,
    pub(crate) detail: String,
    pub(crate) size: u64,
    pub(crate) remote: &'static str,
}

impl Refused {
    pub(crate) fn new(source: SourceId, rejection: &Rejection, size: u64, remote: &'static str) -> Self {
        Self { source, cause: rejection.code(), detail: rejection.detail(), size, remote }
    }
}

thread_local! {
    static COUNTS: RefCell<Counts> = RefCell::new(Counts::default());
}

/// Counts a refusal. If a report is due, it is sent to the queue after the answer.
pub(crate) fn note(refused: Refused, queue: Queue, context: &Context, now: u64) {
    let key = (refused.source, refused.cause);
    match COUNTS.with_borrow_mut(|counts| counts.record(refused, now)) {
        Next::Nothing => {}
        Next::Tell(sample) => context.wait_until(tell(sample, queue)),
        Next::Wait(pause_ms) => context.wait_until(async move {
            Delay::from(Duration::from_millis(pause_ms)).await;
            if let Some(sample) = COUNTS.with_borrow_mut(|counts| counts.flush(key, host::now_ms())) {
                tell(sample, queue).await;
            }
        }),
    }
}

/// Whether a refusal may be explained before it is counted. Once the window's explanations are used up, rejections are
/// reported as they are.
pub(crate) fn may_explain(now: u64) -> bool {
    COUNTS.with_borrow_mut(|counts| counts.may_explain(now))
}

async fn tell(sample: RejectionSample, queue: Queue) {
    // Losing a sample is acceptable: it counts refused requests and holds no event.
    if enqueue(&queue, &encode_rejection(&sample)).await.is_err() {
        log::warn("rejection counts could not be sent to the queue and are lost", &[("rejections", &sample.count)]);
    }
}

type Key = (SourceId, &'static str);

/// The next step after a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It was counted, and another request reports it; or it is one too many.
    Nothing,
    /// Report now.
    Tell(RejectionSample),
    /// Wait this many milliseconds, then flush.
    Wait(u64),
}

struct Count {
    sample: RejectionSample,
    told_at: u64,
    waiting: bool,
}

#[derive(Default)]
struct Counts {
    counts: HashMap<Key, Count>,
    window_began_at: u64,
    told_in_window: u32,
    explained_in_window: u32,
}

impl Counts {
    fn record(&mut self, refused: Refused, now: u64) -> Next {
        let key = (refused.source, refused.cause);
        if !self.counts.contains_key(&key) && self.counts.len() >= CAPACITY {
            self.counts.retain(|_, count| count.waiting || now.saturating_sub(count.told_at) < WINDOW_MS);
            if self.counts.len() >= CAPACITY {
                return Next::Nothing;
            }
        }
        let may_tell = self.may_tell(now);
        let count = self.counts.entry(key).or_insert_with(|| Count::new(&refused, now));
        count.add(refused, now);
        let due_at = count.told_at + WINDOW_MS;
        if may_tell && now >= due_at {
            self.told_in_window += 1;
            return Next::Tell(count.take(now));
        }
        if count.waiting {
            return Next::Nothing;
        }
        count.waiting = true;
        // If this one is due and the isolate has used up its messages, it waits for the isolate's next window.
        let until = if now >= due_at { self.window_began_at + WINDOW_MS } else { due_at };
        Next::Wait(until.saturating_sub(now))
    }

    fn flush(&mut self, key: Key, now: u64) -> Option<RejectionSample> {
        let may_tell = self.may_tell(now);
        let count = self.counts.get_mut(&key)?;
        count.waiting = false;
        if !may_tell || count.sample.count == 0 || now < count.told_at + WINDOW_MS {
            return None;
        }
        self.told_in_window += 1;
        Some(count.take(now))
    }

    fn may_tell(&mut self, now: u64) -> bool {
        self.turn_window(now);
        self.told_in_window < MESSAGES_PER_WINDOW
    }

    fn may_explain(&mut self, now: u64) -> bool {
        self.turn_window(now);
        self.explained_in_window = self.explained_in_window.saturating_add(1);
        self.explained_in_window <= EXPLANATIONS_PER_WINDOW
    }

    fn turn_window(&mut self, now: u64) {
        if now.saturating_sub(self.window_began_at) >= WINDOW_MS {
            self.window_began_at = now;
            self.told_in_window = 0;
            self.explained_in_window = 0;
        }
    }
}

impl Count {
    fn new(refused: &Refused, now: u64) -> Self {
        let sample = RejectionSample {
            source: refused.source,
            cause: refused.cause.to_owned(),
            detail: String::new(),
            count: 0,
            first_at_ms: now,
            last_at_ms: now,
            size: 0,
            remote: String::new(),
        };
        Self { sample, told_at: now.saturating_sub(WINDOW_MS), waiting: false }
    }

    fn add(&mut self, refused: Refused, now: u64) {
        if self.sample.count == 0 {
            self.sample.first_at_ms = now;
        }
        self.sample.count += 1;
        self.sample.last_at_ms = now;
        self.sample.detail = refused.detail;
        self.sample.size = refused.size;
        self.sample.remote = refused.remote.to_owned();
    }

    fn take(&mut self, now: u64) -> RejectionSample {
        let sample = self.sample.clone();
        self.sample.count = 0;
        self.told_at = now;
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_000_000_000;

    fn refused(source: u8) -> Refused {
        let source = SourceId::mint(NOW, [source; 10]);
        Refused {
            source,
            cause: "signature_mismatch",
            detail: "the signature does not match".to_owned(),
            size: 3,
            remote: "ipv4",
        }
    }

    fn key(source: u8) -> Key {
        (SourceId::mint(NOW, [source; 10]), "signature_mismatch")
    }

    fn count(next: Next) -> u64 {
        match next {
            Next::Tell(sample) => sample.count,
            Next::Nothing | Next::Wait(_) => 0,
        }
    }

    #[test]
    fn a_flood_is_reported_at_once_and_then_once_per_window_with_its_exact_count() {
        let mut counts = Counts::default();
        assert_eq!(count(counts.record(refused(1), NOW)), 1);
        assert_eq!(counts.record(refused(1), NOW + 1_000), Next::Wait(9_000));
        for offset in 0..100 {
            assert_eq!(counts.record(refused(1), NOW + 1_001 + offset), Next::Nothing);
        }
        let sample = counts.flush(key(1), NOW + 10_000).expect("it is time");
        assert_eq!((sample.count, sample.first_at_ms, sample.last_at_ms), (101, NOW + 1_000, NOW + 1_100));
        assert_eq!(counts.record(refused(1), NOW + 10_001), Next::Wait(9_999), "the flush opened a window too");
    }

    #[test]
    fn an_unflushed_count_is_reported_by_the_next_refusal() {
        let mut counts = Counts::default();
        assert_eq!(count(counts.record(refused(1), NOW)), 1);
        assert_eq!(counts.record(refused(1), NOW + 1), Next::Wait(9_999));
        assert_eq!(count(counts.record(refused(1), NOW + 60_000)), 2);
        assert_eq!(counts.flush(key(1), NOW + 60_001), None, "nothing is left to tell");
    }

    #[test]
    fn many_sources_together_are_capped_and_nothing_is_lost_of_their_counts() {
        let mut counts = Counts::default();
        let told = (0..100).filter(|source| count(counts.record(refused(*source), NOW)) > 0).count();
        assert_eq!(told, 20);
        assert_eq!(counts.record(refused(50), NOW + 1), Next::Nothing, "another request already waits for it");
        assert_eq!(counts.flush(key(50), NOW + 10_000).map(|sample| sample.count), Some(2));
    }

    #[test]
    fn a_flood_is_not_explained_request_by_request() {
        let mut counts = Counts::default();
        let explained = |counts: &mut Counts, now| (0..100).filter(|_| counts.may_explain(now)).count();
        assert_eq!([explained(&mut counts, NOW), explained(&mut counts, NOW + 9_999)], [20, 0]);
        assert_eq!(explained(&mut counts, NOW + 10_000), 20);
    }

    #[test]
    fn the_number_of_counters_is_bounded() {
        let mut counts = Counts::default();
        let bytes = |n: u32| {
            let mut random = [0; 10];
            random[6..].copy_from_slice(&n.to_be_bytes());
            random
        };
        for source in 0..10_000 {
            counts.record(Refused { source: SourceId::mint(NOW, bytes(source)), ..refused(0) }, NOW);
        }
        assert!(counts.counts.len() <= CAPACITY);
    }
}
