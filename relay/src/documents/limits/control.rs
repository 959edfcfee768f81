//! Limits of the API, of expressions and of the database.

use expression::{compile, number};
use model::signing;
use shared::provider;
use store::{configuration, pool};

use super::{Bound, api, bytes, count, days, env, fixed, millis, seconds, table, time};
use crate::api::server::{self, Patience};
use crate::api::{self, conditions, layers};
use crate::control::events::search as events;
use crate::control::{
    self, await_tokens, awaits, idempotency, page, request_rate, sessions, sign_in, tokens, wrong_tokens,
};
use crate::doctor::check;
use crate::{callers, dashboard, descriptors, edge, last_use, oidc, readiness, serve, streams, tail, waiters};

pub(super) fn write(page: &mut String) {
    table(page, "API", "", &calls());
    table(
        page,
        "Filters, order keys and transforms",
        "The work of an expression is limited in steps, independently of time. The time limits are an additional \
         safeguard.",
        &expressions(),
    );
    table(
        page,
        "Database",
        "PostgreSQL's own limit ends a slow statement with an error. The relay's limit is longer: when it passes, the\n\
         connection no longer responds, and the relay closes it.",
        &database(),
    );
    table(page, "Calls to the edge, and health", "", &others());
}

fn calls() -> Vec<Bound> {
    let patience = Patience::default();
    vec![
        fixed!(
            "connections (a quarter of the open files if that is less)",
            count(server::MAX_CONNECTIONS),
            "limits file descriptors",
        ),
        fixed!("time for the head of a request, and of an idle connection", time(patience.head), "frees connections"),
        fixed!("time for the body of a request to arrive", time(patience.body), "frees connections"),
        fixed!("time without progress while a response is sent", time(patience.write), "frees connections"),
        env(
            "requests of a caller (token or session) a minute",
            "TIDEGATE_API_REQUESTS_PER_MINUTE",
            count,
            "relay/src/control/request_rate.rs",
            "limits load; each relay counts for itself",
        ),
        fixed!("callers whose requests are counted", count(request_rate::MAX_CALLERS), "limits memory"),
        fixed!("an idempotency key, in characters", count(idempotency::MAX_KEY), "limits memory"),
        fixed!("the answer that is kept for a key", bytes(idempotency::MAX_ANSWER_BYTES), "limits the database"),
        fixed!(
            "idempotency keys of a caller on a day (UTC)",
            count(idempotency::MAX_KEYS_A_DAY),
            "limits the database"
        ),
        fixed!(
            "time after which the key of a call that ended without an answer can be used again",
            time(idempotency::CALL_ENDS_WITHIN),
            "frees keys",
        ),
        fixed!("bytes of the bodies that one search of bodies reads", bytes(events::BYTES_PER_CALL), "limits load"),
        fixed!("time of one search of bodies", time(events::SEARCH_WITHIN), "limits load"),
        fixed!("searches of bodies at one time", count(events::SEARCHES_AT_ONCE), "limits load"),
        fixed!(
            "time that a search of bodies waits for others",
            time(events::SEARCH_WAIT),
            "then the API responds with 503 `busy`"
        ),
        fixed!("shortest text of a search of bodies, in bytes", count(events::LEAST_TEXT_BYTES), "limits load"),
        fixed!("longest text of a search of bodies, in bytes", count(events::MOST_TEXT_BYTES), "limits load"),
        fixed!("entity tags in one `If-Match`", count(conditions::MAX_TAGS), "limits work"),
        fixed!("wrong tokens from one address at once", count(wrong_tokens::BURST), "limits look-ups of tokens"),
        fixed!(
            "time for each further wrong token from that address",
            time(wrong_tokens::INTERVAL),
            "limits look-ups of tokens"
        ),
        fixed!(
            "addresses of which wrong tokens are counted (an IPv6 network of 64 bits counts as one)",
            count(wrong_tokens::MAX_ADDRESSES),
            "limits memory"
        ),
        fixed!(
            "accepted tokens that need not wait because of wrong ones",
            count(wrong_tokens::MAX_ACCEPTED),
            "limits memory",
        ),
        fixed!("time for which they need not", time(wrong_tokens::ACCEPTED_FOR), "limits what a stranger can delay"),
        fixed!("length of the name of a token, in characters", count(tokens::MAX_NAME), "limits rows"),
        fixed!("tokens and sessions whose last use waits to be stored", count(last_use::MAX_TOKENS), "limits memory"),
        fixed!("time for which uses of tokens are collected", time(last_use::WRITE_EVERY), "limits writes"),
        fixed!("time for which a session counts", time(sessions::LIFETIME), "limits what a stolen cookie can do"),
        fixed!(
            "sessions of one token, of the root tokens, or of one user",
            count(sessions::MAX_SESSIONS),
            "limits rows; a further session ends the oldest",
        ),
        fixed!("time of a sign-in with OpenID Connect", time(sign_in::WITHIN), "limits what a stolen cookie can do"),
        fixed!("path to which a sign-in returns", bytes(sign_in::MAX_RETURN_TO), "limits the size of a cookie"),
        fixed!("streams on one replica", count(streams::STREAMS), "limits connections and memory"),
        fixed!(
            "streams of one token or session on one replica",
            count(streams::STREAMS_PER_CALLER),
            "leaves streams to other callers",
        ),
        fixed!(
            "streams that read the database at a time, because they continue from a position or are behind",
            count(streams::READING),
            "limits memory and the load of the database",
        ),
        fixed!(
            "a stream or a waiting call whose token or session has ended is found",
            format!("every {}", time(callers::CHECKED_EVERY)),
            "limits what a revoked token still sees",
        ),
        fixed!(
            "batches of changes that wait for a stream or another follower",
            count(tail::BATCHES_WAITING),
            "limits memory; a follower that is further behind reads the database",
        ),
        fixed!("changes in a batch", count(tail::items::CHANGES_AT_ONCE), "limits memory",),
        fixed!(
            "changes are kept, after the day on which they were stored, for at least",
            days(u64::from(store::changes::KEPT_DAYS)),
            "limits the disk space; a stream cannot continue from an older position",
        ),
        fixed!(
            "announcements of changes by a replica",
            format!("every {}", time(tail::ANNOUNCED_EVERY)),
            "limits the load of the database",
        ),
        fixed!("body of a request", bytes(api::MAX_BODY_BYTES), "limits memory"),
        fixed!(
            "time of a call, after which it is aborted with 504",
            time(layers::ANSWERED_WITHIN),
            "frees connections"
        ),
        api!(
            "rows of a page (default)",
            count(page::DEFAULT_LIMIT),
            format!("`limit`, 1 to {}", count(page::MAX_LIMIT)),
            "limits memory",
        ),
        fixed!(
            "one call of a list searches",
            format!("{} rows or {}", count(page::LIST.total), time(page::LIST.within)),
            "limits the load on the database; `next_cursor` continues the search",
        ),
        fixed!(
            "steps of one response of `/v1/stats`",
            count(control::stats::MOST_STEPS),
            "limits the load on the database",
        ),
        fixed!(
            "events in quarantine that a page of the dashboard verifies again",
            count(control::events::verify_now::MOST_EVENTS),
            "limits the time of the page"
        ),
        fixed!(
            "bodies of these events together",
            bytes(control::events::verify_now::MOST_BYTES),
            "limits memory and time; larger ones are verified when they are released"
        ),
        fixed!(
            "characters of a response that the dashboard shows of each attempt",
            count(dashboard::deliveries::words::MOST_EXCERPT),
            "limits the size of the page; the API returns all that is kept"
        ),
        fixed!(
            "ids of deliveries that one operation lists",
            count(control::deliveries::MOST_IDS),
            "limits memory and the size of the stored operation"
        ),
        fixed!(
            "deliveries that one call releases",
            count(
                control::deliveries::release::AT_ONCE
                    * i64::try_from(control::deliveries::release::TRANSACTIONS).expect("small"),
            ),
            "limits the time of the call; `before` continues",
        ),
        fixed!(
            "deliveries shown by `GET /v1/events/{id}`",
            count(control::events::explain::DELIVERIES_SHOWN),
            "limits memory; `GET /v1/deliveries?event=…` has all",
        ),
        fixed!(
            "newest deliveries of a destination whose attempts its page counts",
            count(control::deliveries::recent::MOST_DELIVERIES),
            "limits the load on the database",
        ),
        fixed!(
            "results by which that page counts attempts",
            count(control::deliveries::recent::MOST_RESULTS),
            "limits the size of the page",
        ),
        fixed!(
            "audit entries of a destination that are searched for the last change of its signing secret",
            count(control::destinations::signing::ENTRIES_SEARCHED),
            "limits the load on the database",
        ),
        fixed!(
            "sources or destinations whose counts or health one call returns",
            count(control::stats::several::MOST_OBJECTS),
            "limits the load on the database",
        ),
        fixed!(
            "steps for each of several sources or destinations",
            count(control::stats::several::MOST_STEPS_OF_EACH),
            "limits the load on the database",
        ),
        fixed!(
            "pending or held deliveries of one destination that such a call counts",
            count(store::figures::COUNTED),
            "limits the load on the database",
        ),
        fixed!(
            "pending deliveries of one destination that the overview counts",
            count(store::overview::COUNTED_OF_ONE),
            "limits the load on the database",
        ),
        fixed!(
            "destinations whose pending deliveries, and sources whose rejections, the overview counts",
            count(store::overview::MOST_DESTINATIONS),
            "limits the load on the database",
        ),
        fixed!(
            "rows of history that the overview reads to find a few of them",
            count(store::overview::MOST_HISTORY),
            "limits the load on the database",
        ),
        fixed!("findings of one kind", count(store::overview::MOST_ROWS), "limits the size of the response"),
        fixed!(
            "deliveries of an event that the list of events counts, settled ones and others",
            count(control::events::marks::COUNTED_DELIVERIES),
            "limits load",
        ),
        fixed!(
            "deliveries whose attempts the page of an event shows",
            count(control::events::attempts::DELIVERIES_WITH_ATTEMPTS),
            "limits the size of a page",
        ),
        fixed!(
            "attempts on the page of an event",
            count(control::events::attempts::ATTEMPTS_TOGETHER),
            "limits the size of a page",
        ),
        fixed!("events of an export", count(control::events::export::EXPORTED_EVENTS), "limits memory"),
        fixed!("time of an export of events", time(control::events::export::EXPORT_WITHIN), "limits load"),
        fixed!("events that the filter of a replay names", count(control::replays::MAX_EVENTS), "limits a row"),
        fixed!("text that the search box takes", bytes(control::find::MAX_TEXT_BYTES), "limits load"),
        fixed!("objects of each kind that the search box finds", count(control::find::MOST_OF_A_KIND), "limits load"),
        fixed!("type of an edited event", bytes(control::events::deliver::MAX_TYPE_BYTES), "fits into an index"),
        fixed!("events of one trial of a route", count(control::trial::MAX_EVENTS), "limits the time of the call"),
        fixed!(
            "evaluations of one trial together",
            time(control::trial::WITHIN),
            "limits the time of the call; what is left has the error `expression_too_slow`",
        ),
        fixed!(
            "order key and transformed body that a trial shows, each",
            bytes(control::trial::SHOWN_BYTES),
            "limits the size of the response",
        ),
        fixed!(
            "signed content that the check of a request shows",
            bytes(shared::verify::trace::MAX_SIGNED_PREVIEW_BYTES),
            "limits the size of the response",
        ),
        fixed!("headers of a request that a caller gives", count(control::given::MAX_HEADERS), "limits memory"),
        fixed!(
            "name and value of such a header",
            format!("{}, {}", bytes(control::given::MAX_NAME_BYTES), bytes(control::given::MAX_VALUE_BYTES)),
            "limits memory",
        ),
        fixed!(
            "event bodies that requests to the API hold at one time",
            bytes(control::bodies::MAX_BYTES),
            "limits memory; a request that would exceed it waits",
        ),
        fixed!(
            "wait of such a request",
            time(control::bodies::RESERVE_TIMEOUT),
            "then the API responds with 503 `busy` and `Retry-After`",
        ),
        fixed!("calls that wait at a time (as many as open files allow)", count(waiters::MAX_WAITERS), "limits memory"),
        fixed!(
            "calls of one token that wait at a time, with those of its await tokens",
            count(waiters::MAX_WAITERS_OF_TOKEN),
            "leaves places to other tokens; the API responds with 429",
        ),
        api!(
            "time of a call that waits",
            time(awaits::MAX_TIMEOUT),
            format!("`timeout_s`, 0 to {}", awaits::MAX_TIMEOUT.as_secs()),
            "ends before proxies do",
        ),
        fixed!("jobs that one call awaits", count(awaits::MAX_JOBS), "limits memory and the load on the database"),
        fixed!(
            "calls that wait and look into the database at one time",
            count(awaits::LOOKS),
            "leaves connections to others"
        ),
        fixed!("age of the events that a call finds", time(awaits::LOOKS_BACK), "limits the load on the database"),
        fixed!(
            "events of a job for which a call evaluates its expression",
            count(awaits::MAX_EVALUATED),
            "limits the load on the database",
        ),
        fixed!("bodies of one response of `/v1/await`", bytes(awaits::MAX_SHOWN_BODY_BYTES), "limits memory"),
        fixed!(
            "pause of a stream of `/v1/await` without an event, until it sends a comment",
            time(api::awaits::HEARTBEAT),
            "keeps proxies from ending it"
        ),
        fixed!(
            "wait of a call while the relay stops",
            time(awaits::PAUSE_WHEN_STOPPING),
            "a client that calls again at once does not call without pause",
        ),
        fixed!("length of an await token", bytes(await_tokens::MAX_BYTES), "limits the work for wrong ones"),
        api!(
            "time for which an await token counts (default)",
            seconds(await_tokens::DEFAULT_TTL_S),
            format!("`ttl_s`, 1 to {}", count(await_tokens::MAX_TTL_S)),
            "limits what a stolen one can do",
        ),
        api!(
            "fields that a source exposes",
            "none by default".to_owned(),
            format!("`expose`, up to {} of {}", count(provider::MAX_EXPOSED), bytes(provider::MAX_POINTER_BYTES)),
            "limits the configuration in memory",
        ),
        fixed!(
            "time to evaluate the routes of an event that is shown or released",
            time(control::events::EVALUATE_WITHIN),
            "limits the time of the call",
        ),
        fixed!(
            "name of a source or destination",
            format!("{} characters", count(control::name::MAX_NAME)),
            "keeps URLs and logs readable",
        ),
        fixed!(
            "types of a route",
            format!(
                "{} of {} characters",
                count(control::event_types::MAX_TYPES),
                count(control::event_types::MAX_CHARACTERS)
            ),
            "limits the configuration in memory",
        ),
        fixed!("URL of a destination", bytes(model::destination::MAX_URL_BYTES), "limits the size of every request"),
        fixed!(
            "static headers of a destination",
            format!(
                "{} of {}",
                count(control::static_headers::MAX_HEADERS),
                bytes(control::static_headers::MAX_VALUE_BYTES)
            ),
            "limits the size of every request",
        ),
        api!(
            "rate limit of a destination",
            "none by default".to_owned(),
            format!("`rate_limit`, 1 to {} in a period", count(control::rate::MAX_LIMIT)),
            "limits the load on the destination",
        ),
        fixed!(
            "signing secrets of a destination",
            count(signing::MAX_KEYS),
            "limits the length of the header `webhook-signature`",
        ),
        api!(
            "a replaced signing secret still signs for (default)",
            seconds(signing::DEFAULT_OVERLAP_S),
            format!(
                "`overlap_s`, up to {}",
                seconds(u64::from(control::destinations::signing::MAX_OVERLAP_S.unsigned_abs()))
            ),
            "gives receivers time to learn the new secret",
        ),
    ]
}

