//! dashboard: the pages of sources, and the first run, in a browser without script.

use harness::api::{Api, Source};
use harness::browser::{Browser, Page};
use harness::gateway::{Gateway, drained};
use harness::provider::{Provider, now_s};
use harness::receiver::Receiver;
use harness::wait::{SOON, until};
use serde_json::{Value, json};
use shared::envelope::{RejectionSample, encode_rejection};

/// A browser that is signed in.
struct Dashboard {
    browser: Browser,
    base: String,
}

impl Dashboard {
    async fn of(base: &str, token: &str) -> Self {
        let mut browser = Browser::default();
        let page =
            browser.post_form(&format!("{base}/dashboard/sign-in"), &[("token", token), ("return_to", "")]).await;
        assert_eq!(page.status, 303, "{}", page.body);
        Self { browser, base: base.to_owned() }
    }

    /// The text of a page.
    async fn read(&mut self, path: &str) -> String {
        text(self.browser.get(&format!("{}/dashboard{path}", self.base)).await.expect_status(200))
    }

    async fn status(&mut self, path: &str) -> u16 {
        self.browser.get(&format!("{}/dashboard{path}", self.base)).await.status
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.browser.post_form(&format!("{}/dashboard{path}", self.base), fields).await
    }

    /// Posts a form that is accepted, and returns the page to which it leads, with its notice.
    async fn done(&mut self, path: &str, fields: &[(&str, &str)]) -> String {
        let page = self.post(path, fields).await;
        assert_eq!(page.status, 303, "{}", page.body);
        let next = page.location.expect("a location");
        text(self.browser.get(next.as_str()).await.expect_status(200))
    }

    /// Posts a form that is refused with this status, and returns the page that says why.
    async fn refused(&mut self, path: &str, fields: &[(&str, &str)], status: u16) -> String {
        text(self.post(path, fields).await.expect_status(status))
    }
}

fn text(body: Value) -> String {
    body.as_str().expect("a page").to_owned()
}

/// The value of a hidden field.
fn hidden<'p>(page: &'p str, name: &str) -> &'p str {
    let rest =
        page.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no field {name}: {page}"));
    rest.split('"').next().expect("a value")
}

#[track_caller]
fn has(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "the page lacks {text:?}: {page}");
    }
}

#[track_caller]
fn has_not(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(!page.contains(text), "the page has {text:?}: {page}");
    }
}

