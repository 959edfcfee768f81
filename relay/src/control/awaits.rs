//! Awaiting jobs: a call waits until an event of a job is stored.
//!
//! A wait looks into the database first, and then each time it is woken ([`crate::waiters`]). It joins the waiters
//! before it looks for the first time, so it does not matter which comes first: the event or the call.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use shared::id::{EventId, SourceId};
use time::OffsetDateTime;
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use self::until::Until;
use super::actor::Who;
use super::await_tokens::Grant;
use super::error::Noun;
use super::fields::{Problems, optional_whole};
use super::{Actor, Control, Error, Scope, name, schema, sources};
use crate::callers::Call;
use crate::configuration::Source;
use crate::intake::routing::LONGEST_NAME_BYTES;
use crate::waiters::{Full, JobAddress, Waiter};

pub use look::{LOOKS_BACK, MAX_EVALUATED};
pub use shown::MAX_SHOWN_BODY_BYTES;
pub use shown::{Answer, AwaitedJob, AwaitedJobs, BodyEncoding, BodyOmitted, Held, JobResult};

mod look;
mod shown;
mod until;

/// The longest time that a call waits, which is also the default. Most proxies end a request that takes a minute.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(55);

/// The most jobs that one call waits for.
pub const MAX_JOBS: usize = 32;

/// How many waiting calls look into the database at one time, so that many that are woken at once leave connections to
/// others.
pub const LOOKS: usize = 4;

/// How long a call waits when the relay is about to stop, so that a client that asks again at once does not ask without
/// pause.
pub const PAUSE_WHEN_STOPPING: Duration = Duration::from_millis(200);

/// A job, by the source of its events.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobReference {
    /// The id or name of the source that receives the events of the job.
    #[schema(value_type = schema::SourceReference)]
    pub source: String,
    /// The key of the job: the provider's id of it, or the value of `job_key` in the `config` of the source.
    #[schema(value_type = schema::JobKey)]
    pub key: String,
}

/// Several jobs to wait for. Exactly one of `any_of` and `all_of` is given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAwait {
    /// Waits for the first of these jobs.
    #[schema(min_items = 1, max_items = 32)]
    pub any_of: Option<Vec<JobReference>>,
    /// Waits for all of these jobs.
    #[schema(min_items = 1, max_items = 32)]
    pub all_of: Option<Vec<JobReference>>,
    /// As for one job.
    #[schema(value_type = Option<schema::AwaitUntil>)]
    pub until: Option<String>,
    /// The longest time to wait, in seconds. Default: 55.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0, maximum = 55)]
    pub timeout_s: Option<i64>,
}

/// Until when a call waits.
#[derive(Debug, Default)]
pub struct Patience {
    /// `any`, `terminal` or an expression; `terminal` if it is omitted.
    pub until: Option<String>,
    pub timeout_s: Option<i64>,
}

/// How many of the jobs have to have an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// There is one job.
    One,
    Any,
    All,
}

/// Who waits.
#[derive(Debug)]
enum Viewer {
    Actor(Box<Actor>),
    /// The holder of an await token.
    Grant,
}

#[derive(Debug)]
struct Job {
    source: Arc<Source>,
    key: Box<str>,
    /// The event that was found.
    found: Option<EventId>,
}

/// A call that waits. It is small, because a relay has thousands of them.
#[derive(Debug)]
pub struct Wait {
    waiter: Waiter,
    jobs: Box<[Job]>,
    mode: Mode,
    until: Until,
    /// Events for which the expression is false.
    refused: HashSet<EventId>,
    ends_at: Instant,
    viewer: Viewer,
    call: Call,
    /// When the await token expires.
    expires_at: Option<Instant>,
}

/// Begins to wait for one job.
///
/// # Errors
/// Returns every invalid field, or an error if there is no such source, if too many calls wait, or if a query fails.
pub async fn one(control: &Control, actor: &Actor, job: JobReference, patience: Patience) -> Result<Wait, Error> {
    actor.require(Scope::Read)?;
    let source = named(control, actor, &job.source).await?;
    begin(control, Accepted::of(control, actor), Mode::One, vec![("", source, job.key)], patience).await
}

