//! Deletes a customer: what may still act at once, in one transaction, and everything else in chunks.
//!
//! No table of history has an index by customer, because nothing else would use it. So the chunks walk each table in
//! the order of its primary key, and delete the rows of the customer. Tables that do not name the customer are walked
//! by the events, the sources or the destinations that they name; `operation_objects` has the sources and destinations,
//! also those that the customer itself deleted and that only its history still names.
//!
//! After the first transaction no event and no delivery of the customer is stored: every transaction that stores events
//! or makes deliveries holds the configuration, which no longer has its sources and destinations. What else may still
//! be stored is walked again after a while ([`LATE`]): attempts that were in flight, messages and rejections that the
//! edge sent before it had deleted the sources, and what both are counted in.

use std::collections::HashSet;
use std::time::Duration;

use model::operation::OperationKind;
use serde_json::json;
use shared::id::{CustomerId, OperationId, SourceId, uuid_v7_floor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, NewEntry};
use super::configuration::{Change, Version};
use super::customers::{self, CustomerRow};
use super::operations::{self, New, Next, OperationRow, Place};
use super::sources::EDGE_CHECK_SOON;
use crate::{Connection, DEFAULT_CUSTOMER, Error, Pool, Result};

mod walk;

pub use walk::{Walked, late, take};

/// How long after the deletion the late walks begin: longer than an attempt that was in flight takes, and longer than
/// the edge keeps rejections and accepts events of a deleted source.
pub const LATE: Duration = Duration::from_secs(180);

/// How far before the deletion the late walk of attempts begins: further than clocks may differ, and than an attempt
/// takes.
const LATE_FROM_MS: u64 = 600_000;

/// A step of the deletion. The steps come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The sources are deleted at the edge.
    Edge,
    /// The pending deliveries are being cancelled, as those of deleted destinations.
    Pending,
    /// Unreadable messages that name a source of the customer, or became an event of it.
    Messages,
    Deliveries,
    Copies,
    Attempts,
    /// Events with their bodies. The steps before read which events are the customer's.
    Events,
    Rejections,
    Keys,
    SourceCounters,
    DestinationCounters,
    Replays,
    /// Attempts that were in flight when the customer was deleted.
    Late,
    /// What they were counted in.
    LateCounters,
    /// Messages that came out of the queue after the first walk. All are walked, because the time in the id of a
    /// message is that at which the queue accepted it.
    LateMessages,
    /// Rejections that came out of the queue after the first walk; all for the same reason.
    LateRejections,
    /// What these were counted in.
    LateSourceCounters,
    /// The row of the customer, and what refers to it.
    Customer,
}

model::names! {
    Step {
        Edge => "edge",
        Pending => "pending",
        Messages => "messages",
        Deliveries => "deliveries",
        Copies => "copies",
        Attempts => "attempts",
        Events => "events",
        Rejections => "rejections",
        Keys => "keys",
        SourceCounters => "source_counters",
        DestinationCounters => "destination_counters",
        Replays => "replays",
        Late => "late",
        LateCounters => "late_counters",
        LateMessages => "late_messages",
        LateRejections => "late_rejections",
        LateSourceCounters => "late_source_counters",
        Customer => "customer",
    }
}

impl Step {
    /// The step after this one; the last step has none.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().skip_while(|step| *step != self).nth(1)
    }
}

/// The customer that an operation deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleting {
    pub operation: OperationId,
    pub customer: CustomerId,
}

/// The result of a deletion.
#[derive(Debug)]
pub enum Deleted {
    Begun {
        operation: Box<OperationRow>,
        /// The new version of the configuration.
        version: Version,
    },
    /// The default customer cannot be deleted.
    Default,
}

/// Deletes the customer with this id or name as far as it can act: revokes its tokens, removes its sources,
/// destinations and routes from the configuration, cancels its replays, and frees its name. The operation deletes the
/// rest. `None` if there is no such customer.
///
/// # Errors
/// Returns the error of `check`, which is given the row, or an error if a query fails; then nothing was written, or the
/// response to the commit was lost.
pub async fn delete<E: From<Error>>(
    pool: &Pool,
    id: Option<CustomerId>,
    name: Option<&str>,
    operation: OperationId,
    check: impl FnOnce(&CustomerRow) -> Result<(), E>,
    record: impl FnOnce(&CustomerRow) -> NewEntry,
) -> Result<Option<Deleted>, E> {
    let mut change = Change::begin(pool).await?;
    let Some(row) = customers::find_in(&mut change, id, name).await? else { return Ok(None) };
    if row.id == DEFAULT_CUSTOMER {
        return Ok(Some(Deleted::Default));
    }
    check(&row)?;
    Ok(Some(begin_in(change, &row, operation, record).await?))
}

