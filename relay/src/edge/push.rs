//! Puts a source to the edge: resolves its provider into what the edge verifies by.

use std::time::Duration;

use shared::id::SourceId;
use shared::provider::{self, NewSource};
use shared::source::SourceConfig;

use crate::store::sources::{self, SourceRow};
use crate::{App, secrets};

/// How long a change waits for the edge before it says that it is pending.
const PATIENCE: Duration = Duration::from_secs(4);

/// Puts the present revision of a source to the edge, and notes in its row how that went.
///
/// # Errors
/// Why the edge does not have it yet, for a person.
pub async fn push(app: &App, row: &SourceRow) -> Result<(), String> {
    let id = SourceId::from_uuid(row.id);
    let result = match config(app, row) {
        Ok(config) => match tokio::time::timeout(PATIENCE, app.edge.put_source(&config)).await {
            Ok(result) => result,
            Err(_) => Err(format!("the edge did not answer within {} s", PATIENCE.as_secs())),
        },
        Err(problem) => Err(problem),
    };
    let noted = match &result {
        Ok(()) => sources::edge_confirmed(&app.pool, id, row.revision).await.map(drop),
        Err(problem) => sources::edge_failed(&app.pool, id, row.revision, problem).await,
    };
    noted.map_err(|error| format!("the database cannot be asked: {error}"))?;
    result
}

/// What the edge verifies a source's requests by.
///
/// # Errors
/// Why there is no such thing, for a person.
pub fn config(app: &App, row: &SourceRow) -> Result<SourceConfig, String> {
    let id = SourceId::from_uuid(row.id);
    let provider = provider::find(&row.provider).ok_or_else(|| format!("no provider is called {}", row.provider))?;
    let secrets = secrets::open_source_secrets(&app.config.master_keys, row)?;
    let new = NewSource {
        id,
        name: &row.name,
        revision: u64::try_from(row.revision).map_err(|error| error.to_string())?,
        secrets: &secrets.active,
        config: &row.config,
        max_body_bytes: app.config.max_body_bytes,
    };
    let resolved = provider.resolve(new);
    let config =
        resolved.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    Ok(SourceConfig { retired_secrets: secrets.retired, ..config })
}
