//! The types that the engine, the store and the service share: plain values, and functions that need nothing but them.
//! No clock, no randomness and no I/O.

pub mod audit;
pub mod change;
pub mod delivery;
pub mod destination;
pub mod event;
pub mod failure;
pub mod health;
pub mod held_by;
pub mod lane;
mod names;
pub mod operation;
pub mod poison;
pub mod replay;
pub mod retry_policy;
pub mod scope;
pub mod session;
pub mod settlement;
pub mod signal;
pub mod signing;
pub mod unix_time;
pub mod unreadable;
