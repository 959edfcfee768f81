//! The names of sources and destinations, and references by id or name.

use std::str::FromStr;

use super::problem::Problems;

/// The longest name, in characters.
const MAX_NAME: usize = 64;

/// Notes what is wrong with a name. It stands in URLs, so it is lower-case ASCII; it must not look like an id, because
/// either is accepted wherever something is named.
pub(crate) fn check(name: &str, problems: &mut Problems) {
    if let Some(problem) = problem(name) {
        problems.add("name", problem);
    }
}

/// What a caller wrote to name a source or a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reference<'a, I> {
    Id(I),
    Name(&'a str),
}

/// Reads an id or a name; `None` where it can be neither.
pub(crate) fn reference<I: FromStr>(text: &str) -> Option<Reference<'_, I>> {
    match text.parse() {
        Ok(id) => Some(Reference::Id(id)),
        Err(_) => problem(text).is_none().then_some(Reference::Name(text)),
    }
}

fn problem(name: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let first_is_fine = name.bytes().next().is_some_and(|byte| byte != b'-' && byte != b'_');
    if name.len() > MAX_NAME || !first_is_fine || !name.bytes().all(allowed) {
        return Some("must have 1 to 64 characters of a to z, 0 to 9, - and _, and begin with a letter or a digit");
    }
    ["src_", "dst_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        .then_some("must not begin with src_ or dst_, as ids do")
}

#[cfg(test)]
mod tests {
    use shared::id::SourceId;

    use super::*;

    #[test]
    fn names_are_short_lower_case_and_no_ids() {
        for good in ["a", "0", "stripe-live_2", &"a".repeat(64)] {
            assert_eq!(problem(good), None, "{good}");
        }
        for bad in ["", "-a", "_a", "Stripe", "a b", "a.b", "a/b", "ä", "src_1", "dst_x", &"a".repeat(65)] {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_reference_is_an_id_or_a_name_or_nothing() {
        let id = SourceId::mint(1, [0; 10]);
        assert_eq!(reference::<SourceId>(&id.to_string()), Some(Reference::Id(id)));
        assert_eq!(reference::<SourceId>("stripe"), Some(Reference::Name("stripe")));
        assert_eq!(reference::<SourceId>("src_nothing"), None);
        assert_eq!(reference::<SourceId>("a\0"), None);
    }
}
