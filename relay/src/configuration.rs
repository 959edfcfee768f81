//! The sources, destinations and routes in memory, and when they are read again.
//!
//! Every change of them sets a new [`Version`] in the database. A replica that stores an event compares the version
//! inside the transaction, so that no event is routed by an old configuration. The engine is notified within twice
//! [`POLL`].
//!
//! Versions are compared for equality. Their revision can go back, after a failover to a lagging standby or after a
//! restore. Then the configuration is read from the database again, as after any other change.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::retry;
use expression::{ExpressionError, Filter, OrderKey, Transform};
use http::{HeaderMap, HeaderName, HeaderValue};
use model::destination::{Destination, Rate};
use model::poison::Poison;
use sha2::{Digest as _, Sha256};
use shared::extract::{DedupeKey, Extractor};
use shared::header::HeaderList;
use shared::id::{CustomerId, DestinationId, RouteId, SourceId};
use shared::job::JobRule;
use shared::provider;
use shared::seal::SealingKey;
use shared::source::QuarantineLimits;
use store::Pool;
use store::configuration::Version;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::supervise;
/// How often an idle replica checks whether another replica has changed the configuration.
pub const POLL: Duration = Duration::from_secs(2);

/// How long reading the configuration may take. Callers that wait for it then get an error; it is read again later.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// The provider of the sources that receive operational events: those of their own customer.
pub const OPERATIONAL_PROVIDER: &str = "tidegate";

/// A source as the relay needs it to store and route its events.
#[derive(Debug)]
pub struct Source {
    pub id: SourceId,
    pub customer_id: CustomerId,
    pub name: String,
    /// The input of `extractor`.
    provider: String,
    config: serde_json::Value,
    /// Finds the provider's own id and the event's type; `None` if this relay does not know the provider.
    pub extractor: Option<Extractor>,
    /// The limits on how many of its events that fail verification are kept.
    pub quarantine: QuarantineLimits,
    /// Whether it receives operational events.
    pub is_operational: bool,
    /// The fields of bodies that the holder of an await token sees, as JSON pointers.
    pub exposed: Vec<String>,
}

impl Source {
    /// Whether this row has the same content as the row from which the source was read.
    fn is_read_from(&self, row: &store::configuration::SourceRow) -> bool {
        (self.id, self.customer_id) == (row.id, row.customer_id)
            && self.name == row.name
            && self.provider == row.provider
            && self.config == row.config
    }

    /// The provider's rule for the jobs that its events are about; `None` if it has none.
    #[must_use]
    pub fn job_rule(&self) -> Option<&'static JobRule> {
        provider::find(&self.provider)?.job.as_ref()
    }

    /// The key that the copies of an event share; `None` if the provider supplies no id.
    #[must_use]
    pub fn key(&self, query: &str, headers: &HeaderList, body: &[u8]) -> Option<DedupeKey> {
        self.extractor.as_ref()?.extract(query, headers, body).dedupe_key
    }
}

/// A destination that this relay cannot send to. Its deliveries stay in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    pub customer_id: CustomerId,
    pub name: String,
    /// What is wrong with it. Contains no secret.
    pub reason: String,
    pub updated_at: OffsetDateTime,
}

impl Unusable {
    /// Why its deliveries are held.
    #[must_use]
    pub fn held_reason(&self) -> String {
        format!("this relay cannot send to the destination: {}", self.reason)
    }
}

/// A route with its expressions compiled.
#[derive(Debug)]
pub struct Route {
    pub id: RouteId,
    pub source_id: SourceId,
    pub destination_id: DestinationId,
    /// The types of events that it takes; empty if it takes every event.
    pub types: Vec<String>,
    pub filter: Option<Expression<Filter>>,
    pub transform: Option<Expression<Transform>>,
    /// Deliveries with the same key are sent one after the other.
    pub order_key: Option<Expression<OrderKey>>,
    pub poison: Poison,
    pub enabled: bool,
    /// The version of its transform: each change of the transform increases it. Deliveries refer to the version by
    /// which they were routed.
    pub version: i32,
}

