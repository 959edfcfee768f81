//! The outcome of one attempt, and what each kind of response means for the delivery, its destination and the operator.
//!
//! | response | `error` | the delivery is | a failure for | sends to the destination | event for the operator |
//! |---|---|---|---|---|---|
//! | 2xx | – | succeeded | – | go on | – |
//! | 410 | `gone` | dead | – | stop: it is disabled | `destination.disabled` |
//! | 410 to a request that was sent before the first 410 arrived | `gone` | kept until the destination is resumed | – | go on | – |
//! | 429 with `Retry-After` | `http_status` | retried, no sooner than requested | run | are halved, and stop for as long as requested | – |
//! | 429 without `Retry-After` | `http_status` | retried after the back-off, not charged | run | are halved, and stop for a back-off that doubles | – |
//! | 429 without `Retry-After`, the 101st of one delivery | `http_status` | retried on its schedule | run | are halved, and stop for a back-off that doubles | – |
//! | 503 with `Retry-After` | `http_status` | retried, no sooner than requested | breaker, run | are halved, and stop for as long as requested | – |
//! | 502, 503, 504 | `http_status` | retried on its schedule | breaker, run | are halved | – |
//! | any other 5xx, 1xx, 3xx | `http_status` | retried on its schedule | breaker, run | go on | – |
//! | 500 with `Retry-After` | `http_status` | retried, no sooner than requested | breaker, run | go on | – |
//! | 401, 403, 407, 408 | `http_status` | retried on its schedule | breaker, run | go on | – |
//! | any other 4xx, such as 400, 404, 409, 413, 422 | `http_status` | retried on its schedule | run | go on | – |
//! | no response in time | `connect_timeout`, `timeout` | retried on its schedule | breaker, run | are halved | – |
//! | host name without an address | `name_not_resolved` | retried on its schedule | breaker, run | go on | – |
//! | no connection, or one that ends without a response | `connection_refused`, `no_response`, `unreachable` | retried on its schedule | breaker, run | go on | – |
//! | TLS handshake failed | `tls_failed` | retried on its schedule | breaker, run | go on | – |
//! | address or port that may not be called | `egress_blocked`, `egress_port_blocked` | retried on its schedule | breaker, run | go on | – |
//! | not HTTP | `not_http`, `too_much_before_answer` | retried on its schedule | breaker, run | go on | – |
//! | the relay panicked during the request | `internal` | retried on its schedule | – | go on | – |
//! | any failure at the last attempt of the schedule | `http_status` | dead | breaker, run | go on | – |
//! | the transform failed | – | held by `transform` | – | go on | `deliveries.held` |
//! | the transform was not evaluated in time | – | tried again soon, not charged | – | go on | – |
//! | the same, for the 8th time in a row | – | held by `transform` | – | go on | `deliveries.held` |
//! | the transform that was current when it was created is no longer known | – | held by `route` | – | go on | `deliveries.held` |
//! | no request can be made from the URL | – | held by `url` | – | go on | `deliveries.held` |
//! | the body of the event is no longer kept | – | held by `body` | – | go on | `deliveries.held` |
//! | a fault of the relay: no descriptors, no database, no lease | – | tried again soon, not charged | – | go on | – |
//!
//! - *Retried on its schedule*: the attempt is charged; after the last one the delivery is dead. `Retry-After` can make
//!   a wait longer, up to a day, and never shorter.
//! - *Tried again soon*: after 5 s, doubled each time up to 5 minutes. No attempt was made.
//! - *Held*: until the cause is removed and the delivery is released, or until it is retried manually.
//! - *Breaker*: ten failures in a row, or 70 % of at least twenty attempts, open it. The other responses leave it as it
//!   is, except that a probe that is answered 429 opens it again, and a success closes it.
//! - *Run*: attempts without a single success. After five days and at least ten failures the destination is disabled,
//!   and `destination.disabled` says so. A success ends the run.
//! - *Halved*: concurrency and rate, which grow back with successes.
//! - *`deliveries.held`* is sent once per destination and cause, and not again until no delivery is held by that cause.
//!
//! `tests/consequences.rs` checks each row.

use http::StatusCode;

use model::failure::SendFailure;
use model::settlement::AttemptRow;

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// 410: the destination says that it is permanently gone.
    Gone,
    /// A response that is neither 2xx, 410 nor a redirect with a target.
    Status(u16),
    /// 3xx with a `location`: it is not followed.
    Redirect {
        status: u16,
        /// Where it points to: scheme, host, port and path, without anything that may be a credential.
        location: String,
    },
    /// No response.
    NoAnswer(SendFailure),
    /// The relay panicked while it sent the request or read the response; the text of the panic.
    Internal(String),
}

impl Failure {
    /// The failure that a response with this status means; `None` for 2xx. `location` is the target of a redirect. A
    /// redirect is a failure too, because redirects are not followed.
    #[must_use]
    pub fn of(status: StatusCode, location: Option<String>) -> Option<Self> {
        match location {
            _ if status.is_success() => None,
            _ if status == StatusCode::GONE => Some(Self::Gone),
            Some(location) => Some(Self::Redirect { status: status.as_u16(), location }),
            None => Some(Self::Status(status.as_u16())),
        }
    }

    /// Where a redirect points to.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        match self {
            Self::Redirect { location, .. } => Some(location),
            Self::Gone | Self::Status(_) | Self::NoAnswer(_) | Self::Internal(_) => None,
        }
    }

    /// Whether the destination works and refuses only this delivery.
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
            Self::Internal(_) => "internal",
        }
    }

    /// What happened, for the operator.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Gone => "status 410".to_owned(),
            Self::Status(status) => format!("status {status}"),
            Self::Redirect { status, location } => {
                format!(
                    "status {status}: redirect to {location}; redirects are not followed, so set the destination's URL \
                     to the final address"
                )
            }
            Self::NoAnswer(failure) => failure.to_string(),
            Self::Internal(panic) => {
                format!(
                    "an internal error of Tidegate, not of the destination; the destination may have received the \
                     delivery: {panic}"
                )
            }
        }
    }
}

/// The outcome of one attempt.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// 2xx.
    Succeeded { attempt: AttemptRow },
    /// The attempt failed. It is charged, except for up to 100 responses 429 without `Retry-After`.
    Failed {
        attempt: AttemptRow,
        failure: Failure,
        /// The wait that the response's Retry-After asks for, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// The transform failed. The delivery is held until its route is changed.
    TransformFailed { reason: String },
    /// The transform that was current when the delivery was created is no longer known. It is held until it is
    /// released.
    RouteGone,
    /// No request can be made from the URL. The delivery is held until it is retried.
    Unsendable { reason: String },
    /// The body of the event is no longer kept. The delivery is held until it is retried.
    BodyGone,
    /// The transform was not evaluated in time. It is tried again a few times, and then the delivery is held.
    TransformLate { reason: String },
    /// Nothing was sent because of the relay. It does not count as an attempt and is tried again.
    NotSent { reason: String },
}

impl Outcome {
    /// The attempt that was made, if one was.
    #[must_use]
    pub fn attempt(&self) -> Option<&AttemptRow> {
        match self {
            Self::Succeeded { attempt } | Self::Failed { attempt, .. } => Some(attempt),
            Self::TransformFailed { .. }
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
            Self::TransformFailed { .. }
            | Self::RouteGone
            | Self::Unsendable { .. }
            | Self::TransformLate { .. }
            | Self::BodyGone
            | Self::NotSent { .. } => None,
        }
    }
}
