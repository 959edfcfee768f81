//! The kind and the state of an operation.

use serde::{Deserialize, Serialize};

/// What an operation does. `delete_customer`: it deletes what a customer owned. `reseal`: it encrypts every stored
/// secret with the first master key. `retry_deliveries`, `cancel_deliveries` and `release_deliveries`: it retries,
/// cancels or releases deliveries. `replay` and `release_events`: it is a replay, and `release_events` is one that
/// releases events from quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// It deletes what a customer owned.
    DeleteCustomer,
    /// It encrypts every stored secret with the first master key.
    Reseal,
    /// It makes settled deliveries pending again.
    RetryDeliveries,
    /// It cancels pending and held deliveries.
    CancelDeliveries,
    /// It releases deliveries that are held individually.
    ReleaseDeliveries,
    /// It releases events from quarantine. It is stored as a replay.
    ReleaseEvents,
    /// It is any other replay. It is stored as a replay.
    Replay,
}

crate::names! {
    OperationKind {
        DeleteCustomer => "delete_customer",
        Reseal => "reseal",
        RetryDeliveries => "retry_deliveries",
        CancelDeliveries => "cancel_deliveries",
        ReleaseDeliveries => "release_deliveries",
        ReleaseEvents => "release_events",
        Replay => "replay",
    }
}

/// The state of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// It is being worked on.
    Running,
    /// It is a replay that a caller has paused.
    Paused,
    /// It has done all of its work.
    Completed,
    /// A caller has cancelled it.
    Cancelled,
    /// It has ended and could not do all of its work.
    Failed,
}

crate::names! {
    OperationState {
        Running => "running",
        Paused => "paused",
        Completed => "completed",
        Cancelled => "cancelled",
        Failed => "failed",
    }
}
