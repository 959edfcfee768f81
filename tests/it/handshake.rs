//! verify: the handshakes with which providers check a URL or hand over a secret, and the catalogue.

use harness::api::{http_client, id};
use harness::gateway::Gateway;
use harness::mac::hmac_sha256;
use harness::wait::{SOON, until};
use serde_json::{Value, json};

const SECRET: &str = "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81";

fn signature(secret: &str, body: &str) -> String {
    hex::encode(hmac_sha256(secret.as_bytes(), &[body.as_bytes()]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_a_provider_hands_over_becomes_active_at_the_edge_and_cannot_be_planted_later() {
    let gateway = Gateway::start().await;
    let client = http_client();
    let made =
        gateway.api.post("/v1/sources", &json!({ "name": "tasks", "provider": "asana" })).await.expect_status(201);
    let url = made["ingest_url"].as_str().expect("a URL").to_owned();
    let hand_over = async |secret: &str| {
        let answer =
            client.post(&url).header("x-hook-secret", secret).body("{}").send().await.expect("the edge answers");
        let echoed = answer.headers().get("x-hook-secret").map(|value| value.to_str().expect("text").to_owned());
        (answer.status().as_u16(), echoed)
    };
    assert_eq!(hand_over(SECRET).await, (200, Some(SECRET.to_owned())));

    let path = format!("/v1/sources/{}", id(&made));
    let is_known = |source: &Value| source["secrets"].as_array().is_some_and(|secrets| secrets.len() == 1);
    gateway
        .api
        .wait_until("the secret to be active", &path, SOON, |source| is_known(source) && source["edge"] == "active")
        .await;
    let body = "{\"events\":[{\"action\":\"added\",\"resource\":{\"resource_type\":\"task\"}}]}";
    until("an event to be verified with it", SOON, async || {
        let request = client.post(&url).header("x-hook-signature", signature(SECRET, body)).body(body);
        let status = request.send().await.map_err(|error| error.to_string())?.status();
        if status == 200 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    until("the event to be stored", SOON, async || {
        let events = gateway.api.all("/v1/events").await;
        match events.as_slice() {
            [event] if event["verification"] == "verified" && event["type"] == "task.added" => Ok(()),
            _ => Err(format!("{events:?}")),
        }
    })
    .await;

    assert_eq!(hand_over("another secret that a stranger made up").await, (401, None));
    assert_eq!(
        hand_over(SECRET).await,
        (200, Some(SECRET.to_owned())),
        "a repeated handshake of Asana gets the same response"
    );
    let planted = signature("another secret that a stranger made up", body);
    let forged = client.post(&url).header("x-hook-signature", planted).body(body).send().await.expect("answers");
    assert_eq!(forged.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_handed_over_crosses_the_queue_sealed_and_only_the_relay_can_have_it_opened() {
    let edge = Gateway::shared_edge().await;
    let source = edge.edge.put_source_of("sealed", "asana", &[], &json!({})).await;
    let sent =
        http_client().post(&source.url).header("x-hook-secret", SECRET).body("{}").send().await.expect("answers");
    assert_eq!(sent.status(), 200);
    let sealed = until("the secret to be in the queue", SOON, async || {
        let messages = edge.queue.messages();
        assert!(
            messages.iter().all(|message| !String::from_utf8_lossy(&message.body).contains(SECRET)),
            "the secret is in the queue in plain text"
        );
        let mut handed_over = edge.secrets(&source);
        handed_over.pop().ok_or_else(|| format!("{} messages", messages.len()))
    })
    .await;

    let open = async |token: &str, id: &str, sealed: &str| {
        let url = format!("{}/admin/handed-over/{id}", edge.edge.url());
        let answer = http_client().post(url).bearer_auth(token).body(sealed.to_owned()).send().await.expect("answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let (token, id) = (edge.edge.admin_token(), source.id.to_string());
    assert_eq!(open(token, &id, &sealed).await, (200, SECRET.to_owned()));
    assert_eq!(open("another token", &id, &sealed).await.0, 401);
    let other = edge.edge.put_source_of("sealed-other", "asana", &[], &json!({})).await;
    assert_eq!(open(token, &other.id.to_string(), &sealed).await.0, 422, "it is sealed for its source");
    assert_eq!(open(token, &id, "s1.00000000.AAAA").await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_that_notion_hands_over_is_kept_for_the_customer_to_paste_and_verifies_later_requests() {
    let gateway = Gateway::start().await;
    let client = http_client();
    let made =
        gateway.api.post("/v1/sources", &json!({ "name": "pages", "provider": "notion" })).await.expect_status(201);
    let url = made["ingest_url"].as_str().expect("a URL").to_owned();
    let token = format!("secret_{}", &SECRET[..43]);
    let hand_over = json!({ "verification_token": token }).to_string();
    let event = r#"{"id":"367cba44-b6f3-4c92-81e7-6a2e9659efd4","type":"page.created"}"#;
    let post = async |signer: &str, body: &str| {
        let request = client.post(&url).header("x-notion-signature", format!("sha256={}", signature(signer, body)));
        request.body(body.to_owned()).send().await.expect("the edge answers").status().as_u16()
    };
    assert_eq!(post(&token, event).await, 503, "no request can be verified before the token has arrived");
    let answer = client.post(&url).body(hand_over.clone()).send().await.expect("the edge answers");
    assert_eq!(answer.status(), 200);

    until("an event to be verified with the token", SOON, async || match post(&token, event).await {
        200 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    let events = gateway.api.wait_for_rows("/v1/events", 2, SOON).await;
    let (verified, kept) = (&events[0], &events[1]);
    assert_eq!((&verified["verification"], &verified["type"]), (&json!("verified"), &json!("page.created")));
    assert_eq!((&kept["verification"], &kept["failure"]["cause"]), (&json!("failed"), &json!("secret_awaited")));
    let body = gateway.api.bytes(&format!("/v1/events/{}/body", id(kept))).await;
    assert_eq!(String::from_utf8_lossy(&body), hand_over, "the customer reads the token there");

    assert_eq!(post("another token", event).await, 401);
    let another = json!({ "verification_token": "secret_that_a_stranger_made_up" }).to_string();
    assert_eq!(client.post(&url).body(another).send().await.expect("answers").status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_is_served_as_a_list_and_entry_by_entry() {
    let gateway = Gateway::relay_only().await;
    let all = gateway.api.all("/v1/providers").await;
    assert_eq!(all.len(), shared::provider::catalogue().len());
    assert_eq!(gateway.api.get("/v1/providers/stripe").await.expect_status(200), all[0]);
    gateway.api.get("/v1/providers/nobody").await.expect_status(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cloudevents_handshake_is_answered_only_if_it_is_configured_and_the_token_is_not_kept() {
    let edge = Gateway::shared_edge().await;
    let secrets = [SECRET.to_owned()];
    let handshake = json!({ "handshake": "cloudevents" });
    let configured = edge.edge.put_source_of("cloudevents", "token", &secrets, &handshake).await;
    let not_configured = edge.edge.put_source_of("cloudevents-silent", "token", &secrets, &json!({})).await;
    let azure = edge.edge.put_source_of("azure", "azure-event-grid", &secrets, &json!({})).await;
    let options = async |url: &str| {
        let request = http_client().request(reqwest::Method::OPTIONS, url);
        let request = request.header("webhook-request-origin", "eventgrid.azure.net");
        let answer = request.header("webhook-request-rate", "120").send().await.expect("the edge answers");
        let header = |name| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        (answer.status().as_u16(), header("webhook-allowed-origin"), header("webhook-allowed-rate"), header("allow"))
    };
    let some = |text: &str| Some(text.to_owned());
    let allowed = (200, some("eventgrid.azure.net"), some("*"), some("POST"));
    let with_token = format!("{}?code={SECRET}", azure.url);
    for url in [&configured.url, &azure.url, &with_token] {
        assert_eq!(options(url).await, allowed, "{url}");
    }
    let (_, origin, rate, _) = options(&not_configured.url).await;
    assert_eq!((origin, rate), (None, None), "no permission without the setting");

    let post = async |url: &str, kind: &str, body: Value| {
        let request = http_client().post(url).header("aeg-event-type", kind).json(&body);
        let answer = request.send().await.expect("the edge answers");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let validation = json!([{
        "id": "1", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": { "validationCode": "512d38b6" },
    }]);
    let answered = post(&azure.url, "SubscriptionValidation", validation).await;
    assert_eq!(answered, (200, json!({ "validationResponse": "512d38b6" })));
    let event = json!([{ "id": "2", "eventType": "Microsoft.Storage.BlobCreated", "data": {} }]);
    assert_eq!(post(&azure.url, "Notification", event.clone()).await.0, 401);
    assert_eq!(post(&with_token, "Notification", event).await.0, 200);
    let (header, _) = edge.wait_for_events(&azure, 1).await.remove(0);
    assert_eq!(header.query, "code=redacted");
    for source in [&configured, &not_configured] {
        assert!(edge.events(source).is_empty(), "a handshake is not an event");
    }
}
