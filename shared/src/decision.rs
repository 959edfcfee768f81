//! The decision about a request to a source: whether it is an event, a handshake or neither, whether it verifies, and
//! what becomes of it.
//!
//! The edge carries the decision out. The relay makes the same decision about a request that a caller pastes: see
//! [`whole`].

mod head;
mod purpose;
mod whole;

pub use head::{Head, MAX_HEAD_BYTES, USUAL_METHOD};
pub use purpose::{Purpose, may_be_no_event, purpose};
pub use whole::{Outcome, whole};

use crate::envelope::Verification;
use crate::handshake::{Handshake, Reply, answer};
use crate::source::{Acknowledgement, OnFailure, Secret, SourceConfig};
use crate::verify::{ConfigError, KeySet, Rejection, Verified, Verifier, verify};

/// A source, ready to verify.
#[derive(Debug, Clone)]
pub struct Source {
    pub config: SourceConfig,
    pub verifier: Verifier,
}

impl Source {
    /// Prepares a configuration.
    ///
    /// # Errors
    /// Returns an error if the configuration cannot verify any request.
    pub fn new(config: SourceConfig) -> Result<Self, ConfigError> {
        let verifier = Verifier::new(&config)?;
        Ok(Self { config, verifier })
    }
}

/// The status and the code of an answer that accepts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
}

impl Refusal {
    /// The one answer to every bad signature.
    pub const SIGNATURE: Self = Self { status: 401, code: "signature_refused" };
    pub const BODY_TOO_LARGE: Self = Self { status: 413, code: "body_too_large" };
    pub const HEAD_TOO_LARGE: Self = Self { status: 431, code: "headers_too_large" };
    /// The sender should try again.
    pub const TRY_AGAIN: Self = Self { status: 503, code: "try_again" };
    pub const RATE_LIMITED: Self = Self { status: 429, code: "rate_limited" };
    pub const NOT_TAKEN: Self = Self { status: 405, code: "method_not_allowed" };

    /// The answer to a request that is refused for this cause.
    #[must_use]
    pub fn of(rejection: &Rejection) -> Self {
        if matches!(rejection, Rejection::RateLimited { .. }) {
            Self::RATE_LIMITED
        } else if *rejection == Rejection::MethodNotAllowed {
            Self::NOT_TAKEN
        } else {
            Self::SIGNATURE
        }
    }
}

/// The status with which an event is acknowledged: always a success.
#[must_use]
pub fn acknowledged_status(acknowledgement: &Acknowledgement) -> u16 {
    let status = acknowledgement.status;
    if (200..300).contains(&status) { status } else { 200 }
}

/// The decision about a request, from its bytes alone.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// A handshake. It is answered, and is not an event.
    Reply(Reply),
    /// A handshake that is answered after this URL has been requested.
    Confirm { url: String, reply: Reply },
    /// The provider hands over its secret. It is answered once the secret is in the queue.
    TakeSecret {
        secret: Secret,
        reply: Reply,
        /// Whether the request is kept too, as an unverified event.
        keep: bool,
    },
    /// An event to queue. It is answered with the reply if there is one, else with the source's acknowledgement.
    Accept { verification: Verification, reply: Option<Reply> },
    /// A request that only reads: a browser that opened the URL, or a provider's probe.
    Explain,
    /// A GET that may be an event but is not one of this source: its sender has to see a failure.
    NotTaken,
    /// A refusal. It is answered with the reply if the provider tests for one, whatever the source does with other
    /// failures.
    Refuse { rejection: Rejection, reply: Option<Reply> },
    /// Undecided: the provider's keys are not available now.
    CannotSay,
}

impl Decision {
    /// Whether the request is an event, accepted or not.
    #[must_use]
    pub fn is_of_event(&self) -> bool {
        matches!(self, Self::Accept { .. } | Self::Refuse { reply: None, .. })
    }
}

