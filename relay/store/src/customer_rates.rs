//! The customers that are over their limit of events per minute, and until when the edge refuses their events.

use std::time::Duration;

use shared::id::CustomerId;
use time::OffsetDateTime;
use uuid::Uuid;

use super::column::As;
use crate::{Connection, Error, Pool, Result};

/// A customer that is over its limit in this minute or was in the one before.
#[derive(Debug, Clone)]
pub struct Over {
    pub id: CustomerId,
    pub name: String,
    /// The most events that it may send in a minute.
    pub limit: i32,
    /// The version of the limit.
    pub limited_since: OffsetDateTime,
    /// How many sources it has.
    pub sources: i64,
    /// Until when its events are refused already; the time may have passed.
    pub refused_until: Option<OffsetDateTime>,
    /// The minutes since the limit was set in which events were stored, oldest first, with the number of events that
    /// count.
    pub minutes: Vec<(OffsetDateTime, i64)>,
    /// The time of the database.
    pub now: OffsetDateTime,
}

/// Claims the check of all customers that is due once in this time, by the database's clock. `false` if another relay
/// has claimed it, or if no customer has a limit.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn claim(pool: &Pool, every: Duration) -> Result<bool> {
    // A check in the future is one from before the clock went back.
    let claimed = sqlx::query!(
        "update limit_checks set checked_at = now()
         where (checked_at <= now() - $1::float8 * interval '1 second' or checked_at > now())
           and exists (select from customers where max_events_per_minute is not null)",
        every.as_secs_f64() * 0.9
    )
    .execute(pool)
    .await?;
    Ok(claimed.rows_affected() > 0)
}

/// The customers with a limit whose ids are greater than `after`, in the order of their ids.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn limited(pool: &Pool, after: Option<CustomerId>, limit: i64) -> Result<Vec<CustomerId>> {
    let ids = sqlx::query_scalar!(
        "select id from customers
         where max_events_per_minute is not null and ($1::uuid is null or id > $1) order by id limit $2",
        after.map(CustomerId::uuid),
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(CustomerId::from_uuid).collect())
}

/// Those of these customers that were over their limit in this minute or the one before, with their counts of at most
/// this time.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn over(pool: &Pool, ids: &[CustomerId], within: Duration) -> Result<Vec<Over>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let mut search = pool.begin_search().await?;
    let rows = sqlx::query!(
        r#"with counted as materialized (
               select customers.id, recent.events
               from customers cross join lateral (
                   select minute, sum(stored - unrated) as events from source_counters
                   where source_id = any(array(select sources.id from sources where sources.customer_id = customers.id))
                     and minute >= date_trunc('minute', now()) - interval '1 minute'
                     and minute >= date_trunc('minute', limited_since)
                   group by minute) recent
               where customers.id = any($1) and recent.events > max_events_per_minute
           )
           select customers.id as "id!: As<CustomerId>", name, max_events_per_minute as "limit!", limited_since,
                  (select count(*) from sources where sources.customer_id = customers.id) as "sources!",
                  refused_until, now() as "now!", minute as "minute!",
                  greatest(events - case when minute = date_trunc('minute', limited_since)
                                         then events_before_limit else 0 end, 0)::bigint as "events!"
           from customers cross join lateral (
               select minute, sum(stored - unrated) as events from source_counters
               where source_id = any(array(select sources.id from sources where sources.customer_id = customers.id))
                 and minute > now() - $2::float8 * interval '1 second'
                 and minute >= date_trunc('minute', limited_since)
               group by minute) past
           where customers.id in (select id from counted) and max_events_per_minute is not null
           order by customers.id, minute"#,
        &ids,
        within.as_secs_f64()
    )
    .fetch_all(&mut *search)
    .await?;
    let mut found: Vec<Over> = Vec::new();
    for row in rows {
        let id = CustomerId::from(row.id);
        if found.last().is_none_or(|over| over.id != id) {
            found.push(Over {
                id,
                name: row.name,
                limit: row.limit,
                limited_since: row.limited_since,
                sources: row.sources,
                refused_until: row.refused_until,
                minutes: Vec::new(),
                now: row.now,
            });
        }
        if let Some(over) = found.last_mut() {
            over.minutes.push((row.minute, row.events));
        }
    }
    Ok(found)
}

/// Stores until when the edge refuses the events of a customer, and raises the revision of each of its sources, so that
/// the relay writes them to the edge. Does nothing and returns `false` if the limit or the time has changed since the
/// customer was read.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn refuse(pool: &Pool, over: &Over, until: OffsetDateTime) -> Result<bool> {
    let mut transaction = pool.begin().await?;
    let refused = sqlx::query!(
        "update customers set refused_until = $2
         where id = $1 and limited_since = $3 and refused_until is not distinct from $4
           and max_events_per_minute is not null",
        over.id.uuid(),
        until,
        over.limited_since,
        over.refused_until
    )
    .execute(&mut *transaction)
    .await?;
    if refused.rows_affected() == 0 {
        return Ok(false);
    }
    raise_revisions(&mut transaction, over.id).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Raises the revision of each source of a customer, so that the relay writes them to the edge.
///
/// # Errors
/// Returns an error if a query fails.
pub(crate) async fn raise_revisions(connection: &mut Connection, customer: CustomerId) -> Result<()> {
    sqlx::query!("select id from sources where customer_id = $1 order by id for no key update", customer.uuid())
        .fetch_all(&mut *connection)
        .await?;
    sqlx::query!("update sources set revision = revision + 1 where customer_id = $1", customer.uuid())
        .execute(connection)
        .await?;
    Ok(())
}

/// Until when the edge refuses the events of a customer, by the time of the database; `None` if it accepts them.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn refused_until(pool: &Pool, customer: CustomerId) -> Result<Option<OffsetDateTime>> {
    let until = sqlx::query_scalar!(
        "select refused_until from customers where id = $1 and refused_until > now()",
        customer.uuid()
    );
    Ok(until.fetch_optional(pool).await.map_err(Error::from)?.flatten())
}

/// Changes the limit of a customer, lifts a refusal, and begins to count anew: what was stored before does not count
/// against the new limit.
///
/// # Errors
/// Returns an error if the query fails.
pub(crate) async fn change_limit(connection: &mut Connection, customer: CustomerId, limit: Option<i32>) -> Result<()> {
    sqlx::query!(
        "update customers
         set max_events_per_minute = $2, refused_until = null, limited_since = now(),
             events_before_limit = (
                 select coalesce(sum(stored - unrated), 0) from source_counters
                 where source_id = any(array(select sources.id from sources where sources.customer_id = $1))
                   and minute = date_trunc('minute', now()))
         where id = $1",
        customer.uuid(),
        limit
    )
    .execute(connection)
    .await?;
    Ok(())
}
