//! Tokens: with which callers of the API authenticate. Only their hashes are stored.

use shared::id::{CustomerId, TokenId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, NewEntry};
use super::column::{As, Maybe};
use crate::{Connection, Constraint, Error, Kind, Pool, Result};

/// A token as it is stored, without its hash.
#[derive(Debug, Clone)]
pub struct TokenRow {
    pub id: TokenId,
    pub name: String,
    /// The last characters of the token.
    pub hint: String,
    /// The customer that the token is bound to; `None` if it acts for any customer.
    pub customer_id: Option<CustomerId>,
    pub customer_name: Option<String>,
    pub scopes: Vec<String>,
    pub created_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
    /// The minute in which the token was last accepted.
    pub last_used_at: Option<OffsetDateTime>,
}

/// A token that a caller has sent, and the time by the database's clock.
#[derive(Debug, Clone)]
pub struct Presented {
    pub id: TokenId,
    pub name: String,
    pub customer_id: Option<CustomerId>,
    pub customer_name: Option<String>,
    pub scopes: Vec<String>,
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
    pub last_used_at: Option<OffsetDateTime>,
    pub now: OffsetDateTime,
}

/// A new token.
pub struct New<'a> {
    pub id: TokenId,
    pub name: &'a str,
    /// The SHA-256 of the token.
    pub hash: &'a [u8],
    pub hint: &'a str,
    pub customer: Option<CustomerId>,
    pub scopes: &'a [String],
    pub expires_at: Option<OffsetDateTime>,
}

/// Stores a new token.
///
/// # Errors
/// Returns [`crate::Constraint::Reference`] if the customer does not exist, or an error if the query fails.
pub async fn insert(pool: &Pool, token: &New<'_>, record: impl FnOnce(&TokenRow) -> NewEntry) -> Result<TokenRow> {
    let mut transaction = pool.begin().await?;
    let inserted = sqlx::query!(
        "insert into tokens (id, name, hash, hint, customer_id, scopes, expires_at)
         select $1, $2, $3, $4, $5, $6, $7
         where not exists (select from customers where id = $5 and deleted_at is not null)",
        token.id.uuid(),
        token.name,
        token.hash,
        token.hint,
        token.customer.map(CustomerId::uuid),
        token.scopes,
        token.expires_at
    )
    .execute(&mut *transaction)
    .await?;
    if inserted.rows_affected() == 0 {
        return Err(Error::new(Kind::Conflict(Constraint::Reference), "the customer was deleted"));
    }
    let row = find_in(&mut transaction, token.id).await?.ok_or_else(|| Error::changed("the new token is gone"))?;
    audit::record(&mut transaction, &record(&row)).await?;
    transaction.commit().await?;
    Ok(row)
}

/// The token with this hash, as it is stored now: whether it still counts is for the caller to decide.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn presented(pool: &Pool, hash: &[u8]) -> Result<Option<Presented>> {
    sqlx::query_as!(
        Presented,
        r#"select tokens.id as "id!: As<TokenId>", tokens.name, customer_id as "customer_id!: Maybe<CustomerId>",
                  customers.name as "customer_name?", scopes, expires_at,
                  least(revoked_at, customers.deleted_at) as revoked_at, last_used_at, now() as "now!"
           from tokens left join customers on customers.id = customer_id
           where hash = $1"#,
        hash
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// One token.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn find(pool: &Pool, id: TokenId) -> Result<Option<TokenRow>> {
    find_in(&mut pool.acquire().await?, id).await
}

async fn find_in(connection: &mut Connection, id: TokenId) -> Result<Option<TokenRow>> {
    sqlx::query_as!(
        TokenRow,
        r#"select tokens.id as "id!: As<TokenId>", tokens.name, hint, customer_id as "customer_id!: Maybe<CustomerId>",
                  customers.name as "customer_name?", scopes, tokens.created_at, expires_at, revoked_at, last_used_at
           from tokens left join customers on customers.id = customer_id
           where tokens.id = $1"#,
        id.uuid()
    )
    .fetch_optional(connection)
    .await
    .map_err(Error::from)
}

/// A page of tokens, newest first.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn page(pool: &Pool, cursor: Option<Uuid>, limit: i64) -> Result<Vec<TokenRow>> {
    sqlx::query_as!(
        TokenRow,
        r#"select tokens.id as "id!: As<TokenId>", tokens.name, hint, customer_id as "customer_id!: Maybe<CustomerId>",
                  customers.name as "customer_name?", scopes, tokens.created_at, expires_at, revoked_at, last_used_at
           from tokens left join customers on customers.id = customer_id
           where ($1::uuid is null or tokens.id < $1)
           order by tokens.id desc limit $2"#,
        cursor,
        limit
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// Revokes a token. The time of an earlier revocation stays.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn revoke(pool: &Pool, id: TokenId, entry: &NewEntry) -> Result<()> {
    let mut transaction = pool.begin().await?;
    let revoked = sqlx::query!("update tokens set revoked_at = now() where id = $1 and revoked_at is null", id.uuid())
        .execute(&mut *transaction)
        .await?;
    if revoked.rows_affected() > 0 {
        audit::record(&mut transaction, entry).await?;
    }
    transaction.commit().await
}

/// Records the minutes in which tokens were last accepted. A time never goes back.
///
/// # Errors
/// Returns an error if a query fails; then nothing was recorded.
pub async fn used(pool: &Pool, uses: &[(TokenId, OffsetDateTime)]) -> Result<()> {
    let (ids, at): (Vec<Uuid>, Vec<OffsetDateTime>) = uses.iter().map(|(id, at)| (id.uuid(), *at)).unzip();
    let mut transaction = pool.begin().await?;
    // Other replicas record the same tokens.
    sqlx::query!("select id from tokens where id = any($1) order by id for update", &ids)
        .fetch_all(&mut *transaction)
        .await?;
    sqlx::query!(
        "update tokens set last_used_at = greatest(last_used_at, date_trunc('minute', used.at))
         from unnest($1::uuid[], $2::timestamptz[]) as used (id, at) where tokens.id = used.id",
        &ids,
        &at
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// Those of these tokens that are no longer accepted: revoked, expired or unknown.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn ended(pool: &Pool, ids: &[TokenId]) -> Result<Vec<TokenId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let ended = sqlx::query_scalar!(
        r#"select open.id as "id!" from unnest($1::uuid[]) as open (id)
           where not exists (
               select from tokens
               where tokens.id = open.id and revoked_at is null and (expires_at is null or expires_at > now()))"#,
        &ids
    )
    .fetch_all(pool)
    .await?;
    Ok(ended.into_iter().map(TokenId::from_uuid).collect())
}
