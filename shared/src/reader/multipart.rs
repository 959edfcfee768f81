//! Bodies of the type `multipart/form-data` (RFC 7578).

use std::borrow::Cow;

use super::form::{Entry, Field};
use super::{MediaType, charset};

/// The fields of the parts that have a name. Faults of a part or at the end are ignored.
pub(super) fn fields<'a>(body: &'a [u8], boundary: &str, label: Option<&str>) -> impl Iterator<Item = Field<'a>> {
    parts(body, format!("--{boundary}").into_bytes()).filter_map(move |part| field(part, label))
}

/// The bytes between two lines that begin with the delimiter, or after the last one if the end is missing.
fn parts(body: &[u8], delimiter: Vec<u8>) -> impl Iterator<Item = &[u8]> {
    let mut next = find(body, 0, &delimiter);
    std::iter::from_fn(move || {
        let start = next? + delimiter.len();
        let rest = body.get(start..).filter(|rest| !rest.starts_with(b"--"))?;
        // White space may follow a delimiter.
        let line = rest.iter().position(|byte| *byte == b'\n')?;
        next = find(body, start, &delimiter);
        let part = body.get(start + line + 1..next.unwrap_or(body.len())).unwrap_or_default();
        let part = part.strip_suffix(b"\n").filter(|_| next.is_some()).unwrap_or(part);
        Some(part.strip_suffix(b"\r").filter(|_| next.is_some()).unwrap_or(part))
    })
}

/// The first line from `from` on that begins with the delimiter.
fn find(body: &[u8], from: usize, delimiter: &[u8]) -> Option<usize> {
    let begins = |at: &usize| body.get(*at..).is_some_and(|rest| rest.starts_with(delimiter));
    if from == 0 && begins(&0) {
        return Some(0);
    }
    let feeds = body.iter().enumerate().skip(from).filter(|(_, byte)| **byte == b'\n');
    feeds.map(|(at, _)| at + 1).find(begins)
}

fn field<'a>(part: &'a [u8], label: Option<&str>) -> Option<Field<'a>> {
    let (mut disposition, mut media_type) = ("", None);
    let mut rest = part;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = rest.get(..end)?;
        rest = rest.get(end + 1..)?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':')) else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-disposition") {
            disposition = value;
        } else if name.eq_ignore_ascii_case("content-type") {
            media_type = Some(value.trim());
        }
    }
    let disposition = MediaType(disposition);
    let name = Cow::Borrowed(disposition.parameter("name")?);
    let entry = match disposition.parameter("filename") {
        Some(filename) => {
            Entry::File { filename, media_type: media_type.unwrap_or("application/octet-stream"), size: rest.len() }
        }
        None => {
            let label = media_type.and_then(|value| MediaType(value).charset()).or(label);
            Entry::Text(charset::field(rest.to_vec(), label).into())
        }
    };
    Some((name, entry))
}
