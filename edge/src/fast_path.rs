//! The fast path: a webhook whose source is in memory, decided in one call that awaits nothing.
//!
//! `entry.js` calls [`receive`] or [`receive_by_length`] after it has read the body, and sends the message that they
//! return. [`wire`] describes the texts that cross between the two. A request is left to the slow path,
//! [`crate::ingest`], if any of these is so:
//!
//! - its source, or a published key that it needs, is not in memory, or is due for a refresh;
//! - it is, or may be, a handshake or a GET;
//! - its signature is not good, or verifying it fails in any way;
//! - its customer is over its rate;
//! - its head or body is larger than allowed, or its message does not fit into the queue.
//!
//! The slow path gets the whole request again, as if the fast path had not seen it.

mod wire;

use std::rc::Rc;

use shared::decision::{Decision, Head, decide};
use shared::envelope::{Verification, write_head, write_inline};
use shared::handshake::{MAX_HANDSHAKE_BODY_BYTES, answer};
use shared::verify::{KeySet, PlatformCheck};
use worker::js_sys::{Function, Promise};
use worker::wasm_bindgen::prelude::*;
use worker::wasm_bindgen_futures::JsFuture;

use crate::bindings;
use crate::enqueue::enqueue_again;
use crate::ingest::header;
use crate::request::parse;
use crate::respond::{Answer, lines};
use crate::route::{Route, route};
use crate::sources::{self, Source};
use crate::{host, published_keys};

/// Decides about a request without awaiting anything. `head` is written by `host.js`, `body` is the whole body. Returns
/// an acceptance as [`wire`] writes it, or `None` if the slow path has to decide.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
#[must_use]
pub fn receive(head: &str, body: &[u8]) -> Option<String> {
    let now = host::now_ms();
    let head = parse(head)?;
    let source = source_of(&head, body.len(), now)?;
    let keys = keys_of(&source, &head, body, now);
    let check = source.verifier.platform_check(keys.as_deref(), &head.parts(), body.len(), now);
    let verification = if let Some(check) = &check {
        if needs_slow_path(&source, &head, body) {
            return None;
        }
        outcome(check)
    } else {
        // Without the published keys `decide` cannot say anything, so the slow path fetches them.
        let decision = decide(&source, keys.as_deref(), &head, body, now);
        let Decision::Accept { verification, reply: None } = decision else { return None };
        verification
    };
    let header = header(&source, head, verification, now);
    wire::acceptance(source, header.id, check, |out| write_inline(out, &header, body))
}

/// Decides about a request with a body of `size` bytes that stays outside of Rust's memory. The caller appends the body
/// to the message and sends both as bytes. Returns `None` also if Rust needs to read the body.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
#[must_use]
pub fn receive_by_length(head: &str, size: u32) -> Option<String> {
    let now = host::now_ms();
    let head = parse(head)?;
    let size = usize::try_from(size).ok()?;
    let source = source_of(&head, size, now)?;
    // A body of this size is not searched for a handshake. A handshake that the head alone shows is left to the slow
    // path.
    if size <= MAX_HANDSHAKE_BODY_BYTES || needs_slow_path(&source, &head, &[]) {
        return None;
    }
    let keys = keys_of(&source, &head, &[], now);
    let check = source.verifier.platform_check(keys.as_deref(), &head.parts(), size, now)?;
    let header = header(&source, head, outcome(&check), now);
    wire::acceptance(source, header.id, Some(check), |out| write_head(out, &header, size))
}

/// The verification of the event if the platform finds its signature good.
fn outcome(check: &PlatformCheck) -> Verification {
    if check.stale { Verification::Stale } else { Verification::Verified }
}

/// Whether a request is, or may be, something else than an ordinary event.
fn needs_slow_path(source: &Source, head: &Head, body: &[u8]) -> bool {
    head.is_safe() || answer(&source.config.handshakes, &source.config.secrets, &head.parts(), body).is_some()
}

/// The source of a request with a body of `size` bytes, if it is in memory and accepts one of that size now.
fn source_of(head: &Head, size: usize, now: u64) -> Option<Rc<Source>> {
    let Route::Source(reference) = route(head.path()) else { return None };
    let source = sources::fresh(reference, now)?;
    let max_bytes = bindings::known_max_body_bytes()?.min(source.config.max_body_bytes);
    let is_accepted = head.fits() && size as u64 <= max_bytes && source.config.refused_for_s(now).is_none();
    is_accepted.then_some(source)
}

/// The provider's published keys, if the source needs them and they are in memory.
fn keys_of(source: &Source, head: &Head, body: &[u8], now: u64) -> Option<Rc<KeySet>> {
    let location = source.verifier.key_location(&head.parts(), body).ok()??;
    published_keys::fresh(&location, now)
}

/// Tries again to send a message after a send that failed with `error`. `send` makes one attempt and returns its
/// promise. Returns `None` once the message is in the queue, else a refusal as [`lines`].
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
    lines(Answer::TryAgain { after_s: sent.err()?.retry_after_s() })
}

fn text(error: JsValue) -> String {
    worker::Error::from(error).to_string()
}
