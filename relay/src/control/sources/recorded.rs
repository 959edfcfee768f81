//! What the audit log says of a change of a source.

use store::audit::NewEntry;
use store::sources::SourceRow;

use super::settings::{open_secrets, settings_of};
use crate::control::record::{self, Action, Object};
use crate::control::{Actor, Control};

/// Makes the entry of a change from the rows before and after it. `update` is the action if there are both.
pub(super) fn record(
    control: &Control,
    actor: &Actor,
    update: Action,
) -> impl FnOnce(Option<&SourceRow>, Option<&SourceRow>) -> NewEntry {
    move |before, after| {
        let action = record::action(before, after, [Action::SourceCreate, update, Action::SourceDelete]);
        let object = after.or(before).map(|row| Object::of(row.id, row.customer_id).named(&row.name));
        let secrets = |row: &SourceRow| open_secrets(control, row).unwrap_or_default().active;
        let has_other_secrets = after.is_some_and(|row| before.map(secrets).unwrap_or_default() != secrets(row));
        record::entry(actor, action, object.unwrap_or_default()).with(
            before.map(settings_of),
            after.map(settings_of),
            has_other_secrets.then(|| "secrets".to_owned()),
        )
    }
}
