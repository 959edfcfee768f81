//! Customers: the owners of sources, destinations, routes, and of what belongs to them.

use std::collections::HashMap;

use shared::id::{CustomerId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, NewEntry};
use super::body_retention;
use super::column::As;
use super::configuration::{Change, Version};
use super::customer_rates;
use crate::{Connection, Constraint, Error, Kind, Pool, Result};

/// A customer as it is stored.
#[derive(Debug, Clone)]
pub struct CustomerRow {
    pub id: CustomerId,
    pub name: String,
    /// The most sources that it may have; `None` if there is no limit.
    pub max_sources: Option<i32>,
    /// The most destinations that it may have; `None` if there is no limit.
    pub max_destinations: Option<i32>,
    /// The most events that it may send in a minute; `None` if there is no limit.
    pub max_events_per_minute: Option<i32>,
    /// Until when the edge refuses its events; `None` if it accepts them.
    pub refused_until: Option<OffsetDateTime>,
    /// For how many days the bodies of its events are kept; `None` if for as long as those of the deployment.
    pub body_retention_days: Option<i16>,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

/// The query for [`CustomerRow`]s with these texts before and after its columns.
macro_rules! customer_rows {
    ($before:literal + COLUMNS $(+ $after:literal)?, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            CustomerRow,
            $before
                + r#" id as "id!: As<CustomerId>", name, max_sources, max_destinations, max_events_per_minute,
                      case when refused_until > now() then refused_until end as refused_until, body_retention_days,
                      created_at, updated_at "#
                $(+ $after)?,
            $($argument),*
        )
    };
}

/// The settings that an operator gives a customer.
#[derive(Debug, Clone)]
pub struct Content {
    pub name: String,
    pub max_sources: Option<i32>,
    pub max_destinations: Option<i32>,
    pub max_events_per_minute: Option<i32>,
    pub body_retention_days: Option<i16>,
}

/// The result of a change of a customer.
pub struct Changed {
    /// The row before the change; `None` if the customer is new.
    pub before: Option<CustomerRow>,
    pub row: CustomerRow,
    /// The new version of the configuration, if the change affects it: the customer has another name, and so the edge
    /// has to find its sources by other names; or another retention of bodies, and so no delivery may be stored that
    /// was decided by the one before.
    pub version: Option<Version>,
    /// Whether the sources of the customer have to be written to the edge.
    pub edge_is_behind: bool,
}

/// Stores a new customer.
///
/// # Errors
/// Returns [`Constraint::CustomerName`] if the name is taken, or an error if the query fails.
pub async fn insert(
    pool: &Pool,
    id: CustomerId,
    content: &Content,
    record: impl FnOnce(Option<&CustomerRow>, Option<&CustomerRow>) -> NewEntry,
) -> Result<CustomerRow> {
    let mut transaction = pool.begin().await?;
    let row = insert_in(&mut transaction, id, content).await?;
    audit::record(&mut transaction, &record(None, Some(&row))).await?;
    transaction.commit().await?;
    Ok(row)
}

async fn insert_in(connection: &mut Connection, id: CustomerId, content: &Content) -> Result<CustomerRow> {
    customer_rows!(
        "insert into customers (id, name, max_sources, max_destinations, max_events_per_minute, body_retention_days)
         values ($1, $2, $3, $4, $5, $6) returning"
            + COLUMNS,
        id.uuid(),
        content.name,
        content.max_sources,
        content.max_destinations,
        content.max_events_per_minute,
        content.body_retention_days
    )
    .fetch_one(connection)
    .await
    .map_err(Error::from)
}

/// Changes the customer with this id or this name to the content that `plan` makes from its row; no other change runs
/// at the same time. `None` if there is no such customer. If the name changes, or the limit of events,
/// the revision of each of its sources is raised, so that the relay writes them to the edge.
///
/// # Errors
/// Returns the error of `plan`, [`Constraint::CustomerName`] if the name is taken, or an error if a query fails.
pub async fn change<E: From<Error>>(
    pool: &Pool,
    id: Option<CustomerId>,
    name: Option<&str>,
    plan: impl FnOnce(&CustomerRow) -> Result<Content, E>,
    record: impl FnOnce(Option<&CustomerRow>, Option<&CustomerRow>) -> NewEntry,
) -> Result<Option<Changed>, E> {
    let mut change = Change::begin(pool).await?;
    let Some(before) = find_in(&mut change, id, name).await? else { return Ok(None) };
    let content = plan(&before)?;
    Ok(Some(update(change, before, &content, record).await?))
}

/// Changes the customer with this name, or stores a new one with the id `new`. `plan` is given the row if there is one;
/// no other change runs at the same time.
///
/// # Errors
/// Returns the error of `plan`, or an error if a query fails.
pub async fn put<E: From<Error>>(
    pool: &Pool,
    name: &str,
    new: CustomerId,
    plan: impl FnOnce(Option<&CustomerRow>) -> Result<Content, E>,
    record: impl FnOnce(Option<&CustomerRow>, Option<&CustomerRow>) -> NewEntry,
) -> Result<Changed, E> {
    let mut change = Change::begin(pool).await?;
    let before = find_in(&mut change, None, Some(name)).await?;
    let content = plan(before.as_ref())?;
    match before {
        Some(before) => Ok(update(change, before, &content, record).await?),
        None => {
            let row = insert_in(&mut change, new, &content).await?;
            audit::record(&mut change, &record(None, Some(&row))).await?;
            change.commit_unchanged().await?;
            Ok(Changed { before: None, row, version: None, edge_is_behind: false })
        }
    }
}

