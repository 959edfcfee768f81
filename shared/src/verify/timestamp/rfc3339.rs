//! Dates and times in the format of RFC 3339.

/// The Unix time in milliseconds of a text such as `2021-03-25T05:09:27.25Z`; digits beyond milliseconds are ignored.
/// `None` for every other text, for days that do not exist, and for times before 1970.
///
/// Stricter than the RFC in one way: `T` and `Z` must be in upper case, as every sender writes them.
pub(super) fn unix_ms(text: &str) -> Option<u64> {
    let (date, time) = text.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let (time, offset_s) = split_offset(time)?;
    let (time, fraction_ms) = split_fraction(time)?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let utc_s = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_s;
    // A 60th second is a leap second, and leap seconds end a month.
    if second == 60 && !begins_a_month(utc_s, year) {
        return None;
    }
    u64::try_from(utc_s * 1_000 + fraction_ms).ok()
}

/// A time as a text in UTC and whole seconds, such as `2021-03-25T05:09:27Z`. Times beyond the year 9999 become its
/// last second.
pub(crate) fn text_of(unix_ms: u64) -> String {
    const LAST_S: u64 = 253_402_300_799;
    let seconds = (unix_ms / 1_000).min(LAST_S);
    let (days, second) = (i64::try_from(seconds / 86_400).unwrap_or_default(), seconds % 86_400);
    // A year has at most 366 days, so the wanted year is not before this one.
    let mut year = 1970 + days / 366;
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| days_since_1970(year, *month, 1) <= days).unwrap_or(1);
    let day = days - days_since_1970(year, month, 1) + 1;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Three numbers of exactly these many digits.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut found = [0; 3];
    for (number, digits) in found.iter_mut().zip(digits) {
        *number = number_of(parts.next()?, digits)?;
    }
    parts.next().is_none().then_some(found)
}

fn number_of(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The time without its offset from UTC, and that offset in seconds.
fn split_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix('Z') {
        return Some((time, 0));
    }
    let at = time.find(['+', '-'])?;
    let (hours, minutes) = time.get(at + 1..)?.split_once(':')?;
    let (hours, minutes) = (number_of(hours, 2)?, number_of(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset_s = hours * 3_600 + minutes * 60;
    Some((&time[..at], if time[at..].starts_with('-') { -offset_s } else { offset_s }))
}

/// The time without its fraction of a second, and that fraction in whole milliseconds.
fn split_fraction(time: &str) -> Option<(&str, i64)> {
    let Some((time, fraction)) = time.split_once('.') else { return Some((time, 0)) };
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms = fraction.bytes().chain(*b"000").take(3).fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
    Some((time, ms))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Whether a time in UTC, in seconds since 1970, is the first of a month. `year` is the year of a moment before, in
/// some time zone.
fn begins_a_month(utc_s: i64, year: i64) -> bool {
    let mut months = (year..=year + 1).flat_map(|year| (1..=12).map(move |month| (year, month)));
    months.any(|(year, month)| days_since_1970(year, month, 1) * 86_400 == utc_s)
}

/// Days from 1970-01-01 in the Gregorian calendar, counted in years that begin in March, so that a leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_counted_since_1970() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799_000),
            ("2000-03-01T00:00:00Z", 951_868_800_000),
            ("2012-05-02T00:54:06.655Z", 1_335_920_046_655),
            ("2019-11-16T10:11:12.634234626Z", 1_573_899_072_634),
            ("2021-03-25T05:09:27.5Z", 1_616_648_967_500),
            ("2015-05-18T17:45:13+02:00", 1_431_963_913_000),
            ("2015-05-18T10:15:13-05:30", 1_431_963_913_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("2017-01-01T01:59:60.5+02:00", 1_483_228_800_500),
            ("2016-12-31T13:59:60-10:00", 1_483_228_800_000),
            ("2017-07-01T23:58:60+23:59", 1_498_867_200_000),
            ("2015-05-18T00:00:00+23:59", 1_431_820_860_000),
        ] {
            assert_eq!(unix_ms(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn every_day_of_400_years_follows_the_one_before() {
        let mut expected = days_since_1970(1900, 1, 1);
        assert_eq!(expected, -25_567);
        for year in 1900..2300 {
            for month in 1..=12 {
                for day in 1..=days_in(year, month) {
                    assert_eq!(days_since_1970(year, month, day), expected, "{year}-{month}-{day}");
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn a_time_is_written_as_it_is_read() {
        let days = (0..146_097_u64).map(|day| day * 86_400_000 + day % 86_400 * 1_000);
        for ms in days.chain([253_402_300_799_000]) {
            assert_eq!(unix_ms(&text_of(ms)), Some(ms));
        }
        assert_eq!(text_of(1_700_000_000_999), "2023-11-14T22:13:20Z");
        assert_eq!(text_of(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn anything_else_is_no_time() {
        for text in [
            "",
            "1700000000",
            "2021-03-25",
            "2021-03-25T05:09:27",
            "2021-03-25t05:09:27z",
            "2021-03-25 05:09:27Z",
            "2021-3-25T05:09:27Z",
            "2021-02-29T05:09:27Z",
            "2100-02-29T05:09:27Z",
            "2021-04-31T05:09:27Z",
            "2021-13-01T05:09:27Z",
            "2021-00-01T05:09:27Z",
            "2021-03-25T24:09:27Z",
            "2021-03-25T05:60:27Z",
            "2021-03-25T05:09:61Z",
            "2021-03-25T05:09:60Z",
            "2016-12-30T23:59:60Z",
            "2016-12-31T23:59:60+02:00",
            "2021-03-25T05:09:27.Z",
            "2021-03-25T05:09:27.5.5Z",
            "2021-03-25T05:09:27+0200",
            "2021-03-25T05:09:27+24:00",
            "2021-03-25T05:09:27+02:60",
            "2021-03-25T05:09:27ZZ",
            "+2021-03-25T05:09:27Z",
            "2021-03-25T05:09:27Z ",
            "1969-12-31T23:59:59Z",
            "2021-03-25T05:09:\u{661}\u{662}Z",
            "2021-03-25T05:09:27é",
        ] {
            assert_eq!(unix_ms(text), None, "{text:?}");
        }
    }
}
