//! The error responses of the API: problem documents (RFC 9457).
//!
//! [`ApiError`] has all of them. Most are errors of the control layer; if they have a cause for the operator, it is
//! logged here.

use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::openapi::{Ref, RefOr};
use utoipa::{IntoResponses, ToSchema};

use crate::control;
use crate::control::error::{Conflict, SignInError, whole_seconds};
use crate::control::fields::FieldError;
use crate::control::sign_in;
use crate::control::stream::FULL_WAIT;

/// Why a request is refused or fails.
#[derive(Debug)]
pub enum ApiError {
    /// The bearer token is missing, or it is not accepted.
    Unauthorized,
    /// The cookie of a session is not accepted.
    SessionEnded,
    /// A request with the cookie of a session does not come from the relay's own pages. The text says how that shows.
    CrossSite(&'static str),
    /// A session is not made for a host that is reached by plain HTTP.
    PlainHttp,
    /// The API has no such path.
    NoSuchCall,
    MethodNotAllowed,
    /// The request cannot be read. The text says what is wrong and what to do.
    Unreadable(String),
    /// The field contains the character NUL, which PostgreSQL cannot store.
    NulCharacter(FieldError),
    TooLarge,
    /// The request body did not arrive in time.
    TooSlow,
    /// The call took too long and was cancelled.
    TookTooLong,
    /// The control layer refuses the request or fails.
    Refused(control::Error),
}

impl From<control::Error> for ApiError {
    fn from(error: control::Error) -> Self {
        if matches!(error, control::Error::Unauthenticated) { Self::Unauthorized } else { Self::Refused(error) }
    }
}

/// When a caller may repeat a request of which the first one has not ended, in seconds.
const STILL_RUNNING_RETRY_S: u64 = 1;

/// When a caller that has used too many idempotency keys may try again, in seconds.
const TOO_MANY_KEYS_RETRY_S: u64 = 3_600;

/// The status, the kind and the title of a problem, and its stable code.
type Class = (StatusCode, &'static str, &'static str, &'static str);

/// A problem document, `application/problem+json`.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// A URI reference that identifies the kind of problem. It does not change between versions.
    #[serde(rename = "type")]
    #[schema(example = "/problems/validation")]
    pub kind: &'static str,
    /// A short summary of the kind of problem.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do.
    pub detail: String,
    /// A machine-readable code, more specific than `type`. It does not change between versions.
    #[schema(example = "egress_blocked")]
    pub code: &'static str,
    /// The invalid fields and parameters. Present only with status 422, and with status 400 if `code` is
    /// `nul_character`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl ApiError {
    /// Logs the cause, if it concerns the operator.
    pub(crate) fn log(&self) {
        if let Self::Refused(error) = self {
            log(error);
        }
    }

    /// The document that is sent to the caller.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let (status, kind, title, code) = self.class();
        let errors = match self {
            Self::Refused(control::Error::Invalid(errors)) => errors.clone(),
            Self::NulCharacter(error) => vec![error.clone()],
            Self::Unauthorized
            | Self::SessionEnded
            | Self::CrossSite(_)
            | Self::PlainHttp
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
            Self::Unauthorized | Self::SessionEnded => UNAUTHORIZED,
            Self::CrossSite(_) => {
                (StatusCode::FORBIDDEN, "/problems/cross-site", "request from another site", "cross_site")
            }
            Self::PlainHttp => (StatusCode::FORBIDDEN, "/problems/plain-http", "HTTPS required", "plain_http"),
            Self::NoSuchCall => NOT_FOUND,
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "/problems/method-not-allowed",
                "method not allowed",
                "method_not_allowed",
            ),
            Self::Unreadable(_) => (StatusCode::BAD_REQUEST, "/problems/unreadable", "malformed request", "unreadable"),
            Self::NulCharacter(_) => {
                (StatusCode::BAD_REQUEST, "/problems/unreadable", "malformed request", "nul_character")
            }
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "/problems/body-too-large", "request body too large", "body_too_large")
            }
            Self::TooSlow => {
                (StatusCode::REQUEST_TIMEOUT, "/problems/body-too-slow", "request body timed out", "body_too_slow")
            }
            Self::TookTooLong => {
                (StatusCode::GATEWAY_TIMEOUT, "/problems/took-too-long", "request timed out", "took_too_long")
            }
            Self::Refused(error) => class_of(error),
        }
    }

    /// When the caller may try again, in seconds; `None` if that would not help.
    fn retry_after_s(&self) -> Option<u64> {
        if let Self::Refused(control::Error::TooManyWrongTokens(wait) | control::Error::TooManyRequests(wait)) = self {
            return Some(whole_seconds(*wait).max(1));
        }
        // Most calls end long before their limit.
        if matches!(self, Self::Refused(control::Error::StillRunning(_))) {
            return Some(STILL_RUNNING_RETRY_S);
        }
        if matches!(self, Self::Refused(control::Error::TooManyKeys)) {
            return Some(TOO_MANY_KEYS_RETRY_S);
        }
        if matches!(self, Self::Refused(control::Error::TooManyStreams(_))) {
            return Some(whole_seconds(FULL_WAIT));
        }
        let waits_for_others = matches!(self, Self::Refused(control::Error::TooManyWaiting));
        (waits_for_others || self.class().0 == StatusCode::SERVICE_UNAVAILABLE).then_some(2)
    }

    fn detail(&self) -> String {
        match self {
            Self::Unauthorized => {
                "send the header Authorization: Bearer <token> with a token that is known, not expired and not revoked; a \
                 token with the scope admin can create one (POST /v1/tokens), and the relay's TIDEGATE_ADMIN_TOKEN is \
                 accepted too"
                    .to_owned()
            }
            Self::SessionEnded => format!(
                "this session is unknown or has ended; sign in again (POST /v1/sessions with a token, or {} with an OpenID \
                 Connect provider)",
                sign_in::START
            ),
            Self::CrossSite(shown_by) => format!(
                "{shown_by}, so a page of another site may have sent the request, and the cookie of the session does not \
                 count; send it from a page of the relay itself, or authenticate with a token. If it does come from there, \
                 set TIDEGATE_PUBLIC_URL to the URL under which browsers reach the relay"
            ),
            Self::PlainHttp => {
                "a session is not made over plain HTTP, where its cookie could be read; use HTTPS and set \
                 TIDEGATE_PUBLIC_URL to the URL under which browsers reach the relay, or have the proxy send \
                 X-Forwarded-Proto"
                    .to_owned()
            }
            Self::NoSuchCall => "this endpoint does not exist; /openapi.json lists all endpoints".to_owned(),
            Self::MethodNotAllowed => {
                "this endpoint does not support the method of the request; the Allow header lists the methods that it \
                 supports"
                    .to_owned()
            }
            Self::Unreadable(detail) => detail.clone(),
            Self::TooLarge => {
                format!("the request body is too large; send at most {} bytes", super::MAX_BODY_BYTES)
            }
            Self::TooSlow => "the request body did not arrive in time; send the request again".to_owned(),
            Self::NulCharacter(error) => error.text(),
            Self::TookTooLong => {
                "the request took too long and was cancelled; its change may or may not have been saved, so check \
                 before you retry"
                    .to_owned()
            }
            Self::Refused(control::Error::Conflict(conflict)) => match call_for(*conflict) {
                Some(call) => format!("{} ({call})", conflict.detail()),
                None => conflict.detail().to_owned(),
            },
            Self::Refused(control::Error::SignIn(
                error @ (SignInError::Unknown
                | SignInError::Refused(_)
                | SignInError::NoGroup { .. }
                | SignInError::Provider(_)
                | SignInError::Invalid(_)),
            )) => format!("{}; begin again at {}", error.detail(), sign_in::START),
            Self::Refused(error) => error.detail(),
        }
    }
}

