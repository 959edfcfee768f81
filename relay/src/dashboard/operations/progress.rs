//! A bar of progress.

use model::operation::OperationState;

use crate::control::operations::Operation;
use crate::control::replays::Replay;
use crate::dashboard::view;

/// The width of the bar in its own units.
const WIDTH: i64 = 1_000;

/// How far an operation has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dashboard) struct Progress {
    /// The parts of the bar, in its own units: what is done, and what of it has failed.
    pub(in crate::dashboard) done: i64,
    pub(in crate::dashboard) bad: i64,
    pub(in crate::dashboard) text: String,
}

impl Progress {
    fn new(processed: i64, bad: i64, total: Option<i64>, has_ended: bool) -> Self {
        let of = total.unwrap_or(0).max(processed);
        let share = |number: i64| if of > 0 { number.clamp(0, of) * WIDTH / of } else { 0 };
        let text = match total {
            Some(total) if total > 0 => {
                let percent = processed.clamp(0, of) * 100 / of.max(1);
                format!("{} of {}, {percent} %", view::number(processed), view::number(total.max(processed)))
            }
            Some(_) if has_ended => "nothing matched".to_owned(),
            Some(_) | None if has_ended => format!("{} processed", view::number(processed)),
            Some(_) | None => format!("{} processed, still counting", view::number(processed)),
        };
        // Without a total the bar of a running operation has no length that would be true.
        let done = if total.is_none() && !has_ended { 0 } else { share(processed) };
        Self { done, bad: share(bad).min(done), text }
    }

    pub(in crate::dashboard) fn of_operation(operation: &Operation) -> Self {
        let has_ended = !matches!(operation.state, OperationState::Running | OperationState::Paused);
        Self::new(operation.processed, operation.failed, operation.total, has_ended)
    }

    pub(in crate::dashboard) fn of_replay(replay: &Replay) -> Self {
        Self::new(replay.processed, replay.skipped, replay.matched, replay.finished_at.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_what_is_done_and_what_of_it_has_failed() {
        let half = Progress::new(500, 100, Some(1_000), false);
        assert_eq!((half.done, half.bad, half.text.as_str()), (500, 100, "500 of 1,000, 50 %"));
        let counting = Progress::new(500, 0, None, false);
        assert_eq!((counting.done, counting.text.as_str()), (0, "500 processed, still counting"));
        let ended = Progress::new(500, 0, None, true);
        assert_eq!((ended.done, ended.text.as_str()), (WIDTH, "500 processed"));
        let nothing = Progress::new(0, 0, Some(0), true);
        assert_eq!((nothing.done, nothing.text.as_str()), (0, "nothing matched"));
        let more = Progress::new(12, 0, Some(10), false);
        assert_eq!((more.done, more.text.as_str()), (WIDTH, "12 of 12, 100 %"), "more than were counted first");
    }
}
