//! Signing a JSON Web Token.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::fresh::Fresh;
use super::{SampleRequest, SignError};
use crate::scheme::jwt::{Claim, JwtAlgorithm, JwtRule};
use crate::scheme::reference::Reference;
use crate::secret::Secret;
use crate::verify::key::KeyError;
use crate::verify::request::{Joins, View};

/// How long a token is good for, in seconds.
const LIFETIME_S: u64 = 60;

pub(super) fn sign(
    rule: &JwtRule,
    secret: &Secret,
    mut request: SampleRequest,
    fresh: &Fresh,
) -> Result<SampleRequest, SignError> {
    let algorithm = rule.algorithms.iter().find(|algorithm| algorithm.is_symmetric()).ok_or(SignError::PrivateKey)?;
    let key = rule.key_encoding.hmac_key(secret.reveal())?;
    let claims = request.look(&rule.settings, |view| claims(rule, view, fresh))?;
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({ "alg": algorithm.name(), "typ": "JWT" });
    let signed = format!("{}.{}", encode(&header), encode(&Value::Object(claims)));
    let signature = URL_SAFE_NO_PAD.encode(hmac(*algorithm, &key, signed.as_bytes())?);
    request.set(&rule.token.place, &format!("{}{signed}.{signature}", rule.token.strip))?;
    Ok(request)
}

fn claims(rule: &JwtRule, view: &View<'_>, fresh: &Fresh) -> Result<Map<String, Value>, SignError> {
    let now_s = fresh.now_ms() / 1_000;
    let mut claims = Map::new();
    claims.insert("iat".to_owned(), now_s.into());
    claims.insert("nbf".to_owned(), now_s.into());
    claims.insert("exp".to_owned(), (now_s + LIFETIME_S).into());
    claims.insert("jti".to_owned(), fresh.uuid().into());
    let sha256 = |bytes: &[u8]| Value::from(hex::encode(Sha256::digest(bytes)));
    for (name, wanted) in &rule.claims {
        let value = match wanted {
            Claim::Literal(value) => value.clone(),
            Claim::OneOf(values) => values.first().cloned().unwrap_or_default(),
            Claim::Setting(setting) => view.text(&Reference::Setting(setting.clone()), Joins::Allowed)?.into(),
            Claim::BodySha256Hex { optional: true } if view.body().is_empty() => continue,
            Claim::BodySha256Hex { .. } => sha256(view.body()),
            Claim::BodySha256Base64 => STANDARD.encode(Sha256::digest(view.body())).into(),
            Claim::UrlSha256Hex => sha256(view.text(&Reference::Url, Joins::Allowed)?.as_bytes()),
        };
        claims.insert(name.clone(), value);
    }
    Ok(claims)
}

fn hmac(algorithm: JwtAlgorithm, key: &[u8], message: &[u8]) -> Result<Vec<u8>, SignError> {
    let unusable = |_| SignError::Secret(KeyError::Empty);
    Ok(match algorithm {
        JwtAlgorithm::HS256 => Hmac::<Sha256>::new_from_slice(key)
            .map_err(unusable)?
            .chain_update(message)
            .finalize()
            .into_bytes()
            .to_vec(),
        JwtAlgorithm::HS384 => Hmac::<Sha384>::new_from_slice(key)
            .map_err(unusable)?
            .chain_update(message)
            .finalize()
            .into_bytes()
            .to_vec(),
        JwtAlgorithm::HS512 => Hmac::<Sha512>::new_from_slice(key)
            .map_err(unusable)?
            .chain_update(message)
            .finalize()
            .into_bytes()
            .to_vec(),
        JwtAlgorithm::RS256 | JwtAlgorithm::ES256 => return Err(SignError::PrivateKey),
    })
}
