//! Refuses parameters and bodies that a call does not know. Such an input is most often a mistake. If it were ignored,
//! the caller would take the response for that of another request.
//!
//! The inputs of a call are read from its description, so that the two cannot differ.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use serde_json::Value;
use url::form_urlencoded;

use super::description::CUSTOMER_HEADER;
use super::input;
use super::problem::ApiError;
use crate::control::Error as Refused;
use crate::control::fields::FieldError;
use crate::control::idempotency::FIELD;

/// The inputs of each call, by its path and its method in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Known(Arc<HashMap<(String, String), Call>>);

/// The inputs of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Call {
    /// The names of the query parameters.
    parameters: BTreeSet<String>,
    takes_body: bool,
    acts_for_a_customer: bool,
    takes_key: bool,
}

impl Known {
    /// Reads the inputs of all calls in a description.
    pub(crate) fn of(description: &Value) -> Self {
        let paths = description["paths"].as_object().into_iter().flatten();
        let calls = paths.flat_map(|(path, item)| {
            let operations = item.as_object().into_iter().flatten();
            operations.map(|(method, operation)| ((path.clone(), method.clone()), Call::of(operation)))
        });
        Self(Arc::new(calls.collect()))
    }

    /// Whether a call takes the parameters that name a customer; `None` if there is no such call.
    pub(crate) fn acts_for_a_customer(&self, path: &str, method: &Method) -> Option<bool> {
        self.call(path, method).map(|call| call.acts_for_a_customer)
    }

    /// Whether a call takes an idempotency key; `None` if there is no such call.
    pub(crate) fn takes_key(&self, path: &str, method: &Method) -> Option<bool> {
        self.call(path, method).map(|call| call.takes_key)
    }

    fn call(&self, path: &str, method: &Method) -> Option<&Call> {
        // The handler of GET answers HEAD too.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.0.get(&(path.to_owned(), method.as_str().to_ascii_lowercase()))
    }
}

impl Call {
    fn of(operation: &Value) -> Self {
        let parameters = || operation["parameters"].as_array().into_iter().flatten();
        let queried = parameters().filter(|parameter| parameter["in"] == "query");
        Self {
            parameters: queried.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned)).collect(),
            takes_body: operation.get("requestBody").is_some(),
            takes_key: parameters().any(|parameter| parameter["name"] == FIELD),
            acts_for_a_customer: parameters().any(|parameter| parameter["name"] == CUSTOMER_HEADER),
        }
    }

    /// An error for each query parameter that the call does not know.
    fn unknown(&self, query: &str) -> Vec<FieldError> {
        let names: BTreeSet<String> =
            form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name.into_owned()).collect();
        let known = self.parameters.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let message = match known.as_str() {
            "" => "is not supported; this endpoint has no query parameters".to_owned(),
            known => format!("is not supported; the query parameters of this endpoint are {known}"),
        };
        names.difference(&self.parameters).map(|name| FieldError::new(name.clone(), message.clone())).collect()
    }
}

/// Passes a request on if the call knows its query parameters and reads its body. The body of GET and DELETE has no
/// meaning (RFC 9110) and is not checked.
pub(crate) async fn check(
    State(known): State<Known>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(call) = known.call(path.as_str(), request.method()) else { return Ok(next.run(request).await) };
    let query = request.uri().query().unwrap_or_default();
    input::query_without_nul(query)?;
    let unknown = call.unknown(query);
    if !unknown.is_empty() {
        return Err(Refused::Invalid(unknown).into());
    }
    if call.takes_body || request.method() != Method::POST {
        return Ok(next.run(request).await);
    }
    let (parts, body) = request.into_parts();
    let bytes = input::receive(Request::from_parts(parts.clone(), body), &()).await?;
    if !is_nothing(&bytes) {
        let error = FieldError::new("", "this endpoint takes no body; send the request without a body");
        return Err(Refused::Invalid(vec![error]).into());
    }
    Ok(next.run(Request::from_parts(parts, Body::empty())).await)
}

/// Whether a body is empty or an empty object. Many clients send an empty object with every POST.
fn is_nothing(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    body.is_empty() || serde_json::from_slice::<Value>(body).is_ok_and(|value| value == serde_json::json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_parameter_is_named() {
        let known = Known::of(&crate::api::description());
        let list = known.call("/v1/events", &Method::GET).expect("a call");
        assert!(list.unknown("limit=1&type=a&cursor=b").is_empty() && list.unknown("").is_empty());
        let fields: Vec<String> =
            list.unknown("colour=red&limit=1&%63olour=2&x").into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["colour", "x"]);
        let show = known.call("/v1/events/{id}", &Method::GET).expect("a call");
        assert_eq!(show.unknown("limit=1").len(), 1);
    }

    #[test]
    fn a_call_knows_whether_it_takes_a_body() {
        let known = Known::of(&crate::api::description());
        let takes = |path| known.call(path, &Method::POST).expect("a call").takes_body;
        assert!(takes("/v1/sources") && takes("/v1/destinations/{id}/signing-secret/rotate"));
        assert!(!takes("/v1/destinations/{id}/pause"));
    }

    #[test]
    fn an_empty_object_counts_as_no_body() {
        for nothing in ["", " ", "{}", " { }\n"] {
            assert!(is_nothing(nothing.as_bytes()), "{nothing}");
        }
        for something in ["{\"until\":1}", "null", "[]", "x", "{} x"] {
            assert!(!is_nothing(something.as_bytes()), "{something}");
        }
    }
}
