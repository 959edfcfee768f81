//! The upload that `wrangler deploy` would make.

use std::path::Path;
use std::process::Command;

use super::config;
use crate::error::{Doing as _, Error, Result};
use crate::tools;

/// Runs `wrangler deploy --dry-run` with the repository's configuration on the built Worker, and returns its output.
/// Afterwards `folder` contains the files that would be uploaded.
///
/// # Errors
/// Returns an error if wrangler fails.
pub async fn package(folder: &Path) -> Result<String> {
    let folder = folder.to_owned();
    tools::blocking(move || {
        tools::worker()?;
        let wrangler = tools::program("wrangler")?;
        let config = config::write_for_deploy(&folder)?;
        let mut command = Command::new(wrangler);
        command.args(["deploy", "--dry-run", "-c"]).arg(config).arg("--outdir").arg(folder.join("out"));
        command.current_dir(&folder).env("CI", "1").env("WRANGLER_SEND_METRICS", "false").env("NO_COLOR", "1");
        command.env("WRANGLER_LOG_PATH", folder.join("log"));
        let output = command.output().doing(|| "cannot run wrangler".to_owned())?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        Err(Error::new(format!("`wrangler deploy --dry-run` failed ({}): {said}", output.status)))
    })
    .await
}
