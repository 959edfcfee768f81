//! Deliveries that are held individually: their number, since when they are held, and their release.

use model::held_by::HeldBy;
use shared::id::{CustomerId, DestinationId, RouteId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{self, NewEntry};
use crate::column::As;
use crate::{Connection, Error, Pool, Result};

/// How long the relay may take to decide an undecided delivery before an operational event reports it, in seconds.
const DECIDED_BY_ITSELF_S: f64 = 60.0;

/// Which held deliveries to release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    All,
    Destination(DestinationId),
    Route(RouteId),
    Source(SourceId),
}

/// A delivery that is no longer held, or whose route is to be evaluated now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    pub destination_id: DestinationId,
    /// Whether its route is evaluated again before it is sent.
    pub undecided: bool,
}

/// Makes held deliveries due now, at most `limit` of them, the oldest of each cause first. Undecided deliveries stay
/// held, and their routes are evaluated again now. Deliveries held at or after `before` stay unchanged.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written.
pub async fn release(
    pool: &Pool,
    customer: CustomerId,
    of: Of,
    by: &[HeldBy],
    before: OffsetDateTime,
    limit: i64,
    record: impl FnOnce(&[Released]) -> NewEntry,
) -> Result<Vec<Released>> {
    let by: Vec<&str> = by.iter().map(|by| by.name()).collect();
    let mut transaction = pool.begin().await?;
    let ids = match of {
        Of::All => {
            sqlx::query_scalar!(
                r#"select held.id as "id!" from unnest($2::text[]) as kinds (kind)
                   cross join lateral (
                       select id from pending_deliveries pending
                       where pending.customer_id = $1 and pending.held_by = kinds.kind and pending.due_at = 'infinity'
                         and pending.held_at < $3
                       order by pending.held_at limit $4 for update skip locked
                   ) held
                   limit $4"#,
                customer.uuid(),
                &by as &[&str],
                before,
                limit
            )
            .fetch_all(&mut *transaction)
            .await?
        }
        Of::Destination(destination) => {
            sqlx::query_scalar!(
                r#"select held.id as "id!" from unnest($2::text[]) as kinds (kind)
                   cross join lateral (
                       select id from pending_deliveries pending
                       where pending.destination_id = $5 and pending.customer_id = $1 and pending.held_by = kinds.kind
                         and pending.due_at = 'infinity' and pending.held_at < $3
                       order by pending.held_at limit $4 for update skip locked
                   ) held
                   limit $4"#,
                customer.uuid(),
                &by as &[&str],
                before,
                limit,
                destination.uuid()
            )
            .fetch_all(&mut *transaction)
            .await?
        }
        Of::Route(route) => {
            sqlx::query_scalar!(
                r#"select held.id as "id!" from unnest($2::text[]) as kinds (kind)
                   cross join lateral (
                       select id from pending_deliveries pending
                       where pending.route_id = $5 and pending.customer_id = $1 and pending.held_by = kinds.kind
                         and pending.due_at = 'infinity' and pending.held_at < $3
                       order by pending.held_at limit $4 for update skip locked
                   ) held
                   limit $4"#,
                customer.uuid(),
                &by as &[&str],
                before,
                limit,
                route.uuid()
            )
            .fetch_all(&mut *transaction)
            .await?
        }
        Of::Source(source) => {
            sqlx::query_scalar!(
                r#"select held.id as "id!" from unnest($2::text[]) as kinds (kind)
                   cross join lateral (
                       select id from pending_deliveries pending
                       where pending.source_id = $5 and pending.customer_id = $1 and pending.held_by = kinds.kind
                         and pending.due_at = 'infinity' and pending.held_at < $3
                       order by pending.held_at limit $4 for update skip locked
                   ) held
                   limit $4"#,
                customer.uuid(),
                &by as &[&str],
                before,
                limit,
                source.uuid()
            )
            .fetch_all(&mut *transaction)
            .await?
        }
    };
    let released = make_due(&mut transaction, &ids, Release::ByCaller).await?;
    if !released.is_empty() {
        audit::record(&mut transaction, &record(&released)).await?;
    }
    transaction.commit_changes().await?;
    Ok(released)
}

/// Why pending deliveries are made due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// Their route was changed. No operator has requested their release, so a delivery that was routed with a transform
    /// is not sent without one.
    RouteChanged,
    /// A caller releases held deliveries.
    ByCaller,
    /// A caller retries one delivery: it is sent before all others of its destination.
    Retry,
}

