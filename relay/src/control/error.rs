//! The errors of the control layer.
//!
//! [`Error::detail`] is for the caller, and [`Error::cause`] for the operator. A cause is logged, and only that of
//! [`Error::NotTried`] and [`Error::Edge`] is also shown to the caller.

use std::fmt;
use std::time::Duration;

use store::{Constraint, Kind};

use super::claimed::MAX_KEYS_A_DAY;
use super::field_error::FieldError;
use super::scope::Scope;
use crate::history::Retention;
use crate::streams::{Full, STREAMS, STREAMS_PER_CALLER};
use crate::waiters::{MAX_WAITERS, MAX_WAITERS_OF_TOKEN};

/// Why a request is refused or fails. An interface translates it; the REST API makes a problem document of it.
#[derive(Debug)]
pub enum Error {
    /// The token is unknown, expired or revoked.
    Unauthenticated,
    /// The address of the caller has sent too many wrong tokens. A token from there is looked up again after this time.
    TooManyWrongTokens(Duration),
    /// There are as many streams as there may be.
    TooManyStreams(Full),
    /// A position belongs to another history of the database.
    ForeignPosition,
    /// Changes that follow a position are no longer kept.
    PositionTooOld,
    /// The actor may not do this.
    Forbidden(Forbidden),
    /// The object does not exist, or belongs to another customer.
    NotFound(Noun),
    /// The body of an event is no longer kept.
    PastRetention(Retention),
    /// The body of an event was erased.
    BodyErased,
    /// Fields with invalid values.
    Invalid(Vec<FieldError>),
    /// The request conflicts with the stored state.
    Conflict(Conflict),
    /// The object is not as the caller demands it to be.
    Changed { exists: bool },
    /// The first call with the same idempotency key has not ended. It ends within this time.
    StillRunning(Duration),
    /// The caller has used as many idempotency keys as it may use on a day.
    TooManyKeys,
    /// The caller has made too many requests. It may make the next one after this time.
    TooManyRequests(Duration),
    /// A sign-in with the OpenID Connect provider fails.
    SignIn(SignInError),
    /// A message was tried again and still cannot be stored. The text is for the caller.
    StillUnreadable(String),
    /// A message could not be tried, because the database or the edge does not respond. The text is for the caller and
    /// the log.
    NotTried(String),
    /// The edge did not confirm a change. The text is for the caller and the log.
    Edge(String),
    /// The database does not respond. The text is for the log.
    Unavailable(String),
    /// The token has too many waiting calls.
    TooManyWaiting,
    /// The relay has too many waiting calls.
    NoRoomToWait,
    /// The bodies of events that other requests hold leave no room for one more.
    Busy,
    /// Other calls search bodies.
    SearchesBusy,
    /// The clocks of the relay and the database differ. The text is for the caller and says by how much.
    WrongClock(String),
    /// Parts of the relay do not work. The texts say which.
    NotReady(Vec<String>),
    /// A fault of Tidegate. The text is for the log.
    Internal(String),
}

/// Why an actor may not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbidden {
    /// It lacks this scope.
    Scope(Scope),
    /// It is bound to a customer and named another one.
    OtherCustomer,
    /// It is bound to a customer, and what it asks for belongs to none.
    Bound,
    /// It is a session, and only a token makes a session.
    OfASession,
    /// It is a session, and an await token ends with the token with which it was made.
    AwaitTokenOfASession,
}

impl Forbidden {
    /// What is missing and what to do, for the caller.
    #[must_use]
    pub fn detail(self) -> String {
        match self {
            Self::Scope(scope) => {
                format!(
                    "this token or session lacks the scope {}, which is needed here; use one that has it",
                    scope.name()
                )
            }
            Self::OtherCustomer => {
                "this token is bound to one customer and cannot act for another; omit the customer, or use a token \
                 that is not bound"
                    .to_owned()
            }
            Self::Bound => {
                "this token is bound to a customer, and this belongs to no customer; use a token that is not bound"
                    .to_owned()
            }
            Self::OfASession => {
                "a session is made of a token, not of another session; send the token in the header Authorization"
                    .to_owned()
            }
            Self::AwaitTokenOfASession => {
                "an await token is made with a token, not with a session; send the token in the header Authorization"
                    .to_owned()
            }
        }
    }
}

