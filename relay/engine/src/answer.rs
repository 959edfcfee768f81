//! What the result of an attempt means for its delivery and for its destination.

use std::time::Duration;

use model::failure::SendFailure;
use model::health::Reason;
use model::held_by::HeldBy;
use model::retry_policy::RetryPolicy;
use model::settlement::{AttemptRow, Next, Settlement};

use super::breaker::Verdict;
use super::tuning::{
    DISABLING_BACK_OFF_US, LATE_TRANSFORMS, LONGEST_NOT_SENT_WAIT_US, MAX_BACK_OFF_US, NOT_SENT_WAIT_US,
    THROTTLED_FOR_FREE,
};
use crate::item::Item;
use crate::outcome::{Failure, Outcome};
use crate::retry;

/// The consequences of one outcome for the delivery, and what it shows about the destination.
pub(super) struct Judged {
    pub(super) attempt: Option<AttemptRow>,
    /// All attempts of the delivery so far.
    pub(super) attempts: u16,
    /// Of those, the attempts that are not charged.
    pub(super) throttled: u16,
    pub(super) next: Next,
    pub(super) verdict: Verdict,
    /// Why the destination is overloaded, if it is.
    pub(super) overloaded: Option<Reason>,
    /// The end of the back-off that the destination asked for, in microseconds.
    pub(super) back_off_until_us: Option<u64>,
    /// The destination answered 410, and had not yet done so when this was sent.
    pub(super) gone: bool,
}

/// What is known of the destination apart from this outcome.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// It had answered 410 while this attempt was in flight.
    pub(super) gone: bool,
    /// The end of the back-off that this outcome causes, in microseconds; set if it [`asks_for_a_back_off`].
    pub(super) back_off_until_us: Option<u64>,
}

/// Why a delivery is held if the transform that was current when it was created is no longer known.
const ROUTE_GONE: &str = "the transform that was current when this delivery was created is no longer known; release \
                          the delivery to use the route's current transform. If the route has been deleted, cancel the \
                          delivery and replay the event";

/// Whether the destination asks for a back-off without saying for how long.
pub(super) fn asks_for_a_back_off(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed { failure: Failure::Status(429), retry_after_ms: None | Some(0), .. })
}

/// Judges an outcome; `jitter` is in 0..1.
pub(super) fn judge(
    item: &Item,
    outcome: Outcome,
    policy: &RetryPolicy,
    known: Known,
    jitter: f64,
    now_us: u64,
) -> Judged {
    let attempts = item.attempts.saturating_add(1);
    let judged = |attempt, attempts, next, verdict| Judged {
        attempt,
        attempts,
        throttled: item.throttled,
        next,
        verdict,
        overloaded: None,
        back_off_until_us: None,
        gone: false,
    };
    let held = |by, reason| judged(None, item.attempts, Next::Held { by, reason }, Verdict::Unknown);
    match outcome {
        Outcome::Succeeded { attempt } => judged(Some(attempt), attempts, Next::Succeeded, Verdict::Succeeded),
        Outcome::TransformFailed { reason } => held(HeldBy::Transform, storable(&reason)),
        Outcome::Unsendable { reason } => held(HeldBy::Url, storable(&reason)),
        Outcome::RouteGone => held(HeldBy::Route, ROUTE_GONE.to_owned()),
        Outcome::BodyGone => {
            held(HeldBy::Body, "the body of the event is past its retention period; cancel the delivery".to_owned())
        }
        Outcome::TransformLate { reason } if item.not_sent + 1 >= LATE_TRANSFORMS => {
            let reason = storable(&format!("{reason}; after {LATE_TRANSFORMS} tries the delivery is held"));
            held(HeldBy::Transform, reason)
        }
        Outcome::NotSent { reason } | Outcome::TransformLate { reason } => {
            tracing::warn!(delivery = %item.id, error = reason, "a delivery could not be sent; retrying");
            judged(None, item.attempts, not_sent(item, &reason), Verdict::Unknown)
        }
        Outcome::Failed { attempt, failure: Failure::Gone, .. } if known.gone => {
            // The attempt is stored and counted. The delivery stays due, and is held until the destination is resumed.
            judged(Some(attempt), attempts, Next::RetryIn(Duration::ZERO), Verdict::Unknown)
        }
        Outcome::Failed { attempt, failure, retry_after_ms } => {
            let overloaded = overload(&failure);
            if let Some(until_us) = known.back_off_until_us
                && item.throttled < THROTTLED_FOR_FREE
            {
                let next = Next::RetryIn(Duration::from_micros(until_us.saturating_sub(now_us)));
                return Judged {
                    throttled: item.throttled + 1,
                    overloaded,
                    back_off_until_us: Some(until_us),
                    ..judged(Some(attempt), attempts, next, verdict(&failure))
                };
            }
            let charged = attempts.saturating_sub(item.schedule_start).saturating_sub(item.throttled);
            let made = u32::from(charged.max(1));
            let asked_us = back_off_us(&failure, retry_after_ms).map(|back_off_us| now_us + back_off_us);
            let next = match retry::next(policy, made, &retried(&failure, retry_after_ms), jitter) {
                retry::Next::In { wait_ms } => Next::RetryIn(Duration::from_millis(wait_ms)),
                retry::Next::Dead { reason } => {
                    Next::Dead { error: failure.code(), reason: dead_reason(reason, attempts, &failure) }
                }
            };
            Judged {
                overloaded,
                back_off_until_us: asked_us.max(known.back_off_until_us),
                gone: failure == Failure::Gone,
                ..judged(Some(attempt), attempts, next, verdict(&failure))
            }
        }
    }
}

