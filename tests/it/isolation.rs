//! isolation: what belongs to one customer does not exist for another.

use harness::api::{Api, Source, id};
use harness::gateway::{Gateway, RelayOnly};
use harness::provider::Provider;
use harness::receiver::{Behaviour, Receiver};
use harness::wait::{SOON, until};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::calls::{Ids, Operation, operations};

/// Every scope that a token of a customer can have.
const OF_A_CUSTOMER: [&str; 5] = ["read", "bodies", "write", "replay", "secrets"];

/// The calls without an id in their path that may succeed for another customer, because they make or list what belongs
/// to the caller, or what belongs to no customer; with the status.
const ELSEWHERE: &[(&str, u16)] = &[
    ("get /v1/providers", 200),
    ("post /v1/sources", 201),
    ("get /v1/sources", 200),
    ("put /v1/sources/by-name/{name}", 201),
    ("post /v1/destinations", 201),
    ("get /v1/destinations", 200),
    ("put /v1/destinations/by-name/{name}", 201),
    // Both fields name something that does not exist.
    ("post /v1/routes", 422),
    ("get /v1/routes", 200),
    ("post /v1/routes/try", 200),
    ("put /v1/routes/by-name/{name}", 422),
    ("get /v1/events", 200),
    // The text is missing.
    ("get /v1/events/search", 422),
    ("get /v1/deliveries", 200),
    ("post /v1/deliveries/release", 200),
    ("post /v1/replays", 422),
    ("get /v1/replays", 200),
    ("get /v1/rejections", 200),
    ("get /v1/stats", 200),
    // Its request names no position: the response to a good one does not end.
    ("get /v1/stream", 422),
    // The ids are required.
    ("get /v1/stats/sources", 422),
    ("get /v1/stats/destinations", 422),
    ("get /v1/destination-health", 422),
    ("get /v1/overview", 200),
    ("get /v1/whoami", 200),
    ("get /v1/operations", 200),
    ("post /v1/sessions", 201),
    // They name a source that does not exist.
    ("post /v1/await", 422),
    ("post /v1/await-tokens", 422),
    ("get /v1/sessions", 200),
    ("delete /v1/sessions", 200),
    // The caller has a token and no session.
    ("delete /v1/sessions/current", 409),
    // It selects nothing of another customer.
    ("post /v1/operations", 202),
    // These belong to no customer.
    ("get /v1/unreadable-messages", 403),
    ("post /v1/unreadable-messages/release", 403),
    ("get /v1/audit", 403),
];

/// A customer with an object of each kind.
pub(crate) struct Tenant {
    pub(crate) customer: String,
    pub(crate) api: Api,
    pub(crate) source: Source,
    pub(crate) ids: Ids,
    _receivers: [Receiver; 2],
}

