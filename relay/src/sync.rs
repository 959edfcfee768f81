//! Tells the edge of the sources it does not have yet: those whose configuration could not be put when they changed.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::App;

/// How often it is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// Runs until `stop`.
pub async fn run(app: App, stop: CancellationToken) {
    let mut behind = true;
    loop {
        if behind {
            behind = push_all(&app).await;
        }
        let wait = if behind { RETRY_EVERY } else { Duration::from_secs(60) };
        tokio::select! {
            () = app.edge_pending.notified() => behind = true,
            () = tokio::time::sleep(wait) => behind = true,
            () = stop.cancelled() => return,
        }
    }
}

/// Puts every source that the edge is behind with; says whether any is left.
async fn push_all(app: &App) -> bool {
    let rows = match crate::store::sources::behind_edge(&app.pool).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(error = %error, "cannot look for sources that the edge does not have; trying again");
            return true;
        }
    };
    let mut left = false;
    for row in rows {
        if let Err(problem) = crate::edge::push::push(app, &row).await {
            tracing::warn!(source = row.name, problem, "the edge does not have this source yet; trying again");
            left = true;
        }
    }
    left
}
