//! verify: the edge has the configuration that the relay reports, whatever KV does in between.

use harness::api::{Source, http_client};
use harness::gateway::{Gateway, Shape};
use harness::postgres::Database;
use harness::provider::Provider;
use harness::relay::Relay;
use harness::wait::{SOON, until};
use serde_json::{Value, json};

/// Copies the sources in the database, for [`SET_BACK`].
const KEEP_SOURCES: &str = "create table before as select * from sources";

/// Sets the sources back to their copies, as a restore of the database does.
const SET_BACK: &str = "update sources set revision = before.revision, edge_revision = before.edge_revision,
                                           secrets_sealed = before.secrets_sealed,
                                           retired_secrets_sealed = before.retired_secrets_sealed
                        from before where before.id = sources.id";

/// The status of the edge's response to a request of a provider.
async fn send(url: &str, provider: &Provider) -> u16 {
    let response = provider.sample("evt_1").send(&http_client(), url).await.expect("the edge answers");
    response.status().as_u16()
}

/// Gives a source the secrets of a provider.
async fn give_secrets(gateway: &Gateway, name: &str, provider: &Provider) -> Value {
    let wanted = json!({ "provider": provider.id, "secrets": provider.secrets });
    gateway.api.put(&format!("/v1/sources/by-name/{name}"), &wanted).await.expect_saved()
}

/// Changes the secrets of a source so that the write of this change hangs at the edge. Returns the revision of the
/// change, provided that the source had revision 1.
async fn give_secrets_that_hang(gateway: &Gateway, name: &str, provider: &Provider) -> u64 {
    for revision in 2..10 {
        gateway.edge.values().hold_next_write();
        if give_secrets(gateway, name, provider).await["edge"] == "pending" {
            assert!(gateway.edge.values().holds_a_write());
            return revision;
        }
        // The write that hangs is a repeated put of an earlier change instead.
        gateway.edge.values().land();
        wait_until_active(gateway, name).await;
    }
    panic!("the write of the change never hangs");
}

/// Waits until the API says that the edge has the newest change of a source.
async fn wait_until_active(gateway: &Gateway, name: &str) {
    gateway
        .api
        .wait_until("the source to be active", &format!("/v1/sources/{name}"), SOON, |source| {
            source["edge"] == "active"
        })
        .await;
}

/// The edge's response about a source.
async fn edge_source(gateway: &Gateway, source: &Source) -> Value {
    gateway.edge.admin().get(&format!("/admin/sources/{}", source.id)).await.body
}

/// Waits until the edge's response about a source has this value in a field.
async fn wait_until_edge_has(gateway: &Gateway, source: &Source, field: &str, value: Value) {
    until(&format!("the edge to have {field} {value}"), SOON, async || {
        let edge_source = edge_source(gateway, source).await;
        if edge_source[field] == value { Ok(()) } else { Err(edge_source.to_string()) }
    })
    .await;
}

/// Makes every comparison with the edge due and restarts the relay, which begins with the due comparisons.
async fn restart_and_compare(database: &Database, relay: &mut Relay) {
    database.run("update sources set edge_check_at = now(); update deleted_sources set edge_check_at = now()").await;
    relay.stop().await.expect("stops");
    relay.start_again().await.expect("starts again");
}

