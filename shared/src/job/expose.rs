//! The part of a body that the holder of an await token sees: the fields that the source exposes.

use serde_json::{Map, Value};

/// The fields of a body that these JSON pointers name, each in its place. A field inside a list is left out, because
/// its place would change if other items are left out.
#[must_use]
pub fn reduced(body: &Value, pointers: &[String]) -> Value {
    let mut seen = Map::new();
    for pointer in pointers {
        let names: Vec<String> = pointer.split('/').skip(1).map(unescaped).collect();
        if let Some(value) = field(body, &names) {
            put(&mut seen, &names, value);
        }
    }
    Value::Object(seen)
}

fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

fn field<'v>(body: &'v Value, names: &[String]) -> Option<&'v Value> {
    names.iter().try_fold(body, |value, name| value.as_object()?.get(name))
}

/// Puts a value at its place, unless a field around it is already there as a whole.
fn put(seen: &mut Map<String, Value>, names: &[String], value: &Value) {
    match names {
        [] => {}
        [name] => {
            seen.insert(name.clone(), value.clone());
        }
        [name, rest @ ..] => {
            let inner = seen.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}
