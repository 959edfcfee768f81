//! A relay with a wrong clock: a small library (`clock/fake.c`) is loaded into its process and shifts its time of day.
//! Its monotonic clock is not changed, so the relay sees a jump as it would if the clock had been set or the machine
//! had been suspended.
//!
//! Linux with glibc only.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::sync::OnceCell;

use crate::error::{Doing as _, Error, Result};
use crate::relay::RelaySettings;
use crate::{place, tools};

/// The clock of one relay, and of all other relays that are started with its settings.
#[derive(Debug)]
pub struct FakeClock {
    library: &'static Path,
    folder: PathBuf,
}

impl FakeClock {
    /// Creates a clock that is correct until [`FakeClock::set_off_by`] is called.
    ///
    /// # Errors
    /// Returns an error if the library cannot be compiled.
    pub async fn new() -> Result<Self> {
        static LIBRARY: OnceCell<Result<PathBuf>> = OnceCell::const_new();
        let library = LIBRARY.get_or_init(|| tools::blocking(compile)).await;
        let clock = Self { library: library.as_ref().map_err(Clone::clone)?, folder: place::temporary("clock")? };
        clock.write(0)?;
        Ok(clock)
    }

    /// Returns settings with which a relay uses this clock.
    #[must_use]
    pub fn on(&self, settings: RelaySettings) -> RelaySettings {
        settings.with("LD_PRELOAD", &self.library.to_string_lossy()).with("FAKE_CLOCK", &self.file().to_string_lossy())
    }

    /// Sets the clock ahead of the true time, or behind it if `seconds` is negative. It takes effect at once, while the
    /// relay runs.
    ///
    /// # Panics
    /// Panics if the file that the relay reads cannot be written.
    pub fn set_off_by(&self, seconds: i64) {
        self.write(seconds).unwrap_or_else(|error| panic!("{error}"));
    }

    fn file(&self) -> PathBuf {
        self.folder.join("offset")
    }

    fn write(&self, seconds: i64) -> Result<()> {
        // In place and without truncating: the relay has mapped the file into its memory.
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::File::options().write(true).create(true).truncate(false).open(self.file());
        let written = file.and_then(|file| file.write_all_at(&seconds.to_ne_bytes(), 0));
        written.doing(|| format!("cannot write {}", self.file().display()))
    }
}

impl Drop for FakeClock {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[expect(clippy::disallowed_methods, reason = "CC selects the C compiler")]
fn compile() -> Result<PathBuf> {
    let source = place::repository().join("tests/harness/src/clock/fake.c");
    let hash = tools::hash_of(&[&source])?;
    let library = place::target().join(format!("fake-clock-{}.so", &hash[..16]));
    if library.is_file() {
        return Ok(library);
    }
    // Another process may compile it at the same time: each writes a file of its own and renames it into place.
    let own = place::target().join(format!("fake-clock-{}.so", crate::random::text()));
    let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    command.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&own).arg(&source).arg("-ldl");
    let output = command.output().doing(|| "cannot run the C compiler".to_owned())?;
    if !output.status.success() {
        return Err(Error::new(format!(
            "cannot compile {}: {}",
            source.display(),
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    std::fs::rename(&own, &library).doing(|| format!("cannot write {}", library.display()))?;
    Ok(library)
}
