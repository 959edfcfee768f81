//! The Worker: one isolate, one request, the queue.

use shared::{challenge, envelope, reader, verify};

use super::{Bound, api, bytes, count, env, fixed, millis, percent, seconds, table};
use crate::documents::constant::constant;

pub(super) fn write(page: &mut String) {
    table(
        page,
        "Memory of the Worker",
        "An isolate has 128 MB for all its requests, and WebAssembly gives no memory back. A body is charged to a share before it \
         is read. If its share is full, the request waits and is then answered 503 with `Retry-After`.",
        &memory(),
    );
    table(page, "A request at the edge", "", &request());
    table(page, "Verification", "", &verification());
}

/// The bytes that the shares of an isolate add up to.
pub(super) fn shares() -> u64 {
    let budget = "edge/src/body/budget.rs";
    constant(budget, "LARGE_SHARE") + constant(budget, "SMALL_SHARE") + constant("edge/src/small_bodies.js", "SHARE")
}

fn memory() -> Vec<Bound> {
    let budget = |name| constant("edge/src/body/budget.rs", name);
    let small = |name| constant("edge/src/small_bodies.js", name);
    let body = |name| constant("edge/src/body.rs", name);
    vec![
        fixed(
            "bodies above the size of small ones, together",
            bytes(budget("LARGE_SHARE")),
            "the isolate's other requests",
        ),
        fixed("small bodies that Rust reads, together", bytes(budget("SMALL_SHARE")), "small requests from large ones"),
        fixed("bodies that the fast path reads, together", bytes(small("SHARE")), "the isolate's other requests"),
        fixed(
            "all three shares",
            bytes(shares()),
            "the 128 MB of the isolate, of which the code and the platform need the rest",
        ),
        fixed("largest small body", bytes(budget("SMALL_BYTES")), "the share of small bodies"),
        fixed(
            "charged for a small body that Rust reads",
            format!("{} times its size", count(budget("COPIES_OF_SMALL"))),
            "it is held by the host, by the Worker and in a message",
        ),
        fixed(
            "charged for a body of the fast path",
            format!("{} times its size", count(small("COPIES"))),
            "it is held as it arrived and in its message",
        ),
        fixed(
            "charged without a check of the time, fast path",
            bytes(small("UNWATCHED")),
            "speed: below it nothing is watched",
        ),
        fixed(
            "wait for room",
            millis(body("TRIES") * body("TRY_AFTER_MS")),
            "senders from a refusal that a moment would have avoided",
        ),
        fixed(
            "longest that a body is held",
            millis(budget("HELD_AT_MOST_MS")),
            "room that a request ended by the platform has not given back",
        ),
        fixed(
            "sources in the cache of an isolate",
            count(constant("edge/src/sources.rs", "CAPACITY")),
            "memory; unknown names have as many places of their own, so that guessed URLs displace nothing",
        ),
        fixed(
            "published key sets in the cache",
            count(constant("edge/src/published_keys.rs", "CAPACITY")),
            "memory; failures have as many places",
        ),
        fixed(
            "imported keys in the cache of the fast path",
            count(constant("edge/src/entry.js", "MAX_KEYS")),
            "memory",
        ),
        fixed(
            "causes of rejections that are counted at once",
            count(constant("edge/src/rejections.rs", "CAPACITY")),
            "memory; others are not counted",
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
            "the isolate, R2 and the relay; a source can lower it with `max_body_bytes`",
        ),
        fixed(
            "headers and query of a request",
            bytes(constant("edge/src/request.rs", "MAX_HEAD_BYTES")),
            "the size of a queue message",
        ),
        fixed(
            "message in the queue",
            bytes(envelope::MAX_MESSAGE_BYTES),
            "Cloudflare's limit of 128,000 bytes; a larger body goes to R2",
        ),
        fixed("name of a source that is looked up", bytes(constant("edge/src/sources.rs", "MAX_NAME_BYTES")), "KV"),
        fixed("time for a body to arrive", millis(body("READ_WITHIN_MS")), "room that slow senders take"),
        fixed("time for a part of a body to arrive", millis(body("PIECE_WITHIN_MS")), "room that silent senders take"),
        fixed(
            "time for a body on the fast path to arrive",
            millis(constant("edge/src/small_bodies.js", "READ_WITHIN_MS")),
            "room that slow senders take",
        ),
        fixed(
            "`Retry-After` of 503 if the queue or the store failed",
            seconds(constant("edge/src/ingest.rs", "RETRY_AFTER_S")),
            "the edge from being asked at once",
        ),
        fixed(
            "`Retry-After` of 503 if there is no room",
            seconds(constant("edge/src/respond.rs", "BUSY_RETRY_AFTER_S")),
            "the isolate from being asked at once",
        ),
        fixed(
            "messages about rejections, each source and cause",
            format!("1 in {}", millis(constant("edge/src/rejections.rs", "WINDOW_MS"))),
            "the queue from a flood of forged requests",
        ),
        fixed(
            "messages about rejections, all together, per isolate",
            format!(
                "{} in {}",
                count(constant("edge/src/rejections.rs", "MESSAGES_PER_WINDOW")),
                millis(constant("edge/src/rejections.rs", "WINDOW_MS"))
            ),
            "the queue",
        ),
        fixed(
            "rejections that are explained, per isolate",
            format!(
                "{} in {}",
                count(constant("edge/src/rejections.rs", "EXPLANATIONS_PER_WINDOW")),
                millis(constant("edge/src/rejections.rs", "WINDOW_MS"))
            ),
            "the processor: an explanation costs several verifications",
        ),
        fixed(
            "configuration of one source",
            bytes(constant("edge/src/admin/source.rs", "MAX_CONFIGURATION_BYTES")),
            "KV and the cache",
        ),
        fixed(
            "a deleted source is remembered",
            seconds(constant("edge/src/admin/source.rs", "TOMBSTONE_S")),
            "the source from an older write that arrives late",
        ),
    ]
}

