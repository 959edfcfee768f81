//! Calls into the JavaScript of `host.js`. This module decides nothing.

use std::cell::RefCell;

use worker::js_sys::{Array, Uint8Array};
use worker::wasm_bindgen::prelude::*;
use worker::web_sys;

/// The size of the pool of random bytes: one call into the host serves a hundred event ids.
const POOL_BYTES: usize = 1_000;

/// The current Unix time in milliseconds. A Worker's clock does not advance between two awaits.
pub(crate) fn now_ms() -> u64 {
    // A float holds whole milliseconds exactly for the next 285,000 years; a cast from it saturates.
    js::now() as u64
}

/// `N` bytes from the host's cryptographic generator.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    POOL.with_borrow_mut(|pool| {
        if pool.len() < N {
            pool.resize(POOL_BYTES.max(N), 0);
            js::fill_random(pool);
        }
        let mut bytes = [0; N];
        let rest = pool.len() - N;
        bytes.copy_from_slice(&pool[rest..]);
        pool.truncate(rest);
        bytes
    })
}

thread_local! {
    static POOL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Method, URL, and each header with its name and its value: a line each.
pub(crate) fn head(request: &web_sys::Request) -> String {
    js::head(request)
}

/// A part of a body.
pub(crate) enum Piece {
    Bytes(Uint8Array),
    End,
    /// It did not arrive in time.
    Late,
}

/// The whole body of a request, if it arrives within `within_ms`.
///
/// # Errors
/// Returns an error if the sender disconnected, or sent less than it had announced.
pub(crate) async fn whole_body(request: &web_sys::Request, within_ms: u64) -> Result<Piece, JsValue> {
    js::whole_body(request, within_ms as f64).await.map(piece)
}

/// The state from which [`next_piece`] reads the body of a request.
pub(crate) fn reader(request: &web_sys::Request) -> JsValue {
    js::reader(request)
}

/// The next piece of a body, if it arrives within `within_ms`.
///
/// # Errors
/// Returns an error if the sender disconnected, or sent less than it had announced.
pub(crate) async fn next_piece(reader: &JsValue, within_ms: u64) -> Result<Piece, JsValue> {
    js::next_piece(reader, within_ms as f64).await.map(piece)
}

/// `host.js` returns null at the end, and undefined on a timeout.
fn piece(value: JsValue) -> Piece {
    if value.is_undefined() {
        Piece::Late
    } else if value.is_null() {
        Piece::End
    } else {
        Piece::Bytes(value.unchecked_into())
    }
}

/// A response; `headers` is a JSON list of pairs.
///
/// # Errors
/// Returns an error if the host does not accept the status or a header.
pub(crate) fn respond(status: u16, headers: &str, body: &[u8]) -> Result<web_sys::Response, JsValue> {
    js::respond(status, headers, body)
}

/// Puts a body of `size` bytes into R2 and returns its SHA-256 in lower-case hexadecimal. `pieces` gives the piece that
/// begins at a byte.
///
/// # Errors
/// Returns an error if R2 fails or a piece is no longer held.
pub(crate) async fn store(
    bucket: &JsValue,
    key: &str,
    size: usize,
    pieces: impl Fn(usize) -> Option<Uint8Array> + 'static,
) -> Result<String, JsValue> {
    let pieces = Closure::<dyn Fn(f64) -> JsValue>::new(move |at: f64| {
        pieces(at as usize).map_or(JsValue::UNDEFINED, Into::into)
    });
    Ok(js::store(bucket, key, size as f64, &pieces).await?.as_string().unwrap_or_default())
}

/// A document that was fetched.
pub(crate) struct Document {
    pub(crate) status: u16,
    pub(crate) cache_control: String,
    /// `None` if the status is not 2xx, or the document is larger than allowed.
    pub(crate) content: Option<Vec<u8>>,
}

/// Fetches a public document of at most `cap` bytes within `timeout_ms`. Redirects are not followed. With a `question`,
/// which is JSON, the method is POST, else GET.
///
/// # Errors
/// Returns an error if the host does not answer in time.
pub(crate) async fn read_document(
    url: &str,
    question: Option<&str>,
    cap: u32,
    timeout_ms: u32,
) -> Result<Document, JsValue> {
    let parts: Array = js::read_document(url, question, cap, timeout_ms).await?.unchecked_into();
    let content = parts.get(2);
    Ok(Document {
        status: parts.get(0).as_f64().map_or(0, |status| status as u16),
        cache_control: parts.get(1).as_string().unwrap_or_default(),
        content: content.dyn_ref::<Uint8Array>().map(Uint8Array::to_vec),
    })
}

mod js {
    use worker::wasm_bindgen::prelude::*;
    use worker::web_sys;

    #[wasm_bindgen(
        module = "/src/host.js",
        wasm_bindgen = worker::wasm_bindgen,
        wasm_bindgen_futures = worker::wasm_bindgen_futures,
        js_sys = worker::js_sys
    )]
    extern "C" {
        pub(super) fn now() -> f64;
        pub(super) fn fill_random(bytes: &mut [u8]);
        pub(super) fn head(request: &web_sys::Request) -> String;
        #[wasm_bindgen(catch)]
        pub(super) async fn whole_body(request: &web_sys::Request, within_ms: f64) -> Result<JsValue, JsValue>;
        pub(super) fn reader(request: &web_sys::Request) -> JsValue;
        #[wasm_bindgen(catch)]
        pub(super) async fn next_piece(reader: &JsValue, within_ms: f64) -> Result<JsValue, JsValue>;
        #[wasm_bindgen(catch)]
        pub(super) fn respond(status: u16, headers: &str, body: &[u8]) -> Result<web_sys::Response, JsValue>;
        #[wasm_bindgen(catch)]
        pub(super) async fn store(
            bucket: &JsValue,
            key: &str,
            size: f64,
            piece: &Closure<dyn Fn(f64) -> JsValue>,
        ) -> Result<JsValue, JsValue>;
        #[wasm_bindgen(catch)]
        pub(super) async fn read_document(
            url: &str,
            question: Option<&str>,
            cap: u32,
            timeout_ms: u32,
        ) -> Result<JsValue, JsValue>;
    }
}
