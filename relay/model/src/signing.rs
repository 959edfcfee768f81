//! The signing secrets of a destination: the newest one signs, and earlier ones sign as well until their overlap ends.

use serde::{Deserialize, Serialize};
use shared::sign::SigningSecret;

/// The maximum number of secrets that sign at the same time.
pub const MAX_KEYS: usize = 3;

/// For how long a secret keeps signing after a rotation, in seconds, unless specified: a day.
pub const DEFAULT_OVERLAP_S: u32 = 86_400;

/// The secrets, newest first.
#[derive(Debug, Clone)]
pub struct SigningSecrets {
    keys: Vec<SigningSecret>,
    /// Until when each of them signs, Unix time in milliseconds. An older secret never signs for longer than a newer
    /// one.
    until_ms: Vec<u64>,
}

/// A secret in the form in which it is sealed.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredKey {
    key: String,
    /// Absent for the newest one, which signs until it is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    until_ms: Option<u64>,
}

impl SigningSecrets {
    /// One secret, without an end.
    #[must_use]
    pub fn new(key: SigningSecret) -> Self {
        Self { keys: vec![key], until_ms: vec![u64::MAX] }
    }

    /// Adds `new` in front. The secrets that sign at `now_ms` keep signing for `overlap_s` seconds at most. At most
    /// [`MAX_KEYS`] secrets are kept in total.
    #[must_use]
    pub fn rotated(self, new: SigningSecret, overlap_s: u32, now_ms: u64) -> Self {
        let end_ms = now_ms.saturating_add(u64::from(overlap_s) * 1000);
        let text = new.to_text();
        let mut rotated = Self::new(new);
        let old = self.keys.into_iter().zip(self.until_ms).filter(|(key, _)| key.to_text() != text);
        for (key, until_ms) in old.map(|(key, until_ms)| (key, until_ms.min(end_ms))) {
            if until_ms > now_ms && rotated.keys.len() < MAX_KEYS {
                rotated.keys.push(key);
                rotated.until_ms.push(until_ms);
            }
        }
        rotated
    }

    /// The secrets that sign at `now_ms`.
    #[must_use]
    pub fn signing(&self, now_ms: u64) -> &[SigningSecret] {
        let count = self.until_ms.partition_point(|until_ms| *until_ms > now_ms);
        self.keys.get(..count).unwrap_or_default()
    }

    /// The secrets that sign at `now_ms` and have an end, with that end in Unix milliseconds.
    pub fn ending(&self, now_ms: u64) -> impl Iterator<Item = (&SigningSecret, u64)> {
        self.signing(now_ms).iter().zip(self.until_ms.iter().copied()).filter(|(_, until_ms)| *until_ms < u64::MAX)
    }

    /// The form in which the secrets are sealed.
    #[must_use]
    pub fn to_stored(&self) -> Vec<StoredKey> {
        let stored = |(key, until_ms): (&SigningSecret, &u64)| StoredKey {
            key: key.to_text(),
            until_ms: Some(*until_ms).filter(|until_ms| *until_ms < u64::MAX),
        };
        self.keys.iter().zip(&self.until_ms).map(stored).collect()
    }

    /// The secrets from the form in which they are sealed.
    ///
    /// # Errors
    /// Returns an error if there is none, or if one cannot be parsed.
    pub fn of_stored(stored: &[StoredKey]) -> Result<Self, String> {
        if stored.is_empty() {
            return Err("the destination has no signing secret".to_owned());
        }
        let keys: Result<Vec<SigningSecret>, _> =
            stored.iter().map(|stored| SigningSecret::parse(&stored.key)).collect();
        let until_ms = stored.iter().map(|stored| stored.until_ms.unwrap_or(u64::MAX)).collect();
        Ok(Self { keys: keys.map_err(|error| format!("the stored signing secret {error}"))?, until_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_764_000_000_000;

    fn key(seed: u8) -> SigningSecret {
        SigningSecret::generate_hmac([seed; 32])
    }

    fn texts(keys: &[SigningSecret]) -> Vec<String> {
        keys.iter().map(SigningSecret::to_text).collect()
    }

    #[test]
    fn both_secrets_sign_until_the_overlap_ends_and_then_only_the_new_one() {
        let keys = SigningSecrets::new(key(1)).rotated(key(2), 60, NOW_MS);
        assert_eq!(texts(keys.signing(NOW_MS)), texts(&[key(2), key(1)]));
        assert_eq!(texts(keys.signing(NOW_MS + 59_999)), texts(&[key(2), key(1)]));
        assert_eq!(texts(keys.signing(NOW_MS + 60_000)), texts(&[key(2)]));
        let ends: Vec<u64> = keys.ending(NOW_MS).map(|(_, until_ms)| until_ms).collect();
        assert_eq!(ends, [NOW_MS + 60_000]);
        assert_eq!(keys.ending(NOW_MS + 60_000).count(), 0);
    }

    #[test]
    fn without_an_overlap_the_old_secrets_stop_at_once() {
        let keys = SigningSecrets::new(key(1)).rotated(key(2), 600, NOW_MS).rotated(key(3), 0, NOW_MS + 1);
        assert_eq!(texts(keys.signing(NOW_MS + 1)), texts(&[key(3)]));
    }

    #[test]
    fn a_second_rotation_extends_no_older_secret_and_keeps_at_most_three() {
        let twice = SigningSecrets::new(key(1)).rotated(key(2), 60, NOW_MS).rotated(key(3), 600, NOW_MS + 1_000);
        let ends: Vec<u64> = twice.ending(NOW_MS + 1_000).map(|(_, until_ms)| until_ms).collect();
        assert_eq!(ends, [NOW_MS + 601_000, NOW_MS + 60_000]);
        let thrice = twice.rotated(key(4), 600, NOW_MS + 2_000);
        assert_eq!(texts(thrice.signing(NOW_MS + 2_000)), texts(&[key(4), key(3), key(2)]));
    }

    #[test]
    fn a_secret_that_is_already_present_moves_to_the_front_and_has_no_end() {
        let back = SigningSecrets::new(key(1)).rotated(key(2), 60, NOW_MS).rotated(key(1), 60, NOW_MS);
        assert_eq!(texts(back.signing(NOW_MS)), texts(&[key(1), key(2)]));
        assert_eq!(texts(back.signing(u64::MAX - 1)), texts(&[key(1)]));
    }

    #[test]
    fn stored_secrets_are_read_back_with_their_ends() {
        let keys = SigningSecrets::new(key(1)).rotated(key(2), 60, NOW_MS);
        let text = serde_json::to_string(&keys.to_stored()).expect("json");
        let stored: Vec<StoredKey> = serde_json::from_str(&text).expect("reads");
        let read = SigningSecrets::of_stored(&stored).expect("keys");
        assert_eq!(texts(read.signing(NOW_MS)), texts(keys.signing(NOW_MS)));
        assert_eq!(texts(read.signing(NOW_MS + 60_000)), texts(&[key(2)]));
        assert!(SigningSecrets::of_stored(&[]).is_err());
    }
}
