//! Waits until the relay has stored what the edge has accepted: only then the API shows it.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::target::Relay;

/// How long the relay may take. It looks at an empty queue once a second, unless it is told to do so less often.
const STORED_WITHIN: Duration = Duration::from_secs(20);

/// The pauses between two questions: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// What is known of an accepted event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Yes,
    /// With what the relay answered last.
    NotYet(String),
}

/// Asks the relay for the event until it has it, or the time is over.
pub(super) async fn wait(client: &reqwest::Client, relay: &Relay, event: &str) -> Stored {
    let deadline = Instant::now() + STORED_WITHIN;
    let mut pause = FIRST_PAUSE;
    let mut last = "none".to_owned();
    loop {
        match timeout_at(deadline, relay.has_event(client, event)).await {
            Ok(Ok(true)) => return Stored::Yes,
            Ok(Ok(false)) => "404 Not Found".clone_into(&mut last),
            Ok(Err(answer)) => last = answer,
            Err(_) => return Stored::NotYet(last),
        }
        if Instant::now() + pause >= deadline {
            return Stored::NotYet(last);
        }
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}
