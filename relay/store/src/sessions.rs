//! Sessions: with which browsers authenticate after a sign-in. Only the hashes of their secrets are stored.

use model::session::MadeOf;
use shared::id::{CustomerId, SessionId, TokenId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, NewEntry};
use super::column::{As, Maybe};
use crate::{Constraint, Error, Kind, Pool, Result};

/// A session as it is stored, without its hash.
#[derive(Debug, Clone)]
pub struct SessionRow {
    pub id: SessionId,
    pub made_of: MadeOf,
    /// The token that it was made of.
    pub token_id: Option<TokenId>,
    /// What the token or the user is called; `None` for a root token.
    pub name: Option<String>,
    /// The customer that it is bound to; `None` if it acts for any customer.
    pub customer_id: Option<CustomerId>,
    pub customer_name: Option<String>,
    pub scopes: Vec<String>,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    pub ended_at: Option<OffsetDateTime>,
    /// The minute in which the session was last accepted.
    pub last_used_at: Option<OffsetDateTime>,
}

/// A session that a browser has sent, with its token, and the time by the database's clock.
#[derive(Debug, Clone)]
pub struct Presented {
    pub id: SessionId,
    pub made_of: MadeOf,
    pub subject: String,
    pub token_id: Option<TokenId>,
    pub name: Option<String>,
    pub customer_id: Option<CustomerId>,
    pub customer_name: Option<String>,
    pub scopes: Vec<String>,
    pub root_proof: Option<Vec<u8>>,
    pub expires_at: OffsetDateTime,
    pub ended_at: Option<OffsetDateTime>,
    pub last_used_at: Option<OffsetDateTime>,
    pub token_expires_at: Option<OffsetDateTime>,
    pub token_revoked_at: Option<OffsetDateTime>,
    pub token_last_used_at: Option<OffsetDateTime>,
    pub now: OffsetDateTime,
}

/// Who signed in. All sessions of one subject can be listed and ended together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub made_of: MadeOf,
    /// `root`, the id of a token, or the issuer and the subject of a user.
    pub text: String,
}

/// A new session.
pub struct New<'a> {
    pub id: SessionId,
    pub subject: &'a Subject,
    pub token_id: Option<TokenId>,
    pub name: Option<&'a str>,
    pub customer: Option<CustomerId>,
    pub scopes: &'a [String],
    /// The SHA-256 of the session's secret.
    pub hash: &'a [u8],
    /// The proof of the root token that it was made of.
    pub root_proof: Option<&'a [u8]>,
    /// For how long it counts, in seconds.
    pub lifetime_s: f64,
    /// A time after which it does not count, even if its lifetime has not passed.
    pub until: Option<OffsetDateTime>,
}

/// Stores a new session, and deletes the oldest ones of the same subject beyond `most`, those that no longer count
/// first. Transactions that run at the same time may leave a few more, which the next one deletes.
///
/// # Errors Returns [`Constraint::Reference`] if the token or the customer does not exist, [`Constraint::SessionLimit`]
/// if `most` sessions of the subject were made within the last ten minutes, or an error if a query fails.
pub async fn insert(pool: &Pool, session: &New<'_>, most: i64, entry: &NewEntry) -> Result<()> {
    let (made_of, subject) = (session.subject.made_of.name(), &session.subject.text);
    let mut transaction = pool.begin().await?;
    let recent = sqlx::query_scalar!(
        r#"select count(*) as "count!" from sessions
           where made_of = $1 and subject = $2 and created_at > now() - interval '10 minutes'"#,
        made_of,
        subject
    )
    .fetch_one(&mut *transaction)
    .await?;
    if recent >= most {
        return Err(Error::new(Kind::Conflict(Constraint::SessionLimit), "too many sessions were made recently"));
    }
    sqlx::query!(
        "insert into sessions (id, made_of, subject, token_id, name, customer_id, scopes, hash, root_proof, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9,
                 least(now() + make_interval(secs => $10::double precision), $11::timestamptz))",
        session.id.uuid(),
        made_of,
        subject,
        session.token_id.map(TokenId::uuid),
        session.name,
        session.customer.map(CustomerId::uuid),
        session.scopes,
        session.hash,
        session.root_proof,
        session.lifetime_s,
        session.until
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "delete from sessions where id = any(array(
             select id from sessions where made_of = $1 and subject = $2 and id <> $4
             order by (ended_at is null and expires_at > now()) desc, id desc offset $3 for update skip locked))",
        made_of,
        subject,
        most - 1,
        session.id.uuid()
    )
    .execute(&mut *transaction)
    .await?;
    audit::record(&mut transaction, entry).await?;
    transaction.commit().await
}

