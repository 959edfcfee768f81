//! Calls that await jobs: their latency through the whole while a relay is killed, and their memory.

use std::time::{Duration, Instant};

use harness::api::{Api, Reply, Source, http_client};
use harness::error::{Doing as _, Error, Result};
use harness::gateway::Gateway;
use harness::provider::{Provider, now_s};
use harness::relay::Relay;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::figure::{Figure, Limit, Report};
use crate::machine;
use crate::options::Options;
use crate::run::{count, quantile_ms};
use crate::sink::histogram;

/// The number of jobs. The callbacks of a half of them come before the wait, and those of the others during it.
const JOBS: usize = 2_000;

/// Callbacks per second of the second half.
const RATE: u64 = 200;

/// How many callbacks are sent at one time.
const AT_ONCE: usize = 16;

/// How long a waiter goes on calling before its job counts as lost.
const GIVE_UP: Duration = Duration::from_secs(120);

/// The number of connections whose memory is measured, each of which awaits two jobs.
const CONNECTIONS: usize = 10_000;

/// How long the memory of a relay settles before it is read.
const CALM: Duration = Duration::from_secs(5);

/// Measures latency and memory.
///
/// # Errors
/// Returns an error if a part does not start, or if the system does not report the memory of a process.
pub async fn run(options: Options) -> Result<Report> {
    let jobs = options.pick(JOBS, 100);
    let mut report = Report::new(format!("{jobs} jobs awaited, one of two relays killed meanwhile"));
    latency(&mut report, jobs).await?;
    memory(&mut report, options.pick(CONNECTIONS, 200)).await?;
    Ok(report)
}

async fn latency(report: &mut Report, jobs: usize) -> Result<()> {
    let mut gateway = Gateway::start_bare().await;
    gateway.relay.expect_errors();
    let mut other = Relay::start(gateway.relay.settings().clone().with("TIDEGATE_LISTEN", "127.0.0.1:0")).await?;
    other.expect_errors();
    let provider = Provider::replicate();
    let source = gateway.api.create_source("replicate", &provider).await;
    let half = jobs / 2;
    // Before the wait: the acknowledgement is long past, so these count only as answered or not.
    send_all(&provider, &source, 0..half).await?;
    let relays = [gateway.api.clone(), gateway.api.at(other.url())];
    let mut waiters = JoinSet::new();
    let mut acknowledged: Vec<UnboundedSender<Instant>> = Vec::new();
    for job in 0..jobs {
        let (sender, receiver) = unbounded_channel();
        acknowledged.push(sender);
        waiters.spawn(wait(relays.clone(), job, receiver));
    }
    let client = http_client();
    let mut sends = JoinSet::new();
    for (job, sender) in acknowledged.iter().enumerate().skip(half) {
        if job == half + half / 2 {
            other.kill().await?;
        }
        let request = provider.sign(&name(job), &body(job), now_s());
        let (client, url, sender) = (client.clone(), source.ingest_url.clone(), sender.clone());
        sends.spawn(async move {
            let sent = request.send(&client, &url).await.doing(|| "the edge does not answer".to_owned())?;
            if !sent.status().is_success() {
                return Err(Error::new(format!("the edge answered {}", sent.status())));
            }
            let _ = sender.send(Instant::now());
            Ok(())
        });
        tokio::time::sleep(Duration::from_micros(1_000_000 / RATE)).await;
    }
    while let Some(sent) = sends.join_next().await {
        sent.doing(|| "a callback was not sent".to_owned())??;
    }
    let (mut before, mut during, mut lost, mut again) = (0, histogram(), 0, 0);
    while let Some(waited) = waiters.join_next().await {
        let Waited { job, latency, calls } = waited.doing(|| "a waiter ended".to_owned())?;
        again += calls - 1;
        match latency {
            None => lost += 1,
            Some(_) if job < half => before += 1,
            Some(latency) => {
                let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                during.saturating_record(us.max(1));
            }
        }
    }
    report.figure(Figure::new("jobs without their end", count(lost), "").must(Limit::AtMost(0.0)));
    report.figure(Figure::new("answered from the store", count(before), ""));
    for (quantile, of) in [("p50", 0.5), ("p99", 0.99)] {
        let what = format!("{quantile} from the edge's acknowledgement to the answer");
        report.figure(Figure::new(what, quantile_ms(&during, of), "ms"));
    }
    report.note(format!(
        "{} jobs were answered during the wait; waiters called again {again} times, most of them because their relay was \
         killed. A wait includes the pull of the queue",
        during.len()
    ));
    Ok(())
}

