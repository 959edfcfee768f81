//! Secrets of sources.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret as its owner entered it. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// White space around a pasted secret is the most common reason for a signature that fails: it is taken off.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The secret with what was taken off at its end, as far as that is guessed: a line feed of a file, or a blank.
    pub(crate) fn with_white_space(&self) -> [Self; 3] {
        ["\n", "\r\n", " "].map(|space| Self(format!("{}{space}", self.0)))
    }

    /// The secret itself, to be used and not to be shown.
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
