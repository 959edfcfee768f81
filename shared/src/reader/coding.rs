//! Undoing the content-encodings of a body, within a limit.
//!
//! `br` and `zstd` are not undone: no provider is known to send them, and Brotli's dictionary alone is 120 KB.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

use crate::header::HeaderList;

/// The most encodings that are undone, one inside the other.
const MAX_CODINGS: usize = 2;

/// The most members of gzip that may stand one behind the other: each costs as much as some ten thousand bytes.
const MAX_MEMBERS: usize = 16;

/// How a member of gzip begins (RFC 1952): two bytes by which it is known, and the only method.
const GZIP_MAGIC: &[u8] = b"\x1f\x8b\x08";

/// How many bytes are decoded at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// What became of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// It is not encoded, or not as the header says, or in a way that is not known.
    AsItIs,
    Into(Vec<u8>),
    TooLarge,
}

/// Undoes what `content-encoding` names; gzip also where nothing is named, because no text begins like it.
pub(super) fn decode(headers: &HeaderList, body: &[u8], max_bytes: usize) -> Decoded {
    let named = headers.all("content-encoding").flat_map(|list| list.split(',')).map(str::trim);
    let mut codings: Vec<_> = named.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity")).collect();
    if codings.is_empty() && body.starts_with(GZIP_MAGIC) {
        codings.push("gzip");
    }
    if codings.len() > MAX_CODINGS {
        return Decoded::AsItIs;
    }
    let mut decoded = Decoded::AsItIs;
    for coding in codings.into_iter().rev() {
        let bytes = match &decoded {
            Decoded::Into(bytes) => bytes,
            Decoded::AsItIs | Decoded::TooLarge => body,
        };
        decoded = match undo(coding, bytes, max_bytes) {
            Some(inner) if inner.len() > max_bytes => return Decoded::TooLarge,
            Some(inner) => Decoded::Into(inner),
            None => return Decoded::AsItIs,
        };
    }
    decoded
}

/// The decoded bytes, more than `max_bytes` if there are more than that; `None` if they are not encoded so.
fn undo(coding: &str, bytes: &[u8], max_bytes: usize) -> Option<Vec<u8>> {
    if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
        gunzip(bytes, max_bytes)
    } else if coding.eq_ignore_ascii_case("deflate") {
        // It means zlib, and many send it bare.
        whole(bytes, DataFormat::Zlib, max_bytes).or_else(|| whole(bytes, DataFormat::Raw, max_bytes))
    } else {
        None
    }
}

fn whole(bytes: &[u8], format: DataFormat, max_bytes: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let consumed = inflated(bytes, format, max_bytes, &mut out)?;
    (consumed == bytes.len() || out.len() > max_bytes).then_some(out)
}

/// One member of gzip after the other. The checksum is not looked at: that the right bytes have come is for the signature to
/// say.
fn gunzip(bytes: &[u8], max_bytes: usize) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::new(), bytes);
    for _ in 0..MAX_MEMBERS {
        if rest.is_empty() {
            break;
        }
        let data = behind_header(rest)?;
        let before = out.len();
        let consumed = inflated(data, DataFormat::Raw, max_bytes, &mut out)?;
        if out.len() > max_bytes {
            return Some(out);
        }
        // The checksum, and the length by its last 32 bits.
        let (trailer, next) = data.get(consumed..)?.split_first_chunk::<8>()?;
        let [.., a, b, c, d] = *trailer;
        if u32::from_le_bytes([a, b, c, d]) != u32::try_from(out.len() - before).ok()? {
            return None;
        }
        rest = next;
    }
    rest.is_empty().then_some(out)
}

/// What stands behind the header of a member of gzip.
fn behind_header(member: &[u8]) -> Option<&[u8]> {
    const CHECKSUM: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let flags = *member.strip_prefix(GZIP_MAGIC)?.first()?;
    let mut rest = member.get(10..)?;
    if flags & EXTRA != 0 {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            rest = rest.get(rest.iter().position(|byte| *byte == 0)? + 1..)?;
        }
    }
    if flags & CHECKSUM != 0 { rest.get(2..) } else { Some(rest) }
}

/// Adds what is decoded to `out`, until it has more than `max_bytes`, and says how many bytes were read.
fn inflated(bytes: &[u8], format: DataFormat, max_bytes: usize, out: &mut Vec<u8>) -> Option<usize> {
    let mut state = InflateState::new_boxed(format);
    let mut piece = vec![0; PIECE_BYTES];
    let mut consumed = 0;
    loop {
        let result = inflate(&mut state, bytes.get(consumed..)?, &mut piece, MZFlush::None);
        consumed += result.bytes_consumed;
        out.extend_from_slice(piece.get(..result.bytes_written)?);
        match result.status {
            Ok(MZStatus::StreamEnd) => return Some(consumed),
            _ if out.len() > max_bytes => return Some(consumed),
            Ok(_) if result.bytes_written > 0 => {}
            Ok(_) | Err(_) => return None,
        }
    }
}

