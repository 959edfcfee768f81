//! The queue itself: a state machine that never reads a clock. `now_ms` (Unix time in milliseconds) is an argument.
//!
//! A message waits, is leased by a pull, and is removed once it is acknowledged. If its lease expires, or a consumer
//! requests a retry, it waits again. Once it has been delivered `1 + max_retries` times it is a dead letter instead,
//! which [`super::account`] takes. A message that is older than the retention is deleted, leased or not, and is not a
//! dead letter. An acknowledgement applies to the message, not to the lease: a late one is accepted even if the message
//! has been delivered again since, as Cloudflare documents.
//!
//! No operation scans: waiting messages are in a queue, delays and lease expiries are in heaps, and ages are in a list
//! in the order of arrival. Outdated entries are recognised and skipped when they come up.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use super::message::{Message, Pulled};

/// The configuration of a queue and its pull consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a message is kept, in seconds.
    pub retention_s: u64,
    /// How many messages a pull leases if it sets no `batch_size`.
    pub batch_size: usize,
    /// How long a lease lasts if the pull does not set it, in milliseconds.
    pub visibility_timeout_ms: u64,
    /// How often a message is redelivered before it becomes a dead letter.
    pub max_retries: u32,
    /// How long a message waits after its lease has expired, or after a retry without a delay, in seconds.
    pub retry_delay_s: u64,
}

impl Default for Settings {
    /// The configuration of the README for the queue of events.
    fn default() -> Self {
        Self {
            retention_s: 14 * 24 * 60 * 60,
            batch_size: 100,
            visibility_timeout_ms: 60_000,
            max_retries: 100,
            retry_delay_s: 10,
        }
    }
}

/// Counts since the start, and of the present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Accepted messages.
    pub accepted: u64,
    /// Deliveries: a redelivered message counts again.
    pub pulled: u64,
    /// Acknowledged messages.
    pub acked: u64,
    /// Messages that returned because their lease expired or a retry was requested.
    pub returned: u64,
    /// Messages that became dead letters.
    pub dead_lettered: u64,
    /// Dead letters that were deleted because the queue has no dead-letter queue.
    pub dropped: u64,
    /// Messages that were deleted because they were older than the retention.
    pub expired: u64,
    /// The largest number of deliveries of one message.
    pub most_attempts: u32,
    /// Leased messages.
    pub in_flight: u64,
    /// Messages that wait to be pulled, including delayed ones.
    pub backlog: u64,
}

/// The result of [`State::ack`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acknowledged {
    pub acked: u64,
    pub retried: u64,
    /// Invalid leases: those of removed messages and, for a retry, expired ones.
    pub unknown: Vec<String>,
}

/// A retry that a consumer requests; without a delay the consumer's `retry_delay_s` applies.
#[derive(Debug, Clone)]
pub struct Retry {
    pub lease_id: String,
    pub delay_s: Option<u64>,
}

/// A queue with one pull consumer.
#[derive(Debug, Default)]
pub struct State {
    settings: Settings,
    entries: HashMap<u64, Entry>,
    next_key: u64,
    next_lease: u64,
    waiting: VecDeque<u64>,
    delayed: BinaryHeap<Reverse<(u64, u64)>>,
    expiries: BinaryHeap<Reverse<(u64, u64, u64)>>,
    /// The arrival of each message in this queue, in Unix milliseconds, oldest first, with the key of its entry.
    ages: VecDeque<(u64, u64)>,
    /// Dead letters that have not been taken yet.
    dead: Vec<Message>,
    backlog_bytes: u64,
    counters: Counters,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    attempts: u32,
    /// The number of its present lease.
    lease: Option<u64>,
    /// Whether a fault added this entry for a second delivery. It is not added a third time.
    twin: bool,
}

impl State {
    /// An empty queue.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Changes the configuration. The retention also applies to messages already in the queue.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Accepts a message, which can be pulled after `delay_s` seconds.
    pub fn push(&mut self, now_ms: u64, message: Message, delay_s: u64) {
        self.counters.accepted += 1;
        self.insert(now_ms, Entry { message, attempts: 0, lease: None, twin: false }, delay_s);
    }

    /// Accepts a message that counts as already delivered `attempts` times.
    pub fn push_leased(&mut self, now_ms: u64, message: Message, attempts: u32) {
        self.counters.accepted += 1;
        self.insert(now_ms, Entry { message, attempts, lease: None, twin: false }, 0);
    }

    /// Leases up to `limit` messages for `visibility_timeout_ms`. With `duplicate`, a second entry with the same id is
    /// added for each message, which a later pull delivers. At-least-once delivery permits that.
    pub fn pull(
        &mut self,
        now_ms: u64,
        limit: usize,
        visibility_timeout_ms: Option<u64>,
        duplicate: bool,
    ) -> Vec<Pulled> {
        self.advance(now_ms);
        let expires_ms = now_ms + visibility_timeout_ms.unwrap_or(self.settings.visibility_timeout_ms);
        let mut pulled = Vec::with_capacity(limit.min(self.waiting.len()));
        let mut twins = Vec::new();
        while pulled.len() < limit {
            let Some(key) = self.waiting.pop_front() else { break };
            // It was acknowledged late, after it had returned to the queue.
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            self.next_lease += 1;
            entry.lease = Some(self.next_lease);
            entry.attempts += 1;
            self.expiries.push(Reverse((expires_ms, key, self.next_lease)));
            self.counters.most_attempts = self.counters.most_attempts.max(entry.attempts);
            self.counters.pulled += 1;
            self.counters.in_flight += 1;
            self.counters.backlog -= 1;
            self.backlog_bytes -= entry.message.size();
            if duplicate && !entry.twin && entry.attempts == 1 {
                twins.push(Entry { message: entry.message.clone(), attempts: 1, lease: None, twin: true });
            }
            pulled.push(Pulled {
                message: entry.message.clone(),
                attempts: entry.attempts,
                lease_id: lease_id(key, self.next_lease),
            });
        }
        for twin in twins {
            self.insert(now_ms, twin, 0);
        }
        pulled
    }

