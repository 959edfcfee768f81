//! replay: a replay that makes no progress in repeated tries is stopped, and nothing else counts as such a try.

use harness::api::id;
use harness::gateway::{Gateway, Line, RelayOnly, drained};
use harness::postgres::wait_for_count;
use harness::wait::{SOON, until};
use serde_json::{Value, json};
use shared::id::EventId;
use sqlx::PgConnection;

/// A chunk of a replay of the source `poison` waits in its transaction for the lock that [`Block`] holds.
const WAITS: &str = "
    create function tested() returns trigger language plpgsql as $$
    begin
        if new.replay_id is not null and new.source_id = (select id from sources where name = 'poison') then
            perform pg_advisory_xact_lock(4711);
        end if;
        return new;
    end $$;
    create trigger tested before insert on pending_deliveries for each row execute function tested();";

/// The database refuses every chunk of a replay of the source `poison`.
const REFUSES: &str = "
    create function tested() returns trigger language plpgsql as $$
    begin
        if new.replay_id is not null and new.source_id = (select id from sources where name = 'poison') then
            raise exception 'this cannot be stored';
        end if;
        return new;
    end $$;
    create trigger tested before insert on pending_deliveries for each row execute function tested();";

const WAITING: &str = "select pid from pg_locks where locktype = 'advisory' and objid = 4711 and not granted
                       and database = (select oid from pg_database where datname = current_database())";

/// Blocks the chunks of the source `poison`, each at the same point.
struct Block {
    holder: PgConnection,
    watch: PgConnection,
}

impl Block {
    async fn set(gateway: &RelayOnly) -> Self {
        let mut holder = gateway.database.connect().await.expect("connects");
        sqlx::raw_sql(WAITS).execute(&mut holder).await.expect("creates the trigger");
        sqlx::query("select pg_advisory_lock(4711)").execute(&mut holder).await.expect("locks");
        Self { holder, watch: gateway.database.connect().await.expect("connects") }
    }

    /// Waits until a chunk has reached the block, and returns the PostgreSQL process that waits there.
    async fn reached(&mut self) -> i32 {
        until("a chunk to reach the block", SOON, async || {
            let waiting: Option<i32> =
                sqlx::query_scalar(WAITING).fetch_optional(&mut self.watch).await.map_err(|error| error.to_string())?;
            waiting.ok_or_else(|| "none waits".to_owned())
        })
        .await
    }

    /// Terminates the connection whose chunk waits, and waits until it is gone.
    async fn cut(&mut self, process: i32) {
        sqlx::query("select pg_terminate_backend($1)")
            .bind(process)
            .execute(&mut self.watch)
            .await
            .expect("terminates it");
        let there = format!("select count(*) from pg_stat_activity where pid = {process}");
        wait_for_count(&mut self.watch, "the connection to be gone", &there, SOON, |there| there == 0).await;
    }

    /// How many tries the replay has begun at its present cursor.
    async fn begun(&mut self) -> i16 {
        sqlx::query_scalar("select begun from replays order by id limit 1")
            .fetch_one(&mut self.watch)
            .await
            .expect("reads")
    }

    async fn lift(&mut self) {
        sqlx::query("select pg_advisory_unlock(4711)").execute(&mut self.holder).await.expect("unlocks");
    }
}

/// A line with three delivered events, and the ids of the events, oldest first.
async fn line(gateway: &RelayOnly, name: &str) -> (Line, Vec<EventId>) {
    let line = gateway.line(name).await;
    let mut ids: Vec<EventId> =
        (0..3).map(|number| gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes())).collect();
    ids.sort_unstable();
    line.receiver.wait_for(3, SOON).await;
    drained(&gateway.queue, SOON).await;
    (line, ids)
}

/// Creates a replay of all events of a source, and returns its path.
async fn replay(gateway: &RelayOnly, source: &str) -> String {
    let replay = gateway.relay.api().post("/v1/replays", &json!({ "filter": { "source": source } })).await;
    format!("/v1/replays/{}", replay.expect_status(201)["id"].as_str().expect("an id"))
}

