use axum::body::Body;
use http::{Method, Response};
use serde_json::{Value, json};

use super::*;
use crate::place;
use crate::process::Signal;
use crate::server::Server;
use crate::wait::until;

/// As strict as a policy can be: the tools have to work on such a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const GOOD: &str = include_str!("tests/good.html");
const SCRIPT: &str = include_str!("tests/good.js");
const BAD: &str = include_str!("tests/bad.html");
const BAD_SCRIPT: &str = include_str!("tests/bad.js");

/// Serves the pages above.
async fn pages() -> (Server, String) {
    let server = Server::start(0, |request| async move {
        let (status, kind, body) = match (request.method(), request.uri().path()) {
            (&Method::GET, "/good") => (200, "text/html", GOOD.to_owned()),
            (&Method::GET, "/script.js") => (200, "text/javascript", SCRIPT.to_owned()),
            (&Method::GET, "/style.css") => (200, "text/css", "input, select, button { min-height: 24px }".to_owned()),
            (&Method::GET, "/late") => (200, "text/plain", "late".to_owned()),
            (&Method::GET, "/bad") => (200, "text/html", BAD.to_owned()),
            (&Method::GET, "/bad.js") => (200, "text/javascript", BAD_SCRIPT.to_owned()),
            (&Method::GET, "/second") => (200, "text/html", "<!doctype html><h1>Second</h1>".to_owned()),
            (&Method::GET, "/cookies") => {
                let sent = request.headers().get("cookie").and_then(|cookie| cookie.to_str().ok()).unwrap_or("none");
                (200, "text/html", format!("<!doctype html><p>{sent}</p>"))
            }
            (&Method::POST, "/sent") => {
                use http_body_util::BodyExt as _;
                let form = request.into_body().collect().await.expect("is whole").to_bytes();
                (422, "text/html", format!("<!doctype html><p>{}</p>", String::from_utf8_lossy(&form)))
            }
            (_, "/broken") => (500, "text/plain", "broken".to_owned()),
            (_, _) => (404, "text/html", "<!doctype html><h1>There is no such page</h1>".to_owned()),
        };
        let response = Response::builder()
            .status(status)
            .header("content-type", kind)
            .header("content-security-policy", POLICY)
            .header("set-cookie", "seen=yes; HttpOnly; SameSite=Lax");
        Ok(response.body(Body::from(body)).expect("is a response"))
    });
    let server = server.await.expect("listens");
    let base = format!("http://{}", server.address());
    (server, base)
}

async fn start() -> Option<Chromium> {
    Chromium::start().await.expect("starts")
}

/// The message of the panic of a command that has to fail.
async fn failure<F: Future<Output: Send + 'static> + Send + 'static>(command: F) -> String {
    let error = tokio::spawn(command).await.err().expect("fails").into_panic();
    error.downcast_ref::<String>().expect("has a message").clone()
}

#[tokio::test]
async fn a_user_fills_clicks_and_reads_on_a_page_with_a_strict_policy() {
    let Some(chromium) = start().await else { return };
    let (_server, base) = pages().await;
    let tab = chromium.open(Window::default()).await;
    assert_eq!(tab.goto(&format!("{base}/good")).await, 200);
    assert_eq!(tab.title().await, "A good page");
    assert_eq!(tab.text("#out").await, "scripted false false");
    assert_eq!((tab.count("noscript p").await, tab.count("button").await), (0, 2));
    assert_eq!(tab.attribute("form", "method").await.as_deref(), Some("post"));
    assert_eq!(tab.attribute("form", "class").await, None);
    tab.hover("#out").await;
    tab.wait_for_text("#out", "touched").await;

    assert!(!tab.visible("#hidden").await);
    tab.answer_dialogs(false).await;
    tab.click("text=Later").await;
    tab.wait_for("#hidden").await;
    tab.wait_until_gone("#late").await;
    assert_eq!(tab.text("#out").await, "not done");
    assert_eq!(tab.dialogs().await, ["Sure?"]);
    assert_eq!(tab.dialogs().await, [""; 0]);

    tab.fill("[name=name]", "Ada").await;
    assert_eq!(tab.value("[name=name]").await, "Ada");
    tab.press("[name=name]", "Escape").await;
    assert_eq!(tab.text("#out").await, "escaped");
    tab.press_key("End").await;
    tab.press_key("!").await;
    tab.select("select", "Delivered").await;
    tab.check("[type=checkbox]", true).await;
    assert_eq!(tab.evaluate("document.querySelector('[type=checkbox]').checked").await, json!(true));
    tab.expect_no_problems().await;
    assert_eq!(tab.follow("role=button[name='Send']").await, 422);
    assert_eq!(tab.texts("p").await, ["name=Ada%21&status=delivered&again=on"]);
    // The status of the page itself is not a problem.
    tab.expect_no_problems().await;
}

