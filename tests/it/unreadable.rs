//! store: messages that could not be stored as events. They are kept byte for byte, tried again automatically, and
//! released by an operator.

use harness::api::id;
use harness::clock::FakeClock;
use harness::gateway::{Gateway, RelayOnly, drained};
use harness::provider::now_s;
use harness::queue::ContentType;
use harness::relay::RelaySettings;
use harness::wait::{SOON, until};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::envelope::{EventHeader, Verification, encode_inline, encode_stored};
use shared::header::HeaderList;
use shared::id::{EventId, SourceId};

const DAY_S: i64 = 86_400;

fn header(source: &str, at_ms: u64) -> EventHeader {
    EventHeader {
        id: EventId::mint(at_ms, rand::random()),
        source: source.parse().expect("an id"),
        received_at_ms: at_ms,
        method: "POST".to_owned(),
        query: String::new(),
        headers: HeaderList::new([("content-type", "application/json")]),
        verification: Verification::Verified,
    }
}

fn now_ms() -> u64 {
    now_s() * 1_000
}

async fn unreadable(gateway: &RelayOnly, query: &str) -> Vec<Value> {
    gateway.api.all(&format!("/v1/unreadable-messages{query}")).await
}

async fn wait_for_unreadable(gateway: &RelayOnly, query: &str, count: usize) -> Vec<Value> {
    until(&format!("{count} unreadable messages {query}"), SOON, async || match unreadable(gateway, query).await {
        messages if messages.len() == count => Ok(messages),
        messages => Err(format!("{messages:?}")),
    })
    .await
}

