//! The purpose of a request that is not a handshake: an event, a visit to the source's page, or neither.

use super::{Head, Source};
use crate::handshake::{MAX_HANDSHAKE_BODY_BYTES, answer};
use crate::source::{SafeMethod, SourceConfig};

/// The purpose of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It may be an event, and is verified.
    Event,
    /// It only reads: a browser that opened the address, or a probe. Nothing in it could be an event.
    Page,
    /// It may be an event but is not one of this source. A success would tell its sender that it was accepted.
    Unclear,
}

/// The purpose of a request to a source. Of the safe methods, a GET is an event if the source accepts GET. Any request
/// is an event if it carries a signature over its address.
#[must_use]
pub fn purpose(source: &Source, head: &Head) -> Purpose {
    if !head.is_safe() || source.config.scheme.has_signed_address(&head.parts()) {
        return Purpose::Event;
    }
    let takes_get = source.config.methods.contains(&SafeMethod::Get);
    let has_query = !head.query().is_empty();
    match head.method.as_str() {
        // A GET without a query can be an event too, if the sender only notifies. A browser that navigates to the
        // address says so in its headers.
        "GET" if takes_get && (has_query || !head.is_navigation()) => Purpose::Event,
        // A HEAD gets the status that a GET would get, and is never an event itself.
        "GET" | "HEAD" if has_query && !takes_get => Purpose::Unclear,
        _ => Purpose::Page,
    }
}

/// Whether a request may be something else than an event, by its head alone: a handshake, or a request that only reads.
#[must_use]
pub fn may_be_no_event(source: &Source, head: &Head) -> bool {
    let SourceConfig { handshakes, secrets, .. } = &source.config;
    let is_large = head.declared().is_some_and(|bytes| bytes > MAX_HANDSHAKE_BODY_BYTES as u64);
    let may_be_handshake =
        if is_large { answer(handshakes, secrets, &head.parts(), &[]).is_some() } else { !handshakes.is_empty() };
    may_be_handshake || purpose(source, head) != Purpose::Event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::HeaderList;

    const OVER_ADDRESS: &str = r#"{"kind":"mac","alg":"hmac-sha1","key":"utf8","content":"{url}",
        "sig":{"in":"h:x-sign","enc":"hex"}}"#;

    fn of(scheme: &str, methods: &str, method: &str, query: &str, headers: &[(&str, &str)]) -> Purpose {
        let config = format!(
            r#"{{"id":"src_0197f3c8d2a17c3e9b5d0a4c6f7e8b91","name":"orders","revision":1,"provider":"test",
                "scheme":{scheme},"secrets":{},"methods":{methods},"max_body_bytes":1000}}"#,
            if scheme.contains("none") { "[]" } else { r#"["s"]"# }
        );
        let source = Source::new(serde_json::from_str(&config).expect("a configuration")).expect("a source");
        let head = Head {
            method: method.to_owned(),
            url: format!("https://edge.example/in/orders{query}"),
            headers: HeaderList::new(headers.iter().copied()),
        };
        purpose(&source, &head)
    }

    #[test]
    fn only_what_may_be_a_handshake_or_reads_may_be_no_event() {
        let with = |handshakes: &str| {
            let config = format!(
                r#"{{"id":"src_0197f3c8d2a17c3e9b5d0a4c6f7e8b91","name":"orders","revision":1,"provider":"test",
                    "scheme":{{"kind":"none"}},"secrets":[],"handshakes":[{handshakes}],"max_body_bytes":100000}}"#
            );
            Source::new(serde_json::from_str(&config).expect("a configuration")).expect("a source")
        };
        let of = |source: &Source, method: &str, bytes: &str| {
            let url = "https://edge.example/in/orders".to_owned();
            let headers = HeaderList::new([("content-length", bytes)]);
            may_be_no_event(source, &Head { method: method.to_owned(), url, headers })
        };
        let plain = with("");
        assert!(!of(&plain, "POST", "10"));
        assert!(of(&plain, "GET", "0"));
        let ping = with(r#"{"when":{"json:type":"ping"},"verify":false,"reply":{"status":200,"body":"pong"}}"#);
        assert!(of(&ping, "POST", "4096"), "its body has to be read");
        assert!(!of(&ping, "POST", "4097"), "no handshake is that large");
    }

    #[test]
    fn a_get_with_a_query_is_never_answered_as_if_it_had_been_taken() {
        for scheme in [r#"{"kind":"none"}"#, r#"{"kind":"token","in":"h:x-token"}"#, OVER_ADDRESS] {
            for (method, query, wanted) in [
                ("GET", "?id=1", Purpose::Unclear),
                ("GET", "?", Purpose::Page),
                ("GET", "", Purpose::Page),
                ("HEAD", "?id=1", Purpose::Unclear),
                ("HEAD", "", Purpose::Page),
                ("OPTIONS", "?id=1", Purpose::Page),
                ("OPTIONS", "", Purpose::Page),
                ("POST", "?id=1", Purpose::Event),
                ("DELETE", "", Purpose::Event),
            ] {
                assert_eq!(of(scheme, "[]", method, query, &[]), wanted, "{scheme} {method} {query}");
            }
        }
    }

    #[test]
    fn a_source_that_takes_get_takes_every_get_but_a_browsers_look_at_its_bare_address() {
        let browser = &[("sec-fetch-mode", "navigate")][..];
        for scheme in [r#"{"kind":"none"}"#, r#"{"kind":"token","in":"h:x-token"}"#] {
            for (method, query, headers, wanted) in [
                ("GET", "?id=1", &[][..], Purpose::Event),
                ("GET", "?id=1", browser, Purpose::Event),
                ("GET", "", &[], Purpose::Event),
                ("GET", "", browser, Purpose::Page),
                ("HEAD", "?id=1", &[], Purpose::Page),
                ("OPTIONS", "?id=1", &[], Purpose::Page),
            ] {
                assert_eq!(of(scheme, r#"["GET"]"#, method, query, headers), wanted, "{scheme} {method} {query}");
            }
        }
    }

    #[test]
    fn a_safe_request_that_carries_a_signature_over_its_address_is_verified_as_an_event() {
        let signature = &[("x-sign", "00")][..];
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(of(OVER_ADDRESS, "[]", method, "?id=1", signature), Purpose::Event, "{method}");
            assert_eq!(of(OVER_ADDRESS, "[]", method, "", signature), Purpose::Event, "{method}");
        }
        let over_body = OVER_ADDRESS.replace("{url}", "{body}");
        assert_eq!(of(&over_body, "[]", "GET", "?id=1", signature), Purpose::Unclear);
    }
}
