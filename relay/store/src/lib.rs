//! PostgreSQL: all SQL of the relay is in this module, a file per concern, in the order of the data.
//!
//! Every function is one statement or one transaction, and none of them is ever open across an HTTP call.
//!
//! # The order of locks
//!
//! A transaction that takes several of these locks takes them in this order, so that two of them never wait for each other:
//!
//! 1. the configuration, by its advisory lock: shared by [`configuration::hold`], which everything does that makes a
//!    delivery pending, or exclusive by [`configuration::Change`], which everything does that changes a source, a
//!    destination or a route. It is the first statement of its transaction.
//! 2. rows of `sources`, `destinations` and `routes`, and what belongs to them: `route_versions`, `destination_health`,
//!    `deleted_sources`, `deleted_destinations`
//! 3. the advisory lock of those who take shards, `replicas`, `shards`
//! 4. what arrives: the advisory locks of keys near midnight, `event_keys`, `events`, `event_duplicates`, `event_bodies`,
//!    `rejections`, `unreadable_messages`
//! 5. `pending_deliveries`, `settled_deliveries`, `attempts`
//! 6. `replays`, in which many count: late, so that they are locked for a moment only
//! 7. `source_counters`, `destination_counters`
//!
//! Several rows of one table are locked in the order of their keys, by a statement of their own if the plan of an update
//! could choose another order. For `pending_deliveries` that would be a statement more for every batch that is settled.
//! There [`settle`] alone waits for several rows; all others lock one row, or `skip locked` and come back for the rest.
//! Rows that a transaction inserts under ids of its own do not count: no other transaction waits for them.

use std::time::Duration;

pub mod admit;
pub mod configuration;
pub mod copies;
pub mod counters;
pub mod deleted_destinations;
pub mod deliveries;
pub mod destination_health;
pub mod destinations;
pub mod edge_checks;
pub mod events;
pub mod expedited;
pub mod health;
pub mod held;
mod keys;
pub mod leases;
pub mod new_event;
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
pub mod settle;
pub mod signals;
pub mod sources;
pub mod undecided;
pub mod unreadable;
pub mod waiting;

pub use self::pool::{Connection, Pool, Transaction, is_silence};

/// Who owns everything in a deployment that serves one team; the first migration makes its row.
pub const DEFAULT_CUSTOMER: shared::id::CustomerId =
    shared::id::CustomerId::from_uuid(uuid::Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));

/// After a read of more bytes than this the buffer of the connection is given back: it keeps the size of the largest row,
/// and every connection of the pool comes to such a read sooner or later.
const LARGE_BYTES: usize = 256 * 1024;

/// The most deliveries that one statement inserts.
pub const ROWS_AT_ONCE: usize = 5_000;

/// The migrations, compiled in.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// The longest that all migrations together may take.
pub const MIGRATE_WITHIN: Duration = Duration::from_secs(600);

/// Brings the tables to what this relay knows.
///
/// # Errors
/// Returns an error if the database cannot be reached, a migration fails, or all of them take longer than ten minutes; what
/// was committed stays, and the next call goes on from there.
pub async fn migrate(pool: &Pool) -> Result<(), sqlx::migrate::MigrateError> {
    let mut connection = pool.detached().await?;
    let migrated = tokio::time::timeout(MIGRATE_WITHIN, MIGRATOR.run(connection.migrating()?)).await;
    migrated.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
}

/// Whether the database refused a value that it was given, so that trying the same again would fail the same way.
#[must_use]
pub fn is_data_error(error: &sqlx::Error) -> bool {
    // Class 22 is "data exception", 23 "integrity constraint violation", 54 "program limit exceeded", such as a row that
    // is too large for its index (PostgreSQL, appendix A).
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
        && !partitions::is_missing(error)
}

/// Whether an error of the database passes by itself, whatever the statement was: the database is away, has no resources
/// to spare, or another transaction was in the way. A statement that takes too long does not count among them.
#[must_use]
pub fn passes_by_itself(error: &sqlx::Error) -> bool {
    // The classes are "connection exception", "invalid transaction state" (such as a server that became a standby),
    // "transaction rollback" (deadlocks), "insufficient resources" and "operator intervention", of which 57014 is a
    // statement that was cancelled because of its time (PostgreSQL, appendix A).
    let passing = ["08", "25", "40", "53", "57"];
    match error.as_database_error() {
        Some(error) => {
            error.code().is_some_and(|code| code != "57014" && passing.iter().any(|class| code.starts_with(class)))
        }
        None => matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
        ),
    }
}
