//! Installs and builds what `cargo dev`, the tests or a deployment needs before it can start, on a machine that has
//! only Rust, Node ≥ 20.3 and a C compiler. A step is skipped if its result already exists.
//!
//! This package has no dependencies. So cargo compiles it in a second, and its program, which `cargo dev` runs first,
//! can say at once what happens in the next minutes.

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

/// The error is a message for the user at the terminal: what happened and what to do.
pub type Result<T> = std::result::Result<T, String>;

/// The variable that tells a program that everything has been prepared for it.
pub const PREPARED: &str = "TIDEGATE_PREPARED";

/// Prints what is being done. The test runner does not capture it: a build of minutes must not look like a hang.
pub fn say(what: &str) {
    let mut errors = std::io::stderr();
    // Cargo leaves its progress in the last line of the terminal, and draws it again below this line.
    let clear = if errors.is_terminal() { "\r\x1b[K" } else { "" };
    let _ = writeln!(errors, "{clear}tidegate: {what}");
}

/// The root of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package)
}

/// A command for the cargo that runs this program, or else for the one in the path.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "cargo passes its own path in CARGO")]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    command
}
