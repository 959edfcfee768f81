//! Python programs from the Python Package Index, in exactly the versions and with the hashes that a requirements file
//! lists.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use super::installed_once;
use crate::error::{Doing as _, Error, Result};
use crate::place;

/// The advice if there is no Python that can install packages.
const ADVICE: &str =
    "install Python 3.11 or newer with its module venv (Debian: apt-get install python3-venv), then start again";

/// A Python environment with the packages of a requirements file.
struct Environment {
    /// The name of its folder.
    name: &'static str,
    /// The requirements file, as a path from the root of the repository.
    requirements: &'static str,
    /// What is installed and how much it is.
    what: &'static str,
    /// What needs it.
    user: &'static str,
}

/// Returns the path of the program `schemathesis`, with the packages of `tests/openapi/requirements.txt`. Clones of the
/// repository share it.
///
/// # Errors
/// Returns an error if Python is missing, too old or without `venv`, or if the packages cannot be fetched.
pub fn schemathesis() -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf>> = OnceLock::new();
    const ENVIRONMENT: Environment = Environment {
        name: "schemathesis",
        requirements: "tests/openapi/requirements.txt",
        what: "installing schemathesis from PyPI (about 60 MB, half a minute)",
        user: "the tests of the API's description need schemathesis",
    };
    Ok(FOLDER.get_or_init(|| install(&ENVIRONMENT)).clone()?.join("bin/schemathesis"))
}

/// Returns the folder of programs of a Python environment with `openapi-python-client` and what the clients need that it
/// generates: the packages of `tests/clients/requirements.txt`. Clones of the repository share it.
///
/// # Errors
/// Same as [`schemathesis`].
pub fn python_client_generator() -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf>> = OnceLock::new();
    const ENVIRONMENT: Environment = Environment {
        name: "openapi-python-client",
        requirements: "tests/clients/requirements.txt",
        what: "installing openapi-python-client from PyPI (about 80 MB, half a minute)",
        user: "the tests of generated clients need openapi-python-client",
    };
    Ok(FOLDER.get_or_init(|| install(&ENVIRONMENT)).clone()?.join("bin"))
}

fn install(environment: &Environment) -> Result<PathBuf> {
    let requirements = place::repository().join(environment.requirements);
    // Named by the content alone, so that clones share it.
    let listed = std::fs::read(&requirements).doing(|| format!("cannot read {}", requirements.display()))?;
    let wanted = hex::encode(Sha256::digest(listed));
    let name = format!("{}-{}", environment.name, wanted.get(..12).unwrap_or(&wanted));
    let folder = place::cache().join("tools").join(name);
    installed_once(folder, |folder| {
        prepare::run("creating a Python environment", Command::new("python3").args(["-m", "venv"]).arg(folder), ADVICE)
            .and_then(|()| fetch(folder, &requirements, environment.what))
            .map_err(|error| Error::new(format!("{}: {error}", environment.user)))
    })
}

fn fetch(folder: &Path, requirements: &Path, what: &str) -> prepare::Result<()> {
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    // Nothing is built: a package without a wheel for this machine is an error.
    pip.args(["--only-binary", ":all:", "--require-hashes", "--requirement"]).arg(requirements);
    let advice = "it needs the network, for PyPI, and Python 3.11 or newer: check both, then start again";
    prepare::run(what, &mut pip, advice)
}
