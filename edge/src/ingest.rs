//! The way of a webhook through the edge: source, body, verify, queue, answer. Nothing is answered with "accepted" that
//! is not in the queue.

use std::rc::Rc;

use shared::challenge::{Reply, answer};
use shared::envelope::{EventHeader, Verification, encode_inline};
use shared::id::EventId;
use shared::source::OnFailure;
use shared::verify::{KeyLocation, KeySet, Rejection, Verified, verify};
use worker::{Context, web_sys};

use crate::bindings::Bindings;
use crate::enqueue::enqueue;
use crate::rejections::{self, Refused};
use crate::request::{Body, BodyError, Head, read_body};
use crate::respond::Answer;
use crate::sources::{self, Source};
use crate::store_body::store_body;
use crate::{host, published_keys};

/// When a provider should come again after something passing, in seconds.
const RETRY_AFTER_S: u32 = 5;

/// What is to be done with a request, as far as its bytes decide it.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// A challenge: answered, and no event.
    Reply(Reply),
    /// Queued; answered with the reply, or with the source's acknowledgement where there is none.
    Accept {
        verification: Verification,
        reply: Option<Reply>,
    },
    /// A request that only asks: a person who opened the URL, or a provider's probe.
    Explain,
    Refuse(Rejection),
    /// It cannot be said now: the provider's keys are not at hand.
    CannotSay,
}

/// Takes a request to a source in. On a warm path the send to the queue is the only thing of the platform that is awaited.
pub(crate) async fn ingest(
    reference: &str,
    request: &web_sys::Request,
    head: Head,
    bindings: &Bindings,
    context: &Context,
) -> Answer {
    match try_ingest(reference, request, head, bindings, context).await {
        Ok(answer) | Err(answer) => answer,
    }
}

async fn try_ingest(
    reference: &str,
    request: &web_sys::Request,
    head: Head,
    bindings: &Bindings,
    context: &Context,
) -> Result<Answer, Answer> {
    let now = host::now_ms();
    let source = sources::find(reference, bindings, context, now).await.map_err(unavailable)?;
    let source = source.ok_or(Answer::UnknownSource)?;
    if !head.fits() {
        return Err(Answer::HeadTooLarge);
    }
    let max_bytes = source.config.max_body_bytes.min(bindings.max_body_bytes());
    let body = read_body(request, &head, max_bytes).await.map_err(|error| match error {
        BodyError::TooLarge => Answer::BodyTooLarge { max_bytes },
        BodyError::Broken => Answer::BrokenBody,
    })?;

    let (source, decision) = settle(reference, source, &head, &body.bytes, bindings, context, now).await;
    match decision {
        Decision::Reply(reply) => Ok(Answer::Reply(reply)),
        Decision::Explain => Ok(Answer::SourcePage { html: head.wants_html() }),
        Decision::CannotSay => Err(Answer::TryAgain { after_s: RETRY_AFTER_S }),
        Decision::Refuse(rejection) if source.config.on_failure == OnFailure::Reject => {
            let rejection = explain(&source, &head, &body.bytes, now, rejection);
            let refused = Refused::new(source.config.id, &rejection, body.bytes.len(), head.remote_class());
            rejections::note(refused, bindings.queue().map_err(unavailable)?, context, now);
            Err(Answer::SignatureRefused)
        }
        Decision::Refuse(_) => queue(source, head, body, Verification::Failed, None, bindings, now).await,
        Decision::Accept { verification, reply } => queue(source, head, body, verification, reply, bindings, now).await,
    }
}

/// Decides, and where the decision is a refusal, makes sure of it: a secret may just have been added to the source, or a
/// provider may have a new key.
async fn settle(
    reference: &str,
    source: Rc<Source>,
    head: &Head,
    body: &[u8],
    bindings: &Bindings,
    context: &Context,
    now: u64,
) -> (Rc<Source>, Decision) {
    let (location, decision) = decide_with_keys(&source, head, body, context, now).await;
    let Decision::Refuse(rejection) = &decision else { return (source, decision) };
    let newer = sources::reread(reference, bindings, now).await;
    if let Some(newer) = newer.filter(|newer| newer.config.revision != source.config.revision) {
        let (_, decision) = decide_with_keys(&newer, head, body, context, now).await;
        return (newer, decision);
    }
    if rejection.may_be_new_key()
        && let Some(location) = location
        && let Some(keys) = published_keys::refetch(&location, now).await
    {
        let decision = decide(&source, Some(&keys), head, body, now);
        return (source, decision);
    }
    (source, decision)
}

/// Decides with the provider's published keys where the scheme needs some, and tells where they are.
async fn decide_with_keys(
    source: &Source,
    head: &Head,
    body: &[u8],
    context: &Context,
    now: u64,
) -> (Option<KeyLocation>, Decision) {
    // No keys are fetched for a request that none of them would verify: deciding without them tells why.
    let location = source.verifier.key_location(&head.parts(), body).unwrap_or_default();
    let keys = match &location {
        Some(location) => published_keys::keys(location, context, now).await,
        None => None,
    };
    let decision = decide(source, keys.as_deref(), head, body, now);
    (location, decision)
}

