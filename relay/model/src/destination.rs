//! A destination and its limits.

use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use shared::id::{CustomerId, DestinationId};
use time::OffsetDateTime;
use url::Url;
use utoipa::ToSchema;

use crate::retry_policy::RetryPolicy;
use crate::signing::SigningSecrets;
use crate::unix_time::unix_us;

/// The longest URL of a destination, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;

/// A destination with everything that the engine needs to deliver to it.
#[derive(Debug)]
pub struct Destination {
    pub id: DestinationId,
    pub customer_id: CustomerId,
    pub name: String,
    pub url: Url,
    pub shard: i16,
    pub signing_secrets: SigningSecrets,
    pub headers: HeaderMap,
    pub rate: Option<Rate>,
    pub max_concurrency: usize,
    pub timeout: Duration,
    pub retry: RetryPolicy,
    /// Whether the query of the event's request is appended to `url`.
    pub append_query: bool,
    pub state: DestinationState,
    pub state_changed_at: OffsetDateTime,
    /// When its URL last changed to another scheme, host or port.
    pub moved_at: OffsetDateTime,
}

impl Destination {
    /// Since when the learned state of it is valid, Unix time in microseconds: the last change of its address or its
    /// state.
    #[must_use]
    pub fn learned_since_us(&self) -> u64 {
        unix_us(self.moved_at.max(self.state_changed_at))
    }
}

/// The maximum number of deliveries to a destination in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub limit: NonZeroU32,
    pub per: Duration,
}

impl Rate {
    /// The period's name in the API and the tables.
    #[must_use]
    pub fn per_name(self) -> &'static str {
        match self.per.as_secs() {
            1 => "second",
            60 => "minute",
            _ => "hour",
        }
    }
}

/// The state of a destination. `active`: deliveries are sent. `paused`: paused by an operator; deliveries are held.
/// `disabled`: disabled by Tidegate, because it returned 410 or because all attempts have failed for five days (at
/// least ten); deliveries are held until it is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DestinationState {
    /// Deliveries are sent.
    Active,
    /// Paused by an operator. Deliveries are held.
    Paused,
    /// Disabled by Tidegate, because it returned 410 or because all attempts have failed for five days (at least ten).
    /// Deliveries are held.
    Disabled,
}

crate::names! {
    DestinationState {
        Active => "active",
        Paused => "paused",
        Disabled => "disabled",
    }
}
