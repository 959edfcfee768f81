//! Replicate and fal.ai: their APIs take a job with a webhook, and send its result there when it has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::body::Body;
use harness::api::http_client;
use harness::edge::EdgeSettings;
use harness::gateway::Gateway;
use harness::internet::Internet;
use harness::provider::{KeySetServer, Provider, SignedRequest, now_s};
use harness::relay::RelaySettings;
use harness::server::{Answer, Cut, Server};
use harness::wait::{SOON, until};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{Reader, rows, run, with_free_port};

/// The hosts of their APIs.
const HOSTS: [&str; 2] = ["api.replicate.com", "queue.fal.run"];

/// The two providers.
struct Providers {
    replicate: Provider,
    fal: Provider,
    jobs: AtomicUsize,
    /// Whether jobs end after the response to their call, each as soon as `ends` has a permit. Otherwise they end before.
    ends_later: AtomicBool,
    ends: Arc<Semaphore>,
}

impl Providers {
    /// The response to a call that starts a job. The webhook is sent before it or later.
    async fn started(&self, webhook: SignedRequest, url: String, job: Value) -> (u16, Value) {
        if !self.ends_later.load(Ordering::Relaxed) {
            return (sent(&webhook, &url).await, job);
        }
        let ends = Arc::clone(&self.ends);
        tokio::spawn(async move {
            ends.acquire().await.expect("is open").forget();
            assert_eq!(sent(&webhook, &url).await, 201, "the webhook is accepted");
        });
        (201, job)
    }

    /// The id of a new job.
    fn job(&self, kind: &str) -> String {
        format!("{kind}-{}", self.jobs.fetch_add(1, Ordering::Relaxed))
    }

    /// The response to a call.
    async fn called(&self, method: &str, path_and_query: &str, authorization: &str, body: &[u8]) -> (u16, Value) {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        match (method, path, authorization) {
            ("GET", "/api.replicate.com/v1/webhooks/default/secret", "Bearer r8_your_token") => {
                (200, json!({ "key": self.replicate.secrets[0] }))
            }
            (
                "POST",
                "/api.replicate.com/v1/models/black-forest-labs/flux-schnell/predictions",
                "Bearer r8_your_token",
            ) if json["input"]["prompt"].is_string() && json["webhook_events_filter"] == json!(["completed"]) => {
                let webhook = json["webhook"].as_str().expect("a URL").to_owned();
                let job = self.job("prediction");
                self.started(self.replicate.sample(&job), webhook, json!({ "id": job, "status": "starting" })).await
            }
            ("POST", "/queue.fal.run/fal-ai/flux/schnell", "Key your-key") if json["prompt"].is_string() => {
                let webhook = query.strip_prefix("fal_webhook=").expect("a webhook").to_owned();
                let job = self.job("request");
                let result = json!({
                    "request_id": job, "gateway_request_id": job, "status": "OK",
                    "payload": { "images": [{ "url": "https://v3.fal.media/files/one.png" }] },
                });
                let request = self.fal.sign(&job, result.to_string().as_bytes(), now_s());
                self.started(request, webhook, json!({ "request_id": job, "status": "IN_QUEUE" })).await
            }
            _ => (400, json!({ "detail": format!("{method} {path_and_query} {authorization} {json}") })),
        }
    }
}

/// Sends a webhook, and returns the status for the response to the call: an error if the webhook was refused.
async fn sent(request: &SignedRequest, url: &str) -> u16 {
    let response = request.send(&http_client(), url).await.expect("the edge answers");
    if response.status() == 200 { 201 } else { 500 }
}

