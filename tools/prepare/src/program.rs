//! Programs of the workspace that cargo builds.

use std::path::PathBuf;
use std::process::Command;

use crate::{Result, cargo, repository, run, run_shown};

/// A profile of cargo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

impl Profile {
    /// The profile of this program.
    #[must_use]
    pub fn current() -> Self {
        if cfg!(debug_assertions) { Self::Dev } else { Self::Release }
    }
}

/// Cargo's target directory, which may have been moved: the directory in which this program was built.
#[must_use]
pub fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let is_target = |folder: &&std::path::Path| folder.join("CACHEDIR.TAG").is_file();
    program.ancestors().find(is_target).map_or_else(|| repository().join("target"), Into::into)
}

/// Builds a program of the workspace and returns its path. If it is built already, this takes a second.
///
/// # Errors
/// Returns an error if it does not compile.
pub fn build(what: &str, program: &str, profile: Profile) -> Result<PathBuf> {
    run(what, &mut command(&[program], profile), "see the errors below")?;
    Ok(path(program, profile))
}

/// Builds programs of the workspace and shows cargo's own progress in the terminal.
///
/// # Errors
/// Same as [`build`].
pub fn build_shown(programs: &[&str], profile: Profile) -> Result<()> {
    run_shown(&mut command(programs, profile), "see the errors above")
}

/// The path at which cargo puts a program of the workspace.
#[must_use]
pub fn path(program: &str, profile: Profile) -> PathBuf {
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    };
    target().join(folder).join(program)
}

fn command(programs: &[&str], profile: Profile) -> Command {
    let mut command = cargo();
    // For the whole workspace, so that dependencies have the same features as with `cargo test --workspace`.
    command.args(["build", "--workspace"]).env("CARGO_TARGET_DIR", target());
    for program in programs {
        command.args(["--bin", program]);
    }
    if profile == Profile::Release {
        command.arg("--release");
    }
    command
}
