//! The sources and destinations of one customer, by whose indexes its lists are read.
//!
//! History has no index by customer: it would cost every event and every delivery. Its indexes by source and by
//! destination serve a customer as well, if it has few of these. A customer with many has a large part of the history,
//! and its lists are read among all rows.

use shared::id::{CustomerId, DestinationId, SourceId};

use crate::{Pool, Result};

/// The most sources, or destinations, of a customer whose lists are read by them.
pub const FEW: usize = 20;

/// The number of rows that are read to see whether there are more than [`FEW`].
#[expect(clippy::cast_possible_wrap, reason = "a small constant")]
const MORE_THAN_FEW: i64 = FEW as i64 + 1;

/// The present and the deleted sources of a customer; `None` if it has more than [`FEW`].
///
/// # Errors
/// Returns an error if the query fails.
pub async fn sources(pool: &Pool, customer: CustomerId) -> Result<Option<Vec<SourceId>>> {
    let ids = sqlx::query_scalar!(
        r#"select id as "id!" from sources where customer_id = $1
           union all select id from former_sources where customer_id = $1
           limit $2"#,
        customer.uuid(),
        MORE_THAN_FEW
    )
    .fetch_all(pool)
    .await?;
    Ok(few(ids).map(|ids| ids.into_iter().map(SourceId::from_uuid).collect()))
}

/// The present and the deleted destinations of a customer; `None` if it has more than [`FEW`].
///
/// # Errors
/// Returns an error if the query fails.
pub async fn destinations(pool: &Pool, customer: CustomerId) -> Result<Option<Vec<DestinationId>>> {
    let ids = sqlx::query_scalar!(
        r#"select id as "id!" from destinations where customer_id = $1
           union all select id from former_destinations where customer_id = $1
           limit $2"#,
        customer.uuid(),
        MORE_THAN_FEW
    )
    .fetch_all(pool)
    .await?;
    Ok(few(ids).map(|ids| ids.into_iter().map(DestinationId::from_uuid).collect()))
}

fn few<T>(ids: Vec<T>) -> Option<Vec<T>> {
    (ids.len() <= FEW).then_some(ids)
}
