//! The sealed values in the database: source secrets, and the signing secrets and static headers of destinations.
//!
//! The associated data of each names its table, row and column. So a sealed value that is moved to another row cannot
//! be opened there. Also seals the cursors that callers must not read.

use std::collections::BTreeMap;

use model::signing::{SigningSecrets, StoredKey};
use shared::id::{DestinationId, SourceId};
use shared::seal::{self, SealingKey};
use shared::source::Secret;
use shared::verify::MAX_RETIRED_SECRETS;
use store::sealed::{SealedRow, Table};
use store::sources::{SealedSecrets, SourceRow};
use uuid::Uuid;

use crate::mint;

/// The secrets of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceSecrets {
    /// All of them are accepted.
    pub active: Vec<Secret>,
    /// Secrets that were accepted earlier, newest first, and no more than the edge tries. They let Tidegate report that
    /// a sender still uses one of them.
    pub retired: Vec<Secret>,
}

impl SourceSecrets {
    /// Returns the secrets after `active` has replaced the present ones.
    #[must_use]
    pub fn replaced_by(self, active: Vec<Secret>) -> Self {
        let mut retired: Vec<Secret> = Vec::new();
        for secret in self.active.into_iter().chain(self.retired) {
            if !active.contains(&secret) && !retired.contains(&secret) {
                retired.push(secret);
            }
        }
        retired.truncate(MAX_RETIRED_SECRETS);
        Self { active, retired }
    }
}

/// Seals the secrets of a source.
///
/// # Errors
/// Returns an error if there is no key to seal with.
pub fn seal_source_secrets(
    keys: &[SealingKey],
    id: SourceId,
    secrets: &SourceSecrets,
) -> Result<SealedSecrets, String> {
    let seal = |column, secrets: &[Secret]| {
        let texts: Vec<&str> = secrets.iter().map(Secret::reveal).collect();
        seal_json(keys, &format!("sources/{id}/{column}"), &texts)
    };
    let retired = (!secrets.retired.is_empty()).then(|| seal("retired_secrets", &secrets.retired));
    Ok(SealedSecrets { active: seal("secrets", &secrets.active)?, retired: retired.transpose()? })
}

/// Opens the secrets of a source.
///
/// # Errors
/// Returns an error if no key opens them.
pub fn open_source_secrets(keys: &[SealingKey], row: &SourceRow) -> Result<SourceSecrets, String> {
    open_source(keys, row.id, &row.secrets_sealed, row.retired_secrets_sealed.as_deref())
}

/// Like [`open_source_secrets`], from the two columns.
///
/// # Errors
/// Returns an error if no key opens them.
fn open_source(
    keys: &[SealingKey],
    id: SourceId,
    active: &str,
    retired: Option<&str>,
) -> Result<SourceSecrets, String> {
    let open = |column, sealed: &str| open_json(keys, &format!("sources/{id}/{column}"), sealed);
    let retired = retired.map(|sealed| open("retired_secrets", sealed));
    Ok(SourceSecrets { active: open("secrets", active)?, retired: retired.transpose()?.unwrap_or_default() })
}

/// Seals the signing secrets of a destination.
///
/// # Errors
/// Returns an error if there is no key to seal with.
pub fn seal_signing_secrets(
    keys: &[SealingKey],
    id: DestinationId,
    signing: &SigningSecrets,
) -> Result<String, String> {
    seal_json(keys, &format!("destinations/{id}/signing_secrets"), &signing.to_stored())
}

/// Opens the signing secrets of a destination.
///
/// # Errors
/// Returns an error if no key opens them.
pub fn open_signing_secrets(keys: &[SealingKey], id: DestinationId, sealed: &str) -> Result<SigningSecrets, String> {
    SigningSecrets::of_stored(&open_json::<Vec<StoredKey>>(
        keys,
        &format!("destinations/{id}/signing_secrets"),
        sealed,
    )?)
}

/// Seals the static headers of a destination.
///
/// # Errors
/// Returns an error if there is no key to seal with.
pub fn seal_headers(
    keys: &[SealingKey],
    id: DestinationId,
    headers: &BTreeMap<String, String>,
) -> Result<String, String> {
    seal_json(keys, &format!("destinations/{id}/headers"), headers)
}

