//! Limits of the path of an event through the relay: pull, store, deliver, retry, replay.

use std::time::Duration;

use egress::allowance;
use engine::{retry, shares, tuning};
use model::lane::Lane;
use model::retry_policy;
use store::{admit, copies, pending, signals, unreadable};

use super::{Bound, api, bytes, count, days, env, field, fixed, micros, millis, percent, seconds, table, time};
use crate::control::customers;
use crate::deliver::{excerpts, lease, load_health, read, report, request, scan, send, settle, versions};
use crate::intake::{self, arrival, routing};
use crate::over_rate::{self, decision};
use crate::pull::{self, batch_size, pace, queue_settings, spoilt_answer, storing};
use crate::replay::{self, chunk, cut, worker};
use crate::{body_retention, configuration, deleting, operations, undecided, wall_clock};

pub(super) fn write(page: &mut String) {
    table(page, "`Retry-After` and other waits", "", &waits());
    table(page, "Pull and store", "", &intake());
    table(
        page,
        "Deliver: slots and sizes",
        "A *slot* is the right to one attempt in flight. Other words are in the \
         [glossary](../ARCHITECTURE.md#glossary).",
        &slots(),
    );
    table(page, "Deliver: times", "", &times());
    table(page, "Retry", "", &retries());
    table(page, "Replay and other work in the background", "", &background());
}

