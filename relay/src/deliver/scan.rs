//! Scans the tables for deliveries that the lines of this replica do not have: retries of an earlier owner, deliveries
//! that other replicas or the API have made due or cancelled, and expedited ones. It also compares the version of the
//! configuration, so that an idle relay sends the database one statement every two seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::Input;
use engine::retry::database_backoff;
use model::signal::Signal;
use model::unix_time;
use store::Pool;
use store::pending::{NextDueRow, Scan};
use store::signals::Position;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::configuration::Configuration;
use crate::engine_handle::Handle;
use crate::mint;

/// The most lanes in one scan for due deliveries, which takes some 50 ms of the database's time. While more lanes than
/// that have deliveries, the next scan continues after them: with a hundred thousand lanes each is scanned once in 40
/// seconds.
pub(crate) const LANES_PER_SCAN: i64 = 5_000;

/// The lanes are scanned for at most 1/`SCAN_SHARE` of the time, but at least every [`LONGEST_SCAN_INTERVAL`]: dead
/// rows that are still in the index make a scan slow.
const SCAN_SHARE: u32 = 20;
pub(crate) const LONGEST_SCAN_INTERVAL: Duration = Duration::from_secs(30);

/// The state of the next scan for due deliveries.
pub(super) struct NextScan {
    /// The lane after which it begins: the last lane of the previous scan, or before the first lane.
    after: (uuid::Uuid, i16),
    /// The earliest time at which it includes the lanes again.
    not_before: Instant,
    /// How far the signals have been read.
    signals: Position,
}

impl Default for NextScan {
    fn default() -> Self {
        Self { after: Default::default(), not_before: Instant::now(), signals: Position::default() }
    }
}

/// Scans the tables. The lanes are left out if nothing can be sent, or if the last scan of the lanes took long and it
/// is too early for the next.
pub(super) async fn scan(
    pool: Pool,
    configuration: Arc<Configuration>,
    handle: Handle,
    mut next: OwnedMutexGuard<NextScan>,
    lanes: bool,
) {
    let begun = Instant::now();
    let scans_lanes = lanes && begun >= next.not_before;
    let lanes = if scans_lanes { LANES_PER_SCAN } else { 0 };
    let found = match store::pending::next_due(&pool, next.after, lanes, &next.signals).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "could not read when the next delivery is due; retrying");
            return;
        }
    };
    let Scan { version, lanes: rows, now, signals, horizon, expedited } = found;
    if let Err(error) = configuration.compare(version, begun).await {
        tracing::warn!(%error, "could not read the new configuration; retrying");
    }
    // Cancelled deliveries are dropped before more deliveries are read.
    if signals {
        read_signals(&pool, &handle, &mut next.signals).await;
    } else {
        next.signals.move_to(horizon);
    }
    if expedited {
        read_marked(&pool, &handle).await;
    }
    if !scans_lanes {
        return;
    }
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= LANES_PER_SCAN);
    let last = rows.iter().map(|row| (row.destination_id.uuid(), row.lane.number())).max();
    next.after = last.filter(|_| is_full).unwrap_or_default();
    next.not_before = begun + (begun.elapsed() * SCAN_SHARE).min(LONGEST_SCAN_INTERVAL);
    for row in rows {
        let NextDueRow { destination_id: destination, lane, due_at: Some(due_at) } = row else { continue };
        let (due_us, now_us) = (unix_time::unix_us(due_at), unix_time::unix_us(now));
        let wait = Duration::from_micros(due_us.saturating_sub(now_us));
        handle.tell(Input::NextDue { destination, lane, due_us, wait });
    }
}

/// Reads the position from which this replica has to read the signals. Retries until it succeeds.
pub(super) async fn begin_signals(pool: &Pool, next_scan: &Mutex<NextScan>) {
    let mut backoff = database_backoff();
    loop {
        match store::signals::begin(pool).await {
            Ok(position) => {
                next_scan.lock().await.signals = position;
                return;
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    "could not read the position of the cancellation signals; nothing is sent until it has been read; \
                     retrying"
                );
                tokio::time::sleep(backoff.next_pause(mint::jitter())).await;
            }
        }
    }
}

/// Notifies the engine of cancellations through this and other replicas.
async fn read_signals(pool: &Pool, handle: &Handle, position: &mut Position) {
    match store::signals::read(pool, position).await {
        Ok(signals) => {
            for signal in signals {
                match signal {
                    Signal::Delivery(destination, delivery) => handle.delivery_cancelled(destination, delivery),
                    Signal::Replay(replay) => handle.replay_cancelled(replay),
                }
            }
        }
        Err(error) => tracing::warn!(%error, "could not read cancellation signals; retrying"),
    }
}

/// Passes the expedited deliveries to the engine.
async fn read_marked(pool: &Pool, handle: &Handle) {
    match store::expedited::marked(pool).await {
        Ok(deliveries) if deliveries.is_empty() => {}
        Ok(deliveries) => handle.tell(Input::Expedite(deliveries)),
        Err(error) => tracing::warn!(%error, "could not read expedited deliveries; retrying"),
    }
}
