//! Tokens: with which callers authenticate. A token is shown once, when it is created; only its hash is stored.

use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::id::{CustomerId, TokenId};
use store::Constraint;
use store::tokens::{self, New, TokenRow};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::error::{Conflict, Noun, conflict_of};
use super::fields::Problems;
use super::page::{Page, PageRequest};
use super::record::{self, Action, Object};
use super::scope::{Scope, Scopes};
use super::time::{Timestamp, read_ms};
use super::{Activity, Actor, Control, Error, Outcome, Saved, customers, schema, token_form};
use crate::mint;

pub use whoami::{ActorKind, ShownActor, whoami};

mod whoami;

/// The maximum length of the name of a token, in characters.
pub(crate) const MAX_NAME: usize = 100;

/// A new token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What the token is called. Two tokens may have the same name.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// The id or name of a customer to which the token is bound: it sees and changes only what belongs to the customer,
    /// and cannot have the scope `admin`. If omitted, the token acts for any customer.
    #[schema(value_type = Option<schema::CustomerReference>)]
    pub customer: Option<String>,
    /// What the token may do.
    #[schema(min_items = 1)]
    pub scopes: Vec<Scope>,
    /// When the token stops being accepted (RFC 3339). It must be in the future. If omitted, the token does not expire.
    #[schema(value_type = Option<Timestamp>)]
    pub expires_at: Option<String>,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    /// The id of the token.
    #[schema(value_type = schema::TokenId)]
    pub id: TokenId,
    /// What the token is called.
    pub name: String,
    /// The token itself, `tg_` followed by 64 hexadecimal digits. Only present in the response that creates the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token: Option<String>,
    /// `…` followed by the last four characters of the token, to tell tokens apart.
    #[schema(example = "…9f3a")]
    pub hint: String,
    /// The name of the customer that the token is bound to; null if it acts for any customer.
    #[schema(required = true)]
    pub customer: Option<String>,
    /// The id of the customer that the token is bound to; null if it acts for any customer.
    #[schema(value_type = Option<schema::CustomerId>, required = true)]
    pub customer_id: Option<CustomerId>,
    /// What the token may do.
    pub scopes: Vec<Scope>,
    /// When the token stops being accepted; null if it does not expire.
    #[schema(required = true)]
    pub expires_at: Option<Timestamp>,
    /// When the token was revoked; null if it was not.
    #[schema(required = true)]
    pub revoked_at: Option<Timestamp>,
    /// The minute in which the token was last accepted; null if it never was. A use is shown some seconds later.
    #[schema(required = true)]
    pub last_used_at: Option<Timestamp>,
    /// When the token was created.
    pub created_at: Timestamp,
}

/// Creates a token. The result contains it; it cannot be shown again.
///
/// # Errors
/// Returns every invalid field, or an error if a query fails.
pub async fn create(control: &Control, actor: &Actor, new: NewToken) -> Result<Saved<Token>, Error> {
    actor.require(Scope::Admin)?;
    let mut problems = Problems::default();
    let scopes: Scopes = new.scopes.iter().copied().collect();
    check(&new, scopes, &mut problems);
    let customer = match new.customer.as_deref() {
        Some(text) => problems.named("customer", text, customers::find(control, text).await)?,
        None => None,
    };
    let expires_at = read_ms("expires_at", new.expires_at.as_deref(), &mut problems).map(model::unix_time::timestamp);
    let now = store::health::now(&control.pool).await?;
    check_expiry(expires_at, now, &mut problems);
    problems.finish()?;
    let (id, text) = (TokenId::from_uuid(mint::uuid()), token_form::text(mint::random()));
    let names: Vec<String> = scopes.iter().map(|scope| scope.name().to_owned()).collect();
    let token = New {
        id,
        name: &new.name,
        hash: &token_form::hash(&text),
        hint: token_form::hint(&text),
        customer: customer.as_ref().map(|row| row.id),
        scopes: &names,
        expires_at,
    };
    let bound_to = customer.as_ref().map(|row| &row.name);
    let settings = json!({ "scopes": names, "customer": bound_to, "expires_at": expires_at.map(Timestamp) });
    let object = Object::of_deployment(id).owned_by(token.customer).named(&new.name);
    let entry = record::entry(actor, Action::TokenCreate, object).with(None, Some(settings), []);
    let shown = |row: TokenRow| Token { token: Some(text.clone()), ..view(row) };
    let record = |row: &TokenRow| {
        actor.answers(control, Outcome::Created, &shown(row.clone()));
        entry
    };
    let inserted = tokens::insert(&control.pool, &token, record).await;
    let row = inserted.map_err(conflict_of(&[(Constraint::Reference, Conflict::ChangedMeanwhile)]))?;
    Ok(Saved::new(shown(row), true, Activity::Active))
}

