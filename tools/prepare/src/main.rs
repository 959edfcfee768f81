//! `cargo dev`: builds and installs everything that Tidegate needs on this machine, shows the progress, and then
//! becomes the program `dev`, which starts Tidegate.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread::{self, JoinHandle};

use prepare::options::{HELP, Options};
use prepare::program::{self, Profile};
use prepare::{PREPARED, Result, node, say, worker};

/// The programs of Tidegate on this machine, in addition to the Worker.
const PROGRAMS: [&str; 2] = ["tidegate", "dev"];

/// Printed before a preparation of several minutes.
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

/// Installs and builds missing parts, and returns the path of the program that starts everything.
fn prepare(options: &Options) -> Result<PathBuf> {
    // These checks would otherwise fail after minutes.
    options.check_ports()?;
    node::check_node()?;
    if !PROGRAMS.iter().all(|name| program::path(name, Profile::Dev).is_file()) {
        say(PLAN);
    }
    // npm waits for the network while cargo needs the processors.
    let packages = concurrently(node::packages);
    // The Worker is compiled concurrently with the relay, whose last, large crate uses only one processor.
    let worker = if worker::is_current(&worker::sources()?) {
        concurrently(move || finished(packages).map(drop))
    } else {
        program::build_shown(&["build-worker"], Profile::Dev)?;
        concurrently(move || {
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

/// Runs `work` on a thread. If it fails, the whole process ends, and the programs that it started end with it.
fn concurrently<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> JoinHandle<T> {
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
