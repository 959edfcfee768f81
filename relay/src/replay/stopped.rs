//! Describes to operators why a replay was stopped.

use std::fmt::Display;

use model::unix_time;
use shared::id::EventId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The longest error that is kept, in characters.
const LONGEST_ERROR: usize = 500;

/// The position of a replay.
pub(super) enum Place {
    /// At a chunk with these first and last events, by id.
    Chunk(EventId, EventId),
    /// After the row with this id, or at the beginning. Its next chunk cannot be planned.
    Behind(Option<String>),
}

/// The text that is kept of a chunk's error, which is from the database or a panic.
pub(super) fn kept(error: &impl Display) -> String {
    error.to_string().replace('\0', "").chars().take(LONGEST_ERROR).collect()
}

/// The reason for stopping a replay that was begun `begun` times at the same place. `error` is the last error.
pub(super) fn reason(begun: i16, error: Option<&str>, place: &Place) -> String {
    let cause = match error {
        Some(error) => format!("the last error was: {error}"),
        None => {
            "each time, the relay stopped or lost its database connection before it could finish the chunk".to_owned()
        }
    };
    let place = match place {
        Place::Chunk(first, last) if first == last => format!(
            "it stopped at event {first}, received at {}; to continue after this event, create a new replay with a \
             later filter.after",
            received(*first)
        ),
        Place::Chunk(first, last) => format!(
            "it stopped at the events from {first} (received at {}) to {last} (received at {}); to continue after \
             them, create a new replay with filter.after later than the second time, or create one with a rate_limit, \
             which processes fewer events at a time",
            received(*first),
            received(*last)
        ),
        Place::Behind(Some(id)) => format!(
            "it stopped after {id}; to continue, create a new replay with filter.after later than the next event"
        ),
        Place::Behind(None) => {
            "it stopped at its first event; to continue after this event, create a new replay with a later filter.after"
                .to_owned()
        }
    };
    format!("the replay made no progress in {begun} tries; {cause}; {place}")
}

fn received(event: EventId) -> String {
    let at: OffsetDateTime = unix_time::timestamp(event.minted_at_ms());
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_MS: u64 = 1_764_000_000_123;

    #[test]
    fn a_reason_contains_the_cause_the_place_and_the_remedy() {
        let event = EventId::mint(AT_MS, [1; 10]);
        let alone = reason(5, None, &Place::Chunk(event, event));
        assert_eq!(
            alone,
            format!(
                "the replay made no progress in 5 tries; each time, the relay stopped or lost its database connection \
                 before it could finish the chunk; it stopped at event {event}, received at 2025-11-24T16:00:00.123Z; \
                 to continue after this event, create a new replay with a later filter.after"
            )
        );
        let last = EventId::mint(AT_MS + 1, [1; 10]);
        let refused = reason(5, Some("no space"), &Place::Chunk(event, last));
        for part in
            ["the last error was: no space;", &event.to_string(), &last.to_string(), "16:00:00.124Z", "rate_limit"]
        {
            assert!(refused.contains(part), "{part} is missing in: {refused}");
        }
        assert!(reason(5, None, &Place::Behind(None)).contains("at its first event"));
    }
}
