//! The headers that Hook0 signs (Coinbase Developer Platform): `clients/rust/src/signature.rs` of its repository.

use crate::scheme::reference::{Reference, is_header_name};
use crate::verify::rejection::Rejection;
use crate::verify::request::{Joins, View};

/// The most headers that one signature may cover.
const MAX_HEADERS: usize = 16;

/// The values of the headers named in a list separated by blanks, in its order and joined with dots.
pub(super) fn values(view: &View<'_>, names: &str) -> Result<String, Rejection> {
    let mut out = String::new();
    for (index, name) in names.split(' ').enumerate() {
        let reference = Reference::Header(name.to_ascii_lowercase());
        if index == MAX_HEADERS || !is_header_name(name) {
            return Err(Rejection::FieldMissing { reference });
        }
        if index > 0 {
            out.push('.');
        }
        out.push_str(&view.text(&reference, Joins::Refused)?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::header::HeaderList;
    use crate::verify::RequestParts;

    fn of(names: &str) -> Result<String, Rejection> {
        let headers = HeaderList::new([("X-Event-Id", "e1"), ("x-event-type", "a.b"), ("x-empty", "")]);
        let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
        values(&View::new(&request, b"", &BTreeMap::new()), names)
    }

    #[test]
    fn the_named_headers_are_joined_in_the_order_of_their_names() {
        assert_eq!(of("x-event-type x-event-id").as_deref(), Ok("a.b.e1"));
        assert_eq!(of("X-Event-Id").as_deref(), Ok("e1"));
    }

    #[test]
    fn a_header_that_is_named_must_be_there() {
        assert_eq!(of("x-event-id x-other"), Err(Rejection::HeaderMissing { name: "x-other".to_owned() }));
        assert_eq!(of("x-empty"), Err(Rejection::HeaderEmpty { name: "x-empty".to_owned() }));
        for names in ["", "x-event-id  x-event-type", "a:b", &["x-event-id"; MAX_HEADERS + 1].join(" ")] {
            assert!(matches!(of(names), Err(Rejection::FieldMissing { .. })), "{names}");
        }
    }
}