fn expressions() -> Vec<Bound> {
    vec![
        fixed!("text of an expression", bytes(expression::MAX_SOURCE_BYTES), "limits the configuration in memory"),
        fixed!("nesting", format!("{} levels", count(expression::MAX_DEPTH)), "limits the stack"),
        fixed!("loops inside one another", count(expression::MAX_NESTED_LOOPS), "limits CPU time"),
        fixed!(
            "time to compile an expression",
            time(compile::COMPILE_DEADLINE),
            "limits the time of the call that saves it",
        ),
        fixed!("compilations at a time", count(compile::MAX_COMPILATIONS), "limits CPU time"),
        fixed!("work of one evaluation", format!("{} steps", count(expression::MAX_STEPS)), "limits CPU time"),
        fixed!(
            "work of all filters, and of all order keys, of one event",
            format!("{} steps", count(expression::MAX_STEPS_OF_EVENT)),
            "limits CPU time for sources with many routes",
        ),
        fixed!("bytes that one evaluation copies", bytes(expression::MAX_COPIED_BYTES), "limits memory"),
        fixed!(
            "body that an expression reads",
            bytes(expression::MAX_BODY_BYTES),
            "limits memory; a filter that needs a larger one holds the delivery",
        ),
        fixed!("result of a transform", bytes(expression::MAX_OUTPUT_BYTES), "limits memory"),
        fixed!("compiled pattern of `matches`", bytes(expression::MAX_PATTERN_BYTES), "limits memory"),
        fixed!("digits of a number that are kept", count(number::MAX_DIGITS), "limits CPU time"),
        fixed!("time of one evaluation", time(expression::DEADLINE), "limits the use of the evaluator's threads"),
        fixed!(
            "evaluations that wait for a thread, of each kind",
            count(serve::parts::EVALUATIONS_WAITING),
            "limits memory",
        ),
    ]
}

