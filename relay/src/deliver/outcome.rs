//! What one attempt came to: whose fault it was decides what it counts for.
//!
//! | answer | the delivery | the destination |
//! |---|---|---|
//! | 2xx | has succeeded | works |
//! | 410 | is dead | is disabled |
//! | 429 with `Retry-After` | has failed once | is sent less, and nothing until then; its breaker stays as it is |
//! | 429 without | is tried again, and is not charged for it at first | is sent less, and nothing for a pause that doubles with each |
//! | 401, 403, 407, 408 | has failed once | fails: its credentials or its front are wrong for every delivery |
//! | every other 4xx, such as 400, 404, 409, 413, 422 | has failed once | answers: it refuses this delivery, and its breaker stays as it is |
//! | 1xx, 3xx, 5xx, no answer | has failed once | fails |
//! | not sent, because of this relay | is tried again soon, and is not charged | nothing is known |
//!
//! Whatever is not 2xx belongs to the run of attempts without a success that disables a destination after days.

use http::StatusCode;

use crate::egress::SendFailure;
use crate::store::settle::AttemptRow;

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// 410: the destination says that it is gone for good.
    Gone,
    /// An answer that is neither 2xx, 410 nor a redirect to somewhere.
    Status(u16),
    /// 3xx with a `location`: it is not followed.
    Redirect {
        status: u16,
        /// Where it points to, as [`super::redirect::target`] shows it.
        location: String,
    },
    /// No answer.
    NoAnswer(SendFailure),
}

impl Failure {
    /// Of an answer that is not 2xx; `location` is where a redirect points to.
    #[must_use]
    pub fn of(status: StatusCode, location: Option<String>) -> Self {
        match location {
            _ if status == StatusCode::GONE => Self::Gone,
            Some(location) => Self::Redirect { status: status.as_u16(), location },
            None => Self::Status(status.as_u16()),
        }
    }

    /// Where a redirect points to.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        match self {
            Self::Redirect { location, .. } => Some(location),
            Self::Gone | Self::Status(_) | Self::NoAnswer(_) => None,
        }
    }

    /// Whether the destination works and refuses this one delivery.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Status(400..=499)) && !matches!(self, Self::Status(401 | 403 | 407 | 408 | 429))
    }

    /// The error class, as the API and the tables name it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Status(_) | Self::Redirect { .. } => "http_status",
            Self::NoAnswer(failure) => failure.code(),
        }
    }

    /// What happened, for the destination's owner.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Gone => "status 410".to_owned(),
            Self::Status(status) => format!("status {status}"),
            Self::Redirect { status, location } => {
                format!("status {status}: redirects are not followed; it points to {location}")
            }
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
    /// The transform that it was routed with is not known. The delivery is parked until it is released.
    RouteGone,
    /// The owner's: no request can be made of the URL. The delivery is parked until it is retried.
    Unsendable { reason: String },
    /// The relay's: the body of the event is no longer kept. The delivery is parked until it is retried.
    BodyGone,
    /// The relay's: the transform was not evaluated in time. It is tried again a few times, and then held.
    TransformLate { reason: String },
    /// The relay's: nothing was sent and nothing is counted as an attempt; it is tried again.
    NotSent { reason: String },
}

impl Outcome {
    /// The attempt that was made, if one was.
    #[must_use]
    pub fn attempt(&self) -> Option<&AttemptRow> {
        match self {
            Self::Succeeded { attempt } | Self::Failed { attempt, .. } => Some(attempt),
            Self::Untransformable { .. }
            | Self::RouteGone
            | Self::Unsendable { .. }
            | Self::TransformLate { .. }
            | Self::BodyGone
            | Self::NotSent { .. } => None,
        }
    }

    /// As [`Outcome::attempt`].
    pub fn attempt_mut(&mut self) -> Option<&mut AttemptRow> {
        match self {
            Self::Succeeded { attempt } | Self::Failed { attempt, .. } => Some(attempt),
            Self::Untransformable { .. }
            | Self::RouteGone
            | Self::Unsendable { .. }
            | Self::TransformLate { .. }
            | Self::BodyGone
            | Self::NotSent { .. } => None,
        }
    }
}
