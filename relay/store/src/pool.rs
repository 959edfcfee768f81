//! The connections to PostgreSQL. Each statement has a time limit on the relay's side, so a database that stops
//! responding without closing its connections, as in a failover or a power loss, costs no more than that.
//!
//! The server's own limit cancels a statement a little earlier. If the limit here is reached, the server therefore no
//! longer responds. The connection is then closed and a new one is opened at the next use, so that neither the caller
//! nor a place in the pool waits for it. TCP alone would wait for a quarter of an hour, or forever if there is nothing
//! to send, and sqlx gives no access to the sockets.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Error, PgConnection, PgPool, Postgres};
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;

mod execute;

use self::execute::Statement;

/// The maximum time for a statement: first the server's limit, then the relay's, within which its rows also have to
/// arrive.
pub const STATEMENT: Limits = Limits { server: Duration::from_secs(13), here: Duration::from_secs(15) };

/// The limits of a statement that may have to read all of history.
pub const SEARCH: Limits = Limits { server: Duration::from_secs(25), here: Duration::from_secs(28) };

/// The limits of one part of a search. A part that takes longer is made smaller.
pub const RANGE_LIMITS: Limits = Limits { server: Duration::from_secs(4), here: Duration::from_secs(6) };

/// The limits of maintenance, which blocks nothing.
pub const MAINTENANCE: Limits = Limits { server: Duration::from_secs(60), here: Duration::from_secs(65) };

/// How long a statement may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// On the side of the server.
    pub server: Duration,
    /// On the side of the relay.
    pub here: Duration,
}

/// The maximum time to get a connection: to wait for a free one and to open it.
pub const ACQUIRE_WITHIN: Duration = Duration::from_secs(10);

/// A connection that has been idle for longer than this is checked with a ping before it is used.
pub const PING_AFTER: Duration = Duration::from_secs(1);

/// The maximum time for such a ping, or for the rollback of a transaction that was not committed.
pub const PING_WITHIN: Duration = Duration::from_secs(3);

/// A pool of connections that are opened on demand. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: PgPool,
    /// Held by the one change of the configuration that may use a connection.
    changes: Arc<tokio::sync::Mutex<()>>,
    /// Woken when a transaction has committed changes of events or deliveries.
    changed: Arc<Notify>,
}

/// A statement was given up because the server did not respond; its connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the database did not respond within {} s; the connection was closed", .0.as_secs())]
struct Silent(Duration);

fn silence(limit: Duration) -> Error {
    Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, Silent(limit)))
}

