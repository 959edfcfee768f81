//! request: the Worker as it is deployed, and the page that it shows in a browser.

use std::process::Command;

use harness::api::http_client;
use harness::gateway::Gateway;
use harness::provider::Provider;

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_can_be_deployed_and_is_small() {
    let folder = harness::place::temporary("package").expect("can be made");
    let said = harness::edge::package(&folder).await.expect("wrangler packages it");
    for binding in ["env.QUEUE", "env.SOURCES", "env.BODIES"] {
        assert!(said.contains(binding), "no {binding} in: {said}");
    }
    let mut compressed = 0;
    for entry in std::fs::read_dir(folder.join("out")).expect("reads") {
        let path = entry.expect("can be read").path();
        if path.extension().is_some_and(|kind| kind == "js" || kind == "wasm") {
            let gzip = Command::new("gzip").arg("-c").arg(&path).output().expect("gzip is installed");
            compressed += gzip.stdout.len();
        }
    }
    assert!((50_000..=600_000).contains(&compressed), "{compressed} bytes");
    std::fs::remove_dir_all(folder).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_an_explanation_and_a_monitor_gets_the_health() {
    let edge = Gateway::shared_edge().await;
    let source = edge.edge.put_source("browser", &Provider::github()).await;
    for url in [edge.edge.url(), &source.url] {
        let request = http_client().get(url).header("accept", "text/html,application/xhtml+xml");
        let response = request.send().await.expect("answers");
        assert_eq!(response.status(), 200, "{url}");
        let page = response.text().await.expect("reads");
        assert!(page.contains("webhook"), "{page}");
    }
    let health = edge.edge.health().await.expect("answers");
    assert_eq!(health["ok"], true);
    assert!(edge.events(&source).is_empty(), "a visit is not an event");
}
