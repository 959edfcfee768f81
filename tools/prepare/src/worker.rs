//! The Worker, which the program `build-worker` builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, cargo, fingerprint, program, repository, run};

/// The folder with the built Worker: `index.js` and `index_bg.wasm`.
#[must_use]
pub fn folder() -> PathBuf {
    repository().join("edge/build")
}

/// Returns the folder with the built Worker, which is built first if its sources have changed. `profile` is the profile
/// of the program that builds it; the Worker itself is always built as it is deployed.
///
/// # Errors
/// Returns an error if a tool is missing or the Worker does not compile.
pub fn built(profile: program::Profile) -> Result<PathBuf> {
    if !is_current(&sources()?) {
        build_with(&program::build("building the program that builds the Worker", "build-worker", profile)?)?;
    }
    Ok(folder())
}

/// Builds the Worker with the program `build-worker` at the path `builder`.
///
/// # Errors
/// Same as [`built`].
pub fn build_with(builder: &Path) -> Result<()> {
    let mut command = Command::new(builder);
    // The cargo that runs this program.
    command.env("CARGO", cargo().get_program()).current_dir(repository());
    run("building the Worker (about a minute the first time)", &mut command, "see the errors below")
}

/// Returns the fingerprint of the Worker's sources.
///
/// # Errors
/// Returns an error if a file or folder cannot be read.
pub fn sources() -> Result<String> {
    let repository = repository();
    let of = ["edge", "shared", "tools", "Cargo.lock", "Cargo.toml", "package-lock.json"];
    fingerprint(&of.map(|name| repository.join(name)))
}

/// Whether the built Worker was built from these sources.
#[must_use]
pub fn is_current(sources: &str) -> bool {
    let stamped = std::fs::read_to_string(stamp()).is_ok_and(|of| of == sources);
    stamped && ["index.js", "index_bg.wasm"].iter().all(|name| folder().join(name).is_file())
}

/// Stores the fingerprint of the built Worker's sources.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn set_current(sources: &str) -> Result<()> {
    std::fs::write(stamp(), sources).map_err(|error| format!("cannot write {}: {error}", stamp().display()))
}

fn stamp() -> PathBuf {
    folder().join(".tidegate-built")
}
