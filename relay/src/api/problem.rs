//! What the API answers when it refuses: problem documents (RFC 9457).
//!
//! The variants of [`ApiError`] are all there are. What is meant for the caller and what is meant for the operator are
//! different fields: causes are logged and never shown.

use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::history::Retention;

/// Why a request is refused.
#[derive(Debug)]
pub enum ApiError {
    /// No bearer token, or a wrong one.
    Unauthorized,
    /// What is asked for does not exist, or belongs to somebody else.
    NotFound(&'static str),
    /// The body of an event is no longer kept.
    PastRetention(Retention),
    /// The path is none of this API's.
    NoSuchCall,
    MethodNotAllowed,
    /// The request cannot be read: what is wrong and what to do.
    Unreadable(String),
    /// The field holds the character NUL, which no text of the database can hold.
    NulCharacter(FieldError),
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
    /// Fields with wrong values.
    Invalid(Vec<FieldError>),
    Conflict(Conflict),
    /// A message was tried again and still cannot be stored as what it is: why.
    StillUnreadable(String),
    /// A message could not be tried, because the database or the edge does not answer: what it says.
    NotTried(String),
    /// The edge did not do its part: what it says.
    Edge(String),
    /// The database cannot be asked; the cause, for the log.
    Unavailable(String),
    /// A change is stored, and this replica cannot read it back now; the cause, for the log.
    NotInForce(String),
    /// The relay's clock and the database's differ: by how much.
    WrongClock(String),
    /// The call took too long and was broken off.
    TookTooLong,
    /// A part of the relay does not do its work: which.
    NotReady(Vec<String>),
    /// Our fault; the cause, for the log.
    Internal(String),
}

/// A request that does not go with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    NameTaken,
    RouteExists,
    ChangedMeanwhile,
    NotPending,
    DestinationGone,
    BodyGone,
    NotFailed,
    ReplayFinished,
    /// No master key opens the signing keys of a destination.
    SecretClosed,
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field, such as `rate_limit.per`; empty where it is the request as a whole.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
    #[serde(skip)]
    code: Option<&'static str>,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), code: None }
    }

    /// With the stable code of the part of the gateway that refused it.
    pub(crate) fn with_code(field: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), code: Some(code) }
    }

    fn text(&self) -> String {
        if self.field.is_empty() { self.message.clone() } else { format!("{}: {}", self.field, self.message) }
    }
}

/// Collects what is wrong, so that a caller hears of everything at once.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<FieldError>);

impl Problems {
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError::new(field, message));
    }

    pub(crate) fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// Adds a problem unless `number` is in its range, and hands it back if it is.
    pub(crate) fn range(&mut self, field: &str, number: i64, least: i32, most: i32) -> Option<i32> {
        let found = i32::try_from(number).ok().filter(|number| (least..=most).contains(number));
        if found.is_none() {
            self.add(field, format!("is {number}; give {least} to {most}"));
        }
        found
    }

    /// What a field names; where that does not exist, it is noted.
    pub(crate) fn named<T>(
        &mut self,
        field: &str,
        text: &str,
        found: Result<T, ApiError>,
    ) -> Result<Option<T>, ApiError> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(ApiError::NotFound(what)) => {
                self.add(field, format!("there is no {what} \"{text}\"; give its id or name"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Goes on where nothing is wrong.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::Invalid(self.0)) }
    }

    /// As [`Problems::finish`], with what was read in the meantime; it is there where nothing is wrong.
    pub(crate) fn finish_with<T>(self, read: Option<T>) -> Result<T, ApiError> {
        self.finish()?;
        read.ok_or_else(|| ApiError::Internal("a value is missing and no problem was noted".to_owned()))
    }
}

