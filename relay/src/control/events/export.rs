//! Events of a list in one piece, for export.

use std::time::Duration;

use tokio::time::Instant;

use super::{Event, EventFilter, list};
use crate::control::page::{MAX_LIMIT, Page, PageRequest};
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, Error, Scope};

/// The most events of an export.
pub const EXPORTED_EVENTS: usize = 5_000;

/// How long an export reads before it ends where it is.
pub(crate) const EXPORT_WITHIN: Duration = Duration::from_secs(20);

/// Events, newest first.
#[derive(Debug)]
pub struct Exported {
    pub events: Vec<Event>,
    /// The value for `cursor` with which the list continues, if there are or may be more.
    pub next_cursor: Option<String>,
    /// How far back the list was read, if it ended before it was full.
    pub scanned_until: Option<Timestamp>,
}

/// The newest 5,000 events that match.
///
/// # Errors
/// Returns an error if the filter is invalid, or if a query fails.
pub async fn export(control: &Control, actor: &Actor, filter: &EventFilter) -> Result<Exported, Error> {
    actor.require(Scope::Read)?;
    let until = Instant::now() + EXPORT_WITHIN;
    let mut exported = Exported { events: Vec::new(), next_cursor: None, scanned_until: None };
    loop {
        let window = PageRequest { limit: Some(MAX_LIMIT), cursor: exported.next_cursor.take() };
        let Page { data, next_cursor, scanned_until } = list(control, actor, filter.clone(), &window).await?;
        exported.events.extend(data);
        (exported.next_cursor, exported.scanned_until) = (next_cursor, scanned_until);
        let is_full = exported.events.len() + MAX_LIMIT as usize > EXPORTED_EVENTS;
        if exported.next_cursor.is_none() || is_full || Instant::now() >= until {
            return Ok(exported);
        }
    }
}
