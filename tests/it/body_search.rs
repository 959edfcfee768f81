//! bodies: a search of bodies finds a text, ends within its bounds, says how far it has come, and continues.

use harness::api::{Api, id};
use harness::gateway::{Gateway, RelayOnly};
use harness::wait::SOON;
use reqwest::Method;
use serde_json::{Value, json};

/// A call of the search.
fn path(text: &str, more: &str) -> String {
    let text: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("/v1/events/search?contains={text}{more}")
}

/// The ids of the events that are found, in their order.
async fn found(api: &Api, text: &str, more: &str) -> Vec<String> {
    let mut ids: Vec<String> = api.all(&path(text, more)).await.iter().map(|row| id(row).to_owned()).collect();
    assert!(ids.is_sorted_by(|left, right| left > right), "newest first: {ids:?}");
    ids.reverse();
    ids
}

/// These ids, in their order.
fn sorted<const N: usize>(ids: [&String; N]) -> Vec<String> {
    let mut ids = ids.map(Clone::clone).to_vec();
    ids.sort();
    ids
}

/// Pushes events with these bodies, and returns their ids.
async fn events(gateway: &RelayOnly, bodies: &[&[u8]]) -> Vec<String> {
    let line = gateway.line("line").await;
    let ids = bodies.iter().map(|body| gateway.push(&line.source, body).to_string()).collect();
    gateway.api.wait_for_rows("/v1/events", bodies.len(), SOON).await;
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_found_as_it_is_and_as_json_escapes_it() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let ids = events(
        &gateway,
        &[
            br#"{"id":"in_1Q2w","name":"Zo\u00eb"}"#,
            "{\"id\":\"in_2\",\"name\":\"Zoë \\\"Z\\\"\"}".as_bytes(),
            br#"{"url":"https:\/\/example.com\/a","name":"ZO"}"#,
            b"id=in_1Q2w&\x00\xff binary",
        ],
    )
    .await;
    let [first, second, third, fourth] = ids.as_slice() else { panic!("{ids:?}") };
    assert_eq!(found(api, "in_1Q2w", "").await, sorted([first, fourth]));
    assert_eq!(found(api, "in_1q2w", "").await, Vec::<String>::new(), "case counts");
    assert_eq!(found(api, "Zoë", "").await, sorted([first, second]));
    assert_eq!(found(api, "Zoë \"Z\"", "").await, std::slice::from_ref(second));
    assert_eq!(found(api, "https://example.com/a", "").await, std::slice::from_ref(third));
    assert_eq!(found(api, "in_", "&limit=1").await.len(), 3, "by pages of one");
    assert_eq!(found(api, "in_", "&source=line&after=2020-01-01T00:00:00Z").await.len(), 3);
    assert_eq!(found(api, "in_", "&before=2020-01-01T00:00:00Z").await.len(), 0);
    let whole = api.get(&path("in_", "")).await.expect_status(200);
    let bodies = ids.len();
    assert_eq!((&whole["searched_events"], &whole["searched_until"]), (&json!(bodies), &Value::Null));
    assert!(whole["searched_bytes"].as_i64().is_some_and(|bytes| bytes > 100), "{whole}");

    for (text, more, field) in [
        ("ab", "", "contains"),
        (&"a".repeat(201), "", "contains"),
        ("abc", "&colour=red", "colour"),
        ("abc", "&limit=0", "limit"),
        ("abc", "&source=nobody", "source"),
    ] {
        let problem = api.get(&path(text, more)).await.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    api.get("/v1/events/search").await.expect_status(422);
    // An erased body is not found.
    api.wait_for_rows("/v1/deliveries?state=succeeded", bodies, SOON).await;
    api.delete(&format!("/v1/events/{first}/body")).await.expect_status(204);
    assert_eq!(found(api, "in_1Q2w", "").await, std::slice::from_ref(fourth));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_needs_the_scope_bodies_sees_one_customer_and_is_recorded_without_its_text() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let ids = events(&gateway, &[br#"{"id":"in_1Q2w"}"#]).await;
    api.create_customer("acme").await;
    let reader = api.limited_to(&["read", "write"], None).await;
    reader.get(&path("in_1Q2w", "")).await.expect_status(403);
    let bound = api.limited_to(&["bodies"], Some("acme")).await;
    let page = bound.get(&path("in_1Q2w", "")).await.expect_status(200);
    assert_eq!((&page["data"], &page["searched_events"]), (&json!([]), &json!(0)));
    let actions = "/v1/audit?action=events.search_bodies";
    assert_eq!(api.all(actions).await.len(), 0, "a customer reads its own bodies");
    let unbound = api.limited_to(&["bodies"], None).await;
    for _ in 0..2 {
        assert_eq!(found(&unbound, "in_1Q2w", "").await, ids);
    }
    let entries = api.all(actions).await;
    assert_eq!(entries.len(), 1, "once in an hour");
    assert!(!entries[0].to_string().contains("in_1Q2w"), "{entries:?}");
    let (reply, _) = api.call_with(Method::GET, &path("in_1Q2w", "&customer=*"), &[], None).await;
    reply.expect_status(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_stops_after_its_bytes_and_continues_from_there_until_everything_was_searched() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let ids = events(&gateway, &[b"needle in the oldest"]).await;
    // 256 bodies of 1 MiB, which PostgreSQL compresses: as much as one call may read.
    let made = "insert into events (id, customer_id, source_id, received_at, body_size, verification, method, query, headers)
         select (lpad(to_hex(('x' || left(first.hex, 12))::bit(48)::bigint + n), 12, '0') || substr(first.hex, 13))::uuid,
                first.customer_id, first.source_id, now(), 1048576, 'unsigned', 'POST', '', '[]'
         from (select replace(id::text, '-', '') as hex, customer_id, source_id from events) first,
              generate_series(1, 256) n";
    gateway.database.run(made).await;
    let bodies = "insert into event_bodies (event_id, body)
                  select id, convert_to(repeat('0123456789abcdef', 65536), 'UTF8') from events where body_size = 1048576";
    gateway.database.run(bodies).await;
    let (mut cursor, mut pages, mut bytes, mut last) = (String::new(), 0, 0, None::<String>);
    let oldest = loop {
        let page = api.get(&path("needle", &cursor)).await.expect_status(200);
        pages += 1;
        let read = page["searched_bytes"].as_i64().expect("a number");
        // The last statement may begin just below the bound.
        assert!(read > 0 && read <= (256 + 8) << 20, "{page}");
        bytes += read;
        if let Some(found) = page["data"].get(0) {
            break id(found).to_owned();
        }
        let until = page["searched_until"].as_str().expect("a time").to_owned();
        assert!(last.is_none_or(|last| until <= last), "it comes further back");
        last = Some(until);
        cursor = format!("&cursor={}", page["next_cursor"].as_str().expect("a cursor"));
        assert!(pages < 50, "it ends");
    };
    assert_eq!(oldest, ids[0]);
    assert!(pages >= 2 && bytes >= 256 << 20, "{pages} calls, {bytes} bytes");
}
