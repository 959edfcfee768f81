//! The edge: the built Worker in `wrangler dev`, from whose queue a second Worker (`tests/harness/bridge`) forwards to
//! the local queue; or in a bare `workerd` that is bound to the local queue itself ([`Edge::start_bare`]).

mod bare;
mod config;
mod key_value;
mod package;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use shared::id::SourceId;
use shared::source::{Secret, SourceConfig};

use crate::api::{Api, Reply, http_client};
use crate::error::{Doing as _, Error, Result};
use crate::process::{Process, Signal};
use crate::provider::{Provider, now_s};
use crate::queue::LocalQueue;
use crate::{place, tools};

pub use key_value::KeyValue;
pub use package::package;

/// How long `wrangler dev` may take to start on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// The settings of an edge.
#[derive(Debug, Clone)]
pub struct EdgeSettings {
    /// 0 selects a free port.
    pub port: u16,
    pub admin_token: String,
    /// Base64 of 32 bytes.
    pub seal_key: String,
    /// The folder for KV and R2; without one their data is removed with the edge.
    pub data: Option<PathBuf>,
    /// Further variables of the Worker, such as `MAX_BODY_BYTES`.
    pub variables: Vec<(String, String)>,
    /// The address that receives all fetches of the Worker in place of the network; only in a bare workerd.
    pub internet: Option<SocketAddr>,
}

impl Default for EdgeSettings {
    /// A free port and fresh secrets; nothing is kept.
    fn default() -> Self {
        Self {
            port: 0,
            admin_token: format!("edge-{}", crate::random::text()),
            seal_key: crate::random::key(),
            data: None,
            variables: Vec::new(),
            internet: None,
        }
    }
}

/// A running edge. Dropping it stops it.
#[derive(Debug)]
pub struct Edge {
    // Before the folder: fields are dropped in this order.
    process: Process,
    _folder: Folder,
    /// The namespace in which a bare workerd keeps its sources; miniflare has its own.
    values: Option<KeyValue>,
    url: String,
    settings: EdgeSettings,
}

/// A source that was stored at the edge without a relay.
#[derive(Debug, Clone)]
pub struct EdgeSource {
    pub id: SourceId,
    /// The URL that the provider posts to.
    pub url: String,
    pub config: SourceConfig,
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Edge {
    /// Builds the Worker if necessary, and starts it with its bridge to `queue`.
    ///
    /// # Errors
    /// Returns an error if a part is missing, or if the edge does not start; then the message contains the end of its
    /// log.
    pub async fn start(queue: &LocalQueue, settings: EdgeSettings) -> Result<Self> {
        let wrangler = tools::blocking(|| tools::worker().and_then(|_| tools::program("wrangler"))).await?;
        let folder = Folder(place::temporary("edge")?);
        let [edge, bridge] = config::write(&folder.0, queue, &settings)?;
        let data = settings.data.clone().unwrap_or_else(|| folder.0.join("data"));
        let mut command = Command::new(wrangler);
        command
            .arg("dev")
            .args(["-c".as_ref(), edge.as_os_str(), "-c".as_ref(), bridge.as_os_str()])
            .args(["--ip", "127.0.0.1", "--port", &settings.port.to_string(), "--inspector-port", "0"])
            .arg("--persist-to")
            .arg(data)
            .current_dir(&folder.0)
            .env("CI", "1")
            .env("WRANGLER_SEND_METRICS", "false")
            .env("NO_COLOR", "1")
            // Wrangler fetches nothing from the network and finds no other sessions.
            .env("CLOUDFLARE_CF_FETCH_ENABLED", "false")
            .env("WRANGLER_REGISTRY_PATH", folder.0.join("registry"))
            .env("WRANGLER_LOG_PATH", folder.0.join("log"));
        let mut process = Process::start_with_folder("edge", &mut command, Signal::Term, Some(&folder.0))?;
        let line = process.line("Ready on http", STARTS_WITHIN).await?;
        let url = line.split_whitespace().find(|word| word.starts_with("http")).unwrap_or_default();
        let url = url.trim_end_matches('/').replace("localhost", "127.0.0.1");
        Ok(Self { process, _folder: folder, values: None, url, settings })
    }

    /// Starts the edge in a bare `workerd`: a send reaches the local queue itself, with its faults. There is no object
    /// storage, and nothing is kept.
    ///
    /// # Errors
    /// Same as [`Edge::start`].
    pub async fn start_bare(queue: &LocalQueue, settings: EdgeSettings) -> Result<Self> {
        let bare::Bare { process, folder, values, url } =
            bare::start(queue, &settings, KeyValue::start().await?).await?;
        Ok(Self { process, _folder: folder, values: Some(values), url, settings })
    }

    /// Stops a bare workerd and starts it with another `SEAL_KEY`, at the same address and with the same namespace.
    ///
    /// # Errors
    /// Same as [`Edge::start`]. Also returns an error if this is not a bare workerd.
    pub async fn start_again_with_seal_key(&mut self, queue: &LocalQueue, seal_key: &str) -> Result<()> {
        let port = self.url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default();
        let settings = EdgeSettings { port, seal_key: seal_key.to_owned(), ..self.settings.clone() };
        let values = self.values.take().ok_or_else(|| Error::new("only a bare workerd is started again"))?;
        self.stop().await?;
        let bare::Bare { process, folder, values, url } = bare::start(queue, &settings, values).await?;
        *self = Self { process, _folder: folder, values: Some(values), url, settings };
        Ok(())
    }

    /// The KV namespace of a bare workerd, which a test can make fail.
    ///
    /// # Panics
    /// Panics if this is not a bare workerd.
    #[must_use]
    pub fn values(&self) -> &KeyValue {
        self.values.as_ref().unwrap_or_else(|| panic!("only a bare workerd has a namespace of the harness"))
    }

    /// The base URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token of the admin routes.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.settings.admin_token
    }

