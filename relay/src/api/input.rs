//! Reads requests: the body, the query and the path. Errors say which field is wrong and what to do.
//!
//! Every text of a request is read here. A text that contains the character NUL is refused: PostgreSQL can store it
//! neither as text nor in JSON. It can store every other character.

use std::error::Error;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::form_urlencoded;

use super::problem::ApiError;
use super::server::Late;
use crate::control::Error as Refused;
use crate::control::fields::{FieldError, Unread, deserialize};

/// A JSON body. Its content type is ignored: `curl -d` sends a wrong one.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        json(&receive(request, state).await?).map(Self)
    }
}

/// Like [`Body`], for a call that works without one.
pub(crate) struct OptionalBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = receive(request, state).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { json(&bytes).map(Self) }
    }
}

/// The query of the URL. [`known`](super::known) has checked its names and texts.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                let (path, text) = match text.split_once(": ") {
                    Some((path, text)) if !path.contains([' ', '`']) => (path, text),
                    Some(_) | None => ("", text),
                };
                Err(Refused::Invalid(vec![FieldError::of_serde(path, text)]).into())
            }
        }
    }
}

/// The one variable part of the path.
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| ApiError::NoSuchCall)?;
        let (name, value) = params.iter().next().ok_or(ApiError::NoSuchCall)?;
        without_nul(name, &[value], "%00")?;
        Ok(Self(value.to_owned()))
    }
}

/// The variable parts of a path that has several.
pub(crate) struct Segments<const N: usize>(pub(crate) [String; N]);

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for Segments<N> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| ApiError::NoSuchCall)?;
        let mut values = Vec::new();
        for (name, value) in &params {
            without_nul(name, &[value], "%00")?;
            values.push(value.to_owned());
        }
        values.try_into().map(Self).map_err(|_| ApiError::NoSuchCall)
    }
}

/// Refuses a query that contains the character NUL.
pub(super) fn query_without_nul(query: &str) -> Result<(), ApiError> {
    form_urlencoded::parse(query.as_bytes()).try_for_each(|(name, value)| without_nul(&name, &[&name, &value], "%00"))
}

/// Reads the body of a request.
pub(super) async fn receive<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge,
        _ if is_late(&rejection) => ApiError::TooSlow,
        _ => ApiError::Unreadable(format!(
            "the request body could not be read: {}; send the request again",
            rejection.body_text()
        )),
    })
}

/// Whether the body did not arrive in time.
fn is_late(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source()).any(|error| error.is::<Late>())
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::Unreadable("the request body is empty; send a JSON object".to_owned()));
    }
    // After a second backslash, the six characters `\u0000` are ordinary text.
    if bytes.windows(6).any(|window| window == br"\u0000")
        && let Some(field) = serde_json::from_slice(bytes).ok().and_then(|value| field_with_nul(&value))
    {
        return Err(nul_in(&field, r"\u0000"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = deserialize(&mut deserializer).map_err(|unread| match unread {
        Unread::Syntax(error) => not_json(&error),
        Unread::Field(error) => Refused::Invalid(vec![error]).into(),
    })?;
    deserializer.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn without_nul(field: &str, texts: &[&str], written: &str) -> Result<(), ApiError> {
    if texts.iter().any(|text| text.contains('\0')) { Err(nul_in(field, written)) } else { Ok(()) }
}

fn nul_in(field: &str, written: &str) -> ApiError {
    ApiError::NulCharacter(FieldError::new(field, format!("contains a NUL character ({written}); remove it")))
}

/// The path of the first text that contains NUL, which is a value or a name.
fn field_with_nul(value: &Value) -> Option<String> {
    let below = |name: &str, inner: String| match inner.as_str() {
        "" => name.to_owned(),
        index if index.starts_with('[') => format!("{name}{inner}"),
        _ => format!("{name}.{inner}"),
    };
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(values) => values
            .iter()
            .enumerate()
            .find_map(|(index, value)| field_with_nul(value).map(|inner| below(&format!("[{index}]"), inner))),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            if name.contains('\0') {
                return Some(name.clone());
            }
            field_with_nul(value).map(|inner| below(name, inner))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::Unreadable(format!("the request body is not valid JSON: {error}; check quotes, commas and brackets"))
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
            Err(ApiError::Refused(Refused::Invalid(errors))) => (errors[0].field.clone(), errors[0].message.clone()),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn the_invalid_field_is_named() {
        assert_eq!(wrong("{}"), ("name".to_owned(), "is required".to_owned()));
        assert_eq!(wrong(r#"{"name":"a","inner":{}}"#).0, "inner.limit");
        let unknown = wrong(r#"{"name":"a","nmae":"b"}"#);
        assert_eq!(unknown, ("nmae".to_owned(), "is not a known field; known fields: name, inner".to_owned()));
        assert_eq!(wrong(r#"{"name":"a","inner":{"limit":1,"x":2}}"#).0, "inner.x");
        assert_eq!(wrong(r#"{"name":"a","inner":{"limit":"many"}}"#).0, "inner.limit");
        assert_eq!(wrong(r#"{"name":1}"#).0, "name");
        assert_eq!(wrong("[]").0, "");
    }

    #[test]
    fn an_array_is_not_read_as_the_fields_in_order() {
        assert!(json::<Outer>(br#"{"name":"a"}"#).is_ok());
        let (field, message) = wrong(r#"["a",null]"#);
        assert_eq!((field.as_str(), message.as_str()), ("", "the request body must be an object, but is an array"));
    }

    #[test]
    fn the_error_names_the_path_of_the_text_that_contains_nul() {
        let field = |body: &str| match json::<Value>(body.as_bytes()) {
            Err(ApiError::NulCharacter(error)) => Some(error.field),
            Ok(_) => None,
            other => panic!("{body}: {other:?}"),
        };
        for (body, named) in [
            (r#"{"name":"a\u0000"}"#, Some("name")),
            (r#""\u0000""#, Some("")),
            (r#"{"a":1,"b":[{"c":"d"},{"c":["","\u0000"]}]}"#, Some("b[1].c[1]")),
            (r#"{"a":{"b\u0000":1}}"#, Some("a.b\0")),
            (r#"{"name":"a\\u0000"}"#, None),
            (r#"{"name":"a\\u0000","other":"\\\u0000"}"#, Some("other")),
        ] {
            assert_eq!(field(body).as_deref(), named, "{body}");
        }
        assert!(matches!(json::<Value>(br#"{"a":"\u0000""#), Err(ApiError::Unreadable(_))));
    }

    #[test]
    fn a_body_that_is_not_json_is_unreadable() {
        for body in ["", "{", "name=a", r#"{"name":"a"} x"#, "{\"name\":\"a\",}"] {
            assert!(matches!(json::<Outer>(body.as_bytes()), Err(ApiError::Unreadable(_))), "{body}");
        }
    }
}