/// Waits until a query returns true.
async fn wait_until_true(database: &Database, query: &'static str) {
    let mut connection = database.connect().await.expect("connects");
    until(query, SOON, async || match sqlx::query_scalar(query).fetch_one(&mut connection).await {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_name_is_taken_at_the_edge_is_pending_until_the_other_source_is_deleted() {
    let gateway = Gateway::start_bare().await;
    let other = gateway.edge.put_source("shop", &Provider::github()).await;
    let provider = Provider::github();
    let source = gateway.api.create_source("shop", &provider).await;
    assert_eq!(source.body["edge"], "pending", "{}", source.body);
    let error = source.body["edge_error"].as_str().unwrap_or_default();
    assert!(error.contains("name_taken"), "{}", source.body);
    assert_eq!(send(&source.ingest_url, &provider).await, 404);

    let deleted = gateway.edge.admin().delete(&format!("/admin/sources/{}", other.id)).await;
    deleted.expect_status(204);
    wait_until_active(&gateway, "shop").await;
    for reference in [source.id.as_str(), "shop"] {
        assert_eq!(send(&format!("{}/in/{reference}", gateway.edge.url()), &provider).await, 200, "{reference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_becomes_active_although_a_restore_has_set_the_database_back_behind_the_edge() {
    let gateway = Gateway::start_bare().await;
    let [first, lost, new] = [Provider::github(), Provider::github(), Provider::github()];
    let source = gateway.api.create_source("shop", &first).await;
    gateway.database.run(KEEP_SOURCES).await;
    for _ in 0..3 {
        assert_eq!(give_secrets(&gateway, "shop", &lost).await["edge"], "active");
    }
    gateway.database.run(SET_BACK).await;
    assert_eq!(send(&source.ingest_url, &lost).await, 200, "the edge has the change that the database has lost");

    give_secrets(&gateway, "shop", &new).await;
    wait_until_active(&gateway, "shop").await;
    assert_eq!(send(&source.ingest_url, &new).await, 200);
    for revoked in [&first, &lost] {
        assert_eq!(send(&source.ingest_url, revoked).await, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_are_added_concurrently_are_all_accepted_once_the_calls_are_answered() {
    let gateway = Gateway::start_bare().await;
    let source = gateway.api.create_source("shop", &Provider::github()).await;
    for _ in 0..6 {
        let providers = [Provider::github(), Provider::github(), Provider::github(), Provider::github()];
        let add = async |provider: &Provider| {
            let added = gateway.api.post("/v1/sources/shop/secrets", &json!({ "secret": provider.secrets[0] })).await;
            added.expect_status(200)["edge"].clone()
        };
        let [a, b, c, d] = &providers;
        let (a, b, c, d) = tokio::join!(add(a), add(b), add(c), add(d));
        assert_eq!([a, b, c, d], ["active", "active", "active", "active"]);
        for provider in &providers {
            assert_eq!(send(&source.ingest_url, provider).await, 200);
        }
        give_secrets(&gateway, "shop", &Provider::github()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_put_again_after_a_restore_of_the_database_even_without_a_later_change() {
    let mut gateway = Gateway::start_bare().await;
    let [first, lost] = [Provider::github(), Provider::github()];
    let source = gateway.api.create_source("shop", &first).await;
    gateway.database.run(KEEP_SOURCES).await;
    for _ in 0..3 {
        assert_eq!(give_secrets(&gateway, "shop", &lost).await["edge"], "active");
    }
    gateway.database.run(SET_BACK).await;
    restart_and_compare(&gateway.database, &mut gateway.relay).await;
    wait_until_edge_has(&gateway, &source, "revision", json!(5)).await;
    wait_until_active(&gateway, "shop").await;
    assert_eq!((send(&source.ingest_url, &first).await, send(&source.ingest_url, &lost).await), (200, 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_of_an_older_revision_is_overwritten_again() {
    let mut gateway = Gateway::start_bare().await;
    let [first, revoked, new] = [Provider::github(), Provider::github(), Provider::github()];
    let source = gateway.api.create_source("shop", &first).await;
    let older = give_secrets_that_hang(&gateway, "shop", &revoked).await;
    give_secrets(&gateway, "shop", &new).await;
    wait_until_active(&gateway, "shop").await;
    assert_eq!(send(&source.ingest_url, &new).await, 200);
    gateway.edge.values().land();
    assert_eq!(
        edge_source(&gateway, &source).await["revision"],
        older,
        "the older write has overwritten the newer one"
    );

    restart_and_compare(&gateway.database, &mut gateway.relay).await;
    wait_until_edge_has(&gateway, &source, "revision", json!(older + 1)).await;
    wait_until_active(&gateway, "shop").await;
    assert_eq!((send(&source.ingest_url, &new).await, send(&source.ingest_url, &revoked).await), (200, 401));
    let log = gateway.relay.log();
    let difference = format!("the edge has revision {older} of this source instead of the current one");
    assert!(log.contains(&difference), "the difference is logged: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_lands_after_its_source_was_deleted_is_removed_again() {
    let mut gateway = Gateway::start_bare().await;
    let [first, late] = [Provider::github(), Provider::github()];
    let source = gateway.api.create_source("shop", &first).await;
    let older = give_secrets_that_hang(&gateway, "shop", &late).await;
    // Once the source is active, the repeated put is complete and no second write is in flight.
    wait_until_active(&gateway, "shop").await;
    gateway.api.delete(&format!("/v1/sources/{}", source.id)).await.expect_status(204);
    assert_eq!(edge_source(&gateway, &source).await["error"], "source_deleted");
    assert_eq!(send(&source.ingest_url, &first).await, 404);
    gateway.edge.values().land();
    assert_eq!(edge_source(&gateway, &source).await["revision"], older, "the write has overwritten the tombstone");

    restart_and_compare(&gateway.database, &mut gateway.relay).await;
    wait_until_edge_has(&gateway, &source, "error", json!("source_deleted")).await;
    assert_eq!(send(&source.ingest_url, &late).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_source_refuses_puts_of_its_last_revision_and_frees_its_name() {
    let gateway = Gateway::bare_edge().await;
    let provider = Provider::github();
    let source = gateway.edge.put_source("shop", &provider).await;
    let path = format!("/admin/sources/{}", source.id);
    let admin = gateway.edge.admin();
    let older = admin.delete(&format!("{path}?revision=0")).await.expect_status(409);
    assert_eq!((&older["error"], &older["revision"]), (&json!("older_revision"), &json!(1)));
    admin.delete(&format!("{path}?revision=1")).await.expect_status(204);
    let deleted = admin.get(&path).await.expect_status(404);
    assert_eq!((&deleted["error"], &deleted["revision"]), (&json!("source_deleted"), &json!(1)));

    let refused = gateway.edge.put(&source.config).await.expect_status(409);
    assert_eq!((&refused["error"], &refused["revision"]), (&json!("older_revision"), &json!(1)));
    gateway.edge.put_source("shop", &provider).await;
    let taken = shared::source::SourceConfig { revision: 2, ..source.config.clone() };
    assert_eq!(gateway.edge.put(&taken).await.expect_status(409)["error"], "name_taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_created_again_while_kv_still_shows_the_deleted_one_becomes_active_automatically() {
    let gateway = Gateway::start_bare().await;
    let [old, new] = [Provider::github(), Provider::github()];
    let deleted = gateway.api.create_source("shop", &old).await;
    gateway.edge.values().freeze_reads();
    gateway.api.delete("/v1/sources/shop").await.expect_status(204);
    let source = gateway.api.create_source("shop", &new).await;
    assert_eq!(source.body["edge"], "pending", "{}", source.body);
    assert!(source.body["edge_error"].as_str().unwrap_or_default().contains("name_taken"), "{}", source.body);

    gateway.edge.values().refresh_reads();
    wait_until_active(&gateway, "shop").await;
    assert_eq!(send(&format!("{}/in/shop", gateway.edge.url()), &new).await, 200);
    assert_eq!(send(&deleted.ingest_url, &old).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_are_written_again_after_seal_key_was_changed_and_after_kv_was_emptied() {
    let mut gateway = Gateway::start_bare().await;
    let provider = Provider::github();
    let source = gateway.api.create_source("shop", &provider).await;
    gateway.edge.start_again_with_seal_key(&gateway.queue, &harness::random::key()).await.expect("starts again");
    assert_eq!(edge_source(&gateway, &source).await["error"], "source_damaged");
    assert_eq!(send(&source.ingest_url, &provider).await, 503, "the provider sends it again");
    restart_and_compare(&gateway.database, &mut gateway.relay).await;
    wait_until_edge_has(&gateway, &source, "revision", json!(1)).await;
    wait_until_active(&gateway, "shop").await;
    assert_eq!(send(&source.ingest_url, &provider).await, 200);

    gateway.edge.values().forget("");
    assert_eq!(edge_source(&gateway, &source).await["error"], "unknown_source");
    restart_and_compare(&gateway.database, &mut gateway.relay).await;
    wait_until_edge_has(&gateway, &source, "name_leads_here", json!(true)).await;
    wait_until_active(&gateway, "shop").await;

    gateway.edge.values().forget("name/");
    assert_eq!(edge_source(&gateway, &source).await["name_leads_here"], false);
    restart_and_compare(&gateway.database, &mut gateway.relay).await;
    wait_until_edge_has(&gateway, &source, "name_leads_here", json!(true)).await;
    wait_until_active(&gateway, "shop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_row_could_not_be_deleted_becomes_active_again_and_can_be_deleted() {
    let mut gateway = Gateway::start_bare().await;
    gateway.relay.expect_errors();
    let provider = Provider::github();
    let source = gateway.api.create_source("shop", &provider).await;
    gateway
        .database
        .run(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
         create trigger refuse before delete on sources for each row execute function refuse()",
        )
        .await;
    let refused = gateway.api.delete("/v1/sources/shop").await;
    assert!(refused.status >= 500, "{refused:?}");
    wait_until_active(&gateway, "shop").await;
    assert_eq!(send(&source.ingest_url, &provider).await, 200);

    gateway.database.run("drop trigger refuse on sources").await;
    gateway.api.delete("/v1/sources/shop").await.expect_status(204);
    assert_eq!(send(&source.ingest_url, &provider).await, 404);
    gateway.api.get("/v1/sources/shop").await.expect_status(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_differ_is_compared_again_after_a_day_and_a_deleted_one_for_a_week() {
    let mut gateway = Gateway::relay_only().await;
    let kept = gateway.api.create_source("kept", &Provider::github()).await;
    gateway.api.create_source("deleted", &Provider::github()).await;
    gateway.api.delete("/v1/sources/deleted").await.expect_status(204);
    let soon = "select bool_and(at > now() + interval '2 minutes' and at < now() + interval '5 minutes')
                from (select edge_check_at from sources union all select edge_check_at from deleted_sources) all_of (at)";
    wait_until_true(&gateway.database, soon).await;

    let before = gateway.edge.sources().remove(&kept.id);
    restart_and_compare(&gateway.database, &mut gateway.relay).await;
    let later = "select count(*) = 2 and bool_and(at > now() + interval '23 hours')
                 from (select edge_check_at from sources union all select edge_check_at from deleted_sources) all_of (at)";
    wait_until_true(&gateway.database, later).await;
    assert_eq!(gateway.edge.sources().remove(&kept.id), before);
    wait_until_true(&gateway.database, "select revision = 1 and edge_revision = 1 from sources").await;

    gateway.database.run("update deleted_sources set deleted_at = now() - interval '8 days'").await;
    restart_and_compare(&gateway.database, &mut gateway.relay).await;
    wait_until_true(&gateway.database, "select count(*) = 0 from deleted_sources").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_deletes_and_changes_of_a_source_leave_the_edge_consistent_with_the_table() {
    let gateway = Gateway::relay_only().await;
    for round in 0..5 {
        let source = gateway.api.create_source("shared", &Provider::github()).await;
        let path = format!("/v1/sources/{}", source.id);
        let mut calls = tokio::task::JoinSet::new();
        for call in 0..8 {
            let (api, path) = (gateway.api.clone(), path.clone());
            calls.spawn(async move {
                match call {
                    0 | 1 => {
                        api.post(&format!("{path}/secrets"), &json!({ "secret": format!("another {call}") })).await;
                        None
                    }
                    _ => Some(api.delete(&path).await.status),
                }
            });
        }
        let mut statuses: Vec<u16> = calls.join_all().await.into_iter().flatten().collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 404, 404, 404, 404, 404], "round {round}");
        assert!(gateway.edge.sources().is_empty(), "round {round}: {:?}", gateway.edge.sources());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_edge_gets_all_sources_of_many_customers_without_a_pause_after_each_round() {
    let mut gateway = Gateway::relay_only().await;
    // The relay warns of each source that the edge does not have.
    gateway.relay.expect_errors();
    gateway.relay.stop().await.expect("stops");
    let shape = Shape { customers: 150, sources: 1, destinations: 1 };
    let owned = gateway.customers(shape, "http://127.0.0.1:9/").await;
    gateway.database.run("update sources set edge_revision = revision, edge_check_at = now()").await;
    gateway.relay.start_again().await.expect("starts again");
    until("the edge to have all sources", SOON, async || match gateway.edge.sources().len() {
        there if there == owned.len() => Ok(()),
        there => Err(format!("it has {there} of {}", owned.len())),
    })
    .await;
    let names = gateway.edge.sources().into_values().map(|source| source["name"].as_str().map(str::to_owned));
    assert!(names.flatten().any(|name| name == "customer-7/source-0"));
}