fn verification() -> Vec<Bound> {
    let keys = |name| constant("edge/src/published_keys.rs", name);
    let options = |name| constant("shared/src/provider/options.rs", name);
    vec![
        fixed(
            "secrets of a source",
            count(shared::provider::MAX_SECRETS),
            "each costs a verification of every forged request",
        ),
        fixed(
            "signatures of a request that are read",
            count(constant("shared/src/verify/signature.rs", "MAX_SIGNATURES")),
            "the processor",
        ),
        fixed(
            "what is signed, if other forms of its URL are tried",
            bytes(constant("shared/src/verify/url_form.rs", "MAX_RESPELLED_BYTES")),
            "the processor: what a wrong signature over a large body costs does not grow with the number of forms",
        ),
        fixed("keys of a published key set", count(verify::key_set::MAX_KEYS), "each costs a verification"),
        fixed(
            "RSA keys",
            format!(
                "{} to {} bits",
                count(*verify::public_key::RSA_BITS.start()),
                count(*verify::public_key::RSA_BITS.end())
            ),
            "against weak keys below, and for the processor above",
        ),
        fixed("token (JWT)", bytes(constant("shared/src/verify/jwt/compact.rs", "MAX_TOKEN_BYTES")), "the processor"),
        api(
            "age of a timestamp",
            seconds(constant("shared/src/provider/custom.rs", "DEFAULT_TOLERANCE_S")),
            format!("`tolerance_s` of a source, up to {}", seconds(options("MAX_TOLERANCE_S"))),
            "against requests that are sent again later; many providers have their own ([PROVIDERS.md](PROVIDERS.md))",
        ),
        fixed(
            "body that is searched for a challenge",
            bytes(challenge::MAX_CHALLENGE_BODY_BYTES),
            "events from being parsed on their way",
        ),
        fixed(
            "answer that a source gives to accepted events",
            bytes(options("MAX_ACKNOWLEDGEMENT_BYTES")),
            "the configuration in KV",
        ),
        fixed("published keys are fetched within", millis(keys("TIMEOUT_MS")), "the provider's own timeout"),
        fixed("size of a published key set", bytes(keys("MAX_BYTES")), "memory"),
        fixed(
            "published keys are kept",
            format!(
                "{} to {}, else {}",
                seconds(keys("MIN_AGE_S")),
                seconds(keys("MAX_AGE_S")),
                seconds(keys("DEFAULT_AGE_S"))
            ),
            "the provider's server, and a key that was replaced",
        ),
        fixed(
            "keys are fetched again for unknown signatures",
            format!("every {}", millis(keys("REFETCH_AFTER"))),
            "the provider's server from forged requests",
        ),
        fixed(
            "key names that requests make the edge fetch, per isolate and minute",
            count(keys("NAMES_PER_MINUTE")),
            "the provider's server from invented names",
        ),
        fixed(
            "nesting of a JSON document",
            format!("{} levels", count(reader::MAX_LEVELS)),
            "memory; nothing is read recursively",
        ),
        fixed("fields of a form", count(constant("shared/src/reader/form.rs", "MAX_FIELDS")), "memory"),
        fixed(
            "content-encodings that are undone",
            count(constant("shared/src/reader/coding.rs", "MAX_CODINGS")),
            "the processor",
        ),
        fixed(
            "size of a body when its encoding is undone",
            format!(
                "{} times its size, {} to {}",
                count(reader::decoded_limit(1 << 16) >> 16),
                bytes(reader::decoded_limit(0)),
                bytes(reader::decoded_limit(usize::MAX))
            ),
            "memory: a small request must not cost much",
        ),
        fixed(
            "a source is read again because a request did not verify",
            format!("1 in {}", millis(constant("edge/src/sources.rs", "REREAD_AFTER"))),
            "KV from forged requests",
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
