//! How the deliveries of an order key are treated if one of them fails.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How later deliveries with the same order key are treated while an earlier one is failing. `block`: they wait until
/// the earlier one is succeeded, dead or cancelled. `skip`: they are sent while the earlier one is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Poison {
    /// Later deliveries wait until the earlier one is succeeded, dead or cancelled.
    #[default]
    Block,
    /// They are sent while it is retried.
    Skip,
}

crate::names! {
    Poison {
        Block => "block",
        Skip => "skip",
    }
}
