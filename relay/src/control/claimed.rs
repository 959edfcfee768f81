//! The claim of a request on its idempotency key, as its actor has it. [`super::idempotency`] makes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use store::idempotency::Claim;

/// How many keys a caller may use on a day (UTC).
pub const MAX_KEYS_A_DAY: i32 = 100_000;

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What became of the object.
    pub result: Kept,
    /// The version of the object, if it has versions.
    pub version: Option<String>,
    /// The document, as it was sent.
    pub body: String,
}

/// The kind of an answer that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    Done,
    Created,
    Later,
}

/// The claim of a request on its key, and the answer that its change stores. Clones are the same claim.
#[derive(Debug, Clone)]
pub(super) struct ClaimedKey {
    pub(super) claim: Claim,
    answer: Arc<Mutex<Option<Answer>>>,
}

impl PartialEq for ClaimedKey {
    fn eq(&self, other: &Self) -> bool {
        self.claim == other.claim
    }
}

impl Eq for ClaimedKey {}

impl ClaimedKey {
    pub(super) fn new(claim: Claim) -> Self {
        Self { claim, answer: Arc::default() }
    }

    /// The answer that the change stores.
    pub(super) fn answer(&self) -> MutexGuard<'_, Option<Answer>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
