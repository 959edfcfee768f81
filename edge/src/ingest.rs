//! The slow path of a webhook, which handles every case: source, body, verify, queue, answer. An event is answered
//! "accepted" only once it is in the queue.

use std::rc::Rc;

use shared::envelope::{EventHeader, Failure, SecretHandedOver, Verification, encode_inline, encode_secret};
use shared::handshake::{Handshake, MAX_HANDSHAKE_BODY_BYTES, Reply, answer};
use shared::id::EventId;
use shared::seal;
use shared::source::{OnFailure, Secret};
use shared::verify::{KeyLocation, KeySet, Rejection, Verified, verify};
use worker::{Context, web_sys};

use crate::bindings::{Bindings, Missing};
use crate::body::{Body, BodyError, read_body};
use crate::enqueue::enqueue;
use crate::over_rate;
use crate::purpose::{Purpose, may_be_no_event, purpose};
use crate::rejections::{self, Refused};
use crate::request::Head;
use crate::respond::Answer;
use crate::sources::{self, Source};
use crate::store_body::store_body;
use crate::{host, log, published_keys};

/// When a provider should try again after a transient failure, in seconds.
const RETRY_AFTER_S: u32 = 5;

/// How long the confirmation of a subscription may take, in milliseconds, and how large its answer may be, in bytes.
const CONFIRMATION_MS: u32 = 5_000;
const CONFIRMATION_BYTES: u32 = 65_536;

/// The decision about a request, from its bytes alone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
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
    fn is_of_event(&self) -> bool {
        matches!(self, Self::Accept { .. } | Self::Refuse { reply: None, .. })
    }
}

/// Answers a request to a source. If the source is in memory, the send to the queue is the only binding that is
/// awaited.
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
    let (source, over_rate) = over_rate::of(reference, source, bindings, now).await;
    if let Some(rejection) = &over_rate
        && !may_be_no_event(&source, &head)
    {
        return Err(refuse(&source, &head, head.declared().unwrap_or(0), rejection, bindings, context, now));
    }
    let (source, unread) = refuse_unread(reference, source, &head, bindings, now).await;
    let max_bytes = source.config.max_body_bytes.min(bindings.max_body_bytes());
    if head.declared().is_some_and(|bytes| bytes > max_bytes) {
        return Err(Answer::BodyTooLarge { max_bytes });
    }
    // Of a customer that is over its rate only a handshake is accepted.
    let mut may_read = if over_rate.is_some() { max_bytes.min(MAX_HANDSHAKE_BODY_BYTES as u64) } else { max_bytes };
    if let Some(rejection) = &unread {
        may_read = kept_bytes(&source).unwrap_or(0).min(max_bytes);
        let declared = head.declared().unwrap_or(0);
        if kept_bytes(&source).is_none() || declared > may_read {
            let rejection = explain(&source, &head, &[], now, rejection.clone());
            return Err(refuse(&source, &head, declared, &rejection, bindings, context, now));
        }
    }
    let body = match (read_body(request, &head, may_read).await, over_rate.as_ref().or(unread.as_ref())) {
        (Err(BodyError::TooLarge), Some(rejection)) => {
            return Err(refuse(&source, &head, may_read, rejection, bindings, context, now));
        }
        (body, _) => body.map_err(|error| Answer::of_body(error, max_bytes))?,
    };

    let (source, decision) = settle(reference, source, &head, &body, bindings, context, now).await;
    if let Some(rejection) = &over_rate
        && decision.is_of_event()
    {
        return Err(refuse(&source, &head, body.len() as u64, rejection, bindings, context, now));
    }
    match decision {
        Decision::Reply(reply) => Ok(Answer::Reply(reply)),
        Decision::Confirm { url, reply } => confirm(&url).await.map(|()| Answer::Reply(reply)),
        Decision::TakeSecret { secret, reply, keep } => {
            take_secret(&source, secret, bindings).await?;
            if !keep {
                return Ok(Answer::Reply(reply));
            }
            // A request that arrives before the secret cannot be verified.
            let verification = Verification::Failed(Failure::from(&Rejection::SecretAwaited));
            queue(source, head, body, verification, Some(reply), bindings, now).await
        }
        Decision::Explain => Ok(Answer::SourcePage { html: head.wants_html() }),
        Decision::NotTaken => {
            Err(refuse(&source, &head, body.len() as u64, &Rejection::MethodNotAllowed, bindings, context, now))
        }
        Decision::CannotSay => Err(Answer::TryAgain { after_s: RETRY_AFTER_S }),
        Decision::Refuse { rejection, reply } => {
            let explained = body.with(|bytes| explain(&source, &head, bytes, now, rejection));
            let rejection = explained.ok_or(Answer::TooBusy)?;
            let size = body.len() as u64;
            if reply.is_some() || kept_bytes(&source).is_none_or(|most| size > most) {
                let refused = refuse(&source, &head, size, &rejection, bindings, context, now);
                return Err(reply.map_or(refused, Answer::Reply));
            }
            let verification = Verification::Failed(Failure::from(&rejection));
            queue(source, head, body, verification, None, bindings, now).await
        }
        Decision::Accept { verification, reply } => queue(source, head, body, verification, reply, bindings, now).await,
    }
}

