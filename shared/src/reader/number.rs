//! Numbers by their digits.

use std::cmp::Ordering;

/// The number of Rust that holds a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Int(i64),
    /// Too large for [`Number::Int`].
    Uint(u64),
    /// The nearest double is written with the same digits, or the number is not finite.
    Double(f64),
    /// No double is written like this: it has more digits than a double keeps, or it is too large or too small. Holds the
    /// nearest one.
    Digits(f64),
}

impl Number {
    /// The number for this JSON text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        if let Ok(int) = text.parse() {
            return Self::Int(int);
        }
        if let Ok(uint) = text.parse() {
            return Self::Uint(uint);
        }
        let Ok(double) = text.parse::<f64>() else { return Self::Double(f64::NAN) };
        let is_named = text.ends_with(['N', 'y']);
        // Up to fifteen digits survive unchanged if the exponent is in range.
        let short = text.len() <= 15 && !text.contains(['e', 'E']);
        if is_named || short || (double.is_finite() && compare(text, &format!("{double:e}")).is_eq()) {
            Self::Double(double)
        } else {
            Self::Digits(double)
        }
    }
}

/// Compares two finite numbers by their digits, however many there are.
#[must_use]
pub fn compare(one: &str, other: &str) -> Ordering {
    let (one, other) = (Decimal::of(one), Decimal::of(other));
    match (one.sign(), other.sign()) {
        (same, sign) if same != sign => same.cmp(&sign),
        (0, _) => Ordering::Equal,
        (1, _) => one.compare_size(&other),
        _ => other.compare_size(&one),
    }
}

/// A number as its digits: 0.*digits* times ten to the power of `exponent`.
struct Decimal<'a> {
    negative: bool,
    /// Before and after the point. The first has no leading zeros, the second no trailing ones; if the first is empty,
    /// the second has no leading zeros either.
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Decimal<'a> {
    fn of(text: &'a str) -> Self {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole = whole.trim_start_matches('0');
        let mut fraction = fraction.trim_end_matches('0');
        let mut point = i64::try_from(whole.len()).unwrap_or(i64::MAX);
        if whole.is_empty() {
            let significant = fraction.trim_start_matches('0');
            point = -i64::try_from(fraction.len() - significant.len()).unwrap_or(i64::MAX);
            fraction = significant;
        }
        // An exponent beyond 64 bits is as good as the largest.
        let out_of_range = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
        let exponent =
            exponent.parse::<i64>().map_or(out_of_range, |exponent| exponent.clamp(i64::MIN / 2, i64::MAX / 2));
        Self { negative, whole, fraction, exponent: exponent.saturating_add(point) }
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.bytes().chain(self.fraction.bytes())
    }

    fn sign(&self) -> i8 {
        match (self.digits().all(|digit| digit == b'0'), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    fn compare_size(&self, other: &Self) -> Ordering {
        // Trailing zeros of a whole number carry no information.
        let significant = |decimal: &Self| decimal.digits().count() - trailing_zeros(decimal);
        self.exponent
            .cmp(&other.exponent)
            .then_with(|| self.digits().take(significant(self)).cmp(other.digits().take(significant(other))))
    }
}

fn trailing_zeros(decimal: &Decimal<'_>) -> usize {
    let zeros = |text: &str| text.len() - text.trim_end_matches('0').len();
    if decimal.fraction.is_empty() { zeros(decimal.whole) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_its_digits() {
        for (text, number) in [
            ("7", Number::Int(7)),
            ("-9223372036854775808", Number::Int(i64::MIN)),
            ("18446744073709551615", Number::Uint(u64::MAX)),
            ("0.1", Number::Double(0.1)),
            ("1.50", Number::Double(1.5)),
            ("-0", Number::Int(0)),
            ("-0.0", Number::Double(0.0)),
            ("1e3", Number::Double(1000.0)),
            ("1E+22", Number::Double(1e22)),
            ("0.30000000000000004", Number::Double(0.1 + 0.2)),
            ("5e-324", Number::Double(5e-324)),
            ("Infinity", Number::Double(f64::INFINITY)),
            ("-Infinity", Number::Double(f64::NEG_INFINITY)),
            ("36893488147419103233", Number::Digits(36_893_488_147_419_103_232.0)),
            ("0.12345678901234567890", Number::Digits(0.123_456_789_012_345_68)),
            ("1e400", Number::Digits(f64::INFINITY)),
            ("1e-400", Number::Digits(0.0)),
        ] {
            assert_eq!(Number::of(text), number, "{text}");
        }
        assert!(matches!(Number::of("NaN"), Number::Double(double) if double.is_nan()));
    }

    #[test]
    fn numbers_are_compared_by_their_digits() {
        let ordered = [
            "-1e400",
            "-36893488147419103234",
            "-36893488147419103233",
            "-1",
            "-1e-400",
            "0",
            "1e-99999999999999999999999",
            "1e-400",
            "0.00012345678901234567890",
            "0.1",
            "9",
            "10",
            "10.5",
            "36893488147419103233",
            "36893488147419103234",
            "1e400",
            "1e99999999999999999999999",
        ];
        for (at, one) in ordered.iter().enumerate() {
            for (place, other) in ordered.iter().enumerate() {
                assert_eq!(compare(one, other), at.cmp(&place), "{one} {other}");
            }
        }
        for (one, other) in [("100", "1e2"), ("0.010", "1E-2"), ("-0", "0.000"), ("0e5", "0"), ("12.300e1", "123")] {
            assert_eq!(compare(one, other), Ordering::Equal, "{one} {other}");
        }
    }
}