fn path(message: &Value) -> String {
    format!("/v1/unreadable-messages/{}", id(message))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_message_is_kept_byte_for_byte_and_can_be_downloaded() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("kept").await;
    let binary: Vec<u8> = (0..=255).cycle().take(2_000).collect();
    gateway.queue.push_message(ContentType::Bytes, binary.clone());
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    let kept = wait_for_unreadable(&gateway, "?reason=not_decodable&state=waiting", 1).await.remove(0);
    assert_eq!((&kept["size"], &kept["event_id"]), (&json!(2_000), &Value::Null), "{kept}");
    assert_eq!(gateway.api.bytes(&format!("{}/message", path(&kept))).await, binary);
    drained(&gateway.queue, SOON).await;

    let refused = gateway.api.post(&format!("{}/release", path(&kept)), &json!({})).await.expect_status(409);
    assert_eq!(refused["code"], "still_unreadable", "{refused}");
    assert_eq!(unreadable(&gateway, "").await.len(), 1, "it is still kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_newer_edge_are_released_singly_or_together_by_a_relay_that_knows_their_version() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("newer").await;
    let events: Vec<EventHeader> = (0..5).map(|_| header(&line.source.id, now_ms())).collect();
    for event in &events {
        let message = encode_inline(event, b"{\"newer\":true}").expect("fits");
        gateway.queue.push(&message.replacen("\"v\":1", "\"v\":99", 1));
    }
    let kept = wait_for_unreadable(&gateway, "?reason=unknown_version", 5).await;
    assert!(kept[0]["detail"].as_str().is_some_and(|detail| detail.contains("version 99")), "{:?}", kept[0]);

    // In place of a newer relay that knows their version, the messages get the version that this relay knows.
    let mut database = gateway.database.connect().await.expect("connects");
    sqlx::query("update unreadable_messages set message = decode(replace(encode(message, 'hex'), encode('\"v\":99', 'hex'), encode('\"v\":1', 'hex')), 'hex')")
        .execute(&mut database)
        .await
        .expect("updates");
    let one = gateway.api.post(&format!("{}/release", path(&kept[0])), &json!({})).await.expect_status(200);
    assert_eq!(one["state"], "released", "{one}");
    line.receiver.wait_for(1, SOON).await;
    let again = gateway.api.post(&format!("{}/release", path(&kept[0])), &json!({})).await.expect_status(200);
    assert_eq!((&again["state"], &again["event_id"]), (&json!("released"), &one["event_id"]), "{again}");

    let begun = gateway.api.post("/v1/unreadable-messages/release", &json!({ "reason": "unknown_version" })).await;
    assert_eq!(begun.expect_status(202)["messages"], 4);
    let received = line.receiver.wait_for(5, SOON).await;
    let released = wait_for_unreadable(&gateway, "?state=released", 5).await;
    for event in &events {
        let id = event.id.to_string();
        assert_eq!(received.iter().filter(|request| request.header("webhook-id") == id).count(), 1, "{id}");
        assert!(released.iter().any(|message| message["event_id"] == id.as_str()), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_released_automatically_when_the_relay_starts_after_their_cause_has_passed() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("passed").await;
    let body = b"{\"large\":true}".to_vec();
    let missing = header(&line.source.id, now_ms());
    let (key, sha256) = ("evt_late", hex::encode(Sha256::digest(&body)));
    gateway.queue.push(&encode_stored(&missing, key, body.len() as u64, &sha256));
    let unknown = SourceId::mint(now_ms(), rand::random());
    let orphan = header(&unknown.to_string(), now_ms());
    gateway.queue.push(&encode_inline(&orphan, b"{}").expect("fits"));
    wait_for_unreadable(&gateway, "?state=waiting", 2).await;

    gateway.edge.store_body(key, body.clone());
    let mut database = gateway.database.connect().await.expect("connects");
    // The source reappears under the id that its event has, as after a restore.
    let source: SourceId = line.source.id.parse().expect("an id");
    sqlx::query(
        "insert into sources (id, customer_id, name, provider, config, secrets_sealed)
         select $1, customer_id, 'back', provider, config, secrets_sealed from sources where id = $2",
    )
    .bind(unknown.uuid())
    .bind(source.uuid())
    .execute(&mut database)
    .await
    .expect("inserts");
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again().await.expect("starts again");
    let received = line.receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!((received.header("webhook-id"), &received.body[..]), (missing.id.to_string().as_str(), &body[..]));
    wait_for_unreadable(&gateway, "?state=released", 2).await;
    gateway.api.get(&format!("/v1/events/{}", orphan.id)).await.expect_status(200);
    until("the stored body to be deleted", SOON, async || match gateway.edge.bodies() {
        bodies if bodies.is_empty() => Ok(()),
        bodies => Err(format!("{bodies:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stored_body_of_a_copy_stays_at_the_edge_when_its_unreadable_message_is_released() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("copy").await;
    let body = vec![b'x'; 200_000];
    let signed = line.provider.sign("msg_1", &body, now_s());
    let headers: Vec<(&str, &str)> =
        signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let original = gateway.push_large(&line.source, &headers, body.clone(), [Verification::Verified]).remove(0);
    line.receiver.wait_for(1, SOON).await;
    until("the stored body of the original to be deleted", SOON, async || match gateway.edge.bodies() {
        bodies if bodies.is_empty() => Ok(()),
        bodies => Err(format!("{bodies:?}")),
    })
    .await;

    let copy = EventHeader { headers: HeaderList::new(headers), ..header(&line.source.id, now_ms()) };
    let (key, sha256) = ("evt_of_the_copy", hex::encode(Sha256::digest(&body)));
    gateway.queue.push(&encode_stored(&copy, key, body.len() as u64, &sha256));
    let kept = wait_for_unreadable(&gateway, "?reason=body_missing", 1).await.remove(0);
    gateway.edge.store_body(key, body);
    let released = gateway.api.post(&format!("{}/release", path(&kept)), &json!({})).await.expect_status(200);
    assert_eq!(released["state"], "released", "{released}");
    let event = gateway.api.event(original).await;
    assert_eq!(event["copies"], 1, "{event}");
    assert_eq!(gateway.edge.bodies(), [key], "the queue may lease the message of the copy again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_leased_too_often_is_kept_before_it_is_read_and_then_delivered() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("worn").await;
    let event = header(&line.source.id, now_ms());
    gateway.queue.push_leased(&encode_inline(&event, b"{\"worn\":true}").expect("fits"), 40);
    let received = line.receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!(received.header("webhook-id"), event.id.to_string());
    drained(&gateway.queue, SOON).await;
    let kept = wait_for_unreadable(&gateway, "?reason=leased_too_often&state=released", 1).await.remove(0);
    assert_eq!(kept["event_id"], event.id.to_string(), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_body_cannot_be_fetched_for_days_is_kept_and_delivered_once_the_edge_accepts_the_relays_token() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("refused").await;
    let token = gateway.relay.settings().value("TIDEGATE_EDGE_ADMIN_TOKEN").to_owned();
    gateway.relay.stop().await.expect("stops");
    let body = b"{\"large\":true}".to_vec();
    let event = header(&line.source.id, now_ms());
    gateway.edge.store_body("evt_large", body.clone());
    let message = encode_stored(&event, "evt_large", body.len() as u64, &hex::encode(Sha256::digest(&body)));
    gateway.queue.push_leased(&message, 40);

    let wrong = |settings: RelaySettings| settings.with("TIDEGATE_EDGE_ADMIN_TOKEN", "another-token-than-the-edge-has");
    gateway.relay.start_again_with(wrong).await.expect("starts again");
    drained(&gateway.queue, SOON).await;
    wait_for_unreadable(&gateway, "?state=waiting", 1).await;
    let right = |settings: RelaySettings| settings.with("TIDEGATE_EDGE_ADMIN_TOKEN", &token);
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again_with(right).await.expect("starts again");
    let received = line.receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!((received.header("webhook-id"), &received.body[..]), (event.id.to_string().as_str(), &body[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_crashes_the_relay_is_tried_three_times_and_then_once_a_day() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("deadly").await;
    let event = header(&line.source.id, now_ms());
    let mut database = gateway.database.connect().await.expect("connects");
    // The relay is killed while it stores this event: the transaction waits for this lock.
    sqlx::raw_sql(
        "create function wait_here() returns trigger language plpgsql as
           $$ begin if new.method = 'DEADLY' then perform pg_advisory_xact_lock(1234); end if; return new; end $$;
         create trigger wait_here before insert on events for each row execute function wait_here();
         select pg_advisory_lock(1234);",
    )
    .execute(&mut database)
    .await
    .expect("prepares");
    let event = EventHeader { method: "DEADLY".to_owned(), ..event };
    gateway.queue.push_leased(&encode_inline(&event, b"{}").expect("fits"), 40);
    for round in 1..=3_i32 {
        until("the try to have begun", SOON, async || {
            let waits: bool = sqlx::query_scalar(
                "select exists (select from pg_locks join unreadable_messages on unfinished_tries = $1
                                where locktype = 'advisory' and objid = 1234 and not granted)",
            )
            .bind(round)
            .fetch_one(&mut database)
            .await
            .map_err(|error| error.to_string())?;
            waits.then_some(()).ok_or_else(|| format!("round {round} has not begun"))
        })
        .await;
        gateway.relay.kill().await.expect("is killed");
        sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
            .execute(&mut database)
            .await
            .expect("terminates the relay's connections");
        sqlx::query("update unreadable_messages set next_try_at = now() where unfinished_tries < 3")
            .execute(&mut database)
            .await
            .expect("makes it due");
        gateway.relay.start_again().await.expect("starts again");
    }
    gateway.push(&line.source, b"{\"innocent\":true}");
    line.receiver.wait_for(1, SOON).await;
    let kept = wait_for_unreadable(&gateway, "?state=waiting", 1).await.remove(0);
    assert_eq!(kept["tries"], 3, "{kept}");
    let tomorrow: bool =
        sqlx::query_scalar("select min(next_try_at) > now() + interval '23 hours' from unreadable_messages")
            .fetch_one(&mut database)
            .await
            .expect("reads");
    assert!(tomorrow, "{kept}");

    // An operator can still release it.
    sqlx::query("select pg_advisory_unlock(1234)").execute(&mut database).await.expect("unlocks");
    gateway.api.post(&format!("{}/release", path(&kept)), &json!({})).await.expect_status(200);
    line.receiver.wait_for(2, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_to_the_commit_of_a_batch_with_an_unreadable_message_stops_nothing() {
    let (mut gateway, proxy) = Gateway::relay_only_by_proxy().await;
    gateway.relay.expect_errors();
    let line = gateway.line("lost").await;
    proxy.lose_commits(b"not an envelope", 1);
    let event = gateway.push(&line.source, b"{\"first\":true}");
    gateway.queue.push("not an envelope");
    until("the reply to the commit to be lost", SOON, async || match proxy.lost_commits() {
        1 => Ok(()),
        lost => Err(format!("{lost} lost")),
    })
    .await;
    drained(&gateway.queue, SOON).await;
    let next = gateway.push(&line.source, b"{\"second\":true}");
    let received = line.receiver.wait_for(2, SOON).await;
    for id in [event, next] {
        assert!(received.iter().any(|request| request.header("webhook-id") == id.to_string()), "{id}");
    }
    let kept = unreadable(&gateway, "").await;
    assert_eq!(kept.len(), 1, "only the unreadable message is kept, and only once: {kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_clock_is_days_off_pulls_nothing_and_reports_why_until_the_clock_is_right() {
    let clock = FakeClock::new().await.expect("a clock");
    clock.set_off_by(-2 * DAY_S);
    let mut gateway = Gateway::relay_only_with(|settings| clock.on(settings)).await;
    gateway.relay.expect_errors();
    let line = gateway.line("behind").await;
    let event = gateway.push(&line.source, b"{}");
    gateway.relay.wait_for_log("172800 s behind the database's", SOON).await;
    let ready = gateway.api.get("/readyz").await.expect_status(503);
    assert_eq!(ready["code"], "wrong_clock", "{ready}");
    assert_eq!(gateway.queue.counters().pulled, 0, "nothing is pulled");
    clock.set_off_by(0);
    let received = line.receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!(received.header("webhook-id"), event.to_string());
    gateway.api.get("/readyz").await.expect_status(200);

    // As if the machine was suspended, or its clock set while the relay runs.
    clock.set_off_by(20 * DAY_S);
    let pulled = gateway.queue.counters().pulled;
    let event = gateway.push(&line.source, b"{}");
    gateway.relay.wait_for_log("ahead of the database's", SOON).await;
    assert!(gateway.queue.counters().pulled <= pulled + 1, "at most a pull that was in flight");
    clock.set_off_by(0);
    let received = line.receiver.wait_for(2, SOON).await;
    assert!(received.iter().any(|request| request.header("webhook-id") == event.to_string()));
    assert_eq!(unreadable(&gateway, "").await, Vec::<Value>::new(), "no event was judged by the wrong clock");
}