impl Route {
    /// The expressions that this relay cannot evaluate, with the errors; `None` if it can evaluate all of them. The
    /// route's deliveries are held.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let filter = ("filter", self.filter.as_ref().and_then(|filter| filter.compiled.as_ref().err()));
        let transform = ("transform", self.transform.as_ref().and_then(|transform| transform.compiled.as_ref().err()));
        let order_key = ("order_key", self.order_key.as_ref().and_then(|key| key.compiled.as_ref().err()));
        let problems = [filter, transform, order_key].into_iter();
        let problems: Vec<String> =
            problems.filter_map(|(what, error)| error.map(|error| format!("{what}: {error}"))).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }

    /// An expression that does not compile counts as changed, so it is compiled again.
    fn is_same(&self, other: &Self) -> bool {
        let key = |route: &Self| {
            (route.id, route.source_id, route.destination_id, route.poison, route.enabled, route.version)
        };
        key(self) == key(other)
            && self.types == other.types
            && Expression::are_same(self.filter.as_ref(), other.filter.as_ref())
            && Expression::are_same(self.transform.as_ref(), other.transform.as_ref())
            && Expression::are_same(self.order_key.as_ref(), other.order_key.as_ref())
    }
}

/// An expression as it was saved, compiled. It compiled when it was saved. If it does not compile now, because this
/// relay has another version, the deliveries that it would decide about wait for an operator.
#[derive(Debug, Clone)]
pub struct Expression<T> {
    pub source: String,
    pub compiled: Result<T, ExpressionError>,
}

impl<T> Expression<T> {
    fn are_same(one: Option<&Self>, other: Option<&Self>) -> bool {
        match (one, other) {
            (None, None) => true,
            (Some(one), Some(other)) => one.source == other.source && one.compiled.is_ok() && other.compiled.is_ok(),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

/// A SHA-256.
type Digest = [u8; 32];

/// The whole configuration, at one version.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub version: Version,
    pub sources: HashMap<SourceId, Arc<Source>>,
    /// The destinations that this relay can send to. The engine shares them.
    pub destinations: Arc<HashMap<DestinationId, Arc<Destination>>>,
    /// The digests of the rows from which these destinations were read.
    digests: HashMap<DestinationId, Digest>,
    /// The destinations that this relay cannot send to.
    pub unusable: HashMap<DestinationId, Unusable>,
    pub routes: HashMap<RouteId, Arc<Route>>,
    pub routes_of_source: HashMap<SourceId, Vec<Arc<Route>>>,
}

impl Snapshot {
    /// The customer and the name of a destination, usable or not; `None` if there is none.
    #[must_use]
    pub fn customer_and_name(&self, id: DestinationId) -> Option<(CustomerId, &str)> {
        let usable = self.destinations.get(&id).map(|found| (found.customer_id, found.name.as_str()));
        usable.or_else(|| self.unusable.get(&id).map(|found| (found.customer_id, found.name.as_str())))
    }

    /// How long a new delivery to a destination waits for its first attempt. Zero if this relay cannot send there,
    /// because the delivery is held anyway.
    #[must_use]
    pub fn first_wait(&self, id: DestinationId) -> Duration {
        self.destinations.get(&id).map_or(Duration::ZERO, |destination| retry::first_wait(&destination.retry))
    }

    /// The name of a source; empty if there is no such source.
    #[must_use]
    pub fn source_name(&self, id: SourceId) -> &str {
        self.sources.get(&id).map_or("", |source| source.name.as_str())
    }

    /// The ids of the destinations that this relay cannot send to.
    #[must_use]
    pub fn unusable_ids(&self) -> Vec<DestinationId> {
        self.unusable.keys().copied().collect()
    }
}

/// The snapshot of this replica.
pub struct Configuration {
    pool: Pool,
    master_keys: Vec<SealingKey>,
    current: watch::Sender<Arc<Snapshot>>,
    /// The number of reads that have begun.
    begun: AtomicU64,
    /// The number of the last read that succeeded; locked during a read.
    reading: tokio::sync::Mutex<u64>,
    /// When the version was last compared with the database's.
    compared: Mutex<Instant>,
}

impl Configuration {
    /// Reads the configuration for the first time.
    ///
    /// # Errors
    /// Returns an error if the query fails.
    pub async fn load(pool: Pool, master_keys: Vec<SealingKey>) -> store::Result<Self> {
        let snapshot = read(&pool, &master_keys, &Snapshot::default()).await?;
        let (current, _) = watch::channel(Arc::new(snapshot));
        let compared = Mutex::new(Instant::now());
        Ok(Self { pool, master_keys, current, begun: AtomicU64::new(0), reading: tokio::sync::Mutex::new(0), compared })
    }

    /// The newest snapshot this replica has.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow())
    }

    /// Receives every new snapshot.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.subscribe()
    }