/// The call with which the caller can do what the detail of a conflict proposes.
fn call_for(conflict: Conflict) -> Option<&'static str> {
    match conflict {
        Conflict::NameTaken => Some("PUT …/by-name/{name}"),
        Conflict::SecretClosed => Some("POST …/signing-secret/rotate"),
        Conflict::BodyNeeded => Some("POST /v1/deliveries/{id}/cancel"),
        Conflict::InQuarantine => Some("POST /v1/events/{id}/release"),
        Conflict::SourceLimit | Conflict::DestinationLimit => Some("PATCH /v1/customers/{id}"),
        Conflict::RouteExists
        | Conflict::ChangedMeanwhile
        | Conflict::NotPending
        | Conflict::DestinationGone
        | Conflict::BodyGone
        | Conflict::NotFailed
        | Conflict::SourceGone
        | Conflict::ReplayFinished
        | Conflict::ReplayEnded
        | Conflict::OperationFinished
        | Conflict::NotCancellable
        | Conflict::TooManySessions
        | Conflict::AnswerNotKept
        | Conflict::DefaultCustomer => None,
        Conflict::NoSession => Some("DELETE /v1/sessions, POST /v1/tokens/{id}/revoke"),
    }
}

const UNAUTHORIZED: Class =
    (StatusCode::UNAUTHORIZED, "/problems/unauthorized", "authentication required", "unauthorized");

