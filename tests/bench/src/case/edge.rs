//! The edge in bare workerd, compared with a hand-written JavaScript Worker that does the same work. Both are bound
//! directly to the local queue, without wrangler and miniflare.
//!
//! The two are measured in turn, several times, and the result is the ratio of each pair: other load on the machine
//! affects both halves of a pair alike.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use harness::edge::{Edge, EdgeSettings};
use harness::error::{Doing as _, Error, Result};
use harness::process::{Process, Signal};
use harness::provider::Provider;
use harness::queue::{LocalQueue, Queue};
use harness::{place, tools};

use crate::figure::{Figure, Limit, Report, median};
use crate::load::{self, Load};
use crate::machine;
use crate::options::Options;

const CONNECTIONS: usize = 32;

/// The compilers of JavaScript and of wasm need a few seconds of work before the code is fully optimised.
const WARM_UP: Duration = Duration::from_secs(3);

/// A source of a provider, and a body for it.
struct Webhook {
    name: &'static str,
    provider: fn() -> Provider,
    body_bytes: usize,
    /// The required ratio and the aim, if there are any.
    expected: Option<(f64, f64)>,
}

const WEBHOOKS: &[Webhook] = &[
    Webhook { name: "HMAC-SHA256, 1 KB", provider: Provider::github, body_bytes: 1_000, expected: Some((0.85, 1.1)) },
    Webhook {
        name: "HMAC-SHA256, 100 KB",
        provider: Provider::github,
        body_bytes: 100_000,
        expected: Some((1.0, 1.5)),
    },
    Webhook { name: "Ed25519, 1 KB", provider: Provider::standard_webhooks_ed25519, body_bytes: 1_000, expected: None },
    Webhook { name: "ECDSA P-256, 1 KB", provider: Provider::sendgrid, body_bytes: 1_000, expected: None },
];

/// Measures all webhooks.
///
/// # Errors
/// Returns an error if a part cannot be started, or if a request is refused, because then the two do not do the same
/// work.
pub async fn run(options: Options) -> Result<Report> {
    let mut report = Report::new("Edge compared with a hand-written JavaScript Worker: bare workerd, 32 connections");
    for Webhook { name, provider, body_bytes, expected } in WEBHOOKS {
        let plan = Plan { body_bytes: *body_bytes, pairs: options.pick(5, 2), time: options.time(4, 2) };
        let pairs = measure(&provider(), plan).await?;
        let rust = median(pairs.iter().map(|pair| pair.rust.load.per_second()));
        let javascript = median(pairs.iter().map(|pair| pair.javascript.load.per_second()));
        report.figure(Figure::new(format!("{name}, Rust"), rust, "/s"));
        report.figure(Figure::new(format!("{name}, JavaScript"), javascript, "/s"));
        let ratio = Figure::new(format!("{name}, ratio"), median(pairs.iter().map(Pair::ratio)), "×");
        report.figure(match expected {
            Some((must, aim)) => ratio.must(Limit::AtLeast(*must)).aim(Limit::AtLeast(*aim)),
            None => ratio,
        });
        let all: Vec<String> = pairs.iter().map(|pair| format!("{:.2}", pair.ratio())).collect();
        report.note(format!("{name}: median of {} pairs, ratios {}", pairs.len(), all.join(", ")));
        report.note(format!(
            "{name}: processor time of workerd per request: Rust {:.0} µs, JavaScript {:.0} µs, ratio {:.2}",
            median(pairs.iter().filter_map(|pair| pair.rust.processor_us)),
            median(pairs.iter().filter_map(|pair| pair.javascript.processor_us)),
            median(pairs.iter().filter_map(Pair::processor_ratio)),
        ));
    }
    Ok(report)
}

/// The parameters of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub body_bytes: usize,
    pub pairs: usize,
    /// The time of each half of a pair.
    pub time: Duration,
}

/// One run.
#[derive(Debug, Clone, Copy)]
pub struct Half {
    pub load: Load,
    /// The processor time of workerd alone, in microseconds of one core per request. Other load on the machine changes
    /// it little.
    pub processor_us: Option<f64>,
}

/// One pair of runs.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    pub rust: Half,
    pub javascript: Half,
}