fn database() -> Vec<Bound> {
    let both =
        |limits: pool::Limits| format!("{} in PostgreSQL, {} in the relay", time(limits.server), time(limits.here));
    vec![
        env(
            "connections of one relay",
            "TIDEGATE_DATABASE_CONNECTIONS",
            count,
            "relay/store/src/pool.rs",
            "limits the load on PostgreSQL",
        ),
        fixed!("wait for a free connection", time(pool::ACQUIRE_WITHIN), "limits the time of a call"),
        fixed!("time of most statements", both(pool::STATEMENT), "frees connections that do not respond"),
        fixed!(
            "time to search one range of a search",
            both(pool::RANGE_LIMITS),
            "the same; a range that takes longer is divided",
        ),
        fixed!("time of statistics over a long time", both(pool::SEARCH), "the same"),
        fixed!("time of the maintenance of partitions", both(pool::MAINTENANCE), "the same"),
        fixed!(
            "idle time after which a connection is checked before its use",
            time(pool::PING_AFTER),
            "keeps statements off dead connections",
        ),
        fixed!("time of that check", time(pool::PING_WITHIN), "keeps statements off dead connections"),
        fixed!("time of all migrations", time(store::MIGRATE_WITHIN), "ends a start that would hang"),
        fixed!(
            "wait of a migration for the lock of a table",
            time(store::MIGRATION_LOCK),
            "for that time other transactions wait behind it; then it is tried again",
        ),
        fixed!(
            "wait of a change of the configuration for its turn",
            time(configuration::TURN_WITHIN),
            "limits the time of the call",
        ),
        fixed!(
            "longest time that a waiting change of the configuration blocks the intake",
            millis(configuration::WAIT.as_millis()),
            "keeps the intake fast",
        ),
    ]
}

