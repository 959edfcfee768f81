//! What is sealed in the database: source secrets, signing keys and static headers of destinations.
//!
//! The associated data of each names its table, row and column, so that a sealed value moved to another row does not
//! open there.

use std::collections::BTreeMap;

use shared::id::{DestinationId, SourceId};
use shared::seal::{self, SealingKey};
use shared::source::Secret;

use crate::mint;
use crate::signing::{SigningKeys, StoredKey};

/// Seals the secrets of a source.
///
/// # Errors
/// Where there is no key to seal with.
pub fn seal_source_secrets(keys: &[SealingKey], id: SourceId, secrets: &[Secret]) -> Result<String, String> {
    let texts: Vec<&str> = secrets.iter().map(Secret::reveal).collect();
    seal_json(keys, &format!("sources/{id}/secrets"), &texts)
}

/// Opens the secrets of a source.
///
/// # Errors
/// Where no key opens them.
pub fn open_source_secrets(keys: &[SealingKey], id: SourceId, sealed: &str) -> Result<Vec<Secret>, String> {
    open_json(keys, &format!("sources/{id}/secrets"), sealed)
}

/// Seals the signing keys of a destination.
///
/// # Errors
/// Where there is no key to seal with.
pub fn seal_signing_keys(keys: &[SealingKey], id: DestinationId, signing: &SigningKeys) -> Result<String, String> {
    seal_json(keys, &format!("destinations/{id}/signing_keys"), &signing.to_stored())
}

/// Opens the signing keys of a destination.
///
/// # Errors
/// Where no key opens them.
pub fn open_signing_keys(keys: &[SealingKey], id: DestinationId, sealed: &str) -> Result<SigningKeys, String> {
    SigningKeys::of_stored(&open_json::<Vec<StoredKey>>(keys, &format!("destinations/{id}/signing_keys"), sealed)?)
}

/// Seals the static headers of a destination.
///
/// # Errors
/// Where there is no key to seal with.
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
/// Where no key opens them.
pub fn open_headers(keys: &[SealingKey], id: DestinationId, sealed: &str) -> Result<BTreeMap<String, String>, String> {
    open_json(keys, &format!("destinations/{id}/headers"), sealed)
}

fn seal_json(keys: &[SealingKey], associated_data: &str, value: &impl serde::Serialize) -> Result<String, String> {
    let key = keys.first().ok_or("there is no master key")?;
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
