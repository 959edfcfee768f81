//! Everything that has to be installed or built before something can be started, on a machine that has only Rust,
//! Node ≥ 20.3 and a C compiler. Each step is done once per process, is skipped where its result is already there, and
//! says what it does and how long that takes.
//!
//! What can be shared between clones of the repository (tools built by cargo, the compiled dependencies of the Worker) is
//! kept in [`crate::place::cache`]. A lock keeps processes that prepare at the same time from trampling each other.

mod cargo;
mod hash;
mod lock;
mod node;
mod python;
mod worker;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub use cargo::relay;
pub use hash::{hash_of, short_hash};
pub use lock::Lock;
pub use node::{node_packages, program, provider_sdks};
pub use python::schemathesis;
pub use worker::worker;

use crate::error::{Doing as _, Error, Result};
use crate::process::{Process, Signal};

/// Tells the person what is being done. Not captured by the test runner: a build of minutes must not look like a hang.
pub fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "tidegate: {what}");
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

/// Runs a program that is expected to take a while; the end of what it wrote is shown where it fails. It does not
/// outlive this process.
fn run_long(what: &str, command: &mut Command, advice: &str) -> Result<()> {
    say(what);
    let begun = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let process = Process::start(&name, command, Signal::Term);
    let mut process = process.map_err(|error| Error::new(format!("{error}; {advice}")))?;
    let status = process.wait()?;
    if status.success() {
        if begun.elapsed() > Duration::from_secs(5) {
            say(&format!("done in {} s", begun.elapsed().as_secs()));
        }
        return Ok(());
    }
    Err(Error::new(format!("{name} failed ({status}) while {what}; {advice}\n{}", process.tail(40))))
}
