//! The relay's program as a child process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use crate::api::Api;
use crate::error::{Doing as _, Error, Result};
use crate::memory::{self, Limit};
use crate::process::{Process, Signal, through_shell};
use crate::queue::LocalQueue;
use crate::tools;
use crate::wait::until;

/// The maximum time for a start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// The maximum time for a shutdown, which waits for the work in flight.
const STOPS_WITHIN: Duration = Duration::from_secs(40);

/// The settings of a relay: its program, its environment, its memory limit, and its limit of open files.
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// `None` for the program of this repository.
    program: Option<PathBuf>,
    variables: BTreeMap<String, String>,
    memory_limit: Option<u64>,
    open_files: Option<u32>,
}

impl RelaySettings {
    /// Creates settings with fresh secrets that allow deliveries to loopback over IPv4 and IPv6: `localhost` has an
    /// address of each, and many servers listen on only one of them.
    #[must_use]
    pub fn new(database_url: &str, queue: &LocalQueue, edge_url: &str, edge_admin_token: &str) -> Self {
        let master_key = crate::random::key();
        let settings = [
            ("DATABASE_URL", database_url),
            ("TIDEGATE_LISTEN", "127.0.0.1:0"),
            ("TIDEGATE_ADMIN_TOKEN", &format!("admin-{}", crate::random::text())),
            ("TIDEGATE_MASTER_KEY", &master_key),
            ("TIDEGATE_EDGE_URL", edge_url),
            ("TIDEGATE_EDGE_ADMIN_TOKEN", edge_admin_token),
            ("TIDEGATE_QUEUE_ACCOUNT_ID", queue.account_id()),
            ("TIDEGATE_QUEUE_IDS", &queue.queue_ids()),
            ("TIDEGATE_QUEUE_TOKEN", queue.token()),
            ("TIDEGATE_QUEUE_API", &queue.api_url()),
            ("TIDEGATE_EGRESS_ALLOW", "127.0.0.0/8,::1/128"),
            ("TIDEGATE_LOG", "info,relay::control::awaits=debug"),
            ("NO_COLOR", "1"),
        ];
        let variables = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { program: None, variables, memory_limit: None, open_files: None }
    }

    /// Sets a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Runs another program, such as an earlier version of the relay; `None` is the program of this repository.
    #[must_use]
    pub fn with_program(mut self, program: Option<&Path>) -> Self {
        self.program = program.map(Path::to_owned);
        self
    }

    /// Sets a limit for the memory of the process, in bytes: the system kills a relay that exceeds it. The relay does
    /// not start if memory cannot be limited on this machine; see [`Limit::new`].
    #[must_use]
    pub fn with_memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Sets a limit for the files that the process may have open, including sockets. The process cannot raise it.
    #[must_use]
    pub fn with_open_files(mut self, count: u32) -> Self {
        self.open_files = Some(count);
        self
    }

    /// The value of a variable; empty if it is not set.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// All variables.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        self.variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn command(&self, program: &Path, argument: &str) -> Command {
        let mut command = Command::new(program);
        // The developer's settings must not affect a test.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEGATE_") {
                command.env_remove(name);
            }
        }
        command.arg(argument).envs(&self.variables);
        command
    }
}

/// A relay that can be stopped, killed and started again with the same settings.
///
/// # Panics
/// Its `Drop` panics if the relay logged an error that the test did not expect.
#[derive(Debug)]
pub struct Relay {
    settings: RelaySettings,
    process: Process,
    // After the process, which has to end before its cgroup is removed.
    limit: Option<Limit>,
    url: String,
    errors: Errors,
}

/// Whether the test expects messages at the level ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errors {
    Unexpected,
    Expected,
}

impl Relay {
    /// The settings it was started with.
    #[must_use]
    pub fn settings(&self) -> &RelaySettings {
        &self.settings
    }

    /// Builds the program, unless the settings name one, and starts it.
    ///
    /// # Errors
    /// Returns an error if it does not compile or does not start; the message contains the end of its log.
    pub async fn start(settings: RelaySettings) -> Result<Self> {
        let program = match &settings.program {
            Some(program) => program.clone(),
            None => tools::blocking(tools::relay).await?,
        };
        let mut command = settings.command(&program, "serve");
        if let Some(count) = settings.open_files {
            let count = count.to_string();
            command = through_shell(&command, "ulimit -n \"$1\" && shift && exec \"$@\"", count.as_ref());
        }
        let limit = settings.memory_limit.map(Limit::new).transpose()?;
        if let Some(limit) = &limit {
            command = limit.wrap(&command);
        }
        let mut process = Process::start("relay", &mut command, Signal::Term)?;
        let line = process.line("relay listening on http", STARTS_WITHIN).await?;
        let url = line.split_whitespace().last().unwrap_or_default().to_owned();
        // A restarted relay must have the same address.
        let listen = url.trim_start_matches("http://").to_owned();
        let settings = settings.with("TIDEGATE_LISTEN", &listen);
        Ok(Self { settings, process, limit, url, errors: Errors::Unexpected })
    }

    /// The base URL, without a trailing slash. It stays the same after a restart.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The admin token.
    #[must_use]
    pub fn token(&self) -> &str {
        self.settings.value("TIDEGATE_ADMIN_TOKEN")
    }

