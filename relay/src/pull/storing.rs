//! Stores what was pulled, however long the database is away and whatever one message holds.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Puller;
use super::arrival::Arrival;
use crate::retry::database_backoff;
use crate::store::unreadable::{NewUnreadable, Reason};
use crate::{mint, store};

/// How long storing may take before it is tried again. It can be repeated: what is stored is found by its id.
const PATIENCE: Duration = Duration::from_secs(70);

/// How often a batch that the server cannot store is tried whole, when nothing says that one of its values is refused.
const HALVE_AFTER: u32 = 5;

/// How often a single arrival that the server cannot store is tried before it is kept as it is: about a minute.
const SET_ASIDE_AFTER: u32 = 60;

impl Puller {
    /// Stores all of it; returns false only when it is told to stop while the database does not answer.
    pub(super) async fn store(
        &self,
        arrivals: Vec<Arrival>,
        unreadable: Vec<NewUnreadable>,
        stop: &CancellationToken,
    ) -> bool {
        let mut waiting = vec![(arrivals, unreadable)];
        while let Some((mut group, mut unreadable)) = waiting.pop() {
            let mut backoff = database_backoff();
            for tries in 1.. {
                let stored = tokio::time::timeout(PATIENCE, self.intake.store(&group, &unreadable)).await;
                let timed_out = stored.is_err();
                let Err(error) = stored.unwrap_or(Err(sqlx::Error::PoolTimedOut)) else { break };
                match after_failure(Suspect::of(&error, timed_out), group.len(), tries) {
                    AfterFailure::Halve => {
                        // One of them is to blame; the others must not wait for it.
                        tracing::warn!(error = %error, messages = group.len(), "a batch cannot be stored; halving it");
                        let second = group.split_off(group.len() / 2);
                        waiting.extend([(group, unreadable), (second, Vec::new())]);
                        break;
                    }
                    AfterFailure::SetAside => {
                        let detail = format!("the database refused it: {error}");
                        tracing::error!(detail, "a message is kept as unreadable");
                        unreadable.extend(
                            group
                                .drain(..)
                                .map(|arrival| arrival.unreadable(Reason::RefusedByDatabase, &detail, mint::now_ms())),
                        );
                    }
                    AfterFailure::TryAgain => {
                        tracing::warn!(error = %error, messages = group.len(), "cannot store; trying again");
                        tokio::select! {
                            () = tokio::time::sleep(backoff.next_pause(mint::jitter())) => {}
                            () = stop.cancelled() => return false,
                        }
                    }
                }
            }
        }
        true
    }
}

/// What is done with arrivals that could not be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterFailure {
    TryAgain,
    /// Each half is stored by itself.
    Halve,
    /// The only one of them is kept as an unreadable message.
    SetAside,
}

/// What a failure to store says about the arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suspect {
    /// One of them holds a value that the database refuses, now and the next time.
    Value,
    /// The server answered with another error, or took too long: one of them may be the cause.
    Batch,
    /// The server did not answer: nothing is known against any of them.
    Nobody,
}

impl Suspect {
    fn of(error: &sqlx::Error, timed_out: bool) -> Self {
        if store::is_data_error(error) {
            Self::Value
        } else if timed_out || store::is_silence(error) || error.as_database_error().is_some() {
            Self::Batch
        } else {
            Self::Nobody
        }
    }
}

/// A refused value is found by halving, and the arrival that holds it is set aside. A batch that fails for another reason
/// is halved after [`HALVE_AFTER`] tries, and a single arrival set aside after [`SET_ASIDE_AFTER`], so that none holds up
/// the rest for ever; it is tried again later from where it is kept. No arrival at all are unreadable messages alone: those
/// are bytes, and never refused for what they hold.
fn after_failure(suspect: Suspect, arrivals: usize, tries: u32) -> AfterFailure {
    match (suspect, arrivals) {
        (Suspect::Value, 1) => AfterFailure::SetAside,
        (Suspect::Batch, 1) if tries >= SET_ASIDE_AFTER => AfterFailure::SetAside,
        (Suspect::Value, 2..) => AfterFailure::Halve,
        (Suspect::Batch, 2..) if tries >= HALVE_AFTER => AfterFailure::Halve,
        (Suspect::Value | Suspect::Batch | Suspect::Nobody, _) => AfterFailure::TryAgain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_halved_for_a_refused_value_at_once_and_for_other_errors_of_the_server_after_some_tries() {
        use AfterFailure::{Halve, SetAside, TryAgain};
        for (suspect, arrivals, tries, expected) in [
            (Suspect::Value, 100, 1, Halve),
            (Suspect::Value, 1, 1, SetAside),
            (Suspect::Value, 0, 1, TryAgain),
            (Suspect::Batch, 100, HALVE_AFTER - 1, TryAgain),
            (Suspect::Batch, 100, HALVE_AFTER, Halve),
            (Suspect::Batch, 1, SET_ASIDE_AFTER - 1, TryAgain),
            (Suspect::Batch, 1, SET_ASIDE_AFTER, SetAside),
            (Suspect::Batch, 0, 1_000, TryAgain),
            (Suspect::Nobody, 100, 1_000, TryAgain),
        ] {
            assert_eq!(after_failure(suspect, arrivals, tries), expected, "{suspect:?} {arrivals} {tries}");
        }
    }
}