#[tokio::test]
async fn a_tab_goes_back_and_forward_and_loads_again() {
    let Some(chromium) = start().await else { return };
    let (_server, base) = pages().await;
    let tab = chromium.open(Window::default()).await;
    tab.goto(&format!("{base}/good")).await;
    tab.click("a").await;
    assert_eq!(tab.wait_for_url("/second").await, format!("{base}/second"));
    assert_eq!(tab.text("h1").await, "Second");
    tab.back().await;
    assert_eq!(tab.url().await, format!("{base}/good"));
    tab.forward().await;
    assert_eq!(tab.url().await, format!("{base}/second"));
    tab.evaluate("document.querySelector('h1').textContent = 'Changed'").await;
    assert!(tab.content().await.contains("<h1>Changed</h1>"));
    tab.reload().await;
    assert_eq!(tab.text("h1").await, "Second");
    assert_eq!(tab.goto(&format!("{base}/none")).await, 404);
    assert_eq!((tab.status().await, tab.text("h1").await), (404, "There is no such page".to_owned()));
}

#[tokio::test]
async fn a_page_without_scripts_is_read_and_its_form_is_sent() {
    let Some(chromium) = start().await else { return };
    let (_server, base) = pages().await;
    let tab = chromium.open(Window { javascript: false, ..Window::default() }).await;
    tab.goto(&format!("{base}/good")).await;
    assert_eq!(tab.text("#out").await, "plain");
    assert_eq!(tab.text("noscript p").await, "Without scripts");
    tab.wait_for_text("h1", "Events").await;
    tab.fill("[name=name]", "Ada").await;
    assert_eq!(tab.follow("text=Send").await, 422);
    assert_eq!(tab.text("p").await, "name=Ada&status=failed");
    tab.goto(&format!("{base}/bad")).await;
    let problems = tab.problems().await;
    assert!(problems.console_errors.is_empty() && problems.page_errors.is_empty(), "{problems:?}");
    assert_eq!(problems.failed_requests, [format!("404 GET {base}/none.png")]);
}

#[tokio::test]
async fn the_user_prefers_dark_colours_and_no_movement() {
    let Some(chromium) = start().await else { return };
    let (_server, base) = pages().await;
    for (dark, reduced_motion) in [(true, false), (false, true)] {
        let tab = chromium.open(Window { dark, reduced_motion, ..Window::default() }).await;
        tab.goto(&format!("{base}/good")).await;
        assert_eq!(tab.text("#out").await, format!("scripted {dark} {reduced_motion}"));
    }
}

#[tokio::test]
async fn errors_failed_requests_and_violations_of_the_policy_are_seen_once() {
    let Some(chromium) = start().await else { return };
    let (_server, base) = pages().await;
    let tab = chromium.open(Window::default()).await;
    tab.goto(&format!("{base}/bad")).await;
    tab.wait_until("document.title === 'ready'").await;
    assert_eq!(tab.evaluate("window.inline === undefined").await, json!(true));
    let problems = tab.problems().await;
    let errors = [format!("a logged error ({base}/bad.js:1)")];
    assert_eq!(problems.console_errors, errors);
    assert!(matches!(&*problems.page_errors, [error] if error.contains("Error: not caught")), "{problems:?}");
    let mut failed = problems.failed_requests.clone();
    failed.sort();
    assert_eq!(failed, [format!("404 GET {base}/none.png"), format!("500 GET {base}/broken")]);
    let violations = problems.csp_violations.join("\n");
    assert!(violations.contains("script-src-elem does not allow inline"), "{violations}");
    assert!(violations.contains("connect-src does not allow http://elsewhere.example/"), "{violations}");
    tab.expect_no_problems().await;

    tab.goto(&format!("{base}/bad")).await;
    tab.wait_until("document.title === 'ready'").await;
    let message = failure(async move { tab.expect_no_problems().await }).await;
    assert!(message.contains("chromium/tests.rs:") && message.contains("a logged error"), "{message}");
}

