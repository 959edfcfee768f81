//! The state of the deployment: which parts of this relay make progress, which replicas there are, what the queues, the
//! database and the edge are like, and how the relay is configured.
//!
//! What another replica has not written to the database is not known here, such as its version.

use std::time::Duration;

use model::unix_time;
use store::leases::SHARDS;
use store::system::{self, BehindRow, DatabaseRow, MOST_BEHIND, ReplicaRow, TableRow};
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::ready::READY_WITHIN;
use super::{Actor, Control, Error, Scope, page, sessions};
use crate::config::ShownSetting;
use crate::history::Retention;
use crate::readiness::{Failing, Parts, QueuePart};
use crate::{mint, readiness};

/// The state of the deployment, as far as this relay knows it.
#[derive(Debug)]
pub struct System {
    /// The version of this relay.
    pub version: &'static str,
    /// The revision of the configuration that this relay works with.
    pub revision: i64,
    /// The parts of this relay and what it depends on, those that fail first.
    pub parts: Vec<Part>,
    pub queues: Vec<Queue>,
    /// `None` if the database does not respond.
    pub stored: Option<Stored>,
}

/// A part of this relay, or a service that it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub name: &'static str,
    pub state: PartState,
    /// What is known of it, in a sentence.
    pub detail: String,
    /// What to do if it fails.
    pub help: Option<Help>,
}

/// The state of a part, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartState {
    /// It does not work.
    Failing,
    /// It works, and something needs attention.
    Degraded,
    Working,
}

/// What to do about a part that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Help {
    pub text: &'static str,
    /// A command that helps to find the cause.
    pub command: &'static str,
}

const DOCTOR: &str = "tidegate doctor";

/// A queue, as this relay pulls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub id: String,
    pub state: PartState,
    /// The last pull of this relay that succeeded.
    pub pulled_at: Option<OffsetDateTime>,
    /// The last pull of this relay that brought messages.
    pub brought_at: Option<OffsetDateTime>,
    /// How long the oldest message of that pull had waited in the queue, in milliseconds.
    pub waited_ms: Option<u64>,
    /// Since when all calls fail, and the error.
    pub failing: Option<(OffsetDateTime, String)>,
}

/// What the database knows.
#[derive(Debug)]
pub struct Stored {
    pub replicas: Vec<Replica>,
    /// The number of all shards, and of those without an owner.
    pub shards: i64,
    pub free_shards: i64,
    /// The number of sources of the deployment.
    pub sources: usize,
    /// Sources whose newest configuration the edge has not confirmed.
    pub behind: Vec<BehindRow>,
    /// Whether there are more of them.
    pub more_behind: bool,
}

/// The database and the sizes of its tables.
#[derive(Debug)]
pub struct Sizes {
    pub database: DatabaseRow,
    /// The largest first.
    pub tables: Vec<Table>,
}

/// A replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub id: Uuid,
    pub is_this: bool,
    pub started_at: OffsetDateTime,
    pub lease_until: OffsetDateTime,
    pub state: ReplicaState,
    pub shards: i64,
    /// Its version; `None` for another replica, because replicas do not write it to the database.
    pub version: Option<&'static str>,
}

/// The state of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    Active,
    /// It shuts down.
    Leaving,
    /// Its lease has ended; the other replicas take its shards.
    Expired,
}

/// A table with its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub row: TableRow,
    /// When the oldest partition may be dropped.
    pub next_drop: Option<Date>,
}

