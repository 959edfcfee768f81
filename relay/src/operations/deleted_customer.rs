//! Deletes what a deleted customer owned.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use shared::id::{CustomerId, SourceId};
use store::deleted_customers::{self, Deleting, LATE, Step, Tombstone};
use store::operations::{self, Chunk, Next, Place};
use store::{Constraint, Kind, edge_checks};
use uuid::Uuid;

use super::rows_of;
use crate::App;
use crate::edge::push;
use crate::edge::source::Deletion;

/// How many sources one turn deletes at the edge.
const SOURCES_AT_ONCE: i64 = 20;

/// How soon it is checked again whether all deliveries have been cancelled.
const PENDING_INTERVAL: Duration = Duration::from_millis(500);

/// How long the last step waits before it deletes again what a relay of an older version has created meanwhile: such a
/// relay may create more of it until it has been replaced.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The parameters of the operation.
#[derive(Deserialize)]
struct Parameters {
    customer_id: CustomerId,
}

/// Works on one chunk.
///
/// # Errors
/// Returns why the chunk failed.
pub(super) async fn turn(app: &App, place: &Place) -> Result<(), String> {
    let Parameters { customer_id: customer } = serde_json::from_value(place.parameters.clone())
        .map_err(|error| format!("cannot read its parameters: {error}"))?;
    let step = Step::from_name(&place.step).ok_or("this relay does not know the step; a newer relay has begun it")?;
    if step == Step::Edge {
        return delete_at_edge(app, place).await;
    }
    let deleting = Deleting { operation: place.id, customer };
    match chunk(app, place, deleting, step).await {
        // A call that was in progress has created something since, or a relay of a version that does not know deleted
        // customers has.
        Err(error) if step == Step::Customer && error.kind() == Kind::Conflict(Constraint::Reference) => {
            let cause = format!("something of the customer was created after its deletion; deleting it too: {error}");
            let version = deleted_customers::delete_again(&app.pool, place, deleting, &cause, AGAIN_AFTER)
                .await
                .map_err(|error| error.to_string())?;
            tracing::warn!(operation = %place.id, error = cause, "the deletion of a customer is repeated");
            if version.is_some() {
                app.wakers.deletions.notify_one();
                app.configuration.refresh().await.map_err(|error| error.to_string())?;
            }
            Ok(())
        }
        Err(error) => Err(error.to_string()),
        Ok(Some(true)) => {
            let operation = place.id;
            tracing::info!(%operation, "everything that a deleted customer owned has been deleted");
            Ok(())
        }
        Ok(Some(false) | None) => Ok(()),
    }
}

/// Takes one chunk. Returns whether it was the last one; `None` if another replica works on the operation.
async fn chunk(app: &App, place: &Place, deleting: Deleting, step: Step) -> store::Result<Option<bool>> {
    let Some(mut chunk) = Chunk::begin(&app.pool, place).await? else { return Ok(None) };
    let wait = |wait| Next { step: step.name(), cursor: place.cursor, processed: 0, failed: 0, wait };
    let limit = rows_of(place.tries);
    let walked = if step == Step::Late {
        let rest = LATE.as_secs_f64() - place.age_s;
        if rest > 0.0 {
            chunk.commit(&wait(Duration::from_secs_f64(rest))).await?;
            return Ok(Some(false));
        }
        deleted_customers::late(&mut chunk, deleting, place.created_at, place.cursor, limit).await?
    } else {
        match deleted_customers::take(&mut chunk, deleting, step, place.cursor, limit, &source_of).await? {
            Some(walked) => walked,
            None => {
                chunk.commit(&wait(PENDING_INTERVAL)).await?;
                return Ok(Some(false));
            }
        }
    };
    let next = match (walked.cursor, step.next()) {
        (Some(_), _) => step,
        (None, Some(next)) => next,
        (None, None) => {
            chunk.finish(walked.deleted, None).await?;
            return Ok(Some(true));
        }
    };
    let next =
        Next { step: next.name(), cursor: walked.cursor, processed: walked.deleted, failed: 0, wait: Duration::ZERO };
    chunk.commit(&next).await?;
    Ok(Some(false))
}

