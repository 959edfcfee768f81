//! The warm path: a webhook whose source is in memory, decided in one call that awaits nothing.
//!
//! `entry.js` reads the body before and sends the message after it. What is not plainly an accepted event is left to
//! [`crate::ingest`], which sees the request again as if nobody had looked at it.

use shared::envelope::write_inline;
use worker::Env;
use worker::wasm_bindgen::prelude::*;

use crate::bindings::{self, Bindings};
use crate::enqueue::enqueue_again;
use crate::ingest::{Decision, decide, header, unavailable};
use crate::request::Head;
use crate::respond::{Answer, written};
use crate::route::{Route, route};
use crate::{host, sources};

/// Takes an event in as far as that needs no await: `head` as `host.js` writes one, `body` the whole body. The answer,
/// as [`written`], on one line and behind it the message for the queue; `None` where the request is not to be accepted,
/// or not without awaiting something.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
#[must_use]
pub fn receive(head: &str, body: &[u8]) -> Option<String> {
    let now = host::now_ms();
    let head = Head::parse(head)?;
    let Route::Source(reference) = route(head.path()) else { return None };
    let source = sources::fresh(reference, now)?;
    let max_bytes = source.config.max_body_bytes.min(bindings::known_max_body_bytes()?);
    if !head.fits() || u64::try_from(body.len()).ok()? > max_bytes {
        return None;
    }
    // Where keys have to be fetched, deciding without them says that nothing can be said.
    let Decision::Accept { verification, reply: None } = decide(&source, None, &head, body, now) else { return None };
    let header = header(&source, head, verification, now);
    let mut out = written(Answer::Accepted { id: header.id, source })?;
    out.push('\n');
    write_inline(&mut out, &header, body).then_some(out)
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
