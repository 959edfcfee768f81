//! Puts a source to the edge: resolves its provider into the configuration that the edge verifies with.

use std::sync::Arc;
use std::time::Duration;

use model::unix_time;
use shared::id::SourceId;
use shared::provider::{self, NewSource};
use shared::source::SourceConfig;
use store::Pool;
use store::customer_rates;
use store::sources::{self, SourceRow};

use super::source::Put;
use super::{Edge, name};
use crate::config::Config;
use crate::{App, secrets, supervise};

/// How long a change waits for the edge before it is reported as pending.
pub(crate) const PUSH_TIMEOUT: Duration = Duration::from_secs(4);

/// How often a source is put in one run. Each retry means that the edge held a newer revision.
const TRIES: usize = 3;

/// Puts sources to the edge.
#[derive(Clone)]
pub struct Pusher {
    pub config: Arc<Config>,
    pub pool: Pool,
    pub edge: Edge,
    /// Wakes [`crate::sync`], which keeps putting sources that the edge does not have.
    pub pending: Arc<tokio::sync::Notify>,
}

impl Pusher {
    /// The pusher of a running relay.
    #[must_use]
    pub fn of(app: &App) -> Self {
        Self {
            config: Arc::clone(&app.config),
            pool: app.pool.clone(),
            edge: app.edge.clone(),
            pending: Arc::clone(&app.edge_pending),
        }
    }
}

/// Puts the newest revision of a source to the edge, unless the edge has confirmed the revision of `row` or a later
/// one, and records the outcome in its row. If the edge holds a newer revision, for instance because the database was
/// restored from a backup, the row's revision is raised above it and put.
///
/// # Errors
/// Returns why the edge does not have the source yet, as a text.
pub async fn push(pusher: &Pusher, row: &SourceRow) -> Result<(), String> {
    let id = row.id;
    let outcome = in_time(id, put_in_turn(pusher, row)).await;
    if let Err(problem) = &outcome {
        sources::edge_failed(&pusher.pool, id, row.revision, problem).await.map_err(query_failed)?;
    }
    outcome
}

/// Returns the outcome of a put, which may take [`PUSH_TIMEOUT`]. A put that panics has failed.
async fn in_time(source: SourceId, put: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    match tokio::time::timeout(PUSH_TIMEOUT, supervise::row(put)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => {
            tracing::error!(error = %panic, %source, "the relay panicked while writing a source to the edge");
            Err(panic.to_string())
        }
        Err(_) => Err(format!("the edge did not respond within {} s", PUSH_TIMEOUT.as_secs())),
    }
}

/// Like [`push`]. If it fails, the failure is logged and [`crate::sync`] tries again.
pub async fn push_or_retry(pusher: &Pusher, row: &SourceRow) {
    if let Err(error) = push(pusher, row).await {
        let source = row.id;
        tracing::warn!(%source, name = row.name, error, "could not write a source to the edge; retrying");
        pusher.pending.notify_one();
    }
}

/// Concurrent changes of a source wait for each other here, and the first to run puts the newest revision for all of
/// them.
async fn put_in_turn(pusher: &Pusher, row: &SourceRow) -> Result<(), String> {
    let (id, customer) = (row.id, row.customer_id);
    let _turn = pusher.edge.turn(id).await;
    match sources::find(&pusher.pool, customer, Some(id), None).await.map_err(query_failed)? {
        Some(newest) if newest.edge_revision < row.revision => put(pusher, newest).await,
        // The edge has it, or the source was deleted in the meantime.
        Some(_) | None => Ok(()),
    }
}

async fn put(pusher: &Pusher, mut row: SourceRow) -> Result<(), String> {
    let id = row.id;
    // Without a name there is nothing to put: the source was deleted with its customer in the meantime.
    let Some(name) = name::of(&pusher.pool, &row).await.map_err(query_failed)? else { return Ok(()) };
    let mut held = 0;
    for _ in 0..TRIES {
        match pusher.edge.put_source(&with_refusal(pusher, &row, config(pusher, &row, &name)?).await?).await? {
            Put::Written { digest } => {
                return sources::edge_confirmed(&pusher.pool, id, row.revision, digest.as_deref())
                    .await
                    .map_err(query_failed);
            }
            Put::NameTaken => {
                return Err(format!(
                    "name_taken: the edge already has a different source named {name}. If that source was just deleted, \
                     this one becomes active automatically; otherwise delete the other source, or create this one with \
                     a different name",
                ));
            }
            Put::OlderRevision { held: newer } => held = newer,
        }
        match sources::raise_to(&pusher.pool, id, after(held)).await.map_err(query_failed)? {
            Some(raised) => row = raised,
            // The source was deleted in the meantime.
            None => return Ok(()),
        }
    }
    Err(format!(
        "older_revision: the edge has the newer revision {held}, because the source is being changed concurrently; \
         the relay retries"
    ))
}

/// The configuration with the time until which the edge refuses the events of the customer. It is read after the row: a
/// change of the time raises the revision, so a newer time with this revision is written again with the next one.
pub async fn with_refusal(pusher: &Pusher, row: &SourceRow, config: SourceConfig) -> Result<SourceConfig, String> {
    let until = customer_rates::refused_until(&pusher.pool, row.customer_id).await.map_err(query_failed)?;
    Ok(SourceConfig { refused_until: until.map(unix_time::unix_ms), ..config })
}

/// The first revision after one that the edge holds.
#[must_use]
pub fn after(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX).saturating_add(1)
}

fn query_failed(error: store::Error) -> String {
    format!("the database query failed: {error}")
}

/// The configuration with which the edge verifies a source's requests. `name` is its name at the edge.
///
/// # Errors
/// Returns why there is none, as a text.
pub fn config(pusher: &Pusher, row: &SourceRow, name: &str) -> Result<SourceConfig, String> {
    let id = row.id;
    let provider = provider::find(&row.provider).ok_or_else(|| {
        format!(
            "this relay does not know the provider {}; upgrade it, or change the provider of the source",
            row.provider
        )
    })?;
    let secrets = secrets::open_source_secrets(&pusher.config.master_keys, row)?;
    let new = NewSource {
        id,
        name,
        revision: u64::try_from(row.revision).map_err(|error| error.to_string())?,
        secrets: &secrets.active,
        config: &row.config,
        max_body_bytes: pusher.config.max_body_bytes,
    };
    let resolved = provider.resolve(new);
    let config =
        resolved.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    Ok(SourceConfig { retired_secrets: secrets.retired, ..config })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_put_that_panics_fails_with_the_text_of_the_panic() {
        let source = SourceId::mint(1, [1; 10]);
        let outcome = in_time(source, async { panic!("its secret") }).await;
        assert_eq!(outcome, Err("the relay panicked: its secret".to_owned()));
        assert_eq!(in_time(source, async { Ok(()) }).await, Ok(()));
    }
}
