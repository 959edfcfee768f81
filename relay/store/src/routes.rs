//! Routes as the API shows and changes them.

use model::poison::Poison;
use shared::id::{CustomerId, DestinationId, RouteId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, NewEntry};
use super::column::As;
use super::configuration::{Change, Version};
use super::route_versions;
use crate::{Connection, Error, Pool, Result};

/// A route with the names of its source and destination.
#[derive(Debug, Clone)]
pub struct RouteRow {
    pub id: RouteId,
    /// `None` if the route has no name.
    pub name: Option<String>,
    pub source_id: SourceId,
    pub source_name: String,
    pub destination_id: DestinationId,
    pub destination_name: String,
    /// The types of events that it takes; empty if it takes every event.
    pub types: Vec<String>,
    pub filter: Option<String>,
    pub transform: Option<String>,
    pub order_key: Option<String>,
    pub poison: Poison,
    pub enabled: bool,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

/// The query for the [`RouteRow`]s that a condition selects.
macro_rules! route_rows {
    ($condition:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            RouteRow,
            r#"select routes.id as "id!: As<RouteId>", routes.name as name, source_id as "source_id!: As<SourceId>",
                      sources.name as source_name, destination_id as "destination_id!: As<DestinationId>",
                      destinations.name as destination_name, types, filter, transform, order_key,
                      poison as "poison!: As<Poison>", enabled, routes.created_at, routes.updated_at
               from routes
               join sources on sources.id = routes.source_id
               join destinations on destinations.id = routes.destination_id "# + $condition,
            $($argument),*
        )
    };
}

/// The settings that an operator gives a route.
pub struct Content {
    pub name: Option<String>,
    /// The types of events that it takes; empty if it takes every event.
    pub types: Vec<String>,
    pub filter: Option<String>,
    pub transform: Option<String>,
    pub order_key: Option<String>,
    pub poison: Poison,
    pub enabled: bool,
}

/// Stores a new route. Also returns the new version of the configuration.
///
/// # Errors
/// Returns a violation of `one_route_joins_a_source_and_a_destination` if such a route exists, a foreign key violation
/// if the source or the destination is gone, or another error if a query fails.
pub async fn insert(
    pool: &Pool,
    customer: CustomerId,
    id: RouteId,
    source: SourceId,
    destination: DestinationId,
    content: &Content,
    record: impl FnOnce(Option<&RouteRow>, Option<&RouteRow>) -> NewEntry,
) -> Result<(RouteRow, Version)> {
    let mut change = Change::begin(pool).await?;
    let row = insert_in(&mut change, customer, id, (source, destination), content).await?;
    audit::record(&mut change, &record(None, Some(&row))).await?;
    Ok((row, change.commit().await?))
}

async fn insert_in(
    connection: &mut Connection,
    customer: CustomerId,
    id: RouteId,
    (source, destination): (SourceId, DestinationId),
    content: &Content,
) -> Result<RouteRow> {
    sqlx::query!(
        "insert into routes
             (id, customer_id, source_id, destination_id, types, filter, transform, order_key, poison, enabled, name)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        id.uuid(),
        customer.uuid(),
        source.uuid(),
        destination.uuid(),
        &content.types,
        content.filter,
        content.transform,
        content.order_key,
        content.poison.name(),
        content.enabled,
        content.name
    )
    .execute(&mut *connection)
    .await?;
    find_in(connection, customer, Some(id), None).await?.ok_or_else(gone)
}

/// The result of a change of a route.
pub struct Changed {
    /// The row before the change; `None` if the route is new.
    pub before: Option<RouteRow>,
    pub row: RouteRow,
    pub version: Version,
}

/// Changes the route with this id or this name to the content that `plan` makes from its row; no other change runs at
/// the same time. `None` if there is no such route.
///
/// # Errors
/// Returns the error of `plan`, or an error if a query fails.
pub async fn change<E: From<Error>>(
    pool: &Pool,
    customer: CustomerId,
    id: Option<RouteId>,
    name: Option<&str>,
    plan: impl FnOnce(&RouteRow) -> Result<Content, E>,
    record: impl FnOnce(Option<&RouteRow>, Option<&RouteRow>) -> NewEntry,
) -> Result<Option<Changed>, E> {
    let mut change = Change::begin(pool).await?;
    let Some(before) = find_in(&mut change, customer, id, name).await? else { return Ok(None) };
    let content = plan(&before)?;
    let row = update(&mut change, customer, before.id, &content).await?;
    audit::record(&mut change, &record(Some(&before), Some(&row))).await?;
    let version = change.commit().await?;
    Ok(Some(Changed { before: Some(before), row, version }))
}

