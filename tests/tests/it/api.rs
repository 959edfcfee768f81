//! api: callers who come at the same time, and a database that is away.

use std::time::Duration;

use serde_json::json;
use tests::gateway::Gateway;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_puts_the_same_name_at_the_same_time_is_answered_with_success() {
    let gateway = Gateway::relay_only().await;
    let source = json!({ "provider": "github", "secrets": ["It's a Secret to Everybody"] });
    let destination = json!({ "url": "http://127.0.0.1:9009/hook" });
    for (kind, wanted) in [("sources", source), ("destinations", destination)] {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (api, wanted) = (gateway.api.clone(), wanted.clone());
            calls.spawn(async move { api.put(&format!("/v1/{kind}/by-name/shared"), &wanted).await });
        }
        let replies = calls.join_all().await;
        let made = replies.iter().filter(|reply| reply.status == 201).count();
        let changed = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!((made, changed), (1, 7), "{replies:?}");
        assert_eq!(gateway.api.all(&format!("/v1/{kind}")).await.len(), 1);
    }
}
