//! Messages of the queue.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use shared::envelope::{Body, Message, decode, encode_inline, encode_rejection, encode_secret, encode_stored};

/// A message.
pub fn envelope(data: &[u8]) -> bool {
    let Ok(message) = decode(data) else { return false };
    let end = data.iter().position(|byte| *byte == b'\n').expect("a header line");
    let (line, rest) = (&data[..end], &data[end + 1..]);
    let header: Value = serde_json::from_slice(line).expect("the header line is JSON");
    assert_eq!(header["v"], 1, "no other version is known");
    let (kind, written) = match &message {
        Message::Event(event, Body::Inline(body)) => {
            let plainly = match header["body"]["in"].as_str() {
                Some("base64") => BASE64.decode(rest).expect("base64"),
                _ => rest.to_vec(),
            };
            assert_eq!(*body, plainly);
            ("event", encode_inline(event, body))
        }
        Message::Event(event, Body::Stored { key, size, sha256 }) => {
            ("event", Some(encode_stored(event, key, *size, sha256)))
        }
        Message::Rejection(sample) => ("rejection", Some(encode_rejection(sample))),
        Message::Secret(handed_over) => ("secret", Some(encode_secret(handed_over))),
    };
    assert_eq!(header["kind"], kind);
    if let Some(written) = written {
        assert_eq!(decode(written.as_bytes()).as_ref(), Ok(&message), "written as {written:?}");
    }
    true
}
