//! Follows the changes of events and deliveries, and hands them to everything in this relay that waits for them.
//!
//! One task reads new changes once for all followers, and only while there are any. It is woken by announcements: each
//! replica announces with a NOTIFY that it has committed changes, at most every 20 ms. The announcement is not part of
//! the transaction of a change, because a NOTIFY in it would let only one transaction commit at a time. If an
//! announcement is lost, a slow poll finds the changes.
//!
//! What the task reads goes through bounded channels. A follower that is too slow gets a sign that it has missed
//! something, and reads the database again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store::changes::objects::StoredEvent;
use store::changes::{self, Listener, Position, Read};
use store::{Pool, Result};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use items::{Batch, Item, Subject};

pub mod items;

/// The shortest time between two announcements of a replica, and between two reads of its tail.
pub const ANNOUNCED_EVERY: Duration = Duration::from_millis(20);

/// How often changes are read that no announcement has reported.
pub const POLL_EVERY: Duration = Duration::from_secs(1);

/// The longest time between two reads while a running transaction delays changes.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// How long the connection that listens stays open without followers.
const LISTENS_FOR: Duration = Duration::from_secs(60);

/// How long the relay waits after a failure before it reads, announces or listens again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The most rows of changes that one statement reads.
pub const ROWS_AT_ONCE: i64 = 32;

/// The most batches that wait for a follower. A follower that is further behind reads the database again.
pub const BATCHES_WAITING: usize = 128;

/// Hands changes to followers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tail {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    followers: Mutex<Followers>,
    /// Woken when there is a first follower.
    wake: Notify,
    /// Whether changes are being read: followers receive every change that is committed from now on.
    following: watch::Sender<bool>,
    stored: broadcast::Sender<Stored>,
    batches: broadcast::Sender<Arc<Batch>>,
    /// Set when the relay shuts down.
    ended: CancellationToken,
}

/// The number of followers.
#[derive(Debug, Default, Clone, Copy)]
struct Followers {
    stored: usize,
    batches: usize,
}

/// What a follower of stored events receives.
#[derive(Debug, Clone)]
pub enum Stored {
    /// These events were stored or changed: an event that is released from quarantine is new to many.
    Events(Arc<[StoredEvent]>),
    /// Events may have been missed: the follower has to look in the store again.
    Gap,
}

/// Follows the events that are stored, by any replica.
#[derive(Debug)]
pub struct StoredEvents {
    tail: Tail,
    receiver: broadcast::Receiver<Stored>,
}

