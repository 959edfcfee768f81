//! Child processes that cannot be left behind.
//!
//! Each has a process group of its own, writes its output into a log file, and is killed with its group when its
//! [`Process`] is dropped. Where this process itself dies without dropping anything, a *watchdog* does it: a small
//! shell that reads from a pipe whose other end only this process holds, and acts when the pipe ends.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::error::{Doing as _, Error, Result};
use crate::place;
use crate::wait::try_until;

/// A signal, as `kill` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Asks to end.
    Term,
    /// As Ctrl-C; PostgreSQL's fast shutdown.
    Int,
    /// PostgreSQL's immediate shutdown.
    Quit,
    Kill,
    /// Freezes the process; nothing of it runs until [`Signal::Continue`].
    Stop,
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// The same command as one that a shell replaces itself by: `script` has `argument` as `$1` and the command after it. The
/// environment that the command changes is kept; its working folder is not.
pub(crate) fn through_shell(command: &Command, script: &str, argument: &OsStr) -> Command {
    let mut wrapped = Command::new("sh");
    wrapped.args(["-c", script, "sh"]).arg(argument).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// A running child process with everything it started.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stop_signal: Signal,
    watchdog: Watchdog,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in a log file of its own; `stop_signal` is what ends it in order.
    ///
    /// # Errors
    /// Where the program cannot be started.
    pub fn start(name: &str, command: &mut Command, stop_signal: Signal) -> Result<Self> {
        Self::start_with_folder(name, command, stop_signal, None)
    }

    /// As [`Process::start`]; where this process dies and drops nothing, `folder` is removed once the child has ended.
    ///
    /// # Errors
    /// Where the program cannot be started.
    pub fn start_with_folder(
        name: &str,
        command: &mut Command,
        stop_signal: Signal,
        folder: Option<&Path>,
    ) -> Result<Self> {
        let log = place::log(name);
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder).doing(|| format!("cannot create {}", folder.display()))?;
        }
        let output = File::options().create(true).append(true).open(&log);
        let output = output.doing(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone().doing(|| format!("cannot write {}", log.display()))?;
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors);
        let program = command.get_program().to_owned();
        let child = command.spawn().doing(|| format!("cannot start {}", program.display()))?;
        let watchdog = Watchdog::start(child.id(), stop_signal, folder)?;
        Ok(Self { name: name.to_owned(), child, stop_signal, watchdog, log })
    }

    /// The process id, which is also that of its group.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The file it writes to.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it ends by itself, however long that takes. Blocks the thread.
    ///
    /// # Errors
    /// Where nothing is known of it any more.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().doing(|| format!("cannot wait for {}", self.name))
    }

    /// Waits for a line of its output that holds `text`, and gives that line.
    ///
    /// # Errors
    /// Where it ends first or `timeout` is over; the end of its log is in the message.
    pub async fn line(&mut self, text: &str, timeout: Duration) -> Result<String> {
        let found = try_until("it to be ready", timeout, async || {
            // In this order: what it wrote before it ended still counts.
            let ended = self.ended();
            let log = self.log();
            match (log.lines().find(|line| line.contains(text)), ended) {
                (Some(line), _) => Ok(Ok(line.to_owned())),
                (None, Some(status)) => Ok(Err(status)),
                (None, None) => Err(format!("no line with \"{text}\"")),
            }
        });
        let ended = match found.await {
            Ok(Ok(line)) => return Ok(line),
            Ok(Err(status)) => format!("ended ({status})"),
            Err(error) => format!("is not ready ({error})"),
        };
        Err(Error::new(format!("{} {ended}; its log, {}:\n{}", self.name, self.log.display(), self.tail(40))))
    }

    /// Sends a signal to the process and everything it started.
    pub fn signal(&self, signal: Signal) {
        signal_group(self.id(), signal);
    }

    /// Ends it in order; after `grace` it is killed.
    ///
    /// # Errors
    /// Where it had to be killed.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.end(self.stop_signal, grace).await
    }

    /// Kills it without a warning and waits until it is gone.
    ///
    /// # Errors
    /// Where even that does not end it.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        self.end(Signal::Kill, Duration::from_secs(10)).await
    }

    /// Sends `signal` and waits for the end.
    ///
    /// # Errors
    /// Where it had to be killed after `grace`.
    pub async fn end(&mut self, signal: Signal, grace: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        self.signal(signal);
        match try_until("the end", grace, async || self.ended().ok_or_else(|| "it still runs".to_owned())).await {
            Ok(status) => Ok(status),
            Err(_) => {
                self.kill_and_reap();
                let name = &self.name;
                Err(Error::new(format!("{name} did not end within {grace:?} of SIG{} and was killed", signal.name())))
            }
        }
    }

    /// The last lines of its output.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn kill_and_reap(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::Kill);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What it started may outlive it, so the group is signalled even where the process itself has ended.
        self.signal(Signal::Kill);
        let _ = self.child.wait();
        self.watchdog.dismiss();
        if std::thread::panicking() {
            eprintln!("--- the end of the log of {}, {}:\n{}", self.name, self.log.display(), self.tail(60));
        } else {
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

/// Whether a process of that id runs; false for what is not a process id.
#[must_use]
pub fn is_alive(id: &str) -> bool {
    id.bytes().all(|byte| byte.is_ascii_digit()) && shell("kill -0 \"$1\"", &[id])
}

fn signal_group(group: u32, signal: Signal) {
    shell("kill -s \"$1\" -- \"-$2\"", &[signal.name(), &group.to_string()]);
}

/// The shell's own `kill` is there even where no program of that name is installed.
fn shell(script: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[derive(Debug)]
struct Watchdog(Child);

impl Watchdog {
    /// Any line means that the group is taken care of; the end of the pipe without one, that nobody is left to do so.
    const SCRIPT: &'static str = r#"
        if ! read -r line; then
            kill -s "$2" -- "-$1"
            tries=0
            while kill -s 0 -- "-$1" && [ "$tries" -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
            kill -s KILL -- "-$1"
            if [ -n "$3" ]; then rm -rf -- "$3"; fi
        fi
    "#;

    fn start(group: u32, stop_signal: Signal, folder: Option<&Path>) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", Self::SCRIPT, "tidegate-watchdog", &group.to_string(), stop_signal.name()]);
        command.arg(folder.unwrap_or(Path::new("")));
        // Its own group: Ctrl-C in a terminal reaches the whole foreground group and must not end it first.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map(Self).doing(|| "cannot start sh".to_owned());
        if child.is_err() {
            signal_group(group, Signal::Kill);
        }
        child
    }

    fn dismiss(&mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.0.wait();
    }
}

#[cfg(test)]
#[path = "process/tests.rs"]
mod tests;
