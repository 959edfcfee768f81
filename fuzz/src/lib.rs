//! The bodies of the fuzz targets, one function each. They accept any bytes and return whether the parser accepted
//! them. They panic if the parser panics, if a value does not survive being written and read again, and if the parser
//! accepts input that a plain second reading of the same format refuses.
//!
//! `cargo fuzz run <name>` feeds them without end (`fuzz/fuzz_targets`). `shared/tests/fuzz.rs` includes this file as a
//! module and feeds them the corpus and a bounded number of changes of it with every run of the tests.

mod envelope;
mod extraction;
mod keys;
mod plain;
mod plain_reader;
mod reader;
mod request;
mod signature;
mod texts;
mod token;
mod wire;

pub use envelope::envelope;
pub use extraction::extraction;
pub use keys::keys;
pub use reader::reader;
pub use request::{request, scheme};
pub use signature::signature;
pub use texts::{id, template};
pub use token::token;