impl StoredEvents {
    /// The next stored events; `None` when the relay shuts down. It can be dropped and called again.
    pub async fn next(&mut self) -> Option<Stored> {
        let received = tokio::select! {
            received = self.receiver.recv() => received,
            () = self.tail.shared.ended.cancelled() => return None,
        };
        match received {
            Ok(stored) => Some(stored),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Stored::Gap),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for StoredEvents {
    fn drop(&mut self) {
        self.tail.followers().stored -= 1;
    }
}

/// Follows all changes.
#[derive(Debug)]
pub struct Batches {
    tail: Tail,
    receiver: broadcast::Receiver<Arc<Batch>>,
}

/// What a follower of all changes receives.
#[derive(Debug, Clone)]
pub enum Followed {
    Batch(Arc<Batch>),
    /// Batches were missed: the follower has to read from its position.
    Behind,
    /// The relay shuts down.
    Ended,
}

impl Batches {
    /// Waits until the relay shuts down.
    pub async fn ended(&self) {
        self.tail.shared.ended.cancelled().await;
    }

    /// The next batch. It can be dropped and called again.
    pub async fn next(&mut self) -> Followed {
        let received = tokio::select! {
            biased;
            () = self.tail.shared.ended.cancelled() => return Followed::Ended,
            received = self.receiver.recv() => received,
        };
        match received {
            Ok(batch) => Followed::Batch(batch),
            Err(broadcast::error::RecvError::Lagged(_)) => Followed::Behind,
            Err(broadcast::error::RecvError::Closed) => Followed::Ended,
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.tail.followers().batches -= 1;
    }
}

impl Default for Tail {
    fn default() -> Self {
        let shared = Shared {
            followers: Mutex::default(),
            wake: Notify::default(),
            following: watch::Sender::new(false),
            stored: broadcast::Sender::new(BATCHES_WAITING),
            batches: broadcast::Sender::new(BATCHES_WAITING),
            ended: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Tail {
    /// Follows the events that are stored, and those that are released. The follower receives every event whose
    /// transaction commits after this function has returned, usually within 50 ms. While the database is unavailable,
    /// the function waits.
    pub async fn stored(&self) -> StoredEvents {
        self.followers().stored += 1;
        let stored = StoredEvents { tail: self.clone(), receiver: self.shared.stored.subscribe() };
        self.shared.wake.notify_one();
        let mut following = self.shared.following.subscribe();
        tokio::select! {
            _ = following.wait_for(|following| *following) => {}
            () = self.shared.ended.cancelled() => {}
        }
        stored
    }

    /// Follows all changes. The first batch says from which position on nothing is missed.
    #[must_use]
    pub fn batches(&self) -> Batches {
        self.followers().batches += 1;
        let batches = Batches { tail: self.clone(), receiver: self.shared.batches.subscribe() };
        self.shared.wake.notify_one();
        batches
    }

    fn followers(&self) -> MutexGuard<'_, Followers> {
        self.shared.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The followers; `None` if there are none. Then the task stops reading, under the lock that a new follower takes.
    fn followed(&self) -> Option<Followers> {
        let followers = self.followers();
        if followers.stored + followers.batches == 0 {
            self.shared.following.send_replace(false);
            return None;
        }
        Some(*followers)
    }
}

/// Reads changes for the followers until `stop`.
pub async fn run(pool: Pool, tail: Tail, stop: CancellationToken) {
    let mut reader = Reader { pool, tail: tail.clone(), position: None, listener: None, listen_at: Instant::now() };
    let mut wait = ANNOUNCED_EVERY;
    // Changes of another history are deleted even if nothing follows.
    tokio::select! {
        begun = changes::begin(&reader.pool) => if let Err(error) = begun {
            tracing::warn!(%error, "could not check the history of the database; it is checked again for each stream");
        },
        () = stop.cancelled() => {}
    }
    loop {
        tokio::select! {
            next = reader.turn(wait) => wait = next,
            () = stop.cancelled() => break,
        }
    }
    tail.shared.ended.cancel();
}

/// Announces until `stop` that this relay has committed changes.
pub async fn announce(pool: Pool, stop: CancellationToken) {
    let announcing = async {
        loop {
            pool.has_changed().await;
            if let Err(error) = changes::announce(&pool).await {
                tracing::warn!(%error, "could not announce changes; other replicas find them later");
                sleep(AGAIN_AFTER).await;
            }
            sleep(ANNOUNCED_EVERY).await;
        }
    };
    tokio::select! {
        () = announcing => {}
        () = stop.cancelled() => {}
    }
}

struct Reader {
    pool: Pool,
    tail: Tail,
    /// How far the changes have been read; `None` if they are not being read.
    position: Option<Position>,
    listener: Option<Listener>,
    /// When to try to listen again.
    listen_at: Instant,
}

impl Reader {
    /// Reads once, or waits until there is a follower. `wait` is how long changes have been delayed by a running
    /// transaction; returns the same for the next turn.
    async fn turn(&mut self, wait: Duration) -> Duration {
        let Some(followers) = self.tail.followed() else {
            self.position = None;
            self.rest().await;
            return ANNOUNCED_EVERY;
        };
        self.listen().await;
        let (pause, next) = match self.read(followers, wait).await {
            Ok(After::More) => return ANNOUNCED_EVERY,
            Ok(After::All) => (POLL_EVERY, ANNOUNCED_EVERY),
            Ok(After::Delayed) => (wait, (wait * 2).min(LONGEST_WAIT)),
            Err(error) => {
                tracing::warn!(%error, "could not read changes; retrying");
                (AGAIN_AFTER, ANNOUNCED_EVERY)
            }
        };
        sleep(ANNOUNCED_EVERY).await;
        self.pause(pause).await;
        next
    }

    /// Waits for a follower. The connection for announcements is closed if there has been none for a while.
    async fn rest(&mut self) {
        if self.listener.is_some() {
            tokio::select! {
                () = self.tail.shared.wake.notified() => return,
                () = sleep(LISTENS_FOR) => self.listener = None,
            }
        }
        self.tail.shared.wake.notified().await;
    }

    /// Waits for an announcement or a new follower, at most this long.
    async fn pause(&mut self, pause: Duration) {
        let announced = async {
            match &mut self.listener {
                Some(listener) => listener.announced().await,
                None => std::future::pending().await,
            }
        };
        let lost = tokio::select! {
            announced = announced => announced.err(),
            () = self.tail.shared.wake.notified() => None,
            () = sleep(pause) => None,
        };
        if let Some(error) = lost {
            tracing::warn!(%error, "the connection for announcements of changes was lost; until it is open again the relay finds changes by polling every second");
            self.listener = None;
        }
    }

    /// Listens, unless it does already or has failed to a moment ago. Without it, the poll finds the changes.
    async fn listen(&mut self) {
        if self.listener.is_some() || Instant::now() < self.listen_at {
            return;
        }
        match Listener::open(&self.pool).await {
            Ok(listener) => self.listener = Some(listener),
            Err(error) => {
                tracing::warn!(%error, "could not open the connection for announcements of changes; until it is open the relay finds changes by polling every second")
            }
        }
        // The connection may have been lost because another server has taken over, so the history is looked at again.
        if let (Some(position), Ok(now)) = (self.position, changes::begin(&self.pool).await)
            && now.history != position.history
        {
            self.miss();
        }
        self.listen_at = Instant::now() + AGAIN_AFTER;
    }

    /// Reads the changes since the last read and sends them to the followers.
    async fn read(&mut self, followers: Followers, wait: Duration) -> Result<After> {
        let Some(position) = self.position else {
            let now = changes::begin(&self.pool).await?;
            self.begin(now);
            return Ok(After::All);
        };
        let read = match changes::read(&self.pool, position, ROWS_AT_ONCE).await? {
            Read::Changes(read) => read,
            Read::Foreign | Read::TooOld => {
                self.miss();
                return Ok(After::More);
            }
        };
        let after = match (read.is_full, read.is_waiting) {
            (true, _) => After::More,
            (false, true) => After::Delayed,
            (false, false) => After::All,
        };
        let is_quiet = read.changes.is_empty();
        for chunk in items::chunks(position, &read) {
            if followers.stored > 0 {
                let stored = items::stored(&self.pool, &chunk).await?;
                if !stored.is_empty() {
                    let _ = self.tail.shared.stored.send(Stored::Events(stored.into()));
                }
            }
            let to = chunk.to;
            if followers.batches > 0 {
                let batch = items::batch(&self.pool, chunk).await?;
                let _ = self.tail.shared.batches.send(Arc::new(batch));
            }
            self.position = Some(to);
        }
        // Progress ends the doubling of the wait.
        Ok(if after == After::Delayed && !is_quiet && wait > ANNOUNCED_EVERY { After::More } else { after })
    }

    /// Begins to send what is committed from now on to the followers.
    fn begin(&mut self, now: Position) {
        self.position = Some(now);
        let _ = self.tail.shared.batches.send(Arc::new(Batch { from: now, to: now, items: Vec::new() }));
        self.tail.shared.following.send_replace(true);
    }

    /// Begins again, because changes can have been missed.
    fn miss(&mut self) {
        self.position = None;
        let _ = self.tail.shared.stored.send(Stored::Gap);
    }
}

/// What is left after a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// There are more changes.
    More,
    /// There are none.
    All,
    /// There are changes that a running transaction delays.
    Delayed,
}
