//! The configurations for `wrangler dev`: those of the repository, with the changes that a run needs.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::EdgeSettings;
use crate::error::{Doing as _, Error, Result};
use crate::place;
use crate::queue::LocalQueue;

/// The variable of the bridge that names the local queue.
const QUEUE_URL: &str = "LOCAL_QUEUE_URL";

/// Writes the edge's and the bridge's configuration into `folder`.
///
/// The Worker is not built again: a start must not cost a compilation. The secrets are variables in this file, because
/// every user of a machine can see the arguments of a process.
pub(super) fn write(folder: &Path, queue: &LocalQueue, settings: &EdgeSettings) -> Result<[PathBuf; 2]> {
    let mut edge = already_built()?;
    let variables = variables(&mut edge)?;
    variables.insert("ADMIN_TOKEN".to_owned(), settings.admin_token.clone().into());
    variables.insert("SEAL_KEY".to_owned(), settings.seal_key.clone().into());
    for (name, value) in &settings.variables {
        variables.insert(name.clone(), value.clone().into());
    }

    let bridge_folder = place::repository().join("tests/harness/bridge");
    let mut bridge = read(&bridge_folder.join("wrangler.toml"))?;
    let main = bridge.get("main").and_then(Value::as_str).unwrap_or("index.js").to_owned();
    bridge.insert("main".to_owned(), text(&bridge_folder.join(main)));
    self::variables(&mut bridge)?.insert(QUEUE_URL.to_owned(), queue.url().into());

    let files = [folder.join("edge.json"), folder.join("bridge.json")];
    for (file, config) in files.iter().zip([edge, bridge]) {
        std::fs::write(file, Value::Object(config).to_string()).doing(|| format!("cannot write {}", file.display()))?;
    }
    Ok(files)
}

/// Writes the edge's configuration into `folder` as it is deployed, except that nothing is built.
pub(super) fn write_for_deploy(folder: &Path) -> Result<PathBuf> {
    let file = folder.join("edge.json");
    let config = Value::Object(already_built()?).to_string();
    std::fs::write(&file, config).doing(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// The edge's configuration, for the Worker that is already built.
fn already_built() -> Result<Map<String, Value>> {
    let mut edge = read(&place::repository().join("wrangler.toml"))?;
    edge.remove("build");
    let main = edge.get("main").and_then(Value::as_str).unwrap_or_default().to_owned();
    edge.insert("main".to_owned(), text(&place::repository().join(main)));
    Ok(edge)
}

/// The compatibility date of the edge.
pub(super) fn compatibility_date() -> Result<String> {
    let edge = read(&place::repository().join("wrangler.toml"))?;
    let date = edge.get("compatibility_date").and_then(Value::as_str).map(str::to_owned);
    date.ok_or_else(|| Error::new("wrangler.toml has no compatibility_date"))
}

fn read(file: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(file).doing(|| format!("cannot read {}", file.display()))?;
    toml::from_str(&text).doing(|| format!("cannot read {}", file.display()))
}

fn variables(config: &mut Map<String, Value>) -> Result<&mut Map<String, Value>> {
    let variables = config.entry("vars").or_insert_with(|| Value::Object(Map::new()));
    variables.as_object_mut().ok_or_else(|| Error::new("[vars] in wrangler.toml is not a table"))
}

fn text(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}
