//! Child processes that cannot be left behind.
//!
//! Each has its own process group, writes its output to a log file, and is killed with its group when its [`Process`]
//! is dropped. If this process dies without dropping anything, a *watchdog* stops the group: a small shell that reads
//! from a pipe whose other end only this process holds, and acts when the pipe closes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::error::{Doing as _, Error, Result};
use crate::place;
use crate::wait::try_until;

/// A signal, as `kill` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Requests a shutdown.
    Term,
    /// Like Ctrl-C; PostgreSQL's fast shutdown.
    Int,
    /// PostgreSQL's immediate shutdown.
    Quit,
    Kill,
    /// Freezes the process until [`Signal::Continue`].
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

/// Wraps a command in a shell script. `script` has `argument` as `$1` and the command after it, and replaces itself
/// with the command. Changes to the environment are kept; the working folder is not.
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

/// A running child process with all processes that it started.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stop_signal: Signal,
    watchdog: Watchdog,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in its own log file; `stop_signal` is the signal that shuts it down cleanly.
    ///
    /// # Errors
    /// Returns an error if the program cannot be started.
    pub fn start(name: &str, command: &mut Command, stop_signal: Signal) -> Result<Self> {
        Self::start_with_folder(name, command, stop_signal, None)
    }

    /// Like [`Process::start`]. If this process dies without dropping the value, `folder` is removed once the child has
    /// ended.
    ///
    /// # Errors
    /// Returns an error if the program cannot be started.
    pub fn start_with_folder(
        name: &str,
        command: &mut Command,
        stop_signal: Signal,
        folder: Option<&Path>,
    ) -> Result<Self> {
        let (log, errors) = open_log(name)?;
        let output = errors.try_clone().doing(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        Self::spawn(name, command, stop_signal, folder, log)
    }

    /// Like [`Process::start_with_folder`], for a program that this process talks with: only what it writes to standard
    /// error goes to the log file. Also returns its standard input and output.
    ///
    /// # Errors
    /// Returns an error if the program cannot be started.
    pub fn start_with_pipes(
        name: &str,
        command: &mut Command,
        stop_signal: Signal,
        folder: Option<&Path>,
    ) -> Result<(Self, ChildStdin, ChildStdout)> {
        let (log, errors) = open_log(name)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut process = Self::spawn(name, command, stop_signal, folder, log)?;
        match (process.child.stdin.take(), process.child.stdout.take()) {
            (Some(input), Some(output)) => Ok((process, input, output)),
            (_, _) => Err(Error::new(format!("{name} has no pipes"))),
        }
    }

    fn spawn(
        name: &str,
        command: &mut Command,
        stop_signal: Signal,
        folder: Option<&Path>,
        log: PathBuf,
    ) -> Result<Self> {
        command.process_group(0);
        let program = command.get_program().to_owned();
        let child = command.spawn().doing(|| format!("cannot start {}", program.display()))?;
        let watchdog = Watchdog::start(child.id(), stop_signal, folder)?;
        Ok(Self { name: name.to_owned(), child, stop_signal, watchdog, log })
    }

    /// The process id, which is also the id of its group.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its output so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The path of its log file.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits without a time limit until it ends. Blocks the thread.
    ///
    /// # Errors
    /// Returns an error if its status cannot be read.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().doing(|| format!("cannot wait for {}", self.name))
    }

    /// Waits for a line of its output that contains `text`, and returns that line.
    ///
    /// # Errors
    /// Returns an error if it ends first or after `timeout`; the message contains the end of its log.
    pub async fn line(&mut self, text: &str, timeout: Duration) -> Result<String> {
        let found = try_until("it to be ready", timeout, async || {
            // In this order, so that a line written just before it ended is found.
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

    /// Sends a signal to the process and all processes that it started.
    pub fn signal(&self, signal: Signal) {
        signal_group(self.id(), signal);
    }

    /// Shuts it down cleanly; after `grace` it is killed.
    ///
    /// # Errors
    /// Returns an error if it had to be killed.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.end(self.stop_signal, grace).await
    }

    /// Kills it with SIGKILL and waits until it has ended.
    ///
    /// # Errors
    /// Returns an error if it does not end even then.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        self.end(Signal::Kill, Duration::from_secs(10)).await
    }

    /// Sends `signal` and waits until it has ended.
    ///
    /// # Errors
    /// Returns an error if it had to be killed after `grace`.
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
        // Its children may outlive it, so the group is signalled even if the process itself has ended.
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

/// Creates the log file of a process, and returns its path as well.
fn open_log(name: &str) -> Result<(PathBuf, File)> {
    let log = place::log(name);
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).doing(|| format!("cannot create {}", folder.display()))?;
    }
    let file = File::options().create(true).append(true).open(&log);
    let file = file.doing(|| format!("cannot write {}", log.display()))?;
    Ok((log, file))
}

/// Whether a process with this id is running; false if the text is not a process id.
#[must_use]
pub fn is_alive(id: &str) -> bool {
    id.bytes().all(|byte| byte.is_ascii_digit()) && shell("kill -0 \"$1\"", &[id])
}

pub(crate) fn signal_group(group: u32, signal: Signal) {
    shell("kill -s \"$1\" -- \"-$2\"", &[signal.name(), &group.to_string()]);
}

/// Runs a script with the shell, whose built-in `kill` works even if no program of that name is installed.
fn shell(script: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[derive(Debug)]
struct Watchdog(Child);

impl Watchdog {
    /// A line means that the group has been dealt with. The end of the pipe without a line means that this process is
    /// gone.
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
        // Its own group, because Ctrl-C in a terminal reaches the whole foreground group and must not stop the watchdog
        // first.
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
