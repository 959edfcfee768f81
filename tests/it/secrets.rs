//! verify: secrets of a source that were replaced, and responses that show secrets.

use harness::api::{http_client, id};
use harness::gateway::Gateway;
use harness::provider::Provider;
use harness::wait::SOON;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_signed_with_a_replaced_secret_is_refused_and_its_rejection_says_so() {
    let gateway = Gateway::start().await;
    let (old, new) = (Provider::github(), Provider::github());
    let line = gateway.line(old.clone()).await;
    let rotated = json!({ "provider": "github", "secrets": new.secrets });
    gateway.api.put("/v1/sources/by-name/line", &rotated).await.expect_status(200);

    let client = http_client();
    let send = async |provider: &Provider, id: &str| {
        provider.sample(id).send(&client, &line.source.ingest_url).await.expect("the edge answers").status().as_u16()
    };
    assert_eq!((send(&new, "1").await, send(&old, "2").await), (200, 401));
    let rejection = gateway.api.wait_for_row("/v1/rejections", SOON).await;
    assert_eq!(rejection["cause"], "secret_retired", "{rejection}");
    let detail = "the request was signed with a secret that has been removed from the source; add it again, or update \
                  the provider";
    assert_eq!(rejection["detail"], detail, "{rejection}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_four_replaced_secrets_are_kept_sealed_until_one_is_active_again() {
    let gateway = Gateway::relay_only().await;
    let path = "/v1/sources/by-name/rotated";
    let replace = async |secrets: Value| {
        let body = json!({ "provider": "github", "secrets": secrets });
        let reply = gateway.api.put(path, &body).await;
        let source = if reply.status == 201 { reply.expect_status(201) } else { reply.expect_status(200) };
        let at_edge = gateway.edge.sources().remove(id(&source)).expect("the edge has the source");
        (at_edge["secrets"].clone(), at_edge["retired_secrets"].clone())
    };
    assert_eq!(replace(json!(["first", "second"])).await, (json!(["first", "second"]), Value::Null));
    assert_eq!(replace(json!(["third"])).await.1, json!(["first", "second"]));
    assert_eq!(replace(json!(["fourth"])).await.1, json!(["third", "first", "second"]));
    assert_eq!(replace(json!(["fifth", "fourth"])).await.1, json!(["third", "first", "second"]));
    assert_eq!(replace(json!(["sixth"])).await.1, json!(["fifth", "fourth", "third", "first"]));
    assert_eq!(replace(json!(["third"])).await.1, json!(["sixth", "fifth", "fourth", "first"]));

    let mut database = gateway.database.connect().await.expect("connects");
    let sealed: String = sqlx::query_scalar("select retired_secrets_sealed from sources where name = 'rotated'")
        .fetch_one(&mut database)
        .await
        .expect("is present");
    assert!(sealed.starts_with("s1.") && !sealed.contains("sixth"), "{sealed}");
    let shown = gateway.api.get("/v1/sources/rotated").await.expect_status(200);
    assert_eq!(shown["secrets"].as_array().map(Vec::len), Some(1), "only the accepted secret is shown: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_that_show_a_secret_must_not_be_cached() {
    let gateway = Gateway::relay_only().await;
    gateway.api.create_destination("shown", "https://example.com/hooks", json!({})).await;
    let url = |path: &str| format!("{}{path}", gateway.relay.url());
    for path in ["/v1/destinations/shown/signing-secret", "/v1/destinations/shown", "/v1/destinations/nobody"] {
        let response = http_client().get(url(path)).bearer_auth(gateway.relay.token()).send().await.expect("answers");
        assert_eq!(response.headers().get("cache-control").expect("is present"), "no-store", "{path}");
    }
    let rotated = http_client().post(url("/v1/destinations/shown/signing-secret/rotate"));
    let rotated = rotated.bearer_auth(gateway.relay.token()).send().await.expect("answers");
    assert_eq!(rotated.status(), 200);
    assert_eq!(rotated.headers().get("cache-control").expect("is present"), "no-store");
}
