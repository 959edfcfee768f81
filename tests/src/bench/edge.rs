//! The edge in bare workerd beside a hand-written JavaScript Worker that does the same work: no wrangler, no miniflare,
//! both bound straight to the local queue.
//!
//! The two are measured in turn, several times, and the ratio of each pair counts: the machine is the same for both
//! halves of a pair, whatever else it does.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use super::load::{self, Load};
use crate::edge::{Edge, EdgeSettings};
use crate::error::{Doing as _, Error, Result};
use crate::process::{Process, Signal};
use crate::provider::Provider;
use crate::queue::{LocalQueue, Settings};
use crate::{place, tools};

const CONNECTIONS: usize = 32;

/// Both compilers, of JavaScript and of wasm, need some seconds of work before they are at their best.
const WARM_UP: Duration = Duration::from_secs(3);

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub body_bytes: usize,
    pub pairs: usize,
    /// Of each half of a pair.
    pub time: Duration,
}

/// One pair of runs.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    pub rust: Load,
    pub javascript: Load,
}

impl Pair {
    /// The edge's requests per second over those of the JavaScript Worker.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.rust.per_second() / self.javascript.per_second()
    }
}

/// Measures both, in turn.
///
/// # Errors
/// Where something cannot be started, or a request is refused: then the two do not do the same work.
pub async fn measure(plan: Plan) -> Result<Vec<Pair>> {
    let queue = LocalQueue::start(0, Settings::default()).await.doing(|| "cannot start the local queue".to_owned())?;
    let provider = Provider::github();
    let edge = Edge::start_bare(&queue, EdgeSettings::default()).await?;
    let source = edge.put_source("bench", &provider).await;
    let javascript = JavaScript::start(&queue, provider.secrets.first().map_or("", String::as_str)).await?;

    let body = body(plan.body_bytes);
    let signed = provider.sign("bench", &body, crate::provider::now_s());
    let headers: Vec<(&str, &str)> =
        signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let path = format!("/in/{}", source.id);
    let run = async |address: SocketAddr, time: Duration| -> Result<Load> {
        let load = load::run(address, load::request(address, &path, &headers, &body), CONNECTIONS, time).await?;
        empty(&queue);
        if load.refused > 0 {
            return Err(Error::new(format!("{} of {} requests were refused", load.refused, load.answers)));
        }
        Ok(load)
    };
    let address = |url: &str| url.trim_start_matches("http://").parse::<SocketAddr>();
    let rust = address(edge.url()).doing(|| format!("{} is no address", edge.url()))?;
    run(rust, WARM_UP).await?;
    run(javascript.address, WARM_UP).await?;
    let mut pairs = Vec::new();
    for _ in 0..plan.pairs {
        pairs.push(Pair { rust: run(rust, plan.time).await?, javascript: run(javascript.address, plan.time).await? });
    }
    Ok(pairs)
}

fn body(bytes: usize) -> Vec<u8> {
    let filler = bytes.saturating_sub(r#"{"ref":"refs/heads/main","filler":""}"#.len());
    format!(r#"{{"ref":"refs/heads/main","filler":"{}"}}"#, "x".repeat(filler)).into_bytes()
}

/// Takes everything out, so that what has been measured does not fill the memory.
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
    _process: Process,
    address: SocketAddr,
}

impl JavaScript {
    async fn start(queue: &LocalQueue, secret: &str) -> Result<Self> {
        let workerd = tools::blocking(|| tools::program("workerd")).await?;
        let folder = place::temporary("javascript")?;
        let reference = place::repository().join("tests/benches/reference.js");
        std::fs::copy(&reference, folder.join("reference.js"))
            .doing(|| format!("cannot copy {}", reference.display()))?;
        let port = tools::free_port()?;
        let config = format!(
            r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main), (name = "queue", external = (address = "{}", http = ()))],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")],
);
const main :Workerd.Worker = (
  compatibilityDate = "2026-04-20",
  modules = [(name = "reference.js", esModule = embed "reference.js")],
  bindings = [(name = "QUEUE", queue = "queue"), (name = "SECRET", text = {secret:?})],
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
        crate::wait::try_until("workerd to listen", Duration::from_secs(20), async || {
            if process.ended().is_some() {
                return Err(format!("it has ended: {}", process.tail(20)));
            }
            tokio::net::TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
        })
        .await
        .map_err(Error::new)?;
        Ok(Self { _process: process, address })
    }
}