/// Decides about a request. `keys` are the keys that the provider publishes at [`Verifier::key_location`], `now` is the
/// Unix time in milliseconds.
#[must_use]
pub fn decide(source: &Source, keys: Option<&KeySet>, head: &Head, body: &[u8], now: u64) -> Decision {
    let parts = head.parts();
    let handshake = match answer(&source.config.handshakes, &source.config.secrets, &parts, body) {
        Some(Handshake { secret: Some(secret), reply, forward, .. }) => {
            return Decision::TakeSecret { secret, reply, keep: forward };
        }
        Some(handshake) if !handshake.must_verify && !handshake.forward => return Decision::Reply(handshake.reply),
        None => match purpose(source, head) {
            Purpose::Event => None,
            Purpose::Page => return Decision::Explain,
            Purpose::Unclear => return Decision::NotTaken,
        },
        handshake @ Some(_) => handshake,
    };
    match (verify(&source.verifier, keys, &parts, body, now), handshake) {
        (Ok(_), Some(Handshake { confirm: Some(url), reply, .. })) => Decision::Confirm { url, reply },
        (Ok(_), Some(Handshake { forward: false, reply, .. })) => Decision::Reply(reply),
        (Ok(verified), handshake) => {
            Decision::Accept { verification: verification(verified), reply: handshake.map(|handshake| handshake.reply) }
        }
        (Err(rejection), _) if rejection.is_ours() => Decision::CannotSay,
        (Err(rejection), handshake) => {
            Decision::Refuse { rejection, reply: handshake.and_then(|handshake| handshake.refusal) }
        }
    }
}

fn verification(verified: Verified) -> Verification {
    if verified.unsigned() {
        Verification::Unsigned
    } else if verified.stale() {
        Verification::Stale
    } else {
        Verification::Verified
    }
}

/// Why a request is refused whatever its body is; `None` if its body has to be read. A request that may be a handshake,
/// or that only reads, is not refused yet.
#[must_use]
pub fn refused_by_head(source: &Source, head: &Head, now: u64) -> Option<Rejection> {
    if may_be_no_event(source, head) {
        return None;
    }
    source.verifier.refuse_unread(&head.parts(), now)
}

/// Why the events of a source are refused whatever they are: its customer is over its rate.
#[must_use]
pub fn over_rate(source: &Source, now: u64) -> Option<Rejection> {
    source.config.refused_for_s(now).map(|after_s| Rejection::RateLimited { after_s })
}

/// The largest body in bytes that a source keeps of a request that fails; `None` if it keeps none.
#[must_use]
pub fn kept_bytes(source: &Source) -> Option<u64> {
    match source.config.on_failure {
        OnFailure::Reject => None,
        OnFailure::Quarantine => Some(source.config.max_unverified_body_bytes),
    }
}