/// Begins to wait for several jobs.
///
/// # Errors
/// As [`one`].
pub async fn many(control: &Control, actor: &Actor, new: NewAwait) -> Result<Wait, Error> {
    actor.require(Scope::Read)?;
    let NewAwait { any_of, all_of, until, timeout_s } = new;
    let mut problems = Problems::default();
    let (mode, field, wanted) = match (any_of, all_of) {
        (Some(wanted), None) => (Mode::Any, "any_of", wanted),
        (None, Some(wanted)) => (Mode::All, "all_of", wanted),
        (None, None) | (Some(_), Some(_)) => {
            problems.add("", "exactly one of any_of and all_of must be set");
            (Mode::Any, "any_of", Vec::new())
        }
    };
    if wanted.len() > MAX_JOBS || (wanted.is_empty() && !problems.has_any()) {
        problems.add(field, format!("must have 1 to {MAX_JOBS} jobs"));
    }
    let mut jobs = Vec::new();
    if !problems.has_any() {
        for (number, JobReference { source: text, key }) in wanted.into_iter().enumerate() {
            let found = named(control, actor, &text).await;
            if let Some(source) = problems.named(&format!("{field}[{number}].source"), &text, found)? {
                jobs.push((field, source, key));
            }
        }
    }
    problems.finish()?;
    begin(control, Accepted::of(control, actor), mode, jobs, Patience { until, timeout_s }).await
}

/// Begins to wait for the job of an await token. An expression is refused: it could find out fields that the source
/// does not expose.
///
/// # Errors
/// Returns every invalid field, or an error if the token is for another job, if too many calls wait, or if a query
/// fails.
pub async fn granted(control: &Control, grant: Grant, job: JobReference, patience: Patience) -> Result<Wait, Error> {
    let source = source(control, grant.source).await?.filter(|source| source.customer_id == grant.customer);
    let is_named = |source: &Source| job.source == source.name || job.source.parse() == Ok(source.id);
    let source = source.filter(|source| is_named(source) && job.key == grant.key);
    let source = source.ok_or(Error::NotFound(Noun::Source))?;
    if patience.until.as_deref().is_some_and(|until| !Until::is_plain(until)) {
        let mut problems = Problems::default();
        problems.add("until", "must be any or terminal, because an await token takes no expression");
        problems.finish()?;
    }
    begin(control, Accepted::granted(control, &grant), Mode::One, vec![("", source, job.key)], patience).await
}

/// A caller that was accepted, and begins to wait.
struct Accepted {
    /// Whose waiting calls are counted together.
    token: Uuid,
    viewer: Viewer,
    call: Call,
    /// When the await token expires.
    expires_at: Option<Instant>,
}

impl Accepted {
    fn of(control: &Control, actor: &Actor) -> Self {
        let token = match actor.who() {
            Who::Root => Uuid::nil(),
            Who::Token { id, .. } => id.uuid(),
            Who::Session(session) => session.token_id.map_or(session.id.uuid(), |token| token.uuid()),
        };
        let (viewer, call) = (Viewer::Actor(Box::new(actor.clone())), control.callers.begin(actor.lasting()));
        Self { token, viewer, call, expires_at: None }
    }

    fn granted(control: &Control, grant: &Grant) -> Self {
        let call = control.callers.begin(grant.lasting());
        let expires_at = Instant::now() + grant.left(OffsetDateTime::now_utc());
        Self { token: grant.maker(), viewer: Viewer::Grant, call, expires_at: Some(expires_at) }
    }
}

