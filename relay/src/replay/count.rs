//! Counts the matches of replays, in pieces, while the replays run.
//!
//! A piece is committed with the position up to which it has counted, so the count continues there after a crash. The
//! count runs ahead of the replay, because a row that the replay has processed may no longer match its filter. A count
//! that the replay overtakes begins again at the replay's cursor, with the number of rows that were processed up to
//! there.

use std::time::Duration;

use shared::id::ReplayId;
use store::Pool;
use store::replays::{self, Count, ReplayRow, Selection};
use store::search::{self, Limits, Order, Outcome};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Counted, Filter, selection};
use crate::waiting::{self, UNWOKEN_INTERVAL};
use crate::{App, supervise};

/// How far the call that creates a replay counts.
const AT_ONCE: Limits = Limits { first: 20_000, largest: 20_000, total: 20_000, within: Duration::from_millis(200) };

/// After how long that call stops counting and leaves the count to the background.
const AT_ONCE_WITHIN: Duration = Duration::from_secs(1);

/// How far one piece of the background count goes before another replay has its turn.
const PIECE: Limits = Limits { first: 5_000, largest: 50_000, total: 200_000, within: Duration::from_secs(1) };

/// How far a piece that begins at the replay's cursor goes. It is small, because it has to be written before the replay
/// moves on.
const AHEAD: Limits = Limits { first: 10_000, largest: 10_000, total: 10_000, within: Duration::from_secs(1) };

/// How far one call of a dry run counts.
pub(crate) const DRY_RUN: Limits =
    Limits { first: 5_000, largest: 100_000, total: 500_000, within: Duration::from_secs(5) };

/// How soon the next pieces are counted.
const NEXT_RANGE_AFTER: Duration = Duration::from_millis(20);

/// How soon a failed count is retried.
const AFTER_ERROR: Duration = Duration::from_secs(10);

/// Counts replays until `stop`.
pub async fn run(app: App, stop: CancellationToken) {
    waiting::rounds(&app.wakers.counts, &stop, || round(&app)).await;
}

/// Counts a piece of each replay. Returns the pause before the next round.
async fn round(app: &App) -> Duration {
    let rows = match replays::counting(&app.pool).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(%error, "could not read which replays still need counting; retrying");
            return AFTER_ERROR;
        }
    };
    let mut pause = UNWOKEN_INTERVAL;
    for row in rows {
        pause = pause.min(pause_after(row.id, count(app, &row)).await);
    }
    pause
}

/// Waits for a piece of a replay's count. Returns the pause before the next.
async fn pause_after(replay: ReplayId, counted: impl Future<Output = store::Result<()>>) -> Duration {
    match supervise::row(counted).await {
        Ok(Ok(())) => NEXT_RANGE_AFTER,
        Ok(Err(error)) => {
            tracing::warn!(%replay, %error, "could not count the matches of a replay; retrying");
            AFTER_ERROR
        }
        Err(panic) => {
            tracing::error!(
                %replay,
                error = %panic,
                "the relay panicked while counting the matches of a replay; retrying"
            );
            AFTER_ERROR
        }
    }
}

/// Counts the next piece of a replay.
async fn count(app: &App, row: &ReplayRow) -> store::Result<()> {
    // The worker stops a replay whose filter cannot be read.
    let Ok(filter) = serde_json::from_value::<Filter>(row.filter.clone()) else { return Ok(()) };
    let selection = selection(&filter, row.customer_id, row.until_id, row.created_at);
    let start = Start::of(row.cursor_id, row.processed, row.count_after, row.matched);
    let counted = piece(&app.pool, &selection, start.after, start.limits).await?;
    let matched = start.matched.saturating_add(counted.matched);
    replays::counted(&app.pool, row, start.after, matched, counted.after, counted.after.is_some()).await?;
    Ok(())
}

/// The starting point of a piece.
#[derive(Debug)]
struct Start {
    after: Option<Uuid>,
    /// The number of matching rows up to there.
    matched: i64,
    limits: Limits,
}

impl Start {
    fn of(cursor: Option<Uuid>, processed: i64, count_after: Option<Uuid>, matched: i64) -> Self {
        match cursor >= count_after {
            true => Self { after: cursor, matched: processed, limits: AHEAD },
            false => Self { after: count_after, matched, limits: PIECE },
        }
    }
}

/// Counts the matches of a selection behind `after`, as far as the limits allow.
pub(super) async fn piece(
    pool: &Pool,
    selection: &Selection,
    after: Option<Uuid>,
    limits: Limits,
) -> store::Result<Counted> {
    let mut count = Count { selection, found: 0 };
    let outcome = search::run(pool, &mut count, Order::OldestFirst, selection.ids.behind(after), limits).await?;
    let after = match outcome {
        Outcome::Stopped(rest) => Some(rest.start()),
        Outcome::Full | Outcome::End => None,
    };
    Ok(Counted { matched: count.found, after })
}

/// The first piece of a new replay; `None` if it takes too long or fails.
pub(super) async fn at_once(pool: &Pool, selection: &Selection) -> Option<Counted> {
    let counted = tokio::time::timeout(AT_ONCE_WITHIN, piece(pool, selection, None, AT_ONCE)).await;
    counted.ok().and_then(Result::ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_count_that_panics_is_retried_later() {
        let replay = ReplayId::mint(1, [1; 10]);
        assert_eq!(pause_after(replay, async { panic!("its filter") }).await, AFTER_ERROR);
        assert_eq!(pause_after(replay, async { Ok(()) }).await, NEXT_RANGE_AFTER);
    }

    #[test]
    fn a_count_that_its_replay_overtakes_begins_again_at_the_cursor() {
        let id = |number| Some(Uuid::from_u128(number));
        let start = |cursor, count_after| {
            let start = Start::of(cursor, 3, count_after, 7);
            (start.after, start.matched, start.limits.total)
        };
        assert_eq!(start(None, None), (None, 3, AHEAD.total));
        assert_eq!(start(None, id(5)), (id(5), 7, PIECE.total));
        assert_eq!(start(id(4), id(5)), (id(5), 7, PIECE.total));
        assert_eq!(start(id(5), id(5)), (id(5), 3, AHEAD.total));
        assert_eq!(start(id(6), id(5)), (id(6), 3, AHEAD.total));
        assert_eq!(start(id(6), None), (id(6), 3, AHEAD.total));
    }
}
