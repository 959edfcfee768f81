//! The database fails under load, in the middle third of the time.

use std::time::{Duration, Instant};

use harness::api::Source;
use harness::error::{Doing as _, Result};
use harness::postgres::Shutdown;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::figure::{Figure, Limit, Report};
use crate::options::Options;
use crate::run::{PATIENCE, Schedule, count};
use crate::stack::Stack;

/// Events per second.
const RATE: f64 = 500.0;

/// The interval between repeated faults.
const STEP: Duration = Duration::from_millis(500);

const KILL_BACKENDS: &str = "select pg_terminate_backend(pid) from pg_stat_activity
                             where datname = current_database() and application_name = 'tidegate-relay'";

/// A transaction that has written and stays idle.
const IDLE: &[&str] = &["begin", "update customers set name = name", "select count(*) from pending_deliveries"];

/// A reader that keeps its snapshot.
const READER: &[&str] = &["begin isolation level repeatable read", "select count(*) from pending_deliveries"];

/// A fault of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Restart,
    CutConnections,
    NoFreeConnection,
    IdleTransaction,
    LongReaders,
    /// The two faults above at once.
    OldSnapshots,
}

impl Fault {
    const SHORT: [Self; 5] =
        [Self::Restart, Self::CutConnections, Self::NoFreeConnection, Self::IdleTransaction, Self::LongReaders];

    fn name(self) -> &'static str {
        match self {
            Self::Restart => "PostgreSQL crashes and stays away",
            Self::CutConnections => "all connections of the relay are cut, twice a second",
            Self::NoFreeConnection => "others take every connection of the server",
            Self::IdleTransaction => "a transaction that has written is left idle",
            Self::LongReaders => "four readers keep a snapshot (REPEATABLE READ)",
            Self::OldSnapshots => "an idle transaction and four readers keep snapshots",
        }
    }
}

/// Measures the short faults, each on a stack of its own.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let rate = options.rate.unwrap_or(RATE);
    let third = options.time(90, 9) / 3;
    let mut report =
        Report::new(format!("Chaos: {rate:.0} events/s, the fault in the middle third of {} s", third.as_secs() * 3));
    for fault in Fault::SHORT {
        measure(fault, rate, [third; 3], &mut report).await?;
    }
    report.note("deliveries per second; after the fault they include the backlog");
    Ok(report)
}

/// Measures the fault that grows with time: while a snapshot is kept, no dead row can be removed.
///
/// # Errors
/// Same as [`run`].
pub async fn run_snapshots(options: Options) -> Result<Report> {
    let rate = options.rate.unwrap_or(RATE);
    let long = options.time(600, 9);
    let mut report =
        Report::new(format!("Old snapshots: {rate:.0} events/s, snapshots that are kept for {} s", long.as_secs()));
    measure(Fault::OldSnapshots, rate, [long / 10, long, long / 10], &mut report).await?;
    Ok(report)
}

async fn measure(fault: Fault, rate: f64, times: [Duration; 3], report: &mut Report) -> Result<()> {
    let mut stack = Stack::start(1).await?;
    let (source, sink) = stack.line("chaos").await?;
    let mut schedule = Schedule::start(rate);
    let mut phases = Vec::new();
    for (phase, time) in times.into_iter().enumerate() {
        let (begun, before) = (Instant::now(), sink.count());
        if phase == 1 {
            disturb(fault, &mut stack, &source, &mut schedule, time).await?;
        } else {
            schedule.run(&stack, &[&source], time).await;
        }
        phases.push(count(sink.count() - before) / begun.elapsed().as_secs_f64());
    }
    stack.settled(&[], PATIENCE).await?;
    let name = fault.name();
    report.figure(Figure::new(format!("{name}: before"), phases[0], "/s"));
    report.figure(Figure::new(format!("{name}: during"), phases[1], "/s"));
    report.figure(Figure::new(format!("{name}: after"), phases[2], "/s").must(Limit::AtLeast(0.9 * rate)));
    let lost = count(schedule.pushed().saturating_sub(sink.different()));
    report.figure(Figure::new(format!("{name}: lost"), lost, "").must(Limit::AtMost(0.0)));
    report.figure(Figure::new(format!("{name}: repeated"), count(sink.count() - sink.different()), ""));
    Ok(())
}

/// Continues the load for `time` while the fault lasts.
async fn disturb(
    fault: Fault,
    stack: &mut Stack,
    source: &Source,
    schedule: &mut Schedule,
    time: Duration,
) -> Result<()> {
    let sources = [source];
    let doing = || format!("cannot make a fault ({})", fault.name());
    match fault {
        Fault::Restart => {
            stack.server.stop(Shutdown::Immediate).await?;
            schedule.run(stack, &sources, time).await;
            stack.server.start().await?;
        }
        Fault::CutConnections => {
            let (mut connection, begun) = (stack.connect().await?, Instant::now());
            while begun.elapsed() < time {
                schedule.run(stack, &sources, STEP).await;
                sqlx::query(KILL_BACKENDS).execute(&mut connection).await.doing(doing)?;
            }
        }
        Fault::NoFreeConnection => {
            let (mut connection, begun) = (stack.connect().await?, Instant::now());
            let mut taken = Vec::new();
            while begun.elapsed() < time {
                while let Ok(connection) = PgConnection::connect(stack.gateway.database.url()).await {
                    taken.push(connection);
                }
                sqlx::query(KILL_BACKENDS).execute(&mut connection).await.doing(doing)?;
                schedule.run(stack, &sources, STEP).await;
            }
        }
        Fault::IdleTransaction => leave_open(&[IDLE], stack, &sources, schedule, time).await?,
        Fault::LongReaders => leave_open(&[READER; 4], stack, &sources, schedule, time).await?,
        Fault::OldSnapshots => {
            leave_open(&[IDLE, READER, READER, READER, READER], stack, &sources, schedule, time).await?;
        }
    }
    Ok(())
}

/// Continues the load for `time` while sessions with an open transaction do nothing.
async fn leave_open(
    sessions: &[&[&'static str]],
    stack: &Stack,
    sources: &[&Source],
    schedule: &mut Schedule,
    time: Duration,
) -> Result<()> {
    let mut open = Vec::new();
    for statements in sessions {
        let mut session = stack.connect().await?;
        for statement in *statements {
            sqlx::query(*statement).execute(&mut session).await.doing(|| format!("cannot run: {statement}"))?;
        }
        open.push(session);
    }
    schedule.run(stack, sources, time).await;
    Ok(())
}
