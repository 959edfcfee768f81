//! The API, expressions and the database.

use expression::{compile, number};
use model::signing;
use store::{configuration, leases, pool};

use super::{Bound, api, bytes, count, days, env, fixed, millis, seconds, table, time};
use crate::api::server::{self, Patience};
use crate::api::{self as rest, layers};
use crate::control::{self, page as pages};
use crate::doctor::check;
use crate::edge;
use crate::{descriptors, readiness, serve};

pub(super) fn write(page: &mut String) {
    table(page, "API", "", &calls());
    table(
        page,
        "Filters, order keys and transforms",
        "Work is counted in steps, whatever the clock says; the times are a net below that.",
        &expressions(),
    );
    table(
        page,
        "Database",
        "The server's own limit ends a statement with an error; the relay's limit closes a connection that is silent.",
        &database(),
    );
    table(page, "Calls to the edge, and health", "", &others());
}

fn calls() -> Vec<Bound> {
    let patience = Patience::default();
    vec![
        fixed(
            "connections",
            count(server::MAX_CONNECTIONS),
            "descriptors; a quarter of the open files if that is less",
        ),
        fixed("head of a request, and an idle connection", time(patience.head), "connections"),
        fixed("body of a request to arrive", time(patience.body), "connections"),
        fixed("a caller takes nothing of its answer for", time(patience.write), "connections"),
        fixed("body of a request", bytes(rest::MAX_BODY_BYTES), "memory"),
        fixed("a call is answered, or broken off with 504", time(layers::ANSWERED_WITHIN), "callers and connections"),
        api(
            "rows of a page",
            count(pages::DEFAULT_LIMIT),
            format!("`limit`, 1 to {}", count(pages::MAX_LIMIT)),
            "memory",
        ),
        fixed(
            "one call looks through",
            format!("{} rows or {}", count(pages::LIST.total), time(pages::LIST.within)),
            "the database; `next_cursor` goes on",
        ),
        fixed("steps of one answer of statistics", count(control::stats::MOST_STEPS), "the database"),
        fixed(
            "deliveries that one call releases",
            count(
                control::deliveries::release::AT_ONCE
                    * i64::try_from(control::deliveries::release::TRANSACTIONS).expect("small"),
            ),
            "locks; `before` goes on",
        ),
        fixed(
            "deliveries that are shown with their event",
            count(control::events::explain::DELIVERIES_SHOWN),
            "memory; the list has all",
        ),
        fixed("the routes answer for an event within", time(control::events::ASK_WITHIN), "the caller"),
        fixed(
            "name of a source or destination",
            format!("{} characters", count(control::name::MAX_NAME)),
            "URLs and logs",
        ),
        fixed("URL of a destination", bytes(control::destinations::settings::MAX_URL_BYTES), "every request"),
        fixed(
            "static headers of a destination",
            format!(
                "{} of {}",
                count(control::destinations::headers::MAX_HEADERS),
                bytes(control::destinations::headers::MAX_VALUE_BYTES)
            ),
            "every request",
        ),
        api(
            "deliveries in a period of a rate limit",
            "no limit".to_owned(),
            format!("`rate_limit`, 1 to {}", count(control::rate::MAX_LIMIT)),
            "the destination",
        ),
        fixed("signing keys of a destination", count(signing::MAX_KEYS), "the length of the header"),
        api(
            "a replaced signing key still signs for",
            seconds(signing::DEFAULT_OVERLAP_S),
            format!(
                "`overlap_s`, up to {}",
                seconds(u64::from(control::destinations::signing::MAX_OVERLAP_S.unsigned_abs()))
            ),
            "receivers that learn the new one later",
        ),
    ]
}

