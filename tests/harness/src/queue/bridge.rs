//! The requests of the bridge: `POST /messages/batch` with the messages that `wrangler dev`'s own queue delivered to
//! it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{ContentType, Shared};

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/messages/batch", post(batch))
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    messages: Vec<Sent<'a>>,
}

/// `body` is a string for `text`, base64 for `bytes` and any value for `json`.
#[derive(Deserialize)]
pub(super) struct Sent<'a> {
    #[serde(borrow)]
    pub(super) body: &'a RawValue,
    #[serde(default)]
    pub(super) content_type: ContentType,
    pub(super) delay_seconds: Option<u64>,
}

async fn batch(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let bodies = match read(&body) {
        Ok(bodies) => bodies,
        Err(error) => return (StatusCode::BAD_REQUEST, error).into_response(),
    };
    let accepted = bodies.len();
    shared.push(bodies.into_iter().map(|(content_type, body)| (content_type, body.into(), 0)).collect());
    Json::<Value>(json!({ "accepted": accepted })).into_response()
}

fn read(body: &[u8]) -> Result<Vec<(ContentType, Vec<u8>)>, String> {
    let batch: Batch<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    batch.messages.iter().map(|sent| Ok((sent.content_type, raw_body(sent)?))).collect()
}

/// The bytes that a message in JSON encodes.
pub(super) fn raw_body(sent: &Sent<'_>) -> Result<Vec<u8>, String> {
    let text = || {
        serde_json::from_str::<String>(sent.body.get())
            .map_err(|_| format!("a body of content type {} has to be a string", sent.content_type.name()))
    };
    match sent.content_type {
        ContentType::Text => Ok(text()?.into_bytes()),
        ContentType::Json => Ok(sent.body.get().as_bytes().to_vec()),
        ContentType::Bytes => {
            BASE64.decode(text()?).map_err(|_| "a body of content type bytes has to be base64".into())
        }
        ContentType::V8 => Err("a body of content type v8 cannot be sent as JSON".into()),
    }
}
