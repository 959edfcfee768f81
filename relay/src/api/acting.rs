//! For which customer a request acts: the header `Tidegate-Customer` or the query parameter `customer` names it.
//!
//! Calls whose description has these parameters take them. Every other call refuses them, like any parameter that it
//! does not know.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Uri;
use http::uri::PathAndQuery;
use url::form_urlencoded;

use super::description::{CUSTOMER_HEADER, CUSTOMER_PARAMETER};
use super::known::Known;
use super::problem::ApiError;
use crate::control::fields::FieldError;
use crate::control::{Actor, Control, Error as Refused, acting};

/// Lets the actor of a request act for the customer that the request names.
pub(crate) async fn act_for(
    State((control, known)): State<(Control, Known)>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let acts_for_a_customer = known.acts_for_a_customer(path.as_str(), request.method());
    if acts_for_a_customer != Some(true) {
        if acts_for_a_customer == Some(false) && request.headers().contains_key(CUSTOMER_HEADER) {
            return Err(invalid(
                CUSTOMER_HEADER,
                "is not supported; what this endpoint is about belongs to no customer",
            ));
        }
        return Ok(next.run(request).await);
    }
    if let Some(named) = named(&request)? {
        let actor = request.extensions().get::<Actor>().cloned().ok_or(ApiError::Unauthorized)?;
        let actor = acting::act_for(&control, actor, &named).await?;
        request.extensions_mut().insert(actor);
        if let Some(uri) = without_customer(request.uri()) {
            *request.uri_mut() = uri;
        }
    }
    Ok(next.run(request).await)
}

/// The customer that a request names; `None` if it names none.
fn named(request: &Request) -> Result<Option<String>, ApiError> {
    let mut named = Vec::new();
    for value in request.headers().get_all(CUSTOMER_HEADER) {
        let text = value.to_str().map_err(|_| invalid(CUSTOMER_HEADER, "must be the name or id of a customer"))?;
        named.push(text.to_owned());
    }
    let query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    named.extend(query.filter(|(name, _)| name == CUSTOMER_PARAMETER).map(|(_, value)| value.into_owned()));
    named.dedup();
    if named.len() > 1 {
        return Err(invalid(CUSTOMER_PARAMETER, "is given more than once with different values; name one customer"));
    }
    Ok(named.pop())
}

/// The URI without the parameter that names the customer, which no handler knows; `None` if it has no such parameter.
fn without_customer(uri: &Uri) -> Option<Uri> {
    let query = uri.query()?;
    let others: Vec<_> =
        form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != CUSTOMER_PARAMETER).collect();
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(others).finish();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{}?{query}", uri.path())).ok()?);
    Uri::from_parts(parts).ok()
}

fn invalid(field: &str, message: &str) -> ApiError {
    Refused::Invalid(vec![FieldError::new(field, message)]).into()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(query: &str, headers: &[&str]) -> Request {
        let request = Request::builder().uri(format!("/v1/events?{query}"));
        let request = headers.iter().fold(request, |request, value| request.header(CUSTOMER_HEADER, *value));
        request.body(Body::empty()).expect("a request")
    }

    #[test]
    fn a_customer_is_named_once_or_twice_alike() {
        let of = |query: &str, headers: &[&str]| named(&request(query, headers)).expect("one customer");
        assert_eq!(of("limit=1", &[]), None);
        assert_eq!(of("limit=1&%63ustomer=%2A", &[]).as_deref(), Some("*"));
        assert_eq!(of("customer=acme", &["acme"]).as_deref(), Some("acme"));
        assert_eq!(of("", &[""]).as_deref(), Some(""));
        for (query, headers) in [("customer=a&customer=b", &[][..]), ("customer=a", &["b"]), ("", &["a", "b"])] {
            assert!(named(&request(query, headers)).is_err(), "{query} {headers:?}");
        }
    }

    #[test]
    fn the_other_parameters_stay_as_they_are() {
        let without = |query: &str| without_customer(request(query, &[]).uri()).expect("a URI").to_string();
        assert_eq!(without("type=a%26b&customer=acme&limit=1"), "/v1/events?type=a%26b&limit=1");
        assert_eq!(without("customer=acme"), "/v1/events?");
    }
}