/// The state of the deployment.
///
/// # Errors
/// Returns an error if the actor is bound to a customer. A database that does not respond is a part that fails.
pub async fn show(control: &Control, actor: &Actor) -> Result<System, Error> {
    actor.require(Scope::Read)?;
    actor.require_unbound()?;
    let now = unix_time::timestamp(mint::now_ms());
    let reported = control.readiness.parts();
    let read = tokio::time::timeout(READY_WITHIN, async {
        let clock = (control.clock.is_wrong().await?, control.clock.ahead_ms().await?);
        Ok::<_, store::Error>((clock, stored(control, reported.replica).await?))
    });
    let (stored, database) = match read.await {
        Ok(Ok((clock, stored))) => (Some(stored), clock_part(clock)),
        Ok(Err(error)) => (None, no_database(format!("The database does not respond: {error}."))),
        Err(_) => {
            let within = READY_WITHIN.as_secs();
            (None, no_database(format!("The database did not respond within {within} s.")))
        }
    };
    let snapshot = control.configuration.current();
    let unusable_routes = snapshot.routes.values().filter(|route| route.problem().is_some()).count();
    let mut parts = vec![database];
    parts.extend(parts_of(&reported, control.readiness.edge_failing().as_ref()));
    parts.extend(unusable(snapshot.unusable.len(), unusable_routes));
    parts.sort_by_key(|part| part.state);
    Ok(System {
        version: env!("CARGO_PKG_VERSION"),
        revision: snapshot.version.revision,
        parts,
        queues: reported.queues.iter().map(|queue| queue_of(queue, now)).collect(),
        stored,
    })
}

async fn stored(control: &Control, this: Option<Uuid>) -> store::Result<Stored> {
    let pool = &control.pool;
    let replicas = system::replicas(pool).await?;
    let mut behind = system::behind_edge(pool).await?;
    let most = usize::try_from(MOST_BEHIND).unwrap_or(usize::MAX);
    let more_behind = behind.len() > most;
    behind.truncate(most);
    Ok(Stored {
        replicas: replicas.into_iter().map(|row| replica(row, this)).collect(),
        shards: SHARDS,
        free_shards: system::free_shards(pool).await?,
        sources: control.configuration.current().sources.len(),
        behind,
        more_behind,
    })
}

/// The database and the sizes of its tables. Measuring them costs more than the rest, so callers keep the result for a
/// while.
///
/// # Errors
/// Returns an error if the actor is bound to a customer, or if a query fails.
pub async fn sizes(control: &Control, actor: &Actor) -> Result<Sizes, Error> {
    actor.require(Scope::Read)?;
    actor.require_unbound()?;
    let database = system::database(&control.pool).await?;
    let tables = system::tables(&control.pool).await?;
    Ok(Sizes { database, tables: tables.into_iter().map(|row| table(row, control.config.retention)).collect() })
}

fn replica(row: ReplicaRow, this: Option<Uuid>) -> Replica {
    let is_this = this == Some(row.id);
    Replica {
        id: row.id,
        is_this,
        started_at: row.started_at,
        lease_until: row.expires_at,
        state: match (row.has_expired, row.leaving) {
            (true, _) => ReplicaState::Expired,
            (false, true) => ReplicaState::Leaving,
            (false, false) => ReplicaState::Active,
        },
        shards: row.shards,
        version: is_this.then_some(env!("CARGO_PKG_VERSION")),
    }
}

fn table(row: TableRow, retention: Retention) -> Table {
    let next_drop = row.history.zip(row.oldest).and_then(|(table, oldest)| retention.dropped_on(table, oldest));
    Table { row, next_drop }
}

fn working(name: &'static str, detail: String) -> Part {
    Part { name, state: PartState::Working, detail, help: None }
}

fn no_database(detail: String) -> Part {
    let help = Help {
        text: "Check that PostgreSQL runs and that the relay can reach it. Webhooks are still accepted: the edge queues \
               them, and nothing is lost.",
        command: DOCTOR,
    };
    Part { name: "Database", state: PartState::Failing, detail, help: Some(help) }
}

/// The database and its clock: whether they differ too much, and how far this relay's clock is ahead.
fn clock_part((wrong, ahead_ms): (Option<String>, i64)) -> Part {
    match wrong {
        None => working("Database", format!("It responds. This relay's clock is {ahead_ms} ms ahead of it.")),
        Some(wrong) => Part {
            name: "Database",
            state: PartState::Failing,
            detail: format!("Nothing is pulled and no history is dropped: {wrong}."),
            help: Some(Help { text: "Synchronise the clocks of the relay and of the database.", command: DOCTOR }),
        },
    }
}