/// The kinds of objects that may not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    Provider,
    Source,
    Destination,
    Route,
    Event,
    ChangedCopy,
    Delivery,
    Replay,
    UnreadableMessage,
    Customer,
    Token,
    Operation,
    Session,
}

impl fmt::Display for Noun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Provider => "provider",
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Route => "route",
            Self::Event => "event",
            Self::ChangedCopy => "copy with a different body",
            Self::Delivery => "delivery",
            Self::Replay => "replay",
            Self::UnreadableMessage => "unreadable message",
            Self::Customer => "customer",
            Self::Token => "token",
            Self::Operation => "operation",
            Self::Session => "session",
        })
    }
}

/// A conflict between a request and the stored state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    NameTaken,
    RouteExists,
    ChangedMeanwhile,
    NotPending,
    DestinationGone,
    BodyGone,
    /// A delivery of the event is pending or held.
    BodyNeeded,
    NotFailed,
    /// The event failed verification and was not released.
    InQuarantine,
    /// The source of an event was deleted.
    SourceGone,
    ReplayFinished,
    /// The replay has ended, so it cannot be paused, resumed or changed.
    ReplayEnded,
    OperationFinished,
    /// Operations of this kind run to their end.
    NotCancellable,
    /// No master key opens the signing secrets of a destination.
    SecretClosed,
    SourceLimit,
    DestinationLimit,
    DefaultCustomer,
    /// A call with the same idempotency key was carried out, and its answer is not kept.
    AnswerNotKept,
    /// The request was made with a token, so there is no session to end.
    NoSession,
    /// All sessions of the token or user were made within the last minutes.
    TooManySessions,
}

impl Conflict {
    /// The stable code of the conflict.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NameTaken => "name_taken",
            Self::RouteExists => "route_exists",
            Self::ChangedMeanwhile => "changed_meanwhile",
            Self::NotPending => "not_pending",
            Self::DestinationGone => "destination_gone",
            Self::BodyGone => "body_gone",
            Self::BodyNeeded => "body_needed",
            Self::NotFailed => "not_failed",
            Self::InQuarantine => "in_quarantine",
            Self::SourceGone => "source_gone",
            Self::ReplayFinished => "replay_finished",
            Self::ReplayEnded => "replay_ended",
            Self::OperationFinished => "operation_finished",
            Self::NotCancellable => "not_cancellable",
            Self::SecretClosed => "secret_closed",
            Self::SourceLimit => "source_limit",
            Self::DestinationLimit => "destination_limit",
            Self::DefaultCustomer => "default_customer",
            Self::AnswerNotKept => "answer_not_kept",
            Self::NoSession => "no_session",
            Self::TooManySessions => "too_many_sessions",
        }
    }

    /// What happened and what to do, for the caller.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::NameTaken => "the name is already in use; choose a different name, or update the existing object",
            Self::RouteExists => {
                "a route from this source to this destination already exists; update that route instead"
            }
            Self::ChangedMeanwhile => {
                "another request changed or deleted the object at the same time; fetch it again and retry"
            }
            Self::NotPending => {
                "the delivery has already succeeded or is dead; only a pending or held delivery can be cancelled"
            }
            Self::DestinationGone => {
                "the destination of this delivery has been deleted; replay the event to another destination"
            }
            Self::BodyGone => {
                "the body of this event is past its retention period or was erased, so the event can no longer be \
                 delivered; ask the provider to send it again"
            }
            Self::BodyNeeded => {
                "a delivery of this event is pending or held and needs the body; wait until it has ended, or cancel it, \
                 and then erase the body"
            }
            Self::NotFailed => "this event is not in quarantine; only quarantined events can be released",
            Self::InQuarantine => "this event failed verification and is in quarantine; release it, and then send it",
            Self::SourceGone => {
                "the source of this event was deleted, so an edited copy of it cannot be stored; send the event itself"
            }
            Self::ReplayFinished => {
                "the replay has ended and none of its deliveries is pending or held, so there is nothing to cancel"
            }
            Self::ReplayEnded => {
                "the replay has ended, so it can no longer be paused, resumed or changed; create another replay"
            }
            Self::OperationFinished => "the operation has ended, so there is nothing to cancel",
            Self::NotCancellable => {
                "an operation of this kind cannot be cancelled, because a part of its work would be useless or harmful; \
                 wait until it has ended"
            }
            Self::SecretClosed => {
                "no key in TIDEGATE_MASTER_KEY decrypts the signing secret of this destination; append the key with \
                 which it was encrypted, or rotate the signing secret"
            }
            Self::SourceLimit => {
                "the customer already has as many sources as its max_sources allows; delete one, or have the limit raised"
            }
            Self::DestinationLimit => {
                "the customer already has as many destinations as its max_destinations allows; delete one, or have the \
                 limit raised"
            }
            Self::DefaultCustomer => {
                "the default customer cannot be renamed or deleted: the URLs of its sources do not contain its name, and \
                 a token that is bound to no customer acts for it"
            }
            Self::AnswerNotKept => {
                "an earlier request with this Idempotency-Key was carried out, and its response is not kept; fetch the \
                 objects that it was about, and use a new key only if you want to make the change once more"
            }
            Self::TooManySessions => {
                "the most sessions of this token or user were made within the last ten minutes; use the cookie of one of them, \
                 or try again in ten minutes"
            }
            Self::NoSession => {
                "the request was authenticated by a token, so it has no session that could end; to end all sessions of the \
                 token, delete its sessions, and to end the token itself, revoke it"
            }
        }
    }
}

