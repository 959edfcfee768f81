//! Which evaluation is next: every source has its own line, and the lines take turns. Pure.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

/// The waiting items, by source. No line is empty.
#[derive(Debug)]
pub(super) struct Lines<T> {
    lines: HashMap<Uuid, VecDeque<T>>,
    /// The sources that have a line, in the order of their turns.
    turns: VecDeque<Uuid>,
    waiting: usize,
    /// The maximum number of items in all lines together.
    most: usize,
}

/// There is no room for another item.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<T> Lines<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { lines: HashMap::new(), turns: VecDeque::new(), waiting: 0, most }
    }

    /// Whether one more item may wait for a source. A single source gets half of the room, so that others find some.
    pub(super) fn check(&self, source: Uuid) -> Result<(), Full> {
        let own = self.lines.get(&source).map_or(0, VecDeque::len);
        if self.waiting >= self.most || own >= self.most.div_ceil(2) { Err(Full) } else { Ok(()) }
    }

    pub(super) fn push(&mut self, source: Uuid, item: T) {
        let line = self.lines.entry(source).or_default();
        if line.is_empty() {
            self.turns.push_back(source);
        }
        line.push_back(item);
        self.waiting += 1;
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let source = self.turns.pop_front()?;
        let line = self.lines.get_mut(&source)?;
        let item = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&source);
        } else {
            self.turns.push_back(source);
        }
        self.waiting -= 1;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Uuid = Uuid::from_u128(1);
    const QUIET: Uuid = Uuid::from_u128(2);

    #[test]
    fn a_source_waits_for_one_item_of_each_other_source_however_many_those_have() {
        let mut lines = Lines::new(100);
        (0..10).for_each(|number| lines.push(BUSY, number));
        lines.push(QUIET, 100);
        let order: Vec<i32> = std::iter::from_fn(|| lines.pop()).collect();
        assert_eq!(order[..3], [0, 100, 1]);
        assert_eq!(order.len(), 11);
        assert!(lines.lines.is_empty() && lines.turns.is_empty() && lines.waiting == 0);
    }

    #[test]
    fn one_source_does_not_take_all_of_the_room() {
        let mut lines = Lines::new(4);
        (0..2).for_each(|number| lines.push(BUSY, number));
        assert_eq!((lines.check(BUSY), lines.check(QUIET)), (Err(Full), Ok(())));
        (0..2).for_each(|number| lines.push(QUIET, number));
        assert_eq!(lines.check(Uuid::from_u128(3)), Err(Full));
    }
}