async fn send_all(provider: &Provider, source: &Source, jobs: std::ops::Range<usize>) -> Result<()> {
    let client = http_client();
    let jobs: Vec<usize> = jobs.collect();
    for some in jobs.chunks(AT_ONCE) {
        let mut sends = JoinSet::new();
        for job in some {
            let request = provider.sign(&name(*job), &body(*job), now_s());
            let (client, url) = (client.clone(), source.ingest_url.clone());
            sends.spawn(async move { request.send(&client, &url).await });
        }
        while let Some(sent) = sends.join_next().await {
            sent.doing(|| "a callback was not sent".to_owned())?.doing(|| "the edge does not answer".to_owned())?;
        }
    }
    Ok(())
}

fn name(job: usize) -> String {
    format!("job-{job}")
}

fn body(job: usize) -> Vec<u8> {
    json!({ "id": name(job), "status": "succeeded", "output": ["https://replicate.delivery/a.png"] })
        .to_string()
        .into_bytes()
}

/// How a wait ended.
struct Waited {
    job: usize,
    /// From the acknowledgement of the edge; `None` if the job has no end in time.
    latency: Option<Duration>,
    calls: u64,
}

/// Calls until the job has ended, at the other relay if one does not answer.
async fn wait(relays: [Api; 2], job: usize, mut acknowledged: UnboundedReceiver<Instant>) -> Waited {
    let path = format!("/v1/await/replicate/{}", name(job));
    let (begun, mut calls) = (Instant::now(), 0);
    while begun.elapsed() < GIVE_UP {
        let relay = &relays[(job + calls) % relays.len()];
        calls += 1;
        match relay.try_call(Method::GET, &path, None).await {
            Ok(Reply { status: 200, body, .. }) if is_end(&body, job) => {
                let answered = Instant::now();
                // A callback that came before the wait is not timed.
                let at = acknowledged.try_recv().unwrap_or(answered);
                let latency = Some(answered.saturating_duration_since(at));
                return Waited { job, latency, calls: calls as u64 };
            }
            Ok(Reply { status: 204, .. }) => {}
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    Waited { job, latency: None, calls: calls as u64 }
}

fn is_end(body: &Value, job: usize) -> bool {
    body["terminal"] == true && body["key"] == name(job).as_str()
}

/// Measures the memory of waiting connections, two jobs each.
async fn memory(report: &mut Report, connections: usize) -> Result<()> {
    let gateway = Gateway::relay_only().await;
    gateway.api.create_source("replicate", &Provider::replicate()).await;
    let address = gateway.relay.url().trim_start_matches("http://").to_owned();
    let tokens = [
        gateway.api.create_token(&["read"], None, json!({})).await,
        gateway.api.create_token(&["read"], None, json!({})).await,
    ];
    let before = resident(&gateway.relay)?;
    let mut open = Vec::new();
    for number in 0..connections {
        let jobs = [0, 1].map(|other| json!({ "source": "replicate", "key": format!("job-{number}-{other}") }));
        let body = json!({ "any_of": jobs, "timeout_s": 55 }).to_string();
        let token = tokens[number % tokens.len()]["token"].as_str().unwrap_or_default();
        let request = format!(
            "POST /v1/await HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = TcpStream::connect(&address).await.doing(|| "cannot connect".to_owned())?;
        socket.write_all(request.as_bytes()).await.doing(|| "cannot send".to_owned())?;
        open.push(socket);
    }
    tokio::time::sleep(CALM).await;
    let after = resident(&gateway.relay)?;
    let active = active_connections(&gateway.database).await?;
    let mut answered = 0_u64;
    for socket in &open {
        let mut first = [0; 1];
        answered += u64::from(socket.try_read(&mut first).is_ok());
    }
    let each = count(after.saturating_sub(before)) / count(connections as u64);
    report.figure(
        Figure::new("waiting connections that were answered or closed", count(answered), "").must(Limit::AtMost(0.0)),
    );
    report.figure(Figure::new("resident memory per waiting connection, with two jobs", each, "KiB"));
    report.figure(Figure::new("statements that run in the database meanwhile", count(active.unsigned_abs()), ""));
    report.note(format!(
        "{connections} connections await {} jobs; the relay has {:.0} MB before and {:.0} MB with them",
        2 * connections,
        count(before) / 1_024.0,
        count(after) / 1_024.0
    ));
    Ok(())
}

fn resident(relay: &Relay) -> Result<u64> {
    machine::memory_kib(relay.id())
        .ok_or_else(|| Error::new("the system does not report the memory of a process".to_owned()))
}

/// The connections to the database that run a statement.
async fn active_connections(database: &harness::postgres::Database) -> Result<i64> {
    let mut connection = database.connect().await?;
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and state = 'active'",
    )
    .fetch_one(&mut connection)
    .await
    .doing(|| "cannot count connections".to_owned())
}
