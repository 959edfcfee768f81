//! The versions of routes that are not current any more, kept for the deliveries that were routed by them.

use uuid::Uuid;

use super::{Connection, Pool};
use crate::{Error, Result};

/// A version of a route, as a transform needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// `None` sends the raw bytes.
    pub transform: Option<String>,
    /// The name of the source as the transform saw it.
    pub source_name: String,
}

/// Keeps the current version of a route whose transform is about to become `transform`, and gives the route the next
/// version. Does nothing if the transform stays the same. Part of the transaction that changes the route.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn keep_if_changed(
    connection: &mut Connection,
    customer: Uuid,
    route: Uuid,
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
        route,
        customer,
        transform
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps the current version of routes that are about to be deleted: of one route, or of all routes of a source or to a
/// destination. `id` is that of the route, the source or the destination. Part of the transaction that deletes them.
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

/// A version of a route, be it the current one or kept; `None` if it is not known.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn find(pool: &Pool, route: Uuid, version: i32) -> Result<Option<VersionRow>> {
    sqlx::query_as!(
        VersionRow,
        r#"select transform, sources.name as "source_name!"
           from routes join sources on sources.id = routes.source_id
           where routes.id = $1 and routes.version = $2
           union all
           select transform, source_name from route_versions where route_id = $1 and version = $2
           limit 1"#,
        route,
        version
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}