const NOT_FOUND: Class = (StatusCode::NOT_FOUND, "/problems/not-found", "not found", "not_found");

/// The status and the kind of an error of the control layer.
fn class_of(error: &control::Error) -> Class {
    use control::Error;
    match error {
        Error::Unauthenticated => UNAUTHORIZED,
        Error::TooManyWrongTokens(_) => (
            StatusCode::TOO_MANY_REQUESTS,
            "/problems/too-many-wrong-tokens",
            "too many wrong tokens",
            "too_many_wrong_tokens",
        ),
        Error::TooManyStreams(_) => {
            (StatusCode::TOO_MANY_REQUESTS, "/problems/too-many-streams", "too many streams", "too_many_streams")
        }
        Error::ForeignPosition => {
            (StatusCode::GONE, "/problems/position-gone", "position cannot be continued", "position_of_another_history")
        }
        Error::PositionTooOld => {
            (StatusCode::GONE, "/problems/position-gone", "position cannot be continued", "position_too_old")
        }
        Error::Forbidden(_) => (StatusCode::FORBIDDEN, "/problems/forbidden", "not allowed", "forbidden"),
        Error::NotFound(_) => NOT_FOUND,
        Error::PastRetention(_) => {
            (StatusCode::GONE, "/problems/past-retention", "event body no longer available", "past_retention")
        }
        Error::BodyErased => (StatusCode::GONE, "/problems/body-erased", "event body erased", "body_erased"),
        Error::Invalid(errors) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "/problems/validation",
            "invalid request",
            errors.iter().find_map(|error| error.code).unwrap_or("validation"),
        ),
        Error::Conflict(conflict) => {
            (StatusCode::CONFLICT, "/problems/conflict", "conflict with the current state", conflict.code())
        }
        Error::Changed { .. } => {
            (StatusCode::PRECONDITION_FAILED, "/problems/precondition-failed", "object changed", "precondition_failed")
        }
        Error::StillRunning(_) => {
            (StatusCode::CONFLICT, "/problems/conflict", "request still running", "request_running")
        }
        Error::TooManyKeys => (
            StatusCode::TOO_MANY_REQUESTS,
            "/problems/too-many-keys",
            "too many idempotency keys",
            "too_many_idempotency_keys",
        ),
        Error::TooManyRequests(_) => {
            (StatusCode::TOO_MANY_REQUESTS, "/problems/too-many-requests", "too many requests", "too_many_requests")
        }
        Error::SignIn(error) => class_of_sign_in(error),
        Error::StillUnreadable(_) => {
            (StatusCode::CONFLICT, "/problems/conflict", "message still unreadable", "still_unreadable")
        }
        Error::WrongClock(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "/problems/wrong-clock",
            "relay and database clocks differ",
            "wrong_clock",
        ),
        Error::NotTried(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "/problems/unavailable", "message cannot be released now", "unavailable")
        }
        Error::Edge(_) => (StatusCode::BAD_GATEWAY, "/problems/edge", "edge did not confirm the change", "edge"),
        Error::Unavailable(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "/problems/unavailable", "database unavailable", "unavailable")
        }
        Error::TooManyWaiting => (
            StatusCode::TOO_MANY_REQUESTS,
            "/problems/too-many-waiting",
            "too many waiting calls of this token",
            "too_many_waiting",
        ),
        Error::NoRoomToWait => {
            (StatusCode::SERVICE_UNAVAILABLE, "/problems/busy", "too many waiting calls", "no_room_to_wait")
        }
        Error::Busy => (StatusCode::SERVICE_UNAVAILABLE, "/problems/busy", "too many event bodies in memory", "busy"),
        Error::SearchesBusy => {
            (StatusCode::SERVICE_UNAVAILABLE, "/problems/busy", "too many searches of bodies", "busy")
        }
        Error::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, "/problems/not-ready", "relay not ready", "not_ready"),
        Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "/problems/internal", "internal error", "internal"),
    }
}