#[tokio::test]
async fn axe_finds_what_is_not_accessible_and_nothing_on_a_good_page() {
    let Some(chromium) = start().await else { return };
    let (_server, base) = pages().await;
    let tab = chromium.open(Window::default()).await;
    tab.goto(&format!("{base}/good")).await;
    tab.expect_accessible().await;
    // The tool itself does not violate the policy of the page.
    tab.expect_no_problems().await;
    tab.goto(&format!("{base}/bad")).await;
    let findings = tab.serious_accessibility_findings().await;
    let button = findings.iter().find(|finding| finding.rule == "button-name").expect("is found");
    assert_eq!((button.impact.as_str(), &*button.targets), ("critical", &["#nameless".to_owned()][..]), "{button:?}");
    assert!(findings.iter().any(|finding| finding.rule == "html-has-lang" && finding.impact == "serious"));
    let message = failure(async move { tab.expect_accessible().await }).await;
    assert!(message.contains("chromium/tests.rs:") && message.contains("image-alt"), "{message}");
}

#[tokio::test]
async fn a_page_that_is_wider_than_its_window_scrolls_sideways() {
    let Some(chromium) = start().await else { return };
    let (_server, base) = pages().await;
    let tab = chromium.open(Window::narrow()).await;
    tab.goto(&format!("{base}/good")).await;
    tab.expect_no_sideways_scroll().await;
    tab.goto(&format!("{base}/bad")).await;
    let reasons = tab.scrolls_sideways().await;
    assert!(
        matches!(&*reasons, [page, element] if page.ends_with("in a window of 360 px")
        && element.starts_with("<pre#long> ends at ") && element.contains("xxx")),
        "{reasons:?}"
    );
    // An element that scrolls does not make the page scroll.
    tab.evaluate("document.querySelector('.table').style.overflowX = 'auto'").await;
    tab.expect_no_sideways_scroll().await;
    tab.evaluate("document.querySelector('.table').style.overflowX = ''").await;
    tab.resize(1600, 800).await;
    tab.expect_no_sideways_scroll().await;
}

#[tokio::test]
async fn tabs_have_their_own_cookies_unless_one_is_opened_beside_another() {
    let Some(chromium) = start().await else { return };
    let (_server, base) = pages().await;
    let url = format!("{base}/cookies");
    let tab = chromium.open(Window::default()).await;
    tab.goto(&url).await;
    assert_eq!(tab.text("p").await, "none");
    let cookies = tab.cookies().await;
    assert!(
        matches!(&*cookies, [cookie] if (&*cookie.name, &*cookie.value, &*cookie.same_site) == ("seen", "yes", "Lax")
        && cookie.http_only && !cookie.secure && cookie.domain == "127.0.0.1"),
        "{cookies:?}"
    );
    tab.set_cookie(&base, "token", "abc").await;
    let beside = tab.open_beside().await;
    drop(tab);
    beside.goto(&url).await;
    assert_eq!(beside.text("p").await, "seen=yes; token=abc");
    let other = chromium.open(Window::default()).await;
    other.goto(&url).await;
    assert_eq!(other.text("p").await, "none");
    beside.clear_cookies().await;
    beside.reload().await;
    assert_eq!(beside.text("p").await, "none");
}

