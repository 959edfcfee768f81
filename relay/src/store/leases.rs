//! Who sends for which destination: a replica leases shards, and only the owner of a destination's shard sends for it.
//!
//! The lease is the replica's row: one small update renews all its shards. A shard whose owner has no row, or an
//! expired one, is free. Taking a shard raises its epoch, and what is settled names the epoch, so that a replica which
//! stalled and woke up late cannot write over its successor.

use sqlx::PgPool;
use uuid::Uuid;

/// How many shards there are; a destination's is fixed by its id.
pub const SHARDS: i64 = 256;

/// A shard that this replica owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    pub shard: i16,
    pub epoch: i64,
}

/// Renews the lease of `replica` for `lease_ms`, gives back what is more than its fair share, takes what is free up to
/// it, and returns what it owns afterwards.
///
/// # Errors
/// Where the database cannot be asked; then the old lease goes on until it expires.
pub async fn renew(pool: &PgPool, replica: Uuid, lease_ms: i64) -> Result<Vec<Shard>, sqlx::Error> {
    // Statements of their own: the second has to see what another replica's change of hands has committed while the first
    // waited for it.
    sqlx::query!(
        "insert into replicas (id, expires_at) values ($1, now() + $2::bigint * interval '1 millisecond')
         on conflict (id) do update set expires_at = excluded.expires_at",
        replica,
        lease_ms
    )
    .execute(pool)
    .await?;
    let seen = sqlx::query!(
        r#"select (select count(*) from replicas where expires_at >= now() and id <> $1) as "others!",
                  array(select shard from shards where owner = $1 order by shard) as "shards!: Vec<i16>",
                  array(select epoch from shards where owner = $1 order by shard) as "epochs!: Vec<i64>""#,
        replica
    )
    .fetch_one(pool)
    .await?;
    let owned: Vec<Shard> =
        seen.shards.iter().zip(&seen.epochs).map(|(shard, epoch)| Shard { shard: *shard, epoch: *epoch }).collect();
    let share = (SHARDS + seen.others) / (seen.others + 1);
    let owned_count = i64::try_from(owned.len()).unwrap_or(SHARDS);
    if owned_count == share {
        return Ok(owned);
    }

    let mut transaction = pool.begin().await?;
    // One replica at a time, so that two of them do not take the same free shards.
    sqlx::query!("select pg_advisory_xact_lock(hashtext('tidegate shards'))").execute(&mut *transaction).await?;
    sqlx::query!("delete from replicas where expires_at < now() and id <> $1", replica)
        .execute(&mut *transaction)
        .await?;
    if owned_count > share {
        let extra: Vec<i16> = owned.iter().skip(usize::try_from(share).unwrap_or(0)).map(|shard| shard.shard).collect();
        sqlx::query!("update shards set owner = null where owner = $1 and shard = any($2)", replica, &extra)
            .execute(&mut *transaction)
            .await?;
    } else {
        sqlx::query!(
            "update shards set owner = $1, epoch = epoch + 1
             where shard in (
                 select shard from shards
                 where owner is null or not exists (select from replicas where replicas.id = shards.owner)
                 order by shard limit $2)",
            replica,
            share - owned_count
        )
        .execute(&mut *transaction)
        .await?;
    }
    let owned = sqlx::query_as!(Shard, "select shard, epoch from shards where owner = $1 order by shard", replica)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(owned)
}

/// Gives everything back, so that others need not wait for the lease to expire.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn release(pool: &PgPool, replica: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with gone as (delete from replicas where id = $1) update shards set owner = null where owner = $1",
        replica
    )
    .execute(pool)
    .await?;
    Ok(())
}
