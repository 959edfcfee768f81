//! `dashboard_settings`: the pages of alerts, of the system and of the settings.

use harness::api::id;
use harness::gateway::Gateway;
use harness::wait::{SOON, until};
use serde_json::{Value, json};

use crate::dashboard::{html, signed_in, target};

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("no \"{field}\" in {object}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_created_shown_once_and_revoked_after_a_confirmation() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let mut browser = signed_in(base, gateway.relay.token()).await;
    let new = format!("{base}/dashboard/settings/tokens/new");
    let refused = browser.post_form(&new, &[("name", "<script>x"), ("expires_at", "2020-01-31T08:00")]).await;
    assert_eq!(refused.status, 422);
    let page = html(&refused);
    assert!(page.contains("Must have at least one scope."), "{page}");
    assert!(page.contains("value=\"&#60;script&#62;x\"") && page.contains("value=\"2020-01-31T08:00\""), "{page}");
    let wrong = [("name", "x"), ("scope", "read"), ("customer_of_token", "nobody"), ("expires_at", "2020-01-31T08:00")];
    let refused = browser.post_form(&new, &wrong).await;
    assert_eq!(refused.status, 422);
    assert!(html(&refused).contains("Must be in the future") || html(&refused).contains("nobody"), "{}", refused.body);
    assert!(gateway.api.all("/v1/tokens").await.is_empty());

    let made = browser.post_form(&new, &[("name", "<b>ci"), ("scope", "read"), ("scope", "write")]).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.headers["cache-control"], "no-store");
    let page = html(&made).to_owned();
    let secret = page.split("<code id=\"secret\">").nth(1).and_then(|rest| rest.split('<').next()).expect("the token");
    let me = gateway.api.with_token(secret).get("/v1/whoami").await.expect_status(200);
    assert_eq!((text(&me, "name"), &me["scopes"]), ("<b>ci", &json!(["read", "write"])));
    let list = browser.get(&format!("{base}/dashboard/settings/tokens")).await;
    assert!(!html(&list).contains(secret) && html(&list).contains("&#60;b&#62;ci"), "{}", list.body);

    let revoke = format!("{base}/dashboard/settings/tokens/{}/revoke", text(&me, "token_id"));
    let confirmation = browser.get(&revoke).await;
    assert!(html(&confirmation).contains("This cannot be undone"), "{}", confirmation.body);
    gateway.api.with_token(secret).get("/v1/whoami").await.expect_status(200);
    let done = browser.post_form(&revoke, &[]).await;
    assert_eq!((done.status, target(&done).as_str()), (303, "/dashboard/settings/tokens"));
    gateway.api.with_token(secret).get("/v1/whoami").await.expect_status(401);
    let list = browser.get(&format!("{base}/dashboard/settings/tokens")).await;
    assert!(html(&list).contains("is revoked.") && html(&list).contains("Revoked"), "{}", list.body);
    let again = browser.get(&format!("{base}/dashboard/settings/tokens")).await;
    assert!(!html(&again).contains("is revoked."), "a notice is shown once");
    // PostgreSQL stores no NUL.
    assert_eq!(browser.post_form(&new, &[("name", "a\0b"), ("scope", "read")]).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_created_edited_by_one_person_at_a_time_and_deleted_by_its_name() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let mut browser = signed_in(base, gateway.relay.token()).await;
    let new = format!("{base}/dashboard/settings/customers/new");
    for (form, message) in [
        ([("name", "Not A Name"), ("max_sources", "")], "aria-invalid=\"true\""),
        ([("name", "acme"), ("max_sources", "many")], "Must be a whole number"),
        ([("name", "acme"), ("max_sources", "-1")], "aria-invalid=\"true\""),
        ([("name", "default"), ("max_sources", "7")], "aria-invalid=\"true\""),
    ] {
        let page = browser.post_form(&new, &form).await;
        assert!(matches!(page.status, 409 | 422), "{form:?}: {}", page.status);
        assert!(
            html(&page).contains(message) && html(&page).contains(&format!("value=\"{}\"", form[1].1)),
            "{}",
            page.body
        );
    }
    let page = browser.post_form(&new, &[("name", "acme"), ("max_sources", "3"), ("body_retention_days", "7")]).await;
    assert_eq!(target(&page), "/dashboard/settings/customers");
    let customer = gateway.api.get("/v1/customers/acme").await.expect_status(200);
    assert_eq!((&customer["max_sources"], &customer["body_retention_days"]), (&json!(3), &json!(7)));
    // The navigation offers it at once.
    let page = browser.get(&format!("{base}/dashboard/settings/customers")).await;
    assert!(html(&page).contains("<option value=\"acme\">acme</option>"), "{}", page.body);
    assert!(html(&page).contains("href=\"/dashboard?customer=acme\""), "{}", page.body);

    let edit = format!("{base}/dashboard/settings/customers/{}", id(&customer));
    let form = browser.get(&edit).await;
    let version = html(&form)
        .split("name=\"version\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a version")
        .to_owned();
    gateway.api.patch("/v1/customers/acme", &json!({ "max_destinations": 9 })).await.expect_status(200);
    let values = [("name", "acme"), ("max_sources", "4"), ("version", version.as_str())];
    let page = browser.post_form(&edit, &values).await;
    assert_eq!(page.status, 412);
    assert!(html(&page).contains("Someone has changed this customer meanwhile"), "{}", page.body);
    assert!(
        html(&page).contains("value=\"4\"") && html(&page).contains("<dd>9</dd>"),
        "nothing is lost: {}",
        page.body
    );
    let version = html(&page)
        .split("name=\"version\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a version")
        .to_owned();
    let values = [("name", "acme-2"), ("max_sources", ""), ("max_destinations", "9"), ("version", version.as_str())];
    let page = browser.post_form(&edit, &values).await;
    assert_eq!(page.status, 303, "{page:?}");
    let customer = gateway.api.get("/v1/customers/acme-2").await.expect_status(200);
    assert_eq!((&customer["max_sources"], &customer["max_destinations"]), (&Value::Null, &json!(9)));
    assert_eq!(customer["body_retention_days"], Value::Null);

    let delete = format!("{base}/dashboard/settings/customers/{}/delete", id(&customer));
    let page = browser.get(&delete).await;
    assert!(html(&page).contains("0 sources, 0 destinations and 0 routes stop at once"), "{}", page.body);
    let version = html(&page)
        .split("name=\"version\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a version")
        .to_owned();
    let page = browser.post_form(&delete, &[("typed", "acme"), ("version", &version)]).await;
    assert_eq!(page.status, 422);
    assert!(html(&page).contains("Type acme-2 to confirm."), "{}", page.body);
    gateway.api.get("/v1/customers/acme-2").await.expect_status(200);
    let page = browser.post_form(&delete, &[("typed", "acme-2"), ("version", &version)]).await;
    assert_eq!(target(&page), "/dashboard/settings/customers");
    gateway.api.get("/v1/customers/acme-2").await.expect_status(404);
    let default = gateway.api.get("/v1/customers/default").await.expect_status(200);
    let delete = format!("{base}/dashboard/settings/customers/{}/delete", id(&default));
    let page = browser.post_form(&delete, &[("typed", "default")]).await;
    assert!(matches!(page.status, 409 | 412), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_ended_one_by_one_or_all() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let token = gateway.api.create_token(&["read"], None, json!({})).await;
    let token = text(&token, "token").to_owned();
    let mut root = signed_in(base, gateway.relay.token()).await;
    let (mut here, mut there) = (signed_in(base, &token).await, signed_in(base, &token).await);
    let own = here.get(&format!("{base}/dashboard/settings/sessions")).await;
    assert_eq!(html(&own).matches("/end\"><button").count(), 2, "its own: {}", own.body);
    assert!(html(&own).contains("this browser"), "{}", own.body);
    let all = root.get(&format!("{base}/dashboard/settings/sessions")).await;
    assert_eq!(html(&all).matches("/end\"><button").count(), 3, "everyone's: {}", all.body);

    let sessions = gateway.api.all("/v1/sessions").await;
    let newest = format!("{base}/dashboard/settings/sessions/{}/end", id(&sessions[0]));
    let page = root.post_form(&newest, &[]).await;
    assert_eq!(target(&page), "/dashboard/settings/sessions");
    assert!(target(&there.get(&format!("{base}/dashboard")).await).starts_with("/dashboard/sign-in"));
    assert_eq!(here.get(&format!("{base}/dashboard")).await.status, 200);
    let of_root = sessions.iter().find(|session| session["made_of"] == "root").expect("a session of the root token");
    let page = here.post_form(&format!("{base}/dashboard/settings/sessions/{}/end", id(of_root)), &[]).await;
    assert_eq!(page.status, 404, "a session of someone else does not exist for it");

    let mut there = signed_in(base, &token).await;
    let confirmation = here.get(&format!("{base}/dashboard/settings/sessions/end")).await;
    assert!(html(&confirmation).contains("this one included"), "{}", confirmation.body);
    let page = here.post_form(&format!("{base}/dashboard/settings/sessions/end"), &[]).await;
    assert_eq!((target(&page).as_str(), here.cookie("tidegate")), ("/dashboard/sign-in", None));
    assert!(target(&there.get(&format!("{base}/dashboard")).await).starts_with("/dashboard/sign-in"));
    assert_eq!(root.get(&format!("{base}/dashboard")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_says_who_did_what_and_what_it_was_before_and_after() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let customer = gateway.api.create_customer("acme").await;
    gateway.api.patch("/v1/customers/acme", &json!({ "max_sources": 41 })).await.expect_status(200);
    gateway.api.create_token(&["read"], None, json!({ "name": "<img src=x onerror=y>" })).await;
    let mut browser = signed_in(base, gateway.relay.token()).await;
    let page = browser.get(&format!("{base}/dashboard/settings/audit")).await;
    let all = html(&page);
    for part in
        ["customer.update", "customer.create", "token.create", "session.create", "root", "max_sources", &customer]
    {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(!all.contains("<img") && all.contains("&#60;img src=x onerror=y&#62;"), "{all}");
    let page = browser.get(&format!("{base}/dashboard/settings/audit?action=customer.update&of=acme")).await;
    let one = html(&page);
    assert!(one.contains("<bdi>null</bdi>") && one.contains("<bdi>41</bdi>"), "{one}");
    assert!(!one.contains("<td class=\"mono break\">token.create"), "{one}");
    assert!(one.contains("/v1/audit?customer=acme&#38;action=customer.update"), "the call has the same filters: {one}");
    for wrong in ["object=x", "action=customer.rename", "of=nobody", "after=yesterday"] {
        let page = browser.get(&format!("{base}/dashboard/settings/audit?{wrong}")).await;
        assert_eq!(page.status, 422, "{wrong}: a filter is never ignored");
    }
    // It belongs to the deployment.
    let bound = gateway.api.create_token(&["read"], Some("acme"), json!({})).await;
    let mut browser = signed_in(base, text(&bound, "token")).await;
    assert_eq!(browser.get(&format!("{base}/dashboard/settings/audit")).await.status, 403);
    let page = browser.get(&format!("{base}/dashboard/settings")).await;
    assert_eq!(target(&page), "/dashboard/settings/sessions");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_shows_replicas_queues_the_edge_and_the_database_and_no_secret() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let line = gateway.line("line").await;
    let event = gateway.push(&line.source, b"{}");
    line.receiver.wait_for_events([event], SOON).await;
    gateway.shared_by(1, SOON).await;
    let mut browser = signed_in(base, gateway.relay.token()).await;
    let system = format!("{base}/dashboard/system");
    let mut shown = String::new();
    until("the messages of the queue on the page", SOON, async || {
        shown = html(&browser.get(&system).await).to_owned();
        if shown.contains("Every part of this relay works") && shown.contains("this relay</span>") {
            Ok(())
        } else {
            Err(shown.clone())
        }
    })
    .await;
    for part in [
        "All 256 shards have an owner",
        env!("CARGO_PKG_VERSION"),
        "All 1 source is in step",
        "settled_deliveries",
        "PostgreSQL",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let queue = gateway.relay.settings().value("TIDEGATE_QUEUE_IDS").split(',').next().expect("a queue").to_owned();
    assert!(shown.contains(&queue) && shown.contains("TIDEGATE_EDGE_URL"), "{shown}");
    for secret in [
        "TIDEGATE_ADMIN_TOKEN",
        "TIDEGATE_MASTER_KEY",
        "TIDEGATE_QUEUE_TOKEN",
        "TIDEGATE_EDGE_ADMIN_TOKEN",
        "DATABASE_URL",
    ] {
        let value = gateway.relay.settings().value(secret);
        assert!(shown.contains(secret) && !value.is_empty() && !shown.contains(value), "{secret}");
    }

    gateway.database.run("update sources set revision = revision + 1, edge_error = 'the edge is <away>'").await;
    until("the source that is not in step", SOON, async || {
        let page = browser.get(&system).await;
        if html(&page).contains("The edge is &#60;away&#62;.") { Ok(()) } else { Err(page.body.to_string()) }
    })
    .await;

    // A viewer who may not administer sees no settings, and one of a customer nothing.
    let reader = gateway.api.create_token(&["read"], None, json!({})).await;
    let page = signed_in(base, text(&reader, "token")).await.get(&system).await;
    assert_eq!(page.status, 200);
    assert!(!html(&page).contains("Settings of this relay"), "{}", page.body);
    gateway.api.create_customer("acme").await;
    let bound = gateway.api.create_token(&["read"], Some("acme"), json!({})).await;
    let mut browser = signed_in(base, text(&bound, "token")).await;
    let page = browser.get(&system).await;
    assert_eq!(page.status, 403);
    // The page of the refusal offers to read itself again; the navigation has no link to it.
    let links = html(&page).matches("href=\"/dashboard/system\"").count();
    assert!(!html(&page).contains("settled_deliveries") && links <= 1, "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_name_what_is_wrong_with_the_page_that_helps_and_the_navigation_counts_them() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let line = gateway.line("line").await;
    let mut browser = signed_in(base, gateway.relay.token()).await;
    let alerts = format!("{base}/dashboard/alerts");
    let page = browser.get(&alerts).await;
    assert!(html(&page).contains("Nothing needs you"), "{}", page.body);
    assert!(!html(&page).contains("class=\"count\""), "{}", page.body);
    gateway.api.pause("line").await;
    gateway.push(&line.source, b"{}");
    let held = gateway.api.wait_for_row("/v1/deliveries?state=held", SOON).await;
    let destination = gateway.api.get("/v1/destinations/line").await.expect_status(200);
    let destination = id(&destination);
    assert!(held["id"].is_string(), "{held}");
    until("the alert", SOON, async || {
        let page = browser.get(&alerts).await;
        let text = html(&page);
        let link = format!("href=\"/dashboard/destinations/{destination}\"");
        let is_shown = text.contains("Destination paused") && text.contains(&link) && text.contains("1 delivery");
        if is_shown && text.contains("class=\"count\">1") { Ok(()) } else { Err(text.to_owned()) }
    })
    .await;
    // The navigation of other pages has the number without a query of its own.
    let page = browser.get(&format!("{base}/dashboard/settings/retention")).await;
    assert!(html(&page).contains("class=\"count\">1"), "{}", page.body);
    gateway.api.create_customer("acme").await;
    let page = browser.get(&format!("{alerts}?customer=acme")).await;
    assert!(html(&page).contains("Nothing needs you") && !html(&page).contains("class=\"count\""), "{}", page.body);
    // What was read for others is not shown to someone who may not read.
    let writer = gateway.api.create_token(&["write"], None, json!({})).await;
    let mut writer = signed_in(base, text(&writer, "token")).await;
    for path in ["/dashboard", "/dashboard/alerts"] {
        let page = writer.get(&format!("{base}{path}")).await;
        assert_eq!(page.status, 403, "{path}");
        assert!(!html(&page).contains("class=\"count\"") && !html(&page).contains(destination), "{}", page.body);
    }
    gateway.api.resume("line").await;
    until("the end of the alert", SOON, async || {
        let page = browser.get(&alerts).await;
        if html(&page).contains("Nothing needs you") { Ok(()) } else { Err(page.body.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sign_in_and_the_retention_are_shown_as_they_are_configured() {
    let site = "http://tidegate.internal";
    let gateway = Gateway::relay_only_with(|settings| {
        settings
            .with("TIDEGATE_PUBLIC_URL", site)
            .with("TIDEGATE_OIDC_ISSUER", "http://127.0.0.1:9/realms/a")
            .with("TIDEGATE_OIDC_CLIENT_ID", "the-client")
            .with("TIDEGATE_OIDC_CLIENT_SECRET", "never-shown-secret")
            .with("TIDEGATE_OIDC_GROUPS", "platform=read+write,ops=admin")
            .with("TIDEGATE_BODY_RETENTION_DAYS", "33")
    })
    .await;
    let base = gateway.relay.url();
    let mut browser = harness::browser::Browser::default().with_header("origin", site);
    let page = browser.post_form(&format!("{base}/dashboard/sign-in"), &[("token", gateway.relay.token())]).await;
    assert_eq!(page.status, 303, "{page:?}");
    browser.headers.clear();
    let page = browser.get(&format!("{base}/dashboard/settings/sign-in")).await;
    let shown = html(&page);
    for part in [
        "http://127.0.0.1:9/realms/a",
        "the-client",
        "set, secret",
        "http://tidegate.internal/auth/oidc/callback",
        "platform",
        "ops",
        "read, write",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("never-shown-secret"), "{shown}");
    let page = browser.get(&format!("{base}/dashboard/settings/retention")).await;
    assert!(html(&page).contains("33 days") && html(&page).contains("TIDEGATE_BODY_RETENTION_DAYS"), "{}", page.body);
    let page = browser.get(&format!("{base}/dashboard/system")).await;
    assert!(!html(&page).contains("never-shown-secret"), "{}", page.body);
}
