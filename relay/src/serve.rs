//! `tidegate serve`: wires the parts together, runs them under supervision, and shuts them down within a given time.

pub(crate) mod parts;
mod tasks;

use std::net::SocketAddr;

use store::Pool;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::parts::Parts;
use self::tasks::Tasks;
use crate::config::Config;
use crate::supervise::Supervisor;
use crate::{descriptors, history, terminal};

/// Runs the relay until SIGTERM or SIGINT, or until one of its tasks fails.
///
/// # Errors
/// Returns what prevented the start, or which task failed.
pub async fn serve(config: Config) -> Result<(), String> {
    let files = open_files(&config);
    let pool = database(&config).await?;
    let supervisor = Supervisor::default();
    let parts = Parts::new(config, pool, &supervisor).await?;
    let app = parts.app.clone();
    let signals = Signals::new()?;
    let (listener, address) = listen(&app.config).await?;
    let tasks = Tasks::start(parts, &supervisor, listener, files);
    announce(&app.config, address);
    signals.or_failure(&supervisor).await;
    tasks.drain(&app).await;
    outcome(&supervisor)
}

/// Raises the limit of open files and warns if it is too low. Returns the limit; `None` if there is none.
fn open_files(config: &Config) -> Option<u64> {
    let files = descriptors::raise();
    if let Some(shortage) = descriptors::shortage(files, config) {
        tracing::warn!(shortage, "the limit of open files is too low for these settings");
    }
    files
}

/// Connects to the database, applies all migrations, and creates the partitions of the coming days.
async fn database(config: &Config) -> Result<Pool, String> {
    let say = |what: &'static str| move |error: store::Error| format!("{what}: {error}");
    let pool = Pool::new(&config.database_url, config.database_connections)
        .map_err(say("cannot connect with DATABASE_URL"))?;
    migrate(&pool).await?;
    history::make_days(&pool).await.map_err(say("cannot create the daily partitions"))?;
    Ok(pool)
}

/// Applies the migrations that the database does not have, and warns if a newer relay has migrated it further.
///
/// # Errors
/// Returns an error if a migration fails, or if the database does not fit the migrations of this relay.
pub async fn migrate(pool: &Pool) -> Result<(), String> {
    let found = store::migrate(pool).await.map_err(|error| format!("the database migration failed: {error}"))?;
    let known = store::newest_migration();
    if found > known {
        tracing::warn!(
            found,
            known,
            "the database was migrated by a newer relay; this relay keeps working on it for one version: upgrade it"
        );
    }
    Ok(())
}

/// Listens for the REST API. Also returns the address.
async fn listen(config: &Config) -> Result<(TcpListener, SocketAddr), String> {
    let address = config.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!(
            "cannot listen on {address}: {error}; set TIDEGATE_LISTEN to a different address, or stop the process that \
             uses it"
        )
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok((listener, address))
}

/// Announces that the relay runs. The process that started it reads its address from this one line on standard output.
fn announce(config: &Config, address: SocketAddr) {
    terminal::line(&format!("relay listening on http://{address}"));
    tracing::info!(%address, edge = %config.edge_url, queues = config.queue.queue_ids.len(), "the relay has started");
}

/// The signals that end the relay.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for a signal, or for a task that fails.
    async fn or_failure(mut self, supervisor: &Supervisor) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = supervisor.failure() => {}
        }
    }
}

/// Returns an error if any task has failed.
fn outcome(supervisor: &Supervisor) -> Result<(), String> {
    match supervisor.failures().first() {
        None => Ok(()),
        Some(failure) => Err(format!("the relay shut down because of a failure: {failure}")),
    }
}
