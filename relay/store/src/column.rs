//! Reads ids and enumerations from columns.
//!
//! A query names the type of a column in its override, and the macros of sqlx convert the value with `into`:
//! `state as "state!: As<DeliveryState>"` fills a field of the type `DeliveryState`, and
//! `route_id as "route_id!: Maybe<RouteId>"` one of the type `Option<RouteId>`. [`Maybe`] also has the `!`: without it,
//! sqlx would wrap it in an `Option`.

use std::fmt;

use model::change::ChangeKind;
use model::delivery::DeliveryState;
use model::destination::DestinationState;
use model::event::Verification;
use model::health::BreakerName;
use model::held_by::HeldBy;
use model::operation::OperationState;
use model::poison::Poison;
use model::replay::ReplayState;
use model::session::MadeOf;
use model::unreadable::Reason;
use shared::id::{
    AttemptId, AuditEntryId, CustomerId, DeliveryId, DestinationId, EventId, OperationId, RejectionId, ReplayId,
    RouteId, SessionId, SourceId, TokenId, UnreadableMessageId,
};
use sqlx::error::BoxDynError;
use sqlx::postgres::PgValueRef;
use sqlx::{Decode, Postgres, ValueRef as _};
use uuid::Uuid;

/// A type whose values are stored in columns of a more general type.
pub(crate) trait Column: Sized {
    /// The type of the column.
    type Raw<'r>: Decode<'r, Postgres> + Copy + fmt::Debug;

    /// The value; `None` if this relay does not know it.
    fn read(raw: Self::Raw<'_>) -> Option<Self>;
}

/// A column of the type `T` that is not null.
#[derive(Debug)]
pub(crate) struct As<T>(T);

/// A column of the type `T` that may be null.
#[derive(Debug)]
pub(crate) struct Maybe<T>(Option<T>);

impl<'r, T: Column> Decode<'r, Postgres> for As<T> {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let raw = T::Raw::decode(value)?;
        let known = T::read(raw).map(Self);
        known.ok_or_else(|| format!("the column holds {raw:?}, which this relay does not know").into())
    }
}

impl<'r, T: Column> Decode<'r, Postgres> for Maybe<T> {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        if value.is_null() {
            return Ok(Self(None));
        }
        As::decode(value).map(|As(value)| Self(Some(value)))
    }
}

/// Makes these types columns: each with the type of the column, and how a value is read.
macro_rules! columns {
    ($($type:ty: $raw:ty, $read:expr;)*) => {$(
        impl Column for $type {
            type Raw<'r> = $raw;

            fn read(raw: Self::Raw<'_>) -> Option<Self> {
                $read(raw)
            }
        }

        impl From<As<$type>> for $type {
            fn from(As(value): As<$type>) -> Self {
                value
            }
        }

        impl From<Maybe<$type>> for Option<$type> {
            fn from(Maybe(value): Maybe<$type>) -> Self {
                value
            }
        }
    )*};
}

columns! {
    AttemptId: Uuid, |id| Some(Self::from_uuid(id));
    AuditEntryId: Uuid, |id| Some(Self::from_uuid(id));
    CustomerId: Uuid, |id| Some(Self::from_uuid(id));
    DeliveryId: Uuid, |id| Some(Self::from_uuid(id));
    DestinationId: Uuid, |id| Some(Self::from_uuid(id));
    EventId: Uuid, |id| Some(Self::from_uuid(id));
    OperationId: Uuid, |id| Some(Self::from_uuid(id));
    RejectionId: Uuid, |id| Some(Self::from_uuid(id));
    ReplayId: Uuid, |id| Some(Self::from_uuid(id));
    RouteId: Uuid, |id| Some(Self::from_uuid(id));
    SessionId: Uuid, |id| Some(Self::from_uuid(id));
    SourceId: Uuid, |id| Some(Self::from_uuid(id));
    TokenId: Uuid, |id| Some(Self::from_uuid(id));
    UnreadableMessageId: Uuid, |id| Some(Self::from_uuid(id));
    BreakerName: &'r str, |name| Some(Self::from_name(name).unwrap_or(Self::Closed));
    ChangeKind: &'r str, Self::from_name;
    DeliveryState: &'r str, Self::from_name;
    DestinationState: &'r str, Self::from_name;
    HeldBy: &'r str, |name| Some(Self::from_name(name).unwrap_or(Self::Transform));
    OperationState: &'r str, Self::from_name;
    MadeOf: &'r str, Self::from_name;
    Poison: &'r str, |name| Some(Self::from_name(name).unwrap_or(Self::Block));
    ReplayState: &'r str, Self::from_name;
    // A reason of a newer relay: this relay cannot decode what that one could.
    Reason: &'r str, |name| Some(Self::from_name(name).unwrap_or(Self::NotDecodable));
    Verification: &'r str, Self::from_name;
}

/// The [`model::event::EventMeta`] of a row that has its columns. A query cannot fill a struct inside a struct.
macro_rules! meta {
    ($row:ident) => {
        model::event::EventMeta {
            id: $row.id.into(),
            source_id: $row.source_id.into(),
            received_at: $row.received_at,
            event_type: $row.event_type,
            provider_event_id: $row.provider_event_id,
            method: $row.method,
            query: $row.query,
            // Headers that this relay cannot read count as none.
            headers: serde_json::from_value($row.headers).unwrap_or_default(),
        }
    };
}
pub(crate) use meta;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    #[test]
    fn a_column_with_an_override_has_the_type_that_is_read() {
        // The macros of sqlx do not compare the type of an override with that of the column.
        let statements = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.sqlx");
        let mut count = 0;
        for entry in std::fs::read_dir(statements).expect("the described statements") {
            let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("reads");
            let statement: Value = serde_json::from_str(&text).expect("json");
            for column in statement["describe"]["columns"].as_array().expect("columns") {
                let name = column["name"].as_str().expect("a name");
                let Some((_, read)) = name.split_once("!: As<").or_else(|| name.split_once("!: Maybe<")) else {
                    continue;
                };
                let expected = if read.ends_with("Id>") { "Uuid" } else { "Text" };
                assert_eq!(column["type_info"], expected, "{name} in {}", statement["query"]);
                count += 1;
            }
        }
        assert!(count > 100, "{count}");
    }
}
