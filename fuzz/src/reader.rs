//! Reads any body.

use serde_json::Value as Serde;
use shared::header::HeaderList;
use shared::reader::{self, Content, Json, Step, Value};

use super::plain_reader::{Plain, document};
use super::wire::Wire;

/// The most bytes that a body is decoded to. A target has to be fast.
const LIMIT: usize = 1024 * 1024;

/// A request.
pub fn reader(data: &[u8]) -> bool {
    let Some(([], wire)) = Wire::read(data) else { return false };
    let read = reader::read(&wire.headers, &wire.body, LIMIT);
    if let Ok(known) = serde_json::from_slice::<Serde>(&wire.body) {
        let Content::Document(document) = &read else { panic!("serde_json reads it: {read:?}") };
        assert!(same(&plain(document.root()), &known), "{document:?} {known:?}");
        // No signature covers the headers.
        let bare = reader::read(&HeaderList::default(), &wire.body, LIMIT).document().expect("is JSON");
        assert_eq!(plain(bare.root()), plain(document.root()));
    }
    // The plain one recurses, and does not undo content-encodings.
    let nested = wire.body.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    let is_encoded = wire.headers.get("content-encoding").is_some() || wire.body.starts_with(b"\x1f\x8b");
    if !is_encoded
        && nested < 200
        && let Ok(plainly) = document(&wire.headers, &wire.body)
    {
        let found = match &read {
            Content::Document(document) => Some(plain(document.root())),
            Content::Text(_) | Content::Nothing => None,
            Content::TooDeep | Content::TooLarge => panic!("{read:?}"),
        };
        assert_eq!(found.map(sorted), plainly.map(sorted));
    }
    matches!(read, Content::Document(_))
}

/// The value, put together out of a walk through it.
fn plain(json: Json<'_>) -> Plain {
    let mut open: Vec<(Plain, Option<String>)> = Vec::new();
    for step in json.walk() {
        let value = match step {
            Step::Name(text) => {
                open.last_mut().expect("in an object").1 = Some(text.to_owned());
                continue;
            }
            Step::Value(Value::Array) => {
                open.push((Plain::List(Vec::new()), None));
                continue;
            }
            Step::Value(Value::Object) => {
                open.push((Plain::Object(Vec::new()), None));
                continue;
            }
            Step::End => open.pop().expect("is open").0,
            Step::Value(Value::Null) => Plain::Null,
            Step::Value(Value::Bool(truth)) => Plain::Bool(truth),
            Step::Value(Value::Number(digits)) => Plain::Number(digits.to_owned()),
            Step::Value(Value::String(text)) => Plain::Text(text.to_owned()),
        };
        match open.last_mut() {
            None => return value,
            Some((Plain::List(items), None)) => items.push(value),
            Some((Plain::Object(fields), name)) => fields.push((name.take().expect("a name"), value)),
            Some(other) => panic!("{other:?}"),
        }
    }
    panic!("the walk ends with a value")
}

/// With the names of objects in order; equal names stay in theirs.
fn sorted(plain: Plain) -> Plain {
    match plain {
        Plain::List(items) => Plain::List(items.into_iter().map(sorted).collect()),
        Plain::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            Plain::Object(fields)
        }
        other @ (Plain::Null | Plain::Bool(_) | Plain::Number(_) | Plain::Text(_)) => other,
    }
}

fn same(plain: &Plain, known: &Serde) -> bool {
    match (plain, known) {
        (Plain::Null, Serde::Null) => true,
        (Plain::Bool(one), Serde::Bool(other)) => one == other,
        (Plain::Text(one), Serde::String(other)) => one == other,
        (Plain::Number(digits), Serde::Number(number)) => {
            digits.parse().ok().or_else(|| serde_json::from_str(digits).ok()).as_ref() == Some(number)
        }
        (Plain::List(one), Serde::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Plain::Object(_), Serde::Object(other)) => {
            let Plain::Object(fields) = plain else { return false };
            let last = |name: &str| fields.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value);
            fields.iter().all(|(name, _)| other.contains_key(name))
                && other.iter().all(|(name, other)| last(name).is_some_and(|one| same(one, other)))
        }
        _ => false,
    }
}
