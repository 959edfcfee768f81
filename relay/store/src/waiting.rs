//! Whether work in the background waits.

use super::Pool;
use super::undecided::OLD_ROUTE_S;
use crate::{Error, Result};

/// Which work waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Replays are running.
    pub replays: bool,
    /// Of a running replay it is not known yet what it matches.
    pub counts: bool,
    /// Deliveries of a deleted destination are to be cancelled.
    pub deletions: bool,
    /// Undecided deliveries are due, or the route of held ones was changed.
    pub undecided: bool,
}

/// Looks which work waits.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn look(pool: &Pool) -> Result<Waiting> {
    sqlx::query_as!(
        Waiting,
        r#"select exists (select from replays where state = 'running') as "replays!",
                  exists (select from replays where state = 'running' and counting) as "counts!",
                  exists (select from deleted_destinations) as "deletions!",
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
