//! The SDKs, run by Node with `tests/sdk/check.mjs`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use tests::place;
use tests::tools::provider_sdks;

use super::case::{Case, NOW_S, Request};

/// What an SDK is asked to do.
#[derive(Debug, Serialize)]
pub(crate) struct Job<'a> {
    r#do: &'static str,
    provider: &'static str,
    secret: &'a str,
    now_s: u64,
    #[serde(flatten)]
    request: &'a Request,
    keys: &'a BTreeMap<String, String>,
}

/// What it answers.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Signed {
        headers: BTreeMap<String, String>,
        body: String,
    },
    Verified {
        accepted: bool,
        /// What it said when it refused, for people.
        why: String,
    },
}

impl<'a> Job<'a> {
    pub(crate) fn sign(case: &'a Case) -> Self {
        Self::new("sign", case, &case.request, &case.secret)
    }

    pub(crate) fn verify(case: &'a Case, request: &'a Request, secret: &'a str) -> Self {
        Self::new("verify", case, request, secret)
    }

    fn new(r#do: &'static str, case: &'a Case, request: &'a Request, secret: &'a str) -> Self {
        Self { r#do, provider: case.provider, secret, now_s: NOW_S, request, keys: &case.keys }
    }
}

impl Answer {
    pub(crate) fn accepted() -> Self {
        Self::Verified { accepted: true, why: String::new() }
    }
}

/// Has the SDKs do these jobs, in order.
pub(crate) fn run(jobs: &[Job<'_>]) -> Vec<Answer> {
    let folder = provider_sdks().expect("the SDKs are installed");
    let program = place::repository().join("tests/sdk/check.mjs");
    // As text, so that its imports are looked for in the folder that it is run in.
    let program = std::fs::read_to_string(program).expect("reads");
    let mut node = Command::new("node")
        .args(["--no-warnings", "--input-type=module", "--eval", &program])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Node starts");
    let jobs = serde_json::to_vec(jobs).expect("serialises");
    // It reads everything before it writes anything.
    node.stdin.take().expect("is piped").write_all(&jobs).expect("Node reads");
    let output = node.wait_with_output().expect("Node ends");
    assert!(output.status.success(), "check.mjs failed: {}", output.status);
    let answers: Vec<_> = serde_json::from_slice(&output.stdout).expect("answers");
    answers
}
