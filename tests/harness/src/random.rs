//! Fresh names and secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// 32 hexadecimal digits.
#[must_use]
pub fn text() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// The base64 of 32 bytes.
#[must_use]
pub fn key() -> String {
    BASE64.encode(rand::random::<[u8; 32]>())
}
