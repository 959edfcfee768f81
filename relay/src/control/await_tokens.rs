//! Await tokens: with which a browser awaits one job.
//!
//! A token is not stored. It contains what it allows, sealed with the master key, so that making one writes nothing and
//! nobody can change it. It ends when the token with which it was made ends, or when its customer is deleted.

use serde::{Deserialize, Serialize};
use shared::id::{CustomerId, SourceId, TokenId};
use shared::source::Secret;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;
use uuid::Uuid;

use super::actor::Who;
use super::error::{Error, Forbidden};
use super::fields::{Problems, optional_whole};
use super::time::Timestamp;
use super::token_form::root_proof;
use super::{Actor, Control, Scope, schema, sources};
use crate::callers::Caller;
use crate::intake::routing::LONGEST_NAME_BYTES;
use crate::{mint, secrets};

/// The beginning of every await token.
const PREFIX: &str = "tga_";

/// The longest text that is opened as an await token, in bytes.
pub(crate) const MAX_BYTES: usize = 2_048;

/// How long an await token may count, in seconds, and the default.
pub(crate) const MAX_TTL_S: i32 = 86_400;
pub(crate) const DEFAULT_TTL_S: i32 = 3_600;

/// A new await token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAwaitToken {
    /// The id or name of the source that receives the events of the job.
    #[schema(value_type = schema::SourceReference)]
    pub source: String,
    /// The key of the job.
    #[schema(value_type = schema::JobKey)]
    pub key: String,
    /// For how long the token counts, in seconds. Default: 3600.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 1, maximum = 86_400)]
    pub ttl_s: Option<i64>,
}

/// An await token.
#[derive(Debug, Serialize, ToSchema)]
pub struct AwaitToken {
    /// The token itself, which cannot be shown again. It allows nothing but to await the job.
    pub token: String,
    /// The id of the source.
    #[schema(value_type = schema::SourceId)]
    pub source_id: SourceId,
    /// The key of the job.
    pub key: String,
    /// When the token stops being accepted, if it does not end before, with the token with which it was made.
    pub expires_at: Timestamp,
}

/// What an await token allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub(super) customer: CustomerId,
    pub(super) source: SourceId,
    pub(super) key: String,
    /// Unix time in seconds.
    expires_s: i64,
    made_with: MadeWith,
}

/// With which token an await token was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MadeWith {
    Token(TokenId),
    /// A root token. The proof shows which one, to a relay that knows it.
    Root {
        salt: Uuid,
        proof: Vec<u8>,
    },
}

impl Grant {
    /// The id of the token with which it was made; nil for a root token.
    pub(super) fn maker(&self) -> Uuid {
        self.maker_token().map_or(Uuid::nil(), TokenId::uuid)
    }

    /// The caller, as the calls that last know it.
    pub(super) fn lasting(&self) -> Caller {
        Caller::AwaitToken(self.customer, self.maker_token())
    }

    /// The time that it still counts, if its maker does not end before.
    pub(super) fn left(&self, now: OffsetDateTime) -> std::time::Duration {
        let left = self.expires_s.saturating_sub(now.unix_timestamp());
        std::time::Duration::from_secs(u64::try_from(left).unwrap_or_default())
    }

    /// The token with which it was made, unless that is a root token.
    pub(super) fn maker_token(&self) -> Option<TokenId> {
        match self.made_with {
            MadeWith::Token(id) => Some(id),
            MadeWith::Root { .. } => None,
        }
    }

    /// The caller, as its requests are counted: all await tokens for one job are one caller, because they may be in the
    /// hands of many browsers.
    pub(crate) fn caller(&self) -> String {
        format!("{}/{}", self.source, self.key)
    }

    /// Whether it counts as far as this relay knows: it has not expired, and a root token with which it was made is
    /// still configured.
    pub(super) fn counts(&self, now: OffsetDateTime, roots: &[Secret]) -> bool {
        let is_made = match &self.made_with {
            MadeWith::Token(_) => true,
            MadeWith::Root { salt, proof } => roots.iter().fold(false, |is_known, root| {
                is_known | (root_proof(&salt.to_string(), root.reveal()).as_slice() == proof.as_slice())
            }),
        };
        is_made && now.unix_timestamp() < self.expires_s
    }
}

/// Whether a text has the form of an await token.
pub(crate) fn has_form(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Makes an await token. `with` is the token of the caller.
///
/// The token shows the fields of bodies that the source exposes, so its maker needs the scope for bodies.
///
/// # Errors
/// Returns every invalid field, or an error if the caller has a session, or if a query fails.
pub async fn create(control: &Control, actor: &Actor, with: &str, new: NewAwaitToken) -> Result<AwaitToken, Error> {
    actor.require(Scope::Bodies)?;
    let made_with = match actor.who() {
        Who::Token { id, .. } => MadeWith::Token(*id),
        Who::Root => {
            let salt = mint::uuid();
            MadeWith::Root { salt, proof: root_proof(&salt.to_string(), with).to_vec() }
        }
        Who::Session(_) => return Err(Error::Forbidden(Forbidden::AwaitTokenOfASession)),
    };
    let customer = actor.customer()?;
    let mut problems = Problems::default();
    let source = problems.named("source", &new.source, sources::find(control, actor, &new.source).await)?;
    if new.key.is_empty() || new.key.len() > LONGEST_NAME_BYTES {
        problems.add("key", format!("must be 1 to {LONGEST_NAME_BYTES} bytes long"));
    }
    let ttl_s = problems.range("ttl_s", new.ttl_s.unwrap_or(DEFAULT_TTL_S.into()), 1, MAX_TTL_S);
    let (source, ttl_s) = problems.finish_with(source.zip(ttl_s))?;
    let expires_at = store::health::now(&control.pool).await? + Duration::seconds(ttl_s.into());
    let expires_s = expires_at.unix_timestamp();
    let grant = Grant { customer, source: source.id, key: new.key, expires_s, made_with };
    let sealed = secrets::seal_await_token(&control.config.master_keys, &grant).map_err(Error::Internal)?;
    let token = format!("{PREFIX}{sealed}");
    Ok(AwaitToken { token, source_id: grant.source, key: grant.key, expires_at: Timestamp(expires_at) })
}

/// What a text allows as an await token; `None` if it is none.
pub(super) fn open(control: &Control, text: &str) -> Option<Grant> {
    let sealed = text.strip_prefix(PREFIX).filter(|sealed| sealed.len() <= MAX_BYTES)?;
    secrets::open_await_token(&control.config.master_keys, sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_counts_until_it_expires_and_while_its_root_token_is_configured() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let salt = Uuid::from_u128(7);
        let proof = root_proof(&salt.to_string(), "the first root token").to_vec();
        let grant = |made_with| Grant {
            customer: store::DEFAULT_CUSTOMER,
            source: SourceId::mint(1, [1; 10]),
            key: "p1".to_owned(),
            expires_s: 1,
            made_with,
        };
        let [first, second] = ["the first root token", "the second root token"].map(Secret::new);
        let of_root = grant(MadeWith::Root { salt, proof });
        assert!(
            of_root.counts(now, &[second.clone(), first.clone()])
                && !of_root.counts(now, std::slice::from_ref(&second))
        );
        assert!(!of_root.counts(now + Duration::SECOND, &[first]));
        let of_token = grant(MadeWith::Token(TokenId::mint(1, [1; 10])));
        assert!(of_token.counts(now, &[second]) && of_token.maker() != Uuid::nil());
    }
}
