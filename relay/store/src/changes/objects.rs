//! The objects that have changed, as they are stored now.

use std::collections::HashMap;

use model::event::Verification;
use shared::id::{AttemptId, CustomerId, DeliveryId, DestinationId, EventId, ReplayId, RouteId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::column::{As, Maybe};
use crate::events::SummaryRow;
use crate::{Pool, Result};

/// An event with its owner.
#[derive(Debug, Clone)]
pub struct EventObject {
    pub customer_id: CustomerId,
    pub customer_name: String,
    pub event: SummaryRow,
}

/// A delivery with its owner.
#[derive(Debug, Clone)]
pub struct DeliveryObject {
    pub id: DeliveryId,
    pub customer_id: CustomerId,
    pub customer_name: String,
    pub event_id: EventId,
    pub source_id: SourceId,
    pub destination_id: DestinationId,
    /// `None` if the destination has been deleted.
    pub destination_name: Option<String>,
    pub route_id: Option<RouteId>,
    pub replay_id: Option<ReplayId>,
    pub attempts: i16,
    /// Only settled deliveries have them.
    pub error: Option<String>,
    pub reason: Option<String>,
}

/// An attempt without the response of the destination.
#[derive(Debug, Clone)]
pub struct AttemptObject {
    pub id: AttemptId,
    pub delivery_id: DeliveryId,
    pub number: i16,
    pub started_at: OffsetDateTime,
    pub latency_ms: i32,
    pub status: Option<i16>,
    pub error: Option<String>,
    pub detail: Option<String>,
    pub location: Option<String>,
}

/// An event that was stored or released: whose it is and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    pub id: EventId,
    pub customer_id: CustomerId,
    pub source_id: SourceId,
    /// The job that it is about; `None` if it is about none.
    pub job_key: Option<String>,
}

/// The smallest and the largest id: a statement that names them reads only the partitions of their days.
fn bounds(ids: &[Uuid]) -> (Uuid, Uuid) {
    let smallest = ids.iter().min().copied().unwrap_or_default();
    (smallest, ids.iter().max().copied().unwrap_or_default())
}

/// Whose these events are and where they came from. Events that are no longer kept are left out.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn stored(pool: &Pool, ids: &[Uuid]) -> Result<Vec<StoredEvent>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let (first, last) = bounds(ids);
    let rows = sqlx::query_as!(
        StoredEvent,
        r#"select id as "id!: As<EventId>", customer_id as "customer_id!: As<CustomerId>",
                  source_id as "source_id!: As<SourceId>", job_key
           from events where id = any($1) and id >= $2 and id <= $3"#,
        ids,
        first,
        last
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Events by their ids. Events that are no longer kept are left out.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn events(pool: &Pool, ids: &[Uuid]) -> Result<HashMap<Uuid, EventObject>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let (first, last) = bounds(ids);
    let rows: Vec<EventObject> = sqlx::query!(
        r#"select events.id as "id!: As<EventId>", events.customer_id as "customer_id!: As<CustomerId>",
                  customers.name as customer_name, source_id as "source_id!: As<SourceId>",
                  sources.name as "source_name?", received_at, type as event_type, provider_event_id, body_size,
                  case when edited_of is null then verification else 'edited' end as "verification!: As<Verification>",
                  failure_cause, failure_detail, copies, same_key_as as "same_key_as!: Maybe<EventId>", body_erased_at,
                  job_key, job_state, job_good, edited_of as "edited_of!: Maybe<EventId>"
           from events join customers on customers.id = events.customer_id
                       left join sources on sources.id = events.source_id
           where events.id = any($1) and events.id >= $2 and events.id <= $3"#,
        ids,
        first,
        last
    )
    .map(|row| EventObject {
        customer_id: row.customer_id.into(),
        customer_name: row.customer_name,
        event: SummaryRow {
            id: row.id.into(),
            source_id: row.source_id.into(),
            source_name: row.source_name,
            received_at: row.received_at,
            event_type: row.event_type,
            provider_event_id: row.provider_event_id,
            body_size: row.body_size,
            verification: row.verification.into(),
            failure_cause: row.failure_cause,
            failure_detail: row.failure_detail,
            copies: row.copies,
            same_key_as: row.same_key_as.into(),
            body_erased_at: row.body_erased_at,
            job_key: row.job_key,
            job_state: row.job_state,
            job_good: row.job_good,
            edited_of: row.edited_of.into(),
        },
    })
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.event.id.uuid(), row)).collect())
}

/// The types of events. Events that are no longer kept are left out.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn event_types(pool: &Pool, ids: &[Uuid]) -> Result<HashMap<EventId, Option<String>>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let (first, last) = bounds(ids);
    let rows = sqlx::query!(
        "select id, type as event_type from events where id = any($1) and id >= $2 and id <= $3",
        ids,
        first,
        last
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (EventId::from_uuid(row.id), row.event_type)).collect())
}

/// Deliveries by their ids, in whichever table they are stored. One statement reads both tables, so that a delivery that
/// is settled meanwhile is not missed.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn deliveries(pool: &Pool, ids: &[Uuid]) -> Result<HashMap<DeliveryId, DeliveryObject>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let (first, last) = bounds(ids);
    let rows = sqlx::query_as!(
        DeliveryObject,
        r#"select delivery.id as "id!: As<DeliveryId>", delivery.customer_id as "customer_id!: As<CustomerId>",
                  customers.name as customer_name, event_id as "event_id!: As<EventId>",
                  source_id as "source_id!: As<SourceId>", destination_id as "destination_id!: As<DestinationId>",
                  destinations.name as "destination_name?", route_id as "route_id!: Maybe<RouteId>",
                  replay_id as "replay_id!: Maybe<ReplayId>", attempts as "attempts!", error, reason
           from (
               select id, customer_id, event_id, source_id, destination_id, route_id, replay_id, attempts,
                      null::text as error, null::text as reason
               from pending_deliveries where id = any($1)
               union all
               select id, customer_id, event_id, source_id, destination_id, route_id, replay_id, attempts, error, reason
               from settled_deliveries where id = any($1) and id >= $2 and id <= $3
           ) delivery join customers on customers.id = delivery.customer_id
                      left join destinations on destinations.id = delivery.destination_id"#,
        ids,
        first,
        last
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Attempts by their ids. Attempts that are no longer kept are left out.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn attempts(pool: &Pool, ids: &[Uuid]) -> Result<HashMap<Uuid, AttemptObject>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let (first, last) = bounds(ids);
    let rows = sqlx::query_as!(
        AttemptObject,
        r#"select id as "id!: As<AttemptId>", delivery_id as "delivery_id!: As<DeliveryId>", number, started_at,
                  latency_ms, status, error, detail, location
           from attempts where id = any($1) and id >= $2 and id <= $3"#,
        ids,
        first,
        last
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id.uuid(), row)).collect())
}
