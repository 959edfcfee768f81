//! The keys of calls that are carried out once, also if the caller sends them again.
//!
//! A call claims its key before it does anything. [`crate::audit`] marks the claim in the transaction of the change that
//! it records, with the answer of the call: so a change is stored if and only if a repetition finds it. A call whose
//! claim was taken by another one cannot commit a change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::{Connection, Error, Pool, Result};

/// For how many hours a key is kept.
pub const KEPT_HOURS: i32 = 24;

/// The claim of a call on its key. It travels with the author of the entries of the audit log. Clones are the same
/// claim.
#[derive(Debug, Clone)]
pub struct Claim {
    id: [u8; 32],
    call: Uuid,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The sealed answer that the transaction of the change stores.
    answer: Option<String>,
    /// Whether such a transaction has written it.
    is_noted: bool,
}

impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.call) == (other.id, other.call)
    }
}

impl Eq for Claim {}

impl Claim {
    /// The claim of a new call. `id` is the hash of the caller and its key; `call` is drawn at random.
    #[must_use]
    pub fn new(id: [u8; 32], call: Uuid) -> Self {
        Self { id, call, state: Arc::default() }
    }

    /// The hash of the caller and its key.
    #[must_use]
    pub const fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// Sets the sealed answer that the next change of the call stores with it.
    pub fn set_answer(&self, sealed: String) {
        *self.state() = State { answer: Some(sealed), is_noted: false };
    }

    /// Whether a transaction has written the answer that was set last. Only a transaction that was committed has stored
    /// it.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        self.state().is_noted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of claiming a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The call has the key, and may proceed.
    Mine,
    /// An earlier call with the same request has ended with this sealed answer.
    Answered(String),
    /// An earlier call with the same request has changed something, and its answer was not stored.
    AnswerLost,
    /// An earlier call with the same request has not ended. It ends within this time.
    Running { for_at_most: Duration },
    /// The key was used with another request.
    OtherRequest,
    /// The caller has used as many keys as it may use on a day.
    TooMany,
}

/// Claims a key for a call that takes at most `within`. `caller` may use `most` keys on a day (UTC).
///
/// # Errors
/// Returns an error if a query fails; then the key may be claimed until `within` has passed.
pub async fn claim(
    pool: &Pool,
    claim: &Claim,
    caller: &str,
    request: &[u8; 32],
    within: Duration,
    most: i32,
) -> Result<Claimed> {
    // The claim need not wait for the disk: a change that is on the disk is there with the claim before it.
    let claimed = sqlx::query!(
        r#"with unsynced as materialized (select set_config('synchronous_commit', 'off', true) as set),
                claimed as (
                    insert into idempotency_keys as keys (id, request, call, ends_at)
                    select $1, $2, $3, now() + $4::float8 * interval '1 second' from unsynced
                    on conflict (id) do update
                    set request = excluded.request, call = excluded.call, claimed_at = now(), ends_at = excluded.ends_at,
                        changed_at = null, answer = null
                    where keys.claimed_at < now() - $7::integer * interval '1 hour'
                       or keys.answer is null and keys.changed_at is null and keys.ends_at < now()
                    returning id
                ), counted as (
                    insert into idempotency_counts as counts (caller, day, keys)
                    select $5, (now() at time zone 'utc')::date, 1 from claimed
                    on conflict (caller, day) do update set keys = counts.keys + 1 where counts.keys < $6
                    returning caller
                )
           select exists (select from claimed) as "is_mine!", exists (select from counted) as "is_counted!""#,
        claim.id.as_slice(),
        request.as_slice(),
        claim.call,
        within.as_secs_f64(),
        caller,
        most,
        KEPT_HOURS
    )
    .fetch_one(pool)
    .await?;
    match (claimed.is_mine, claimed.is_counted) {
        (true, true) => Ok(Claimed::Mine),
        (true, false) => {
            release(pool, claim).await?;
            Ok(Claimed::TooMany)
        }
        (false, _) => held(pool, claim, request).await,
    }
}

