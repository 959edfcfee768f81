//! `cargo dev`: the whole gateway on this machine, for a person.
//!
//! What it keeps (database, KV, R2, secrets) is in `target/dev`, so that the second start finds the first one's events.

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

/// Where everything of `cargo dev` is kept.
#[must_use]
pub fn folder() -> PathBuf {
    place::target().join("dev")
}

/// Prepares, starts, shows the demo where it is wanted, and runs until Ctrl-C.
///
/// # Errors
/// What went wrong and what to do; everything that was started has been stopped.
pub async fn run(options: Options) -> Result<()> {
    // Before anything is started: from here on Ctrl-C must not leave anything behind.
    let mut stop = Stop::listen()?;
    let _only_one = only_one()?;
    let mut stack = tokio::select! {
        stack = Stack::start(&options) => stack?,
        () = stop.asked() => return Ok(()),
    };
    let shown = tokio::select! {
        shown = show(&options, &mut stack) => shown,
        () = stop.asked() => Ok(()),
    };
    let result = match shown {
        Ok(()) if !stop.was_asked => tokio::select! {
            ended = stack.ended() => Err(ended),
            () = stop.asked() => Ok(()),
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

/// Two of them would share a database folder.
fn only_one() -> Result<File> {
    let folder = folder();
    let failed = || format!("cannot write {}", folder.display());
    std::fs::create_dir_all(&folder).doing(failed)?;
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("lock")).doing(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::new("`cargo dev` runs already in this repository; stop it with Ctrl-C first")),
    }
}

struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    was_asked: bool,
}

impl Stop {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).doing(|| "cannot listen for signals".to_owned());
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            was_asked: false,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.was_asked = true;
    }
}