/// The parts that report by themselves.
fn parts_of(reported: &Parts, edge: Option<&Failing>) -> Vec<Part> {
    let restart = Help {
        text: "Restart this relay; another replica takes over its work. Its log has the cause.",
        command: "tidegate doctor",
    };
    let overdue = |name, is_overdue: bool, since: Duration, bad: &str, good: String| match is_overdue {
        true => Part {
            name,
            state: PartState::Failing,
            detail: format!("{bad} for {} s.", since.as_secs()),
            help: Some(restart),
        },
        false => working(name, good),
    };
    let mut parts = vec![
        overdue(
            "Delivery engine",
            reported.engine_is_overdue,
            reported.engine,
            "It has made no progress",
            "It makes progress.".to_owned(),
        ),
        overdue(
            "Lease",
            reported.lease_is_overdue,
            reported.lease,
            "The relay has not renewed its lease, so it sends nothing,",
            format!("It was renewed {} s ago.", reported.lease.as_secs()),
        ),
    ];
    parts.push(tasks(reported, restart));
    parts.push(queue_part(&reported.queues));
    parts.push(match edge {
        None => working("Edge", "Calls to the edge succeed.".to_owned()),
        Some(failing) => Part {
            name: "Edge",
            state: PartState::Degraded,
            detail: format!(
                "All calls have failed for {} s: {}. Changes of sources do not become active, and events with large \
                 bodies wait in the queue.",
                failing.since.elapsed().as_secs(),
                failing.error
            ),
            help: Some(Help {
                text: "Check TIDEGATE_EDGE_URL and TIDEGATE_EDGE_ADMIN_TOKEN, and that the Worker is deployed.",
                command: DOCTOR,
            }),
        },
    });
    parts
}

fn tasks(reported: &Parts, help: Help) -> Part {
    let name = "Background tasks";
    if !reported.failed_tasks.is_empty() {
        let detail = format!("These have failed: {}.", reported.failed_tasks.join(", "));
        return Part { name, state: PartState::Failing, detail, help: Some(help) };
    }
    if reported.is_stopping {
        let detail = "The relay is shutting down.".to_owned();
        return Part { name, state: PartState::Degraded, detail, help: None };
    }
    working(name, "All of them run.".to_owned())
}

fn queue_part(queues: &[QueuePart]) -> Part {
    let name = "Queues";
    let help = Some(Help {
        text: "Acknowledged events wait in the queue. Check the token TIDEGATE_QUEUE_TOKEN and the status of Cloudflare.",
        command: DOCTOR,
    });
    let stuck = queues.iter().filter(|queue| queue.is_stuck).count();
    if stuck > 0 {
        let detail = format!(
            "{stuck} of {} pullers made no progress for more than {} s.",
            queues.len(),
            readiness::PULLER_OVERDUE.as_secs()
        );
        return Part { name, state: PartState::Failing, detail, help };
    }
    match queues.iter().filter_map(|queue| queue.failing.as_ref()).next() {
        Some(failing) => Part {
            name,
            state: PartState::Degraded,
            detail: format!(
                "Calls to the queue API have failed for {} s: {}.",
                failing.since.elapsed().as_secs(),
                failing.error
            ),
            help,
        },
        None => working(name, "Pulls succeed.".to_owned()),
    }
}

/// Destinations and routes that this relay cannot use.
fn unusable(destinations: usize, routes: usize) -> Vec<Part> {
    let part = |name, detail, text, command| Part {
        name,
        state: PartState::Degraded,
        detail,
        help: Some(Help { text, command }),
    };
    let mut parts = Vec::new();
    if destinations > 0 {
        parts.push(part(
            "Destinations",
            format!("{destinations} cannot be used, for example because no key decrypts their secrets."),
            "The list of destinations names the reason of each. Their deliveries are held.",
            "tidegate destination list",
        ));
    }
    if routes > 0 {
        parts.push(part(
            "Routes",
            format!("{routes} have an expression that this relay cannot evaluate."),
            "The list of routes names the reason of each. Their deliveries are held.",
            "tidegate route list",
        ));
    }
    parts
}

