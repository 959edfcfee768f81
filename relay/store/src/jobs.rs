//! The events of a job of an AI provider, for the calls that await it.

use model::event::{EventMeta, Verification};
use shared::id::{CustomerId, EventId, SourceId, TokenId};
use uuid::Uuid;

use crate::column::{As, Maybe, meta};
use crate::events::SummaryRow;
use crate::search::Range;
use crate::{Error, Pool, Result};

/// A source and the key of one of its jobs.
pub type JobOf<'a> = (SourceId, &'a str);

/// The newest events of each of these jobs, at most `each`: the index of the job, and the event. Events in quarantine
/// are left out, because they may be forged. With `ends_only` only events that end their job are found.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn newest(
    pool: &Pool,
    jobs: &[JobOf<'_>],
    range: Range,
    ends_only: bool,
    each: i64,
) -> Result<Vec<(usize, EventId)>> {
    let sources: Vec<Uuid> = jobs.iter().map(|(source, _)| source.uuid()).collect();
    let keys: Vec<&str> = jobs.iter().map(|(_, key)| *key).collect();
    let rows = sqlx::query!(
        r#"select job.number as "number!", found.id as "id!: As<EventId>"
           from unnest($1::uuid[], $2::text[]) with ordinality as job (source_id, key, number) cross join lateral (
               select id from events
               where source_id = job.source_id and job_key = job.key and id >= $3 and id < $4
                 and verification <> 'failed' and (job_good is not null or not $5::bool)
               order by id desc limit $6
           ) found
           order by job.number, found.id desc"#,
        &sources,
        &keys as &[&str],
        range.from,
        range.until,
        ends_only,
        each
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (usize::try_from(row.number - 1).unwrap_or(usize::MAX), row.id.into())).collect())
}

/// These events, in any order.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn summaries(pool: &Pool, events: &[EventId]) -> Result<Vec<SummaryRow>> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.uuid()).collect();
    sqlx::query_as!(
        SummaryRow,
        r#"select events.id as "id!: As<EventId>", source_id as "source_id!: As<SourceId>",
                  sources.name as "source_name?", received_at, type as event_type, provider_event_id, body_size,
                  case when edited_of is null then verification else 'edited' end as "verification!: As<Verification>",
                  failure_cause, failure_detail, copies, same_key_as as "same_key_as!: Maybe<EventId>", body_erased_at,
                  job_key, job_state, job_good, edited_of as "edited_of!: Maybe<EventId>"
           from events left join sources on sources.id = events.source_id
           where events.id = any($1)"#,
        &ids
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// An event with its body, for the evaluation of an expression. `body` is `None` if it is larger than the limit, or if
/// it is no longer kept.
#[derive(Debug)]
pub struct ContentRow {
    pub meta: EventMeta,
    pub body: Option<Vec<u8>>,
    pub body_size: i32,
}

/// An event with its body, unless the body is larger than `most` bytes.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn content(pool: &Pool, event: EventId, most: i32) -> Result<Option<ContentRow>> {
    let row = sqlx::query!(
        r#"select id as "id!: As<EventId>", source_id as "source_id!: As<SourceId>", received_at, type as event_type,
                  provider_event_id, method, query, headers, body_size,
                  (select body from event_bodies where event_id = $1 and body_size <= $2) as "body?"
           from events where id = $1"#,
        event.uuid(),
        most
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| ContentRow { meta: meta!(row), body: row.body, body_size: row.body_size }))
}

/// The customer of an await token, and the token with which it was made; `None` for a root token.
pub type Maker = (CustomerId, Option<TokenId>);

/// Those of these makers of await tokens that no longer count: the customer is deleted, or the token is revoked or
/// expired.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn ended(pool: &Pool, makers: &[Maker]) -> Result<Vec<Maker>> {
    let customers: Vec<Uuid> = makers.iter().map(|(customer, _)| customer.uuid()).collect();
    let tokens: Vec<Option<Uuid>> = makers.iter().map(|(_, token)| token.map(TokenId::uuid)).collect();
    let ended = sqlx::query_scalar!(
        r#"select maker.number as "number!"
           from unnest($1::uuid[], $2::uuid[]) with ordinality as maker (customer_id, token_id, number)
               left join customers on customers.id = maker.customer_id and customers.deleted_at is null
               left join tokens on tokens.id = maker.token_id and revoked_at is null
                   and (expires_at is null or expires_at > now())
               left join customers as bound on bound.id = tokens.customer_id
           where customers.id is null
              or (maker.token_id is not null and (tokens.id is null or bound.deleted_at is not null))"#,
        &customers,
        &tokens as &[Option<Uuid>]
    )
    .fetch_all(pool)
    .await?;
    let maker = |number: i64| makers.get(usize::try_from(number - 1).ok()?).copied();
    Ok(ended.into_iter().filter_map(maker).collect())
}
