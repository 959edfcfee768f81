//! sessions: sign-in with a token, what a cookie may do, and when it stops being accepted, through two relays.

use harness::api::{Api, http_client, id};
use harness::browser::Browser;
use harness::gateway::Gateway;
use harness::postgres::wait_for_count;
use harness::wait::{SOON, until};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::calls::{Ids, operations};

/// The name of the cookie over plain HTTP.
const COOKIE: &str = "tidegate";

/// As many sessions as one token may have.
const MOST: usize = 100;

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("no \"{field}\" in {object}"))
}

/// Signs in with a token, and returns a browser with the cookie and the session.
async fn sign_in(base: &str, token: &str) -> (Browser, Value) {
    let mut browser = Browser::default().with_header("authorization", &format!("Bearer {token}"));
    let page = browser.send(Method::POST, &format!("{base}/v1/sessions"), None).await;
    assert_eq!(page.set_cookies.len(), 1, "{page:?}");
    let session = page.expect_status(201);
    browser.headers.clear();
    (browser, session)
}

/// A token with these scopes.
async fn token(api: &Api, scopes: &[&str]) -> Value {
    api.create_token(scopes, None, json!({})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_what_its_token_has_and_only_its_hash_is_stored() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    gateway.api.create_customer("acme").await;
    let made = gateway.api.create_token(&["read", "write"], Some("acme"), json!({})).await;
    let mut browser = Browser::default().with_header("authorization", &format!("Bearer {}", text(&made, "token")));
    let page = browser.send(Method::POST, &format!("{base}/v1/sessions"), None).await;
    assert_eq!(page.headers["cache-control"], "no-store");
    let cookie = page.set_cookies[0].clone();
    let session = page.expect_status(201);
    let secret = browser.cookie(COOKIE).expect("a cookie").to_owned();
    assert!(secret.starts_with("tgs_") && secret.len() == 68, "{secret}");
    assert_eq!(cookie, format!("{COOKIE}={secret}; HttpOnly; SameSite=Lax; Path=/; Max-Age=43200"));
    assert!(!session.to_string().contains(&secret), "{session}");
    assert_eq!((text(&session, "made_of"), text(&session, "token_id")), ("token", id(&made)));
    assert_eq!((text(&session, "customer"), &session["scopes"]), ("acme", &json!(["read", "write"])));
    assert_eq!((&session["current"], &session["ended_at"]), (&json!(true), &Value::Null));

    browser.headers.clear();
    let me = browser.get(&format!("{base}/v1/whoami")).await.expect_status(200);
    assert_eq!((text(&me, "kind"), text(&me, "session_id")), ("session", id(&session)));
    assert_eq!((text(&me, "token_id"), text(&me, "name")), (id(&made), text(&made, "name")));
    assert_eq!((text(&me, "customer"), &me["scopes"]), ("acme", &session["scopes"]));
    assert_eq!(me["expires_at"], session["expires_at"]);
    let mut database = gateway.database.connect().await.expect("connects");
    let row: String =
        sqlx::query_scalar("select sessions::text from sessions").fetch_one(&mut database).await.expect("a row");
    assert!(!row.contains(&secret[4..64]), "{row}");
    let (hash, hours): (Vec<u8>, f64) = sqlx::query_as(
        "select hash, (extract(epoch from expires_at - created_at) / 3600)::double precision from sessions",
    )
    .fetch_one(&mut database)
    .await
    .expect("a row");
    assert_eq!((hash, hours), (Sha256::digest(&secret).to_vec(), 12.0));
    // The secret of a session is no token.
    gateway.api.with_token(&secret).get("/v1/whoami").await.expect_status(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_header_decides_even_if_there_is_a_cookie() {
    let gateway = Gateway::relay_only().await;
    let (browser, _) = sign_in(gateway.relay.url(), gateway.relay.token()).await;
    let url = format!("{}/v1/whoami", gateway.relay.url());
    let other = token(&gateway.api, &["read"]).await;
    let bearer = format!("Bearer {}", text(&other, "token"));
    let me = browser.clone().with_header("authorization", &bearer).get(&url).await.expect_status(200);
    assert_eq!((text(&me, "kind"), text(&me, "token_id")), ("token", id(&other)));
    for wrong in ["Bearer unknown", "Basic abc", "Bearer"] {
        browser.clone().with_header("authorization", wrong).get(&url).await.expect_status(401);
    }
    assert_eq!(browser.clone().get(&url).await.expect_status(200)["kind"], "session");
    // A session makes no further session, which would outlive it.
    let mut browser = browser;
    let sessions = format!("{}/v1/sessions", gateway.relay.url());
    let problem = browser.send(Method::POST, &sessions, None).await.expect_status(403);
    assert_eq!(problem["code"], "forbidden");
    assert!(text(&problem, "detail").contains("a session is made of a token"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_may_do_what_the_scopes_of_its_token_allow_and_nothing_else() {
    let gateway = Gateway::relay_only().await;
    let ids = Ids::of_nothing();
    for scopes in [["read"], ["write"], ["admin"]] {
        let made = token(&gateway.api, &scopes).await;
        let api = gateway.api.with_token(text(&made, "token"));
        let mut wrong = Vec::new();
        for operation in operations(&api).await.iter().filter(|operation| !operation.name.contains("/v1/sessions")) {
            // Each operation has a session of its own, because one of them revokes tokens and others end sessions.
            let (browser, _) = sign_in(gateway.relay.url(), text(&made, "token")).await;
            let secret = browser.cookie(COOKIE).expect("a cookie").to_owned();
            let by_session = operation.send_with_cookie(gateway.relay.url(), &format!("{COOKIE}={secret}"), &ids).await;
            let is_allowed = operation.scope.as_deref().is_none_or(|needed| scopes.contains(&needed));
            if (by_session != 403) != is_allowed || by_session == 401 || by_session >= 500 {
                wrong.push(format!("{} with {scopes:?}: {by_session}", operation.name));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_with_a_cookie_needs_the_own_origin_and_changes_nothing_without_it() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let (browser, _) = sign_in(base, gateway.relay.token()).await;
    let customers = format!("{base}/v1/customers");
    let create = async |browser: &Browser, name: &str| {
        let body = json!({ "name": name }).to_string();
        browser.clone().send(Method::POST, &customers, Some(body)).await
    };
    for (header, value) in [
        ("origin", ""),
        ("origin", "null"),
        ("origin", "https://evil.example"),
        ("origin", "http://127.0.0.1:1"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "none"),
    ] {
        let problem = create(&browser.clone().with_header(header, value), "evil").await.expect_status(403);
        assert_eq!(problem["code"], "cross_site", "{header}: {value}");
        assert!(text(&problem, "detail").contains("TIDEGATE_PUBLIC_URL"), "{problem}");
    }
    let names = async || {
        let rows = gateway.api.all("/v1/customers").await;
        rows.iter().map(|row| text(row, "name").to_owned()).collect::<Vec<_>>()
    };
    assert!(!names().await.contains(&"evil".to_owned()));
    create(&browser.clone().with_header("sec-fetch-site", "same-origin"), "good").await.expect_status(201);
    assert!(names().await.contains(&"good".to_owned()));

    for (value, status) in [("none", 200), ("same-origin", 200), ("same-site", 403), ("cross-site", 403)] {
        browser.clone().with_header("sec-fetch-site", value).get(&customers).await.expect_status(status);
    }
    browser.clone().with_header("origin", "https://evil.example").get(&customers).await.expect_status(403);
    // A token in a header is no cookie: no page of another site can send it.
    let bearer = format!("Bearer {}", gateway.relay.token());
    let api = Browser::default().with_header("authorization", &bearer).with_header("origin", "https://other.example");
    create(&api, "by-token").await.expect_status(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_takes_effect_at_once_on_every_replica() {
    let gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    let (here, there) = (gateway.relay.url(), replica.url());
    let made = token(&gateway.api, &["read"]).await;
    let (mut browser, session) = sign_in(here, text(&made, "token")).await;
    let kept = browser.clone();
    for base in [here, there] {
        browser.get(&format!("{base}/v1/sources")).await.expect_status(200);
    }
    let page = browser.send(Method::DELETE, &format!("{there}/v1/sessions/current"), None).await;
    assert_eq!((page.status, browser.cookie(COOKIE)), (204, None), "{page:?}");
    for base in [here, there] {
        let page = kept.clone().get(&format!("{base}/v1/whoami")).await;
        assert!(page.set_cookies[0].starts_with("tidegate=; "), "the browser forgets it: {page:?}");
        let problem = page.expect_status(401);
        assert!(text(&problem, "detail").contains("sign in again"), "{problem}");
    }
    let token = gateway.api.with_token(text(&made, "token"));
    token.get("/v1/whoami").await.expect_status(200);
    assert_eq!(token.delete("/v1/sessions/current").await.expect_status(409)["code"], "no_session");
    assert!(token.all("/v1/sessions").await.is_empty());
    let ended = token.post(&format!("/v1/sessions/{}/end", id(&session)), &json!({})).await.expect_status(200);
    assert!(ended["ended_at"].is_string(), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_everywhere_ends_all_sessions_of_the_token_and_no_others() {
    let gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    let (here, there) = (gateway.relay.url(), replica.url());
    let [first, second] = [token(&gateway.api, &["read"]).await, token(&gateway.api, &["read"]).await];
    let mut own = Vec::new();
    for base in [here, there, here] {
        own.push(sign_in(base, text(&first, "token")).await);
    }
    let other = sign_in(here, text(&second, "token")).await;
    let root = sign_in(here, gateway.relay.token()).await;

    // Each token sees its own sessions, and an administrator all of them.
    let listed = own[1].0.clone().get(&format!("{there}/v1/sessions")).await.expect_status(200);
    let rows = listed["data"].as_array().expect("rows").clone();
    let ids: Vec<&str> = rows.iter().map(id).collect();
    let newest_first: Vec<&str> = own.iter().rev().map(|(_, session)| id(session)).collect();
    assert_eq!(ids, newest_first);
    let current: Vec<bool> = rows.iter().map(|row| row["current"] == true).collect();
    assert_eq!(current, [false, true, false]);
    assert_eq!(gateway.api.all("/v1/sessions").await.len(), 5);
    let end_other = format!("{here}/v1/sessions/{}/end", id(&other.1));
    own[0].0.clone().send(Method::POST, &end_other, None).await.expect_status(404);

    let ended = own[0].0.clone().send(Method::DELETE, &format!("{there}/v1/sessions"), None).await.expect_status(200);
    assert_eq!(ended, json!({ "ended": 3 }));
    for (browser, _) in &own {
        for base in [here, there] {
            browser.clone().get(&format!("{base}/v1/whoami")).await.expect_status(401);
        }
    }
    for (browser, _) in [&other, &root] {
        browser.clone().get(&format!("{there}/v1/whoami")).await.expect_status(200);
    }
    let mut root = root.0;
    root.send(Method::POST, &end_other, None).await.expect_status(200);
    other.0.clone().get(&format!("{here}/v1/whoami")).await.expect_status(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token_and_after_its_time_on_every_replica() {
    let gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    let bases = [gateway.relay.url(), replica.url()];
    let status = async |browser: &Browser, status: u16| {
        for base in bases {
            browser.clone().get(&format!("{base}/v1/whoami")).await.expect_status(status);
        }
    };
    let made = token(&gateway.api, &["read"]).await;
    let (revoked, _) = sign_in(bases[0], text(&made, "token")).await;
    status(&revoked, 200).await;
    gateway.api.post(&format!("/v1/tokens/{}/revoke", id(&made)), &json!({})).await.expect_status(200);
    status(&revoked, 401).await;

    let expires = json!({ "expires_at": "2126-01-31T07:00:00Z" });
    let made = gateway.api.create_token(&["read"], None, expires).await;
    let (browser, _) = sign_in(bases[1], text(&made, "token")).await;
    status(&browser, 200).await;
    gateway.database.run("update tokens set expires_at = now() where expires_at is not null").await;
    status(&browser, 401).await;
    assert!(gateway.api.all("/v1/sessions").await.is_empty());

    // A session does not outlive a token that expires earlier than the session would.
    let made = token(&gateway.api, &["read"]).await;
    gateway.database.run("update tokens set expires_at = now() + interval '1 hour' where expires_at is null").await;
    let (browser, session) = sign_in(bases[0], text(&made, "token")).await;
    let shown = gateway.api.get(&format!("/v1/tokens/{}", id(&made))).await.expect_status(200);
    assert_eq!(session["expires_at"], shown["expires_at"]);
    status(&browser, 200).await;
    gateway.database.run("update sessions set expires_at = now()").await;
    status(&browser, 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_root_token_ends_when_the_token_is_no_longer_configured() {
    let (new, old) = ("the new root token of this test", "the old root token of this test");
    let both = format!("{new},{old}");
    let mut gateway = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_ADMIN_TOKEN", &both)).await;
    let base = gateway.relay.url().to_owned();
    let whoami = format!("{base}/v1/whoami");
    let (mut by_new, session) = sign_in(&base, new).await;
    let (mut by_old, _) = sign_in(&base, old).await;
    assert_eq!((text(&session, "made_of"), &session["name"]), ("root", &Value::Null));
    for browser in [&mut by_new, &mut by_old] {
        let me = browser.get(&whoami).await.expect_status(200);
        assert_eq!((text(&me, "kind"), me["scopes"].as_array().map(Vec::len)), ("session", Some(6)));
    }
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again_with(|settings| settings.with("TIDEGATE_ADMIN_TOKEN", new)).await.expect("starts");
    by_new.get(&whoami).await.expect_status(200);
    by_old.get(&whoami).await.expect_status(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_a_bounded_number_of_sessions_and_the_oldest_one_ends() {
    let gateway = Gateway::relay_only().await;
    let made = token(&gateway.api, &["read"]).await;
    let (oldest, _) = sign_in(gateway.relay.url(), text(&made, "token")).await;
    let (second, _) = sign_in(gateway.relay.url(), text(&made, "token")).await;
    let api = gateway.api.with_token(text(&made, "token"));
    for _ in 2..MOST {
        api.post("/v1/sessions", &json!({})).await.expect_status(201);
    }
    // All of them are new, so a program that makes them without end is refused.
    let refused = api.post("/v1/sessions", &json!({})).await.expect_status(409);
    assert_eq!(refused["code"], "too_many_sessions", "{refused}");
    let mut database = gateway.database.connect().await.expect("connects");
    sqlx::query("update sessions set created_at = created_at - interval '11 minutes'")
        .execute(&mut database)
        .await
        .expect("updates");
    let whoami = format!("{}/v1/whoami", gateway.relay.url());
    oldest.clone().get(&whoami).await.expect_status(200);
    api.post("/v1/sessions", &json!({})).await.expect_status(201);
    oldest.clone().get(&whoami).await.expect_status(401);
    second.clone().get(&whoami).await.expect_status(200);
    assert_eq!(api.all("/v1/sessions").await.len(), MOST);
    let rows: i64 =
        sqlx::query_scalar("select count(*) from sessions").fetch_one(&mut database).await.expect("a count");
    assert_eq!(rows, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_cookies_are_slowed_like_wrong_tokens_and_known_sessions_are_not() {
    let gateway = Gateway::relay_only().await;
    let whoami = format!("{}/v1/whoami", gateway.relay.url());
    let (mut known, _) = sign_in(gateway.relay.url(), gateway.relay.token()).await;
    known.get(&whoami).await.expect_status(200);
    let mut refused = 0;
    let limited = loop {
        let mut wrong = Browser::default();
        wrong.set_cookie(COOKIE, &format!("tgs_{refused:064x}"));
        match wrong.get(&whoami).await {
            page if page.status == 429 => break page,
            page => page.expect_status(401),
        };
        refused += 1;
        assert!(refused < 300, "it is never slowed");
    };
    assert_eq!(limited.body["code"], "too_many_wrong_tokens");
    known.get(&whoami).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_session_is_kept_and_counts_for_its_token() {
    let gateway = Gateway::relay_only().await;
    let made = token(&gateway.api, &["read"]).await;
    let (mut browser, _) = sign_in(gateway.relay.url(), text(&made, "token")).await;
    gateway.database.run("update tokens set last_used_at = '2026-01-01'").await;
    browser.get(&format!("{}/v1/whoami", gateway.relay.url())).await.expect_status(200);
    until("both uses to be stored", SOON, async || {
        let sessions = gateway.api.all("/v1/sessions").await;
        let token = gateway.api.get(&format!("/v1/tokens/{}", id(&made))).await.expect_status(200);
        let is_stored =
            sessions[0]["last_used_at"].is_string() && !text(&token, "last_used_at").starts_with("2026-01-01");
        if is_stored { Ok(()) } else { Err(format!("{sessions:?} {token}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_expired_sessions_are_deleted() {
    let mut gateway = Gateway::relay_only().await;
    sign_in(gateway.relay.url(), gateway.relay.token()).await;
    gateway.database.run("update sessions set expires_at = now() - interval '1 second'").await;
    sign_in(gateway.relay.url(), gateway.relay.token()).await;
    // Maintenance runs when a relay starts.
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again().await.expect("starts");
    let mut database = gateway.database.connect().await.expect("connects");
    let query = "select count(*) from sessions";
    wait_for_count(&mut database, "the expired session to be deleted", query, SOON, |count| count == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_origin_a_proxy_has_hidden_gets_no_session() {
    let gateway = Gateway::relay_only().await;
    let url = format!("{}/v1/sessions", gateway.relay.url());
    for (origin, status) in [("https://tidegate.example.com", 403), (gateway.relay.url(), 201)] {
        let request = http_client().post(&url).bearer_auth(gateway.relay.token()).header("origin", origin);
        assert_eq!(request.send().await.expect("answers").status(), status, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_url_decides_which_origin_and_which_cookie_count() {
    let public = "https://tidegate.example.com";
    let gateway = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_PUBLIC_URL", public)).await;
    let url = format!("{}/v1/sessions", gateway.relay.url());
    let bearer = format!("Bearer {}", gateway.relay.token());
    let mut browser = Browser::default().with_header("authorization", &bearer).with_header("origin", public);
    browser.send(Method::POST, &url, None).await.expect_status(201);
    browser.headers.clear();
    assert!(browser.cookie("__Host-tidegate").is_some() && browser.cookie(COOKIE).is_none());
    browser.clone().send(Method::DELETE, &url, None).await.expect_status(403);
    browser.clone().with_header("origin", public).send(Method::DELETE, &url, None).await.expect_status(200);

    // Without the setting the relay goes by the request, and makes no session that could be read on its way.
    let gateway = Gateway::relay_only().await;
    let bearer = format!("Bearer {}", gateway.relay.token());
    let mut named = Browser::default().with_header("authorization", &bearer).with_header("host", "relay.example.com");
    let url = format!("{}/v1/sessions", gateway.relay.url());
    let problem = named.send(Method::POST, &url, None).await.expect_status(403);
    assert_eq!(problem["code"], "plain_http");
    let behind_tls = named.with_header("x-forwarded-proto", "https");
    let mut behind_tls = behind_tls.with_header("origin", "https://relay.example.com");
    let page = behind_tls.send(Method::POST, &url, None).await;
    assert!(page.set_cookies[0].contains("; Secure; "), "{page:?}");
    page.expect_status(201);
}