/// The id of a source with this name.
async fn id_of(api: &Api, name: &str) -> String {
    let source = api.get(&format!("/v1/sources/{name}")).await.expect_status(200);
    source["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_run_leads_from_an_empty_gateway_to_a_delivered_event_on_one_page() {
    let gateway = Gateway::start().await;
    let mut dashboard = Dashboard::of(gateway.relay.url(), gateway.relay.token()).await;
    let receiver = Receiver::start().await.expect("starts");

    has(&dashboard.read("/sources").await, &["No source yet", "/dashboard/start"]);
    let start = dashboard.read("/start").await;
    has(&start, &["Stripe", "/dashboard/start?provider=github", "AI and media"]);
    has(&dashboard.read("/start?q=giTHub").await, &["provider=github"]);
    has_not(&dashboard.read("/start?q=giTHub").await, &["provider=stripe"]);

    let form = dashboard.read("/start?provider=github").await;
    has(&form, &["name=\"secrets\"", "Settings → Webhooks"]);
    let github = Provider::github();
    let secret = github.secrets[0].clone();
    let typed = [("do", "source"), ("provider", "github"), ("name", "Not a name"), ("secrets", secret.as_str())];
    let refused = dashboard.refused("/start?provider=github", &typed, 422).await;
    has(&refused, &["value=\"Not a name\"", "aria-invalid=\"true\""]);
    has_not(&refused, &[&secret]);
    let typed = [("do", "source"), ("provider", "github"), ("name", "code"), ("secrets", secret.as_str())];
    let page = dashboard.done("/start?provider=github", &typed).await;
    let source = id_of(&gateway.api, "code").await;
    let here = format!("/start?source={source}");
    has(&page, &[&format!("/in/{source}"), "active at the edge", "Waiting for the first event", "where the events go"]);
    has_not(&page, &[&secret]);

    let wrong = [("do", "destination"), ("source", source.as_str()), ("name", "app"), ("url", "ftp://a")];
    has(&dashboard.refused(&here, &wrong, 422).await, &["value=\"ftp://a\"", "value=\"app\"", "aria-invalid"]);
    let url = receiver.url();
    let right = [("do", "destination"), ("source", source.as_str()), ("name", "app"), ("url", url.as_str())];
    has(&dashboard.done(&here, &right).await, &["Every event of code goes to app", "Waiting for the first event"]);

    let sent =
        dashboard.done(&format!("/sources/{source}/sample"), &[("return_to", &format!("/dashboard{here}"))]).await;
    has(&sent, &["The edge has accepted the sample"]);
    until("the first event to be delivered", SOON, async || {
        let page = dashboard.read(&here).await;
        if page.contains("tone-ok\" data-mark=\"●\">Succeeded") { Ok(()) } else { Err(page) }
    })
    .await;
    let page = dashboard.read("/start").await;
    has_not(&page, &["Waiting for the first event"]);
    has(&page, &["to app</a>"]);
    receiver.wait_for(1, SOON).await;
    let audit = gateway.api.all("/v1/audit?action=source.send_sample").await;
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!(audit[0]["object_id"], json!(source));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_added_with_what_its_provider_needs() {
    let gateway = Gateway::relay_only().await;
    let mut dashboard = Dashboard::of(gateway.relay.url(), gateway.relay.token()).await;
    has(&dashboard.read("/sources/new?q=no+such").await, &["No provider with this name", "Standard Webhooks"]);
    let form = dashboard.read("/sources/new?provider=custom").await;
    has(&form, &["name=\"config.header\"", "name=\"config.timestamp_header\"", "value=\"custom\""]);
    let secret = "a-secret-of-many-letters";
    let typed = [
        ("provider", "custom"),
        ("name", "own"),
        ("secrets", secret),
        ("config.header", "not a header"),
        ("config.encoding", "base64"),
        ("config.content", "{h:x-time}.{body}"),
    ];
    let refused = dashboard.refused("/sources/new", &typed, 422).await;
    has(&refused, &["value=\"not a header\"", "value=\"base64\"", "is not a valid header name", "value=\"own\""]);
    has_not(&refused, &[secret]);
    let mut typed = typed;
    typed[3].1 = "x-signature";
    let page = dashboard.done("/sources/new", &typed).await;
    has(&page, &["The source own is saved", "…ters", "Waiting for the first event", "Custom HMAC"]);
    has_not(&page, &[secret]);
    let source = gateway.api.get("/v1/sources/own").await.expect_status(200);
    assert_eq!(
        source["config"],
        json!({ "header": "x-signature", "encoding": "base64", "content": "{h:x-time}.{body}" })
    );
    has(&dashboard.refused("/sources/new", &typed, 422).await, &["already in use"]);
    let without = [("provider", "token"), ("name", "tok"), ("secrets", "")];
    has(&dashboard.refused("/sources/new", &without, 422).await, &["class=\"error\""]);
    assert_eq!(dashboard.status("/sources/new?provider=nobody").await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_source_shows_its_url_its_traffic_and_why_requests_are_rejected() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let mut dashboard = Dashboard::of(gateway.relay.url(), gateway.relay.token()).await;
    let source = api.create_source("shop", &Provider::stripe()).await;
    let silent = api.create_source("silent", &Provider::github()).await;
    let path = format!("/sources/{}", source.id);
    let waiting = dashboard.read(&path).await;
    has(
        &waiting,
        &["Waiting for the first event", &source.ingest_url, "data-live=\"event_stored\"", "Active", "docs.stripe.com"],
    );

    reject(&gateway.queue, &source, "signature_mismatch", "the signature <script>alert(1)</script> does not match");
    drained(&gateway.queue, SOON).await;
    let waiting = dashboard.read(&path).await;
    has(
        &waiting,
        &[
            "Waiting for the first event",
            "Signature mismatch",
            "&#60;script&#62;alert(1)",
            "7 requests",
            "Compare the end of the secret",
        ],
    );
    has_not(&waiting, &["<script>alert"]);

    for number in 0..3 {
        gateway.push(&source, json!({ "id": format!("evt_{number}"), "type": "invoice.paid" }).to_string().as_bytes());
    }
    drained(&gateway.queue, SOON).await;
    let page = dashboard.read(&path).await;
    has(&page, &["3 stored", "7 rejected", "Signature mismatch", "last changed", "by <bdi>root</bdi>"]);
    has_not(&page, &["Waiting for the first event"]);
    for range in ["1h", "7d", "30d"] {
        has(&dashboard.read(&format!("{path}?range={range}")).await, &["3 stored", "7 rejected"]);
    }

    let list = dashboard.read("/sources").await;
    has(
        &list,
        &["3 stored, 7 rejected", "0 stored, 0 rejected", "none in 7 days", "data-as=\"ago\"", "Stripe", "GitHub"],
    );
    has(&list, &[&silent.id, "curl -H"]);
}

fn reject(queue: &harness::queue::LocalQueue, source: &Source, cause: &str, detail: &str) {
    queue.push(&encode_rejection(&RejectionSample {
        source: source.id.parse().expect("an id"),
        cause: cause.to_owned(),
        detail: detail.to_owned(),
        count: 7,
        first_at_ms: now_s() * 1_000,
        last_at_ms: now_s() * 1_000,
        size: 1,
        remote: "ipv4".to_owned(),
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pasted_request_is_checked_step_by_step() {
    let gateway = Gateway::relay_only().await;
    let mut dashboard = Dashboard::of(gateway.relay.url(), gateway.relay.token()).await;
    let stripe = Provider::stripe();
    let source = gateway.api.create_source("shop", &stripe).await;
    let path = format!("/sources/{}/check", source.id);
    has(&dashboard.read(&path).await, &["name=\"whole\"", "name=\"headers\""]);

    let request = stripe.sample("evt_1");
    let body = String::from_utf8(request.body.clone()).expect("text");
    let headers: String = request.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let secret = stripe.secrets[0].as_str();
    let hint: String = secret.chars().skip(secret.chars().count() - 4).collect();
    let curl = request.curl(&source.ingest_url);
    let raw = format!("POST /in/x HTTP/1.1\r\n{headers}\r\n{body}");
    for fields in [
        vec![("whole", curl.as_str())],
        vec![("whole", raw.as_str())],
        vec![("headers", headers.as_str()), ("body", body.as_str()), ("method", "POST")],
    ] {
        let page = text(dashboard.post(&path, &fields).await.expect_status(200));
        has(&page, &["The edge would accept this request", &format!("…{hint}"), "Signed bytes", "Holds"]);
        has_not(&page, &[secret, "Fails"]);
    }

    let tampered = body.replace("evt_1", "evt_<script>");
    let fields = [("headers", headers.as_str()), ("body", tampered.as_str())];
    let page = text(dashboard.post(&path, &fields).await.expect_status(200));
    has(
        &page,
        &["would reject this request", "401", "Signature mismatch", "What to do.", "Fails", "evt_&#60;script&#62;"],
    );
    has_not(&page, &["evt_<script>"]);

    let page = dashboard.refused(&path, &[("headers", "content-type: x\r\nno colon"), ("body", "kept")], 422).await;
    has(&page, &["Line 2 has no colon", "no colon</textarea>", "kept</textarea>"]);
    has(&dashboard.refused(&path, &[("whole", "hello")], 422).await, &["request line", "hello</textarea>"]);
    has(&dashboard.refused(&path, &[], 422).await, &["paste a request"]);
    assert!(gateway.api.all("/v1/events").await.is_empty(), "nothing is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_changed_only_from_the_version_that_was_shown() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let mut dashboard = Dashboard::of(gateway.relay.url(), gateway.relay.token()).await;
    let source = api.create_source("shop", &Provider::stripe()).await;
    let path = format!("/sources/{}/settings", source.id);
    let form = dashboard.read(&path).await;
    let version = hidden(&form, "version").to_owned();
    let wrong = [
        ("version", version.as_str()),
        ("config.tolerance_s", "soon"),
        ("config.on_failure", "quarantine"),
        ("config.quarantine.body_bytes", "999999999999"),
        ("config.key", "header x y"),
    ];
    let page = dashboard.refused(&path, &wrong, 422).await;
    has(&page, &["value=\"soon\"", "value=\"999999999999\"", "value=\"header x y\"", "is not a valid header name"]);
    assert_eq!(page.matches("class=\"error\"").count(), 3, "{page}");
    assert_eq!(api.get("/v1/sources/shop").await.expect_status(200)["config"], json!({}), "nothing was saved");

    let right = [
        ("version", version.as_str()),
        ("config.tolerance_s", "600"),
        ("config.on_failure", "quarantine"),
        ("config.key", "header x-id"),
        ("config.expose", "/a\r\n/b"),
        ("config.acknowledgement.status", "202"),
    ];
    has(
        &dashboard.done(&path, &right).await,
        &["The settings of shop are saved", "kept in quarantine", "Quarantine in this hour"],
    );
    let config = json!({
        "tolerance_s": 600, "on_failure": "quarantine", "key": { "header": "x-id" }, "expose": ["/a", "/b"],
        "acknowledgement": { "status": 202 }
    });
    assert_eq!(api.get("/v1/sources/shop").await.expect_status(200)["config"], config);

    let page = dashboard.refused(&path, &right, 409).await;
    has(&page, &["Someone has changed this source", "value=\"600\""]);
    let version = hidden(&page, "version").to_owned();
    let back = [("version", version.as_str()), ("config.key", "pointer /id")];
    dashboard.done(&path, &back).await;
    let config = api.get("/v1/sources/shop").await.expect_status(200)["config"].clone();
    assert_eq!(config, json!({ "key": { "pointer": "/id" } }), "what is empty has its default");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_replaced_without_a_time_in_which_none_is_accepted() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let mut dashboard = Dashboard::of(gateway.relay.url(), gateway.relay.token()).await;
    let source = api.create_source("code", &Provider::github()).await;
    let path = format!("/sources/{}/secrets", source.id);
    let old = source.body["secrets"][0]["hint"].as_str().expect("a hint").to_owned();
    has(&dashboard.read(&path).await, &[&old, "Last changed", "by <bdi>root</bdi>"]);
    has(&dashboard.refused(&path, &[("do", "add"), ("secret", " ")], 422).await, &["Paste the new secret"]);
    let new = "the-new-secret-abcd";
    let page = dashboard.done(&path, &[("do", "add"), ("secret", &format!(" {new}\r\n"))]).await;
    has(&page, &[&old, "…abcd", "accepts the new secret and the ones before"]);
    has_not(&page, &[new]);
    let version = hidden(&page, "version").to_owned();
    let stale = [("do", "only"), ("version", "1"), ("secrets", new)];
    has(&dashboard.refused(&path, &stale, 422).await, &["Someone has changed this source"]);
    let page = dashboard.done(&path, &[("do", "only"), ("version", &version), ("secrets", new)]).await;
    has(&page, &["…abcd", "accepts this secret alone"]);
    has_not(&page, &[&old]);
    let hints = api.get("/v1/sources/code").await.expect_status(200)["secrets"].clone();
    assert_eq!(hints, json!([{ "hint": "…abcd" }]), "blanks around the secret were removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_deleted_after_a_page_that_says_what_will_be_lost() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let mut dashboard = Dashboard::of(gateway.relay.url(), gateway.relay.token()).await;
    let line = gateway.line("orders").await;
    gateway.push(&line.source, b"{}");
    drained(&gateway.queue, SOON).await;
    let path = format!("/sources/{}/delete", line.source.id);
    let page = dashboard.read(&path).await;
    has(&page, &["1 route is deleted", "1 event", &line.source.ingest_url, "Delete the source and its routes"]);
    has(&dashboard.refused(&path, &[("version", "1")], 409).await, &["nothing was deleted"]);
    let version = hidden(&page, "version").to_owned();
    has(&dashboard.done(&path, &[("version", &version)]).await, &["The source orders is deleted", "No source yet"]);
    api.get(&format!("/v1/sources/{}", line.source.id)).await.expect_status(404);
    assert_eq!(dashboard.status(&path).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_the_edge_does_not_have_says_so_and_what_the_edge_says() {
    let gateway = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_EDGE_URL", "http://127.0.0.1:1")).await;
    let mut dashboard = Dashboard::of(gateway.relay.url(), gateway.relay.token()).await;
    let typed = [("provider", "github"), ("name", "code"), ("secrets", "a-secret-of-many-letters")];
    let page = dashboard.done("/sources/new", &typed).await;
    has(
        &page,
        &[
            "The edge has not confirmed it yet",
            "The edge does not have the newest configuration yet",
            "Cannot reach the edge at TIDEGATE_EDGE_URL",
        ],
    );
    has(&dashboard.read("/sources").await, &["Not active yet"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_changes_nothing_and_customers_do_not_see_each_other() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let source = api.create_source("hidden-from-others", &Provider::github()).await;
    let token = api.create_token(&["read"], None, json!({})).await;
    let mut reader = Dashboard::of(gateway.relay.url(), token["token"].as_str().expect("a token")).await;
    let path = format!("/sources/{}", source.id);
    has_not(&reader.read(&path).await, &["Send a sample event", "/delete"]);
    has_not(&reader.read(&format!("{path}/secrets")).await, &["<form class=\"form\""]);
    has(&reader.read("/start").await, &["You may read here"]);
    for (path, fields) in [
        (format!("{path}/settings"), vec![("version", "x")]),
        (format!("{path}/secrets"), vec![("do", "add"), ("secret", "another-secret")]),
        (format!("{path}/sample"), vec![]),
        (format!("{path}/delete"), vec![("version", "x")]),
        ("/sources/new".to_owned(), vec![("provider", "github"), ("name", "b"), ("secrets", "another-secret")]),
    ] {
        assert_eq!(reader.post(&path, &fields).await.status, 403, "{path}");
    }

    api.create_customer("acme").await;
    let token = api.create_token(&["read", "write"], Some("acme"), json!({})).await;
    let mut other = Dashboard::of(gateway.relay.url(), token["token"].as_str().expect("a token")).await;
    for page in ["", "/settings", "/secrets", "/check", "/delete"] {
        assert_eq!(other.status(&format!("{path}{page}")).await, 404, "{page}");
    }
    assert_eq!(other.status(&format!("/start?source={}", source.id)).await, 404);
    has_not(&other.read("/sources").await, &["hidden-from-others"]);
    let mut root = Dashboard::of(gateway.relay.url(), gateway.relay.token()).await;
    let all = root.read("/sources?customer=*").await;
    has(&all, &["Customer", &format!("/dashboard/sources/{}?customer=default", source.id)]);
}
