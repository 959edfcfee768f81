//! Node, npm and packages from npm.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Lock, Result, repository, run};

/// The oldest version of Node that wrangler 4.86 supports.
const OLDEST: (u32, u32) = (20, 3);

/// Installs the packages of the repository's `package-lock.json` unless they are installed, and returns the folder
/// `node_modules`.
///
/// # Errors
/// Returns an error if Node is missing or too old, if npm is missing, or if the packages cannot be fetched.
pub fn packages() -> Result<PathBuf> {
    let _lock = Lock::take()?;
    install(
        repository(),
        "installing the npm packages wrangler, workerd and PostgreSQL (about 400 MB, a minute or two)",
        &[],
    )
}

/// Installs the packages of the folder's `package-lock.json` unless they are installed, and returns its folder
/// `node_modules`. The caller holds the [`Lock`].
///
/// # Errors
/// Same as [`packages`].
pub fn install(folder: &Path, what: &str, options: &[&str]) -> Result<PathBuf> {
    check_node()?;
    let packages = folder.join("node_modules");
    // npm first removes the whole folder, and this file with it, so the file exists only after a complete installation.
    let stamp = packages.join(".tidegate-installed");
    let mut wanted = String::new();
    for name in ["package.json", "package-lock.json"] {
        let file = folder.join(name);
        wanted +=
            &std::fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    }
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(packages);
    }
    run(
        what,
        Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).args(options).current_dir(folder),
        "it needs npm, which comes with Node, and the npm registry: check the network, then start again",
    )?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
    Ok(packages)
}

/// Checks that Node is installed and new enough.
///
/// # Errors
/// Returns an error if it is missing or too old.
pub fn check_node() -> Result<()> {
    let advice = format!("install Node {}.{} or newer (nodejs.org), then start again", OLDEST.0, OLDEST.1);
    let Ok(output) = Command::new("node").arg("--version").output() else {
        return Err(format!("there is no `node` in the path; {advice}"));
    };
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match parse_version(&version) {
        Some(found) if found >= OLDEST => Ok(()),
        Some(_) => Err(format!("Node {version} is too old; {advice}")),
        None => Err(format!("`node --version` says \"{version}\"; {advice}")),
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
