//! Calls that are carried out once, although the caller sends them again with the same idempotency key.
//!
//! A call claims its key before it does anything, and its answer is kept for 24 hours, sealed, for the same caller. A
//! control function that makes something new sets its answer ([`Actor::answers`]) before the transaction of the change
//! ends, which stores both. So a relay that ends between the change and the response loses no answer. Every other call
//! stores only the fact that it has changed something with its change: a repetition does not change it again.

use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use shared::seal::SealingKey;
use store::Pool;
use store::idempotency::{self, Claim, Claimed};

use super::claimed::ClaimedKey;
pub use super::claimed::{Answer, Kept, MAX_KEYS_A_DAY};
use super::error::{Conflict, Error};
use super::field_error::FieldError;
use super::saved::{Configured, Outcome, version};
use super::{Actor, Control};
use crate::{mint, secrets};

/// The longest key, in characters.
pub const MAX_KEY: usize = 255;

/// The largest answer that is kept, in bytes. A repetition of a call with a larger one says that it was carried out.
pub const MAX_ANSWER_BYTES: usize = 1_000_000;

/// The longest time from the claim of a call to the end of its last transaction: that of a call, and that of a statement
/// which still runs then.
pub const CALL_ENDS_WITHIN: Duration = Duration::from_secs(150);

/// The name of the header, as errors name it.
pub const FIELD: &str = "Idempotency-Key";

impl From<Outcome> for Kept {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Updated => Self::Done,
            Outcome::Created => Self::Created,
            Outcome::Later => Self::Later,
        }
    }
}

/// A request, as it is compared with the first one of its key.
#[derive(Debug, Default)]
pub struct Request(Sha256);

impl Request {
    /// The same request with one more part.
    #[must_use]
    pub fn with(mut self, part: &[u8]) -> Self {
        self.0.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.0.update(part);
        self
    }
}

/// What to do with a call.
#[derive(Debug)]
pub enum Begun {
    /// Carry it out as this actor, and end it with the guard.
    Proceed(Box<Actor>, Running),
    /// Send the answer of the first call.
    Answered(Answer),
}

/// A call that has claimed its key. If it is dropped before it has ended, the key can be used again, unless the call
/// has changed something.
#[derive(Debug)]
pub struct Running {
    pool: Pool,
    keys: Vec<SealingKey>,
    /// `None` after the call has ended.
    claimed: Option<ClaimedKey>,
}

/// Claims a key for a call of this actor.
///
/// # Errors
/// Returns an invalid field if the key has another form or was used with another request, [`Error::StillRunning`] if
/// the first call has not ended, a conflict if its answer is not kept, [`Error::TooManyKeys`], or an error if a query
/// fails.
pub async fn begin(control: &Control, actor: Actor, key: &str, request: Request) -> Result<Begun, Error> {
    if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        let text = format!("must have 1 to {MAX_KEY} printable ASCII characters, such as a UUID");
        return Err(Error::Invalid(vec![FieldError::new(FIELD, text)]));
    }
    let caller = actor.caller();
    let id = Request::default().with(caller.as_bytes()).with(key.as_bytes()).0.finalize().into();
    let acts_for = actor.listed().map(|customer| customer.to_string()).unwrap_or_default();
    let request = request.with(acts_for.as_bytes()).0.finalize().into();
    let claim = Claim::new(id, mint::uuid());
    match idempotency::claim(&control.pool, &claim, &caller, &request, CALL_ENDS_WITHIN, MAX_KEYS_A_DAY).await? {
        Claimed::Mine => {
            let claimed = ClaimedKey::new(claim);
            let running = Running {
                pool: control.pool.clone(),
                keys: control.config.master_keys.clone(),
                claimed: Some(claimed.clone()),
            };
            Ok(Begun::Proceed(Box::new(actor.claiming(claimed)), running))
        }
        Claimed::Answered(sealed) => match secrets::open_answer(&control.config.master_keys, &id, &sealed) {
            Ok(answer) => Ok(Begun::Answered(answer)),
            Err(error) => {
                tracing::warn!(
                    error,
                    "the kept answer of a call cannot be decrypted; append the key with which it was encrypted to \
                     TIDEGATE_MASTER_KEY"
                );
                Err(Error::Conflict(Conflict::AnswerNotKept))
            }
        },
        Claimed::AnswerLost => Err(Error::Conflict(Conflict::AnswerNotKept)),
        Claimed::Running { for_at_most } => Err(Error::StillRunning(for_at_most)),
        Claimed::OtherRequest => {
            let text = "was used with another request in the last 24 hours; use a new key for a new request, and send a \
                        repetition unchanged";
            Err(Error::Invalid(vec![FieldError::with_code(FIELD, "idempotency_key_reused", text)]))
        }
        Claimed::TooMany => Err(Error::TooManyKeys),
    }
}

