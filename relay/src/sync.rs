//! Puts sources to the edge whose newest revision it has not confirmed, because it was unreachable or refused them when
//! they changed. Also compares the sources at the edge with what it has confirmed ([`check`]).

use std::time::Duration;

use store::edge_checks;
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::edge::check::{self, Round};
use crate::edge::push::{self, Pusher};

/// How soon a failed put is retried.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// Within which time after its start a relay compares every source with the edge.
const COMPARED_WITHIN: Duration = Duration::from_secs(600);

/// How often the table is checked for sources to put and for due comparisons.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// How long to wait after a round of puts and a round of comparisons.
fn pause(puts: Round, comparisons: Round) -> Duration {
    match (puts, comparisons) {
        (Round::Failed, _) => RETRY_EVERY,
        // Comparisons that failed stay claimed for some minutes.
        (_, Round::Failed) | (Round::Done, Round::Done) => CHECK_INTERVAL,
        (Round::Full, _) | (_, Round::Full) => Duration::ZERO,
    }
}

/// Runs until `stop`. Work that is interrupted then is found in the table again.
pub async fn run(app: App, stop: CancellationToken) {
    // The database may have been restored while no relay ran.
    if let Err(error) = edge_checks::make_all_due(&app.pool, COMPARED_WITHIN).await {
        tracing::warn!(
            %error,
            "could not schedule an immediate comparison with the edge; the regular comparison follows"
        );
    }
    let pusher = Pusher::of(&app);
    let work = async {
        loop {
            let puts = push_all(&pusher).await;
            let comparisons = check::round(&pusher).await;
            tokio::select! {
                () = pusher.pending.notified() => {}
                () = tokio::time::sleep(pause(puts, comparisons)) => {}
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// Puts the sources whose newest revision the edge has not confirmed, as many as are read at once.
async fn push_all(pusher: &Pusher) -> Round {
    let rows = match store::sources::behind_edge(&pusher.pool).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(%error, "could not read which sources still have to be written to the edge; retrying");
            return Round::Failed;
        }
    };
    let mut ended = if rows.len() < store::sources::BEHIND_AT_ONCE { Round::Done } else { Round::Full };
    for row in rows {
        if let Err(error) = push::push(pusher, &row).await {
            let source = row.id;
            tracing::warn!(%source, name = row.name, error, "could not write a source to the edge; retrying");
            ended = Round::Failed;
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_round_is_followed_by_the_next_one_at_once_unless_the_edge_fails() {
        assert_eq!(pause(Round::Done, Round::Done), CHECK_INTERVAL);
        assert_eq!(pause(Round::Full, Round::Done), Duration::ZERO);
        assert_eq!(pause(Round::Done, Round::Full), Duration::ZERO);
        for comparisons in [Round::Done, Round::Full, Round::Failed] {
            assert_eq!(pause(Round::Failed, comparisons), RETRY_EVERY);
        }
        assert_eq!(pause(Round::Full, Round::Failed), CHECK_INTERVAL);
    }
}
