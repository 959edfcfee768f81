//! The edge in bare workerd beside a hand-written JavaScript Worker that does the same work: no wrangler, no miniflare,
//! both bound straight to the local queue.
//!
//! The two are measured in turn, several times, and the ratio of each pair counts: the machine is the same for both
//! halves of a pair, whatever else it does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;

use super::load::{self, Load};
use crate::error::{Doing as _, Error, Result};
use crate::process::{Process, Signal};
use crate::provider::Provider;
use crate::queue::{LocalQueue, Settings};
use crate::server::Server;
use crate::{place, tools};

const CONNECTIONS: usize = 32;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub body_bytes: usize,
    pub pairs: usize,
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
    let built = tools::blocking(tools::worker).await?;
    let workerd = tools::blocking(|| tools::program("workerd")).await?;
    let folder = place::temporary("bench")?;
    let queue = LocalQueue::start(0, Settings::default()).await.doing(|| "cannot start the local queue".to_owned())?;
    let kv = KeyValue::start().await?;
    let provider = Provider::github();
    let admin_token = crate::random::text();
    let seal_key = crate::random::key();

    let bindings = format!(
        r#"(name = "QUEUE", queue = "queue"), (name = "SOURCES", kvNamespace = "kv"), (name = "BODIES", r2Bucket = "kv"),
           (name = "ADMIN_TOKEN", text = "{admin_token}"), (name = "SEAL_KEY", text = "{seal_key}")"#
    );
    let rust = Bare::start(&workerd, &folder.join("rust"), &built, &bindings, &queue, kv.server.address()).await?;
    let javascript_folder = folder.join("built");
    let reference = place::repository().join("tests/benches/reference.js");
    std::fs::create_dir_all(&javascript_folder).doing(|| "cannot make a folder".to_owned())?;
    std::fs::copy(reference, javascript_folder.join("index.js")).doing(|| "cannot copy reference.js".to_owned())?;
    let secret = provider.secrets.first().cloned().unwrap_or_default();
    let bindings = format!(r#"(name = "QUEUE", queue = "queue"), (name = "SECRET", text = "{secret}")"#);
    let javascript =
        Bare::start(&workerd, &folder.join("javascript"), &javascript_folder, &bindings, &queue, kv.server.address())
            .await?;

    let source = crate::edge::source_config(
        shared::id::SourceId::mint(crate::provider::now_s() * 1000, rand::random()),
        "bench",
        1,
        &provider,
        &provider.config,
    );
    let put = reqwest::Client::builder().build().doing(|| "cannot make a client".to_owned())?;
    let url = format!("http://{}/admin/sources/{}", rust.address, source.id);
    let answer = put
        .put(url)
        .bearer_auth(&admin_token)
        .json(&source)
        .send()
        .await
        .doing(|| "cannot put the source".to_owned())?;
    if !answer.status().is_success() {
        return Err(Error::new(format!("the edge refused the source: {}", answer.text().await.unwrap_or_default())));
    }

    let body = body(plan.body_bytes);
    let signed = provider.sign("bench", &body, crate::provider::now_s());
    let headers: Vec<(&str, &str)> =
        signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let path = format!("/in/{}", source.id);
    let run = async |address: SocketAddr, time: Duration| -> Result<Load> {
        let load = load::run(address, load::request(address, &path, &headers, &body), CONNECTIONS, time).await?;
        // What has been measured is not kept.
        loop {
            let pulled = queue.pull(100);
            if pulled.is_empty() {
                break;
            }
            queue.ack(&pulled);
        }
        if load.refused > 0 {
            return Err(Error::new(format!("{} of {} requests were refused", load.refused, load.answers)));
        }
        Ok(load)
    };
    // Both compilers of JavaScript and wasm need some seconds of work before they are at their best.
    run(rust.address, Duration::from_secs(3)).await?;
    run(javascript.address, Duration::from_secs(3)).await?;
    let mut pairs = Vec::new();
    for _ in 0..plan.pairs {
        pairs.push(Pair {
            rust: run(rust.address, plan.time).await?,
            javascript: run(javascript.address, plan.time).await?,
        });
    }
    let _ = std::fs::remove_dir_all(&folder);
    Ok(pairs)
}

fn body(bytes: usize) -> Vec<u8> {
    let filler = bytes.saturating_sub(r#"{"ref":"refs/heads/main","filler":""}"#.len());
    format!(r#"{{"ref":"refs/heads/main","filler":"{}"}}"#, "x".repeat(filler)).into_bytes()
}

/// A Worker in a workerd of its own.
struct Bare {
    _process: Process,
    address: SocketAddr,
}

impl Bare {
    async fn start(
        workerd: &Path,
        folder: &Path,
        modules: &Path,
        bindings: &str,
        queue: &LocalQueue,
        kv: SocketAddr,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder).doing(|| "cannot make a folder".to_owned())?;
        let mut list = String::new();
        for entry in std::fs::read_dir(modules).doing(|| format!("cannot read {}", modules.display()))? {
            let path = entry.doing(|| "cannot read a folder".to_owned())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let kind = match path.extension().and_then(|extension| extension.to_str()) {
                Some("js") => "esModule",
                Some("wasm") => "wasm",
                _ => continue,
            };
            std::fs::copy(&path, folder.join(&name)).doing(|| format!("cannot copy {name}"))?;
            let module = format!(r#"(name = "{name}", {kind} = embed "{name}")"#);
            // The first module is the one that is run.
            if name == "index.js" { list = format!("{module}, {list}") } else { list = format!("{list}{module}, ") }
        }
        let port = free_port().await?;
        let config = format!(
            r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = .main),
    (name = "queue", external = (address = "{}", http = ())),
    (name = "kv", external = (address = "{kv}", http = ())),
    (name = "internet", network = (allow = ["private", "local"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")],
);
const main :Workerd.Worker = (
  compatibilityDate = "2026-04-20",
  modules = [{list}],
  bindings = [{bindings}],
);
"#,
            queue.address(),
        );
        let file = folder.join("config.capnp");
        std::fs::write(&file, config).doing(|| "cannot write the configuration of workerd".to_owned())?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut process = Process::start(&name, Command::new(workerd).arg("serve").arg(&file), Signal::Term)?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
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

async fn free_port() -> Result<u16> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.doing(|| "cannot listen".to_owned())?;
    Ok(listener.local_addr().doing(|| "cannot listen".to_owned())?.port())
}

/// What workerd asks of a KV namespace, as far as the edge uses it: `GET` and `PUT /{key}`.
struct KeyValue {
    server: Server,
}

impl KeyValue {
    async fn start() -> Result<Self> {
        let values: Arc<Mutex<HashMap<String, Bytes>>> = Arc::default();
        let server = Server::start(0, move |request: Request<hyper::body::Incoming>| {
            let values = Arc::clone(&values);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map_err(|_| crate::server::Cut::Close)?.to_bytes();
                let key = head.uri.path().to_owned();
                let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
                let mut response = Response::new(axum::body::Body::empty());
                if head.method == Method::PUT {
                    values.insert(key, body);
                } else if let Some(value) = values.get(&key) {
                    *response.body_mut() = value.clone().into();
                } else {
                    *response.status_mut() = StatusCode::NOT_FOUND;
                }
                Ok(response)
            }
        })
        .await
        .doing(|| "cannot listen".to_owned())?;
        Ok(Self { server })
    }
}