async fn update(
    mut change: Change,
    before: CustomerRow,
    content: &Content,
    record: impl FnOnce(Option<&CustomerRow>, Option<&CustomerRow>) -> NewEntry,
) -> Result<Changed> {
    let is_limit_new = content.max_events_per_minute != before.max_events_per_minute;
    if is_limit_new {
        customer_rates::change_limit(&mut change, before.id, content.max_events_per_minute).await?;
    }
    let row = customer_rows!(
        "update customers set name = $2, max_sources = $3, max_destinations = $4, body_retention_days = $5,
                              updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
         where id = $1 returning"
            + COLUMNS,
        before.id.uuid(),
        content.name,
        content.max_sources,
        content.max_destinations,
        content.body_retention_days
    )
    .fetch_one(&mut *change)
    .await
    .map_err(Error::from)?;
    audit::record(&mut change, &record(Some(&before), Some(&row))).await?;
    let is_retention_new = row.body_retention_days != before.body_retention_days;
    if let Some(days) = row.body_retention_days.filter(|_| is_retention_new) {
        body_retention::begin_again(&mut change, days).await?;
    }
    let is_renamed = row.name != before.name;
    // A relay may have refused the customer since the row was read, so that alone does not say whether it is refused.
    let may_be_lifted = is_limit_new && before.max_events_per_minute.is_some();
    if is_renamed || may_be_lifted {
        customer_rates::raise_revisions(&mut change, row.id).await?;
    }
    let version = if is_renamed || is_retention_new {
        Some(change.commit().await?)
    } else {
        change.commit_unchanged().await?;
        None
    };
    Ok(Changed { before: Some(before), row, version, edge_is_behind: is_renamed || may_be_lifted })
}

/// The customer with this id or this name.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn find(pool: &Pool, id: Option<CustomerId>, name: Option<&str>) -> Result<Option<CustomerRow>> {
    find_in(&mut pool.acquire().await?, id, name).await
}

pub(crate) async fn find_in(
    connection: &mut Connection,
    id: Option<CustomerId>,
    name: Option<&str>,
) -> Result<Option<CustomerRow>> {
    customer_rows!(
        "select" + COLUMNS + "from customers where (id = $1 or name = $2) and deleted_at is null",
        id.map(CustomerId::uuid),
        name
    )
    .fetch_optional(connection)
    .await
    .map_err(Error::from)
}

/// A page of customers, newest first.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn page(pool: &Pool, cursor: Option<Uuid>, limit: i64) -> Result<Vec<CustomerRow>> {
    customer_rows!(
        "select"
            + COLUMNS
            + "from customers where ($1::uuid is null or id < $1) and deleted_at is null order by id desc limit $2",
        cursor,
        limit
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// The first names of customers in alphabetical order.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn first_names(pool: &Pool, limit: i64) -> Result<Vec<String>> {
    sqlx::query_scalar!("select name from customers where deleted_at is null order by name limit $1", limit)
        .fetch_all(pool)
        .await
        .map_err(Error::from)
}

/// The names of these customers.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn names(pool: &Pool, ids: &[CustomerId]) -> Result<HashMap<CustomerId, String>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!("select id, name from customers where id = any($1)", &ids).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (CustomerId::from_uuid(row.id), row.name)).collect())
}

/// The customer that owns a source; `None` if there is no such source.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn of_source(pool: &Pool, source: SourceId) -> Result<Option<CustomerId>> {
    let customer = sqlx::query_scalar!("select customer_id from sources where id = $1", source.uuid());
    Ok(customer.fetch_optional(pool).await?.map(CustomerId::from_uuid))
}

/// Checks that a customer exists and may have one more source. The change that inserts the source locks out all others,
/// so none comes between the check and the insertion.
///
/// # Errors Returns [`Constraint::SourceLimit`] if it may not, [`Constraint::CustomerGone`] if it was deleted, or an
/// error if the query fails.
pub(crate) async fn room_for_source(connection: &mut Connection, customer: CustomerId) -> Result<()> {
    let full = sqlx::query_scalar!(
        r#"select coalesce((select count(*) from sources where customer_id = $1) >= max_sources, false) as "full!"
           from customers where id = $1 and deleted_at is null"#,
        customer.uuid()
    )
    .fetch_optional(connection)
    .await?;
    room(full, Constraint::SourceLimit)
}

/// Checks that a customer may have one more destination, as [`room_for_source`] does.
///
/// # Errors
/// Returns [`Constraint::DestinationLimit`] if it may not, or an error if the query fails.
pub(crate) async fn room_for_destination(connection: &mut Connection, customer: CustomerId) -> Result<()> {
    let full = sqlx::query_scalar!(
        r#"select coalesce((select count(*) from destinations where customer_id = $1) >= max_destinations, false)
                      as "full!"
           from customers where id = $1 and deleted_at is null"#,
        customer.uuid()
    )
    .fetch_optional(connection)
    .await?;
    room(full, Constraint::DestinationLimit)
}

fn room(full: Option<bool>, limit: Constraint) -> Result<()> {
    match full {
        Some(true) => Err(Error::new(Kind::Conflict(limit), "the customer has reached its limit")),
        Some(false) => Ok(()),
        None => Err(Error::new(Kind::Conflict(Constraint::CustomerGone), "the customer was deleted")),
    }
}