/// Whether a request that failed is refused, and not kept in quarantine. `size` is that of its body in bytes,
/// `is_answered` whether its provider tests for an answer of its own.
#[must_use]
pub fn refuses(source: &Source, size: u64, is_answered: bool) -> bool {
    is_answered || kept_bytes(source).is_none_or(|most| size > most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::HeaderList;
    use crate::source::SafeMethod;

    const NOW: u64 = 1_764_000_000_000;

    const PING: &str = r#"{"when":{"json:type":"ping"},"verify":false,"reply":{"status":200,"body":"pong"}}"#;

    fn source(scheme: &str, secrets: &str, handshakes: &str) -> Source {
        let config = format!(
            r#"{{"id":"src_0197f3c8d2a17c3e9b5d0a4c6f7e8b91","name":"orders","revision":1,"provider":"test",
                "scheme":{scheme},"secrets":{secrets},"handshakes":[{handshakes}],"max_body_bytes":1000}}"#
        );
        Source::new(serde_json::from_str(&config).expect("a configuration")).expect("a usable configuration")
    }

    fn with_token(handshakes: &str) -> Source {
        source(r#"{"kind":"token","in":"h:x-token"}"#, r#"["s"]"#, handshakes)
    }

    fn head(method: &str, token: &str) -> Head {
        Head {
            method: method.to_owned(),
            url: "https://edge.example/in/orders".to_owned(),
            headers: HeaderList::new([("x-token", token)]),
        }
    }

    fn accepted(verification: Verification) -> Decision {
        Decision::Accept { verification, reply: None }
    }

    fn is_reply(decision: &Decision) -> bool {
        matches!(decision, Decision::Reply(reply) if reply.body == b"pong")
    }

    #[test]
    fn a_request_is_accepted_if_it_verifies_and_else_refused() {
        let of = |token| decide(&with_token(""), None, &head("POST", token), b"x", NOW);
        assert_eq!(of("s"), accepted(Verification::Verified));
        assert_eq!(of("t"), Decision::Refuse { rejection: Rejection::TokenMismatch { secrets: 1 }, reply: None });
        let open = source(r#"{"kind":"none"}"#, "[]", "");
        assert_eq!(decide(&open, None, &head("POST", "t"), b"x", NOW), accepted(Verification::Unsigned));
    }

    #[test]
    fn a_good_signature_of_an_old_time_is_accepted_and_marked_only_if_the_source_accepts_it() {
        // HMAC-SHA256 of "1700000000x" with the key "s".
        let signature = "ebd5b952baedbfe42e3c218e3178f113328f9a0ca6bbfd2bee31d0d960c42ae7";
        let scheme = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{h:x-time}{body}",
            "sig":{"in":"h:x-signature","enc":"hex"},"ts":{"in":"h:x-time","unit":"s","tol":300}}"#;
        let mut head = head("POST", "");
        head.headers = HeaderList::new([("x-time", "1700000000"), ("x-signature", signature)]);
        let of = |on_stale: &str, body: &[u8], now| {
            let mut config = source(scheme, r#"["s"]"#, "").config;
            config.on_stale = serde_json::from_value(on_stale.into()).expect("a choice");
            decide(&Source::new(config).expect("a usable configuration"), None, &head, body, now)
        };
        assert_eq!(of("accept_flagged", b"x", 1_700_000_000_000), accepted(Verification::Verified));
        assert_eq!(of("accept_flagged", b"x", NOW), accepted(Verification::Stale));
        assert_eq!(
            of("accept_flagged", b"y", NOW),
            Decision::Refuse { rejection: Rejection::SignatureMismatch { secrets: 1 }, reply: None }
        );
        assert!(matches!(of("reject", b"x", NOW), Decision::Refuse { rejection: Rejection::TimestampOld { .. }, .. }));
    }

    #[test]
    fn a_request_that_only_reads_is_not_an_event_even_if_nothing_is_verified() {
        let open = source(r#"{"kind":"none"}"#, "[]", "");
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(decide(&open, None, &head(method, "s"), b"", NOW), Decision::Explain, "{method}");
        }
        for method in ["PUT", "PATCH", "DELETE"] {
            assert_eq!(decide(&open, None, &head(method, "s"), b"", NOW), accepted(Verification::Unsigned), "{method}");
        }
    }

    #[test]
    fn a_safe_request_is_verified_like_any_other_if_it_may_be_an_event() {
        let taking = |scheme: &str, secrets: &str| {
            let mut config = source(scheme, secrets, "").config;
            config.methods = vec![SafeMethod::Get];
            Source::new(config).expect("a usable configuration")
        };
        let asked = |method: &str, token: &str| Head {
            url: "https://edge.example/in/orders?id=1".to_owned(),
            ..head(method, token)
        };
        let token = r#"{"kind":"token","in":"h:x-token"}"#;
        let of =
            |source: &Source, head: &Head| (decide(source, None, head, b"", NOW), refused_by_head(source, head, NOW));
        let mismatch = Rejection::TokenMismatch { secrets: 1 };
        let refused = Decision::Refuse { rejection: mismatch.clone(), reply: None };
        let get = taking(token, r#"["s"]"#);
        assert_eq!(of(&get, &asked("GET", "s")), (accepted(Verification::Verified), None));
        assert_eq!(of(&get, &asked("GET", "t")), (refused, Some(mismatch)), "its body is not read");
        assert_eq!(of(&get, &asked("HEAD", "s")), (Decision::Explain, None));
        let open = taking(r#"{"kind":"none"}"#, "[]");
        assert_eq!(of(&open, &asked("GET", "")), (accepted(Verification::Unsigned), None));
        assert_eq!(of(&with_token(""), &asked("GET", "s")), (Decision::NotTaken, None), "it does not say so");

        // HMAC-SHA256 of "https://edge.example/in/orders?id=1" with the key "s".
        let signature = "61fba139ac93909bad89cda686f40a6e408f67676bccf804d89d6e227abd0a69";
        let over_address = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{url}",
            "sig":{"in":"h:x-token","enc":"hex"}}"#;
        let signing = source(over_address, r#"["s"]"#, "");
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(of(&signing, &asked(method, signature)).0, accepted(Verification::Verified), "{method}");
            let forged = of(&signing, &asked(method, &signature.replace('0', "1"))).0;
            assert!(matches!(forged, Decision::Refuse { reply: None, .. }), "{method}: {forged:?}");
        }
    }

    #[test]
    fn a_handshake_by_get_is_answered_before_anything_else() {
        let asks = r#"{"when":{"method":"GET","query:challenge":"*"},"verify":false,
            "reply":{"status":200,"body":"pong"}}"#;
        let mut config = source(r#"{"kind":"none"}"#, "[]", asks).config;
        let asked = Head { url: "https://edge.example/in/orders?challenge=1".to_owned(), ..head("GET", "") };
        for methods in [Vec::new(), vec![SafeMethod::Get]] {
            config.methods = methods;
            let source = Source::new(config.clone()).expect("a usable configuration");
            assert!(is_reply(&decide(&source, None, &asked, b"", NOW)));
        }
    }

    #[test]
    fn a_handshake_that_must_verify_is_answered_only_then() {
        let body = br#"{"type":"ping"}"#;
        let signed = PING.replace("\"verify\":false", "\"verify\":true");
        let of = |handshake: &str, token| decide(&with_token(handshake), None, &head("POST", token), body, NOW);
        assert!(is_reply(&of(PING, "t")));
        assert!(is_reply(&of(&signed, "s")));
        assert!(matches!(of(&signed, "t"), Decision::Refuse { .. }));
    }

    #[test]
    fn a_handshake_that_is_an_event_too_must_verify_before_it_is_queued() {
        let body = br#"{"type":"ping"}"#;
        let forwarded = PING.replace("\"verify\":false", "\"verify\":false,\"forward\":true");
        let of = |token| decide(&with_token(&forwarded), None, &head("POST", token), body, NOW);
        assert!(matches!(of("s"), Decision::Accept { reply: Some(reply), .. } if reply.body == b"pong"));
        assert!(matches!(of("t"), Decision::Refuse { .. }));
    }

    #[test]
    fn a_handshake_with_a_bad_signature_gets_the_status_that_its_provider_tests_for() {
        let tested = PING.replace("\"verify\":false", "\"verify\":true,\"else\":401");
        let of = |body: &[u8]| decide(&with_token(&tested), None, &head("POST", "t"), body, NOW);
        let Decision::Refuse { reply: Some(reply), .. } = of(br#"{"type":"ping"}"#) else {
            panic!("refused in its own way")
        };
        assert_eq!((reply.status, reply.body.len()), (401, 0));
        assert!(matches!(of(br#"{"type":"event"}"#), Decision::Refuse { reply: None, .. }));
    }

    #[test]
    fn a_confirmation_is_asked_for_only_once_the_request_is_verified() {
        let confirmed = r#"{"when":{"json:type":"ping"},"verify":true,"reply":{"status":200,"body":""},
            "effect":{"get":"json:url","hosts":["sns.*.amazonaws.com"]}}"#;
        let of = |url: &str, token| {
            let body = format!(r#"{{"type":"ping","url":"{url}"}}"#);
            decide(&with_token(confirmed), None, &head("POST", token), body.as_bytes(), NOW)
        };
        let url = "https://sns.eu-west-1.amazonaws.com/?Token=t";
        assert!(matches!(of(url, "s"), Decision::Confirm { url: asked, .. } if asked == url));
        assert!(matches!(of(url, "t"), Decision::Refuse { .. }));
        assert_eq!(of("https://127.0.0.1/", "s"), accepted(Verification::Verified), "an event like any other");
    }

    #[test]
    fn a_secret_is_taken_over_by_a_source_that_has_none_and_until_then_nothing_is_refused() {
        let handed = r#"{"when":{"h:x-token":"*"},"verify":false,"store_secret":"h:x-token",
            "reply":{"status":200,"headers":{"x-token":"{h:x-token}"},"body":""}}"#;
        let scheme = r#"{"kind":"token","in":"h:x-own"}"#;
        let of = |secrets: &str, token: &str| {
            decide(&source(scheme, secrets, handed), None, &head("POST", token), b"{}", NOW)
        };
        let given = "0123456789abcdef";
        assert!(
            matches!(of("[]", given), Decision::TakeSecret { secret, keep: false, .. } if secret == Secret::new(given))
        );
        assert_eq!(of("[]", "short"), Decision::CannotSay, "no secret, so nothing can be said");
        assert!(matches!(of(r#"["0123456789abcdef"]"#, given), Decision::Reply(_)), "it has it already");
        assert!(matches!(of(r#"["another one that is long"]"#, given), Decision::Refuse { .. }));
    }

    #[test]
    fn without_the_providers_keys_nothing_is_refused() {
        let scheme = r#"{"kind":"mac","alg":"ed25519","key":"jwks:https://keys.example/jwks.json",
            "content":"{h:x-user}{body}","sig":{"in":"h:x-signature","enc":"hex"},
            "require":[{"h:x-user":"cfg:user"}],"settings":{"user":"u"}}"#;
        let mut head = head("POST", "");
        head.headers = HeaderList::new([("x-user", "u".to_owned()), ("x-signature", "00".repeat(64))]);
        let keyed = source(scheme, "[]", "");
        assert_eq!(decide(&keyed, None, &head, b"x", NOW), Decision::CannotSay);
    }
}
