//! Tells the viewers of pages that something has changed, and not what: each page reads its own part again.
//!
//! This costs the same however many changes there are. The task listens to the announcements of all replicas
//! ([`crate::tail::announce`]), reads no changes, and is idle while nobody views a page.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use store::Pool;
use store::changes::Listener;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// The shortest time between two pulses.
pub const PULSES_EVERY: Duration = Duration::from_secs(1);

/// How long the connection that listens stays open without viewers.
const LISTENS_FOR: Duration = Duration::from_secs(60);

/// The time between two pulses while the relay cannot listen.
pub const BLIND_EVERY: Duration = Duration::from_secs(5);

/// Says that something has changed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pulse {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    beats: watch::Sender<u64>,
    viewers: AtomicUsize,
    /// Woken when there is a first viewer.
    wake: Notify,
    /// Set when the relay shuts down.
    ended: CancellationToken,
}

/// The pulses that one viewer gets.
#[derive(Debug)]
pub struct Beats {
    pulse: Pulse,
    receiver: watch::Receiver<u64>,
}

impl Default for Pulse {
    fn default() -> Self {
        let shared = Shared {
            beats: watch::Sender::new(0),
            viewers: AtomicUsize::new(0),
            wake: Notify::new(),
            ended: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Pulse {
    /// Begins to tell a viewer of changes.
    #[must_use]
    pub fn watch(&self) -> Beats {
        let receiver = self.shared.beats.subscribe();
        self.shared.viewers.fetch_add(1, Ordering::Relaxed);
        self.shared.wake.notify_one();
        Beats { pulse: self.clone(), receiver }
    }

    fn is_watched(&self) -> bool {
        self.shared.viewers.load(Ordering::Relaxed) > 0
    }

    fn beat(&self) {
        self.shared.beats.send_modify(|number| *number = number.wrapping_add(1));
    }
}

impl Beats {
    /// Waits for a change after the last one that was reported. False when the relay shuts down.
    pub async fn next(&mut self) -> bool {
        tokio::select! {
            changed = self.receiver.changed() => changed.is_ok(),
            () = self.pulse.shared.ended.cancelled() => false,
        }
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.pulse.shared.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Listens to announcements while there are viewers, until `stop`.
pub async fn run(pool: Pool, pulse: Pulse, stop: CancellationToken) {
    let listening = async {
        loop {
            while !pulse.is_watched() {
                pulse.shared.wake.notified().await;
            }
            match Listener::open(&pool).await {
                Ok(listener) => {
                    // What changed before the connection listened was not announced to it.
                    pulse.beat();
                    listen(listener, &pulse).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "could not open the connection for announcements of changes; until it is open, pages are read again every five seconds");
                    pulse.beat();
                    sleep(BLIND_EVERY).await;
                }
            }
        }
    };
    tokio::select! {
        () = listening => {}
        () = stop.cancelled() => {}
    }
    pulse.shared.ended.cancel();
}

/// Passes announcements on until there was no viewer for a while, or the connection is lost.
async fn listen(mut listener: Listener, pulse: &Pulse) {
    loop {
        tokio::select! {
            announced = listener.announced() => match announced {
                Ok(()) => pulse.beat(),
                Err(error) => {
                    tracing::warn!(%error, "the connection for announcements of changes was lost; it is opened again");
                    return;
                }
            },
            () = sleep(LISTENS_FOR) => {}
        }
        if !pulse.is_watched() {
            tokio::select! {
                () = pulse.shared.wake.notified() => {}
                () = sleep(LISTENS_FOR) => return,
            }
        }
        sleep(PULSES_EVERY).await;
    }
}
