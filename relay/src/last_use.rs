//! When each token and each session was last used, to the minute. Requests only note it; this task writes it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::id::{SessionId, TokenId};
use store::Pool;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long uses are collected before they are written.
pub(crate) const WRITE_EVERY: Duration = Duration::from_secs(2);

/// The most tokens and sessions whose use is collected. The use of others is noted at their next request.
pub(crate) const MAX_TOKENS: usize = 4_096;

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Used {
    Token(TokenId),
    Session(SessionId),
}

/// The uses that have not been written yet.
#[derive(Debug, Default)]
pub struct LastUse {
    noted: Mutex<HashMap<Used, OffsetDateTime>>,
    is_noted: Notify,
}

impl LastUse {
    /// Notes that a token or a session was used.
    pub fn note(&self, used: Used, at: OffsetDateTime) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = noted.len() >= MAX_TOKENS;
        match noted.entry(used) {
            Entry::Occupied(mut last) => {
                let last = last.get_mut();
                *last = at.max(*last);
            }
            Entry::Vacant(_) if is_full => {}
            Entry::Vacant(place) => {
                place.insert(at);
            }
        }
        drop(noted);
        self.is_noted.notify_one();
    }

    fn take(&self) -> HashMap<Used, OffsetDateTime> {
        std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn write(&self, pool: &Pool) {
        let (mut tokens, mut sessions) = (Vec::new(), Vec::new());
        for (used, at) in self.take() {
            match used {
                Used::Token(id) => tokens.push((id, at)),
                Used::Session(id) => sessions.push((id, at)),
            }
        }
        // If a write fails, the next use of each is noted again.
        if !tokens.is_empty()
            && let Err(error) = store::tokens::used(pool, &tokens).await
        {
            tracing::warn!(%error, "could not store when tokens were last used");
        }
        if !sessions.is_empty()
            && let Err(error) = store::sessions::used(pool, &sessions).await
        {
            tracing::warn!(%error, "could not store when sessions were last used");
        }
    }
}

/// Writes uses until `stop`, and once more then.
pub async fn run(pool: Pool, last_use: Arc<LastUse>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = last_use.is_noted.notified() => {}
            () = stop.cancelled() => {}
        }
        tokio::select! {
            () = tokio::time::sleep(WRITE_EVERY) => {}
            () = stop.cancelled() => {}
        }
        last_use.write(&pool).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_collected_up_to_a_number_of_tokens() {
        let last_use = LastUse::default();
        let at = |seconds| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds);
        let first = Used::Token(TokenId::mint(0, [0; 10]));
        last_use.note(first, at(2));
        last_use.note(first, at(1));
        for number in 1..=u64::try_from(2 * MAX_TOKENS).expect("fits") {
            last_use.note(Used::Session(SessionId::mint(number, [0; 10])), at(3));
        }
        let taken = last_use.take();
        assert_eq!((taken.len(), taken[&first]), (MAX_TOKENS, at(2)));
        assert!(last_use.take().is_empty());
    }
}
