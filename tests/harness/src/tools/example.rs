//! The receivers of `examples/`, installed by the commands of their page.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::installed_once;
use crate::error::{Doing as _, Error, Result};
use crate::page::Page;
use crate::place;

/// The page that says how to install the receivers.
pub(crate) const PAGE: &str = "examples/README.md";

/// Returns a copy of `examples/receivers/<folder>` in which the first block of commands under `heading` of
/// `examples/README.md` has been run, which installs what it needs. Clones of the repository share it.
///
/// # Errors
/// Returns an error if the page or the folder cannot be read, or if a command fails.
pub fn receiver(folder: &str, heading: &str) -> Result<PathBuf> {
    static INSTALLED: Mutex<BTreeMap<String, Result<PathBuf>>> = Mutex::new(BTreeMap::new());
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    installed.entry(folder.to_owned()).or_insert_with(|| install(folder, heading)).clone()
}

fn install(name: &str, heading: &str) -> Result<PathBuf> {
    let source = place::repository().join("examples/receivers").join(name);
    let block = Page::read(PAGE)?.blocks(heading)?.swap_remove(0);
    let mut files = Vec::new();
    list(&source, Path::new(""), &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    hash.update(&block);
    for file in &files {
        let content = std::fs::read(source.join(file)).doing(|| format!("cannot read {}", file.display()))?;
        hash.update(file.as_os_str().as_encoded_bytes());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    let hash = hex::encode(&hash.finalize()[..6]);
    // Named by the content, so that a clone with another program has a folder of its own.
    let folder = place::cache().join("tools").join(format!("receiver-{name}-{hash}"));
    installed_once(folder, |folder| {
        for file in &files {
            let to = folder.join(file);
            let parent = to.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).doing(|| format!("cannot create {}", parent.display()))?;
            std::fs::copy(source.join(file), &to).doing(|| format!("cannot write {}", to.display()))?;
        }
        let mut command = Command::new("bash");
        command.args(["-eu", "-c", &block]).current_dir(folder);
        // The program is built in its own folder, not among those of this workspace.
        command.env_remove("CARGO_TARGET_DIR");
        let what = format!("installing the receiver in examples/receivers/{name} (up to two minutes)");
        let advice = "it needs the network, for the package registry: check it, then start again";
        prepare::run(&what, &mut command, advice).map_err(Error::new)
    })
}

/// Adds the files below a folder, without what an installation creates there.
fn list(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let folder = root.join(below);
    let failed = || format!("cannot read {}", folder.display());
    for entry in std::fs::read_dir(&folder).doing(failed)? {
        let entry = entry.doing(failed)?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let is_installed = text.starts_with('.') || ["node_modules", "target", "__pycache__"].contains(&&*text);
        if is_installed || text.starts_with("inbox") {
            continue;
        }
        let path = below.join(&name);
        if entry.path().is_dir() { list(root, &path, files)? } else { files.push(path) }
    }
    Ok(())
}
