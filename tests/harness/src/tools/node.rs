//! Node, npm and the packages of `package.json`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use super::{Lock, hash_of, run_long};
use crate::error::{Doing as _, Error, Result};
use crate::place;

/// The oldest Node that wrangler 4.86 runs on.
const OLDEST: (u32, u32) = (20, 3);

/// The folder `node_modules` with what `package-lock.json` names, installed where that is still to be done.
///
/// # Errors
/// Without a Node that is new enough, without npm, or where the packages cannot be fetched.
pub fn node_packages() -> Result<PathBuf> {
    static PACKAGES: OnceLock<Result<PathBuf>> = OnceLock::new();
    PACKAGES.get_or_init(install).clone()
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

fn install() -> Result<PathBuf> {
    check_node()?;
    let repository = place::repository();
    let _lock = Lock::take()?;
    let wanted = hash_of(&[&repository.join("package.json"), &repository.join("package-lock.json")])?;
    install_in(
        repository,
        &wanted,
        "installing the npm packages (wrangler, workerd, PostgreSQL; about 400 MB, a minute or two)",
        &[],
    )?;
    Ok(repository.join("node_modules"))
}

fn install_sdks() -> Result<PathBuf> {
    check_node()?;
    let _lock = Lock::take()?;
    let (listed, folder) = (place::repository().join("tests/sdk"), place::cache().join("provider-sdks"));
    std::fs::create_dir_all(&folder).doing(|| format!("cannot create {}", folder.display()))?;
    for name in ["package.json", "package-lock.json"] {
        let from = listed.join(name);
        std::fs::copy(&from, folder.join(name)).doing(|| format!("cannot copy {}", from.display()))?;
    }
    let lock = folder.join("package-lock.json");
    let wanted = std::fs::read(&lock).doing(|| format!("cannot read {}", lock.display()))?;
    install_in(
        &folder,
        &hex::encode(Sha256::digest(wanted)),
        "installing the providers' SDKs (about 650 MB, a minute or two)",
        // None of them needs more than its files.
        &["--ignore-scripts"],
    )?;
    Ok(folder)
}

/// Installs what the folder's `package-lock.json` names, unless the installation there is already the `wanted` one.
fn install_in(folder: &Path, wanted: &str, what: &str, options: &[&str]) -> Result<()> {
    // npm removes the whole folder first, and with it this file: it is there only behind a complete installation.
    let stamp = folder.join("node_modules/.tidegate-installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    run_long(
        what,
        Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).args(options).current_dir(folder),
        "it needs npm, which comes with Node, and the npm registry: check the network, then start again",
    )?;
    std::fs::write(&stamp, wanted).doing(|| format!("cannot write {}", stamp.display()))
}

fn check_node() -> Result<()> {
    let advice = format!("install Node {}.{} or newer (nodejs.org), then start again", OLDEST.0, OLDEST.1);
    let output = Command::new("node").arg("--version").output();
    let Ok(output) = output else {
        return Err(Error::new(format!("there is no `node` in the path; {advice}")));
    };
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match parse_version(&version) {
        Some(found) if found >= OLDEST => Ok(()),
        Some(_) => Err(Error::new(format!("Node {version} is too old; {advice}"))),
        None => Err(Error::new(format!("`node --version` says \"{version}\"; {advice}"))),
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix('v')?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node_compare_as_numbers() {
        assert_eq!(parse_version("v20.20.2"), Some((20, 20)));
        assert!(parse_version("v20.2.0") < Some(OLDEST));
        assert!(parse_version("v22.1.0") > Some(OLDEST));
        assert_eq!(parse_version("twenty"), None);
    }
}
