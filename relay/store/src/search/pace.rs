//! How many rows a search reads next, and when it stops.

use std::time::Duration;

/// The divisor for the size of a range that took too long.
const CUT: i64 = 16;

/// The factor by which each range is larger than the one before.
const GROWTH: i64 = 4;

/// How far a search may go.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The rows of the first range. Small, because most searches end in it.
    pub first: i64,
    /// The most rows of a range: as many as two statements can read within their time limit, even on a slow disk.
    pub largest: i64,
    /// The number of rows after which the search stops.
    pub total: i64,
    /// No range begins after this time.
    pub within: Duration,
}

/// The size of the next range of a search.
#[derive(Debug)]
pub(super) struct Pace {
    limits: Limits,
    rows: i64,
    looked: i64,
    plain: bool,
}

impl Pace {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, rows: limits.first.max(1), looked: 0, plain: false }
    }

    pub(super) fn rows(&self) -> i64 {
        self.rows
    }

    /// Whether rows are counted among all rows of the table. An index with few entries for the filters makes long
    /// ranges; if such a range takes too long, the index did not help.
    pub(super) fn plain(&self) -> bool {
        self.plain
    }

    /// Records that a range was searched.
    pub(super) fn looked(&mut self) {
        self.looked = self.looked.saturating_add(self.rows);
        self.rows = self.rows.saturating_mul(GROWTH).clamp(1, self.limits.largest.max(1));
    }

    /// Records that a range took too long. Returns false if it cannot be made smaller.
    pub(super) fn cut(&mut self) -> bool {
        if self.rows == 1 && self.plain {
            return false;
        }
        self.rows = (self.rows / CUT).max(1);
        // Later ranges of the same size would also take too long.
        self.limits.largest = self.rows;
        self.plain = true;
        true
    }

    pub(super) fn is_over(&self, elapsed: Duration) -> bool {
        self.looked >= self.limits.total || elapsed >= self.limits.within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { first: 1_000, largest: 10_000, total: 20_000, within: Duration::from_secs(5) };

    #[test]
    fn ranges_grow_until_the_search_is_over() {
        let mut pace = Pace::new(LIMITS);
        let mut rows = Vec::new();
        while !pace.is_over(Duration::ZERO) {
            rows.push(pace.rows());
            pace.looked();
        }
        assert_eq!(rows, [1_000, 4_000, 10_000, 10_000]);
        assert!(Pace::new(LIMITS).is_over(Duration::from_secs(5)));
    }

    #[test]
    fn a_range_that_takes_too_long_becomes_smaller_and_stays_small() {
        let mut pace = Pace::new(LIMITS);
        pace.looked();
        assert!((pace.cut(), pace.rows(), pace.plain()) == (true, 250, true));
        pace.looked();
        assert_eq!(pace.rows(), 250);
        assert!((pace.cut(), pace.rows()) == (true, 15));
        assert!((pace.cut(), pace.rows()) == (true, 1));
        assert!(!pace.cut(), "one row is the smallest");
    }

    #[test]
    fn a_range_of_one_row_by_an_index_is_repeated_without_the_index() {
        let mut pace = Pace::new(Limits { first: 1, ..LIMITS });
        assert!(pace.cut() && pace.plain());
        assert!(!pace.cut());
    }
}
