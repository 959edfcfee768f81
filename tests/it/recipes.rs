//! recipes: each recipe of `examples/recipes` is followed from its text, on the whole gateway: its blocks of commands are
//! run in their order in one bash. Only addresses, ports and the credentials at providers are replaced.

mod ai;
mod inngest;

use harness::edge::EdgeSettings;
use harness::gateway::Gateway;
use harness::mac::hmac_sha256;
use harness::page::Page;
use harness::place;
use harness::receiver::Receiver;
use harness::terminal::Terminal;
use harness::tools;
use harness::wait::SOON;

/// A `curl` that sends what is for hosts that need an account to the test. The real one is further back in the path.
const CURL: &str = r#"#!/bin/bash
arguments=()
for argument; do
    for host in @HOSTS@; do argument=${argument/#https:\/\/$host\//@STAND_IN@/$host/}; done
    arguments+=("$argument")
done
PATH=${PATH#*:} exec curl "${arguments[@]}"
"#;

/// A reader of a recipe.
struct Reader {
    terminal: Terminal,
    page: Page,
}

impl Reader {
    /// Opens a page after the preparations that `examples/README.md` asks for. Its receivers are installed.
    async fn start(gateway: &Gateway, page: Page, receivers: &[(&'static str, &'static str)]) -> Self {
        Self::start_with(gateway, page, receivers, None).await
    }

    /// Like [`Reader::start`]. `curl` sends what is for these hosts to this URL.
    async fn start_with(
        gateway: &Gateway,
        page: Page,
        receivers: &[(&'static str, &'static str)],
        hosts: Option<(&[&str], &str)>,
    ) -> Self {
        let programs = place::temporary("programs").expect("a folder");
        let tidegate = tools::blocking(tools::relay).await.unwrap_or_else(|error| panic!("{error}"));
        link(&tidegate, &programs.join("tidegate"));
        if let Some((hosts, stand_in)) = hosts {
            write_curl(&programs, hosts, stand_in);
        }
        let inbox = programs.join("inbox");
        let variables = [("INBOX", inbox.to_str().expect("text"))];
        let mut terminal = Terminal::start(Some(&programs), &variables).expect("starts");
        let folder = terminal.folder().join("examples/receivers");
        std::fs::create_dir_all(&folder).expect("is created");
        for (name, heading) in receivers.iter().copied() {
            let installed = tools::blocking(move || tools::receiver(name, heading)).await;
            link(&installed.unwrap_or_else(|error| panic!("{error}")), &folder.join(name));
        }
        let preparations = Page::read("examples/README.md")
            .and_then(|page| page.with("http://127.0.0.1:8400", gateway.relay.url()))
            .and_then(|page| page.with("the-admin-token", gateway.relay.token()))
            .and_then(|page| page.blocks("Before you begin"))
            .expect("reads");
        for block in preparations {
            run(&mut terminal, &block).await;
        }
        let mut reader = Self { terminal, page };
        reader.follow("What you get").await;
        reader
    }

    fn blocks(&self, heading: &str) -> Vec<String> {
        self.page.blocks(heading).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs all blocks under a heading, and returns their outputs.
    async fn follow(&mut self, heading: &str) -> Vec<String> {
        let mut outputs = Vec::new();
        for block in self.blocks(heading) {
            outputs.push(run(&mut self.terminal, &block).await);
        }
        outputs
    }

    /// Runs a block under "See that it works".
    async fn see(&mut self, number: usize) -> String {
        let block = self.blocks("See that it works").swap_remove(number);
        run(&mut self.terminal, &block).await
    }

    /// Runs a block under "See that it works" until its output contains a text.
    async fn see_until(&mut self, number: usize, text: &str) -> String {
        let block = self.blocks("See that it works").swap_remove(number);
        self.terminal.run_until(&block, text, SOON).await.unwrap_or_else(|error| panic!("{error}"))
    }
}

async fn run(terminal: &mut Terminal, block: &str) -> String {
    terminal.run(block).await.unwrap_or_else(|error| panic!("{error}"))
}

fn link(to: &std::path::Path, from: &std::path::Path) {
    std::os::unix::fs::symlink(to, from).expect("is linked");
}

/// Writes a `curl` that sends what is for these hosts to another URL, with the host as the first part of the path.
fn write_curl(programs: &std::path::Path, hosts: &[&str], stand_in: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let file = programs.join("curl");
    let text = CURL.replace("@HOSTS@", &hosts.join(" ")).replace("@STAND_IN@", stand_in);
    std::fs::write(&file, text).expect("is written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).expect("is made a program");
}

/// Reads a recipe whose receiver listens on port 9000, and replaces that port.
fn with_free_port(path: &str) -> Page {
    let port = tools::free_port().expect("a port").to_string();
    Page::read(path).and_then(|page| page.with("9000", &port)).expect("reads")
}

/// The number of rows in a response of a list.
fn rows(response: &str) -> usize {
    let page: serde_json::Value = serde_json::from_str(response.trim()).unwrap_or_else(|_| panic!("{response}"));
    page["data"].as_array().expect("a list").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn stripe_to_an_internal_service_is_followed_from_its_text() {
    let gateway = Gateway::start().await;
    let page = with_free_port("examples/recipes/stripe-to-an-internal-service.md");
    let mut reader = Reader::start(&gateway, page, &[("node", "Node")]).await;
    reader.follow("Set it up").await;
    let sent = reader.see(0).await;
    let delivered = reader.see_until(1, r#""state":"succeeded""#).await;
    assert_eq!(rows(&delivered), 1, "the other type is not delivered: {delivered}");
    let log = reader.see_until(2, "done evt_").await;
    assert!(log.contains("payment_intent.succeeded") && !log.contains("invoice.paid"), "{log}");
    let events = reader.see(3).await;
    assert_eq!(rows(&events), 2, "{events}\n{sent}");
    let answers = reader.follow("If it does not work").await;
    assert!(answers[1].contains(r#""succeeded""#), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn github_to_ci_is_followed_from_its_text() {
    let gateway = Gateway::start_bare_with(EdgeSettings::default()).await;
    let ci = Receiver::start().await.expect("starts");
    let page = Page::read("examples/recipes/github-to-ci.md")
        .and_then(|page| page.with("http://ci.internal:8080/github-webhook/", &ci.url()))
        .expect("reads");
    let mut reader = Reader::start(&gateway, page, &[]).await;
    reader.follow("Set it up").await;
    reader.see(0).await;
    let events = reader.see(1).await;
    assert_eq!(rows(&events), 2, "{events}");
    let delivered = reader.see_until(2, r#""state":"succeeded""#).await;
    assert_eq!(rows(&delivered), 1, "the push to the other branch is not delivered: {delivered}");
    // The CI server verifies GitHub's own signature.
    let request = ci.wait_for(1, SOON).await.remove(0);
    let signature = hex::encode(hmac_sha256(b"a-long-random-text-that-you-choose", &[&request.body]));
    assert_eq!(request.header("x-hub-signature-256"), format!("sha256={signature}"));
    assert_eq!(request.header("x-github-event"), "push");
    assert!(!request.header("x-github-delivery").is_empty());
    reader.follow("If it does not work").await;
    assert_eq!(ci.count(), 1);
}
