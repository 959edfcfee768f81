//! Finds the end of a range with a given number of rows, counted in an index that has the order of the ids.

use model::delivery::DeliveryState;
use shared::id::{DestinationId, SourceId};
use uuid::Uuid;

use super::{Order, Range};
use crate::{Error, Pool, Result};

/// Up to this many pending deliveries of some destinations are all read, in the order in which they are due, and sorted. If
/// there are more, they are not rare among all pending deliveries, which are then read in the order of their ids.
const FEW_PENDING: i64 = 10_000;

/// Which indexes fit the filters of a search for events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Events<'a> {
    /// Only events of these sources. `None` for all events.
    pub sources: Option<&'a [SourceId]>,
    /// Only events whose signature failed.
    pub in_quarantine: bool,
}

/// Which indexes fit the filters of a search for settled deliveries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settled<'a> {
    /// Only deliveries to these destinations. `None` for all deliveries.
    pub destinations: Option<&'a [DestinationId]>,
    pub state: Option<DeliveryState>,
}

/// The filter of a search for pending deliveries that an index may fit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pending<'a> {
    /// Only deliveries to these destinations. `None` for all deliveries.
    pub destinations: Option<&'a [DestinationId]>,
}

impl Events<'_> {
    /// The id of the last of `rows` events, or of fewer if they are of several sources; see [`super::Search::edge`].
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub async fn edge(self, pool: &Pool, order: Order, range: Range, rows: i64) -> Result<Option<Uuid>> {
        let mut furthest = None;
        if let Some(sources) = self.sources {
            let Some(edge) = events_of(pool, order, range, sources, rows).await? else { return Ok(None) };
            furthest = further(order, furthest, edge);
        }
        if self.in_quarantine {
            let Some(edge) = events(pool, order, range, true, rows).await? else { return Ok(None) };
            furthest = further(order, furthest, edge);
        }
        match furthest {
            Some(edge) => Ok(Some(edge)),
            None => events(pool, order, range, false, rows).await,
        }
    }
}

impl Settled<'_> {
    /// The id of the last of `rows` settled deliveries, or of fewer if they are of several destinations; see
    /// [`super::Search::edge`].
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub async fn edge(self, pool: &Pool, order: Order, range: Range, rows: i64) -> Result<Option<Uuid>> {
        let mut furthest = None;
        if let Some(destinations) = self.destinations {
            let Some(edge) = settled_of(pool, order, range, destinations, rows).await? else { return Ok(None) };
            furthest = further(order, furthest, edge);
        }
        // Succeeded deliveries have no index of their own: they are the majority.
        if let Some(state) = self.state.filter(|state| *state != DeliveryState::Succeeded) {
            let Some(edge) = settled(pool, order, range, Some(state), rows).await? else { return Ok(None) };
            furthest = further(order, furthest, edge);
        }
        match furthest {
            Some(edge) => Ok(Some(edge)),
            None => settled(pool, order, range, None, rows).await,
        }
    }
}

impl Pending<'_> {
    /// The id of the last of `rows` pending deliveries, newest first; see [`super::Search::edge`].
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub async fn edge(self, pool: &Pool, range: Range, rows: i64) -> Result<Option<Uuid>> {
        let mut search = pool.begin_range().await?;
        if let Some(destinations) = self.destinations {
            let of_destinations = sqlx::query_scalar!(
                r#"select count(*) as "count!"
                   from (select from pending_deliveries where destination_id = any($1) limit $2) few"#,
                &uuids(destinations, DestinationId::uuid),
                FEW_PENDING
            )
            .fetch_one(&mut *search)
            .await?;
            if of_destinations < FEW_PENDING {
                return Ok(None);
            }
        }
        sqlx::query_scalar!(
            "select id from pending_deliveries where id >= $1 and id < $2 order by id desc offset $3 limit 1",
            range.from,
            range.until,
            rows - 1
        )
        .fetch_optional(&mut *search)
        .await
        .map_err(Error::from)
    }
}

