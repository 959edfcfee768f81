//! Bounds the memory of the event bodies that requests hold.
//!
//! A body has up to 25 MB, and a request holds it until its response is written, however slowly the caller reads. So a
//! request reserves the size of a body before it reads the body, waits if too many bytes are reserved, and gives them
//! back when it drops the body.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Error;

/// The bytes of all bodies that requests hold at one time.
pub const MAX_BYTES: usize = 64 << 20;

/// The longest that a request waits for the bytes of others.
pub const RESERVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The bytes that requests may still reserve. Clones share them.
#[derive(Debug, Clone)]
pub struct Bodies {
    free: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(MAX_BYTES)) }
    }
}

/// A body whose bytes are reserved as long as it exists.
#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    _reserved: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    /// Reads a body of `size` bytes with `read`, after its bytes are reserved; `None` if there is no body.
    ///
    /// # Errors
    /// Returns [`Error::Busy`] if the bytes are not free in time, or an error if the read fails.
    pub async fn hold(
        &self,
        size: i32,
        read: impl Future<Output = store::Result<Option<Vec<u8>>>>,
    ) -> Result<Option<Body>, Error> {
        let reserved = self.reserve(size, RESERVE_TIMEOUT).await?;
        Ok(read.await?.map(|bytes| Body { bytes, _reserved: reserved }))
    }

    /// Reserves `size` bytes, waiting for them at most `within`.
    pub(super) async fn reserve(&self, size: i32, within: Duration) -> Result<OwnedSemaphorePermit, Error> {
        // A body is smaller than all of the bytes; a row that says otherwise must not wait for ever.
        let bytes = u32::try_from(size).unwrap_or(0).min(u32::try_from(MAX_BYTES).unwrap_or(u32::MAX));
        let reserved = Arc::clone(&self.free).acquire_many_owned(bytes);
        match tokio::time::timeout(within, reserved).await {
            Ok(Ok(reserved)) => Ok(reserved),
            Ok(Err(_)) | Err(_) => Err(Error::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reservation_waits_until_others_end_and_fails_if_they_do_not() {
        let bodies = Bodies::default();
        let large = i32::try_from(MAX_BYTES).expect("fits");
        let first = bodies.reserve(large - 10, RESERVE_TIMEOUT).await.expect("is free");
        let _ = bodies.reserve(10, RESERVE_TIMEOUT).await.expect("the rest is free");
        assert!(matches!(bodies.reserve(11, Duration::ZERO).await, Err(Error::Busy)));
        drop(first);
        let _ = bodies.reserve(large, RESERVE_TIMEOUT).await.expect("all are free again");
    }

    #[tokio::test]
    async fn a_body_that_claims_to_be_larger_than_all_bytes_gets_all_of_them() {
        let reserved = Bodies::default().reserve(i32::MAX, RESERVE_TIMEOUT).await.expect("is free");
        assert_eq!(reserved.num_permits(), MAX_BYTES);
    }
}
