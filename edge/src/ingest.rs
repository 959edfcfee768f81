//! The slow path of a webhook, which handles every case: source, body, verify, queue, answer. It carries out the decision
//! of [`shared::decision`]. An event is answered
//! "accepted" only once it is in the queue.

use std::rc::Rc;

use shared::decision::{Decision, Head, decide, kept_bytes, may_be_no_event, refused_by_head, refuses};
use shared::envelope::{EventHeader, Failure, SecretHandedOver, Verification, encode_inline, encode_secret};
use shared::handshake::{MAX_HANDSHAKE_BODY_BYTES, Reply};
use shared::id::EventId;
use shared::seal;
use shared::source::Secret;
use shared::verify::{KeyLocation, KeySet, Rejection};
use worker::{Context, web_sys};

use crate::bindings::{Bindings, Missing};
use crate::body::{Body, BodyError, read_body};
use crate::enqueue::enqueue;
use crate::over_rate;
use crate::rejections::{self, Refused};
use crate::request::{remote_class, wants_html};
use crate::respond::Answer;
use crate::sources::{self, Source};
use crate::store_body::store_body;
use crate::{host, log, published_keys};

/// When a provider should try again after a transient failure, in seconds.
const RETRY_AFTER_S: u32 = 5;

/// How long the confirmation of a subscription may take, in milliseconds, and how large its answer may be, in bytes.
const CONFIRMATION_MS: u32 = 5_000;
const CONFIRMATION_BYTES: u32 = 65_536;

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
        Decision::Explain => Ok(Answer::SourcePage { html: wants_html(&head) }),
        Decision::NotTaken => {
            Err(refuse(&source, &head, body.len() as u64, &Rejection::MethodNotAllowed, bindings, context, now))
        }
        Decision::CannotSay => Err(Answer::TryAgain { after_s: RETRY_AFTER_S }),
        Decision::Refuse { rejection, reply } => {
            let explained = body.with(|bytes| explain(&source, &head, bytes, now, rejection));
            let rejection = explained.ok_or(Answer::TooBusy)?;
            let size = body.len() as u64;
            if refuses(&source, size, reply.is_some()) {
                let refused = refuse(&source, &head, size, &rejection, bindings, context, now);
                return Err(reply.map_or(refused, Answer::Reply));
            }
            let verification = Verification::Failed(Failure::from(&rejection));
            queue(source, head, body, verification, None, bindings, now).await
        }
        Decision::Accept { verification, reply } => queue(source, head, body, verification, reply, bindings, now).await,
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
            rejections::note(Refused::new(source.config.id, rejection, size, remote_class(head)), queue, context, now);
            if let Rejection::RateLimited { after_s } = rejection {
                Answer::RateLimited { after_s: *after_s }
            } else if *rejection == Rejection::MethodNotAllowed {
                Answer::NotTaken { html: wants_html(head) }
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

/// The rejection that the owner sees, with a more exact cause if one is found. Signatures with a provider's published
/// key are not explained further.
fn explain(source: &Source, head: &Head, body: &[u8], now: u64, rejection: Rejection) -> Rejection {
    if !rejections::may_explain(now) {
        return rejection;
    }
    source.verifier.explain(None, &head.parts(), body, now, rejection)
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
