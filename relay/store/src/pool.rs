//! The connections to PostgreSQL. Each statement on them has a limit on the relay's side: a database that falls silent
//! without closing its connections, as in a failover or a loss of power, costs no more than that.
//!
//! The server cancels a statement a little earlier than that by its own limit, so what reaches the limit here has no
//! server behind it any more. Its connection is closed then and a new one opened at the next use, so that neither the
//! caller nor a place in the pool waits for it. TCP alone would wait for a quarter of an hour, or without end if nothing
//! is to be sent, and sqlx gives no access to the sockets.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Error, PgConnection, PgPool, Postgres};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

mod execute;

use self::execute::Statement;

/// The longest that a statement may take, by the server's limit, and then by the relay's, in which its rows also have to
/// arrive.
pub const STATEMENT: Limits = Limits { server: Duration::from_secs(13), here: Duration::from_secs(15) };

/// The same for a statement that may have to look through all of history.
pub const SEARCH: Limits = Limits { server: Duration::from_secs(25), here: Duration::from_secs(28) };

/// The same for a part of a search, which is made smaller if it takes longer.
pub const RANGE_LIMITS: Limits = Limits { server: Duration::from_secs(4), here: Duration::from_secs(6) };

/// The same for maintenance, for which nothing waits.
pub const MAINTENANCE: Limits = Limits { server: Duration::from_secs(60), here: Duration::from_secs(65) };

/// How long a statement may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// On the side of the server.
    pub server: Duration,
    /// On the side of the relay.
    pub here: Duration,
}

/// How long it may take to get a connection: to wait for one that is free and to open it.
pub const ACQUIRE_WITHIN: Duration = Duration::from_secs(10);

/// How long a connection may have idled and still be used without a look at whether it lives.
pub const PING_AFTER: Duration = Duration::from_secs(1);

/// How long such a look, or the end of a transaction that was not committed, may take.
pub const PING_WITHIN: Duration = Duration::from_secs(3);

/// A number of connections that are opened when they are needed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: PgPool,
    /// Held by the one change of the configuration that may use a connection.
    changes: Arc<tokio::sync::Mutex<()>>,
}

/// A statement was given up because the server did not answer; its connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the database did not respond within {} s; the connection was closed", .0.as_secs())]
struct Silent(Duration);

fn silence(limit: Duration) -> Error {
    Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, Silent(limit)))
}

impl Pool {
    /// Opens the pool. It connects when it is first used, so that a relay survives a database that starts later.
    ///
    /// # Errors
    /// Returns an error if the address cannot be read.
    pub fn new(database_url: &str, connections: u32) -> crate::Result<Self> {
        let options: PgConnectOptions = database_url.parse()?;
        let options = options.application_name("tidegate-relay").options([
            // A transaction that is left open keeps every dead row of every table; nothing here takes this long.
            ("idle_in_transaction_session_timeout", "10s".to_owned()),
            ("statement_timeout", format!("{}ms", STATEMENT.server.as_millis())),
            ("timezone", "UTC".to_owned()),
            // A plan that is kept is made for any values: it takes in every partition, and for a filter that may be left
            // out it cannot use the index. To plan costs a fraction of a millisecond, once for a batch.
            ("plan_cache_mode", "force_custom_plan".to_owned()),
            // The planner takes the head of a queue for the whole of it: compiling the statement takes a second, running
            // it two milliseconds.
            ("jit", "off".to_owned()),
        ]);
        let inner = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_WITHIN)
            // A ping before every use would double the statements; one that has idled may have been cut without a word.
            .test_before_acquire(false)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    match wait_for_disk(connection).await {
                        // The pool would log it as an error of ours. The first use fails, as on any connection that is cut.
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
        Ok(Self { inner, changes: Arc::default() })
    }

    /// A connection, for statements that have to run on the same one.
    ///
    /// # Errors
    /// Returns an error if none is free or can be opened within 10 seconds.
    pub async fn acquire(&self) -> crate::Result<Connection> {
        Ok(self.connection().await?)
    }

    async fn connection(&self) -> Result<Connection, Error> {
        Ok(Connection::new(Inner::Pooled(Some(self.inner.acquire().await?)), STATEMENT))
    }

