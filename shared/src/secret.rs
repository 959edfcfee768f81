//! Secrets: those of sources, and the comparison of tokens.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A secret as its owner entered it. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Removes white space around the text: with a pasted secret it is the most common reason for a signature that
    /// fails.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The secret with the white space that was probably removed at its end: a line feed of a file, or a blank.
    pub(crate) fn with_white_space(&self) -> [Self; 3] {
        ["\n", "\r\n", " "].map(|space| Self(format!("{}{space}", self.0)))
    }

    /// The secret itself, for use and not for display.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Whether two tokens are the same. Their hashes are compared in constant time, so that the time it takes reveals neither
/// the content nor the length of a token.
#[must_use]
pub fn are_same(given: &str, wanted: &str) -> bool {
    Sha256::digest(given).as_slice().ct_eq(Sha256::digest(wanted).as_slice()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_is_accepted() {
        assert!(are_same("sixteen characters", "sixteen characters"));
        for wrong in ["", "sixteen character", "sixteen characters ", "Sixteen characters"] {
            assert!(!are_same(wrong, "sixteen characters"), "{wrong}");
        }
    }
}
