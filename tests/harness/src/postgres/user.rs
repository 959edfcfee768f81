//! Who runs the server: PostgreSQL refuses to run as root.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Doing as _, Error, Result};

/// The user that PostgreSQL's programs run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    /// Whoever runs this process.
    Current,
    /// `nobody`, because this process is root's.
    Unprivileged { uid: u32, gid: u32 },
}

impl User {
    /// `nobody` for root, else the current user.
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

    /// Gives a folder to this user.
    pub(super) fn own(self, folder: &Path) -> Result<()> {
        match self {
            Self::Current => Ok(()),
            Self::Unprivileged { uid, gid } => std::os::unix::fs::chown(folder, Some(uid), Some(gid))
                .doing(|| format!("cannot give {} to the user nobody", folder.display())),
        }
    }

    /// Whether this user can enter a folder or run a program: every folder above has to let it through, too.
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
