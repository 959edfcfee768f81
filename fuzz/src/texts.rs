//! Short texts: ids, templates, references and other parts of a scheme.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use shared::id::{DestinationId, EventId, SourceId};
use shared::scheme::each::Each;
use shared::scheme::host::HostPattern;
use shared::scheme::key_encoding::KeyEncoding;
use shared::scheme::reference::Reference;
use shared::scheme::template::{Part, Template};

/// An id.
pub fn id(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let is = |prefix: &str| {
        let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        text.strip_prefix(prefix).is_some_and(|digits| digits.chars().count() == 32 && digits.chars().all(digit))
    };
    let accepted = [
        (read::<EventId>(text).is_some(), is("evt_")),
        (read::<SourceId>(text).is_some(), is("src_")),
        (read::<DestinationId>(text).is_some(), is("dst_")),
    ];
    accepted.iter().for_each(|(accepted, plainly)| assert_eq!(accepted, plainly, "{text:?}"));
    accepted.iter().any(|(accepted, _)| *accepted)
}

/// A template, a reference, an encoding of keys, a list of items, and a host.
pub fn template(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let _ = (read::<Reference>(text), read::<KeyEncoding>(text), read::<Each>(text));
    if read::<HostPattern>(text).is_some() {
        assert!(text.split('.').filter(|label| *label == "*").count() <= 1 && !text.ends_with('*'), "{text:?}");
    }
    let Some(template) = read::<Template>(text) else { return false };
    let mut rest = text;
    for part in template.parts() {
        rest = match part {
            Part::Literal(literal) => rest.strip_prefix(literal.as_str()).expect("literals stand as they are"),
            Part::Reference(reference) => {
                let (name, after) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).expect("braces");
                assert_eq!(name.parse().as_ref(), Ok(reference), "{text:?}");
                after
            }
        };
    }
    assert_eq!(rest, "", "nothing of {text:?} is left out");
    true
}

/// A value survives being written and read again.
fn read<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let written = value.to_string();
    assert_eq!(written.parse().ok().as_ref(), Some(&value), "{text:?} was written as {written:?}");
    Some(value)
}
