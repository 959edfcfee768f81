//! The parts that the edge and the relay must agree on: how a webhook is verified, the messages of the queue, how a
//! delivery is signed, and the form of ids.
//!
//! Everything here is a pure function of its arguments. It may not read a clock, draw randomness, do I/O, or depend on
//! tokio, worker or sqlx: `now` and random bytes are arguments. So the same code runs in a wasm isolate at the edge, in
//! the relay, and in native tests against published vectors.

mod checksum;
pub mod decision;
pub mod envelope;
pub mod extract;
pub mod handshake;
pub mod header;
pub mod id;
pub mod job;
pub mod provider;
pub mod reader;
pub mod sample;
pub mod scheme;
pub mod seal;
pub mod secret;
pub mod sign;
pub mod source;
pub mod verify;
