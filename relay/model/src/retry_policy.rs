//! A destination's retry policy, as the API accepts it.

use serde::{Deserialize, Deserializer, Serialize};

/// Standard Webhooks 1.0.0: the seconds to wait before each of ten attempts, the first at once, over about three days.
pub const STANDARD_SCHEDULE_S: [u32; 10] =
    [0, 5, 5 * 60, 30 * 60, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];

const HOUR: u32 = 60 * 60;

/// The longest single wait, in seconds: 7 days.
pub const MAX_DELAY_S: u32 = 7 * 24 * HOUR;

/// The maximum number of attempts.
pub const MAX_ATTEMPTS: u32 = 50;

/// The steepest growth of the exponential form.
pub const MAX_MULTIPLIER: f64 = 10.0;

/// How often and when a delivery is tried. It is created by deserialising, which validates it, or by
/// [`RetryPolicy::checked`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub enum RetryPolicy {
    /// The wait before each attempt in seconds: 1 to 50 entries of 0 to 604,800. Every new delivery waits for the first
    /// one, which is usually 0. A delivery that is retried or released manually does not wait for it.
    Schedule { schedule_s: Vec<u32> },
    /// The first attempt at once, then growing waits.
    Exponential {
        /// The wait before the second attempt in seconds, 1 to 604,800.
        initial_s: u32,
        /// The factor from one wait to the next, 1 to 10.
        multiplier: f64,
        /// The longest wait in seconds, `initial_s` to 604,800.
        max_s: u32,
        /// The number of attempts, 1 to 50.
        attempts: u32,
    },
}

/// Why a retry policy is invalid. Each error names its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("set either schedule_s, or all of initial_s, multiplier, max_s and attempts")]
    Form,
    #[error("{0} is missing; the exponential form needs initial_s, multiplier, max_s and attempts")]
    Missing(&'static str),
    #[error("schedule_s has {0} entries, but must have 1 to {MAX_ATTEMPTS}")]
    ScheduleLength(usize),
    #[error("schedule_s[{0}] is {1}, but must be 0 to {MAX_DELAY_S} seconds")]
    ScheduleEntry(usize, u32),
    #[error("initial_s is {0}, but must be 1 to {MAX_DELAY_S} seconds")]
    Initial(u32),
    #[error("multiplier is {0}, but must be 1 to {MAX_MULTIPLIER}")]
    Multiplier(String),
    #[error("max_s is {0}, but must be at least initial_s and at most {MAX_DELAY_S} seconds")]
    Max(u32),
    #[error("attempts is {0}, but must be 1 to {MAX_ATTEMPTS}")]
    Attempts(u32),
}

impl PolicyError {
    /// The invalid field; empty if the fields cannot be combined.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Form => "",
            Self::Missing(field) => field,
            Self::ScheduleLength(_) | Self::ScheduleEntry(..) => "schedule_s",
            Self::Initial(_) => "initial_s",
            Self::Multiplier(_) => "multiplier",
            Self::Max(_) => "max_s",
            Self::Attempts(_) => "attempts",
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::Schedule { schedule_s: STANDARD_SCHEDULE_S.to_vec() }
    }
}

impl RetryPolicy {
    /// The maximum number of attempts of a delivery.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        match self {
            Self::Schedule { schedule_s } => u32::try_from(schedule_s.len()).unwrap_or(MAX_ATTEMPTS),
            Self::Exponential { attempts, .. } => *attempts,
        }
    }

    /// Returns the policy if every field is in its range.
    ///
    /// # Errors
    /// Returns the error of the first field that is not.
    pub fn checked(self) -> Result<Self, PolicyError> {
        match &self {
            Self::Schedule { schedule_s } => {
                let length = schedule_s.len();
                if length == 0 || u32::try_from(length).is_ok_and(|length| length > MAX_ATTEMPTS) {
                    return Err(PolicyError::ScheduleLength(length));
                }
                if let Some((index, delay_s)) =
                    schedule_s.iter().enumerate().find(|(_, delay_s)| **delay_s > MAX_DELAY_S)
                {
                    return Err(PolicyError::ScheduleEntry(index, *delay_s));
                }
            }
            Self::Exponential { initial_s, multiplier, max_s, attempts } => {
                if !(1..=MAX_DELAY_S).contains(initial_s) {
                    return Err(PolicyError::Initial(*initial_s));
                }
                if !(1.0..=MAX_MULTIPLIER).contains(multiplier) {
                    return Err(PolicyError::Multiplier(multiplier.to_string()));
                }
                if !(*initial_s..=MAX_DELAY_S).contains(max_s) {
                    return Err(PolicyError::Max(*max_s));
                }
                if !(1..=MAX_ATTEMPTS).contains(attempts) {
                    return Err(PolicyError::Attempts(*attempts));
                }
            }
        }
        Ok(self)
    }
}

/// The fields of both forms, so that an error names the field and not "no variant matched".
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, deserialize_with = "value", skip_serializing_if = "Option::is_none")]
    schedule_s: Option<Vec<u32>>,
    #[serde(default, deserialize_with = "value", skip_serializing_if = "Option::is_none")]
    initial_s: Option<u32>,
    #[serde(default, deserialize_with = "value", skip_serializing_if = "Option::is_none")]
    multiplier: Option<f64>,
    #[serde(default, deserialize_with = "value", skip_serializing_if = "Option::is_none")]
    max_s: Option<u32>,
    #[serde(default, deserialize_with = "value", skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
}

/// Rejects null: otherwise a null field of the other form would be taken for an absent one.
fn value<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl TryFrom<Fields> for RetryPolicy {
    type Error = PolicyError;

    fn try_from(fields: Fields) -> Result<Self, PolicyError> {
        let Fields { schedule_s, initial_s, multiplier, max_s, attempts } = fields;
        let exponential = initial_s.is_some() || multiplier.is_some() || max_s.is_some() || attempts.is_some();
        let policy = match (schedule_s, exponential) {
            (Some(schedule_s), false) => Self::Schedule { schedule_s },
            (None, true) => Self::Exponential {
                initial_s: initial_s.ok_or(PolicyError::Missing("initial_s"))?,
                multiplier: multiplier.ok_or(PolicyError::Missing("multiplier"))?,
                max_s: max_s.ok_or(PolicyError::Missing("max_s"))?,
                attempts: attempts.ok_or(PolicyError::Missing("attempts"))?,
            },
            (Some(_), true) | (None, false) => return Err(PolicyError::Form),
        };
        policy.checked()
    }
}

impl From<RetryPolicy> for Fields {
    fn from(policy: RetryPolicy) -> Self {
        match policy {
            RetryPolicy::Schedule { schedule_s } => Self { schedule_s: Some(schedule_s), ..Self::default() },
            RetryPolicy::Exponential { initial_s, multiplier, max_s, attempts } => Self {
                schedule_s: None,
                initial_s: Some(initial_s),
                multiplier: Some(multiplier),
                max_s: Some(max_s),
                attempts: Some(attempts),
            },
        }
    }
}
