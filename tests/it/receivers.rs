//! deliver: the receivers of `examples/` take real deliveries, refuse what was changed on the way, and do the work of an
//! event once, also after a crash. They are installed and started by the commands of their page.

use std::path::PathBuf;
use std::process::Command;

use harness::api::http_client;
use harness::gateway::{Gateway, RelayOnly};
use harness::page::Page;
use harness::process::{Process, Signal};
use harness::receiver::Received;
use harness::wait::{LONG, SOON, until};
use harness::{place, tools};
use serde_json::json;

/// A running receiver of `examples/receivers`.
struct Example {
    heading: &'static str,
    program: PathBuf,
    signing_secret: String,
    port: u16,
    data: PathBuf,
    process: Process,
    /// What earlier processes have printed.
    printed: String,
}

impl Example {
    /// Installs the receiver by the first block of commands under the heading, and starts it by the second.
    async fn start(folder: &'static str, heading: &'static str, signing_secret: &str) -> Self {
        let program = tools::blocking(move || tools::receiver(folder, heading)).await;
        let program = program.unwrap_or_else(|error| panic!("{error}"));
        let (port, data) = (tools::free_port().expect("a port"), place::temporary("inbox").expect("a folder"));
        let process = start(heading, &program, signing_secret, port, &data).await;
        let signing_secret = signing_secret.to_owned();
        Self { heading, program, signing_secret, port, data, process, printed: String::new() }
    }

    /// Kills it without a warning, and starts it again with the same data.
    async fn crash(&mut self) {
        self.process.kill().await.expect("ends");
        self.printed += &self.process.log();
        self.process = start(self.heading, &self.program, &self.signing_secret, self.port, &self.data).await;
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/webhooks", self.port)
    }

    /// How often it has done the work of an event.
    fn done(&self, event: &str) -> usize {
        let line = format!("done {event}");
        let printed = self.printed.clone() + &self.process.log();
        printed.lines().filter(|printed| *printed == line).count()
    }

    async fn wait_for(&self, event: &str) {
        until("the work to be done", SOON, async || match self.done(event) {
            0 => Err(self.process.tail(5)),
            _ => Ok(()),
        })
        .await;
    }
}

async fn start(heading: &str, program: &PathBuf, signing_secret: &str, port: u16, data: &std::path::Path) -> Process {
    let command = Page::read("examples/README.md").and_then(|page| page.blocks(heading)).expect("is on the page");
    let mut bash = Command::new("bash");
    bash.args(["-eu", "-c", &command[1]])
        .current_dir(program)
        // It was built in its own folder.
        .env_remove("CARGO_TARGET_DIR")
        .env("SIGNING_SECRET", signing_secret)
        .env("PORT", port.to_string())
        .env("INBOX", data.join("inbox"));
    let mut process = Process::start("receiver", &mut bash, Signal::Term).expect("starts");
    process.line("listening on http", SOON).await.expect("starts");
    process
}

/// The status with which a receiver answers a request with the headers of a delivery, changed in this way.
async fn answer(
    example: &Example,
    delivery: &Received,
    change: impl Fn(&str, &str) -> Option<String>,
    body: &[u8],
) -> u16 {
    let mut request = http_client().post(example.url()).body(body.to_vec());
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        if let Some(value) = change(name, delivery.header(name)) {
            request = request.header(name, value);
        }
    }
    request.send().await.expect("answers").status().as_u16()
}

/// Delivers all events of the source again, and waits until `count` deliveries have succeeded.
async fn replay(gateway: &RelayOnly, count: usize) {
    let replay = gateway.api.post("/v1/replays", &json!({ "filter": { "source": "line" } })).await.expect_status(201);
    gateway.api.wait_for_replay(&replay, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", count, LONG).await;
}

async fn takes_each_event_once_and_refuses_what_was_changed(folder: &'static str, heading: &'static str) {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let first = gateway.push(&line.source, br#"{"type":"order.paid","amount":42}"#).to_string();
    let delivery = line.receiver.wait_for(1, SOON).await.remove(0);
    let mut example = Example::start(folder, heading, &line.destination.signing_secret).await;

    let body = delivery.body.to_vec();
    let same = |_: &str, value: &str| Some(value.to_owned());
    let changed = String::from_utf8(body.clone()).expect("text").replace("42", "43");
    assert_eq!(answer(&example, &delivery, same, changed.as_bytes()).await, 401, "another body");
    let other_id =
        |name: &str, value: &str| Some(if name == "webhook-id" { value.replace('0', "1") } else { value.into() });
    assert_eq!(answer(&example, &delivery, other_id, &body).await, 401, "another id");
    let later = |name: &str, value: &str| {
        let seconds: u64 = value.parse().unwrap_or_default();
        Some(if name == "webhook-timestamp" { (seconds + 1).to_string() } else { value.to_owned() })
    };
    assert_eq!(answer(&example, &delivery, later, &body).await, 401, "another time");
    let unsigned = |name: &str, value: &str| (name != "webhook-signature").then(|| value.to_owned());
    assert_eq!(answer(&example, &delivery, unsigned, &body).await, 401, "no signature");
    let malformed =
        |name: &str, value: &str| Some(if name == "webhook-signature" { "v1".into() } else { value.to_owned() });
    assert_eq!(answer(&example, &delivery, malformed, &body).await, 401, "a malformed signature");
    assert_eq!(example.done(&first), 0, "nothing that was refused is worked on");
    assert_eq!(answer(&example, &delivery, same, &body).await, 204);
    example.wait_for(&first).await;

    let path = format!("/v1/destinations/{}", line.destination.id);
    gateway.api.patch(&path, &json!({ "url": example.url() })).await.expect_status(200);
    let second = gateway.push(&line.source, br#"{"type":"order.paid","amount":44}"#).to_string();
    example.wait_for(&second).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 2, SOON).await;
    replay(&gateway, 4).await;
    example.crash().await;
    replay(&gateway, 6).await;
    // Events are worked on in their order, so nothing is left to do when this one is done.
    let third = gateway.push(&line.source, br#"{"type":"order.paid","amount":45}"#).to_string();
    example.wait_for(&third).await;
    let done = [&first, &second, &third].map(|event| example.done(event));
    assert_eq!(done, [1; 3], "{}{}", example.printed, example.process.log());
    std::fs::remove_dir_all(&example.data).expect("is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_in_node_takes_each_event_once_and_refuses_what_was_changed() {
    takes_each_event_once_and_refuses_what_was_changed("node", "Node").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_in_python_takes_each_event_once_and_refuses_what_was_changed() {
    takes_each_event_once_and_refuses_what_was_changed("python", "Python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_in_rust_takes_each_event_once_and_refuses_what_was_changed() {
    takes_each_event_once_and_refuses_what_was_changed("rust", "Rust").await;
}
