//! The kind and the state of an operation.

use serde::{Deserialize, Serialize};

/// What an operation does. `delete_customer`: it deletes what a customer owned. `reseal`: it encrypts every stored
/// secret with the first master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// It deletes what a customer owned.
    DeleteCustomer,
    /// It encrypts every stored secret with the first master key.
    Reseal,
}

crate::names! {
    OperationKind {
        DeleteCustomer => "delete_customer",
        Reseal => "reseal",
    }
}

/// The state of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// It is being worked on.
    Running,
    /// It has done all of its work.
    Completed,
    /// It has ended and could not do all of its work.
    Failed,
}

crate::names! {
    OperationState {
        Running => "running",
        Completed => "completed",
        Failed => "failed",
    }
}