/// For tests: one member of gzip that holds these bytes.
#[cfg(test)]
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short");
    let deflated = miniz_oxide::deflate::compress_to_vec(bytes, 6);
    let trailer = [crate::checksum::crc32(bytes).to_le_bytes(), length.to_le_bytes()].concat();
    [GZIP_MAGIC, &[0; 7], &deflated, &trailer].concat()
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

    use super::*;

    fn of(coding: &[&str], body: &[u8]) -> Decoded {
        decode(&HeaderList::new(coding.iter().map(|coding| ("Content-Encoding", *coding))), body, 1_000)
    }

    #[test]
    fn what_the_header_names_is_undone() {
        let into = || Decoded::Into(b"{}".to_vec());
        let (zlib, bare) = (compress_to_vec_zlib(b"{}", 6), compress_to_vec(b"{}", 6));
        assert_eq!(of(&["gzip"], &gzip(b"{}")), into());
        assert_eq!(of(&["X-GZIP"], &gzip(b"{}")), into());
        assert_eq!(of(&[], &gzip(b"{}")), into(), "known by its first bytes");
        assert_eq!(of(&["gzip"], &[gzip(b"{"), gzip(b"}")].concat()), into(), "two members");
        let most = gzip(b"").repeat(MAX_MEMBERS - 1);
        assert_eq!(of(&["gzip"], &[gzip(b"{}"), most].concat()), into());
        assert_eq!(of(&["deflate"], &zlib), into());
        assert_eq!(of(&["deflate"], &bare), into());
        assert_eq!(of(&["identity, gzip"], &gzip(b"{}")), into());
        assert_eq!(of(&["gzip, gzip"], &gzip(&gzip(b"{}"))), into());
        assert_eq!(of(&["deflate", "gzip"], &gzip(&zlib)), into());
    }

    #[test]
    fn what_is_not_encoded_as_it_says_is_taken_as_it_is() {
        for (coding, body) in [
            (&["gzip"][..], b"a=1".to_vec()),
            (&["br"], gzip(b"{}")),
            (&["gzip"], gzip(b"{}")[..12].to_vec()),
            (&["gzip"], [gzip(b"{}"), b"?".to_vec()].concat()),
            (&["deflate"], [compress_to_vec_zlib(b"{}", 6), b"?".to_vec()].concat()),
            (&["gzip", "gzip", "gzip"], gzip(&gzip(&gzip(b"{}")))),
            (&["gzip"], gzip(b"").repeat(MAX_MEMBERS + 1)),
            (&["identity"], b"{}".to_vec()),
            (&[], b"\x1f\x8b".to_vec()),
        ] {
            assert_eq!(of(coding, &body), Decoded::AsItIs, "{coding:?}");
        }
    }

    #[test]
    fn a_member_of_gzip_may_have_a_name_and_more() {
        // By GNU gzip 1.12: `printf '{"a":1}' > a.json && gzip -nc a.json`, and without -n.
        let plain = "1f8b0800000000000003ab564a54b232ac0500afac1b5607000000";
        let named = "1f8b080817470c6b0003 612e6a736f6e00 ab564a54b232ac0500afac1b5607000000".replace(' ', "");
        // Of the same, with an extra field, a comment and a checksum of the header.
        let all = format!("1f8b081e0000000000030200ffff 612e6a736f6e00 6300 abcd {}", &plain[20..]).replace(' ', "");
        for text in [plain, &named, &all] {
            let body = hex::decode(text).expect("hex");
            assert_eq!(of(&["gzip"], &body), Decoded::Into(b"{\"a\":1}".to_vec()), "{text}");
            for length in 0..body.len() {
                assert!(
                    !matches!(of(&["gzip"], &body[..length]), Decoded::Into(bytes) if !bytes.is_empty()),
                    "{length}"
                );
            }
        }
    }

    #[test]
    fn nothing_is_decoded_beyond_the_limit() {
        assert_eq!(of(&["gzip"], &gzip(&[b' '; 1_000])), Decoded::Into(vec![b' '; 1_000]));
        assert_eq!(of(&["gzip"], &gzip(&[b' '; 1_001])), Decoded::TooLarge);
        assert_eq!(of(&["gzip, gzip"], &gzip(&gzip(&vec![b' '; 10_000_000]))), Decoded::TooLarge);
        let two = [gzip(&[b' '; 600]), gzip(&[b' '; 600])].concat();
        assert_eq!(of(&["gzip"], &two), Decoded::TooLarge);
        for packed in [compress_to_vec_zlib, compress_to_vec] {
            assert_eq!(of(&["deflate"], &packed(&[b' '; 1_000], 6)), Decoded::Into(vec![b' '; 1_000]));
            assert_eq!(of(&["deflate"], &packed(&[b' '; 1_001], 6)), Decoded::TooLarge);
            assert_eq!(of(&["deflate"], &packed(&[b' '; 10_000_000], 6)), Decoded::TooLarge);
        }
    }

    #[test]
    fn what_fills_the_limit_is_read_to_its_end() {
        let full = gzip(&[b' '; 1_000]);
        assert_eq!(of(&["gzip"], &[full.clone(), b"?".to_vec()].concat()), Decoded::AsItIs);
        assert_eq!(of(&["gzip"], &[full.clone(), gzip(b"")].concat()), Decoded::Into(vec![b' '; 1_000]));
        assert_eq!(of(&["gzip"], &[full, gzip(b" ")].concat()), Decoded::TooLarge);
        let zlib = [compress_to_vec_zlib(&[b' '; 1_000], 6), b"?".to_vec()].concat();
        assert_eq!(of(&["deflate"], &zlib), Decoded::AsItIs);
        let pieces = vec![b' '; 2 * PIECE_BYTES];
        let within = |limit| decode(&HeaderList::default(), &gzip(&pieces), limit);
        assert_eq!(within(PIECE_BYTES), Decoded::TooLarge, "more is left behind the piece that fills the limit");
        assert_eq!(within(pieces.len()), Decoded::Into(vec![b' '; 2 * PIECE_BYTES]));
    }

    #[test]
    fn decoding_stops_at_the_limit_however_much_is_left() {
        let mut out = Vec::new();
        let packed = compress_to_vec(&[b' '; 1_000_000], 6);
        assert!(inflated(&packed, DataFormat::Raw, 1_000, &mut out).is_some());
        assert!((1_001..=1_000 + PIECE_BYTES).contains(&out.len()), "{}", out.len());
    }
}
