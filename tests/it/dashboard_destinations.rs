//! The pages of destinations, of the flow and of routes: what they show, what their forms do, and what they refuse.

use harness::api::{Api, id};
use harness::browser::{Browser, Page};
use harness::gateway::{Gateway, RelayOnly, drained};
use harness::receiver::Behaviour;
use harness::wait::SOON;
use reqwest::Method;
use serde_json::{Value, json};

/// A browser that is signed in.
struct Signed {
    browser: Browser,
    base: String,
}

impl Signed {
    async fn with(gateway: &RelayOnly, token: &str) -> Self {
        let base = gateway.relay.url().to_owned();
        let mut browser = Browser::default().with_header("authorization", &format!("Bearer {token}"));
        browser.send(Method::POST, &format!("{base}/v1/sessions"), None).await.expect_status(201);
        browser.headers.clear();
        Self { browser, base }
    }

    /// Signed in with all scopes.
    async fn in_to(gateway: &RelayOnly) -> Self {
        Self::limited(gateway, &["read", "bodies", "write", "replay", "secrets", "admin"], None).await
    }

    async fn limited(gateway: &RelayOnly, scopes: &[&str], customer: Option<&str>) -> Self {
        let made = gateway.api.create_token(scopes, customer, json!({})).await;
        Self::with(gateway, made["token"].as_str().expect("a token")).await
    }

    async fn open(&mut self, path: &str) -> Page {
        self.browser.get(&format!("{}/dashboard{path}", self.base)).await
    }

    /// The text of a page that is shown.
    async fn read(&mut self, path: &str) -> String {
        html(self.open(path).await.expect_status(200))
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.browser.post_form(&format!("{}/dashboard{path}", self.base), fields).await
    }

    /// Posts a form that redirects, and returns the page to which it does.
    #[track_caller]
    fn redirected(&self, page: &Page) -> String {
        assert_eq!(page.status, 303, "{}", page.body);
        let location = page.location.as_ref().expect("a location");
        location.path().strip_prefix("/dashboard").expect("a page of the dashboard").to_owned()
    }
}

fn html(body: Value) -> String {
    body.as_str().expect("a page").to_owned()
}

/// The value of the hidden field with the version of the object.
fn version(page: &str) -> String {
    let rest = page.split("name=\"version\" value=\"").nth(1).unwrap_or_else(|| panic!("no version in {page}"));
    rest.split('"').next().expect("a value").to_owned()
}

