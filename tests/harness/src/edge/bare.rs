//! The Worker in a bare `workerd` that is bound directly to the local queue, without wrangler and miniflare.
//!
//! A send reaches the local queue itself, with its limits and faults. (`wrangler dev` has a queue of its own in
//! between, which accepts everything.) There is no object storage: a body that does not fit into a message is refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{EdgeSettings, Folder, KeyValue};
use crate::error::{Doing as _, Error, Result};
use crate::process::{Process, Signal};
use crate::queue::LocalQueue;
use crate::wait::try_until;
use crate::{place, tools};

/// A running Worker. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Bare {
    pub(super) process: Process,
    pub(super) folder: Folder,
    pub(super) values: KeyValue,
    pub(super) url: String,
}

/// Starts the Worker on a namespace, which may hold the sources of an earlier one.
pub(super) async fn start(queue: &LocalQueue, settings: &EdgeSettings, values: KeyValue) -> Result<Bare> {
    let (built, workerd) = tools::blocking(|| Ok((tools::worker()?, tools::program("workerd")?))).await?;
    let folder = Folder(place::temporary("workerd")?);
    let modules = ["index.js", "index_bg.wasm"].map(|module| built.join(module));
    let sources =
        ["entry.js", "host.js", "small_bodies.js"].map(|name| place::repository().join("edge/src").join(name));
    for from in modules.into_iter().chain(sources) {
        let to = folder.0.join(from.file_name().unwrap_or_default());
        std::fs::copy(&from, to).doing(|| format!("cannot copy {}", from.display()))?;
    }
    let port = match settings.port {
        0 => tools::free_port()?,
        port => port,
    };
    let file = folder.0.join("workerd.capnp");
    let config = configuration(port, queue.address(), values.address(), settings)?;
    std::fs::write(&file, config).doing(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(workerd);
    command.arg("serve").arg(&file).current_dir(Path::new("/"));
    let mut process = Process::start_with_folder("workerd", &mut command, Signal::Term, Some(&folder.0))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listens = try_until("workerd to listen", Duration::from_secs(60), async || {
        if let Some(status) = process.ended() {
            return Ok(Err(status));
        }
        tokio::net::TcpStream::connect(address).await.map(|_| Ok(())).map_err(|error| error.to_string())
    });
    match listens.await {
        Ok(Ok(())) => Ok(Bare { process, folder, values, url: format!("http://{address}") }),
        Ok(Err(status)) => Err(Error::new(format!("workerd ended ({status}); its log:\n{}", process.tail(20)))),
        Err(error) => Err(Error::new(format!("{error}; its log:\n{}", process.tail(20)))),
    }
}

fn configuration(port: u16, queue: SocketAddr, values: SocketAddr, settings: &EdgeSettings) -> Result<String> {
    let date = super::config::compatibility_date()?;
    let secrets = [("ADMIN_TOKEN", settings.admin_token.as_str()), ("SEAL_KEY", settings.seal_key.as_str())];
    let variables = settings.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    // A `Debug` string is also a string of Cap'n Proto's text format.
    let texts: String = secrets
        .into_iter()
        .chain(variables)
        .map(|(name, text)| format!(", (name = {name:?}, text = {text:?})"))
        .collect();
    let internet = match settings.internet {
        // All fetches go there, in plain HTTP.
        Some(address) => format!("external = (address = \"{address}\", http = ())"),
        None => {
            "network = (allow = [\"public\", \"private\", \"local\"], tlsOptions = (trustBrowserCas = true))".to_owned()
        }
    };
    Ok(format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = .main),
    (name = "queue", external = (address = "{queue}", http = ())),
    (name = "values", external = (address = "{values}", http = ())),
    (name = "internet", {internet}),
  ],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")],
);
const main :Workerd.Worker = (
  compatibilityDate = "{date}",
  modules = [
    (name = "src/entry.js", esModule = embed "entry.js"),
    (name = "src/host.js", esModule = embed "host.js"),
    (name = "src/small_bodies.js", esModule = embed "small_bodies.js"),
    (name = "build/index.js", esModule = embed "index.js"),
    (name = "build/index_bg.wasm", wasm = embed "index_bg.wasm")
  ],
  bindings = [
    (name = "QUEUE", queue = "queue"), (name = "SOURCES", kvNamespace = "values"),
    (name = "BODIES", r2Bucket = "values"){texts}
  ],
);
"#
    ))
}
