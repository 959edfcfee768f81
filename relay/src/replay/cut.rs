//! How much a replay processes at a time, by rows, bytes and its rate.

use std::time::Duration;

use model::destination::Rate;
use store::search::Limits;

/// The most rows in one chunk.
pub(crate) const CHUNK_ROWS: usize = 1_000;

/// The most bytes of contents that are read for one chunk. That much is read again if the relay ends before the chunk
/// does.
pub(crate) const CHUNK_BYTES: u64 = 16 * 1024 * 1024;

/// The most bytes of contents that are in memory at a time. It is far above the size of a group of usual events, so
/// that these are read together.
pub(crate) const GROUP_BYTES: u64 = 4 * 1024 * 1024;

/// The most deliveries that one chunk makes, unless a single event makes more: the size of one transaction.
pub(crate) const CHUNK_DELIVERIES: u64 = 20_000;

/// How long making a chunk may take. After that, the part that is ready is stored.
pub(super) const MAKE_WITHIN: Duration = Duration::from_secs(2);

/// The limits of a turn's search for matching rows. When one is reached, the cursor moves to where the search stopped.
/// The time is short, because other replays wait for their turn. The limits do not depend on how often the chunk was
/// begun before: a range that takes too long is cut within the turn.
pub(crate) const RANGE_LIMITS: Limits =
    Limits { first: 2_000, largest: 20_000, total: 100_000, within: Duration::from_millis(250) };

/// How many of the first rows fit together into `most`; at least one, if there is any. `sizes` are the bytes of each
/// row, or the deliveries that it makes.
pub(super) fn first(sizes: impl IntoIterator<Item = u64>, most: u64) -> usize {
    let mut total = 0_u64;
    let mut rows = 0;
    for size in sizes {
        total = total.saturating_add(size);
        if rows > 0 && total > most {
            break;
        }
        rows += 1;
    }
    rows
}

/// How many rows a replay processes at a time: a quarter of a second's worth of its rate, so that the rate does not
/// become one burst per second. It is divided by four for each time that the chunk has been begun before. So a chunk
/// that is too much for the relay or the database becomes small enough, or the reason for the failure names only a few
/// events.
pub(super) fn rows_of(rate: Option<Rate>, begun: i16) -> usize {
    let parts = 4_usize.saturating_pow(u32::try_from(begun).unwrap_or(0));
    (rows_by_rate(rate) / parts).max(1)
}

fn rows_by_rate(rate: Option<Rate>) -> usize {
    let Some(rate) = rate else { return CHUNK_ROWS };
    let per_second = f64::from(rate.limit.get()) / rate.per.as_secs_f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "capped at the size of a chunk")]
    let rows = (per_second / 4.0) as usize;
    rows.clamp(1, CHUNK_ROWS)
}

/// How long to wait after `rows` rows to keep the rate.
pub(super) fn wait_after(rows: usize, rate: Option<Rate>) -> Duration {
    let Some(rate) = rate else { return Duration::ZERO };
    #[expect(clippy::cast_precision_loss, reason = "at most the size of a chunk")]
    Duration::from_secs_f64(rows as f64 * rate.per.as_secs_f64() / f64::from(rate.limit.get()))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn rate(limit: u32, per_s: u64) -> Option<Rate> {
        NonZeroU32::new(limit).map(|limit| Rate { limit, per: Duration::from_secs(per_s) })
    }

    #[test]
    fn rows_are_taken_together_up_to_a_number_of_bytes() {
        assert_eq!(first([], 10), 0);
        assert_eq!(first([4, 4, 2, 1], 10), 3, "ten bytes are allowed");
        assert_eq!(first([4, 4, 3, 1], 10), 2, "a smaller row does not overtake an earlier one");
        assert_eq!(first([0; 1_000], 10), 1_000, "rows whose contents are not read do not count");
        assert_eq!(first([0, 0, 11], 10), 2);
    }

    #[test]
    fn a_row_that_is_too_large_is_taken_alone() {
        assert_eq!(first([11, 1], 10), 1);
        assert_eq!(first([1, 11, 1], 10), 1);
        assert_eq!(first([u64::MAX, u64::MAX], 10), 1);
    }

    #[test]
    fn a_replay_without_a_rate_takes_full_chunks_and_never_waits() {
        assert_eq!((rows_of(None, 0), wait_after(CHUNK_ROWS, None)), (CHUNK_ROWS, Duration::ZERO));
    }

    #[test]
    fn a_chunk_that_was_begun_before_takes_fewer_rows_each_time() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(|begun| rows_of(None, begun)), [1_000, 250, 62, 15, 3, 1]);
        assert_eq!(rows_of(rate(10, 60), 4), 1);
    }

    #[test]
    fn a_rate_is_kept_by_waiting_in_proportion_to_the_rows() {
        for (rate, rows, pause) in [
            (rate(100, 1), 25, Duration::from_millis(250)),
            (rate(10, 60), 1, Duration::from_secs(6)),
            (rate(100_000, 1), 1_000, Duration::from_millis(10)),
        ] {
            assert_eq!((rows_of(rate, 0), wait_after(rows, rate)), (rows, pause));
        }
        assert_eq!(wait_after(5, rate(100, 1)), Duration::from_millis(50), "a chunk that was cut by bytes");
    }
}
