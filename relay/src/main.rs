//! The command line of the relay.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use relay::config::{self, Problem};
use relay::{doctor, send, serve, store};
use tracing_subscriber::EnvFilter;

/// A batch is read by one thread and let go of by many: under full load the C library's allocator takes a fifth of the
/// relay's time, this one half of that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A setting is missing or wrong (`EX_CONFIG` of sysexits.h).
const BAD_CONFIGURATION: u8 = 78;

/// It could not start, or something that it checked is not in order.
const FAILED: u8 = 1;

/// Tidegate's relay: pulls webhooks from the queue, stores, delivers and replays them.
#[derive(Parser)]
#[command(version, about, after_help = "Settings are environment variables; `relay doctor` checks them.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the relay until SIGTERM; migrates the database first
    Serve,
    /// Bring the database to the newest version and exit
    Migrate,
    /// Check settings, database, queue and edge, and say what to do
    Doctor,
    /// Send a source a sample event, signed as its provider signs
    Send(send::Arguments),
}

#[expect(clippy::disallowed_methods, reason = "every setting is read here")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
    // What still runs was given its time; the process ends now.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn migrate(url: &str) -> Result<(), String> {
    let pool = store::Pool::new(url, 4).map_err(|error| format!("DATABASE_URL cannot be used: {error}"))?;
    store::migrate(&pool).await.map_err(|error| format!("the database cannot be migrated: {error}"))?;
    tracing::info!("the database is up to date");
    Ok(())
}

#[expect(clippy::print_stderr, reason = "for the person at the terminal, whatever is logged")]
fn badly_configured(problems: &[Problem]) -> ExitCode {
    eprintln!("relay cannot start: {} of its settings need attention", problems.len());
    for problem in problems {
        eprintln!("  {problem}");
    }
    eprintln!("all settings are explained in the README, section \"Settings of the relay\"");
    ExitCode::from(BAD_CONFIGURATION)
}

#[expect(clippy::print_stderr, reason = "for the person at the terminal, whatever is logged")]
fn failed(error: &str) -> ExitCode {
    eprintln!("relay: {error}");
    ExitCode::from(FAILED)
}