/// A problem document, `application/problem+json`.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is; stable.
    #[serde(rename = "type")]
    #[schema(example = "/problems/validation")]
    pub kind: &'static str,
    pub title: &'static str,
    pub status: u16,
    /// What happened here and what to do.
    pub detail: String,
    /// A stable code, finer than `type` where there is more to tell apart.
    #[schema(example = "egress_blocked")]
    pub code: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl ApiError {
    /// The document that the caller gets.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let (status, kind, title, code) = self.class();
        let errors = match self {
            Self::Invalid(errors) => errors.clone(),
            Self::NulCharacter(error) => vec![error.clone()],
            Self::Unauthorized
            | Self::NotFound(_)
            | Self::PastRetention(_)
            | Self::NoSuchCall
            | Self::MethodNotAllowed
            | Self::Unreadable(_)
            | Self::TooLarge
            | Self::TooSlow
            | Self::Conflict(_)
            | Self::StillUnreadable(_)
            | Self::NotTried(_)
            | Self::Edge(_)
            | Self::Unavailable(_)
            | Self::NotInForce(_)
            | Self::WrongClock(_)
            | Self::NotReady(_)
            | Self::TookTooLong
            | Self::Internal(_) => Vec::new(),
        };
        Problem { kind, title, status: status.as_u16(), detail: self.detail(), code, errors }
    }

    fn class(&self) -> (StatusCode, &'static str, &'static str, &'static str) {
        match self {
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "/problems/unauthorized", "a bearer token is needed", "unauthorized")
            }
            Self::NotFound(_) | Self::NoSuchCall => {
                (StatusCode::NOT_FOUND, "/problems/not-found", "not found", "not_found")
            }
            Self::PastRetention(_) => {
                (StatusCode::GONE, "/problems/past-retention", "no longer kept", "past_retention")
            }
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "/problems/method-not-allowed",
                "this method is not offered here",
                "method_not_allowed",
            ),
            Self::Unreadable(_) => {
                (StatusCode::BAD_REQUEST, "/problems/unreadable", "the request cannot be read", "unreadable")
            }
            Self::NulCharacter(_) => {
                (StatusCode::BAD_REQUEST, "/problems/unreadable", "the request cannot be read", "nul_character")
            }
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "/problems/body-too-large", "the body is too large", "body_too_large")
            }
            Self::TooSlow => {
                (StatusCode::REQUEST_TIMEOUT, "/problems/body-too-slow", "the body came too slowly", "body_too_slow")
            }
            Self::Invalid(errors) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "/problems/validation",
                "some values are wrong",
                errors.iter().find_map(|error| error.code).unwrap_or("validation"),
            ),
            Self::Conflict(conflict) => {
                (StatusCode::CONFLICT, "/problems/conflict", "this does not go with what is there", conflict.code())
            }
            Self::StillUnreadable(_) => {
                (StatusCode::CONFLICT, "/problems/conflict", "the message is still unreadable", "still_unreadable")
            }
            Self::WrongClock(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "/problems/wrong-clock",
                "the clock of this machine is wrong, so nothing is pulled",
                "wrong_clock",
            ),
            Self::TookTooLong => {
                (StatusCode::GATEWAY_TIMEOUT, "/problems/took-too-long", "the call took too long", "took_too_long")
            }
            Self::NotReady(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "/problems/not-ready",
                "a part of the relay does not work",
                "not_ready",
            ),
            Self::NotTried(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "/problems/unavailable",
                "the message could not be tried",
                "unavailable",
            ),
            Self::Edge(_) => (StatusCode::BAD_GATEWAY, "/problems/edge", "the edge did not do its part", "edge"),
            Self::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "/problems/unavailable",
                "the database cannot be reached",
                "unavailable",
            ),
            Self::NotInForce(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "/problems/not-in-force",
                "the change is stored and not in force yet",
                "not_in_force",
            ),
            Self::Internal(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "/problems/internal", "something went wrong here", "internal")
            }
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unauthorized => "send the header Authorization: Bearer with the token of this relay".to_owned(),
            Self::NotFound(what) => format!("there is no such {what}; check its id or name"),
            Self::PastRetention(retention) => past_retention(*retention),
            Self::NoSuchCall => "there is no such call; /openapi.json describes those that there are".to_owned(),
            Self::MethodNotAllowed => {
                "the header Allow names the methods; /openapi.json describes every call".to_owned()
            }
            Self::Unreadable(detail) => detail.clone(),
            Self::TooLarge => format!("send at most {} bytes", super::MAX_BODY_BYTES),
            Self::TooSlow => "the body did not arrive in time; send the request again".to_owned(),
            Self::Invalid(errors) => errors.iter().map(FieldError::text).collect::<Vec<_>>().join("; "),
            Self::NulCharacter(error) => error.text(),
            Self::Conflict(conflict) => conflict.detail().to_owned(),
            Self::StillUnreadable(detail) | Self::NotTried(detail) | Self::WrongClock(detail) => detail.clone(),
            Self::Edge(detail) => detail.clone(),
            Self::NotReady(problems) => problems.join("; "),
            Self::TookTooLong => {
                "it was broken off, and a change may or may not be stored; look at it before you send it again".to_owned()
            }
            Self::Unavailable(_) => "nothing was changed that was not confirmed; try again in a moment".to_owned(),
            Self::NotInForce(_) => {
                "it comes into force as soon as the relay can read it from the database; look at it before you send it again"
                    .to_owned()
            }
            Self::Internal(_) => "the relay's log has the cause; trying again may help".to_owned(),
        }
    }
}

