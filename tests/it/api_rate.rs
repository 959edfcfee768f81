//! api: how many requests a caller may make.

use harness::gateway::Gateway;
use harness::receiver::Receiver;
use harness::relay::Relay;
use reqwest::Method;
use serde_json::json;

/// The number after a key of a header such as `"caller";r=59;t=1`.
fn number(headers: &reqwest::header::HeaderMap, name: &str, key: &str) -> u64 {
    let text = headers[name].to_str().expect("a text");
    let value = text.split(';').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key} in {name}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_makes_too_many_requests_waits_and_others_do_not() {
    let gateway = Gateway::relay_only().await;
    let settings = gateway.relay.settings().clone().with("TIDEGATE_API_REQUESTS_PER_MINUTE", "60");
    let limited = Relay::start(settings.with("TIDEGATE_LISTEN", "127.0.0.1:0")).await.expect("starts");
    let first = gateway.api.limited_to(&["read"], None).await.at(limited.url());
    let other = gateway.api.limited_to(&["read"], None).await.at(limited.url());
    let mut accepted = 0;
    let (refused, headers) = loop {
        let (reply, headers) = first.call_with(Method::GET, "/v1/whoami", &[], None).await;
        assert_eq!((number(&headers, "ratelimit-policy", "q"), number(&headers, "ratelimit-policy", "w")), (60, 60));
        if reply.status != 200 {
            break (reply, headers);
        }
        accepted += 1;
        assert!(number(&headers, "ratelimit", "r") < 60, "{headers:?}");
        assert!(accepted < 1_000, "no request is refused");
    };
    // One more is accepted in each second that the requests take.
    assert!(accepted >= 60, "{accepted}");
    let wait = refused.retry_after.expect("a time");
    assert_eq!((number(&headers, "ratelimit", "r"), wait), (0, 1));
    assert_eq!(refused.expect_status(429)["code"], "too_many_requests");
    other.get("/v1/whoami").await.expect_status(200);
    // The other relay counts for itself.
    first.at(gateway.relay.url()).get("/v1/whoami").await.expect_status(200);
    // The limit concerns the API only, and a request that is refused changes nothing.
    let receiver = Receiver::start().await.expect("a receiver");
    let writer = gateway.api.limited_to(&["write"], None).await.at(limited.url());
    let body = json!({ "name": "one", "url": receiver.url() });
    while writer.get("/v1/whoami").await.status == 200 {}
    writer.post("/v1/destinations", &body).await.expect_status(429);
    gateway.api.get("/v1/destinations/one").await.expect_status(404);
}
