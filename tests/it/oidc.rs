//! oidc: sign-in with a real OpenID Connect provider: the whole flow, and what must not pass.

use harness::browser::{Browser, Page};
use harness::gateway::{Gateway, RelayOnly};
use harness::identity_provider::{Claims, IdentityProvider};
use harness::relay::run;
use harness::tools::free_port;
use reqwest::{Method, Url};
use serde_json::{Value, json};

/// What the groups of the provider may do.
const GROUPS: &str = "platform=read+write+replay,ops=read+admin";

/// A relay with a provider.
struct SignIn {
    gateway: RelayOnly,
    provider: IdentityProvider,
    base: String,
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("no \"{field}\" in {object}"))
}

/// The same URL with another value of a parameter.
fn with_parameter(url: &Url, name: &str, value: &str) -> String {
    let others = url
        .query_pairs()
        .filter(|(other, _)| other != name)
        .map(|(name, value)| (name.into_owned(), value.into_owned()));
    let pairs: Vec<(String, String)> = others.chain([(name.to_owned(), value.to_owned())]).collect();
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url.into()
}

fn parameter(url: &Url, name: &str) -> String {
    let mut pairs = url.query_pairs();
    pairs.find(|(other, _)| other == name).unwrap_or_else(|| panic!("no {name} in {url}")).1.into_owned()
}

impl SignIn {
    async fn start(claims: Claims) -> Self {
        Self::start_with(claims, "profile groups").await
    }

    async fn start_with(claims: Claims, scopes: &str) -> Self {
        // The provider has to know the address of the relay, and the relay that of the provider.
        let listen = format!("127.0.0.1:{}", free_port().expect("a free port"));
        let base = format!("http://{listen}");
        let redirect = format!("{base}/auth/oidc/callback");
        let provider = IdentityProvider::start(&redirect, claims).await.unwrap_or_else(|error| panic!("{error}"));
        let gateway = Gateway::relay_only_with(|settings| {
            settings
                .with("TIDEGATE_LISTEN", &listen)
                .with("TIDEGATE_PUBLIC_URL", &base)
                .with("TIDEGATE_OIDC_ISSUER", &provider.issuer())
                .with("TIDEGATE_OIDC_CLIENT_ID", &provider.client_id)
                .with("TIDEGATE_OIDC_CLIENT_SECRET", &provider.client_secret)
                .with("TIDEGATE_OIDC_SCOPES", scopes)
                .with("TIDEGATE_OIDC_GROUPS", GROUPS)
        })
        .await;
        Self { gateway, provider, base }
    }

    /// Begins a sign-in, and returns the URL of the provider.
    async fn begin(&self, browser: &mut Browser, return_to: &str) -> Url {
        let page = browser.get(&format!("{}/auth/oidc/start{return_to}", self.base)).await;
        assert_eq!((page.status, &page.headers["cache-control"]), (303, &"no-store".parse().expect("a value")));
        page.location.unwrap_or_else(|| panic!("{:?}", page.body))
    }

    /// Signs a user in at the provider, and returns the URL at which the browser comes back.
    async fn at_provider(&self, browser: &mut Browser, authorize: &str, login: &str) -> Url {
        let page = self.provider.sign_in(browser, authorize, login, &self.base).await;
        page.location.unwrap_or_else(|| panic!("{:?}", page.body))
    }

    /// The whole sign-in. Returns the last page.
    async fn whole(&self, browser: &mut Browser, login: &str, return_to: &str) -> Page {
        let authorize = self.begin(browser, return_to).await;
        let back = self.at_provider(browser, authorize.as_str(), login).await;
        browser.get(back.as_str()).await
    }

