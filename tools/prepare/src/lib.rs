//! What has to be installed or built before `cargo dev`, the tests or a deployment can start, on a machine that has only
//! Rust, Node ≥ 20.3 and a C compiler. Each step is skipped if its result is already there.
//!
//! This package has no dependencies. So cargo compiles it in a second, and its program, which is what `cargo dev` runs
//! first, can say at once what the next minutes are for.

mod cache;
mod child;
mod lock;
pub mod node;
pub mod options;
pub mod program;
mod sources;
pub mod worker;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Command;

pub use cache::cache;
pub use child::{run, run_shown};
pub use lock::Lock;
pub use sources::fingerprint;

/// What happened and what to do, for the user at the terminal.
pub type Result<T> = std::result::Result<T, String>;

/// The variable that says to a program that everything has been prepared for it.
pub const PREPARED: &str = "TIDEGATE_PREPARED";

/// Tells the user what is being done. Not captured by the test runner: a build of minutes must not look like a hang.
pub fn say(what: &str) {
    let mut errors = std::io::stderr();
    // Cargo leaves its progress in the last line of a terminal, and draws it again below this.
    let clear = if errors.is_terminal() { "\r\x1b[K" } else { "" };
    let _ = writeln!(errors, "{clear}tidegate: {what}");
}

/// The root of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package)
}

/// The cargo that runs this program, else the one in the path.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "which cargo there is")]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    command
}
