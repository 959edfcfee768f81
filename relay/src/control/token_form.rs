//! The form of a token and of a session's secret: the text, the hash, and the hint by which a token is told from
//! others.

use sha2::{Digest as _, Sha256};

/// The beginning of every token.
const PREFIX: &str = "tg_";

/// The beginning of the secret of every session.
const SESSION_PREFIX: &str = "tgs_";

/// The random bytes of a token, and of the secret of a session.
pub(crate) const RANDOM_BYTES: usize = 32;

/// The number of characters of a token that are shown later.
const HINT: usize = 4;

/// The SHA-256 of a token, as it is stored.
pub type Hash = [u8; 32];

/// The text of a token that is made of these bytes.
pub(super) fn text(random: [u8; RANDOM_BYTES]) -> String {
    with_prefix(PREFIX, random)
}

/// The secret of a session that is made of these bytes.
pub(super) fn session_text(random: [u8; RANDOM_BYTES]) -> String {
    with_prefix(SESSION_PREFIX, random)
}

fn with_prefix(prefix: &str, random: [u8; RANDOM_BYTES]) -> String {
    format!("{prefix}{}", hex::encode(random))
}

/// Whether a text has the form of a token. Other texts are not looked up.
pub(super) fn is_token(text: &str) -> bool {
    has_form(text, PREFIX)
}

/// Whether a text has the form of a session's secret. Other texts are not looked up.
pub(super) fn is_session(text: &str) -> bool {
    has_form(text, SESSION_PREFIX)
}

fn has_form(text: &str, prefix: &str) -> bool {
    let digits = text.strip_prefix(prefix).unwrap_or_default().as_bytes();
    digits.len() == 2 * RANDOM_BYTES && digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hash of a token, or of a session's secret.
pub(super) fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

/// Proves of which root token a session was made. The secret of the session makes it impossible to guess the root token
/// from the proof.
pub(super) fn root_proof(session: &str, root: &str) -> Hash {
    Sha256::new().chain_update(session.as_bytes()).chain_update([0]).chain_update(root.as_bytes()).finalize().into()
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

    #[test]
    fn a_session_is_no_token_and_proves_its_root_token_only_with_its_secret() {
        let (session, other) = (session_text([0xaf; RANDOM_BYTES]), session_text([0xae; RANDOM_BYTES]));
        assert!(is_session(&session) && !is_token(&session) && !is_session(&text([0xaf; RANDOM_BYTES])));
        let proof = root_proof(&session, "a root token");
        assert_eq!(proof, root_proof(&session, "a root token"));
        assert_ne!(proof, root_proof(&session, "another root token"));
        assert_ne!(proof, root_proof(&other, "a root token"));
    }
}
