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

crate::names! {
    HeldBy {
        Filter => "filter",
        OrderKey => "order_key",
        Transform => "transform",
        Url => "url",
        Body => "body",
        Attempt => "attempt",
        Route => "route",
    }
}
