//! Chromium, from the packages of the system.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Lock;
use crate::error::{Error, Result};
use crate::place;

/// The names of the program, in the order in which they are preferred.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// What a developer can do if there is none.
pub(crate) const ADVICE: &str = "install Chromium (Debian: apt-get install -y chromium), or set TIDEGATE_CHROMIUM to \
                                 the path of a Chromium or Chrome";

/// Where this process found Chromium, and whether it may install it.
struct Environment<'a> {
    /// `TIDEGATE_CHROMIUM`: the path of the program.
    named: Option<&'a OsStr>,
    /// `PATH`.
    path: &'a OsStr,
    /// Whether `CI` is set: a run on a machine that nobody uses otherwise, where the tests install packages.
    ci: bool,
}

/// Returns the path of Chromium, which is installed first if this is a run of CI as root with `apt-get`. Returns `None`
/// if there is none.
///
/// # Errors
/// Returns an error if `TIDEGATE_CHROMIUM` does not name a program, or if the installation fails.
#[expect(clippy::disallowed_methods, reason = "these variables belong to the developer's machine or to CI")]
pub fn chromium() -> Result<Option<PathBuf>> {
    static FOUND: OnceLock<Result<Option<PathBuf>>> = OnceLock::new();
    let find = || {
        let named = std::env::var_os("TIDEGATE_CHROMIUM").filter(|value| !value.is_empty());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        find_or_install(&Environment { named: named.as_deref(), path: &path, ci })
    };
    FOUND.get_or_init(find).clone()
}

fn find_or_install(environment: &Environment<'_>) -> Result<Option<PathBuf>> {
    if let Some(found) = find(environment)? {
        return Ok(Some(found));
    }
    if !environment.ci || !can_install(environment.path) {
        return Ok(None);
    }
    let _lock = Lock::take()?;
    if let Some(found) = find(environment)? {
        return Ok(Some(found));
    }
    let script = place::repository().join("tests/harness/chromium/install");
    let advice = "it needs the servers of Debian's packages: check the network, then start again";
    prepare::run("installing Chromium (about 300 MB, a minute)", &mut Command::new(script), advice)
        .map_err(Error::new)?;
    find(environment)
}

fn find(environment: &Environment<'_>) -> Result<Option<PathBuf>> {
    if let Some(named) = environment.named {
        let program = PathBuf::from(named);
        if program.is_file() {
            return Ok(Some(program));
        }
        return Err(Error::new(format!("TIDEGATE_CHROMIUM is {}, which is no file; {ADVICE}", program.display())));
    }
    Ok(NAMES.iter().find_map(|name| in_path(environment.path, name)))
}

fn in_path(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|program| is_program(program))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn can_install(path: &OsStr) -> bool {
    let user = Command::new("id").arg("-u").output();
    in_path(path, "apt-get").is_some() && user.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chromium_is_found_by_its_variable_first_and_then_by_its_names_in_the_path() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = place::temporary("path").expect("is created");
        let (chrome, chromium) = (folder.join("google-chrome"), folder.join("chromium"));
        for file in [&chrome, &chromium] {
            std::fs::write(file, "").expect("is written");
        }
        std::fs::set_permissions(&chrome, std::fs::Permissions::from_mode(0o755)).expect("is changed");
        let path = std::env::join_paths([Path::new("/no/such/folder"), &folder]).expect("is a path");
        let environment = |named| Environment { named, path: &path, ci: false };
        // The file `chromium` is no program.
        assert_eq!(find_or_install(&environment(None)), Ok(Some(chrome)));
        assert_eq!(find_or_install(&environment(Some(chromium.as_os_str()))), Ok(Some(chromium.clone())));
        let error = find_or_install(&environment(Some(OsStr::new("/no/such/file")))).expect_err("is no file");
        assert!(error.to_string().contains("/no/such/file, which is no file; install Chromium"), "{error}");
        std::fs::remove_dir_all(&folder).expect("is removed");
    }

    #[test]
    fn a_machine_without_chromium_has_none_and_a_run_that_is_not_of_ci_installs_none() {
        let environment = Environment { named: None, path: OsStr::new("/no/such/folder"), ci: false };
        assert_eq!(find_or_install(&environment), Ok(None));
        // Nothing can be installed without `apt-get`.
        assert_eq!(find_or_install(&Environment { ci: true, ..environment }), Ok(None));
    }
}
