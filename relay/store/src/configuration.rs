//! The configuration, read at one version, and its locks.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use model::destination::DestinationState;
use model::poison::Poison;
use shared::id::{CustomerId, DestinationId, RouteId, SourceId};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgQueryResult;
use time::OffsetDateTime;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use uuid::Uuid;

use crate::column::As;
use crate::{Connection, Error, Kind, Pool, Result, Transaction};

/// How long a change waits in the queue for the configuration lock. For that time it keeps other transactions from
/// storing.
pub const WAIT: Duration = Duration::from_millis(100);

/// How long a change stays out of that queue before it waits again.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a change may wait in total: for earlier changes of this relay, and for transactions that hold the
/// configuration.
pub const TURN_WITHIN: Duration = Duration::from_secs(20);

/// Identifies a state of the configuration, from which something was read or by which something was decided.
///
/// Versions are only compared for equality: the revision can go back if the database is restored, but an identity is
/// never drawn twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version {
    /// The number of changes so far.
    pub revision: i64,
    /// Drawn at random by the change that created this version.
    pub identity: Uuid,
}

pub struct Rows {
    pub version: Version,
    pub sources: Vec<SourceRow>,
    pub destinations: Vec<DestinationRow>,
    pub routes: Vec<RouteRow>,
}

pub struct SourceRow {
    pub id: SourceId,
    pub customer_id: CustomerId,
    pub name: String,
    pub provider: String,
    pub config: serde_json::Value,
}

#[derive(Debug, Clone)]
pub struct DestinationRow {
    pub id: DestinationId,
    pub customer_id: CustomerId,
    pub name: String,
    pub url: String,
    pub shard: i16,
    pub signing_secrets_sealed: String,
    pub headers_sealed: Option<String>,
    pub rate_limit: Option<i32>,
    pub rate_per: Option<String>,
    pub max_concurrency: i32,
    pub timeout_ms: i32,
    pub retry: serde_json::Value,
    pub append_query: bool,
    pub state: DestinationState,
    pub state_changed_at: OffsetDateTime,
    pub moved_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

pub struct RouteRow {
    pub id: RouteId,
    pub source_id: SourceId,
    pub destination_id: DestinationId,
    /// The types of events that it takes; empty if it takes every event.
    pub types: Vec<String>,
    pub filter: Option<String>,
    pub transform: Option<String>,
    pub order_key: Option<String>,
    pub poison: Poison,
    pub enabled: bool,
    pub version: i32,
}

/// The version alone, to find out whether anything has changed.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn version(database: impl sqlx::PgExecutor<'_>) -> Result<Version> {
    sqlx::query_as!(Version, "select revision, identity from configuration")
        .fetch_one(database)
        .await
        .map_err(Error::from)
}

/// Keeps the configuration unchanged until the transaction ends. Any number of transactions can hold it at a time. A
/// batch that was routed by a revision is thus committed before the next revision. It is the first lock of its
/// transaction, and a separate statement, because the following statements have to see what was committed while it
/// waited.
///
/// For short transactions. A transaction that may take longer calls [`hold_for_long`].
///
/// # Errors
/// Returns an error if the query fails.
pub async fn hold(connection: &mut Connection) -> Result<()> {
    sqlx::query!("select pg_advisory_xact_lock_shared(hashtext('tidegate configuration'))").execute(connection).await?;
    Ok(())
}

/// Like [`hold`], for a transaction that may take longer than about 100 ms, for instance because it stores a large
/// body. It waits until no change is waiting: otherwise, an endless series of overlapping long transactions would keep
/// a change from its turn.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn hold_for_long(connection: &mut Connection) -> Result<()> {
    sqlx::query!("select pg_advisory_xact_lock_shared(hashtext('tidegate long configuration'))")
        .execute(&mut *connection)
        .await?;
    hold(connection).await
}

/// A transaction that changes a source, a destination or a route. It locks the configuration before anything else. So,
/// while it waits for the transactions that hold the configuration (see [`hold`]), it has locked no row that they may
/// need. It is rolled back if it is dropped.
///
/// The changes of all replicas run one after the other: no other change comes between the reads and the writes of one
/// change.
#[derive(Debug)]
pub struct Change {
    // Dropped before the place, so that the next change of this relay begins after this one has ended.
    transaction: Transaction,
    /// The first place among the changes of this relay. The changes behind it wait in memory and take no connection.
    _place: OwnedMutexGuard<()>,
}

