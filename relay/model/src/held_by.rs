//! Why a delivery is held individually, as opposed to together with all deliveries to its destination.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a delivery is held individually. `filter`: the filter of the route could not be evaluated, so it is unknown
/// whether the delivery should be sent. `order_key`: the order key of the route could not be evaluated. `transform`:
/// the transform of the route fails, or could not be evaluated in time on several tries. `url`: the destination's URL
/// cannot be requested. `body`: the event's body is no longer available. `attempt`: the outcome of the last attempt
/// could not be stored. `route`: the route was deleted or changed, and the transform that was current when the delivery
/// was created is no longer known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// The filter of the route could not be evaluated, so it is unknown whether the delivery should be sent.
    Filter,
    /// The order key of its route could not be evaluated.
    OrderKey,
    /// The transform of the route fails, or could not be evaluated in time on several tries.
    Transform,
    /// The URL of the destination cannot be requested.
    Url,
    /// The body of the event is no longer available.
    Body,
    /// The outcome of its last attempt could not be stored.
    Attempt,
    /// The route was deleted or changed, and the transform that was current when the delivery was created is no longer
    /// known.
    Route,
}

impl HeldBy {
    /// All causes.
    pub const ALL: [Self; 7] =
        [Self::Filter, Self::OrderKey, Self::Transform, Self::Url, Self::Body, Self::Attempt, Self::Route];

    /// Its name in the tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::OrderKey => "order_key",
            Self::Transform => "transform",
            Self::Url => "url",
            Self::Body => "body",
            Self::Attempt => "attempt",
            Self::Route => "route",
        }
    }

    /// The cause with this name in the tables; `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.name() == name)
    }
}