    /// A client of the API with the admin token.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::new(&self.url, self.token())
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The peak resident memory since it was last started or since [`Relay::reset_peak_memory`] was called, in bytes.
    ///
    /// # Errors
    /// Returns an error if it has ended, or if the system does not report it.
    pub fn peak_memory(&self) -> Result<u64> {
        memory::peak(self.id())
    }

    /// Resets [`Relay::peak_memory`] to the present resident memory.
    ///
    /// # Errors
    /// Returns an error if it has ended, or the system does not allow it.
    pub fn reset_peak_memory(&self) -> Result<()> {
        memory::reset_peak(self.id())
    }

    /// How often the system has killed it because of its memory limit since it was last started; 0 without a limit.
    ///
    /// # Errors
    /// Returns an error if the system does not report it.
    pub fn memory_kills(&self) -> Result<u64> {
        self.limit.as_ref().map_or(Ok(0), Limit::kills)
    }

    /// The log since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        without_colours(&self.process.log())
    }

    /// Waits until its log contains a text.
    ///
    /// # Panics
    /// Panics after `timeout`.
    pub async fn wait_for_log(&self, text: &str, timeout: Duration) {
        until(&format!("{text:?} in the log of the relay"), timeout, async || match self.log() {
            log if log.contains(text) => Ok(()),
            log => Err(log),
        })
        .await;
    }

    /// How many calls have begun to wait for an event of a job.
    #[must_use]
    pub fn calls_that_waited(&self) -> usize {
        self.log().matches("a call begins to wait for an event of a job").count()
    }

    /// The path of the log file.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        self.process.log_file()
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Allows messages at the level ERROR: the test provokes errors on purpose.
    pub fn expect_errors(&mut self) {
        self.errors = Errors::Expected;
    }

    /// Shuts it down cleanly (SIGTERM).
    ///
    /// # Errors
    /// Returns an error if it had to be killed.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(STOPS_WITHIN).await
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// Returns an error if it does not end even then.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill().await
    }

    /// Freezes it (SIGSTOP), like a machine that swaps or a paused container.
    pub fn freeze(&self) {
        self.process.signal(Signal::Stop);
    }

    /// Continues it after [`Relay::freeze`].
    pub fn thaw(&self) {
        self.process.signal(Signal::Continue);
    }

    /// Restarts it after [`Relay::stop`] or [`Relay::kill`], on the same database and address.
    ///
    /// # Errors
    /// Same as [`Relay::start`].
    pub async fn start_again(&mut self) -> Result<()> {
        self.start_again_with(|settings| settings).await
    }

    /// Like [`Relay::start_again`], with other settings.
    ///
    /// # Errors
    /// Same as [`Relay::start`].
    pub async fn start_again_with(&mut self, change: impl FnOnce(RelaySettings) -> RelaySettings) -> Result<()> {
        self.check_log();
        let started = Self::start(change(self.settings.clone())).await?;
        let errors = self.errors;
        // The log of the old value has been checked, so its `Drop` must not panic.
        std::mem::replace(self, started).expect_errors();
        self.errors = errors;
        Ok(())
    }

    fn check_log(&self) {
        if self.errors == Errors::Expected {
            return;
        }
        let log = self.log();
        let errors: Vec<&str> = log.lines().filter(|line| is_error(line)).collect();
        assert!(errors.is_empty(), "the relay logged errors:\n{}", errors.join("\n"));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_log();
        }
    }
}

/// Runs a subcommand such as `doctor` until it ends, with only these variables in its environment.
///
/// # Errors
/// Returns an error if the program does not compile or cannot be started.
pub async fn run(argument: &'static str, variables: Vec<(String, String)>) -> Result<Output> {
    run_with(&[argument], variables).await
}

/// Like [`run`], with any command line.
///
/// # Errors
/// Returns an error if the program does not compile or cannot be started.
pub async fn run_with(arguments: &[&str], variables: Vec<(String, String)>) -> Result<Output> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    tools::blocking(move || {
        let mut command = Command::new(tools::relay()?);
        command.args(&arguments).env_clear().envs(variables);
        command.output().doing(|| format!("cannot run tidegate {}", arguments.join(" ")))
    })
    .await
}

/// Runs the migrations with `tidegate migrate`.
///
/// # Errors
/// Returns an error with the output of the relay if they fail.
pub async fn migrate(database_url: &str) -> Result<()> {
    let database_url = database_url.to_owned();
    tools::blocking(move || {
        let mut command = Command::new(tools::relay()?);
        command.arg("migrate").env("DATABASE_URL", database_url).stdin(Stdio::null());
        let output = command.output().doing(|| "cannot run the relay".to_owned())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::new(format!("`tidegate migrate` failed ({}): {said}", output.status)))
    })
    .await
}

fn is_error(line: &str) -> bool {
    line.split_whitespace().take(3).any(|word| word == "ERROR") || line.contains("\"level\":\"ERROR\"")
}

/// Removes terminal colours, which begin with an escape character and `[` and end with `m`.
fn without_colours(log: &str) -> String {
    let mut parts = log.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_in_plain_coloured_and_json_logs_but_not_in_the_text_of_a_message() {
        let coloured = "\u{1b}[2m2026-01-01T00:00:00Z\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m relay: broken";
        assert!(is_error(&without_colours(coloured)));
        assert!(is_error("2026-01-01T00:00:00Z ERROR store: broken"));
        assert!(is_error("{\"timestamp\":\"…\",\"level\":\"ERROR\"}"));
        assert!(!is_error("2026-01-01T00:00:00Z  INFO relay: the destination answered ERROR"));
    }
}
