//! The audit log: who changed what. An entry is written by the transaction that makes the change.

use model::audit::Action;
use serde_json::Value;
use shared::id::{AuditEntryId, CustomerId, SessionId, TokenId};
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::column::{As, Maybe};
use super::search::{self, Range, Search, remaining};
use crate::idempotency::{self, Claim};
use crate::partitions::create_day_in;
use crate::{Connection, Error, Kind, Pool, Result};

/// Who makes a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The kind of actor, such as `token`.
    kind: &'static str,
    /// The id of the actor, as the API shows it, if it has one.
    id: Option<String>,
    /// What the actor is called.
    name: String,
    /// The id of the session with which the actor has authenticated, as the API shows it.
    session: Option<String>,
    /// The id of the request that makes the change, if it is one.
    request_id: Option<String>,
    /// The claim of the request on its idempotency key, if it has one.
    claim: Option<Claim>,
}

impl Author {
    /// The bearer of a root token.
    #[must_use]
    pub fn root() -> Self {
        Self::of("root", None, "root")
    }

    /// The bearer of a token that the API has made.
    #[must_use]
    pub fn token(id: TokenId, name: &str) -> Self {
        Self::of("token", Some(id.to_string()), name)
    }

    /// A browser after a sign-in. `subject` says who signed in: `root`, the id of a token, or the issuer and the
    /// subject of a user. `session` is the session with which the browser has authenticated; `None` while it signs in.
    #[must_use]
    pub fn session(subject: &str, name: &str, session: Option<SessionId>) -> Self {
        let session = session.map(|id| id.to_string());
        Self { session, ..Self::of("session", Some(subject.to_owned()), name) }
    }

    /// The relay itself.
    #[must_use]
    pub fn relay() -> Self {
        Self::of("relay", None, "relay")
    }

    /// The same author, making the request with this id.
    #[must_use]
    pub fn requesting(self, request_id: Option<String>) -> Self {
        Self { request_id, ..self }
    }

    /// The same author, making the request with this claim on its idempotency key.
    #[must_use]
    pub fn claiming(self, claim: Option<Claim>) -> Self {
        Self { claim, ..self }
    }

    fn of(kind: &'static str, id: Option<String>, name: &str) -> Self {
        Self { kind, id, name: name.to_owned(), session: None, request_id: None, claim: None }
    }
}

/// The object of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object {
    /// Its id, as the API shows it; `None` if the action has no single object.
    id: Option<String>,
    name: Option<String>,
    /// The customer that owns the object, or that is the object; `None` if the object belongs to the deployment.
    customer: Option<CustomerId>,
}

impl Object {
    /// An object of a customer, by its id.
    #[must_use]
    pub fn of(id: impl ToString, customer: CustomerId) -> Self {
        Self { id: Some(id.to_string()), name: None, customer: Some(customer) }
    }

    /// An object of the deployment, by its id.
    #[must_use]
    pub fn of_deployment(id: impl ToString) -> Self {
        Self { id: Some(id.to_string()), ..Self::default() }
    }

    /// Several objects of a customer.
    #[must_use]
    pub fn many(customer: Option<CustomerId>) -> Self {
        Self { customer, ..Self::default() }
    }

    /// The same object, owned by this customer, if there is one.
    #[must_use]
    pub fn owned_by(self, customer: Option<CustomerId>) -> Self {
        Self { customer, ..self }
    }

    /// The same object, which has a name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }
}

/// An entry to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEntry {
    id: AuditEntryId,
    author: Author,
    action: Action,
    object: Object,
    /// The settings of the object before the change, without secrets.
    before: Option<Value>,
    /// The settings of the object after the change, without secrets.
    after: Option<Value>,
}

impl NewEntry {
    /// The entry of an action, without settings.
    #[must_use]
    pub fn new(id: AuditEntryId, author: Author, action: Action, object: Object) -> Self {
        Self { id, author, action, object, before: None, after: None }
    }

    /// The same entry with the settings of its object before and after the change. The names of secrets that the change
    /// has given another value are added to the settings after, as `secrets_changed`.
    #[must_use]
    pub fn with(self, before: Option<Value>, after: Option<Value>, secrets: impl IntoIterator<Item = String>) -> Self {
        let secrets: Vec<Value> = secrets.into_iter().map(Value::String).collect();
        let mut after = after;
        if let Some(Value::Object(after)) = &mut after
            && !secrets.is_empty()
        {
            after.insert("secrets_changed".to_owned(), secrets.into());
        }
        Self { before, after, ..self }
    }
}

