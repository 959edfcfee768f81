//! Searches the bodies of events for a text.
//!
//! No index leads to the texts in bodies: it would cost each event more than its body does. The search reads bodies,
//! newest first, until it has found enough or has read as many bytes as it may. PostgreSQL compares them where they are,
//! so only the ids of the events that match leave it.

use std::time::Instant;

use uuid::Uuid;

use crate::events::{Page, SummaryRow};
use crate::search::{Range, Search, remaining};
use crate::{Error, Pool, Result};

/// How many events are read at a time.
const EVENTS_AT_ONCE: i64 = 500;

/// The bytes of the bodies that one statement compares, unless a single body is larger. A slow disk reads as many within
/// the time limit of a statement.
pub const BYTES_AT_ONCE: i64 = 8 << 20;

/// A search for the events whose body contains a text.
#[derive(Debug)]
pub struct BodySearch {
    /// Which events are searched.
    page: Page,
    /// The forms of the text. A body that contains one of them matches.
    texts: Vec<Vec<u8>>,
    /// How many events are enough.
    limit: i64,
    /// After this number of bytes no statement begins.
    most_bytes: i64,
    /// After this time no statement begins.
    until: Instant,
    pub found: Vec<SummaryRow>,
    /// How many events were searched.
    pub events: i64,
    /// How many bytes their bodies have.
    pub bytes: i64,
    /// If the search has stopped because of its bytes or its time: only events before this id remain.
    pub stopped_before: Option<Uuid>,
}

impl BodySearch {
    /// A search that has found nothing yet, among the events of a page.
    #[must_use]
    pub fn new(page: Page, texts: Vec<Vec<u8>>, limit: i64, most_bytes: i64, until: Instant) -> Self {
        let found = Vec::new();
        Self { page, texts, limit, most_bytes, until, found, events: 0, bytes: 0, stopped_before: None }
    }

    fn is_over(&self) -> bool {
        self.bytes >= self.most_bytes || Instant::now() >= self.until
    }
}

impl Search for BodySearch {
    async fn edge(&self, pool: &Pool, range: Range, rows: i64, plain: bool) -> Result<Option<Uuid>> {
        self.page.edge(pool, range, rows, plain).await
    }

    async fn look(&mut self, pool: &Pool, range: Range) -> Result<bool> {
        let mut rest = range;
        loop {
            let rows = self.page.page(pool, rest, EVENTS_AT_ONCE).await?;
            let is_end = i64::try_from(rows.len()).is_ok_and(|rows| rows < EVENTS_AT_ONCE);
            let mut rows = rows.into_iter().peekable();
            while rows.peek().is_some() {
                // The first batch is always searched, so that each call makes progress.
                if self.events > 0 && self.is_over() {
                    self.stopped_before = Some(rest.until);
                    return Ok(true);
                }
                let mut batch: Vec<SummaryRow> = Vec::new();
                let mut bytes = 0;
                while let Some(row) = rows.next_if(|row| batch.is_empty() || bytes + size(row) <= BYTES_AT_ONCE) {
                    bytes += size(&row);
                    batch.push(row);
                }
                let ids: Vec<Uuid> = batch.iter().map(|row| row.id.uuid()).collect();
                let matching = matching(pool, &ids, &self.texts).await?;
                rest.until = ids.last().copied().unwrap_or(rest.from);
                self.bytes += bytes;
                self.events += i64::try_from(batch.len()).unwrap_or(i64::MAX);
                self.found.extend(batch.into_iter().filter(|row| matching.contains(&row.id.uuid())));
                if remaining(self.limit, self.found.len()) == 0 {
                    return Ok(true);
                }
            }
            if is_end {
                return Ok(false);
            }
        }
    }
}

fn size(row: &SummaryRow) -> i64 {
    i64::from(row.body_size.max(0))
}

/// Those of these events whose body contains one of the texts. An event without a body does not.
async fn matching(pool: &Pool, ids: &[Uuid], texts: &[Vec<u8>]) -> Result<Vec<Uuid>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_scalar!(
        "select event_id from event_bodies
         where event_id = any($1) and exists (
             select from unnest($2::bytea[]) as wanted (text) where position(wanted.text in body) > 0)",
        ids,
        texts
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}
