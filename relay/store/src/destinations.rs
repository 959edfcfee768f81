//! Destinations: how the API changes them and how the engine disables them. Their deletion is in
//! [`super::deleted_destinations`].

use model::destination::DestinationState;
use shared::id::{CustomerId, DestinationId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, NewEntry};
use super::column::As;
use super::configuration::{Change, Version};
use super::customers;
use crate::{Connection, Error, Pool, Result};

/// A destination as it is stored.
#[derive(Debug, Clone)]
pub struct DestinationRow {
    pub id: DestinationId,
    pub customer_id: CustomerId,
    pub name: String,
    pub url: String,
    pub shard: i16,
    pub signing_secrets_sealed: String,
    pub headers_sealed: Option<String>,
    pub rate_limit: Option<i32>,
    pub rate_per: Option<String>,
    pub max_concurrency: i32,
    pub timeout_ms: i32,
    pub retry: serde_json::Value,
    pub state: DestinationState,
    pub state_reason: Option<String>,
    pub state_changed_at: OffsetDateTime,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    pub append_query: bool,
    /// When the scheme, host or port of its URL last changed.
    pub moved_at: OffsetDateTime,
}

/// The query for [`DestinationRow`]s with these texts before and after its columns.
macro_rules! destination_rows {
    ($before:literal + COLUMNS $(+ $after:literal)?, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            DestinationRow,
            $before
                + r#" id as "id!: As<DestinationId>", customer_id as "customer_id!: As<CustomerId>", name, url, shard,
                      signing_secrets_sealed, headers_sealed, rate_limit, rate_per, max_concurrency, timeout_ms, retry,
                      state as "state!: As<DestinationState>", state_reason, state_changed_at, created_at, updated_at,
                      append_query, moved_at "#
                $(+ $after)?,
            $($argument),*
        )
    };
}

/// The settings that an operator gives a destination.
pub struct Content {
    pub url: String,
    pub signing_secrets_sealed: String,
    pub headers_sealed: Option<String>,
    pub rate_limit: Option<i32>,
    pub rate_per: Option<&'static str>,
    pub max_concurrency: i32,
    pub timeout_ms: i32,
    pub retry: serde_json::Value,
    pub append_query: bool,
    /// Whether the URL changes its scheme, host or port.
    pub moves: bool,
}

/// The result of a change of a destination.
pub struct Changed {
    /// The row before the change; `None` if the destination is new.
    pub before: Option<DestinationRow>,
    pub row: DestinationRow,
    pub version: Version,
}

/// Stores a new destination.
///
/// # Errors
/// Returns [`Constraint::DestinationName`](crate::Constraint) if the name is taken, `DestinationLimit` if the customer
/// may have no more destinations, or an error if a query fails.
pub async fn insert(
    pool: &Pool,
    customer: CustomerId,
    id: DestinationId,
    name: &str,
    shard: i16,
    content: &Content,
    record: impl FnOnce(Option<&DestinationRow>, Option<&DestinationRow>) -> NewEntry,
) -> Result<Changed> {
    let mut change = Change::begin(pool).await?;
    let row = insert_in(&mut change, customer, id, name, shard, content).await?;
    audit::record(&mut change, &record(None, Some(&row))).await?;
    Ok(Changed { before: None, row, version: change.commit().await? })
}

/// Changes the destination with this id or this name to the content that `plan` makes from its row; no other change
/// runs at the same time. `None` if there is no such destination.
///
/// # Errors
/// Returns the error of `plan`, or an error if a query fails.
pub async fn change<E: From<Error>>(
    pool: &Pool,
    customer: CustomerId,
    id: Option<DestinationId>,
    name: Option<&str>,
    plan: impl FnOnce(&DestinationRow) -> Result<Content, E>,
    record: impl FnOnce(Option<&DestinationRow>, Option<&DestinationRow>) -> NewEntry,
) -> Result<Option<Changed>, E> {
    let mut change = Change::begin(pool).await?;
    let Some(before) = find_in(&mut change, customer, id, name).await? else { return Ok(None) };
    let content = plan(&before)?;
    let row = update_in(&mut change, &before, &content).await?;
    audit::record(&mut change, &record(Some(&before), Some(&row))).await?;
    Ok(Some(Changed { before: Some(before), row, version: change.commit().await? }))
}

