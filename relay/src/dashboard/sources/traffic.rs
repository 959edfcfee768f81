//! What a source has received, over time.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::super::curve::{Names, Point};
use crate::control::stats::{EventStats, Step};

pub(in crate::dashboard) const NAMES: Names = Names { good: "stored", bad: "rejected" };

/// The ranges of the curve of a source: their name, their text, their length and their step in seconds.
pub(super) const RANGES: [(&str, &str, i64, Step, i64); 4] = [
    ("1h", "1 hour", 3_600, Step::Minute, 60),
    ("24h", "24 hours", 86_400, Step::Hour, 3_600),
    ("7d", "7 days", 7 * 86_400, Step::Hour, 3_600),
    ("30d", "30 days", 30 * 86_400, Step::Day, 86_400),
];
pub(super) const DEFAULT_RANGE: usize = 1;

/// A point for each step of the last `seconds`, also where nothing was received.
pub(super) fn points(events: &[EventStats], seconds: i64, step_s: i64, now: OffsetDateTime) -> Vec<Point> {
    let counts: HashMap<i64, (i64, i64)> =
        events.iter().map(|row| (row.at.0.unix_timestamp(), (row.stored, row.rejected))).collect();
    let first = (now.unix_timestamp() - seconds).div_euclid(step_s) + 1;
    let last = now.unix_timestamp().div_euclid(step_s);
    let point = |index: i64| {
        let (good, bad) = counts.get(&(index * step_s)).copied().unwrap_or_default();
        Point { at: OffsetDateTime::from_unix_timestamp(index * step_s).unwrap_or(now), good, bad }
    };
    (first..=last).map(point).collect()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::control::time::Timestamp;

    #[test]
    fn a_day_has_a_point_for_each_hour_up_to_this_one() {
        let now = datetime!(2026-01-31 08:00:30 UTC);
        let row = |at, stored| EventStats { at: Timestamp(at), stored, copies: 0, rejected: 1 };
        let rows = [row(datetime!(2026-01-31 08:00 UTC), 3), row(datetime!(2026-01-30 08:00 UTC), 9)];
        let points = points(&rows, 86_400, 3_600, now);
        assert_eq!(points.len(), 24);
        assert_eq!(points.last().map(|point| (point.good, point.bad)), Some((3, 1)));
        assert_eq!(points.iter().map(|point| point.good).sum::<i64>(), 3, "the hour of yesterday has passed");
    }
}
