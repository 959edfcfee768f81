//! verify: the quarantine of a source. Requests that fail verification are acknowledged, kept with the reason, and
//! released by an operator.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::api::{Source, http_client, id};
use harness::gateway::{Gateway, RelayOnly, drained};
use harness::provider::{Provider, SignedRequest, now_s};
use harness::wait::{SOON, until};
use serde_json::{Value, json};
use shared::id::EventId;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_quarantine_is_kept_with_the_reason_and_released_once_after_the_secret_is_corrected() {
    let gateway = Gateway::start().await;
    let (wrong, right) = (Provider::github(), Provider::github());
    let line = gateway.line(right.clone()).await;
    let put = async |provider: &Provider| {
        let source = json!({
            "provider": "github", "secrets": provider.secrets, "config": { "on_failure": "quarantine" },
        });
        gateway.api.put("/v1/sources/by-name/line", &source).await.expect_status(200);
    };
    put(&wrong).await;
    let request = right.sample("delivery-1");
    let answer = request.send(&http_client(), &line.source.ingest_url).await.expect("the edge answers");
    assert_eq!(answer.status(), 200, "the request is not lost if the provider does not resend it");

    let event = gateway.api.wait_for_row("/v1/events?verification=failed", SOON).await;
    // It was signed with the previous secret of the source.
    let detail = "the request was signed with a secret that has been removed from the source; add it again, or update \
                  the provider";
    let why = json!({ "cause": "secret_retired", "detail": detail });
    assert_eq!(event["failure"], why, "{event}");
    let path = format!("/v1/events/{}", id(&event));
    let show = async || gateway.api.get(&path).await.expect_status(200);
    let shown = show().await;
    assert_eq!((&shown["failure"], &shown["deliveries"]), (&why, &json!([])), "{shown}");
    let reason = "the signature does not match; check that the source has the provider's current secret";
    assert_eq!(shown["verification_now"], json!({ "outcome": "fails", "reason": reason }), "{shown}");

    put(&right).await;
    assert_eq!(show().await["verification_now"], json!({ "outcome": "verifies" }));
    let release = async || gateway.api.post(&format!("{path}/release"), &json!({})).await.expect_status(200);
    for _ in 0..2 {
        let released = release().await;
        assert_eq!((&released["verification"], &released["failure"]), (&json!("released"), &why), "{released}");
        assert_eq!(released["verification_now"]["outcome"], "verifies");
        assert_eq!(released["deliveries"].as_array().map(Vec::len), Some(1), "the second release makes no delivery");
    }
    let received = line.receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!(received.body, request.body.as_slice());
    received.verify(&line.destination.signing_secret).expect("it is signed like any other delivery");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_in_quarantine_shows_why_its_verification_failed() {
    let gateway = Gateway::start().await;
    let provider = Provider::stripe();
    let source = json!({
        "name": "reported", "provider": "stripe", "secrets": provider.secrets, "config": { "on_failure": "quarantine" },
    });
    let source = gateway.api.post("/v1/sources", &source).await.expect_status(201);
    let url = source["ingest_url"].as_str().expect("a URL");
    let good = provider.sample("evt_1");
    let requests: [(&str, SignedRequest); 4] = [
        ("header Stripe-Signature is missing", good.clone().without_header("stripe-signature")),
        ("the body was changed on its way", good.clone().with_body([good.body.as_slice(), b"\n"].concat())),
        ("the signature does not match", good.clone().with_body("{}")),
        (" s old; the tolerance is 300 s", provider.sign("evt_1", &good.body, now_s() - 412)),
    ];
    for (what, request) in &requests {
        assert_eq!(request.send(&http_client(), url).await.expect("answers").status(), 200, "{what}");
    }
    let events = gateway.api.wait_for_rows("/v1/events", requests.len(), SOON).await;
    for (what, _) in requests {
        let reported = |event: &&Value| event["failure"]["detail"].as_str().is_some_and(|detail| detail.contains(what));
        assert_eq!(events.iter().filter(reported).count(), 1, "{what}: {events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_release_each_quarantined_event_of_a_source_once_and_can_leave_forged_ones_behind() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("quarantined").await;
    // More than one chunk of a replay takes.
    let genuine: Vec<EventId> =
        (0..1_200).map(|number| quarantine(&gateway, &line.source, number, &line.provider)).collect();
    let forged: Vec<EventId> =
        (0..3).map(|number| quarantine(&gateway, &line.source, number, &Provider::standard_webhooks())).collect();
    gateway.push(&line.source, b"{\"verified\":true}");
    drained(&gateway.queue, SOON).await;
    line.receiver.wait_for(1, SOON).await;

    let release = async |more: Value| {
        let mut filter = json!({ "source": line.source.id, "verification": "failed" });
        filter.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        gateway.api.post("/v1/replays", &json!({ "filter": filter })).await.expect_status(201)
    };
    let (first, second) =
        tokio::join!(release(json!({ "verifies_now": true })), release(json!({ "verifies_now": true })));
    assert_eq!(first["matched"], 1_203);
    let created =
        async |replay: &Value| gateway.api.wait_for_replay(replay, SOON).await["created"].as_i64().expect("a number");
    assert_eq!(created(&first).await + created(&second).await, 1_200, "between them they release each event once");
    line.receiver.wait_for(1_201, SOON).await;

    let left: Vec<String> = ids(&gateway.api.all("/v1/events?verification=failed").await);
    assert_eq!(left.len(), forged.len(), "{left:?}");
    assert!(forged.iter().all(|id| left.contains(&id.to_string())), "{left:?}");
    assert_eq!(
        created(&release(json!({})).await).await,
        3,
        "a replay without verifies_now releases the forged ones, too"
    );
    assert_eq!(created(&release(json!({})).await).await, 0, "no event is left in quarantine");
    let received = line.receiver.wait_for(1_204, SOON).await;
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    received.iter().for_each(|request| *times.entry(request.header("webhook-id")).or_default() += 1);
    assert!(genuine.iter().chain(&forged).all(|id| times.get(id.to_string().as_str()) == Some(&1)), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_of_a_released_event_is_a_copy() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("repeated").await;
    let stranger = Provider::standard_webhooks();
    let released = [1, 2].map(|number| quarantine(&gateway, &line.source, number, &stranger));
    gateway.drained(SOON).await;
    gateway.api.post(&format!("/v1/events/{}/release", released[0]), &json!({})).await.expect_status(200);
    let filter = json!({ "source": line.source.id, "verification": "failed" });
    let replay = gateway.api.post("/v1/replays", &json!({ "filter": filter })).await.expect_status(201);
    gateway.api.wait_for_replay(&replay, SOON).await;
    line.receiver.wait_for(2, SOON).await;
    for number in [1, 2] {
        let request =
            line.provider.sign(&format!("msg_{number}"), format!("{{\"number\":{number}}}").as_bytes(), now_s());
        let headers: Vec<(&str, &str)> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        gateway.push_with(&line.source, &headers, &request.body);
    }
    gateway.drained(SOON).await;
    let events = gateway.api.all("/v1/events?source=repeated").await;
    assert_eq!(events.len(), 2, "{events:?}");
    for event in &events {
        assert_eq!((&event["verification"], &event["copies"]), (&json!("released"), &json!(1)), "{event}");
    }
    assert_eq!(line.receiver.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_releases_quarantined_events_can_only_use_their_routes() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("whole").await;
    for (field, request) in [
        ("filter.state", json!({ "filter": { "verification": "failed", "state": "dead" } })),
        ("filter.destination", json!({ "filter": { "verification": "failed", "destination": line.destination.id } })),
        ("destination", json!({ "filter": { "verification": "failed" }, "destination": line.destination.id })),
        ("filter.verifies_now", json!({ "filter": { "verifies_now": true } })),
    ] {
        let refused = gateway.api.post("/v1/replays", &request).await.expect_status(422);
        assert!(refused.to_string().contains(&format!("\"{field}\"")), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_failing_requests_is_kept_up_to_the_hourly_limit_and_does_not_affect_verified_events() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("flooded").await;
    let source = json!({
        "provider": line.provider.id,
        "config": { "on_failure": "quarantine", "quarantine": { "events_per_hour": 20 } },
    });
    gateway.api.put("/v1/sources/by-name/flooded", &source).await.expect_status(200);
    let reported =
        json!({ "name": "reported", "provider": "tidegate", "secrets": Provider::standard_webhooks().secrets });
    gateway.api.post("/v1/sources", &reported).await.expect_status(201);
    let mut database = gateway.database.connect().await.expect("connects");
    until("an hour that does not end during the test", Duration::from_secs(200), async || {
        let minute: f64 = sqlx::query_scalar("select extract(minute from now())::float8")
            .fetch_one(&mut gateway.database.connect().await.expect("connects"))
            .await
            .expect("reads");
        if minute < 58.0 { Ok(()) } else { Err(format!("it is minute {minute}")) }
    })
    .await;

    let stranger = Provider::standard_webhooks();
    for number in 0..120 {
        quarantine(&gateway, &line.source, number, &stranger);
        if number % 4 == 0 {
            gateway.push(&line.source, format!("{{\"verified\":{number}}}").as_bytes());
        }
    }
    drained(&gateway.queue, SOON).await;
    line.receiver.wait_for(30, SOON).await;
    let failed = async || gateway.api.all("/v1/events?source=flooded&verification=failed").await.len();
    let verified = async || gateway.api.all("/v1/events?source=flooded&verification=verified").await.len();
    assert_eq!((failed().await, verified().await), (20, 30));
    let rejections = gateway.api.all("/v1/rejections?source=flooded").await;
    assert_eq!(rejections.len(), 1, "one row for the hour: {rejections:?}");
    assert_eq!((&rejections[0]["cause"], &rejections[0]["count"]), (&json!("quarantine_full"), &json!(100)));
    let shown = gateway.api.get("/v1/sources/flooded").await.expect_status(200);
    let quarantine_of = |field: &str| shown["quarantine"][field].as_u64();
    assert_eq!(
        ["events_per_hour", "events", "rejected"].map(quarantine_of),
        [Some(20), Some(20), Some(100)],
        "{shown}"
    );
    let stats = gateway.api.get("/v1/stats?source=flooded&step=day").await.expect_status(200);
    let sum =
        |field: &str| stats["events"].as_array().map(|days| days.iter().filter_map(|day| day[field].as_i64()).sum());
    assert_eq!((sum("stored"), sum("rejected")), (Some(50), Some(100)), "{stats}");
    let reported = gateway.api.all("/v1/events?source=reported").await;
    assert_eq!(reported.len(), 1, "it is reported once: {reported:?}");
    assert_eq!(reported[0]["type"], "source.quarantine_full");

    sqlx::query("update quarantine_usage set hour = hour - interval '1 hour'")
        .execute(&mut database)
        .await
        .expect("moves the hour back");
    for number in 200..210 {
        quarantine(&gateway, &line.source, number, &stranger);
    }
    drained(&gateway.queue, SOON).await;
    assert_eq!((failed().await, gateway.api.all("/v1/rejections?source=flooded").await.len()), (30, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_verification_is_refused_if_its_body_is_larger_than_the_quarantine_keeps() {
    let edge = Gateway::bare_edge().await;
    let (provider, stranger) = (Provider::github(), Provider::github());
    let config = json!({ "on_failure": "quarantine", "quarantine": { "body_bytes": 50_000 } });
    let source = edge.edge.put_source_with("small", &provider, config).await;
    let send = async |signer: &Provider, size: usize| {
        let request = signer.sign("delivery", &vec![b'x'; size], now_s());
        request.send(&http_client(), &source.url).await.expect("answers").status().as_u16()
    };
    assert_eq!(send(&stranger, 50_000).await, 200, "kept");
    assert_eq!(send(&stranger, 50_001).await, 401);
    assert_eq!(send(&provider, 100_000).await, 200, "a verified body may be larger");
    let unsigned = async |size: usize| {
        let request = provider.sign("delivery", &vec![b'x'; size], now_s()).without_header("x-hub-signature-256");
        request.send(&http_client(), &source.url).await.expect("answers").status().as_u16()
    };
    assert_eq!((unsigned(1_000).await, unsigned(60_000).await, unsigned(1_000_000).await), (200, 401, 401));
    edge.wait_for_events(&source, 3).await;
}

/// Puts an event into the queue whose signature the edge has refused.
pub(crate) fn quarantine(gateway: &RelayOnly, source: &Source, number: u32, signer: &Provider) -> EventId {
    let body = format!("{{\"number\":{number}}}");
    let request = signer.sign(&format!("msg_{number}"), body.as_bytes(), now_s());
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    gateway.push_refused(source, headers, body.as_bytes())
}

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().filter_map(|event| event["id"].as_str().map(str::to_owned)).collect()
}
