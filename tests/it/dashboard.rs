//! dashboard: the frame of all pages: who sees them, their headers, the sign-in, and what they load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harness::api::id;
use harness::browser::{Browser, Page};
use harness::gateway::Gateway;
use harness::place;
use harness::wait::SOON;
use serde_json::json;

use crate::isolation::{Tenant, settled_rows, tenant};

/// Every scope that a token of a customer can have.
const OF_A_CUSTOMER: [&str; 5] = ["read", "bodies", "write", "replay", "secrets"];

/// The forms of every viewer: they change the browser or the viewer's own session, and nothing that is stored for others.
const OWN: [&str; 4] = [
    "/dashboard/theme",
    "/dashboard/sign-out",
    "/dashboard/settings/sessions/end",
    "/dashboard/settings/sessions/{id}/end",
];

/// A browser that has signed in with a token.
pub(crate) async fn signed_in(base: &str, token: &str) -> Browser {
    let mut browser = Browser::default();
    let page = browser.post_form(&format!("{base}/dashboard/sign-in"), &[("token", token)]).await;
    assert_eq!(page.status, 303, "{page:?}");
    browser
}

/// The HTML of a page.
pub(crate) fn html(page: &Page) -> &str {
    page.body.as_str().unwrap_or_else(|| panic!("{} is no page: {}", page.url, page.body))
}

/// The path and the query to which a response redirects.
pub(crate) fn target(page: &Page) -> String {
    let location = page.location.as_ref().unwrap_or_else(|| panic!("{} does not redirect: {}", page.url, page.body));
    location.as_str()[location.origin().ascii_serialization().len()..].to_owned()
}

/// A route of the dashboard, as its code declares it.
#[derive(Debug)]
struct Route {
    path: String,
    has_page: bool,
    has_form: bool,
}

impl Route {
    /// Its path, with an id of the noun before each placeholder.
    fn filled(&self, ids: &BTreeMap<&'static str, String>) -> String {
        let mut noun = "";
        let segments = self.path.split('/').map(|segment| {
            if !segment.starts_with('{') {
                noun = segment;
                return segment.to_owned();
            }
            let found = ids.iter().find(|(known, _)| **known == noun).or_else(|| ids.get_key_value("events"));
            found.map(|(_, id)| id.clone()).unwrap_or_default()
        });
        segments.collect::<Vec<_>>().join("/")
    }

    fn names_an_object(&self) -> bool {
        self.path.contains('{')
    }
}

/// The routes of all pages that need a session, read from the code.
fn routes() -> Vec<Route> {
    let folder = place::repository().join("relay/src");
    let mut files = vec![folder.join("dashboard.rs")];
    files_below(&folder.join("dashboard"), &mut files);
    let mut routes = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for part in text.split(".route(").skip(1) {
            let Some((path, rest)) = part.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"')) else {
                continue;
            };
            // The stream has no end.
            let is_open = ["/dashboard/sign-in", "/dashboard/changes"].contains(&path) || path.contains("/assets/");
            if !path.starts_with("/dashboard") || path.contains("{*") || is_open {
                continue;
            }
            let handlers = &rest[..end_of_call(rest)];
            let has_page = handlers.contains("get(") && !handlers.contains("get(failure::not_found)");
            routes.push(Route { path: path.to_owned(), has_page, has_form: handlers.contains("post(") });
        }
    }
    assert!(routes.len() > 15, "{routes:?}");
    routes
}