async fn answer(providers: Arc<Providers>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut::Close)?.to_bytes();
    let authorization = head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let (status, answer) = providers.called(head.method.as_str(), path, authorization, &body).await;
    let mut response = Response::new(Body::from(answer.to_string()));
    *response.status_mut() = status.try_into().map_err(|_| Cut::Reset)?;
    Ok(response)
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_ai_jobs_to_an_app_is_followed_from_its_text() {
    let keys = KeySetServer::start().await.expect("starts");
    let internet = Internet::start().await.expect("starts");
    let published = http_client().get(keys.url()).send().await.expect("answers").bytes().await.expect("a body");
    internet.publish("https://rest.fal.ai/.well-known/jwks.json", published);
    let settings = EdgeSettings { internet: Some(internet.address()), ..EdgeSettings::default() };
    let pages = |relay: RelaySettings| relay.with("TIDEGATE_CORS_ORIGINS", "http://localhost:3000");
    let gateway = Gateway::start_bare_and(settings, pages).await;

    let providers = Arc::new(Providers {
        replicate: Provider::replicate(),
        fal: Provider::fal(&keys),
        jobs: AtomicUsize::new(1),
        ends_later: AtomicBool::new(false),
        ends: Arc::new(Semaphore::new(0)),
    });
    let user_id = providers.fal.config["user_id"].as_str().expect("an id").to_owned();
    let for_server = Arc::clone(&providers);
    let stand_in = Server::start(0, move |request| answer(Arc::clone(&for_server), request)).await.expect("starts");
    let url = format!("http://{}", stand_in.address());
    let page = with_free_port("examples/recipes/ai-results-to-an-app.md");
    let page = page.with("your-user-id", &user_id).expect("is on the page");
    let mut reader = Reader::start_with(&gateway, page, &[("python", "Python")], Some((&HOSTS, &url))).await;
    reader.follow("Set it up").await;

    assert!(reader.see(0).await.contains("prediction-1"));
    assert!(reader.see(1).await.contains("request-2"));
    gateway.api.wait_for_rows("/v1/deliveries?destination=app&state=succeeded", 2, SOON).await;
    assert_eq!(rows(&reader.see(2).await), 2);
    for event in gateway.api.all("/v1/events").await {
        let done = format!("done {}", event["id"].as_str().expect("an id"));
        assert_eq!(reader.see_until(3, &done).await.matches(&done).count(), 1);
    }
    // A sample of `tidegate send`.
    reader.see(4).await;
    gateway.api.wait_for_rows("/v1/deliveries?destination=app&state=succeeded", 3, SOON).await;
    results_are_awaited(&gateway, &providers, &mut reader).await;
    reader.follow("If it does not work").await;
}

/// Follows the part about awaiting, with jobs that end before the wait and with jobs that end during it.
async fn results_are_awaited(gateway: &Gateway, providers: &Providers, reader: &mut Reader) {
    let blocks = reader.blocks("Await one result");
    let [function, replicate, fal, token, page] = blocks.as_slice() else { panic!("other blocks: {blocks:?}") };
    run(&mut reader.terminal, function).await;
    for (ends_later, jobs) in [(false, ["prediction-3", "request-4"]), (true, ["prediction-5", "request-6"])] {
        providers.ends_later.store(ends_later, Ordering::Relaxed);
        for (block, job) in [replicate, fal].into_iter().zip(jobs) {
            let before = gateway.relay.calls_that_waited();
            let end = async {
                if ends_later {
                    until("the call to wait", SOON, async || match gateway.relay.calls_that_waited() {
                        calls if calls > before => Ok(()),
                        calls => Err(format!("{calls} calls have waited")),
                    })
                    .await;
                    providers.ends.add_permits(1);
                }
            };
            let (result, ()) = tokio::join!(run(&mut reader.terminal, block), end);
            let result: Value = serde_json::from_str(&result).unwrap_or_else(|_| panic!("{result}"));
            assert_eq!((&result["key"], &result["good"]), (&json!(job), &json!(true)), "{result}");
            assert!(result["body"].is_object(), "{result}");
        }
    }
    run(&mut reader.terminal, token).await;
    let seen = run(&mut reader.terminal, page).await;
    assert!(seen.contains("access-control-allow-origin: http://localhost:3000"), "{seen}");
    let data = seen.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_else(|| panic!("{seen}"));
    let data: Value = serde_json::from_str(data).unwrap_or_else(|_| panic!("{seen}"));
    assert_eq!(data["body"], json!({ "status": "succeeded", "output": "a picture" }), "{data}");
}
