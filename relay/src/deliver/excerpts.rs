//! Response bodies that arrive after the response head. An attempt counts from the head on, and its slot is free for
//! the next delivery. Only the row of the attempt waits for the excerpt of the body.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use egress::{EXCERPT_WITHIN, Excerpt};
use engine::outcome::Outcome;
use shared::id::{AttemptId, DeliveryId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answered;
use super::send::excerpt_text;

/// The most bodies that are awaited at one time, over all destinations. Each needs a connection, which is a file
/// descriptor.
pub(crate) const MOST: usize = 256;

/// Excerpts that are still arriving, until their attempts are settled.
pub(super) struct Excerpts {
    places: Arc<Semaphore>,
    waiting: Mutex<HashMap<AttemptId, Rest>>,
}

/// An excerpt that is still arriving.
pub(super) struct Rest {
    excerpt: Excerpt,
    _place: OwnedSemaphorePermit,
}

impl Default for Excerpts {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MOST)), waiting: Mutex::default() }
    }
}

impl Excerpts {
    /// Keeps the excerpt of an attempt for [`Excerpts::take`]. If there are too many of them, the attempt gets the part
    /// that has arrived.
    pub(super) async fn keep(&self, delivery: DeliveryId, outcome: &mut Outcome, excerpt: Excerpt) {
        let Some(attempt) = outcome.attempt_mut() else { return };
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                waiting.insert(attempt.id, Rest { excerpt, _place: place });
            }
            Err(_) => attempt.response_excerpt = answered::part(delivery, async { excerpt_text(excerpt) }).await,
        }
    }

    /// Hands out the excerpt of an attempt, if it did not arrive with the head.
    pub(super) fn take(&self, attempt: AttemptId) -> Option<Rest> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt)
    }
}

impl Rest {
    /// Waits for the rest of the excerpt, for up to [`EXCERPT_WITHIN`] from the head on.
    pub(super) fn finish(mut self, delivery: DeliveryId) -> impl Future<Output = Option<String>> {
        answered::part(delivery, async move {
            self.excerpt.read_for(EXCERPT_WITHIN).await;
            excerpt_text(self.excerpt)
        })
    }
}
