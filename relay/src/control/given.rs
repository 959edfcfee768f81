//! Reads requests that a caller gives in place of ones that the edge has received: headers, and a body as text or in
//! base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderName;
use serde::{Deserialize, Serialize};
use shared::decision::USUAL_METHOD;
use shared::header::HeaderList;
use utoipa::ToSchema;

use super::fields::Problems;

/// The maximum number of headers of a given request.
pub(crate) const MAX_HEADERS: usize = 200;

/// The longest name of a header of a given request, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 256;

/// The longest value of a header of a given request, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 16_384;

/// The longest method of a given request, in bytes.
const MAX_METHOD_BYTES: usize = 20;

/// A header of a given request.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenHeader {
    /// The name, in any case.
    #[schema(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", max_length = 256)]
    pub name: String,
    /// The value.
    #[schema(max_length = 16384, pattern = "^[ -~\\t]*$")]
    pub value: String,
}

/// The headers with their names in lower case. Problems are noted with `field` as the name of the list.
pub(super) fn headers(field: &str, given: Vec<GivenHeader>, problems: &mut Problems) -> HeaderList {
    if given.len() > MAX_HEADERS {
        problems.add(field, format!("has {} entries, but may have at most {MAX_HEADERS}", given.len()));
    }
    for (at, GivenHeader { name, value }) in given.iter().enumerate() {
        if name.len() > MAX_NAME_BYTES || HeaderName::from_bytes(name.as_bytes()).is_err() {
            problems.add(format!("{field}[{at}].name"), "is not a valid header name");
        }
        if value.len() > MAX_VALUE_BYTES || !value.bytes().all(is_of_a_value) {
            problems.add(
                format!("{field}[{at}].value"),
                format!(
                    "is not a valid header value: up to {MAX_VALUE_BYTES} visible ASCII characters, blanks and tabs"
                ),
            );
        }
    }
    HeaderList::new(given.into_iter().map(|GivenHeader { name, value }| (name, value)))
}

/// Whether a value of a header may hold a byte: those that every client and server passes on unchanged.
fn is_of_a_value(byte: u8) -> bool {
    byte == b'\t' || (b' '..=b'~').contains(&byte)
}

/// The method of a given request. A problem is noted if it is none.
pub(super) fn method(field: &str, given: Option<String>, problems: &mut Problems) -> String {
    let method = given.unwrap_or_else(|| USUAL_METHOD.to_owned());
    let is_method =
        (1..=MAX_METHOD_BYTES).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_method {
        problems.add(field, format!("must be 1 to {MAX_METHOD_BYTES} capital letters"));
    }
    method
}

/// The bytes of a body that is given as text or in base64; empty if it is given as neither. `prefix` precedes the names
/// of the fields in problems.
pub(super) fn body(
    prefix: &str,
    text: Option<String>,
    base64: Option<String>,
    problems: &mut Problems,
) -> Option<Vec<u8>> {
    match (text, base64) {
        (Some(_), Some(_)) => {
            problems.add(format!("{prefix}body_base64"), "cannot be combined with body; omit one of them");
            None
        }
        (Some(text), None) => Some(text.into_bytes()),
        (None, Some(base64)) => {
            let decoded = BASE64.decode(base64).ok();
            if decoded.is_none() {
                problems.add(format!("{prefix}body_base64"), "is not base64 with padding (RFC 4648, section 4)");
            }
            decoded
        }
        (None, None) => Some(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::wrong_fields;
    use super::*;

    #[test]
    fn headers_keep_their_order_and_wrong_ones_are_named() {
        let given = |name: &str, value: &str| GivenHeader { name: name.to_owned(), value: value.to_owned() };
        let mut problems = Problems::default();
        let read = headers("headers", vec![given("X-B", "2"), given("x-a", "1"), given("X-b", "3")], &mut problems);
        assert_eq!(read.iter().collect::<Vec<_>>(), [("x-b", "2"), ("x-a", "1"), ("x-b", "3")]);
        headers("headers", vec![given("a b", "\t~ 1"), given("a", "1\n2"), given("a", "é")], &mut problems);
        let fields: Vec<_> = wrong_fields(problems.finish()).into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["headers[0].name", "headers[1].value", "headers[2].value"]);
    }

    #[test]
    fn a_body_is_text_or_base64_and_not_both() {
        let mut problems = Problems::default();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(body("", text("é"), None, &mut problems), Some("é".as_bytes().to_vec()));
        assert_eq!(body("", None, text("/w=="), &mut problems), Some(vec![0xff]));
        assert_eq!(body("", None, None, &mut problems), Some(Vec::new()));
        assert_eq!(body("a.", None, text("?"), &mut problems), None);
        assert_eq!(body("b.", text("x"), text("eA=="), &mut problems), None);
        let fields: Vec<_> = wrong_fields(problems.finish()).into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["a.body_base64", "b.body_base64"]);
    }
}
