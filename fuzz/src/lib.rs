//! The bodies of the fuzz targets, one function each. They take any bytes, answer whether the parser accepted them, and
//! panic where it panics, where something does not survive being written and read again, and where it accepts what a plain
//! second reading of the same format refuses.
//!
//! `cargo fuzz run <name>` feeds them without end (`fuzz/fuzz_targets`); `shared/tests/fuzz.rs` holds this same file as a
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
