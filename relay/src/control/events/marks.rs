//! What has become of the deliveries of each event of a page.

use std::collections::HashMap;

use model::delivery::DeliveryState;
use shared::id::EventId;
use store::events;

use super::Event;
use crate::control::{Actor, Control, Error, Scope};

/// The most deliveries of an event, settled ones and others, that are counted.
pub(crate) const COUNTED_DELIVERIES: u16 = 100;

/// The deliveries of an event by their state. Each number is counted up to 100.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    pub pending: u16,
    pub held: u16,
    pub succeeded: u16,
    pub dead: u16,
    pub cancelled: u16,
}

impl Marks {
    fn count(&mut self, state: DeliveryState) {
        let number = match state {
            DeliveryState::Pending => &mut self.pending,
            DeliveryState::Held => &mut self.held,
            DeliveryState::Succeeded => &mut self.succeeded,
            DeliveryState::Dead => &mut self.dead,
            DeliveryState::Cancelled => &mut self.cancelled,
        };
        *number = number.saturating_add(1);
    }
}

/// The marks of these events, by one query. An event without deliveries has none.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn marks(control: &Control, actor: &Actor, events: &[Event]) -> Result<HashMap<EventId, Marks>, Error> {
    actor.require(Scope::Read)?;
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
    let unusable = control.configuration.current().unusable_ids();
    let states = events::delivery_states(&control.pool, &ids, &unusable, COUNTED_DELIVERIES.into()).await?;
    let mut marks: HashMap<EventId, Marks> = HashMap::new();
    for (event, state) in states {
        marks.entry(event).or_default().count(state);
    }
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_counted_by_itself() {
        let mut marks = Marks::default();
        for state in [DeliveryState::Dead, DeliveryState::Dead, DeliveryState::Held, DeliveryState::Succeeded] {
            marks.count(state);
        }
        assert_eq!(marks, Marks { dead: 2, held: 1, succeeded: 1, ..Marks::default() });
    }
}
