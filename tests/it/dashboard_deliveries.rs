//! dashboard: deliveries, operations, replays, the quarantine and unreadable messages, as a browser without script uses
//! them.

use harness::api::id;
use harness::browser::{Browser, Page};
use harness::gateway::{Gateway, Line, RelayOnly, drained};
use harness::provider::Provider;
use harness::queue::ContentType;
use harness::receiver::Behaviour;
use harness::wait::{LONG, SOON, until};
use serde_json::{Value, json};

use crate::operations::{connect, execute, uuid};
use crate::quarantine::quarantine;

/// A browser that is signed in.
struct Dashboard {
    browser: Browser,
    base: String,
}

impl Dashboard {
    async fn of(gateway: &RelayOnly) -> Self {
        Self::signed_in(gateway, gateway.relay.token()).await
    }

    async fn signed_in(gateway: &RelayOnly, token: &str) -> Self {
        let base = gateway.relay.url().to_owned();
        let mut browser = Browser::default();
        let page = browser.post_form(&format!("{base}/dashboard/sign-in"), &[("token", token)]).await;
        assert_eq!(page.status, 303, "{page:?}");
        Self { browser, base }
    }

    /// The text of a page.
    async fn page(&mut self, path: &str) -> String {
        text(self.browser.get(&format!("{}/dashboard{path}", self.base)).await, 200)
    }

    async fn status(&mut self, path: &str) -> u16 {
        self.browser.get(&format!("{}/dashboard{path}", self.base)).await.status
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.browser.post_form(&format!("{}/dashboard{path}", self.base), fields).await
    }

    /// Sends a form, and returns the page that it leads to, with its path.
    async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> (String, String) {
        let page = self.post(path, fields).await;
        assert_eq!(page.status, 303, "{page:?}");
        let location = page.location.expect("a redirect");
        let shown = self.browser.follow(location.as_str(), "-").await;
        let path = shown.url.path().trim_start_matches("/dashboard").to_owned();
        (path, text(shown, 200))
    }

    /// Reads a page until it is as wanted.
    async fn wait_for(&mut self, path: &str, wanted: &str) -> String {
        let url = format!("{}/dashboard{path}", self.base);
        let browser = tokio::sync::Mutex::new(&mut self.browser);
        until(&format!("{path} to show {wanted}"), LONG, async || {
            let shown = text(browser.lock().await.get(&url).await, 200);
            if shown.contains(wanted) { Ok(shown) } else { Err(shown) }
        })
        .await
    }
}

fn text(page: Page, status: u16) -> String {
    match page.clone().expect_status(status) {
        Value::String(text) => text,
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            panic!("{} is no page: {other}", page.url)
        }
    }
}

#[track_caller]
fn shows(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "the page does not show {text}: {page}");
    }
}

#[track_caller]
fn shows_none(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(!page.contains(text), "the page shows {text}: {page}");
    }
}

/// How many rows the first table of a page has.
fn rows(page: &str) -> usize {
    let body = page.split("<tbody>").nth(1).unwrap_or_default();
    body.split("</tbody>").next().unwrap_or_default().matches("<tr>").count()
}

