//! Compares two texts line by line.

/// The most lines of each text that are compared.
pub(in crate::dashboard) const COMPARED_LINES: usize = 600;

/// Whether a line is in both texts, or only in one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dashboard) enum Side {
    Both,
    First,
    Second,
}

impl Side {
    /// The mark in front of the line.
    pub(in crate::dashboard) const fn mark(self) -> &'static str {
        match self {
            Self::Both => " ",
            Self::First => "−",
            Self::Second => "+",
        }
    }

    pub(in crate::dashboard) const fn tone(self) -> &'static str {
        match self {
            Self::Both => "",
            Self::First => "danger",
            Self::Second => "ok",
        }
    }
}

/// A line of the comparison.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::dashboard) struct Line {
    pub(in crate::dashboard) side: Side,
    pub(in crate::dashboard) text: String,
}

/// The lines of both texts, with the longest common sequence of lines in common.
pub(in crate::dashboard) fn compare(first: &str, second: &str) -> Vec<Line> {
    let [first, second] = [first, second].map(|text| text.lines().take(COMPARED_LINES).collect::<Vec<_>>());
    let (rows, columns) = (first.len(), second.len());
    // The length of the longest common sequence of what follows each pair of lines.
    let mut common = vec![vec![0_u16; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = if first[row] == second[column] {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut lines = Vec::new();
    let line = |side, text: &str| Line { side, text: text.to_owned() };
    while row < rows || column < columns {
        if row < rows && column < columns && first[row] == second[column] {
            lines.push(line(Side::Both, first[row]));
            (row, column) = (row + 1, column + 1);
        } else if column >= columns || (row < rows && common[row + 1][column] >= common[row][column + 1]) {
            lines.push(line(Side::First, first[row]));
            row += 1;
        } else {
            lines.push(line(Side::Second, second[column]));
            column += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_common_are_kept_and_others_are_of_one_text() {
        let shown = |first, second| -> Vec<String> {
            compare(first, second).iter().map(|line| format!("{}{}", line.side.mark(), line.text)).collect()
        };
        assert_eq!(shown("a\nb\nc", "a\nx\nc\nd"), [" a", "−b", "+x", " c", "+d"]);
        assert_eq!(shown("", "a"), ["+a"]);
        assert_eq!(shown("a", ""), ["−a"]);
        assert!(shown("", "").is_empty());
    }
}
