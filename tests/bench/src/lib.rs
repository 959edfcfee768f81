//! The benchmarks: one file per case, and the code that they share.
//!
//! Every case starts what it needs (its own PostgreSQL, the local queue, relays, receivers), stops all of it, and takes
//! a bounded time. The load is open: an event is sent at its scheduled time even if earlier events have not been
//! delivered, and its latency counts from that time.

pub mod calls;
pub mod case;
pub mod figure;
pub mod history;
pub mod limits;
pub mod load;
pub mod machine;
pub mod meter;
pub mod options;
pub mod pairs;
pub mod run;
pub mod sink;
pub mod stack;