fn others() -> Vec<Bound> {
    vec![
        fixed!("time of a call to the edge, a large body included", time(edge::TIMEOUT), "keeps the intake moving"),
        fixed!(
            "wait of a change of a source for the edge",
            time(edge::push::PUSH_TIMEOUT),
            "limits the time of the call; the source is `pending` until the edge has confirmed",
        ),
        fixed!("time of sending a sample event to the edge", time(edge::SAMPLE_WITHIN), "limits the time of the page"),
        fixed!("response to a sample event", bytes(edge::MAX_SAMPLE_ANSWER_BYTES), "limits memory"),
        fixed!("time of a request to the OpenID Connect provider", time(oidc::TIMEOUT), "frees connections"),
        fixed!(
            "response of the OpenID Connect provider",
            bytes(oidc::http_client::MAX_RESPONSE_BYTES),
            "limits memory"
        ),
        fixed!(
            "metadata and keys of the OpenID Connect provider are used for",
            time(oidc::FRESH_FOR),
            "follows changes of the provider",
        ),
        fixed!(
            "and, if they cannot be fetched again, for",
            time(oidc::KNOWN_FOR),
            "lets people sign in although the provider's metadata is unavailable",
        ),
        fixed!(
            "pause after they could not be fetched, and before they are fetched again for an unknown key",
            time(oidc::ASKED_AGAIN),
            "limits requests to the provider",
        ),
        fixed!("sources that are written to the edge at a time", count(edge::TURNS), "limits connections"),
        fixed!(
            "a source at the edge is compared after a change",
            time(store::sources::EDGE_CHECK_SOON),
            "finds old values in KV, which is eventually consistent",
        ),
        fixed!(
            "each source at the edge is compared",
            format!("every {}", time(store::edge_checks::LATER)),
            "finds a source that the edge has lost",
        ),
        fixed!(
            "a deleted source is compared for",
            days(store::edge_checks::AFTER_DELETION.as_secs() / 86_400),
            "finds a deleted source that reappears",
        ),
        fixed!(
            "time for the database to answer `/readyz`",
            time(control::ready::READY_WITHIN),
            "lets load balancers notice an unavailable database",
        ),
        fixed!(
            "`/readyz` reports an engine without a turn for",
            time(readiness::ENGINE_OVERDUE),
            "lets load balancers notice an engine that hangs",
        ),
        fixed!(
            "`/readyz` reports a puller without a turn for",
            time(readiness::PULLER_OVERDUE),
            "finds a puller that hangs",
        ),
        fixed!(
            "`/readyz` names the queue API or the edge as failing after",
            time(readiness::upstream::FAILS_FOR),
            "ignores failures of a moment",
        ),
        fixed!(
            "clock difference that `doctor` accepts",
            time(check::CLOCK_DIFFERENCE),
            "`webhook-timestamp` has to be within the tolerance of receivers",
        ),
        fixed!(
            "file descriptors reserved for everything except attempts, database and API",
            count(descriptors::OTHERS),
            "keeps the relay from running out of file descriptors",
        ),
    ]
}