async fn begin_in(
    mut change: Change,
    row: &CustomerRow,
    operation: OperationId,
    record: impl FnOnce(&CustomerRow) -> NewEntry,
) -> Result<Deleted> {
    // A name that no customer can have, because it begins like an id.
    sqlx::query!(
        "update customers set deleted_at = now(), updated_at = now(), name = $2 where id = $1",
        row.id.uuid(),
        row.id.to_string()
    )
    .execute(&mut *change)
    .await?;
    let new = New {
        id: operation,
        customer: None,
        kind: OperationKind::DeleteCustomer,
        step: Step::Edge.name(),
        parameters: json!({ "customer_id": row.id, "name": row.name }),
        total: None,
        takes: None,
    };
    let stored = operations::insert_in(&mut change, &new).await?;
    let deleting = Deleting { operation, customer: row.id };
    remember(&mut change, deleting).await?;
    take_configuration(&mut change, row.id).await?;
    sqlx::query!("update tokens set revoked_at = coalesce(revoked_at, now()) where customer_id = $1", row.id.uuid())
        .execute(&mut *change)
        .await?;
    audit::record(&mut change, &record(row)).await?;
    let version = change.commit().await?;
    Ok(Deleted::Begun { operation: Box::new(stored), version })
}

/// Notes the sources and destinations of the customer.
async fn remember(connection: &mut Connection, Deleting { operation, customer }: Deleting) -> Result<()> {
    sqlx::query!(
        "insert into operation_objects (operation_id, kind, id)
         select $1::uuid, 'source', id from sources where customer_id = $2
         union all select $1, 'source', id from deleted_sources where customer_id = $2
         union all select $1, 'destination', id from destinations where customer_id = $2
         union all select $1, 'destination', id from deleted_destinations where customer_id = $2
         on conflict do nothing",
        operation.uuid(),
        customer.uuid()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes what was created for a customer after its deletion: by a call that was in progress, or by a relay of a
/// version that does not know deleted customers and creates sources and destinations for them. Then the operation walks
/// again, after `wait`, and shows `error` meanwhile. Returns the new version of the configuration if that has changed.
/// Does nothing if the operation is no longer at this place.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written, or the response to the commit was lost.
pub async fn delete_again(
    pool: &Pool,
    place: &Place,
    deleting: Deleting,
    error: &str,
    wait: Duration,
) -> Result<Option<Version>> {
    let mut change = Change::begin(pool).await?;
    if !operations::lock(&mut change, place).await? {
        return Ok(None);
    }
    remember(&mut change, deleting).await?;
    let is_changed = take_configuration(&mut change, deleting.customer).await?;
    // Such sources and destinations may have history of every kind.
    let step = if is_changed { Step::Edge } else { Step::Replays };
    let next = Next { step: step.name(), cursor: None, processed: 0, failed: 0, wait };
    operations::advance(&mut change, place.id, &next).await?;
    operations::show(&mut change, place.id, error).await?;
    if is_changed {
        return change.commit().await.map(Some);
    }
    change.commit_unchanged().await?;
    Ok(None)
}

/// Deletes the routes, destinations and sources of a customer, and ends its replays. The pending deliveries are
/// cancelled like those of each deleted destination, and each source is compared with the edge like each deleted
/// source. Returns whether there was a source or a destination.
async fn take_configuration(connection: &mut Connection, customer: CustomerId) -> Result<bool> {
    let customer = customer.uuid();
    // No delivery is sent any more, so no transform is needed again.
    sqlx::query!(
        "delete from route_versions where route_id in (select id from routes where customer_id = $1)",
        customer
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("delete from routes where customer_id = $1", customer).execute(&mut *connection).await?;
    let destinations =
        sqlx::query_scalar!("select id from destinations where customer_id = $1 order by id for update", customer)
            .fetch_all(&mut *connection)
            .await?;
    sqlx::query!("select id from sources where customer_id = $1 order by id for update", customer)
        .fetch_all(&mut *connection)
        .await?;
    sqlx::query!(
        "select destination_id from destination_health where destination_id = any($1) order by destination_id for update",
        &destinations
    )
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query!("delete from destination_health where destination_id = any($1)", &destinations)
        .execute(&mut *connection)
        .await?;
    // The deletion of a destination updates its replays. They are locked in the order that all transactions use.
    sqlx::query!(
        "select id from replays
         where id = any(array(select id from replays where destination_id = any($1))
                        || array(select id from replays where state = 'running' and customer_id = $2))
         order by id for update",
        &destinations,
        customer
    )
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query!(
        "update replays set state = 'cancelled', finished_at = now(), error = 'its customer was deleted'
         where state = 'running' and customer_id = $1",
        customer
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "with deleted as (delete from destinations where id = any($1) returning id, customer_id)
         insert into deleted_destinations (id, customer_id) select id, customer_id from deleted",
        &destinations
    )
    .execute(&mut *connection)
    .await?;
    // The tombstone is above every revision that may be on its way to the edge.
    let sources = sqlx::query!(
        "with deleted as (
            delete from sources where customer_id = $1 returning id, customer_id, name, revision
         )
         insert into deleted_sources (id, customer_id, name, revision, edge_check_at)
         select id, customer_id, name, revision + 1, now() + $2::float8 * interval '1 second' from deleted",
        customer,
        EDGE_CHECK_SOON.as_secs_f64()
    )
    .execute(connection)
    .await?;
    Ok(!destinations.is_empty() || sources.rows_affected() > 0)
}

/// A source that is to be deleted at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    pub id: SourceId,
    pub revision: i64,
}

/// The next sources of the customer that are to be deleted at the edge, after the id `after`.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn tombstones(
    pool: &Pool,
    operation: OperationId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Tombstone>> {
    let rows = sqlx::query!(
        "select deleted_sources.id, revision
         from operation_objects join deleted_sources on deleted_sources.id = operation_objects.id
         where operation_id = $1 and kind = 'source' and ($2::uuid is null or operation_objects.id > $2)
         order by operation_objects.id limit $3",
        operation.uuid(),
        after,
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| Tombstone { id: SourceId::from_uuid(row.id), revision: row.revision }).collect())
}

