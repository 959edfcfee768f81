//! `cargo dev`: builds and installs everything that a gateway on this machine needs, shows the progress, and then becomes the
//! program `dev`, which starts the gateway.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread::{self, JoinHandle};

use prepare::options::{HELP, Options};
use prepare::program::{self, Profile};
use prepare::{PREPARED, Result, node, say, worker};

/// What the gateway on this machine is made of, besides the Worker.
const PROGRAMS: [&str; 2] = ["tidegate", "dev"];

/// Said before the first of several minutes.
const PLAN: &str = "\
preparing the first start, which takes about six minutes on two cores; later ones take seconds
    cargo compiles the relay, the Worker and what starts them; its progress follows
    npm installs wrangler, workerd and PostgreSQL at the same time";

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Options { help: true, .. }) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(options) => options,
        Err(error) => return failed(&error),
    };
    match prepare(&options) {
        // This process becomes the program, so that signals reach it.
        Ok(program) => {
            let mut command = Command::new(&program);
            command.args(std::env::args_os().skip(1)).env(PREPARED, "1");
            failed(&format!("cannot start {}: {}", program.display(), command.exec()))
        }
        Err(error) => failed(&error),
    }
}

/// Installs and builds what is missing, and gives the program that starts everything.
fn prepare(options: &Options) -> Result<PathBuf> {
    // What would fail after minutes fails now.
    options.check_ports()?;
    node::check_node()?;
    if !PROGRAMS.iter().all(|name| program::path(name, Profile::Dev).is_file()) {
        say(PLAN);
    }
    // npm waits for the network, while cargo needs the processors.
    let packages = beside(node::packages);
    // The Worker is compiled beside the relay, whose last, large crate uses one processor only.
    let worker = if worker::is_current(&worker::sources()?) {
        beside(move || finished(packages).map(drop))
    } else {
        program::build_shown(&["build-worker"], Profile::Dev)?;
        beside(move || {
            finished(packages)?;
            worker::build_with(&program::path("build-worker", Profile::Dev))
        })
    };
    program::build_shown(&PROGRAMS, Profile::Dev)?;
    if !worker.is_finished() {
        say("waiting for the Worker");
    }
    finished(worker)?;
    Ok(program::path("dev", Profile::Dev))
}

/// Does something at the same time. If it fails, the whole process ends: what else it runs ends with it.
fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> JoinHandle<T> {
    thread::spawn(move || {
        work().unwrap_or_else(|error| {
            say(&error);
            std::process::exit(1)
        })
    })
}

fn finished<T>(work: JoinHandle<T>) -> Result<T> {
    work.join().map_err(|_| "a preparation panicked".to_owned())
}

fn failed(error: &str) -> ExitCode {
    say(error);
    ExitCode::FAILURE
}
