//! filters: lists of events by what became of their deliveries, and of deliveries by their route and their last status.

use harness::api::{Api, id};
use harness::gateway::Gateway;
use harness::receiver::{Behaviour, Receiver};
use harness::wait::SOON;
use serde_json::json;

/// The ids of a list.
async fn ids(api: &Api, path: &str) -> Vec<String> {
    api.all(path).await.iter().map(|row| id(row).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_found_by_what_became_of_their_deliveries() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let line = gateway.line("line").await;
    let refusing = Receiver::behaving(Behaviour::Status(503)).await.expect("a receiver");
    api.create_destination("refusing", &refusing.url(), json!({ "retry": { "schedule_s": [0] } })).await;
    let route = api.all("/v1/routes").await.remove(0);
    let filter = json!({ "filter": "body.wanted" });
    api.patch(&format!("/v1/routes/{}", id(&route)), &filter).await.expect_status(200);
    let failing = api.create_route("line", "refusing", json!({ "name": "failing", "filter": "body.fails" })).await;

    let good = gateway.push(&line.source, br#"{"wanted":true,"fails":false}"#).to_string();
    let dead = gateway.push(&line.source, br#"{"wanted":true,"fails":true}"#).to_string();
    let none = gateway.push(&line.source, br#"{"wanted":false,"fails":false}"#).to_string();
    api.wait_for_rows("/v1/deliveries?state=dead", 1, SOON).await;
    api.wait_for_rows("/v1/deliveries?state=succeeded", 2, SOON).await;
    api.wait_for_rows("/v1/events", 3, SOON).await;
    assert_eq!(ids(api, "/v1/events?deliveries=unmatched").await, [none.as_str()]);
    assert_eq!(ids(api, "/v1/events?deliveries=any_dead").await, [dead.as_str()]);
    assert_eq!(ids(api, "/v1/events?deliveries=any_dead&source=line").await, [dead.as_str()]);
    assert_eq!(ids(api, &format!("/v1/events?deliveries=unmatched&key={good}")).await, Vec::<String>::new());
    api.get("/v1/events?deliveries=some").await.expect_status(422);

    // A delivery that waits is one.
    gateway.api.pause("line").await;
    let waiting = gateway.push(&line.source, br#"{"wanted":true,"fails":false}"#).to_string();
    api.wait_for_rows("/v1/deliveries?state=held", 1, SOON).await;
    assert_eq!(ids(api, "/v1/events?deliveries=unmatched").await, [none.as_str()]);

    // Deliveries by their route and by the status of their last attempt.
    let of_failing = ids(api, "/v1/deliveries?route=failing").await;
    assert_eq!((of_failing.len(), &of_failing), (1, &ids(api, &format!("/v1/deliveries?route={failing}")).await));
    assert_eq!(ids(api, &format!("/v1/deliveries?route={}", id(&route))).await.len(), 3);
    assert_eq!(ids(api, "/v1/deliveries?status_class=5xx").await, of_failing);
    assert_eq!(ids(api, "/v1/deliveries?status_class=2xx").await.len(), 2);
    assert_eq!(ids(api, "/v1/deliveries?status_class=2xx&route=failing").await.len(), 0);
    assert_eq!(ids(api, "/v1/deliveries?status_class=4xx").await.len(), 0);
    assert_eq!(ids(api, &format!("/v1/deliveries?status_class=5xx&event={dead}")).await, of_failing);
    assert_eq!(ids(api, &format!("/v1/deliveries?status_class=5xx&event={waiting}")).await.len(), 0);
    for wrong in ["status_class=6xx", "status_class=500", "route=nobody", "status=500"] {
        api.get(&format!("/v1/deliveries?{wrong}")).await.expect_status(422);
    }
    // By pages of one.
    let pages = ids(api, "/v1/deliveries?status_class=2xx&limit=1").await;
    assert_eq!(pages, ids(api, "/v1/deliveries?status_class=2xx").await);
    // A deleted route is still found by its id.
    api.delete("/v1/routes/failing").await.expect_status(204);
    assert_eq!(ids(api, &format!("/v1/deliveries?route={failing}")).await, of_failing);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_in_quarantine_has_not_been_routed_and_is_not_one_that_matched_nothing() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let line = gateway.line("line").await;
    let route = api.all("/v1/routes").await.remove(0);
    api.delete(&format!("/v1/routes/{}", id(&route))).await.expect_status(204);
    let event = gateway.push(&line.source, b"{}").to_string();
    api.wait_for_rows("/v1/events", 1, SOON).await;
    assert_eq!(ids(api, "/v1/events?deliveries=unmatched").await, [event.as_str()]);
    gateway
        .database
        .run("update events set verification = 'failed', failure_cause = 'no_signature', failure_detail = 'x'")
        .await;
    assert_eq!(ids(api, "/v1/events?deliveries=unmatched").await, Vec::<String>::new());
}
