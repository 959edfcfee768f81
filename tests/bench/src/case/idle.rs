//! The cost of an idle relay.

use std::time::{Duration, Instant};

use harness::error::{Doing as _, Error, Result};

use super::throughput::WARM_UP;
use crate::figure::{Figure, Limit, Report};
use crate::machine;
use crate::options::Options;
use crate::run::{count, saturate};
use crate::stack::Stack;

/// How long the relay is idle before the measurement: it pulls the empty queue at growing intervals, and PostgreSQL
/// publishes the statements of a connection up to a second late.
const CALM: Duration = Duration::from_secs(10);

/// Measures memory, processor time and queries.
///
/// # Errors
/// Returns an error if a part does not start, or if the system does not report the resources of a process.
pub async fn run(options: Options) -> Result<Report> {
    let stack = Stack::start(1).await?;
    let (source, sink) = stack.line("idle").await?;
    // It has worked before, so memory that it keeps is counted.
    saturate(&stack, &[&source], &[&sink], &[], WARM_UP).await?;
    let idle = measure(&stack, &options).await?;

    let mut report = Report::new("Idle, after some work");
    report.figure(Figure::new("resident memory", idle.memory_mb, "MB").must(Limit::AtMost(60.0)));
    report.figure(Figure::new("processor", idle.processor_percent, "% of a core").must(Limit::AtMost(1.0)));
    report.figure(Figure::new("queries", idle.queries, "/s").must(Limit::AtMost(2.0)));
    report.note(format!("over {:.0} s; queries are the transactions of pg_stat_database", idle.elapsed_s));
    Ok(report)
}

/// The cost of an idle relay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Idle {
    pub memory_mb: f64,
    /// Of one core.
    pub processor_percent: f64,
    /// Per second.
    pub queries: f64,
    /// How long the measurement took.
    pub elapsed_s: f64,
}

/// Measures the relay of a stack that has nothing to do.
///
/// # Errors
/// Returns an error if a query fails, or if the system does not report the resources of a process.
pub async fn measure(stack: &Stack, options: &Options) -> Result<Idle> {
    tokio::time::sleep(options.pick(CALM, Duration::from_secs(3))).await;
    // The transactions of the relays alone; a statement outside of a transaction block counts as one.
    let mut watch = sqlx_connection(stack).await?;
    let mut transactions = async || -> Result<i64> {
        sqlx::query_scalar("select xact_commit + xact_rollback from pg_stat_database where datname = $1")
            .bind(stack.gateway.database.name())
            .fetch_one(&mut watch)
            .await
            .doing(|| "cannot read the statistics".to_owned())
    };
    let relay = stack.gateway.relay.id();
    let processor = || machine::processor_seconds(relay).ok_or_else(|| Error::new("the system does not tell"));
    let (before, used_before, begun) = (transactions().await?, processor()?, Instant::now());
    tokio::time::sleep(options.time(30, 5)).await;
    let (after, used, elapsed) = (transactions().await?, processor()? - used_before, begun.elapsed().as_secs_f64());
    let memory_kib = machine::memory_kib(relay).ok_or_else(|| Error::new("the system does not tell"))?;
    Ok(Idle {
        memory_mb: count(memory_kib) / 1024.0,
        processor_percent: used / elapsed * 100.0,
        queries: count(u64::try_from(after - before).unwrap_or(0)) / elapsed,
        elapsed_s: elapsed,
    })
}

/// Connects to another database of the server, so that the measurement does not count its own queries.
async fn sqlx_connection(stack: &Stack) -> Result<sqlx::postgres::PgConnection> {
    use sqlx::Connection as _;
    let connection = sqlx::postgres::PgConnection::connect(&stack.server.url("postgres")).await;
    connection.doing(|| "cannot connect to PostgreSQL".to_owned())
}
