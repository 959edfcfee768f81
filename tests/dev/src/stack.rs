//! Everything that `cargo dev` starts.

use std::time::Duration;

use harness::edge::{Edge, EdgeSettings};
use harness::error::{Doing as _, Error, Result};
use harness::postgres::{Database, Server, Shutdown};
use harness::queue::{LocalQueue, Queue};
use harness::relay::{Relay, RelaySettings};
use harness::tools;
use serde_json::json;
use tokio::time::interval;

use super::Options;
use super::commands::Commands;
use super::secrets::{Secrets, write_private};

/// The origin of the web pages that may await jobs: where development servers usually serve them.
const PAGES: &str = "http://localhost:3000";

/// The running parts. Dropping this stops them at once; [`Stack::stop`] shuts them down cleanly.
#[derive(Debug)]
pub struct Stack {
    // Dropped in this order: callers before the services that they call.
    pub(super) demo: Option<super::demo::Destination>,
    pub(super) relay: Relay,
    pub(super) edge: Edge,
    pub(super) queue: LocalQueue,
    pub(super) secrets: Secrets,
    pub(super) commands: Commands,
    postgres: Option<Server>,
    database_url: String,
}

impl Stack {
    /// Prepares and starts all parts.
    ///
    /// # Errors
    /// Returns an error that says what is missing and what to do.
    pub async fn start(options: &Options) -> Result<Self> {
        options.check_ports().map_err(Error::new)?;
        let folder = super::folder();
        // A killed run leaves the file behind: a script that waits for it must not find the old one.
        let _ = std::fs::remove_file(folder.join("stack.json"));
        let secrets = Secrets::kept_in(&folder.join("secrets.json"))?;
        tools::blocking(|| {
            tools::node_packages()?;
            tools::worker()?;
            tools::relay().map(drop)
        })
        .await?;

        let queue = LocalQueue::start(0, Queue::recipe()).await.doing(|| "cannot start the local queue".to_owned())?;
        let edge_settings = EdgeSettings {
            port: options.edge_port,
            admin_token: secrets.edge_admin_token.clone(),
            seal_key: secrets.seal_key.clone(),
            data: Some(folder.join("edge")),
            internet: None,
            variables: Vec::new(),
        };
        tools::say("starting PostgreSQL, the local queue and the edge");
        let (database, edge) = tokio::join!(database(), Edge::start(&queue, edge_settings));
        let ((postgres, database_url), edge) = (database?, edge?);
        tools::say("starting the relay");
        let settings = RelaySettings::new(&database_url, &queue, edge.url(), edge.admin_token())
            .with("TIDEGATE_LISTEN", &format!("127.0.0.1:{}", options.relay_port))
            .with("TIDEGATE_ADMIN_TOKEN", &secrets.admin_token)
            .with("TIDEGATE_MASTER_KEY", &secrets.master_key)
            .with("TIDEGATE_CORS_ORIGINS", PAGES)
            .with("TIDEGATE_DASHBOARD", "design");
        let mut relay = Relay::start(settings).await?;
        // The developer reads the log; nothing is asserted about it.
        relay.expect_errors();
        let commands = Commands::write(&folder, &relay)?;
        Ok(Self { demo: None, relay, edge, queue, secrets, commands, postgres, database_url })
    }

    /// Writes `stack.json` for scripts, and prints the addresses and the folder.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn announce(&self) -> Result<()> {
        let file = super::folder().join("stack.json");
        let stack = json!({
            "relay": self.relay.url(),
            "edge": self.edge.url(),
            "token": self.relay.token(),
            "database_url": self.database_url,
            "queue": self.queue.url(),
        });
        let text = serde_json::to_vec_pretty(&stack).doing(|| "stack.json".to_owned())?;
        // A script that waits for the file must not read half of it.
        let unfinished = file.with_extension("unfinished");
        write_private(&unfinished, &text)?;
        std::fs::rename(&unfinished, &file).doing(|| format!("cannot write {}", file.display()))?;
        println!(
            "
Tidegate is running.
  relay     {relay}  (REST API under /v1, description at /openapi.json)
  dashboard {relay}/dashboard  (its design at /dashboard/design; sign in with the admin token)
  edge      {edge}
  database  {database}
  queue     {queue}  (faults on demand: /admin/faults, counters: /admin/counters, clock: /admin/clock)
  logs      {relay_log}
            {edge_log}
  commands  {api} /v1/events
            {tidegate} doctor
  for your own scripts, with the admin token: {file}
Ctrl-C stops everything. The data is kept in {folder}; delete that folder to start afresh.
",
            relay = self.relay.url(),
            edge = self.edge.url(),
            database = self.database_url,
            queue = self.queue.url(),
            relay_log = self.relay.log_file().display(),
            edge_log = self.edge.log_file().display(),
            api = self.commands.api,
            tidegate = self.commands.tidegate,
            file = file.display(),
            folder = super::folder().display(),
        );
        Ok(())
    }

    /// Waits until one of the programs ends unexpectedly, and returns an error that names it.
    pub async fn ended(&mut self) -> Error {
        let mut interval = interval(Duration::from_millis(500));
        loop {
            interval.tick().await;
            if let Some(status) = self.relay.ended() {
                let log = self.relay.log();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(20)..].join("\n");
                return Error::new(format!("the relay ended by itself ({status}); the end of its log:\n{end}"));
            }
            if self.edge.has_ended() {
                return Error::new(format!("the edge ended by itself; its log:\n{}", self.edge.log()));
            }
        }
    }

    /// Stops all parts, in the order of the data.
    ///
    /// # Errors
    /// Returns an error if something had to be killed.
    pub async fn stop(mut self) -> Result<()> {
        let _ = std::fs::remove_file(super::folder().join("stack.json"));
        let edge = self.edge.stop().await;
        let relay = self.relay.stop().await;
        drop(self.demo.take());
        if let Some(postgres) = self.postgres.as_mut() {
            postgres.stop(Shutdown::Fast).await?;
        }
        edge.and(relay.map(drop))
    }
}

/// The database: the one of `DATABASE_URL`, or else `tidegate` on an embedded server that keeps its data.
#[expect(clippy::disallowed_methods, reason = "DATABASE_URL selects the server")]
async fn database() -> Result<(Option<Server>, String)> {
    if let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
        return Ok((None, url));
    }
    let server = Server::start_persistent(&super::folder().join("postgres")).await?;
    let url = Database::ensure(&server, "tidegate").await?;
    Ok((Some(server), url))
}
