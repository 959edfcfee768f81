//! A rate limit as the API takes and shows it: `{"limit": 50, "per": "second"}`.

use std::num::NonZeroU32;
use std::time::Duration;

use model::destination::Rate;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::fields::{Problems, whole};
use crate::configuration;

/// The largest `limit` of a rate limit.
pub(crate) const MAX_LIMIT: u32 = 1_000_000;

/// The maximum number of deliveries in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// The maximum number of deliveries per period.
    #[serde(deserialize_with = "limit")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub limit: u32,
    /// The period.
    pub per: Period,
}

/// Reads a number that fits into `limit`. [`RateLimit::read`] checks it further.
fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number: i64 = whole(deserializer)?;
    u32::try_from(number).map_err(|_| D::Error::custom(format!("must be from 1 to {MAX_LIMIT}, but is {number}")))
}

/// The period of a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    Second,
    Minute,
    Hour,
}

impl RateLimit {
    /// The rate; `None` if a problem was noted.
    pub(super) fn read(self, problems: &mut Problems) -> Option<Rate> {
        let limit = NonZeroU32::new(self.limit).filter(|limit| limit.get() <= MAX_LIMIT);
        if limit.is_none() {
            problems.add(
                "rate_limit.limit",
                format!("must be from 1 to {MAX_LIMIT}, but is {}; to set no limit, omit rate_limit", self.limit),
            );
        }
        let per = match self.per {
            Period::Second => 1,
            Period::Minute => 60,
            Period::Hour => 3600,
        };
        limit.map(|limit| Rate { limit, per: Duration::from_secs(per) })
    }

    /// The rate limit that two columns contain.
    pub(super) fn of_columns(limit: Option<i32>, per: Option<&str>) -> Option<Self> {
        configuration::rate(limit, per).map(Self::from)
    }
}

/// The two columns for a rate.
pub(super) fn columns(rate: Option<Rate>) -> (Option<i32>, Option<&'static str>) {
    let limit = rate.and_then(|rate| i32::try_from(rate.limit.get()).ok());
    (limit, rate.filter(|_| limit.is_some()).map(Rate::per_name))
}

impl From<Rate> for RateLimit {
    fn from(rate: Rate) -> Self {
        let per = match rate.per.as_secs() {
            1 => Period::Second,
            60 => Period::Minute,
            _ => Period::Hour,
        };
        Self { limit: rate.limit.get(), per }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_survives_a_round_trip_through_its_columns() {
        for per in [Period::Second, Period::Minute, Period::Hour] {
            let given = RateLimit { limit: 50, per };
            let (limit, per) = columns(given.read(&mut Problems::default()));
            assert_eq!(RateLimit::of_columns(limit, per), Some(given));
        }
        assert_eq!(columns(None), (None, None));
    }

    #[test]
    fn a_limit_out_of_range_is_refused() {
        for limit in [0, MAX_LIMIT + 1] {
            let mut problems = Problems::default();
            assert_eq!(RateLimit { limit, per: Period::Second }.read(&mut problems), None);
            assert!(problems.finish().is_err(), "{limit}");
        }
    }
}
