//! Waits until the relay has stored an accepted event: only then does the API show it.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::target::Relay;

/// How long the relay may take. By default it polls an empty queue once a second.
const STORED_WITHIN: Duration = Duration::from_secs(20);

/// The first pause between two requests, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Whether the relay has stored an accepted event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Yes,
    /// Contains the relay's last response.
    NotYet(String),
}

/// Requests the event from the relay until the relay has it, or until the time has passed.
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