impl Running {
    /// Ends the call: with its answer, which is then kept, or with `None` if it has failed or its answer is not kept.
    pub async fn end(mut self, answer: Option<Answer>) {
        let Some(claimed) = self.claimed.take() else { return };
        let claim = &claimed.claim;
        let pool = &self.pool;
        let ended = match answer {
            // The transaction of the change has stored it.
            Some(answer) if claim.is_noted() && claimed.answer().as_ref() == Some(&answer) => return,
            Some(answer) => match secrets::seal_answer(&self.keys, claim.id(), &answer) {
                Ok(sealed) => idempotency::answered(pool, claim, &sealed).await,
                Err(error) => {
                    tracing::error!(error, "the answer of a call cannot be encrypted");
                    idempotency::release(pool, claim).await
                }
            },
            None => idempotency::release(pool, claim).await,
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "the end of a call was not stored with its idempotency key");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(claimed) = self.claimed.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let pool = self.pool.clone();
        runtime.spawn(async move {
            // If it fails, the key is claimed until the longest time of a call has passed.
            let _ = idempotency::release(&pool, &claimed.claim).await;
        });
    }
}

impl Actor {
    /// Sets what the caller is sent if the change that follows is committed, so that the change stores it. Only calls
    /// with an idempotency key keep it.
    pub(super) fn answers<T: Serialize>(&self, control: &Control, outcome: Outcome, value: &T) {
        self.answers_version(control, outcome, value, None);
    }

    /// As [`Self::answers`], for an object that has versions.
    pub(super) fn answers_with<T: Serialize + Configured>(&self, control: &Control, outcome: Outcome, value: &T) {
        self.answers_version(control, outcome, value, Some(version(value.changed_at().0)));
    }

    /// Without an answer that can be kept, the change stores only that it was made.
    fn answers_version<T: Serialize>(&self, control: &Control, outcome: Outcome, value: &T, version: Option<String>) {
        let Some(claimed) = self.claimed() else { return };
        let Ok(body) = serde_json::to_string(value) else { return };
        if body.len() > MAX_ANSWER_BYTES {
            return;
        }
        let answer = Answer { result: outcome.into(), version, body };
        match secrets::seal_answer(&control.config.master_keys, claimed.claim.id(), &answer) {
            Ok(sealed) => {
                claimed.claim.set_answer(sealed);
                *claimed.answer() = Some(answer);
            }
            Err(error) => tracing::error!(error, "the answer of a call cannot be encrypted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_request_do_not_run_into_each_other() {
        let hash = |parts: &[&str]| {
            parts.iter().fold(Request::default(), |request, part| request.with(part.as_bytes())).0.finalize()
        };
        assert_eq!(hash(&["a", "b"]), hash(&["a", "b"]));
        assert_ne!(hash(&["ab", ""]), hash(&["a", "b"]));
        assert_ne!(hash(&["a"]), hash(&["a", ""]));
    }
}
