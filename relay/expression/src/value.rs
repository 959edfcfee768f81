//! Conversions between JSON and the interpreter's values.

use std::collections::HashMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString, CelUInt,
};
use cel::common::value::{Builtin, Val};
use serde_json::Value as Plain;
use sha2::{Digest as _, Sha256};
use shared::reader::{Json, Number, Step, Value};

use super::number::{Digits, MAX_DIGITS};
use super::{ExpressionError, MAX_OUTPUT_BYTES, Transformed};

/// What a value is charged in addition to its text: its approximate size on the heap.
const NODE_BYTES: u64 = 32;

/// Converts a value of the relay's own: integers become `int`, or `uint` if they are too large for it.
pub(super) fn from_plain(plain: Plain) -> Box<dyn Val> {
    match plain {
        Plain::Null => Box::new(CelNull),
        Plain::Bool(bool) => Box::new(CelBool::from(bool)),
        Plain::Number(number) => number_of(&number.to_string()),
        Plain::String(text) => Box::new(CelString::from(text)),
        Plain::Array(items) => Box::new(CelList::from(items.into_iter().map(from_plain).collect::<Vec<_>>())),
        Plain::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (CelMapKey::from(name), from_plain(value)));
            Box::new(CelMap::from(fields.collect::<HashMap<_, _>>()))
        }
    }
}

/// An array or object that is being converted.
enum Made {
    List(Vec<Box<dyn Val>>),
    Map { fields: HashMap<CelMapKey<'static>, Box<dyn Val>>, name: String },
}

/// Converts JSON of any depth. The value must be dropped by [`dismantle`].
pub(super) fn from_json(json: Json<'_>) -> Box<dyn Val> {
    let mut open: Vec<Made> = Vec::new();
    for step in json.walk() {
        let value: Box<dyn Val> = match step {
            Step::Name(text) => {
                if let Some(Made::Map { name, .. }) = open.last_mut() {
                    text.clone_into(name);
                }
                continue;
            }
            Step::Value(Value::Array) => {
                open.push(Made::List(Vec::new()));
                continue;
            }
            Step::Value(Value::Object) => {
                open.push(Made::Map { fields: HashMap::new(), name: String::new() });
                continue;
            }
            Step::End => match open.pop() {
                Some(Made::List(items)) => Box::new(CelList::from(items)),
                Some(Made::Map { fields, .. }) => Box::new(CelMap::from(fields)),
                None => continue,
            },
            Step::Value(Value::Null) => Box::new(CelNull),
            Step::Value(Value::Bool(bool)) => Box::new(CelBool::from(bool)),
            Step::Value(Value::Number(digits)) => number_of(digits),
            Step::Value(Value::String(text)) => Box::new(CelString::from(text.to_owned())),
        };
        match open.last_mut() {
            Some(Made::List(items)) => items.push(value),
            Some(Made::Map { fields, name }) => {
                if let Some(before) = fields.insert(CelMapKey::from(std::mem::take(name)), value) {
                    dismantle(before);
                }
            }
            None => return value,
        }
    }
    Box::new(CelNull)
}

/// Drops a value without recursion: threads that serve other callers have small stacks.
pub(super) fn dismantle(value: Box<dyn Val>) {
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        match value.into_builtin() {
            Some(Builtin::List(list)) => rest.extend(list.into_inner()),
            Some(Builtin::Map(map)) => rest.extend(map.into_inner().into_values()),
            Some(_) | None => {}
        }
    }
}

fn number_of(digits: &str) -> Box<dyn Val> {
    match Number::of(digits) {
        Number::Int(int) => Box::new(CelInt::from(int)),
        Number::Uint(uint) => Box::new(CelUInt::from(uint)),
        Number::Digits(nearest) if digits.len() <= MAX_DIGITS => Box::new(Digits::new(digits, nearest)),
        Number::Double(double) | Number::Digits(double) => Box::new(CelDouble::from(double)),
    }
}

/// The result of a filter.
pub(super) fn boolean(value: &dyn Val) -> Result<bool, ExpressionError> {
    let bool = value.downcast_ref::<CelBool>().map(|bool| *bool.inner());
    bool.ok_or_else(|| ExpressionError::NotBoolean(value.get_type().name().to_owned()))
}

/// The result of an order key: the first 64 bits of the SHA-256 of its JSON; `None` for null and for the empty text,
/// which mean no key. With an expression that ends with `orValue("")`, events without a key have no order, instead of
/// one order for all of them.
pub(super) fn key_hash(value: &dyn Val) -> Result<Option<i64>, ExpressionError> {
    Ok(key(value)?.and_then(|json| Sha256::digest(json).first_chunk().copied().map(i64::from_be_bytes)))
}

/// The same as text: the JSON that [`key_hash`] hashes.
pub(super) fn key_text(value: &dyn Val) -> Result<Option<String>, ExpressionError> {
    key(value)?.map(String::from_utf8).transpose().map_err(|_| ExpressionError::Internal)
}

fn key(value: &dyn Val) -> Result<Option<Vec<u8>>, ExpressionError> {
    let json = to_json(value)?;
    Ok((json != b"null" && json != b"\"\"").then_some(json))
}

/// The result of a transform.
pub(super) fn body(value: &dyn Val) -> Result<Transformed, ExpressionError> {
    let (body, content_type) = if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        (text.inner().as_bytes().to_vec(), "text/plain; charset=utf-8")
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        (bytes.inner().to_vec(), "application/octet-stream")
    } else {
        (to_json(value)?, "application/json")
    };
    if body.len() > MAX_OUTPUT_BYTES {
        Err(ExpressionError::OutputTooLarge)
    } else {
        Ok(Transformed { body, content_type })
    }
}

