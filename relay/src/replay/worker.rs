//! Processes replays, one chunk of each in turn.
//!
//! A chunk is *begun* by a separate statement before any work on it is done. If the chunk makes the relay end, this
//! record of its start remains. The transaction that moves the cursor removes the record. The worker removes it too if
//! the chunk was interrupted for a reason outside of it: a shutdown, or an unreachable database. A replay that has been
//! begun [`MOST_BEGUN`] times at the same place is stopped.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use engine::retry::stale_pause;
use model::destination::Rate;
use model::unix_time;
use shared::id::{DeliveryId, DestinationId, EventId, ReplayId};
use store::partitions::with_partitions;
use store::replays::{self, Advanced, ReplayRow, begun};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;

use super::stopped::{self, Place};
use super::{Filter, chunk, cut};
use crate::App;
use crate::configuration::{self, Snapshot};
use crate::supervise::{self, RowPanic};
use crate::waiting::UNWOKEN_INTERVAL;

/// How soon the worker reads the replays again after an error.
const AFTER_ERROR: Duration = Duration::from_secs(10);

/// How soon a replay that could not advance is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often a chunk may be begun at the same place.
pub(crate) const MOST_BEGUN: i16 = 5;

/// The maximum number of times a chunk is made in one turn: it is made again if the configuration changes before it is
/// stored.
const MOST_ROUNDS: u32 = 3;

/// How long a chunk belongs to the replica that has begun it, unless it renews the lease. After a crash, another
/// replica continues once this time has passed.
pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// How often the lease of a long-running chunk is renewed.
const KEEP_EVERY: Duration = Duration::from_millis(1_500);

/// Processes replays until `stop`.
pub async fn run(app: App, stop: CancellationToken) {
    let mut worker = Worker { app, stop, owed: HashMap::new() };
    while !worker.stop.is_cancelled() {
        let pause = worker.round().await;
        tokio::select! {
            () = worker.app.wakers.replays.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = worker.stop.cancelled() => {}
        }
    }
}

struct Worker {
    app: App,
    stop: CancellationToken,
    /// Starts that could not be taken back because the database was unreachable: the cursor, by replay.
    owed: HashMap<ReplayId, Option<Uuid>>,
}

/// The result of a turn.
enum Turn {
    Moved {
        pause: Duration,
    },
    /// Another replica is processing it, or it has ended, or a shutdown has begun.
    NotNow,
    /// The configuration changed before the chunk was stored, every time. The other replays have their turn first.
    Overtaken,
    Completed,
    /// It cannot continue, for this reason.
    Failed(String),
}

impl Worker {
    /// Gives each replay a turn. Returns the pause before the next round.
    async fn round(&mut self) -> Duration {
        let query = async { Ok((replays::running(&self.app.pool).await?, self.app.clock.now_ms().await?)) };
        let (rows, now_ms) = match query.await {
            Ok(found) => found,
            Err::<_, store::Error>(error) => {
                tracing::warn!(%error, "could not read the replays; retrying");
                return AFTER_ERROR;
            }
        };
        self.owed.retain(|id, _| rows.iter().any(|row| row.id == *id));
        if let Ok(Some(wrong)) = self.app.clock.is_wrong().await {
            tracing::warn!(error = wrong, "replays are suspended until the clocks agree");
            return AFTER_ERROR;
        }
        let mut pause = UNWOKEN_INTERVAL;
        for row in rows {
            if self.stop.is_cancelled() {
                break;
            }
            let due = row.begun_until.map_or(row.next_at, |until| until.max(row.next_at));
            let wait = Duration::from_millis(unix_time::unix_ms(due).saturating_sub(now_ms));
            pause = pause.min(if wait.is_zero() { self.turn(row).await } else { wait });
        }
        pause
    }

    /// Processes one chunk of one replay. Returns the pause before the next.
    async fn turn(&mut self, row: ReplayRow) -> Duration {
        let replay = row.id;
        let span = tracing::info_span!("replay", %replay);
        pause_after(replay, self.advance(&row).instrument(span)).await
    }