impl Conflict {
    fn code(self) -> &'static str {
        match self {
            Self::NameTaken => "name_taken",
            Self::RouteExists => "route_exists",
            Self::ChangedMeanwhile => "changed_meanwhile",
            Self::NotPending => "not_pending",
            Self::DestinationGone => "destination_gone",
            Self::BodyGone => "body_gone",
            Self::NotFailed => "not_failed",
            Self::ReplayFinished => "replay_finished",
            Self::SecretClosed => "secret_closed",
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Self::NameTaken => "the name is taken; choose another one, or change what has it with PUT …/by-name/{name}",
            Self::RouteExists => "a route joins this source and this destination already; change that one",
            Self::ChangedMeanwhile => "another call changed or deleted it at the same time; read it and try again",
            Self::NotPending => "the delivery is settled already; only pending ones can be cancelled",
            Self::DestinationGone => {
                "the destination of this delivery has been deleted; replay the event to another one"
            }
            Self::BodyGone => "the body of this event is no longer kept, so it cannot be sent again",
            Self::NotFailed => "only an event in quarantine can be released: one whose signature failed",
            Self::ReplayFinished => "the replay has ended and nothing of it is pending",
            Self::SecretClosed => {
                "no key of TIDEGATE_MASTER_KEY opens the signing secret of this destination; append the key that it was \
                 sealed with, or replace the secret with POST …/signing-secret/rotate"
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match &self {
            Self::Internal(error) => tracing::error!(error, "a request failed"),
            Self::Unavailable(error) => tracing::warn!(error, "a request failed because the database is unavailable"),
            Self::NotInForce(error) => {
                tracing::warn!(error, "a change is stored and not active yet; the relay reads it again");
            }
            Self::Edge(error) => tracing::warn!(error, "a request failed because of the edge"),
            Self::NotTried(error) => tracing::warn!(error, "an unreadable message cannot be tried now"),
            Self::Unauthorized
            | Self::NotFound(_)
            | Self::PastRetention(_)
            | Self::NoSuchCall
            | Self::MethodNotAllowed
            | Self::Unreadable(_)
            | Self::TooLarge
            | Self::TooSlow
            | Self::Invalid(_)
            | Self::NulCharacter(_)
            | Self::Conflict(_)
            | Self::StillUnreadable(_)
            | Self::WrongClock(_)
            | Self::NotReady(_)
            | Self::TookTooLong => {}
        }
        let (status, ..) = self.class();
        let mut response = (status, Json(self.problem())).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        let cause = error.to_string();
        // Of the rest, the classes 08 (connection), 53 (resources) and 57 (operator intervention) pass by themselves
        // (PostgreSQL, appendix A).
        let passing = ["08", "53", "57"];
        let unavailable = match error.as_database_error() {
            Some(error) => error.code().is_some_and(|code| passing.iter().any(|class| code.starts_with(class))),
            None => matches!(
                error,
                sqlx::Error::Io(_)
                    | sqlx::Error::Tls(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::PoolClosed
                    | sqlx::Error::WorkerCrashed
            ),
        };
        if unavailable { Self::Unavailable(cause) } else { Self::Internal(cause) }
    }
}

/// Why an event cannot be shown whole, or delivered again.
pub(crate) fn past_retention(retention: Retention) -> String {
    format!("the body is past its retention of {} days", retention.body_days)
}

/// What an error of the database is for the caller, where `constraint` is one that a request can run into.
pub(crate) fn conflict_of(constraint: &'static str, conflict: Conflict) -> impl Fn(sqlx::Error) -> ApiError {
    move |error| match error.as_database_error() {
        Some(refused) if refused.constraint() == Some(constraint) => ApiError::Conflict(conflict),
        Some(_) | None => error.into(),
    }
}

/// The answers that every call may give besides its own, for the API's description.
pub(crate) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new()
            .description("a problem document (RFC 9457): 400, 401, 404, 405, 409, 410, 413, 422, 500, 502, 503 or 504")
            .content("application/problem+json", content)
            .build();
        BTreeMap::from([("default".to_owned(), RefOr::T(response))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_every_wrong_field_and_the_first_code() {
        let mut problems = Problems::default();
        problems.add("name", "is missing");
        problems.push(FieldError::with_code("url", "egress_blocked", "blocked"));
        let problem = problems.finish().err().map(|error| serde_json::to_value(error.problem()).expect("json"));
        assert_eq!(
            problem,
            Some(serde_json::json!({
                "type": "/problems/validation",
                "title": "some values are wrong",
                "status": 422,
                "detail": "name: is missing; url: blocked",
                "code": "egress_blocked",
                "errors": [{"field": "name", "message": "is missing"}, {"field": "url", "message": "blocked"}],
            }))
        );
    }

    #[test]
    fn causes_are_not_shown() {
        let secret = || "relation secret".to_owned();
        for error in [ApiError::Internal(secret()), ApiError::Unavailable(secret()), ApiError::NotInForce(secret())] {
            let text = serde_json::to_string(&error.problem()).expect("json");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_refusal_for_want_of_a_token_says_how_to_authenticate() {
        let response = ApiError::Unauthorized.into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"tidegate\"");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }

    #[test]
    fn a_database_that_cannot_be_reached_is_unavailable_and_not_internal() {
        assert!(matches!(ApiError::from(sqlx::Error::PoolTimedOut), ApiError::Unavailable(_)));
        assert!(matches!(ApiError::from(sqlx::Error::RowNotFound), ApiError::Internal(_)));
    }
}