/// A route as it is to be stored.
pub struct Planned {
    /// What a new route joins.
    pub joins: (SourceId, DestinationId),
    pub content: Content,
}

/// Changes the route with this name, or stores a new one with the id `new`. `plan` is given the row if there is one; no
/// other change runs at the same time.
///
/// # Errors
/// Returns the error of `plan`, or an error as [`insert`] does.
pub async fn put<E: From<Error>>(
    pool: &Pool,
    customer: CustomerId,
    name: &str,
    new: RouteId,
    plan: impl FnOnce(Option<&RouteRow>) -> Result<Planned, E>,
    record: impl FnOnce(Option<&RouteRow>, Option<&RouteRow>) -> NewEntry,
) -> Result<Changed, E> {
    let mut change = Change::begin(pool).await?;
    let before = find_in(&mut change, customer, None, Some(name)).await?;
    let Planned { joins, content } = plan(before.as_ref())?;
    let row = match &before {
        Some(before) => update(&mut change, customer, before.id, &content).await?,
        None => insert_in(&mut change, customer, new, joins, &content).await?,
    };
    audit::record(&mut change, &record(before.as_ref(), Some(&row))).await?;
    Ok(Changed { before, row, version: change.commit().await? })
}

async fn update(connection: &mut Connection, customer: CustomerId, id: RouteId, content: &Content) -> Result<RouteRow> {
    route_versions::keep_if_changed(connection, customer, id, content.transform.as_deref()).await?;
    sqlx::query!(
        "update routes
         set types = $3, filter = $4, transform = $5, order_key = $6, poison = $7, enabled = $8, name = $9,
             updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
         where customer_id = $1 and id = $2",
        customer.uuid(),
        id.uuid(),
        &content.types,
        content.filter,
        content.transform,
        content.order_key,
        content.poison.name(),
        content.enabled,
        content.name
    )
    .execute(&mut *connection)
    .await?;
    find_in(connection, customer, Some(id), None).await?.ok_or_else(gone)
}

/// The route with this id or this name.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn find(
    pool: &Pool,
    customer: CustomerId,
    id: Option<RouteId>,
    name: Option<&str>,
) -> Result<Option<RouteRow>> {
    find_in(&mut pool.acquire().await?, customer, id, name).await
}

async fn find_in(
    connection: &mut Connection,
    customer: CustomerId,
    id: Option<RouteId>,
    name: Option<&str>,
) -> Result<Option<RouteRow>> {
    route_rows!(
        "where routes.customer_id = $1 and (routes.id = $2 or routes.name = $3)",
        customer.uuid(),
        id.map(RouteId::uuid),
        name
    )
    .fetch_optional(connection)
    .await
    .map_err(Error::from)
}

/// A page of the routes of a customer, or of all customers, newest first; only of a source, to a destination or with a
/// name if one is given.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn page(
    pool: &Pool,
    customer: Option<CustomerId>,
    source: Option<SourceId>,
    destination: Option<DestinationId>,
    name: Option<&str>,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Vec<RouteRow>> {
    route_rows!(
        "where (routes.customer_id = $1 or $1::uuid is null) and ($2::uuid is null or source_id = $2)
           and ($3::uuid is null or destination_id = $3) and ($4::uuid is null or routes.id < $4)
           and ($6::text is null or routes.name = $6)
         order by routes.id desc limit $5",
        customer.map(CustomerId::uuid),
        source.map(SourceId::uuid),
        destination.map(DestinationId::uuid),
        cursor,
        limit,
        name
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// Deletes a route and returns the new version of the configuration; `None` if there is no such route. Deliveries that
/// it has already made are sent with the transform by which they were routed.
///
/// # Errors
/// Returns the error of `check`, which is given the row, or an error if a query fails; then nothing was written, or the
/// response to the commit was lost.
pub async fn delete<E: From<Error>>(
    pool: &Pool,
    customer: CustomerId,
    id: Option<RouteId>,
    name: Option<&str>,
    check: impl FnOnce(&RouteRow) -> Result<(), E>,
    record: impl FnOnce(Option<&RouteRow>, Option<&RouteRow>) -> NewEntry,
) -> Result<Option<Version>, E> {
    let mut change = Change::begin(pool).await?;
    let Some(before) = find_in(&mut change, customer, id, name).await? else { return Ok(None) };
    check(&before)?;
    let id = before.id.uuid();
    route_versions::keep_before_deletion(&mut change, id).await?;
    sqlx::query!("delete from routes where id = $1", id).execute(&mut *change).await.map_err(Error::from)?;
    audit::record(&mut change, &record(Some(&before), None)).await?;
    Ok(Some(change.commit().await?))
}

fn gone() -> Error {
    Error::changed("the route, its source or its destination is gone")
}
