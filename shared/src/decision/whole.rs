//! The decision about a request whose head and body are both known.

use super::{
    Decision, Head, Refusal, Source, decide, kept_bytes, may_be_no_event, over_rate, refused_by_head, refuses,
};
use crate::envelope::Verification;
use crate::handshake::{MAX_HANDSHAKE_BODY_BYTES, Reply};
use crate::verify::{KeySet, Rejection};

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An event. It is answered with the reply if there is one, else with the source's acknowledgement.
    Accepted { verification: Verification, reply: Option<Reply> },
    /// An event that failed verification and is kept in quarantine. It is answered with the source's acknowledgement.
    Quarantined { rejection: Rejection },
    /// A handshake. It is answered, and is not an event.
    Replied(Reply),
    /// A handshake that is answered after this URL has been requested.
    Confirmed { url: String, reply: Reply },
    /// The provider hands over its secret.
    SecretTaken {
        reply: Reply,
        /// Whether the request is kept too, as an unverified event.
        keep: bool,
    },
    /// A request that only reads gets the page of the source.
    Page,
    /// A refusal. The cause is counted as a rejection, if there is one. It is answered with the reply if the provider
    /// tests for one.
    Refused { refusal: Refusal, rejection: Option<Rejection>, reply: Option<Reply> },
    /// Undecided: the provider's keys are not available now.
    Undecided,
}

/// Decides about a whole request, in the order in which the edge does. `max_body_bytes` is the limit of the deployment,
/// the other arguments are those of [`decide`].
#[must_use]
pub fn whole(
    source: &Source,
    keys: Option<&KeySet>,
    head: &Head,
    body: &[u8],
    now: u64,
    max_body_bytes: u64,
) -> Outcome {
    let size = body.len() as u64;
    let max_bytes = source.config.max_body_bytes.min(max_body_bytes);
    if !head.fits() {
        return refused(Refusal::HEAD_TOO_LARGE);
    }
    let over_rate = over_rate(source, now);
    if let Some(rejection) = over_rate.clone().filter(|_| !may_be_no_event(source, head)) {
        return rejected(rejection);
    }
    let unread = refused_by_head(source, head, now);
    if size > max_bytes {
        return refused(Refusal::BODY_TOO_LARGE);
    }
    if let Some(rejection) = over_rate.clone().filter(|_| size > MAX_HANDSHAKE_BODY_BYTES as u64) {
        return rejected(rejection);
    }
    if let Some(rejection) = unread.filter(|_| kept_bytes(source).is_none_or(|most| size > most)) {
        return rejected(source.verifier.explain(None, &head.parts(), &[], now, rejection));
    }
    let decision = decide(source, keys, head, body, now);
    if let Some(rejection) = over_rate.filter(|_| decision.is_of_event()) {
        return rejected(rejection);
    }
    match decision {
        Decision::Reply(reply) => Outcome::Replied(reply),
        Decision::Confirm { url, reply } => Outcome::Confirmed { url, reply },
        Decision::TakeSecret { secret: _, reply, keep } => Outcome::SecretTaken { reply, keep },
        Decision::Accept { verification, reply } => Outcome::Accepted { verification, reply },
        Decision::Explain => Outcome::Page,
        Decision::NotTaken => rejected(Rejection::MethodNotAllowed),
        Decision::CannotSay => Outcome::Undecided,
        Decision::Refuse { rejection, reply } => {
            let rejection = source.verifier.explain(keys, &head.parts(), body, now, rejection);
            if refuses(source, size, reply.is_some()) {
                Outcome::Refused { refusal: Refusal::of(&rejection), rejection: Some(rejection), reply }
            } else {
                Outcome::Quarantined { rejection }
            }
        }
    }
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused { refusal, rejection: None, reply: None }
}

fn rejected(rejection: Rejection) -> Outcome {
    Outcome::Refused { refusal: Refusal::of(&rejection), rejection: Some(rejection), reply: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::HeaderList;

    const NOW: u64 = 1_764_000_000_000;

    fn source(more: &str) -> Source {
        let config = format!(
            r#"{{"id":"src_0197f3c8d2a17c3e9b5d0a4c6f7e8b91","name":"orders","revision":1,"provider":"test",
                "scheme":{{"kind":"token","in":"h:x-token"}},"secrets":["s"],"max_body_bytes":1000{more}}}"#
        );
        Source::new(serde_json::from_str(&config).expect("a configuration")).expect("a usable configuration")
    }

    fn of(source: &Source, method: &str, url: &str, token: &str, body: &[u8]) -> Outcome {
        let headers = HeaderList::new([("x-token", token)]);
        let head = Head { method: method.to_owned(), url: format!("https://edge.example{url}"), headers };
        whole(source, None, &head, body, NOW, 500)
    }

    #[test]
    fn a_request_has_the_outcome_that_its_source_and_the_limits_give_it() {
        let plain = source("");
        let accepted = Outcome::Accepted { verification: Verification::Verified, reply: None };
        assert_eq!(of(&plain, "POST", "/in/orders", "s", b"x"), accepted);
        let mismatch = Rejection::TokenMismatch { secrets: 1 };
        assert_eq!(of(&plain, "POST", "/in/orders", "t", b"x"), rejected(mismatch.clone()));
        assert_eq!(of(&plain, "POST", "/in/orders", "s", &[b'x'; 501]), refused(Refusal::BODY_TOO_LARGE));
        let long = format!("/in/orders?{}", "q".repeat(50_000));
        assert_eq!(of(&plain, "POST", &long, "s", b"x"), refused(Refusal::HEAD_TOO_LARGE));
        assert_eq!(of(&plain, "GET", "/in/orders", "s", b""), Outcome::Page);
        assert_eq!(of(&plain, "GET", "/in/orders?a=1", "s", b""), rejected(Rejection::MethodNotAllowed));

        let keeping = source(r#","on_failure":"quarantine","max_unverified_body_bytes":10"#);
        assert_eq!(of(&keeping, "POST", "/in/orders", "t", b"x"), Outcome::Quarantined { rejection: mismatch.clone() });
        assert_eq!(of(&keeping, "POST", "/in/orders", "t", &[b'x'; 11]), rejected(mismatch));

        let limited = source(&format!(r#","refused_until":{}"#, NOW + 1_500));
        assert_eq!(of(&limited, "POST", "/in/orders", "s", b"x"), rejected(Rejection::RateLimited { after_s: 2 }));
        assert_eq!(of(&limited, "GET", "/in/orders", "s", b""), Outcome::Page);
    }

    #[test]
    fn a_handshake_is_answered_even_for_a_customer_that_is_over_its_rate() {
        let ping =
            r#","handshakes":[{"when":{"json:type":"ping"},"verify":false,"reply":{"status":200,"body":"pong"}}]"#;
        let limited = source(&format!(r#"{ping},"refused_until":{}"#, NOW + 1_500));
        let replied = of(&limited, "POST", "/in/orders", "t", br#"{"type":"ping"}"#);
        assert!(matches!(&replied, Outcome::Replied(reply) if reply.body == b"pong"), "{replied:?}");
        assert_eq!(of(&limited, "POST", "/in/orders", "s", b"{}"), rejected(Rejection::RateLimited { after_s: 2 }));
    }

    #[test]
    fn a_refusal_has_the_status_of_its_cause() {
        assert_eq!(Refusal::of(&Rejection::KeyUnknown), Refusal::SIGNATURE);
        assert_eq!(Refusal::of(&Rejection::RateLimited { after_s: 1 }).status, 429);
        assert_eq!(Refusal::of(&Rejection::MethodNotAllowed).status, 405);
    }
}