impl Pool {
    /// Opens the pool. It connects at its first use, so that a relay can start before its database.
    ///
    /// # Errors
    /// Returns an error if the URL cannot be parsed.
    pub fn new(database_url: &str, connections: u32) -> crate::Result<Self> {
        let options: PgConnectOptions = database_url.parse()?;
        let options = options.application_name("tidegate-relay").options([
            // An open transaction keeps dead rows of all tables from being removed. No transaction here is idle for
            // this long.
            ("idle_in_transaction_session_timeout", "10s".to_owned()),
            ("statement_timeout", format!("{}ms", STATEMENT.server.as_millis())),
            ("timezone", "UTC".to_owned()),
            // A cached plan has to fit all values: it includes every partition, and cannot use the index if a filter is
            // optional. Planning costs a fraction of a millisecond per batch.
            ("plan_cache_mode", "force_custom_plan".to_owned()),
            // The planner costs a queue as a whole although only its head is read. Compiling the statement would take a
            // second, running it two milliseconds.
            ("jit", "off".to_owned()),
        ]);
        let inner = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_WITHIN)
            // A ping before every use would double the statements. Only an idle connection may have been cut unnoticed.
            .test_before_acquire(false)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    match wait_for_disk(connection).await {
                        // The pool would log this as an error of the relay. The first use fails, as on any cut
                        // connection.
                        Err(error) if has_ended_connection(&error) => Ok(()),
                        result => result,
                    }
                })
            })
            .before_acquire(|connection, state| {
                Box::pin(async move {
                    if state.idle_for >= PING_AFTER {
                        let ping = tokio::time::timeout(PING_WITHIN, connection.ping());
                        ping.await.unwrap_or_else(|_| Err(silence(PING_WITHIN)))?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Ok(Self { inner, changes: Arc::default(), changed: Arc::default() })
    }

    /// A connection, for statements that have to run on the same connection.
    ///
    /// # Errors
    /// Returns an error if none is free or can be opened within 10 seconds.
    pub async fn acquire(&self) -> crate::Result<Connection> {
        Ok(self.connection().await?)
    }

    async fn connection(&self) -> Result<Connection, Error> {
        Ok(Connection::new(Inner::Pooled(Some(self.inner.acquire().await?)), STATEMENT))
    }

    /// Waits for the first place in the queue of configuration changes, in the order of the calls.
    pub(super) async fn change_place(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.changes).lock_owned().await
    }

    /// Begins a transaction. It is rolled back if it is dropped.
    ///
    /// # Errors
    /// Returns an error if there is no connection, or the statement fails.
    pub async fn begin(&self) -> crate::Result<Transaction> {
        Ok(Transaction::begin(self.connection().await?, "BEGIN".to_owned(), &self.changed).await?)
    }

    /// Begins a transaction whose statements may have to read all of history, with 25 seconds for each. It is rolled
    /// back if it is dropped.
    ///
    /// # Errors
    /// Returns an error if there is no connection, or the statement fails.
    pub async fn begin_search(&self) -> crate::Result<Transaction> {
        Ok(self.begin_within(SEARCH).await?)
    }

    /// Begins a transaction for one part of a search, with 4 seconds for each statement. It is rolled back if it is
    /// dropped.
    ///
    /// # Errors
    /// Returns an error if there is no connection, or the statement fails.
    pub async fn begin_range(&self) -> crate::Result<Transaction> {
        Ok(self.begin_within(RANGE_LIMITS).await?)
    }

    async fn begin_within(&self, limits: Limits) -> Result<Transaction, Error> {
        let mut connection = self.connection().await?;
        connection.limit = limits.here;
        let begin = format!("BEGIN; SET LOCAL statement_timeout = {}", limits.server.as_millis());
        Transaction::begin(connection, begin, &self.changed).await
    }

    /// A connection that no longer belongs to the pool: its session locks end with it. Each statement has 60 seconds.
    ///
    /// # Errors
    /// Returns an error if there is no connection, or the statement that sets the limit fails.
    pub async fn detached(&self) -> crate::Result<Connection> {
        let inner = Inner::Detached(self.inner.acquire().await?.detach());
        let mut connection = Connection::new(inner, MAINTENANCE);
        let limit = format!("SET statement_timeout = {}", MAINTENANCE.server.as_millis());
        sqlx::raw_sql(AssertSqlSafe(limit)).execute(&mut connection).await?;
        Ok(connection)
    }

    /// A pool that opens one connection to the same database, for a listener that keeps it.
    pub(super) fn single(&self) -> PgPool {
        let options = PgConnectOptions::clone(&self.inner.connect_options());
        PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_WITHIN).connect_lazy_with(options)
    }

    /// Records that changes of events or deliveries have been committed, so that they are announced.
    pub(super) fn note_changes(&self) {
        self.changed.notify_one();
    }

    /// Waits until this relay has committed changes of events or deliveries since the last call returned.
    pub async fn has_changed(&self) {
        self.changed.notified().await;
    }

    /// Closes each connection as soon as it is not in use.
    pub async fn close(&self) {
        self.inner.close().await;
    }
}

/// A connection. When it is dropped, it returns to the pool. It is closed instead if the server stopped responding, if
/// an interrupted statement does not end by its limit, or if it does not belong to the pool.
pub struct Connection {
    inner: Inner,
    /// The time limit of each statement.
    limit: Duration,
    /// When the limit of the current statement is reached; `None` if no response is outstanding.
    until: Option<Instant>,
    /// Whether it has a transaction that has not been committed.
    in_transaction: bool,
}

enum Inner {
    /// `None` only while it is being dropped.
    Pooled(Option<PoolConnection<Postgres>>),
    Detached(PgConnection),
}

impl Connection {
    fn new(inner: Inner, limits: Limits) -> Self {
        Self { inner, limit: limits.here, until: None, in_transaction: false }
    }

    /// Releases the memory that large rows have taken: a buffer keeps the size of the largest row.
    pub fn shrink_buffers(&mut self) {
        if let Ok((connection, _)) = self.parts() {
            connection.shrink_buffers();
        }
    }

    /// The connection that runs statements, and the limit of the next statement.
    fn parts(&mut self) -> Result<(&mut PgConnection, Statement<'_>), Error> {
        let connection = match &mut self.inner {
            Inner::Pooled(Some(connection)) => &mut **connection,
            Inner::Detached(connection) => connection,
            Inner::Pooled(None) => return Err(Error::PoolClosed),
        };
        Ok((connection, Statement::new(&mut self.until, self.limit)))
    }

    /// The connection for running migrations, without the relay's limit for each statement.
    pub(super) fn migrating(&mut self) -> Result<&mut PgConnection, Error> {
        self.parts().map(|(connection, _)| connection)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Inner::Pooled(pooled) = &mut self.inner else { return };
        let Some(connection) = pooled.take() else { return };
        // An interrupted statement continues on the server up to its limit. Until then the connection counts as in use,
        // so that repeated calls that are given up do not pile up on the server.
        let within = self.until.map_or(PING_WITHIN, |until| until.saturating_duration_since(Instant::now()));
        if within.is_zero() || tokio::runtime::Handle::try_current().is_err() {
            drop(connection.detach());
            return;
        }
        tokio::spawn(give_back(connection, self.in_transaction, within));
    }
}

/// Returns a connection to the pool, or closes it if the server does not respond within the time. The pool's own return
/// would wait for the response without a limit and keep the connection's place.
async fn give_back(mut connection: PoolConnection<Postgres>, in_transaction: bool, within: Duration) {
    let until = Instant::now() + within;
    if in_transaction {
        let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut *connection);
        if !matches!(tokio::time::timeout_at(until, rollback).await, Ok(Ok(_))) {
            drop(connection.detach());
            return;
        }
    }
    // It reads the outstanding responses, and closes the connection if it is dropped before it has finished.
    let _ = tokio::time::timeout_at(until, connection.return_to_pool()).await;
}

