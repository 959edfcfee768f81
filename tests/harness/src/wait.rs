//! Waiting for a condition: bounded, and by looking at the state instead of hoping for a signal.

use std::time::{Duration, Instant};

/// How long a test waits for what takes a moment on an idle machine. A test fails later if this is longer, and never takes
/// longer if it succeeds.
pub const SOON: Duration = Duration::from_secs(60);

/// How long a test waits for much work, such as thousands of deliveries, or for what a lease or a timeout delays.
pub const LONG: Duration = Duration::from_secs(180);

/// Looks until `look` gives `Ok`, and gives that. An `Err` says how things stand.
///
/// # Panics
/// After `timeout`, with `what` was waited for and the last status.
pub async fn until<T>(what: &str, timeout: Duration, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    try_until(what, timeout, look).await.unwrap_or_else(|error| panic!("{error}"))
}

/// As [`until`], for callers that can go on without.
///
/// # Errors
/// After `timeout`, with the message that [`until`] panics with.
pub async fn try_until<T>(
    what: &str,
    timeout: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let over = |status: &str| Err(format!("waited {timeout:?} for {what}; at the end: {status}"));
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(2);
    loop {
        let last_status = match tokio::time::timeout(remaining(deadline), look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(status)) => status,
            Err(_) => return over("the last look did not come back"),
        };
        if Instant::now() >= deadline {
            return over(&last_status);
        }
        tokio::time::sleep(pause.min(remaining(deadline))).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// At least a moment, so that even the last look can answer.
fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_ends_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        let seen = until("the third look", Duration::from_secs(10), async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) }
        })
        .await;
        assert_eq!(seen, 3);
    }

    #[tokio::test]
    async fn a_wait_that_is_over_tells_how_things_stood() {
        let waited = try_until::<()>("five", Duration::from_millis(30), async || Err("2 of 5".to_owned())).await;
        assert_eq!(waited, Err("waited 30ms for five; at the end: 2 of 5".to_owned()));
    }

    #[tokio::test]
    async fn a_look_that_hangs_does_not_hang_the_wait() {
        let waited = try_until::<()>("nothing", Duration::from_millis(30), async || std::future::pending().await).await;
        assert!(waited.is_err());
    }
}
