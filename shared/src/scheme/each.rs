//! Rules that hold for every item of a list in the body, because the provider signs its items one by one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::pointer::pointer;

/// The place of the items: `value[]`, or `notificationItems[].NotificationRequestItem` if each is wrapped once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Each {
    text: String,
    /// The JSON pointer (RFC 6901) to the list.
    list: String,
    /// The JSON pointer from an entry of the list to its item.
    item: String,
}

/// A text that does not name a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a list reference; use a path followed by [], such as value[] or items[].item")]
pub struct ParseEachError(String);

impl Each {
    /// The JSON pointer to the list.
    pub(crate) fn list(&self) -> &str {
        &self.list
    }

    /// The JSON pointer from an entry of the list to its item.
    pub(crate) fn item(&self) -> &str {
        &self.item
    }

    /// The JSON pointer to the item at `index`. The body may have no such item.
    pub(crate) fn pointer_of(&self, index: usize) -> String {
        format!("{}/{index}{}", self.list, self.item)
    }
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
    fn a_path_names_a_list_and_the_wrapper_of_each_item() {
        let parse = |text: &str| text.parse::<Each>().map(|each| (each.list, each.item));
        assert_eq!(parse("value[]"), Ok(("/value".to_owned(), String::new())));
        assert_eq!(parse("a.b[].c.d"), Ok(("/a/b".to_owned(), "/c/d".to_owned())));
        assert_eq!(parse("[]"), Ok((String::new(), String::new())), "the body itself");
        for text in ["", "value", "value[].", "value[]x", "value[].a[]", "value.[]"] {
            assert_eq!(text.parse::<Each>(), Err(ParseEachError(text.to_owned())));
        }
    }
}