    /// Reads again unless the snapshot has this version, which has been committed. The returned snapshot contains that
    /// change, or is newer. Takes at most [`READ_WITHIN`].
    ///
    /// # Errors
    /// Returns an error if the query fails or the database does not answer in time.
    pub async fn after(&self, version: Version) -> store::Result<Arc<Snapshot>> {
        in_time(self.read_unless(version)).await
    }

    /// Like [`Self::after`], for the database's version as it was at `read_at`.
    ///
    /// # Errors
    /// Returns an error if the query fails or the database does not answer in time.
    pub async fn compare(&self, version: Version, read_at: Instant) -> store::Result<Arc<Snapshot>> {
        let snapshot = self.after(version).await?;
        self.note_compared(read_at);
        Ok(snapshot)
    }

    /// How long ago the version was last compared with the database's.
    #[must_use]
    pub fn compared_ago(&self) -> Duration {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn note_compared(&self, read_at: Instant) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        *compared = read_at.max(*compared);
    }

    /// Compares the version with the database's, and reads again if it differs. Takes at most [`READ_WITHIN`].
    ///
    /// # Errors
    /// Returns an error if the query fails or the database does not answer in time.
    pub async fn refresh(&self) -> store::Result<Arc<Snapshot>> {
        let read_at = Instant::now();
        let snapshot =
            in_time(async { self.read_unless(store::configuration::version(&self.pool).await?).await }).await?;
        self.note_compared(read_at);
        Ok(snapshot)
    }

    async fn read_unless(&self, version: Version) -> store::Result<Arc<Snapshot>> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        if self.current().version == version {
            return Ok(self.current());
        }
        let mut last = self.reading.lock().await;
        // A read that began after this call sees everything that was committed before it. So many concurrent changes
        // are read once.
        if *last <= begun_before {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let before = self.current();
            let snapshot = read(&self.pool, &self.master_keys, &before).await?;
            let went_back = snapshot.version != before.version && snapshot.version.revision <= before.version.revision;
            self.current.send_replace(Arc::new(snapshot));
            *last = number;
            if went_back {
                tracing::warn!(
                    revision = self.current().version.revision,
                    before = before.version.revision,
                    "the configuration in the database is older than the one that the relay had in memory, or differs \
                     from it at the same revision, probably after a restore or a failover to a lagging standby; the \
                     one in the database is now active, and the edge is being compared with it"
                );
                if let Err(error) = store::edge_checks::make_all_due(&self.pool, Duration::ZERO).await {
                    tracing::warn!(
                        %error,
                        "could not schedule an immediate comparison with the edge; the regular comparison follows"
                    );
                }
            }
        }
        Ok(self.current())
    }
}

async fn in_time<T>(read: impl Future<Output = store::Result<T>>) -> store::Result<T> {
    tokio::time::timeout(READ_WITHIN, read).await.unwrap_or_else(|_| Err(store::Error::took_longer_than(READ_WITHIN)))
}