/// Makes pending deliveries due now, by the current versions of their routes, or the last versions of deleted routes.
/// Undecided deliveries stay held, and their routes are evaluated again now. Every release and every manual retry of a
/// pending delivery goes through this function. The caller has locked the rows.
///
/// # Errors
/// Returns an error if the query fails.
pub(super) async fn make_due(connection: &mut Connection, ids: &[Uuid], release: Release) -> Result<Vec<Released>> {
    sqlx::query_as!(
        Released,
        r#"update pending_deliveries pending
           set due_at = case when undecided then due_at else least(due_at, now()) end,
               expedited_at = case when $2 and not undecided then coalesce(expedited_at, now()) else expedited_at end,
               not_before = null,
               held_reason = case when undecided then held_reason end,
               held_at = case when undecided then now() end,
               decide_at = case when undecided then now() end,
               decide_tries = 0,
               not_sent = 0,
               not_sent_reason = null,
               route_version = case
                   when $3 and (select transform is null from routes where routes.id = pending.route_id)
                   then route_version
                   else coalesce(
                       (select version from routes where routes.id = pending.route_id),
                       (select max(version) from route_versions kept where kept.route_id = pending.route_id),
                       route_version) end
           where id = any($1)
           returning destination_id as "destination_id!: As<DestinationId>", undecided"#,
        ids,
        release == Release::Retry,
        release == Release::RouteChanged
    )
    .fetch_all(connection)
    .await
    .map_err(Error::from)
}

/// The held deliveries of a destination with one cause.
pub struct CountRow {
    pub held_by: HeldBy,
    /// At most as many as were to be counted.
    pub count: i64,
    /// When the oldest of them was held.
    pub since: Option<OffsetDateTime>,
}

/// A destination that has held deliveries of one cause, for which no operational event has been stored yet.
#[derive(Debug, Clone)]
pub struct Begun {
    pub destination_id: DestinationId,
    pub held_by: HeldBy,
    pub since: OffsetDateTime,
    /// The reason of the oldest of these deliveries.
    pub reason: String,
}

/// Records which destinations now have held deliveries, and which no longer have any. Returns those for which an
/// operational event is to be stored, and whether any destination has held deliveries.
///
/// The statement steps from one destination and cause to the next by the index, so its cost does not depend on the
/// number of deliveries of each.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written.
pub async fn look(pool: &Pool) -> Result<(Vec<Begun>, bool)> {
    let mut transaction = pool.begin().await?;
    sqlx::query!(
        "delete from held_deliveries held
         where not exists (
             select from pending_deliveries pending
             where pending.destination_id = held.destination_id and pending.held_by = held.held_by
               and pending.due_at = 'infinity')"
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "with recursive heads as (
             (select pending.destination_id, pending.held_by from pending_deliveries pending
              where pending.due_at = 'infinity'
              order by pending.destination_id, pending.held_by limit 1)
             union all
             select next.destination_id, next.held_by from heads
             cross join lateral (
                 select pending.destination_id, pending.held_by from pending_deliveries pending
                 where pending.due_at = 'infinity'
                   and (pending.destination_id, pending.held_by) > (heads.destination_id, heads.held_by)
                 order by pending.destination_id, pending.held_by limit 1
             ) next
         )
         insert into held_deliveries (destination_id, held_by)
         select destination_id, held_by from heads order by destination_id, held_by
         on conflict do nothing"
    )
    .execute(&mut *transaction)
    .await?;
    let begun = sqlx::query_as!(
        Begun,
        r#"select held.destination_id as "destination_id!: As<DestinationId>",
                  held.held_by as "held_by!: As<HeldBy>", held.since, oldest.held_reason as "reason!"
           from held_deliveries held
           cross join lateral (
               select held_reason, decide_at from pending_deliveries pending
               where pending.destination_id = held.destination_id and pending.held_by = held.held_by
                 and pending.due_at = 'infinity'
               order by pending.held_at limit 1
           ) oldest
           where not held.told
             and (oldest.decide_at is null or held.since < now() - $1::float8 * interval '1 second')
           order by held.since limit 1000"#,
        DECIDED_BY_ITSELF_S
    )
    .fetch_all(&mut *transaction)
    .await?;
    let any = sqlx::query_scalar!(r#"select exists (select from held_deliveries) as "any!""#)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok((begun, any))
}

/// Records that the operational event for a destination and cause has been stored.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn told(pool: &Pool, begun: &Begun) -> Result<()> {
    sqlx::query!(
        "update held_deliveries set told = true where destination_id = $1 and held_by = $2 and since = $3",
        begun.destination_id.uuid(),
        begun.held_by.name(),
        begun.since
    )
    .execute(pool)
    .await?;
    Ok(())
}
