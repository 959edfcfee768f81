//! The tasks that work for the engine: they write, read and keep the lease. They end after the engine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use engine::{Core, Input, Limits};
use model::settlement::{Next, Settlement};
use model::unix_time;
use store::settle::Settled;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lease::{self, InFlight};
use super::scan::{self, NextScan};
use super::send::Sender;
use super::versions::Versions;
use super::{Machine, Parts, read, report, settle, watch_configuration};
use crate::engine_handle::Handle;

/// How long writing the last reports may take when the engine ends: until the deadline of the shutdown, but at most the
/// first and at least the second of these.
const LAST_REPORTS_WITHIN: Duration = Duration::from_secs(2);
const LAST_REPORTS_AT_LEAST: Duration = Duration::from_millis(200);

/// Starts the tasks that work for the engine.
pub(super) fn start(handle: Handle, parts: Parts, replica: Uuid, leaving: CancellationToken) -> (Machine, Workers) {
    let Parts { intake, egress, tasks, readiness, max_in_flight, max_waiting_bytes, max_in_flight_bytes } = parts;
    let (pool, configuration) = (intake.pool.clone(), Arc::clone(&intake.configuration));
    let evaluator = Arc::clone(&intake.evaluator);
    let in_flight = Arc::new(InFlight::default());
    let (settlements, settle_inbox) = settle::channel();
    let written = settled(handle.clone(), Arc::clone(&in_flight), Arc::clone(&intake.held));
    let settling = tasks.spawn("settle writer", settle::run(pool.clone(), settle_inbox, written));
    let background = CancellationToken::new();
    let next_scan = Arc::new(tokio::sync::Mutex::new(NextScan::default()));
    let (engine, shared) = (handle.clone(), Arc::clone(&in_flight));
    let keeper = lease::Keeper::new(pool.clone(), replica, engine, shared, Arc::clone(&readiness));
    let leasing = {
        let (pool, next, stop) = (pool.clone(), Arc::clone(&next_scan), background.clone());
        tasks.spawn("lease", async move {
            // Until then no shard is owned, so nothing is read that an earlier signal would have cancelled.
            tokio::select! {
                () = scan::begin_signals(&pool, &next) => keeper.run(leaving, stop).await,
                () = stop.cancelled() => {}
            }
        })
    };
    let (reports, report_inbox) = mpsc::unbounded_channel();
    let (engine, shared) = (handle.clone(), Arc::clone(&in_flight));
    let writer = report::Writer { pool: pool.clone(), clock: handle.clock, engine, in_flight: shared };
    let reporting = tasks.spawn("report writer", writer.run(report_inbox));
    let (reads, read_inbox) = mpsc::unbounded_channel();
    let read_inbox = Arc::new(tokio::sync::Mutex::new(read_inbox));
    let mut others = Vec::new();
    for _ in 0..read::AT_ONCE {
        let reader = read::run(pool.clone(), Arc::clone(&read_inbox), handle.clone());
        others.push(tasks.spawn("reader of what is due", reader));
    }
    let watcher = watch_configuration(Arc::clone(&configuration), handle.clone());
    others.push(tasks.spawn("configuration watcher", watcher));
    let limits = Limits::new(max_in_flight, max_waiting_bytes, max_in_flight_bytes);
    let versions = Versions::new(pool.clone());
    let machine = Machine {
        core: Core::new(limits),
        clock: handle.clock,
        handle,
        sender: Arc::new(Sender { pool: pool.clone(), egress, configuration, evaluator, versions }),
        settlements,
        reports,
        reads,
        excerpts: Arc::default(),
        attempts: HashMap::new(),
        in_flight,
        pool,
        intake,
        tasks,
        readiness,
        next_scan,
    };
    (machine, Workers { background, leasing, settling, reporting, others })
}

/// Returns the callback that reports a written batch of settlements to the engine.
fn settled(handle: Handle, in_flight: Arc<InFlight>, held: Arc<Notify>) -> impl Fn(Vec<Settlement>, &Settled) {
    move |batch, done| {
        in_flight.finish(batch.iter().map(|settlement| settlement.shard));
        if batch.iter().any(|settlement| matches!(settlement.next, Next::Held { .. })) {
            held.notify_one();
        }
        let (batch, others): (Vec<_>, Vec<_>) = batch.into_iter().partition(|settlement| done.has(settlement));
        let at_us = done.at.map_or(u64::MAX, unix_time::unix_us);
        handle.tell(Input::Settled { settlements: batch, at_us });
        if !others.is_empty() {
            handle.tell(Input::NotSettled(others));
        }
    }
}

/// The tasks that work for the engine and end after it.
pub(super) struct Workers {
    /// Stops the task that keeps the lease.
    background: CancellationToken,
    leasing: JoinHandle<()>,
    settling: JoinHandle<()>,
    reporting: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Ends the tasks after the engine: everything that was handed to the writers is written, then the lease is no
    /// longer renewed.
    pub(super) async fn end(mut self, stopping: Option<tokio::time::Instant>) {
        let now = tokio::time::Instant::now();
        let until = stopping.unwrap_or(now).clamp(now + LAST_REPORTS_AT_LEAST, now + LAST_REPORTS_WITHIN);
        let writers = async { tokio::join!(&mut self.settling, &mut self.reporting) };
        let _ = tokio::time::timeout_at(until, writers).await;
        if !self.reporting.is_finished() {
            tracing::warn!(
                "the last health reports were not stored in time; the next owners wait one send interval before they \
                 send to rate-limited destinations"
            );
        }
        self.background.cancel();
        let _ = self.leasing.await;
        [self.settling, self.reporting].iter().chain(&self.others).for_each(JoinHandle::abort);
    }
}