fn class_of_sign_in(error: &SignInError) -> Class {
    const KIND: &str = "/problems/sign-in";
    const TITLE: &str = "sign-in failed";
    match error {
        SignInError::NotConfigured => NOT_FOUND,
        SignInError::Unknown => (StatusCode::BAD_REQUEST, KIND, TITLE, "sign_in_unknown"),
        SignInError::Refused(_) => (StatusCode::FORBIDDEN, KIND, TITLE, "sign_in_refused"),
        SignInError::NoGroup { .. } => (StatusCode::FORBIDDEN, KIND, TITLE, "no_group"),
        SignInError::Provider(_) => (StatusCode::BAD_GATEWAY, KIND, TITLE, "provider_unavailable"),
        SignInError::Invalid(_) => (StatusCode::FORBIDDEN, KIND, TITLE, "sign_in_invalid"),
    }
}

/// Logs the cause of an error, if there is one for the operator.
fn log(error: &control::Error) {
    use control::Error;
    let Some(cause) = error.cause() else { return };
    match error {
        Error::Internal(_) => tracing::error!(error = cause, "a request failed"),
        Error::Unavailable(_) => tracing::warn!(error = cause, "a request failed because the database is unavailable"),
        Error::Edge(_) => tracing::warn!(error = cause, "a request failed because the edge did not confirm a change"),
        Error::SignIn(_) => tracing::warn!(error = cause, "a sign-in with the OpenID Connect provider failed"),
        Error::NotTried(_) => tracing::warn!(error = cause, "an unreadable message could not be released"),
        Error::Unauthenticated
        | Error::TooManyWrongTokens(_)
        | Error::TooManyStreams(_)
        | Error::ForeignPosition
        | Error::PositionTooOld
        | Error::Forbidden(_)
        | Error::NotFound(_)
        | Error::PastRetention(_)
        | Error::BodyErased
        | Error::Invalid(_)
        | Error::Conflict(_)
        | Error::Changed { .. }
        | Error::StillRunning(_)
        | Error::TooManyKeys
        | Error::TooManyRequests(_)
        | Error::StillUnreadable(_)
        | Error::NotReady(_)
        | Error::TooManyWaiting
        | Error::NoRoomToWait
        | Error::Busy
        | Error::SearchesBusy
        | Error::WrongClock(_) => {}
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let (status, ..) = self.class();
        let retry_after = self.retry_after_s();
        let mut response = (status, Json(self.problem())).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
        }
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A response with a problem document, for the description of the API.
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// Its name in the description.
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    /// Its headers in addition to those of every response, with their descriptions.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// Headers that not all of these responses have.
    pub(crate) optional_headers: &'static [(&'static str, &'static str)],
}