async fn ended(gateway: &RelayOnly, path: &str, state: &str) -> Value {
    let api = gateway.relay.api();
    api.wait_until(&format!("the replay to be {state}"), path, SOON, |replay| replay["state"] == state).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_crashes_the_relay_each_time_fails_with_a_reason_and_delays_no_other_replay() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let (_poison, events) = line(&gateway, "poison").await;
    line(&gateway, "good").await;
    let mut block = Block::set(&gateway).await;
    let path = replay(&gateway, "poison").await;
    for life in 1..=5 {
        let process = block.reached().await;
        assert_eq!(block.begun().await, life);
        // Created while the worker is blocked, and processed by the relay after its restart.
        let other = replay(&gateway, "good").await;
        gateway.relay.kill().await.expect("is killed");
        // PostgreSQL would notice only when the lock is free that the client is gone.
        block.cut(process).await;
        gateway.relay.start_again().await.expect("starts again");
        ended(&gateway, &other, "completed").await;
    }
    let failed = ended(&gateway, &path, "failed").await;
    let error = failed["error"].as_str().expect("a reason");
    for part in
        ["made no progress in 5 tries", "each time, the relay stopped or lost its database", "create a new replay"]
    {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
    for event in [events[0], events[2]] {
        assert!(error.contains(&event.to_string()), "{event} is missing in: {error}");
    }
    assert_eq!((&failed["processed"], &failed["created"]), (&json!(0), &json!(0)), "{failed}");
    assert!(failed["finished_at"].is_string(), "{failed}");
    let other = replay(&gateway, "good").await;
    assert_eq!(ended(&gateway, &other, "completed").await["created"], 3);
    assert!(gateway.relay.ended().is_none(), "the relay still runs");

    block.lift().await;
    let again = replay(&gateway, "poison").await;
    assert_eq!(ended(&gateway, &again, "completed").await["created"], 3, "a new replay starts with no tries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_the_database_refuses_each_time_fails_with_the_error() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    line(&gateway, "poison").await;
    line(&gateway, "good").await;
    let mut database = gateway.database.connect().await.expect("connects");
    sqlx::raw_sql(REFUSES).execute(&mut database).await.expect("creates the trigger");
    let path = replay(&gateway, "poison").await;
    let other = replay(&gateway, "good").await;
    assert_eq!(ended(&gateway, &other, "completed").await["created"], 3);
    let failed = ended(&gateway, &path, "failed").await;
    let error = failed["error"].as_str().expect("a reason");
    assert!(error.contains("in 5 tries") && error.contains("this cannot be stored"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_during_a_chunk_does_not_count_as_a_try() {
    let mut gateway = Gateway::relay_only().await;
    line(&gateway, "poison").await;
    let mut block = Block::set(&gateway).await;
    let path = replay(&gateway, "poison").await;
    for _ in 0..2 {
        let process = block.reached().await;
        assert_eq!(block.begun().await, 1);
        gateway.relay.stop().await.expect("stops");
        assert_eq!(block.begun().await, 0);
        block.cut(process).await;
        gateway.relay.start_again().await.expect("starts again");
    }
    block.lift().await;
    assert_eq!(ended(&gateway, &path, "completed").await["created"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_during_a_chunk_does_not_count_as_a_try() {
    let gateway = Gateway::relay_only().await;
    line(&gateway, "poison").await;
    let mut block = Block::set(&gateway).await;
    let path = replay(&gateway, "poison").await;
    for _ in 0..7 {
        let process = block.reached().await;
        assert_eq!(block.begun().await, 1);
        block.cut(process).await;
    }
    block.reached().await;
    block.lift().await;
    assert_eq!(ended(&gateway, &path, "completed").await["created"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_takes_longer_than_its_lease_is_begun_by_only_one_of_two_relays() {
    let gateway = Gateway::relay_only().await;
    line(&gateway, "poison").await;
    let _second = gateway.another_relay().await;
    let mut block = Block::set(&gateway).await;
    let path = replay(&gateway, "poison").await;
    let process = block.reached().await;
    // After at least three renewals, without which the lease would have expired.
    until("the lease to be renewed", SOON, async || {
        let ended: bool =
            sqlx::query_scalar("select now() > created_at + interval '10 s' and begun_until > now() from replays")
                .fetch_one(&mut block.watch)
                .await
                .map_err(|error| error.to_string())?;
        if ended { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    assert_eq!((block.begun().await, block.reached().await), (1, process));
    block.lift().await;
    assert_eq!(ended(&gateway, &path, "completed").await["created"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_that_process_one_replay_do_not_raise_its_count_of_tries() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("many").await;
    for number in 0..60 {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    line.receiver.wait_for(60, SOON).await;
    drained(&gateway.queue, SOON).await;
    let _second = gateway.another_relay().await;
    let mut database = gateway.database.connect().await.expect("connects");
    let records = "create table seen (begun smallint);
                   create function record() returns trigger language plpgsql as $$
                   begin insert into seen values (new.begun); return new; end $$;
                   create trigger record after update on replays for each row execute function record();";
    sqlx::raw_sql(records).execute(&mut database).await.expect("creates the trigger");
    let wanted = json!({ "filter": { "source": "many" }, "rate_limit": { "limit": 40, "per": "second" } });
    let replay = gateway.api.post("/v1/replays", &wanted).await.expect_status(201);
    let path = format!("/v1/replays/{}", id(&replay));
    let completed = ended(&gateway, &path, "completed").await;
    assert_eq!((&completed["processed"], &completed["created"]), (&json!(60), &json!(60)), "{completed}");
    let (most, begins): (Option<i16>, i64) =
        sqlx::query_as("select max(begun), count(*) filter (where begun > 0) from seen")
            .fetch_one(&mut database)
            .await
            .expect("reads");
    assert_eq!(most, Some(1));
    assert!(begins >= 6, "{begins} chunks were begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_at_an_earlier_cursor_do_not_count() {
    let gateway = Gateway::relay_only().await;
    let (_line, events) = line(&gateway, "poison").await;
    let mut block = Block::set(&gateway).await;
    let path = replay(&gateway, "poison").await;
    block.reached().await;
    // The cursor moves and the starts stay.
    sqlx::query("update replays set cursor_id = $1, processed = 1, begun = 5")
        .bind(events[0].uuid())
        .execute(&mut block.watch)
        .await
        .expect("moves the cursor");
    block.lift().await;
    let completed = ended(&gateway, &path, "completed").await;
    assert_eq!((&completed["processed"], &completed["created"]), (&json!(3), &json!(2)), "{completed}");
}