impl Pair {
    /// The edge's requests per second divided by those of the JavaScript Worker.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.rust.load.per_second() / self.javascript.load.per_second()
    }

    /// The JavaScript Worker's processor time per request divided by that of the edge: above 1 the edge is cheaper.
    #[must_use]
    pub fn processor_ratio(&self) -> Option<f64> {
        Some(self.javascript.processor_us? / self.rust.processor_us?)
    }
}

/// Measures both with one provider and one body, in turn.
///
/// # Errors
/// Same as [`run`].
pub async fn measure(provider: &Provider, plan: Plan) -> Result<Vec<Pair>> {
    let queue = LocalQueue::start(0, Queue::recipe()).await.doing(|| "cannot start the local queue".to_owned())?;
    let edge = Edge::start_bare(&queue, EdgeSettings::default()).await?;
    let source = edge.put_source("bench", provider).await;
    let reference = JavaScript::start(&queue, provider).await?;

    let body = body(plan.body_bytes);
    let signed = provider.sign("bench", &body, harness::provider::now_s());
    let headers: Vec<(&str, &str)> =
        signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let path = format!("/in/{}", source.id);
    let run = async |(address, process): (SocketAddr, u32), time: Duration| -> Result<Half> {
        let before = machine::processor_seconds(process);
        let load = load::run(address, load::request(address, &path, &headers, &body), CONNECTIONS, time).await?;
        let used = before.and_then(|before| Some(machine::processor_seconds(process)? - before));
        empty(&queue);
        if load.refused > 0 {
            return Err(Error::new(format!("{} of {} requests were refused", load.refused, load.answers)));
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let processor_us = used.map(|seconds| seconds * 1e6 / load.answers as f64);
        Ok(Half { load, processor_us })
    };
    let address = |url: &str| url.trim_start_matches("http://").parse::<SocketAddr>();
    let rust = address(edge.url()).doing(|| format!("{} is no address", edge.url()))?;
    let rust = (rust, edge.id());
    let javascript = (reference.address, reference.process.id());
    run(rust, WARM_UP).await?;
    run(javascript, WARM_UP).await?;
    let mut pairs = Vec::new();
    for _ in 0..plan.pairs {
        pairs.push(Pair { rust: run(rust, plan.time).await?, javascript: run(javascript, plan.time).await? });
    }
    Ok(pairs)
}

fn body(bytes: usize) -> Vec<u8> {
    let filler = bytes.saturating_sub(r#"{"ref":"refs/heads/main","filler":""}"#.len());
    format!(r#"{{"ref":"refs/heads/main","filler":"{}"}}"#, "x".repeat(filler)).into_bytes()
}

/// Empties the queue, so that the messages of a measurement do not fill the memory.
fn empty(queue: &LocalQueue) {
    loop {
        let pulled = queue.pull(100);
        if pulled.is_empty() {
            return;
        }
        queue.ack(&pulled);
    }
}

/// The hand-written Worker in a bare workerd.
struct JavaScript {
    process: Process,
    address: SocketAddr,
}

impl JavaScript {
    async fn start(queue: &LocalQueue, provider: &Provider) -> Result<Self> {
        let workerd = tools::blocking(|| tools::program("workerd")).await?;
        let folder = place::temporary("javascript")?;
        let reference = place::repository().join("tests/bench/reference.js");
        std::fs::copy(&reference, folder.join("reference.js"))
            .doing(|| format!("cannot copy {}", reference.display()))?;
        let port = tools::free_port()?;
        let (id, secret) = (provider.id, provider.secrets.first().map_or("", String::as_str));
        let config = format!(
            r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main), (name = "queue", external = (address = "{}", http = ()))],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")],
);
const main :Workerd.Worker = (
  compatibilityDate = "2026-04-20",
  modules = [(name = "reference.js", esModule = embed "reference.js")],
  bindings = [(name = "QUEUE", queue = "queue"), (name = "PROVIDER", text = {id:?}), (name = "SECRET", text = {secret:?})],
);
"#,
            queue.address(),
        );
        let file = folder.join("workerd.capnp");
        std::fs::write(&file, config).doing(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(workerd);
        command.arg("serve").arg(&file);
        let mut process = Process::start_with_folder("javascript", &mut command, Signal::Term, Some(&folder))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        harness::wait::try_until("workerd to listen", Duration::from_secs(20), async || {
            if process.ended().is_some() {
                return Err(format!("it has ended: {}", process.tail(20)));
            }
            tokio::net::TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
        })
        .await
        .map_err(Error::new)?;
        Ok(Self { process, address })
    }
}
