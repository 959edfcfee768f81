//! The streams that are open on this replica: their number is bounded for each caller and in all, and they end when
//! what their callers authenticate with ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::id::{SessionId, TokenId};
use store::Pool;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// The most streams on one replica.
pub const STREAMS: usize = 500;

/// The most streams of one token or session on one replica.
pub const STREAMS_PER_CALLER: usize = 100;

/// The most streams that read the database at a time, because they continue from a position or are behind. The others
/// wait for their turn.
pub const READING: usize = 4;

/// How often the relay checks whether the tokens and sessions of open streams are still accepted.
pub const CHECKED_EVERY: Duration = Duration::from_secs(2);

/// With what the caller of a stream authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    Root,
    Token(TokenId),
    Session(SessionId),
}

/// The open streams.
#[derive(Debug)]
pub struct Streams {
    open: Mutex<HashMap<Caller, Open>>,
    /// Permits to read the database.
    pub reading: Semaphore,
}

/// The open streams of one caller.
#[derive(Debug, Default)]
struct Open {
    count: usize,
    /// Ends them.
    end: CancellationToken,
}

/// There are as many streams as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Of this caller.
    Caller,
    /// On this replica.
    Replica,
}

/// The place of one open stream.
#[derive(Debug)]
pub struct Place {
    streams: Arc<Streams>,
    caller: Caller,
    end: CancellationToken,
}

impl Default for Streams {
    fn default() -> Self {
        Self { open: Mutex::default(), reading: Semaphore::new(READING) }
    }
}

impl Streams {
    /// Opens a stream.
    ///
    /// # Errors
    /// Returns which limit is reached.
    pub fn enter(self: &Arc<Self>, caller: Caller) -> Result<Place, Full> {
        let mut open = self.open();
        if open.values().map(|of| of.count).sum::<usize>() >= STREAMS {
            return Err(Full::Replica);
        }
        let of = open.entry(caller).or_default();
        if of.count >= STREAMS_PER_CALLER {
            return Err(Full::Caller);
        }
        of.count += 1;
        Ok(Place { streams: Arc::clone(self), caller, end: of.end.clone() })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Caller, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the streams whose callers are no longer accepted.
    async fn check(&self, pool: &Pool) -> store::Result<()> {
        let (mut tokens, mut sessions) = (Vec::new(), Vec::new());
        for caller in self.open().keys() {
            match caller {
                Caller::Root => {}
                Caller::Token(id) => tokens.push(*id),
                Caller::Session(id) => sessions.push(*id),
            }
        }
        let mut ended: Vec<Caller> = Vec::new();
        if !tokens.is_empty() {
            ended.extend(store::tokens::ended(pool, &tokens).await?.into_iter().map(Caller::Token));
        }
        if !sessions.is_empty() {
            ended.extend(store::sessions::ended(pool, &sessions).await?.into_iter().map(Caller::Session));
        }
        let open = self.open();
        for of in ended.iter().filter_map(|caller| open.get(caller)) {
            of.end.cancel();
        }
        Ok(())
    }
}

impl Place {
    /// Waits until the caller is no longer accepted.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// The streams that this one belongs to.
    #[must_use]
    pub fn streams(&self) -> &Streams {
        &self.streams
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        if let Some(of) = open.get_mut(&self.caller) {
            of.count -= 1;
            if of.count == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

/// Checks until `stop` whether the callers of open streams are still accepted. While the database is away, the streams
/// stay open: it would accept no other caller either, and there is nothing to stream.
pub async fn run(pool: Pool, streams: Arc<Streams>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = sleep(CHECKED_EVERY) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = streams.check(&pool).await {
            tracing::warn!(%error, "could not check the callers of open streams; retrying");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_bounded_for_each_caller_and_in_all() {
        let streams = Arc::new(Streams::default());
        let caller = |number| Caller::Token(TokenId::mint(1, [number; 10]));
        let mut places: Vec<Place> = (0..STREAMS)
            .map(|number| streams.enter(caller(u8::try_from(number / STREAMS_PER_CALLER).expect("small"))))
            .collect::<Result<_, _>>()
            .expect("room");
        assert_eq!(streams.enter(caller(9)).map(|place| place.caller), Err(Full::Replica));
        places.pop();
        assert_eq!(streams.enter(caller(0)).map(|place| place.caller), Err(Full::Caller));
        assert_eq!(streams.enter(Caller::Root).map(|place| place.caller), Ok(Caller::Root));
        places.clear();
        assert!(streams.open().is_empty());
    }
}
