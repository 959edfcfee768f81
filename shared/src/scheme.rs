//! The rule language: how a provider signs, and how it tests a URL, as data.
//!
//! The relay's catalogue is written in it. [`verify`](crate::verify) interprets it, at the edge and in the relay.

pub mod each;
pub mod handshake;
pub mod host;
pub mod jwt;
pub mod key_encoding;
pub mod reference;
pub mod rule;
pub mod template;
pub mod url_form;

mod credentials;
mod pointer;

pub use rule::Scheme;