/// The largest body in bytes that a source keeps of a request that fails; `None` if it keeps none.
fn kept_bytes(source: &Source) -> Option<u64> {
    match source.config.on_failure {
        OnFailure::Reject => None,
        OnFailure::Quarantine => Some(source.config.max_unverified_body_bytes),
    }
}

/// Counts a refusal for the relay. `size` is that of the body, as far as it is known.
fn refuse(
    source: &Source,
    head: &Head,
    size: u64,
    rejection: &Rejection,
    bindings: &Bindings,
    context: &Context,
    now: u64,
) -> Answer {
    match bindings.queue() {
        Ok(queue) => {
            rejections::note(Refused::new(source.config.id, rejection, size, head.remote_class()), queue, context, now);
            if let Rejection::RateLimited { after_s } = rejection {
                Answer::RateLimited { after_s: *after_s }
            } else if *rejection == Rejection::MethodNotAllowed {
                Answer::NotTaken { html: head.wants_html() }
            } else {
                Answer::SignatureRefused
            }
        }
        Err(missing) => unavailable(missing),
    }
}

/// Why a request is refused whatever its body is, by the newest configuration of its source, because a secret may just
/// have been added. `None` if the body has to be read.
async fn refuse_unread(
    reference: &str,
    source: Rc<Source>,
    head: &Head,
    bindings: &Bindings,
    now: u64,
) -> (Rc<Source>, Option<Rejection>) {
    let rejection = refused_by_head(&source, head, now);
    if rejection.is_none() {
        return (source, None);
    }
    match sources::reread(reference, bindings, now).await {
        Some(newer) if newer.config.revision != source.config.revision => {
            let rejection = refused_by_head(&newer, head, now);
            (newer, rejection)
        }
        Some(_) | None => (source, rejection),
    }
}

/// The same by this configuration. A request that may be a handshake, or that only reads, is not refused yet.
pub(crate) fn refused_by_head(source: &Source, head: &Head, now: u64) -> Option<Rejection> {
    if may_be_no_event(source, head) {
        return None;
    }
    source.verifier.refuse_unread(&head.parts(), now)
}

/// Decides. Before a refusal it looks for a newer configuration and newer keys: a secret may just have been added to
/// the source, or GET to its methods, or the provider may have a new key.
async fn settle(
    reference: &str,
    source: Rc<Source>,
    head: &Head,
    body: &Body,
    bindings: &Bindings,
    context: &Context,
    now: u64,
) -> (Rc<Source>, Decision) {
    let (location, decision) = decide_with_keys(&source, head, body, context, now).await;
    let may_be_new_key = match &decision {
        Decision::Refuse { rejection, .. } => rejection.may_be_new_key(),
        // A newer configuration of the source may accept the request.
        Decision::CannotSay | Decision::NotTaken | Decision::Explain => false,
        Decision::Reply(_) | Decision::Confirm { .. } | Decision::TakeSecret { .. } | Decision::Accept { .. } => {
            return (source, decision);
        }
    };
    let newer = sources::reread(reference, bindings, now).await;
    if let Some(newer) = newer.filter(|newer| newer.config.revision != source.config.revision) {
        let (_, decision) = decide_with_keys(&newer, head, body, context, now).await;
        return (newer, decision);
    }
    if may_be_new_key
        && let Some(location) = location
        && let Some(keys) = published_keys::refetch(&location, now).await
    {
        let decision = decide_held(&source, Some(&keys), head, body, now);
        return (source, decision);
    }
    (source, decision)
}

