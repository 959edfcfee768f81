//! The way of the data in the relay: pull, store, deliver, retry, replay.

use std::time::Duration;

use egress::allowance;
use engine::retry;
use engine::{shares, tuning};
use model::lane::Lane;
use model::retry_policy;
use store::{admit, copies, pending, signals, unreadable};

use super::{Bound, api, bytes, count, days, env, field, fixed, micros, millis, percent, seconds, table, time};
use crate::deliver::{excerpts, lease, look, read, recall, report, request, send, settle, versions};
use crate::intake::{arrival, routing};
use crate::pull::{self, batch_size, pace, queue_settings, spoilt_answer, storing};
use crate::replay::{chunk, count as counting, cut, worker};
use crate::{configuration, deleting, intake, undecided, wall_clock};

pub(super) fn write(page: &mut String) {
    table(page, "`Retry-After` and other pauses", "", &pauses());
    table(page, "Pull and store", "", &intake());
    table(page, "Deliver: slots, sizes and windows", "", &slots());
    table(page, "Deliver: times", "", &times());
    table(page, "Retry", "", &retries());
    table(page, "Replay and other work in the background", "", &background());
}

fn pauses() -> Vec<Bound> {
    vec![
        fixed(
            "`Retry-After` of a destination, for the delivery",
            millis(retry::MAX_RETRY_AFTER_MS),
            "the delivery from a wait without end; it never makes a wait shorter",
        ),
        fixed(
            "`Retry-After` of a destination on 429 and 503, for all its deliveries",
            micros(tuning::MAX_HOLD_US),
            "the destination from being stopped for longer; resuming it ends the wait",
        ),
        fixed("`Retry-After` of the queue's API", time(pull::api::LONGEST_PAUSE), "pulling from a wait without end"),
        fixed(
            "pause after 429 without `Retry-After`",
            format!(
                "{}, doubled up to {}",
                micros(tuning::FIRST_THROTTLE_PAUSE_US),
                micros(tuning::LONGEST_THROTTLE_PAUSE_US)
            ),
            "the destination",
        ),
        fixed("such answers that a delivery is not charged for", count(tuning::THROTTLED_FOR_FREE), "its schedule"),
        fixed(
            "failures in a row that open a breaker",
            count(tuning::FAILURES_IN_A_ROW),
            "the destination, and the slots that it would take",
        ),
        fixed(
            "share of failures that opens a breaker",
            format!(
                "{} % of at least {} in {}",
                tuning::FAILURE_PERCENT,
                tuning::SHARE_OF_AT_LEAST,
                micros(tuning::SHARE_PERIOD_US)
            ),
            "the same, if some deliveries succeed",
        ),
        fixed(
            "time that a breaker is open before a probe",
            format!("{}, doubled up to {}", micros(tuning::FIRST_OPEN_US), micros(tuning::LONGEST_OPEN_US)),
            "a destination that recovers",
        ),
        fixed(
            "a breaker closed for this long begins with the first time again",
            micros(tuning::STEADY_AFTER_US),
            "a destination from long pauses for rare failures",
        ),
        fixed(
            "least part of a rate limit after overload",
            percent(tuning::LEAST_RATE_FACTOR),
            "the destination's deliveries from standing still",
        ),
        fixed(
            "a destination without a success is disabled after",
            format!(
                "{} and {} failures",
                micros(tuning::FAILING_DISABLES_AFTER_US),
                count(tuning::FAILING_DISABLES_AFTER_FAILURES)
            ),
            "the gateway from endpoints that nobody runs any more",
        ),
        fixed(
            "a delivery that the relay itself could not send waits",
            format!("{}, doubled up to {}", micros(tuning::NOT_SENT_WAIT_US), micros(tuning::LONGEST_NOT_SENT_WAIT_US)),
            "the relay while it lacks something",
        ),
        fixed(
            "late transforms in a row before a delivery is held",
            count(tuning::LATE_TRANSFORMS),
            "the evaluator's threads",
        ),
        fixed(
            "deferred filters are evaluated again after",
            format!(
                "{}, doubled up to {}",
                seconds_of(store::undecided::FIRST_PAUSE_S),
                seconds_of(store::undecided::LONGEST_PAUSE_S)
            ),
            "the evaluator's threads",
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
            "the bill: every pull is charged",
        ),
        fixed("messages in one pull", count(pull::api::BATCH), "the API's limit"),
        fixed("pulls of one queue at a time", count(pace::MOST_AT_ONCE), "memory"),
        fixed("answer to a pull", bytes(pull::api::MAX_ANSWER_BYTES), "memory"),
        fixed("time of a call of the queue's API", time(pull::api::TIMEOUT), "the puller from a call that hangs"),
        fixed(
            "lease of a message",
            time(pull::api::VISIBILITY_TIMEOUT),
            "messages of a relay that crashed: they return to the queue",
        ),
        fixed("large bodies in memory at a time", count(pull::LARGE_BODIES), "memory"),
        fixed(
            "time to fetch the large bodies and secrets of one pull",
            time(pull::FETCH_WITHIN),
            "the lease of its messages",
        ),
        fixed(
            "leases after which a message is stored unread",
            count(pull::MANY_LEASES),
            "against deletion by the queue, which gives a message up later",
        ),
        fixed(
            "a size of pull that failed is avoided for",
            time(batch_size::AVOIDED_FOR),
            "the messages, whose leases have to end first",
        ),
        fixed("spoilt answer that is kept", bytes(spoilt_answer::MOST_KEPT_BYTES), "the database"),
        fixed(
            "age of an event's id",
            format!("{} old, {} ahead", millis(arrival::OLDEST_MS), millis(arrival::NEWEST_MS)),
            "partitions of days that do not exist; such a message is kept as unreadable",
        ),
        fixed(
            "provider's id and event type",
            bytes(routing::LONGEST_NAME_BYTES),
            "indexes: a longer one is not shown, and its hash still finds copies",
        ),
        fixed(
            "bodies that one transaction stores",
            bytes(storing::MOST_BYTES),
            "changes of the configuration, which wait for it; one larger body goes alone",
        ),
        fixed(
            "a batch that announces itself to changes of the configuration, from",
            bytes(admit::SHORT_BYTES),
            "changes from batches that follow one another",
        ),
        fixed(
            "deliveries that one statement inserts",
            count(store::ROWS_AT_ONCE),
            "memory, for events with many routes",
        ),
        fixed("time for the routes of a batch to answer", time(intake::ROUTE_WITHIN), "the lease of its messages"),
        fixed(
            "the configuration is held while routes are evaluated",
            format!("{}, after {} changes in a row", time(intake::HOLD_WITHIN), count(intake::HOLD_AFTER)),
            "changes of the configuration",
        ),
        fixed(
            "tries to store one event before it is kept as unreadable",
            count(storing::SET_ASIDE_AFTER),
            "the other messages",
        ),
        fixed(
            "difference between the clocks of relay and database",
            time(wall_clock::TOLERANCE),
            "history: beyond it nothing is pulled",
        ),
        env("the same id from the same source is a copy for", "TIDEGATE_DEDUPE_DAYS", days, "destinations from copies"),
        fixed("copies of an event that lead to it", count(copies::KEPT), "the database; others are counted"),
        fixed(
            "retention of the queues",
            time(queue_settings::RETENTION),
            "acknowledged events while no relay runs; `doctor` checks it",
        ),
        fixed(
            "leases before a message goes to the dead-letter queue",
            count(queue_settings::RETRIES),
            "the queue; the relay pulls the dead-letter queue too",
        ),
        fixed(
            "tries of an unreadable message that may end the relay",
            format!(
                "{}, then once a day, at most {}",
                count(unreadable::MAX_UNFINISHED_TRIES),
                count(unreadable::GIVEN_UP_AFTER)
            ),
            "the relay from a message that crashes it",
        ),
        api(
            "events that one source keeps in quarantine",
            format!("{} and {} an hour", count(quarantine().events_per_hour), bytes(quarantine().bytes_per_hour)),
            "`quarantine` of a source".to_owned(),
            "the disk from forged requests",
        ),
        api(
            "body of an event in quarantine",
            bytes(quarantine().body_bytes),
            "`quarantine` of a source".to_owned(),
            "the disk from forged requests",
        ),
    ]
}

