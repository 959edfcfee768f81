//! Seals every stored secret again with the first master key.

use store::operations::Place;
use store::sealed::{self, Resealed as Chunk, SealedRow, Table};

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
    let step = place.step.as_str();
    let table = Table::from_name(step);
    let table = table.ok_or_else(|| format!("this relay does not know the step {step}; a newer relay has begun it"))?;
    let reseal = |page: Vec<SealedRow>| {
        let mut chunk = Chunk::default();
        for row in page {
            let [secrets, more] = secrets::reseal_row(keys, table, &row);
            let mut new = row;
            let is_changed = [
                note(&mut chunk, secrets, |text| new.secrets = text),
                note(&mut chunk, more, |text| new.more = Some(text)),
            ];
            chunk.changed.extend(is_changed.contains(&true).then_some(new));
        }
        chunk
    };
    sealed::reseal(&app.pool, place, table, limit, reseal, failed).await.map_err(|error| error.to_string())
}

/// Counts a value, and passes it to `change` if it was sealed again. Returns whether it was.
fn note(chunk: &mut Chunk, value: Option<Resealed>, change: impl FnOnce(String)) -> bool {
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