/// Why a sign-in with the OpenID Connect provider fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignInError {
    /// No provider is configured.
    NotConfigured,
    /// The browser comes back from a sign-in that it has not begun here, or that took too long.
    Unknown,
    /// The provider has refused. Contains its code.
    Refused(String),
    /// None of the groups of the user may sign in.
    NoGroup { claim: String, groups: Vec<String> },
    /// The provider cannot be reached. The text is for the log.
    Provider(String),
    /// The provider does not accept the code, or its ID token is not one for this sign-in. The text is for the log.
    Invalid(String),
}

/// The most groups that an error names.
const GROUPS_NAMED: usize = 10;

impl SignInError {
    /// What happened and what to do, for the user who signs in.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::NotConfigured => {
                "sign-in with OpenID Connect is not configured; set TIDEGATE_OIDC_ISSUER and the settings that belong to it"
                    .to_owned()
            }
            Self::Unknown => "this sign-in is unknown, or it took longer than ten minutes".to_owned(),
            Self::Refused(code) => format!("the OpenID Connect provider refused the sign-in ({code})"),
            Self::NoGroup { claim, groups } => {
                let named = groups.iter().take(GROUPS_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
                let found = if groups.is_empty() { "no groups".to_owned() } else { format!("only {named}") };
                format!(
                    "no group of this user may sign in: the provider's claim \"{claim}\" has {found}; an operator can map \
                     a group to scopes with TIDEGATE_OIDC_GROUPS"
                )
            }
            Self::Provider(_) => {
                "the OpenID Connect provider cannot be reached, or refuses the relay as its client; the relay's log has the \
                 reason".to_owned()
            }
            Self::Invalid(_) => {
                "the answer of the OpenID Connect provider is not valid for this sign-in; the relay's log has the reason"
                    .to_owned()
            }
        }
    }

    fn cause(&self) -> Option<&str> {
        match self {
            Self::Provider(cause) | Self::Invalid(cause) => Some(cause),
            Self::NotConfigured | Self::Unknown | Self::Refused(_) | Self::NoGroup { .. } => None,
        }
    }
}

