//! The streams that are open on this replica: their number is bounded for each caller and in all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::callers::Caller;

/// The most streams on one replica.
pub const STREAMS: usize = 500;

/// The most streams of one token or session on one replica.
pub const STREAMS_PER_CALLER: usize = 100;

/// The most streams that read the database at a time, because they continue from a position or are behind. The others
/// wait for their turn.
pub const READING: usize = 4;

/// The open streams.
#[derive(Debug)]
pub struct Streams {
    /// The number of streams of each caller.
    open: Mutex<HashMap<Caller, usize>>,
    /// Permits to read the database.
    pub reading: Semaphore,
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
        if open.values().sum::<usize>() >= STREAMS {
            return Err(Full::Replica);
        }
        let count = open.entry(caller).or_default();
        if *count >= STREAMS_PER_CALLER {
            return Err(Full::Caller);
        }
        *count += 1;
        Ok(Place { streams: Arc::clone(self), caller })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Caller, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The streams that this one belongs to.
    #[must_use]
    pub fn streams(&self) -> &Streams {
        &self.streams
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        if let Some(count) = open.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::id::TokenId;

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
