//! Rules that hold for every item of a list in the body, because the provider signs its items one by one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Verified;
use super::reference::{Reference, pointer};
use super::rejection::Rejection;
use super::request::View;
use crate::reader::Json;

/// Where the items stand: `value[]`, or `notificationItems[].NotificationRequestItem` where each is wrapped once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Each {
    text: String,
    /// The JSON pointer (RFC 6901) to the list.
    list: String,
    /// The JSON pointer from an entry of the list to its item.
    item: String,
}

/// A text that names no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" names no list; write the path to it and [], such as value[] or items[].item")]
pub struct ParseEachError(String);

/// Verifies the whole request, or every one of its items, where `each` says so. A list that is missing or empty is
/// refused: a rule that holds for no item says nothing of the request.
///
/// Of several items, the secret of the first is told, and they are stale where one of them is.
pub(super) fn verify_each(
    each: Option<&Each>,
    view: &View<'_>,
    verify: impl Fn(&View<'_>) -> Result<Verified, Rejection>,
) -> Result<Verified, Rejection> {
    let Some(each) = each else { return verify(view) };
    let mut whole = None;
    for item in each.items(view)? {
        let one = verify(&view.of_item(item))?;
        whole = Some(whole.map_or(one, |before: Verified| before.and(one)));
    }
    whole.ok_or_else(|| each.missing())
}

impl Each {
    /// The JSON pointers of the items in a document.
    pub(crate) fn pointers(&self, document: Json<'_>) -> Result<Vec<String>, Rejection> {
        let entries = document.pointer(&self.list).and_then(|list| list.items()).map_or(0, Iterator::count);
        if entries == 0 {
            return Err(self.missing());
        }
        Ok((0..entries).map(|index| self.pointer_of(index)).collect())
    }

    /// The rejection of a request that has no such list.
    pub(crate) fn missing(&self) -> Rejection {
        missing(&self.list)
    }

    /// The JSON pointer of the item at `index`, whether there is one or not.
    pub(crate) fn pointer_of(&self, index: usize) -> String {
        format!("{}/{index}{}", self.list, self.item)
    }

    /// The items of a request, of which there may be none.
    pub(super) fn items<'v>(&self, view: &'v View<'_>) -> Result<Vec<Json<'v>>, Rejection> {
        let list = view.document().and_then(|document| document.pointer(&self.list)).and_then(|list| list.items());
        let item = |entry: Json<'v>| {
            entry.pointer(&self.item).ok_or_else(|| missing(&format!("{}/…{}", self.list, self.item)))
        };
        list.ok_or_else(|| self.missing())?.map(item).collect()
    }
}

fn missing(pointer: &str) -> Rejection {
    Rejection::FieldMissing { reference: Reference::Json { pointer: pointer.to_owned(), optional: false } }
}

impl FromStr for Each {
    type Err = ParseEachError;

    fn from_str(text: &str) -> Result<Self, ParseEachError> {
        let wrong = || ParseEachError(text.to_owned());
        let (list, item) = text.split_once("[]").ok_or_else(wrong)?;
        let path = match item {
            "" => "",
            _ => item.strip_prefix('.').filter(|path| !path.is_empty()).ok_or_else(wrong)?,
        };
        if path.contains("[]") || list.ends_with('.') {
            return Err(wrong());
        }
        Ok(Self { text: text.to_owned(), list: pointer(list), item: pointer(path) })
    }
}

impl fmt::Display for Each {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Each {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Each {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_list_and_what_wraps_each_item() {
        let parse = |text: &str| text.parse::<Each>().map(|each| (each.list, each.item));
        assert_eq!(parse("value[]"), Ok(("/value".to_owned(), String::new())));
        assert_eq!(parse("a.b[].c.d"), Ok(("/a/b".to_owned(), "/c/d".to_owned())));
        assert_eq!(parse("[]"), Ok((String::new(), String::new())), "the body itself");
        for text in ["", "value", "value[].", "value[]x", "value[].a[]", "value.[]"] {
            assert_eq!(text.parse::<Each>(), Err(ParseEachError(text.to_owned())));
        }
    }
}