impl Error {
    /// What happened and what to do, for the caller.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Unauthenticated => {
                "send a token that is not expired and not revoked; a token with the scope admin can create one"
                    .to_owned()
            }
            Self::TooManyWrongTokens(wait) => format!(
                "too many wrong tokens have come from this address; wait {} s, and then send a token that is not expired \
                 and not revoked",
                whole_seconds(*wait)
            ),
            Self::TooManyStreams(Full::Caller) => format!(
                "this token or session has {STREAMS_PER_CALLER} streams open on this replica, which is the most; close \
                 one, or use another token"
            ),
            Self::TooManyStreams(Full::Replica) => {
                format!("this replica has {STREAMS} streams open, which is the most; retry in a moment")
            }
            Self::ForeignPosition => {
                "this position is of another history of the database, which was restored or whose server another one has \
                 replaced; list the events since then, and begin a stream without a position"
                    .to_owned()
            }
            Self::PositionTooOld => {
                "the changes after this position are no longer kept; list the events since then, and begin a stream without \
                 a position"
                    .to_owned()
            }
            Self::Forbidden(forbidden) => forbidden.detail(),
            Self::NotFound(Noun::ChangedCopy) => "this event has no copy with a different body".to_owned(),
            Self::NotFound(noun @ (Noun::Source | Noun::Destination | Noun::Route | Noun::Customer)) => {
                format!("this {noun} does not exist; check the id or name")
            }
            Self::NotFound(noun) => format!("this {noun} does not exist; check the id"),
            Self::PastRetention(retention) => past_retention(*retention),
            Self::BodyErased => "the body of this event was erased, as body_erased_at of the event says".to_owned(),
            Self::Invalid(errors) => errors.iter().map(FieldError::text).collect::<Vec<_>>().join("; "),
            Self::Conflict(conflict) => conflict.detail().to_owned(),
            Self::Changed { exists: true } => {
                "the object is not in the state that If-Match or If-None-Match demands: it exists, and its ETag is another \
                 one; fetch it again, make your change to what it is now, and send its new ETag"
                    .to_owned()
            }
            Self::Changed { exists: false } => {
                "the object does not exist, and If-Match demands that it does; omit If-Match to create it".to_owned()
            }
            Self::StillRunning(_) => {
                "the first request with this Idempotency-Key has not ended; repeat the request in a moment".to_owned()
            }
            Self::TooManyKeys => format!(
                "this caller has used {} idempotency keys today (UTC), which is the limit; use another token, omit the \
                 key, or wait until tomorrow",
                MAX_KEYS_A_DAY
            ),
            Self::TooManyRequests(wait) => format!(
                "this caller has made too many requests; wait {} s, and see the headers RateLimit and RateLimit-Policy",
                whole_seconds(*wait)
            ),
            Self::SignIn(error) => error.detail(),
            Self::StillUnreadable(detail) | Self::NotTried(detail) | Self::WrongClock(detail) | Self::Edge(detail) => {
                detail.clone()
            }
            Self::Unavailable(_) => {
                "the database is unavailable; retry in a moment. If the request was a change, it may or may not have \
                 been saved"
                    .to_owned()
            }
            Self::Busy => {
                "other requests hold too many event bodies in memory; retry in a moment. A response that its client \
                 reads slowly holds its bodies longer"
                    .to_owned()
            }
            Self::TooManyWaiting => format!(
                "this token has {MAX_WAITERS_OF_TOKEN} waiting calls at this relay, counting those with its await tokens; \
                 retry when one of them has ended"
            ),
            Self::NoRoomToWait => format!(
                "{MAX_WAITERS} calls are waiting at this relay, or as many as its open files allow; retry in a moment, or \
                 at another replica"
            ),
            Self::SearchesBusy => "other requests are searching bodies; retry in a moment".to_owned(),
            Self::NotReady(problems) => problems.join("; "),
            Self::Internal(_) => {
                "an internal error occurred; the relay's log has the cause under the x-request-id of this response. \
                 Retrying may help"
                    .to_owned()
            }
        }
    }

    /// The cause, for the operator's log; `None` if the error concerns only the caller.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::NotTried(cause) | Self::Edge(cause) | Self::Unavailable(cause) | Self::Internal(cause) => Some(cause),
            Self::SignIn(error) => error.cause(),
            Self::Unauthenticated
            | Self::TooManyWrongTokens(_)
            | Self::TooManyStreams(_)
            | Self::ForeignPosition
            | Self::PositionTooOld
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::PastRetention(_)
            | Self::BodyErased
            | Self::Invalid(_)
            | Self::Conflict(_)
            | Self::Changed { .. }
            | Self::StillRunning(_)
            | Self::TooManyKeys
            | Self::TooManyRequests(_)
            | Self::StillUnreadable(_)
            | Self::NotReady(_)
            | Self::TooManyWaiting
            | Self::NoRoomToWait
            | Self::Busy
            | Self::SearchesBusy
            | Self::WrongClock(_) => None,
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        let cause = error.to_string();
        match error.kind() {
            Kind::Unavailable | Kind::Timeout(_) => Self::Unavailable(cause),
            Kind::Conflict(Constraint::SourceLimit) => Self::Conflict(Conflict::SourceLimit),
            Kind::Conflict(Constraint::DestinationLimit) => Self::Conflict(Conflict::DestinationLimit),
            // The customer of a call that was in progress.
            Kind::Conflict(Constraint::CustomerGone) => Self::Conflict(Conflict::ChangedMeanwhile),
            Kind::Conflict(Constraint::CustomerName) => Self::Conflict(Conflict::NameTaken),
            Kind::Interrupted
            | Kind::Locked
            | Kind::Conflict(_)
            | Kind::Data
            | Kind::MissingPartition(_)
            | Kind::Changed
            | Kind::Other => Self::Internal(cause),
        }
    }
}