/// Creates a customer with a source, two destinations, two routes, an event, a dead and a held delivery, and a replay.
pub(crate) async fn tenant(gateway: &RelayOnly, name: &str) -> Tenant {
    let customer = gateway.api.create_customer(name).await;
    let api = gateway.api.limited_to(&OF_A_CUSTOMER, Some(name)).await;
    let receivers = [
        Receiver::behaving(Behaviour::Status(404)).await.expect("a receiver"),
        Receiver::start().await.expect("a receiver"),
    ];
    let source = api.create_source("shop", &Provider::standard_webhooks()).await;
    let retry = json!({ "retry": { "schedule_s": [0] } });
    let refusing = api.create_destination("refusing", &receivers[0].url(), retry).await;
    let paused = api.create_destination("paused", &receivers[1].url(), json!({})).await;
    api.pause("paused").await;
    let route = api.create_route("shop", "refusing", json!({})).await;
    api.create_route("shop", "paused", json!({})).await;
    gateway.push(&source, br#"{"type":"order.paid"}"#);
    api.wait_for_rows("/v1/deliveries?state=dead", 1, SOON).await;
    let held = api.wait_for_row("/v1/deliveries?state=held", SOON).await;
    let session = api.post("/v1/sessions", &json!({})).await.expect_status(201);
    let replay = api.post("/v1/replays", &json!({ "filter": { "source": "shop" } })).await.expect_status(201);
    api.wait_for_replay(&replay, SOON).await;
    api.wait_for_rows("/v1/deliveries?state=dead", 2, SOON).await;
    let event = api.wait_for_row("/v1/events", SOON).await;
    let operation = format!("opn_{}", &id(&event)[4..]);
    let columns = "insert into operations (id, customer_id, kind, step, state, finished_at)";
    let values = format!("'{}', '{}', 'reseal', 'sources', 'completed', now()", &operation[4..], &customer[4..]);
    gateway.database.run(&format!("{columns} values ({values})")).await;
    let mut ids = Ids::of_nothing();
    ids.by_noun.extend([
        ("sources", source.id.clone()),
        ("destinations", paused.id.clone()),
        ("routes", route),
        ("events", id(&event).to_owned()),
        ("deliveries", id(&held).to_owned()),
        ("replays", id(&replay).to_owned()),
        ("operations", operation),
        ("customers", customer.clone()),
        ("sessions", id(&session).to_owned()),
    ]);
    ids.name = "shop".to_owned();
    ids.url = receivers[1].url();
    assert_ne!(refusing.id, paused.id);
    Tenant { customer, api, source, ids, _receivers: receivers }
}

/// All rows of a customer, by table.
async fn rows(database: &mut PgConnection, customer: &str) -> Vec<(String, String)> {
    let customer = customer.trim_start_matches("cus_");
    let tables: Vec<String> = sqlx::query_scalar(
        "select columns.table_name::text from information_schema.columns
         join pg_class on relname = columns.table_name and relkind in ('r', 'p') and not relispartition
         where column_name = 'customer_id' and table_schema = 'public' order by 1",
    )
    .fetch_all(&mut *database)
    .await
    .expect("the tables");
    assert!(tables.len() >= 8, "{tables:?}");
    let mut queries: Vec<(String, String)> = tables
        .iter()
        .map(|table| (table.clone(), format!("select * from {table} where customer_id = '{customer}'")))
        .collect();
    let of = |table: &str, column: &str, owner: &str| {
        let owned = format!("select id from {owner} where customer_id = '{customer}'");
        (table.to_owned(), format!("select * from {table} where {column} in ({owned})"))
    };
    queries.extend([
        ("customers".to_owned(), format!("select * from customers where id = '{customer}'")),
        of("event_bodies", "event_id", "events"),
        of("event_keys", "event_id", "events"),
        of("attempts", "delivery_id", "settled_deliveries"),
        of("route_versions", "route_id", "routes"),
        of("deleted_destinations", "id", "destinations"),
        of("delivery_signals", "replay_id", "replays"),
        of("source_counters", "source_id", "sources"),
    ]);
    let mut rows = Vec::new();
    for (table, query) in queries {
        // The owner uses its token, too.
        let text = "(to_jsonb(row) - 'last_used_at')::text";
        let query = format!("select coalesce(string_agg({text}, E'\\n' order by {text}), '') from ({query}) row");
        let text: String = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut *database).await.expect("the rows");
        rows.push((table, text));
    }
    rows
}

/// Waits until the rows of a customer have stopped to change by themselves, and returns them.
pub(crate) async fn settled_rows(database: &mut PgConnection, customer: &str) -> Vec<(String, String)> {
    let mut last = rows(database, customer).await;
    until("the rows to be settled", SOON, async || {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        let now = rows(database, customer).await;
        let is_settled = now == last;
        last = now;
        if is_settled { Ok(()) } else { Err("they change".to_owned()) }
    })
    .await;
    last
}

