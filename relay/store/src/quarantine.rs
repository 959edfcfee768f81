//! The limits of a source's quarantine. They are enforced in the transaction that stores: an event beyond them is not
//! stored but only counted, in one row of rejections for each source and hour.

use std::collections::{BTreeMap, HashMap, HashSet};

use shared::id::{EventId, RejectionId, SourceId};
use shared::source::QuarantineLimits;
use time::OffsetDateTime;
use uuid::{NoContext, Timestamp, Uuid};

use super::column::{As, Maybe};
use super::new_event::NewEvent;
use super::{Connection, Pool};
use crate::{Error, Result};

/// The cause of the rejections that count events beyond the limits.
pub const CAUSE: &str = "quarantine_full";

/// The events that a source has put into quarantine in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub hour: OffsetDateTime,
    pub events: i64,
    pub bytes: i64,
    /// Events beyond the limits.
    pub rejected: i64,
    rejection_id: Option<RejectionId>,
}

/// A source that has reached its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    pub source_id: SourceId,
    pub hour: OffsetDateTime,
}

/// The events beyond the limits of their sources.
#[derive(Debug, Default)]
pub struct Beyond {
    /// The events that must not be stored.
    pub events: HashSet<EventId>,
    /// The sources for which the operational event `source.quarantine_full` is to be stored now.
    pub full: Vec<Full>,
}

/// The quarantine usage of a source in the current hour, by the database's clock; `None` if there is none.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn usage(pool: &Pool, source: SourceId) -> Result<Option<Usage>> {
    sqlx::query_as!(
        Usage,
        r#"select hour, events, bytes, rejected, rejection_id as "rejection_id!: Maybe<RejectionId>"
           from quarantine_usage where source_id = $1 and hour >= date_trunc('hour', now(), 'UTC')"#,
        source.uuid()
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// Charges the events that failed verification to the limits of their sources, and returns the events beyond the
/// limits. The rows of the sources are locked until the transaction ends.
pub(super) async fn charge(connection: &mut Connection, events: &[&NewEvent]) -> Result<Beyond> {
    let mut by_source: BTreeMap<SourceId, (QuarantineLimits, Vec<&NewEvent>)> = BTreeMap::new();
    for event in events {
        if let Some(limits) = event.quarantine {
            by_source.entry(event.source_id).or_insert((limits, Vec::new())).1.push(event);
        }
    }
    let mut beyond = Beyond::default();
    if by_source.is_empty() {
        return Ok(beyond);
    }
    let sources: Vec<Uuid> = by_source.keys().map(|id| id.uuid()).collect();
    let mut usages = lock(connection, &sources).await?;
    for (source_id, (limits, events)) in by_source {
        let Some(usage) = usages.get_mut(&source_id) else { continue };
        let before = usage.rejected;
        let rejected = divide(usage, limits, &events);
        if let (Some(first), Some(last)) = (rejected.first(), rejected.last()) {
            usage.rejection_id =
                Some(count(connection, usage.rejection_id, limits, first, last, rejected.len()).await?);
            beyond.events.extend(rejected.iter().map(|event| event.id));
        }
        if is_reported(before, usage.rejected) {
            beyond.full.push(Full { source_id, hour: usage.hour });
        }
    }
    write(connection, &usages).await?;
    Ok(beyond)
}

/// Adds the events within the limits to the usage, and returns the others.
fn divide<'e>(usage: &mut Usage, limits: QuarantineLimits, events: &[&'e NewEvent]) -> Vec<&'e NewEvent> {
    let most = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rejected = Vec::new();
    for event in events {
        let size = i64::try_from(event.body.len()).unwrap_or(i64::MAX);
        let bytes = usage.bytes.saturating_add(size);
        if usage.events < most(limits.events_per_hour) && bytes <= most(limits.bytes_per_hour) {
            usage.events += 1;
            usage.bytes = bytes;
        } else {
            usage.rejected += 1;
            rejected.push(*event);
        }
    }
    rejected
}

/// Whether the operational event is stored when the count rises from `before` to `after`: at the first rejection, and
/// again whenever the count has doubled, because a relay may have been killed before it stored the event. The event's
/// key makes it one event per hour.
fn is_reported(before: i64, after: i64) -> bool {
    before.leading_zeros() != after.leading_zeros()
}

async fn lock(connection: &mut Connection, sources: &[Uuid]) -> Result<HashMap<SourceId, Usage>> {
    // In the order of the ids, so that two replicas wait for each other and do not deadlock.
    let rows = sqlx::query!(
        r#"insert into quarantine_usage as usage (source_id, hour)
           select source_id, date_trunc('hour', now(), 'UTC') from unnest($1::uuid[]) as source (source_id)
           on conflict (source_id) do update
           set events = case when usage.hour >= excluded.hour then usage.events else 0 end,
               bytes = case when usage.hour >= excluded.hour then usage.bytes else 0 end,
               rejected = case when usage.hour >= excluded.hour then usage.rejected else 0 end,
               rejection_id = case when usage.hour >= excluded.hour then usage.rejection_id end,
               hour = greatest(usage.hour, excluded.hour)
           returning source_id as "source_id!: As<SourceId>", hour, events, bytes, rejected,
                     rejection_id as "rejection_id!: Maybe<RejectionId>""#,
        sources
    )
    .fetch_all(connection)
    .await?;
    let usages = rows.into_iter().map(|row| {
        let (hour, events, bytes, rejected) = (row.hour, row.events, row.bytes, row.rejected);
        (row.source_id.into(), Usage { hour, events, bytes, rejected, rejection_id: row.rejection_id.into() })
    });
    Ok(usages.collect())
}

