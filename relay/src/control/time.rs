//! Times as RFC 3339 text.

use model::unix_time;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fields::Problems;

/// A time as the API shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(pub OffsetDateTime);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        time::serde::rfc3339::serialize(&self.0, serializer)
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .description(Some("A timestamp in RFC 3339 format, in UTC."))
            .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::DateTime)))
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {}

/// Reads a time from the query or the body, as Unix milliseconds.
pub(super) fn read_ms(field: &str, text: Option<&str>, problems: &mut Problems) -> Option<u64> {
    let text = text?;
    // An unescaped + in a query arrives as a space.
    match OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339) {
        Ok(at) => Some(unix_time::unix_ms(at)),
        Err(_) => {
            problems
                .add(field, format!("\"{text}\" is not an RFC 3339 timestamp; use one such as 2026-01-31T08:00:00Z"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "2026-01-31T08:00:00.5Z";
    const AT_MS: u64 = 1_769_846_400_500;

    #[test]
    fn times_are_read_in_every_zone_and_with_a_plus_that_became_a_space() {
        let mut problems = Problems::default();
        for text in [AT, "2026-01-31T09:00:00.5+01:00", "2026-01-31T09:00:00.5 01:00"] {
            assert_eq!(read_ms("after", Some(text), &mut problems), Some(AT_MS), "{text}");
        }
        assert!(problems.finish().is_ok());
        for text in ["", "yesterday", "2026-01-31", "1769846400"] {
            let mut problems = Problems::default();
            assert_eq!(read_ms("after", Some(text), &mut problems), None);
            assert!(problems.finish().is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_shown_as_text() {
        let shown = serde_json::to_string(&Timestamp(unix_time::timestamp(AT_MS))).expect("json");
        assert_eq!(shown, format!("\"{AT}\""));
    }
}
