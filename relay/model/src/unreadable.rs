//! Why a message of the queue is kept as unreadable.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a message is unreadable. `not_decodable`: it does not have the edge's message format. `unknown_version`: it was
/// written by an edge newer than this relay. `answer_not_readable`: the queue API's response with this message could
/// not be parsed. `leased_too_often`: the queue had leased the message more than 20 times, so the relay stored it
/// before parsing it. `body_missing`: the body is not in the edge's storage, or differs from the one stored there.
/// `secret_not_openable`: the secret that a provider handed over cannot be decrypted with the edge's key.
/// `unknown_source`: the source does not exist. `implausible_time`: the timestamp in the event id is more than a day in
/// the future, or more than 20 days old. `past_retention`: the event is past the retention period of bodies.
/// `refused_by_database`: the database rejected a value of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The message does not have the format of the edge.
    NotDecodable,
    /// The edge that wrote the message is newer than this relay.
    UnknownVersion,
    /// The queue API's response could not be parsed, although this was the only message in it.
    AnswerNotReadable,
    /// The queue had leased the message more than 20 times. The relay stored the raw message first and reads it
    /// afterwards.
    LeasedTooOften,
    /// The body is not in the object storage of the edge, or is not the one that was stored there.
    BodyMissing,
    /// The secret that a provider handed over cannot be decrypted with the key of the edge.
    SecretNotOpenable,
    /// There is no source with this id.
    UnknownSource,
    /// The timestamp in the event id is more than a day in the future, or more than 20 days old.
    ImplausibleTime,
    /// The event is past the retention period of bodies: no delivery is created.
    PastRetention,
    /// The database refused a value of the message.
    RefusedByDatabase,
}

crate::names! {
    Reason {
        NotDecodable => "not_decodable",
        UnknownVersion => "unknown_version",
        AnswerNotReadable => "answer_not_readable",
        LeasedTooOften => "leased_too_often",
        BodyMissing => "body_missing",
        SecretNotOpenable => "secret_not_openable",
        UnknownSource => "unknown_source",
        ImplausibleTime => "implausible_time",
        PastRetention => "past_retention",
        RefusedByDatabase => "refused_by_database",
    }
}

impl Reason {
    /// Whether another try of the unchanged message can succeed without an operator.
    #[must_use]
    pub fn can_pass(self) -> bool {
        match self {
            Self::PastRetention => false,
            Self::NotDecodable
            | Self::UnknownVersion
            | Self::AnswerNotReadable
            | Self::LeasedTooOften
            | Self::BodyMissing
            | Self::SecretNotOpenable
            | Self::UnknownSource
            | Self::ImplausibleTime
            | Self::RefusedByDatabase => true,
        }
    }
}
