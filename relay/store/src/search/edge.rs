//! Finds the end of a range with a given number of rows, counted in an index that has the order of the ids.

use model::delivery::DeliveryState;
use shared::id::{DestinationId, SourceId};
use uuid::Uuid;

use super::{Order, Range};
use crate::{Error, Pool, Result};

/// Up to this many pending deliveries of a destination are all read, in the order in which they are due, and sorted. If
/// there are more, they are not rare among all pending deliveries, which are then read in the order of their ids.
const FEW_PENDING: i64 = 10_000;

/// Which indexes fit the filters of a search for events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Events {
    pub source: Option<SourceId>,
    /// Only events whose signature failed.
    pub in_quarantine: bool,
}

/// Which indexes fit the filters of a search for settled deliveries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settled {
    pub destination: Option<DestinationId>,
    pub state: Option<DeliveryState>,
}

/// The filter of a search for pending deliveries that an index may fit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pending {
    pub destination: Option<DestinationId>,
}

impl Events {
    /// The id of the last of `rows` events; see [`super::Search::edge`].
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub async fn edge(self, pool: &Pool, order: Order, range: Range, rows: i64) -> Result<Option<Uuid>> {
        let mut furthest = None;
        for by in [self.source.map(|source| (Some(source), false)), self.in_quarantine.then_some((None, true))] {
            let Some((source, in_quarantine)) = by else { continue };
            let Some(edge) = events(pool, order, range, source, in_quarantine, rows).await? else { return Ok(None) };
            furthest = further(order, furthest, edge);
        }
        match furthest {
            Some(edge) => Ok(Some(edge)),
            None => events(pool, order, range, None, false, rows).await,
        }
    }
}

impl Settled {
    /// The id of the last of `rows` settled deliveries; see [`super::Search::edge`].
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub async fn edge(self, pool: &Pool, order: Order, range: Range, rows: i64) -> Result<Option<Uuid>> {
        // Succeeded deliveries have no index of their own: they are the majority.
        let state = self.state.filter(|state| *state != DeliveryState::Succeeded);
        let mut furthest = None;
        for by in [self.destination.map(|id| (Some(id), None)), state.map(|state| (None, Some(state)))] {
            let Some((destination, state)) = by else { continue };
            let Some(edge) = settled(pool, order, range, destination, state, rows).await? else { return Ok(None) };
            furthest = further(order, furthest, edge);
        }
        match furthest {
            Some(edge) => Ok(Some(edge)),
            None => settled(pool, order, range, None, None, rows).await,
        }
    }
}

impl Pending {
    /// The id of the last of `rows` pending deliveries, newest first; see [`super::Search::edge`].
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub async fn edge(self, pool: &Pool, range: Range, rows: i64) -> Result<Option<Uuid>> {
        let mut search = pool.begin_range().await?;
        if let Some(destination) = self.destination {
            let of_destination = sqlx::query_scalar!(
                r#"select count(*) as "count!"
                   from (select from pending_deliveries where destination_id = $1 limit $2) few"#,
                destination.uuid(),
                FEW_PENDING
            )
            .fetch_one(&mut *search)
            .await?;
            if of_destination < FEW_PENDING {
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

/// The id of the last of `rows` rejections, newest first; see [`super::Search::edge`].
///
/// # Errors
/// Returns an error if a query fails.
pub async fn rejections(pool: &Pool, range: Range, source: Option<SourceId>, rows: i64) -> Result<Option<Uuid>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_scalar!(
        "select id from rejections where id >= $1 and id < $2 and ($3::uuid is null or source_id = $3)
         order by id desc offset $4 limit 1",
        range.from,
        range.until,
        source.map(SourceId::uuid),
        rows - 1
    )
    .fetch_optional(&mut *search)
    .await
    .map_err(Error::from)
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

async fn events(
    pool: &Pool,
    order: Order,
    range: Range,
    source: Option<SourceId>,
    in_quarantine: bool,
    rows: i64,
) -> Result<Option<Uuid>> {
    let mut search = pool.begin_range().await?;
    match order {
        Order::NewestFirst => {
            sqlx::query_scalar!(
                "select id from events
                 where id >= $1 and id < $2 and ($3::uuid is null or source_id = $3) and (not $4 or verification = 'failed')
                 order by id desc offset $5 limit 1",
                range.from,
                range.until,
                source.map(SourceId::uuid),
                in_quarantine,
                rows - 1
            )
            .fetch_optional(&mut *search)
            .await
            .map_err(Error::from)
        }
        Order::OldestFirst => {
            sqlx::query_scalar!(
                "select id from events
                 where id >= $1 and id < $2 and ($3::uuid is null or source_id = $3) and (not $4 or verification = 'failed')
                 order by id offset $5 limit 1",
                range.from,
                range.until,
                source.map(SourceId::uuid),
                in_quarantine,
                rows - 1
            )
            .fetch_optional(&mut *search)
            .await
            .map_err(Error::from)
        }
    }
}

async fn settled(
    pool: &Pool,
    order: Order,
    range: Range,
    destination: Option<DestinationId>,
    state: Option<DeliveryState>,
    rows: i64,
) -> Result<Option<Uuid>> {
    let mut search = pool.begin_range().await?;
    match order {
        Order::NewestFirst => {
            sqlx::query_scalar!(
                "select id from settled_deliveries
                 where id >= $1 and id < $2 and ($3::uuid is null or destination_id = $3) and ($4::text is null or state = $4)
                 order by id desc offset $5 limit 1",
                range.from,
                range.until,
                destination.map(DestinationId::uuid),
                state.map(DeliveryState::name),
                rows - 1
            )
            .fetch_optional(&mut *search)
            .await
            .map_err(Error::from)
        }
        Order::OldestFirst => {
            sqlx::query_scalar!(
                "select id from settled_deliveries
                 where id >= $1 and id < $2 and ($3::uuid is null or destination_id = $3) and ($4::text is null or state = $4)
                 order by id offset $5 limit 1",
                range.from,
                range.until,
                destination.map(DestinationId::uuid),
                state.map(DeliveryState::name),
                rows - 1
            )
            .fetch_optional(&mut *search)
            .await
            .map_err(Error::from)
        }
    }
}
