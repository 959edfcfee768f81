//! Writes `docs/LIMITS.md`: the limits on memory, size, number and time, with their values, settings and purposes. The
//! values come from the constants themselves.

mod code;
mod control;
mod dashboard;
mod data;
mod edge;
mod memory;

use std::fmt::Write as _;
use std::time::Duration;

use crate::config::SETTINGS;

const INTRODUCTION: &str = "# Limits

This page lists the limits on memory, size, number and time, with their settings and their purpose. It is generated from
the constants of the code (`UPDATE_DOCS=1 cargo test --package relay --lib documents`).

A setting in capitals is an environment variable of the relay; its range is in the
[README](../README.md#settings-of-the-relay). Other settings are fields of the API and are given with their range. A
dash means that the limit is fixed. The last column names the constant, or the file that enforces the setting; it is
empty if the value is not a public constant. MB and GB are decimal, KiB and MiB are binary.
";

/// One row of the page.
pub(super) struct Bound {
    what: &'static str,
    value: String,
    setting: String,
    protects: &'static str,
    code: Code,
}

/// The code that a limit is in.
#[derive(Clone, Copy)]
pub(super) enum Code {
    /// An expression with the constants that the value is made of.
    Constants(&'static str),
    /// The file that enforces a setting.
    File(&'static str),
}

/// A limit that cannot be changed.
macro_rules! fixed {
    ($what:expr, $value:expr, $protects:expr $(,)?) => {
        $crate::documents::limits::Bound {
            what: $what,
            value: $value,
            setting: "–".to_owned(),
            protects: $protects,
            code: $crate::documents::limits::Code::Constants(stringify!($value)),
        }
    };
}

/// A limit that a field of the API sets. `setting` describes its range.
macro_rules! api {
    ($what:expr, $value:expr, $setting:expr, $protects:expr $(,)?) => {
        $crate::documents::limits::Bound {
            what: $what,
            value: $value,
            setting: $setting,
            protects: $protects,
            code: $crate::documents::limits::Code::Constants(stringify!($value, $setting)),
        }
    };
}

use {api, fixed};

/// A limit that an environment variable sets. `show` formats its default; `file` enforces it.
fn env(
    what: &'static str,
    name: &'static str,
    show: fn(u64) -> String,
    file: &'static str,
    protects: &'static str,
) -> Bound {
    Bound { what, value: show(default_of(name)), setting: format!("`{name}`"), protects, code: Code::File(file) }
}

/// The default of an environment variable whose value is a number.
fn default_of(name: &str) -> u64 {
    let setting = SETTINGS.iter().find(|setting| setting.name == name).unwrap_or_else(|| panic!("{name}: no setting"));
    setting.default.and_then(|default| default.parse().ok()).unwrap_or_else(|| panic!("{name}: no number"))
}

/// A bound that a field of the API sets, from the OpenAPI document: its default, and its range.
fn field(
    what: &'static str,
    schema: &str,
    name: &str,
    show: fn(u64) -> String,
    file: &'static str,
    protects: &'static str,
) -> Bound {
    let document = serde_json::to_value(crate::api::description()).expect("json");
    let field = &document["components"]["schemas"][schema]["properties"][name];
    let number = |key: &str| field[key].as_u64().unwrap_or_else(|| panic!("{schema}.{name} has no {key}"));
    let setting = format!("`{name}`, {} to {}", show(number("minimum")), show(number("maximum")));
    // The description contains the default: the tests of the API require that.
    let text = field["description"].as_str().unwrap_or_default();
    let default = text.rsplit_once("Default: ").map(|(_, default)| default.replace([',', '.'], ""));
    let default = default.and_then(|default| default.trim().parse().ok());
    let default = default.unwrap_or_else(|| panic!("{schema}.{name} names no default"));
    Bound { what, value: show(default), setting, protects, code: Code::File(file) }
}

fn number(value: impl TryInto<u64>) -> u64 {
    value.try_into().unwrap_or_else(|_| panic!("the number does not fit"))
}

/// A number in groups of three digits.
fn count(value: impl TryInto<u64>) -> String {
    let digits = number(value).to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A size, in MiB, KiB or MB if it is a whole number of them.
fn bytes(value: impl TryInto<u64>) -> String {
    let value = number(value);
    let whole = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1 << 10, "KiB")];
    match whole.into_iter().find(|(unit, _)| value >= *unit && value.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", count(value / unit)),
        None => format!("{} bytes", count(value)),
    }
}

/// A time, in the largest unit of which it is a whole number.
fn time(value: Duration) -> String {
    let ms = number(value.as_millis());
    let whole = [(86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    match whole.into_iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit)) {
        Some((86_400_000, _)) if ms == 86_400_000 => "24 h".to_owned(),
        Some((unit, name)) => format!("{} {name}", count(ms / unit)),
        None => format!("{} ms", count(ms)),
    }
}

fn micros(value: u64) -> String {
    time(Duration::from_micros(value))
}

fn millis(value: impl TryInto<u64>) -> String {
    time(Duration::from_millis(number(value)))
}

fn seconds(value: impl TryInto<u64>) -> String {
    time(Duration::from_secs(number(value)))
}

fn days(value: impl TryInto<u64>) -> String {
    let value = number(value);
    if value == 1 { "1 day".to_owned() } else { format!("{} days", count(value)) }
}

/// A share, in percent.
fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

fn table(page: &mut String, heading: &str, about: &str, bounds: &[Bound]) {
    let about = if about.is_empty() { String::new() } else { format!("{about}\n\n") };
    let _ =
        write!(page, "\n## {heading}\n\n{about}| limit | value | setting | purpose | code |\n|---|---:|---|---|---|\n");
    for Bound { what, value, setting, protects, code } in bounds {
        let _ = writeln!(page, "| {what} | {value} | {setting} | {protects} | {} |", code::links(*code));
    }
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    memory::write(&mut page);
    edge::write(&mut page);
    data::write(&mut page);
    control::write(&mut page);
    dashboard::write(&mut page);
    page
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test writes the page if UPDATE_DOCS is set")]
fn the_page_of_limits_has_the_values_of_the_constants() {
    let path = super::repository().join("docs/LIMITS.md");
    let made = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).expect("docs/LIMITS.md is written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == made, "docs/LIMITS.md is out of date; run: UPDATE_DOCS=1 cargo test -p relay documents");
}

#[test]
fn values_are_written_in_the_unit_that_fits() {
    assert_eq!(
        [bytes(65_536), bytes(25_000_000), bytes(127_000), bytes(64 << 20)],
        ["64 KiB", "25 MB", "127,000 bytes", "64 MiB"]
    );
    assert_eq!(
        [seconds(86_400), seconds(90), seconds(3_600), millis(1_500), seconds(1_209_600)],
        ["24 h", "90 s", "1 h", "1,500 ms", "14 days"]
    );
    assert_eq!([count(999), count(1_000), count(1_234_567)], ["999", "1,000", "1,234,567"]);
}
