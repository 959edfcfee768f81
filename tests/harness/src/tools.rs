//! What has to be installed or built before something can be started. The package `prepare` does it, and says what it does
//! and how long that takes; here each step is done once per process.
//!
//! What clones of the repository can share is kept in [`crate::place::cache`]. A lock keeps processes that prepare at the
//! same time apart.

mod hash;
mod node;
mod programs;
mod python;

use std::net::{Ipv4Addr, TcpListener};

pub use hash::{hash_of, short_hash};
pub use node::{node_packages, program, provider_sdks};
pub use prepare::say;
pub use programs::{relay, worker};
pub use python::schemathesis;

use crate::error::{Doing as _, Error, Result};

/// Held while something is prepared; other processes of the same user wait for it. Freed when dropped, also by death.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held until it is dropped")] prepare::Lock);

impl Lock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// If the cache folder cannot be written.
    pub fn take() -> Result<Self> {
        prepare::Lock::take().map(Self).map_err(Error::new)
    }
}

/// A port of 127.0.0.1 that nobody listens on: for programs that cannot be told to choose one themselves.
///
/// # Errors
/// Where there is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(|| "cannot find a free port".to_owned())?;
    Ok(listener.local_addr().doing(|| "cannot find a free port".to_owned())?.port())
}

/// Runs `work`, which may take minutes, on a thread where it blocks nobody.
///
/// # Errors
/// Those of `work`.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => Err(Error::new(format!("a preparation failed: {failed}"))),
    }
}