    /// Waits for the first place among the changes of the configuration, in the order of the calls.
    pub(super) async fn change_place(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.changes).lock_owned().await
    }

    /// Begins a transaction. It is rolled back if it is dropped.
    ///
    /// # Errors
    /// Returns an error if there is no connection, or the statement fails.
    pub async fn begin(&self) -> crate::Result<Transaction> {
        Ok(Transaction::begin(self.connection().await?, "BEGIN".to_owned()).await?)
    }

    /// Begins a transaction whose statements may have to look through all of history, for which each has 25 seconds. It is
    /// rolled back if it is dropped.
    ///
    /// # Errors
    /// Returns an error if there is no connection, or the statement fails.
    pub async fn begin_search(&self) -> crate::Result<Transaction> {
        Ok(self.begin_within(SEARCH).await?)
    }

    /// Begins a transaction for a part of a search, whose statements have 4 seconds each. It is rolled back if it is
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
        Transaction::begin(connection, begin).await
    }

    /// A connection that does not belong to the pool any more: what it locks ends with it. Each statement has 60 seconds.
    ///
    /// # Errors
    /// Returns an error if there is no connection, or the statement that changes its limit fails.
    pub async fn detached(&self) -> crate::Result<Connection> {
        let inner = Inner::Detached(self.inner.acquire().await?.detach());
        let mut connection = Connection::new(inner, MAINTENANCE);
        let limit = format!("SET statement_timeout = {}", MAINTENANCE.server.as_millis());
        sqlx::raw_sql(AssertSqlSafe(limit)).execute(&mut connection).await?;
        Ok(connection)
    }

    /// Closes each connection as soon as it is not in use.
    pub async fn close(&self) {
        self.inner.close().await;
    }
}

/// A connection. It goes back to the pool when it is dropped, or is closed: if the server was silent, if a statement that
/// was interrupted does not end by its limit, or if it does not belong to the pool.
pub struct Connection {
    inner: Inner,
    /// How long each statement may take.
    limit: Duration,
    /// Set while a statement has not been answered to its end: when its limit is reached.
    until: Option<Instant>,
    /// Whether a transaction was begun on it and has not been committed.
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

    /// Gives back memory that large rows have taken: a buffer keeps the size of the largest.
    pub fn shrink_buffers(&mut self) {
        if let Ok((connection, _)) = self.parts() {
            connection.shrink_buffers();
        }
    }

    /// What runs statements, and the limit of the next one.
    fn parts(&mut self) -> Result<(&mut PgConnection, Statement<'_>), Error> {
        let connection = match &mut self.inner {
            Inner::Pooled(Some(connection)) => &mut **connection,
            Inner::Detached(connection) => connection,
            Inner::Pooled(None) => return Err(Error::PoolClosed),
        };
        Ok((connection, Statement::new(&mut self.until, self.limit)))
    }

    /// Runs migrations on it.
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
        // A statement that was interrupted goes on at the server, up to its limit. What it takes there counts as in use
        // for so long, so that calls that are given up again and again do not pile up.
        let within = self.until.map_or(PING_WITHIN, |until| until.saturating_duration_since(Instant::now()));
        if within.is_zero() || tokio::runtime::Handle::try_current().is_err() {
            drop(connection.detach());
            return;
        }
        tokio::spawn(give_back(connection, self.in_transaction, within));
    }
}

/// Gives a connection back to the pool, or closes it if the server does not answer within the time. The pool's own way
/// back would wait for the answer without end and keep the connection's place.
async fn give_back(mut connection: PoolConnection<Postgres>, in_transaction: bool, within: Duration) {
    let until = Instant::now() + within;
    if in_transaction {
        let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut *connection);
        if !matches!(tokio::time::timeout_at(until, rollback).await, Ok(Ok(_))) {
            drop(connection.detach());
            return;
        }
    }
    // It asks the server for what is not answered yet, and closes the connection if it is dropped meanwhile.
    let _ = tokio::time::timeout_at(until, connection.return_to_pool()).await;
}

/// A transaction; rolled back if it is dropped before it is committed.
#[derive(Debug)]
pub struct Transaction {
    connection: Connection,
}

impl Transaction {
    async fn begin(mut connection: Connection, statement: String) -> Result<Self, Error> {
        connection.in_transaction = true;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        Ok(Self { connection })
    }

    /// Commits it.
    ///
    /// # Errors
    /// Returns an error if the commit fails, or its answer does not arrive: then it may have been made.
    pub async fn commit(mut self) -> crate::Result<()> {
        sqlx::raw_sql("COMMIT").execute(&mut self.connection).await?;
        self.connection.in_transaction = false;
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

/// Makes the session's commits wait for the disk, whatever the role, the database or the server says: a message is
/// acknowledged after its commit. `remote_apply` waits for more than that and stays. It is set even if it is right, so that a
/// later change of the server's setting does not lower it.
async fn wait_for_disk(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!(
        "select set_config('synchronous_commit', case current_setting('synchronous_commit') when 'remote_apply'
                                                 then 'remote_apply' else 'on' end, false)"
    )
    .fetch_optional(connection)
    .await?;
    Ok(())
}

/// Whether nothing more can be done on the connection that gave this error.
fn has_ended_connection(error: &Error) -> bool {
    if matches!(error, Error::Io(_)) {
        return true;
    }
    // Class 57P is "operator intervention" that ends sessions (PostgreSQL, appendix A).
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.starts_with("57P"))
}
