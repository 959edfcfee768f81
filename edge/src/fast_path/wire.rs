//! The texts that cross from Rust to `entry.js` on the fast path.
//!
//! ```text
//! acceptance = answer LF check LF message      returned by `receive` and `receive_by_length`
//! refusal    = answer                          returned by `send_again`
//! answer     = status-and-headers LF body      JSON [status, [[name, value], …]] and a JSON string
//! check      = ""                              the signature has been verified
//!            / algorithm TAB keys TAB signatures TAB affixes
//! algorithm  = `PlatformAlgorithm::name`
//! keys       = base64 *("," base64)            in the format `raw` of the Web Cryptography API
//! signatures = base64 *("," base64)
//! affixes    = "" / JSON [before, after]       the signed text before and after the body
//! message    = the rest                        for the queue; it may contain line feeds
//! ```
//!
//! If there is a check, `entry.js` sends the message and answers only if one of the keys has made one of the signatures.
//! Base64, JSON and the names of algorithms contain neither tabs nor line feeds. After `receive_by_length` the message is
//! the head of one, and `entry.js` appends the body.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use shared::id::EventId;
use shared::verify::PlatformCheck;

use crate::respond::{Answer, lines};
use crate::sources::Source;

/// Writes an acceptance. `write` appends the message and returns whether it fits into the queue; `None` if it does not.
pub(super) fn acceptance(
    source: Rc<Source>,
    id: EventId,
    check: Option<PlatformCheck>,
    write: impl FnOnce(&mut String) -> bool,
) -> Option<String> {
    let mut out = lines(Answer::Accepted { id, source })?;
    out.push('\n');
    if let Some(check) = check {
        out.push_str(&line(check)?);
    }
    out.push('\n');
    write(&mut out).then_some(out)
}

fn line(check: PlatformCheck) -> Option<String> {
    let PlatformCheck { algorithm, keys, signatures, before, after, stale: _ } = check;
    let list = |items: Vec<Vec<u8>>| items.iter().map(|bytes| BASE64.encode(bytes)).collect::<Vec<_>>().join(",");
    let affixes = if before.is_empty() && after.is_empty() {
        String::new()
    } else {
        serde_json::to_string(&(before, after)).ok()?
    };
    Some([algorithm.name(), &list(keys), &list(signatures), &affixes].join("\t"))
}

#[cfg(test)]
mod tests {
    use shared::envelope::MAX_MESSAGE_BYTES;
    use shared::verify::PlatformAlgorithm;
    use shared::verify::platform::SMALL_BODY_BYTES;

    use super::*;

    const ENTRY: &str = include_str!("../entry.js");

    fn constant(name: &str) -> usize {
        let declared = ENTRY.lines().find_map(|line| line.strip_prefix(&format!("const {name} = ")));
        declared.and_then(|value| value.trim_end_matches(';').replace('_', "").parse().ok()).expect(name)
    }

    #[test]
    fn entry_js_has_the_same_limits_and_algorithms() {
        assert_eq!(constant("MAX_BYTES"), MAX_MESSAGE_BYTES);
        assert_eq!(constant("LARGE_BYTES"), SMALL_BODY_BYTES);
        for algorithm in [
            PlatformAlgorithm::HmacSha1,
            PlatformAlgorithm::HmacSha256,
            PlatformAlgorithm::HmacSha512,
            PlatformAlgorithm::Ed25519,
            PlatformAlgorithm::P256,
        ] {
            let name = algorithm.name();
            assert!(
                [format!("  \"{name}\": {{"), format!("  {name}: {{")].iter().any(|key| ENTRY.contains(key)),
                "{name}"
            );
        }
    }

    #[test]
    fn a_check_is_one_line_of_four_fields() {
        let check = PlatformCheck {
            algorithm: PlatformAlgorithm::HmacSha256,
            keys: vec![b"key".to_vec(), b"old".to_vec()],
            signatures: vec![vec![0xff; 3]],
            before: "1.\t\n".to_owned(),
            after: String::new(),
            stale: false,
        };
        let bare = PlatformCheck { before: String::new(), ..check.clone() };
        assert_eq!(line(check).as_deref(), Some("hmac-sha256\ta2V5,b2xk\t////\t[\"1.\\t\\n\",\"\"]"));
        assert_eq!(line(bare).as_deref(), Some("hmac-sha256\ta2V5,b2xk\t////\t"));
    }
}
