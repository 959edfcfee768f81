//! Deletes the bodies of customers whose retention of bodies is shorter than that of the deployment.
//!
//! Every customer's other bodies, and everything else, are dropped with the partition of their day
//! ([`crate::history`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::unix_time;
use shared::id::uuid_v7_floor;
use store::Pool;
use store::body_retention::{self, Walk};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::history::{GRACE_DAYS, Retention};
use crate::waiting::{self, Wakers};
use crate::wall_clock::WallClock;

/// How often the relay looks for bodies to delete. A body may be kept that much longer than its retention.
pub(crate) const INTERVAL: Duration = Duration::from_secs(600);

/// The most events that one chunk visits. It takes some tens of milliseconds.
pub(crate) const CHUNK: i64 = 2_000;

/// How many noted bodies one chunk checks.
const CHECKED_AT_ONCE: i64 = 200;

/// The shortest pause between two chunks.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// How often a walk visits recent events again.
const REPEAT_AFTER: Duration = Duration::from_secs(86_400);

/// How many days before its end a repeated walk begins: longer than a queue keeps a message, because an event is stored
/// under the time at which it arrived.
const REPEATED_DAYS: u16 = 16;

/// Deletes until `stop`; the first time at once. It is woken when a customer has got another retention.
pub async fn run(
    pool: Pool,
    retention: Retention,
    clock: Arc<WallClock>,
    wakers: Arc<Wakers>,
    stop: CancellationToken,
) {
    let round = async || {
        if let Err(error) = round(&pool, retention, &clock).await {
            tracing::warn!(%error, "could not delete the bodies of customers with a shorter retention; retrying");
        }
        INTERVAL
    };
    waiting::rounds(&wakers.body_retention, &stop, round).await;
}

async fn round(pool: &Pool, retention: Retention, clock: &WallClock) -> store::Result<()> {
    // One of the two clocks is wrong, and a deleted body cannot be recovered.
    if let Some(wrong) = clock.is_wrong().await? {
        tracing::warn!(error = wrong, "the deletion of bodies is suspended until the clocks agree");
        return Ok(());
    }
    // One of these fails more easily than the others, for instance on a damaged row, and must not stop them.
    if let Err(error) = delete_unneeded(pool).await {
        tracing::warn!(%error, "could not delete the bodies that deliveries had needed; retrying");
    }
    for walk in body_retention::walks(pool).await? {
        if let Err(error) = walk_on(pool, walk, retention).await {
            tracing::warn!(%error, days = walk.days, "could not delete the bodies of a shorter retention; retrying");
        }
    }
    Ok(())
}

async fn delete_unneeded(pool: &Pool) -> store::Result<()> {
    let now_ms = unix_time::unix_ms(store::health::now(pool).await?);
    while body_retention::delete_unneeded(pool, now_ms, CHECKED_AT_ONCE).await? {
        tokio::time::sleep(LEAST_PAUSE).await;
    }
    Ok(())
}

async fn walk_on(pool: &Pool, walk: Walk, retention: Retention) -> store::Result<()> {
    let now_ms = unix_time::unix_ms(store::health::now(pool).await?);
    let Some(span) = span(now_ms, walk.days, retention) else { return Ok(()) };
    body_retention::repeat(pool, walk, span.repeated_from, REPEAT_AFTER).await?;
    visit(pool, walk, span).await
}

async fn visit(pool: &Pool, walk: Walk, span: Span) -> store::Result<()> {
    loop {
        let begun = Instant::now();
        if body_retention::visit(pool, walk, span.from, span.until, CHUNK).await?.is_none() {
            return Ok(());
        }
        tokio::time::sleep(begun.elapsed().max(LEAST_PAUSE)).await;
    }
}

/// The ids that a walk visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    /// No earlier event has a body.
    from: Uuid,
    /// Where a repeated walk begins.
    repeated_from: Uuid,
    /// The bodies of later events are kept.
    until: Uuid,
}

/// The span of the walk for this number of days; `None` if it is not shorter than the retention of the deployment.
fn span(now_ms: u64, days: i16, retention: Retention) -> Option<Span> {
    let days = u16::try_from(days).ok().filter(|days| *days < retention.body_days)?;
    let floor = |days: u16| uuid_v7_floor(unix_time::days_before(now_ms, days));
    let grace_ms = u64::try_from(body_retention::GRACE.as_millis()).unwrap_or(u64::MAX);
    let until = uuid_v7_floor(unix_time::days_before(now_ms.saturating_sub(grace_ms), days));
    // A day more than a partition outlives its retention.
    let from = floor(retention.body_days.saturating_add(GRACE_DAYS + 1));
    Some(Span { from, repeated_from: floor(days.saturating_add(REPEATED_DAYS)).max(from), until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_visits_what_is_older_than_its_days_and_may_still_have_a_body() {
        const NOW_MS: u64 = 1_764_000_000_000;
        let retention = Retention { body_days: 30, metadata_days: 90, dedupe_days: 3 };
        let at = |days: u64| uuid_v7_floor(NOW_MS - days * unix_time::DAY_MS);
        let of = |days| span(NOW_MS, days, retention);
        let until = uuid_v7_floor(NOW_MS - 7 * unix_time::DAY_MS - 600_000);
        assert_eq!(of(7), Some(Span { from: at(32), repeated_from: at(23), until }));
        assert_eq!(of(29).map(|span| span.repeated_from), Some(at(32)));
        assert_eq!((of(30), of(90)), (None, None), "the partitions are dropped earlier");
    }
}
