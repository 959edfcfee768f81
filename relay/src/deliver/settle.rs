//! Collects settlements and writes them in batches: one transaction for many attempts.

use std::sync::Arc;
use std::time::Duration;

use engine::retry::database_backoff;
use model::held_by::HeldBy;
use model::settlement::{Next, Settlement};
use store::Pool;
use store::partitions::with_partitions;
use store::settle::{Settled, settle};
use tokio::sync::mpsc;

use crate::mint;

/// Why a delivery is held if the database refuses its outcome.
const NOT_STORABLE: &str = "the outcome of the last attempt could not be stored; the destination may have received it. \
                            Release the delivery to send it again, or cancel it";

/// How long the first settlement of a batch waits for others.
pub(crate) const LINGER: Duration = Duration::from_millis(5);

/// The most settlements in one transaction.
pub(crate) const BATCH: usize = 500;

/// Writes batches until the channel closes, and reports each batch that was written. While the database does not
/// respond, it keeps the batch and retries, so that no outcome is lost.
///
/// `written` gets each batch, with the settlements that took effect and the time at which they did.
pub async fn run(
    pool: Pool,
    mut inbox: mpsc::UnboundedReceiver<Settlement>,
    written: impl Fn(Vec<Settlement>, &Settled),
) {
    while let Some(first) = inbox.recv().await {
        let mut batch = vec![first];
        let deadline = tokio::time::Instant::now() + LINGER;
        while batch.len() < BATCH {
            match tokio::time::timeout_at(deadline, inbox.recv()).await {
                Ok(Some(settlement)) => batch.push(settlement),
                Ok(None) | Err(_) => break,
            }
        }
        let settled = write(&pool, &batch).await;
        written(batch, &settled);
    }
}

async fn write(pool: &Pool, batch: &[Settlement]) -> Settled {
    let mut backoff = database_backoff();
    loop {
        // It can be repeated: attempts are identified by their ids, and a settlement names the state that it settles.
        let written: store::Result<_> = async { with_partitions!(pool, settle(pool, batch)) }.await;
        match written {
            Ok(settled) => {
                let lost = batch.iter().filter(|settlement| !settled.has(settlement)).count();
                if lost > 0 {
                    tracing::info!(
                        lost,
                        "the outcomes of some attempts were discarded, because their shard has a new owner or their \
                         delivery was cancelled"
                    );
                }
                return settled;
            }
            Err(error) if error.is_data_error() && batch.len() > 1 => {
                // A row that the database refuses must not hold up the others.
                tracing::error!(
                    %error,
                    "the database rejected the outcomes of a batch of attempts; storing them one by one"
                );
                let mut settled = Settled::default();
                for settlement in batch {
                    settled.add(Box::pin(write(pool, std::slice::from_ref(settlement))).await);
                }
                return settled;
            }
            Err(error) if error.is_data_error() && batch.iter().any(|row| row.attempt.is_some()) => {
                // If it stayed as it is, it would be sent again and again. So it waits for an operator.
                tracing::error!(
                    %error,
                    delivery = %batch[0].delivery_id,
                    "the database rejected the outcome of an attempt; its delivery is held"
                );
                let (by, reason) = (HeldBy::Attempt, NOT_STORABLE.to_owned());
                let held =
                    Settlement { attempt: None, frees_key: false, next: Next::Held { by, reason }, ..batch[0].clone() };
                return Box::pin(write(pool, &[held])).await;
            }
            Err(error) => {
                tracing::warn!(%error, attempts = batch.len(), "could not store the outcomes of attempts; retrying");
                tokio::time::sleep(backoff.next_pause(mint::jitter())).await;
            }
        }
    }
}

/// The two ends of the channel to [`run`].
#[must_use]
pub fn channel() -> (Arc<mpsc::UnboundedSender<Settlement>>, mpsc::UnboundedReceiver<Settlement>) {
    // Not bounded here: the engine bounds the number of unsettled attempts, and must never wait for the writer.
    let (sender, receiver) = mpsc::unbounded_channel();
    (Arc::new(sender), receiver)
}
