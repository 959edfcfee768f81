//! The warm path: a webhook whose source is in memory, decided in one call that awaits nothing.
//!
//! `entry.js` reads the body before and sends the message after it. What is not plainly an accepted event is left to
//! [`crate::ingest`], which sees the request again as if nobody had looked at it.

use std::rc::Rc;

use shared::challenge::{MAX_CHALLENGE_BODY_BYTES, answer};
use shared::envelope::{write_head, write_inline};
use shared::verify::{Hashing, verify_hashed};
use worker::Env;
use worker::wasm_bindgen::prelude::*;

use crate::bindings::{self, Bindings};
use crate::enqueue::enqueue_again;
use crate::host;
use crate::ingest::{Decision, decide, header, unavailable, verification};
use crate::request::Head;
use crate::respond::{Answer, written};
use crate::route::{Route, route};
use crate::sources::{self, Source};

/// Takes an event in as far as that needs no await: `head` as `host.js` writes one, `body` the whole body. The answer,
/// as [`written`], on one line and behind it the message for the queue; `None` where the request is not to be accepted,
/// or not without awaiting something.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
#[must_use]
pub fn receive(head: &str, body: &[u8]) -> Option<String> {
    let now = host::now_ms();
    let head = Head::parse(head)?;
    let source = source_of(&head, now)?;
    if !fits(&source, &head, body.len()) {
        return None;
    }
    // Where keys have to be fetched, deciding without them says that nothing can be said.
    let Decision::Accept { verification, reply: None } = decide(&source, None, &head, body, now) else { return None };
    let header = header(&source, head, verification, now);
    let mut out = written(Answer::Accepted { id: header.id, source })?;
    out.push('\n');
    write_inline(&mut out, &header, body).then_some(out)
}

/// What is to be hashed round a large body: the number of keys and the length of what stands before the body, both as 32
/// bits with the low byte first, then what stands before it for each key, then what stands behind it. `None` where Rust
/// has to see the body itself.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
#[must_use]
pub fn hashing(head: &str) -> Option<Vec<u8>> {
    let head = Head::parse(head)?;
    let Hashing { before, after } = source_of(&head, host::now_ms())?.verifier.hashing(&head.parts())?;
    let counts = [before.len(), before.first()?.len()].map(u32::try_from);
    let mut out = Vec::new();
    for count in counts {
        out.extend_from_slice(&count.ok()?.to_le_bytes());
    }
    out.extend(before.concat());
    out.extend(after);
    Some(out)
}

/// The same as [`receive`] for a body of `size` bytes of text, by the SHA-256 of what [`hashing`] asked for, one behind
/// the other. The message lacks the text, which is to be put behind it.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
#[must_use]
pub fn receive_hashed(head: &str, digests: &[u8], size: u32) -> Option<String> {
    let now = host::now_ms();
    let head = Head::parse(head)?;
    let source = source_of(&head, now)?;
    let size = usize::try_from(size).ok()?;
    // No challenge is looked for in a body of this size; one that shows in the head alone is left to the other way.
    let challenge = answer(&source.config.challenges, &source.config.secrets, &head.parts(), &[]);
    if size <= MAX_CHALLENGE_BODY_BYTES || challenge.is_some() || head.is_safe() || !fits(&source, &head, size) {
        return None;
    }
    let (digests, _) = digests.as_chunks();
    let verified = verify_hashed(&source.verifier, &head.parts(), digests, now)?;
    let header = header(&source, head, verification(verified), now);
    let mut out = written(Answer::Accepted { id: header.id, source })?;
    out.push('\n');
    write_head(&mut out, &header, size).then_some(out)
}

fn source_of(head: &Head, now: u64) -> Option<Rc<Source>> {
    let Route::Source(reference) = route(head.path()) else { return None };
    sources::fresh(reference, now)
}

fn fits(source: &Source, head: &Head, size: usize) -> bool {
    let max_bytes = bindings::known_max_body_bytes().map(|bytes| bytes.min(source.config.max_body_bytes));
    head.fits() && max_bytes.is_some_and(|max_bytes| size as u64 <= max_bytes)
}

/// Goes on with a message after a send that failed with `error`: `None` once it is in the queue, else the answer, as
/// [`written`].
#[wasm_bindgen(
    wasm_bindgen = worker::wasm_bindgen,
    wasm_bindgen_futures = worker::wasm_bindgen_futures,
    js_sys = worker::js_sys
)]
pub async fn send_again(env: Env, message: JsValue, error: String) -> Option<String> {
    let sent = match Bindings::new(env).queue() {
        Ok(queue) => enqueue_again(&queue, &message, error).await,
        Err(missing) => return written(unavailable(missing)),
    };
    written(Answer::TryAgain { after_s: sent.err()?.retry_after_s() })
}
