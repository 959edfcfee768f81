//! Packages from npm.

use std::path::PathBuf;
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use super::Lock;
use crate::error::{Doing as _, Error, Result};
use crate::place;

/// Returns the folder `node_modules` with the packages of `package-lock.json`, which are installed if necessary.
///
/// # Errors
/// Returns an error if Node is missing or too old, if npm is missing, or if the packages cannot be fetched.
pub fn node_packages() -> Result<PathBuf> {
    static PACKAGES: OnceLock<Result<PathBuf>> = OnceLock::new();
    PACKAGES.get_or_init(|| prepare::node::packages().map_err(Error::new)).clone()
}

/// Returns the path of a program that a package provides, such as `wrangler`.
///
/// # Errors
/// Same as [`node_packages`]. Also returns an error if no package provides the program.
pub fn program(name: &str) -> Result<PathBuf> {
    let program = node_packages()?.join(".bin").join(name);
    if program.exists() {
        return Ok(program);
    }
    Err(Error::new(format!("there is no {}; delete node_modules and start again", program.display())))
}

/// Returns a folder with the providers' own SDKs that `tests/sdk/package-lock.json` lists, which are installed if
/// necessary. Clones of the repository share it, because it is large and seldom changes.
///
/// # Errors
/// Same as [`node_packages`].
pub fn provider_sdks() -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(install_sdks).clone()
}

fn install_sdks() -> Result<PathBuf> {
    let _lock = Lock::take()?;
    let (listed, folder) = (place::repository().join("tests/sdk"), place::cache().join("provider-sdks"));
    std::fs::create_dir_all(&folder).doing(|| format!("cannot create {}", folder.display()))?;
    for name in ["package.json", "package-lock.json"] {
        let from = listed.join(name);
        std::fs::copy(&from, folder.join(name)).doing(|| format!("cannot copy {}", from.display()))?;
    }
    // None of them needs its install scripts.
    let what = "installing the providers' SDKs (about 650 MB, a minute or two)";
    prepare::node::install(&folder, what, &["--ignore-scripts"]).map_err(Error::new)?;
    Ok(folder)
}

/// Returns a folder with the OpenID Connect provider of `tests/harness/oidc` and its packages, which are installed if
/// necessary. Clones of the repository share it.
///
/// # Errors
/// Same as [`node_packages`].
pub fn identity_provider() -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(install_identity_provider).clone()
}

fn install_identity_provider() -> Result<PathBuf> {
    let names = ["package.json", "package-lock.json", "provider.mjs"];
    let what = "installing the OpenID Connect provider of the tests (4 MB)";
    install_copy("oidc-provider", "tests/harness/oidc", &names, what)
}

/// Returns a folder with the driver of Chromium, `driver.mjs` of `tests/harness/chromium`, and its packages, which are
/// installed if necessary. Clones of the repository share it.
///
/// # Errors
/// Same as [`node_packages`].
pub fn chromium_driver() -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf>> = OnceLock::new();
    let names = ["package.json", "package-lock.json", "driver.mjs"];
    let what = "installing playwright-core and axe-core (18 MB)";
    FOLDER.get_or_init(|| install_copy("chromium", "tests/harness/chromium", &names, what)).clone()
}

/// Returns a folder with `openapi-typescript`, `openapi-fetch` and the TypeScript compiler in its `node_modules`, as
/// `tests/clients/package-lock.json` lists them, which are installed if necessary. Clones of the repository share it.
///
/// # Errors
/// Same as [`node_packages`].
pub fn typescript_client_generator() -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf>> = OnceLock::new();
    let what = "installing openapi-typescript and TypeScript (about 50 MB)";
    let install = || install_copy("openapi-typescript", "tests/clients", &["package.json", "package-lock.json"], what);
    FOLDER.get_or_init(install).clone()
}

/// Copies files of a folder of the repository into a folder of the cache, and installs the packages that its
/// `package-lock.json` lists. None of them needs its install scripts.
fn install_copy(tool: &str, listed: &str, names: &[&str], what: &str) -> Result<PathBuf> {
    let _lock = Lock::take()?;
    let listed = place::repository().join(listed);
    let mut hash = Sha256::new();
    for name in names {
        let file = listed.join(name);
        hash.update(std::fs::read(&file).doing(|| format!("cannot read {}", file.display()))?);
    }
    // Named by the content, so that a clone with another version has a folder of its own.
    let folder = place::cache().join("tools").join(format!("{tool}-{}", hex::encode(&hash.finalize()[..6])));
    std::fs::create_dir_all(&folder).doing(|| format!("cannot create {}", folder.display()))?;
    for name in names {
        let (from, to) = (listed.join(name), folder.join(name));
        // A program of another process may be reading it.
        if !to.is_file() {
            let unfinished = folder.join(format!("{name}.unfinished"));
            std::fs::copy(&from, &unfinished).doing(|| format!("cannot copy {}", from.display()))?;
            std::fs::rename(&unfinished, &to).doing(|| format!("cannot rename {}", unfinished.display()))?;
        }
    }
    prepare::node::install(&folder, what, &["--ignore-scripts"]).map_err(Error::new)?;
    Ok(folder)
}
