//! route: the types and expressions of a route are tried against given and stored events, and nothing changes.

use harness::api::id;
use harness::gateway::{Gateway, RelayOnly, drained};
use harness::wait::SOON;
use serde_json::{Value, json};

/// A filter that needs more steps than an evaluation may take, for a body with many items.
const TOO_EXPENSIVE: &str = "body.items.all(a, body.items.all(b, a + b >= 0))";

async fn tried(gateway: &RelayOnly, request: &Value) -> Vec<Value> {
    let report = gateway.api.post("/v1/routes/try", request).await.expect_status(200);
    report["results"].as_array().expect("results").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn given_events_are_tried_and_each_expression_has_its_result_and_its_cost() {
    let gateway = Gateway::relay_only().await;
    let results = tried(
        &gateway,
        &json!({
            "types": ["invoice.paid"],
            "filter": "body.amount > 10 && headers['x-live'] == 'yes'",
            "transform": "{'amount': body.amount, 'query': event.query}",
            "order_key": "body.customer",
            "events": [
                {
                    "type": "invoice.paid", "query": "a=1", "headers": [{ "name": "X-Live", "value": "yes" }],
                    "body": r#"{"amount":11,"customer":"c1"}"#,
                },
                {
                    "type": "invoice.paid", "headers": [{ "name": "x-live", "value": "no" }],
                    "body": r#"{"amount":11}"#,
                },
                { "type": "invoice.voided", "body": r#"{"amount":11}"# },
                { "type": "invoice.paid", "body": "{}" },
                { "type": "invoice.paid", "headers": [{ "name": "x-live", "value": "yes" }], "body_base64": "eyJhbW91bnQiOjEyfQ==" },
            ],
        }),
    )
    .await;
    let outcomes: Vec<_> = results.iter().map(|result| result["outcome"].as_str().expect("an outcome")).collect();
    assert_eq!(outcomes, ["matched", "not_matched", "type_not_matched", "filter_failed", "unordered"], "{results:?}");
    let first = &results[0];
    assert_eq!((&first["type"], &first["filter"]["matched"]), (&json!("invoice.paid"), &json!(true)), "{first}");
    assert_eq!(first["order_key"]["value"], r#""c1""#, "{first}");
    let body = &first["transform"]["result"];
    assert_eq!(body["body"], r#"{"amount":11,"query":"a=1"}"#, "{first}");
    assert_eq!((&body["content_type"], &body["truncated"]), (&json!("application/json"), &json!(false)), "{first}");
    for part in ["filter", "order_key", "transform"] {
        assert!(first[part]["cost"]["steps"].as_u64().is_some_and(|steps| steps > 0), "{part}: {first}");
    }
    assert!(results[1]["transform"].is_null() && results[2]["filter"].is_null(), "nothing else was evaluated");
    assert_eq!(results[3]["filter"]["error"]["code"], "expression_missing_field", "{}", results[3]);
    assert_eq!(results[4]["order_key"]["error"]["code"], "expression_missing_field", "{}", results[4]);
    assert_eq!(results[4]["transform"]["result"]["body"], r#"{"amount":12,"query":""}"#, "{}", results[4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_has_the_limits_of_routing_and_a_saved_route_is_tried_with_what_the_request_changes() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let route = id(&gateway.api.all("/v1/routes").await[0]).to_owned();
    let path = format!("/v1/routes/{route}");
    let settings = json!({ "types": ["paid"], "filter": "body.n > 1", "transform": "body.n", "enabled": false });
    let saved = gateway.api.patch(&path, &settings).await.expect_status(200);
    let events = json!([{ "body": r#"{"type":"paid","n":2}"# }, { "body": r#"{"type":"other","n":2}"# }]);
    let results = tried(&gateway, &json!({ "route": route, "events": events })).await;
    // The types are those that the source of the route finds in the bodies.
    assert_eq!((&results[0]["type"], &results[0]["outcome"]), (&json!("paid"), &json!("matched")), "{results:?}");
    assert_eq!(results[0]["transform"]["result"]["body"], "2", "{results:?}");
    assert_eq!(results[1]["outcome"], "type_not_matched", "{results:?}");

    let changed = json!({ "route": route, "events": events, "types": null, "filter": "body.n > 5", "transform": null });
    let results = tried(&gateway, &changed).await;
    let outcomes: Vec<_> = results.iter().map(|result| &result["outcome"]).collect();
    assert_eq!(outcomes, ["not_matched", "not_matched"], "{results:?}");

    let items: Vec<u32> = (0..3_000).collect();
    let body = json!({ "items": items }).to_string();
    let results = tried(&gateway, &json!({ "filter": TOO_EXPENSIVE, "events": [{ "body": body }] })).await;
    assert_eq!(results[0]["outcome"], "undecided", "{results:?}");
    assert_eq!(results[0]["filter"]["error"]["code"], "expression_too_expensive", "{results:?}");
    assert_eq!(results[0]["filter"]["cost"]["steps"], 2_000_000, "{results:?}");

    let large =
        json!({ "transform": "body.text", "events": [{ "body": json!({ "text": "x".repeat(40_000) }).to_string() }] });
    let result = &tried(&gateway, &large).await[0]["transform"]["result"];
    assert_eq!((&result["size"], &result["truncated"]), (&json!(40_000), &json!(true)), "{result}");
    assert_eq!(result["body"].as_str().map(str::len), Some(16_384));

    assert_eq!(gateway.api.get(&path).await.expect_status(200)["updated_at"], saved["updated_at"]);
    assert_eq!(
        (line.receiver.count(), gateway.api.all("/v1/events").await.len()),
        (0, 0),
        "nothing was stored or sent"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_events_of_a_source_are_tried_with_the_scope_bodies_and_that_is_recorded() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let route = id(&gateway.api.all("/v1/routes").await[0]).to_owned();
    let pushed: Vec<_> = (0..4).map(|n| gateway.push(&line.source, format!(r#"{{"n":{n}}}"#).as_bytes())).collect();
    line.receiver.wait_for_events(pushed.clone(), SOON).await;
    drained(&gateway.queue, SOON).await;

    let request = json!({ "filter": "body.n > 1", "transform": "body.n", "recent": { "source": "line", "limit": 3 } });
    let results = tried(&gateway, &request).await;
    assert_eq!(results.len(), 3, "{results:?}");
    let (matched, other): (Vec<_>, Vec<_>) = results.iter().partition(|result| result["outcome"] == "matched");
    assert!(other.iter().all(|result| result["outcome"] == "not_matched"), "{results:?}");
    for result in matched {
        let body = result["transform"]["result"]["body"].as_str().expect("a body");
        assert!(["2", "3"].contains(&body), "{result}");
    }
    let newest: Vec<_> = results.iter().map(|result| result["event_id"].as_str().expect("an id").to_owned()).collect();
    let mut sorted = newest.clone();
    sorted.sort_by(|one, other| other.cmp(one));
    assert_eq!(newest, sorted, "from the newest");
    assert!(newest.iter().all(|id| pushed.iter().any(|pushed| pushed.to_string() == *id)), "{results:?}");
    let reads = gateway.api.get("/v1/audit?action=event.read_body").await.expect_status(200);
    let read: Vec<_> = reads["data"].as_array().expect("entries").iter().map(|entry| &entry["object_id"]).collect();
    assert_eq!(read.len(), 3, "{reads}");

    // The source of the route, and the default number.
    let of_route = tried(&gateway, &json!({ "route": route, "recent": {} })).await;
    assert_eq!(of_route.len(), 4, "{of_route:?}");
    let of_type = tried(&gateway, &json!({ "recent": { "source": "line", "type": "nothing" } })).await;
    assert!(of_type.is_empty(), "{of_type:?}");

    let reader = gateway.api.limited_to(&["read"], None).await;
    let problem = reader.post("/v1/routes/try", &request).await.expect_status(403);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("the scope bodies")), "{problem}");
    let both = gateway.api.limited_to(&["read", "bodies"], None).await;
    both.post("/v1/routes/try", &request).await.expect_status(200);

    // A body that was erased is not tried.
    gateway.api.delete(&format!("/v1/events/{}/body", newest[0])).await.expect_status(204);
    let results = tried(&gateway, &json!({ "filter": "true", "recent": { "source": "line", "limit": 1 } })).await;
    assert_eq!(results[0]["outcome"], "undecided", "{results:?}");
    assert_eq!(results[0]["reason"], "the body of this event is no longer kept", "{results:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_tried_is_refused_with_every_fault_and_its_place() {
    let gateway = Gateway::relay_only().await;
    let event = json!({ "body": "{}" });
    let many = vec![event.clone(); 21];
    for (request, fields) in [
        (json!({ "filter": "true" }), vec!["events"]),
        (json!({ "events": [event], "recent": { "source": "x" } }), vec!["recent", "recent.source"]),
        (json!({ "events": [] }), vec!["events"]),
        (json!({ "events": many }), vec!["events"]),
        (json!({ "recent": {} }), vec!["recent.source"]),
        (json!({ "recent": { "source": "none", "limit": 21 } }), vec!["recent.limit", "recent.source"]),
        (json!({ "route": "rte_0197f3c8d2a17c3e9b5d0a4c6f7e8b91", "events": [event] }), vec!["route"]),
        (json!({ "filter": "body.(", "transform": "nothing", "events": [event] }), vec!["filter", "transform"]),
        (json!({ "types": ["a*"], "events": [event] }), vec!["types[0]"]),
        (
            json!({ "events": [{ "body": "x", "body_base64": "eA==" }, { "body_base64": "?" },
                               { "headers": [{ "name": "a b", "value": "c" }] }] }),
            vec!["events[0].body_base64", "events[1].body_base64", "events[2].headers[0].name"],
        ),
    ] {
        let problem = gateway.api.post("/v1/routes/try", &request).await.expect_status(422);
        let found: Vec<_> = problem["errors"].as_array().expect("errors").iter().map(|e| e["field"].clone()).collect();
        assert_eq!(json!(found), json!(fields), "{request}: {problem}");
    }
    let wrong = json!({ "filter": "true &&\n  nothing", "events": [event] });
    let problem = gateway.api.post("/v1/routes/try", &wrong).await.expect_status(422);
    let message = problem["errors"][0]["message"].as_str().expect("a message");
    assert!(message.starts_with("line 2, column 3: \"nothing\" is not defined"), "{problem}");
    // What another customer owns does not exist.
    gateway.line("line").await;
    let route = id(&gateway.api.all("/v1/routes").await[0]).to_owned();
    gateway.api.create_customer("acme").await;
    let other = gateway.api.acting_for("acme");
    other.post("/v1/routes/try", &json!({ "route": route, "events": [event] })).await.expect_status(422);
    other.post("/v1/routes/try", &json!({ "recent": { "source": "line" } })).await.expect_status(422);
}
