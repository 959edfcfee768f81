//! The queues of the account, and the dead letters that move between them.

use super::message::Message;
use super::state::{Settings, State};

/// The name of the queue that a Worker sends to, as the README creates it.
pub const EVENTS: &str = "tidegate-events";
/// The name of its dead-letter queue.
pub const DEAD: &str = "tidegate-dead";

/// The configuration of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub name: String,
    pub settings: Settings,
    /// Whether it has an HTTP pull consumer. Without one it cannot be pulled.
    pub has_consumer: bool,
    /// The name of the queue that receives its dead letters. Without one they are deleted.
    pub dead_letter_queue: Option<String>,
}

impl Queue {
    /// A queue with a pull consumer and without a dead-letter queue.
    #[must_use]
    pub fn new(name: &str, settings: Settings) -> Self {
        Self { name: name.to_owned(), settings, has_consumer: true, dead_letter_queue: None }
    }

    /// The two queues that the README creates.
    #[must_use]
    pub fn recipe() -> Vec<Self> {
        let events = Self {
            dead_letter_queue: Some(DEAD.to_owned()),
            ..Self::new(EVENTS, Settings { retry_delay_s: 10, ..Settings::default() })
        };
        vec![events, Self::new(DEAD, Settings { retry_delay_s: 60, ..Settings::default() })]
    }
}

/// All queues with their messages.
#[derive(Debug)]
pub struct Account {
    queues: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    id: String,
    queue: Queue,
    state: State,
}

impl Account {
    /// Empty queues with fresh ids.
    #[must_use]
    pub fn new(queues: Vec<Queue>) -> Self {
        let held = |queue: Queue| Held { id: crate::random::text(), state: State::new(queue.settings), queue };
        Self { queues: queues.into_iter().map(held).collect() }
    }

    /// The ids, in the order in which the queues were given.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.queues.iter().map(|held| held.id.as_str())
    }

    /// The index of the queue with this id.
    #[must_use]
    pub fn with_id(&self, id: &str) -> Option<usize> {
        self.queues.iter().position(|held| held.id == id)
    }

    /// The index of the queue with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<usize> {
        self.queues.iter().position(|held| held.queue.name == name)
    }

    /// A queue's configuration and id. `at` comes from [`Account::with_id`] or [`Account::named`].
    #[must_use]
    pub fn queue(&self, at: usize) -> (&Queue, &str) {
        (&self.queues[at].queue, &self.queues[at].id)
    }

    /// Changes a queue's configuration.
    pub fn configure(&mut self, at: usize, change: impl FnOnce(&mut Queue)) {
        let held = &mut self.queues[at];
        change(&mut held.queue);
        held.state.configure(held.queue.settings);
    }

    /// Calls `work` on the messages of one queue. Processes all due changes of all queues before and after it.
    pub fn on<T>(&mut self, at: usize, now_ms: u64, work: impl FnOnce(&mut State) -> T) -> T {
        self.settle(now_ms);
        let done = work(&mut self.queues[at].state);
        self.settle(now_ms);
        done
    }

    /// Processes the due changes of every queue, and moves dead letters on.
    fn settle(&mut self, now_ms: u64) {
        for from in 0..self.queues.len() {
            self.queues[from].state.advance(now_ms);
            let dead = self.queues[from].state.take_dead();
            if dead.is_empty() {
                continue;
            }
            let to = self.queues[from].queue.dead_letter_queue.as_deref().and_then(|name| self.named(name));
            match to {
                Some(to) => {
                    for letter in dead {
                        // A new message: its id, its age and its count of deliveries start again.
                        let letter = Message::new(now_ms, letter.content_type, letter.body);
                        self.queues[to].state.push(now_ms, letter, 0);
                    }
                }
                None => self.queues[from].state.note_dropped(dead.len() as u64),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{ContentType, Counters};

    const NOW: u64 = 1_764_000_000_000;
    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

    fn account() -> Account {
        let settings =
            Settings { visibility_timeout_ms: 1_000, max_retries: 1, retry_delay_s: 0, ..Settings::default() };
        let with = |name: &str, dead: Option<&str>| Queue {
            dead_letter_queue: dead.map(str::to_owned),
            ..Queue::new(name, settings)
        };
        Account::new(vec![with("a", Some("b")), with("b", Some("c")), with("c", None)])
    }

    fn push(account: &mut Account, now_ms: u64) {
        let message = Message::new(now_ms, ContentType::Text, b"a".to_vec());
        account.on(0, now_ms, |state| state.push(now_ms, message, 0));
    }

    /// Delivers the message of a queue until it leaves the queue.
    fn wear_out(account: &mut Account, at: usize, now_ms: u64) {
        for now_ms in [now_ms, now_ms + 1_000] {
            assert_eq!(account.on(at, now_ms, |state| state.pull(now_ms, 9, None, false)).len(), 1);
        }
    }

    #[test]
    fn dead_letters_move_from_queue_to_queue_and_are_deleted_and_counted_at_the_last() {
        let mut account = account();
        push(&mut account, NOW);
        for at in 0..3 {
            let now_ms = NOW + at as u64 * 10_000;
            wear_out(&mut account, at, now_ms);
            let Counters { dead_lettered, dropped, backlog, in_flight, .. } =
                account.on(at, now_ms + 5_000, |state| state.counters(now_ms + 5_000));
            let (wanted, left) = (u64::from(at == 2), (backlog, in_flight));
            assert_eq!((dead_lettered, dropped, left), (1, wanted, (0, 0)), "queue {at}");
        }
        assert_eq!(account.on(2, NOW + 60_000, |state| state.messages().count()), 0);
    }

    #[test]
    fn a_message_older_than_the_retention_is_deleted_leased_or_not_and_is_not_a_dead_letter() {
        let mut account = account();
        push(&mut account, NOW);
        push(&mut account, NOW + 1);
        let long = Some(20 * DAY_MS);
        assert_eq!(account.on(0, NOW + 1, |state| state.pull(NOW + 1, 1, long, false)).len(), 1);
        let just_before = NOW + 14 * DAY_MS - 1;
        assert_eq!(account.on(0, just_before, |state| state.counters(just_before)).expired, 0);
        let after = NOW + 14 * DAY_MS + 1;
        let Counters { expired, dead_lettered, backlog, in_flight, .. } =
            account.on(0, after, |state| state.counters(after));
        assert_eq!((expired, dead_lettered, backlog, in_flight), (2, 0, 0, 0));
        assert_eq!(account.on(1, after, |state| state.messages().count()), 0);
    }

    #[test]
    fn a_dead_letter_is_kept_for_the_whole_retention_of_its_new_queue() {
        let mut account = account();
        push(&mut account, NOW);
        wear_out(&mut account, 0, NOW + 13 * DAY_MS);
        let arrived = NOW + 13 * DAY_MS + 5_000;
        assert_eq!(account.on(1, arrived, |state| state.messages().count()), 1);
        assert_eq!(account.on(1, arrived + 13 * DAY_MS, |state| state.messages().count()), 1);
        assert_eq!(account.on(1, arrived + 14 * DAY_MS, |state| state.counters(arrived + 14 * DAY_MS)).expired, 1);
    }

    #[test]
    fn a_shorter_retention_applies_to_messages_already_in_the_queue() {
        let mut account = account();
        push(&mut account, NOW);
        account.configure(0, |queue| queue.settings.retention_s = 60);
        assert_eq!(account.on(0, NOW + 60_000, |state| state.counters(NOW + 60_000)).expired, 1);
    }
}
