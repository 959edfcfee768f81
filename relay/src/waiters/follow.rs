//! Wakes waiters when an event of one of their jobs is stored or released, by whichever relay.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{JobAddress, Waiters};
use crate::tail::{Stored, StoredEvents, Tail};

/// How long the events that are stored are followed after the last call has ended.
const FOLLOWS_FOR: Duration = Duration::from_secs(60);

/// Follows the events that are stored while calls wait, until `stop`. Then all waits end.
pub async fn run(waiters: Arc<Waiters>, tail: Tail, stop: CancellationToken) {
    let follow = async {
        loop {
            waiters.first().await;
            let mut stored = tail.stored().await;
            // The tail does not report what was stored before.
            waiters.wake_all();
            if !wake(&waiters, &mut stored).await {
                return;
            }
        }
    };
    let _ = stop.run_until_cancelled(follow).await;
    waiters.close();
    // A task that ends before it is told to has failed; the tail may have ended a moment earlier.
    stop.cancelled().await;
}

/// Wakes waiters until there has been none for a while. False if the relay shuts down.
async fn wake(waiters: &Waiters, stored: &mut StoredEvents) -> bool {
    loop {
        match tokio::time::timeout(FOLLOWS_FOR, stored.next()).await {
            Ok(None) => return false,
            Ok(Some(Stored::Gap)) => waiters.wake_all(),
            Ok(Some(Stored::Events(events))) => {
                for event in events.iter() {
                    if let Some(key) = &event.job_key {
                        waiters.wake(JobAddress::of(event.source_id, key));
                    }
                }
            }
            Err(_) if waiters.is_empty() => return true,
            Err(_) => {}
        }
    }
}
