//! Which replica sends to which destination: a replica leases shards, and only the owner of a destination's shard sends
//! to it.
//!
//! The lease is the replica's row: one small update renews all its shards. A shard whose owner has no row, or an
//! expired one, is free. Taking a shard raises its epoch, and every settlement names its epoch. The epoch is a fence: a
//! replica that stalled and continues late cannot overwrite the results of its successor.

use uuid::Uuid;

use crate::{Error, Pool, Result};

/// The number of shards. The shard of a destination is fixed by its id.
pub const SHARDS: i64 = 256;

/// A shard that this replica owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    pub shard: i16,
    pub epoch: i64,
}

/// The shards of a replica after its lease has been renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub shards: Vec<Shard>,
    /// How many shards it should have, so that all replicas have equal shares; 0 for a replica that is leaving.
    pub share: usize,
}

/// Renews the lease of `replica` for `lease_ms` and takes free shards up to its fair share. It gives no shards back:
/// only the replica knows when no attempts of a shard are in flight. A replica that is `leaving` takes nothing, and the
/// others share as if it did not exist.
///
/// # Errors
/// Returns an error if a query fails; then the old lease remains until it expires.
pub async fn renew(pool: &Pool, replica: Uuid, lease_ms: i64, leaving: bool) -> Result<Held> {
    let seen = match extend(pool, replica, lease_ms, leaving).await? {
        Some(seen) => seen,
        None => {
            // A new replica, or one whose lease has expired and whose shards another replica has taken.
            sqlx::query!(
                "insert into replicas (id, expires_at) values ($1, now()) on conflict (id) do nothing",
                replica
            )
            .execute(pool)
            .await?;
            extend(pool, replica, lease_ms, leaving)
                .await?
                .ok_or_else(|| Error::changed("the row of the replica is gone"))?
        }
    };
    let shards: Vec<Shard> =
        seen.shards.iter().zip(&seen.epochs).map(|(shard, epoch)| Shard { shard: *shard, epoch: *epoch }).collect();
    let share = if leaving { 0 } else { (SHARDS + seen.others) / (seen.others + 1) };
    let share_count = usize::try_from(share).unwrap_or(0);
    if shards.len() >= share_count {
        return Ok(Held { shards, share: share_count });
    }

    let mut transaction = pool.begin().await?;
    // One replica at a time, so that two replicas do not take the same free shards.
    sqlx::query!("select pg_advisory_xact_lock(hashtext('tidegate shards'))").execute(&mut *transaction).await?;
    sqlx::query!("delete from replicas where expires_at < now() and id <> $1", replica)
        .execute(&mut *transaction)
        .await?;
    let missing = share - i64::try_from(shards.len()).unwrap_or(SHARDS);
    sqlx::query!(
        "update shards set owner = $1, epoch = epoch + 1
         where shard in (
             select shard from shards
             where owner is null or not exists (select from replicas where replicas.id = shards.owner)
             order by shard limit $2 for update)",
        replica,
        missing
    )
    .execute(&mut *transaction)
    .await?;
    let shards = sqlx::query_as!(Shard, "select shard, epoch from shards where owner = $1 order by shard", replica)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Held { shards, share: share_count })
}

/// The state that a replica reads while it renews its lease.
struct Seen {
    /// The number of other replicas that share the shards with it.
    others: i64,
    shards: Vec<i16>,
    epochs: Vec<i64>,
}

/// Extends the lease, if there is one. A single statement, because it runs continuously. A replica that takes the
/// shards of another deletes that one's row in the same transaction. So if the row still exists, the shards that were
/// read are right.
async fn extend(pool: &Pool, replica: Uuid, lease_ms: i64, leaving: bool) -> Result<Option<Seen>> {
    sqlx::query_as!(
        Seen,
        r#"update replicas set expires_at = now() + $2::bigint * interval '1 millisecond', leaving = $3
           where id = $1
           returning (select count(*) from replicas where expires_at >= now() and not leaving and id <> $1) as "others!",
                     array(select shard from shards where owner = $1 order by shard) as "shards!: Vec<i16>",
                     array(select epoch from shards where owner = $1 order by shard) as "epochs!: Vec<i64>""#,
        replica,
        lease_ms,
        leaving
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// Gives shards back, so that other replicas can take them at once.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn give_back(pool: &Pool, replica: Uuid, shards: &[i16]) -> Result<()> {
    sqlx::query!(
        "update shards set owner = null
         where owner = $1 and shard in (select shard from shards where shard = any($2) order by shard for update)",
        replica,
        shards
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Gives all shards back and deletes the replica's row.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn release(pool: &Pool, replica: Uuid) -> Result<()> {
    sqlx::query!(
        "with gone as (delete from replicas where id = $1)
         update shards set owner = null
         where owner = $1 and shard in (select shard from shards where owner = $1 order by shard for update)",
        replica
    )
    .execute(pool)
    .await?;
    Ok(())
}