impl Change {
    /// Begins a change when no other change is running.
    ///
    /// # Errors
    /// Returns an error if a query fails, or if it does not get its turn within [`TURN_WITHIN`].
    pub async fn begin(pool: &Pool) -> Result<Self> {
        let until = Instant::now() + TURN_WITHIN;
        let place = tokio::time::timeout_at(until, pool.change_place()).await;
        let place = place.map_err(|_| Error::took_longer_than(TURN_WITHIN))?;
        let mut transaction = pool.begin().await?;
        take_turn(&mut transaction, until).await?;
        Ok(Self { transaction, _place: place })
    }

    /// Commits it and returns the new version.
    ///
    /// # Errors
    /// Returns an error if a query fails; then nothing was written, or the response to the commit was lost.
    pub async fn commit(mut self) -> Result<Version> {
        let version = sqlx::query_as!(
            Version,
            "update configuration set revision = revision + 1, identity = gen_random_uuid() returning revision, identity"
        )
        .fetch_one(&mut *self)
        .await?;
        self.transaction.commit().await?;
        Ok(version)
    }

    /// Commits a change of something that only has to be alone with the configuration, and is no part of it. The
    /// version stays.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub(crate) async fn commit_unchanged(self) -> Result<()> {
        self.transaction.commit().await
    }

    /// Commits like [`Self::commit`] if the change has affected any row. Otherwise there is nothing to commit and no
    /// new version.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn commit_if_any(self, changed: &PgQueryResult) -> Result<Option<Version>> {
        if changed.rows_affected() == 0 {
            return Ok(None);
        }
        self.commit().await.map(Some)
    }
}

impl Deref for Change {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

impl DerefMut for Change {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.transaction
    }
}

/// Waits, at most until `until`, for the transactions that hold the configuration (see [`hold`]), and locks it
/// exclusively.
///
/// Transactions that arrive after a waiting change wait too, because PostgreSQL grants a lock in order. So the change
/// leaves the queue after [`WAIT`] and returns after [`PAUSE`]. In the meantime, no long transaction begins.
async fn take_turn(transaction: &mut Transaction, until: Instant) -> Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('tidegate long configuration'))")
        .execute(&mut **transaction)
        .await?;
    // Without the savepoint, the first wait that times out would abort the transaction.
    let limited = format!("SAVEPOINT turn; SET LOCAL lock_timeout = {}", WAIT.as_millis());
    loop {
        sqlx::raw_sql(AssertSqlSafe(limited.as_str())).execute(&mut **transaction).await?;
        let taken = sqlx::query!("select pg_advisory_xact_lock(hashtext('tidegate configuration'))")
            .execute(&mut **transaction)
            .await
            .map_err(Error::from);
        match taken {
            Ok(_) => break,
            Err(error) if error.kind() == Kind::Locked && Instant::now() < until => {
                sqlx::raw_sql("ROLLBACK TO SAVEPOINT turn; RELEASE SAVEPOINT turn").execute(&mut **transaction).await?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
    sqlx::raw_sql("SET LOCAL lock_timeout = 0").execute(&mut **transaction).await?;
    Ok(())
}

/// Reads the whole configuration from one state of the database.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn read(pool: &Pool) -> Result<Rows> {
    let mut transaction = pool.begin().await?;
    sqlx::query!("set transaction isolation level repeatable read, read only").execute(&mut *transaction).await?;
    let version = version(&mut *transaction).await?;
    let sources = sqlx::query_as!(
        SourceRow,
        r#"select id as "id!: As<SourceId>", customer_id as "customer_id!: As<CustomerId>", name, provider, config
           from sources"#
    )
    .fetch_all(&mut *transaction)
    .await?;
    let destinations = sqlx::query_as!(
        DestinationRow,
        r#"select id as "id!: As<DestinationId>", customer_id as "customer_id!: As<CustomerId>", name, url, shard,
                  signing_secrets_sealed, headers_sealed, rate_limit, rate_per, max_concurrency, timeout_ms, retry,
                  append_query, state as "state!: As<DestinationState>", state_changed_at, moved_at, updated_at
           from destinations"#
    )
    .fetch_all(&mut *transaction)
    .await?;
    let routes = sqlx::query_as!(
        RouteRow,
        r#"select id as "id!: As<RouteId>", source_id as "source_id!: As<SourceId>",
                  destination_id as "destination_id!: As<DestinationId>", types, filter, transform, order_key,
                  poison as "poison!: As<Poison>", enabled, version
           from routes order by id"#
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Rows { version, sources, destinations, routes })
}