#[tokio::test]
async fn a_failed_command_names_its_place_its_selector_the_url_and_the_visible_text() {
    let Some(chromium) = start().await else { return };
    let (_server, base) = pages().await;
    let tab = chromium.open(Window::default()).await;
    tab.goto(&format!("{base}/good")).await;
    let tab = Arc::new(tab.with_patience(Duration::from_millis(500)));
    let expect = |message: String, parts: &[&str]| {
        for part in [parts, &["chromium/tests.rs:", &format!("URL: {base}/good"), "visible text: Events"]].concat() {
            assert!(message.contains(part), "no {part:?} in {message}");
        }
    };
    let same = Arc::clone(&tab);
    let message = failure(async move { same.click("#none").await }).await;
    expect(message, &["click: ", "Timeout 500ms exceeded", "selector: #none"]);
    let same = Arc::clone(&tab);
    let message = failure(async move { same.text("button").await }).await;
    expect(message, &["text: ", "strict mode violation", "resolved to 2 elements", "selector: button"]);
    let same = Arc::clone(&tab);
    let message = failure(async move { same.wait_for_text("h1", "Deliveries").await }).await;
    expect(message, &["wait_for_text: ", r#"waited 500 ms for "Deliveries"; at the end: ["Events"]"#, "selector: h1"]);
    let same = Arc::clone(&tab);
    let message = failure(async move { same.wait_for("#hidden").await }).await;
    expect(message, &["wait_for: ", "1 elements, all hidden", "selector: #hidden"]);
    let same = Arc::clone(&tab);
    let message = failure(async move { same.evaluate("nothing.here").await }).await;
    expect(message, &["evaluate: ", "nothing is not defined"]);
}

#[tokio::test]
async fn a_command_does_not_wait_for_another_one() {
    let Some(chromium) = start().await else { return };
    let (_server, base) = pages().await;
    let (slow, fast) = (chromium.open(Window::default()).await, chromium.open(Window::default()).await);
    slow.goto(&format!("{base}/good")).await;
    let late = async {
        slow.wait_for("#hidden").await;
        slow.text("#hidden").await
    };
    let click = async {
        fast.goto(&format!("{base}/second")).await;
        slow.click("#late").await;
    };
    // The first waits for what the second causes.
    assert_eq!(tokio::join!(late, click).0, "now and then");
}

#[tokio::test]
async fn a_screenshot_has_the_whole_page_or_what_is_in_the_window() {
    let Some(chromium) = start().await else { return };
    let (_server, base) = pages().await;
    let tab = chromium.open(Window::narrow()).await;
    tab.goto(&format!("{base}/second")).await;
    tab.evaluate("document.body.style.height = '2000px'").await;
    let folder = place::temporary("screenshots").expect("is created");
    let file = folder.join("of/the/page.png");
    let size = |file: &std::path::Path| {
        let png = std::fs::read(file).expect("is written");
        assert_eq!(png.get(1..4), Some(&b"PNG"[..]));
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("has four bytes"));
        (number(16), number(20))
    };
    tab.screenshot_to(&file, false).await;
    assert_eq!(size(&file), (360, 740));
    tab.screenshot_to(&file, true).await;
    let (width, height) = size(&file);
    assert!(width == 360 && height > 2000, "{width} {height}");
    std::fs::remove_dir_all(&folder).expect("is removed");
}

/// The command lines of processes that name a file in a folder.
#[cfg(target_os = "linux")]
fn processes_with(folder: &std::path::Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("is there").flatten();
    let commands = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let commands = commands.map(|command| String::from_utf8_lossy(&command).replace('\0', " "));
    let inside = format!("{}/", folder.display());
    commands.filter(|command| command.contains(&inside)).collect()
}

#[cfg(target_os = "linux")]
async fn wait_until_nothing_is_left(folder: &std::path::Path) {
    until("Chromium to end", SOON, async || match processes_with(folder) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn dropping_chromium_ends_its_processes_and_removes_its_files() {
    let Some(chromium) = start().await else { return };
    let (folder, _) = chromium.0.folder_and_process().expect("runs");
    let tab = chromium.open(Window { patience: Duration::from_secs(5), ..Window::default() }).await;
    assert!(!processes_with(&folder).is_empty() && folder.exists());
    drop(chromium);
    assert!(!folder.exists());
    wait_until_nothing_is_left(&folder).await;
    assert!(!folder.exists());
    let message = failure(async move { tab.url().await }).await;
    assert!(message.contains("url: Chromium has been ended"), "{message}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn chromium_ends_with_its_driver_and_waiting_commands_fail() {
    let Some(chromium) = start().await else { return };
    let (folder, process) = chromium.0.folder_and_process().expect("runs");
    let tab = chromium.open(Window::default()).await;
    let waits = tokio::spawn(failure(async move { tab.wait_for("#none").await }));
    crate::process::signal_group(process, Signal::Kill);
    let message = waits.await.expect("does not panic");
    assert!(message.contains("wait_for: Chromium has ended"), "{message}");
    wait_until_nothing_is_left(&folder).await;
}

#[tokio::test]
async fn a_page_does_not_reach_another_host() {
    let Some(chromium) = start().await else { return };
    let (_server, base) = pages().await;
    let tab = chromium.open(Window::default()).await;
    let message = failure(async move { tab.goto("http://example.com/").await }).await;
    assert!(message.contains("ERR_NAME_NOT_RESOLVED"), "{message}");
    let tab = chromium.open(Window::default()).await;
    // The names of this machine work.
    assert_eq!(tab.goto(&base.replace("127.0.0.1", "localhost")).await, 404);
    assert_eq!(tab.evaluate("1 + 1").await, Value::from(2));
    assert!(chromium.version().starts_with(|first: char| first.is_ascii_digit()), "{}", chromium.version());
}

/// The test program runs itself, with a path that has no Chromium.
#[test]
fn a_test_on_a_machine_without_chromium_is_skipped_with_a_line_in_the_terminal() {
    let mut command = Command::new(std::env::current_exe().expect("is known"));
    command.args(["--exact", "chromium::tests::a_page_does_not_reach_another_host"]);
    command.env("PATH", "/no/such/folder").env_remove("CI").env_remove("TIDEGATE_CHROMIUM");
    let output = command.output().expect("runs");
    let (shown, results) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success() && results.contains("1 passed"), "{results}{shown}");
    assert!(shown.contains("SKIPPED") && shown.contains("apt-get install -y chromium"), "{shown}");
}
