//! The parts of a running relay, wired together but not running yet.

use std::num::NonZeroUsize;
use std::sync::Arc;

use egress::{Egress, EgressPolicy, Ports};
use expression::Evaluator;
use store::Pool;

use crate::App;
use crate::config::Config;
use crate::configuration::Configuration;
use crate::deliver::Engine;
use crate::edge::Edge;
use crate::intake::Intake;
use crate::oidc::Oidc;
use crate::pull::api::Queue;
use crate::pull::handover::Handover;
use crate::pulse::Pulse;
use crate::readiness::Readiness;
use crate::supervise::Supervisor;
use crate::tail::Tail;
use crate::unreadable::Releaser;
use crate::wall_clock::WallClock;

/// The maximum number of evaluations of filters and transforms that may wait for a thread.
pub(crate) const EVALUATIONS_WAITING: usize = 4_096;

/// All parts of a relay.
pub(super) struct Parts {
    pub(super) app: App,
    pub(super) intake: Intake,
    pub(super) engine: Engine,
    pub(super) queues: Vec<Queue>,
    pub(super) handover: Handover,
}

impl Parts {
    /// Reads the configuration and wires the parts.
    ///
    /// # Errors
    /// Returns why a part cannot be set up.
    pub(super) async fn new(config: Config, pool: Pool, supervisor: &Supervisor) -> Result<Self, String> {
        let configuration = Configuration::load(pool.clone(), config.master_keys.clone())
            .await
            .map_err(|error| format!("could not read the configuration from the database: {error}"))?;
        let edge = Edge::new(&config.edge_url, config.edge_admin_token.reveal()).map_err(|error| error.to_string())?;
        let queues = Queue::all(&config.queue).map_err(|error| error.to_string())?;
        let egress = egress(&config)?;
        let oidc = config.oidc.as_ref().map(Oidc::new).transpose()?.map(Arc::new);
        let (config, configuration, edge_pending) = (Arc::new(config), Arc::new(configuration), Arc::default());
        let engine = Engine::default();
        let intake = Intake {
            pool: pool.clone(),
            configuration: Arc::clone(&configuration),
            evaluator: Arc::new(evaluator()?),
            engine: engine.handle(),
            clock: Arc::new(WallClock::new(pool.clone())),
            dedupe_days: config.retention.dedupe_days.into(),
            days: Arc::default(),
            holding: Arc::default(),
            unreadable_due: Arc::default(),
            held: Arc::default(),
            waiters: Arc::default(),
        };
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
        let app = App {
            config,
            pool,
            configuration,
            readiness: Arc::new(Readiness::new(supervisor.clone(), edge.upstream())),
            edge,
            engine: engine.handle(),
            evaluator: Arc::clone(&intake.evaluator),
            egress,
            edge_pending,
            clock: Arc::clone(&intake.clock),
            releaser,
            waiters: Arc::clone(&intake.waiters),
            wakers: Arc::default(),
            last_use: Arc::default(),
            tail: Tail::default(),
            pulse: Pulse::default(),
            callers: Arc::default(),
            streams: Arc::default(),
            oidc,
        };
        Ok(Self { app, intake, engine, queues, handover })
    }
}

fn egress(config: &Config) -> Result<Egress, String> {
    let policy = EgressPolicy { allow: config.egress_allow.clone(), ports: Ports::default() };
    Egress::new(policy).map_err(|error| error.to_string())
}

fn evaluator() -> Result<Evaluator, String> {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    Evaluator::start(threads, EVALUATIONS_WAITING).map_err(|error| format!("cannot start threads: {error}"))
}
