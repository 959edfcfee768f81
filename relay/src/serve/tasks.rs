//! The tasks of a running relay, in three groups that are stopped one after the other.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::parts::Parts;
use crate::api::server::Patience;
use crate::config::Dashboard;
use crate::control::Control;
use crate::intake::Intake;
use crate::pull::api::Queue;
use crate::pull::handover::Handover;
use crate::pull::{self, Puller, queue_settings};
use crate::supervise::{Group, Supervisor};
use crate::{
    App, api, body_retention, callers, dashboard, deleting, deliver, descriptors, held, history, last_use, operations,
    over_rate, pulse, replay, sync, tail, undecided, unreadable, waiters, waiting,
};

/// How long releasing the shards and closing connections may take after the time for a shutdown has passed.
const CLOSE_WITHIN: Duration = Duration::from_millis(800);

/// The running tasks.
pub(super) struct Tasks {
    /// The tasks that bring in work: the pullers and the background tasks.
    feeding: Group,
    /// The engine and the tasks that work for it.
    delivering: Group,
    engine: JoinHandle<()>,
    stop_engine: oneshot::Sender<std::time::Instant>,
    /// The REST API, which serves requests until the others have ended.
    serving: Group,
}

impl Tasks {
    /// Starts all tasks. `files` is the limit of open files.
    pub(super) fn start(parts: Parts, supervisor: &Supervisor, listener: TcpListener, files: Option<u64>) -> Self {
        let [feeding, delivering, serving] = [(); 3].map(|()| supervisor.group());
        let Parts { app, intake, engine, queues, handover } = parts;
        serve_api(&serving, &app, listener, files);
        // It ends last, because the other tasks change deliveries until they end.
        serving.spawn("announce changes", tail::announce(app.pool.clone(), serving.stop_signal()));
        let (stop_engine, engine_stopped) = oneshot::channel();
        let engine = delivering.spawn("delivery", engine.run(engine_parts(&app, &intake, &delivering), engine_stopped));
        pull(&feeding, &app, &intake, queues, &handover);
        work_in_background(&feeding, &app, &intake);
        Self { feeding, delivering, engine, stop_engine, serving }
    }

    /// Shuts down: nothing new is pulled or sent. Pulled messages are stored and attempts in flight are settled,
    /// concurrently. Then the shards are released and the connections are closed.
    pub(super) async fn drain(self, app: &App) {
        let Self { feeding, delivering, engine, stop_engine, serving } = self;
        tracing::info!(patience_s = app.config.shutdown.as_secs(), "the relay is shutting down");
        let deadline = Instant::now() + app.config.shutdown;
        feeding.stop();
        delivering.stop();
        app.readiness.stopping();
        let _ = stop_engine.send(deadline.into_std());
        if !feeding.stopped(deadline).await {
            tracing::warn!("some messages were not stored in time; they return to the queue");
        }
        if tokio::time::timeout_at(deadline + CLOSE_WITHIN / 2, engine).await.is_err() {
            tracing::warn!(
                "the shards were not released in time; another replica takes them over when the lease expires"
            );
        }
        delivering.abort();
        let close_until = (deadline + CLOSE_WITHIN).min(Instant::now() + CLOSE_WITHIN);
        let closing = async { tokio::join!(serving.stopped(close_until), app.pool.close()) };
        let _ = tokio::time::timeout_at(close_until, closing).await;
        tracing::info!("the relay has stopped");
    }
}

fn serve_api(group: &Group, app: &App, listener: TcpListener, files: Option<u64>) {
    let control = Control::of(app);
    let pages = match app.config.dashboard {
        Dashboard::Off => Router::new(),
        served @ (Dashboard::On | Dashboard::Design) => dashboard::router(control.clone(), served),
    };
    let (router, room) = (api::router(control, pages), descriptors::api_room(files, &app.config));
    let serving = api::server::serve(listener, router, room, Patience::default(), group.stop_signal());
    group.spawn("REST API", serving);
}

fn engine_parts(app: &App, intake: &Intake, group: &Group) -> deliver::Parts {
    deliver::Parts {
        tasks: group.clone(),
        readiness: Arc::clone(&app.readiness),
        intake: intake.clone(),
        egress: app.egress.clone(),
        max_in_flight: app.config.max_in_flight,
        max_waiting_bytes: app.config.max_waiting_bytes,
        max_in_flight_bytes: app.config.max_in_flight_bytes,
    }
}

fn pull(group: &Group, app: &App, intake: &Intake, queues: Vec<Queue>, handover: &Handover) {
    let large_bodies = Arc::new(Semaphore::new(pull::LARGE_BODIES));
    group.spawn_short_task("check of the queues' settings", queue_settings::warn(queues.clone(), group.stop_signal()));
    for queue in queues {
        let puller = Puller {
            queue,
            intake: intake.clone(),
            edge: app.edge.clone(),
            large_bodies: Arc::clone(&large_bodies),
            handover: handover.clone(),
            readiness: Arc::clone(&app.readiness),
        };
        group.spawn("puller", Arc::new(puller).run(app.config.queue.idle, group.stop_signal()));
    }
}

fn work_in_background(group: &Group, app: &App, intake: &Intake) {
    let (app, intake, stop) = (|| app.clone(), || intake.clone(), || group.stop_signal());
    let (pool, wakers) = (|| app().pool, || app().wakers);
    group.spawn("look for work in the background", waiting::run(pool(), wakers(), stop()));
    group.spawn("replays", replay::run(app(), stop()));
    group.spawn("counts of replays", replay::count(app(), stop()));
    group.spawn("deletion of destinations", deleting::run(pool(), wakers(), stop()));
    group.spawn("operations", operations::run(app(), stop()));
    group.spawn("unreadable messages", unreadable::run(app().releaser, stop()));
    group.spawn("undecided deliveries", undecided::run(intake(), wakers(), stop()));
    group.spawn("events of held deliveries", held::run(intake(), stop()));
    group.spawn("events of unusable destinations", held::tell_unusable(intake(), stop()));
    group.spawn("waiting calls", waiters::run(app().waiters, app().tail, stop()));
    group.spawn("last use of tokens", last_use::run(pool(), app().last_use, stop()));
    group.spawn("edge sync", sync::run(app(), stop()));
    group.spawn("pulses for pages", pulse::run(pool(), app().pulse, stop()));
    group.spawn("read changes", tail::run(pool(), app().tail, stop()));
    group.spawn("callers", callers::run(pool(), app().callers, stop()));
    group.spawn("rates of customers", over_rate::run(app(), stop()));
    group.spawn(
        "shorter retention of bodies",
        body_retention::run(pool(), app().config.retention, app().clock, wakers(), stop()),
    );
    group.spawn("history", history::run(pool(), app().config.retention, app().clock, stop()));
}
