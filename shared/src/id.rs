//! Typed ids: a `UUIDv7` (RFC 9562) with a prefix that names its kind, such as `evt_0197f3c8d2a17c3e9b5d0a4c6f7e8b91`.
//!
//! The timestamp inside the UUID is the one the id was minted with; day partitions and keyset pages rely on it. The
//! text form has no dashes and no `.`, which the Standard Webhooks specification forbids in a `webhook-id`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A text that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind} id: expected \"{prefix}_\" and 32 hexadecimal digits in lower case")]
pub struct ParseIdError {
    kind: &'static str,
    prefix: &'static str,
}

/// The prefix and the UUID of a text that has the form of an id, of whatever kind.
///
/// `try_parse` also accepts dashed and braced forms and upper case; one spelling per id keeps comparisons honest.
#[must_use]
pub fn parts(text: &str) -> Option<(&str, Uuid)> {
    let (prefix, digits) = text.split_once('_')?;
    let is_plain = digits.len() == 32 && !digits.bytes().any(|byte| byte.is_ascii_uppercase());
    let is_prefix = prefix.len() == 3 && prefix.bytes().all(|byte| byte.is_ascii_lowercase());
    if is_plain && is_prefix { Some((prefix, Uuid::try_parse(digits).ok()?)) } else { None }
}

/// Makes a `UUIDv7` from a Unix time in milliseconds and ten random bytes.
#[must_use]
pub fn uuid_v7(now_ms: u64, random: [u8; 10]) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(now_ms, &random).into_uuid()
}

/// The smallest `UUIDv7` of a Unix time in milliseconds: the lower bound of all ids minted from then on.
#[must_use]
pub fn uuid_v7_floor(at_ms: u64) -> Uuid {
    uuid_v7(at_ms, [0; 10])
}

/// The Unix time in milliseconds that a `UUIDv7` was minted with.
#[must_use]
pub fn uuid_v7_ms(id: Uuid) -> u64 {
    u64::try_from(id.as_u128() >> 80).unwrap_or(u64::MAX)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The beginning of the text form, before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Mints an id at `now_ms` (Unix time in milliseconds) from ten random bytes.
            #[must_use]
            pub fn mint(now_ms: u64, random: [u8; 10]) -> Self {
                Self(uuid_v7(now_ms, random))
            }

            /// Wraps a UUID that is known to be of this kind, such as a column of its table.
            #[must_use]
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The UUID without its kind, for the database.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// The Unix time in milliseconds that the id was minted with.
            #[must_use]
            pub fn minted_at_ms(self) -> u64 {
                uuid_v7_ms(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                match parts(text) {
                    Some(($prefix, id)) => Ok(Self(id)),
                    Some(_) | None => Err(ParseIdError { kind: $kind, prefix: $prefix }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A customer: the owner of sources, destinations and the events that flow between them.
    CustomerId, "cus", "customer";
    /// A source: a URL that one provider posts to.
    SourceId, "src", "source";
    /// A destination: a customer's HTTP endpoint.
    DestinationId, "dst", "destination";
    /// A route: joins a source to a destination.
    RouteId, "rte", "route";
    /// An event: one accepted webhook. Minted once, at the edge; it is also the `webhook-id` of its deliveries.
    EventId, "evt", "event";
    /// A delivery: one event on its way to one destination.
    DeliveryId, "dlv", "delivery";
    /// An attempt: one HTTP try of a delivery.
    AttemptId, "att", "attempt";
    /// A replay: work in the background that makes deliveries again.
    ReplayId, "rpl", "replay";
    /// A rejection: requests that were not stored as events, with their cause.
    RejectionId, "rej", "rejection";
    /// An unreadable message: a message of the queue that could not be stored as an event.
    UnreadableMessageId, "unr", "unreadable message";
    /// A token: what a caller of the relay's API authenticates with.
    TokenId, "tok", "token";
    /// An entry of the audit log: who changed what.
    AuditEntryId, "aud", "audit entry";
    /// An operation: bulk work in the background.
    OperationId, "opn", "operation";
    /// A session: what a browser authenticates with.
    SessionId, "ses", "session";
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_764_000_000_123;

    #[test]
    fn an_id_survives_its_text_form() {
        let id = EventId::mint(NOW_MS, [7; 10]);
        let text = id.to_string();
        assert!(text.starts_with("evt_"), "{text}");
        assert_eq!(text.len(), 36);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(id.minted_at_ms(), NOW_MS);
    }

    #[test]
    fn an_id_of_another_kind_or_spelling_is_refused() {
        let id = EventId::mint(NOW_MS, [7; 10]);
        assert!(id.to_string().parse::<SourceId>().is_err());
        assert!(format!("evt_{}", id.uuid()).parse::<EventId>().is_err(), "dashed");
        assert!("evt_".parse::<EventId>().is_err());
        assert!("evt_zz97f3c8d2a17c3e9b5d0a4c6f7e8b91".parse::<EventId>().is_err());
        assert!("evt_0197F3C8D2A17C3E9B5D0A4C6F7E8B91".parse::<EventId>().is_err(), "upper case");
    }

    #[test]
    fn the_floor_of_a_time_sorts_before_every_id_minted_then() {
        let floor = uuid_v7_floor(NOW_MS);
        assert!(floor <= EventId::mint(NOW_MS, [0; 10]).uuid());
        assert!(floor > EventId::mint(NOW_MS - 1, [255; 10]).uuid());
    }
}