    async fn advance(&mut self, row: &ReplayRow) -> store::Result<Turn> {
        let filter: Filter = match serde_json::from_value(row.filter.clone()) {
            Ok(filter) => filter,
            Err(error) => {
                return self
                    .fail(row, 0, format!("the filter of the replay cannot be read: {error}; create a new replay"))
                    .await;
            }
        };
        if let Some(cursor) = self.owed.get(&row.id) {
            begun::give_back(&self.app.pool, row.id, *cursor).await?;
            self.owed.remove(&row.id);
            return Ok(Turn::NotNow);
        }
        if row.begun_here() >= MOST_BEGUN {
            let place = self.place(row, &filter).await;
            let reason = stopped::reason(row.begun_here(), row.begun_error.as_deref(), &place);
            return self.fail(row, MOST_BEGUN, reason).await;
        }
        let snapshot = self.app.configuration.refresh().await?;
        match begun::begin(&self.app.pool, row, MOST_BEGUN, LEASE).await {
            Ok(true) => {}
            Ok(false) => return Ok(Turn::NotNow),
            Err(error) => {
                // The statement may have been committed although its result was lost.
                self.owed.insert(row.id, row.cursor_id);
                return Err(error);
            }
        }
        let ended = tokio::select! {
            biased;
            ended = supervise::row(advance(&self.app, row, &filter, snapshot)) => Some(ended),
            never = keep(&self.app, row) => match never {},
            () = self.stop.cancelled() => None,
        };
        let (begin, turn) = after_chunk(row.id, ended);
        match begin {
            Begin::Ended => {}
            Begin::GiveBack => self.give_back(row).await,
            Begin::Counts(error) => {
                let pause = pause_after_error(row.begun_here() + 1);
                if let Err(unkept) = begun::record(&self.app.pool, row, &error, pause).await {
                    let replay = row.id;
                    tracing::warn!(%replay, error = %unkept, "could not store why a replay failed to advance");
                }
            }
        }
        turn
    }

    /// Takes back the start of a chunk that was interrupted. If that fails, it is retried later.
    async fn give_back(&mut self, row: &ReplayRow) {
        if begun::give_back(&self.app.pool, row.id, row.cursor_id).await.is_err() {
            self.owed.insert(row.id, row.cursor_id);
        }
    }

    async fn fail(&self, row: &ReplayRow, least: i16, reason: String) -> store::Result<Turn> {
        let failed = begun::fail(&self.app.pool, row, least, &reason).await?;
        Ok(if failed { Turn::Failed(reason) } else { Turn::NotNow })
    }

    /// The position of a replay.
    async fn place(&self, row: &ReplayRow, filter: &Filter) -> Place {
        let rows = cut::rows_of(rate_of(row), MOST_BEGUN - 1);
        let snapshot = self.app.configuration.current();
        // The panic that stopped it may occur in planning.
        let plan = supervise::row(chunk::plan(&self.app, row, filter, rows, &snapshot)).await;
        match plan.ok().and_then(Result::ok).and_then(|plan| plan.ends()) {
            Some((first, last)) => Place::Chunk(first, last),
            None => Place::Behind(row.cursor_id.map(|cursor| match filter.state {
                None => format!("event {}", EventId::from_uuid(cursor)),
                Some(_) => format!("delivery {}", DeliveryId::from_uuid(cursor)),
            })),
        }
    }
}

/// Waits for the turn of a replay. Returns the pause before the next.
async fn pause_after(replay: ReplayId, turn: impl Future<Output = store::Result<Turn>>) -> Duration {
    match supervise::row(turn).await {
        Ok(Ok(Turn::Moved { pause })) => pause,
        Ok(Ok(Turn::NotNow | Turn::Overtaken)) => RETRY_INTERVAL,
        Ok(Ok(Turn::Completed)) => {
            tracing::info!(%replay, "a replay has completed");
            UNWOKEN_INTERVAL
        }
        Ok(Ok(Turn::Failed(error))) => {
            tracing::error!(%replay, error, "a replay has failed");
            UNWOKEN_INTERVAL
        }
        Ok(Err(error)) => {
            tracing::warn!(%replay, %error, "a replay could not advance; retrying");
            RETRY_INTERVAL
        }
        Err(panic) => {
            tracing::error!(%replay, error = %panic, "the relay panicked between two chunks of a replay; retrying");
            AFTER_ERROR
        }
    }
}

/// What happens to the record that a chunk was begun.
#[derive(Debug, PartialEq, Eq)]
enum Begin {
    /// The transaction that moved the cursor has removed it.
    Ended,
    /// It is taken back, because the chunk did not cause the failure.
    GiveBack,
    /// It counts, with this error. After [`MOST_BEGUN`] of them, the replay is stopped.
    Counts(String),
}

