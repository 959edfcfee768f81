//! The state of the database, for `doctor` and the readiness check.

use time::OffsetDateTime;

use crate::{Error, Pool, Result};

pub struct Health {
    pub version: String,
    pub version_number: i32,
    pub fsync: bool,
    pub now: OffsetDateTime,
    /// The newest migration that has been applied; `None` if there is none.
    pub migration: Option<i64>,
}

/// The time by the database's clock.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn now(pool: &Pool) -> Result<OffsetDateTime> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(pool).await.map_err(Error::from)
}

/// Queries the database's version, settings, time and migrations.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn look(pool: &Pool) -> Result<Health> {
    let row = sqlx::query!(
        r#"select current_setting('server_version') as "version!", current_setting('server_version_num')::int as "number!",
                  current_setting('fsync') as "fsync!", clock_timestamp() as "now!",
                  to_regclass('_sqlx_migrations') is not null as "migrated!""#
    )
    .fetch_one(pool)
    .await?;
    let migration = if row.migrated {
        // Not a checked query: the table is created by the first migration that runs.
        sqlx::query_scalar("select max(version) from _sqlx_migrations where success").fetch_one(pool).await?
    } else {
        None
    };
    Ok(Health { version: row.version, version_number: row.number, fsync: row.fsync == "on", now: row.now, migration })
}

/// The standby servers that replicate this database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standbys {
    pub connected: i64,
    /// How many of them have a state that this role may see: all, or none without the role `pg_monitor`.
    pub visible: i64,
    /// How many of the visible ones a commit waits for.
    pub synchronous: i64,
    /// The setting `synchronous_standby_names`. If it is empty, a commit waits for no standby.
    pub names: String,
}

/// Queries which servers replicate this database.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn standbys(pool: &Pool) -> Result<Standbys> {
    sqlx::query_as!(
        Standbys,
        r#"select count(*) as "connected!", count(sync_state) as "visible!",
                  count(*) filter (where sync_state in ('sync', 'quorum')) as "synchronous!",
                  current_setting('synchronous_standby_names') as "names!"
           from pg_stat_replication"#
    )
    .fetch_one(pool)
    .await
    .map_err(Error::from)
}