fn expressions() -> Vec<Bound> {
    vec![
        fixed("source text", bytes(expression::MAX_SOURCE_BYTES), "the configuration in memory"),
        fixed("nesting", format!("{} levels", count(expression::MAX_DEPTH)), "the stack"),
        fixed("loops inside one another", count(expression::MAX_NESTED_LOOPS), "the processor"),
        fixed("compiling", time(compile::COMPILE_DEADLINE), "the caller"),
        fixed("compilations at a time", count(compile::MAX_COMPILATIONS), "the processor"),
        fixed("work of one evaluation", format!("{} steps", count(expression::MAX_STEPS)), "the processor"),
        fixed(
            "work of all filters, and of all order keys, of one event",
            format!("{} steps", count(expression::MAX_STEPS_OF_EVENT)),
            "the processor, for sources with many routes",
        ),
        fixed("bytes that one evaluation copies", bytes(expression::MAX_COPIED_BYTES), "memory"),
        fixed(
            "body that an expression reads",
            bytes(expression::MAX_BODY_BYTES),
            "memory; a filter that needs a larger one holds the delivery",
        ),
        fixed("result of a transform", bytes(expression::MAX_OUTPUT_BYTES), "memory"),
        fixed("compiled pattern of `matches`", bytes(expression::MAX_PATTERN_BYTES), "memory"),
        fixed("digits of a number that are kept", count(number::MAX_DIGITS), "the processor"),
        fixed("one evaluation", time(expression::DEADLINE), "the evaluator's threads"),
        fixed("evaluations that wait for a thread, of each kind", count(serve::parts::EVALUATIONS_WAITING), "memory"),
    ]
}

fn database() -> Vec<Bound> {
    let both =
        |limits: pool::Limits| format!("{} at the server, {} at the relay", time(limits.server), time(limits.here));
    vec![
        env("connections", "TIDEGATE_DATABASE_CONNECTIONS", count, "the server"),
        fixed("a connection is waited for", time(pool::ACQUIRE_WITHIN), "callers"),
        fixed("most statements", both(pool::STATEMENT), "connections from a server that fell silent"),
        fixed("a part of a search", both(pool::STRETCH), "the same; a part that is too slow is cut smaller"),
        fixed("statistics of a long time", both(pool::SEARCH), "the same"),
        fixed("maintenance of partitions", both(pool::MAINTENANCE), "the same"),
        fixed(
            "an idle connection is checked after, within",
            format!("{}, {}", time(pool::PING_AFTER), time(pool::PING_WITHIN)),
            "statements from dead connections",
        ),
        fixed("all migrations", time(store::MIGRATE_WITHIN), "a start that would hang"),
        fixed("a change of the configuration waits for its turn", time(configuration::TURN_WITHIN), "callers"),
        fixed("a change blocks the intake for", millis(configuration::WAIT.as_millis()), "the intake"),
        fixed("relays on one database that share the work", count(leases::SHARDS), "–"),
    ]
}

fn others() -> Vec<Bound> {
    vec![
        fixed("a call to the edge, a large body included", time(edge::TIMEOUT), "the intake"),
        fixed("a change of a source waits for the edge", time(edge::push::PATIENCE), "callers: then it says `pending`"),
        fixed("sources that are written to the edge at a time", count(edge::TURNS), "connections"),
        fixed(
            "the edge is compared again after a change",
            time(store::sources::EDGE_CHECK_SOON),
            "against old values that KV still answers with",
        ),
        fixed(
            "the edge is compared, each source",
            format!("every {}", time(store::edge_checks::LATER)),
            "against a source that the edge has lost",
        ),
        fixed(
            "a deleted source is compared for",
            days(store::edge_checks::AFTER_DELETION.as_secs() / 86_400),
            "against a source that comes back",
        ),
        fixed("the database answers `/readyz` within", time(control::ready::READY_WITHIN), "load balancers"),
        fixed("`/readyz` reports an engine without a turn for", time(readiness::ENGINE_OVERDUE), "load balancers"),
        fixed("`/readyz` reports a puller without a turn for", time(readiness::PULLER_OVERDUE), "load balancers"),
        fixed(
            "`/readyz` says that the queue's API or the edge fails after",
            time(readiness::upstream::FAILS_FOR),
            "operators, who learn what does not work",
        ),
        fixed("clock difference that `doctor` accepts", time(check::CLOCK_DIFFERENCE), "the times that receivers see"),
        fixed(
            "open files beside attempts, database and API",
            count(descriptors::OTHERS),
            "the relay from a lack of descriptors",
        ),
    ]
}
