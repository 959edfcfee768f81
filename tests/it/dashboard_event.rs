//! dashboard: the page of an event with what can be done there, the list of events, and the box that finds anything.

use harness::api::{Api, id};
use harness::browser::{Browser, Page};
use harness::gateway::{Gateway, RelayOnly, drained};
use harness::receiver::Behaviour;
use harness::wait::{SOON, until};
use serde_json::{Value, json};
use shared::id::EventId;

/// A browser that is signed in with a token.
struct Signed {
    browser: Browser,
    base: String,
}

impl Signed {
    async fn with(gateway: &RelayOnly, token: &str) -> Self {
        let base = gateway.relay.url().to_owned();
        let mut browser = Browser::default();
        let page = browser.post_form(&format!("{base}/dashboard/sign-in"), &[("token", token)]).await;
        assert_eq!(page.status, 303, "{page:?}");
        Self { browser, base }
    }

    async fn limited_to(gateway: &RelayOnly, scopes: &[&str], customer: Option<&str>) -> Self {
        let made = gateway.api.create_token(scopes, customer, json!({})).await;
        Self::with(gateway, made["token"].as_str().expect("a token")).await
    }

    async fn root(gateway: &RelayOnly) -> Self {
        Self::limited_to(gateway, &["read", "bodies", "write", "replay", "secrets", "admin"], None).await
    }

    async fn get(&mut self, path: &str) -> Page {
        self.browser.get(&format!("{}{path}", self.base)).await
    }

    /// The text of a page that is there.
    async fn page(&mut self, path: &str) -> String {
        let page = self.get(path).await;
        assert_eq!(page.status, 200, "{path}: {:?}", page.body);
        text(&page)
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.browser.post_form(&format!("{}{path}", self.base), fields).await
    }

    /// Posts a form that leads to another page, and returns the text of that page.
    async fn done(&mut self, path: &str, fields: &[(&str, &str)]) -> String {
        let page = self.post(path, fields).await;
        assert_eq!(page.status, 303, "{path}: {:?}", page.body);
        let next = page.location.expect("a page");
        let page = self.browser.get(next.as_str()).await;
        assert_eq!(page.status, 200, "{next}: {:?}", page.body);
        text(&page)
    }
}

fn text(page: &Page) -> String {
    page.body.as_str().unwrap_or_else(|| panic!("no page: {}", page.body)).to_owned()
}

#[track_caller]
fn has(page: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(page.contains(part), "\"{part}\" is missing in {page}");
    }
}

/// The value of a field of a form.
fn value<'a>(page: &'a str, name: &str) -> &'a str {
    let field =
        page.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no {name} in {page}"));
    field.split('"').next().unwrap_or_default()
}

