//! Whether events in quarantine verify with the present secrets and settings of their sources.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use shared::id::{EventId, SourceId};
use store::events::{self, ToVerify};

use crate::control::bodies::RESERVE_TIMEOUT;
use crate::control::{Actor, Control, Error, Scope};
use crate::recheck::Rechecker;
use crate::route::EventView;

pub use crate::recheck::{Recheck, RecheckOutcome};

/// The most events that one call verifies.
pub(crate) const MOST_EVENTS: usize = 50;

/// The bytes that the bodies of these events may have together. Events beyond them are not verified.
pub(crate) const MOST_BYTES: i32 = 8_000_000;

/// Verifies events again. Those that are too large together with the others, that no longer exist, or whose body is no
/// longer kept are left out.
///
/// # Errors
/// Returns [`Error::Busy`] if other requests hold too many bodies, or an error if a query fails.
pub async fn verify_now(control: &Control, actor: &Actor, ids: &[EventId]) -> Result<HashMap<EventId, Recheck>, Error> {
    actor.require(Scope::Read)?;
    let customer = actor.customer()?;
    let ids = &ids[..ids.len().min(MOST_EVENTS)];
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found = events::to_verify(&control.pool, customer, ids).await?;
    let (within, bytes) = within(found, MOST_BYTES);
    let reserved = control.bodies.reserve(bytes, RESERVE_TIMEOUT).await?;
    let ids: Vec<EventId> = within.iter().map(|event| event.meta.id).collect();
    let bodies = events::bodies(&control.pool, &ids).await?;
    let mut recheckers: HashMap<SourceId, Rechecker> = HashMap::new();
    let mut checked = HashMap::new();
    for event in &within {
        let Some(body) = bodies.get(&event.meta.id) else { continue };
        let source = event.meta.source_id;
        let rechecker = match recheckers.entry(source) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Rechecker::of(&control.pusher, customer, source).await?),
        };
        let view = EventView::of(&event.meta, event.source_name.as_deref().unwrap_or_default(), body);
        checked.insert(event.meta.id, rechecker.check(&view));
    }
    drop(reserved);
    Ok(checked)
}

/// The events whose bodies fit together into `most` bytes, and how many bytes they have.
fn within(found: Vec<ToVerify>, most: i32) -> (Vec<ToVerify>, i32) {
    let mut bytes = 0_i32;
    let fits = |event: &ToVerify| {
        let sum = bytes.saturating_add(event.body_size.max(0));
        if sum <= most {
            bytes = sum;
        }
        sum <= most
    };
    let within = found.into_iter().filter(fits).collect();
    (within, bytes)
}
