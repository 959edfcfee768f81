//! PostgreSQL: all SQL of the relay is in this crate, one file per concern, in the order of the data.
//!
//! Most functions run one statement or one transaction. No transaction is open during an HTTP call.
//!
//! # The order of locks
//!
//! A transaction that takes several of these locks takes them in this order, so that no two transactions wait for each
//! other:
//!
//! 1. the configuration, by its advisory lock: shared by [`configuration::hold`], in every transaction that makes a
//!    delivery pending; exclusive by [`configuration::Change`], in every transaction that changes a source, a
//!    destination or a route. It is the first statement of its transaction.
//! 2. rows of `customers`, `sources`, `destinations` and `routes`, and their dependent rows: `route_versions`,
//!    `destination_health`, `deleted_sources`, `deleted_destinations`; then `tokens` and `sessions`, and `body_retention`
//!
//!    A chunk of an operation locks the row of `operations` before these; it never waits for that row.
//! 3. the advisory lock for taking shards, `replicas`, `shards`
//! 4. incoming data: the advisory locks of keys near midnight, `event_keys`, `events`, `event_copies`, `needed_bodies`,
//!    `event_bodies`, `rejections`, `unreadable_messages`
//!
//!    A release of an unreadable message notes the body afterwards, and then takes no other lock of these.
//! 5. `pending_deliveries`, `settled_deliveries`, `attempts`
//! 6. `replays`, whose rows many transactions update: late, so that they are locked only briefly
//! 7. `source_counters`, `destination_counters`
//!
//! `changes` has only rows that the transaction inserts. The triggers of the tables above write them.
//!
//! Several rows of one table are locked in the order of their keys, by a separate statement if the plan of an update
//! could choose another order. For `pending_deliveries` that would cost one more statement per settled batch. There
//! only [`settle`] waits for several rows. All other transactions lock one row, or use `skip locked` and process the
//! remaining rows later. Rows that a transaction inserts under new ids do not count: no other transaction waits for
//! them. `audit_entries` has only such rows. The row of `idempotency_keys` of a call is locked by that call alone, and
//! by a repetition of it in a transaction of one statement, which then locks its row of `idempotency_counts`.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, PgConnection};

pub mod admit;
pub mod audit;
pub mod body_retention;
pub mod body_search;
pub mod bulk;
pub mod changes;
mod column;
pub mod configuration;
pub mod copies;
pub mod counters;
pub mod customer_rates;
pub mod customers;
pub mod deleted_customers;
pub mod deleted_destinations;
pub mod deliveries;
pub mod destination_health;
pub mod destinations;
pub mod edge_checks;
mod error;
pub mod events;
pub mod expedited;
pub mod figures;
pub mod health;
pub mod held;
pub mod idempotency;
pub mod jobs;
mod keys;
pub mod leases;
pub mod new_event;
pub mod operations;
pub mod overview;
pub mod own;
pub mod owned;
pub mod partitions;
pub mod pending;
pub mod pool;
pub mod quarantine;
pub mod rejections;
pub mod replays;
pub mod route_versions;
pub mod routes;
pub mod sealed;
pub mod search;
pub mod sessions;
pub mod settle;
pub mod signals;
pub mod sources;
pub mod system;
pub mod tokens;
pub mod undecided;
pub mod unreadable;
pub mod waiting;

pub use self::error::{Constraint, Error, Kind, Limit, Result};
pub use self::pool::{Connection, Pool, Transaction};

/// The default customer. The migrations insert its row, and nothing deletes or renames it: it owns what was created
/// before there were other customers, an actor that names no customer acts for it, and the edge finds its sources by
/// their name alone.
pub const DEFAULT_CUSTOMER: shared::id::CustomerId =
    shared::id::CustomerId::from_uuid(uuid::Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));

/// After a read of more bytes than this, the connection's buffers are shrunk. A buffer keeps the size of the largest
/// row, and sooner or later every connection of the pool does such a read.
const LARGE_BYTES: usize = 256 * 1024;

/// The most deliveries that one statement inserts.
pub const ROWS_AT_ONCE: usize = 5_000;

/// The migrations, compiled in.
static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// The number of the newest migration, which creates the tables as this relay expects them.
#[must_use]
pub fn newest_migration() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The maximum time for all migrations together.
pub const MIGRATE_WITHIN: Duration = Duration::from_secs(600);

/// How long a statement of a migration waits for a lock. For that time it keeps other transactions from the table: they
/// wait behind it.
pub const MIGRATION_LOCK: Duration = Duration::from_secs(2);

/// How long a migration that did not get its locks stays out of their queues before it is tried again.
const MIGRATION_PAUSE: Duration = Duration::from_secs(3);

/// Migrates the tables to the version that this relay expects. If a newer relay has migrated them further, they stay
/// as they are: the relay of the version before works on them, so that relays can be restarted one after the other and
/// the version can be rolled back.
///
/// Other relays work meanwhile. A migration that needs a table for itself may have to wait for a long reader, such as a
/// backup, so it waits again and again for a short time.
///
/// Returns the number of the newest migration of the database afterwards.
///
/// # Errors
/// Returns an error if the database cannot be reached, a migration fails, or all of them together take longer than ten
/// minutes. Committed migrations stay, and the next call continues after them. Also returns an error if the database
/// has another content of a migration that this relay knows, or a migration that this relay does not know and that is
/// not newer than all that it knows.
pub async fn migrate(pool: &Pool) -> Result<i64> {
    let mut connection = pool.detached().await?;
    let limit = format!("SET lock_timeout = {}", MIGRATION_LOCK.as_millis());
    sqlx::raw_sql(AssertSqlSafe(limit)).execute(&mut connection).await?;
    let migrated = async {
        loop {
            match try_to_migrate(connection.migrating()?).await {
                Err(error) if error.kind() == Kind::Locked => {
                    tracing::warn!(%error, "a migration waits for other users of its tables; retrying");
                    tokio::time::sleep(MIGRATION_PAUSE).await;
                }
                migrated => return migrated,
            }
        }
    };
    let migrated = tokio::time::timeout(MIGRATE_WITHIN, migrated).await;
    migrated.map_err(|_| Error::took_longer_than(MIGRATE_WITHIN))?
}

async fn try_to_migrate(connection: &mut PgConnection) -> Result<i64> {
    match MIGRATOR.run(&mut *connection).await {
        // The versions are checked in their order and before any migration runs. So all unknown ones are newer.
        Err(MigrateError::VersionMissing(version)) if version > newest_migration() => {
            let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
            migrator.set_ignore_missing(true).run(&mut *connection).await?;
            // Not a checked query: the table is created by the first migration that runs.
            let newest = "select max(version) from _sqlx_migrations where success";
            sqlx::query_scalar(newest).fetch_one(connection).await.map_err(Error::from)
        }
        migrated => migrated.map(|()| newest_migration()).map_err(Error::from),
    }
}