/// Deletes the next sources at the edge, so that it accepts nothing more for them. Deleting one twice has no effect.
async fn delete_at_edge(app: &App, place: &Place) -> Result<(), String> {
    let failed = |error: store::Error| error.to_string();
    let sources =
        deleted_customers::tombstones(&app.pool, place.id, place.cursor, SOURCES_AT_ONCE).await.map_err(failed)?;
    for source in &sources {
        delete_source(app, *source).await?;
    }
    let is_full = i64::try_from(sources.len()).is_ok_and(|count| count >= SOURCES_AT_ONCE);
    let cursor = sources.last().filter(|_| is_full).map(|source| source.id.uuid());
    let step = if cursor.is_some() { Step::Edge } else { Step::Pending };
    let next = Next { step: step.name(), cursor, processed: 0, failed: 0, wait: Duration::ZERO };
    operations::move_on(&app.pool, place, &next).await.map_err(failed)
}

async fn delete_source(app: &App, Tombstone { id, revision }: Tombstone) -> Result<(), String> {
    let _turn = app.edge.turn(id).await;
    let delete = async |revision: i64| {
        let deleted = app.edge.delete_source(id, u64::try_from(revision).unwrap_or(0)).await;
        deleted.map_err(|error| format!("the edge did not confirm the deletion of source {id}: {error}"))
    };
    let Deletion::OlderRevision { held } = delete(revision).await? else { return Ok(()) };
    let above = push::after(held);
    edge_checks::raise_deleted(&app.pool, id, above).await.map_err(|error| error.to_string())?;
    match delete(above).await? {
        Deletion::Done => Ok(()),
        Deletion::OlderRevision { held } => {
            Err(format!("the edge already has the newer revision {held} of source {id}"))
        }
    }
}

/// The source of an unreadable message, from its first bytes. With a content type the message may have the encoding of
/// the queue's API.
///
/// Only the first id counts. Every message of the edge names its source before anything that a sender controls, and a
/// sender may mention the source of another customer.
fn source_of(content_type: Option<&str>, head: &[u8]) -> Option<Uuid> {
    if let Some(text) = first_id(head) {
        return parsed(text);
    }
    content_type?;
    let text: Vec<u8> = head.iter().copied().filter(|byte| *byte != b'"').collect();
    let decoded = STANDARD.decode(&text[..text.len() - text.len() % 4]).ok()?;
    parsed(first_id(&decoded)?)
}

/// The first text in the header line that begins like the id of a source; what follows the line is from the sender.
fn first_id(bytes: &[u8]) -> Option<&[u8]> {
    const LENGTH: usize = SourceId::PREFIX.len() + 1 + 32;
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let begins =
        |text: &&[u8]| text.strip_prefix(SourceId::PREFIX.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'_'));
    line.windows(LENGTH).find(begins)
}

fn parsed(text: &[u8]) -> Option<Uuid> {
    Some(std::str::from_utf8(text).ok()?.parse::<SourceId>().ok()?.uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_message_is_found_in_its_plain_and_in_its_encoded_form() {
        let [one, two] = [1, 2].map(|byte| SourceId::mint(1, [byte; 10]));
        let message = format!("{{\"v\":9,\"source\":\"{one}\",\"query\":\"{two}\"}}\n{two}");
        let wanted = Some(one.uuid());
        assert_eq!(source_of(None, message.as_bytes()), wanted);
        let encoded = format!("\"{}\"", STANDARD.encode(&message));
        assert_eq!(source_of(Some("json"), encoded.as_bytes()), wanted);
        assert_eq!(source_of(Some("json"), &encoded.as_bytes()[..90]), wanted, "the beginning is enough");
        assert_eq!((source_of(None, b"src_"), source_of(Some("json"), b"")), (None, None));
    }

    #[test]
    fn a_source_that_only_the_sender_mentions_is_not_the_source_of_a_message() {
        let mentioned = SourceId::mint(1, [1; 10]);
        for message in [
            format!("{{\"v\":9}}\n{{\"source\":\"{mentioned}\"}}"),
            format!("{{\"v\":9,\"source\":\"src_{}\",\"query\":\"{mentioned}\"}}\n", "z".repeat(32)),
        ] {
            assert_eq!(source_of(None, message.as_bytes()), None, "{message}");
            assert_eq!(source_of(Some("bytes"), STANDARD.encode(&message).as_bytes()), None, "{message}");
        }
    }
}