fn queue_of(queue: &QueuePart, now: OffsetDateTime) -> Queue {
    let at = |ago: Duration| now - ago;
    Queue {
        id: queue.id.clone(),
        state: match (queue.is_stuck, &queue.failing) {
            (true, _) => PartState::Failing,
            (false, Some(_)) => PartState::Degraded,
            (false, None) => PartState::Working,
        },
        pulled_at: queue.pulled.map(at),
        brought_at: queue.brought.map(at),
        waited_ms: queue.waited_ms,
        failing: queue.failing.as_ref().map(|failing| (at(failing.since.elapsed()), failing.error.clone())),
    }
}

/// The settings of this relay; of a secret only whether it is set.
///
/// # Errors
/// Returns an error if the actor may not administer the deployment.
pub fn settings<'c>(control: &'c Control, actor: &Actor) -> Result<&'c [ShownSetting], Error> {
    actor.require(Scope::Admin)?;
    actor.require_unbound()?;
    Ok(&control.config.shown)
}

/// Limits that are met in daily work. `docs/LIMITS.md` has all of them.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_body_bytes: u64,
    pub max_in_flight: usize,
    pub max_waiting_bytes: usize,
    pub max_in_flight_bytes: usize,
    pub database_connections: u32,
    pub requests_per_minute: u32,
    /// The sessions of one token or user.
    pub sessions: i64,
    pub session_ms: u64,
    /// The rows of a page of a list.
    pub page: u32,
}

/// Limits that are met in daily work.
///
/// # Errors
/// Returns an error if the actor is bound to a customer.
pub fn limits(control: &Control, actor: &Actor) -> Result<Limits, Error> {
    actor.require(Scope::Read)?;
    actor.require_unbound()?;
    let config = &control.config;
    Ok(Limits {
        max_body_bytes: config.max_body_bytes,
        max_in_flight: config.max_in_flight,
        max_waiting_bytes: config.max_waiting_bytes,
        max_in_flight_bytes: config.max_in_flight_bytes,
        database_connections: config.database_connections,
        requests_per_minute: config.api_requests_per_minute,
        sessions: sessions::MAX_SESSIONS,
        session_ms: u64::try_from(sessions::LIFETIME.as_millis()).unwrap_or(u64::MAX),
        page: page::MAX_LIMIT,
    })
}

/// How long changes are kept, which streams continue.
pub const CHANGES_KEPT_DAYS: u16 = store::changes::KEPT_DAYS;

/// How long history is kept, in days.
///
/// # Errors
/// Returns an error if the actor may not read.
pub fn retention(control: &Control, actor: &Actor) -> Result<Retention, Error> {
    actor.require(Scope::Read)?;
    Ok(control.config.retention)
}

/// How people sign in.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// The URL under which browsers reach the relay; `None` if it is not configured.
    pub public_url: Option<String>,
    /// The number of root tokens.
    pub root_tokens: usize,
    pub provider: Option<Provider>,
}

/// The OpenID Connect provider, without its secret.
#[derive(Debug, Clone)]
pub struct Provider {
    pub issuer: String,
    pub client_id: String,
    pub has_client_secret: bool,
    /// What is requested in addition to `openid`.
    pub scopes: Vec<String>,
    pub groups_claim: String,
    /// Each group with what its users may do.
    pub groups: Vec<(String, Vec<Scope>)>,
    /// Where the provider sends the browser back.
    pub redirect_uri: String,
}

/// How people sign in.
///
/// # Errors
/// Returns an error if the actor may not administer the deployment.
pub fn sign_in(control: &Control, actor: &Actor) -> Result<SignIn, Error> {
    actor.require(Scope::Admin)?;
    actor.require_unbound()?;
    let config = &control.config;
    let provider = config.oidc.as_ref().map(|oidc| Provider {
        issuer: oidc.issuer.clone(),
        client_id: oidc.client_id.clone(),
        has_client_secret: oidc.client_secret.is_some(),
        scopes: oidc.scopes.clone(),
        groups_claim: oidc.groups_claim.clone(),
        groups: oidc.groups.iter().map(|group| (group.name.clone(), group.scopes.clone())).collect(),
        redirect_uri: oidc.public_url.join(super::sign_in::CALLBACK).map(String::from).unwrap_or_default(),
    });
    Ok(SignIn {
        public_url: config.public_url.as_ref().map(|url| url.origin().ascii_serialization()),
        root_tokens: config.admin_tokens.len(),
        provider,
    })
}

