//! Writes how destinations take what they are sent, so that every replica can say it.

use std::collections::HashMap;
use std::time::Duration;

use shared::id::DestinationId;
use tokio::sync::mpsc;

use super::core::Health;
use crate::store::Pool;
use crate::store::destination_health;

/// The most rows of one statement.
const BATCH: usize = 1_000;

/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes reports until the channel closes; of one destination only the newest.
pub async fn run(pool: Pool, mut inbox: mpsc::UnboundedReceiver<Health>) {
    let mut waiting: HashMap<DestinationId, Health> = HashMap::new();
    loop {
        let mut arrived = Vec::new();
        if waiting.is_empty() {
            inbox.recv_many(&mut arrived, BATCH).await;
            if arrived.is_empty() {
                return;
            }
        }
        while let Ok(health) = inbox.try_recv() {
            arrived.push(health);
        }
        waiting.extend(arrived.into_iter().map(|health| (health.destination, health)));
        let batch: Vec<&Health> = waiting.values().take(BATCH).collect();
        match destination_health::write(&pool, &batch).await {
            Ok(()) => {
                for id in batch.iter().map(|health| health.destination).collect::<Vec<_>>() {
                    waiting.remove(&id);
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot write how destinations do; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