/// The id of the last of `rows` rejections, or of fewer if they are of several sources, newest first; see
/// [`super::Search::edge`].
///
/// # Errors
/// Returns an error if a query fails.
pub async fn rejections(pool: &Pool, range: Range, sources: Option<&[SourceId]>, rows: i64) -> Result<Option<Uuid>> {
    let mut search = pool.begin_range().await?;
    match sources {
        Some(sources) => sqlx::query_scalar!(
            r#"select edge.id as "id!"
               from unnest($3::uuid[]) owned (id) cross join lateral (
                   select id from rejections where id >= $1 and id < $2 and source_id = owned.id
                   order by id desc offset $4 limit 1
               ) edge
               order by edge.id desc limit 1"#,
            range.from,
            range.until,
            &uuids(sources, SourceId::uuid),
            rows_of_each(rows, sources.len()) - 1
        )
        .fetch_optional(&mut *search)
        .await
        .map_err(Error::from),
        None => sqlx::query_scalar!(
            "select id from rejections where id >= $1 and id < $2 order by id desc offset $3 limit 1",
            range.from,
            range.until,
            rows - 1
        )
        .fetch_optional(&mut *search)
        .await
        .map_err(Error::from),
    }
}

/// The id of the last of `rows` unreadable messages, newest first; see [`super::Search::edge`].
///
/// # Errors
/// Returns an error if a query fails.
pub async fn unreadable_messages(pool: &Pool, range: Range, rows: i64) -> Result<Option<Uuid>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_scalar!(
        "select id from unreadable_messages where id >= $1 and id < $2 order by id desc offset $3 limit 1",
        range.from,
        range.until,
        rows - 1
    )
    .fetch_optional(&mut *search)
    .await
    .map_err(Error::from)
}

/// The id of the last of `rows` entries of the audit log, newest first; see [`super::Search::edge`].
///
/// # Errors
/// Returns an error if a query fails.
pub async fn audit_entries(pool: &Pool, range: Range, object: Option<&str>, rows: i64) -> Result<Option<Uuid>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_scalar!(
        "select id from audit_entries where id >= $1 and id < $2 and ($3::text is null or object_id = $3)
         order by id desc offset $4 limit 1",
        range.from,
        range.until,
        object,
        rows - 1
    )
    .fetch_optional(&mut *search)
    .await
    .map_err(Error::from)
}

/// The later of the two edges. Up to it, the rows can be read by either index.
fn further(order: Order, furthest: Option<Uuid>, edge: Uuid) -> Option<Uuid> {
    Some(match (order, furthest) {
        (_, None) => edge,
        (Order::NewestFirst, Some(other)) => other.min(edge),
        (Order::OldestFirst, Some(other)) => other.max(edge),
    })
}

/// How many rows of each of several sources or destinations are at most `rows` together, but at least one.
fn rows_of_each(rows: i64, owners: usize) -> i64 {
    (rows / i64::try_from(owners).unwrap_or(i64::MAX).max(1)).max(1)
}

fn uuids<T: Copy>(ids: &[T], uuid: impl Fn(T) -> Uuid) -> Vec<Uuid> {
    ids.iter().map(|id| uuid(*id)).collect()
}

async fn events(pool: &Pool, order: Order, range: Range, in_quarantine: bool, rows: i64) -> Result<Option<Uuid>> {
    let mut search = pool.begin_range().await?;
    match order {
        Order::NewestFirst => sqlx::query_scalar!(
            "select id from events where id >= $1 and id < $2 and (not $3 or verification = 'failed')
             order by id desc offset $4 limit 1",
            range.from,
            range.until,
            in_quarantine,
            rows - 1
        )
        .fetch_optional(&mut *search)
        .await
        .map_err(Error::from),
        Order::OldestFirst => sqlx::query_scalar!(
            "select id from events where id >= $1 and id < $2 and (not $3 or verification = 'failed')
             order by id offset $4 limit 1",
            range.from,
            range.until,
            in_quarantine,
            rows - 1
        )
        .fetch_optional(&mut *search)
        .await
        .map_err(Error::from),
    }
}

