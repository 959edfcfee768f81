//! What `doctor` and the readiness check ask of the database.

use time::OffsetDateTime;

use crate::{Error, Pool, Result};

pub struct Health {
    pub version: String,
    pub version_number: i32,
    pub fsync: bool,
    pub now: OffsetDateTime,
    /// The newest migration that has been applied; `None` where there is none.
    pub migration: Option<i64>,
}

/// The time by the database's clock.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn now(pool: &Pool) -> Result<OffsetDateTime> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(pool).await.map_err(Error::from)
}

/// Asks the database about itself.
///
/// # Errors
/// Where it cannot be asked.
pub async fn look(pool: &Pool) -> Result<Health> {
    let row = sqlx::query!(
        r#"select current_setting('server_version') as "version!", current_setting('server_version_num')::int as "number!",
                  current_setting('fsync') as "fsync!", clock_timestamp() as "now!",
                  to_regclass('_sqlx_migrations') is not null as "migrated!""#
    )
    .fetch_one(pool)
    .await?;
    let migration = if row.migrated {
        // Not a checked query: the table is made by the first migration that is run.
        sqlx::query_scalar("select max(version) from _sqlx_migrations where success").fetch_one(pool).await?
    } else {
        None
    };
    Ok(Health { version: row.version, version_number: row.number, fsync: row.fsync == "on", now: row.now, migration })
}

/// The servers that replicate this one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standbys {
    pub connected: i64,
    /// Of how many this role may see the state: all of them, or none without the role `pg_monitor`.
    pub visible: i64,
    /// How many of those a commit waits for.
    pub synchronous: i64,
    /// The setting `synchronous_standby_names`. If it is empty, a commit waits for none.
    pub names: String,
}

/// Asks which servers replicate this one.
///
/// # Errors
/// If the database does not answer.
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
