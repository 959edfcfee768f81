//! The harness: real workerd, real PostgreSQL, real sockets. The tests in `tests/it`, `cargo dev` (`tests/dev`) and the
//! benchmarks (`tests/bench`) are built on it.
//!
//! In the order of the data: [`provider`] signs requests as Stripe and the other providers do ([`mac`]), [`edge`] runs
//! the Worker, [`queue`] is the local queue, [`postgres`] the database, [`relay`] the relay's program with its [`api`],
//! [`browser`] keeps cookies, [`chromium`] shows pages, [`receiver`] is a destination, [`raw_receiver`] a destination that violates HTTP.
//! [`gateway`] starts all of them for a test. They are built on [`tools`] (installs and builds what they need),
//! [`process`], [`memory`], [`server`] and [`wait`]. [`page`] reads the commands of a page of the documentation, and
//! [`terminal`] runs them.

pub mod api;
pub mod browser;
pub mod chromium;
pub mod clock;
pub mod edge;
pub mod error;
pub mod gateway;
pub mod identity_provider;
pub mod internet;
pub mod mac;
pub mod memory;
pub mod mint;
pub mod page;
pub mod place;
pub mod postgres;
pub mod process;
pub mod provider;
pub mod proxy;
pub mod queue;
pub mod random;
pub mod raw_receiver;
pub mod receiver;
pub mod relay;
pub mod server;
pub mod stream;
pub mod terminal;
pub mod tools;
pub mod wait;

pub use error::{Error, Result};
