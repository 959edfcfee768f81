//! The benchmarks: what is measured, a file per case, and what they share.
//!
//! Every case starts what it needs (a PostgreSQL of its own, the local queue, relays, receivers), stops all of it, and
//! takes a bounded time. Load is open-loop: an event has a time at which it is meant to be sent, whether or not the one
//! before has come through, and latency counts from there.

pub mod case;
pub mod figure;
pub mod limits;
pub mod load;
pub mod machine;
pub mod meter;
pub mod options;
pub mod pairs;
pub mod run;
pub mod sink;
pub mod stack;
