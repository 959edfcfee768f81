//! An event as it is stored, without its body.

use serde::{Deserialize, Serialize};
use shared::envelope;
use shared::header::HeaderList;
use shared::id::{EventId, SourceId};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// The parts of an event other than its body that expressions read and deliveries contain.
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
/// failed, and the event has been released from quarantine. `edited`: the event is an edited copy of another one, which a
/// caller has sent.
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
    /// Nothing was verified: the event is an edited copy of another one, which a caller has sent.
    Edited,
}

crate::names! {
    Verification {
        Verified => "verified",
        Stale => "stale",
        Unsigned => "unsigned",
        Failed => "failed",
        Released => "released",
        Edited => "edited",
    }
}

impl Verification {
    /// The name in the column `events.verification`. A relay of the version before knows no edited events, and shows
    /// them as unsigned; `events.edited_of` distinguishes the two.
    #[must_use]
    pub const fn column(self) -> &'static str {
        match self {
            Self::Edited => Self::Unsigned.name(),
            Self::Verified | Self::Stale | Self::Unsigned | Self::Failed | Self::Released => self.name(),
        }
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
