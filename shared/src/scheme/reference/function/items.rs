//! `items(…)`: the fields of every item of a list in the body. They identify a batch if only its items have ids.

use std::fmt;
use std::str::FromStr;

use crate::scheme::each::Each;
use crate::scheme::pointer::pointer;
use crate::scheme::reference::Reference;

/// `items(<list>[]:<field>+<field>…)`, such as `items(events[]:id)`. Every item must have every field, unless the field
/// ends with a `?`.
///
/// It is kept as its text and parsed when an event is read: references are everywhere in the Worker, and stay small.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Items(String);

impl Items {
    /// The list and the fields of its items.
    pub(crate) fn parts(&self) -> Option<(Each, Vec<Reference>)> {
        read(&self.0)
    }

    /// The JSON pointers (RFC 6901) of the fields of the first item.
    pub(crate) fn first_fields(&self) -> Vec<Reference> {
        let Some((list, fields)) = read(&self.0) else { return Vec::new() };
        let first = list.pointer_of(0);
        let of_first = |field| {
            let Reference::Json { pointer, optional } = field else { return None };
            Some(Reference::Json { pointer: format!("{first}{pointer}"), optional })
        };
        fields.into_iter().filter_map(of_first).collect()
    }
}

/// The list and the fields of its items.
fn read(text: &str) -> Option<(Each, Vec<Reference>)> {
    let (list, fields) = text.split_once(':')?;
    let field = |name: &str| {
        let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        (!name.is_empty()).then(|| Reference::Json { pointer: pointer(name), optional })
    };
    Some((list.parse().ok()?, fields.split('+').map(field).collect::<Option<_>>()?))
}

impl FromStr for Items {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        read(text).map(|_| Self(text.to_owned())).ok_or(())
    }
}

impl fmt::Display for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_a_list_or_a_field_is_refused() {
        for text in ["", "events:id", "events[]", "events[]:", "events[]:a+", "events[]:?"] {
            assert!(text.parse::<Items>().is_err(), "{text}");
        }
    }
}