fn not_sent(item: &Item, reason: &str) -> Next {
    let wait_us = (NOT_SENT_WAIT_US << item.not_sent.min(16)).min(LONGEST_NOT_SENT_WAIT_US);
    Next::NotSent {
        wait: Duration::from_micros(wait_us),
        times: item.not_sent.saturating_add(1),
        reason: storable(reason),
    }
}

/// The text without NUL, the only character that PostgreSQL cannot store in a text.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Whether the next delivery of the key may go: this one has ended, or its route says that later ones do not wait for
/// it.
pub(super) fn frees_key(judged: &Judged, skips: bool) -> bool {
    match judged.next {
        Next::Succeeded | Next::Dead { .. } => true,
        Next::RetryIn(_) => skips && judged.attempt.is_some(),
        Next::Held { .. } => skips,
        Next::NotSent { .. } | Next::Behind { .. } => false,
    }
}

/// Puts back a delivery that was read and is behind another one of its key, for a while.
pub(super) fn put_back(item: &Item, shard: i16, epoch: i64, wait: Duration) -> Settlement {
    Settlement {
        delivery_id: item.id,
        destination_id: item.destination_id,
        event_id: item.event.meta.id,
        shard,
        epoch,
        replay_id: item.replay_id,
        attempt: None,
        attempts: i16::try_from(item.attempts).unwrap_or(i16::MAX),
        attempts_before: i16::try_from(item.attempts).unwrap_or(i16::MAX),
        generation: item.generation,
        expedited: item.expedited,
        throttled: i16::try_from(item.throttled).unwrap_or(i16::MAX),
        order_key: item.order_key,
        frees_key: false,
        next: Next::Behind { wait },
    }
}

fn retried(failure: &Failure, retry_after_ms: Option<u64>) -> retry::Outcome {
    match failure {
        Failure::Gone => retry::Outcome::Gone,
        Failure::Status(_) | Failure::Redirect { .. } | Failure::NoAnswer(_) | Failure::Internal(_) => {
            retry::Outcome::Failed { retry_after_ms }
        }
    }
}

fn verdict(failure: &Failure) -> Verdict {
    match failure {
        // The 410 disables the destination, which is more than a breaker does.
        Failure::Gone => Verdict::Unknown,
        // A panic of the relay says nothing about the destination.
        Failure::Internal(_) => Verdict::Unknown,
        Failure::Status(429) => Verdict::Throttled,
        failure if failure.is_refusal() => Verdict::Refused,
        Failure::Status(_) | Failure::Redirect { .. } | Failure::NoAnswer(_) => Verdict::Failed,
    }
}

fn overload(failure: &Failure) -> Option<Reason> {
    match failure {
        Failure::Status(status @ (429 | 502 | 503 | 504)) => Some(Reason::Status(*status)),
        Failure::NoAnswer(SendFailure::Timeout | SendFailure::ConnectTimeout) => Some(Reason::Timeout),
        Failure::NoAnswer(
            SendFailure::Blocked(_)
            | SendFailure::NameNotResolved
            | SendFailure::Refused
            | SendFailure::Tls(_)
            | SendFailure::Unreachable
            | SendFailure::NoResponse
            | SendFailure::NotHttp
            | SendFailure::TooMuch
            | SendFailure::Ours(_),
        )
        | Failure::Status(_)
        | Failure::Redirect { .. }
        | Failure::Internal(_)
        | Failure::Gone => None,
    }
}

/// How long nothing is sent to the whole destination.
fn back_off_us(failure: &Failure, retry_after_ms: Option<u64>) -> Option<u64> {
    match failure {
        // Nothing more is sent until the table says that the destination is disabled.
        Failure::Gone => Some(DISABLING_BACK_OFF_US),
        Failure::Status(429 | 503) => retry_after_ms.map(|wait_ms| wait_ms.saturating_mul(1000).min(MAX_BACK_OFF_US)),
        Failure::Status(_) | Failure::Redirect { .. } | Failure::NoAnswer(_) | Failure::Internal(_) => None,
    }
}

fn dead_reason(reason: retry::DeadReason, attempts: u16, failure: &Failure) -> String {
    match reason {
        retry::DeadReason::Gone => "the destination returned 410 Gone".to_owned(),
        retry::DeadReason::AttemptsExhausted => {
            format!("all {attempts} attempts failed; the last error was: {}", failure.describe())
        }
    }
}
