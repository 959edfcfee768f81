//! The relay's program, and the Worker.

use std::path::PathBuf;
use std::sync::OnceLock;

use prepare::program::{self, Profile};

use super::node_packages;
use crate::error::{Error, Result};

/// Returns the path of the relay's program, built in the profile of this program.
///
/// # Errors
/// Returns an error if it does not compile.
pub fn relay() -> Result<PathBuf> {
    static RELAY: OnceLock<Result<PathBuf>> = OnceLock::new();
    RELAY.get_or_init(build_relay).clone()
}

/// Returns the folder with the built Worker (`index.js`, `index_bg.wasm`), which is built if its sources have changed.
///
/// # Errors
/// Returns an error if a tool is missing or the Worker does not compile.
pub fn worker() -> Result<PathBuf> {
    static WORKER: OnceLock<Result<PathBuf>> = OnceLock::new();
    WORKER
        .get_or_init(|| {
            node_packages()?;
            prepare::worker::built(Profile::current()).map_err(Error::new)
        })
        .clone()
}

#[expect(clippy::disallowed_methods, reason = "an earlier process sets it if it has built the relay")]
fn build_relay() -> Result<PathBuf> {
    if std::env::var_os(prepare::PREPARED).is_some() {
        return Ok(program::path("tidegate", Profile::current()));
    }
    let what = "building the relay (minutes the first time, else a second)";
    program::build(what, "tidegate", Profile::current()).map_err(Error::new)
}
