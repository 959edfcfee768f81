//! Packages from npm.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::Lock;
use crate::error::{Doing as _, Error, Result};
use crate::place;

/// The folder `node_modules` with what `package-lock.json` names, installed where that is still to be done.
///
/// # Errors
/// Without a Node that is new enough, without npm, or where the packages cannot be fetched.
pub fn node_packages() -> Result<PathBuf> {
    static PACKAGES: OnceLock<Result<PathBuf>> = OnceLock::new();
    PACKAGES.get_or_init(|| prepare::node::packages().map_err(Error::new)).clone()
}

/// The path of a program that a package brings, such as `wrangler`.
///
/// # Errors
/// As [`node_packages`], and where no package brings it.
pub fn program(name: &str) -> Result<PathBuf> {
    let program = node_packages()?.join(".bin").join(name);
    if program.exists() {
        return Ok(program);
    }
    Err(Error::new(format!("there is no {}; delete node_modules and start again", program.display())))
}

/// A folder with the providers' own SDKs that `tests/sdk/package-lock.json` names, installed where that is still to be done.
/// It is kept between clones of the repository: it is large and changes seldom.
///
/// # Errors
/// As [`node_packages`].
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
    // None of them needs more than its files.
    let what = "installing the providers' SDKs (about 650 MB, a minute or two)";
    prepare::node::install(&folder, what, &["--ignore-scripts"]).map_err(Error::new)?;
    Ok(folder)
}
