//! The maximum of this machine for the two parts of a relay's work: requests by reqwest, and rows in PostgreSQL.

use std::time::{Duration, Instant};

use harness::error::{Doing as _, Result};
use harness::postgres::Server;
use harness::receiver::Behaviour;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::figure::{Figure, Report};
use crate::options::Options;
use crate::run::count;
use crate::sink::{self, Sink};
use crate::stack::BODY_BYTES;

const REQUESTS_AT_ONCE: usize = 64;
const CONNECTIONS: usize = 4;
const ROWS: usize = 200;

/// Measures both.
///
/// # Errors
/// Returns an error if a part does not start.
pub async fn run(options: Options) -> Result<Report> {
    let time = options.time(10, 2);
    let mut report = Report::new("Ceilings of this machine");
    let what = format!("a bare reqwest loop, {REQUESTS_AT_ONCE} at once, to the receiver of these benchmarks");
    report.figure(Figure::new(what, requests(time).await?, "requests/s"));
    let what = format!("bare inserts of 1 KB events, {ROWS} per transaction, {CONNECTIONS} connections, fsync on");
    report.figure(Figure::new(what, inserts(time).await?, "rows/s"));
    Ok(report)
}

async fn requests(time: Duration) -> Result<f64> {
    let sink = Sink::start(Behaviour::Status(200)).await?;
    let client = harness::api::http_client();
    let begun = Instant::now();
    let senders: Vec<_> = (0..REQUESTS_AT_ONCE)
        .map(|_| {
            let (client, url) = (client.clone(), sink.url());
            tokio::spawn(async move {
                while begun.elapsed() < time {
                    let sent = client.post(&url).body(sink::body(0, 0, BODY_BYTES)).send().await;
                    sent.and_then(reqwest::Response::error_for_status)?.bytes().await?;
                }
                Ok::<(), reqwest::Error>(())
            })
        })
        .collect();
    for sender in senders {
        sender.await.doing(|| "a sender ended".to_owned())?.doing(|| "a request failed".to_owned())?;
    }
    Ok(count(sink.count()) / begun.elapsed().as_secs_f64())
}

async fn inserts(time: Duration) -> Result<f64> {
    let server = Server::start_private().await?;
    let doing = || "cannot insert rows".to_owned();
    let mut connection = PgConnection::connect(&server.url("postgres")).await.doing(doing)?;
    let table = "create table events (id uuid primary key, received_at timestamptz not null default now(), body bytea not null)";
    sqlx::query(table).execute(&mut connection).await.doing(doing)?;
    let begun = Instant::now();
    let writers: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let url = server.url("postgres");
            tokio::spawn(async move {
                let mut connection = PgConnection::connect(&url).await?;
                let bodies = vec![sink::body(0, 0, BODY_BYTES); ROWS];
                let mut rows = 0;
                while begun.elapsed() < time {
                    let insert =
                        "insert into events (id, body) select gen_random_uuid(), body from unnest($1::bytea[]) body";
                    rows += sqlx::query(insert).bind(&bodies).execute(&mut connection).await?.rows_affected();
                }
                Ok::<u64, sqlx::Error>(rows)
            })
        })
        .collect();
    let mut rows = 0;
    for writer in writers {
        rows += writer.await.doing(doing)?.doing(doing)?;
    }
    Ok(count(rows) / begun.elapsed().as_secs_f64())
}
