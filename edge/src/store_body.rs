//! Stores a body that does not fit into a message: the body goes to R2 first, then the message with its key to the
//! queue.

use shared::envelope::{EventHeader, encode_stored};
use worker::wasm_bindgen::JsValue;

use crate::body::Body;
use crate::host;

/// Puts a body into the bucket under its event's id and returns the message that refers to it.
///
/// If the send fails afterwards, the object stays without a message; the provider sends again and gets another id. A
/// lifecycle rule of the bucket deletes such leftovers.
///
/// # Errors
/// Returns an error if the bucket does not accept the body.
pub(crate) async fn store_body(bucket: &JsValue, header: &EventHeader, body: &Body) -> Result<String, JsValue> {
    let key = header.id.to_string();
    let sha256 = host::store(bucket, &key, body.len(), body.pieces()).await?;
    let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
    Ok(encode_stored(header, &key, size, &sha256))
}