/// The status that a call has if it names what belongs to another customer.
fn wanted(operation: &Operation, is_bound: bool) -> u16 {
    match (operation.noun(), is_bound) {
        // Their ids belong to no customer: the token of a customer cannot use these calls, and a root token finds them.
        ("customers" | "tokens", true) => 403,
        // No token that is bound to a customer has this scope.
        (_, true) if operation.scope.as_deref() == Some("admin") => 403,
        _ if operation.names_an_object() => 404,
        _ => {
            let line = ELSEWHERE.iter().find(|(name, _)| *name == operation.name);
            let (_, status) = line.unwrap_or_else(|| panic!("give {} a line in tests/it/isolation.rs", operation.name));
            *status
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_shows_or_changes_what_belongs_to_another_customer() {
    let mut gateway = Gateway::relay_only().await;
    // The relay logs an error for the unreadable message.
    gateway.relay.expect_errors();
    let victim = tenant(&gateway, "victim").await;
    gateway.queue.push("no message of the edge");
    let unreadable = gateway.api.wait_for_row("/v1/unreadable-messages", SOON).await;
    let mut ids = victim.ids.clone();
    ids.by_noun.insert("unreadable-messages", id(&unreadable).to_owned());
    gateway.api.create_customer("stranger").await;
    let stranger = gateway.api.limited_to(&OF_A_CUSTOMER, Some("stranger")).await;
    let replica = gateway.another_relay().await;
    let mut database = gateway.database.connect().await.expect("connects");
    let before = settled_rows(&mut database, &victim.customer).await;
    assert!(before.iter().filter(|(_, text)| !text.is_empty()).count() >= 10, "{before:?}");

    let shown: Vec<&String> = ids.by_noun.values().collect();
    let mut wrong = Vec::new();
    for (number, operation) in operations(&gateway.api).await.iter().enumerate() {
        // Each replica answers a half of the calls.
        let api = if number % 2 == 0 { stranger.clone() } else { stranger.at(replica.url()) };
        let reply = operation.send(&api, &ids).await;
        let text = reply.body.to_string();
        // The problem of a field repeats the reference that the caller has sent.
        let shows = reply.status < 400 && shown.iter().any(|id| text.contains(id.as_str()));
        if reply.status != wanted(operation, true) || shows {
            wrong.push(format!("{} with the token of another customer: {} {text}", operation.name, reply.status));
        }
        // An actor that is not bound acts for one customer too.
        if !["unreadable-messages", "customers", "tokens", "sessions", "operations", "providers"]
            .contains(&operation.noun())
            && operation.names_an_object()
        {
            let reply = operation.send(&gateway.api, &ids).await;
            if reply.status != 404 {
                wrong.push(format!("{} for the default customer: {} {}", operation.name, reply.status, reply.body));
            }
        }
        let now = rows(&mut database, &victim.customer).await;
        for ((table, before), (_, now)) in before.iter().zip(&now).filter(|(before, now)| before != now) {
            wrong.push(format!("{} has changed {table}:\n{before}\n{now}", operation.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // The owner sees all of it, through both replicas.
    for api in [victim.api.clone(), victim.api.at(replica.url())] {
        for noun in ["sources", "destinations", "routes", "events", "deliveries", "replays", "operations"] {
            api.get(&format!("/v1/{noun}/{}", victim.ids.of(noun))).await.expect_status(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_with_an_id_of_another_customer_selects_nothing() {
    let gateway = Gateway::relay_only().await;
    let victim = tenant(&gateway, "victim").await;
    gateway.api.create_customer("stranger").await;
    let stranger = gateway.api.limited_to(&OF_A_CUSTOMER, Some("stranger")).await;
    let nouns = [("source", "sources"), ("destination", "destinations"), ("route", "routes"), ("event", "events")];
    let mut filters = 0;
    for operation in operations(&gateway.api).await {
        let is_get = operation.method == reqwest::Method::GET && !operation.names_an_object();
        // A response that does not end; its own test has such a filter.
        let is_get = is_get && operation.name != "get /v1/stream";
        for (filter, noun) in
            nouns.iter().filter(|(filter, _)| is_get && operation.parameters.iter().any(|name| name == filter))
        {
            let needed = if operation.parameters.iter().any(|name| name == "contains") { "contains=abc&" } else { "" };
            let path = format!("{}?{needed}{filter}={}", operation.path(&victim.ids), victim.ids.of(noun));
            let reply = stranger.get(&path).await.expect_status(200);
            let rows = ["data", "events", "deliveries"].map(|field| reply[field].as_array().map_or(0, Vec::len));
            assert_eq!(rows, [0, 0, 0], "{path}: {reply}");
            filters += 1;
        }
    }
    assert!(filters >= 8, "{filters}");
    // A name is that of the caller.
    stranger.get("/v1/events?source=shop").await.expect_status(422);
    let plan = json!({ "filter": { "source": victim.ids.of("sources") }, "dry_run": true });
    let plan = stranger.post("/v1/replays", &plan).await.expect_status(200);
    assert_eq!((&plan["matched"], &plan["complete"]), (&json!(0), &Value::Bool(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_names_an_object_of_another_customer_next_to_one_of_the_caller_is_refused_or_selects_nothing() {
    let gateway = Gateway::relay_only().await;
    let victim = tenant(&gateway, "victim").await;
    let own = tenant(&gateway, "own").await;
    let mut database = gateway.database.connect().await.expect("connects");
    let before = settled_rows(&mut database, &victim.customer).await;
    let own_before = settled_rows(&mut database, &own.customer).await;
    let (of, mine) = (|noun| victim.ids.of(noun), |noun| own.ids.of(noun));

    for (source, destination) in
        [(mine("sources"), of("destinations")), (of("sources"), mine("destinations")), (mine("sources"), of("sources"))]
    {
        own.api.post("/v1/routes", &json!({ "source": source, "destination": destination })).await.expect_status(422);
    }
    own.api
        .put(&format!("/v1/routes/{}", mine("routes")), &json!({ "destination": of("destinations") }))
        .await
        .expect_status(422);
    let to = json!({ "filter": { "source": mine("sources") }, "destination": of("destinations") });
    own.api.post("/v1/replays", &to).await.expect_status(422);

    // What was stored outlives its source and its destination, so their ids are not looked up. They select nothing.
    let mut filters = Vec::new();
    for filter in [json!({ "source": of("sources") }), json!({ "destination": of("destinations") })] {
        for state in [None, Some("dead"), Some("succeeded")] {
            let mut filter = filter.clone();
            if let Some(state) = state {
                filter["state"] = state.into();
            }
            filters.push(filter);
        }
    }
    filters.push(json!({ "source": of("sources"), "verification": "failed" }));
    for filter in filters {
        let replay = own.api.post("/v1/replays", &json!({ "filter": filter })).await.expect_status(201);
        let replay = own.api.wait_for_replay(&replay, SOON).await;
        for count in ["matched", "processed", "created"] {
            assert_eq!(replay[count], 0, "{filter}: {replay}");
        }
    }
    for selected in [
        json!({ "source": of("sources") }),
        json!({ "destination": of("destinations") }),
        json!({ "route": of("routes") }),
    ] {
        let released = own.api.post("/v1/deliveries/release", &selected).await.expect_status(200);
        assert_eq!((&released["released"], &released["deciding"]), (&json!(0), &json!(0)), "{selected}");
    }

    assert_eq!(rows(&mut database, &victim.customer).await, before);
    let is_other = |(table, _): &(String, String)| !["replays", "audit_entries"].contains(&table.as_str());
    let but = |rows: Vec<(String, String)>| rows.into_iter().filter(is_other).collect::<Vec<_>>();
    assert_eq!(
        but(rows(&mut database, &own.customer).await),
        but(own_before),
        "only the replays and their entries are new"
    );
}
