//! What a destination verifies deliveries with, and how it is replaced.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::id::DestinationId;
use shared::sign::SigningKey;
use utoipa::ToSchema;

use super::{find, open_keys, seal_keys};
use crate::api::auth::Caller;
use crate::api::in_force;
use crate::api::input::{OptionalBody, Segment};
use crate::api::problem::{ApiError, Conflict, Problems, Refusals};
use crate::store::destinations;
use crate::{App, mint};

/// The most keys that sign at the same time.
const MAX_SIGNING_KEYS: usize = 3;

/// What a destination verifies deliveries with.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SigningSecret {
    /// `whsec_…`, or `whsk_…` where the destination has an Ed25519 key.
    pub signing_secret: String,
    /// `whpk_…`, all that a receiver needs of an Ed25519 key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// The keys that still sign beside it, newest first.
    pub also_signing: Vec<String>,
}

/// How a signing key is replaced.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Rotation {
    /// A key of your own; left out, one is made.
    signing_secret: Option<String>,
    /// Lets the old keys stop at once, as after a leak. Without it they go on signing beside the new one, three keys at
    /// most, until they are dropped.
    #[serde(default)]
    drop_old: bool,
}

/// The secret that a destination verifies deliveries with.
#[utoipa::path(get, path = "/v1/destinations/{id}/signing-secret", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), responses((status = 200, body = SigningSecret), Refusals))]
pub(in crate::api) async fn signing_secret(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<SigningSecret>, ApiError> {
    let row = find(&app, caller.customer, &id).await?;
    signing_view(&open_keys(&app, &row)?)
}

/// Puts a new signing key in front. Deliveries are signed with the old ones too, so that the destination can take its
/// time to change.
#[utoipa::path(post, path = "/v1/destinations/{id}/signing-secret/rotate", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), request_body = Option<Rotation>,
    responses((status = 200, body = SigningSecret), Refusals))]
pub(in crate::api) async fn rotate_signing_secret(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
    OptionalBody(rotation): OptionalBody<Rotation>,
) -> Result<Json<SigningSecret>, ApiError> {
    let row = find(&app, caller.customer, &id).await?;
    let new = match rotation.signing_secret {
        None => SigningKey::generate_hmac(mint::random()),
        Some(text) => {
            let mut problems = Problems::default();
            let key = SigningKey::parse(&text).map_err(|error| problems.add("signing_secret", error.to_string())).ok();
            problems.finish_with(key)?
        }
    };
    let old = if rotation.drop_old { Vec::new() } else { open_keys(&app, &row)? };
    let keys = in_front(new, old);
    let sealed = seal_keys(&app, DestinationId::from_uuid(row.id), &keys)?;
    let revision = destinations::set_signing_keys(&app.pool, &row, &sealed).await?;
    in_force(&app, revision.ok_or(ApiError::Conflict(Conflict::ChangedMeanwhile))?).await;
    signing_view(&keys)
}

/// A new key before the old ones; where it is one of them it moves to the front.
pub(super) fn in_front(new: SigningKey, old: Vec<SigningKey>) -> Vec<SigningKey> {
    let text = new.to_text();
    let mut keys = vec![new];
    keys.extend(old.into_iter().filter(|key| key.to_text() != text));
    keys.truncate(MAX_SIGNING_KEYS);
    keys
}

fn signing_view(keys: &[SigningKey]) -> Result<Json<SigningSecret>, ApiError> {
    let (newest, old) =
        keys.split_first().ok_or_else(|| ApiError::Internal("a destination has no signing key".to_owned()))?;
    Ok(Json(SigningSecret {
        signing_secret: newest.to_text(),
        public_key: newest.public_text(),
        also_signing: old.iter().map(SigningKey::to_text).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::generate_hmac([seed; 32])
    }

    fn texts(keys: &[SigningKey]) -> Vec<String> {
        keys.iter().map(SigningKey::to_text).collect()
    }

    #[test]
    fn a_new_signing_key_stands_before_at_most_two_old_ones() {
        let keys = in_front(key(4), vec![key(3), key(2), key(1)]);
        assert_eq!(texts(&keys), texts(&[key(4), key(3), key(2)]));
    }

    #[test]
    fn a_signing_key_that_is_there_already_moves_to_the_front() {
        let keys = in_front(key(1), vec![key(2), key(1)]);
        assert_eq!(texts(&keys), texts(&[key(1), key(2)]));
    }
}
