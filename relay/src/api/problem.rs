//! What the API answers when it refuses: problem documents (RFC 9457).
//!
//! The variants of [`ApiError`] are all there are; most are errors of the control layer, whose causes are logged here and never
//! shown.

use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::control;
use crate::control::error::Conflict;
use crate::control::fields::FieldError;

/// Why a request is refused.
#[derive(Debug)]
pub enum ApiError {
    /// No bearer token, or a wrong one.
    Unauthorized,
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
    /// The call took too long and was broken off.
    TookTooLong,
    /// What is asked for is refused, or failed.
    Refused(control::Error),
}

impl From<control::Error> for ApiError {
    fn from(error: control::Error) -> Self {
        Self::Refused(error)
    }
}

/// The status, the kind and the title of a problem, and its stable code.
type Class = (StatusCode, &'static str, &'static str, &'static str);

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
            Self::Refused(control::Error::Invalid(errors)) => errors.clone(),
            Self::NulCharacter(error) => vec![error.clone()],
            Self::Unauthorized
            | Self::NoSuchCall
            | Self::MethodNotAllowed
            | Self::Unreadable(_)
            | Self::TooLarge
            | Self::TooSlow
            | Self::TookTooLong
            | Self::Refused(_) => Vec::new(),
        };
        Problem { kind, title, status: status.as_u16(), detail: self.detail(), code, errors }
    }

    fn class(&self) -> Class {
        match self {
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "/problems/unauthorized", "a bearer token is needed", "unauthorized")
            }
            Self::NoSuchCall => NOT_FOUND,
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
            Self::TookTooLong => {
                (StatusCode::GATEWAY_TIMEOUT, "/problems/took-too-long", "the call took too long", "took_too_long")
            }
            Self::Refused(error) => class_of(error),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unauthorized => "send the header Authorization: Bearer with the token of this relay".to_owned(),
            Self::NoSuchCall => "there is no such call; /openapi.json describes those that there are".to_owned(),
            Self::MethodNotAllowed => {
                "the header Allow names the methods; /openapi.json describes every call".to_owned()
            }
            Self::Unreadable(detail) => detail.clone(),
            Self::TooLarge => format!("send at most {} bytes", super::MAX_BODY_BYTES),
            Self::TooSlow => "the body did not arrive in time; send the request again".to_owned(),
            Self::NulCharacter(error) => error.text(),
            Self::TookTooLong => {
                "it was broken off, and a change may or may not be stored; look at it before you send it again"
                    .to_owned()
            }
            Self::Refused(control::Error::Conflict(conflict)) => match call_for(*conflict) {
                Some(call) => format!("{} ({call})", conflict.detail()),
                None => conflict.detail().to_owned(),
            },
            Self::Refused(error) => error.detail(),
        }
    }
}

/// The call by which a caller does what a conflict proposes.
fn call_for(conflict: Conflict) -> Option<&'static str> {
    match conflict {
        Conflict::NameTaken => Some("PUT …/by-name/{name}"),
        Conflict::SecretClosed => Some("POST …/signing-secret/rotate"),
        Conflict::RouteExists
        | Conflict::ChangedMeanwhile
        | Conflict::NotPending
        | Conflict::DestinationGone
        | Conflict::BodyGone
        | Conflict::NotFailed
        | Conflict::ReplayFinished => None,
    }
}

const NOT_FOUND: Class = (StatusCode::NOT_FOUND, "/problems/not-found", "not found", "not_found");

/// What an error of the control layer is over HTTP.
fn class_of(error: &control::Error) -> Class {
    use control::Error;
    match error {
        Error::NotFound(_) => NOT_FOUND,
        Error::PastRetention(_) => (StatusCode::GONE, "/problems/past-retention", "no longer kept", "past_retention"),
        Error::Invalid(errors) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "/problems/validation",
            "some values are wrong",
            errors.iter().find_map(|error| error.code).unwrap_or("validation"),
        ),
        Error::Conflict(conflict) => {
            (StatusCode::CONFLICT, "/problems/conflict", "this does not go with what is there", conflict.code())
        }
        Error::StillUnreadable(_) => {
            (StatusCode::CONFLICT, "/problems/conflict", "the message is still unreadable", "still_unreadable")
        }
        Error::WrongClock(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "/problems/wrong-clock",
            "the clock of this machine is wrong, so nothing is pulled",
            "wrong_clock",
        ),
        Error::NotTried(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "/problems/unavailable", "the message could not be tried", "unavailable")
        }
        Error::Edge(_) => (StatusCode::BAD_GATEWAY, "/problems/edge", "the edge did not do its part", "edge"),
        Error::Unavailable(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "/problems/unavailable", "the database cannot be reached", "unavailable")
        }
        Error::NotActive(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "/problems/not-in-force",
            "the change is stored and not in force yet",
            "not_in_force",
        ),
        Error::NotReady(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "/problems/not-ready", "a part of the relay does not work", "not_ready")
        }
        Error::Internal(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "/problems/internal", "something went wrong here", "internal")
        }
    }
}

/// Logs what the operator has to know of an error.
fn log(error: &control::Error) {
    use control::Error;
    let Some(cause) = error.cause() else { return };
    match error {
        Error::Internal(_) => tracing::error!(error = cause, "a request failed"),
        Error::Unavailable(_) => tracing::warn!(error = cause, "a request failed because the database is unavailable"),
        Error::NotActive(_) => {
            tracing::warn!(error = cause, "a change is stored and not active yet; the relay reads it again");
        }
        Error::Edge(_) => tracing::warn!(error = cause, "a request failed because of the edge"),
        Error::NotTried(_) => tracing::warn!(error = cause, "an unreadable message cannot be tried now"),
        Error::NotFound(_)
        | Error::PastRetention(_)
        | Error::Invalid(_)
        | Error::Conflict(_)
        | Error::StillUnreadable(_)
        | Error::NotReady(_)
        | Error::WrongClock(_) => {}
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Refused(error) = &self {
            log(error);
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
        let errors =
            vec![FieldError::new("name", "is missing"), FieldError::with_code("url", "egress_blocked", "blocked")];
        let problem = ApiError::from(control::Error::Invalid(errors)).problem();
        assert_eq!(
            serde_json::to_value(problem).expect("json"),
            serde_json::json!({
                "type": "/problems/validation",
                "title": "some values are wrong",
                "status": 422,
                "detail": "name: is missing; url: blocked",
                "code": "egress_blocked",
                "errors": [{"field": "name", "message": "is missing"}, {"field": "url", "message": "blocked"}],
            })
        );
    }

    #[test]
    fn a_conflict_that_another_call_resolves_names_that_call() {
        let detail = |conflict| ApiError::from(control::Error::Conflict(conflict)).problem().detail;
        assert!(detail(Conflict::NameTaken).ends_with("change what has it (PUT …/by-name/{name})"));
        assert!(detail(Conflict::SecretClosed).ends_with("rotate the secret (POST …/signing-secret/rotate)"));
        assert_eq!(detail(Conflict::RouteExists), Conflict::RouteExists.detail());
    }

    #[test]
    fn a_refusal_for_want_of_a_token_says_how_to_authenticate() {
        let response = ApiError::Unauthorized.into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"tidegate\"");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}
