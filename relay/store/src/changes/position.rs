//! Positions: how far a reader has read the changes.

use std::fmt;
use std::str::FromStr;

/// How far a reader has read. Positions of one history are ordered as the changes are read; each names the first change
/// that has not been read.
///
/// The text of a position is `pos_` and 48 hexadecimal digits. Callers must not take it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The history of the database that the position belongs to.
    pub history: u32,
    /// The transaction of the next row.
    pub transaction: u64,
    /// The number of the next row.
    pub number: u64,
    /// How many ids of that row have been read.
    pub index: u32,
}

/// The text is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a position; a position is `pos_` and 48 hexadecimal digits, as a stream has sent it")]
pub struct NoPosition;

impl Position {
    /// The position before all rows of this and later transactions.
    #[must_use]
    pub const fn before(history: u32, transaction: u64) -> Self {
        Self { history, transaction, number: 0, index: 0 }
    }

    /// The position after some ids of a row of the same history.
    #[must_use]
    pub const fn within(self, transaction: u64, number: u64, index: u32) -> Self {
        Self { history: self.history, transaction, number, index }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { history, transaction, number, index } = self;
        write!(f, "pos_{history:08x}{transaction:016x}{number:016x}{index:08x}")
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let digits = text.strip_prefix("pos_").ok_or(NoPosition)?;
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 48 || !digits.as_bytes().iter().all(is_digit) {
            return Err(NoPosition);
        }
        let number = |from: usize, until: usize| {
            digits.get(from..until).and_then(|part| u64::from_str_radix(part, 16).ok()).ok_or(NoPosition)
        };
        let small = |from: usize, until: usize| number(from, until)?.try_into().map_err(|_| NoPosition);
        let position =
            Self { history: small(0, 8)?, transaction: number(8, 24)?, number: number(24, 40)?, index: small(40, 48)? };
        // The database has signed numbers.
        let fits = |number: u64| i64::try_from(number).is_ok();
        (fits(position.transaction) && fits(position.number)).then_some(position).ok_or(NoPosition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSITION: Position = Position { history: 7, transaction: 80, number: 0x1234_5678_9abc, index: 3 };

    #[test]
    fn a_position_is_read_from_its_text() {
        let text = POSITION.to_string();
        assert_eq!(text, "pos_0000000700000000000000500000123456789abc00000003");
        assert_eq!(text.parse(), Ok(POSITION));
    }

    #[test]
    fn another_text_is_no_position() {
        let text = POSITION.to_string();
        let longer = format!("{text}0");
        let signed = format!("pos_+{}", &text[5..]);
        let too_large = format!("pos_{}", "f".repeat(48));
        for other in ["", "pos_", &text[1..], &text[..51], &longer, &signed, &too_large, &text.to_uppercase()] {
            assert_eq!(other.parse::<Position>(), Err(NoPosition), "{other}");
        }
    }

    #[test]
    fn positions_are_ordered_as_changes_are_read() {
        let before = Position::before(7, 80);
        assert!(before < before.within(80, 1, 0) && before.within(80, 1, 0) < before.within(80, 1, 1));
        assert!(before.within(80, 9, 9) < before.within(81, 1, 0) && POSITION < Position::before(7, 81));
    }
}
