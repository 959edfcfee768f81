//! The owners of rows in lists of all customers. Lists of one customer do not read them.

use std::collections::HashMap;

use uuid::Uuid;

use crate::{Pool, Result};

/// The ids of the customers that own these events.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn events(pool: &Pool, ids: &[Uuid]) -> Result<HashMap<Uuid, Uuid>> {
    let rows = sqlx::query!("select id, customer_id from events where id = any($1)", ids).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.customer_id)).collect())
}

/// The ids of the customers that own these deliveries. One statement reads both tables, so that a delivery that is
/// settled concurrently is not missed.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn deliveries(pool: &Pool, ids: &[Uuid]) -> Result<HashMap<Uuid, Uuid>> {
    let rows = sqlx::query!(
        r#"select id as "id!", customer_id as "customer_id!" from pending_deliveries where id = any($1)
           union all
           select id, customer_id from settled_deliveries where id = any($1)"#,
        ids
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.customer_id)).collect())
}

/// The ids of the customers that own these sources.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn sources(pool: &Pool, ids: &[Uuid]) -> Result<HashMap<Uuid, Uuid>> {
    let rows = sqlx::query!("select id, customer_id from sources where id = any($1)", ids).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.customer_id)).collect())
}
