//! The command line of the relay.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use relay::config::{self, Problem};
use relay::terminal::error_line;
use relay::{doctor, send, serve};
use tracing_subscriber::EnvFilter;

/// Batches are allocated on one thread and freed on many. Under full load the C library's allocator takes one fifth of
/// the relay's time, mimalloc half of that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The command line is wrong (`EX_USAGE` of sysexits.h).
const BAD_USAGE: u8 = 64;

/// A setting is missing or wrong (`EX_CONFIG` of sysexits.h).
const BAD_CONFIGURATION: u8 = 78;

/// The command failed: see [`HELP`].
const FAILED: u8 = 1;

const HELP: &str = "\
Exit codes:
  0   the command succeeded, or `serve` shut down cleanly after a signal
  1   the command failed: the relay could not start, one of its tasks crashed, a check of `doctor` failed,
      or `send` failed, for instance because the event was not accepted
  64  the command line is wrong
  78  a setting of `serve`, `migrate` or `doctor` is missing or wrong; all such settings are listed

Settings are environment variables; the README describes them in the section \"Settings of the relay\".
`tidegate doctor` checks them.";

/// Tidegate's relay: pulls webhooks from the queue, stores, delivers and replays them.
#[derive(Parser)]
#[command(name = "tidegate", version, about, after_help = HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Migrate the database, then run the relay until SIGTERM or SIGINT
    Serve,
    /// Migrate the database to the schema of this relay, then exit
    Migrate,
    /// Check the settings, database, edge and queues, and suggest how to fix problems
    Doctor,
    /// Send a sample event to a source, signed the way its provider signs events
    Send(send::Arguments),
}

#[expect(clippy::disallowed_methods, reason = "every setting is read here")]
fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => return answered(&answer),
    };
    let variable = |name: &str| std::env::var(name).ok();
    let log = config::read_log(variable);
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if log.json {
        subscriber.json().init();
    } else {
        subscriber.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string()),
    };
    let result = match arguments.command {
        Command::Serve => match config::read(variable) {
            Ok(config) => runtime.block_on(serve::serve(config)),
            Err(problems) => return badly_configured(&problems),
        },
        Command::Migrate => match config::read_database_url(variable) {
            Ok(url) => runtime.block_on(migrate(&url)),
            Err(problems) => return badly_configured(&problems),
        },
        Command::Doctor => match config::read(variable) {
            Ok(config) => runtime.block_on(doctor::doctor(&config)),
            Err(problems) => return badly_configured(&problems),
        },
        Command::Send(arguments) => runtime.block_on(send::send(&arguments, variable)),
    };
    // The tasks that still run have had their time; the process ends now.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn migrate(url: &str) -> Result<(), String> {
    let pool = store::Pool::new(url, 4).map_err(|error| format!("cannot connect with DATABASE_URL: {error}"))?;
    serve::migrate(&pool).await?;
    tracing::info!("the database is up to date");
    Ok(())
}

/// Prints clap's output that replaces a command: help and version to standard output, errors to standard error.
fn answered(answer: &clap::Error) -> ExitCode {
    // If the terminal is gone, the exit code still tells the caller.
    let _ = answer.print();
    if answer.use_stderr() { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS }
}

fn badly_configured(problems: &[Problem]) -> ExitCode {
    error_line("tidegate: invalid settings:");
    for problem in problems {
        error_line(&format!("  {problem}"));
    }
    error_line("all settings are explained in the README, section \"Settings of the relay\"");
    ExitCode::from(BAD_CONFIGURATION)
}

fn failed(error: &str) -> ExitCode {
    error_line(&format!("tidegate: {error}"));
    ExitCode::from(FAILED)
}