/// Decides what follows from a chunk. `ended` is `None` if a shutdown interrupted it.
fn after_chunk(replay: ReplayId, ended: Option<Result<store::Result<Turn>, RowPanic>>) -> (Begin, store::Result<Turn>) {
    match ended {
        None => (Begin::GiveBack, Ok(Turn::NotNow)),
        Some(Ok(Ok(Turn::Overtaken))) => (Begin::GiveBack, Ok(Turn::Overtaken)),
        Some(Ok(Ok(turn))) => (Begin::Ended, Ok(turn)),
        Some(Ok(Err(error))) if error.passes_by_itself() => (Begin::GiveBack, Err(error)),
        Some(Ok(Err(error))) => (Begin::Counts(stopped::kept(&error)), Err(error)),
        Some(Err(panic)) => {
            tracing::error!(%replay, error = %panic, "the relay panicked in a chunk of a replay; retrying the chunk");
            (Begin::Counts(stopped::kept(&panic)), Ok(Turn::NotNow))
        }
    }
}

/// Makes the next chunk. It is made again if the configuration changes before it is stored, so that nothing is routed
/// by an old configuration.
async fn advance(app: &App, row: &ReplayRow, filter: &Filter, mut snapshot: Arc<Snapshot>) -> store::Result<Turn> {
    let rate = rate_of(row);
    let rows = cut::rows_of(rate, row.begun_here());
    for round in 0..MOST_ROUNDS {
        let plan = chunk::plan(app, row, filter, rows, &snapshot).await?;
        let chunk = chunk::make(app, row, filter, &plan, &snapshot).await?;
        if chunk.cursor.is_none() {
            replays::complete(&app.pool, row.id).await?;
            return Ok(Turn::Completed);
        }
        let pause = cut::wait_after(chunk.processed, rate);
        let days = app.releaser.intake.dedupe_days;
        let version = snapshot.version;
        match with_partitions!(&app.pool, replays::advance(&app.pool, row, version, &chunk, pause, days))? {
            Advanced::StaleConfiguration => {
                tokio::time::sleep(stale_pause(round)).await;
                snapshot = app.configuration.refresh().await?;
            }
            Advanced::Elsewhere => return Ok(Turn::NotNow),
            Advanced::Moved => {
                if chunk.made.iter().any(|made| made.undecided.is_some()) {
                    app.releaser.intake.held.notify_one();
                }
                let destinations: BTreeSet<DestinationId> = chunk.made.iter().map(|made| made.destination_id).collect();
                for destination in destinations {
                    app.engine.rescan(destination);
                }
                return Ok(Turn::Moved { pause });
            }
        }
    }
    Ok(Turn::Overtaken)
}

/// Renews the lease of a chunk for as long as it is polled.
async fn keep(app: &App, row: &ReplayRow) -> Infallible {
    loop {
        tokio::time::sleep(KEEP_EVERY).await;
        // If it fails, another replica may begin the chunk as well: the first one to move the cursor wins.
        let _ = begun::keep(&app.pool, row, LEASE).await;
    }
}

/// How long to wait before a chunk is begun again after an error of the database, if it has been begun `begun` times.
/// It gives a temporary error time to pass.
fn pause_after_error(begun: i16) -> Duration {
    match begun {
        MOST_BEGUN.. => Duration::ZERO,
        _ => RETRY_INTERVAL * (1 << begun.clamp(1, MOST_BEGUN)) / 2,
    }
}

fn rate_of(row: &ReplayRow) -> Option<Rate> {
    configuration::rate(row.rate_limit, row.rate_per.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_chunk_that_panics_counts_as_begun_and_a_panic_outside_a_chunk_only_delays() {
        let replay = ReplayId::mint(1, [1; 10]);
        let ended = supervise::row(async { panic!("its\0event") }).await;
        let (begin, turn) = after_chunk(replay, Some(ended));
        assert_eq!(begin, Begin::Counts("the relay panicked: itsevent".to_owned()));
        assert!(matches!(turn, Ok(Turn::NotNow)));
        let (begin, _) = after_chunk(replay, Some(Ok(Err(store::Error::took_longer_than(Duration::ZERO)))));
        assert_eq!(begin, Begin::GiveBack, "the database is unreachable");
        assert_eq!(after_chunk(replay, None).0, Begin::GiveBack, "a shutdown");
        assert_eq!(pause_after(replay, async { panic!("its filter") }).await, AFTER_ERROR);
    }

    #[test]
    fn a_chunk_that_fails_is_retried_after_growing_pauses() {
        let pauses = [1, 2, 3, 4, 5].map(|begun| pause_after_error(begun).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 0]);
    }
}