/// Which call has the key.
async fn held(pool: &Pool, claim: &Claim, request: &[u8; 32]) -> Result<Claimed> {
    let row = sqlx::query!(
        r#"select request = $2 as "is_same!", answer, changed_at is not null as "has_changed!",
                  greatest(extract(epoch from ends_at - now()), 0)::float8 as "for_s!"
           from idempotency_keys where id = $1"#,
        claim.id.as_slice(),
        request.as_slice()
    )
    .fetch_optional(pool)
    .await?;
    // The other call has ended in the meantime without a change, so the next one gets the key.
    let Some(row) = row else { return Ok(Claimed::Running { for_at_most: Duration::ZERO }) };
    Ok(match (row.is_same, row.answer) {
        (false, _) => Claimed::OtherRequest,
        (true, Some(answer)) => Claimed::Answered(answer),
        (true, None) if row.for_s > 0.0 => Claimed::Running { for_at_most: Duration::from_secs_f64(row.for_s) },
        (true, None) if row.has_changed => Claimed::AnswerLost,
        (true, None) => Claimed::Running { for_at_most: Duration::ZERO },
    })
}

/// Stores the answer of a call that has ended. It replaces the one that was stored with the change.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn answered(pool: &Pool, claim: &Claim, sealed: &str) -> Result<()> {
    sqlx::query!(
        "with unsynced as materialized (select set_config('synchronous_commit', 'off', true) as set)
         update idempotency_keys set answer = $3 from unsynced where id = $1 and call = $2",
        claim.id.as_slice(),
        claim.call,
        sealed
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Ends a call that has failed, or whose answer is not kept. If it has changed nothing, its key can be used again.
///
/// # Errors
/// Returns an error if a query fails; then the key is claimed until the longest time of the call has passed.
pub async fn release(pool: &Pool, claim: &Claim) -> Result<()> {
    // A change that commits at this moment has locked the row, and is then seen.
    sqlx::query!(
        "with freed as (
             delete from idempotency_keys where id = $1 and call = $2 and changed_at is null
         )
         update idempotency_keys set ends_at = now() where id = $1 and call = $2 and changed_at is not null",
        claim.id.as_slice(),
        claim.call
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Notes in the transaction of a change that the call has changed something, with its answer if it has set one.
///
/// # Errors
/// Returns an error if the call no longer has the key, or if the query fails; then the transaction must not be
/// committed.
pub(crate) async fn changed_in(connection: &mut Connection, claim: &Claim) -> Result<()> {
    let answer = claim.state().answer.clone();
    let has_answer = answer.is_some();
    let changed = sqlx::query!(
        "update idempotency_keys set changed_at = now(), answer = coalesce($3, answer) where id = $1 and call = $2",
        claim.id.as_slice(),
        claim.call,
        answer
    )
    .execute(connection)
    .await?;
    if changed.rows_affected() == 0 {
        return Err(Error::changed("another call has taken the idempotency key of this one"));
    }
    claim.state().is_noted = has_answer;
    Ok(())
}

/// Deletes up to `limit` keys that are no longer kept, and the counts of the days before yesterday. Returns how many
/// keys it deleted.
///
/// # Errors
/// Returns an error if a query fails; then nothing was deleted, or the response to the commit was lost.
pub async fn delete_old(pool: &Pool, limit: i64) -> Result<u64> {
    let deleted = sqlx::query!(
        "with counts as (
             delete from idempotency_counts where (caller, day) in (
                 select caller, day from idempotency_counts where day < (now() at time zone 'utc')::date - 1 limit $1)
         )
         delete from idempotency_keys where id = any(array(
             select id from idempotency_keys where claimed_at < now() - $2::integer * interval '1 hour'
             order by claimed_at limit $1 for update skip locked))",
        limit,
        KEPT_HOURS
    );
    Ok(deleted.execute(pool).await?.rows_affected())
}
