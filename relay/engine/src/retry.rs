//! How long a delivery waits for each attempt, and when it is given up. The functions are pure: the randomness is an
//! argument, and so is the time for a `Retry-After` that is a date. A wait is a duration and not a time: the store adds
//! it to the time of the database, which all replicas share.
//!
//! The default schedule is the one that the Standard Webhooks specification recommends (1.0.0, "Retries"). Every delay
//! is spread by ±20 %, so that deliveries that failed together are not retried together. `Retry-After` (RFC 9110
//! section 10.2.3) can make a delay longer and never shorter, up to [`MAX_RETRY_AFTER_MS`].
//!
//! The growth of the exponential form, and of the waits between failing calls, is computed by the crate `backoff`. It
//! is unmaintained (RUSTSEC-2025-0012, information only). Only this file uses it, and nothing of it is visible outside,
//! so that a change to `backon` touches this file alone. Its own randomness and its deadline are switched off.

use std::time::{Duration, UNIX_EPOCH};

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

use model::retry_policy::RetryPolicy;

/// The longest wait that a `Retry-After` can cause: 24 hours, in milliseconds.
pub const MAX_RETRY_AFTER_MS: u64 = 24 * 60 * 60 * 1000;

/// The first and the longest wait of the pull loop while the queue's API fails.
pub const PULL_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// The first and the longest wait while PostgreSQL fails.
pub const DATABASE_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How far a delay is spread to either side, as a part of it.
pub const JITTER: f64 = 0.2;

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Any failure that may not recur: any other status, or no response. `retry_after_ms` is the wait from now that the
    /// response asked for.
    Failed { retry_after_ms: Option<u64> },
    /// 410: the destination wants no more deliveries and is to be disabled (Standard Webhooks).
    Gone,
}

/// What happens to a delivery after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next attempt, this many milliseconds from now.
    In { wait_ms: u64 },
    /// Given up; it can be replayed.
    Dead { reason: DeadReason },
}

/// Why a delivery was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadReason {
    /// The policy's last attempt failed.
    AttemptsExhausted,
    /// The destination answered 410.
    Gone,
}

impl DeadReason {
    /// A stable code of the reason.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::Gone => "gone",
        }
    }
}

/// Decides what follows a failed attempt. `attempts_made` includes it and is at least 1; `jitter` is in 0..1.
#[must_use]
pub fn next(policy: &RetryPolicy, attempts_made: u32, outcome: &Outcome, jitter: f64) -> Next {
    let asked_for_ms = match outcome {
        Outcome::Gone => return Next::Dead { reason: DeadReason::Gone },
        Outcome::Failed { retry_after_ms } => retry_after_ms.unwrap_or(0).min(MAX_RETRY_AFTER_MS),
    };
    let Some(delay_ms) = delay_before(policy, attempts_made.saturating_add(1)) else {
        return Next::Dead { reason: DeadReason::AttemptsExhausted };
    };
    Next::In { wait_ms: spread(delay_ms, jitter).max(asked_for_ms) }
}

/// How long a new delivery waits for its first attempt. It is not spread: fresh deliveries go out at the pace of their
/// events.
#[must_use]
pub fn first_wait(policy: &RetryPolicy) -> Duration {
    Duration::from_millis(delay_before(policy, 1).unwrap_or(0))
}

/// The wait before attempt number `attempt` (counted from 1) in milliseconds, before it is spread; `None` if the policy
/// has no such attempt.
#[must_use]
pub fn delay_before(policy: &RetryPolicy, attempt: u32) -> Option<u64> {
    match policy {
        RetryPolicy::Schedule { schedule_s } => {
            let index = usize::try_from(attempt.checked_sub(1)?).ok()?;
            schedule_s.get(index).map(|delay_s| u64::from(*delay_s) * 1000)
        }
        RetryPolicy::Exponential { attempts, .. } if attempt == 0 || attempt > *attempts => None,
        RetryPolicy::Exponential { .. } if attempt == 1 => Some(0),
        RetryPolicy::Exponential { initial_s, multiplier, max_s, .. } => {
            let seconds = |seconds: &u32| Duration::from_secs(u64::from(*seconds));
            let mut growth = growth(seconds(initial_s), *multiplier, seconds(max_s));
            (1..attempt).fold(None, |_, _| growth.next_backoff()).map(milliseconds)
        }
    }
}

/// Parses a `Retry-After` value as a wait from now in milliseconds: seconds, or a date in any of the three forms of RFC
/// 9110 section 5.6.7. A past date is 0; any other value is `None`. The wait is not capped. `now_ms` is the time by the
/// clock of the server that wrote the value, see [`parse_date`].
#[must_use]
pub fn parse_retry_after(value: &str, now_ms: u64) -> Option<u64> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that overflows still asks for a very long wait.
        return Some(value.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(1000));
    }
    Some(parse_date(value)?.saturating_sub(now_ms))
}

/// Parses a date in any of the three forms of RFC 9110 section 5.6.7, such as the `Date` of a response, as Unix
/// milliseconds.
#[must_use]
pub fn parse_date(value: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(value.trim()).ok()?;
    Some(date.duration_since(UNIX_EPOCH).map_or(0, milliseconds))
}

/// The growing waits between failing calls.
#[derive(Debug)]
pub struct Backoff(ExponentialBackoff);

/// The waits of the pull loop while the queue's API fails: 200 ms, doubled up to 30 s. Short enough that a restart of
/// that API goes unnoticed, long enough that an outage costs no more than two calls a minute.
#[must_use]
pub fn pull_backoff() -> Backoff {
    Backoff(growth(PULL_PAUSES.0, 2.0, PULL_PAUSES.1))
}

/// The waits while PostgreSQL fails: 50 ms, doubled up to a second. Events and attempts wait in memory in the meantime,
/// and a database that has recovered is to be used at once.
#[must_use]
pub fn database_backoff() -> Backoff {
    Backoff(growth(DATABASE_PAUSES.0, 2.0, DATABASE_PAUSES.1))
}

/// The wait after the `round`th time, counted from 0, that the configuration had changed between a decision and its
/// storage: none after the first, then 5 ms, doubled up to a second. It limits the cost if the configuration keeps
/// changing.
#[must_use]
pub fn stale_pause(round: u32) -> Duration {
    match round {
        0 => Duration::ZERO,
        _ => Duration::from_millis(5 << (round - 1).min(8)).min(Duration::from_secs(1)),
    }
}

impl Backoff {
    /// The next wait, spread by `jitter` in 0..1.
    pub fn next_pause(&mut self, jitter: f64) -> Duration {
        let pause = self.0.next_backoff().unwrap_or(self.0.max_interval);
        Duration::from_millis(spread(milliseconds(pause), jitter))
    }

    /// Begins anew, after a successful call.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

fn growth(initial: Duration, multiplier: f64, max: Duration) -> ExponentialBackoff {
    ExponentialBackoff {
        current_interval: initial.min(max),
        initial_interval: initial.min(max),
        multiplier,
        max_interval: max,
        randomization_factor: 0.0,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "delays are days"
)]
fn spread(delay_ms: u64, jitter: f64) -> u64 {
    let factor = 1.0 - JITTER + 2.0 * JITTER * jitter.clamp(0.0, 1.0);
    (delay_ms as f64 * factor).round() as u64
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
