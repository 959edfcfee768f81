//! Makes the entries of the audit log.
//!
//! Each change is recorded by the transaction that makes it, with the settings of the object before and after, without
//! secrets. A secret that changes is named in `secrets_changed` of the settings after.

pub(super) use model::audit::Action;
use shared::id::{AuditEntryId, uuid_v7_floor};
pub(super) use store::audit::Object;
use store::audit::{self, Author, NewEntry};

use super::{Actor, Control, Error};
use crate::mint;

/// How much earlier than an hour began, by the database's clock, an entry of that hour may have been given its id, by
/// the clock of a relay.
const CLOCKS_DIFFER_BY_MS: u64 = 2 * 3_600_000;

/// The entry of an action, without settings.
pub(super) fn entry(actor: &Actor, action: Action, object: Object) -> NewEntry {
    entry_of(actor.author(), action, object)
}

/// The entry of an action of this author, without settings.
pub(super) fn entry_of(author: Author, action: Action, object: Object) -> NewEntry {
    NewEntry::new(AuditEntryId::from_uuid(mint::uuid()), author, action, object)
}

/// Records that a secret is shown, before it is.
///
/// # Errors
/// Returns an error if the query fails; then the secret must not be shown.
pub(super) async fn revealed(control: &Control, actor: &Actor, action: Action, object: Object) -> Result<(), Error> {
    Ok(audit::write(&control.pool, &entry(actor, action, object)).await?)
}

/// Records something that changes no object, before it is done.
///
/// # Errors
/// Returns an error if the query fails; then it must not be done.
pub(super) async fn written(control: &Control, actor: &Actor, action: Action, object: Object) -> Result<(), Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
