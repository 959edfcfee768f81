//! A body that does not fit into a message: into R2 first, then the message with its key.

use shared::envelope::{EventHeader, encode_stored};
use worker::wasm_bindgen::JsValue;

use crate::body::Body;
use crate::host;

/// Puts a body into the bucket under its event's id and returns the message that refers to it.
///
/// Where the send fails afterwards the object stays behind without a message; the provider sends again and gets another
/// id. A lifecycle rule on the bucket clears such leftovers.
///
/// # Errors
/// The bucket did not take it.
pub(crate) async fn store_body(bucket: &JsValue, header: &EventHeader, body: &Body) -> Result<String, JsValue> {
    let key = header.id.to_string();
    let sha256 = host::store(bucket, &key, body.len(), body.pieces()).await?;
    let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
    Ok(encode_stored(header, &key, size, &sha256))
}
