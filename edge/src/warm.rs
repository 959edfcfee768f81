//! The warm path: a webhook whose source is in memory, decided in one call that awaits nothing.
//!
//! `entry.js` reads the body before and sends the message after it. What is not plainly an accepted event is left to
//! [`crate::ingest`], which sees the request again as if nobody had looked at it.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use shared::challenge::{MAX_CHALLENGE_BODY_BYTES, answer};
use shared::envelope::{EventHeader, Verification, write_head, write_inline};
use shared::verify::{KeySet, PlatformCheck};
use worker::js_sys::{Function, Promise};
use worker::wasm_bindgen::prelude::*;
use worker::wasm_bindgen_futures::JsFuture;

use crate::bindings;
use crate::enqueue::enqueue_again;
use crate::ingest::{Decision, decide, header};
use crate::request::Head;
use crate::respond::{Answer, written};
use crate::route::{Route, route};
use crate::sources::{self, Source};
use crate::{host, published_keys};

/// Takes an event in as far as that needs no await: `head` as `host.js` writes one, `body` the whole body. The answer, as
/// [`written`], a line with what is to be checked before it is given, or an empty one, and the message for the queue;
/// `None` where the request is not to be accepted, or not without awaiting something.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
#[must_use]
pub fn receive(head: &str, body: &[u8]) -> Option<String> {
    let now = host::now_ms();
    let head = Head::parse(head)?;
    let source = source_of(&head, body.len(), now)?;
    let keys = keys_of(&source, &head, body, now);
    let check = source.verifier.platform_check(keys.as_deref(), &head.parts(), body.len(), now);
    let verification = if let Some(check) = &check {
        if is_special(&source, &head, body) {
            return None;
        }
        outcome(check)
    } else {
        // Where keys have to be fetched, deciding without them says that nothing can be said.
        let decision = decide(&source, keys.as_deref(), &head, body, now);
        let Decision::Accept { verification, reply: None } = decision else { return None };
        verification
    };
    let header = header(&source, head, verification, now);
    message(source, &header, check, |out| write_inline(out, &header, body))
}

/// The same for a body of `size` bytes that Rust does not get to see: it is to be put behind the message, which is then to
/// be sent as bytes. `None` also where Rust has to see it.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
#[must_use]
pub fn receive_unread(head: &str, size: u32) -> Option<String> {
    let now = host::now_ms();
    let head = Head::parse(head)?;
    let size = usize::try_from(size).ok()?;
    let source = source_of(&head, size, now)?;
    // No challenge is looked for in a body of this size; one that shows in the head alone is left to the other way.
    if size <= MAX_CHALLENGE_BODY_BYTES || is_special(&source, &head, &[]) {
        return None;
    }
    let keys = keys_of(&source, &head, &[], now);
    let check = source.verifier.platform_check(keys.as_deref(), &head.parts(), size, now)?;
    let header = header(&source, head, outcome(&check), now);
    message(source, &header, Some(check), |out| write_head(out, &header, size))
}

/// A check as `entry.js` reads it, with tabs between: the algorithm, the keys and the signatures in base64 with commas
/// between, and what stands round the body as a JSON list of two, or nothing.
fn line(check: PlatformCheck) -> Option<String> {
    let PlatformCheck { algorithm, keys, signatures, before, after, stale: _ } = check;
    let list = |items: Vec<Vec<u8>>| items.iter().map(|bytes| BASE64.encode(bytes)).collect::<Vec<_>>().join(",");
    let round = if before.is_empty() && after.is_empty() {
        String::new()
    } else {
        serde_json::to_string(&(before, after)).ok()?
    };
    Some([algorithm.name(), &list(keys), &list(signatures), &round].join("\t"))
}

/// What [`receive`] gives back; `None` where that is too large for the queue.
fn message(
    source: Rc<Source>,
    header: &EventHeader,
    check: Option<PlatformCheck>,
    write: impl FnOnce(&mut String) -> bool,
) -> Option<String> {
    let mut out = written(Answer::Accepted { id: header.id, source })?;
    out.push('\n');
    if let Some(check) = check {
        out.push_str(&line(check)?);
    }
    out.push('\n');
    write(&mut out).then_some(out)
}

/// What the event is once the platform has found its signature good.
fn outcome(check: &PlatformCheck) -> Verification {
    if check.stale { Verification::Stale } else { Verification::Verified }
}

/// Whether a request is, or may be, something else than an event that is answered as all are.
fn is_special(source: &Source, head: &Head, body: &[u8]) -> bool {
    head.is_safe() || answer(&source.config.challenges, &source.config.secrets, &head.parts(), body).is_some()
}

/// The source of a request with a body of `size` bytes, where it may have one of that size.
fn source_of(head: &Head, size: usize, now: u64) -> Option<Rc<Source>> {
    let Route::Source(reference) = route(head.path()) else { return None };
    let source = sources::fresh(reference, now)?;
    let max_bytes = bindings::known_max_body_bytes()?.min(source.config.max_body_bytes);
    (head.fits() && size as u64 <= max_bytes).then_some(source)
}

/// The provider's published keys, where the source needs them and they are in memory.
fn keys_of(source: &Source, head: &Head, body: &[u8], now: u64) -> Option<Rc<KeySet>> {
    let location = source.verifier.key_location(&head.parts(), body).ok()??;
    published_keys::fresh(&location, now)
}

/// Goes on with a message after a send that failed with `error`: `send` makes one try and gives back its promise. `None`
/// once the message is in the queue, else the answer, as [`written`].
#[wasm_bindgen(
    wasm_bindgen = worker::wasm_bindgen,
    wasm_bindgen_futures = worker::wasm_bindgen_futures,
    js_sys = worker::js_sys
)]
pub async fn send_again(send: Function, error: String) -> Option<String> {
    let send = async || match send.call0(&JsValue::NULL) {
        Ok(promise) => JsFuture::from(Promise::resolve(&promise)).await.map(drop).map_err(text),
        Err(error) => Err(text(error)),
    };
    let sent = enqueue_again(send, error).await;
    written(Answer::TryAgain { after_s: sent.err()?.retry_after_s() })
}

fn text(error: JsValue) -> String {
    worker::Error::from(error).to_string()
}