/// Every response with a problem document.
pub(crate) fn refusals() -> [Refusal; 17] {
    let refusal =
        |status, name, description| Refusal { status, name, description, headers: &[], optional_headers: &[] };
    [
        refusal(
            400,
            "Unreadable",
            "The request cannot be parsed: the body is empty or not JSON, or a string in the body, path or query \
             contains a NUL character.",
        ),
        Refusal {
            headers: &[("www-authenticate", "The authentication scheme: Bearer.")],
            ..refusal(
                401,
                "Unauthorized",
                "The bearer token is missing, unknown, expired or revoked, or the session has ended.",
            )
        },
        refusal(
            403,
            "Forbidden",
            "The token or session lacks the scope that the operation needs, or it is bound to a customer and the request is \
             about another one or about none, or the request has the cookie of a session and may come from another site; \
             `code` and `detail` say which.",
        ),
        refusal(404, "NotFound", "The object or endpoint does not exist."),
        Refusal {
            headers: &[("allow", "The methods that the endpoint supports.")],
            ..refusal(
                405,
                "MethodNotAllowed",
                "The endpoint does not support this method. Only methods that this description does not list get this \
                 response.",
            )
        },
        refusal(408, "BodyTooSlow", "The request body did not arrive in time."),
        Refusal {
            optional_headers: &[("retry-after", "Only if the first request with the same key is still running.")],
            ..refusal(
                409,
                "Conflict",
                "The request conflicts with the current state of the object, or with the first request with the same \
                 `Idempotency-Key`; `code` identifies the conflict.",
            )
        },
        refusal(
            410,
            "PastRetention",
            "The event's body is no longer available, because its retention period has ended or it was erased; `code` says \
             which.",
        ),
        refusal(
            410,
            "PositionGone",
            "The changes after the position are no longer kept, or the position is of another history of the database; \
             `code` says which.",
        ),
        refusal(
            412,
            "PreconditionFailed",
            "The object is not in the state that `If-Match` or `If-None-Match` demands. Nothing was changed.",
        ),
        refusal(413, "BodyTooLarge", "The request body is larger than 1,000,000 bytes."),
        refusal(
            422,
            "Invalid",
            "A field or parameter is missing, unknown or invalid; `errors` lists the problems that were found.",
        ),
        Refusal {
            headers: &[("retry-after", "The number of seconds to wait before retrying.")],
            ..refusal(
                429,
                "TooManyRequests",
                "The caller has made too many requests or used too many idempotency keys, or too many wrong tokens have \
                 come from its address; or the operation is a stream, and too many are open; or it waits, and the token \
                 has too many waiting calls. `code` says which.",
            )
        },
        refusal(500, "Internal", "An internal error occurred. The relay's log contains the cause."),
        refusal(502, "EdgeFailed", "The edge did not confirm the deletion, so the source was not deleted."),
        Refusal {
            headers: &[("retry-after", "The number of seconds to wait before retrying.")],
            ..refusal(
                503,
                "Unavailable",
                "The database is unavailable, the relay is not ready, the clocks of the relay and the database differ, \
                 other requests hold too many event bodies or search them, or too many calls are waiting; `code` \
                 identifies the cause.",
            )
        },
        refusal(
            504,
            "TookTooLong",
            "The request took longer than two minutes and was cancelled. Its change may or may not have been saved.",
        ),
    ]
}

macro_rules! special_responses {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $response:literal;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
                let reference = Ref::new(concat!("#/components/responses/", $response));
                BTreeMap::from([($status.to_owned(), RefOr::Ref(reference))])
            }
        }
    )*};
}

// Responses that only some calls have. All others follow from the shape of a call.
special_responses! {
    /// The request can conflict with the stored state.
    Conflicts = "409", "Conflict";
    /// The call needs the body of an event, which may no longer be kept.
    PastRetention = "410", "PastRetention";
    /// The call continues from a position, which may no longer be possible.
    PositionGone = "410", "PositionGone";
    /// The edge has to confirm the call.
    EdgeFailed = "502", "EdgeFailed";
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
                "title": "invalid request",
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
        assert!(detail(Conflict::NameTaken).ends_with("update the existing object (PUT …/by-name/{name})"));
        assert!(detail(Conflict::SecretClosed).ends_with("rotate the signing secret (POST …/signing-secret/rotate)"));
        assert_eq!(detail(Conflict::RouteExists), Conflict::RouteExists.detail());
    }

    #[test]
    fn a_response_to_a_request_without_a_token_says_how_to_authenticate() {
        let response = ApiError::Unauthorized.into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"tidegate\"");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}