/// Opens the static headers of a destination.
///
/// # Errors
/// Returns an error if no key opens them.
pub fn open_headers(keys: &[SealingKey], id: DestinationId, sealed: &str) -> Result<BTreeMap<String, String>, String> {
    open_json(keys, &format!("destinations/{id}/headers"), sealed)
}

/// What sealed cursors are for, as their associated data.
const CURSOR: &str = "cursor";

/// Seals a cursor that may be the id of a row of another customer.
///
/// # Errors
/// Returns an error if there is no key to seal with.
pub fn seal_cursor(keys: &[SealingKey], id: Uuid) -> Result<String, String> {
    seal_json(keys, CURSOR, &id.to_string())
}

/// Opens a cursor; `None` if it is no cursor that one of these keys has sealed.
#[must_use]
pub fn open_cursor(keys: &[SealingKey], sealed: &str) -> Option<Uuid> {
    open_json::<String>(keys, CURSOR, sealed).ok()?.parse().ok()
}

/// What sealed await tokens are for, as their associated data.
const AWAIT_TOKEN: &str = "await token";

/// Seals what an await token allows.
///
/// # Errors
/// Returns an error if there is no key to seal with.
pub fn seal_await_token(keys: &[SealingKey], grant: &impl serde::Serialize) -> Result<String, String> {
    seal_json(keys, AWAIT_TOKEN, grant)
}

/// Opens what an await token allows; `None` if it is no await token that one of these keys has sealed.
#[must_use]
pub fn open_await_token<T: serde::de::DeserializeOwned>(keys: &[SealingKey], sealed: &str) -> Option<T> {
    open_json(keys, AWAIT_TOKEN, sealed).ok()
}

/// Seals the answer of a call, for the caller and the key of which this is the hash.
///
/// # Errors
/// Returns an error if there is no key to seal with.
pub fn seal_answer(keys: &[SealingKey], id: &[u8; 32], answer: &impl serde::Serialize) -> Result<String, String> {
    seal_json(keys, &answer_of(id), answer)
}

/// Opens the answer of a call.
///
/// # Errors
/// Returns an error if no key opens it.
pub fn open_answer<T: serde::de::DeserializeOwned>(
    keys: &[SealingKey],
    id: &[u8; 32],
    sealed: &str,
) -> Result<T, String> {
    open_json(keys, &answer_of(id), sealed)
}

fn answer_of(id: &[u8; 32]) -> String {
    format!("idempotency_keys/{}/answer", hex::encode(id))
}

/// A sealed value that was looked at to seal it with the first key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resealed {
    /// The first key has sealed it.
    Current,
    /// An older key had sealed it. Contains the value as the first key seals it.
    Again(String),
    /// No key opens it.
    Closed(String),
}

/// Seals the values of a row with the first key: its secrets, and what else is sealed.
#[must_use]
pub fn reseal_row(keys: &[SealingKey], table: Table, row: &SealedRow) -> [Option<Resealed>; 2] {
    let (id, columns) = match table {
        Table::Sources => (SourceId::from_uuid(row.id).to_string(), ["secrets", "retired_secrets"]),
        Table::Destinations => (DestinationId::from_uuid(row.id).to_string(), ["signing_secrets", "headers"]),
    };
    let of = |column, sealed: &str| reseal(keys, &format!("{}/{id}/{column}", table.name()), sealed);
    let [secrets, more] = columns;
    [Some(of(secrets, &row.secrets)), row.more.as_deref().map(|sealed| of(more, sealed))]
}

/// Whether the keys open all sealed values of a row.
#[must_use]
pub fn opens_row(keys: &[SealingKey], table: Table, row: &SealedRow) -> bool {
    match table {
        Table::Sources => open_source(keys, SourceId::from_uuid(row.id), &row.secrets, row.more.as_deref()).is_ok(),
        Table::Destinations => {
            let id = DestinationId::from_uuid(row.id);
            open_signing_secrets(keys, id, &row.secrets).is_ok()
                && row.more.as_deref().is_none_or(|headers| open_headers(keys, id, headers).is_ok())
        }
    }
}

