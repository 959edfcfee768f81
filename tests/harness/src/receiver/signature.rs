//! Standard Webhooks signatures, verified as a receiver verifies them (standardwebhooks.com, `v1` and `v1a`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::Received;
use crate::provider::now_s;

/// The maximum difference between the time in a request and now, in seconds.
const TOLERANCE_S: u64 = 300;

/// Why a request does not verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureProblem {
    /// A header is missing or appears twice.
    Header(&'static str),
    /// The time of signing is too far from now.
    Time,
    /// The key is neither `whsec_…` nor `whpk_…`.
    Key,
    /// No signature of the key's version is correct.
    Signature,
}

pub(super) fn verify(request: &Received, key: &str) -> Result<(), SignatureProblem> {
    let once = |name| {
        let mut values = request.headers.get_all(name).iter();
        match (values.next().map(|value| value.to_str()), values.next()) {
            (Some(Ok(value)), None) => Ok(value),
            _ => Err(SignatureProblem::Header(name)),
        }
    };
    let (id, timestamp, signatures) = (once("webhook-id")?, once("webhook-timestamp")?, once("webhook-signature")?);
    let at_s: u64 = timestamp.parse().map_err(|_| SignatureProblem::Time)?;
    if at_s.abs_diff(now_s()) > TOLERANCE_S {
        return Err(SignatureProblem::Time);
    }
    let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &request.body].concat();
    let right: &dyn Fn(&str) -> bool = if let Some(secret) = key.strip_prefix("whsec_") {
        let secret = BASE64.decode(secret).map_err(|_| SignatureProblem::Key)?;
        let mac = Hmac::<Sha256>::new_from_slice(&secret).map_err(|_| SignatureProblem::Key)?.chain_update(&content);
        &move |entry| {
            let signature = entry.strip_prefix("v1,").and_then(|text| BASE64.decode(text).ok());
            signature.is_some_and(|signature| mac.clone().verify_slice(&signature).is_ok())
        }
    } else if let Some(public) = key.strip_prefix("whpk_") {
        let public =
            BASE64.decode(public).ok().and_then(|bytes| VerifyingKey::from_bytes(&bytes.try_into().ok()?).ok());
        let public = public.ok_or(SignatureProblem::Key)?;
        &move |entry| {
            let signature = entry.strip_prefix("v1a,").and_then(|text| BASE64.decode(text).ok());
            let signature = signature.and_then(|bytes| Signature::from_slice(&bytes).ok());
            signature.is_some_and(|signature| public.verify(&content, &signature).is_ok())
        }
    } else {
        return Err(SignatureProblem::Key);
    };
    if signatures.split(' ').any(right) { Ok(()) } else { Err(SignatureProblem::Signature) }
}
