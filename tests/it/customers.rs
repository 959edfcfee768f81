//! customers: their names, their limits, for whom an operator acts, and where the edge finds their sources.

use harness::api::{Api, http_client, id};
use harness::gateway::Gateway;
use harness::provider::Provider;
use harness::wait::{SOON, until};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn customers_are_created_changed_and_limited() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let made = api.post("/v1/customers", &json!({ "name": "acme", "max_sources": 1 })).await.expect_status(201);
    assert_eq!(
        (&made["name"], &made["max_sources"], &made["max_destinations"]),
        (&json!("acme"), &json!(1), &Value::Null)
    );
    assert_eq!(api.get("/v1/customers/acme").await.expect_status(200), made);
    assert_eq!(api.get(&format!("/v1/customers/{}", id(&made))).await.expect_status(200), made);
    let names: Vec<Value> = api.all("/v1/customers").await.iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["acme", "default"]);
    assert_eq!(api.post("/v1/customers", &json!({ "name": "acme" })).await.expect_status(409)["code"], "name_taken");
    for bad in ["cus_1", "src_1", "*", "Acme", ""] {
        api.post("/v1/customers", &json!({ "name": bad })).await.expect_status(422);
    }

    let acme = api.acting_for("acme");
    acme.create_source("one", &Provider::standard_webhooks()).await;
    let second = json!({ "provider": "github", "secrets": ["a secret that is long enough"] });
    let mut named = second.clone();
    named["name"] = "two".into();
    for full in [acme.post("/v1/sources", &named).await, acme.put("/v1/sources/by-name/two", &second).await] {
        let problem = full.expect_status(409);
        assert_eq!(problem["code"], "source_limit", "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("max_sources")), "{problem}");
    }
    acme.put("/v1/sources/by-name/one", &second).await.expect_status(200);
    let limits = json!({ "max_sources": null, "max_destinations": 0 });
    let changed = api.patch("/v1/customers/acme", &limits).await.expect_status(200);
    assert_eq!((&changed["max_sources"], &changed["max_destinations"]), (&Value::Null, &json!(0)));
    acme.put("/v1/sources/by-name/two", &second).await.expect_status(201);
    let url = json!({ "url": "http://127.0.0.1:9999/" });
    assert_eq!(acme.put("/v1/destinations/by-name/a", &url).await.expect_status(409)["code"], "destination_limit");
    let replaced = api.put("/v1/customers/by-name/acme", &json!({})).await.expect_status(200);
    assert_eq!((&replaced["max_destinations"], id(&replaced)), (&Value::Null, id(&made)));
    acme.put("/v1/destinations/by-name/a", &url).await.expect_status(201);
    api.put("/v1/customers/by-name/new", &json!({})).await.expect_status(201);
    assert_eq!(
        api.patch("/v1/customers/new", &json!({ "name": "acme" })).await.expect_status(409)["code"],
        "name_taken"
    );

    let problem = api.patch("/v1/customers/default", &json!({ "name": "main" })).await.expect_status(409);
    assert_eq!(problem["code"], "default_customer");
    api.patch("/v1/customers/default", &json!({ "max_sources": 100 })).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sources_that_are_created_at_the_same_time_keep_the_limit() {
    let gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    gateway.api.put("/v1/customers/by-name/acme", &json!({ "max_destinations": 3 })).await.expect_status(201);
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..12 {
        let base = if number % 2 == 0 { gateway.relay.url() } else { replica.url() };
        let acme = gateway.api.acting_for("acme").at(base);
        let path = format!("/v1/destinations/by-name/d{number}");
        calls.spawn(async move { acme.put(&path, &json!({ "url": "http://127.0.0.1:9999/" })).await.status });
    }
    let mut statuses = calls.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [[201; 3].as_slice(), &[409; 9]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_acts_for_one_customer_and_lists_of_all_say_whose_each_row_is() {
    let gateway = Gateway::relay_only().await;
    let customer = gateway.api.create_customer("acme").await;
    let acme = gateway.api.acting_for("acme");
    let (own, theirs) = (gateway.line("shop").await, acme.create_source("shop", &Provider::standard_webhooks()).await);
    acme.create_destination("shop", &own.receiver.url(), json!({})).await;
    acme.create_route("shop", "shop", json!({})).await;
    assert_ne!(own.source.id, theirs.id, "names are unique for a customer only");
    gateway.push(&own.source, b"{\"of\":\"default\"}");
    gateway.push(&theirs, b"{\"of\":\"acme\"}");
    for api in [&gateway.api, &acme] {
        api.wait_for_rows("/v1/deliveries?state=succeeded", 1, SOON).await;
        api.post("/v1/replays", &json!({ "filter": { "source": "shop" } })).await.expect_status(201);
    }
    for (named, source) in [("acme", &theirs), (&customer, &theirs), ("default", &own.source)] {
        for reply in [
            gateway.api.acting_for(named).get("/v1/sources/shop").await,
            gateway.api.get(&format!("/v1/sources/shop?customer={named}")).await,
        ] {
            assert_eq!(id(&reply.expect_status(200)), source.id, "{named}");
        }
    }
    gateway.api.acting_for("acme").get("/v1/sources?customer=default").await.expect_status(422);
    let problem = gateway.api.acting_for("nobody").get("/v1/sources").await.expect_status(422);
    assert_eq!(problem["errors"][0]["field"], "customer", "{problem}");

    for list in ["events", "deliveries", "sources", "destinations", "routes", "replays"] {
        let all = gateway.api.all(&format!("/v1/{list}?customer=*&limit=1")).await;
        let customers: Vec<&str> = all.iter().filter_map(|row| row["customer"].as_str()).collect();
        assert_eq!(customers.len(), all.len(), "{list}: {all:?}");
        for wanted in ["acme", "default"] {
            assert!(customers.contains(&wanted), "{list}: {customers:?}");
        }
        let own = gateway.api.all(&format!("/v1/{list}")).await;
        assert!(own.len() < all.len() && own.iter().all(|row| row.get("customer").is_none()), "{list}: {own:?}");
    }
    gateway.api.acting_for("*").get("/v1/rejections").await.expect_status(200);
    let by_id = gateway.api.all(&format!("/v1/events?customer=*&source={}", theirs.id)).await;
    assert_eq!((by_id.len(), &by_id[0]["customer"]), (1, &json!("acme")));
    for (path, field) in
        [("/v1/events?source=shop", "source"), ("/v1/sources/shop", "customer"), ("/v1/stats", "customer")]
    {
        let problem = gateway.api.acting_for("*").get(path).await.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let new = json!({ "name": "all", "url": "http://127.0.0.1:9999/" });
    gateway.api.acting_for("*").post("/v1/destinations", &new).await.expect_status(422);
    for path in ["/v1/providers", "/v1/customers", "/v1/tokens", "/v1/whoami", "/v1/unreadable-messages"] {
        gateway.api.acting_for("acme").get(path).await.expect_status(422);
        gateway.api.get(&format!("{path}?customer=acme")).await.expect_status(422);
    }
}

/// Sends an event of a provider to a URL of the edge, until the answer has this status.
async fn wait_for_answer(url: &str, provider: &Provider, status: u16) {
    let client = http_client();
    until(&format!("{url} to answer {status}"), SOON, async || {
        match provider.sample("probe").send(&client, url).await.expect("answers").status().as_u16() {
            answered if answered == status => Ok(()),
            answered => Err(format!("it answers {answered}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_finds_a_source_by_its_id_and_by_the_names_of_its_customer_and_itself() {
    let gateway = Gateway::start().await;
    gateway.api.create_customer("acme").await;
    let provider = Provider::standard_webhooks();
    let create = async |api: &Api| {
        let source = api.create_source("shop", &provider).await;
        api.wait_until("the source to be active", "/v1/sources/shop", SOON, |source| source["edge"] == "active").await;
        source
    };
    let acme = gateway.api.acting_for("acme");
    let (own, theirs) = (create(&gateway.api).await, create(&acme).await);
    let edge = gateway.edge.url();
    let client = http_client();
    for (number, (url, api, source)) in [
        (own.ingest_url.clone(), &gateway.api, &own),
        (format!("{edge}/in/shop"), &gateway.api, &own),
        (theirs.ingest_url.clone(), &acme, &theirs),
        (format!("{edge}/in/acme/shop"), &acme, &theirs),
    ]
    .into_iter()
    .enumerate()
    {
        let before = api.all("/v1/events").await.len();
        let sent = provider.sample(&format!("event-{number}")).send(&client, &url).await.expect("answers");
        assert_eq!(sent.status(), 200, "{url}");
        let events = api.wait_for_rows("/v1/events", before + 1, SOON).await;
        assert_eq!(events[0]["source_id"], source.id, "{url}");
    }
    for nowhere in ["in/default/shop", "in/other/shop", "in/acme", "in/acme/shop/more"] {
        wait_for_answer(&format!("{edge}/{nowhere}"), &provider, 404).await;
    }

    let renamed = gateway.api.patch("/v1/customers/acme", &json!({ "name": "acme-2" })).await.expect_status(200);
    assert_eq!(renamed["name"], "acme-2");
    let renamed = gateway.api.acting_for("acme-2");
    renamed
        .wait_until("the new name to be active", "/v1/sources/shop", SOON, |source| source["edge"] == "active")
        .await;
    wait_for_answer(&format!("{edge}/in/acme-2/shop"), &provider, 200).await;
    wait_for_answer(&theirs.ingest_url, &provider, 200).await;
    wait_for_answer(&format!("{edge}/in/acme/shop"), &provider, 404).await;
    gateway.api.acting_for("acme").get("/v1/sources").await.expect_status(422);
}
