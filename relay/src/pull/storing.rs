//! Stores pulled messages, however long the database is unreachable, and whatever a single message contains.

use std::time::Duration;

use engine::retry::database_backoff;
use model::unreadable::Reason;
use store::unreadable::NewUnreadable;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::Puller;
use crate::intake::NotStored;
use crate::intake::message::{Arrival, log_kept};
use crate::mint;
use crate::supervise::{self, RowPanic};

/// How long the database may take to return its time, which shows that it responds.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The most bytes of bodies that one transaction stores, unless it is a single body: a change of the configuration
/// waits for the transaction.
pub(crate) const MOST_BYTES: usize = 4 << 20;

/// How often a batch that the server cannot store is tried as a whole, unless a value of it is known to be refused.
const HALVE_AFTER: u32 = 5;

/// How often a single arrival that the server cannot store is tried before it is set aside: about a minute.
pub(crate) const SET_ASIDE_AFTER: u32 = 60;

impl Puller {
    /// Stores all of it. Returns false only if it is told to stop while the database does not respond.
    pub(super) async fn store(
        &self,
        arrivals: Vec<Arrival>,
        unreadable: Vec<NewUnreadable>,
        stop: &CancellationToken,
    ) -> bool {
        let mut waiting: Vec<_> =
            split(arrivals, Arrival::body_bytes).into_iter().map(|arrivals| (arrivals, Vec::new())).collect();
        waiting.extend(split(unreadable, NewUnreadable::bytes).into_iter().map(|unreadable| (Vec::new(), unreadable)));
        while let Some((mut group, mut unreadable)) = waiting.pop() {
            let mut backoff = database_backoff();
            let mut answers = false;
            for tries in 1.. {
                let span = tracing::info_span!("store", messages = group.len());
                let Err(error) = stored(self.intake.store(&group, &unreadable).instrument(span)).await else { break };
                match after_failure(error.suspect(answers), group.len(), tries) {
                    AfterFailure::Halve => {
                        // One message causes the failure; the others must not wait for it.
                        tracing::warn!(
                            %error,
                            messages = group.len(),
                            "could not store a batch of messages; storing its halves one after the other"
                        );
                        let second = group.split_off(group.len() / 2);
                        waiting.extend([(group, unreadable), (second, Vec::new())]);
                        break;
                    }
                    AfterFailure::SetAside => {
                        let detail = error.detail();
                        let kept = group
                            .drain(..)
                            .map(|arrival| arrival.unreadable(Reason::RefusedByDatabase, &detail, mint::now_ms()));
                        unreadable.extend(kept.inspect(log_kept));
                    }
                    AfterFailure::TryAgain => {
                        tracing::warn!(%error, messages = group.len(), "messages could not be stored; retrying");
                        tokio::select! {
                            () = tokio::time::sleep(backoff.next_pause(mint::jitter())) => {}
                            () = stop.cancelled() => return false,
                        }
                        let asked = tokio::time::timeout(ANSWER_WITHIN, store::health::now(&self.intake.pool)).await;
                        answers = matches!(asked, Ok(Ok(_)));
                    }
                }
            }
        }
        true
    }
}

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    NotStored(NotStored),
    /// The state of the database is unknown.
    #[error(transparent)]
    Panicked(RowPanic),
}

impl Failure {
    fn suspect(&self, answers: bool) -> Suspect {
        match self {
            Self::NotStored(error) => Suspect::of(error, answers),
            Self::Panicked(_) => Suspect::Value,
        }
    }

    /// The reason that is stored with a message that is set aside.
    fn detail(&self) -> String {
        match self {
            Self::NotStored(error) => format!("the database could not store the message: {error}"),
            Self::Panicked(panic) => format!("the message could not be stored: {panic}").replace('\0', "\u{fffd}"),
        }
    }
}

/// Waits until a batch is stored. A panic is caused by one of its messages, like a value that the database refuses.
async fn stored(storing: impl Future<Output = Result<(), NotStored>>) -> Result<(), Failure> {
    match supervise::row(storing).await {
        Ok(stored) => stored.map_err(Failure::NotStored),
        Err(panic) => {
            tracing::error!(error = %panic, "the relay panicked while storing a batch of messages");
            Err(Failure::Panicked(panic))
        }
    }
}

/// Splits into parts of at most [`MOST_BYTES`], or of a single larger item, in the same order.
fn split<T>(all: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut parts: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for one in all {
        let size = bytes(&one);
        match parts.last_mut() {
            Some(part) if room > 0 && size <= room => part.push(one),
            Some(_) | None => {
                parts.push(vec![one]);
                room = MOST_BYTES;
            }
        }
        room = room.saturating_sub(size);
    }
    parts
}

/// What to do with arrivals that could not be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterFailure {
    TryAgain,
    /// Each half is stored separately.
    Halve,
    /// The only arrival is kept as an unreadable message.
    SetAside,
}

/// What a failure to store says about the arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suspect {
    /// One of them contains a value that the database always refuses, or on which the relay always panics.
    Value,
    /// The server answered with another error, or took too long: one of them may be the cause.
    Batch,
    /// The database is unreachable, or lacks resources: the failure says nothing about the arrivals.
    Nobody,
}

impl Suspect {
    /// `answers`: whether the database has answered another statement since the last failure. If a connection breaks
    /// with each try while others work, the arrivals may be the cause.
    fn of(error: &NotStored, answers: bool) -> Self {
        match error {
            NotStored::Failed(error) if error.is_data_error() => Self::Value,
            NotStored::Failed(error) if !answers && error.passes_by_itself() => Self::Nobody,
            NotStored::Failed(_) | NotStored::TookTooLong => Self::Batch,
        }
    }
}

/// A refused value is found by halving, and the arrival that contains it is set aside. A batch that fails for another
/// reason is halved after [`HALVE_AFTER`] tries, and a single arrival is set aside after [`SET_ASIDE_AFTER`], so that
/// none holds up the rest forever. It is retried later from the table of unreadable messages. If there are no arrivals,
/// the batch consists of unreadable messages: those are bytes, and are never refused because of their content.
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
    fn a_batch_is_stored_in_parts_of_a_few_megabytes_and_a_larger_body_alone() {
        let mebibytes = |sizes: &[usize]| split(sizes.to_vec(), |size| size << 20);
        assert_eq!(mebibytes(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(mebibytes(&[0, 1, 3, 0]), [vec![0, 1, 3], vec![0]]);
        assert_eq!(mebibytes(&[1, 1, 3, 24, 0, 4, 1]), [vec![1, 1], vec![3], vec![24], vec![0, 4], vec![1]]);
    }

    #[tokio::test]
    async fn a_panic_halves_a_batch_at_once_and_sets_a_single_message_aside() {
        let failure = stored(async { panic!("its type") }).await.expect_err("it panicked");
        assert_eq!(after_failure(failure.suspect(false), 100, 1), AfterFailure::Halve);
        assert_eq!(after_failure(failure.suspect(false), 1, 1), AfterFailure::SetAside);
        assert_eq!(failure.detail(), "the message could not be stored: the relay panicked: its type");
        let away =
            stored(async { Err(store::Error::took_longer_than(Duration::ZERO).into()) }).await.expect_err("it failed");
        assert_eq!(after_failure(away.suspect(false), 100, 1_000), AfterFailure::TryAgain);
    }

    #[test]
    fn a_batch_is_halved_at_once_for_a_refused_value_and_after_some_tries_for_other_errors() {
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
