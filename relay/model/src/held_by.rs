//! What holds a delivery by itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What holds a delivery by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// The filter of its route could not be evaluated, so it is unknown whether it is to be sent.
    Filter,
    /// The order key of its route could not be evaluated.
    OrderKey,
    /// The transform of its route fails, or repeatedly was not evaluated in time.
    Transform,
    /// No request can be made from the URL of its destination.
    Url,
    /// The body of its event is no longer kept.
    Body,
    /// The outcome of its last attempt could not be stored.
    Attempt,
    /// Its route was deleted or changed, and the transform that it was routed with is unknown.
    Route,
}

impl HeldBy {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Filter, Self::OrderKey, Self::Transform, Self::Url, Self::Body, Self::Attempt, Self::Route];

    /// As the tables name it.
    #[must_use]
    pub fn name(self) -> &'static str {
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

    /// From its name in the tables.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|by| by.name() == name).unwrap_or(Self::Transform)
    }
}
