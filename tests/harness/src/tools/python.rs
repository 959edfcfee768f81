//! Python programs from the Python Package Index, in exactly the versions and with the hashes that a requirements file
//! lists.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use super::Lock;
use crate::error::{Doing as _, Error, Result};
use crate::place;

/// The advice if there is no Python that can install packages.
const ADVICE: &str =
    "install Python 3.10 or newer with its module venv (Debian: apt-get install python3-venv), then start again";

/// Returns the path of the program `schemathesis`, with the packages of `tests/openapi/requirements.txt`. Clones of the
/// repository share it.
///
/// # Errors
/// Returns an error if Python is missing, too old or without `venv`, or if the packages cannot be fetched.
pub fn schemathesis() -> Result<PathBuf> {
    static PROGRAM: OnceLock<Result<PathBuf>> = OnceLock::new();
    PROGRAM.get_or_init(install).clone()
}

fn install() -> Result<PathBuf> {
    let requirements = place::repository().join("tests/openapi/requirements.txt");
    // Named by the content alone, so that clones share it.
    let listed = std::fs::read(&requirements).doing(|| format!("cannot read {}", requirements.display()))?;
    let wanted = hex::encode(Sha256::digest(listed));
    let folder = place::cache().join("tools").join(format!("schemathesis-{}", wanted.get(..12).unwrap_or(&wanted)));
    let (program, stamp) = (folder.join("bin/schemathesis"), folder.join(".tidegate-installed"));
    if stamp.is_file() {
        return Ok(program);
    }
    let _lock = Lock::take()?;
    if stamp.is_file() {
        return Ok(program);
    }
    // An interrupted installation cannot be used.
    if folder.exists() {
        std::fs::remove_dir_all(&folder).doing(|| format!("cannot remove {}", folder.display()))?;
    }
    prepare::run("creating a Python environment", Command::new("python3").args(["-m", "venv"]).arg(&folder), ADVICE)
        .and_then(|()| fetch(&folder, &requirements))
        .map_err(|error| Error::new(format!("the tests of the API's description need schemathesis: {error}")))?;
    std::fs::write(&stamp, wanted).doing(|| format!("cannot write {}", stamp.display()))?;
    Ok(program)
}

fn fetch(folder: &Path, requirements: &Path) -> prepare::Result<()> {
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    // Nothing is built: a package without a wheel for this machine is an error.
    pip.args(["--only-binary", ":all:", "--require-hashes", "--requirement"]).arg(requirements);
    prepare::run(
        "installing schemathesis from PyPI (about 60 MB, half a minute)",
        &mut pip,
        "it needs the network, for PyPI, and Python 3.10 or newer: check both, then start again",
    )
}