#[track_caller]
fn has(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "no {text:?} in {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_added_with_errors_next_to_fields_and_its_secret_is_shown_once() {
    let gateway = Gateway::relay_only().await;
    let mut signed = Signed::in_to(&gateway).await;
    has(&signed.read("/destinations").await, &["No destination yet", "Add the first one"]);

    let fields = [
        ("name", "Billing"),
        ("url", "ftp://example.com/<script>"),
        ("max_concurrency", "0"),
        ("timeout_ms", "1,000"),
        ("retry", "schedule"),
        ("schedule", "0s 5m"),
        ("header_name", "x-team"),
        ("header_value", "sesame & co"),
    ];
    let page = html(signed.post("/destinations/new", &fields).await.expect_status(422));
    has(
        &page,
        &["id=\"f-name-error\"", "id=\"f-url-error\"", "id=\"f-max_concurrency-error\"", "aria-invalid=\"true\""],
    );
    has(
        &page,
        &["value=\"Billing\"", "value=\"0s 5m\"", "value=\"sesame &#38; co\"", "ftp://example.com/&#60;script&#62;"],
    );
    assert!(!page.contains("id=\"f-timeout_ms-error\""), "{page}");
    assert!(gateway.api.all("/v1/destinations").await.is_empty());

    let fields = [
        ("name", "billing"),
        ("url", "http://127.0.0.1:18999/hook"),
        ("max_concurrency", "5"),
        ("timeout_ms", "1,000"),
        ("rate_limit", "50"),
        ("rate_per", "minute"),
        ("retry", "schedule"),
        ("schedule", "0s 5m"),
        ("append_query", "on"),
        ("header_name", "x-team"),
        ("header_value", "sesame & co"),
        ("header_name", ""),
        ("header_value", ""),
    ];
    let page = html(signed.post("/destinations/new", &fields).await.expect_status(201));
    let made = gateway.api.get("/v1/destinations/billing").await.expect_status(200);
    let secret = gateway.api.get("/v1/destinations/billing/signing-secret").await.expect_status(200);
    has(&page, &[secret["signing_secret"].as_str().expect("a secret"), "standardwebhooks"]);
    assert_eq!((&made["max_concurrency"], &made["timeout_ms"]), (&json!(5), &json!(1_000)), "{made}");
    assert_eq!(made["rate_limit"], json!({ "limit": 50, "per": "minute" }), "{made}");
    assert_eq!((&made["retry"], &made["append_query"]), (&json!({ "schedule_s": [0, 300] }), &json!(true)), "{made}");
    assert_eq!(made["header_names"], json!(["x-team"]), "{made}");
    let page = signed.read("/destinations/billing").await;
    has(&page, &["x-team", "50 per minute", "2 attempts, after 0s 5m", "No route leads here"]);
    assert!(!page.contains("whsec_") && !page.contains("sesame"), "{page}");

    let page = html(signed.post("/destinations/new", &fields).await.expect_status(422));
    has(&page, &["The name is already in use"]);
    let page = html(
        signed.post("/destinations/new", &[("name", "x\0"), ("url", "https://example.com")]).await.expect_status(400),
    );
    has(&page, &["NUL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_who_edit_a_destination_do_not_overwrite_each_other() {
    let gateway = Gateway::relay_only().await;
    let mut signed = Signed::in_to(&gateway).await;
    let headers = json!({ "headers": { "x-one": "1", "x-two": "2" }, "timeout_ms": 2_000 });
    gateway.api.create_destination("billing", "http://127.0.0.1:18999/a", headers).await;
    let form = signed.read("/destinations/billing/edit").await;
    has(&form, &["value=\"x-one\"", "value=\"2000\"", "value=\"http://127.0.0.1:18999/a\""]);
    assert!(!form.contains("value=\"1\" placeholder"), "values are not shown: {form}");
    let opened = version(&form);
    gateway.api.patch("/v1/destinations/billing", &json!({ "max_concurrency": 3 })).await.expect_status(200);

    let mut fields = vec![
        ("version", opened.as_str()),
        ("url", "http://127.0.0.1:18999/b"),
        ("timeout_ms", "3000"),
        ("max_concurrency", "4"),
        ("retry", "growing"),
        ("initial_s", "5"),
        ("multiplier", "2"),
        ("max_s", "60"),
        ("attempts", "4"),
        ("header_stored", "x-one"),
        ("header_name", "x-one"),
        ("header_value", ""),
        ("header_stored", "x-two"),
        ("header_name", "x-two"),
        ("header_value", ""),
        ("header_removed", "x-two"),
        ("header_name", "X-Three"),
        ("header_value", "3"),
    ];
    let page = html(signed.post("/destinations/billing/edit", &fields).await.expect_status(412));
    has(&page, &["Someone has changed it", "value=\"http://127.0.0.1:18999/b\"", "value=\"X-Three\""]);
    let newest = version(&page);
    assert_ne!(newest, opened);
    assert_eq!(gateway.api.get("/v1/destinations/billing").await.expect_status(200)["max_concurrency"], 3);

    fields[0] = ("version", &newest);
    let page = signed.post("/destinations/billing/edit", &fields).await;
    let shown = signed.redirected(&page);
    let changed = gateway.api.get("/v1/destinations/billing").await.expect_status(200);
    assert_eq!(
        (&changed["url"], &changed["max_concurrency"]),
        (&json!("http://127.0.0.1:18999/b"), &json!(4)),
        "{changed}"
    );
    assert_eq!(changed["retry"], json!({ "initial_s": 5, "multiplier": 2.0, "max_s": 60, "attempts": 4 }), "{changed}");
    assert_eq!(changed["header_names"], json!(["x-one", "x-three"]), "{changed}");
    let page = signed.read(&shown).await;
    has(&page, &["The settings of billing are saved.", "4 attempts: the second after 5s"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_paused_and_resumed_with_the_number_that_will_be_sent_and_at_a_rate() {
    let gateway = Gateway::relay_only().await;
    let mut signed = Signed::in_to(&gateway).await;
    let line = gateway.line("billing").await;
    let page = signed.post("/destinations/billing/pause", &[]).await;
    let own = signed.redirected(&page);
    let pushed: Vec<_> = (0..3).map(|n| gateway.push(&line.source, format!("{{\"n\":{n}}}").as_bytes())).collect();
    drained(&gateway.queue, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=held", 3, SOON).await;
    let page = signed.read(&own).await;
    has(&page, &["Paused", "3 deliveries are held", "Resume"]);
    has(&signed.read("/destinations").await, &["Paused", "billing"]);

    let form = signed.read("/destinations/billing/resume").await;
    has(&form, &["3 deliveries are sent"]);
    let opened = version(&form);
    let wrong = [("version", opened.as_str()), ("rate_limit", "many"), ("rate_per", "second")];
    let page = html(signed.post("/destinations/billing/resume", &wrong).await.expect_status(422));
    has(&page, &["id=\"f-rate_limit-error\"", "value=\"many\""]);
    assert_eq!(line.receiver.count(), 0);
    let right = [("version", opened.as_str()), ("rate_limit", "600"), ("rate_per", "minute")];
    let page = signed.post("/destinations/billing/resume", &right).await;
    signed.redirected(&page);
    line.receiver.wait_for_events(pushed, SOON).await;
    let now = gateway.api.get("/v1/destinations/billing").await.expect_status(200);
    assert_eq!(
        (&now["state"], &now["rate_limit"]),
        (&json!("active"), &json!({ "limit": 600, "per": "minute" })),
        "{now}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_destination_shows_its_attempts_by_result_and_its_dead_deliveries_first() {
    let gateway = Gateway::relay_only().await;
    let mut signed = Signed::in_to(&gateway).await;
    let line = gateway.line("billing").await;
    let path = "/v1/destinations/billing";
    gateway.api.patch(path, &json!({ "retry": { "schedule_s": [0] } })).await.expect_status(200);
    line.receiver.next([Behaviour::Status(500)]);
    let failed = gateway.push(&line.source, br#"{"n":0}"#);
    let dead = gateway.api.wait_for_row("/v1/deliveries?state=dead", SOON).await;
    let good = gateway.push(&line.source, br#"{"n":1}"#);
    line.receiver.wait_for_events([failed, good], SOON).await;
    let succeeded = gateway.api.wait_for_row("/v1/deliveries?state=succeeded", SOON).await;

    let page = signed.read("/destinations/billing?range=1h").await;
    has(&page, &["http_status", ">500<", "succeeded", "Of the newest 2 deliveries."]);
    let at = |id: &str| page.find(&format!("/deliveries/{id}\"")).unwrap_or_else(|| panic!("no {id} in {page}"));
    assert!(at(id(&dead)) < at(id(&succeeded)), "{page}");
    let own = line.destination.id.as_str();
    has(&page, &[&format!("/dashboard/replays/new?destination={own}&#38;state=dead")]);
    has(&page, &[&format!("/dashboard/deliveries?destination={own}&#38;state=dead")]);
    for range in ["1h", "24h", "7d", "a-year"] {
        has(&signed.read(&format!("/destinations/billing?range={range}")).await, &["class=\"curve\""]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_sends_an_event_that_is_stored() {
    let gateway = Gateway::relay_only().await;
    let mut signed = Signed::in_to(&gateway).await;
    assert_eq!(signed.open("/destinations/nothing/test").await.status, 404);
    let line = gateway.line("billing").await;
    has(&signed.read("/destinations/billing/test").await, &["There is no event to send"]);
    let event = gateway.push(&line.source, br#"{"n":1}"#);
    line.receiver.wait_for_events([event], SOON).await;
    drained(&gateway.queue, SOON).await;
    let other = harness::receiver::Receiver::start().await.expect("a receiver");
    gateway.api.create_destination("other", &other.url(), json!({})).await;
    let event = event.to_string();
    has(&signed.read("/destinations/other/test").await, &[&format!("value=\"{event}\" checked")]);
    html(signed.post("/destinations/other/test", &[]).await.expect_status(422));
    html(signed.post("/destinations/other/test", &[("event", "evt_0")]).await.expect_status(404));
    let page = signed.post("/destinations/other/test", &[("event", &event)]).await;
    let shown = signed.redirected(&page);
    assert!(shown.starts_with("/deliveries/dlv_"), "{shown}");
    other.wait_for(1, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signing_secret_is_rotated_with_an_overlap_and_shown_only_on_request() {
    let gateway = Gateway::relay_only().await;
    let mut signed = Signed::in_to(&gateway).await;
    let made = gateway.api.create_destination("billing", "http://127.0.0.1:18999/", json!({})).await;
    has(&signed.read("/destinations/billing/rotate").await, &["A new secret is made", "1 day"]);
    html(signed.post("/destinations/billing/rotate", &[("overlap_s", "-1")]).await.expect_status(422));
    let page = html(signed.post("/destinations/billing/rotate", &[("overlap_s", "3600")]).await.expect_status(200));
    let secret = gateway.api.get("/v1/destinations/billing/signing-secret").await.expect_status(200);
    let newest = secret["signing_secret"].as_str().expect("a secret").to_owned();
    assert_ne!(newest, made.signing_secret);
    has(&page, &[&newest, &made.signing_secret]);
    let page = signed.read("/destinations/billing").await;
    has(&page, &["Signs now", "Also signs", "HMAC-SHA256, set <time", "HMAC-SHA256, stops <time"]);

    let reveals = "/v1/audit?action=destination.reveal_secret";
    let before = gateway.api.all(reveals).await.len();
    let page = signed.read("/destinations/billing/secret").await;
    assert!(!page.contains("whsec_") && gateway.api.all(reveals).await.len() == before, "{page}");
    has(&html(signed.post("/destinations/billing/secret", &[]).await.expect_status(200)), &[&newest]);
    assert_eq!(gateway.api.all(reveals).await.len(), before + 1);

    let mut reader = Signed::limited(&gateway, &["read"], None).await;
    let page = reader.read("/destinations/billing").await;
    for absent in ["/rotate\"", "/secret\"", "/pause\"", "/edit\"", "/delete\"", "/test\""] {
        assert!(!page.contains(absent), "{absent}: {page}");
    }
    for path in ["rotate", "secret", "edit", "delete", "resume", "test"] {
        assert_eq!(reader.open(&format!("/destinations/billing/{path}")).await.status, 403, "{path}");
        assert_eq!(
            reader
                .post(
                    &format!("/destinations/billing/{path}"),
                    &[("overlap_s", "0"), ("event", "evt_1"), ("url", "http://127.0.0.1:18998/")]
                )
                .await
                .status,
            403,
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_deleted_after_its_page_has_said_what_becomes_of_its_deliveries() {
    let gateway = Gateway::relay_only().await;
    let mut signed = Signed::in_to(&gateway).await;
    let line = gateway.line("billing").await;
    gateway.api.pause("billing").await;
    gateway.push(&line.source, b"{}");
    gateway.api.wait_for_row("/v1/deliveries?state=held", SOON).await;
    let page = signed.read("/destinations/billing/delete").await;
    has(&page, &["1 delivery is cancelled and never sent", "Its 1 route is deleted"]);
    let opened = version(&page);
    gateway.api.patch("/v1/destinations/billing", &json!({ "max_concurrency": 3 })).await.expect_status(200);
    let page = html(signed.post("/destinations/billing/delete", &[("version", &opened)]).await.expect_status(412));
    let page = signed.post("/destinations/billing/delete", &[("version", &version(&page))]).await;
    assert_eq!(signed.redirected(&page), "/destinations");
    assert_eq!(signed.open("/destinations/billing").await.status, 404);
    gateway.api.wait_for_row("/v1/deliveries?state=cancelled", SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flow_shows_routes_with_their_traffic_and_health_as_a_drawing_and_as_a_table() {
    let gateway = Gateway::relay_only().await;
    let mut signed = Signed::in_to(&gateway).await;
    has(&signed.read("/flow").await, &["No route yet"]);
    let line = gateway.line("billing").await;
    let other = gateway.api.create_destination("other", "http://127.0.0.1:18999/", json!({})).await;
    let filtered = json!({ "filter": "event.type == '<script>alert(1)</script>'", "enabled": false });
    gateway.api.create_route("billing", "other", filtered).await;
    let event = gateway.push(&line.source, b"{}");
    line.receiver.wait_for_events([event], SOON).await;
    gateway
        .api
        .wait_until("the delivery to be counted", "/v1/stats?destination=billing", SOON, |stats| {
            stats["deliveries"][0]["succeeded"] == 1
        })
        .await;
    gateway.api.pause("other").await;
    let page = signed.read("/flow").await;
    has(&page, &["2 routes.", "1 event<", "1 delivery<", "Disabled", "&#60;script&#62;alert(1)&#60;/script&#62;"]);
    assert_eq!(page.matches("<path class=\"flow-line").count(), 2, "{page}");
    assert!(!page.contains("<script>alert"), "{page}");
    has(&page, &[&format!("/dashboard/destinations/{}", other.id), "class=\"flow-line tone-quiet\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_tried_against_the_last_events_and_the_compilers_refusal_is_shown_at_its_place() {
    let gateway = Gateway::relay_only().await;
    let mut signed = Signed::in_to(&gateway).await;
    let line = gateway.line("line").await;
    let pushed: Vec<_> =
        (0..3).map(|n| gateway.push(&line.source, format!(r#"{{"n":{n},"t":"<b>"}}"#).as_bytes())).collect();
    line.receiver.wait_for_events(pushed, SOON).await;
    drained(&gateway.queue, SOON).await;
    gateway.api.create_destination("other", "http://127.0.0.1:18999/", json!({})).await;
    has(
        &signed.read("/routes/new?source=line&destination=other").await,
        &["value=\"line\" selected", "value=\"other\" selected"],
    );

    let broken = [
        ("source", "line"),
        ("destination", "other"),
        ("types", ""),
        ("filter", "body.n > 0 &&\r\n  nothing"),
        ("transform", "body."),
        ("order_key", ""),
        ("poison", "skip"),
        ("enabled", "on"),
        ("try", "1"),
    ];
    let page = html(signed.post("/routes/new", &broken).await.expect_status(422));
    has(&page, &["error-line=\"2\" error-column=\"3\"", "id=\"f-filter-error\"", "id=\"f-transform-error\""]);
    has(
        &page,
        &["body.n &#62; 0 &#38;&#38;\n  nothing</textarea>", "value=\"skip\" selected", "value=\"line\" selected"],
    );

    let mut fields = broken;
    (fields[3], fields[4], fields[5]) = (
        ("filter", "body.n > 0"),
        ("transform", "{'t': body.t, 'n': 10 / (int(body.n) - 1)}"),
        ("order_key", "body.n"),
    );
    let page = html(signed.post("/routes/new", &fields).await.expect_status(200));
    has(&page, &["Of the newest 3 events, 1 matches, 1 does not, and 1 fails.", "Would be held", "Does not match"]);
    has(&page, &["&#34;t&#34;:&#34;&#60;b&#62;&#34;", " steps"]);
    assert_eq!(gateway.api.all("/v1/routes").await.len(), 1, "nothing was saved");

    fields[8] = ("save", "1");
    let page = signed.post("/routes/new", &fields).await;
    let own = signed.redirected(&page);
    let route = gateway.api.get(&format!("/v1{own}")).await.expect_status(200);
    assert_eq!((&route["filter"], &route["poison"]), (&json!("body.n > 0"), &json!("skip")), "{route}");
    has(&signed.read(&own).await, &["is created", "body.n &#62; 0</textarea>"]);
    // A second route between the same two is refused, and what was typed stays.
    let page = html(signed.post("/routes/new", &fields).await.expect_status(422));
    has(&page, &["already exists", "body.n &#62; 0</textarea>"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_saved_disabled_and_deleted_and_nobody_overwrites_another() {
    let gateway = Gateway::relay_only().await;
    let mut signed = Signed::in_to(&gateway).await;
    gateway.line("line").await;
    let route = id(&gateway.api.all("/v1/routes").await[0]).to_owned();
    let (own, call) = (format!("/routes/{route}"), format!("/v1/routes/{route}"));
    let opened = version(&signed.read(&own).await);
    gateway.api.patch(&call, &json!({ "types": ["a"] })).await.expect_status(200);
    let typed = |version: &str| {
        vec![
            ("version".to_owned(), version.to_owned()),
            ("name".to_owned(), "mine".to_owned()),
            ("types".to_owned(), "b\r\nc\r\n".to_owned()),
            ("enabled".to_owned(), "on".to_owned()),
        ]
    };
    let fields = typed(&opened);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let page = html(signed.post(&own, &fields).await.expect_status(412));
    has(&page, &["Someone has changed it", "b\nc\n</textarea>"]);
    let fields = typed(&version(&page));
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let page = signed.post(&own, &fields).await;
    assert_eq!(signed.redirected(&page), own);
    let saved = gateway.api.get(&call).await.expect_status(200);
    assert_eq!((&saved["types"], &saved["name"]), (&json!(["b", "c"]), &json!("mine")), "{saved}");

    let page = signed.post(&format!("{own}/disable"), &[]).await;
    signed.redirected(&page);
    assert_eq!(gateway.api.get(&call).await.expect_status(200)["enabled"], false);
    let page = signed.post(&format!("{own}/enable"), &[]).await;
    signed.redirected(&page);
    assert_eq!(gateway.api.get(&call).await.expect_status(200)["enabled"], true);

    let page = signed.read(&format!("{own}/delete")).await;
    has(&page, &["are still sent", "Delete the route mine"]);
    html(signed.post(&format!("{own}/delete"), &[("version", "0")]).await.expect_status(412));
    let page = signed.post(&format!("{own}/delete"), &[("version", &version(&page))]).await;
    assert_eq!(signed.redirected(&page), "/flow");
    assert_eq!(signed.open(&own).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_sees_nothing_of_another_and_its_reader_changes_nothing() {
    let gateway = Gateway::relay_only().await;
    for name in ["acme", "zenith"] {
        gateway.api.create_customer(name).await;
        let of: Api = gateway.api.acting_for(name);
        of.create_destination(&format!("{name}-billing"), "http://127.0.0.1:18999/", json!({})).await;
        of.create_source(&format!("{name}-shop"), &harness::provider::Provider::standard_webhooks()).await;
        of.create_route(&format!("{name}-shop"), &format!("{name}-billing"), json!({})).await;
    }
    let others = gateway.api.acting_for("zenith");
    let destination = id(&others.get("/v1/destinations/zenith-billing").await.expect_status(200)).to_owned();
    let route = id(&others.all("/v1/routes").await[0]).to_owned();
    let mut signed = Signed::limited(&gateway, &["read", "write", "replay", "secrets", "bodies"], Some("acme")).await;
    for path in ["/destinations", "/flow", "/routes/new", "/destinations/acme-billing"] {
        let page = signed.read(path).await;
        assert!(page.contains("acme-billing") && !page.contains("zenith"), "{path}: {page}");
    }
    let below = ["", "/edit", "/resume", "/delete", "/rotate", "/secret", "/test"];
    for path in below
        .iter()
        .map(|rest| format!("/destinations/{destination}{rest}"))
        .chain([format!("/routes/{route}"), format!("/routes/{route}/delete")])
    {
        assert_eq!(signed.open(&path).await.status, 404, "{path}");
    }
    let posts = ["edit", "pause", "resume", "delete", "rotate", "secret", "test"]
        .map(|rest| format!("/destinations/{destination}/{rest}"));
    let routes = ["", "/enable", "/disable", "/delete"].map(|rest| format!("/routes/{route}{rest}"));
    for path in posts.into_iter().chain(routes) {
        let fields = [("version", "0"), ("url", "http://127.0.0.1:18998/"), ("overlap_s", "0"), ("event", "evt_1")];
        assert_eq!(signed.post(&path, &fields).await.status, 404, "{path}");
    }
    // All customers together: the lists name the customer of each row.
    let mut root = Signed::in_to(&gateway).await;
    for path in ["/destinations?customer=*", "/flow?customer=*"] {
        has(&root.read(path).await, &["acme", "zenith", "customer=zenith"]);
    }
}
