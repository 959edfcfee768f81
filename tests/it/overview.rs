//! overview: what happens now, what is wrong now with the call that helps, and the counts and health of a page of
//! objects.

use harness::gateway::{Gateway, drained};
use harness::provider::Provider;
use harness::receiver::{Behaviour, Receiver};
use harness::wait::SOON;
use serde_json::{Value, json};

/// The finding of a kind, if there is one.
fn finding<'v>(overview: &'v Value, kind: &str) -> Option<&'v Value> {
    overview["findings"].as_array().expect("findings").iter().find(|finding| finding["kind"] == kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_counts_what_happens_and_names_what_is_wrong_with_the_call_that_helps() {
    let gateway = Gateway::relay_only().await;
    let empty = gateway.api.get("/v1/overview").await.expect_status(200);
    assert_eq!((&empty["findings"], &empty["success_share"], &empty["sources"]), (&json!([]), &Value::Null, &json!(0)));

    let line = gateway.line("line").await;
    let refusing = Receiver::behaving(Behaviour::Status(404)).await.expect("a receiver");
    let retry = json!({ "retry": { "schedule_s": [0] } });
    let dead = gateway.api.create_destination("refusing", &refusing.url(), retry).await;
    let paused = gateway.api.create_destination("paused", &line.receiver.url(), json!({})).await;
    for destination in ["refusing", "paused"] {
        gateway.api.create_route("line", destination, json!({})).await;
    }
    gateway.api.pause("paused").await;
    let event = gateway.push(&line.source, br#"{"type":"paid"}"#);
    line.receiver.wait_for_events([event], SOON).await;
    gateway.api.wait_for_row("/v1/deliveries?state=dead", SOON).await;
    gateway.api.wait_for_row("/v1/deliveries?state=succeeded", SOON).await;
    drained(&gateway.queue, SOON).await;

    let overview = gateway
        .api
        .wait_until("the finding", "/v1/overview", SOON, |overview| finding(overview, "deliveries_dead").is_some());
    let overview = overview.await;
    assert_eq!(
        (&overview["sources"], &overview["destinations"], &overview["routes"]),
        (&json!(1), &json!(3), &json!(3))
    );
    assert_eq!((&overview["pending"], &overview["pending_and_more"]), (&json!(1), &json!(false)), "{overview}");
    assert_eq!(overview["success_share"], 0.5, "{overview}");
    assert!(overview["events_per_minute"].as_f64().is_some_and(|rate| rate > 0.0), "{overview}");
    assert!(overview["deliveries_per_minute"].as_f64().is_some_and(|rate| rate > 0.0), "{overview}");
    assert!(overview["delivered_within_p95_ms"].as_u64().is_some_and(|within| within < 60_000), "{overview}");
    let found = finding(&overview, "deliveries_dead").expect("a finding");
    assert_eq!((&found["count"], &found["next"]["path"]), (&json!(1), &json!("/v1/deliveries?state=dead")), "{found}");
    assert!(found["since"].is_string(), "{found}");
    let found = finding(&overview, "destination_paused").expect("a finding");
    assert_eq!((&found["count"], &found["subject"]["id"]), (&json!(1), &json!(paused.id)), "{found}");
    assert_eq!(found["detail"], "the destination paused is paused; 1 delivery waits for it", "{found}");
    let next = json!({ "method": "POST", "path": format!("/v1/destinations/{}/resume", paused.id) });
    assert_eq!(found["next"], next, "{found}");
    // The call that the finding names helps.
    gateway.api.post(next["path"].as_str().expect("a path"), &json!({})).await.expect_status(200);
    line.receiver.wait_for(2, SOON).await;
    gateway
        .api
        .wait_until("the finding", "/v1/overview", SOON, |overview| finding(overview, "destination_paused").is_none())
        .await;
    let failing = gateway
        .api
        .wait_until("the finding", "/v1/overview", SOON, |overview| finding(overview, "destination_failing").is_some());
    let failing = failing.await;
    let found = finding(&failing, "destination_failing").expect("a finding");
    assert_eq!(found["subject"], json!({ "id": dead.id, "name": "refusing" }), "{found}");

    // Another customer sees nothing of it.
    gateway.api.create_customer("acme").await;
    let other = gateway.api.acting_for("acme").get("/v1/overview").await.expect_status(200);
    assert_eq!((&other["findings"], &other["pending"], &other["destinations"]), (&json!([]), &json!(0), &json!(0)));
    assert_eq!(
        (&other["events_per_minute"], &other["delivered_within_p95_ms"]),
        (&json!(0.0), &Value::Null),
        "{other}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_and_quarantined_requests_and_a_source_that_the_edge_does_not_have_are_findings() {
    let gateway = Gateway::relay_only().await;
    let mut provider = Provider::standard_webhooks();
    provider.config["on_failure"] = "quarantine".into();
    let source = gateway.api.create_source("keeping", &provider).await;
    let number = source.id.trim_start_matches("src_").to_owned();
    let now_id =
        "(lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7000800000000000000' || n)::uuid";
    let rejection = format!(
        "insert into rejections (id, source_id, cause, detail, count, first_at, last_at, size, remote)
         select {now_id}, '{number}', 'signature_mismatch', 'the signature does not match', 7, now(), now(), 1, 'ipv4'
         from generate_series(1, 2) n"
    );
    gateway.database.run(&rejection).await;
    let quarantined = format!(
        "insert into events (id, customer_id, source_id, received_at, body_size, verification, method, query, headers,
                             failure_cause, failure_detail)
         select {now_id}, customer_id, id, now(), 0, 'failed', 'POST', '', '[]', 'signature_mismatch', 'no match'
         from sources, generate_series(1, 3) n where id = '{number}'"
    );
    gateway.database.run(&quarantined).await;
    gateway.database.run("update sources set edge_revision = revision - 1, edge_error = 'the edge is away'").await;
    let overview = gateway.api.get("/v1/overview").await.expect_status(200);
    let found = finding(&overview, "source_rejecting").expect("a finding");
    assert_eq!((&found["count"], &found["subject"]["name"]), (&json!(14), &json!("keeping")), "{found}");
    assert_eq!(found["next"]["path"], format!("/v1/rejections?source={}", source.id), "{found}");
    assert!(found["detail"].as_str().is_some_and(|text| text.contains("(signature_mismatch)")), "{found}");
    let found = finding(&overview, "events_quarantined").expect("a finding");
    assert_eq!((&found["count"], &found["next"]["path"]), (&json!(3), &json!("/v1/events?verification=failed")));
    let found = finding(&overview, "source_not_active").expect("a finding");
    assert!(found["detail"].as_str().is_some_and(|text| text.ends_with("the edge is away")), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counts_and_the_health_of_a_page_of_objects_come_in_one_call() {
    let gateway = Gateway::relay_only().await;
    let (one, other) = (gateway.line("one").await, gateway.line("other").await);
    for (line, count) in [(&one, 2), (&other, 1)] {
        let events: Vec<_> = (0..count).map(|_| gateway.push(&line.source, b"{}")).collect();
        line.receiver.wait_for_events(events, SOON).await;
    }
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 3, SOON).await;
    drained(&gateway.queue, SOON).await;
    gateway.api.pause("other").await;
    gateway.push(&other.source, b"{}");
    gateway.api.wait_for_row("/v1/deliveries?state=held", SOON).await;

    let ids = format!("{},{},{}", other.source.id, one.source.id, other.source.id);
    let stats = gateway.api.get(&format!("/v1/stats/sources?ids={ids}&step=day")).await.expect_status(200);
    let stored = |at: usize| {
        let events = stats["sources"][at]["events"].as_array().expect("events");
        events.iter().filter_map(|step| step["stored"].as_i64()).sum::<i64>()
    };
    assert_eq!(stats["sources"].as_array().map(Vec::len), Some(2), "{stats}");
    assert_eq!((&stats["sources"][0]["source_id"], stored(0), stored(1)), (&json!(other.source.id), 2, 2), "{stats}");

    let ids = format!("{},{}", one.destination.id, other.destination.id);
    let path = format!("/v1/stats/destinations?ids={ids}&step=day");
    let stats = gateway.api.get(&path).await.expect_status(200);
    let succeeded: Vec<_> = stats["destinations"]
        .as_array()
        .expect("destinations")
        .iter()
        .map(|found| found["deliveries"].as_array().expect("steps").iter().map(|step| step["succeeded"].as_i64()).sum())
        .collect::<Vec<Option<i64>>>();
    assert_eq!(succeeded, [Some(2), Some(1)], "{stats}");

    let health = gateway.api.get(&format!("/v1/destination-health?ids={ids}")).await.expect_status(200);
    let health = health["destinations"].as_array().expect("destinations").clone();
    for (found, line) in health.iter().zip([&one, &other]) {
        let mut single =
            gateway.api.get(&format!("/v1/destinations/{}/health", line.destination.id)).await.expect_status(200);
        let mut found = found.clone();
        // The owner may report between the two calls.
        for field in ["reported_at", "recent", "in_memory", "concurrency"] {
            single[field] = Value::Null;
            found[field] = Value::Null;
        }
        assert_eq!(found, single);
    }
    assert_eq!((&health[1]["state"], &health[1]["pending"]["count"]), (&json!("paused"), &json!(1)), "{health:?}");

    // What another customer owns does not exist.
    gateway.api.create_customer("acme").await;
    let stranger = gateway.api.acting_for("acme");
    let stats = stranger.get(&path).await.expect_status(200);
    assert!(
        stats["destinations"].as_array().expect("rows").iter().all(|row| row["deliveries"] == json!([])),
        "{stats}"
    );
    let health = stranger.get(&format!("/v1/destination-health?ids={ids}")).await.expect_status(200);
    assert_eq!(health["destinations"], json!([]));
    for (path, field) in [
        ("/v1/stats/sources?ids=one".to_owned(), "ids"),
        (format!("/v1/stats/sources?ids={}", one.destination.id), "ids"),
        (
            format!("{path}&from=2026-01-01T00:00:00Z&to=2026-01-31T00:00:00Z&step=hour").replace("&step=day", ""),
            "step",
        ),
        (format!("/v1/destination-health?ids={}", one.destination.id.clone() + ",x"), "ids"),
    ] {
        let problem = gateway.api.get(&path).await.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], field, "{path}: {problem}");
    }
}
