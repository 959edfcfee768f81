//! Paths: the repository, cargo's target directory, the user's cache, the logs.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub use prepare::{cache, repository};

/// Cargo's target directory, which may have been moved: the directory in which this program was built.
#[must_use]
pub fn target() -> &'static Path {
    static TARGET: LazyLock<PathBuf> = LazyLock::new(prepare::program::target);
    &TARGET
}

/// Returns a path for the log of a child process: `target/logs/<this program>/<process id>/<number>-<name>.log`. The
/// first call removes the logs of earlier runs of this program that have ended.
#[must_use]
pub fn log(name: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let program = std::env::current_exe().unwrap_or_default();
        // Cargo appends a hash to the names of test programs.
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.rsplit_once('-').map_or(name.clone(), |(stem, _)| stem.to_owned());
        let logs = target().join("logs").join(name);
        for entry in std::fs::read_dir(&logs).into_iter().flatten().flatten() {
            let process = entry.file_name().to_string_lossy().into_owned();
            if !crate::process::is_alive(&process) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        logs.join(std::process::id().to_string())
    });
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    FOLDER.join(format!("{}-{name}.log", NUMBER.fetch_add(1, Ordering::Relaxed)))
}

/// Creates a folder for one run, below the system's folder for temporary files.
///
/// # Errors
/// Returns an error if it cannot be created.
pub fn temporary(name: &str) -> crate::Result<PathBuf> {
    use crate::error::Doing as _;
    let folder = std::env::temp_dir().join(format!("tidegate-{name}-{}", crate::random::text()));
    std::fs::create_dir_all(&folder).doing(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}
