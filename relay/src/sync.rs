//! Puts sources to the edge whose newest revision it has not confirmed, because it was unreachable or refused them when
//! they changed. Also compares the sources at the edge with what it has confirmed ([`check`]).

use std::time::Duration;

use store::edge_checks;
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::edge::check;
use crate::edge::push::{self, Pusher};

/// How soon a failed put is retried.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// Within which time after its start a relay compares every source with the edge.
const COMPARED_WITHIN: Duration = Duration::from_secs(600);

/// How often the table is checked for sources to put and for due comparisons.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

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
            let behind = push_all(&pusher).await;
            check::round(&pusher).await;
            tokio::select! {
                () = pusher.pending.notified() => {}
                () = tokio::time::sleep(if behind { RETRY_EVERY } else { CHECK_INTERVAL }) => {}
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// Puts every source whose newest revision the edge has not confirmed. Returns whether any is left.
async fn push_all(pusher: &Pusher) -> bool {
    let rows = match store::sources::behind_edge(&pusher.pool).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(%error, "could not read which sources still have to be written to the edge; retrying");
            return true;
        }
    };
    let mut left = false;
    for row in rows {
        if let Err(error) = push::push(pusher, &row).await {
            let source = row.id;
            tracing::warn!(%source, name = row.name, error, "could not write a source to the edge; retrying");
            left = true;
        }
    }
    left
}
