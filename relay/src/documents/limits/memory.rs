//! The limits on the memory of one relay, and their sum.

use std::fmt::Write as _;

use engine::tuning;
use shared::envelope::MAX_MESSAGE_BYTES;
use store::pending;

use super::{Code, bytes, code, count, default_of};
use crate::{api, control, deliver, pull, replay, undecided};

/// A part of the relay's memory.
struct Part {
    what: &'static str,
    bound: String,
    bytes: u64,
    /// Whether ordinary traffic can come near the limit. Otherwise only hostile traffic or a fault can.
    ordinary: bool,
    code: Code,
}

/// A part whose bytes are a product of constants, which the code column names.
macro_rules! part {
    ($what:expr, $bound:expr, $bytes:expr, $ordinary:expr $(,)?) => {
        Part {
            what: $what,
            bound: $bound,
            bytes: u64::try_from($bytes).expect("fits"),
            ordinary: $ordinary,
            code: Code::Constants(stringify!($bytes)),
        }
    };
}

impl Part {
    /// A part that a setting limits, and this file enforces.
    fn in_file(self, file: &'static str) -> Self {
        Self { code: Code::File(file), ..self }
    }
}

/// The number of queues that the commands of the README create: the queue and its dead-letter queue.
const QUEUES: usize = 2;

fn product(number: usize, each: usize) -> String {
    format!("{} × {}", count(number), bytes(each))
}

fn parts() -> Vec<Part> {
    let setting = |name| usize::try_from(default_of(name)).expect("fits");
    let by_setting = |name: &str| format!("`{name}`");
    let in_flight = setting("TIDEGATE_MAX_IN_FLIGHT");
    let small = pending::SMALL_BODY_BYTES.unsigned_abs() as usize;
    let excerpts = in_flight + deliver::excerpts::MOST;
    vec![
        part!(
            "bodies of waiting deliveries",
            by_setting("TIDEGATE_MAX_WAITING_BYTES"),
            setting("TIDEGATE_MAX_WAITING_BYTES"),
            true,
        )
        .in_file("relay/engine/src/budget.rs"),
        part!("waiting deliveries, without bodies", "fixed".to_owned(), tuning::WAITING_ROWS_BYTES, true),
        part!(
            "bodies above 64 KiB in flight",
            by_setting("TIDEGATE_MAX_IN_FLIGHT_BYTES"),
            setting("TIDEGATE_MAX_IN_FLIGHT_BYTES"),
            true,
        )
        .in_file("relay/engine/src/budget.rs"),
        part!(
            "smaller bodies in flight",
            format!("`TIDEGATE_MAX_IN_FLIGHT`: {}", product(in_flight, small)),
            in_flight * small,
            true,
        )
        .in_file("relay/engine/src/lib.rs"),
        part!(
            "excerpts of responses",
            product(excerpts, egress::RESPONSE_EXCERPT_BYTES),
            (in_flight + deliver::excerpts::MOST) * egress::RESPONSE_EXCERPT_BYTES,
            true,
        ),
        part!(
            "reads of due deliveries",
            product(deliver::read::AT_ONCE, pending::MOST_BYTES),
            deliver::read::AT_ONCE * pending::MOST_BYTES,
            true,
        ),
        part!(
            "large bodies being fetched by the intake",
            product(pull::LARGE_BODIES, setting("TIDEGATE_MAX_BODY_BYTES")),
            pull::LARGE_BODIES * setting("TIDEGATE_MAX_BODY_BYTES"),
            true,
        ),
        part!(
            "pulled messages, two queues",
            product(QUEUES * pull::pace::MOST_AT_ONCE, 2 * pull::api::BATCH * MAX_MESSAGE_BYTES),
            QUEUES * pull::pace::MOST_AT_ONCE * 2 * pull::api::BATCH * MAX_MESSAGE_BYTES,
            true,
        ),
        part!(
            "contents of events read by replays",
            bytes(replay::cut::GROUP_BYTES),
            usize::try_from(replay::cut::GROUP_BYTES).expect("fits"),
            true,
        ),
        part!(
            "bodies of undecided deliveries",
            product(usize::try_from(undecided::AT_ONCE).expect("fits"), expression::MAX_BODY_BYTES),
            usize::try_from(undecided::AT_ONCE).expect("fits") * expression::MAX_BODY_BYTES,
            true,
        ),
        part!(
            "earlier versions of transforms",
            product(deliver::versions::MOST, 1 << 20),
            deliver::versions::MOST << 20,
            true,
        ),
        part!(
            "values of expressions, two cores",
            product(4, usize::try_from(expression::MAX_COPIED_BYTES).expect("fits")),
            4 * usize::try_from(expression::MAX_COPIED_BYTES).expect("fits"),
            true,
        ),
        part!(
            "response heads of attempts in flight",
            product(in_flight, egress::allowance::BYTES_PER_REQUEST),
            in_flight * egress::allowance::BYTES_PER_REQUEST,
            false,
        ),
        part!(
            "settlements waiting for the database, with their excerpts",
            product(tuning::MOST_UNSETTLED, egress::RESPONSE_EXCERPT_BYTES),
            tuning::MOST_UNSETTLED * egress::RESPONSE_EXCERPT_BYTES,
            false,
        ),
        part!(
            "responses of the queue API, two queues, if every byte in them is escaped",
            product(QUEUES * pull::pace::MOST_AT_ONCE, pull::api::MAX_ANSWER_BYTES),
            QUEUES * pull::pace::MOST_AT_ONCE * pull::api::MAX_ANSWER_BYTES,
            false,
        ),
        part!(
            "event bodies in responses of the API, twice while one is read",
            product(2, control::bodies::MAX_BYTES),
            2 * control::bodies::MAX_BYTES,
            false,
        ),
        part!(
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
        "\n## Memory of a relay\n\n\
         The table assumes the default settings, two cores, and the two queues that the commands of the README create.\n\
         The first group limits ordinary traffic, which does not use all of it at the same time; an idle relay uses\n\
         about 40 MB ([BENCHMARKS.md](BENCHMARKS.md)). The second group is used only with destinations that respond\n\
         with endless headers, a database that does not respond, or API callers that send very large requests.\n\n\
         | what | limit | at most | code |\n|---|---|---:|---|\n",
    );
    for (name, ordinary) in [("ordinary traffic, in total", true), ("hostile traffic or faults, in total", false)] {
        let rows = || parts.iter().filter(|part| part.ordinary == ordinary);
        for part in rows() {
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} |",
                part.what,
                part.bound,
                megabytes(in_megabytes(part)),
                code::links(part.code)
            );
        }
        let sum = rows().map(in_megabytes).sum();
        let _ = writeln!(page, "| **{name}** | | **{}** | |", megabytes(sum));
    }
    let all = parts.iter().map(in_megabytes).sum();
    let _ = writeln!(page, "| **both groups** | | **{}** | |", megabytes(all));
    page.push_str(
        "\nThe number of two things is not limited: the configuration (sources, destinations and routes are all in\n\
         memory, some kilobytes each), and the state of each destination that has deliveries. A single body is never\n\
         refused for lack of memory: if it does not fit, it is sent on its own.\n",
    );
}

/// The limit of a part in MB, rounded up, so that the rows add up to the sums.
fn in_megabytes(part: &Part) -> u64 {
    part.bytes.div_ceil(1_000_000)
}

fn megabytes(value: u64) -> String {
    format!("{} MB", count(value))
}
