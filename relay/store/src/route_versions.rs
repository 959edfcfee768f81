//! Earlier versions of routes, kept for the deliveries that were routed by them.

use shared::id::{CustomerId, RouteId};
use uuid::Uuid;

use super::{Connection, Pool};
use crate::{Error, Result};

/// The parts of a route's version that a transform needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// `None` sends the raw body.
    pub transform: Option<String>,
    /// The name of the source as the transform saw it.
    pub source_name: String,
}

/// Keeps the current version of a route whose transform is about to become `transform`, and gives the route the next
/// version. Does nothing if the transform does not change. It runs in the transaction that changes the route.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn keep_if_changed(
    connection: &mut Connection,
    customer: CustomerId,
    route: RouteId,
    transform: Option<&str>,
) -> Result<()> {
    sqlx::query!(
        "with changed as (
             update routes set version = routes.version + 1 from sources
             where routes.id = $1 and routes.customer_id = $2 and sources.id = routes.source_id
               and routes.transform is distinct from $3
             returning routes.id, routes.version - 1 as version, routes.transform, sources.name, routes.poison
         )
         insert into route_versions (route_id, version, transform, source_name, poison)
         select id, version, transform, name, poison from changed
         on conflict (route_id, version) do update
         set transform = excluded.transform, source_name = excluded.source_name, poison = excluded.poison, kept_at = now()",
        route.uuid(),
        customer.uuid(),
        transform
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps the current version of routes that are about to be deleted: of one route, or of all routes of a source or to a
/// destination. `id` is the id of the route, the source or the destination. It runs in the transaction that deletes
/// them.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn keep_before_deletion(connection: &mut Connection, id: Uuid) -> Result<()> {
    sqlx::query!(
        "insert into route_versions (route_id, version, transform, source_name, poison)
         select routes.id, routes.version, routes.transform, sources.name, routes.poison
         from routes join sources on sources.id = routes.source_id
         where routes.id = $1 or routes.source_id = $1 or routes.destination_id = $1
         on conflict (route_id, version) do update
         set transform = excluded.transform, source_name = excluded.source_name, poison = excluded.poison, kept_at = now()",
        id
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A version of a route, whether current or kept; `None` if it is not known.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn find(pool: &Pool, route: RouteId, version: i32) -> Result<Option<VersionRow>> {
    sqlx::query_as!(
        VersionRow,
        r#"select transform, sources.name as "source_name!"
           from routes join sources on sources.id = routes.source_id
           where routes.id = $1 and routes.version = $2
           union all
           select transform, source_name from route_versions where route_id = $1 and version = $2
           limit 1"#,
        route.uuid(),
        version
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}
