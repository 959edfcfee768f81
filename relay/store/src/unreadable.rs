//! Messages of the queue that could not be stored as events, rejections or secrets. They belong to no customer, because
//! the customer is part of what could not be read.

use model::unreadable::Reason;
use shared::id::{EventId, UnreadableMessageId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, NewEntry};
use super::body_retention;
use super::column::{As, Maybe};
use super::search::{self, Range, Search, remaining};
use crate::{Connection, Error, Pool, Result};

/// After this many tries that ended with a crash of the relay, a message is tried only once a day.
pub const MAX_UNFINISHED_TRIES: i32 = 3;

/// After this many tries that ended with a crash of the relay, a message is no longer tried automatically.
pub const GIVEN_UP_AFTER: i32 = 10;

/// The most messages that one statement makes due.
const DUE_AT_ONCE: i64 = 10_000;

/// A message to be kept.
#[derive(Debug, Clone)]
pub struct NewUnreadable {
    pub id: UnreadableMessageId,
    pub queue_id: String,
    pub queue_message_id: String,
    /// The queue's content type if `message` is in the form that the queue's API returned.
    pub content_type: Option<String>,
    pub reason: Reason,
    pub detail: String,
    pub message: Vec<u8>,
    /// The body that has been fetched from object storage.
    pub body: Option<Vec<u8>>,
}

impl NewUnreadable {
    /// The total size of the parts that are kept, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.message.len() + self.body.as_ref().map_or(0, Vec::len)
    }
}

/// An unreadable message without its bytes.
#[derive(Debug, Clone)]
pub struct SummaryRow {
    pub id: UnreadableMessageId,
    pub queue_id: String,
    pub queue_message_id: String,
    pub reason: Reason,
    pub detail: String,
    pub size: i32,
    pub stored_at: OffsetDateTime,
    pub tries: i32,
    /// `None` if it is no longer tried automatically.
    pub next_try_at: Option<OffsetDateTime>,
    pub released_at: Option<OffsetDateTime>,
    pub event_id: Option<EventId>,
}

/// An unreadable message with everything that a new try needs.
#[derive(Debug, Clone)]
pub struct UnreadableRow {
    pub id: UnreadableMessageId,
    pub queue_id: String,
    pub queue_message_id: String,
    pub content_type: Option<String>,
    pub reason: Reason,
    pub message: Vec<u8>,
    pub body: Option<Vec<u8>>,
    pub unfinished_tries: i32,
    pub released_at: Option<OffsetDateTime>,
}

/// The query for the [`SummaryRow`]s that a condition selects.
macro_rules! summary_rows {
    ($condition:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            SummaryRow,
            r#"select id as "id!: As<UnreadableMessageId>", queue_id, queue_message_id,
                      reason as "reason!: As<Reason>", detail,
                      octet_length(message) + coalesce(octet_length(body), 0) as "size!", stored_at, tries,
                      nullif(next_try_at, 'infinity') as next_try_at, released_at,
                      event_id as "event_id!: Maybe<EventId>"
               from unreadable_messages "# + $condition,
            $($argument),*
        )
    };
}

/// Which unreadable messages to return.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection {
    pub reason: Option<Reason>,
    /// Only released ones, or only those that have not been released.
    pub released: Option<bool>,
}

