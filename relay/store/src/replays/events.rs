//! The events of a replay: first planned without their contents, then read in groups if their contents are needed.

use model::event::EventMeta;
use shared::id::{DestinationId, EventId, SourceId};
use uuid::Uuid;

use super::Selection;
use crate::column::{As, meta};
use crate::search::{Range, Search, remaining};
use crate::{Error, LARGE_BYTES, Pool, Result};

/// An event that a replay has reached, without its contents.
#[derive(Debug, Clone)]
pub struct PlannedRow {
    pub id: EventId,
    pub source_id: SourceId,
    /// `None` if it has no type.
    pub event_type: Option<String>,
    /// In bytes.
    pub body_size: i32,
    /// Of headers and query, in bytes; 0 if it was not requested.
    pub head_size: i32,
    /// Whether the body is still kept.
    pub has_body: bool,
}

/// The contents of an event.
#[derive(Debug, Clone)]
pub struct EventRow {
    pub meta: EventMeta,
    /// `None` if it was not requested or is no longer kept.
    pub body: Option<Vec<u8>>,
}

/// A search for the next events of a selection, oldest first, without their contents.
#[derive(Debug)]
pub struct NextEvents<'a> {
    pub selection: &'a Selection,
    /// Whether to return the size of their headers; the database has to read the headers for it.
    pub with_head_size: bool,
    /// How many events are enough.
    pub limit: i64,
    pub found: Vec<PlannedRow>,
}

impl Search for NextEvents<'_> {
    async fn edge(&self, pool: &Pool, range: Range, rows: i64, plain: bool) -> Result<Option<Uuid>> {
        self.selection.edge(pool, range, rows, plain).await
    }

    async fn look(&mut self, pool: &Pool, range: Range) -> Result<bool> {
        let wanted = remaining(self.limit, self.found.len());
        self.found.extend(plan(pool, self.selection, range, wanted, self.with_head_size).await?);
        Ok(remaining(self.limit, self.found.len()) == 0)
    }
}

/// The events of a range of ids that a selection takes, oldest first, without their contents.
async fn plan(
    pool: &Pool,
    selection: &Selection,
    range: Range,
    limit: i64,
    with_head_size: bool,
) -> Result<Vec<PlannedRow>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        PlannedRow,
        r#"select events.id as "id!: As<EventId>", source_id as "source_id!: As<SourceId>", body_size,
                  type as event_type,
                  case when $9 then octet_length(headers::text) + octet_length(query) else 0 end as "head_size!",
                  event_bodies.event_id is not null as "has_body!"
           from events left join event_bodies
                on event_bodies.event_id = events.id and event_bodies.event_id >= $2 and event_bodies.event_id < $3
           where customer_id = $1 and events.id >= $2 and events.id < $3 and stored_at <= $10
             and (verification = 'failed') = $8
             and ($4::uuid is null or source_id = $4) and ($5::text is null or type = $5)
             and ($6::uuid is null or exists (
                 select from routes where routes.source_id = events.source_id and routes.destination_id = $6))
             and ($11::uuid[] is null or events.id = any($11))
           order by events.id limit $7"#,
        selection.customer_id.uuid(),
        range.from,
        range.until,
        selection.source_id.map(SourceId::uuid),
        selection.event_type,
        selection.destination_id.map(DestinationId::uuid),
        limit,
        selection.failed,
        with_head_size,
        selection.made_at,
        selection.only.as_deref()
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}

/// The contents of events, in any order, with bodies only for the ids in `with_body`. The caller limits the total size.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn read(pool: &Pool, ids: Vec<EventId>, with_body: Vec<EventId>) -> Result<Vec<EventRow>> {
    let [ids, with_body] = [ids, with_body].map(|ids| ids.into_iter().map(EventId::uuid).collect::<Vec<Uuid>>());
    let mut connection = pool.acquire().await?;
    let rows = sqlx::query!(
        r#"select events.id as "id!: As<EventId>", source_id as "source_id!: As<SourceId>", received_at,
                  type as event_type, provider_event_id, method, query, headers, body as "body?"
           from events left join event_bodies
                on event_bodies.event_id = events.id and event_bodies.event_id = any($2)
           where events.id = any($1)"#,
        &ids,
        &with_body
    )
    .map(|row| EventRow { meta: meta!(row), body: row.body })
    .fetch_all(&mut connection)
    .await?;
    let body_bytes: usize = rows.iter().filter_map(|row| row.body.as_ref()).map(Vec::len).sum();
    if body_bytes > LARGE_BYTES {
        connection.shrink_buffers();
    }
    Ok(rows)
}