/// A transaction; rolled back if it is dropped before it is committed.
#[derive(Debug)]
pub struct Transaction {
    connection: Connection,
    changed: Arc<Notify>,
}

impl Transaction {
    async fn begin(mut connection: Connection, statement: String, changed: &Arc<Notify>) -> Result<Self, Error> {
        connection.in_transaction = true;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        Ok(Self { connection, changed: Arc::clone(changed) })
    }

    /// Commits it.
    ///
    /// # Errors
    /// Returns an error if the commit fails or the response to it is lost; in that case the transaction may have been
    /// committed.
    pub async fn commit(mut self) -> crate::Result<()> {
        sqlx::raw_sql("COMMIT").execute(&mut self.connection).await?;
        self.connection.in_transaction = false;
        Ok(())
    }

    /// Commits it, and has the changes of events and deliveries announced that it made. Without that, readers that wait
    /// for changes find them up to a second later.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn commit_changes(self) -> crate::Result<()> {
        let changed = Arc::clone(&self.changed);
        self.commit().await?;
        changed.notify_one();
        Ok(())
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// Makes the session's commits wait for the disk, whatever the role, the database or the server is configured to do: a
/// message is acknowledged after its commit. `remote_apply`, which waits for more than that, is kept. The setting is
/// written even if it is already right, so that a later change of the server's setting does not lower it.
async fn wait_for_disk(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!(
        "select set_config('synchronous_commit', case current_setting('synchronous_commit') when 'remote_apply'
                                                 then 'remote_apply' else 'on' end, false)"
    )
    .fetch_optional(connection)
    .await?;
    Ok(())
}

/// Whether the connection that returned this error can no longer be used.
fn has_ended_connection(error: &Error) -> bool {
    if matches!(error, Error::Io(_)) {
        return true;
    }
    // Class 57P is "operator intervention", which ends sessions (PostgreSQL, appendix A).
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.starts_with("57P"))
}
