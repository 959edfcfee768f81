//! What a destination has got lately: its newest deliveries, and the results of their attempts.

use store::deliveries::{self, ResultRow};

use super::{Delivery, DeliveryFilter};
use crate::control::destinations::find;
use crate::control::page::PageRequest;
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, Error, Scope};

/// How many of the newest deliveries are read.
pub(crate) const MOST_DELIVERIES: u32 = 100;

/// The most results by which the attempts of these deliveries are counted.
pub(crate) const MOST_RESULTS: i64 = 20;

/// The newest deliveries of a destination.
#[derive(Debug)]
pub struct RecentDeliveries {
    /// The newest deliveries, newest first.
    pub deliveries: Vec<Delivery>,
    /// Their attempts by result, the most frequent first.
    pub results: Vec<AttemptResult>,
}

/// The attempts with the same result.
#[derive(Debug)]
pub struct AttemptResult {
    /// The error class; `None` if they succeeded.
    pub error: Option<String>,
    /// The status of the response; `None` if there was none.
    pub status: Option<i16>,
    pub count: i64,
    /// When the last of them started.
    pub last_at: Timestamp,
}

/// The newest deliveries of a destination, and the results of their attempts.
///
/// # Errors
/// Returns an error if the destination does not exist, or if a query fails.
pub async fn recent(control: &Control, actor: &Actor, id: &str) -> Result<RecentDeliveries, Error> {
    actor.require(Scope::Read)?;
    let id = find(control, actor, id).await?.id;
    let filter = DeliveryFilter { destination: Some(id.to_string()), ..DeliveryFilter::default() };
    let newest = PageRequest { limit: Some(MOST_DELIVERIES), cursor: None };
    let found = super::list(control, actor, filter, &newest).await?.data;
    let attempted: Vec<_> = found.iter().filter(|delivery| delivery.attempts > 0).map(|delivery| delivery.id).collect();
    let results = deliveries::results(&control.pool, &attempted, MOST_RESULTS).await?;
    Ok(RecentDeliveries { deliveries: found, results: results.into_iter().map(view).collect() })
}

fn view(row: ResultRow) -> AttemptResult {
    let ResultRow { error, status, count, last_at } = row;
    AttemptResult { error, status, count, last_at: Timestamp(last_at) }
}
