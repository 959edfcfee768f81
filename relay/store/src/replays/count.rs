//! Counts the rows that a replay takes, in parts that are committed one by one.

use model::delivery::DeliveryState;
use model::replay::ReplayState;
use shared::id::{CustomerId, DestinationId, ReplayId, SourceId};
use uuid::Uuid;

use super::{ReplayRow, Selection, replay_rows};
use crate::column::{As, Maybe};
use crate::search::{Range, Search};
use crate::{Error, Pool, Result};

/// A search that counts what a selection matches.
#[derive(Debug)]
pub struct Count<'a> {
    pub selection: &'a Selection,
    /// How many rows were found.
    pub found: i64,
}

impl Search for Count<'_> {
    async fn edge(&self, pool: &Pool, range: Range, rows: i64, plain: bool) -> Result<Option<Uuid>> {
        self.selection.edge(pool, range, rows, plain).await
    }

    async fn look(&mut self, pool: &Pool, range: Range) -> Result<bool> {
        let found = match self.selection.state {
            None => events(pool, self.selection, range).await?,
            Some(_) => deliveries(pool, self.selection, range).await?,
        };
        self.found = self.found.saturating_add(found);
        Ok(false)
    }
}

/// How many events in a range of ids a selection takes.
async fn events(pool: &Pool, selection: &Selection, range: Range) -> Result<i64> {
    let mut search = pool.begin_range().await?;
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from events
           where customer_id = $1 and id >= $2 and id < $3 and stored_at <= $8 and (verification = 'failed') = $7
             and ($4::uuid is null or source_id = $4) and ($5::text is null or type = $5)
             and ($6::uuid is null or exists (
                 select from routes where routes.source_id = events.source_id and routes.destination_id = $6))
             and ($9::uuid[] is null or id = any($9))"#,
        selection.customer_id.uuid(),
        range.from,
        range.until,
        selection.source_id.map(SourceId::uuid),
        selection.event_type,
        selection.destination_id.map(DestinationId::uuid),
        selection.failed,
        selection.made_at,
        selection.only.as_deref()
    )
    .fetch_one(&mut *search)
    .await
    .map_err(Error::from)
}

/// How many deliveries in a range of ids a selection with a state takes.
async fn deliveries(pool: &Pool, selection: &Selection, range: Range) -> Result<i64> {
    let mut search = pool.begin_range().await?;
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from settled_deliveries settled
           where customer_id = $1 and state = $2 and id >= $3 and id < $4 and settled_at <= $12
             and event_id >= $5 and event_id < $6
             and ($7::uuid is null or source_id = $7) and ($8::uuid is null or destination_id = $8)
             and ($9::text is null or error = $9)
             and ($10::text is null or exists (
                 select from events where events.id = settled.event_id and events.type = $10))
             and not exists (
                 select from settled_deliveries later
                 where later.event_id = settled.event_id and later.destination_id = settled.destination_id
                   and later.id > settled.id and later.id < $11
                 -- Asked for each row, by the index of its event: as a join it would read all of history.
                 offset 0)
             and not exists (
                 select from pending_deliveries pending
                 where pending.event_id = settled.event_id and pending.destination_id = settled.destination_id
                   and pending.id < $11
                 offset 0)"#,
        selection.customer_id.uuid(),
        selection.state.map(DeliveryState::name),
        range.from,
        range.until,
        selection.events.from,
        selection.events.until,
        selection.source_id.map(SourceId::uuid),
        selection.destination_id.map(DestinationId::uuid),
        selection.error,
        selection.event_type,
        selection.ids.until,
        selection.made_at
    )
    .fetch_one(&mut *search)
    .await
    .map_err(Error::from)
}

/// The running replays that are still being counted, the oldest first.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn counting(pool: &Pool) -> Result<Vec<ReplayRow>> {
    replay_rows!("where state = 'running' and counting order by id").fetch_all(pool).await.map_err(Error::from)
}

/// Stores that the replay matches `matched` rows up to `count_after`, and whether more are to be counted. Returns false
/// and writes nothing if the replay has taken a row after `from` in the meantime, or another replica has counted: the
/// count may then be wrong.
///
/// # Errors
/// Returns an error if the query fails; it can be called again.
pub async fn counted(
    pool: &Pool,
    replay: &ReplayRow,
    from: Option<Uuid>,
    matched: i64,
    count_after: Option<Uuid>,
    more: bool,
) -> Result<bool> {
    let counted = sqlx::query!(
        "update replays set matched = $4, count_after = $5, counting = $6
         where id = $1 and state = 'running' and counting and count_after is not distinct from $2
           and (cursor_id is null or cursor_id <= $3)",
        replay.id.uuid(),
        replay.count_after,
        from,
        matched,
        count_after,
        more
    )
    .execute(pool)
    .await?;
    Ok(counted.rows_affected() > 0)
}
