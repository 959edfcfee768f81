//! How values are written on pages: times, sizes, durations, states. Everything that comes from outside is escaped.

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use askama::filters::HtmlSafe;
use model::delivery::DeliveryState;
use model::event::Verification;
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

use super::link;

/// HTML, in which every text from outside is escaped already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Markup(String);

impl Markup {
    pub(super) fn new(html: String) -> Self {
        Self(html)
    }
}

impl fmt::Display for Markup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl HtmlSafe for Markup {}

/// A text as HTML shows it, also within an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // HTML has no way to write NUL.
            '\0' => escaped.push('\u{2400}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A text with a capital at the beginning and a full stop at the end.
pub(super) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let Some(first) = characters.next() else { return String::new() };
    let end = if text.ends_with(['.', '!', '?', ':']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), characters.as_str())
}

/// The rest of a sentence: a text with a full stop at the end.
pub(super) fn sentence_rest(text: &str) -> String {
    let end = if text.is_empty() || text.ends_with(['.', '!', '?', ':']) { "" } else { "." };
    format!("{text}{end}")
}

const MACHINE: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
const LONG: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3] UTC");
const CLOCK: &[FormatItem<'_>] = format_description!("[hour]:[minute]:[second] UTC");
const DAY: &[FormatItem<'_>] = format_description!("[month repr:short] [day padding:none], [hour]:[minute] UTC");

const MINUTE: &[FormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");

fn format(at: OffsetDateTime, format: &[FormatItem<'_>]) -> String {
    at.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_default()
}

fn element(at: OffsetDateTime, kind: &str, text: &str) -> Markup {
    Markup(format!(
        "<time datetime=\"{}\" title=\"{}\" data-as=\"{kind}\">{text}</time>",
        format(at, MACHINE),
        format(at, LONG)
    ))
}

/// A time of day, with the date unless it is today. A script shows it in the zone of the viewer.
pub(super) fn clock(at: impl Borrow<OffsetDateTime>, now: impl Borrow<OffsetDateTime>) -> Markup {
    let at = *at.borrow();
    let is_today = at.date() == now.borrow().date();
    element(at, "clock", &format(at, if is_today { CLOCK } else { DAY }))
}

/// A time as text, to the minute.
pub(super) fn minute(at: OffsetDateTime) -> String {
    format(at, MINUTE)
}

/// How long ago a time is, or how long it is until then.
pub(super) fn ago(at: impl Borrow<OffsetDateTime>, now: impl Borrow<OffsetDateTime>) -> Markup {
    let at = *at.borrow();
    let ms = (*now.borrow() - at).whole_milliseconds();
    let span = duration(u64::try_from(ms.unsigned_abs()).unwrap_or(u64::MAX));
    let text = match ms {
        -999..=999 => "now".to_owned(),
        1_000.. => format!("{span} ago"),
        _ => format!("in {span}"),
    };
    element(at, "ago", &text)
}

/// A duration, to about two digits.
pub(super) fn duration(ms: impl Borrow<u64>) -> String {
    let ms = *ms.borrow();
    let (tenths, seconds) = (ms / 100 % 10, ms / 1_000);
    match seconds {
        0 => format!("{ms} ms"),
        1..=9 if tenths > 0 => format!("{seconds}.{tenths} s"),
        1..=99 => format!("{seconds} s"),
        100..=5_999 => format!("{} min", seconds / 60),
        6_000..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A whole number, by value or by reference: templates pass references.
pub(super) trait Int {
    fn int(&self) -> i64;
}

macro_rules! ints {
    ($($kind:ty)*) => {
        $(impl Int for $kind {
            fn int(&self) -> i64 {
                i64::try_from(*self).unwrap_or(i64::MAX)
            }
        })*
    };
}

ints! { i16 i32 i64 u16 u32 u64 usize }

impl<I: Int> Int for &I {
    fn int(&self) -> i64 {
        (**self).int()
    }
}

/// A whole number for a drawing, which needs no more than a few digits.
#[expect(clippy::cast_precision_loss, reason = "a drawing needs no more than a few digits")]
pub(super) fn float(number: impl Int) -> f64 {
    number.int() as f64
}

/// An age, as [`duration`] writes it.
pub(super) fn age(age: Duration) -> String {
    duration(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

/// A number with a comma between thousands.
pub(super) fn number(number: impl Int) -> String {
    let number = number.int();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate with one digit after the point below ten.
pub(super) fn rate(rate: impl Borrow<f64>) -> String {
    let rate = *rate.borrow();
    if rate >= 10.0 || rate == 0.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

/// A share as a percentage. It is 100 % only if nothing is missing.
pub(super) fn percent(share: impl Borrow<f64>) -> String {
    let share = *share.borrow();
    let percent = share * 100.0;
    if share >= 1.0 {
        "100 %".to_owned()
    } else if percent >= 99.0 {
        format!("{:.2} %", percent.min(99.99))
    } else {
        format!("{percent:.1} %")
    }
}

/// A size in bytes, to about three digits, in units of 1,000.
pub(super) fn bytes(bytes: impl Int) -> String {
    let bytes = bytes.int();
    match bytes {
        ..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} KB", bytes / 1_000, bytes % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
        1_000_000_000.. => format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000),
    }
}

/// A noun with its number: "1 delivery", "2 deliveries".
pub(super) fn count(number: impl Int, one: &str, several: &str) -> String {
    let value = number.int();
    format!("{} {}", self::number(value), if value == 1 { one } else { several })
}

/// A time as machines read it.
pub(super) fn rfc3339(at: impl Borrow<OffsetDateTime>) -> String {
    format(*at.borrow(), MACHINE)
}

/// Words as a list: "a, b and c".
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// What a colour means. Each has a mark of its own, so that nothing is said by colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Ok,
    Warn,
    Danger,
    Held,
    Quiet,
}

impl Tone {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Danger => "danger",
            Self::Held => "held",
            Self::Quiet => "quiet",
        }
    }

    const fn mark(self) -> &'static str {
        match self {
            Self::Ok => "●",
            Self::Warn => "◐",
            Self::Danger => "✕",
            Self::Held => "○",
            Self::Quiet => "–",
        }
    }
}

/// A word with a colour and its mark.
pub(super) fn badge(tone: impl Borrow<Tone>, text: &str) -> Markup {
    let tone = *tone.borrow();
    Markup(format!("<span class=\"badge tone-{}\" data-mark=\"{}\">{}</span>", tone.name(), tone.mark(), escape(text)))
}

/// A mark alone, with a text for screen readers and on hover.
pub(super) fn mark(tone: impl Borrow<Tone>, text: &str) -> Markup {
    let tone = *tone.borrow();
    let text = escape(text);
    Markup(format!(
        "<span class=\"mark tone-{}\" role=\"img\" aria-label=\"{text}\" title=\"{text}\">{}</span>",
        tone.name(),
        tone.mark()
    ))
}

/// The tone of a delivery's state.
pub(super) const fn delivery_tone(state: DeliveryState) -> Tone {
    match state {
        DeliveryState::Pending => Tone::Warn,
        DeliveryState::Held => Tone::Held,
        DeliveryState::Succeeded => Tone::Ok,
        DeliveryState::Dead => Tone::Danger,
        DeliveryState::Cancelled => Tone::Quiet,
    }
}

/// The state of a delivery.
pub(super) fn delivery(state: impl Borrow<DeliveryState>) -> Markup {
    let state = *state.borrow();
    badge(delivery_tone(state), &capital(state.name()))
}

/// The result of a verification.
pub(super) fn verification(verification: impl Borrow<Verification>) -> Markup {
    let verification = *verification.borrow();
    let tone = match verification {
        Verification::Verified => Tone::Ok,
        Verification::Stale => Tone::Warn,
        Verification::Failed => Tone::Danger,
        Verification::Unsigned | Verification::Released | Verification::Edited => Tone::Quiet,
    };
    badge(tone, &capital(verification.name()))
}

/// The URL of a page of the dashboard for a customer, whatever customer the present page is for.
pub(super) fn of_customer(path: &str, customer: &str) -> String {
    link::with(path, &[(link::CUSTOMER, Some(customer))])
}

/// A word with a capital, and spaces for underscores.
pub(super) fn capital(word: &str) -> String {
    let text = word.replace('_', " ");
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), characters.as_str()))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn what_comes_from_outside_is_escaped() {
        assert_eq!(escape("<script>\"'&\0"), "&lt;script&gt;&quot;&#39;&amp;\u{2400}");
        let badge = badge(Tone::Ok, "\"><img onerror=1>").to_string();
        assert!(!badge.contains("<img"), "{badge}");
    }

    #[test]
    fn durations_have_about_two_digits() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_250, "1.2 s"),
            (59_900, "59 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 days"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn numbers_shares_and_sizes_are_written_for_people() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567, -1_000].map(|value: i64| number(value)),
            ["0", "999", "1,000", "1,234,567", "-1,000"]
        );
        assert_eq!(
            [1.0, 0.99999, 0.995, 0.5, 0.0].map(|share: f64| percent(share)),
            ["100 %", "99.99 %", "99.50 %", "50.0 %", "0.0 %"]
        );
        assert_eq!([0, 999, 1_234, 5_000_000].map(|size: i64| bytes(size)), ["0 B", "999 B", "1.2 KB", "5.0 MB"]);
        assert_eq!([0.0, 0.25, 12.4].map(|value: f64| rate(value)), ["0", "0.2", "12"]);
        assert_eq!(
            (count(1, "event", "events"), count(2_000, "event", "events")),
            ("1 event".into(), "2,000 events".into())
        );
    }

    #[test]
    fn a_time_says_how_long_ago_it_is_or_until_then() {
        let now = datetime!(2026-01-31 08:00:10 UTC);
        for (at, text) in [
            (datetime!(2026-01-31 08:00:07 UTC), "3 s ago"),
            (datetime!(2026-01-31 08:02:30 UTC), "in 2 min"),
            (datetime!(2026-01-31 08:00:10.5 UTC), "now"),
        ] {
            let html = ago(at, now).to_string();
            assert!(html.contains(&format!(">{text}<")), "{html}");
        }
        let html = clock(datetime!(2026-01-30 08:00:07 +1), now).to_string();
        assert!(
            html.contains("datetime=\"2026-01-30T07:00:07.000Z\"") && html.contains(">Jan 30, 07:00 UTC<"),
            "{html}"
        );
    }

    #[test]
    fn words_are_a_list_and_a_time_has_a_form_for_machines() {
        assert_eq!([list(&[]), list(&["a"]), list(&["a", "b", "c"])], ["", "a", "a, b and c"]);
        assert_eq!(rfc3339(datetime!(2026-01-31 09:00:07 +1)), "2026-01-31T08:00:07.000Z");
    }

    #[test]
    fn a_sentence_begins_with_a_capital_and_ends_with_a_stop() {
        assert_eq!(
            (sentence("it fails"), sentence("It fails."), sentence("")),
            ("It fails.".into(), "It fails.".into(), String::new())
        );
    }
}
