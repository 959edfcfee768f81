//! Limits of the Worker: its memory, its requests, and verification.

use shared::{decision, envelope, handshake, reader, verify};

use super::{Bound, api, bytes, count, env, fixed, millis, percent, seconds, table};
use crate::documents::constant::constant;

pub(super) fn write(page: &mut String) {
    table(
        page,
        "Memory of the Worker",
        "An isolate has 128 MB for all its requests, and WebAssembly never returns memory. Before a body is read, memory\n\
         for it is reserved in one of three shares. The *fast path* takes a POST of up to 127,000 bytes. If its share\n\
         is full, the request is answered 503 with `Retry-After` at once. Other requests wait first, up to 2.75 seconds.",
        &memory(),
    );
    table(page, "A request at the edge", "", &request());
    table(page, "Verification", "", &verification());
}

/// The sum of the shares of an isolate, in bytes.
pub(super) fn shares() -> u64 {
    let budget = "edge/src/body/budget.rs";
    constant(budget, "LARGE_SHARE") + constant(budget, "SMALL_SHARE") + constant("edge/src/small_bodies.js", "SHARE")
}

fn memory() -> Vec<Bound> {
    let budget = |name| constant("edge/src/body/budget.rs", name);
    let small = |name| constant("edge/src/small_bodies.js", name);
    let body = |name| constant("edge/src/body.rs", name);
    vec![
        fixed!(
            "bodies that are not small, in total",
            bytes(budget("LARGE_SHARE")),
            "leaves memory for the isolate's other requests",
        ),
        fixed!(
            "small bodies that Rust reads, in total",
            bytes(budget("SMALL_SHARE")),
            "keeps large requests from blocking small ones",
        ),
        fixed!(
            "bodies that the fast path reads, in total",
            bytes(small("SHARE")),
            "leaves memory for the isolate's other requests",
        ),
        fixed!("all three shares", bytes(shares()), "leaves 60 MB of the isolate for the code and the platform"),
        fixed!("bodies up to this size are small", bytes(budget("SMALL_BYTES")), "decides which share a body uses"),
        fixed!(
            "memory reserved for a small body that Rust reads",
            format!("{} × its size", count(budget("COPIES_OF_SMALL"))),
            "counts the body in the host, in the Worker and in the message",
        ),
        fixed!(
            "memory reserved for a body of the fast path",
            format!("{} × its size", count(small("COPIES"))),
            "counts the body as it arrived and in the message",
        ),
        fixed!(
            "reserved memory below which the fast path sets no timers",
            bytes(small("UNWATCHED")),
            "saves a timer for each request",
        ),
        fixed!(
            "wait for free memory, not on the fast path",
            millis((body("TRIES") - 1) * body("TRY_AFTER_MS")),
            "avoids 503 responses during short peaks",
        ),
        fixed!(
            "longest time that a body is kept",
            millis(budget("HELD_AT_MOST_MS")),
            "frees memory of requests that the platform has ended",
        ),
        fixed!(
            "sources in the cache of an isolate",
            count(constant("edge/src/sources.rs", "CAPACITY")),
            "limits memory; unknown names are cached separately (as many), so guessed URLs do not evict real sources",
        ),
        fixed!(
            "published key sets in the cache",
            count(constant("edge/src/published_keys.rs", "CAPACITY")),
            "limits memory; failed fetches are cached separately (as many)",
        ),
        fixed!(
            "imported keys in the cache of the fast path",
            count(constant("edge/src/entry.js", "MAX_KEYS")),
            "limits memory",
        ),
        fixed!(
            "pairs of source and cause that are counted at one time",
            count(constant("edge/src/rejections.rs", "CAPACITY")),
            "limits memory; further ones are not counted",
        ),
    ]
}

