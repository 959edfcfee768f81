//! A lock that allows one preparation at a time.

use std::fs::{File, TryLockError};

use crate::{Result, cache, say};

/// Held while something is prepared; other processes of the same user wait for it. Released when it is dropped, or when
/// the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock lives as long as the file is open")] File);

impl Lock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// Returns an error if the cache folder cannot be written.
    pub fn take() -> Result<Self> {
        let folder = cache();
        let failed = |error: std::io::Error| {
            format!("cannot write {}: {error}; set TIDEGATE_CACHE to a folder that can be written", folder.display())
        };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let file =
            File::options().create(true).truncate(false).write(true).open(folder.join("lock")).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                say("waiting for another process that is preparing the same files");
                file.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Self(file))
    }
}
