//! Whether background work is waiting.

use super::Pool;
use super::undecided::OLD_ROUTE_S;
use crate::{Error, Result};

/// Which background work is waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Replays are running, and not paused.
    pub replays: bool,
    /// A running replay has not been counted completely.
    pub counts: bool,
    /// Deliveries to a deleted destination are to be cancelled.
    pub deletions: bool,
    /// A chunk of an operation is due.
    pub operations: bool,
    /// Undecided deliveries are to be decided now, or the route of held deliveries was changed.
    pub undecided: bool,
}

/// Queries which background work is waiting.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn look(pool: &Pool) -> Result<Waiting> {
    sqlx::query_as!(
        Waiting,
        r#"select exists (select from replays where state = 'running' and paused_at is null) as "replays!",
                  exists (select from replays where state = 'running' and counting) as "counts!",
                  exists (select from deleted_destinations) as "deletions!",
                  exists (select from operations where state = 'running' and next_at <= now()) as "operations!",
                  exists (select from pending_deliveries where decide_at <= now())
                  or exists (
                      select from routes
                      where exists (
                          select from pending_deliveries pending
                          where pending.route_id = routes.id
                            and pending.held_at < routes.updated_at + $1::float8 * interval '1 second')
                  ) as "undecided!""#,
        OLD_ROUTE_S
    )
    .fetch_one(pool)
    .await
    .map_err(Error::from)
}
