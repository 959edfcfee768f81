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
//!    `destination_health`, `deleted_sources`, `deleted_destinations`
//! 3. the advisory lock for taking shards, `replicas`, `shards`
//! 4. incoming data: the advisory locks of keys near midnight, `event_keys`, `events`, `event_copies`, `event_bodies`,
//!    `rejections`, `unreadable_messages`
//! 5. `pending_deliveries`, `settled_deliveries`, `attempts`
//! 6. `replays`, whose rows many transactions update: late, so that they are locked only briefly
//! 7. `source_counters`, `destination_counters`
//!
//! Several rows of one table are locked in the order of their keys, by a separate statement if the plan of an update
//! could choose another order. For `pending_deliveries` that would cost one more statement per settled batch. There
//! only [`settle`] waits for several rows. All other transactions lock one row, or use `skip locked` and process the
//! remaining rows later. Rows that a transaction inserts under new ids do not count: no other transaction waits for
//! them.

use std::time::Duration;

pub mod admit;
mod column;
pub mod configuration;
pub mod copies;
pub mod counters;
pub mod customers;
pub mod deleted_destinations;
pub mod deliveries;
pub mod destination_health;
pub mod destinations;
pub mod edge_checks;
mod error;
pub mod events;
pub mod expedited;
pub mod health;
pub mod held;
mod keys;
pub mod leases;
pub mod new_event;
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
static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// The number of the newest migration, which creates the tables as this relay expects them.
#[must_use]
pub fn newest_migration() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The maximum time for all migrations together.
pub const MIGRATE_WITHIN: Duration = Duration::from_secs(600);

/// Migrates the tables to the version that this relay expects.
///
/// # Errors
/// Returns an error if the database cannot be reached, a migration fails, or all of them together take longer than ten
/// minutes. Committed migrations stay, and the next call continues after them.
pub async fn migrate(pool: &Pool) -> Result<()> {
    let mut connection = pool.detached().await?;
    let migrated = tokio::time::timeout(MIGRATE_WITHIN, MIGRATOR.run(connection.migrating()?)).await;
    Ok(migrated.map_err(|_| Error::took_longer_than(MIGRATE_WITHIN))??)
}
