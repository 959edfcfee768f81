//! The benchmarks' parts: a load generator, the edge in bare workerd, the relay end to end, and what machine it ran on.

pub mod edge;
pub mod load;
pub mod machine;
pub mod relay;
