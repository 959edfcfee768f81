//! route: names of routes, by which every call finds them.

use harness::api::id;
use harness::gateway::Gateway;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_created_replaced_changed_and_deleted_by_its_name() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let line = gateway.line("line").await;
    api.create_destination("other", &line.receiver.url(), json!({})).await;
    let put = "/v1/routes/by-name/paid";
    let problem = api.put(put, &json!({ "filter": "true" })).await.expect_status(422);
    let fields: Vec<&Value> =
        problem["errors"].as_array().expect("errors").iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["source", "destination"]);
    let whole = json!({ "source": "line", "destination": "other", "filter": "event.type == 'paid'" });
    let made = api.put(put, &whole).await.expect_status(201);
    assert_eq!(
        (&made["name"], &made["source"], &made["destination"]),
        (&json!("paid"), &json!("line"), &json!("other"))
    );
    let replaced = api.put(put, &json!({ "types": ["paid"] })).await.expect_status(200);
    assert_eq!((id(&replaced), &replaced["dropped"]), (id(&made), &json!(["filter"])));
    api.put(put, &json!({ "destination": "line" })).await.expect_status(422);
    api.put(put, &json!({ "name": "unpaid" })).await.expect_status(422);
    let changed = api.patch("/v1/routes/paid", &json!({ "enabled": false })).await.expect_status(200);
    assert_eq!((id(&changed), &changed["enabled"]), (id(&made), &json!(false)));
    assert_eq!(
        api.get("/v1/routes/paid").await.expect_status(200),
        api.get(&format!("/v1/routes/{}", id(&made))).await.body
    );
    assert_eq!(api.all("/v1/routes?name=paid").await.len(), 1);
    assert_eq!(api.all("/v1/routes?name=unpaid").await.len(), 0);
    let audit = api.all(&format!("/v1/audit?object={}", id(&made))).await;
    assert!(audit.iter().all(|entry| entry["object_name"] == "paid"), "{audit:?}");
    api.delete("/v1/routes/paid").await.expect_status(204);
    api.get("/v1/routes/paid").await.expect_status(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_belongs_to_one_route_of_a_customer_and_can_be_given_changed_and_taken_away() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let line = gateway.line("line").await;
    for name in ["second", "third"] {
        api.create_destination(name, &line.receiver.url(), json!({})).await;
    }
    let first = api.all("/v1/routes").await.remove(0);
    assert_eq!(first["name"], Value::Null);
    let second = json!({ "name": "a", "source": "line", "destination": "second" });
    api.post("/v1/routes", &second).await.expect_status(201);
    let taken = json!({ "name": "a", "source": "line", "destination": "third" });
    assert_eq!(api.post("/v1/routes", &taken).await.expect_status(409)["code"], "name_taken");
    let path = format!("/v1/routes/{}", id(&first));
    assert_eq!(api.patch(&path, &json!({ "name": "a" })).await.expect_status(409)["code"], "name_taken");
    assert_eq!(api.put(&path, &json!({ "name": "a" })).await.expect_status(409)["code"], "name_taken");
    assert_eq!(api.patch(&path, &json!({ "name": "b" })).await.expect_status(200)["name"], "b");
    // A replacement keeps the name, as it keeps the source and the destination.
    assert_eq!(api.put(&path, &json!({})).await.expect_status(200)["name"], "b");
    assert_eq!(api.patch("/v1/routes/b", &json!({ "name": null })).await.expect_status(200)["name"], Value::Null);
    api.get("/v1/routes/b").await.expect_status(404);
    let twice = json!({ "source": "line", "destination": "second" });
    assert_eq!(api.put("/v1/routes/by-name/c", &twice).await.expect_status(409)["code"], "route_exists");
    for wrong in ["rte_1", "Upper", "", "src_1"] {
        let problem = api.patch(&path, &json!({ "name": wrong })).await.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], "name", "{wrong}");
    }
    // Another customer has names of its own.
    api.create_customer("acme").await;
    let acme = api.acting_for("acme");
    acme.get("/v1/routes/a").await.expect_status(404);
    acme.delete("/v1/routes/a").await.expect_status(404);
    api.post("/v1/deliveries/release", &json!({ "route": "a" })).await.expect_status(200);
    api.post("/v1/deliveries/release", &json!({ "route": "nobody" })).await.expect_status(422);
}
