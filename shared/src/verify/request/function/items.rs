//! The value of `items(…)`, which names a batch whose items alone have ids.

use sha2::{Digest as _, Sha256};

use crate::scheme::reference::function::Items;
use crate::verify::request::{Joins, View};

impl Items {
    /// The fields of the only item, joined with dots. Of several items the fields of the first, how many more there are,
    /// and the SHA-256 of all fields of all items in their order: `EV1+2.5feceb66…`. `None` if the list is missing or
    /// empty, or if an item lacks a field.
    pub(crate) fn value(&self, view: &View<'_>) -> Option<String> {
        let (list, fields) = self.parts()?;
        let items = list.items(view).ok()?;
        let mut first = String::new();
        let mut all = Sha256::new();
        for (index, item) in items.iter().enumerate() {
            let view = view.of_item(*item);
            for (place, field) in fields.iter().enumerate() {
                let text = view.text(field, Joins::Refused).ok()?;
                // The length keeps the fields apart, whatever letters are in them.
                all.update((text.len() as u64).to_be_bytes());
                all.update(text.as_bytes());
                if index == 0 {
                    first.push_str(if place > 0 { "." } else { "" });
                    first.push_str(&text);
                }
            }
        }
        match items.len() {
            0 => None,
            1 => Some(first),
            count => Some(format!("{first}+{}.{}", count - 1, hex::encode(all.finalize()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::header::HeaderList;
    use crate::verify::RequestParts;

    fn of(items: &str, body: &str) -> Option<String> {
        let headers = HeaderList::default();
        let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
        items.parse::<Items>().expect("parses").value(&View::new(&request, body.as_bytes(), &BTreeMap::new()))
    }

    #[test]
    fn one_item_gives_its_fields_and_several_give_the_first_with_a_hash_of_all() {
        assert_eq!(of("events[]:id", r#"{"events":[{"id":"EV1"}]}"#).as_deref(), Some("EV1"));
        assert_eq!(of("[]:a.b+c", r#"[{"a":{"b":7},"c":"x"}]"#).as_deref(), Some("7.x"));
        assert_eq!(of("v[].item:id+at?", r#"{"v":[{"item":{"id":1}}]}"#).as_deref(), Some("1."));
        // printf '\0\0\0\0\0\0\0\x03EV1\0\0\0\0\0\0\0\x03EV2' | sha256sum
        let hash = "89928dfa7f3d4d3e22ae984fe43e0900e820e3dcb1e29b04cbc8a34e265866f6";
        let two = of("events[]:id", r#"{"events":[{"id":"EV1"},{"id":"EV2"}]}"#).expect("a value");
        assert_eq!(two, format!("EV1+1.{hash}"));
    }

    #[test]
    fn every_item_counts_and_other_fields_do_not() {
        let with = |attempt: u32, second: &str| {
            of("[]:id", &format!(r#"[{{"id":"a","attempt":{attempt}}},{{"id":"{second}"}}]"#)).expect("a value")
        };
        assert_eq!(with(0, "b"), with(1, "b"));
        assert_ne!(with(0, "b"), with(0, "c"));
        let fields = |body| of("[]:a+b", body).expect("a value");
        assert_ne!(
            fields(r#"[{"a":"x","b":"yz"},{"a":"1","b":"2"}]"#),
            fields(r#"[{"a":"xy","b":"z"},{"a":"1","b":"2"}]"#)
        );
    }

    #[test]
    fn a_list_that_is_missing_or_lacks_a_field_has_no_value() {
        for body in ["", "{}", r#"{"events":[]}"#, r#"{"events":[{"id":"1"},{}]}"#, r#"{"events":{"id":"1"}}"#] {
            assert_eq!(of("events[]:id", body), None, "{body}");
        }
    }
}
