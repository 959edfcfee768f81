//! One preparation at a time.

use std::fs::{File, TryLockError};

use super::say;
use crate::error::{Doing as _, Error, Result};
use crate::place;

/// Held while something is prepared; other processes of the same person wait for it. Freed when dropped, also by death.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock lives as long as the file is open")] File);

impl Lock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// Where the cache folder cannot be written.
    pub fn take() -> Result<Self> {
        let folder = place::cache();
        let failed =
            || format!("cannot write {}; set TIDEGATE_CACHE to a folder that can be written", folder.display());
        std::fs::create_dir_all(&folder).doing(failed)?;
        let file = File::options().create(true).truncate(false).write(true).open(folder.join("lock")).doing(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                say("waiting for another process that prepares the same");
                file.lock().doing(failed)?;
            }
            Err(TryLockError::Error(error)) => return Err(Error::new(format!("{}: {error}", failed()))),
        }
        Ok(Self(file))
    }
}
