//! What one attempt came to: whose fault it was decides whether it counts.

use crate::egress::SendFailure;
use crate::store::settle::AttemptRow;

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// 410: the destination says that it is gone for good.
    Gone,
    /// An answer that is neither 2xx nor 410. Redirects are among them: they are not followed.
    Status(u16),
    /// No answer.
    NoAnswer(SendFailure),
}

impl Failure {
    /// The error class, as the API and the tables name it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Status(_) => "http_status",
            Self::NoAnswer(failure) => failure.code(),
        }
    }

    /// What happened, for the destination's owner.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Gone => "status 410".to_owned(),
            Self::Status(status) => format!("status {status}"),
            Self::NoAnswer(failure) => failure.to_string(),
        }
    }
}

/// What one attempt came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// 2xx.
    Succeeded { attempt: AttemptRow },
    /// Theirs: it counts as an attempt.
    Failed {
        attempt: AttemptRow,
        failure: Failure,
        /// What the answer's Retry-After asks for, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// The owner's: the transform fails. The delivery is held until its route is changed.
    Untransformable { reason: String },
    /// The relay's: the transform was not evaluated in time. It is tried again a few times, and then held.
    TransformLate { reason: String },
    /// The relay's: nothing was sent and nothing is counted as an attempt; it is tried again.
    NotSent { reason: String },
}
