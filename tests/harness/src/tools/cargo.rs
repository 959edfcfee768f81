//! What cargo builds: the relay's program, and tools that it installs.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{Lock, run_long};
use crate::error::{Doing as _, Error, Result};
use crate::place;

/// The relay's program, built in the profile that this program was built in.
///
/// # Errors
/// Where it does not compile.
pub fn relay() -> Result<PathBuf> {
    static RELAY: OnceLock<Result<PathBuf>> = OnceLock::new();
    RELAY.get_or_init(build_relay).clone()
}

/// A program of a crate in exactly this version, installed into the cache where it is not there.
pub(super) fn installed(name: &str, program: &str, version: &str, minutes: &str) -> Result<PathBuf> {
    let root = place::cache().join("tools").join(format!("{name}-{version}"));
    let path = root.join("bin").join(program);
    if path.is_file() {
        return Ok(path);
    }
    let _lock = Lock::take()?;
    if path.is_file() {
        return Ok(path);
    }
    let install = |how: &str, lock: &[&str]| {
        let what = format!("building {name} {version} with cargo{how} ({minutes} minutes on two cores)");
        let mut command = cargo();
        command.args(["install", name, "--version", version]).args(lock).arg("--root").arg(&root);
        run_long(
            &what,
            &mut command,
            "it needs the network, for crates, and a C compiler: check both, then start again",
        )
    };
    // A registry that lags behind lacks some of the newest versions, which the crate's lock file names.
    install(", once for this machine", &["--locked"])
        .or_else(|_| install(" again, with what the registry has of its dependencies", &[]))?;
    Ok(path)
}

/// The version of a package in Cargo.lock.
pub(super) fn locked_version(package: &str) -> Result<String> {
    let file = place::repository().join("Cargo.lock");
    let text = std::fs::read_to_string(&file).doing(|| format!("cannot read {}", file.display()))?;
    let version =
        text.split_once(&format!("name = \"{package}\"\nversion = \"")).and_then(|(_, rest)| rest.split('"').next());
    version.map(str::to_owned).ok_or_else(|| Error::new(format!("Cargo.lock names no {package}")))
}

/// The cargo that runs this program, else the one in the path.
#[expect(clippy::disallowed_methods, reason = "which cargo there is")]
pub(super) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn build_relay() -> Result<PathBuf> {
    let (profile, folder): (&[&str], _) =
        if cfg!(debug_assertions) { (&[], "debug") } else { (&["--release"], "release") };
    // Over the whole workspace, so that dependencies have the features that `cargo test --workspace` compiled them with.
    let mut command = cargo();
    command.args(["build", "--workspace", "--bin", "tidegate"]).args(profile).current_dir(place::repository());
    command.env("CARGO_TARGET_DIR", place::target());
    run_long("building the relay (minutes the first time, else a second)", &mut command, "see the errors below")?;
    Ok(place::target().join(folder).join("tidegate"))
}
