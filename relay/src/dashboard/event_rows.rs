//! The rows of lists of events, with what has become of their deliveries.

use model::event::Verification;

use super::view::Tone;
use crate::control::events::{self, Event, Marks};
use crate::control::{Actor, Control, Error};

/// A row.
#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) event: Event,
    marks: Option<Marks>,
}

/// A mark of the deliveries of an event: its tone, what it says, and how many there are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) tone: Tone,
    pub(super) text: String,
    pub(super) number: u16,
}

/// The rows of these events.
pub(super) async fn of(control: &Control, actor: &Actor, events: Vec<Event>) -> Result<Vec<EventRow>, Error> {
    let mut marks = events::marks(control, actor, &events).await?;
    Ok(events.into_iter().map(|event| EventRow { marks: marks.remove(&event.id), event }).collect())
}

impl EventRow {
    /// What has become of the deliveries of the event.
    pub(super) fn marks(&self) -> Vec<Mark> {
        of_event(self.event.verification, self.marks)
    }
}

fn of_event(verification: Verification, marks: Option<Marks>) -> Vec<Mark> {
    let Some(Marks { pending, held, succeeded, dead, cancelled }) = marks else {
        let text = match verification {
            Verification::Failed => "in quarantine, not routed",
            Verification::Verified
            | Verification::Stale
            | Verification::Unsigned
            | Verification::Released
            | Verification::Edited => "matched no route",
        };
        return vec![Mark { tone: Tone::Quiet, text: text.to_owned(), number: 0 }];
    };
    [
        (Tone::Danger, dead, "dead"),
        (Tone::Held, held, "held"),
        (Tone::Warn, pending, "pending"),
        (Tone::Ok, succeeded, "delivered"),
        (Tone::Quiet, cancelled, "cancelled"),
    ]
    .into_iter()
    .filter(|(_, number, _)| *number > 0)
    .map(|(tone, number, word)| Mark { tone, text: format!("{number} {word}"), number })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_state_comes_first_and_an_event_without_deliveries_says_why() {
        let texts = |verification, marks| -> Vec<String> {
            of_event(verification, marks).into_iter().map(|mark| mark.text).collect()
        };
        let marks = Marks { succeeded: 2, dead: 1, ..Marks::default() };
        assert_eq!(texts(Verification::Verified, Some(marks)), ["1 dead", "2 delivered"]);
        assert_eq!(texts(Verification::Verified, None), ["matched no route"]);
        assert_eq!(texts(Verification::Failed, None), ["in quarantine, not routed"]);
    }
}
