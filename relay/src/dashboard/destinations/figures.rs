//! The counts of destinations over time, as curves and figures.

use std::collections::HashMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::control::stats::{DeliveryStats, Step};
use crate::dashboard::curve::{Names, Point};

pub(in crate::dashboard) const DELIVERIES: Names = Names { good: "succeeded", bad: "failed attempts" };

/// A range of a curve: its name in the URL and on the page, its length in seconds, and its step.
#[derive(Debug, Clone, Copy)]
pub(in crate::dashboard) struct Range {
    pub(in crate::dashboard) name: &'static str,
    pub(in crate::dashboard) text: &'static str,
    pub(in crate::dashboard) seconds: i64,
    pub(in crate::dashboard) step: Step,
}

pub(in crate::dashboard) const HOUR: Range = Range { name: "1h", text: "1 hour", seconds: 3_600, step: Step::Minute };
pub(in crate::dashboard) const DAY: Range = Range { name: "24h", text: "24 hours", seconds: 86_400, step: Step::Hour };
const WEEK: Range = Range { name: "7d", text: "7 days", seconds: 7 * 86_400, step: Step::Hour };

impl Range {
    pub(in crate::dashboard) const ALL: [Self; 3] = [HOUR, DAY, WEEK];

    /// The range with this name; the last day if there is none.
    pub(in crate::dashboard) fn named(name: Option<&str>) -> Self {
        Self::ALL.into_iter().find(|range| Some(range.name) == name).unwrap_or(DAY)
    }

    const fn step_s(self) -> i64 {
        match self.step {
            Step::Minute => 60,
            Step::Hour => 3_600,
            Step::Day => 86_400,
        }
    }

    /// The index of the first step.
    fn first(self, now: OffsetDateTime) -> i64 {
        (now.unix_timestamp() - self.seconds).div_euclid(self.step_s()) + 1
    }

    /// When the first step begins, as the control layer reads it.
    pub(in crate::dashboard) fn from(self, now: OffsetDateTime) -> String {
        let first = OffsetDateTime::from_unix_timestamp(self.first(now) * self.step_s()).unwrap_or(now);
        first.format(&Rfc3339).unwrap_or_default()
    }

    /// A point for each step up to now, also where nothing happened.
    pub(in crate::dashboard) fn points(self, stats: &[DeliveryStats], now: OffsetDateTime) -> Vec<Point> {
        let counts: HashMap<i64, (i64, i64)> =
            stats.iter().map(|row| (row.at.0.unix_timestamp(), (row.succeeded, row.failed_attempts))).collect();
        let step_s = self.step_s();
        let last = now.unix_timestamp().div_euclid(step_s);
        let point = |index: i64| {
            let (good, bad) = counts.get(&(index * step_s)).copied().unwrap_or_default();
            Point { at: OffsetDateTime::from_unix_timestamp(index * step_s).unwrap_or(now), good, bad }
        };
        (self.first(now)..=last).map(point).collect()
    }
}

/// The sums of counts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::dashboard) struct Sums {
    pub(in crate::dashboard) succeeded: i64,
    pub(in crate::dashboard) dead: i64,
    pub(in crate::dashboard) failed_attempts: i64,
    /// The share of attempts that succeeded; `None` if there were none.
    pub(in crate::dashboard) success: Option<f64>,
    /// 95 % of the attempts took at most this long; `None` if there were none, or if it is longer than is measured.
    pub(in crate::dashboard) p95_ms: Option<u64>,
}

impl Sums {
    pub(in crate::dashboard) fn of(stats: &[DeliveryStats]) -> Self {
        let mut sums = Self::default();
        let mut within: Vec<(Option<i32>, i64)> = Vec::new();
        for row in stats {
            sums.succeeded += row.succeeded;
            sums.dead += row.dead;
            sums.failed_attempts += row.failed_attempts;
            for (index, latency) in row.attempts.iter().enumerate() {
                match within.get_mut(index) {
                    Some((_, count)) => *count += latency.count,
                    None => within.push((latency.within_ms, latency.count)),
                }
            }
        }
        sums.success = share(sums.succeeded, sums.succeeded + sums.failed_attempts);
        sums.p95_ms = p95(&within);
        sums
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than four digits")]
fn share(part: i64, all: i64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// The upper bound of the bucket in which 95 % of the attempts are.
fn p95(within: &[(Option<i32>, i64)]) -> Option<u64> {
    let all: i64 = within.iter().map(|(_, count)| count).sum();
    let mut seen = 0;
    for (most, count) in within {
        seen += count;
        if all > 0 && seen * 100 >= all * 95 {
            return most.and_then(|most| u64::try_from(most).ok());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::control::stats::Latency;
    use crate::control::time::Timestamp;

    fn row(at: OffsetDateTime, succeeded: i64, failed_attempts: i64) -> DeliveryStats {
        let attempts = vec![
            Latency { within_ms: Some(50), count: succeeded },
            Latency { within_ms: Some(250), count: failed_attempts },
            Latency { within_ms: None, count: 0 },
        ];
        DeliveryStats { at: Timestamp(at), succeeded, dead: 0, failed_attempts, attempts }
    }

    #[test]
    fn a_curve_begins_where_its_counts_do_and_ends_now() {
        let now = datetime!(2026-01-31 08:30:30 UTC);
        assert_eq!(DAY.from(now), "2026-01-30T09:00:00Z");
        let points = DAY.points(&[row(datetime!(2026-01-31 08:00 UTC), 3, 1)], now);
        assert_eq!((points.len(), points[0].at), (24, datetime!(2026-01-30 09:00 UTC)));
        assert_eq!((points[23].good, points[23].bad, points[22].good), (3, 1, 0));
        assert_eq!(Range::named(Some("7d")).points(&[], now).len(), 168);
        assert_eq!(Range::named(Some("a year")).name, "24h");
    }

    #[test]
    fn the_share_and_the_time_come_from_all_attempts() {
        let at = datetime!(2026-01-31 08:00 UTC);
        let sums = Sums::of(&[row(at, 90, 1), row(at, 9, 0)]);
        assert_eq!((sums.success, sums.p95_ms), (Some(0.99), Some(50)));
        assert_eq!(Sums::of(&[row(at, 1, 1)]).p95_ms, Some(250));
        assert_eq!(Sums::of(&[]), Sums::default());
    }
}
