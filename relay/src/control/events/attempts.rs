//! The attempts of the deliveries of one event, together.

use std::collections::HashMap;

use shared::id::DeliveryId;
use store::deliveries;
use time::OffsetDateTime;

use super::EventDetail;
use crate::control::{Actor, Control, Error, Scope};

/// The most deliveries of an event whose attempts are read together: the newest ones.
pub const DELIVERIES_WITH_ATTEMPTS: u16 = 20;

/// The most attempts of an event that are read together: the newest ones.
pub(crate) const ATTEMPTS_TOGETHER: u16 = 200;

/// How much of each response is read with them, in characters.
pub(crate) const RESPONSE_CHARACTERS: i32 = 2_000;

/// An attempt of a delivery of an event.
#[derive(Debug, Clone)]
pub struct EventAttempt {
    pub number: i16,
    pub started_at: OffsetDateTime,
    pub latency_ms: i32,
    /// The status of the response; `None` if there was none.
    pub status: Option<i16>,
    /// The error class; `None` if the attempt succeeded.
    pub error: Option<String>,
    pub detail: Option<String>,
    /// The beginning of the body of the response.
    pub response: Option<String>,
    /// How many characters of the response are stored and not read.
    pub response_cut: i32,
    pub location: Option<String>,
}

/// The attempts of the deliveries of an event.
#[derive(Debug, Default)]
pub struct EventAttempts {
    /// The attempts of each delivery, oldest first.
    pub of: HashMap<DeliveryId, Vec<EventAttempt>>,
    /// The present URL of the destination of each delivery whose destination can be used.
    pub urls: HashMap<DeliveryId, String>,
    /// Whether only the newest attempts were read.
    pub is_cut: bool,
}

/// The attempts of the newest deliveries of an event, by one query.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn attempts(control: &Control, actor: &Actor, event: &EventDetail) -> Result<EventAttempts, Error> {
    actor.require(Scope::Read)?;
    let shown = event.deliveries.iter().take(DELIVERIES_WITH_ATTEMPTS.into());
    let ids: Vec<DeliveryId> = shown.clone().map(|delivery| delivery.id).collect();
    let limit = i64::from(ATTEMPTS_TOGETHER) + 1;
    let mut rows = deliveries::attempts_of(&control.pool, &ids, RESPONSE_CHARACTERS, limit).await?;
    let is_cut = rows.len() > usize::from(ATTEMPTS_TOGETHER);
    if is_cut {
        rows.remove(0);
    }
    let mut of: HashMap<DeliveryId, Vec<EventAttempt>> = HashMap::new();
    for row in rows {
        of.entry(row.delivery_id).or_default().push(EventAttempt {
            number: row.number,
            started_at: row.started_at,
            latency_ms: row.latency_ms,
            status: row.status,
            error: row.error,
            detail: row.detail,
            response_cut: (row.response_characters - RESPONSE_CHARACTERS).max(0),
            response: row.response_excerpt,
            location: row.location,
        });
    }
    let snapshot = control.configuration.current();
    let url = |id| snapshot.destinations.get(&id).map(|destination| destination.url.to_string());
    let urls = shown.filter_map(|delivery| Some((delivery.id, url(delivery.destination_id)?))).collect();
    Ok(EventAttempts { of, urls, is_cut })
}
