//! What bounds the memory of one relay, added up.

use std::fmt::Write as _;

use engine::tuning;
use shared::envelope::MAX_MESSAGE_BYTES;
use store::pending;

use super::{bytes, count, default_of};
use crate::{api, deliver, pull, replay, undecided};

/// A part of the relay's memory.
struct Part {
    what: &'static str,
    bound: String,
    bytes: u64,
    /// Whether ordinary traffic can come near it; else only what is hostile or broken does.
    ordinary: bool,
}

fn product(number: usize, each: usize) -> String {
    format!("{} × {}", count(number), bytes(each))
}

fn parts() -> Vec<Part> {
    let part = |what, bound: String, bytes: usize, ordinary| Part {
        what,
        bound,
        bytes: u64::try_from(bytes).expect("fits"),
        ordinary,
    };
    let setting = |name| usize::try_from(default_of(name)).expect("fits");
    let by_setting = |name: &str| format!("`{name}`");
    let in_flight = setting("TIDEGATE_MAX_IN_FLIGHT");
    let small = pending::SMALL_BODY_BYTES.unsigned_abs() as usize;
    let excerpts = in_flight + deliver::excerpts::MOST;
    vec![
        part(
            "bodies of deliveries that wait",
            by_setting("TIDEGATE_MAX_WAITING_BYTES"),
            setting("TIDEGATE_MAX_WAITING_BYTES"),
            true,
        ),
        part("deliveries that wait, without bodies", "fixed".to_owned(), tuning::WAITING_ROWS_BYTES, true),
        part(
            "bodies above 64 KiB in flight",
            by_setting("TIDEGATE_MAX_IN_FLIGHT_BYTES"),
            setting("TIDEGATE_MAX_IN_FLIGHT_BYTES"),
            true,
        ),
        part(
            "smaller bodies in flight",
            format!("`TIDEGATE_MAX_IN_FLIGHT`: {}", product(in_flight, small)),
            in_flight * small,
            true,
        ),
        part(
            "excerpts of answers",
            product(excerpts, egress::RESPONSE_EXCERPT_BYTES),
            excerpts * egress::RESPONSE_EXCERPT_BYTES,
            true,
        ),
        part(
            "reads of due deliveries",
            product(deliver::read::AT_ONCE, pending::MOST_BYTES),
            deliver::read::AT_ONCE * pending::MOST_BYTES,
            true,
        ),
        part(
            "large bodies that are fetched for the intake",
            product(pull::LARGE_BODIES, setting("TIDEGATE_MAX_BODY_BYTES")),
            pull::LARGE_BODIES * setting("TIDEGATE_MAX_BODY_BYTES"),
            true,
        ),
        part(
            "messages that are pulled, each queue",
            product(pull::pace::MOST_AT_ONCE, 2 * pull::api::BATCH * MAX_MESSAGE_BYTES),
            pull::pace::MOST_AT_ONCE * 2 * pull::api::BATCH * MAX_MESSAGE_BYTES,
            true,
        ),
        part(
            "contents of events that a replay reads",
            bytes(replay::cut::GROUP_BYTES),
            usize::try_from(replay::cut::GROUP_BYTES).expect("fits"),
            true,
        ),
        part(
            "bodies of undecided deliveries",
            product(usize::try_from(undecided::AT_ONCE).expect("fits"), expression::MAX_BODY_BYTES),
            usize::try_from(undecided::AT_ONCE).expect("fits") * expression::MAX_BODY_BYTES,
            true,
        ),
        part(
            "transforms of earlier versions of routes",
            product(deliver::versions::MOST, 1 << 20),
            deliver::versions::MOST << 20,
            true,
        ),
        part(
            "values of expressions, two cores",
            product(4, usize::try_from(expression::MAX_COPIED_BYTES).expect("fits")),
            4 * usize::try_from(expression::MAX_COPIED_BYTES).expect("fits"),
            true,
        ),
        part(
            "heads of answers in flight",
            product(in_flight, egress::allowance::BYTES_PER_REQUEST),
            in_flight * egress::allowance::BYTES_PER_REQUEST,
            false,
        ),
        part(
            "settlements that wait for the database, with their excerpts",
            product(tuning::MOST_UNSETTLED, egress::RESPONSE_EXCERPT_BYTES),
            tuning::MOST_UNSETTLED * egress::RESPONSE_EXCERPT_BYTES,
            false,
        ),
        part(
            "answers of the queue's API, each queue",
            product(pull::pace::MOST_AT_ONCE, pull::api::MAX_ANSWER_BYTES),
            pull::pace::MOST_AT_ONCE * pull::api::MAX_ANSWER_BYTES,
            false,
        ),
        part(
            "requests to the API",
            product(api::server::MAX_CONNECTIONS, api::MAX_BODY_BYTES),
            api::server::MAX_CONNECTIONS * api::MAX_BODY_BYTES,
            false,
        ),
    ]
}

pub(super) fn write(page: &mut String) {
    let parts = parts();
    page.push_str(
        "\n## Memory of a relay\n\nWith the default settings, one queue and two cores. *Ordinary* traffic can fill the first\n\
         part, though not all of it at once: an idle relay takes some 40 MB ([BENCHMARKS.md](BENCHMARKS.md)). Only destinations that\n\
         send endless headers, a database that does not answer, or callers with the token who send the largest requests fill the\n\
         second part.\n\n\
         | what | bound | at most |\n|---|---|---:|\n",
    );
    for (name, ordinary) in [("together, ordinary", true), ("together, hostile or broken", false)] {
        let rows = || parts.iter().filter(|part| part.ordinary == ordinary);
        for part in rows() {
            let _ = writeln!(page, "| {} | {} | {} |", part.what, part.bound, rounded(part.bytes));
        }
        let sum = rows().map(|part| part.bytes).sum();
        let _ = writeln!(page, "| **{name}** | | **{}** |", rounded(sum));
    }
    page.push_str(
        "\nNot bounded by number: the configuration (sources, destinations and routes are all in memory, some kilobytes each)\n\
         and, for each destination that has deliveries, its state in the engine. A single body is never refused for lack of\n\
         memory: one that is larger than the free room goes alone.\n",
    );
}

/// In whole MB.
fn rounded(bytes: u64) -> String {
    format!("{} MB", count(bytes.div_ceil(1_000_000)))
}