/// An entry as it is stored.
#[derive(Debug, Clone)]
pub struct EntryRow {
    pub id: AuditEntryId,
    pub at: OffsetDateTime,
    pub customer_id: Option<CustomerId>,
    pub actor_kind: String,
    pub actor_id: Option<String>,
    pub actor_name: String,
    pub session_id: Option<String>,
    pub request_id: Option<String>,
    pub action: String,
    pub object_id: Option<String>,
    pub object_name: Option<String>,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// Writes an entry in the transaction of its change. If the partition of its day is missing, it is created. A change
/// that leaves the settings as they are is none, and has no entry. If the author has claimed an idempotency key, the
/// change is noted with the key.
///
/// # Errors
/// Returns an error if a query fails; then the transaction cannot be committed.
pub(crate) async fn record(connection: &mut Connection, entry: &NewEntry) -> Result<()> {
    if entry.before.is_some() && entry.before == entry.after {
        return Ok(());
    }
    if let Some(claim) = &entry.author.claim {
        idempotency::changed_in(connection, claim).await?;
    }
    record_in(connection, entry).await
}

async fn record_in(connection: &mut Connection, entry: &NewEntry) -> Result<()> {
    // Without the savepoint, a missing partition would abort the transaction.
    sqlx::raw_sql("SAVEPOINT audit").execute(&mut *connection).await?;
    match insert(connection, entry).await {
        Err(error) => {
            let Kind::MissingPartition(Some(day)) = error.kind() else { return Err(error) };
            sqlx::raw_sql("ROLLBACK TO SAVEPOINT audit").execute(&mut *connection).await?;
            create_day_in(connection, day).await?;
            insert(connection, entry).await
        }
        done => done,
    }
}

async fn insert(connection: &mut Connection, entry: &NewEntry) -> Result<()> {
    let Author { kind, id, name, session, request_id, claim: _ } = &entry.author;
    sqlx::query!(
        "insert into audit_entries (id, customer_id, actor_kind, actor_id, actor_name, session_id, request_id, action,
                                    object_id, object_name, before, after)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        entry.id.uuid(),
        entry.object.customer.map(CustomerId::uuid),
        kind,
        id.as_deref(),
        name,
        session.as_deref(),
        request_id.as_deref(),
        entry.action.name(),
        entry.object.id,
        entry.object.name,
        entry.before.as_ref().map(Json) as _,
        entry.after.as_ref().map(Json) as _
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes an entry that no change comes with.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written.
pub async fn write(pool: &Pool, entry: &NewEntry) -> Result<()> {
    let mut transaction = pool.begin().await?;
    record_in(&mut transaction, entry).await?;
    transaction.commit().await
}

/// Writes an entry unless the same actor has done the same with the same object in this hour, by the database's clock.
/// `since` is the smallest id that an entry of this hour can have.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written.
pub async fn write_once_an_hour(pool: &Pool, entry: &NewEntry, since: Uuid) -> Result<()> {
    // Most calls end here, without a lock.
    if is_in_this_hour(&mut pool.acquire().await?, entry, since).await? {
        return Ok(());
    }
    let mut transaction = pool.begin().await?;
    let actor = entry.author.id.as_deref().unwrap_or(entry.author.kind);
    let same = [actor, entry.action.name(), entry.object.id.as_deref().unwrap_or_default()].join(" ");
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('tidegate audit ' || $1, 0))", same)
        .execute(&mut *transaction)
        .await?;
    if is_in_this_hour(&mut transaction, entry, since).await? {
        return Ok(());
    }
    record_in(&mut transaction, entry).await?;
    transaction.commit().await
}

async fn is_in_this_hour(connection: &mut Connection, entry: &NewEntry, since: Uuid) -> Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (
               select from audit_entries
               where object_id = $1 and id >= $5 and action = $2 and actor_kind = $3 and actor_id is not distinct from $4
                 and at >= date_trunc('hour', now())
           ) as "is_written!""#,
        entry.object.id,
        entry.action.name(),
        entry.author.kind,
        entry.author.id,
        since
    )
    .fetch_one(connection)
    .await
    .map_err(Error::from)
}

/// Selects entries.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub customer: Option<CustomerId>,
    /// The id of an actor, or the kind of an actor that has no id.
    pub actor: Option<String>,
    pub action: Option<Action>,
    pub object_id: Option<String>,
    pub request_id: Option<String>,
}

/// A search for a page of entries, newest first.
#[derive(Debug)]
pub struct Page {
    pub selection: Selection,
    /// How many entries are enough.
    pub limit: i64,
    pub found: Vec<EntryRow>,
}

impl Search for Page {
    async fn edge(&self, pool: &Pool, range: Range, rows: i64, plain: bool) -> Result<Option<Uuid>> {
        let object = self.selection.object_id.as_deref().filter(|_| !plain);
        search::audit_entries(pool, range, object, rows).await
    }

    async fn look(&mut self, pool: &Pool, range: Range) -> Result<bool> {
        let wanted = remaining(self.limit, self.found.len());
        self.found.extend(page(pool, &self.selection, range, wanted).await?);
        Ok(remaining(self.limit, self.found.len()) == 0)
    }
}

/// The entries of a range of ids, newest first.
async fn page(pool: &Pool, selection: &Selection, range: Range, limit: i64) -> Result<Vec<EntryRow>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        EntryRow,
        r#"select id as "id!: As<AuditEntryId>", at, customer_id as "customer_id!: Maybe<CustomerId>", actor_kind, actor_id,
                  actor_name, session_id, request_id, action, object_id, object_name, before, after
           from audit_entries
           where id >= $1 and id < $2 and (customer_id = $3 or $3::uuid is null)
             and (coalesce(actor_id, actor_kind) = $4 or $4::text is null) and (action = $5 or $5::text is null)
             and (object_id = $6 or $6::text is null) and (request_id = $7 or $7::text is null)
           order by id desc limit $8"#,
        range.from,
        range.until,
        selection.customer.map(CustomerId::uuid),
        selection.actor,
        selection.action.map(Action::name),
        selection.object_id,
        selection.request_id,
        limit
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_names_the_secrets_that_have_changed_and_not_their_values() {
        let object = Object::of(AuditEntryId::mint(1, [1; 10]), crate::DEFAULT_CUSTOMER).named("billing");
        let id = AuditEntryId::mint(1, [2; 10]);
        let entry = NewEntry::new(id, Author::root(), Action::DestinationUpdate, object);
        assert_eq!((entry.author.kind, entry.object.name.as_deref()), ("root", Some("billing")));
        let changed = entry.clone().with(None, Some(json!({ "url": "https://a.example/" })), ["x".to_owned()]);
        assert_eq!(changed.after, Some(json!({ "url": "https://a.example/", "secrets_changed": ["x"] })));
        assert_eq!(entry.with(None, Some(json!({})), []).after, Some(json!({})));
    }
}
