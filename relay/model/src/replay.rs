//! The state of a replay.

use serde::Serialize;

/// The state of a replay. `running`: it is creating deliveries. `paused`: a caller has paused it. `completed`: it has created all of its deliveries.
/// `cancelled`: it was cancelled, or its destination was deleted. `failed`: Tidegate stopped it; see `error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It is creating deliveries.
    Running,
    /// A caller has paused it.
    Paused,
    /// It has created all of its deliveries.
    Completed,
    /// It was cancelled, or its destination was deleted.
    Cancelled,
    /// Tidegate stopped it.
    Failed,
}

crate::names! {
    ReplayState {
        Running => "running",
        Paused => "paused",
        Completed => "completed",
        Cancelled => "cancelled",
        Failed => "failed",
    }
}
