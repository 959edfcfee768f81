//! durable: the queue keeps acknowledged events for its retention, and a commit is on disk before its message is
//! acknowledged.

use std::time::Duration;

use harness::gateway::{Gateway, drained};
use harness::postgres::Server;
use harness::queue::{DEAD, EVENTS};
use harness::relay::run;
use harness::wait::SOON;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn an_event_survives_an_outage_of_five_days_unless_the_queue_keeps_it_for_less() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("outage").await;
    gateway.relay.stop().await.expect("stops");
    let kept = gateway.push(&line.source, b"{\"kept\":true}").to_string();
    gateway.queue.advance(5 * DAY);
    gateway.relay.start_again().await.expect("starts again");
    line.receiver.wait_for(1, SOON).await;
    assert!(line.receiver.ids().contains(&kept));
    drained(&gateway.queue, SOON).await;

    gateway.queue.configure(EVENTS, |queue| queue.settings.retention_s = 4 * DAY.as_secs());
    let said = run("doctor", gateway.relay.settings().variables()).await.expect("runs");
    assert!(!said.status.success());
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("tidegate-events: messages are deleted after 4 days"), "{said}");
    gateway.relay.stop().await.expect("stops");
    let expired = gateway.push(&line.source, b"{\"kept\":false}").to_string();
    gateway.queue.advance(5 * DAY);
    gateway.relay.start_again().await.expect("starts again");
    let after = gateway.push(&line.source, b"{\"after\":true}").to_string();
    line.receiver.wait_for(2, SOON).await;
    drained(&gateway.queue, SOON).await;
    let arrived = line.receiver.ids();
    assert!(arrived.contains(&after) && !arrived.contains(&expired), "{arrived:?}");
    assert_eq!(gateway.queue.counters().expired, 1);
    assert_eq!(gateway.queue.counters_of(DEAD).accepted, 0, "an expired message does not become a dead letter");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_waits_for_the_disk_even_if_its_role_has_synchronous_commit_off() {
    let server = Server::start_private().await.expect("starts");
    let mut admin = PgConnection::connect(&server.url("postgres")).await.expect("connects");
    for (number, (role, present, wanted)) in
        [("lazy", "off", "on"), ("local", "local", "on"), ("eager", "remote_apply", "remote_apply")]
            .into_iter()
            .enumerate()
    {
        for statement in [
            format!("create role {role} superuser login"),
            format!("alter role {role} set synchronous_commit = {present}"),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await.expect("is done");
        }
        let gateway = Gateway::relay_only_on_server_with(&server, |settings| {
            let url = settings.value("DATABASE_URL").replace("postgres@", &format!("{role}@"));
            settings.with("DATABASE_URL", &url)
        })
        .await;
        let mut connection = gateway.database.connect().await.expect("connects");
        for statement in [
            "create table seen (who text, setting text)",
            "create function note() returns trigger language plpgsql as
             'begin insert into seen values (current_user, current_setting(''synchronous_commit'')); return new; end'",
            "create trigger note after insert on events for each row execute function note()",
        ] {
            sqlx::query(statement).execute(&mut connection).await.expect("is done");
        }
        let line = gateway.line(role).await;
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
        line.receiver.wait_for(1, SOON).await;
        let seen: Vec<(String, String)> =
            sqlx::query_as("select * from seen").fetch_all(&mut connection).await.expect("reads");
        assert_eq!(seen, [(role.to_owned(), wanted.to_owned())], "{present}");
    }
}
