//! What the audit log says of a change of a destination.

use std::collections::BTreeMap;

use serde_json::Value;
use shared::sign::SigningSecret;
use store::audit::NewEntry;
use store::destinations::DestinationRow;

use super::plan::settings_of;
use super::{header_names, open_headers, open_secrets};
use crate::control::record::{self, Action, Object};
use crate::control::{Actor, Control};
use crate::mint;

/// Makes the entry of a change from the rows before and after it. `update` is the action if there are both.
pub(super) fn record(
    control: &Control,
    actor: &Actor,
    update: Action,
) -> impl FnOnce(Option<&DestinationRow>, Option<&DestinationRow>) -> NewEntry {
    move |before, after| {
        let action = record::action(before, after, [Action::DestinationCreate, update, Action::DestinationDelete]);
        let settings = |row| settings(control, row);
        let secrets = after.map(|after| secrets_changed(control, before, after)).unwrap_or_default();
        let entry = record::entry(actor, action, after.or(before).map(object).unwrap_or_default());
        entry.with(before.map(settings), after.map(settings), secrets)
    }
}

/// A destination as the object of an entry.
pub(super) fn object(row: &DestinationRow) -> Object {
    Object::of(row.id, row.customer_id).named(&row.name)
}

fn settings(control: &Control, row: &DestinationRow) -> Value {
    let mut settings = settings_of(row, header_names(control, row));
    settings["state"] = row.state.name().into();
    settings["state_reason"] = row.state_reason.clone().into();
    settings
}

/// The secrets that have another value than before.
fn secrets_changed(control: &Control, before: Option<&DestinationRow>, after: &DestinationRow) -> Vec<String> {
    // The newest one; a secret that no master key opens differs from the one that replaces it.
    let signing = |row| open_secrets(control, row).ok()?.signing(mint::now_ms()).first().map(SigningSecret::to_text);
    let headers = |row: Option<&DestinationRow>| -> BTreeMap<String, String> {
        row.and_then(|row| open_headers(control, row).ok()).unwrap_or_default()
    };
    let mut changed = Vec::new();
    if before.and_then(signing) != signing(after) {
        changed.push("signing_secret".to_owned());
    }
    let (old, new) = (headers(before), headers(Some(after)));
    let names = new.iter().filter(|(name, value)| old.get(*name) != Some(*value));
    changed.extend(names.map(|(name, _)| format!("headers.{name}")));
    changed
}