async fn read(pool: &Pool, keys: &[SealingKey], before: &Snapshot) -> store::Result<Snapshot> {
    Ok(snapshot(store::configuration::read(pool).await?, keys, before))
}

fn snapshot(rows: store::configuration::Rows, keys: &[SealingKey], before: &Snapshot) -> Snapshot {
    let mut snapshot = Snapshot { version: rows.version, ..Snapshot::default() };
    for row in rows.sources {
        let source = match before.sources.get(&row.id).filter(|before| before.is_read_from(&row)) {
            Some(before) => Arc::clone(before),
            None => Arc::new(source(row)),
        };
        snapshot.sources.insert(source.id, source);
    }
    let mut destinations = HashMap::new();
    for row in rows.destinations {
        let id = row.id;
        let (customer_id, name) = (row.customer_id, row.name.clone());
        let updated_at = row.updated_at;
        // Opening the secrets of all destinations takes far longer than reading their rows, and each change of one
        // destination reads all rows.
        let digest = digest(&row);
        let same = before.destinations.get(&id).filter(|_| before.digests.get(&id) == Some(&digest));
        match same.map_or_else(|| usable(|| destination(row, keys)).map(Arc::new), |same| Ok(Arc::clone(same))) {
            Ok(destination) => {
                destinations.insert(id, destination);
                snapshot.digests.insert(id, digest);
            }
            Err(reason) => {
                let unusable = Unusable { customer_id, name, reason, updated_at };
                if before.unusable.get(&id) != Some(&unusable) {
                    tracing::error!(
                        destination = %id,
                        error = unusable.reason,
                        "a destination is unusable, so its deliveries are held; fix the cause in `error`"
                    );
                }
                snapshot.unusable.insert(id, unusable);
            }
        }
    }
    snapshot.destinations = Arc::new(destinations);
    for row in rows.routes {
        let route = kept(before.routes.get(&row.id), route(row, before), Route::is_same);
        snapshot.routes_of_source.entry(route.source_id).or_default().push(Arc::clone(&route));
        snapshot.routes.insert(route.id, route);
    }
    snapshot
}

/// A digest of everything that a destination is read from. The secrets in the row are sealed.
fn digest(row: &store::configuration::DestinationRow) -> Digest {
    Sha256::digest(format!("{row:?}")).into()
}

/// Returns the previous one if it is the same, so that comparing pointers shows what has changed.
fn kept<T>(before: Option<&Arc<T>>, now: T, is_same: fn(&T, &T) -> bool) -> Arc<T> {
    before.filter(|before| is_same(before, &now)).map_or_else(|| Arc::new(now), Arc::clone)
}

/// A source, from its row.
pub(crate) fn source(row: store::configuration::SourceRow) -> Source {
    let id = row.id;
    let (quarantine, (extractor, exposed)) = read_or_default(id, || {
        let extractor = provider::find(&row.provider).map(|provider| Extractor::new(provider, &row.config));
        (provider::quarantine_limits(&row.config), (extractor, provider::exposed(&row.config)))
    });
    Source {
        id,
        customer_id: row.customer_id,
        name: row.name,
        is_operational: row.provider == OPERATIONAL_PROVIDER,
        quarantine,
        extractor,
        exposed,
        provider: row.provider,
        config: row.config,
    }
}

/// Reads the settings of a source. If that panics, the source is treated like one whose provider this relay does not
/// know: its events are stored and routed, without id and type.
fn read_or_default<T: Default>(source: SourceId, read: impl FnOnce() -> T) -> T {
    supervise::row_now(read).unwrap_or_else(|panic| {
        tracing::error!(
            error = %panic,
            %source,
            "the relay panicked while reading the settings of a source; using defaults"
        );
        T::default()
    })
}

/// A destination, or why it is unusable. A panic makes it unusable too.
fn usable<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    supervise::row_now(read).unwrap_or_else(|panic| Err(panic.to_string()))
}

