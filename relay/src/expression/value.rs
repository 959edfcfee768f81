//! Between JSON and the interpreter's values.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString, CelUInt,
};
use cel::common::value::Val;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::{ExpressionError, MAX_OUTPUT_BYTES, Transformed};

/// What a value is charged beside its text: about what it costs on the heap.
const NODE_BYTES: u64 = 32;

/// Takes JSON apart into values. Whole numbers become `int`, or `uint` where they are too large for it; all others
/// become `double`.
pub(super) fn from_json(json: Json) -> Box<dyn Val> {
    match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(bool) => Box::new(CelBool::from(bool)),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Box::new(CelInt::from(int)),
            (None, Some(uint)) => Box::new(CelUInt::from(uint)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Json::String(text) => Box::new(CelString::from(text)),
        Json::Array(items) => Box::new(CelList::from(items.into_iter().map(from_json).collect::<Vec<_>>())),
        Json::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (CelMapKey::from(name), from_json(value)));
            Box::new(CelMap::from(fields.collect::<HashMap<_, _>>()))
        }
    }
}

/// A filter's answer.
pub(super) fn boolean(value: &dyn Val) -> Result<bool, ExpressionError> {
    let bool = value.downcast_ref::<CelBool>().map(|bool| *bool.inner());
    bool.ok_or_else(|| ExpressionError::NotBoolean(value.get_type().name().to_owned()))
}

/// An order key's answer: the first 64 bits of the SHA-256 of its JSON; `None` for null and for the empty text, which are no
/// key. An expression that ends with `orValue("")` means by it that there is none, and not one order for all such events.
pub(super) fn key_hash(value: &dyn Val) -> Result<Option<i64>, ExpressionError> {
    let json = to_json(value, &mut MAX_OUTPUT_BYTES.clone())?;
    if json.is_null() || json == "" {
        return Ok(None);
    }
    let text = serde_json::to_vec(&json).map_err(|_| ExpressionError::Internal)?;
    Ok(Sha256::digest(text).first_chunk().copied().map(i64::from_be_bytes))
}

/// A transform's answer.
pub(super) fn body(value: &dyn Val) -> Result<Transformed, ExpressionError> {
    let (body, content_type) = if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        (text.inner().as_bytes().to_vec(), "text/plain; charset=utf-8")
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        (bytes.inner().to_vec(), "application/octet-stream")
    } else {
        let json = to_json(value, &mut MAX_OUTPUT_BYTES.clone())?;
        (serde_json::to_vec(&json).map_err(|_| ExpressionError::Internal)?, "application/json")
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

/// How many bytes a copy of a value takes, up to `enough`: beyond it nothing more is counted.
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

/// `room` is how many bytes of output are left; it is counted low, so that what fits is never refused here.
fn to_json(value: &dyn Val, room: &mut usize) -> Result<Json, ExpressionError> {
    let mut take = |bytes: usize| {
        *room = room.checked_sub(bytes).ok_or(ExpressionError::OutputTooLarge)?;
        Ok(())
    };
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        take(text.inner().len())?;
        return Ok(Json::String(text.inner().to_owned()));
    }
    if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        take(bytes.inner().len())?;
        return Ok(Json::String(BASE64.encode(bytes.inner())));
    }
    take(1)?;
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        return list
            .inner()
            .iter()
            .map(|item| to_json(item.as_ref(), room))
            .collect::<Result<Vec<_>, _>>()
            .map(Json::Array);
    }
    if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        let fields = map.inner().iter().map(|(key, value)| Ok((name(key.inner())?, to_json(value.as_ref(), room)?)));
        return fields.collect::<Result<serde_json::Map<_, _>, _>>().map(Json::Object);
    }
    if let Some(optional) = value.downcast_ref::<CelOptional<'_>>() {
        return optional.option().map_or(Ok(Json::Null), |inner| to_json(inner, room));
    }
    scalar(value)
}

fn scalar(value: &dyn Val) -> Result<Json, ExpressionError> {
    if value.downcast_ref::<CelNull>().is_some() {
        return Ok(Json::Null);
    }
    if let Some(bool) = value.downcast_ref::<CelBool>() {
        return Ok(Json::Bool(*bool.inner()));
    }
    if let Some(int) = value.downcast_ref::<CelInt>() {
        return Ok(Json::from(*int.inner()));
    }
    if let Some(uint) = value.downcast_ref::<CelUInt>() {
        return Ok(Json::from(*uint.inner()));
    }
    let number = value.downcast_ref::<CelDouble>().and_then(|double| serde_json::Number::from_f64(*double.inner()));
    number.map(Json::Number).ok_or_else(|| {
        let kind = value.get_type().name();
        ExpressionError::NotJson(if kind == "double" {
            "a number that is not finite".to_owned()
        } else {
            format!("a {kind}")
        })
    })
}

/// The name of a JSON field: the key as text.
fn name(key: &dyn Val) -> Result<String, ExpressionError> {
    if let Some(text) = key.downcast_ref::<CelString<'_>>() {
        return Ok(text.inner().to_owned());
    }
    scalar(key).map(|json| json.to_string())
}
