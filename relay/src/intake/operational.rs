//! Operational events: events that Tidegate itself creates. They are stored as events of the sources whose provider is
//! [`OPERATIONAL_PROVIDER`], so that routes deliver them to the operators' destinations like all other events.
//!
//! [`OPERATIONAL_PROVIDER`]: crate::configuration::OPERATIONAL_PROVIDER

use std::pin::Pin;

use model::destination::{Destination, DestinationState};
use model::held_by::HeldBy;
use model::unix_time;
use serde::Serialize;
use shared::envelope::{self, EventHeader, Verification};
use shared::header::HeaderList;
use shared::id::{CustomerId, DestinationId, EventId, SourceId};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Intake;
use crate::configuration::Source;
use crate::intake::message::{Arrival, Content, RawMessage};
use crate::{mint, supervise};

/// What happened, in the form of the body: `{"type":…,"timestamp":…,"data":{…}}`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", content = "data")]
pub enum OperationalEvent {
    /// Nothing is sent to a destination any more until an operator resumes it.
    #[serde(rename = "destination.disabled")]
    DestinationDisabled {
        destination: DestinationId,
        name: String,
        cause: Cause,
        /// Human-readable.
        reason: String,
    },
    /// Deliveries of a destination have begun to be held, each by a fault of its own.
    #[serde(rename = "deliveries.held")]
    DeliveriesHeld {
        destination: DestinationId,
        name: String,
        held_by: HeldBy,
        /// Why the oldest of them is held.
        reason: String,
    },
    /// Nothing can be sent to a destination because of its settings: all its deliveries are held.
    #[serde(rename = "destination.unusable")]
    DestinationUnusable { destination: DestinationId, name: String, reason: String },
    /// A source keeps no more events that fail verification until the next hour. Verified events are not affected.
    #[serde(rename = "source.quarantine_full")]
    QuarantineFull {
        source: SourceId,
        name: String,
        /// The hour, in RFC 3339.
        hour: String,
        events_per_hour: u64,
        bytes_per_hour: u64,
    },
}

/// Why a destination is disabled.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It answered 410.
    Gone,
    /// No attempt has succeeded for days.
    Failing,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    operational_event: &'a OperationalEvent,
    timestamp: String,
}

/// Records that a destination is being disabled, unless it is no longer active: a response that arrives after an
/// operator's pause, or after the response that disabled it, disables nothing. The event is stored *before* the
/// destination is disabled. If the relay crashes in between, the event is stored again, and its key makes it one event.
/// In the other order, the event would be lost.
///
/// # Errors
/// Returns an error if the query fails. Nothing has been stored then.
pub async fn destination_disabled(
    intake: &Intake,
    destination: &Destination,
    cause: Cause,
    reason: &str,
) -> store::Result<()> {
    if destination.state != DestinationState::Active {
        return Ok(());
    }
    // It can be disabled only once before its state changes again.
    let key = format!("{}/disabled/{}", destination.id, unix_time::unix_ms(destination.state_changed_at));
    let customer = destination.customer_id;
    let operational_event = OperationalEvent::DestinationDisabled {
        destination: destination.id,
        name: destination.name.clone(),
        cause,
        reason: reason.to_owned(),
    };
    store(intake, customer, &key, &operational_event).await
}

/// Waits until the event of a destination is stored. An event that can never be stored, because the database refuses it
/// or the relay panics on it, is logged and dropped: it must not hold up the events of other destinations.
///
/// # Errors
/// Returns an error if the event is not stored but may be later.
pub async fn or_dropped(
    destination: DestinationId,
    stored: impl Future<Output = store::Result<()>>,
) -> store::Result<()> {
    match supervise::row(stored).await {
        Ok(Err(error)) if error.is_data_error() => {
            tracing::error!(%error, %destination, "the database rejected an operational event; the event was dropped");
            Ok(())
        }
        Ok(stored) => stored,
        Err(panic) => {
            tracing::error!(
                error = %panic,
                %destination,
                "the relay panicked while storing an operational event; the event was dropped"
            );
            Ok(())
        }
    }
}

/// Records that a source keeps no more events that fail verification in this hour. The key makes it one event, even if
/// it is stored twice.
///
/// The return type is written out because `Intake::store` calls this function, which calls `Intake::store`.
///
/// # Errors
/// Returns an error if the database does not respond in time, or refuses the event. Nothing has been stored then.
pub fn quarantine_full<'a>(
    intake: &'a Intake,
    source: &'a Source,
    hour: OffsetDateTime,
) -> Pin<Box<dyn Future<Output = store::Result<()>> + Send + 'a>> {
    Box::pin(async move {
        let key = format!("{}/quarantine_full/{}", source.id, unix_time::unix_ms(hour));
        let operational_event = OperationalEvent::QuarantineFull {
            source: source.id,
            name: source.name.clone(),
            hour: hour.format(&Rfc3339).unwrap_or_default(),
            events_per_hour: source.quarantine.events_per_hour,
            bytes_per_hour: source.quarantine.bytes_per_hour,
        };
        store(intake, source.customer_id, &key, &operational_event).await
    })
}

/// Stores an operational event as an event of each operational source of the customer. Under one `key` it is one event.
///
/// # Errors
/// Returns an error if the database does not respond. Nothing was stored then.
pub async fn store(
    intake: &Intake,
    customer: CustomerId,
    key: &str,
    operational_event: &OperationalEvent,
) -> store::Result<()> {
    let snapshot = intake.configuration.current();
    let sources = snapshot
        .sources
        .values()
        .filter(|source| source.is_operational && source.customer_id == customer)
        .map(|source| arrival(source.id, key, operational_event, mint::now_ms()));
    let arrivals: Vec<_> = sources.collect();
    if arrivals.is_empty() { Ok(()) } else { intake.store(&arrivals, &[]).await.map_err(Into::into) }
}

/// Makes an event as if it had been posted in the format of Standard Webhooks, with `key` as its `webhook-id`.
fn arrival(source: SourceId, key: &str, operational_event: &OperationalEvent, now_ms: u64) -> Arrival {
    let id = EventId::from_uuid(mint::uuid());
    let at = unix_time::timestamp(now_ms);
    let timestamp = at.format(&Rfc3339).unwrap_or_default();
    let body = serde_json::to_vec(&Body { operational_event, timestamp }).unwrap_or_default();
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("webhook-id", key.to_owned()),
        ("webhook-timestamp", (now_ms / 1000).to_string()),
    ];
    let header = EventHeader {
        id,
        source,
        received_at_ms: now_ms,
        method: "POST".to_owned(),
        query: String::new(),
        headers: HeaderList::new(headers.map(|(name, value)| (name.to_owned(), value))),
        verification: Verification::Verified,
    };
    let raw = RawMessage {
        queue_id: String::new(),
        message_id: format!("operational {id}"),
        accepted_at_ms: Some(now_ms),
        content_type: None,
        bytes: envelope::encode_inline(&header, &body).unwrap_or_default().into_bytes(),
    };
    Arrival { raw, content: Content::Event { header, body, fetched: false } }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_event_is_dropped_if_storing_it_panics_but_not_if_it_may_be_stored_later() {
        let destination = DestinationId::mint(1, [1; 10]);
        assert!(or_dropped(destination, async { panic!("its name") }).await.is_ok());
        assert!(or_dropped(destination, async { Err(store::Error::took_longer_than(Duration::ZERO)) }).await.is_err());
        assert!(or_dropped(destination, async { Ok(()) }).await.is_ok());
    }
}