/// Whether pending deliveries of the customer are still being cancelled.
pub(crate) async fn is_pending(connection: &mut Connection, customer: CustomerId) -> Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from deleted_destinations where customer_id = $1) as "pending!""#,
        customer.uuid()
    )
    .fetch_one(connection)
    .await
    .map_err(Error::from)
}

/// Where the walk of late attempts begins.
pub(crate) fn late_from(created_at: OffsetDateTime) -> Uuid {
    uuid_v7_floor(model::unix_time::unix_ms(created_at).saturating_sub(LATE_FROM_MS))
}

/// Which of these events are the customer's.
pub(crate) async fn events_of(
    connection: &mut Connection,
    customer: CustomerId,
    events: &[Uuid],
) -> Result<HashSet<Uuid>> {
    if events.is_empty() {
        return Ok(HashSet::new());
    }
    let owned =
        sqlx::query_scalar!("select id from events where customer_id = $1 and id = any($2)", customer.uuid(), events);
    Ok(owned.fetch_all(connection).await?.into_iter().collect())
}

/// Deletes the row of the customer and what refers to it.
///
/// # Errors
/// Returns [`crate::Constraint::Reference`] if something refers to it that a call has created since, or an error if a
/// query fails.
pub(crate) async fn delete_row(connection: &mut Connection, Deleting { operation, customer }: Deleting) -> Result<()> {
    let customer = customer.uuid();
    sqlx::query!("delete from operation_objects where operation_id = $1", operation.uuid())
        .execute(&mut *connection)
        .await?;
    sqlx::query!("delete from operations where customer_id = $1", customer).execute(&mut *connection).await?;
    sqlx::query!("delete from tokens where customer_id = $1", customer).execute(&mut *connection).await?;
    sqlx::query!("update deleted_sources set customer_id = null where customer_id = $1", customer)
        .execute(&mut *connection)
        .await?;
    sqlx::query!("delete from former_sources where customer_id = $1", customer).execute(&mut *connection).await?;
    sqlx::query!("delete from former_destinations where customer_id = $1", customer).execute(&mut *connection).await?;
    sqlx::query!("delete from customers where id = $1", customer).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_read_from_its_name_and_leads_to_the_next_one() {
        for pair in Step::ALL.windows(2) {
            assert_eq!(pair[0].next(), Some(pair[1]));
        }
        assert_eq!(Step::Customer.next(), None);
        assert!(Step::ALL.into_iter().all(|step| Step::from_name(step.name()) == Some(step)));
        assert_eq!(Step::from_name("later"), None);
    }
}
