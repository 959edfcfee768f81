//! clients: what openapi-typescript and openapi-python-client generate from `/openapi.json` of the running relay works
//! unedited, on the whole gateway.
//!
//! The programs in `tests/clients` use the generated clients, and check types and values themselves.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::gateway::Gateway;
use harness::process::{Process, Signal};
use harness::receiver::{Behaviour, Receiver};
use harness::wait::until;
use harness::{place, tools};

/// How long generating, compiling and using a client may take on a busy machine, each.
const ENDS_WITHIN: Duration = Duration::from_secs(300);

/// The number of events that a program sends.
const EVENTS: usize = 5;

/// Runs a program until it ends, and returns its output.
async fn run(name: &str, command: &mut Command) -> String {
    let mut process = Process::start(name, command, Signal::Term).expect("starts");
    let status = until(name, ENDS_WITHIN, async || process.ended().ok_or_else(|| process.tail(5))).await;
    assert!(status.success(), "{name} ended with {status}:\n{}", process.log());
    process.log()
}

/// Copies files of `tests/clients` into a new folder.
fn folder_with(files: &[&str]) -> PathBuf {
    let folder = place::temporary("client").expect("a folder");
    for file in files {
        let from = place::repository().join("tests/clients").join(file);
        std::fs::copy(from, folder.join(file)).expect("is copied");
    }
    folder
}

/// Uses the API with a program, and checks what has arrived at the destination.
async fn used(gateway: &Gateway, name: &str, program: &mut Command) {
    let receiver = Receiver::start().await.expect("starts");
    // The program retries the delivery that this answer ends.
    receiver.next([Behaviour::Status(500)]);
    program
        .env("RELAY", gateway.relay.url())
        .env("TOKEN", gateway.relay.token())
        .env("DESTINATION_URL", receiver.url());
    let printed = run(name, program).await;
    assert!(printed.contains("all calls have succeeded"), "{printed}");
    let ids: HashSet<String> = receiver.ids();
    assert_eq!((receiver.count(), ids.len()), (2 * EVENTS + 1, EVENTS), "each event, the retry, and the replay");
}

fn description_of(gateway: &Gateway) -> String {
    format!("{}/openapi.json", gateway.relay.url())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_typescript_is_generated_compiles_strictly_and_works_unedited() {
    let packages = tools::blocking(tools::typescript_client_generator).await.unwrap_or_else(|error| panic!("{error}"));
    let packages = packages.join("node_modules");
    let gateway = Gateway::start().await;
    let folder = folder_with(&["program.ts", "tsconfig.json", "package.json"]);
    std::os::unix::fs::symlink(&packages, folder.join("node_modules")).expect("is linked");
    let node = |script: &str| {
        let mut command = Command::new("node");
        command.arg(packages.join(script)).current_dir(&folder).env("NO_COLOR", "1");
        command
    };
    let mut generate = node("openapi-typescript/bin/cli.js");
    run("openapi-typescript", generate.arg(description_of(&gateway)).args(["--output", "tidegate.d.ts"])).await;
    run("tsc", node("typescript/bin/tsc").args(["--strict", "--project", "."])).await;
    used(&gateway, "program.ts", Command::new("node").arg("program.js").current_dir(&folder)).await;
    remove(&folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_python_is_generated_without_a_warning_and_works_unedited() {
    let programs = tools::blocking(tools::python_client_generator).await.unwrap_or_else(|error| panic!("{error}"));
    let gateway = Gateway::start().await;
    let folder = folder_with(&["program.py"]);
    let python = |program: &str| {
        let mut command = Command::new(programs.join(program));
        command
            .current_dir(&folder)
            .env("PATH", path_with(&programs))
            .env("NO_COLOR", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    let mut generate = python("openapi-python-client");
    generate.args(["generate", "--fail-on-warning", "--meta", "none", "--output-path", "tidegate_client"]);
    run("openapi-python-client", generate.args(["--url", &description_of(&gateway)])).await;
    used(&gateway, "program.py", python("python").arg("program.py")).await;
    remove(&folder);
}

/// The path with a folder before all others. The generator looks for ruff in it, which formats what is generated.
#[expect(clippy::disallowed_methods, reason = "programs are looked for in the developer's path")]
fn path_with(folder: &Path) -> String {
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

fn remove(folder: &Path) {
    std::fs::remove_dir_all(folder).expect("is removed");
}
