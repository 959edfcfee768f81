//! The parts of a request that are secrets, and are therefore not kept with its event.

use shared::scheme::Scheme;
use shared::scheme::reference::{Place, Reference, Role};
use worker::url::form_urlencoded;

use crate::request::is_kept;

/// The text that replaces a secret in the query of an event.
const REDACTED: &str = "redacted";

/// The places where the schemes `token`, `basic` and `jwt` carry credentials that could be used again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    headers: Vec<String>,
    parameters: Vec<String>,
}

impl Credentials {
    pub(crate) fn of(scheme: &Scheme) -> Self {
        let mut found = Self::default();
        scheme.credentials().iter().for_each(|place| found.collect(place));
        found
    }

    /// Whether a header is kept with an event.
    pub(crate) fn keep_header(&self, name: &str) -> bool {
        is_kept(name, &self.headers)
    }

    /// The query as it is kept with an event.
    pub(crate) fn clean_query(&self, query: &str) -> String {
        if self.parameters.is_empty() {
            return query.to_owned();
        }
        let clean = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if self.parameters.iter().any(|secret| is_parameter(name, secret)) => {
                format!("{name}={REDACTED}")
            }
            Some(_) | None => pair.to_owned(),
        });
        clean.collect::<Vec<_>>().join("&")
    }

    fn collect(&mut self, place: &Reference) {
        match place.role() {
            Role::Place(Place::Header(name)) => self.headers.push(name.to_owned()),
            Role::Place(Place::Query(name)) => self.parameters.push(name.to_owned()),
            // A secret in the body stays: the body is delivered byte for byte.
            Role::Place(Place::Json { .. } | Place::HeaderSeries(_))
            | Role::Field(_)
            | Role::Function(_)
            | Role::Derived => {}
        }
    }
}

/// Compares a name as the query spells it with a plain one: verification reads `%74oken` as `token`.
fn is_parameter(written: &str, name: &str) -> bool {
    form_urlencoded::parse(written.as_bytes()).next().is_some_and(|(decoded, _)| decoded == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Credentials {
        Credentials::of(&serde_json::from_str(json).expect("a scheme"))
    }

    #[test]
    fn a_token_and_basic_credentials_are_not_kept_and_a_signature_is() {
        let token = of(r#"{"kind":"token","in":"h:x-token"}"#);
        assert!(!token.keep_header("x-token"));
        assert!(token.keep_header("authorization"), "it is not this source's secret");
        assert!(!of(r#"{"kind":"basic"}"#).keep_header("authorization"));
        let both = of(r#"{"kind":"any_of","rules":[{"kind":"basic"},{"kind":"token","in":"h:x-token"}]}"#);
        assert!(!both.keep_header("x-token") && !both.keep_header("authorization"));
        assert!(of(r#"{"kind":"none"}"#).keep_header("authorization"));
        let jwt = r#"{"kind":"jwt","token":{"in":"h:x-jwt"},"alg":["HS256"],"key":"utf8","claims":{"a":"b"}}"#;
        assert!(!of(jwt).keep_header("x-jwt"));
        assert!(of(&jwt.replace("\"b\"", "\"sha256hex:body\"")).keep_header("x-jwt"), "it is of use for one body only");
    }

    #[test]
    fn a_token_in_the_query_is_redacted_however_it_is_written() {
        let token = of(r#"{"kind":"token","in":"query:token"}"#);
        assert_eq!(token.clean_query("a=1&token=s3cret&b"), "a=1&token=redacted&b");
        assert_eq!(token.clean_query("%74oken=s3cret"), "%74oken=redacted");
        assert_eq!(token.clean_query("tok%=1&%7=2&x%zz=3"), "tok%=1&%7=2&x%zz=3");
        assert_eq!(of(r#"{"kind":"basic"}"#).clean_query("token=1"), "token=1");
    }
}