/// Changes the destination with this name, or stores a new one with the id and the shard of `new`. `plan` is given the
/// id, and the row if there is one; no other change runs at the same time.
///
/// # Errors
/// Returns the error of `plan`, or an error if a query fails.
pub async fn put<E: From<Error>>(
    pool: &Pool,
    customer: CustomerId,
    name: &str,
    new: (DestinationId, i16),
    plan: impl FnOnce(DestinationId, Option<&DestinationRow>) -> Result<Content, E>,
    record: impl FnOnce(Option<&DestinationRow>, Option<&DestinationRow>) -> NewEntry,
) -> Result<Changed, E> {
    let mut change = Change::begin(pool).await?;
    let before = find_in(&mut change, customer, None, Some(name)).await?;
    let (new, shard) = new;
    let id = before.as_ref().map_or(new, |row| row.id);
    let content = plan(id, before.as_ref())?;
    let row = match &before {
        Some(before) => update_in(&mut change, before, &content).await?,
        None => insert_in(&mut change, customer, id, name, shard, &content).await?,
    };
    audit::record(&mut change, &record(before.as_ref(), Some(&row))).await?;
    Ok(Changed { before, row, version: change.commit().await? })
}

async fn insert_in(
    connection: &mut Connection,
    customer: CustomerId,
    id: DestinationId,
    name: &str,
    shard: i16,
    content: &Content,
) -> Result<DestinationRow> {
    customers::room_for_destination(connection, customer).await?;
    destination_rows!(
        "insert into destinations (id, customer_id, name, shard, url, signing_secrets_sealed, headers_sealed, rate_limit,
                                   rate_per, max_concurrency, timeout_ms, retry, append_query)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         returning" + COLUMNS,
        id.uuid(),
        customer.uuid(),
        name,
        shard,
        content.url,
        content.signing_secrets_sealed,
        content.headers_sealed,
        content.rate_limit,
        content.rate_per,
        content.max_concurrency,
        content.timeout_ms,
        content.retry,
        content.append_query
    )
    .fetch_one(connection)
    .await
    .map_err(Error::from)
}

async fn update_in(connection: &mut Connection, seen: &DestinationRow, content: &Content) -> Result<DestinationRow> {
    destination_rows!(
        "update destinations
         set url = $4, signing_secrets_sealed = $5, headers_sealed = $6, rate_limit = $7, rate_per = $8,
             max_concurrency = $9, timeout_ms = $10, retry = $11, append_query = $12,
             updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond'),
             moved_at = case when $13 then clock_timestamp() else moved_at end
         where customer_id = $1 and id = $2 and updated_at = $3
         returning"
            + COLUMNS,
        seen.customer_id.uuid(),
        seen.id.uuid(),
        seen.updated_at,
        content.url,
        content.signing_secrets_sealed,
        content.headers_sealed,
        content.rate_limit,
        content.rate_per,
        content.max_concurrency,
        content.timeout_ms,
        content.retry,
        content.append_query,
        content.moves
    )
    .fetch_one(connection)
    .await
    .map_err(Error::from)
}

/// Gives the destination with this id or this name the sealed signing secrets that `plan` makes from its row; no other
/// change runs at the same time. Returns the other value that `plan` returns, and the new version of the configuration;
/// `None` if there is no such destination.
///
/// # Errors
/// Returns the error of `plan`, or an error if a query fails.
pub async fn change_signing_secrets<T, E: From<Error>>(
    pool: &Pool,
    customer: CustomerId,
    id: Option<DestinationId>,
    name: Option<&str>,
    plan: impl FnOnce(&DestinationRow) -> Result<(T, String), E>,
    record: impl FnOnce(&DestinationRow) -> NewEntry,
) -> Result<Option<(T, Version)>, E> {
    let mut change = Change::begin(pool).await?;
    let Some(before) = find_in(&mut change, customer, id, name).await? else { return Ok(None) };
    let (planned, signing_secrets_sealed) = plan(&before)?;
    audit::record(&mut change, &record(&before)).await?;
    sqlx::query!(
        "update destinations set signing_secrets_sealed = $2,
                updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
         where id = $1",
        before.id.uuid(),
        signing_secrets_sealed
    )
    .execute(&mut *change)
    .await
    .map_err(Error::from)?;
    Ok(Some((planned, change.commit().await?)))
}

