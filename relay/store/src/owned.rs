//! The owners of rows in lists of all customers. Lists of one customer do not read them.

use std::collections::HashMap;

use shared::id::{CustomerId, DeliveryId, EventId, ReplayId, SourceId};
use uuid::Uuid;

use crate::{Pool, Result};

/// The customers that own these events.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn events(pool: &Pool, ids: &[EventId]) -> Result<HashMap<EventId, CustomerId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!("select id, customer_id from events where id = any($1)", &ids).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (EventId::from_uuid(row.id), CustomerId::from_uuid(row.customer_id))).collect())
}

/// The customers that own these deliveries. One statement reads both tables, so that a delivery that is settled
/// concurrently is not missed.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn deliveries(pool: &Pool, ids: &[DeliveryId]) -> Result<HashMap<DeliveryId, CustomerId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"select id as "id!", customer_id as "customer_id!" from pending_deliveries where id = any($1)
           union all
           select id, customer_id from settled_deliveries where id = any($1)"#,
        &ids
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (DeliveryId::from_uuid(row.id), CustomerId::from_uuid(row.customer_id))).collect())
}

/// The customers that own these sources.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn sources(pool: &Pool, ids: &[SourceId]) -> Result<HashMap<SourceId, CustomerId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!("select id, customer_id from sources where id = any($1)", &ids).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (SourceId::from_uuid(row.id), CustomerId::from_uuid(row.customer_id))).collect())
}

/// The customer that owns a replay.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn replay(pool: &Pool, id: ReplayId) -> Result<Option<CustomerId>> {
    let customer = sqlx::query_scalar!("select customer_id from replays where id = $1", id.uuid());
    Ok(customer.fetch_optional(pool).await?.map(CustomerId::from_uuid))
}
