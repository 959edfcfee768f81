//! Reading requests: the body, the query and the path, with errors that say which field is wrong and what to do.

use std::error::Error;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::{ApiError, FieldError};
use super::server::Late;

/// A JSON body. Its content type is not looked at: `curl -d` sends a wrong one.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        json(&receive(request, state).await?).map(Self)
    }
}

/// As [`Body`], where a call can do without one.
pub(crate) struct OptionalBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = receive(request, state).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { json(&bytes).map(Self) }
    }
}

/// The query of the URL.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(ApiError::Invalid(vec![FieldError::new("", "the query holds the character %00; remove it")]));
        }
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                let (path, text) = match text.split_once(": ") {
                    Some((path, text)) if !path.contains([' ', '`']) => (path, text),
                    Some(_) | None => ("", text),
                };
                Err(ApiError::Invalid(vec![field_error(path, text)]))
            }
        }
    }
}

/// The one variable part of the path.
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(ApiError::NoSuchCall),
        }
    }
}

async fn receive<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge,
        _ if is_late(&rejection) => ApiError::TooSlow,
        _ => ApiError::Unreadable(format!("the body could not be received: {}", rejection.body_text())),
    })
}

/// Whether the body did not arrive in time.
fn is_late(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source()).any(|error| error.is::<Late>())
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::Unreadable("the body is empty; send a json object".to_owned()));
    }
    // No text column of the database can hold it.
    if bytes.windows(6).any(|window| window == br"\u0000") {
        return Err(ApiError::Invalid(vec![FieldError::new("", r"the body holds the character \u0000; remove it")]));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if !error.is_data() {
            return not_json(&error);
        }
        let text = error.to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        ApiError::Invalid(vec![field_error(&path, text)])
    })?;
    deserializer.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::Unreadable(format!("the body is not valid json: {error}; check quotes, commas and brackets"))
}

/// Names the field that serde's message is about, where serde's path says only in which object it stands.
fn field_error(path: &str, text: &str) -> FieldError {
    let inside = |name: &str| if matches!(path, "" | ".") { name.to_owned() } else { format!("{path}.{name}") };
    let quoted = |rest: &'_ str| rest.split_once('`').map(|(name, rest)| (name.to_owned(), rest.to_owned()));
    if let Some((name, _)) = text.strip_prefix("missing field `").and_then(quoted) {
        return FieldError::new(inside(&name), "is missing; it has to be given");
    }
    if let Some((name, rest)) = text.strip_prefix("unknown field `").and_then(quoted) {
        let known = rest.strip_prefix(", expected ").unwrap_or("");
        let known = known.strip_prefix("one of ").unwrap_or(known);
        // serde's path may name the unknown field already.
        let field = if path == name || path.ends_with(&format!(".{name}")) { path.to_owned() } else { inside(&name) };
        return FieldError::new(field, format!("is not known here; known are {}", known.replace('`', "")));
    }
    if text == "invalid digit found in string" {
        return FieldError::new(path, "must be a whole number");
    }
    FieldError::new(if path == "." { "" } else { path }, text.replace('`', "\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "name")]
        _name: String,
        #[serde(rename = "inner", default)]
        _inner: Option<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "limit")]
        _limit: u32,
    }

    fn wrong(body: &str) -> (String, String) {
        match json::<Outer>(body.as_bytes()) {
            Err(ApiError::Invalid(errors)) => (errors[0].field.clone(), errors[0].message.clone()),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn the_field_that_is_wrong_is_named() {
        assert_eq!(wrong("{}"), ("name".to_owned(), "is missing; it has to be given".to_owned()));
        assert_eq!(wrong(r#"{"name":"a","inner":{}}"#).0, "inner.limit");
        let unknown = wrong(r#"{"name":"a","nmae":"b"}"#);
        assert_eq!(unknown, ("nmae".to_owned(), "is not known here; known are name or inner".to_owned()));
        assert_eq!(wrong(r#"{"name":"a","inner":{"limit":1,"x":2}}"#).0, "inner.x");
        assert_eq!(wrong(r#"{"name":"a","inner":{"limit":"many"}}"#).0, "inner.limit");
        assert_eq!(wrong(r#"{"name":1}"#).0, "name");
        assert_eq!(wrong("[]").0, "");
        assert_eq!(wrong(r#"{"name":"a\u0000"}"#).0, "");
    }

    #[test]
    fn what_is_no_json_cannot_be_read() {
        for body in ["", "{", "name=a", r#"{"name":"a"} x"#, "{\"name\":\"a\",}"] {
            assert!(matches!(json::<Outer>(body.as_bytes()), Err(ApiError::Unreadable(_))), "{body}");
        }
    }

    #[test]
    fn a_query_names_its_wrong_field() {
        assert_eq!(field_error("limit", "invalid digit found in string").field, "limit");
        assert_eq!(field_error("", "unknown field `colour`, expected `limit` or `cursor`").field, "colour");
    }
}