fn quarantine() -> shared::source::QuarantineLimits {
    shared::source::QuarantineLimits::default()
}

fn slots() -> Vec<Bound> {
    vec![
        env("attempts in flight, all destinations", "TIDEGATE_MAX_IN_FLIGHT", count, "descriptors and memory"),
        field("attempts in flight, one destination", "DestinationSpec", "max_concurrency", count, "the destination"),
        fixed(
            "slots kept for destinations below their fair share",
            format!("1 in {}", tuning::KEPT_SLOTS_PART),
            "a new destination while others hang",
        ),
        fixed(
            "slots are short when this part is used",
            format!("{} %", tuning::SLOTS_ARE_SHORT_PERCENT),
            "fairness: noisy destinations then wait",
        ),
        fixed(
            "a destination is noisy from",
            format!(
                "{} of what is in flight and {} attempts, or {} of the time",
                percent(tuning::NOISY_PART),
                tuning::NOISY_IN_FLIGHT,
                percent(tuning::NOISY_PART)
            ),
            "fairness",
        ),
        fixed(
            "slots that retries leave to fresh deliveries",
            format!("{} %", shares::kept_percent(Lane::Fresh)),
            "fresh deliveries",
        ),
        fixed(
            "slots that replays leave to fresh deliveries and retries",
            format!("{} %", shares::kept_percent(Lane::Fresh) + shares::kept_percent(Lane::Retry)),
            "live traffic",
        ),
        env(
            "bodies that wait in memory",
            "TIDEGATE_MAX_WAITING_BYTES",
            bytes,
            "memory; others are read when they are sent",
        ),
        env("bodies above 64 KiB in flight", "TIDEGATE_MAX_IN_FLIGHT_BYTES", bytes, "memory; a larger one goes alone"),
        fixed(
            "body that is not counted in flight, up to",
            bytes(tuning::SMALL_IN_FLIGHT),
            "speed: all slots together hold little of them",
        ),
        fixed("deliveries that wait in memory, without bodies", bytes(tuning::WAITING_ROWS_BYTES), "memory"),
        fixed(
            "deliveries that wait in memory, one lane",
            count(tuning::MOST_WAITING_OF_LANE),
            "memory, and the other lanes",
        ),
        fixed("part of the free room that one lane may take", format!("1 in {}", tuning::ROWS_PART), "the other lanes"),
        fixed(
            "deliveries that one read takes for one lane",
            count(tuning::MOST_READ_OF_LANE),
            "the other lanes of the statement",
        ),
        fixed("reads at a time", count(read::AT_ONCE), "the database's connections"),
        fixed(
            "events, bytes of bodies and bytes in all of one read",
            format!(
                "{}, {}, {}",
                count(pending::EVENTS_AT_ONCE),
                bytes(pending::MOST_BODY_BYTES),
                bytes(pending::MOST_BYTES)
            ),
            "memory",
        ),
        fixed(
            "answered attempts that are not settled",
            count(tuning::MOST_UNSETTLED),
            "memory while the database does not answer: then nothing is sent",
        ),
        fixed("settlements in one transaction", count(settle::BATCH), "locks"),
        fixed("lanes of one look for due deliveries", count(look::LANES_OF_A_LOOK), "the database"),
        fixed("destinations whose state one statement reads", count(recall::BATCH), "the database"),
        fixed("reports in one statement", count(report::BATCH), "the database"),
        fixed(
            "deliveries of one destination in memory that were retried by hand",
            count(tuning::MOST_EXPEDITED),
            "memory; the look finds others",
        ),
        fixed("connections that are kept open to one host", count(egress::POOL_MAX_IDLE_PER_HOST), "descriptors"),
        fixed("excerpt of an answer", bytes(egress::RESPONSE_EXCERPT_BYTES), "the database"),
        fixed("answers whose excerpt arrives after the head", count(excerpts::MOST), "descriptors"),
        fixed(
            "bytes before the end of an answer's head",
            bytes(allowance::BYTES_PER_REQUEST),
            "memory from endless heads",
        ),
        fixed("headers of an answer", count(egress::MAX_RESPONSE_HEADERS), "memory; beyond it the status alone counts"),
        fixed(
            "URL of a request, and query that is passed on",
            bytes(request::MAX_URL_BYTES),
            "destinations, most of which refuse longer lines",
        ),
        fixed(
            "earlier versions of routes in memory",
            format!("{}, for {}", count(versions::MOST), time(versions::KEPT_FOR)),
            "memory",
        ),
        fixed("signals of one statement", count(signals::AT_ONCE), "memory"),
        fixed("shards", count(store::leases::SHARDS), "the number of relays that share the work"),
    ]
}

