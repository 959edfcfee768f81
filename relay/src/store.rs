//! PostgreSQL: all SQL of the relay is in this module, a file per concern, in the order of the data.
//!
//! Every function is one statement or one transaction, and none of them is ever open across an HTTP call.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool};

pub mod admit;
pub mod configuration;
pub mod counters;
pub mod deliveries;
pub mod destination_health;
pub mod destinations;
pub mod edge_checks;
pub mod events;
pub mod health;
pub mod leases;
pub mod partitions;
pub mod pending;
pub mod rejections;
pub mod replays;
pub mod routes;
pub mod sealed;
pub mod settle;
pub mod sources;
pub mod undecided;
pub mod unreadable;

/// Who owns everything in a deployment that serves one team; the first migration makes its row.
pub const DEFAULT_CUSTOMER: shared::id::CustomerId =
    shared::id::CustomerId::from_uuid(uuid::Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));

/// The migrations, compiled in.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// How long a connection may have idled and still be used without a look at whether it lives.
const PING_AFTER: Duration = Duration::from_secs(1);

/// Opens the pool. It connects when it is first used, so that a relay survives a database that starts later.
///
/// # Errors
/// Where the address cannot be read.
pub fn connect(database_url: &str, connections: u32) -> Result<PgPool, sqlx::Error> {
    let options: PgConnectOptions = database_url.parse()?;
    let options = options.application_name("tidegate-relay").options([
        // A transaction that is left open keeps every dead row of every table; nothing here takes this long.
        ("idle_in_transaction_session_timeout", "10s"),
        ("statement_timeout", "60s"),
        ("timezone", "UTC"),
        // A plan that is kept is made for any values: it takes in every partition, and for a filter that may be left out
        // it cannot use the index. To plan costs a fraction of a millisecond, once for a batch.
        ("plan_cache_mode", "force_custom_plan"),
        // The planner takes the head of a queue for the whole of it: compiling the statement takes a second, running it
        // two milliseconds.
        ("jit", "off"),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .min_connections(2)
        .acquire_timeout(Duration::from_secs(10))
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
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options))
}

/// Makes the session's commits wait for the disk, whatever the role, the database or the server says: a message is
/// acknowledged after its commit. `remote_apply` waits for more than that and stays. It is set even if it is right, so that a
/// later change of the server's setting does not lower it.
async fn wait_for_disk(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "select set_config('synchronous_commit', case current_setting('synchronous_commit') when 'remote_apply'
                                                 then 'remote_apply' else 'on' end, false)"
    )
    .fetch_optional(connection)
    .await?;
    Ok(())
}

/// Whether nothing more can be done on the connection that gave this error.
fn has_ended_connection(error: &sqlx::Error) -> bool {
    if matches!(error, sqlx::Error::Io(_)) {
        return true;
    }
    // Class 57P is "operator intervention" that ends sessions (PostgreSQL, appendix A).
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.starts_with("57P"))
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