/// The first of the edges of the sources: the range up to it has no more than `rows` of their events.
async fn events_of(pool: &Pool, order: Order, range: Range, sources: &[SourceId], rows: i64) -> Result<Option<Uuid>> {
    let (ids, skipped) = (uuids(sources, SourceId::uuid), rows_of_each(rows, sources.len()) - 1);
    let mut search = pool.begin_range().await?;
    match order {
        Order::NewestFirst => sqlx::query_scalar!(
            r#"select edge.id as "id!"
               from unnest($3::uuid[]) owned (id) cross join lateral (
                   select id from events where id >= $1 and id < $2 and source_id = owned.id
                   order by id desc offset $4 limit 1
               ) edge
               order by edge.id desc limit 1"#,
            range.from,
            range.until,
            &ids,
            skipped
        )
        .fetch_optional(&mut *search)
        .await
        .map_err(Error::from),
        Order::OldestFirst => sqlx::query_scalar!(
            r#"select edge.id as "id!"
               from unnest($3::uuid[]) owned (id) cross join lateral (
                   select id from events where id >= $1 and id < $2 and source_id = owned.id
                   order by id offset $4 limit 1
               ) edge
               order by edge.id limit 1"#,
            range.from,
            range.until,
            &ids,
            skipped
        )
        .fetch_optional(&mut *search)
        .await
        .map_err(Error::from),
    }
}

async fn settled(
    pool: &Pool,
    order: Order,
    range: Range,
    state: Option<DeliveryState>,
    rows: i64,
) -> Result<Option<Uuid>> {
    let mut search = pool.begin_range().await?;
    match order {
        Order::NewestFirst => sqlx::query_scalar!(
            "select id from settled_deliveries where id >= $1 and id < $2 and ($3::text is null or state = $3)
             order by id desc offset $4 limit 1",
            range.from,
            range.until,
            state.map(DeliveryState::name),
            rows - 1
        )
        .fetch_optional(&mut *search)
        .await
        .map_err(Error::from),
        Order::OldestFirst => sqlx::query_scalar!(
            "select id from settled_deliveries where id >= $1 and id < $2 and ($3::text is null or state = $3)
             order by id offset $4 limit 1",
            range.from,
            range.until,
            state.map(DeliveryState::name),
            rows - 1
        )
        .fetch_optional(&mut *search)
        .await
        .map_err(Error::from),
    }
}

/// The first of the edges of the destinations: the range up to it has no more than `rows` of their deliveries.
async fn settled_of(
    pool: &Pool,
    order: Order,
    range: Range,
    destinations: &[DestinationId],
    rows: i64,
) -> Result<Option<Uuid>> {
    let ids = uuids(destinations, DestinationId::uuid);
    let skipped = rows_of_each(rows, destinations.len()) - 1;
    let mut search = pool.begin_range().await?;
    match order {
        Order::NewestFirst => sqlx::query_scalar!(
            r#"select edge.id as "id!"
               from unnest($3::uuid[]) owned (id) cross join lateral (
                   select id from settled_deliveries where id >= $1 and id < $2 and destination_id = owned.id
                   order by id desc offset $4 limit 1
               ) edge
               order by edge.id desc limit 1"#,
            range.from,
            range.until,
            &ids,
            skipped
        )
        .fetch_optional(&mut *search)
        .await
        .map_err(Error::from),
        Order::OldestFirst => sqlx::query_scalar!(
            r#"select edge.id as "id!"
               from unnest($3::uuid[]) owned (id) cross join lateral (
                   select id from settled_deliveries where id >= $1 and id < $2 and destination_id = owned.id
                   order by id offset $4 limit 1
               ) edge
               order by edge.id limit 1"#,
            range.from,
            range.until,
            &ids,
            skipped
        )
        .fetch_optional(&mut *search)
        .await
        .map_err(Error::from),
    }
}