/// Where the parenthesis that is open at the beginning of a text is closed.
fn end_of_call(text: &str) -> usize {
    let mut depth = 1;
    let end = text.find(|letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    end.unwrap_or(text.len())
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether the page belongs to the deployment: someone who is bound to a customer sees none of it.
fn is_of_deployment(path: &str) -> bool {
    ["/dashboard/settings", "/dashboard/system", "/dashboard/quarantine", "/dashboard/unreadable"]
        .iter()
        .any(|beginning| path.starts_with(beginning))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sign_in_leads_back_to_the_page_and_never_to_another_site() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let mut browser = Browser::default();
    assert_eq!(target(&browser.get(&format!("{base}/")).await), "/dashboard");
    let page = browser.get(&format!("{base}/dashboard/events?type=a%26b")).await;
    assert_eq!(target(&page), "/dashboard/sign-in?return_to=%2Fdashboard%2Fevents%3Ftype%3Da%2526b");
    let form = browser.get(&format!("{base}{}", target(&page))).await;
    assert_eq!(form.status, 200);
    assert!(html(&form).contains("name=\"return_to\" value=\"/dashboard/events?type=a%26b\""), "{}", form.body);

    let sign_in = format!("{base}/dashboard/sign-in");
    let back = ("return_to", "/dashboard/events?type=a%26b");
    let refused = browser.post_form(&sign_in, &[("token", "tg_wrong"), back]).await;
    assert_eq!((refused.status, browser.cookie("tidegate")), (401, None));
    let text = html(&refused);
    assert!(
        text.contains("unknown, expired or revoked") && text.contains("value=\"/dashboard/events?type=a%26b\""),
        "{text}"
    );
    assert!(!text.contains("tg_wrong"), "what was typed is not shown: {text}");

    let token = gateway.relay.token();
    for other in ["https://evil.example/", "//evil.example", "/\\evil.example", "/v1/events", "/dashboardx", ""] {
        let page = browser.clone().post_form(&sign_in, &[("token", token), ("return_to", other)]).await;
        assert_eq!((page.status, target(&page).as_str()), (303, "/dashboard"), "{other}");
    }
    let page = browser.post_form(&sign_in, &[("token", &format!(" {token} ")), back]).await;
    assert_eq!(target(&page), "/dashboard/events?type=a%26b");
    let page = browser.get(&format!("{base}/dashboard/events?type=a%26b")).await;
    assert_eq!(page.status, 200);
    assert!(html(&page).contains("No event matches these filters") && html(&page).contains("root"), "{}", page.body);
    for other in ["https://evil.example/", "//evil.example"] {
        let page =
            browser.post_form(&format!("{base}/dashboard/theme"), &[("theme", "dark"), ("return_to", other)]).await;
        assert_eq!(target(&page), "/dashboard", "{other}");
    }
    let page = browser.get(&format!("{base}/dashboard/no-such-page")).await;
    assert_eq!(page.status, 404);
    assert!(html(&page).contains("What to do"), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_leads_to_the_sign_in_and_back() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let mut browser = signed_in(base, gateway.relay.token()).await;
    let mut kept = browser.clone();
    let page = browser.post_form(&format!("{base}/dashboard/sign-out"), &[]).await;
    assert_eq!((target(&page).as_str(), browser.cookie("tidegate")), ("/dashboard/sign-in", None));
    let page = kept.get(&format!("{base}/dashboard/alerts")).await;
    assert_eq!(target(&page), "/dashboard/sign-in?return_to=%2Fdashboard%2Falerts");
    assert_eq!(kept.cookie("tidegate"), None, "the browser forgets it: {page:?}");
    // A form cannot be repeated after the sign-in, so that one leads to the first page.
    let page = kept.post_form(&format!("{base}/dashboard/settings/customers/new"), &[("name", "late")]).await;
    assert_eq!(target(&page), "/dashboard/sign-in?return_to=%2Fdashboard");
    assert_eq!(gateway.api.all("/v1/customers").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_has_the_headers_that_protect_it() {
    let gateway = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_DASHBOARD", "design")).await;
    let base = gateway.relay.url();
    let mut browser = signed_in(base, gateway.relay.token()).await;
    let ids = crate::calls::Ids::of_nothing().by_noun;
    let mut pages: Vec<String> =
        routes().iter().filter(|route| route.has_page).map(|route| route.filled(&ids)).collect();
    pages.extend(["/dashboard/sign-in", "/dashboard/nowhere", "/"].map(str::to_owned));
    for path in pages {
        let page = browser.get(&format!("{base}{path}")).await;
        assert!(page.status < 500, "{path}: {page:?}");
        let header = |name: &str| page.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let policy = header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        let found = ["x-frame-options", "x-content-type-options", "referrer-policy", "cache-control"].map(header);
        assert_eq!(found, ["DENY", "nosniff", "same-origin", "no-store"], "{path}");
        let text = page.body.as_str().unwrap_or_default();
        for inline in [" style=\"", " onclick=", " onload=", " onerror=", "<script>", "<style"] {
            assert!(!text.contains(inline), "{path} contains {inline}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_decides_which_pages_there_are() {
    let off = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_DASHBOARD", "off")).await;
    for path in ["/", "/dashboard", "/dashboard/sign-in", "/dashboard/events"] {
        let page = Browser::default().get(&format!("{}{path}", off.relay.url())).await;
        assert_eq!((page.status, &page.body["code"]), (404, &json!("not_found")), "{path}: {page:?}");
    }
    off.api.get("/v1/sources").await.expect_status(200);
    let on = Gateway::relay_only().await;
    let page =
        signed_in(on.relay.url(), on.relay.token()).await.get(&format!("{}/dashboard/design", on.relay.url())).await;
    assert_eq!(page.status, 404);
    let design = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_DASHBOARD", "design")).await;
    let base = design.relay.url();
    let page = signed_in(base, design.relay.token()).await.get(&format!("{base}/dashboard/design")).await;
    assert_eq!(page.status, 200);
    for part in ["scheme-light", "scheme-dark", "--danger", "--s7", "--type-xxl"] {
        assert!(html(&page).contains(part), "{part}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pages_load_is_named_by_its_content_kept_for_ever_and_compressed() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let mut browser = signed_in(base, gateway.relay.token()).await;
    let page = browser.get(&format!("{base}/dashboard")).await;
    let assets: Vec<String> = html(&page)
        .split(['"', '\''])
        .filter(|text| text.starts_with("/dashboard/assets/"))
        .map(str::to_owned)
        .collect();
    assert!(assets.len() >= 4, "{assets:?}");
    let outside: Vec<&str> =
        html(&page).split('"').filter(|text| text.starts_with("http") || text.starts_with("//")).collect();
    assert_eq!(outside, [""; 0], "a page loads nothing from elsewhere");
    let mut compressed = 0;
    for path in &assets {
        // No session: styles are the same for everyone, and the sign-in needs them.
        let asset = Browser::default().with_header("accept-encoding", "gzip").get(&format!("{base}{path}")).await;
        assert_eq!(asset.status, 200, "{path}");
        assert_eq!(asset.headers["cache-control"], "public, max-age=31536000, immutable", "{path}");
        assert_eq!(asset.headers["x-content-type-options"], "nosniff", "{path}");
        if asset.headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
            compressed += 1;
        }
        let (stem, rest) = path.split_once('.').expect("a hash");
        let (hash, extension) = rest.split_once('.').expect("an extension");
        assert!(hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{path}");
        let other = Browser::default().get(&format!("{base}{stem}.000000000000.{extension}")).await;
        assert_eq!(other.status, 404, "{path} with another hash");
    }
    assert!(compressed >= 3, "{assets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site_changes_nothing() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let browser = signed_in(base, gateway.relay.token()).await;
    let form = [("name", "evil")];
    for (header, value) in [
        ("origin", ""),
        ("origin", "null"),
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let mut other = browser.clone().with_header(header, value);
        let page = other.post_form(&format!("{base}/dashboard/settings/customers/new"), &form).await;
        assert_eq!(page.status, 403, "{header}: {value}");
        assert!(html(&page).contains("cross_site"), "{}", page.body);
        let page = other.post_form(&format!("{base}/dashboard/sign-out"), &[]).await;
        assert_eq!(page.status, 403, "{header}: {value}");
    }
    assert_eq!(gateway.api.all("/v1/customers").await.len(), 1);
    // A sign-in with the token of someone else would let that one see what the viewer does.
    let mut other = Browser::default().with_header("origin", "https://evil.example");
    let page = other.post_form(&format!("{base}/dashboard/sign-in"), &[("token", gateway.relay.token())]).await;
    assert_eq!((page.status, other.cookie("tidegate")), (403, None));
    // A link of another site may open a page, and no part of one.
    let mut link = browser.clone().with_header("sec-fetch-site", "cross-site");
    link.headers.insert("sec-fetch-mode", "navigate".to_owned());
    link.headers.insert("sec-fetch-dest", "document".to_owned());
    assert_eq!(link.get(&format!("{base}/dashboard/alerts")).await.status, 200);
    link.headers.insert("sec-fetch-dest", "iframe".to_owned());
    assert_eq!(link.get(&format!("{base}/dashboard/alerts")).await.status, 403);
    let page = browser.clone().post_form(&format!("{base}/dashboard/settings/customers/new"), &form).await;
    assert_eq!(page.status, 303, "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_choice_of_a_customer_is_in_the_url_of_every_page() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    gateway.api.create_customer("acme").await;
    let mut browser = signed_in(base, gateway.relay.token()).await;
    let page = browser.get(&format!("{base}/dashboard/alerts?customer=acme")).await;
    let text = html(&page);
    assert!(text.contains("<option value=\"acme\" selected>acme</option>"), "{text}");
    assert!(text.contains("<option value=\"*\">All customers</option>"), "{text}");
    assert!(text.contains("action=\"/dashboard/alerts\""), "{text}");
    for path in ["/dashboard?customer=acme", "/dashboard/events?customer=acme", "/dashboard/settings?customer=acme"] {
        assert!(text.contains(&format!("href=\"{path}\"")), "{path}: {text}");
    }
    // What is about one customer offers a choice.
    let page = browser.get(&format!("{base}/dashboard/alerts?customer=*")).await;
    assert_eq!(page.status, 422);
    assert!(html(&page).contains("href=\"/dashboard/alerts?customer=acme\""), "{}", page.body);
    let page = browser.get(&format!("{base}/dashboard/events?customer=nobody")).await;
    assert_eq!(page.status, 422);
    assert!(html(&page).contains("href=\"/dashboard/events?customer=acme\""), "{}", page.body);
    // Someone who is bound to a customer has no choice, and sees no names of others.
    let bound = gateway.api.create_token(&["read"], Some("acme"), json!({})).await;
    gateway.api.create_customer("rival").await;
    let mut browser = signed_in(base, bound["token"].as_str().expect("a token")).await;
    let page = browser.get(&format!("{base}/dashboard/alerts")).await;
    assert!(html(&page).contains("for the customer acme"), "{}", page.body);
    assert!(!html(&page).contains("rival") && !html(&page).contains("name=\"customer\""), "{}", page.body);
    for customer in ["rival", "*", "default"] {
        let page = browser.get(&format!("{base}/dashboard/alerts?customer={customer}")).await;
        assert_eq!(page.status, 403, "{customer}: {page:?}");
    }
}

/// Everything by which the texts of a customer could be recognised.
fn traces(tenant: &Tenant) -> Vec<String> {
    let ids = ["sources", "destinations", "routes", "events", "deliveries", "replays", "operations", "customers"];
    let mut traces: Vec<String> = ids.iter().map(|noun| tenant.ids.of(noun).to_owned()).collect();
    traces.push("victim".to_owned());
    traces
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_shows_or_changes_what_belongs_to_another_customer() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let victim = tenant(&gateway, "victim").await;
    gateway.api.create_customer("stranger").await;
    let token = gateway.api.create_token(&OF_A_CUSTOMER, Some("stranger"), json!({})).await;
    let mut browser = signed_in(base, token["token"].as_str().expect("a token")).await;
    let mut ids = victim.ids.by_noun.clone();
    let of_victim = gateway.api.create_token(&["read"], Some("victim"), json!({})).await;
    ids.insert("tokens", id(&of_victim).to_owned());
    let mut database = gateway.database.connect().await.expect("connects");
    let before = settled_rows(&mut database, &victim.customer).await;

    let mut wrong = Vec::new();
    for route in routes() {
        let path = route.filled(&ids);
        if route.has_page {
            let page = browser.get(&format!("{base}{path}")).await;
            // No token of a customer may administer, and erasing a body needs that.
            let is_forbidden = is_of_deployment(&path) || path.ends_with("/erase");
            let is_refused = page.status == 404 || (page.status == 403 && is_forbidden);
            if page.status >= 500 || (route.names_an_object() && !is_refused) {
                wrong.push(format!("GET {path}: {}", page.status));
            }
            // The page repeats its own path.
            let text = page.body.to_string();
            let shown = traces(&victim).into_iter().filter(|trace| !path.contains(trace) && text.contains(trace));
            wrong.extend(shown.map(|trace| format!("GET {path} shows {trace}")));
            let page = browser.get(&format!("{base}{path}?customer=victim")).await;
            if page.status != 403 {
                wrong.push(format!("GET {path}?customer=victim: {}", page.status));
            }
        }
        if route.has_form && !OWN[..3].contains(&route.path.as_str()) {
            let page = browser.post_form(&format!("{base}{path}"), &[("name", "x"), ("typed", "victim")]).await;
            if page.status >= 500 || (route.names_an_object() && !matches!(page.status, 403 | 404)) {
                wrong.push(format!("POST {path}: {}", page.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(settled_rows(&mut database, &victim.customer).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn someone_who_may_only_read_is_offered_no_form_and_changes_nothing() {
    let gateway = Gateway::relay_only().await;
    let base = gateway.relay.url();
    let owner = tenant(&gateway, "owner").await;
    let token = gateway.api.create_token(&["read"], Some("owner"), json!({})).await;
    let mut browser = signed_in(base, token["token"].as_str().expect("a token")).await;
    let mut ids = owner.ids.by_noun.clone();
    ids.insert("tokens", id(&token).to_owned());
    let mut database = gateway.database.connect().await.expect("connects");
    let before = settled_rows(&mut database, &owner.customer).await;
    let mut wrong = Vec::new();
    let mut pages = 0;
    for route in routes() {
        let path = route.filled(&ids);
        if route.has_page {
            let page = browser.get(&format!("{base}{path}")).await;
            pages += usize::from(page.status == 200);
            let text = page.body.as_str().unwrap_or_default();
            for form in text.split("<form").skip(1).filter_map(|rest| rest.split('>').next()) {
                let action = form.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
                let is_own = OWN[..2].contains(&action) || action.starts_with("/dashboard/settings/sessions/");
                // A request is checked, and the expressions of a route are tried, without a change.
                let changes_nothing = action.contains("/check") || (action == path && path.contains("/routes/"));
                if form.contains("method=\"post\"") && !is_own && !changes_nothing {
                    wrong.push(format!("GET {path} offers {action}"));
                }
            }
        }
        if route.has_form && !OWN.contains(&route.path.as_str()) {
            let page = browser.post_form(&format!("{base}{path}"), &[("name", "x")]).await;
            // A form may be refused because of its fields, or because nothing is left to do, before its scope counts.
            if !matches!(page.status, 403 | 404 | 422) {
                wrong.push(format!("POST {path}: {}", page.status));
            }
        }
    }
    assert!(pages >= 4, "{pages}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(settled_rows(&mut database, &owner.customer).await, before);
    owner.api.wait_for_row("/v1/events", SOON).await;
}
