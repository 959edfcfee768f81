//! The process that drives Chromium: a command is a line of JSON, and so is its answer.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::oneshot;

use crate::error::{Doing as _, Error, Result};
use crate::place;
use crate::process::{Process, Signal};

const STARTS_WITHIN: Duration = Duration::from_secs(120);

/// How long the driver may answer after the time limit of a command: it ends the command a moment later than Playwright
/// does, and then describes the page.
const GRACE: Duration = Duration::from_secs(20);

/// The id of the line that the driver writes when Chromium has started.
const STARTED: u64 = 0;

type Answer = std::result::Result<Value, String>;

/// Who waits for the answer to which command; `None` after the last answer.
type Waiting = Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>;

/// A running driver with its Chromium.
#[derive(Debug)]
pub(super) struct Driver {
    running: Mutex<Option<Running>>,
    waiting: Arc<Waiting>,
    last_id: AtomicU64,
    version: String,
}

#[derive(Debug)]
struct Running {
    process: Process,
    /// `None` once the driver has been asked to end.
    input: Option<ChildStdin>,
    folder: PathBuf,
}

impl Driver {
    /// Starts the driver, and waits until Chromium has started.
    pub(super) async fn start(command: &mut Command) -> Result<Arc<Self>> {
        // For the files of Chromium. They are removed even if the driver is killed.
        let folder = place::temporary("chromium")?;
        command.env("TMPDIR", &folder);
        let (process, input, output) = Process::start_with_pipes("chromium", command, Signal::Term, Some(&folder))
            .inspect_err(|_| {
                let _ = std::fs::remove_dir_all(&folder);
            })?;
        let mut driver = Self {
            running: Mutex::new(Some(Running { process, input: Some(input), folder })),
            waiting: Arc::new(Mutex::new(Some(HashMap::new()))),
            last_id: AtomicU64::new(STARTED),
            version: String::new(),
        };
        let started = driver.expect_answer(STARTED).map_err(Error::new)?;
        read_answers(output, Arc::clone(&driver.waiting))?;
        let version = driver.answer(started, STARTS_WITHIN).await;
        let version = version.map_err(|error| Error::new(format!("cannot start Chromium: {error}")))?;
        version.as_str().unwrap_or_default().clone_into(&mut driver.version);
        Ok(Arc::new(driver))
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Runs a command, which has a time limit.
    pub(super) async fn run(&self, fields: Value, limit: Duration) -> Answer {
        let answer = self.send(fields, limit)?;
        self.answer(answer, limit + GRACE).await
    }

    /// Sends a command without waiting for its answer, which is in the receiver.
    pub(super) fn send(
        &self,
        mut fields: Value,
        limit: Duration,
    ) -> std::result::Result<oneshot::Receiver<Answer>, String> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        fields["id"] = id.into();
        fields["timeout"] = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).into();
        let answer = self.expect_answer(id)?;
        let mut running = lock(&self.running);
        let Some(input) = running.as_mut().and_then(|running| running.input.as_mut()) else {
            return Err("Chromium has been ended".to_owned());
        };
        // The driver always reads, so this does not wait.
        writeln!(input, "{fields}").map_err(|error| format!("Chromium does not listen: {error}"))?;
        Ok(answer)
    }

    fn expect_answer(&self, id: u64) -> std::result::Result<oneshot::Receiver<Answer>, String> {
        let (sender, receiver) = oneshot::channel();
        match lock(&self.waiting).as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(self.ended()),
        };
        Ok(receiver)
    }

    async fn answer(&self, answer: oneshot::Receiver<Answer>, limit: Duration) -> Answer {
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.ended()),
            Err(_) => Err(format!("the driver of Chromium did not answer within {limit:?}")),
        }
    }

    fn ended(&self) -> String {
        let running = lock(&self.running);
        let log = running.as_ref().map(|running| running.process.tail(40)).unwrap_or_default();
        format!("Chromium has ended; the end of its log:\n{log}")
    }

    /// The folder of Chromium's files, and the process id of the driver.
    #[cfg(test)]
    pub(super) fn folder_and_process(&self) -> Option<(PathBuf, u32)> {
        lock(&self.running).as_ref().map(|running| (running.folder.clone(), running.process.id()))
    }

    /// Ends the driver and Chromium, and removes their files.
    pub(super) fn end(&self) {
        if let Some(mut running) = lock(&self.running).take() {
            // The driver ends with its input, and then kills Chromium, which is not in the process group of the driver.
            drop(running.input.take());
            let _ = running.process.wait();
            let Running { process, input: _, folder } = running;
            drop(process);
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.end();
    }
}

/// Gives each answer to the command that waits for it, until there are no more.
fn read_answers(output: ChildStdout, waiting: Arc<Waiting>) -> Result<()> {
    let output = tokio::process::ChildStdout::from_std(output).doing(|| "cannot read from node".to_owned())?;
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(mut line) = serde_json::from_str::<Value>(&line) else { continue };
            let id = line["id"].as_u64();
            let sender = id.and_then(|id| lock(&waiting).as_mut().and_then(|waiting| waiting.remove(&id)));
            let answer = match line["error"].as_str() {
                Some(error) => Err(error.to_owned()),
                None => Ok(line["value"].take()),
            };
            // A command whose caller no longer waits has no receiver.
            if let Some(sender) = sender {
                let _ = sender.send(answer);
            }
        }
        // Dropping the senders ends those who wait.
        lock(&waiting).take();
    });
    Ok(())
}

/// Another test's panic leaves the value as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
