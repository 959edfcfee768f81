//! The SDKs, run by Node with the programs of `tests/sdk`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use harness::place;
use harness::tools::provider_sdks;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::case::{Case, NOW_S, Request};

/// A job for an SDK.
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

/// The result of signing or verifying.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Signed {
        headers: BTreeMap<String, String>,
        body: String,
    },
    Verified {
        accepted: bool,
        /// The reason for a refusal, for the message of an assertion.
        why: String,
    },
}

/// The result of reading an event.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Reading {
    Refused {
        /// The reason, for the message of an assertion.
        why: String,
    },
    Read {
        /// `None` if the SDK only verifies.
        read: Option<Names>,
    },
}

/// The fields from which an id and a type are built; `None` if the SDK provides none.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Names {
    pub(crate) id: Option<Vec<String>>,
    pub(crate) r#type: Option<Vec<String>>,
}

impl<'a> Job<'a> {
    pub(crate) fn sign(case: &'a Case) -> Self {
        Self::new("sign", case, &case.request, &case.secret)
    }

    pub(crate) fn verify(case: &'a Case, request: &'a Request, secret: &'a str) -> Self {
        Self::new("verify", case, request, secret)
    }

    pub(crate) fn read(case: &'a Case, request: &'a Request) -> Self {
        Self::new("read", case, request, &case.secret)
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

/// Lets the SDKs sign or verify, in the order of the jobs.
pub(crate) fn run(jobs: &[Job<'_>]) -> Vec<Answer> {
    answers_of("check.mjs", jobs)
}

/// Lets the SDKs read events, in the order of the jobs.
pub(crate) fn read(jobs: &[Job<'_>]) -> Vec<Reading> {
    answers_of("read.mjs", jobs)
}

fn answers_of<A: DeserializeOwned>(program: &str, jobs: &[Job<'_>]) -> Vec<A> {
    let folder = provider_sdks().expect("the SDKs are installed");
    let ours = place::repository().join("tests/sdk");
    // Passed as text, so that Node resolves its imports in the folder in which it runs.
    let text = std::fs::read_to_string(ours.join(program)).expect("reads");
    let mut node = Command::new("node")
        .arg("--import")
        .arg(ours.join("clock.mjs"))
        .arg("--import")
        .arg(ours.join("sns.mjs"))
        .args(["--no-warnings", "--input-type=module", "--eval", &text])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Node starts");
    let jobs = serde_json::to_vec(jobs).expect("serialises");
    // The program reads all its input before it writes, so this cannot block.
    node.stdin.take().expect("is piped").write_all(&jobs).expect("Node reads");
    let output = node.wait_with_output().expect("Node ends");
    assert!(output.status.success(), "{program} failed: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("answers")
}
