//! Readiness: whether this relay can do its part of the work. Load balancers call this without a token, so it takes no
//! `Actor`.

use std::time::Duration;

use model::unix_time;
use serde::Serialize;
use utoipa::ToSchema;

use super::time::Timestamp;
use super::{Control, Error};
use crate::mint;
use crate::moment::Moment;
use crate::readiness::Failing;

/// How long the relay waits for the database to respond.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(2);

/// The relay is ready.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// Always true.
    pub ok: bool,
    /// The version of the relay.
    pub version: &'static str,
    /// The number of destinations that this relay cannot send to, for example because no key in `TIDEGATE_MASTER_KEY`
    /// decrypts their secrets. See `unusable` in the list of destinations.
    pub unusable_destinations: usize,
    /// The number of routes with an expression that this relay cannot evaluate. See `unusable` in the list of routes.
    pub unusable_routes: usize,
    /// How far the relay's clock is ahead of the database's, in milliseconds; negative if it is behind. If they differ
    /// by more than a minute, the relay is not ready.
    pub clock_ahead_ms: i64,
    /// The queue API. While it is failing, acknowledged events wait in the queue.
    pub queue: Upstream,
    /// Whether the relay can call the edge. While it cannot, changes to sources do not become active, and events with
    /// large bodies wait in the queue.
    pub edge: Upstream,
}

/// A service that all relays depend on. If it fails, it fails for all relays, so the relay stays ready.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Upstream {
    /// Whether calls succeed.
    pub status: UpstreamStatus,
    /// The time of the first failure; absent while the upstream is working.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub since: Option<Timestamp>,
    /// The error of the last call; absent while the upstream is working. The relay's log has the details.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
}

/// The status of an upstream. `working`: calls succeed. `failing`: all calls have failed for at least 15 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamStatus {
    /// Calls succeed.
    Working,
    /// All calls have failed for 15 seconds or longer.
    Failing,
}

/// Checks whether the relay can do its part of the work.
///
/// # Errors
/// Returns [`Error::NotReady`] if a part of the relay makes no progress or the relay is shutting down,
/// [`Error::Unavailable`] if a query fails or the database does not respond in time, and [`Error::WrongClock`] if the
/// clocks differ by more than a minute.
pub async fn ready(control: &Control) -> Result<Ready, Error> {
    let checked = async {
        store::configuration::version(&control.pool).await?;
        let wrong = control.clock.is_wrong().await?;
        Ok::<_, store::Error>((wrong, control.clock.ahead_ms().await?))
    };
    let clock_ahead_ms = match tokio::time::timeout(READY_WITHIN, checked).await {
        Ok(Ok((None, ahead_ms))) => ahead_ms,
        Ok(Ok((Some(wrong), _))) => return Err(Error::WrongClock(wrong)),
        Ok(Err(error)) => return Err(Error::Unavailable(error.to_string())),
        Err(_) => {
            return Err(Error::Unavailable(format!(
                "the database did not respond within {} s",
                READY_WITHIN.as_secs()
            )));
        }
    };
    let problems = control.readiness.problems();
    if !problems.is_empty() {
        return Err(Error::NotReady(problems));
    }
    let snapshot = control.configuration.current();
    let (now, now_ms) = (Moment::now(), mint::now_ms());
    Ok(Ready {
        ok: true,
        version: env!("CARGO_PKG_VERSION"),
        unusable_destinations: snapshot.unusable.len(),
        unusable_routes: snapshot.routes.values().filter(|route| route.problem().is_some()).count(),
        clock_ahead_ms,
        queue: upstream(control.readiness.queue_failing(), now, now_ms),
        edge: upstream(control.readiness.edge_failing(), now, now_ms),
    })
}

/// Shows an upstream. `now_ms` is the Unix time at the moment `now`.
fn upstream(failing: Option<Failing>, now: Moment, now_ms: u64) -> Upstream {
    let Some(Failing { since, error }) = failing else {
        return Upstream { status: UpstreamStatus::Working, since: None, error: None };
    };
    let ago_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
    let since = Timestamp(unix_time::timestamp(now_ms.saturating_sub(ago_ms)));
    Upstream { status: UpstreamStatus::Failing, since: Some(since), error: Some(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_shown_with_the_time_of_its_first_failure() {
        let since = Moment::after_start(Duration::from_secs(100));
        let failing = Failing { since, error: "it answered 503".to_owned() };
        let now_ms = 1_764_000_020_000;
        let shown = upstream(Some(failing), since + Duration::from_secs(20), now_ms);
        assert_eq!(
            serde_json::to_value(shown).expect("json"),
            serde_json::json!({ "status": "failing", "since": "2025-11-24T16:00:00Z", "error": "it answered 503" })
        );
        let working = upstream(None, since, now_ms);
        assert_eq!(serde_json::to_value(working).expect("json"), serde_json::json!({ "status": "working" }));
    }
}