/// Keeps messages; those that are already kept stay unchanged. They are due in a minute, or at once if they were stored
/// only because the queue had leased them too often.
///
/// # Errors
/// Returns an error if the query fails; then none of them is kept.
pub async fn insert(connection: &mut Connection, messages: &[NewUnreadable]) -> Result<()> {
    let mut messages: Vec<&NewUnreadable> = messages.iter().collect();
    // The same order in every replica, so that two replicas with the same messages wait for each other and do not
    // deadlock.
    messages.sort_unstable_by_key(|message| message.id);
    for message in messages {
        sqlx::query!(
            "insert into unreadable_messages (id, queue_id, queue_message_id, content_type, reason, detail, message, body,
                                              next_try_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8,
                     case $5 when 'leased_too_often' then now() else now() + interval '1 minute' end)
             on conflict (id) do nothing",
            message.id.uuid(),
            message.queue_id,
            message.queue_message_id,
            message.content_type,
            message.reason.name(),
            message.detail,
            message.message,
            message.body
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// A search for a page of unreadable messages, newest first, without their bytes.
#[derive(Debug)]
pub struct Page {
    pub selection: Selection,
    /// How many messages are enough.
    pub limit: i64,
    pub found: Vec<SummaryRow>,
}

impl Search for Page {
    async fn edge(&self, pool: &Pool, range: Range, rows: i64, _: bool) -> Result<Option<Uuid>> {
        search::unreadable_messages(pool, range, rows).await
    }

    async fn look(&mut self, pool: &Pool, range: Range) -> Result<bool> {
        let wanted = remaining(self.limit, self.found.len());
        self.found.extend(page(pool, self.selection, range, wanted).await?);
        Ok(remaining(self.limit, self.found.len()) == 0)
    }
}

/// The matching unreadable messages of a range of ids, newest first, without their bytes.
async fn page(pool: &Pool, selection: Selection, range: Range, limit: i64) -> Result<Vec<SummaryRow>> {
    let mut search = pool.begin_range().await?;
    summary_rows!(
        "where id >= $1 and id < $2 and ($3::text is null or reason = $3)
           and ($4::boolean is null or (released_at is not null) = $4)
         order by id desc limit $5",
        range.from,
        range.until,
        selection.reason.map(Reason::name),
        selection.released,
        limit
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}

/// One unreadable message without its bytes.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn summary(pool: &Pool, id: UnreadableMessageId) -> Result<Option<SummaryRow>> {
    summary_rows!("where id = $1", id.uuid()).fetch_optional(pool).await.map_err(Error::from)
}

/// One unreadable message.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn find(pool: &Pool, id: UnreadableMessageId) -> Result<Option<UnreadableRow>> {
    sqlx::query_as!(
        UnreadableRow,
        r#"select id as "id!: As<UnreadableMessageId>", queue_id, queue_message_id, content_type,
                  reason as "reason!: As<Reason>", message, body, unfinished_tries, released_at
           from unreadable_messages where id = $1"#,
        id.uuid()
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// Begins the next try that is due and returns its message; `None` if no try is due.
///
/// The start of the try is committed before the try itself, so that a message that crashes the relay each time is not
/// tried forever. The next try follows after a minute; this doubles with each try, up to a day.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn begin_next_try(pool: &Pool) -> Result<Option<UnreadableRow>> {
    sqlx::query_as!(
        UnreadableRow,
        r#"update unreadable_messages
           set tries = tries + 1, unfinished_tries = unfinished_tries + 1,
               next_try_at = case when unfinished_tries + 1 < $1
                                  then now() + least(interval '1 minute' * 2 ^ least(tries, 11), interval '1 day')
                                  when unfinished_tries + 1 < $2 then now() + interval '1 day'
                                  else 'infinity' end
           where id = (select id from unreadable_messages
                       where released_at is null and next_try_at <= now()
                       order by next_try_at, id limit 1 for update skip locked)
           returning id as "id!: As<UnreadableMessageId>", queue_id, queue_message_id, content_type,
                     reason as "reason!: As<Reason>", message, body, unfinished_tries, released_at"#,
        MAX_UNFINISHED_TRIES,
        GIVEN_UP_AFTER
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// Ends a try that has released the message. `event` is the event that it has become. If a caller requested the try,
/// `entry` records that.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn released(
    pool: &Pool,
    id: UnreadableMessageId,
    event: Option<EventId>,
    entry: Option<&NewEntry>,
) -> Result<()> {
    let mut transaction = pool.begin().await?;
    let was_released = sqlx::query_scalar!(
        r#"select released_at is not null as "was_released!" from unreadable_messages where id = $1 for update"#,
        id.uuid()
    )
    .fetch_optional(&mut *transaction)
    .await?;
    sqlx::query!(
        "update unreadable_messages set released_at = coalesce(released_at, now()), event_id = coalesce(event_id, $2),
                                        unfinished_tries = 0
         where id = $1",
        id.uuid(),
        event.map(EventId::uuid)
    )
    .execute(&mut *transaction)
    .await?;
    if let Some(event) = event {
        body_retention::note(&mut transaction, event.uuid()).await?;
    }
    if let Some(entry) = entry
        && was_released == Some(false)
    {
        audit::record(&mut transaction, entry).await?;
    }
    transaction.commit().await
}

/// Ends a try that has not released the message. It is tried again later if the reason is transient.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn still_unreadable(pool: &Pool, id: UnreadableMessageId, reason: Reason, detail: &str) -> Result<()> {
    sqlx::query!(
        "update unreadable_messages
         set reason = $2, detail = $3, unfinished_tries = 0,
             next_try_at = case when not $4 then 'infinity'
                                when next_try_at = 'infinity' then now() + interval '1 day'
                                else next_try_at end
         where id = $1 and released_at is null",
        id.uuid(),
        reason.name(),
        detail,
        reason.can_pass()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Ends a try that could not be made because a service did not respond. It does not count as unfinished, and is made
/// again later.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn not_tried(pool: &Pool, id: UnreadableMessageId) -> Result<()> {
    sqlx::query!(
        "update unreadable_messages
         set unfinished_tries = 0,
             next_try_at = case when next_try_at = 'infinity' then now() + interval '1 day' else next_try_at end
         where id = $1 and released_at is null",
        id.uuid()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Makes all messages with this reason due that have not been released, including those that are no longer tried
/// automatically. Returns their number. A message that is being tried at this moment is left unchanged.
///
/// # Errors
/// Returns an error if the query fails; some messages may already be due.
pub async fn try_now(pool: &Pool, reason: Reason, record: impl Fn(u64) -> Option<NewEntry>) -> Result<u64> {
    let mut all = 0;
    loop {
        let mut transaction = pool.begin().await?;
        let due = sqlx::query!(
            "update unreadable_messages set next_try_at = now(), unfinished_tries = 0
             where id = any(array(select id from unreadable_messages
                          where released_at is null and next_try_at > now() and reason = $1
                          order by next_try_at, id limit $2 for update skip locked))",
            reason.name(),
            DUE_AT_ONCE
        )
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if due > 0
            && let Some(entry) = record(due)
        {
            audit::record(&mut transaction, &entry).await?;
        }
        transaction.commit().await?;
        all += due;
        if due < DUE_AT_ONCE.unsigned_abs() {
            return Ok(all);
        }
    }
}

/// Makes the messages due that are still tried automatically, at most 10,000: a relay that has just started may be able
/// to read them. The others keep their time.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn try_after_start(pool: &Pool) -> Result<()> {
    sqlx::query!(
        "update unreadable_messages set next_try_at = now()
         where id = any(array(select id from unreadable_messages
                      where released_at is null and next_try_at > now() and next_try_at < 'infinity'
                        and unfinished_tries < $1
                      order by next_try_at, id limit $2 for update skip locked))",
        MAX_UNFINISHED_TRIES,
        DUE_AT_ONCE
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Defers the due messages that have the same reason as this one, for a minute: the service that they need does not
/// respond, and messages with other reasons must not wait for it.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn defer_similar(pool: &Pool, id: UnreadableMessageId) -> Result<()> {
    sqlx::query!(
        "update unreadable_messages set next_try_at = now() + interval '1 minute'
         where id = any(array(select id from unreadable_messages
                      where released_at is null and next_try_at <= now()
                        and reason = (select reason from unreadable_messages where id = $1)
                      order by next_try_at, id limit $2 for update skip locked))",
        id.uuid(),
        DUE_AT_ONCE
    )
    .execute(pool)
    .await?;
    Ok(())
}