/// The length of a text or of bytes, in bytes; 0 for every other value.
pub(super) fn text_bytes(value: &dyn Val) -> u64 {
    let text = value.downcast_ref::<CelString<'_>>().map(|text| text.inner().len());
    let bytes = || value.downcast_ref::<CelBytes<'_>>().map(|bytes| bytes.inner().len());
    text.or_else(bytes).map_or(0, |length| u64::try_from(length).unwrap_or(u64::MAX))
}

/// How many bytes a copy of a value takes. Counting stops at `enough`.
pub(super) fn weight(value: &dyn Val, enough: u64) -> u64 {
    let length = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        NODE_BYTES + length(text.inner().len())
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        NODE_BYTES + length(bytes.inner().len())
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        sum(list.inner().iter().map(AsRef::as_ref), enough)
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        sum(map.inner().iter().flat_map(|(key, value)| [key.inner(), value.as_ref()]), enough)
    } else if let Some(inner) = value.downcast_ref::<CelOptional<'_>>().and_then(CelOptional::option) {
        NODE_BYTES + weight(inner, enough)
    } else {
        NODE_BYTES
    }
}

fn sum<'a>(values: impl Iterator<Item = &'a dyn Val>, enough: u64) -> u64 {
    let mut total = NODE_BYTES;
    for value in values {
        if total > enough {
            break;
        }
        total += weight(value, enough - total);
    }
    total
}

/// A list or map of which a part has been written.
enum Written<'v> {
    List(std::slice::Iter<'v, Box<dyn Val + 'v>>),
    Map(std::vec::IntoIter<(String, &'v (dyn Val + 'v))>),
}

/// The value as JSON, of any depth, with the names of maps in alphabetical order.
fn to_json(value: &dyn Val) -> Result<Vec<u8>, ExpressionError> {
    let mut out = Vec::new();
    let mut open: Vec<Written<'_>> = Vec::new();
    let mut next = Some(value);
    loop {
        if let Some(value) = next.take() {
            if let Some(list) = value.downcast_ref::<CelList<'_>>() {
                out.push(b'[');
                open.push(Written::List(list.inner().iter()));
            } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
                out.push(b'{');
                let fields = map.inner().iter().map(|(key, value)| Ok((name(key.inner())?, value.as_ref())));
                let mut fields = fields.collect::<Result<Vec<_>, ExpressionError>>()?;
                fields.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                // A number and the text of its digits are two keys but one name.
                fields.dedup_by(|(one, _), (other, _)| one == other);
                open.push(Written::Map(fields.into_iter()));
            } else if let Some(optional) = value.downcast_ref::<CelOptional<'_>>() {
                match optional.option() {
                    Some(inner) => {
                        next = Some(inner);
                        continue;
                    }
                    None => out.extend_from_slice(b"null"),
                }
            } else {
                write_scalar(value, &mut out)?;
            }
        }
        if out.len() > MAX_OUTPUT_BYTES {
            return Err(ExpressionError::OutputTooLarge);
        }
        let is_first = matches!(out.last(), Some(b'[' | b'{'));
        match open.last_mut() {
            None => return Ok(out),
            Some(Written::List(items)) => match items.next() {
                Some(item) => {
                    if !is_first {
                        out.push(b',');
                    }
                    next = Some(item.as_ref());
                }
                None => {
                    out.push(b']');
                    open.pop();
                }
            },
            Some(Written::Map(fields)) => match fields.next() {
                Some((name, value)) => {
                    if !is_first {
                        out.push(b',');
                    }
                    write_text(&name, &mut out)?;
                    out.push(b':');
                    next = Some(value);
                }
                None => {
                    out.push(b'}');
                    open.pop();
                }
            },
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), ExpressionError> {
    serde_json::to_writer(out, text).map_err(|_| ExpressionError::Internal)
}

fn write_scalar(value: &dyn Val, out: &mut Vec<u8>) -> Result<(), ExpressionError> {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return write_text(text.inner(), out);
    }
    if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        return write_text(&BASE64.encode(bytes.inner()), out);
    }
    let written = if value.downcast_ref::<CelNull>().is_some() {
        out.write_all(b"null")
    } else if let Some(bool) = value.downcast_ref::<CelBool>() {
        write!(out, "{}", bool.inner())
    } else if let Some(int) = value.downcast_ref::<CelInt>() {
        write!(out, "{}", int.inner())
    } else if let Some(uint) = value.downcast_ref::<CelUInt>() {
        write!(out, "{}", uint.inner())
    } else if let Some(digits) = value.downcast_ref::<Digits>() {
        out.write_all(digits.text().as_bytes())
    } else if let Some(double) = value.downcast_ref::<CelDouble>() {
        if !double.is_finite() {
            return Err(ExpressionError::NotJson("a number that is not finite".to_owned()));
        }
        return serde_json::to_writer(out, double.inner()).map_err(|_| ExpressionError::Internal);
    } else {
        return Err(ExpressionError::NotJson(format!("a {}", value.get_type().name())));
    };
    written.map_err(|_| ExpressionError::Internal)
}

/// The name of a JSON field: the key as text.
fn name(key: &dyn Val) -> Result<String, ExpressionError> {
    if let Some(text) = key.downcast_ref::<CelString<'_>>() {
        return Ok(text.inner().to_owned());
    }
    let mut out = Vec::new();
    write_scalar(key, &mut out)?;
    String::from_utf8(out).map_err(|_| ExpressionError::Internal)
}
