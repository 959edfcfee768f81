//! The memory of a child process: its peak, and a limit at which the system kills it.
//!
//! A limit is a memory cgroup below the one of this process, so the limits of a container still apply. It needs Linux
//! and, in most setups, root. A test that can run without a limit calls [`Limit::new`] and reports on stderr why it
//! runs without one.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Doing as _, Error, Result};
use crate::process::{is_alive, through_shell};

/// The prefix of the folders of this harness; the id of the process that created them follows.
const PREFIX: &str = "tidegate-";

/// The peak resident memory of a process since it started or since [`reset_peak`] was called, in bytes.
///
/// # Errors
/// Returns an error if the process is gone, or the system has no `/proc/<id>/status`.
pub fn peak(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).doing(|| format!("cannot read {path}"))?;
    peak_in(&status).ok_or_else(|| Error::new(format!("{path} has no VmHWM")))
}

/// Resets [`peak`] to the present resident memory of the process.
///
/// # Errors
/// Returns an error if the process is gone or belongs to another user, or the system has no `/proc/<id>/clear_refs`.
pub fn reset_peak(process: u32) -> Result<()> {
    let path = format!("/proc/{process}/clear_refs");
    std::fs::write(&path, "5").doing(|| format!("cannot write {path}"))
}

fn peak_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// A memory cgroup. The system kills a process in it that needs more memory than the limit. Dropping this removes the
/// cgroup; its processes have to end first.
#[derive(Debug)]
pub struct Limit {
    folder: PathBuf,
    version: Version,
}

/// The version of the kernel's cgroup interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Limit {
    /// Creates a cgroup with a limit of `bytes` (rounded down to whole pages) for memory and swap together.
    ///
    /// # Errors
    /// Returns an error if this machine or this user cannot create one; the message says why.
    pub fn new(bytes: u64) -> Result<Self> {
        let membership = std::fs::read_to_string("/proc/self/cgroup");
        let membership = membership.doing(|| "memory cannot be limited: cannot read /proc/self/cgroup".to_owned())?;
        let mut tried = Vec::new();
        for (parent, version) in parents(&membership) {
            match Self::below(&parent, version, bytes) {
                Ok(limit) => return Ok(limit),
                Err(error) => tried.push(error.to_string()),
            }
        }
        let tried = if tried.is_empty() { "no memory cgroup is mounted".to_owned() } else { tried.join("; ") };
        Err(Error::new(format!(
            "memory cannot be limited here ({tried}); run as root with cgroups that can be written"
        )))
    }

    fn below(parent: &Path, version: Version, bytes: u64) -> Result<Self> {
        if version == Version::Two {
            let shared = std::fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
            if !shared.split_whitespace().any(|controller| controller == "memory") {
                return Err(Error::new(format!("{} does not control the memory of its children", parent.display())));
            }
        }
        remove_abandoned(parent);
        let folder = parent.join(format!("{PREFIX}{}-{}", std::process::id(), crate::random::text()));
        std::fs::create_dir(&folder).doing(|| format!("cannot create {}", folder.display()))?;
        let limit = Self { folder, version };
        limit.set(bytes)?;
        Ok(limit)
    }

    fn set(&self, bytes: u64) -> Result<()> {
        let write = |file: &str, value: &str| {
            let path = self.folder.join(file);
            std::fs::write(&path, value).doing(|| format!("cannot write {}", path.display()))
        };
        let bytes = bytes.to_string();
        match self.version {
            Version::One => {
                write("memory.limit_in_bytes", &bytes)?;
                // Missing on kernels that do not account for swap.
                if self.folder.join("memory.memsw.limit_in_bytes").exists() {
                    write("memory.memsw.limit_in_bytes", &bytes)?;
                }
            }
            Version::Two => {
                write("memory.max", &bytes)?;
                if self.folder.join("memory.swap.max").exists() {
                    write("memory.swap.max", "0")?;
                }
            }
        }
        Ok(())
    }

    /// Wraps a command so that it enters this cgroup before it starts. The process id stays that of the command.
    /// Changes to the environment are kept; the working folder is not.
    #[must_use]
    pub fn wrap(&self, command: &Command) -> Command {
        let folder = self.folder.join("cgroup.procs");
        through_shell(command, "echo $$ > \"$1\" && shift && exec \"$@\"", folder.as_os_str())
    }

    /// The number of processes in it that the system has killed because of the limit.
    ///
    /// # Errors
    /// Returns an error if the kernel's file cannot be read.
    pub fn kills(&self) -> Result<u64> {
        let path = self.folder.join(match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        });
        let text = std::fs::read_to_string(&path).doing(|| format!("cannot read {}", path.display()))?;
        kills_in(&text).ok_or_else(|| Error::new(format!("{} has no oom_kill", path.display())))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // A cgroup that still has processes stays; the next run of a harness removes it.
        let _ = std::fs::remove_dir(&self.folder);
    }
}

fn kills_in(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// The folders below which a cgroup can be created, the best first. With version 1 that is the cgroup of this process.
/// With version 2 its ancestors are added, because a cgroup that has processes of its own cannot delegate its
/// controllers.
fn parents(membership: &str) -> Vec<(PathBuf, Version)> {
    let mut parents = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let below = path.trim_start_matches('/');
        if controllers.split(',').any(|controller| controller == "memory") {
            parents.push((Path::new("/sys/fs/cgroup/memory").join(below), Version::One));
        } else if controllers.is_empty() {
            let root = Path::new("/sys/fs/cgroup");
            let own = root.join(below);
            parents.extend(
                own.ancestors().take_while(|folder| folder.starts_with(root)).map(|f| (f.to_owned(), Version::Two)),
            );
        }
    }
    parents
}

/// Removes the cgroups that a killed process left behind. A cgroup that still has processes stays.
fn remove_abandoned(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(id, _)| id);
        if maker.is_some_and(|id| !is_alive(id)) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
#[path = "memory/tests.rs"]
mod tests;