fn request() -> Vec<Bound> {
    let body = |name| constant("edge/src/body.rs", name);
    vec![
        env(
            "body of a request",
            "TIDEGATE_MAX_BODY_BYTES",
            bytes,
            "edge/src/ingest.rs",
            "limits memory and storage. The Worker's variable `MAX_BODY_BYTES` limits it too (25 MB if it is not set); a source can lower it with `max_body_bytes`",
        ),
        fixed!("headers and query of a request", bytes(decision::MAX_HEAD_BYTES), "lets them fit into a queue message",),
        fixed!(
            "message in the queue",
            bytes(envelope::MAX_MESSAGE_BYTES),
            "fits into Cloudflare's limit of 128,000 bytes; a larger body is stored in R2",
        ),
        fixed!(
            "part of the URL that is looked up as the name or id of a source",
            bytes(constant("edge/src/sources.rs", "MAX_NAME_BYTES")),
            "avoids needless reads of KV",
        ),
        fixed!(
            "time for a body of more than 256 KiB, or of unknown length, to arrive",
            millis(body("READ_WITHIN_MS")),
            "frees memory held by slow senders; the response is 408",
        ),
        fixed!(
            "time for a part of such a body to arrive",
            millis(body("PIECE_WITHIN_MS")),
            "frees memory held by stalled senders; the response is 408",
        ),
        fixed!(
            "time for a smaller body to arrive",
            millis(body("PIECE_WITHIN_MS")),
            "frees memory held by slow senders; the response is 408",
        ),
        fixed!(
            "time for a body on the fast path to arrive while more than 6 MB are reserved; otherwise none",
            millis(constant("edge/src/small_bodies.js", "READ_WITHIN_MS")),
            "frees memory held by slow senders; the response is 408",
        ),
        fixed!(
            "`Retry-After` of 503 if the queue or the store failed",
            seconds(constant("edge/src/ingest.rs", "RETRY_AFTER_S")),
            "spreads the retries of providers",
        ),
        fixed!(
            "`Retry-After` of 503 if there is no free memory",
            seconds(constant("edge/src/respond.rs", "BUSY_RETRY_AFTER_S")),
            "spreads the retries of providers",
        ),
        fixed!(
            "messages about rejections, for each source and cause",
            format!("1 in {}", millis(constant("edge/src/rejections.rs", "WINDOW_MS"))),
            "keeps forged requests from filling the queue",
        ),
        fixed!(
            "messages about rejections, in total, per isolate",
            format!(
                "{} in {}",
                count(constant("edge/src/rejections.rs", "MESSAGES_PER_WINDOW")),
                millis(constant("edge/src/rejections.rs", "WINDOW_MS"))
            ),
            "keeps forged requests from filling the queue",
        ),
        fixed!(
            "rejections that are explained, per isolate",
            format!(
                "{} in {}",
                count(constant("edge/src/rejections.rs", "EXPLANATIONS_PER_WINDOW")),
                millis(constant("edge/src/rejections.rs", "WINDOW_MS"))
            ),
            "limits CPU time: an explanation costs several verifications",
        ),
        fixed!(
            "configuration of one source",
            bytes(constant("edge/src/admin/source.rs", "MAX_CONFIGURATION_BYTES")),
            "limits the size of values in KV and in the cache",
        ),
        fixed!(
            "the tombstone of a deleted source is kept",
            seconds(constant("edge/src/admin/source.rs", "TOMBSTONE_S")),
            "keeps a late write from restoring the source",
        ),
    ]
}

