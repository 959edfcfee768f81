//! Finds requests with a signature over their address. Such a request is an event whatever its method is: its query can
//! hold the whole event.

use super::request::RequestParts;
use crate::scheme::reference::function::Function;
use crate::scheme::reference::{Place, Reference, Role};
use crate::scheme::rule::{MacRule, Scheme};

impl Scheme {
    /// Whether the request has a signature that should cover its address, good or not. Only the head is read.
    #[must_use]
    pub fn has_signed_address(&self, request: &RequestParts<'_>) -> bool {
        match self {
            Self::Mac(rule) => rule.signs_address() && is_there(&rule.signature.place, request),
            Self::Jwt(rule) => rule.covers(&Reference::Url) && is_there(&rule.token.place, request),
            Self::AnyOf { rules } | Self::AllOf { rules } => rules.iter().any(|rule| rule.has_signed_address(request)),
            Self::Token(_) | Self::Basic | Self::None => false,
        }
    }
}

impl MacRule {
    fn signs_address(&self) -> bool {
        let is_address = |signed: &Reference| {
            matches!(signed, Reference::Url | Reference::UrlSha256Hex | Reference::Function(Function::HubspotUri))
        };
        self.content.references().any(is_address)
    }
}

fn is_there(place: &Reference, request: &RequestParts<'_>) -> bool {
    match place.role() {
        Role::Place(Place::Header(name)) => request.headers.get(name).is_some(),
        Role::Place(Place::HeaderSeries(prefix)) => request.headers.iter().any(|(name, _)| name.starts_with(prefix)),
        Role::Place(Place::Query(name)) => {
            form_urlencoded::parse(request.query.as_bytes()).any(|(parameter, _)| parameter == name)
        }
        Role::Place(Place::Json { .. }) | Role::Field(_) | Role::Function(_) | Role::Derived => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::HeaderList;

    fn signed(scheme: &str, query: &str, headers: &[(&str, &str)]) -> bool {
        let scheme: Scheme = serde_json::from_str(scheme).expect("a scheme");
        let headers = HeaderList::new(headers.iter().copied());
        scheme.has_signed_address(&RequestParts {
            method: "GET",
            url: "https://a.example/?x=1",
            query,
            headers: &headers,
        })
    }

    fn mac(content: &str, place: &str) -> String {
        format!(
            r#"{{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{content}","sig":{{"in":"{place}","enc":"hex"}}}}"#
        )
    }

    #[test]
    fn a_signature_over_the_address_is_found_in_the_head_whether_it_is_good_or_not() {
        let header = &[("x-sign", "")][..];
        for content in ["{url}", "{method}{url}{body}", "{sha256hex:url}", "{method}{fn:hubspot_uri}{body}"] {
            assert!(signed(&mac(content, "h:x-sign"), "", header), "{content}");
            assert!(!signed(&mac(content, "h:x-sign"), "x-sign=1", &[("x-other", "1")]), "{content}");
        }
        assert!(signed(&mac("{url}", "query:sign"), "x=1&s%69gn=2", &[]));
        assert!(!signed(&mac("{url}", "query:sign"), "x=1", header));
        assert!(signed(&mac("{url}", "h*:x-s"), "", header));
        assert!(!signed(&mac("{url}", "json:sign"), "", header));
    }

    #[test]
    fn a_signature_over_anything_else_and_a_credential_say_nothing_of_the_address() {
        let header = &[("x-sign", "1"), ("authorization", "1")][..];
        for scheme in [
            &mac("{body}", "h:x-sign"),
            r#"{"kind":"jwt","token":{"in":"h:x-sign"},"alg":["HS256"],"key":"utf8","claims":{"a":"sha256hex:body"}}"#,
            r#"{"kind":"token","in":"h:x-sign"}"#,
            r#"{"kind":"basic"}"#,
            r#"{"kind":"none"}"#,
        ] {
            assert!(!signed(scheme, "x=1", header), "{scheme}");
        }
        let jwt =
            r#"{"kind":"jwt","token":{"in":"h:x-sign"},"alg":["HS256"],"key":"utf8","claims":{"a":"sha256hex:url"}}"#;
        assert!(signed(jwt, "", header));
        for kind in ["any_of", "all_of"] {
            let both = format!(r#"{{"kind":"{kind}","rules":[{{"kind":"basic"}},{jwt}]}}"#);
            assert!(signed(&both, "", header), "{kind}");
        }
    }
}