fn decide(source: &Source, keys: Option<&KeySet>, head: &Head, body: &[u8], now: u64) -> Decision {
    let parts = head.parts();
    let challenge = answer(&source.config.challenges, &source.config.secrets, &parts, body);
    let (reply, forward) = match challenge {
        Some(challenge) if !challenge.must_verify && !challenge.forward => return Decision::Reply(challenge.reply),
        Some(challenge) => (Some(challenge.reply), challenge.forward),
        None if head.is_safe() => return Decision::Explain,
        None => (None, true),
    };
    match (verify(&source.verifier, keys, &parts, body, now), reply) {
        (Ok(_), Some(reply)) if !forward => Decision::Reply(reply),
        (Ok(verified), reply) => Decision::Accept { verification: verification(verified), reply },
        (Err(rejection), _) if rejection.is_ours() => Decision::CannotSay,
        (Err(rejection), _) => Decision::Refuse(rejection),
    }
}

/// What the owner is told of a refusal. Signatures with a provider's published key are told as they are.
fn explain(source: &Source, head: &Head, body: &[u8], now: u64, rejection: Rejection) -> Rejection {
    if !rejections::may_explain(now) {
        return rejection;
    }
    source.verifier.explain(None, &head.parts(), body, now, rejection)
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

async fn queue(
    source: Rc<Source>,
    mut head: Head,
    body: Body,
    verification: Verification,
    reply: Option<Reply>,
    bindings: &Bindings,
    now: u64,
) -> Result<Answer, Answer> {
    head.headers.retain(|name, _| source.credentials.keep_header(name));
    let header = EventHeader {
        id: EventId::mint(now, host::random()),
        source: source.config.id,
        received_at_ms: now,
        query: source.credentials.clean_query(head.query()),
        method: head.method,
        headers: head.headers,
        verification,
    };
    let message = match encode_inline(&header, &body.bytes) {
        Some(message) => message,
        None => {
            let bucket = bindings.bodies_raw().map_err(unavailable)?;
            store_body(&bucket, &header, &body).await.map_err(|error| unavailable(worker::Error::from(error)))?
        }
    };
    let queue = bindings.queue().map_err(unavailable)?;
    enqueue(&queue, &message).await.map_err(|error| Answer::TryAgain { after_s: error.retry_after_s() })?;
    Ok(match reply {
        Some(reply) => Answer::Reply(reply),
        None => Answer::Accepted { id: header.id, source },
    })
}

/// The provider hears "try again"; the person who runs this finds the reason in the log.
fn unavailable(error: impl std::fmt::Display) -> Answer {
    worker::console_error!("{error}");
    Answer::TryAgain { after_s: RETRY_AFTER_S }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::header::HeaderList;

    const NOW: u64 = 1_764_000_000_000;

    const PING: &str = r#"{"when":{"json:type":"ping"},"verify":false,"reply":{"status":200,"body":"pong"}}"#;

    fn source(scheme: &str, secrets: &str, challenges: &str) -> Source {
        let config = format!(
            r#"{{"id":"src_0197f3c8d2a17c3e9b5d0a4c6f7e8b91","name":"orders","revision":1,"provider":"test",
                "scheme":{scheme},"secrets":{secrets},"challenges":[{challenges}],"max_body_bytes":1000}}"#
        );
        Source::new(serde_json::from_str(&config).expect("a configuration")).expect("a usable configuration")
    }

    fn with_token(challenges: &str) -> Source {
        source(r#"{"kind":"token","in":"h:x-token"}"#, r#"["s"]"#, challenges)
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
    fn what_verifies_is_accepted_and_what_does_not_is_refused() {
        let of = |token| decide(&with_token(""), None, &head("POST", token), b"x", NOW);
        assert_eq!(of("s"), accepted(Verification::Verified));
        assert_eq!(of("t"), Decision::Refuse(Rejection::TokenMismatch { secrets: 1 }));
        let open = source(r#"{"kind":"none"}"#, "[]", "");
        assert_eq!(decide(&open, None, &head("POST", "t"), b"x", NOW), accepted(Verification::Unsigned));
    }

    #[test]
    fn a_good_signature_of_an_old_time_is_accepted_and_marked_only_where_the_source_asks_for_it() {
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
        assert_eq!(of("accept_flagged", b"y", NOW), Decision::Refuse(Rejection::SignatureMismatch { secrets: 1 }));
        assert!(matches!(of("reject", b"x", NOW), Decision::Refuse(Rejection::TimestampOld { .. })));
    }

    #[test]
    fn a_request_that_only_asks_is_no_event_even_where_nothing_is_verified() {
        let open = source(r#"{"kind":"none"}"#, "[]", "");
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(decide(&open, None, &head(method, "s"), b"", NOW), Decision::Explain, "{method}");
        }
        for method in ["PUT", "PATCH", "DELETE"] {
            assert_eq!(decide(&open, None, &head(method, "s"), b"", NOW), accepted(Verification::Unsigned), "{method}");
        }
    }

    #[test]
    fn a_challenge_is_answered_and_where_it_must_verify_only_then() {
        let body = br#"{"type":"ping"}"#;
        let signed = PING.replace("\"verify\":false", "\"verify\":true");
        let of = |challenge: &str, token| decide(&with_token(challenge), None, &head("POST", token), body, NOW);
        assert!(is_reply(&of(PING, "t")));
        assert!(is_reply(&of(&signed, "s")));
        assert!(matches!(of(&signed, "t"), Decision::Refuse(_)));
    }

    #[test]
    fn a_challenge_that_is_an_event_too_must_verify_before_it_is_queued() {
        let body = br#"{"type":"ping"}"#;
        let forwarded = PING.replace("\"verify\":false", "\"verify\":false,\"forward\":true");
        let of = |token| decide(&with_token(&forwarded), None, &head("POST", token), body, NOW);
        assert!(matches!(of("s"), Decision::Accept { reply: Some(reply), .. } if reply.body == b"pong"));
        assert!(matches!(of("t"), Decision::Refuse(_)));
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
