//! Scopes: what a caller may do.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a token or a session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// See metadata.
    Read,
    /// See the bodies of events and the bytes of unreadable messages.
    Bodies,
    /// Change sources, destinations and routes.
    Write,
    /// Retry, release, replay and cancel.
    Replay,
    /// See and rotate the signing secrets of destinations.
    Secrets,
    /// Manage customers, tokens and operations, and erase the bodies of events.
    Admin,
}

crate::names! {
    Scope {
        Read => "read",
        Bodies => "bodies",
        Write => "write",
        Replay => "replay",
        Secrets => "secrets",
        Admin => "admin",
    }
}
