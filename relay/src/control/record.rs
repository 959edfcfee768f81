//! Makes the entries of the audit log.
//!
//! Each change is recorded by the transaction that makes it, with the settings of the object before and after, without
//! secrets. A secret that changes is named in `secrets_changed` of the settings after.

pub(super) use model::audit::Action;
use serde_json::Value;
use shared::id::{AuditEntryId, CustomerId, uuid_v7_floor};
use store::audit::{self, Author, NewEntry};

use super::{Actor, Control, Error};
use crate::mint;

/// How much earlier than an hour began, by the database's clock, an entry of that hour may have been given its id, by the
/// clock of a relay.
const CLOCKS_DIFFER_BY_MS: u64 = 2 * 3_600_000;

/// The object of an entry.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    id: Option<String>,
    name: Option<String>,
    customer: Option<CustomerId>,
}

impl Object {
    /// An object of a customer, by its id.
    pub(super) fn of(id: impl ToString, customer: CustomerId) -> Self {
        Self { id: Some(id.to_string()), name: None, customer: Some(customer) }
    }

    /// An object of the deployment, by its id.
    pub(super) fn of_deployment(id: impl ToString) -> Self {
        Self { id: Some(id.to_string()), ..Self::default() }
    }

    /// Several objects of a customer.
    pub(super) fn many(customer: Option<CustomerId>) -> Self {
        Self { customer, ..Self::default() }
    }

    /// The same object, owned by this customer, if there is one.
    pub(super) fn owned_by(self, customer: Option<CustomerId>) -> Self {
        Self { customer, ..self }
    }

    /// The same object, which has a name.
    pub(super) fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }
}

/// The entry of an action, without settings.
pub(super) fn entry(actor: &Actor, action: Action, object: Object) -> NewEntry {
    entry_of(actor.author(), action, object)
}

/// The entry of an action of this author, without settings.
pub(super) fn entry_of(author: Author, action: Action, object: Object) -> NewEntry {
    NewEntry {
        id: AuditEntryId::from_uuid(mint::uuid()),
        customer: object.customer,
        author,
        action,
        object_id: object.id,
        object_name: object.name,
        before: None,
        after: None,
    }
}

/// Records that a secret is shown, before it is.
///
/// # Errors
/// Returns an error if the query fails; then the secret must not be shown.
pub(super) async fn revealed(control: &Control, actor: &Actor, action: Action, object: Object) -> Result<(), Error> {
    Ok(audit::write(&control.pool, &entry(actor, action, object)).await?)
}

/// Records that a body is read by an actor that is not bound to its customer, before it is: once per actor, object and
/// hour.
///
/// # Errors
/// Returns an error if a query fails; then the body must not be shown.
pub(super) async fn read(control: &Control, actor: &Actor, action: Action, object: Object) -> Result<(), Error> {
    if actor.bound_to().is_some() {
        return Ok(());
    }
    let since = uuid_v7_floor(this_hour_ms(mint::now_ms()).saturating_sub(CLOCKS_DIFFER_BY_MS));
    Ok(audit::write_once_an_hour(&control.pool, &entry(actor, action, object), since).await?)
}

/// When the current hour began.
const fn this_hour_ms(now_ms: u64) -> u64 {
    now_ms - now_ms % 3_600_000
}

/// The action of a change from what there was to what there is: the creation, the update or the deletion.
pub(super) fn action<T>(before: Option<T>, after: Option<T>, [create, update, delete]: [Action; 3]) -> Action {
    match (before, after) {
        (None, _) => create,
        (Some(_), Some(_)) => update,
        (Some(_), None) => delete,
    }
}

/// Settings of an entry.
pub(super) trait With {
    /// The entry with the settings of its object before and after the change. The names of secrets that the change has
    /// given another value are added to the settings after.
    fn with(self, before: Option<Value>, after: Option<Value>, secrets: impl IntoIterator<Item = String>) -> Self;
}

impl With for NewEntry {
    fn with(self, before: Option<Value>, after: Option<Value>, secrets: impl IntoIterator<Item = String>) -> Self {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_names_the_secrets_that_have_changed_and_not_their_values() {
        let object = Object::of(AuditEntryId::mint(1, [1; 10]), store::DEFAULT_CUSTOMER).named("billing");
        let entry = entry(&Actor::root(), Action::DestinationUpdate, object);
        assert_eq!((entry.author.kind, entry.object_name.as_deref()), ("root", Some("billing")));
        let changed = entry.clone().with(None, Some(json!({ "url": "https://a.example/" })), ["x".to_owned()]);
        assert_eq!(changed.after, Some(json!({ "url": "https://a.example/", "secrets_changed": ["x"] })));
        assert_eq!(entry.with(None, Some(json!({})), []).after, Some(json!({})));
    }

    #[test]
    fn the_action_follows_from_what_there_was_and_is() {
        let of = |before, after| action(before, after, [Action::RouteCreate, Action::RouteUpdate, Action::RouteDelete]);
        assert_eq!(of(None, Some(())), Action::RouteCreate);
        assert_eq!(of(Some(()), Some(())), Action::RouteUpdate);
        assert_eq!(of(Some(()), None), Action::RouteDelete);
    }

    #[test]
    fn an_hour_begins_at_its_first_millisecond() {
        assert_eq!(this_hour_ms(7_200_000), 7_200_000);
        assert_eq!(this_hour_ms(10_799_999), 7_200_000);
    }
}