async fn reads_of_bodies(api: &Api) -> usize {
    let entries = api.get("/v1/audit?action=event.read_body").await.expect_status(200);
    entries["data"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_an_event_shows_its_way_its_routes_and_its_attempts_and_says_why_it_was_not_delivered() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let more = json!({ "retry": { "initial_s": 1, "multiplier": 2, "max_s": 60, "attempts": 1 } });
    let broken = harness::receiver::Receiver::behaving(Behaviour::Status(500)).await.expect("starts");
    gateway.api.create_destination("broken", &broken.url(), more).await;
    gateway.api.create_route("line", "broken", json!({ "name": "to-broken", "filter": "body.n > 0" })).await;
    let idle = harness::receiver::Receiver::start().await.expect("starts");
    gateway.api.create_destination("idle", &idle.url(), json!({})).await;
    gateway.api.create_route("line", "idle", json!({ "name": "to-idle", "types": ["other.type"] })).await;
    let event = gateway.push(&line.source, br#"{"type":"paid","n":1}"#);
    line.receiver.wait_for_events([event], SOON).await;
    gateway.api.wait_for_row("/v1/deliveries?state=dead", SOON).await;
    gateway.api.wait_for_row("/v1/deliveries?state=succeeded", SOON).await;

    let mut viewer = Signed::root(&gateway).await;
    let page = viewer.page(&format!("/dashboard/events/{event}")).await;
    // The sentence names what failed first, and then what was delivered.
    has(&page, &["Not delivered to broken: dead after 1 attempt", "Delivered to 1 other destination."]);
    // Every stage, and those without a time of their own say so.
    has(&page, &[">Received<", ">Verified<", ">Queued<", ">Pulled<", ">Stored<", ">Routed<"]);
    has(&page, &["It has no time of its own", "broken: attempt 1", "line: attempt 1", "answered 500"]);
    // What decided, then and now.
    has(&page, &["to-broken", "<bdi>body.n &#62; 0</bdi>", "matched, dead", "matched, succeeded"]);
    has(&page, &["to-idle", "<bdi>other.type</bdi>", "no delivery", "other type"]);
    // The two sides of an attempt.
    has(&page, &["<h3>Request 1</h3>", "<h3>Response 1</h3>", "status 500", "<code>http_status</code>", &broken.url()]);
    has(&page, &["Deliver again", "Edit and send", "Erase the body"]);
    assert_eq!(reads_of_bodies(&gateway.api).await, 0, "no body was read");

    // A change of a route after the event was stored is said.
    gateway.api.patch("/v1/routes/to-broken", &json!({ "filter": "body.n > 5" })).await;
    let changed = until("the page to show the change", SOON, async || {
        let page = viewer.browser.clone().get(&format!("{}/dashboard/events/{event}", viewer.base)).await;
        let page = text(&page);
        if page.contains("body.n &#62; 5") { Ok(page) } else { Err("not yet".to_owned()) }
    })
    .await;
    has(&changed, &["does not match", "after the event was stored"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_read_only_in_the_tabs_that_show_it_is_recorded_and_needs_its_scope() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let body = "{\"b\":1,\"a\":\"<script>alert(1)</script>\u{202e}\"}";
    let headers = [("content-type", "application/json"), ("x-evil", "\"><img src=x onerror=alert(1)>")];
    let event = gateway.push_request(&line.source, "a=1&b=%3Cb%3E", &headers, body.as_bytes());
    let binary = gateway.push(&line.source, &[0, 0xff, 1, 2]);
    let large = gateway.push(&line.source, &vec![b'x'; 80_000]);
    line.receiver.wait_for_events([event, binary, large], SOON).await;
    let mut viewer = Signed::root(&gateway).await;

    let path = format!("/dashboard/events/{event}");
    let page = viewer.page(&format!("{path}?tab=query")).await;
    has(&page, &["<bdi>&#60;b&#62;</bdi>"]);
    let page = viewer.page(&path).await;
    assert!(!page.contains("<img") && page.contains("onerror"), "the header is shown as text: {page}");
    assert_eq!(reads_of_bodies(&gateway.api).await, 0);
    let page = viewer.page(&format!("{path}?tab=pretty")).await;
    assert!(!page.contains("<script>alert") && !page.contains('\u{202e}'), "{page}");
    has(&page, &["&#34;b&#34;: 1,\n  &#34;a&#34;", "⟨U+202E⟩", "Shown as JSON."]);
    assert_eq!(reads_of_bodies(&gateway.api).await, 1);
    // The live part of the page is read again without the body.
    viewer.browser.headers.insert("tidegate-live", "1".to_owned());
    viewer.page(&format!("{path}?tab=pretty")).await;
    viewer.browser.headers.clear();
    assert_eq!(reads_of_bodies(&gateway.api).await, 1);

    let page = viewer.page(&format!("/dashboard/events/{binary}?tab=hex")).await;
    has(&page, &["00000000  00 ff 01 02"]);
    let page = viewer.page(&format!("/dashboard/events/{large}?tab=raw")).await;
    has(&page, &["The first 65.5 KB of 80.0 KB are shown; 14.4 KB are left out."]);
    let download = viewer.get(&format!("/v1/events/{large}/body")).await;
    assert_eq!(download.status, 200, "the session downloads the body");

    let mut reader = Signed::limited_to(&gateway, &["read"], None).await;
    let page = reader.page(&format!("{path}?tab=raw")).await;
    has(&page, &["needs the scope bodies"]);
    assert!(!page.contains("alert(1)") || !page.contains("script"), "{page}");
    for action in ["Deliver again", "Edit and send", "Erase the body", ">Download<"] {
        assert!(!page.contains(action), "{action} is not offered to a reader");
    }
    for (action, status) in [("deliver", 403), ("edit", 403), ("erase", 403)] {
        assert_eq!(reader.get(&format!("{path}/{action}")).await.status, status, "{action}");
        assert_eq!(
            reader.post(&format!("{path}/{action}"), &[("destination", "line")]).await.status,
            status,
            "{action}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_delivered_again_edited_and_erased_by_forms_and_what_is_refused_keeps_what_was_typed() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let headers = [("content-type", "text/plain"), ("authorization", "Basic c2VjcmV0")];
    let event = gateway.push_with(&line.source, &headers, b"\nfirst\r\nsecond");
    line.receiver.wait_for_events([event], SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 1, SOON).await;
    let mut viewer = Signed::root(&gateway).await;
    let path = format!("/dashboard/events/{event}");

    has(&viewer.page(&format!("{path}/deliver")).await, &["These destinations would get it: line."]);
    let refused = viewer.post(&format!("{path}/deliver"), &[("destination", "nowhere")]).await;
    assert_eq!(refused.status, 422);
    has(&text(&refused), &["value=\"nowhere\"", "aria-invalid=\"true\"", "class=\"error\""]);
    let page = viewer.done(&format!("{path}/deliver"), &[("destination", "line")]).await;
    has(&page, &["A new delivery to line was created.", "sent by hand"]);
    line.receiver.wait_for(2, SOON).await;

    // A form that changes only the type keeps the bytes of the body and the hidden header.
    let form = viewer.page(&format!("{path}/edit")).await;
    has(&form, &["authorization: (not shown)", "\n\nfirst\nsecond</textarea>", "<tidegate-editor"]);
    let (shown, newlines) = (value(&form, "shown").to_owned(), value(&form, "newlines").to_owned());
    let typed = "content-type: text/plain\r\nauthorization: (not shown)\r\n";
    let fields = |kind, headers, body| {
        vec![
            ("type", kind),
            ("headers", headers),
            ("body", body),
            ("encoding", "text"),
            ("shown", shown.as_str()),
            ("newlines", newlines.as_str()),
            ("destination", ""),
        ]
    };
    let page = viewer.done(&format!("{path}/edit"), &fields("typed", typed, "\r\nfirst\r\nsecond")).await;
    has(
        &page,
        &["The edited event was stored: 1 delivery.", "Edited copy of", "it was not received, verified or queued"],
    );
    let edited = id(&gateway.api.all("/v1/events?verification=edited").await[0]).to_owned();
    assert_eq!(gateway.api.bytes(&format!("/v1/events/{edited}/body")).await, b"\nfirst\r\nsecond");
    // A changed body keeps the ends of its lines.
    viewer.done(&format!("{path}/edit"), &fields("", typed, "\r\nfirst\r\nthird")).await;
    let edited = id(&gateway.api.all("/v1/events?verification=edited").await[0]).to_owned();
    assert_eq!(gateway.api.bytes(&format!("/v1/events/{edited}/body")).await, b"\r\nfirst\r\nthird");
    for (headers, wanted) in [("no colon", "has no colon"), ("a: 1\nauthorization: (not shown)", "is hidden")] {
        let refused = viewer.post(&format!("{path}/edit"), &fields("", headers, "typed in vain")).await;
        assert_eq!(refused.status, 422);
        has(&text(&refused), &["typed in vain", wanted, headers.lines().next().unwrap_or_default()]);
    }
    let refused = viewer.post(&format!("{path}/edit"), &fields("", typed, "\r\nfirst\r\nsecond")).await;
    assert_eq!(refused.status, 422, "nothing was changed");

    line.receiver.wait_for(4, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 4, SOON).await;
    gateway.api.pause("line").await;
    viewer.done(&format!("{path}/deliver"), &[("destination", "line")]).await;
    has(&viewer.page(&path).await, &["Not delivered to line yet: held: the destination is paused."]);
    has(&viewer.page(&format!("{path}/erase")).await, &["cannot be undone", "1 delivery of it is pending or held"]);
    let refused = viewer.post(&format!("{path}/erase"), &[]).await;
    assert_eq!(refused.status, 409);
    gateway.api.resume("line").await;
    line.receiver.wait_for(5, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 5, SOON).await;
    let page = viewer.done(&format!("{path}/erase"), &[]).await;
    has(&page, &["The body was erased"]);
    has(&viewer.page(&format!("{path}?tab=raw")).await, &["erased"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_in_quarantine_says_why_and_whether_it_verifies_now_and_is_released() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let body = br#"{"n":1}"#;
    let signed = line.provider.sign("msg_1", body, harness::provider::now_s());
    let headers = signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let event = gateway.push_refused(&line.source, headers, body);
    drained(&gateway.queue, SOON).await;
    gateway.api.wait_for_row("/v1/events?verification=failed", SOON).await;
    let mut viewer = Signed::root(&gateway).await;
    let path = format!("/dashboard/events/{event}");
    let page = viewer.page(&path).await;
    has(
        &page,
        &["Not delivered: verification failed", "signature_mismatch", "Verifies now", "Release from quarantine"],
    );
    let page = viewer.page(&format!("{path}?tab=check")).await;
    has(&page, &["Signed time", "Signature", "Passed", "skew "]);
    let page = viewer.done(&format!("{path}/release"), &[]).await;
    has(&page, &["The event was released from quarantine: 1 delivery."]);
    line.receiver.wait_for_events([event], SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_marks_what_became_of_each_event_and_plans_replays_of_ticked_events_and_of_all_that_match() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let typed = |kind: &str| json!({ "type": kind }).to_string();
    let route = id(&gateway.api.all("/v1/routes").await[0]).to_owned();
    gateway.api.patch(&format!("/v1/routes/{route}"), &json!({ "filter": "body.type != \"unmatched\"" })).await;
    let paid = [1, 2].map(|_| gateway.push(&line.source, typed("paid").as_bytes()));
    let unmatched = gateway.push(&line.source, typed("unmatched").as_bytes());
    line.receiver.wait_for_events(paid, SOON).await;
    gateway.api.wait_for_rows("/v1/events", 3, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 2, SOON).await;
    let mut viewer = Signed::root(&gateway).await;

    let page = viewer.page("/dashboard/events").await;
    has(
        &page,
        &["aria-label=\"1 delivered\"", "aria-label=\"matched no route\"", "name=\"id\"", "Replay all that match"],
    );
    has(&viewer.page("/dashboard").await, &["aria-label=\"1 delivered\""]);
    let filtered = viewer.page("/dashboard/events?key=none").await;
    has(&filtered, &["The last event was received", "No event matches these filters"]);
    let unreplayable = viewer.page("/dashboard/events?deliveries=unmatched").await;
    has(&unreplayable, &["A replay does not select events that matched no route"]);

    let plan = viewer.page(&format!("/dashboard/events/replay?id={}&id={unmatched}", paid[0])).await;
    has(&plan, &["2 events would be taken", "Begin the replay"]);
    let all = viewer.page("/dashboard/events/replay?source=line").await;
    has(&all, &["3 events would be taken"]);
    let wrong = viewer.get("/dashboard/events/replay?id=evt_x").await;
    assert_eq!(wrong.status, 422, "{:?}", wrong.body);

    let begun = viewer.post("/dashboard/events/replay", &[("id", &paid[0].to_string()), ("limit", "")]).await;
    assert_eq!(begun.status, 303, "{:?}", begun.body);
    let replay = id(&gateway.api.all("/v1/replays").await[0]).to_owned();
    assert!(begun.location.is_some_and(|page| page.path().ends_with(&replay)));
    line.receiver.wait_for(3, SOON).await;
    let again: Vec<_> = line.receiver.requests().iter().filter_map(|request| event_of(&request.headers)).collect();
    assert_eq!(again.iter().filter(|id| **id == paid[0]).count(), 2, "only the ticked event was sent again");
    let shown = gateway.api.get(&format!("/v1/replays/{replay}")).await.expect_status(200);
    assert_eq!((&shown["matched"], &shown["filter"]["events"]), (&json!(1), &json!([paid[0].to_string()])), "{shown}");

    let exported = viewer.get("/dashboard/events/export?source=line").await;
    assert_eq!(
        (exported.status, exported.headers["content-type"].to_str().ok()),
        (200, Some("application/jsonl; charset=utf-8"))
    );
    let lines: Vec<Value> =
        text(&exported).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0]["id"], json!(unmatched.to_string()), "the newest comes first");

    // A reader is offered no replay.
    let mut reader = Signed::limited_to(&gateway, &["read"], None).await;
    let page = reader.page("/dashboard/events").await;
    assert!(!page.contains("name=\"id\"") && !page.contains("Replay all"), "{page}");
    assert_eq!(reader.get("/dashboard/events/replay?source=line").await.status, 403);
}

fn event_of(headers: &http::HeaderMap) -> Option<EventId> {
    headers.get("webhook-id")?.to_str().ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_box_opens_what_an_id_or_a_name_finds_and_says_what_was_searched() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let headers = [("content-type", "application/json"), ("webhook-id", "msg_7")];
    let event = gateway.push_with(&line.source, &headers, br#"{"type":"paid"}"#);
    line.receiver.wait_for_events([event], SOON).await;
    let delivery = gateway.api.wait_for_row("/v1/deliveries?state=succeeded", SOON).await;
    let delivery = id(&delivery).to_owned();
    let attempts = gateway.api.all(&format!("/v1/deliveries/{delivery}/attempts")).await;
    let route = id(&gateway.api.all("/v1/routes").await[0]).to_owned();
    let replay = gateway.api.post("/v1/replays", &json!({ "filter": { "type": "none" } })).await.expect_status(201);
    gateway.api.create_customer("acme").await;
    let mut viewer = Signed::root(&gateway).await;

    let opened = async |viewer: &mut Signed, wanted: &str| {
        let page = viewer.get(&format!("/dashboard/find?q={wanted}")).await;
        assert_eq!(page.status, 303, "{wanted}: {:?}", page.body);
        page.location.expect("a page").path().to_owned()
    };
    let to = |path: String| format!("/dashboard{path}");
    assert_eq!(opened(&mut viewer, &event.to_string()).await, to(format!("/events/{event}")));
    assert_eq!(opened(&mut viewer, &delivery).await, to(format!("/deliveries/{delivery}")));
    assert_eq!(opened(&mut viewer, id(&attempts[0])).await, to(format!("/deliveries/{delivery}")));
    assert_eq!(opened(&mut viewer, &line.source.id).await, to(format!("/sources/{}", line.source.id)));
    assert_eq!(opened(&mut viewer, &line.destination.id).await, to(format!("/destinations/{}", line.destination.id)));
    assert_eq!(opened(&mut viewer, &route).await, to(format!("/routes/{route}")));
    assert_eq!(opened(&mut viewer, id(&replay)).await, to(format!("/operations/{}", id(&replay))));
    assert_eq!(opened(&mut viewer, "msg_7").await, to(format!("/events/{event}")));
    assert_eq!(opened(&mut viewer, "acme").await, "/dashboard");
    // The source and the destination have the same name.
    let several = viewer.page("/dashboard/find?q=line").await;
    has(&several, &[&line.source.id, &line.destination.id]);
    let none = viewer.page("/dashboard/find?q=%3Cscript%3E").await;
    has(&none, &["Nothing found", "Searched: provider&#39;s ids of events"]);
    assert!(!none.contains("<script>&") && !none.contains("<bdi class=\"strong break\"><script"), "{none}");
    has(&viewer.page("/dashboard/find").await, &["Find anything"]);
    let unknown = EventId::mint(1, [1; 10]);
    has(&viewer.page(&format!("/dashboard/find?q={unknown}")).await, &["Searched: events and their copies"]);
    let long = "x".repeat(2_000);
    has(&viewer.page(&format!("/dashboard/find?q={long}")).await, &["too long"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_sees_finds_and_replays_nothing_of_another_and_all_customers_are_linked_with_their_names() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let event = gateway.push_with(&line.source, &[("webhook-id", "msg_1")], br#"{"type":"paid"}"#);
    line.receiver.wait_for_events([event], SOON).await;
    let delivery = id(&gateway.api.wait_for_row("/v1/deliveries", SOON).await).to_owned();
    gateway.api.create_customer("acme").await;
    // A token of one customer has no scope admin, which erasing needs.
    let scopes = ["read", "bodies", "write", "replay", "secrets"];
    let mut acme = Signed::limited_to(&gateway, &scopes, Some("acme")).await;
    for path in ["", "?tab=raw", "/deliver", "/edit"] {
        assert_eq!(acme.get(&format!("/dashboard/events/{event}{path}")).await.status, 404, "{path}");
    }
    for path in ["/deliver", "/edit", "/release"] {
        let fields = [("destination", "line"), ("type", "x")];
        assert_eq!(acme.post(&format!("/dashboard/events/{event}{path}"), &fields).await.status, 404, "{path}");
    }
    for wanted in [&event.to_string(), &delivery, &line.source.id, &line.destination.id, "msg_1", "line", "default"] {
        has(&acme.page(&format!("/dashboard/find?q={wanted}")).await, &["Nothing found"]);
    }
    has(&acme.page(&format!("/dashboard/events/replay?id={event}")).await, &["0 events would be taken"]);
    assert_eq!(text(&acme.get("/dashboard/events/export").await), "");

    let mut viewer = Signed::root(&gateway).await;
    let all = viewer.page("/dashboard/events?customer=*").await;
    has(&all, &[&format!("/dashboard/events/{event}?customer=default")]);
    let found = viewer.get(&format!("/dashboard/find?q={event}&customer=*")).await;
    assert_eq!(found.location.and_then(|page| page.query().map(str::to_owned)).as_deref(), Some("customer=default"));
    viewer.page(&format!("/dashboard/events/{event}?customer=default")).await;
}