/// A time in whole seconds, rounded up.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Explains why the body of an event cannot be shown or delivered again.
pub(super) fn past_retention(retention: Retention) -> String {
    format!(
        "event bodies are kept for {} days (TIDEGATE_BODY_RETENTION_DAYS), and this period has passed",
        retention.body_days
    )
}

/// Explains why a replay has skipped events.
pub(super) fn without_body(retention: Retention) -> String {
    format!(
        "{}; or their customer has a shorter body_retention_days, or their bodies were erased",
        past_retention(retention)
    )
}

/// Converts errors of the store for a request that can violate these constraints: a violation of one of them is the
/// conflict next to it.
pub(super) fn conflict_of(conflicts: &[(Constraint, Conflict)]) -> impl Fn(store::Error) -> Error {
    move |error| {
        let conflict = conflicts.iter().find(|(constraint, _)| error.kind() == Kind::Conflict(*constraint));
        conflict.map_or_else(|| error.into(), |(_, conflict)| Error::Conflict(*conflict))
    }
}

#[cfg(test)]
mod tests {
    use store::Limit;

    use super::*;

    #[test]
    fn causes_are_not_shown() {
        let secret = || "relation secret".to_owned();
        for error in [Error::Internal(secret()), Error::Unavailable(secret())] {
            assert_eq!(error.cause(), Some("relation secret"));
            assert!(!error.detail().contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn a_database_that_does_not_answer_is_unavailable_and_not_internal() {
        for (kind, is_unavailable) in [
            (Kind::Unavailable, true),
            (Kind::Timeout(Limit::Relay), true),
            (Kind::Timeout(Limit::Server), true),
            (Kind::Interrupted, false),
            (Kind::Locked, false),
            (Kind::Conflict(Constraint::Reference), false),
            (Kind::Data, false),
            (Kind::MissingPartition(None), false),
            (Kind::Changed, false),
            (Kind::Other, false),
        ] {
            let error = Error::from(store::Error::new(kind, "relation secret"));
            assert_eq!(matches!(error, Error::Unavailable(_)), is_unavailable, "{kind:?}");
            assert_eq!(matches!(error, Error::Internal(_)), !is_unavailable, "{kind:?}");
            assert_eq!(error.cause(), Some("relation secret"));
        }
    }

    #[test]
    fn a_constraint_violation_is_a_conflict_only_if_the_request_can_cause_it() {
        let convert = conflict_of(&[(Constraint::SourceName, Conflict::NameTaken)]);
        let error = |kind| store::Error::new(kind, "it is refused");
        assert!(matches!(convert(error(Kind::Conflict(Constraint::SourceName))), Error::Conflict(Conflict::NameTaken)));
        for kind in [Kind::Conflict(Constraint::Reference), Kind::Data] {
            assert!(matches!(convert(error(kind)), Error::Internal(_)), "{kind:?}");
        }
    }
}