    /// A client of the admin routes.
    #[must_use]
    pub fn admin(&self) -> Api {
        Api::new(&self.url, self.admin_token())
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The path of the log file.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        self.process.log_file()
    }

    /// The id of its process, which is workerd's own in a bare workerd.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The ids of the workerd processes: wrangler has one for the Worker and one for its proxy.
    ///
    /// # Errors
    /// Returns an error if the system has no `/proc`.
    pub fn workerds(&self) -> Result<Vec<u32>> {
        let group = self.id().to_string();
        let processes = std::fs::read_dir("/proc").doing(|| "cannot read /proc".to_owned())?;
        let stats = processes.flatten().filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
        let found = stats.filter_map(|stat| {
            // `1234 (workerd) S 1 1200 …`: the id, the name, the state, the parent and the group.
            let (id, rest) = stat.split_once(" (workerd) ")?;
            (rest.split(' ').nth(2) == Some(&group)).then(|| id.parse().ok())?
        });
        Ok(found.collect())
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.ended().is_some()
    }

    /// Stops it with SIGTERM.
    ///
    /// # Errors
    /// Returns an error if it had to be killed.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(STOPS_WITHIN).await.map(drop)
    }

    /// Creates a source of a provider, without a relay.
    ///
    /// # Panics
    /// Panics if the edge refuses it.
    pub async fn put_source(&self, name: &str, provider: &Provider) -> EdgeSource {
        self.put_source_with(name, provider, json!({})).await
    }

    /// Like [`Edge::put_source`], with further settings of the source, such as its acknowledgement.
    ///
    /// # Panics
    /// Panics if the edge refuses it.
    pub async fn put_source_with(&self, name: &str, provider: &Provider, more: Value) -> EdgeSource {
        let mut config = provider.config.clone();
        if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
        self.put_source_of(name, provider.id, &provider.secrets, &config).await
    }

    /// Creates a source of any provider of the catalogue, by the provider's id.
    ///
    /// # Panics
    /// Panics if the edge refuses it.
    pub async fn put_source_of(&self, name: &str, provider: &str, secrets: &[String], config: &Value) -> EdgeSource {
        let id = SourceId::mint(now_s() * 1_000, rand::random());
        let config = source_config(id, name, provider, secrets, config);
        self.put(&config).await.expect_status(200);
        EdgeSource { id, url: format!("{}/in/{id}", self.url), config }
    }

    /// Stores a source with other secrets, under its next revision.
    ///
    /// # Panics
    /// Panics if the edge refuses it.
    pub async fn change_secrets(&self, source: &mut EdgeSource, secrets: &[String]) {
        source.config.revision += 1;
        source.config.secrets = secrets.iter().map(|text| Secret::new(text)).collect();
        self.put(&source.config).await.expect_status(200);
    }

    /// Stores a configuration as it is.
    pub async fn put(&self, config: &SourceConfig) -> Reply {
        let body = serde_json::to_value(config).unwrap_or_else(|error| panic!("a configuration is JSON: {error}"));
        self.admin().put(&format!("/admin/sources/{}", config.id), &body).await
    }

    /// The response of `/healthz`.
    ///
    /// # Errors
    /// Returns an error if the edge does not answer with JSON.
    pub async fn health(&self) -> Result<Value> {
        let failed = |error: reqwest::Error| Error::new(format!("the edge does not answer: {error:?}"));
        let response = http_client().get(format!("{}/healthz", self.url)).send().await.map_err(failed)?;
        response.json().await.map_err(failed)
    }
}

/// Builds the configuration that the relay would build for a source.
///
/// # Panics
/// Panics if the catalogue has no such provider or refuses the settings.
#[must_use]
pub fn source_config(id: SourceId, name: &str, provider: &str, secrets: &[String], config: &Value) -> SourceConfig {
    let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new(text)).collect();
    let entry = shared::provider::find(provider).unwrap_or_else(|| panic!("no provider {provider}"));
    let new =
        shared::provider::NewSource { id, name, revision: 1, secrets: &secrets, config, max_body_bytes: 25_000_000 };
    entry.resolve(new).unwrap_or_else(|problems| panic!("{provider} is refused: {problems:?}"))
}
