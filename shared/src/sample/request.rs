//! A request that is being put together.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::SignError;
use crate::extract;
use crate::header::HeaderList;
use crate::scheme::reference::{Place, Reference, Role};
use crate::verify::request::{Joins, RequestParts, View};

/// A request as a provider sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleRequest {
    /// In upper case.
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl SampleRequest {
    /// The value of a header; `name` is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The query of the URL without its `?`; empty if there is none.
    #[must_use]
    pub fn query(&self) -> &str {
        self.url.split_once('?').map_or("", |(_, query)| query)
    }

    /// Whether the body is a form (`application/x-www-form-urlencoded`).
    pub(super) fn is_form(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
    }

    fn header_list(&self) -> HeaderList {
        HeaderList::new(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// Looks at the request as the verifier does.
    pub(super) fn look<R>(&self, settings: &BTreeMap<String, String>, look: impl FnOnce(&View<'_>) -> R) -> R {
        let headers = self.header_list();
        let parts = RequestParts { method: &self.method, url: &self.url, query: self.query(), headers: &headers };
        look(&View::new(&parts, &self.body, settings))
    }

    /// The value of a reference, for code that reads an event; `None` if it has none or an empty one.
    pub(super) fn text(&self, reference: &Reference) -> Option<String> {
        let read = |view: &View<'_>| extract::text(reference, view, Joins::Allowed).map(String::from);
        let text = self.look(&BTreeMap::new(), read);
        text.filter(|text| !text.is_empty())
    }

    /// Sets a header that may appear only once.
    pub(super) fn set_header(&mut self, name: &str, value: &str) {
        match self.headers.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Sets a field of a form.
    fn set_field(&mut self, name: &str, value: &str) {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(form_urlencoded::parse(&self.body).filter(|(known, _)| known != name));
        self.body = form.append_pair(name, value).finish().into_bytes();
    }

    /// Writes a value to a reference. A number in a JSON body stays a number if the text is one.
    pub(super) fn set(&mut self, reference: &Reference, value: &str) -> Result<(), SignError> {
        let refuse = |why| Err(SignError::NotWritable { reference: reference.clone(), why });
        match reference.role() {
            Role::Place(Place::Header(name)) => self.set_header(name, value),
            Role::Place(Place::HeaderSeries(prefix)) => self.set_header(&format!("{prefix}1"), value),
            Role::Place(Place::Json { pointer, .. }) if self.is_form() => {
                let Some(name) = pointer.strip_prefix('/').filter(|name| !name.contains('/')) else {
                    return refuse("the body is a form, whose fields can hold only text");
                };
                self.set_field(name, value);
            }
            Role::Place(Place::Json { pointer, .. }) => {
                let Ok(mut document) = serde_json::from_slice(&self.body) else {
                    return refuse("the body is not JSON");
                };
                if !put(&mut document, pointer, value) {
                    return refuse("the body has a value of a different type there");
                }
                self.body = document.to_string().into_bytes();
            }
            Role::Place(Place::Query(name)) => {
                let parameter: String =
                    form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish();
                let separator = if self.url.contains('?') { '&' } else { '?' };
                self.url = format!("{}{separator}{parameter}", self.url);
            }
            Role::Field(_) | Role::Function(_) | Role::Derived => {
                return refuse("it is not a place in a request");
            }
        }
        Ok(())
    }
}

/// Writes a value to a JSON pointer (RFC 6901), with the missing objects and lists on the way to it. `false` if another
/// value is in the way.
fn put(document: &mut Value, pointer: &str, text: &str) -> bool {
    let mut at = document;
    for token in pointer.split('/').skip(1) {
        let name = token.replace("~1", "/").replace("~0", "~");
        let index = name.parse::<usize>().ok();
        if at.is_null() {
            *at = if index == Some(0) { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
        }
        at = match (at, index) {
            (Value::Object(map), _) => map.entry(name).or_insert(Value::Null),
            (Value::Array(list), Some(index)) if index <= list.len() => {
                if index == list.len() {
                    list.push(Value::Null);
                }
                let Some(entry) = list.get_mut(index) else { return false };
                entry
            }
            (Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), _) => return false,
        };
    }
    match at {
        Value::Array(_) | Value::Object(_) => return false,
        Value::Number(_) => *at = text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
        Value::Null | Value::Bool(_) | Value::String(_) => *at = Value::from(text),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(body: &str, reference: &str, value: &str) -> Result<String, SignError> {
        let mut request = SampleRequest {
            method: "POST".to_owned(),
            url: "https://in.example/in/a".to_owned(),
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        };
        request.set(&reference.parse().expect("parses"), value)?;
        assert_eq!(request.text(&reference.parse().expect("parses")).as_deref(), Some(value));
        Ok(String::from_utf8(request.body).expect("text"))
    }

    #[test]
    fn a_written_value_is_read_by_its_reference() {
        assert_eq!(with("{}", "json:a.b", "x").as_deref(), Ok(r#"{"a":{"b":"x"}}"#));
        assert_eq!(with("null", "json:/0/type", "x").as_deref(), Ok(r#"[{"type":"x"}]"#));
        assert_eq!(with(r#"{"a":7}"#, "json:a", "8").as_deref(), Ok(r#"{"a":8}"#), "a number stays one");
        assert_eq!(with(r#"{"a":7}"#, "json:a", "x").as_deref(), Ok(r#"{"a":"x"}"#));
        assert_eq!(with("{}", "query:a", "b c&d").as_deref(), Ok("{}"));
        assert_eq!(with("a=b", "h:x-id", "1").as_deref(), Ok("a=b"));
    }

    #[test]
    fn a_value_without_a_place_is_refused() {
        for (body, reference) in
            [("a=b", "json:a"), (r#"{"a":"text"}"#, "json:a.b"), (r#"{"a":[]}"#, "json:a"), ("{}", "url")]
        {
            assert!(matches!(with(body, reference, "x"), Err(SignError::NotWritable { .. })), "{reference}");
        }
    }
}
