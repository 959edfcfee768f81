//! The form of a token: its text, its hash, and the hint by which it is told from others.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The beginning of every token.
const PREFIX: &str = "tg_";

/// The random bytes of a token.
pub(crate) const RANDOM_BYTES: usize = 32;

/// The number of characters of a token that are shown later.
const HINT: usize = 4;

/// The SHA-256 of a token, as it is stored.
pub type Hash = [u8; 32];

/// The text of a token that is made of these bytes.
pub(super) fn text(random: [u8; RANDOM_BYTES]) -> String {
    random.iter().fold(PREFIX.to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether a text has the form of a token. Other texts are not looked up.
pub(super) fn is_token(text: &str) -> bool {
    let digits = text.strip_prefix(PREFIX).unwrap_or_default().as_bytes();
    digits.len() == 2 * RANDOM_BYTES && digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hash of a token.
pub(super) fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

/// The last characters of a token.
pub(super) fn hint(token: &str) -> &str {
    token.get(token.len().saturating_sub(HINT)..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_by_its_form() {
        let token = text([0xaf; RANDOM_BYTES]);
        assert!(is_token(&token), "{token}");
        assert_eq!(hint(&token), "afaf");
        for other in ["", "tg_", "tg_af", &token.to_uppercase(), &format!("{token}a"), &token.replace("tg_", "xx_")] {
            assert!(!is_token(other), "{other}");
        }
    }
}
