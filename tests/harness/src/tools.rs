//! Installs and builds whatever has to be there before a start. The package `prepare` does it, and reports each step
//! and its duration; here each step runs once per process.
//!
//! Clones of the repository share files in [`crate::place::cache`]. A lock prevents processes from preparing at the
//! same time.

mod chromium;
mod example;
mod hash;
mod node;
mod programs;
mod python;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

pub(crate) use chromium::ADVICE as CHROMIUM_ADVICE;
pub use chromium::chromium;
pub use example::receiver;
pub use hash::{hash_of, short_hash};
pub use node::{
    chromium_driver, identity_provider, node_packages, program, provider_sdks, typescript_client_generator,
};
pub use prepare::say;
pub use programs::{relay, worker};
pub use python::{python_client_generator, schemathesis};

use crate::error::{Doing as _, Error, Result};

/// Held while something is prepared; other processes of the same user wait for it. Released when it is dropped, or when
/// the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held until it is dropped")] prepare::Lock);

impl Lock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// Returns an error if the cache folder cannot be written.
    pub fn take() -> Result<Self> {
        prepare::Lock::take().map(Self).map_err(Error::new)
    }
}

/// Returns a folder of the cache that `install` has filled, once for all processes and clones: its name contains a hash
/// of what is installed. What an interrupted installation has left is removed first.
fn installed_once(folder: PathBuf, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let stamp = folder.join(".tidegate-installed");
    if stamp.is_file() {
        return Ok(folder);
    }
    let _lock = Lock::take()?;
    if stamp.is_file() {
        return Ok(folder);
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder).doing(|| format!("cannot remove {}", folder.display()))?;
    }
    install(&folder)?;
    std::fs::write(&stamp, "").doing(|| format!("cannot write {}", stamp.display()))?;
    Ok(folder)
}

/// Returns a free port of 127.0.0.1, for programs that cannot choose one themselves.
///
/// # Errors
/// Returns an error if no port is free.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(|| "cannot find a free port".to_owned())?;
    Ok(listener.local_addr().doing(|| "cannot find a free port".to_owned())?.port())
}

/// Runs `work`, which may take minutes, on a thread that may block.
///
/// # Errors
/// Returns the error of `work`, or an error if `work` panics.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => Err(Error::new(format!("a preparation failed: {failed}"))),
    }
}
