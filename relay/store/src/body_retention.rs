//! Deletes the bodies of customers whose retention of bodies is shorter than that of the deployment.
//!
//! Partitions hold the bodies of all customers, so these bodies are deleted row by row. A *walk* visits the events of
//! all customers in the order of their ids, once for each number of days, and deletes the bodies of the customers with
//! that retention. The transaction of a chunk also moves the walk. A body that a pending delivery needs is noted, and
//! is deleted when the delivery has ended. So is the body of an event that was stored long after it had arrived.

use std::collections::HashMap;
use std::time::Duration;

use model::unix_time;
use shared::id::{CustomerId, uuid_v7_floor};
use uuid::Uuid;

use crate::{Connection, Error, Pool, Result};

/// The most bytes of bodies that one chunk deletes, unless a single body is larger.
pub(crate) const MOST_BYTES: i64 = 32 << 20;

/// How soon it is checked again whether a delivery still needs a body.
const CHECK_AGAIN: Duration = Duration::from_secs(600);

/// How much longer than its retention a body is kept. No delivery is made of an event past its retention. So a
/// transaction that has found the event within its retention, and makes a delivery of it, has committed by then, and
/// the deletion finds the delivery. It is far longer than such a transaction and the evaluation before it take. A
/// shorter retention is a change of the configuration, so no such transaction commits by the retention before.
pub const GRACE: Duration = Duration::from_secs(600);

/// The walk for one number of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// The retention of bodies of some customers, in days.
    pub days: i16,
    /// The bodies of events before this id have been visited; `None` if it has not begun.
    pub until: Option<Uuid>,
}

