//! Waiting for a condition, with a timeout. The state is polled, so no signal can be missed.

use std::time::{Duration, Instant};

/// How long a test waits for something that takes a moment on an idle machine. A long timeout only delays a failure; a
/// test that succeeds takes no longer.
pub const SOON: Duration = Duration::from_secs(60);

/// How long a test waits for a lot of work, such as thousands of deliveries, or for something that a lease or a timeout
/// delays.
pub const LONG: Duration = Duration::from_secs(180);

/// Calls `check` until it returns `Ok`, and returns that value. An `Err` describes the present state.
///
/// # Panics
/// Panics after `timeout`, with `what` and the last state in the message.
pub async fn until<T>(what: &str, timeout: Duration, check: impl AsyncFnMut() -> Result<T, String>) -> T {
    try_until(what, timeout, check).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Like [`until`], for callers that can handle a timeout.
///
/// # Errors
/// Returns an error after `timeout`, with the message that [`until`] panics with.
pub async fn try_until<T>(
    what: &str,
    timeout: Duration,
    mut check: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let over = |status: &str| Err(format!("waited {timeout:?} for {what}; at the end: {status}"));
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(2);
    loop {
        let last_status = match tokio::time::timeout(remaining(deadline), check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(status)) => status,
            Err(_) => return over("the last check did not finish"),
        };
        if Instant::now() >= deadline {
            return over(&last_status);
        }
        tokio::time::sleep(pause.min(remaining(deadline))).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// The time until the deadline, but at least 20 ms, so that even the last check can finish.
fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_ends_as_soon_as_the_condition_holds() {
        let mut checks = 0;
        let seen = until("the third check", Duration::from_secs(10), async || {
            checks += 1;
            if checks == 3 { Ok(checks) } else { Err(format!("check {checks}")) }
        })
        .await;
        assert_eq!(seen, 3);
    }

    #[tokio::test]
    async fn a_wait_that_times_out_reports_the_last_state() {
        let waited = try_until::<()>("five", Duration::from_millis(30), async || Err("2 of 5".to_owned())).await;
        assert_eq!(waited, Err("waited 30ms for five; at the end: 2 of 5".to_owned()));
    }

    #[tokio::test]
    async fn a_check_that_hangs_does_not_block_the_wait() {
        let waited = try_until::<()>("nothing", Duration::from_millis(30), async || std::future::pending().await).await;
        assert!(waited.is_err());
    }
}