    /// Acknowledges messages, and returns others to the queue.
    pub fn ack(&mut self, now_ms: u64, acks: &[String], retries: &[Retry]) -> Acknowledged {
        self.advance(now_ms);
        let mut done = Acknowledged::default();
        for lease in acks {
            match parse_lease(lease).filter(|(key, _)| self.entries.contains_key(key)) {
                Some((key, _)) => {
                    self.remove(key);
                    self.counters.acked += 1;
                    done.acked += 1;
                }
                None => done.unknown.push(lease.clone()),
            }
        }
        for retry in retries {
            let held = |(key, lease): &(u64, u64)| self.entries.get(key).is_some_and(|e| e.lease == Some(*lease));
            match parse_lease(&retry.lease_id).filter(held) {
                Some((key, _)) => {
                    self.give_back(now_ms, key, retry.delay_s.unwrap_or(self.settings.retry_delay_s));
                    done.retried += 1;
                }
                None => done.unknown.push(retry.lease_id.clone()),
            }
        }
        done
    }

    /// The counters at `now_ms`.
    pub fn counters(&mut self, now_ms: u64) -> Counters {
        self.advance(now_ms);
        self.counters
    }

    /// The size of the bodies of waiting messages, in bytes.
    #[must_use]
    pub fn backlog_bytes(&self) -> u64 {
        self.backlog_bytes
    }

    /// The time at which the first waiting message was accepted, in Unix milliseconds; 0 if none waits.
    pub fn oldest_ms(&mut self) -> u64 {
        while let Some(key) = self.waiting.front() {
            if let Some(entry) = self.entries.get(key) {
                return entry.message.accepted_at_ms;
            }
            self.waiting.pop_front();
        }
        0
    }

    /// Every message that is neither acknowledged nor dead, in no order.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.entries.values().map(|entry| &entry.message)
    }

    /// Takes the dead letters since the last call.
    pub fn take_dead(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.dead)
    }

    /// Counts dead letters that were deleted.
    pub fn note_dropped(&mut self, count: u64) {
        self.counters.dropped += count;
    }

    /// Processes due changes: deletes messages that are too old, and ends delays and leases.
    pub fn advance(&mut self, now_ms: u64) {
        let retention_ms = self.settings.retention_s * 1_000;
        while let Some(&(arrived_ms, key)) = self.ages.front()
            && (arrived_ms + retention_ms <= now_ms || !self.entries.contains_key(&key))
        {
            self.ages.pop_front();
            if self.remove(key).is_some() {
                self.counters.expired += 1;
            }
        }
        self.end_delays(now_ms);
        while let Some(&Reverse((at_ms, key, lease))) = self.expiries.peek()
            && at_ms <= now_ms
        {
            self.expiries.pop();
            if self.entries.get(&key).is_some_and(|entry| entry.lease == Some(lease)) {
                // Its delay began when the lease expired, not when that was noticed.
                self.give_back(at_ms, key, self.settings.retry_delay_s);
            }
        }
        self.end_delays(now_ms);
    }

    fn end_delays(&mut self, now_ms: u64) {
        while let Some(&Reverse((at_ms, key))) = self.delayed.peek()
            && at_ms <= now_ms
        {
            self.delayed.pop();
            self.waiting.push_back(key);
        }
    }

    fn insert(&mut self, now_ms: u64, entry: Entry, delay_s: u64) {
        self.next_key += 1;
        self.counters.backlog += 1;
        self.backlog_bytes += entry.message.size();
        self.ages.push_back((now_ms, self.next_key));
        self.entries.insert(self.next_key, entry);
        self.wait(now_ms, self.next_key, delay_s);
    }

    fn wait(&mut self, now_ms: u64, key: u64, delay_s: u64) {
        match delay_s {
            0 => self.waiting.push_back(key),
            _ => self.delayed.push(Reverse((now_ms + delay_s * 1_000, key))),
        }
    }

    /// Returns a leased message: it waits again, or becomes a dead letter if it has been delivered too often.
    fn give_back(&mut self, now_ms: u64, key: u64, delay_s: u64) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        self.counters.returned += 1;
        if entry.attempts > self.settings.max_retries {
            self.counters.dead_lettered += 1;
            if let Some(entry) = self.remove(key) {
                self.dead.push(entry.message);
            }
            return;
        }
        entry.lease = None;
        self.counters.in_flight -= 1;
        self.counters.backlog += 1;
        self.backlog_bytes += entry.message.size();
        self.wait(now_ms, key, delay_s);
    }

    fn remove(&mut self, key: u64) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        match entry.lease {
            Some(_) => self.counters.in_flight -= 1,
            None => {
                self.counters.backlog -= 1;
                self.backlog_bytes -= entry.message.size();
            }
        }
        Some(entry)
    }
}

/// Builds a lease id. Cloudflare's are encrypted tokens of at least 200 bytes, and a client that cannot store one has
/// to fail here.
fn lease_id(key: u64, lease: u64) -> String {
    format!("eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..{key:016x}{lease:016x}{:0>170}", "")
}

fn parse_lease(text: &str) -> Option<(u64, u64)> {
    let digits = text.split("..").nth(1)?;
    let number = |range| u64::from_str_radix(digits.get(range)?, 16).ok();
    Some((number(0..16)?, number(16..32)?))
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