/// A line whose destination answers with a status, and has no second attempt, after `events` deliveries to it died.
async fn dead(gateway: &RelayOnly, name: &str, events: usize) -> (Line, Vec<Value>) {
    let line = gateway.line(name).await;
    line.receiver.always(Behaviour::Status(503));
    let once = json!({ "retry": { "schedule_s": [0] } });
    gateway.api.patch(&format!("/v1/destinations/{}", line.destination.id), &once).await.expect_saved();
    for number in 0..events {
        gateway.push(&line.source, json!({ "type": "paid", "number": number }).to_string().as_bytes());
    }
    let path = format!("/v1/deliveries?state=dead&destination={name}");
    let dead = gateway.api.wait_for_rows(&path, events, SOON).await;
    (line, dead)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_delivery_is_found_by_filters_its_attempts_name_the_layer_and_a_retry_sends_it() {
    let gateway = Gateway::relay_only().await;
    let mut dashboard = Dashboard::of(&gateway).await;
    shows(&dashboard.page("/deliveries").await, &["No delivery yet"]);
    let (line, failed) = dead(&gateway, "failing", 1).await;
    let delivery = id(&failed[0]);

    for filters in [
        "?state=dead",
        "?destination=failing&status_class=5xx",
        "?error=http_status",
        &format!("?event={}", failed[0]["event_id"].as_str().expect("an id")),
        "?after=2020-01-31T08:00",
    ] {
        let page = dashboard.page(&format!("/deliveries{filters}")).await;
        shows(&page, &[&format!("/dashboard/deliveries/{delivery}"), "http_status", "Remove this filter"]);
    }
    for filters in ["?state=pending", "?status_class=2xx", "?error=timeout", "?before=2020-01-31T08:00"] {
        let page = dashboard.page(&format!("/deliveries{filters}")).await;
        shows(&page, &["No delivery matches these filters"]);
    }
    for filters in
        ["?state=lost", "?status_class=9xx", "?destination=nowhere", "?event=x", "?state=pending&error=timeout"]
    {
        assert_eq!(dashboard.status(&format!("/deliveries{filters}")).await, 422, "{filters}");
    }
    assert_eq!(dashboard.status("/deliveries?error=%00").await, 400);

    let path = format!("/deliveries/{delivery}");
    let page = dashboard.page(&path).await;
    shows(&page, &["Delivery to <bdi>failing</bdi>", "Response: ", "503", "answer 503", "What to do."]);
    shows(&page, &[&format!("/dashboard/destinations/{}", line.destination.id), "tidegate delivery retry"]);
    shows_none(&page, &["/cancel\""]);

    line.receiver.always(Behaviour::Status(204));
    let (shown, page) = dashboard.submit(&format!("{path}/retry"), &[]).await;
    assert_eq!(shown, path);
    shows(&page, &["sent before all other deliveries"]);
    let page = dashboard.wait_for(&path, "Send again").await;
    shows(&page, &["Accepted with status 204.", "Send again"]);
    assert_eq!(rows(&page), 2, "both attempts: {page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_delivery_says_what_it_waits_for_and_is_cancelled_after_a_question() {
    let gateway = Gateway::relay_only().await;
    let mut dashboard = Dashboard::of(&gateway).await;
    let line = gateway.line("paused").await;
    gateway.api.pause("paused").await;
    gateway.push(&line.source, b"{}");
    let held = gateway.api.wait_for_row("/v1/deliveries?state=held", SOON).await;
    let path = format!("/deliveries/{}", id(&held));
    let page = dashboard.page("/deliveries").await;
    shows(&page, &["Held", "<td>Destination</td>"]);
    let page = dashboard.page(&path).await;
    shows(&page, &["The destination is paused. It is sent when the destination is active again.", "No attempt yet"]);

    let page = dashboard.page(&format!("{path}/cancel")).await;
    shows(&page, &["Cancel this delivery?", "is not sent to paused any more", "Keep it"]);
    let state = async || gateway.api.get(&format!("/v1{path}")).await.expect_status(200)["state"].clone();
    assert_eq!(state().await, "held", "the question changes nothing");
    let (_, page) = dashboard.submit(&format!("{path}/cancel"), &[]).await;
    shows(&page, &["The delivery is cancelled.", "It was cancelled"]);
    assert_eq!(state().await, "cancelled");
    assert_eq!(line.receiver.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ticked_deliveries_and_all_that_match_are_planned_before_an_operation_changes_them() {
    let gateway = Gateway::relay_only().await;
    let mut dashboard = Dashboard::of(&gateway).await;
    let (line, failed) = dead(&gateway, "failing", 5).await;
    let page = dashboard.page("/deliveries?state=dead").await;
    assert_eq!(rows(&page), 5, "{page}");
    shows(&page, &["data-ticks", "/dashboard/deliveries/plan?state=dead&#38;change=retry"]);

    let page =
        dashboard.browser.get(&format!("{}/dashboard/deliveries/plan?ticks=1&change=retry", dashboard.base)).await;
    shows(&text(page, 422), &["No delivery is ticked"]);
    let ticked = format!("/deliveries/plan?ticks=1&change=retry&id={}&id={}", id(&failed[1]), id(&failed[3]));
    let page = dashboard.page(&ticked).await;
    shows(&page, &["2 chosen deliveries.", "of 2 chosen", "Retry 2 deliveries", "By destination", "failing"]);
    assert_eq!(line.receiver.count(), 5, "a plan changes nothing");
    let release = ticked.replace("retry", "release");
    shows(&dashboard.page(&release).await, &["Nothing would change"]);

    line.receiver.always(Behaviour::Status(200));
    let fields = [("change", "retry"), ("id", id(&failed[1])), ("id", id(&failed[3]))];
    let (path, page) = dashboard.submit("/deliveries/plan", &fields).await;
    assert!(path.starts_with("/operations/opn_"), "{path}");
    shows(&page, &["The operation has started", "2 chosen deliveries."]);
    let page = dashboard.wait_for(&path, "Completed").await;
    shows(&page, &["2 of 2, 100 %", "It has done all of its work."]);
    line.receiver.wait_for(7, SOON).await;
    let mut sent: Vec<String> =
        line.receiver.requests()[5..].iter().map(|request| request.header("webhook-id").to_owned()).collect();
    sent.sort_unstable();
    let mut wanted: Vec<&str> = [1, 3].map(|at: usize| failed[at]["event_id"].as_str().expect("an id")).to_vec();
    wanted.sort_unstable();
    assert_eq!(sent, wanted, "only what was ticked is sent");

    let page = dashboard.page("/deliveries/plan?state=dead&change=retry").await;
    shows(&page, &["Dead deliveries.", "Retry 3 deliveries"]);
    let (path, _) = dashboard.submit("/deliveries/plan", &[("change", "retry"), ("state", "dead")]).await;
    dashboard.wait_for(&path, "3 of 3, 100 %").await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 5, SOON).await;

    gateway.api.pause("failing").await;
    for number in 10..13 {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    gateway.api.wait_for_rows("/v1/deliveries?state=held", 3, SOON).await;
    let page = dashboard.page("/deliveries/plan?state=held&change=release").await;
    shows(&page, &["Nothing would change", "Their destination is paused, disabled or unusable: resume it"]);
    let page = dashboard.page("/deliveries/plan?state=held&change=cancel").await;
    shows(&page, &["Cancel 3 deliveries", "class=\"danger\""]);
    let (path, _) = dashboard.submit("/deliveries/plan", &[("change", "cancel"), ("state", "held")]).await;
    dashboard.wait_for(&path, "Completed").await;
    gateway.api.wait_for_rows("/v1/deliveries?state=cancelled", 3, SOON).await;

    let page = dashboard.page("/operations").await;
    assert_eq!(rows(&page), 3, "{page}");
    shows(&page, &["Retry deliveries", "Cancel deliveries", "Held deliveries."]);
    let page = dashboard.page("/operations?kind=cancel_deliveries&state=completed").await;
    assert_eq!(rows(&page), 1, "{page}");
    assert_eq!(dashboard.status("/operations?kind=unknown").await, 422);
    assert_eq!(dashboard.status("/deliveries/plan?change=unknown").await, 404);
    let entries = gateway.api.all("/v1/audit").await;
    let created = entries.iter().filter(|entry| entry["action"] == "operation.create").count();
    assert_eq!(created, 3, "one entry for each operation: {entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_planned_started_steered_and_what_is_dead_of_it_is_retried() {
    let gateway = Gateway::relay_only().await;
    let mut dashboard = Dashboard::of(&gateway).await;
    let line = gateway.line("line").await;
    for number in 0..4 {
        gateway.push(&line.source, json!({ "type": "paid", "number": number }).to_string().as_bytes());
    }
    gateway.push(&line.source, br#"{"type":"refunded"}"#);
    line.receiver.wait_for(5, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 5, SOON).await;
    line.receiver.forget();

    let page = dashboard.page("/replays/new").await;
    shows(&page, &["New replay", "<option value=\"line\">"]);
    let wrong = "/replays/new?plan=1&source=nowhere&limit=many&per=minute&after=yesterday";
    let page = text(dashboard.browser.get(&format!("{}/dashboard{wrong}", dashboard.base)).await, 422);
    shows(
        &page,
        &["value=\"nowhere\"", "value=\"many\"", "Must be a whole number", "aria-invalid=\"true\"", "class=\"error\""],
    );
    shows_none(&page, &["Start the replay"]);
    let page = dashboard.page("/replays/new?plan=1&source=line&limit=1&per=hour").await;
    shows(&page, &["Start the replay of 5", "tidegate replay create"]);
    assert_eq!(line.receiver.count(), 0, "a plan delivers nothing");

    let slow = [("source", "line"), ("limit", "1"), ("per", "hour")];
    let (path, page) = dashboard.submit("/replays/new", &slow).await;
    assert!(path.starts_with("/replays/rpl_"), "{path}");
    shows(&page, &["The replay has started", "Events of line."]);
    dashboard.wait_for(&path, "1 of 5, 20 %").await;
    dashboard.wait_for(&path, "It does not move: its rate limit allows the next delivery at").await;
    let (_, page) = dashboard.submit(&format!("{path}/pause"), &[]).await;
    shows(&page, &["The replay is paused.", "Resume", "it is paused"]);
    let refused = dashboard.post(&format!("{path}/rate"), &[("limit", "0"), ("per", "second")]).await;
    shows(&text(refused, 422), &["value=\"0\"", "class=\"error\""]);
    let (_, page) = dashboard.submit(&format!("{path}/rate"), &[("limit", "1000"), ("per", "second")]).await;
    shows(&page, &["The replay creates at most 1,000 per second."]);
    line.receiver.always(Behaviour::Status(410));
    let (_, page) = dashboard.submit(&format!("{path}/resume"), &[]).await;
    shows(&page, &["continues where it was"]);
    let page = dashboard.wait_for(&path, "Again for what is dead").await;
    shows(&page, &["state=dead&#38;change=retry"]);

    // A delivery that was answered with 410 is dead, and its destination is disabled.
    line.receiver.always(Behaviour::Status(200));
    gateway.api.resume("line").await;
    let replay = path.trim_start_matches("/replays/");
    let failed = gateway.api.all(&format!("/v1/deliveries?state=dead&replay={replay}")).await;
    assert!(!failed.is_empty() && failed.iter().all(|delivery| delivery["replay_id"] == replay), "{failed:?}");
    let again = format!("/deliveries/plan?replay={replay}&state=dead&change=retry");
    shows(&dashboard.page(&again).await, &["Dead deliveries created by the replay", replay]);
    let fields = [("change", "retry"), ("replay", replay), ("state", "dead")];
    let (operation, _) = dashboard.submit("/deliveries/plan", &fields).await;
    dashboard.wait_for(&operation, "Completed").await;
    let page = dashboard.page("/operations").await;
    shows(&page, &["Replay", &path, "Events of line."]);
    shows(&dashboard.page("/operations?kind=replay").await, &[&path]);

    let (other, _) = dashboard.submit("/replays/new", &slow).await;
    let page = dashboard.page(&format!("{other}/cancel")).await;
    shows(&page, &["Cancel this replay?", "Let it run"]);
    let (_, page) = dashboard.submit(&format!("{other}/cancel"), &[]).await;
    shows(&page, &["The replay is cancelled.", "It was cancelled."]);
    let (_, page) = dashboard.submit(&format!("{other}/pause"), &[]).await;
    shows(&page, &["tone-danger", "has ended"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_in_quarantine_say_whether_they_verify_now_and_are_released_one_by_one_or_those_that_verify() {
    let gateway = Gateway::relay_only().await;
    let mut dashboard = Dashboard::of(&gateway).await;
    shows(&dashboard.page("/quarantine").await, &["Nothing is in quarantine"]);
    let line = gateway.line("kept").await;
    let genuine = [1, 2, 3].map(|number| quarantine(&gateway, &line.source, number, &line.provider));
    let forged = quarantine(&gateway, &line.source, 4, &Provider::standard_webhooks());
    drained(&gateway.queue, SOON).await;
    let page = dashboard.page("/quarantine?source=kept").await;
    assert_eq!(rows(&page), 4, "{page}");
    assert_eq!((page.matches(">Verifies<").count(), page.matches(">Fails<").count()), (3, 1), "{page}");
    shows(&page, &["causes on this page", "Release all that verify now"]);

    let (_, page) = dashboard.submit(&format!("/quarantine/{}/release", genuine[0]), &[]).await;
    shows(&page, &["The event is released: 1 delivery."]);
    line.receiver.wait_for_events([genuine[0]], SOON).await;
    let page = dashboard.page("/quarantine/plan?source=kept&verifies_now=true").await;
    shows(&page, &["Events in quarantine of kept that verify now.", "Release those that verify now"]);
    let (path, _) = dashboard.submit("/quarantine/plan", &[("source", "kept"), ("verifies_now", "true")]).await;
    assert!(path.starts_with("/replays/"), "{path}");
    let page = dashboard.wait_for(&path, "Completed").await;
    shows(&page, &["Release from quarantine", "Events in quarantine of kept that verify now."]);
    line.receiver.wait_for_events(genuine, SOON).await;
    let page = dashboard.page("/quarantine").await;
    shows(&page, &[&forged.to_string()]);
    assert_eq!(rows(&page), 1, "{page}");
    shows(&dashboard.page("/quarantine/plan").await, &["also those whose verification still fails", "Release 1 event"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_message_is_listed_shown_downloaded_and_tried_again() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let mut dashboard = Dashboard::of(&gateway).await;
    shows(&dashboard.page("/quarantine/messages").await, &["No unreadable message"]);
    let bytes: Vec<u8> = b"<script>alert(1)</script>".iter().copied().chain(0..=255).collect();
    gateway.queue.push_message(ContentType::Bytes, bytes.clone());
    gateway.api.wait_for_row("/v1/unreadable-messages", SOON).await;
    let page = dashboard.page("/quarantine/messages?reason=not_decodable&state=waiting").await;
    assert_eq!(rows(&page), 1, "{page}");
    assert_eq!(dashboard.status("/quarantine/messages?reason=odd").await, 422);
    let message = gateway.api.all("/v1/unreadable-messages").await.remove(0);
    let path = format!("/quarantine/messages/{}", id(&message));
    let page = dashboard.page(&path).await;
    let download = format!("/v1/unreadable-messages/{}/message", id(&message));
    shows(&page, &["Not decodable", "What to do.", &download]);
    shows_none(&page, &["<script>alert"]);
    let downloaded = dashboard.browser.get(&format!("{}{download}", dashboard.base)).await;
    assert_eq!(downloaded.status, 200);

    let (shown, page) = dashboard.submit(&format!("{path}/release"), &[]).await;
    assert_eq!(shown, path);
    shows(&page, &["tone-danger"]);
    let (_, page) = dashboard.submit("/quarantine/messages/release", &[("reason", "not_decodable")]).await;
    shows(&page, &["1 message is tried again in the background"]);
    let (_, page) = dashboard.submit("/quarantine/messages/release", &[("reason", "past_retention")]).await;
    shows(&page, &["No message with this reason waits."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn these_pages_show_nothing_of_another_customer_and_offer_no_change_without_the_scope() {
    let gateway = Gateway::relay_only().await;
    gateway.api.create_customer("acme").await;
    let (_, failed) = dead(&gateway, "failing", 1).await;
    let replay =
        gateway.api.post("/v1/replays", &json!({ "filter": { "source": "failing" } })).await.expect_status(201);
    let retry = json!({ "kind": "retry_deliveries", "deliveries": { "state": "dead" } });
    let operation = gateway.api.post("/v1/operations", &retry).await.expect_status(202);
    let (delivery, replay, operation) = (id(&failed[0]), id(&replay), id(&operation));
    let pages = [
        format!("/deliveries/{delivery}"),
        format!("/deliveries/{delivery}/cancel"),
        format!("/replays/{replay}"),
        format!("/replays/{replay}/cancel"),
        format!("/operations/{operation}"),
        format!("/operations/{operation}/cancel"),
    ];

    let all = ["read", "bodies", "write", "replay"];
    let token = gateway.api.create_token(&all, Some("acme"), json!({})).await;
    let mut other = Dashboard::signed_in(&gateway, token["token"].as_str().expect("a token")).await;
    for path in &pages {
        assert_eq!(other.status(path).await, 404, "{path}");
    }
    for path in ["/retry", "/cancel"].map(|action| format!("/deliveries/{delivery}{action}")) {
        assert_eq!(other.post(&path, &[]).await.status, 404, "{path}");
    }
    for path in ["/pause", "/resume", "/rate", "/cancel"].map(|action| format!("/replays/{replay}{action}")) {
        assert_eq!(other.post(&path, &[]).await.status, 404, "{path}");
    }
    assert_eq!(other.post(&format!("/operations/{operation}/cancel"), &[]).await.status, 404);
    assert_eq!(other.status("/quarantine/messages").await, 403, "unreadable messages belong to no customer");
    for path in ["/deliveries", "/operations", "/quarantine"] {
        shows_none(&other.page(path).await, &["failing", delivery, replay, operation]);
    }
    let page = other.page(&format!("/deliveries?replay={replay}")).await;
    shows(&page, &["No delivery matches these filters"]);
    let page = other.page(&format!("/deliveries/plan?change=retry&id={delivery}")).await;
    shows(&page, &["Nothing would change"]);
    shows_none(&page, &["failing"]);
    let (path, _) = other.submit("/deliveries/plan", &[("change", "retry"), ("id", delivery)]).await;
    let page = other.wait_for(&path, "Completed").await;
    shows(&page, &["nothing matched"]);

    let token = gateway.api.create_token(&["read"], None, json!({})).await;
    let mut reader = Dashboard::signed_in(&gateway, token["token"].as_str().expect("a token")).await;
    for path in ["/deliveries", "/operations", "/quarantine", &pages[0], &pages[2], &pages[4]] {
        let page = reader.page(path).await;
        let content = page.split("id=\"content\"").nth(1).expect("the content");
        shows_none(content, &["method=\"post\"", "data-tick-all", "New replay</a>", "/cancel\""]);
    }
    assert_eq!(reader.post(&format!("/deliveries/{delivery}/retry"), &[]).await.status, 403);
    assert_eq!(reader.status("/deliveries/plan?change=retry&state=dead").await, 403);
    let mut all = Dashboard::of(&gateway).await;
    let page = all.page("/deliveries?customer=*").await;
    shows(&page, &["Choose one customer", "customer=default"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_from_outside_are_shown_as_texts_and_long_responses_say_how_much_is_left_out() {
    const NASTY: &str = "<script>alert(1)</script>\"><img src=x onerror=alert(1)>\u{202e}";
    let gateway = Gateway::relay_only().await;
    let mut dashboard = Dashboard::of(&gateway).await;
    let (_, failed) = dead(&gateway, "failing", 1).await;
    let delivery = id(&failed[0]);
    let long = format!("{NASTY}{}", "x".repeat(16_000));
    execute(
        &mut connect(&gateway).await,
        &format!(
            "update attempts set detail = '{NASTY}', response_excerpt = '{long}', location = 'https://a/{NASTY}'
             where delivery_id = {id};
             update settled_deliveries set reason = '{NASTY}', error = '{NASTY}' where id = {id}",
            id = uuid(delivery)
        ),
    )
    .await;
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("error", NASTY).finish();
    for path in [
        format!("/deliveries/{delivery}"),
        "/deliveries".to_owned(),
        format!("/deliveries?{query}"),
        format!("/deliveries/plan?change=retry&state=dead&{query}"),
        format!("/replays/new?plan=1&type={}", &query[6..]),
    ] {
        let page = dashboard.page(&path).await;
        shows_none(&page, &["<script>alert", "<img src=x"]);
    }
    let page = dashboard.page(&format!("/deliveries/{delivery}")).await;
    shows(&page, &["The first 4,000 of", "&#60;script&#62;alert"]);
}