fn destination(row: store::configuration::DestinationRow, keys: &[SealingKey]) -> Result<Destination, String> {
    let id = row.id;
    let signing_secrets = crate::secrets::open_signing_secrets(keys, id, &row.signing_secrets_sealed)?;
    let mut headers = HeaderMap::new();
    if let Some(sealed) = &row.headers_sealed {
        for (name, value) in crate::secrets::open_headers(keys, id, sealed)? {
            let name: HeaderName = name.parse().map_err(|_| format!("the static header {name} has an invalid name"))?;
            let mut value: HeaderValue =
                value.parse().map_err(|_| format!("the static header {name} has an invalid value"))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
    Ok(Destination {
        id,
        customer_id: row.customer_id,
        name: row.name,
        url: row.url.parse().map_err(|error: url::ParseError| error.to_string())?,
        shard: row.shard,
        signing_secrets,
        headers,
        rate: rate(row.rate_limit, row.rate_per.as_deref()),
        max_concurrency: usize::try_from(row.max_concurrency).map_err(|error| error.to_string())?,
        timeout: Duration::from_millis(u64::try_from(row.timeout_ms).map_err(|error| error.to_string())?),
        retry: serde_json::from_value(row.retry).map_err(|error| error.to_string())?,
        append_query: row.append_query,
        state: row.state,
        state_changed_at: row.state_changed_at,
        moved_at: row.moved_at,
    })
}

/// A rate from its two columns.
#[must_use]
pub fn rate(limit: Option<i32>, per: Option<&str>) -> Option<Rate> {
    let limit = NonZeroU32::new(u32::try_from(limit?).ok()?)?;
    let per = match per? {
        "second" => 1,
        "minute" => 60,
        _ => 3600,
    };
    Some(Rate { limit, per: Duration::from_secs(per) })
}

fn route(row: store::configuration::RouteRow, before: &Snapshot) -> Route {
    let id = row.id;
    let before = before.routes.get(&id);
    Route {
        id,
        source_id: row.source_id,
        destination_id: row.destination_id,
        types: row.types,
        filter: row
            .filter
            .map(|text| compiled(id, text, before.and_then(|route| route.filter.as_ref()), Filter::compile)),
        transform: row
            .transform
            .map(|text| compiled(id, text, before.and_then(|route| route.transform.as_ref()), Transform::compile)),
        order_key: row
            .order_key
            .map(|text| compiled(id, text, before.and_then(|route| route.order_key.as_ref()), OrderKey::compile)),
        poison: row.poison,
        enabled: row.enabled,
        version: row.version,
    }
}

/// Compiles an expression of a route, unless it has not changed. If that panics, the expression cannot be evaluated,
/// like one that does not compile.
fn compiled<T: Clone>(
    route: RouteId,
    source: String,
    before: Option<&Expression<T>>,
    compile: impl Fn(&str) -> Result<T, ExpressionError>,
) -> Expression<T> {
    match before {
        Some(before) if before.source == source && before.compiled.is_ok() => before.clone(),
        Some(_) | None => {
            let compiled = supervise::row_now(|| compile(&source)).unwrap_or_else(|panic| {
                tracing::error!(error = %panic, %route, "the relay panicked while compiling an expression of a route");
                Err(ExpressionError::Internal)
            });
            Expression { compiled, source }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::destination::DestinationState;
    use model::signing::SigningSecrets;
    use shared::sign::SigningSecret;

    use super::*;

    #[test]
    fn a_destination_on_which_the_relay_panics_is_unusable_with_the_reason() {
        let unusable = usable::<()>(|| panic!("its url"));
        assert_eq!(unusable, Err("the relay panicked: its url".to_owned()));
        assert_eq!(usable(|| Ok(7)), Ok(7));
        assert_eq!(usable::<()>(|| Err("no key opens it".to_owned())), Err("no key opens it".to_owned()));
    }

    #[test]
    fn an_expression_whose_compilation_panics_cannot_be_evaluated_and_is_compiled_again() {
        let id = RouteId::mint(1, [1; 10]);
        let broken: Expression<u8> = compiled(id, "true".to_owned(), None, |_| panic!("deep"));
        assert_eq!(broken.compiled, Err(ExpressionError::Internal));
        let again = compiled(id, "true".to_owned(), Some(&broken), |_| Ok(7));
        assert_eq!(again.compiled, Ok(7));
    }

    fn destination_row(number: u8, keys: &[SealingKey]) -> store::configuration::DestinationRow {
        let id = DestinationId::mint(1, [number; 10]);
        let secrets = SigningSecrets::new(SigningSecret::generate_hmac([number; 32]));
        store::configuration::DestinationRow {
            id,
            customer_id: store::DEFAULT_CUSTOMER,
            name: format!("destination-{number}"),
            url: "https://example.com/".to_owned(),
            shard: 1,
            signing_secrets_sealed: crate::secrets::seal_signing_secrets(keys, id, &secrets).expect("seals"),
            headers_sealed: None,
            rate_limit: None,
            rate_per: None,
            max_concurrency: 1,
            timeout_ms: 1_000,
            retry: serde_json::json!({ "schedule_s": [0] }),
            append_query: false,
            state: DestinationState::Active,
            state_changed_at: OffsetDateTime::UNIX_EPOCH,
            moved_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_destination_whose_row_has_not_changed_is_not_read_again() {
        let keys = [SealingKey::parse("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").expect("a key")];
        let rows = |destinations| store::configuration::Rows {
            version: Version::default(),
            sources: Vec::new(),
            destinations,
            routes: Vec::new(),
        };
        let [one, other] = [1, 2].map(|number| destination_row(number, &keys));
        let before = snapshot(rows(vec![one.clone(), other.clone()]), &keys, &Snapshot::default());
        assert_eq!(before.destinations.len(), 2, "{:?}", before.unusable);

        // Another sealing of the same secret is another text.
        let again = destination_row(2, &keys);
        for changed in [store::configuration::DestinationRow { name: "renamed".to_owned(), ..other.clone() }, again] {
            let after = snapshot(rows(vec![one.clone(), changed]), &keys, &before);
            let is_same = |id| Arc::ptr_eq(&before.destinations[&id], &after.destinations[&id]);
            assert!(is_same(one.id) && !is_same(other.id));
            assert!(snapshot(rows(vec![one.clone()]), &keys, &after).destinations.len() == 1, "and it can be deleted");
        }
    }

    #[test]
    fn a_source_whose_row_has_not_changed_is_kept() {
        let id = SourceId::mint(1, [3; 10]);
        let rows = |name: &str, config| store::configuration::Rows {
            version: Version::default(),
            sources: vec![store::configuration::SourceRow {
                id,
                customer_id: store::DEFAULT_CUSTOMER,
                name: name.to_owned(),
                provider: "github".to_owned(),
                config,
            }],
            destinations: Vec::new(),
            routes: Vec::new(),
        };
        let before = snapshot(rows("shop", serde_json::json!({})), &[], &Snapshot::default());
        let is_kept = |rows| Arc::ptr_eq(&before.sources[&id], &snapshot(rows, &[], &before).sources[&id]);
        assert!(is_kept(rows("shop", serde_json::json!({}))));
        assert!(!is_kept(rows("other", serde_json::json!({}))));
        assert!(!is_kept(rows("shop", serde_json::json!({ "on_failure": "quarantine" }))));
    }

    #[test]
    fn a_source_on_which_the_relay_panics_has_defaults() {
        let (limits, extractor) = read_or_default(SourceId::mint(1, [1; 10]), || -> (QuarantineLimits, Option<u8>) {
            panic!("its settings")
        });
        assert_eq!((limits, extractor), (QuarantineLimits::default(), None));
    }
}