/// The destination with this id or this name.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn find(
    pool: &Pool,
    customer: CustomerId,
    id: Option<DestinationId>,
    name: Option<&str>,
) -> Result<Option<DestinationRow>> {
    find_in(&mut pool.acquire().await?, customer, id, name).await
}

pub(crate) async fn find_in(
    connection: &mut Connection,
    customer: CustomerId,
    id: Option<DestinationId>,
    name: Option<&str>,
) -> Result<Option<DestinationRow>> {
    destination_rows!(
        "select" + COLUMNS + "from destinations where customer_id = $1 and (id = $2 or name = $3)",
        customer.uuid(),
        id.map(DestinationId::uuid),
        name
    )
    .fetch_optional(connection)
    .await
    .map_err(Error::from)
}

/// Those of these destinations that belong to a customer.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn find_several(pool: &Pool, customer: CustomerId, ids: &[DestinationId]) -> Result<Vec<DestinationRow>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    destination_rows!(
        "select" + COLUMNS + "from destinations where customer_id = $1 and id = any($2)",
        customer.uuid(),
        &ids
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// A page of the destinations of a customer, or of all customers, newest first.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn page(
    pool: &Pool,
    customer: Option<CustomerId>,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Vec<DestinationRow>> {
    destination_rows!(
        "select"
            + COLUMNS
            + "from destinations where (customer_id = $1 or $1::uuid is null) and ($2::uuid is null or id < $2)
               order by id desc limit $3",
        customer.map(CustomerId::uuid),
        cursor,
        limit
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// Pauses or resumes a destination. Returns the new version of the configuration; `None` if the destination is already
/// in this state or does not exist.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn set_state(
    pool: &Pool,
    customer: CustomerId,
    id: DestinationId,
    state: DestinationState,
    record: impl FnOnce(Option<&DestinationRow>, Option<&DestinationRow>) -> NewEntry,
) -> Result<Option<Version>> {
    let mut change = Change::begin(pool).await?;
    let Some(before) = find_in(&mut change, customer, Some(id), None).await? else { return Ok(None) };
    if before.state == state {
        return Ok(None);
    }
    let row = set_state_in(&mut change, id, state, None).await?;
    audit::record(&mut change, &record(Some(&before), Some(&row))).await?;
    change.commit().await.map(Some)
}

/// Disables an active destination for the given reason. Returns the new version of the configuration; `None` if it was
/// not active.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn disable(
    pool: &Pool,
    id: DestinationId,
    reason: &str,
    record: impl FnOnce(&DestinationRow) -> NewEntry,
) -> Result<Option<Version>> {
    let mut change = Change::begin(pool).await?;
    let active =
        destination_rows!("select" + COLUMNS + "from destinations where id = $1 and state = 'active'", id.uuid());
    if active.fetch_optional(&mut *change).await?.is_none() {
        return Ok(None);
    }
    let row = set_state_in(&mut change, id, DestinationState::Disabled, Some(reason)).await?;
    audit::record(&mut change, &record(&row)).await?;
    change.commit().await.map(Some)
}

async fn set_state_in(
    connection: &mut Connection,
    id: DestinationId,
    state: DestinationState,
    reason: Option<&str>,
) -> Result<DestinationRow> {
    destination_rows!(
        "update destinations
         set state = $2, state_reason = $3, state_changed_at = now(),
             updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
         where id = $1
         returning"
            + COLUMNS,
        id.uuid(),
        state.name(),
        reason
    )
    .fetch_one(connection)
    .await
    .map_err(Error::from)
}
