//! Seals every stored secret again with the first master key.

use store::operations::Place;
use store::sealed::{self, Resealed as Chunk, SealedDestination, SealedSource};

use super::rows_of;
use crate::App;
use crate::secrets::{self, Resealed};

/// The most sources or destinations of one chunk. While it runs, nothing else changes the configuration and no event is
/// stored, so it is short.
pub(crate) const AT_ONCE: i64 = 100;

/// Works on one chunk.
///
/// # Errors
/// Returns why the chunk failed.
pub(super) async fn turn(app: &App, place: &Place) -> Result<(), String> {
    let keys = app.config.master_keys.as_slice();
    let limit = rows_of(place.tries).min(AT_ONCE);
    let done = match place.step.as_str() {
        sealed::SOURCES => {
            let reseal = |page: Vec<SealedSource>| {
                let mut chunk = Chunk { changed: Vec::new(), values: 0, closed: 0 };
                for row in page {
                    let [active, retired] = secrets::reseal_source(keys, &row);
                    let mut new = row.clone();
                    let is_changed = [
                        note(&mut chunk, active, |text| new.secrets_sealed = text),
                        note(&mut chunk, retired, |text| new.retired_secrets_sealed = Some(text)),
                    ];
                    chunk.changed.extend(is_changed.contains(&true).then_some(new));
                }
                chunk
            };
            sealed::reseal_sources(&app.pool, place, limit, reseal).await
        }
        sealed::DESTINATIONS => {
            let reseal = |page: Vec<SealedDestination>| {
                let mut chunk = Chunk { changed: Vec::new(), values: 0, closed: 0 };
                for row in page {
                    let [signing, headers] = secrets::reseal_destination(keys, &row);
                    let mut new = row.clone();
                    let is_changed = [
                        note(&mut chunk, signing, |text| new.signing_secrets_sealed = text),
                        note(&mut chunk, headers, |text| new.headers_sealed = Some(text)),
                    ];
                    chunk.changed.extend(is_changed.contains(&true).then_some(new));
                }
                chunk
            };
            sealed::reseal_destinations(&app.pool, place, limit, reseal, failed).await
        }
        other => return Err(format!("this relay does not know the step {other}; a newer relay has begun it")),
    };
    done.map_err(|error| error.to_string())
}

/// Counts a value, and passes it to `change` if it was sealed again. Returns whether it was.
fn note<T>(chunk: &mut Chunk<T>, value: Option<Resealed>, change: impl FnOnce(String)) -> bool {
    chunk.values += i64::from(value.is_some());
    match value {
        Some(Resealed::Again(text)) => {
            change(text);
            true
        }
        Some(Resealed::Closed(error)) => {
            tracing::warn!(error, "a stored secret cannot be decrypted, so it was not encrypted again");
            chunk.closed += 1;
            false
        }
        Some(Resealed::Current) | None => false,
    }
}

fn failed(closed: i64) -> String {
    format!(
        "no key in TIDEGATE_MASTER_KEY decrypts {closed} of the values, so they were not encrypted again; append the key \
         with which they were encrypted, or replace these secrets, and start the operation again. `tidegate doctor` \
         counts them"
    )
}