#[cfg(test)]
mod tests {
    use time::macros::{date, datetime};

    use super::*;
    use crate::moment::Moment;

    fn reported() -> Parts {
        Parts {
            engine: Duration::ZERO,
            engine_is_overdue: false,
            lease: Duration::from_secs(2),
            lease_is_overdue: false,
            replica: None,
            failed_tasks: Vec::new(),
            is_stopping: false,
            queues: Vec::new(),
        }
    }

    fn bad(reported: &Parts, edge: Option<&Failing>) -> Vec<(&'static str, PartState)> {
        let parts = parts_of(reported, edge).into_iter();
        parts.filter(|part| part.state != PartState::Working).map(|part| (part.name, part.state)).collect()
    }

    #[test]
    fn a_part_that_makes_no_progress_fails_and_says_what_to_do() {
        assert_eq!(bad(&reported(), None), []);
        let slow = Parts { engine_is_overdue: true, engine: Duration::from_secs(20), ..reported() };
        assert_eq!(bad(&slow, None), [("Delivery engine", PartState::Failing)]);
        let part = &parts_of(&slow, None)[0];
        assert!(part.detail.contains("20 s") && part.help.is_some(), "{part:?}");
        let broken = Parts { failed_tasks: vec!["pull"], lease_is_overdue: true, ..reported() };
        assert_eq!(bad(&broken, None), [("Lease", PartState::Failing), ("Background tasks", PartState::Failing)]);
    }

    #[test]
    fn an_upstream_that_fails_is_degraded_because_no_replica_can_mend_it() {
        let failing = Failing { since: Moment::now(), error: "status 503".to_owned() };
        assert_eq!(bad(&reported(), Some(&failing)), [("Edge", PartState::Degraded)]);
        let queue = |is_stuck| QueuePart {
            id: "q1".to_owned(),
            pulled: None,
            brought: None,
            waited_ms: None,
            failing: Some(failing.clone()),
            is_stuck,
        };
        let with = |is_stuck| Parts { queues: vec![queue(is_stuck)], ..reported() };
        assert_eq!(bad(&with(false), None), [("Queues", PartState::Degraded)]);
        assert_eq!(bad(&with(true), None), [("Queues", PartState::Failing)]);
        assert_eq!(queue_of(&queue(false), datetime!(2026-01-31 08:00 UTC)).state, PartState::Degraded);
    }

    #[test]
    fn the_worst_state_is_the_first() {
        let mut states = [PartState::Working, PartState::Failing, PartState::Degraded];
        states.sort_unstable();
        assert_eq!(states, [PartState::Failing, PartState::Degraded, PartState::Working]);
    }

    #[test]
    fn only_the_version_of_this_replica_is_known() {
        let row = |id| ReplicaRow {
            id: Uuid::from_u128(id),
            started_at: datetime!(2026-01-31 08:00 UTC),
            expires_at: datetime!(2026-01-31 08:10 UTC),
            has_expired: id == 2,
            leaving: id == 3,
            shards: 4,
        };
        let this = Some(Uuid::from_u128(1));
        let seen = [1, 2, 3].map(|id| replica(row(id), this));
        assert_eq!(seen.clone().map(|replica| replica.version.is_some()), [true, false, false]);
        let states = [ReplicaState::Active, ReplicaState::Expired, ReplicaState::Leaving];
        assert_eq!(seen.map(|replica| replica.state), states);
    }

    #[test]
    fn the_next_drop_of_a_table_follows_from_its_oldest_partition() {
        let row = |history, oldest| TableRow {
            name: "events".to_owned(),
            history,
            bytes: 1,
            rows: None,
            partitions: 3,
            detached: 0,
            oldest,
            newest: oldest,
        };
        let retention = Retention { body_days: 30, metadata_days: 90, dedupe_days: 3 };
        let oldest = Some(date!(2026 - 01 - 01));
        let events = table(row(Some(store::partitions::Table::Events), oldest), retention);
        assert_eq!(events.next_drop, Some(date!(2026 - 04 - 03)));
        assert_eq!(table(row(None, None), retention).next_drop, None);
    }
}