/// The session of a dashboard with this hash, as it is stored now: whether it still counts is for the caller to decide.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn presented(pool: &Pool, hash: &[u8]) -> Result<Option<Presented>> {
    sqlx::query_as!(
        Presented,
        r#"select sessions.id as "id!: As<SessionId>", made_of as "made_of!: As<MadeOf>", subject,
                  token_id as "token_id!: Maybe<TokenId>", sessions.name,
                  sessions.customer_id as "customer_id!: Maybe<CustomerId>", customers.name as "customer_name?",
                  sessions.scopes, root_proof, sessions.expires_at, ended_at, sessions.last_used_at,
                  tokens.expires_at as "token_expires_at?", tokens.revoked_at as "token_revoked_at?",
                  tokens.last_used_at as "token_last_used_at?", now() as "now!"
           from sessions
           left join tokens on tokens.id = token_id
           left join customers on customers.id = sessions.customer_id
           where sessions.hash = $1 and kind = 'dashboard'"#,
        hash
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// One session. If a subject is given, only a session of this subject.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn find(pool: &Pool, id: SessionId, subject: Option<&Subject>) -> Result<Option<SessionRow>> {
    let (made_of, text) = columns(subject);
    sqlx::query_as!(
        SessionRow,
        r#"select sessions.id as "id!: As<SessionId>", made_of as "made_of!: As<MadeOf>",
                  token_id as "token_id!: Maybe<TokenId>", sessions.name,
                  customer_id as "customer_id!: Maybe<CustomerId>", customers.name as "customer_name?", scopes,
                  sessions.created_at, expires_at, ended_at, last_used_at
           from sessions left join customers on customers.id = customer_id
           where sessions.id = $1 and ($2::text is null or (made_of = $2 and subject = $3))"#,
        id.uuid(),
        made_of,
        text
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// A page of the sessions that count, newest first: those of a subject, or all of them. A session whose root token is
/// no longer configured is among them until it expires, because the database does not know the root tokens.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn page(pool: &Pool, subject: Option<&Subject>, cursor: Option<Uuid>, limit: i64) -> Result<Vec<SessionRow>> {
    let (made_of, text) = columns(subject);
    sqlx::query_as!(
        SessionRow,
        r#"select sessions.id as "id!: As<SessionId>", made_of as "made_of!: As<MadeOf>",
                  token_id as "token_id!: Maybe<TokenId>", sessions.name,
                  sessions.customer_id as "customer_id!: Maybe<CustomerId>", customers.name as "customer_name?",
                  sessions.scopes, sessions.created_at, sessions.expires_at, ended_at, sessions.last_used_at
           from sessions
           left join tokens on tokens.id = token_id
           left join customers on customers.id = sessions.customer_id
           where ended_at is null and sessions.expires_at > now()
             and tokens.revoked_at is null and (tokens.expires_at is null or tokens.expires_at > now())
             and ($1::text is null or (made_of = $1 and subject = $2)) and ($3::uuid is null or sessions.id < $3)
           order by sessions.id desc limit $4"#,
        made_of,
        text,
        cursor,
        limit
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// Ends a session that has not ended yet. If a subject is given, only a session of this subject. Returns whether it has
/// ended one.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written, or the response to the commit was lost.
pub async fn end(pool: &Pool, id: SessionId, subject: Option<&Subject>, entry: &NewEntry) -> Result<bool> {
    let (made_of, text) = columns(subject);
    let mut transaction = pool.begin().await?;
    let ended = sqlx::query!(
        "update sessions set ended_at = now()
         where id = $1 and ended_at is null and ($2::text is null or (made_of = $2 and subject = $3))",
        id.uuid(),
        made_of,
        text
    );
    if ended.execute(&mut *transaction).await?.rows_affected() == 0 {
        return Ok(false);
    }
    audit::record(&mut transaction, entry).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Ends all sessions of a subject, and returns how many counted until now.
///
/// # Errors
/// Returns an error if a query fails; then none was ended, or the response to the commit was lost.
pub async fn end_all(pool: &Pool, subject: &Subject, record: impl FnOnce(u64) -> NewEntry) -> Result<u64> {
    let mut transaction = pool.begin().await?;
    let ids = sqlx::query_scalar!(
        "select id from sessions
         where made_of = $1 and subject = $2 and ended_at is null and expires_at > now() order by id for update",
        subject.made_of.name(),
        subject.text
    )
    .fetch_all(&mut *transaction)
    .await?;
    let ended = sqlx::query!("update sessions set ended_at = now() where id = any($1)", &ids);
    let ended = ended.execute(&mut *transaction).await?.rows_affected();
    if ended > 0 {
        audit::record(&mut transaction, &record(ended)).await?;
    }
    transaction.commit().await?;
    Ok(ended)
}

/// Records the minutes in which sessions were last accepted. A time never goes back.
///
/// # Errors
/// Returns an error if a query fails; then nothing was recorded.
pub async fn used(pool: &Pool, uses: &[(SessionId, OffsetDateTime)]) -> Result<()> {
    let (ids, at): (Vec<Uuid>, Vec<OffsetDateTime>) = uses.iter().map(|(id, at)| (id.uuid(), *at)).unzip();
    let mut transaction = pool.begin().await?;
    // Other replicas record the same sessions.
    sqlx::query!("select id from sessions where id = any($1) order by id for update", &ids)
        .fetch_all(&mut *transaction)
        .await?;
    sqlx::query!(
        "update sessions set last_used_at = greatest(last_used_at, date_trunc('minute', used.at))
         from unnest($1::uuid[], $2::timestamptz[]) as used (id, at) where sessions.id = used.id",
        &ids,
        &at
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// Deletes sessions that have expired, at most `limit`, and returns their number.
///
/// # Errors
/// Returns an error if the query fails; then nothing was deleted, or the response to the commit was lost.
pub async fn delete_expired(pool: &Pool, limit: i64) -> Result<u64> {
    let deleted = sqlx::query!(
        "delete from sessions where id = any(array(
             select id from sessions where expires_at <= now() order by expires_at limit $1 for update skip locked))",
        limit
    );
    Ok(deleted.execute(pool).await?.rows_affected())
}

fn columns(subject: Option<&Subject>) -> (Option<&'static str>, Option<&str>) {
    (subject.map(|subject| subject.made_of.name()), subject.map(|subject| subject.text.as_str()))
}

/// Those of these sessions that are no longer accepted: they or their tokens have ended, or they are unknown.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn ended(pool: &Pool, ids: &[SessionId]) -> Result<Vec<SessionId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let ended = sqlx::query_scalar!(
        r#"select open.id as "id!" from unnest($1::uuid[]) as open (id)
           where not exists (
               select from sessions left join tokens on tokens.id = token_id
               where sessions.id = open.id and ended_at is null and sessions.expires_at > now()
                 and tokens.revoked_at is null and (tokens.expires_at is null or tokens.expires_at > now()))"#,
        &ids
    )
    .fetch_all(pool)
    .await?;
    Ok(ended.into_iter().map(SessionId::from_uuid).collect())
}
