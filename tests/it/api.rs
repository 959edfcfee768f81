//! api: a change that cannot be read back at once, a database that is down, and a route by itself.

use harness::gateway::Gateway;
use harness::postgres::{Server, Shutdown};
use harness::wait::SOON;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_read_back_is_answered_with_202_and_becomes_active_automatically() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("stuck").await;
    let mut blocker = gateway.database.connect().await.expect("connects");
    for statement in ["begin", "lock table routes in access exclusive mode"] {
        sqlx::query(statement).execute(&mut blocker).await.expect("locks");
    }
    let path = format!("/v1/destinations/{}", line.destination.id);
    let saved = gateway.api.post(&format!("{path}/pause"), &json!({})).await.expect_status(202);
    assert_eq!(saved["state"], "paused");
    let stored = gateway.api.get(&path).await.expect_status(200);
    assert_eq!(stored["state"], "paused", "the change itself is stored");

    sqlx::query("rollback").execute(&mut blocker).await.expect("rolls back");
    gateway.push(&line.source, b"{}");
    gateway.api.wait_for_rows("/v1/deliveries?state=held", 1, SOON).await;
    assert_eq!(line.receiver.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_that_needs_the_database_is_answered_with_503_until_the_database_is_back() {
    let mut server = Server::start_private().await.expect("starts");
    let gateway = Gateway::relay_only_on_server(&server).await;
    gateway.line("away").await;
    server.stop(Shutdown::Fast).await.expect("stops");
    let mut calls = tokio::task::JoinSet::new();
    for path in ["/readyz", "/v1/sources", "/v1/destinations/away", "/v1/events", "/v1/deliveries", "/v1/replays"] {
        let api = gateway.api.clone();
        calls.spawn(async move { (path, api.get(path).await) });
    }
    for (path, reply) in calls.join_all().await {
        let problem = reply.expect_status(503);
        assert_eq!(
            (&problem["type"], &problem["code"]),
            (&json!("/problems/unavailable"), &json!("unavailable")),
            "{path}"
        );
    }
    gateway.api.get("/healthz").await.expect_status(200);
    server.start().await.expect("starts again");
    gateway.api.wait_for_status("/v1/sources", 200, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_can_be_read_and_deleted_by_its_id_and_its_deliveries_stay() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let other = gateway.api.create_destination("other", &line.receiver.url(), json!({})).await;
    let id = gateway.api.create_route("line", "other", json!({ "filter": "event.type == 'a.b'" })).await;
    let path = format!("/v1/routes/{id}");
    let route = gateway.api.get(&path).await.expect_status(200);
    let shown = |field: &str| route[field].as_str().unwrap_or_default().to_owned();
    assert_eq!((shown("id"), shown("source"), shown("source_id")), (id, "line".to_owned(), line.source.id.clone()));
    assert_eq!((shown("destination"), shown("destination_id")), ("other".to_owned(), other.id));
    assert_eq!((shown("filter"), &route["transform"]), ("event.type == 'a.b'".to_owned(), &Value::Null));

    gateway.push(&line.source, b"{\"type\":\"a.b\"}");
    line.receiver.wait_for(2, SOON).await;
    assert_eq!(gateway.api.delete(&path).await.status, 204);
    for reply in [gateway.api.get(&path).await, gateway.api.delete(&path).await] {
        assert_eq!(reply.expect_status(404)["code"], "not_found");
    }
    gateway.push(&line.source, b"{\"type\":\"a.b\",\"second\":true}");
    line.receiver.wait_for(3, SOON).await;
    gateway.drained(SOON).await;
    let deliveries = gateway.api.all("/v1/deliveries?destination=other").await;
    assert_eq!(deliveries.len(), 1, "the deliveries of the route stay, and it makes no more: {deliveries:?}");
    gateway.api.get("/v1/routes/not-an-id").await.expect_status(404);
}
