//! One or more relays with everything they need: PostgreSQL, the local queue, receivers.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness::api::Source;
use harness::error::{Doing as _, Error, Result};
use harness::gateway::{Gateway, RelayOnly};
use harness::postgres::Server;
use harness::provider::Provider;
use harness::proxy::Proxy;
use harness::relay::{Relay, RelaySettings};
use harness::wait::try_until;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::sink::{self, Sink};

/// The size of an event's body.
pub const BODY_BYTES: usize = 1_000;

/// All parts of one case. When it is dropped, callers stop before the services that they call.
#[derive(Debug)]
pub struct Stack {
    /// The relays in addition to the one in `gateway`.
    pub others: Vec<Relay>,
    pub gateway: RelayOnly,
    pub server: Server,
    numbers: AtomicU64,
}

impl Stack {
    /// Starts a separate PostgreSQL, a queue and `replicas` relays, and waits until they share the shards.
    ///
    /// # Errors
    /// Returns an error if a part does not start.
    pub async fn start(replicas: usize) -> Result<Self> {
        let server = Server::start_private().await?;
        let mut gateway = Gateway::relay_only_on_server(&server).await;
        // A case may provoke errors in the log; lost events are counted.
        gateway.relay.expect_errors();
        let mut others = Vec::new();
        for _ in 1..replicas {
            let mut relay = gateway.another_relay().await;
            relay.expect_errors();
            others.push(relay);
        }
        gateway.shared_by(replicas, Duration::from_secs(60)).await;
        Ok(Self { others, gateway, server, numbers: AtomicU64::new(0) })
    }

    /// Starts one relay of a program, on an empty database that it migrates; `None` is the program of this repository.
    ///
    /// # Errors
    /// Returns an error if a part does not start.
    pub async fn start_program(program: Option<&Path>) -> Result<Self> {
        let server = Server::start_private().await?;
        let with_program = |settings: RelaySettings| settings.with_program(program);
        let mut gateway = Gateway::relay_only_on_empty_database(&server, with_program).await;
        gateway.relay.expect_errors();
        gateway.shared_by(1, Duration::from_secs(60)).await;
        Ok(Self { others: Vec::new(), gateway, server, numbers: AtomicU64::new(0) })
    }

    /// Starts one relay with a proxy between it and its PostgreSQL.
    ///
    /// # Errors
    /// Returns an error if a part does not start.
    pub async fn start_by_proxy(change: impl FnOnce(RelaySettings) -> RelaySettings) -> Result<(Self, Proxy)> {
        let server = Server::start_private().await?;
        let (mut gateway, proxy) = Gateway::relay_only_by_proxy_on_server_with(&server, change).await;
        gateway.relay.expect_errors();
        gateway.shared_by(1, Duration::from_secs(60)).await;
        Ok((Self { others: Vec::new(), gateway, server, numbers: AtomicU64::new(0) }, proxy))
    }

    /// Creates a source.
    pub async fn source(&self, name: &str) -> Source {
        self.gateway.api.create_source(name, &Provider::standard_webhooks()).await
    }

    /// Creates a destination with a route from `source`; `more` holds further fields of the destination.
    pub async fn destination(&self, source: &Source, name: &str, url: &str, more: Value) {
        let destination = self.gateway.api.create_destination(name, url, more).await;
        self.gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    }

    /// Creates `count` sources, each with a fast destination of its own.
    ///
    /// # Errors
    /// Returns an error if no port is free.
    pub async fn lines(&self, count: usize) -> Result<Vec<(Source, Sink)>> {
        let mut lines = Vec::new();
        for number in 0..count {
            lines.push(self.line(&format!("line-{number}")).await?);
        }
        Ok(lines)
    }

    /// Creates a source and a fast destination with the same name.
    ///
    /// # Errors
    /// Returns an error if no port is free.
    pub async fn line(&self, name: &str) -> Result<(Source, Sink)> {
        let (source, sink) = (self.source(name).await, Sink::start(harness::receiver::Behaviour::Status(200)).await?);
        self.destination(&source, name, &sink.url(), json!({ "max_concurrency": 64 })).await;
        Ok((source, sink))
    }

    /// Puts an event into the queue whose scheduled time is `due_us`.
    pub fn push(&self, source: &Source, due_us: u64) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.gateway.push(source, &sink::body(number, due_us, BODY_BYTES));
    }

    /// All relays, starting with the one in `gateway`.
    #[must_use]
    pub fn relays(&self) -> Vec<&Relay> {
        std::iter::once(&self.gateway.relay).chain(&self.others).collect()
    }

    /// One of the relays.
    ///
    /// # Panics
    /// Panics if the index is too large.
    pub fn relay(&mut self, index: usize) -> &mut Relay {
        match index.checked_sub(1) {
            None => &mut self.gateway.relay,
            Some(other) => &mut self.others[other],
        }
    }

    /// Opens a connection to the relays' database.
    ///
    /// # Errors
    /// Returns an error if it cannot be reached.
    pub async fn connect(&self) -> Result<PgConnection> {
        self.gateway.database.connect().await
    }

    /// Runs a statement, and returns the number of rows that it changed.
    ///
    /// # Errors
    /// Returns an error if it fails.
    pub async fn execute(&self, statement: String) -> Result<u64> {
        let mut connection = self.connect().await?;
        let doing = || format!("cannot {}", statement.chars().take(60).collect::<String>());
        // The prepared data of a case need not survive a crash.
        sqlx::query("set synchronous_commit = off").execute(&mut connection).await.doing(doing)?;
        let done = sqlx::query(AssertSqlSafe(statement.as_str())).execute(&mut connection).await.doing(doing)?;
        connection.close().await.doing(doing)?;
        Ok(done.rows_affected())
    }

    /// Waits until the queue is empty and no delivery is pending, except those to the destinations in `but`.
    ///
    /// # Errors
    /// Returns an error after `timeout`.
    pub async fn settled(&self, but: &[&str], timeout: Duration) -> Result<()> {
        let mut connection = self.connect().await?;
        let but: Vec<String> = but.iter().map(|name| (*name).to_owned()).collect();
        try_until("all to be settled", timeout, async || {
            if self.gateway.queue.left() > 0 {
                return Err(format!("{:?}", self.gateway.queue.counters()));
            }
            // Destination by destination, so that a million rows of an excluded one cost nothing.
            let pending: Vec<String> = sqlx::query_scalar(
                "select name from destinations
                 where name <> all($1)
                   and exists (select from pending_deliveries where destination_id = destinations.id)",
            )
            .bind(&but)
            .fetch_all(&mut connection)
            .await
            .map_err(|error| error.to_string())?;
            if pending.is_empty() { Ok(()) } else { Err(format!("pending for {}", pending.join(", "))) }
        })
        .await
        .map_err(Error::new)
    }
}