/// Decides with the provider's published keys, if the scheme needs them, and returns their location.
async fn decide_with_keys(
    source: &Source,
    head: &Head,
    body: &Body,
    context: &Context,
    now: u64,
) -> (Option<KeyLocation>, Decision) {
    // No keys are fetched for a request that none of them would verify: deciding without them gives the reason.
    let location = body.with(|body| source.verifier.key_location(&head.parts(), body).unwrap_or_default()).flatten();
    let keys = match &location {
        Some(location) => published_keys::keys(location, context, now).await,
        None => None,
    };
    let decision = decide_held(source, keys.as_deref(), head, body, now);
    (location, decision)
}

/// Decides by a body that is held. If it is no longer held, the request stays undecided.
fn decide_held(source: &Source, keys: Option<&KeySet>, head: &Head, body: &Body, now: u64) -> Decision {
    body.with(|body| decide(source, keys, head, body, now)).unwrap_or(Decision::CannotSay)
}

pub(crate) fn decide(source: &Source, keys: Option<&KeySet>, head: &Head, body: &[u8], now: u64) -> Decision {
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

/// The rejection that the owner sees, with a more exact cause if one is found. Signatures with a provider's published
/// key are not explained further.
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

/// Requests a URL of the provider, as following the link in a browser would. If that fails, the provider tries again.
async fn confirm(url: &str) -> Result<(), Answer> {
    let asked = host::read_document(url, None, CONFIRMATION_BYTES, CONFIRMATION_MS).await;
    let asked = asked.map_err(|error| unavailable(worker::Error::from(error)))?;
    match asked.status {
        200..=299 => Ok(()),
        status => Err(unavailable(format!("confirming a subscription failed: its URL returned {status}"))),
    }
}

/// Sends a sealed secret to the relay; [`crate::admin`] opens it. The source verifies with it once the relay has put it
/// to the edge.
async fn take_secret(source: &Source, secret: Secret, bindings: &Bindings) -> Result<(), Answer> {
    let id = source.config.id;
    let keys = bindings.seal_keys().map_err(unavailable)?;
    let key = keys.first().ok_or_else(|| unavailable(Missing::SealKey))?;
    let sealed = seal::seal(key, &sources::handed_over_key(id), host::random(), secret.reveal().as_bytes());
    let message = encode_secret(&SecretHandedOver { source: id, sealed });
    let queue = bindings.queue().map_err(unavailable)?;
    enqueue(&queue, &message).await.map_err(|error| Answer::TryAgain { after_s: error.retry_after_s() })
}

async fn queue(
    source: Rc<Source>,
    head: Head,
    body: Body,
    verification: Verification,
    reply: Option<Reply>,
    bindings: &Bindings,
    now: u64,
) -> Result<Answer, Answer> {
    let header = header(&source, head, verification, now);
    let message = match body.with(|bytes| encode_inline(&header, bytes)).ok_or(Answer::TooBusy)? {
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

/// The header of an event for the relay. It mints the event's id.
pub(crate) fn header(source: &Source, mut head: Head, verification: Verification, now: u64) -> EventHeader {
    head.headers.retain(|name, _| source.credentials.keep_header(name));
    EventHeader {
        id: EventId::mint(now, host::random()),
        source: source.config.id,
        received_at_ms: now,
        query: source.credentials.clean_query(head.query()),
        method: head.method,
        headers: head.headers,
        verification,
    }
}

/// Answers the provider "try again" and logs the reason for the operator.
pub(crate) fn unavailable(error: impl std::fmt::Display) -> Answer {
    log::error("a request could not be accepted; the provider was asked to retry (503)", &[("error", &error)]);
    Answer::TryAgain { after_s: RETRY_AFTER_S }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::header::HeaderList;
    use shared::source::SafeMethod;

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