async fn write(connection: &mut Connection, usages: &HashMap<SourceId, Usage>) -> Result<()> {
    let column = |of: fn(&Usage) -> i64| usages.values().map(of).collect::<Vec<i64>>();
    let ids: Vec<Uuid> = usages.keys().map(|id| id.uuid()).collect();
    let rejections: Vec<Option<Uuid>> =
        usages.values().map(|usage| usage.rejection_id.map(RejectionId::uuid)).collect();
    sqlx::query!(
        "update quarantine_usage usage
         set events = charged.events, bytes = charged.bytes, rejected = charged.rejected,
             rejection_id = charged.rejection_id
         from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[])
              as charged (source_id, events, bytes, rejected, rejection_id)
         where usage.source_id = charged.source_id",
        &ids,
        &column(|usage| usage.events),
        &column(|usage| usage.bytes),
        &column(|usage| usage.rejected),
        &rejections as &[Option<Uuid>]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Counts events in the row of rejections for this hour, and returns its id.
async fn count(
    connection: &mut Connection,
    row: Option<RejectionId>,
    limits: QuarantineLimits,
    first: &NewEvent,
    last: &NewEvent,
    count: usize,
) -> Result<RejectionId> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let size = i64::try_from(last.body.len()).unwrap_or(i64::MAX);
    if let Some(id) = row {
        let counted = sqlx::query!(
            "update rejections set count = count + $2, last_at = greatest(last_at, $3), size = $4 where id = $1",
            id.uuid(),
            count,
            last.received_at,
            size
        )
        .execute(&mut *connection)
        .await?;
        if counted.rows_affected() > 0 {
            return Ok(id);
        }
    }
    let id = RejectionId::from_uuid(Uuid::new_v7(Timestamp::now(NoContext)));
    let QuarantineLimits { events_per_hour, bytes_per_hour, .. } = limits;
    let detail = format!(
        "the quarantine of the source is full: it stores at most {events_per_hour} events and {bytes_per_hour} bytes \
         per hour; see `quarantine` in its config"
    );
    sqlx::query!(
        "insert into rejections (id, source_id, cause, detail, count, first_at, last_at, size, remote)
         values ($1, $2, $3, $4, $5, $6, $7, $8, 'unknown')",
        id.uuid(),
        first.source_id.uuid(),
        CAUSE,
        detail,
        count,
        first.received_at.min(last.received_at),
        last.received_at.max(first.received_at),
        size
    )
    .execute(connection)
    .await?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use model::event::Verification;
    use shared::header::HeaderList;

    use super::*;
    use crate::DEFAULT_CUSTOMER;

    fn event(size: usize) -> NewEvent {
        NewEvent {
            id: EventId::from_uuid(Uuid::new_v7(Timestamp::now(NoContext))),
            customer_id: DEFAULT_CUSTOMER,
            source_id: SourceId::mint(1, [1; 10]),
            received_at: OffsetDateTime::UNIX_EPOCH,
            event_type: None,
            provider_event_id: None,
            dedupe_key: None,
            job: None,
            method: String::new(),
            query: String::new(),
            headers: HeaderList::default(),
            body: vec![0; size],
            edited_of: None,
            verification: Verification::Failed,
            failure: None,
            quarantine: Some(QuarantineLimits::default()),
            deliveries: Vec::new(),
        }
    }

    fn empty() -> Usage {
        Usage { hour: OffsetDateTime::UNIX_EPOCH, events: 0, bytes: 0, rejected: 0, rejection_id: None }
    }

    #[test]
    fn events_beyond_either_limit_are_rejected_and_a_smaller_one_may_still_fit() {
        let events: Vec<NewEvent> = [60, 60, 40, 0, 0].map(event).into();
        let events: Vec<&NewEvent> = events.iter().collect();
        let limits = QuarantineLimits { events_per_hour: 3, bytes_per_hour: 100, body_bytes: 100 };
        let mut usage = empty();
        let rejected = divide(&mut usage, limits, &events);
        assert_eq!(rejected.iter().map(|event| event.id).collect::<Vec<_>>(), [events[1].id, events[4].id]);
        assert_eq!((usage.events, usage.bytes, usage.rejected), (3, 100, 2));
        let nothing = QuarantineLimits { events_per_hour: 0, ..limits };
        assert_eq!(divide(&mut empty(), nothing, &events).len(), events.len());
    }

    #[test]
    fn a_full_quarantine_is_reported_at_the_first_rejection_and_whenever_the_count_doubles() {
        let reported: Vec<i64> =
            (0..40).filter(|count| is_reported(*count, count + 1)).map(|count| count + 1).collect();
        assert_eq!(reported, [1, 2, 4, 8, 16, 32]);
        assert!(is_reported(0, 500) && !is_reported(5, 5) && !is_reported(0, 0));
    }
}
