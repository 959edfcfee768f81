//! What the database knows of the deployment as a whole: its replicas, its size, its partitions, and the sources that
//! the edge has not confirmed.
//!
//! The statements read the catalogue and small tables of the configuration, never history.

use shared::id::SourceId;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::column::As;
use super::partitions::{Table, day_of_name};
use crate::{Error, Pool, Result};

/// The most replicas that are listed.
pub const MOST_REPLICAS: i64 = 100;

/// The most tables that are listed: more than there are.
pub const MOST_TABLES: i64 = 100;

/// The most sources that are listed.
pub const MOST_BEHIND: i64 = 20;

/// A replica that holds a lease, or held one until lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRow {
    pub id: Uuid,
    pub started_at: OffsetDateTime,
    /// The end of its lease.
    pub expires_at: OffsetDateTime,
    pub has_expired: bool,
    /// Whether it shuts down.
    pub leaving: bool,
    /// The number of shards that it owns.
    pub shards: i64,
}

/// The replicas, the oldest first.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn replicas(pool: &Pool) -> Result<Vec<ReplicaRow>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        ReplicaRow,
        r#"select id, started_at, expires_at, expires_at < now() as "has_expired!", leaving,
                  (select count(*) from shards where owner = replicas.id) as "shards!"
           from replicas order by started_at, id limit $1"#,
        MOST_REPLICAS
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}

/// The number of shards without an owner whose lease counts. Nothing is sent to their destinations.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn free_shards(pool: &Pool) -> Result<i64> {
    let mut search = pool.begin_range().await?;
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from shards
           where owner is null
                 or not exists (select from replicas where replicas.id = shards.owner and expires_at >= now())"#
    )
    .fetch_one(&mut *search)
    .await
    .map_err(Error::from)
}

/// The database as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseRow {
    pub version: String,
    pub now: OffsetDateTime,
    /// Its size on disk, in bytes.
    pub bytes: i64,
    /// The connections to it, of all programs.
    pub connections: i64,
    pub max_connections: i64,
}

/// Queries the version, the size and the connections of the database.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn database(pool: &Pool) -> Result<DatabaseRow> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        DatabaseRow,
        r#"select current_setting('server_version') as "version!", clock_timestamp() as "now!",
                  pg_database_size(current_database()) as "bytes!",
                  coalesce((select numbackends from pg_stat_database where datname = current_database()), 0)::bigint
                      as "connections!",
                  current_setting('max_connections')::bigint as "max_connections!""#
    )
    .fetch_one(&mut *search)
    .await
    .map_err(Error::from)
}

/// A table, with all its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    pub name: String,
    /// The table, if it has a partition for each day.
    pub history: Option<Table>,
    /// Its size on disk with indexes and large values, in bytes.
    pub bytes: i64,
    /// About how many rows it has, as PostgreSQL's statistics say; `None` if it has none yet.
    pub rows: Option<i64>,
    /// The number of partitions.
    pub partitions: i64,
    /// How many of these are being dropped: queries no longer see them.
    pub detached: i64,
    /// The days of the oldest and of the newest partition.
    pub oldest: Option<Date>,
    pub newest: Option<Date>,
}

/// The tables of Tidegate, the largest first.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn tables(pool: &Pool) -> Result<Vec<TableRow>> {
    let mut search = pool.begin_range().await?;
    let rows = sqlx::query!(
        r#"select name as "name!", sum(bytes)::bigint as "bytes!",
                  sum(estimate) filter (where estimate >= 0)::bigint as rows,
                  count(day) as "partitions!", count(day) filter (where not attached) as "detached!",
                  min(day) as oldest, max(day) as newest
           from (select case when relname ~ '_[0-9]{8}$' then left(relname::text, -9) else relname::text end as name,
                        case when relname ~ '_[0-9]{8}$' then right(relname::text, 8) end as day,
                        coalesce(pg_total_relation_size(pg_class.oid), 0) as bytes,
                        reltuples::bigint as estimate, inhrelid is not null as attached
                 from pg_class left join pg_inherits on inhrelid = pg_class.oid
                 where relnamespace = current_schema()::regnamespace and relkind = 'r') tables
           group by name order by 2 desc, 1 limit $1"#,
        MOST_TABLES
    )
    .fetch_all(&mut *search)
    .await?;
    let day = |text: Option<String>| text.as_deref().and_then(day_of_name);
    let rows = rows.into_iter().map(|row| TableRow {
        history: Table::from_name(&row.name),
        name: row.name,
        bytes: row.bytes,
        rows: row.rows,
        partitions: row.partitions,
        detached: row.detached,
        oldest: day(row.oldest),
        newest: day(row.newest),
    });
    Ok(rows.collect())
}

/// A source whose newest configuration the edge has not confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BehindRow {
    pub id: SourceId,
    pub name: String,
    pub customer: String,
    pub revision: i64,
    /// The revision that the edge has confirmed; 0 if it has confirmed none.
    pub edge_revision: i64,
    /// What the edge has answered, or why it could not be reached.
    pub error: Option<String>,
    pub updated_at: OffsetDateTime,
}

/// The sources of all customers whose newest configuration the edge has not confirmed, those that have waited longest
/// first; at most [`MOST_BEHIND`] and one more, which shows that there are more.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn behind_edge(pool: &Pool) -> Result<Vec<BehindRow>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        BehindRow,
        r#"select sources.id as "id!: As<SourceId>", sources.name, customers.name as customer, revision, edge_revision,
                  edge_error as error, sources.updated_at
           from sources join customers on customers.id = customer_id
           where edge_revision < revision order by sources.updated_at limit $1"#,
        MOST_BEHIND + 1
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}