fn waits() -> Vec<Bound> {
    vec![
        fixed!(
            "`Retry-After` of a destination, for the delivery",
            millis(retry::MAX_RETRY_AFTER_MS),
            "limits the wait of a delivery; a `Retry-After` can lengthen the scheduled wait, never shorten it",
        ),
        fixed!(
            "`Retry-After` of a destination on 429 and 503, for all its deliveries",
            micros(tuning::MAX_BACK_OFF_US),
            "limits how long a destination can stop its own deliveries; an operator ends the back-off by a pause and a resumption",
        ),
        fixed!("`Retry-After` of the queue API", time(pull::api::LONGEST_PAUSE), "limits how long nothing is pulled"),
        fixed!(
            "back-off after 429 without `Retry-After`",
            format!(
                "{}, doubled up to {}",
                micros(tuning::FIRST_THROTTLE_BACK_OFF_US),
                micros(tuning::LONGEST_THROTTLE_BACK_OFF_US)
            ),
            "reduces the load on the destination",
        ),
        fixed!(
            "such responses that are not charged to a delivery",
            count(tuning::THROTTLED_FOR_FREE),
            "keeps a throttled delivery from using up its schedule, and still ends it one day",
        ),
        fixed!(
            "failures in a row that open a breaker",
            count(tuning::FAILURES_IN_A_ROW),
            "reduces the load on the destination, and frees slots",
        ),
        fixed!(
            "share of failures that opens a breaker",
            format!(
                "{} % of at least {} in the last {} to {} s",
                tuning::FAILURE_PERCENT,
                tuning::SHARE_OF_AT_LEAST,
                tuning::SHARE_PERIOD_US / 1_000_000,
                2 * tuning::SHARE_PERIOD_US / 1_000_000
            ),
            "the same, if some deliveries succeed",
        ),
        fixed!(
            "time that a breaker is open before a probe",
            format!("{}, doubled up to {}", micros(tuning::FIRST_OPEN_US), micros(tuning::LONGEST_OPEN_US)),
            "gives a destination time to recover",
        ),
        fixed!(
            "closed time of a breaker after which its next open time is the shortest again",
            micros(tuning::STEADY_AFTER_US),
            "avoids long stops for rare failures",
        ),
        fixed!(
            "lowest reduced rate, as a share of the rate limit",
            percent(tuning::LEAST_RATE_FACTOR),
            "keeps deliveries moving",
        ),
        fixed!(
            "a destination without a success is disabled after",
            format!(
                "{} and {} failures",
                micros(tuning::FAILING_DISABLES_AFTER_US),
                count(tuning::FAILING_DISABLES_AFTER_FAILURES)
            ),
            "stops sends to abandoned endpoints",
        ),
        fixed!(
            "wait of a delivery after a fault of the relay itself",
            format!("{}, doubled up to {}", micros(tuning::NOT_SENT_WAIT_US), micros(tuning::LONGEST_NOT_SENT_WAIT_US)),
            "gives the relay time to recover (no file descriptors, no database)",
        ),
        fixed!(
            "consecutive timeouts of a transform before its delivery is held",
            count(tuning::LATE_TRANSFORMS),
            "limits the use of the evaluator's threads",
        ),
        fixed!(
            "filters and order keys that timed out are evaluated again after",
            format!(
                "{}, doubled up to {}",
                seconds_of(store::undecided::FIRST_PAUSE_S),
                seconds_of(store::undecided::LONGEST_PAUSE_S)
            ),
            "limits the use of the evaluator's threads",
        ),
    ]
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds")]
fn seconds_of(value: f64) -> String {
    seconds(value as u64)
}

fn intake() -> Vec<Bound> {
    vec![
        env(
            "wait between two pulls of an empty queue",
            "TIDEGATE_QUEUE_IDLE_MS",
            millis,
            "relay/src/pull/pace.rs",
            "limits cost: every pull is billed",
        ),
        fixed!("messages in one pull", count(pull::api::BATCH), "the maximum of Cloudflare's API"),
        fixed!("pulls of one queue at a time", count(pace::MOST_AT_ONCE), "limits memory"),
        fixed!("response to a pull", bytes(pull::api::MAX_ANSWER_BYTES), "limits memory"),
        fixed!("time of a call of the queue API", time(pull::api::TIMEOUT), "ends calls that hang"),
        fixed!(
            "lease of a message",
            time(pull::api::VISIBILITY_TIMEOUT),
            "after a crash of a relay, its messages return to the queue after this time",
        ),
        fixed!("large bodies in memory at a time", count(pull::LARGE_BODIES), "limits memory"),
        fixed!(
            "time to fetch the large bodies and secrets of one pull",
            time(pull::FETCH_WITHIN),
            "ends before the leases of the messages",
        ),
        fixed!(
            "leases after which a message is stored as unreadable without decoding it",
            count(pull::MANY_LEASES),
            "keeps a message that cannot be processed from reaching the dead-letter queue and its deletion there",
        ),
        fixed!(
            "after a failed pull, its batch size is avoided for",
            time(batch_size::AVOIDED_FOR),
            "lets the leases of the failed pull end first",
        ),
        fixed!("malformed response to a pull that is kept", bytes(spoilt_answer::MOST_KEPT_BYTES), "limits storage"),
        fixed!(
            "time in an event's id",
            format!("up to {} in the past, {} in the future", millis(arrival::OLDEST_MS), millis(arrival::NEWEST_MS)),
            "no partitions exist for other days; such a message is kept as unreadable",
        ),
        fixed!(
            "provider's id and event type",
            bytes(routing::LONGEST_NAME_BYTES),
            "limits indexes: longer values are not shown, but their hash is still used to detect copies",
        ),
        fixed!(
            "bodies that one transaction stores",
            bytes(storing::MOST_BYTES),
            "limits how long a change of the configuration waits; a larger body is stored alone",
        ),
        fixed!(
            "batches from this size wait for pending changes of the configuration",
            bytes(admit::SHORT_BYTES),
            "keeps a series of large batches from starving a change",
        ),
        fixed!(
            "deliveries that one statement inserts",
            count(store::ROWS_AT_ONCE),
            "limits memory, for events with many routes",
        ),
        fixed!(
            "time to evaluate the routes of a batch",
            time(intake::ROUTE_WITHIN),
            "ends before the leases of the messages",
        ),
        fixed!(
            "longest time that changes of the configuration are blocked while routes are evaluated",
            format!("{}, after {} changes in a row", time(intake::HOLD_WITHIN), count(intake::HOLD_AFTER)),
            "lets events be stored although the configuration keeps changing",
        ),
        fixed!(
            "tries to store one event before it is kept as unreadable",
            count(storing::SET_ASIDE_AFTER),
            "keeps one event from blocking the others",
        ),
        fixed!(
            "difference between the clocks of relay and database",
            time(wall_clock::TOLERANCE),
            "keeps wrong times out of the history: beyond it nothing is pulled",
        ),
        env(
            "the same id and body from the same source is a copy on the day on which its event was stored, and for",
            "TIDEGATE_DEDUPE_DAYS",
            days,
            "relay/store/src/keys.rs",
            "keeps destinations from receiving copies",
        ),
        fixed!(
            "copies of an event whose ids can be looked up",
            count(copies::KEPT),
            "limits the table; further copies are only counted",
        ),
        fixed!(
            "retention of the queues, as configured by the commands of the README",
            time(queue_settings::RETENTION),
            "keeps acknowledged events while no relay runs; `doctor` checks it",
        ),
        fixed!(
            "leases before a message goes to the dead-letter queue, as configured by the commands of the README",
            count(queue_settings::RETRIES),
            "the relay pulls the dead-letter queue too; `doctor` checks it",
        ),
        fixed!(
            "crashes of the relay caused by one unreadable message",
            format!(
                "after {} one try a day, after {} none",
                count(unreadable::MAX_UNFINISHED_TRIES),
                count(unreadable::GIVEN_UP_AFTER)
            ),
            "keeps one message from crashing the relay again and again",
        ),
        api!(
            "events that one source keeps in quarantine",
            format!("{} and {} in an hour", count(quarantine().events_per_hour), bytes(quarantine().bytes_per_hour)),
            "`quarantine` of a source".to_owned(),
            "keeps forged requests from filling the disk",
        ),
        api!(
            "body of an event in quarantine",
            bytes(quarantine().body_bytes),
            "`quarantine` of a source".to_owned(),
            "keeps forged requests from filling the disk",
        ),
        api!(
            "events of a customer per minute",
            "no limit by default".to_owned(),
            format!("`max_events_per_minute`, 1 to {}", count(customers::MAX_EVENTS_PER_MINUTE)),
            "limits the load of one customer on all others",
        ),
        fixed!(
            "a customer over that limit is answered 429 by the edge for",
            format!(
                "{} and {} for each of its sources, to {}",
                millis(decision::SHORTEST_MS),
                millis(decision::PER_SOURCE_MS),
                millis(decision::LONGEST_MS)
            ),
            "the edge learns of a refusal up to a minute later; an excess is forgotten after the longer time",
        ),
        fixed!(
            "interval at which customers over that limit are looked for",
            time(over_rate::CHECK_INTERVAL),
            "limits statements"
        ),
        fixed!(
            "customers that one such statement counts",
            count(over_rate::AT_ONCE),
            "limits the time of the statement"
        ),
        fixed!(
            "an event counts against that limit if it is stored after its receipt within",
            time(admit::LATE_AFTER),
            "keeps a backlog from counting as a high rate",
        ),
    ]
}

fn quarantine() -> shared::source::QuarantineLimits {
    shared::source::QuarantineLimits::default()
}

fn slots() -> Vec<Bound> {
    vec![
        env(
            "attempts in flight, all destinations",
            "TIDEGATE_MAX_IN_FLIGHT",
            count,
            "relay/engine/src/lib.rs",
            "limits file descriptors and memory",
        ),
        field(
            "attempts in flight, one destination",
            "DestinationSpec",
            "max_concurrency",
            count,
            "relay/engine/src/line.rs",
            "limits the load on the destination",
        ),
        fixed!(
            "slots kept for destinations below their fair share",
            format!("1 in {}", tuning::KEPT_SLOTS_PART),
            "leaves slots for a new destination while others hang",
        ),
        fixed!(
            "share of used slots from which on noisy destinations wait",
            format!("{} %", tuning::SLOTS_ARE_SHORT_PERCENT),
            "keeps slots free for the other destinations",
        ),
        fixed!(
            "a destination is noisy above",
            format!(
                "{} of all attempts in flight if it has {} or more, or {} of the recent sending time",
                percent(tuning::NOISY_PART),
                tuning::NOISY_IN_FLIGHT,
                percent(tuning::NOISY_PART)
            ),
            "keeps one destination from delaying the others",
        ),
        fixed!(
            "slots reserved for first attempts, which retries cannot use",
            format!("{} %", shares::kept_percent(Lane::Fresh)),
            "keeps first attempts fast",
        ),
        fixed!(
            "slots reserved for first attempts and retries, which replays cannot use",
            format!("{} %", shares::kept_percent(Lane::Fresh) + shares::kept_percent(Lane::Retry)),
            "keeps live traffic fast",
        ),
        env(
            "bodies of waiting deliveries in memory",
            "TIDEGATE_MAX_WAITING_BYTES",
            bytes,
            "relay/engine/src/budget.rs",
            "limits memory; other bodies are read when they are sent",
        ),
        env(
            "bodies above 64 KiB in flight",
            "TIDEGATE_MAX_IN_FLIGHT_BYTES",
            bytes,
            "relay/engine/src/budget.rs",
            "limits memory; a body that does not fit is sent on its own",
        ),
        fixed!(
            "bodies up to this size are not counted in flight",
            bytes(tuning::SMALL_IN_FLIGHT),
            "they use little memory even if all slots are in use",
        ),
        fixed!("waiting deliveries in memory, without bodies", bytes(tuning::WAITING_ROWS_BYTES), "limits memory"),
        fixed!(
            "waiting deliveries of one lane in memory",
            count(tuning::MOST_WAITING_OF_LANE),
            "limits memory, and leaves room for other lanes",
        ),
        fixed!(
            "share of the free memory that one lane may use",
            format!("1 in {}", tuning::ROWS_PART),
            "leaves memory for other lanes",
        ),
        fixed!(
            "deliveries of one lane in one read",
            count(tuning::MOST_READ_OF_LANE),
            "leaves room for other lanes in the statement",
        ),
        fixed!("reads at a time", count(read::AT_ONCE), "limits connections to the database"),
        fixed!(
            "deliveries in one read",
            count(read::ROWS + tuning::MOST_READ_OF_LANE),
            "limits memory and the time of the statement",
        ),
        fixed!("events that one statement of a read fetches", count(pending::EVENTS_AT_ONCE), "limits memory"),
        fixed!("bodies in one read, after which no more are fetched", bytes(pending::MOST_BODY_BYTES), "limits memory"),
        fixed!("contents of one read, after which no more are fetched", bytes(pending::MOST_BYTES), "limits memory"),
        fixed!(
            "answered attempts that are not settled",
            count(tuning::MOST_UNSETTLED),
            "limits memory while the database does not respond: beyond it nothing is sent",
        ),
        fixed!("settlements in one transaction", count(settle::BATCH), "limits the time for which rows are locked"),
        fixed!("lanes of one scan for due deliveries", count(scan::LANES_PER_SCAN), "limits the load on the database"),
        fixed!(
            "destinations whose health one statement reads",
            count(load_health::BATCH),
            "limits the load on the database",
        ),
        fixed!("reports of health in one statement", count(report::BATCH), "limits the load on the database"),
        fixed!(
            "manually retried deliveries of one destination in memory",
            count(tuning::MOST_EXPEDITED),
            "limits memory; further ones are read later",
        ),
        fixed!("idle connections to one host", count(egress::POOL_MAX_IDLE_PER_HOST), "limits file descriptors"),
        fixed!("excerpt of a response", bytes(egress::RESPONSE_EXCERPT_BYTES), "limits storage"),
        fixed!("responses whose excerpt arrives after the head", count(excerpts::MOST), "limits file descriptors"),
        fixed!("size of a response's head", bytes(allowance::BYTES_PER_REQUEST), "limits memory"),
        fixed!(
            "headers of a response",
            count(egress::MAX_RESPONSE_HEADERS),
            "limits memory; beyond it only the status counts",
        ),
        fixed!(
            "URL of a request, and query that is passed on",
            bytes(request::MAX_URL_BYTES),
            "most servers refuse longer request lines",
        ),
        fixed!(
            "earlier versions of routes in memory",
            format!("{}, for {}", count(versions::MOST), time(versions::KEPT_FOR)),
            "limits memory",
        ),
        fixed!("signals of cancellations read by one statement", count(signals::AT_ONCE), "limits memory"),
        fixed!(
            "shards",
            count(store::leases::SHARDS),
            "the maximum number of relays that can share the work of one database",
        ),
    ]
}

fn times() -> Vec<Bound> {
    vec![
        field(
            "an attempt, up to the end of the response's head",
            "DestinationSpec",
            "timeout_ms",
            millis,
            "relay/src/deliver/request.rs",
            "frees the slot",
        ),
        fixed!("resolving, connecting and TLS", time(egress::CONNECT_TIMEOUT), "frees the slot"),
        fixed!("wait for the excerpt of a response", time(egress::EXCERPT_WITHIN), "frees the connection"),
        fixed!(
            "an idle connection is kept open for",
            time(egress::POOL_IDLE_TIMEOUT),
            "avoids sending on a connection that the server is just closing",
        ),
        fixed!("a transform, its wait included", time(send::TRANSFORM_WITHIN), "frees the slot"),
        fixed!("time to read an earlier version of a route", time(versions::READ_WITHIN), "frees the slot"),
        fixed!("lease of a relay's shards", time(lease::LEASE), "another relay takes over after a crash"),
        fixed!(
            "the lease is renewed every",
            time(lease::RENEW_EVERY),
            "leaves time for repeated tries before the lease ends",
        ),
        fixed!(
            "a relay stops sending this long after the last renewal of its lease",
            time(lease::FENCE_AFTER),
            "keeps two relays from sending to one destination",
        ),
        fixed!(
            "scan for due deliveries, and for changes of the configuration",
            format!("every {}", time(configuration::POLL)),
            "finds what other relays and the API have changed",
        ),
        fixed!(
            "longest interval between these scans if the database is slow",
            time(scan::LONGEST_SCAN_INTERVAL),
            "limits the load on the database",
        ),
        fixed!(
            "a lane is read again from its beginning",
            format!("every {}", micros(tuning::READ_WHOLE_EVERY_US)),
            "finds deliveries that were committed late",
        ),
        fixed!(
            "overlap of consecutive reads of a lane",
            micros(tuning::UNSEEN_US),
            "finds deliveries that were committed late",
        ),
        fixed!("settlements are collected into a batch for", time(settle::LINGER), "reduces the number of commits"),
        fixed!(
            "a delivery behind an earlier one of its order key is read again after",
            format!("{}, up to {}", micros(tuning::BEHIND_WAIT_US), micros(tuning::LONGEST_BEHIND_WAIT_US)),
            "is a safety net if the earlier one did not make it due",
        ),
        fixed!(
            "reports of the health of an active destination",
            format!("every {}", micros(tuning::REPORT_EVERY_US)),
            "limits the load on the database",
        ),
        fixed!(
            "burst of a rate limit",
            format!("the sends of {} ms", (engine::pace::BURST_PART_OF_A_SECOND * 1_000.0).round()),
            "lets a destination reach its rate although timers fire late",
        ),
        env(
            "shutdown",
            "TIDEGATE_SHUTDOWN_S",
            seconds,
            "relay/src/serve.rs",
            "waits for attempts in flight, and stores their outcomes",
        ),
    ]
}

fn doubled((first, longest): (Duration, Duration)) -> String {
    format!("{}, doubled up to {}", time(first), time(longest))
}

fn retries() -> Vec<Bound> {
    let standard = retry_policy::STANDARD_SCHEDULE_S;
    vec![
        api!(
            "attempts of a delivery (default)",
            count(standard.len()),
            format!("`retry` of a destination, up to {}", count(retry_policy::MAX_ATTEMPTS)),
            "limits the load on the destination",
        ),
        api!(
            "longest wait between two attempts (default)",
            seconds(standard.into_iter().max().unwrap_or(0)),
            format!("`retry` of a destination, up to {}", seconds(retry_policy::MAX_DELAY_S)),
            "limits the age of a retried delivery",
        ),
        fixed!("waits are spread by", format!("± {}", percent(retry::JITTER)), "keeps retries from arriving together"),
        fixed!("wait after a failed call of the queue API", doubled(retry::PULL_PAUSES), "limits the load on the API"),
        fixed!(
            "wait after a failed statement while the database does not respond",
            doubled(retry::DATABASE_PAUSES),
            "limits the load on the database",
        ),
    ]
}

fn background() -> Vec<Bound> {
    vec![
        fixed!(
            "rows and contents of one chunk of a replay",
            format!("{} rows, {}", count(cut::CHUNK_ROWS), bytes(cut::CHUNK_BYTES)),
            "limits what is repeated after a crash",
        ),
        fixed!(
            "contents of events that a replay has in memory",
            bytes(cut::GROUP_BYTES),
            "limits memory; a larger event is read on its own",
        ),
        fixed!(
            "deliveries that one chunk makes",
            count(cut::CHUNK_DELIVERIES),
            "limits the time for which rows are locked",
        ),
        fixed!(
            "a turn of a replay searches",
            format!("{} rows or {}", count(cut::RANGE_LIMITS.total), time(cut::RANGE_LIMITS.within)),
            "lets other replays proceed",
        ),
        fixed!(
            "time for the filters of one event in a replay",
            time(chunk::EVALUATE_WITHIN),
            "keeps the replay moving"
        ),
        fixed!(
            "unfinished starts of a chunk after which the replay fails",
            count(worker::MOST_BEGUN),
            "keeps one chunk from crashing the relay again and again",
        ),
        fixed!("lease of a chunk", time(worker::LEASE), "another relay continues after a crash"),
        fixed!(
            "a dry run counts",
            format!("{} rows or {}", count(replay::count::DRY_RUN.total), time(replay::count::DRY_RUN.within)),
            "limits the load on the database",
        ),
        fixed!(
            "deliveries of a deleted destination that one transaction cancels",
            count(deleting::CHUNK),
            "limits the time for which rows are locked",
        ),
        fixed!(
            "rows that one chunk of an operation reads",
            format!("{}, a quarter after each failure", count(operations::CHUNK)),
            "limits the time for which rows are locked",
        ),
        fixed!(
            "deliveries that one chunk of an operation retries, cancels or releases",
            count(operations::bulk::AT_ONCE),
            "limits the time for which rows are locked",
        ),
        fixed!(
            "one chunk of such an operation searches",
            format!(
                "{} rows or {}",
                count(operations::bulk::RANGE_LIMITS.total),
                time(operations::bulk::RANGE_LIMITS.within)
            ),
            "limits the load on the database; the next chunk continues the search",
        ),
        fixed!(
            "a dry run of such an operation plans",
            format!("{} deliveries or {}", count(operations::bulk::MOST_PLANNED), time(operations::bulk::PLAN_WITHIN)),
            "limits the load on the database; `complete` says whether that was all",
        ),
        fixed!(
            "destinations that it names",
            count(operations::bulk::MOST_DESTINATIONS),
            "limits the size of the response; `elsewhere` counts the rest",
        ),
        fixed!(
            "time for which the call that creates such an operation counts",
            time(operations::bulk::COUNT_WITHIN),
            "limits the time of the call; without a count `total` is null",
        ),
        fixed!(
            "sources or destinations whose secrets one transaction encrypts again",
            count(operations::resealing::AT_ONCE),
            "limits the time for which no event is stored",
        ),
        fixed!(
            "pause between two chunks of an operation, at least",
            time(operations::LEAST_PAUSE),
            "leaves the database to deliveries"
        ),
        fixed!(
            "pause of an operation after a chunk that failed",
            format!("{}, doubled up to {}", time(operations::FIRST_RETRY), time(operations::LONGEST_RETRY)),
            "gives the cause time to pass",
        ),
        fixed!(
            "what was stored for a deleted customer since its deletion is deleted",
            format!("{} after the call", time(store::deleted_customers::LATE)),
            "lets attempts in flight end",
        ),
        fixed!(
            "bodies of customers with a shorter retention are deleted",
            format!("every {}, {} events at a time", time(body_retention::INTERVAL), count(body_retention::CHUNK)),
            "leaves the database to deliveries",
        ),
        fixed!("undecided deliveries that are evaluated concurrently", count(undecided::AT_ONCE), "limits memory"),
        fixed!("signals of cancellations are kept for", seconds_of(signals::KEPT_S), "lets relays read them late"),
        fixed!(
            "minimum of both retention settings",
            days(crate::config::LEAST_RETENTION_DAYS),
            "is longer than an event can wait in the queue",
        ),
        env(
            "bodies are kept for (default)",
            "TIDEGATE_BODY_RETENTION_DAYS",
            days,
            "relay/src/history.rs",
            "limits disk space",
        ),
        env(
            "everything else is kept for (default)",
            "TIDEGATE_METADATA_RETENTION_DAYS",
            days,
            "relay/src/history.rs",
            "limits disk space",
        ),
        fixed!(
            "partitions are created ahead for",
            days(crate::history::DAYS_AHEAD),
            "lets the intake continue past midnight",
        ),
        fixed!(
            "partitions outlive their retention by",
            days(crate::history::GRACE_DAYS),
            "lets transactions end that still write",
        ),
    ]
}

#[test]
fn the_shortest_retention_is_longer_than_the_queue_keeps_a_message() {
    assert!(crate::config::LEAST_RETENTION_DAYS * 86_400 > queue_settings::RETENTION.as_secs());
}
