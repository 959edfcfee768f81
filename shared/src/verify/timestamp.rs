//! Signed times.

mod rfc3339;

pub(crate) use rfc3339::text_of;

use super::rejection::Rejection;
use crate::scheme::rule::{TimestampRule, TimestampUnit};

impl TimestampRule {
    /// The time in `text`, in Unix milliseconds.
    pub(super) fn read(&self, text: &str) -> Option<u64> {
        match self.unit {
            TimestampUnit::Seconds => digits(text)?.checked_mul(1_000),
            TimestampUnit::Milliseconds => digits(text),
            TimestampUnit::Iso8601 => rfc3339::unix_ms(text),
        }
    }

    /// Whether the time in `text` is near enough to `now_ms` (Unix time in milliseconds).
    ///
    /// A number must be digits only: it is signed as it is written, and a reader that also accepts `+1` or `1e9` could
    /// be made to see another time than the signed one.
    pub(super) fn check(&self, text: &str, now_ms: u64) -> Result<(), Rejection> {
        let malformed = || Rejection::TimestampMalformed { place: self.place.clone(), unit: self.unit };
        let at_ms = self.read(text).ok_or_else(malformed)?;
        let whole_seconds = match self.unit {
            TimestampUnit::Seconds => true,
            TimestampUnit::Milliseconds => false,
            TimestampUnit::Iso8601 => !text.contains('.'),
        };
        let Some(tolerance_s) = self.tolerance_s else { return Ok(()) };
        // Both sides are in whole seconds if the sender counts seconds: its fraction is not known.
        let now = if whole_seconds { now_ms / 1_000 * 1_000 } else { now_ms };
        let tolerance_ms = u64::from(tolerance_s) * 1_000;
        if now.saturating_sub(at_ms) > tolerance_ms {
            return Err(Rejection::TimestampOld { age_s: (now - at_ms).div_ceil(1_000), tolerance_s });
        }
        if !self.past_only && at_ms.saturating_sub(now) > tolerance_ms {
            return Err(Rejection::TimestampFuture { ahead_s: (at_ms - now).div_ceil(1_000), tolerance_s });
        }
        Ok(())
    }
}

fn digits(text: &str) -> Option<u64> {
    let only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    only.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::reference::Reference;

    const NOW_MS: u64 = 1_700_000_000_900;

    fn rule(unit: TimestampUnit) -> TimestampRule {
        let place = Reference::Header("x-time".to_owned());
        TimestampRule { place, unit, tolerance_s: Some(300), past_only: false }
    }

    #[test]
    fn a_time_is_accepted_up_to_the_tolerance_on_both_sides() {
        let check = |text: &str| rule(TimestampUnit::Seconds).check(text, NOW_MS);
        for text in ["1700000000", "1699999700", "1700000300"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert_eq!(check("1699999699"), Err(Rejection::TimestampOld { age_s: 301, tolerance_s: 300 }));
        assert_eq!(check("1700000301"), Err(Rejection::TimestampFuture { ahead_s: 301, tolerance_s: 300 }));
    }

    #[test]
    fn milliseconds_are_not_seconds() {
        let check = |text: &str| rule(TimestampUnit::Milliseconds).check(text, NOW_MS);
        assert_eq!(check("1700000000900"), Ok(()));
        assert_eq!(check("1699999700899"), Err(Rejection::TimestampOld { age_s: 301, tolerance_s: 300 }));
        assert!(check("1700000000").is_err());
    }

    #[test]
    fn anything_but_digits_is_malformed() {
        let rule = rule(TimestampUnit::Seconds);
        let malformed = Err(Rejection::TimestampMalformed { place: rule.place.clone(), unit: rule.unit });
        for text in ["", "+1700000000", "-1", "1700000000.0", " 1700000000", "1e9", "١٧", "99999999999999999999", "0x1"]
        {
            assert_eq!(rule.check(text, NOW_MS), malformed, "{text:?}");
        }
    }

    #[test]
    fn the_future_and_the_tolerance_are_waived_only_if_the_rule_says_so() {
        let lenient = TimestampRule { past_only: true, ..rule(TimestampUnit::Seconds) };
        assert_eq!(lenient.check("1800000000", NOW_MS), Ok(()));
        assert!(lenient.check("1600000000", NOW_MS).is_err());
        let any = TimestampRule { tolerance_s: None, ..rule(TimestampUnit::Seconds) };
        assert_eq!(any.check("1", NOW_MS), Ok(()));
        assert!(any.check("1x", NOW_MS).is_err());
    }

    #[test]
    fn a_written_date_is_a_time_in_its_own_precision() {
        // 2023-11-14T22:13:20Z is 1,700,000,000.
        let check = |text: &str| rule(TimestampUnit::Iso8601).check(text, NOW_MS);
        assert_eq!(check("2023-11-14T22:08:20Z"), Ok(()), "whole seconds against whole seconds");
        let old = Err(Rejection::TimestampOld { age_s: 301, tolerance_s: 300 });
        assert_eq!(check("2023-11-14T22:08:20.8Z"), old);
        assert_eq!(check("2023-11-14T22:08:20.9Z"), Ok(()));
        assert_eq!(check("2023-11-15T00:18:20+02:00"), Ok(()));
        assert!(matches!(check("1700000000"), Err(Rejection::TimestampMalformed { .. })));
    }
}
