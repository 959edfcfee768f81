//! Deletes a large body from the edge's storage after the relay has stored it.

use shared::id::EventId;
use store::Pool;

use crate::edge::Edge;

/// Deletes the body at `key` if the row of `event` exists. A body that is left behind only costs storage: the bucket's
/// lifecycle rule deletes it.
///
/// The body of a copy is left. If the queue leases the message of the copy again, no row shows that the message was
/// handled, and without its body the message would be kept as unreadable.
pub(crate) async fn delete_if_stored(edge: &Edge, pool: &Pool, event: EventId, key: &str) {
    if !store::admit::is_stored(pool, event).await.unwrap_or(false) {
        return;
    }
    if let Err(error) = edge.delete_body(key).await {
        tracing::warn!(
            key,
            error,
            "could not delete a stored body from the edge; the bucket's lifecycle rule deletes it"
        );
    }
}