fn reseal(keys: &[SealingKey], associated_data: &str, sealed: &str) -> Resealed {
    let Some(first) = keys.first() else { return Resealed::Closed("TIDEGATE_MASTER_KEY contains no key".to_owned()) };
    if is_sealed_by(first, sealed) {
        return Resealed::Current;
    }
    match seal::open(keys, associated_data, sealed) {
        Ok(plain) => Resealed::Again(seal::seal(first, associated_data, mint::random(), &plain)),
        Err(error) => Resealed::Closed(format!("{associated_data}: {error}")),
    }
}

/// Whether this key has sealed a value, by the id of the key in it.
#[must_use]
pub fn is_sealed_by(key: &SealingKey, sealed: &str) -> bool {
    seal::key_id_of(sealed) == Some(key.key_id())
}

fn seal_json(keys: &[SealingKey], associated_data: &str, value: &impl serde::Serialize) -> Result<String, String> {
    let key = keys.first().ok_or("TIDEGATE_MASTER_KEY contains no key")?;
    let plain = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    Ok(seal::seal(key, associated_data, mint::random(), &plain))
}

fn open_json<T: serde::de::DeserializeOwned>(
    keys: &[SealingKey],
    associated_data: &str,
    sealed: &str,
) -> Result<T, String> {
    let plain = seal::open(keys, associated_data, sealed).map_err(|error| format!("{associated_data}: {error}"))?;
    serde_json::from_slice(&plain).map_err(|error| format!("{associated_data}: {error}"))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;

    fn secrets(texts: &[&str]) -> Vec<Secret> {
        texts.iter().map(|text| Secret::new(text)).collect()
    }

    #[test]
    fn a_sealed_cursor_does_not_show_its_id_and_opens_with_a_key_that_is_being_replaced() {
        let key = |byte| SealingKey::parse(&STANDARD.encode([byte; 32])).expect("a key");
        let id = Uuid::from_u128(7);
        let sealed = seal_cursor(&[key(1)], id).expect("seals");
        let shown = [id.to_string(), URL_SAFE_NO_PAD.encode(id), STANDARD.encode(id.to_string())];
        assert!(shown.iter().all(|shown| !sealed.contains(shown)), "{sealed}");
        assert_eq!(open_cursor(&[key(2), key(1)], &sealed), Some(id));
        assert_eq!(open_cursor(&[key(2)], &sealed), None);
        assert_eq!(open_cursor(&[key(1)], &URL_SAFE_NO_PAD.encode(id)), None);
    }

    #[test]
    fn a_value_is_sealed_again_by_the_first_key_unless_it_is_or_no_key_opens_it() {
        let key = |byte: u8| SealingKey::parse(&STANDARD.encode([byte; 32])).expect("a key");
        let sealed = |by: u8| seal::seal(&key(by), "sources/1/secrets", [by; 24], b"plain");
        let keys = [key(2), key(1)];
        assert_eq!(reseal(&keys, "sources/1/secrets", &sealed(2)), Resealed::Current);
        let Resealed::Again(again) = reseal(&keys, "sources/1/secrets", &sealed(1)) else {
            panic!("it is sealed again")
        };
        assert_eq!(seal::open(&keys[..1], "sources/1/secrets", &again).as_deref(), Ok(b"plain".as_slice()));
        for (associated_data, text) in [("sources/1/secrets", sealed(3)), ("sources/2/secrets", sealed(1))] {
            assert!(matches!(reseal(&keys, associated_data, &text), Resealed::Closed(_)));
        }
    }

    #[test]
    fn replaced_secrets_are_kept_newest_first_unless_they_are_active_again() {
        let of = |active: &[&str], retired: &[&str], new: &[&str]| {
            let before = SourceSecrets { active: secrets(active), retired: secrets(retired) };
            before.replaced_by(secrets(new)).retired
        };
        assert_eq!(of(&["a", "b"], &[], &["c"]), secrets(&["a", "b"]));
        assert_eq!(of(&["a", "b"], &["c", "d"], &["b"]), secrets(&["a", "c", "d"]));
        assert_eq!(of(&["a"], &["c", "d"], &["d", "a"]), secrets(&["c"]));
        assert_eq!(of(&["a", "a"], &["a", "c"], &["d"]), secrets(&["a", "c"]), "none occurs twice");
        assert_eq!(of(&["a", "b"], &["c", "d", "e"], &[]), secrets(&["a", "b", "c", "d"]), "the oldest is dropped");
        assert_eq!(of(&["a"], &["b"], &["a"]), secrets(&["b"]), "nothing was replaced");
    }
}