/// The source of the customer with this id or name. It is read from memory, so that ten thousand calls that begin to
/// wait cost no query for it; the database has those that another replica has just created.
async fn named(control: &Control, actor: &Actor, text: &str) -> Result<Arc<Source>, Error> {
    let customer = actor.customer()?;
    let (id, name) = name::id_or_name::<SourceId>(text);
    let snapshot = control.configuration.current();
    let is_wanted = |source: &&Arc<Source>| {
        source.customer_id == customer && (id == Some(source.id) || name == Some(source.name.as_str()))
    };
    let known = match id {
        Some(id) => snapshot.sources.get(&id).filter(is_wanted),
        None => snapshot.sources.values().find(is_wanted),
    };
    if let Some(source) = known {
        return Ok(Arc::clone(source));
    }
    let row = sources::find(control, actor, text).await?;
    source(control, row.id).await?.ok_or(Error::NotFound(Noun::Source))
}

/// A source as this relay reads its events. The caller has checked whose it is.
async fn source(control: &Control, id: SourceId) -> Result<Option<Arc<Source>>, Error> {
    if let Some(source) = control.configuration.current().sources.get(&id) {
        return Ok(Some(Arc::clone(source)));
    }
    Ok(control.configuration.refresh().await?.sources.get(&id).cloned())
}

async fn begin(
    control: &Control,
    accepted: Accepted,
    mode: Mode,
    jobs: Vec<(&str, Arc<Source>, String)>,
    patience: Patience,
) -> Result<Wait, Error> {
    let Accepted { token, viewer, call, expires_at } = accepted;
    let mut problems = Problems::default();
    let until = Until::read(patience.until, &mut problems).await?;
    let most = i32::try_from(MAX_TIMEOUT.as_secs()).unwrap_or(i32::MAX);
    let timeout_s = patience.timeout_s.unwrap_or(most.into());
    let timeout_s = problems.range("timeout_s", timeout_s, 0, most).unwrap_or_default();
    for (number, (field, source, key)) in jobs.iter().enumerate() {
        let at = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}[{number}].{name}") };
        if key.is_empty() || key.len() > LONGEST_NAME_BYTES {
            problems.add(at("key"), format!("must be 1 to {LONGEST_NAME_BYTES} bytes long"));
        }
        if !source.extractor.as_ref().is_some_and(|extractor| extractor.reads_jobs()) {
            problems.add(
                at("source"),
                "is a source whose events have no job key; set job_key in its config to the place of the job's id",
            );
        } else if until == Until::Terminal && !source.job_rule().is_some_and(|rule| rule.knows_ends()) {
            problems.add(
                "until",
                format!(
                    "cannot be terminal, because the end states of the jobs of source {} are not known; use any, or an \
                     expression such as body.status == 'done'",
                    source.name
                ),
            );
        }
    }
    problems.finish()?;
    if let (Viewer::Actor(actor), true) = (&viewer, until.reads_body()) {
        actor.require(Scope::Bodies)?;
    }
    let addresses = jobs.iter().map(|(_, source, key)| JobAddress::of(source.id, key)).collect();
    let waiter = control.waiters.join(token, addresses).map_err(|full| match full {
        Full::OfToken => Error::TooManyWaiting,
        Full::OfRelay => Error::NoRoomToWait,
    })?;
    let jobs = jobs.into_iter().map(|(_, source, key)| Job { source, key: key.into(), found: None }).collect();
    let ends_at = Instant::now() + Duration::from_secs(timeout_s.unsigned_abs().into());
    Ok(Wait { waiter, jobs, mode, until, refused: HashSet::new(), ends_at, viewer, call, expires_at })
}

impl Wait {
    /// Waits until the wait is over, and looks whenever an event was stored. Returns whether it was found; if not, the
    /// time has passed or the relay is about to stop.
    ///
    /// # Errors
    /// Returns an error if the caller is no longer accepted, or if a query fails.
    pub async fn until_found(&mut self, control: &Control) -> Result<bool, Error> {
        tracing::debug!("a call begins to wait for an event of a job");
        loop {
            match self.woken(self.ends_at).await {
                // Boxed, so that a call that only waits has no room for what a query needs.
                Woken::ByEvent if Box::pin(self.look(control)).await? => return Ok(true),
                Woken::ByEvent => {}
                Woken::ByRefusal => return Err(Error::Unauthenticated),
                Woken::InVain | Woken::ByShutdown => return Ok(false),
            }
        }
    }