/// A page of tokens, newest first, also of those that are expired or revoked.
///
/// # Errors
/// Returns an error if the limit or the cursor is invalid, or if a query fails.
pub async fn list(control: &Control, actor: &Actor, page: &PageRequest) -> Result<Page<Token>, Error> {
    actor.require(Scope::Admin)?;
    let window = page.window()?;
    let rows = tokens::page(&control.pool, window.cursor, window.fetch()).await?;
    Ok(window.page(rows, |row| row.id.uuid(), view))
}

/// The token with this id.
///
/// # Errors
/// Returns an error if the token does not exist, or if a query fails.
pub async fn show(control: &Control, actor: &Actor, id: &str) -> Result<Token, Error> {
    actor.require(Scope::Admin)?;
    find(control, read_id(id)?).await
}

/// Revokes a token: from now on no relay accepts it. The token stays listed, so that it is known whose it was. A token
/// that is already revoked stays as it is.
///
/// # Errors
/// Returns an error if the token does not exist, or if a query fails.
pub async fn revoke(control: &Control, actor: &Actor, id: &str) -> Result<Token, Error> {
    actor.require(Scope::Admin)?;
    let id = read_id(id)?;
    let token = find(control, id).await?;
    let object = Object::of_deployment(id).owned_by(token.customer_id).named(&token.name);
    tokens::revoke(&control.pool, id, &record::entry(actor, Action::TokenRevoke, object)).await?;
    find(control, id).await
}

fn check(new: &NewToken, scopes: Scopes, problems: &mut Problems) {
    if !(1..=MAX_NAME).contains(&new.name.chars().count()) {
        problems.add("name", format!("must be 1 to {MAX_NAME} characters long"));
    }
    if new.scopes.is_empty() {
        problems.add("scopes", "must have at least one scope");
    }
    if new.customer.is_some() && scopes.has(Scope::Admin) {
        problems.add("scopes", "a token that is bound to a customer cannot have the scope admin; omit one of them");
    }
}

fn check_expiry(expires_at: Option<OffsetDateTime>, now: OffsetDateTime, problems: &mut Problems) {
    if expires_at.is_some_and(|expires_at| expires_at <= now) {
        problems.add("expires_at", "must be in the future");
    }
}

fn read_id(id: &str) -> Result<TokenId, Error> {
    id.parse().map_err(|_| Error::NotFound(Noun::Token))
}

async fn find(control: &Control, id: TokenId) -> Result<Token, Error> {
    tokens::find(&control.pool, id).await?.map(view).ok_or(Error::NotFound(Noun::Token))
}

fn view(row: TokenRow) -> Token {
    Token {
        id: row.id,
        name: row.name,
        token: None,
        hint: format!("…{}", row.hint),
        customer: row.customer_name,
        customer_id: row.customer_id,
        scopes: Scopes::of_names(&row.scopes).iter().collect(),
        expires_at: row.expires_at.map(Timestamp),
        revoked_at: row.revoked_at.map(Timestamp),
        last_used_at: row.last_used_at.map(Timestamp),
        created_at: Timestamp(row.created_at),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::wrong_fields;
    use super::*;

    #[test]
    fn a_token_needs_a_name_and_scopes_and_a_bound_one_administers_nothing() {
        let new = |name: &str, customer: Option<&str>, scopes: &[Scope]| NewToken {
            name: name.to_owned(),
            customer: customer.map(str::to_owned),
            scopes: scopes.to_vec(),
            expires_at: None,
        };
        let wrong = |new: NewToken| {
            let mut problems = Problems::default();
            check(&new, new.scopes.iter().copied().collect(), &mut problems);
            wrong_fields(problems.finish()).into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        assert!(wrong(new("ci", None, &[Scope::Admin])).is_empty());
        assert!(wrong(new(&"ü".repeat(MAX_NAME), Some("acme"), &[Scope::Read])).is_empty());
        assert_eq!(wrong(new("", None, &[])), ["name", "scopes"]);
        assert_eq!(wrong(new(&"u".repeat(MAX_NAME + 1), Some("acme"), &[Scope::Admin])), ["name", "scopes"]);
    }

    #[test]
    fn an_expiry_is_in_the_future() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let is_wrong = |expires_at| {
            let mut problems = Problems::default();
            check_expiry(expires_at, now, &mut problems);
            problems.finish().is_err()
        };
        assert!(is_wrong(Some(now)) && !is_wrong(None) && !is_wrong(Some(now + time::Duration::SECOND)));
    }
}
