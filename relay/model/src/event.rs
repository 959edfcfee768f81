//! An event as it is stored, without its body.

use serde::{Deserialize, Serialize};
use shared::envelope;
use shared::header::HeaderList;
use shared::id::{EventId, SourceId};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// What is sent of an event, and what expressions read, besides its body.
#[derive(Debug, Clone)]
pub struct EventMeta {
    pub id: EventId,
    pub source_id: SourceId,
    pub received_at: OffsetDateTime,
    pub event_type: Option<String>,
    pub provider_event_id: Option<String>,
    pub method: String,
    pub query: String,
    pub headers: HeaderList,
}

/// The result of verifying an event. `verified`: the signature or credentials are valid. `stale`: the signature is
/// valid but its timestamp is outside the tolerance, and `on_stale` is `accept_flagged`. `unsigned`: the source
/// requires no signature. `failed`: verification failed, and the event is in quarantine. `released`: verification
/// failed, and the event has been released from quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// The signature or credentials are valid.
    Verified,
    /// The signature is valid but its timestamp is outside the tolerance, and `on_stale` is `accept_flagged`.
    Stale,
    /// The source requires no signature.
    Unsigned,
    /// Verification failed, and the event is in quarantine: it is not delivered until it is released.
    Failed,
    /// Verification failed, and the event has been released.
    Released,
}

impl Verification {
    /// All results.
    pub const ALL: [Self; 5] = [Self::Verified, Self::Stale, Self::Unsigned, Self::Failed, Self::Released];

    /// Its name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Stale => "stale",
            Self::Unsigned => "unsigned",
            Self::Failed => "failed",
            Self::Released => "released",
        }
    }

    /// The result with this name in the table; `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verification| verification.name() == name)
    }
}

impl From<&envelope::Verification> for Verification {
    fn from(verification: &envelope::Verification) -> Self {
        match verification {
            envelope::Verification::Verified => Self::Verified,
            envelope::Verification::Stale => Self::Stale,
            envelope::Verification::Unsigned => Self::Unsigned,
            envelope::Verification::Failed(_) => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_is_read_from_its_name_and_no_other_text_is_one() {
        for value in Verification::ALL {
            assert_eq!(Verification::from_name(value.name()), Some(value));
            assert_eq!(serde_json::to_value(value).expect("writes"), value.name(), "the API and the table agree");
        }
        for text in ["", "Failed", "of a later version"] {
            assert_eq!(Verification::from_name(text), None, "{text}");
        }
    }
}
