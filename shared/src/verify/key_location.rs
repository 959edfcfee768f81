//! Where keys are that have to be fetched before a signature can be verified.

use std::borrow::Cow;
use std::fmt;

/// Keys that somebody else publishes. Fetch them, read them with [`KeySet::parse`](super::KeySet::parse) and give them to
/// [`verify`](super::verify).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLocation {
    pub url: String,
    pub form: KeyForm,
}

/// How keys are asked for, and how they are written.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyForm {
    /// A JSON Web Key Set (RFC 7517), by GET.
    JwkSet,
    /// A PEM certificate (RFC 7468), by GET.
    Certificate,
    /// Plaid's answer with one JSON Web Key, by POST of `body` as JSON. The body holds a secret: `Debug` does not show it.
    Plaid { key_id: String, body: String },
}

impl KeyLocation {
    /// What the keys may be kept under: two locations with the same name hold the same keys. It may hold a secret.
    #[must_use]
    pub fn cache_key(&self) -> Cow<'_, str> {
        match &self.form {
            KeyForm::JwkSet | KeyForm::Certificate => Cow::Borrowed(&self.url),
            KeyForm::Plaid { body, .. } => Cow::Owned(format!("{}\n{body}", self.url)),
        }
    }

    /// Whether the request itself has named the key. Whoever sends requests then decides how much is fetched, so it has to
    /// be limited; and what was fetched does not change, so there is no sense in fetching it again.
    #[must_use]
    pub const fn is_named_by_request(&self) -> bool {
        match self.form {
            KeyForm::JwkSet => false,
            KeyForm::Certificate | KeyForm::Plaid { .. } => true,
        }
    }
}

impl fmt::Debug for KeyForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JwkSet => f.write_str("JwkSet"),
            Self::Certificate => f.write_str("Certificate"),
            Self::Plaid { key_id, .. } => f.debug_struct("Plaid").field("key_id", key_id).finish_non_exhaustive(),
        }
    }
}