fn times() -> Vec<Bound> {
    vec![
        field("an attempt, up to the end of the answer's head", "DestinationSpec", "timeout_ms", millis, "slots"),
        fixed("resolving, connecting and TLS", time(egress::CONNECT_TIMEOUT), "slots"),
        fixed("the excerpt of an answer is waited for", time(egress::EXCERPT_WITHIN), "connections"),
        fixed(
            "a connection is kept open for",
            time(egress::POOL_IDLE_TIMEOUT),
            "against servers that close it in the moment of a send",
        ),
        fixed("a transform, its wait included", time(send::TRANSFORM_WITHIN), "slots"),
        fixed("an earlier version of a route is read within", time(versions::READ_WITHIN), "slots"),
        fixed("lease of a relay's shards", time(lease::LEASE), "destinations of a relay that crashed"),
        fixed("the lease is renewed every", time(lease::RENEW_EVERY), "the lease"),
        fixed(
            "sending ends after the last renewal",
            time(lease::FENCE_AFTER),
            "against two relays that send for one destination",
        ),
        fixed(
            "look for due deliveries, and for changes of the configuration",
            format!("every {}", time(configuration::POLL)),
            "deliveries that were not announced",
        ),
        fixed(
            "the same look, if the database is slow, at least",
            format!("every {}", time(look::LOOK_AT_LEAST_EVERY)),
            "the database",
        ),
        fixed(
            "a lane is read from its beginning",
            format!("every {}", micros(tuning::READ_WHOLE_EVERY_US)),
            "deliveries that were committed late",
        ),
        fixed(
            "transactions that a read may miss, for",
            micros(tuning::UNSEEN_US),
            "deliveries that are committed late",
        ),
        fixed("settlements are collected for", time(settle::LINGER), "the database's log"),
        fixed(
            "a delivery behind another one of its key is read again after",
            format!("{}, up to {}", micros(tuning::BEHIND_WAIT_US), micros(tuning::LONGEST_BEHIND_WAIT_US)),
            "order keys, if no notice came",
        ),
        fixed("reports of an active destination", format!("every {}", micros(tuning::REPORT_EVERY_US)), "the database"),
        fixed(
            "burst of a rate limit",
            format!("{} ms worth of it", (engine::pace::BURST_PART_OF_A_SECOND * 1_000.0).round()),
            "the rate, from timers that fire late",
        ),
        env("shutdown", "TIDEGATE_SHUTDOWN_S", seconds, "what is in flight: it is settled"),
    ]
}

