//! `cargo dev`: all of Tidegate on this machine, for development.
//!
//! Its data (database, KV, R2, secrets) is in `target/dev`, so the events of the first start are still there in the
//! second.

mod commands;
mod demo;
mod secrets;
mod stack;

use std::fs::File;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

pub use prepare::options::{HELP, Options};
pub use stack::Stack;

use harness::error::{Doing as _, Error, Result};
use harness::{place, tools};

/// The folder for all data of `cargo dev`.
#[must_use]
pub fn folder() -> PathBuf {
    place::target().join("dev")
}

/// Prepares and starts everything, shows the demo unless it is disabled, and runs until Ctrl-C.
///
/// # Errors
/// Returns an error that says what to do; everything that was started has been stopped.
pub async fn run(options: Options) -> Result<()> {
    // Before anything is started, so that Ctrl-C never leaves a process behind.
    let mut stop = Stop::listen()?;
    let _only_one = only_one()?;
    let mut stack = tokio::select! {
        stack = Stack::start(&options) => stack?,
        () = stop.requested() => return Ok(()),
    };
    let shown = tokio::select! {
        shown = show(&options, &mut stack) => shown,
        () = stop.requested() => Ok(()),
    };
    let result = match shown {
        Ok(()) if !stop.was_requested => tokio::select! {
            ended = stack.ended() => Err(ended),
            () = stop.requested() => Ok(()),
        },
        other => other,
    };
    tools::say("stopping everything");
    stack.stop().await?;
    result
}

async fn show(options: &Options, stack: &mut Stack) -> Result<()> {
    if !options.no_demo {
        demo::run(stack).await?;
    }
    stack.announce()?;
    Ok(())
}

/// Takes the lock of the folder: two instances would share a database folder.
fn only_one() -> Result<File> {
    let folder = folder();
    let failed = || format!("cannot write {}", folder.display());
    std::fs::create_dir_all(&folder).doing(failed)?;
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("lock")).doing(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::new("`cargo dev` is already running in this repository; stop it with Ctrl-C first")),
    }
}

struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    was_requested: bool,
}

impl Stop {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).doing(|| "cannot listen for signals".to_owned());
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            was_requested: false,
        })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.was_requested = true;
    }
}
