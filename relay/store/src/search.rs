//! Searches through history, one range at a time.
//!
//! A filter can match one row in a hundred million. No index serves every combination of filters, so a statement that
//! ends when it has found enough rows may read all of history. A search instead limits how much it reads: it takes
//! ranges of a certain number of rows, counted in an index that has the order of the list, and stops after a total
//! number of rows or a total time. The caller is given the unread rest, and can continue from there.
//!
//! A range whose statements reach their time limit is searched again in smaller parts.

use std::future::Future;
use std::time::Instant;

use uuid::Uuid;

mod edge;
mod pace;

pub use self::edge::{Events, Pending, Settled, audit_entries, rejections, unreadable_messages};
pub use self::pace::Limits;
use self::pace::Pace;
use super::Pool;
use crate::{Kind, Limit, Result};

/// A range of ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// Inclusive.
    pub from: Uuid,
    /// Exclusive.
    pub until: Uuid,
}

/// The order in which a search reads a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    NewestFirst,
    OldestFirst,
}

/// A search through a table of history.
pub trait Search: Send {
    /// The id of the last of the first `rows` rows of the range, in the order of the search; `None` if the range has
    /// fewer. The rows are counted in the index that fits the filters best, or, if `plain`, among all rows of the
    /// table.
    ///
    /// # Errors
    /// Returns an error if a query fails.
    fn edge(
        &self,
        pool: &Pool,
        range: Range,
        rows: i64,
        plain: bool,
    ) -> impl Future<Output = Result<Option<Uuid>>> + Send;

    /// Adds the matching rows of the range to those found, and returns whether that is enough. If so, the search ends,
    /// even before the end of the range.
    ///
    /// # Errors
    /// Returns an error if a query fails; then nothing was added.
    fn look(&mut self, pool: &Pool, range: Range) -> impl Future<Output = Result<bool>> + Send;
}

/// How a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Enough rows were found.
    Full,
    /// The whole range was searched.
    End,
    /// The limits were reached; contains the part that was not searched.
    Stopped(Range),
}

impl Range {
    /// All ids.
    pub const ALL: Self = Self { from: Uuid::nil(), until: Uuid::max() };

    /// One id.
    #[must_use]
    pub fn one(id: Uuid) -> Self {
        Self { from: id, until: after(id) }
    }

    /// The ids of the range that are greater than `id`, or the whole range if it is `None`.
    #[must_use]
    pub fn behind(self, id: Option<Uuid>) -> Self {
        Self { from: id.map_or(self.from, |id| self.from.max(after(id))), ..self }
    }

    /// The last id before the range: the range consists of the ids after it.
    #[must_use]
    pub fn start(self) -> Uuid {
        Uuid::from_u128(self.from.as_u128().saturating_sub(1))
    }

    fn is_empty(self) -> bool {
        self.from >= self.until
    }

    /// The part up to `edge`, and the rest.
    fn split(self, order: Order, edge: Uuid) -> (Self, Self) {
        let (middle, edge) = match order {
            Order::NewestFirst => (edge, edge),
            Order::OldestFirst => (after(edge), after(edge)),
        };
        let (older, newer) = (Self { until: middle, ..self }, Self { from: edge, ..self });
        match order {
            Order::NewestFirst => (newer, older),
            Order::OldestFirst => (older, newer),
        }
    }
}

/// How many more rows are needed.
#[must_use]
pub fn remaining(limit: i64, found: usize) -> i64 {
    limit.saturating_sub(i64::try_from(found).unwrap_or(i64::MAX)).max(0)
}

/// The id that follows `id`.
#[must_use]
pub fn after(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

/// Searches a range until enough rows are found, its end is reached, or a limit is reached. It searches at least one
/// part.
///
/// # Errors
/// Returns an error if a query fails, or if even the smallest part at the beginning of the range takes too long.
pub async fn run<S: Search>(
    pool: &Pool,
    search: &mut S,
    order: Order,
    range: Range,
    limits: Limits,
) -> Result<Outcome> {
    let begun = Instant::now();
    let mut pace = Pace::new(limits);
    let mut rest = range;
    while !rest.is_empty() {
        match search_range(pool, search, order, rest, &pace).await {
            Ok(Outcome::Stopped(next)) => {
                rest = next;
                pace.looked();
            }
            Ok(ended) => return Ok(ended),
            Err(error) if error.kind() != Kind::Timeout(Limit::Server) => return Err(error),
            Err(_) if pace.cut() => {}
            Err(error) if rest == range => return Err(error),
            // The rows found so far are a valid result.
            Err(_) => return Ok(Outcome::Stopped(rest)),
        }
        if rest != range && pace.is_over(begun.elapsed()) {
            return Ok(if rest.is_empty() { Outcome::End } else { Outcome::Stopped(rest) });
        }
    }
    Ok(Outcome::End)
}

/// Searches one part; `Stopped` contains the rest, if there is one.
async fn search_range<S: Search>(
    pool: &Pool,
    search: &mut S,
    order: Order,
    rest: Range,
    pace: &Pace,
) -> Result<Outcome> {
    let edge = search.edge(pool, rest, pace.rows(), pace.plain()).await?;
    let (part, next) = match edge {
        Some(edge) => rest.split(order, edge),
        None => (rest, Range { from: rest.until, until: rest.until }),
    };
    let full = search.look(pool, part).await?;
    Ok(match (full, edge) {
        (true, _) => Outcome::Full,
        (false, None) => Outcome::End,
        (false, Some(_)) => Outcome::Stopped(next),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn range(from: u128, until: u128) -> Range {
        Range { from: id(from), until: id(until) }
    }

    #[test]
    fn the_first_part_of_a_split_includes_the_edge_and_the_rest_follows() {
        assert_eq!(range(10, 20).split(Order::NewestFirst, id(15)), (range(15, 20), range(10, 15)));
        assert_eq!(range(10, 20).split(Order::OldestFirst, id(15)), (range(10, 16), range(16, 20)));
        assert!(range(10, 20).split(Order::NewestFirst, id(10)).1.is_empty());
        assert!(range(10, 20).split(Order::OldestFirst, id(19)).1.is_empty());
    }

    #[test]
    fn a_range_consists_of_the_ids_after_its_start() {
        for part in [range(10, 20), range(1, 20), Range::ALL.behind(Some(id(7)))] {
            assert_eq!(Range { from: id(0), ..part }.behind(Some(part.start())), part);
        }
        assert_eq!(Range::ALL.behind(None), Range::ALL);
        assert_eq!(range(10, 20).behind(Some(id(3))), range(10, 20), "a range never grows");
    }
}