fn doubled((first, longest): (Duration, Duration)) -> String {
    format!("{}, doubled up to {}", time(first), time(longest))
}

fn retries() -> Vec<Bound> {
    let standard = retry_policy::STANDARD_SCHEDULE_S;
    vec![
        api(
            "attempts of a delivery",
            count(standard.len()),
            format!("`retry` of a destination, up to {}", count(retry_policy::MAX_ATTEMPTS)),
            "the destination",
        ),
        api(
            "longest wait between two attempts",
            seconds(standard.into_iter().max().unwrap_or(0)),
            format!("`retry` of a destination, up to {}", seconds(retry_policy::MAX_DELAY_S)),
            "the delivery",
        ),
        fixed(
            "waits are spread by",
            format!("± {}", percent(retry::JITTER)),
            "the destination from retries that come together",
        ),
        fixed("calls of the queue's API that fail", doubled(retry::PULL_PAUSES), "the API"),
        fixed("statements that fail while nothing answers", doubled(retry::DATABASE_PAUSES), "the database"),
    ]
}

fn background() -> Vec<Bound> {
    vec![
        fixed(
            "rows and contents of one chunk of a replay",
            format!("{}, {}", count(cut::CHUNK_ROWS), bytes(cut::CHUNK_BYTES)),
            "what is repeated after a crash",
        ),
        fixed("contents of events that a replay holds", bytes(cut::GROUP_BYTES), "memory; a larger event goes alone"),
        fixed("deliveries that one chunk makes", count(cut::CHUNK_DELIVERIES), "locks"),
        fixed(
            "a turn of a replay looks through",
            format!("{} rows or {}", count(cut::STRETCHES.total), time(cut::STRETCHES.within)),
            "the other replays",
        ),
        fixed("filters of one event in a replay", time(chunk::ASK_WITHIN), "the replay"),
        fixed(
            "starts of one chunk before the replay has failed",
            count(worker::MOST_BEGUN),
            "the relay from a chunk that ends it",
        ),
        fixed("lease of a chunk", time(worker::LEASE), "replays of a relay that crashed"),
        fixed(
            "a dry run counts",
            format!("{} rows or {}", count(counting::DRY_RUN.total), time(counting::DRY_RUN.within)),
            "the database",
        ),
        fixed("deliveries of a deleted destination that one transaction cancels", count(deleting::CHUNK), "locks"),
        fixed("deliveries that are decided side by side", count(undecided::AT_ONCE), "memory"),
        fixed("signals of cancellations are kept for", seconds_of(signals::KEPT_S), "relays that read late"),
        fixed(
            "shortest retention that a setting allows",
            days(crate::config::LEAST_RETENTION_DAYS),
            "events that wait in the queue",
        ),
        env("bodies are kept for", "TIDEGATE_BODY_RETENTION_DAYS", days, "the disk"),
        env("all else is kept for", "TIDEGATE_METADATA_RETENTION_DAYS", days, "the disk"),
        fixed("partitions are made ahead for", days(crate::history::DAYS_AHEAD), "the intake at midnight"),
        fixed(
            "partitions outlive their retention by",
            days(crate::history::GRACE_DAYS),
            "transactions that still write",
        ),
    ]
}

#[test]
fn the_shortest_retention_is_longer_than_the_queue_keeps_a_message() {
    assert!(crate::config::LEAST_RETENTION_DAYS * 86_400 > queue_settings::RETENTION.as_secs());
}