fn verification() -> Vec<Bound> {
    let keys = |name| constant("edge/src/published_keys.rs", name);
    let options = |name| constant("shared/src/provider/options.rs", name);
    vec![
        fixed!(
            "secrets of a source",
            count(shared::provider::MAX_SECRETS),
            "limits CPU time: a forged request is verified with each secret",
        ),
        fixed!(
            "signatures of a request that are read",
            count(constant("shared/src/verify/signature.rs", "MAX_SIGNATURES")),
            "limits CPU time",
        ),
        fixed!(
            "bytes signed, if other forms of the URL are tried",
            bytes(constant("shared/src/scheme/url_form.rs", "MAX_RESPELLED_BYTES")),
            "limits CPU time: the cost of a wrong signature of a large body does not grow with the number of forms",
        ),
        fixed!(
            "keys of a published key set",
            count(verify::key_set::MAX_KEYS),
            "limits CPU time: each key costs a verification",
        ),
        fixed!(
            "RSA keys",
            format!(
                "{} to {} bits",
                count(*verify::public_key::RSA_BITS.start()),
                count(*verify::public_key::RSA_BITS.end())
            ),
            "minimum: excludes weak keys; maximum: limits CPU time",
        ),
        fixed!(
            "token (JWT)",
            bytes(constant("shared/src/verify/jwt/compact.rs", "MAX_TOKEN_BYTES")),
            "limits CPU time"
        ),
        api!(
            "difference of a signed time from the present",
            seconds(constant("shared/src/provider/custom.rs", "DEFAULT_TOLERANCE_S")),
            format!("`tolerance_s` of a source, up to {}", seconds(options("MAX_TOLERANCE_S"))),
            "limits replay attacks; many providers have their own default ([PROVIDERS.md](PROVIDERS.md))",
        ),
        fixed!(
            "body that is searched for a handshake",
            bytes(handshake::MAX_HANDSHAKE_BODY_BYTES),
            "avoids parsing large events at the edge",
        ),
        fixed!(
            "body of the acknowledgement of a source",
            bytes(options("MAX_ACKNOWLEDGEMENT_BYTES")),
            "limits the configuration in KV",
        ),
        fixed!("time to fetch published keys", millis(keys("TIMEOUT_MS")), "ends before the provider's own timeout"),
        fixed!("size of a published key set", bytes(keys("MAX_BYTES")), "limits memory"),
        fixed!(
            "published keys are kept, by their `cache-control`",
            format!(
                "{} to {}; without it {}",
                seconds(keys("MIN_AGE_S")),
                seconds(keys("MAX_AGE_S")),
                seconds(keys("DEFAULT_AGE_S"))
            ),
            "limits requests to the provider, and the time until a replaced key is noticed",
        ),
        fixed!(
            "interval between fetches because no key fits a signature",
            format!("at least {}", millis(keys("REFETCH_AFTER"))),
            "keeps forged requests from causing fetches",
        ),
        fixed!(
            "keys that are fetched because a request names them, per isolate and minute",
            count(keys("NAMES_PER_MINUTE")),
            "keeps invented names from causing fetches",
        ),
        fixed!(
            "nesting of a JSON document",
            format!("{} levels", count(reader::MAX_LEVELS)),
            "limits memory; nothing is parsed recursively",
        ),
        fixed!("fields of a form", count(constant("shared/src/reader/form.rs", "MAX_FIELDS")), "limits memory"),
        fixed!(
            "nested content encodings that are decoded",
            count(constant("shared/src/reader/coding.rs", "MAX_CODINGS")),
            "limits CPU time",
        ),
        fixed!(
            "decoded size of a body",
            format!(
                "{} × its size, at least {}, at most {}",
                count(reader::decoded_limit(1 << 16) >> 16),
                bytes(reader::decoded_limit(0)),
                bytes(reader::decoded_limit(usize::MAX))
            ),
            "limits memory: a small request must not cost much",
        ),
        fixed!(
            "reread of a source's configuration after a failed verification",
            format!("1 in {}", millis(constant("edge/src/sources.rs", "REREAD_AFTER"))),
            "keeps forged requests from causing reads of KV",
        ),
    ]
}

#[test]
fn the_shares_leave_room_for_the_code_and_the_platform() {
    assert!(percent_of_isolate() < 0.6, "{}", percent(percent_of_isolate()));
}

#[expect(clippy::cast_precision_loss, reason = "megabytes")]
fn percent_of_isolate() -> f64 {
    shares() as f64 / 128e6
}