/// Makes the walk for this number of days visit all events again, because a customer has got this retention. It waits
/// for a chunk that is being visited, which may not know of the customer.
pub(crate) async fn begin_again(connection: &mut Connection, days: i16) -> Result<()> {
    sqlx::query!(
        "insert into body_retention (days, until_id) values ($1, $2)
         on conflict (days) do update set until_id = excluded.until_id, begun_at = excluded.begun_at",
        days,
        Uuid::nil()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The walks for every retention that customers have.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn walks(pool: &Pool) -> Result<Vec<Walk>> {
    sqlx::query_as!(
        Walk,
        r#"select wanted.days as "days!", until_id as "until?"
           from (select distinct body_retention_days as days from customers where body_retention_days is not null) wanted
           left join body_retention on body_retention.days = wanted.days
           order by 1"#
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// Visits the next events of a walk, from `from` to before `until`, at most `limit`. Returns where it continues; `None`
/// if it has come to `until`, or if another replica visits it.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written, or the response to the commit was lost.
pub async fn visit(pool: &Pool, walk: Walk, from: Uuid, until: Uuid, limit: i64) -> Result<Option<Uuid>> {
    let mut transaction = pool.begin().await?;
    sqlx::query!(
        "insert into body_retention (days, until_id) values ($1, $2) on conflict (days) do nothing",
        walk.days,
        from
    )
    .execute(&mut *transaction)
    .await?;
    let at =
        sqlx::query_scalar!("select until_id from body_retention where days = $1 for update skip locked", walk.days)
            .fetch_optional(&mut *transaction)
            .await?;
    let Some(at) = at else { return Ok(None) };
    let from = from.max(at);
    let rows = sqlx::query!(
        "select id, customer_id, body_size from events where id >= $1 and id < $2 order by id limit $3",
        from,
        until,
        limit
    )
    .fetch_all(&mut *transaction)
    .await?;
    let customers = sqlx::query_scalar!("select id from customers where body_retention_days = $1", walk.days)
        .fetch_all(&mut *transaction)
        .await?;
    let is_owned = |customer: &Uuid| customers.contains(customer);
    let sizes = rows.iter().map(|row| if is_owned(&row.customer_id) { row.body_size.into() } else { 0 });
    let taken = within(sizes, MOST_BYTES);
    let owned = rows.iter().take(taken).filter(|row| is_owned(&row.customer_id));
    let ids: Vec<Uuid> = owned.map(|row| row.id).collect();
    delete_or_note(&mut transaction, &ids).await?;
    let is_full = taken < rows.len() || i64::try_from(rows.len()).is_ok_and(|read| read >= limit);
    let next = rows.get(taken.saturating_sub(1)).filter(|_| is_full).map(|row| crate::search::after(row.id));
    sqlx::query!("update body_retention set until_id = $2 where days = $1", walk.days, next.unwrap_or(until))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(next)
}

/// Deletes the bodies of these events, and notes those that pending deliveries need.
async fn delete_or_note(connection: &mut Connection, events: &[Uuid]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let needed = needed(connection, events).await?;
    sqlx::query!(
        "insert into needed_bodies (event_id, check_at)
         select event.id, now() + $2::float8 * interval '1 second' from unnest($1::uuid[]) as event (id)
         on conflict do nothing",
        &needed,
        CHECK_AGAIN.as_secs_f64()
    )
    .execute(&mut *connection)
    .await?;
    let unneeded: Vec<Uuid> = events.iter().filter(|id| !needed.contains(id)).copied().collect();
    sqlx::query!("delete from event_bodies where event_id = any($1)", &unneeded).execute(connection).await?;
    Ok(())
}

async fn needed(connection: &mut Connection, events: &[Uuid]) -> Result<Vec<Uuid>> {
    let needed =
        sqlx::query_scalar!("select distinct event_id from pending_deliveries where event_id = any($1)", events);
    needed.fetch_all(connection).await.map_err(Error::from)
}

/// Deletes the noted bodies that no pending delivery needs any more, at most `limit`. If the retention of the customer
/// has been made longer since a body was noted, so that it is kept at `now_ms` (Unix time in milliseconds), only the
/// note is deleted: the walk visits the event when its time has come. Returns whether there may be more.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written, or the response to the commit was lost.
pub async fn delete_unneeded(pool: &Pool, now_ms: u64, limit: i64) -> Result<bool> {
    let mut transaction = pool.begin().await?;
    let due = sqlx::query_scalar!(
        "select event_id from needed_bodies where check_at <= now() order by check_at limit $1 for update skip locked",
        limit
    )
    .fetch_all(&mut *transaction)
    .await?;
    if due.is_empty() {
        return Ok(false);
    }
    let is_full = i64::try_from(due.len()).is_ok_and(|count| count >= limit);
    let needed = needed(&mut transaction, &due).await?;
    let mut unneeded: Vec<Uuid> = due.iter().filter(|id| !needed.contains(id)).copied().collect();
    let past: HashMap<Uuid, i64> = past_retention(&mut transaction, now_ms, &unneeded).await?;
    let taken = within(unneeded.iter().map(|id| past.get(id).copied().unwrap_or(0)), MOST_BYTES);
    let is_cut = taken < unneeded.len();
    unneeded.truncate(taken);
    let past: Vec<Uuid> = unneeded.iter().filter(|id| past.contains_key(id)).copied().collect();
    sqlx::query!(
        "update needed_bodies set check_at = now() + $2::float8 * interval '1 second' where event_id = any($1)",
        &needed,
        CHECK_AGAIN.as_secs_f64()
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!("delete from needed_bodies where event_id = any($1)", &unneeded).execute(&mut *transaction).await?;
    sqlx::query!("delete from event_bodies where event_id = any($1)", &past).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(is_full || is_cut)
}

/// The sizes of the bodies of those of these events whose customer has a shorter retention that has ended, in bytes.
async fn past_retention(connection: &mut Connection, now_ms: u64, events: &[Uuid]) -> Result<HashMap<Uuid, i64>> {
    let rows = sqlx::query!(
        r#"select events.id, body_size, body_retention_days as "days!"
           from events join customers on customers.id = events.customer_id
           where events.id = any($1) and body_retention_days is not null"#,
        events
    )
    .fetch_all(connection)
    .await?;
    let grace_ms = u64::try_from(GRACE.as_millis()).unwrap_or(u64::MAX);
    let past = rows.iter().filter(|row| row.id < floor(now_ms.saturating_sub(grace_ms), row.days));
    Ok(past.map(|row| (row.id, i64::from(row.body_size))).collect())
}

/// For how many days the bodies of a customer are kept; `None` if for as long as those of the deployment.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn days_of(database: impl sqlx::PgExecutor<'_>, customer: CustomerId) -> Result<Option<i16>> {
    let days = sqlx::query_scalar!("select body_retention_days from customers where id = $1", customer.uuid());
    Ok(days.fetch_optional(database).await?.flatten())
}

/// The first id of an event that is entitled to its body at `now_ms` (Unix time in milliseconds), if the customer keeps
/// bodies for `days`, and no event before `of_all` is.
#[must_use]
pub fn first_with_body(now_ms: u64, days: Option<i16>, of_all: Uuid) -> Uuid {
    days.map_or(of_all, |days| of_all.max(floor(now_ms, days)))
}

/// The first id of an event whose body is kept, if bodies are kept for this number of days.
fn floor(now_ms: u64, days: i16) -> Uuid {
    uuid_v7_floor(unix_time::days_before(now_ms, days.unsigned_abs()))
}

/// How many of these sizes, from the first on, have at most `most` in total; at least one.
pub(crate) fn within(sizes: impl Iterator<Item = i64>, most: i64) -> usize {
    let (mut total, mut all, mut fitting) = (0_i64, 0, 0);
    for size in sizes {
        all += 1;
        total = total.saturating_add(size);
        if total <= most {
            fitting += 1;
        }
    }
    fitting.max(1).min(all)
}

/// Notes the body of an event that was stored long after it had arrived: the walk may have passed its place.
pub(crate) async fn note(connection: &mut Connection, event: Uuid) -> Result<()> {
    sqlx::query!("insert into needed_bodies (event_id) values ($1) on conflict do nothing", event)
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes a walk visit the events from `from` on again, if it has not begun to do so for `pause`.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn repeat(pool: &Pool, walk: Walk, from: Uuid, pause: Duration) -> Result<bool> {
    let repeated = sqlx::query!(
        "update body_retention set until_id = $2, begun_at = now()
         where days = $1 and until_id > $2 and begun_at < now() - $3::float8 * interval '1 second'",
        walk.days,
        from,
        pause.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(repeated.rows_affected() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_entitled_to_its_body_for_the_shorter_of_the_two_retentions() {
        const NOW_MS: u64 = 1_764_000_000_000;
        let of_all = floor(NOW_MS, 30);
        assert_eq!(first_with_body(NOW_MS, None, of_all), of_all);
        assert_eq!(first_with_body(NOW_MS, Some(90), of_all), of_all);
        assert_eq!(first_with_body(NOW_MS, Some(3), of_all), uuid_v7_floor(NOW_MS - 3 * 86_400_000));
    }

    #[test]
    fn a_chunk_has_at_least_one_row_and_otherwise_no_more_bytes_than_allowed() {
        assert_eq!(within([5, 5, 5].into_iter(), 10), 2);
        assert_eq!(within([50, 5].into_iter(), 10), 1);
        assert_eq!(within([0, 0, 10, 0, 1].into_iter(), 10), 4);
        assert_eq!(within([].into_iter(), 10), 0);
    }
}
