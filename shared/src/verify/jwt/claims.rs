//! Checks the claims of a token: that it is for this source, about this request, and valid now.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::scheme::jwt::{Claim, JwtRule};
use crate::scheme::reference::Reference;
use crate::scheme::url_form::first_match;
use crate::verify::rejection::Rejection;
use crate::verify::request::{Joins, View};

/// Whether every claim of the rule is there with its value.
pub(super) fn check_claims(rule: &JwtRule, claims: &Map<String, Value>, view: &View<'_>) -> Result<(), Rejection> {
    for (name, wanted) in &rule.claims {
        let Some(claimed) = claims.get(name) else {
            if *wanted == (Claim::BodySha256Hex { optional: true }) && view.body().is_empty() {
                continue;
            }
            return Err(Rejection::JwtClaimMissing { name: name.clone() });
        };
        // The sender knows both values, so the time of the comparison reveals nothing.
        let holds = match wanted {
            Claim::Literal(value) => is(name, claimed, value),
            Claim::OneOf(values) => values.iter().any(|value| is(name, claimed, value)),
            Claim::Setting(setting) => {
                let value = view.text(&Reference::Setting(setting.clone()), Joins::Allowed)?;
                is(name, claimed, &Value::from(value))
            }
            Claim::BodySha256Hex { .. } => is_sha256_of(claimed, view.body()),
            Claim::BodySha256Base64 => claimed.as_str() == Some(&BASE64.encode(Sha256::digest(view.body()))),
            Claim::UrlSha256Hex => first_match(&view.url(), &[], Some(&[]), |url| {
                Ok::<_, Rejection>(is_sha256_of(claimed, url.as_bytes()).then_some(()))
            })?
            .is_some(),
        };
        if !holds {
            return Err(Rejection::JwtClaimMismatch { name: name.clone() });
        }
    }
    Ok(())
}

/// Checks that the token is valid now: before `exp` and after `nbf` if they are present, and within the rule's
/// `max_age` of `iat` if the rule has one.
pub(super) fn check_times(rule: &JwtRule, claims: &Map<String, Value>, now_ms: u64) -> Result<(), Rejection> {
    let (now_s, leeway_s) = (now_ms / 1_000, u64::from(rule.leeway_s));
    if let Some(until) = time(claims, "exp")?
        && now_s >= until.saturating_add(leeway_s)
    {
        return Err(Rejection::JwtExpired { ago_s: now_s - until });
    }
    if let Some(from) = time(claims, "nbf")?
        && from > now_s + leeway_s
    {
        return Err(Rejection::JwtNotYetValid { ahead_s: from - now_s });
    }
    let Some(max_age_s) = rule.max_age_s else { return Ok(()) };
    let issued = time(claims, "iat")?.ok_or_else(|| Rejection::JwtClaimMissing { name: "iat".to_owned() })?;
    if now_s > issued.saturating_add(u64::from(max_age_s) + leeway_s) {
        return Err(Rejection::TimestampOld { age_s: now_s - issued, tolerance_s: max_age_s });
    }
    if issued > now_s + leeway_s {
        return Err(Rejection::TimestampFuture { ahead_s: issued - now_s, tolerance_s: rule.leeway_s });
    }
    Ok(())
}

/// One of several audiences has to be the wanted one (RFC 7519 section 4.1.3).
fn is(name: &str, claimed: &Value, wanted: &Value) -> bool {
    let audiences = claimed.as_array().filter(|_| name == "aud");
    audiences.map_or(claimed == wanted, |audiences| audiences.contains(wanted))
}

fn is_sha256_of(claimed: &Value, bytes: &[u8]) -> bool {
    claimed.as_str() == Some(&hex::encode(Sha256::digest(bytes)))
}

/// A time in whole seconds since 1970 (RFC 7519, `NumericDate`); the fraction is dropped.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, Rejection> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0);
    // A cast from a float saturates, and a time is far below 2^53.
    seconds.map(|seconds| Some(seconds as u64)).ok_or_else(|| Rejection::JwtClaimMismatch { name: name.to_owned() })
}
