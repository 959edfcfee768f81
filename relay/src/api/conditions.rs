//! Conditional requests: the header `ETag` of an object, and the headers `If-Match` and `If-None-Match` (RFC 9110,
//! sections 8.8.3 and 13.1). The entity tag of an object is its version.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::problem::ApiError;
use crate::control::fields::FieldError;
use crate::control::saved::version;
use crate::control::{self, Activity, Configured, Error as Refused, Outcome, Precondition, Saved};

/// The most entity tags in one header.
pub(crate) const MAX_TAGS: usize = 20;

/// The precondition of a change, from the headers of its request.
pub(crate) struct When(pub(crate) Precondition);

impl<S: Send + Sync> FromRequestParts<S> for When {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        precondition(&parts.headers).map(Self)
    }
}

fn precondition(headers: &HeaderMap) -> Result<Precondition, ApiError> {
    let mut precondition = Precondition::default();
    if let Some(text) = joined(headers, &IF_MATCH)? {
        precondition.exists = true;
        if text.trim() != "*" {
            precondition.versions = Some(tags(&text)?);
        }
    }
    if let Some(text) = joined(headers, &IF_NONE_MATCH)? {
        if text.trim() != "*" {
            return Err(invalid(&IF_NONE_MATCH, "must be *, which demands that the object does not exist"));
        }
        precondition.is_new = true;
    }
    Ok(precondition)
}

/// The values of a header as one list.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, ApiError> {
    let values = headers.get_all(name).iter().map(|value| value.to_str().map_err(|_| unreadable(name)));
    let values = values.collect::<Result<Vec<_>, _>>()?;
    Ok((!values.is_empty()).then(|| values.join(",")))
}

/// The versions that a list of entity tags names. A weak tag names none: `If-Match` compares strongly.
fn tags(text: &str) -> Result<Vec<String>, ApiError> {
    let tags = text.split(',').map(str::trim).collect::<Vec<_>>();
    if tags.len() > MAX_TAGS {
        return Err(unreadable(&IF_MATCH));
    }
    let version = |tag: &str| {
        let opaque = tag.strip_prefix("W/").unwrap_or(tag);
        let opaque = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let opaque = opaque.filter(|opaque| !opaque.contains('"')).ok_or_else(|| unreadable(&IF_MATCH))?;
        Ok((!tag.starts_with("W/")).then(|| opaque.to_owned()))
    };
    let versions: Result<Vec<Option<String>>, ApiError> = tags.into_iter().map(version).collect();
    Ok(versions?.into_iter().flatten().collect())
}

fn unreadable(name: &HeaderName) -> ApiError {
    invalid(name, "must be * or up to 20 entity tags in double quotes, as the header ETag of a response has them")
}

fn invalid(name: &HeaderName, message: &str) -> ApiError {
    let name = if *name == IF_MATCH { "If-Match" } else { "If-None-Match" };
    Refused::Invalid(vec![FieldError::new(name, message)]).into()
}

/// The entity tag of a version.
pub(super) fn tag(version: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{version}\"")).ok()
}

/// The response with an object that has versions.
pub(super) fn shown<T: Serialize + Configured>(object: Result<T, control::Error>) -> Result<Response, ApiError> {
    let object = object?;
    let tag = tag(&version(object.changed_at().0));
    Ok(with_tag(Json(object).into_response(), tag))
}

/// The response to a change of an object that has versions.
pub(super) fn saved<T: Serialize + Configured>(saved: Result<Saved<T>, control::Error>) -> Result<Response, ApiError> {
    let Saved { value, outcome } = saved?;
    let tag = tag(&version(value.changed_at().0));
    Ok(with_tag((status(outcome), Json(value)).into_response(), tag))
}

/// The response to a change of something that has no versions.
pub(super) fn made<T: Serialize>(saved: Result<Saved<T>, control::Error>) -> Result<Response, ApiError> {
    let Saved { value, outcome } = saved?;
    Ok((status(outcome), Json(value)).into_response())
}

/// The response to a deletion.
pub(super) fn deleted(deleted: Result<Activity, control::Error>) -> Result<StatusCode, ApiError> {
    Ok(match deleted? {
        Activity::Active => StatusCode::NO_CONTENT,
        Activity::Later => StatusCode::ACCEPTED,
    })
}

fn with_tag(mut response: Response, tag: Option<HeaderValue>) -> Response {
    if let Some(tag) = tag {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

const fn status(outcome: Outcome) -> StatusCode {
    match outcome {
        Outcome::Updated => StatusCode::OK,
        Outcome::Created => StatusCode::CREATED,
        Outcome::Later => StatusCode::ACCEPTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: HeaderName, values: &[&str]) -> Result<Precondition, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_str(value).expect("a value"));
        }
        precondition(&headers).map_err(|error| error.problem().detail)
    }

    #[test]
    fn if_match_names_versions_and_a_weak_tag_names_none() {
        let versions = |values: &[&str]| read(IF_MATCH, values).expect("is read").versions;
        assert_eq!(versions(&[r#""a""#, r#" "b" , W/"c""#]), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(versions(&[r#"W/"a""#]), Some(Vec::new()));
        let any = read(IF_MATCH, &["*"]).expect("is read");
        assert_eq!((any.exists, any.versions), (true, None));
        for wrong in ["a", "", r#""a"#, r#""a","#, r#"*, "a""#, &[r#""a""#; 21].join(",")] {
            assert!(read(IF_MATCH, &[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn if_none_match_only_demands_that_there_is_nothing() {
        assert!(read(IF_NONE_MATCH, &["*"]).expect("is read").is_new);
        let problem = read(IF_NONE_MATCH, &[r#""a""#]).expect_err("is refused");
        assert!(problem.starts_with("If-None-Match: must be *"), "{problem}");
    }
}
