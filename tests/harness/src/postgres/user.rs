//! The user that runs the server: PostgreSQL refuses to run as root.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Doing as _, Error, Result};

/// The user that PostgreSQL's programs run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    /// The user of this process.
    Current,
    /// `nobody`, because this process runs as root.
    Unprivileged { uid: u32, gid: u32 },
}

impl User {
    /// Returns `nobody` for root, and the current user otherwise.
    pub(super) fn for_server() -> Result<Self> {
        if id(&["-u"])? != 0 {
            return Ok(Self::Current);
        }
        Ok(Self::Unprivileged { uid: id(&["-u", "nobody"])?, gid: id(&["-g", "nobody"])? })
    }

    /// Makes `command` run as this user.
    pub(super) fn apply(self, command: &mut Command) {
        if let Self::Unprivileged { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
    }

    /// Makes this user the owner of a folder.
    pub(super) fn own(self, folder: &Path) -> Result<()> {
        match self {
            Self::Current => Ok(()),
            Self::Unprivileged { uid, gid } => std::os::unix::fs::chown(folder, Some(uid), Some(gid))
                .doing(|| format!("cannot give {} to the user nobody", folder.display())),
        }
    }

    /// Whether this user can enter a folder or run a program, which requires that it can enter every parent folder.
    pub(super) fn reaches(self, path: &Path) -> bool {
        let mut command = Command::new("sh");
        command.args(["-c", "test -x \"$1\"", "sh"]).arg(path).stderr(Stdio::null()).current_dir("/");
        self.apply(&mut command);
        command.status().is_ok_and(|status| status.success())
    }
}

fn id(arguments: &[&str]) -> Result<u32> {
    let output = Command::new("id").args(arguments).output().doing(|| "cannot run id".to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().parse().map_err(|_| {
        Error::new(format!(
            "cannot find out a user id with `id {}`; set DATABASE_URL to a PostgreSQL that runs already",
            arguments.join(" ")
        ))
    })
}
