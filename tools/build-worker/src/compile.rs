//! The edge, compiled to WebAssembly.

use std::path::{Path, PathBuf};
use std::process::Command;

use prepare::{Result, cache, cargo, repository, run};

const TARGET: &str = "wasm32-unknown-unknown";

/// Compiles the edge as it is deployed, and returns the path of the result.
///
/// # Errors
/// Returns an error if Rust's target is missing and cannot be added, or if the edge does not compile.
pub(crate) fn edge() -> Result<PathBuf> {
    add_target()?;
    // Shared, because other clones of the repository have the same dependencies.
    let target = cache().join("worker-target");
    forget_other_clones(&target)?;
    // In this folder cargo reads `edge/.cargo/config.toml`.
    let mut command = in_target(&target);
    command.current_dir(repository().join("edge")).args(["build", "--lib", "--release", "--target", TARGET]);
    // Its bindings use the promises of js-sys, as the crate `worker` expects.
    command.env("WASM_BINDGEN_USE_JS_SYS", "1");
    run("compiling the edge to WebAssembly", &mut command, "see the errors below")?;
    Ok(target.join(TARGET).join("release/edge.wasm"))
}

/// Removes the outputs of other clones. Cargo names a `cdylib` without a hash, and identifies the packages of a
/// workspace by their path within it. So the outputs of another clone are at the paths of this clone's, and a build
/// that cargo considers fresh would use them.
fn forget_other_clones(target: &Path) -> Result<()> {
    let mut clean = in_target(target);
    clean.args(["clean", "--quiet", "--release", "--target", TARGET, "--package", "edge", "--package", "shared"]);
    run("clearing the last Worker", &mut clean, "see the errors below")
}

fn in_target(target: &Path) -> Command {
    let mut command = cargo();
    command.env("CARGO_TARGET_DIR", target);
    command
}

fn add_target() -> Result<()> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(repository())
        .output()
        .map_err(|error| format!("cannot run rustc: {error}; install Rust with rustup (rustup.rs)"))?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
        return Ok(());
    }
    run(
        "adding the wasm32 target to Rust",
        Command::new("rustup").args(["target", "add", TARGET]).current_dir(repository()),
        "it needs rustup (rustup.rs) and the network",
    )
    .map_err(|error| format!("{error}\nwithout rustup: install Rust's standard library for {TARGET}"))
}
