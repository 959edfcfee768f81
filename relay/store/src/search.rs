//! Searches through history, a range at a time.
//!
//! A filter can match one row of a hundred million. No index serves each combination of filters, so a statement that ends
//! when it has found enough may read all of history. A search bounds what it looks at instead: it takes ranges of a
//! number of rows, counted in an index that gives the order of the list, and stops after so many rows or so much time. The
//! caller learns how far the search came and can go on from there.
//!
//! A range that reaches the time limit of its statements is looked at again in smaller parts.

use std::future::Future;
use std::time::Instant;

use uuid::Uuid;

mod edge;
mod pace;

pub use self::edge::{Events, Pending, Settled, rejections, unreadable_messages};
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

/// The order in which a search goes through a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    NewestFirst,
    OldestFirst,
}

/// What is looked for in a table of history.
pub trait Search: Send {
    /// The id of the last of the first `rows` rows of the range, in the order of the search; `None` if the range has fewer.
    /// They are counted in the index that fits the filters best, or if `plain`, among all rows of the table.
    ///
    /// # Errors
    /// If a statement fails.
    fn edge(
        &self,
        pool: &Pool,
        range: Range,
        rows: i64,
        plain: bool,
    ) -> impl Future<Output = Result<Option<Uuid>>> + Send;

    /// Adds what matches in the range to what was found; returns whether that is enough. In that case the search ends
    /// before the end of the range.
    ///
    /// # Errors
    /// If a statement fails; then nothing was added.
    fn look(&mut self, pool: &Pool, range: Range) -> impl Future<Output = Result<bool>> + Send;
}

/// How a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Enough was found.
    Full,
    /// The whole range was looked at.
    End,
    /// The limits were reached; this is what was not looked at.
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

    /// The ids that are greater than `id`, if there is one.
    #[must_use]
    pub fn behind(self, id: Option<Uuid>) -> Self {
        Self { from: id.map_or(self.from, |id| self.from.max(after(id))), ..self }
    }

    /// The last id before the range: what lies behind it is the range.
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

/// How many rows are still wanted.
#[must_use]
pub fn remaining(limit: i64, found: usize) -> i64 {
    limit.saturating_sub(i64::try_from(found).unwrap_or(i64::MAX)).max(0)
}

/// The id that follows `id`.
#[must_use]
pub fn after(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

/// Goes through a range until enough is found, its end is reached, or the limits are. It comes at least one range far.
///
/// # Errors
/// If a statement fails, or takes too long for the smallest range at the beginning of the range.
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
            // What was found up to here is an answer.
            Err(_) => return Ok(Outcome::Stopped(rest)),
        }
        if rest != range && pace.is_over(begun.elapsed()) {
            return Ok(if rest.is_empty() { Outcome::End } else { Outcome::Stopped(rest) });
        }
    }
    Ok(Outcome::End)
}

/// One range; `Stopped` with what follows it, if more follows.
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
    fn a_range_holds_its_edge_and_the_rest_follows_it() {
        assert_eq!(range(10, 20).split(Order::NewestFirst, id(15)), (range(15, 20), range(10, 15)));
        assert_eq!(range(10, 20).split(Order::OldestFirst, id(15)), (range(10, 16), range(16, 20)));
        assert!(range(10, 20).split(Order::NewestFirst, id(10)).1.is_empty());
        assert!(range(10, 20).split(Order::OldestFirst, id(19)).1.is_empty());
    }

    #[test]
    fn what_lies_behind_the_start_of_a_range_is_the_range() {
        for part in [range(10, 20), range(1, 20), Range::ALL.behind(Some(id(7)))] {
            assert_eq!(Range { from: id(0), ..part }.behind(Some(part.start())), part);
        }
        assert_eq!(Range::ALL.behind(None), Range::ALL);
        assert_eq!(range(10, 20).behind(Some(id(3))), range(10, 20), "a range never grows");
    }
}
