//! `relay serve`: wires the parts together, runs them, and takes them down within a given time.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::server::Patience;
use crate::config::Config;
use crate::configuration::Configuration;
use crate::deliver::{self, Engine};
use crate::edge::Edge;
use crate::egress::{Egress, EgressPolicy, Ports};
use crate::expression::Evaluator;
use crate::intake::Intake;
use crate::pull::api::Queue;
use crate::pull::handover::Handover;
use crate::pull::{self, Puller, queue_settings};
use crate::store::Pool;
use crate::unreadable::Releaser;
use crate::wall_clock::WallClock;
use crate::{App, api, deleting, descriptors, held, history, replay, store, sync, undecided, unreadable, waiting};

/// How long it may take after a shutdown's time is up to give the shards back and to close connections.
const CLOSE_WITHIN: Duration = Duration::from_millis(800);

/// Evaluations of filters and transforms that may wait for a thread.
pub(crate) const EVALUATIONS_WAITING: usize = 4_096;

/// Runs the relay until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, for a person.
pub async fn serve(config: Config) -> Result<(), String> {
    let files = descriptors::raise();
    if let Some(shortage) = descriptors::shortage(files, &config) {
        tracing::warn!("{shortage}");
    }
    let say = |what: &'static str| move |error: sqlx::Error| format!("{what}: {error}");
    let pool =
        Pool::new(&config.database_url, config.database_connections).map_err(say("DATABASE_URL cannot be used"))?;
    store::migrate(&pool).await.map_err(|error| format!("the database cannot be migrated: {error}"))?;
    history::make_days(&pool).await.map_err(say("the day partitions cannot be made"))?;
    let configuration = Configuration::load(pool.clone(), config.master_keys.clone())
        .await
        .map_err(say("the configuration cannot be read from the database"))?;
    let evaluator =
        Evaluator::start(threads(), EVALUATIONS_WAITING).map_err(|error| format!("cannot start threads: {error}"))?;
    let policy = EgressPolicy { allow: config.egress_allow.clone(), ports: Ports::default() };
    let egress = Egress::new(policy).map_err(|error| error.to_string())?;
    let edge = Edge::new(&config.edge_url, config.edge_admin_token.reveal()).map_err(|error| error.to_string())?;
    let queues = Queue::all(&config.queue).map_err(|error| error.to_string())?;
    let engine = Engine::default();
    let configuration = Arc::new(configuration);
    let clock = Arc::new(WallClock::new(pool.clone()));
    let edge_pending = Arc::default();
    let intake = Intake {
        pool: pool.clone(),
        configuration: Arc::clone(&configuration),
        evaluator: Arc::new(evaluator),
        engine: engine.handle(),
        clock: Arc::clone(&clock),
        dedupe_days: config.retention.dedupe_days.into(),
        days: Arc::default(),
        holding: Arc::default(),
        unreadable_due: Arc::default(),
        parked: Arc::default(),
    };
    let config = Arc::new(config);
    let handover = Handover {
        config: Arc::clone(&config),
        pool: pool.clone(),
        configuration: Arc::clone(&configuration),
        edge: edge.clone(),
        edge_pending: Arc::clone(&edge_pending),
    };
    let releaser = Releaser {
        intake: intake.clone(),
        edge: edge.clone(),
        handover: handover.clone(),
        retention: config.retention,
    };
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        format!(
            "cannot listen on {}: {error}; set TIDEGATE_LISTEN to another address, or stop what uses it",
            config.listen
        )
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;

    let app = App {
        config,
        pool: pool.clone(),
        configuration,
        edge,
        engine: engine.handle(),
        evaluator: Arc::clone(&intake.evaluator),
        egress,
        edge_pending,
        clock,
        releaser: releaser.clone(),
        wakers: Arc::default(),
    };
    let stop = CancellationToken::new();
    let (stop_engine, engine_stopped) = oneshot::channel();
    let stop_serving = CancellationToken::new();

    let http = tokio::spawn({
        let (router, stop) = (api::router(app.clone()), stop_serving.clone());
        api::server::serve(listener, router, descriptors::api_connections(files), Patience::default(), stop)
    });
    let delivering = tokio::spawn(engine.run(
        deliver::Parts {
            intake: intake.clone(),
            egress: app.egress.clone(),
            max_in_flight: app.config.max_in_flight,
            max_waiting_bytes: app.config.max_waiting_bytes,
            max_in_flight_bytes: app.config.max_in_flight_bytes,
        },
        engine_stopped,
    ));
    let mut feeding = tokio::task::JoinSet::new();
    let large_bodies = Arc::new(Semaphore::new(pull::LARGE_BODIES));
    feeding.spawn(queue_settings::warn(queues.clone(), stop.clone()));
    for queue in queues {
        let puller = Puller {
            queue,
            intake: intake.clone(),
            edge: app.edge.clone(),
            large_bodies: Arc::clone(&large_bodies),
            handover: handover.clone(),
        };
        feeding.spawn(Arc::new(puller).run(app.config.queue.idle, stop.clone()));
    }
    feeding.spawn(waiting::run(pool.clone(), Arc::clone(&app.wakers), stop.clone()));
    feeding.spawn(replay::run(app.clone(), stop.clone()));
    feeding.spawn(deleting::run(pool.clone(), Arc::clone(&app.wakers), stop.clone()));
    feeding.spawn(replay::count(app.clone(), stop.clone()));
    feeding.spawn(unreadable::run(releaser, stop.clone()));
    feeding.spawn(undecided::run(intake.clone(), Arc::clone(&app.wakers), stop.clone()));
    feeding.spawn(held::run(intake.clone(), stop.clone()));
    feeding.spawn(held::tell_unusable(intake.clone(), stop.clone()));
    feeding.spawn(sync::run(app.clone(), stop.clone()));
    feeding.spawn(history::run(pool.clone(), app.config.retention, Arc::clone(&app.clock), stop.clone()));

    announce(&format!("relay listening on http://{address}"));
    tracing::info!(%address, edge = %app.config.edge_url, queues = app.config.queue.queue_ids.len(), "relay started");
    signalled().await?;

    // Nothing new comes in or goes out; what has come in is stored and what is in flight is settled, side by side.
    tracing::info!(patience_s = app.config.shutdown.as_secs(), "shutting down");
    let deadline = Instant::now() + app.config.shutdown;
    stop.cancel();
    let _ = stop_engine.send(deadline.into_std());
    let fed = async { while feeding.join_next().await.is_some() {} };
    if tokio::time::timeout_at(deadline, fed).await.is_err() {
        tracing::warn!("some messages were not stored in time; they return to the queue");
        feeding.abort_all();
    }
    if tokio::time::timeout_at(deadline + CLOSE_WITHIN / 2, delivering).await.is_err() {
        tracing::warn!(
            "the shards could not be given back in time; another replica takes them when the lease has expired"
        );
    }
    stop_serving.cancel();
    let closed = async { tokio::join!(http, pool.close()) };
    let _ = tokio::time::timeout_at((deadline + CLOSE_WITHIN).min(Instant::now() + CLOSE_WITHIN), closed).await;
    tracing::info!("relay stopped");
    Ok(())
}

/// The one line on standard output: whoever started the relay reads the address from it.
#[expect(clippy::print_stdout, reason = "the one line that scripts read")]
fn announce(line: &str) {
    println!("{line}");
}

fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

async fn signalled() -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