    async fn whoami(&self, browser: &mut Browser) -> Page {
        browser.get(&format!("{}/v1/whoami", self.base)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_in_and_has_the_scopes_of_the_groups_until_signing_out() {
    let here = SignIn::start(Claims::InTheIdToken).await;
    let mut browser = Browser::default();
    let authorize = here.begin(&mut browser, "?return_to=/v1/whoami%3Fa%3Db").await;
    for (name, value) in
        [("response_type", "code"), ("code_challenge_method", "S256"), ("scope", "openid profile groups")]
    {
        assert_eq!(parameter(&authorize, name), value);
    }
    assert_eq!(parameter(&authorize, "redirect_uri"), format!("{}/auth/oidc/callback", here.base));
    let back = here.at_provider(&mut browser, authorize.as_str(), "ada:platform,other").await;
    let page = browser.get(back.as_str()).await;
    assert_eq!(page.status, 303, "{page:?}");
    assert_eq!(page.location.expect("a location").as_str(), format!("{}/v1/whoami?a=b", here.base));
    let session = page.set_cookies.iter().find(|cookie| cookie.starts_with("tidegate=tgs_")).expect("a session");
    assert!(session.ends_with("; HttpOnly; SameSite=Lax; Path=/; Max-Age=43200"), "{session}");
    assert_eq!(browser.cookie("tidegate-sign-in"), None, "a sign-in ends once");

    let me = here.whoami(&mut browser).await.expect_status(200);
    assert_eq!((text(&me, "kind"), text(&me, "name"), &me["token_id"]), ("session", "ada", &Value::Null));
    assert_eq!((&me["scopes"], &me["customer"]), (&json!(["read", "write", "replay"]), &Value::Null));
    browser.get(&format!("{}/v1/tokens", here.base)).await.expect_status(403);
    let replica = here.gateway.another_relay().await;
    browser.get(&format!("{}/v1/sources", replica.url())).await.expect_status(200);

    // Another user has other scopes, and ends only the own sessions.
    let mut other = Browser::default();
    let page = here.whole(&mut other, "grace:ops,platform", "").await;
    assert_eq!((page.status, page.location.expect("a location").path()), (303, "/"));
    let sessions = other.get(&format!("{}/v1/sessions", here.base)).await.expect_status(200);
    let names: Vec<&str> = sessions["data"].as_array().expect("rows").iter().map(|row| text(row, "name")).collect();
    assert_eq!(names, ["grace", "ada"]);
    assert_eq!(sessions["data"][0]["made_of"], "openid_connect");
    let ended = other.send(Method::DELETE, &format!("{}/v1/sessions", here.base), None).await.expect_status(200);
    assert_eq!(ended, json!({ "ended": 1 }));
    here.whoami(&mut other).await.expect_status(401);
    here.whoami(&mut browser).await.expect_status(200);
    let page = browser.send(Method::DELETE, &format!("{}/v1/sessions/current", here.base), None).await;
    assert_eq!((page.status, browser.cookie("tidegate")), (204, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_also_read_from_the_user_info() {
    let here = SignIn::start(Claims::InTheUserInfo).await;
    let mut browser = Browser::default();
    assert_eq!(here.whole(&mut browser, "ada:ops", "").await.status, 303);
    let me = here.whoami(&mut browser).await.expect_status(200);
    assert_eq!((text(&me, "name"), &me["scopes"]), ("ada", &json!(["read", "admin"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_no_mapped_group_is_refused_and_learns_why() {
    let here = SignIn::start(Claims::InTheIdToken).await;
    for (login, found) in [("eve:marketing,Platform", "marketing, Platform"), ("eve", "no groups")] {
        let mut browser = Browser::default();
        let problem = here.whole(&mut browser, login, "").await.expect_status(403);
        assert_eq!(problem["code"], "no_group");
        let detail = text(&problem, "detail");
        assert!(detail.contains("TIDEGATE_OIDC_GROUPS") && detail.contains(found), "{detail}");
        assert_eq!(browser.cookie("tidegate"), None);
        here.whoami(&mut browser).await.expect_status(401);
    }
    assert!(here.gateway.api.all("/v1/sessions").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_another_state_or_to_another_browser_is_refused() {
    let here = SignIn::start(Claims::InTheIdToken).await;
    let mut browser = Browser::default();
    let authorize = here.begin(&mut browser, "").await;
    let back = here.at_provider(&mut browser, authorize.as_str(), "ada:ops").await;
    for (mut browser, url) in [
        (browser.clone(), with_parameter(&back, "state", "another")),
        (browser.clone(), with_parameter(&back, "state", "")),
        // The browser of a victim that an attacker has sent there.
        (Browser::default(), back.to_string()),
    ] {
        let problem = browser.get(&url).await.expect_status(400);
        assert_eq!(problem["code"], "sign_in_unknown", "{url}");
        here.whoami(&mut browser).await.expect_status(401);
    }
    // Each answer belongs to the sign-in of the cookie: that of a second one does not fit the first.
    let mut second = browser.clone();
    here.begin(&mut second, "").await;
    second.get(back.as_str()).await.expect_status(400);
    let issuer = browser.clone().get(&with_parameter(&back, "iss", "https://evil.example")).await.expect_status(403);
    assert_eq!(issuer["code"], "sign_in_invalid");
    let denied = with_parameter(&back, "error", "access_denied");
    let problem = browser.clone().get(&denied).await.expect_status(403);
    assert!(text(&problem, "detail").contains("access_denied"), "{problem}");
    assert_eq!(browser.get(back.as_str()).await.status, 303, "the right answer still counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_counts_once_and_only_with_its_nonce_and_its_verifier() {
    let here = SignIn::start(Claims::InTheIdToken).await;
    let mut browser = Browser::default();
    let authorize = here.begin(&mut browser, "").await;
    let back = here.at_provider(&mut browser, authorize.as_str(), "ada:ops").await;
    let mut again = browser.clone();
    assert_eq!(browser.get(back.as_str()).await.status, 303);
    let problem = again.get(back.as_str()).await.expect_status(403);
    assert_eq!(problem["code"], "sign_in_invalid");

    // The provider puts the nonce of the request into the token, and compares the verifier with the challenge.
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    for (name, value) in [("nonce", "another"), ("code_challenge", challenge)] {
        let mut browser = Browser::default();
        let authorize = here.begin(&mut browser, "").await;
        let back = here.at_provider(&mut browser, &with_parameter(&authorize, name, value), "ada:ops").await;
        let problem = browser.get(back.as_str()).await.expect_status(403);
        assert_eq!(problem["code"], "sign_in_invalid", "{name}");
        assert_eq!(browser.cookie("tidegate"), None);
    }
    assert_eq!(here.gateway.api.all("/v1/sessions").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_ends_neither_the_relay_nor_its_sessions() {
    let mut here = SignIn::start(Claims::InTheIdToken).await;
    here.provider.stop().await.expect("stops");
    let start = format!("{}/auth/oidc/start", here.base);
    let problem = Browser::default().get(&start).await.expect_status(502);
    assert_eq!(problem["code"], "provider_unavailable");
    assert!(text(&problem, "detail").contains("/auth/oidc/start"), "{problem}");
    here.gateway.api.get("/readyz").await.expect_status(200);
    here.provider.start_again().await.expect("starts again");
    let mut browser = Browser::default();
    harness::wait::until("a sign-in to begin", harness::wait::SOON, async || {
        let page = Browser::default().get(&start).await;
        if page.status == 303 { Ok(()) } else { Err(page.body.to_string()) }
    })
    .await;
    assert_eq!(here.whole(&mut browser, "ada:ops", "").await.status, 303);
    here.whoami(&mut browser).await.expect_status(200);

    // The provider goes away between its page and the exchange of the code. Sessions stay.
    let mut late = Browser::default();
    let authorize = here.begin(&mut late, "").await;
    let back = here.at_provider(&mut late, authorize.as_str(), "grace:ops").await;
    here.provider.stop().await.expect("stops");
    late.get(back.as_str()).await.expect_status(502);
    here.whoami(&mut browser).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_with_new_keys_is_read_again() {
    let mut here = SignIn::start(Claims::InTheIdToken).await;
    let mut browser = Browser::default();
    assert_eq!(here.whole(&mut browser, "ada:ops", "").await.status, 303);
    // It makes new keys when it starts.
    here.provider.stop().await.expect("stops");
    here.provider.start_again().await.expect("starts again");
    let mut other = Browser::default();
    assert_eq!(here.whole(&mut other, "grace:ops", "").await.status, 303);
    here.whoami(&mut other).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_returns_only_to_paths_of_the_relay_and_needs_a_provider() {
    let here = SignIn::start(Claims::InTheIdToken).await;
    for elsewhere in ["https://evil.example/", "//evil.example", "/%5Cevil.example", "events"] {
        let url = format!("{}/auth/oidc/start?return_to={elsewhere}", here.base);
        let problem = Browser::default().get(&url).await.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], "return_to", "{elsewhere}");
    }
    let without = Gateway::relay_only().await;
    for page in ["start", "callback?state=a&code=b"] {
        let url = format!("{}/auth/oidc/{page}", without.relay.url());
        let problem = Browser::default().get(&url).await.expect_status(404);
        assert!(text(&problem, "detail").contains("TIDEGATE_OIDC_ISSUER"), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_provider_end_when_it_is_no_longer_configured() {
    let mut here = SignIn::start(Claims::InTheIdToken).await;
    let mut browser = Browser::default();
    assert_eq!(here.whole(&mut browser, "ada:ops", "").await.status, 303);
    here.whoami(&mut browser).await.expect_status(200);
    here.gateway.relay.stop().await.expect("stops");
    let without = ["ISSUER", "CLIENT_ID", "CLIENT_SECRET", "GROUPS", "SCOPES"];
    let change = |settings| {
        without.iter().fold(settings, |settings: harness::relay::RelaySettings, name| {
            settings.with(&format!("TIDEGATE_OIDC_{name}"), "")
        })
    };
    here.gateway.relay.start_again_with(change).await.expect("starts again");
    here.whoami(&mut browser).await.expect_status(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_reads_the_metadata_of_the_provider_and_compares_its_issuer() {
    let mut here = SignIn::start(Claims::InTheIdToken).await;
    let settings = here.gateway.relay.settings().clone();
    let doctor = async |settings: harness::relay::RelaySettings| {
        let output = run("doctor", settings.variables()).await.expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("sign-in")).unwrap_or_else(|| panic!("{text}")).to_owned();
        (output.status.success(), line)
    };
    let (is_fine, line) = doctor(settings.clone()).await;
    assert!(is_fine && line.starts_with("ok") && line.contains(&here.provider.issuer()), "{line}");
    let other = settings.clone().with("TIDEGATE_OIDC_ISSUER", &format!("{}/", here.provider.issuer()));
    let (is_fine, line) = doctor(other).await;
    assert!(!is_fine && line.starts_with("FAIL") && line.contains("TIDEGATE_OIDC_ISSUER"), "{line}");
    here.provider.stop().await.expect("stops");
    let (is_fine, line) = doctor(settings).await;
    assert!(!is_fine && line.starts_with("FAIL"), "{line}");
}
