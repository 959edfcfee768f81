//! The tools from npm.

use std::path::PathBuf;

use prepare::{Result, repository};

/// Their paths.
pub(crate) struct Tools {
    pub(crate) wasm_opt: PathBuf,
    pub(crate) esbuild: PathBuf,
}

impl Tools {
    /// Finds the tools. It does not install them, because a program that calls this one, such as wrangler, may run from
    /// the same folder.
    ///
    /// # Errors
    /// Returns an error if one is not installed.
    pub(crate) fn find() -> Result<Self> {
        let packages = repository().join("node_modules");
        let installed = |path: &str| {
            let tool = packages.join(path);
            if tool.is_file() {
                return Ok(tool);
            }
            Err(format!("{} is not installed; run `npm ci` in {}", tool.display(), repository().display()))
        };
        Ok(Self { wasm_opt: installed("binaryen/bin/wasm-opt")?, esbuild: installed(".bin/esbuild")? })
    }
}