    /// Waits for the next event, at most until `until`.
    pub async fn woken(&self, until: Instant) -> Woken {
        let expires_at = self.expires_at.filter(|expires_at| *expires_at <= until);
        let woken = async {
            tokio::select! {
                biased;
                () = self.call.ended() => Woken::ByRefusal,
                is_event = self.waiter.woken() => if is_event { Woken::ByEvent } else { Woken::ByShutdown },
            }
        };
        match tokio::time::timeout_at(expires_at.unwrap_or(until), woken).await {
            Ok(Woken::ByShutdown) => {
                tokio::time::sleep_until(until.min(Instant::now() + PAUSE_WHEN_STOPPING)).await;
                Woken::ByShutdown
            }
            Ok(woken) => woken,
            Err(_) if expires_at.is_some() => Woken::ByRefusal,
            Err(_) => Woken::InVain,
        }
    }

    /// Whether the caller has a session.
    #[must_use]
    pub fn is_of_session(&self) -> bool {
        matches!(&self.viewer, Viewer::Actor(actor) if matches!(actor.who(), Who::Session(_)))
    }

    /// When the wait ends.
    #[must_use]
    pub const fn ends_at(&self) -> Instant {
        self.ends_at
    }
}

/// Why a wait for the next event has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    ByEvent,
    /// The caller is no longer accepted.
    ByRefusal,
    /// The time has passed.
    InVain,
    ByShutdown,
}

#[cfg(test)]
mod tests {
    use store::configuration::SourceRow;

    use super::*;
    use crate::callers::{Caller, Callers};
    use crate::configuration;
    use crate::waiters::Waiters;

    /// The bytes of a call that waits for two jobs with keys of this length, with everything that it has on the heap
    /// and in the map of waiters, but without the source and the actor.
    fn bytes_of_waiting(wait: &Wait, future: usize) -> usize {
        let jobs = size_of_val(&*wait.jobs) + wait.jobs.iter().map(|job| job.key.len()).sum::<usize>();
        // An entry of the map, its list with one waiter (the smallest list has room for four), and the waiter's address.
        let entry = size_of::<(JobAddress, Vec<Arc<()>>)>() + 4 * size_of::<Arc<()>>() + size_of::<JobAddress>();
        let woken = size_of::<tokio::sync::Notify>() + 2 * size_of::<usize>();
        size_of::<Wait>() + future + jobs + 2 * wait.jobs.len() * entry + woken + size_of::<Actor>()
    }

    #[tokio::test]
    async fn a_call_that_waits_takes_less_than_two_kibibytes() {
        let waiters = Arc::new(Waiters::default());
        let source = Arc::new(configuration::source(SourceRow {
            id: SourceId::mint(1, [1; 10]),
            customer_id: store::DEFAULT_CUSTOMER,
            name: "replicate".to_owned(),
            provider: "replicate".to_owned(),
            config: serde_json::Value::Null,
        }));
        let key = "k".repeat(64);
        let job = || Job { source: Arc::clone(&source), key: key.as_str().into(), found: None };
        let addresses: Box<[JobAddress]> = [JobAddress::of(source.id, &key), JobAddress::of(source.id, "b")].into();
        let mut wait = Wait {
            waiter: waiters.join(Uuid::nil(), addresses).expect("joins"),
            jobs: [job(), job()].into(),
            mode: Mode::Any,
            until: Until::Terminal,
            refused: HashSet::new(),
            ends_at: Instant::now(),
            viewer: Viewer::Grant,
            call: Arc::new(Callers::default()).begin(Caller::Root),
            expires_at: None,
        };
        // The size of a future is known without a control layer that it could ask.
        let size_of_future = |_: &mut Wait| {
            fn future_of<'a, F: Future>(_: impl FnOnce(&'a mut Wait, &'a Control) -> F) -> usize {
                size_of::<F>()
            }
            future_of(|wait, control| wait.until_found(control))
        };
        let future = size_of_future(&mut wait);
        let bytes = bytes_of_waiting(&wait, future);
        assert!(bytes <= 2_048, "{bytes} bytes, of which the future has {future}");
    }
}
