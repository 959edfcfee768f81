//! send: `tidegate send` sends samples that are signed like those of providers, through the real edge and relay.

use std::process::Output;

use harness::gateway::{Gateway, Line};
use harness::provider::Provider;
use harness::tools;
use harness::wait::SOON;
use serde_json::{Value, json};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_stripe_and_github_are_accepted_and_delivered_and_a_wrong_secret_is_reported() {
    let gateway = Gateway::start().await;
    let stripe = gateway.line(Provider::stripe()).await;
    let github = Provider::github();
    let source = gateway.api.create_source("github", &github).await;
    gateway.api.create_route(&source.id, &stripe.destination.id, json!({})).await;

    // For Stripe, the command runs as on the machine of the relay and opens the secret itself. For GitHub, it runs as
    // on another machine, and the secret is given to it.
    let settings = gateway.relay.settings();
    let vault = ["DATABASE_URL", "TIDEGATE_MASTER_KEY"].map(|name| (name, settings.value(name)));
    let sent = send(&gateway, &["--source", "line", "--provider", "stripe"], &vault).await;
    is_delivered(&gateway, &stripe, 1, &sent, "payment_intent.succeeded").await;
    let secret = [("TIDEGATE_SOURCE_SECRET", github.secrets[0].as_str())];
    let arguments = ["--source", &source.id, "--type", "pull_request.opened", "--id", "my-delivery"];
    let sent = send(&gateway, &arguments, &secret).await;
    let event = is_delivered(&gateway, &stripe, 2, &sent, "pull_request.opened").await;
    assert_eq!(event["key"], "my-delivery");

    let refused = send(&gateway, &["--source", "github", "--secret", "another"], &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("check that you signed with the source's secret"), "{refused:?}");
    gateway.api.wait_for_row(&format!("/v1/rejections?source={}", source.id), SOON).await;

    let command = send(&gateway, &["--source", "github", "--dry-run"], &secret).await;
    assert!(command.status.success() && text(&command.stdout).starts_with("curl -i -X POST"), "{command:?}");
    assert!(text(&command.stdout).contains("x-hub-signature-256: sha256="), "{command:?}");
    assert_eq!(stripe.receiver.count(), 2, "neither the refused request nor the dry run was delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_sent_is_reported_with_a_remedy() {
    let gateway = Gateway::relay_only().await;
    let fal = json!({ "name": "fal", "provider": "fal", "config": { "user_id": "u" } });
    gateway.api.post("/v1/sources", &fal).await.expect_status(201);
    gateway.api.create_source("stripe", &Provider::stripe()).await;
    let (url, token) = (gateway.relay.url(), gateway.relay.token());
    for (arguments, code, expected) in [
        (&["--source", "fal"][..], 1, "fal.ai signs with a private key that only fal.ai has"),
        (&["--source", "stripe"], 1, "set TIDEGATE_SOURCE_SECRET"),
        (&["--source", "nobody"], 1, "no source \"nobody\""),
        (&["--source", "stripe", "--provider", "github"], 1, "omit --provider"),
        (&["--source", "stripe", "--provider", "strip"], 64, "known providers: stripe"),
        (
            &["--provider", "stripe", "--url", "http://127.0.0.1:9/in/a", "--secret", "a"],
            1,
            "cannot reach http://127.0.0.1:9",
        ),
    ] {
        let output = run(url, token, arguments, &[]).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains(expected), "{arguments:?}: {output:?}");
    }
}

/// The event that was sent, once it has been delivered as the `count`th.
async fn is_delivered(gateway: &Gateway, line: &Line, count: usize, sent: &Output, event_type: &str) -> Value {
    assert!(sent.status.success(), "{sent:?}");
    let shown = text(&sent.stdout);
    let id = shown.lines().find_map(|line| line.rsplit_once("/v1/events/")).expect("it prints the URL of the event").1;
    // The command has waited until the event is stored, so the next call already returns it.
    let events = gateway.api.get("/v1/events").await.expect_status(200);
    assert_eq!(events["data"][0]["id"], id, "{events}");
    let received = line.receiver.wait_for(count, SOON).await.remove(count - 1);
    assert_eq!(received.header("webhook-id"), id, "{shown}");
    let event = gateway.api.get(&format!("/v1/events/{id}")).await.expect_status(200);
    assert_eq!(event["type"], event_type, "{event}");
    event
}

async fn send(gateway: &Gateway, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    run(gateway.relay.url(), gateway.relay.token(), arguments, variables).await
}

async fn run(url: &str, token: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let program = tools::blocking(tools::relay).await.expect("builds");
    let mut command = Command::new(program);
    command.env_clear().env("TIDEGATE_URL", url).env("TIDEGATE_ADMIN_TOKEN", token);
    command.arg("send").args(arguments).envs(variables.iter().copied());
    command.output().await.expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
