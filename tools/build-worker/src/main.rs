//! Builds the Worker: compiles the edge to WebAssembly, generates its bindings to JavaScript, optimises the WebAssembly
//! and bundles the JavaScript. `edge/src/entry.js` imports the result, `edge/build/index.js`, which imports
//! `index_bg.wasm`.
//!
//! It calls wasm-bindgen as a library. So there is no separate tool to install, and cargo keeps the library at the
//! version of the edge's own wasm-bindgen, because it cannot link two versions of the part that they share.

mod compile;
mod tools;

use std::path::Path;
use std::process::{Command, ExitCode};

use prepare::{Lock, Result, run, say, worker};
use wasm_bindgen_cli_support::Bindgen;

use tools::Tools;

/// The WebAssembly features that the Worker uses. Each is named: with `--all-features`, wasm-opt would use features
/// that workerd does not support.
const FEATURES: [&str; 8] = [
    "--enable-simd",
    "--enable-mutable-globals",
    "--enable-sign-ext",
    "--enable-nontrapping-float-to-int",
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-reference-types",
    "--enable-exception-handling",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let _lock = Lock::take()?;
    let sources = worker::sources()?;
    if worker::is_current(&sources) {
        say("the Worker is up to date");
        return Ok(());
    }
    let tools = Tools::find()?;
    let compiled = compile::edge()?;
    // An unfinished Worker is not in the folder of the finished one.
    let folder = worker::folder();
    let unfinished = folder.join("unfinished");
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", unfinished.display());
    std::fs::create_dir_all(&unfinished).map_err(failed)?;
    bind(&compiled, &unfinished)?;
    optimise(&tools, &unfinished)?;
    bundle(&tools, &unfinished)?;
    for (from, to) in [("bundle.js", "index.js"), ("optimised.wasm", "index_bg.wasm")] {
        std::fs::rename(unfinished.join(from), folder.join(to)).map_err(failed)?;
    }
    std::fs::remove_dir_all(&unfinished).map_err(failed)?;
    worker::set_current(&sources)
}

/// Generates `index.js` and `index_bg.wasm` from the output of the compiler.
fn bind(compiled: &Path, folder: &Path) -> Result<()> {
    say("binding WebAssembly to JavaScript");
    let bound = || {
        let mut bindgen = Bindgen::new();
        bindgen.input_path(compiled).module(true)?.out_name("index").typescript(false);
        // If WebAssembly traps, `entry.js` restarts it with `__wbg_reset_state`, in the same isolate.
        bindgen.reset_state_function(true).force_enable_abort_handler(true);
        bindgen.generate(folder)
    };
    bound().map_err(|error| format!("{} cannot be bound to JavaScript: {error:#}", compiled.display()))?;
    let file = folder.join("index.js");
    let failed = |error: std::io::Error| format!("cannot change {}: {error}", file.display());
    let script = std::fs::read_to_string(&file).map_err(failed)?;
    // Workers import a compiled module without the proposed keyword `source`.
    std::fs::write(&file, script.replace("import source ", "import ")).map_err(failed)
}

fn optimise(tools: &Tools, folder: &Path) -> Result<()> {
    let mut command = Command::new(&tools.wasm_opt);
    // Keeps the names of functions, for the stack traces of errors.
    command.args(["index_bg.wasm", "-o", "optimised.wasm", "-O3", "--debuginfo"]).args(FEATURES).current_dir(folder);
    run("optimising WebAssembly", &mut command, "see the errors below")
}

fn bundle(tools: &Tools, folder: &Path) -> Result<()> {
    let mut command = Command::new(&tools.esbuild);
    command.args(["index.js", "--bundle", "--minify", "--format=esm", "--outfile=bundle.js"]);
    command.args(["--external:./index_bg.wasm", "--external:cloudflare:*"]).current_dir(folder);
    run("bundling JavaScript", &mut command, "see the errors below")
}
