//! The Worker, built by worker-build without any download of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::cargo::{installed, locked_version};
use super::{Lock, hash_of, node_packages, program, run_long};
use crate::error::{Doing as _, Error, Result};
use crate::place;

/// The version of worker-build, that of the crate `worker`.
const WORKER_BUILD: &str = "0.8.7";

/// The folder with the built Worker (`index.js`, `index_bg.wasm`), built where its sources have changed.
///
/// # Errors
/// Where a tool cannot be had or the Worker does not compile.
pub fn worker() -> Result<PathBuf> {
    static WORKER: OnceLock<Result<PathBuf>> = OnceLock::new();
    WORKER.get_or_init(build).clone()
}

fn build() -> Result<PathBuf> {
    let repository = place::repository();
    let edge = repository.join("edge");
    let built = edge.join("build");
    let stamp = built.join(".tidegate-built");
    let sources =
        hash_of(&[&edge, &repository.join("shared"), &repository.join("Cargo.lock"), &repository.join("Cargo.toml")])?;
    let is_built = || std::fs::read_to_string(&stamp).is_ok_and(|of| of == sources) && built.join("index.js").is_file();
    if is_built() {
        return Ok(built);
    }
    let wasm_bindgen = installed("wasm-bindgen-cli", "wasm-bindgen", &locked_version("wasm-bindgen")?, "two or three")?;
    let worker_build = installed("worker-build", "worker-build", WORKER_BUILD, "three or four")?;
    let wasm_opt = node_packages()?.join("binaryen/bin/wasm-opt");
    let esbuild = program("esbuild")?;
    let _lock = Lock::take()?;
    if is_built() {
        return Ok(built);
    }
    add_wasm_target()?;
    // Other clones of the repository have the same dependencies.
    let target = place::cache().join("worker-target");
    forget_other_clones(&target)?;
    let mut command = Command::new(worker_build);
    command
        .arg("--release")
        .current_dir(&edge)
        .env("WASM_BINDGEN_BIN", wasm_bindgen)
        .env("WASM_OPT_BIN", wasm_opt)
        .env("ESBUILD_BIN", esbuild)
        .env("CARGO_TARGET_DIR", target);
    run_long("building the Worker (about a minute the first time)", &mut command, "see the errors below")?;
    std::fs::write(&stamp, sources).doing(|| format!("cannot write {}", stamp.display()))?;
    Ok(built)
}

/// Cargo names a `cdylib` without a hash, and the packages of a workspace by their path within it. So what another clone
/// has built of them lies where this clone's belongs, and a build that cargo believes to be fresh would take it.
fn forget_other_clones(target: &Path) -> Result<()> {
    let mut clean = Command::new("cargo");
    clean
        .args(["clean", "--quiet", "--locked", "--release", "--target", "wasm32-unknown-unknown"])
        .args(["--package", "edge", "--package", "shared"])
        .current_dir(place::repository())
        .env("CARGO_TARGET_DIR", target);
    run_long("clearing the last Worker", &mut clean, "see the errors below")
}

fn add_wasm_target() -> Result<()> {
    const TARGET: &str = "wasm32-unknown-unknown";
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(place::repository())
        .output()
        .doing(|| "cannot run rustc; install Rust with rustup (rustup.rs)".to_owned())?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
        return Ok(());
    }
    run_long(
        "adding the wasm32 target to Rust",
        Command::new("rustup").args(["target", "add", TARGET]).current_dir(place::repository()),
        "it needs rustup (rustup.rs) and the network",
    )
    .map_err(|error| Error::new(format!("{error}\nwithout rustup: install Rust's standard library for {TARGET}")))
}
