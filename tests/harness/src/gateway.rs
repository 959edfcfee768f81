//! Tidegate for a test: all parts that the data passes, or some of them.

mod crowd;
mod customers;
mod edge_stand_in;
mod operational;
mod push;

use std::time::Duration;

use axum::body::Bytes;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use shared::envelope::{Body, EventHeader, Message, Verification, decode, encode_inline, encode_stored};
use shared::header::HeaderList;
use shared::id::{EventId, SourceId};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::api::{Api, Destination, Source};
use crate::edge::{Edge, EdgeSettings, EdgeSource};
use crate::error::Doing as _;
use crate::mint;
use crate::postgres::{Database, Server};
use crate::provider::Provider;
use crate::proxy::Proxy;
use crate::queue::{LocalQueue, Queue};
use crate::receiver::Receiver;
use crate::relay::{Relay, RelaySettings};
use crate::wait::until;

pub use customers::{Owned, Shape};
pub use edge_stand_in::EdgeStandIn;

/// All parts: edge, queue, relay, database. Each field can be used on its own.
///
/// # Panics
/// Its `Drop` panics if the relay logged errors that the test did not expect.
#[derive(Debug)]
pub struct Gateway {
    // Dropped in this order: callers before the services that they call.
    pub relay: Relay,
    pub edge: Edge,
    pub queue: LocalQueue,
    pub api: Api,
    pub database: Database,
}

/// The relay without an edge: events are put into the queue as the edge would put them.
///
/// # Panics
/// Its `Drop` panics if the relay logged errors that the test did not expect.
#[derive(Debug)]
pub struct RelayOnly {
    pub relay: Relay,
    pub queue: LocalQueue,
    pub api: Api,
    pub edge: EdgeStandIn,
    pub database: Database,
}

/// The edge with the local queue and no relay.
#[derive(Debug)]
pub struct EdgeOnly {
    pub edge: Edge,
    pub queue: LocalQueue,
}

/// A source, a destination and a route between them.
#[derive(Debug)]
pub struct Line {
    pub source: Source,
    pub destination: Destination,
    pub receiver: Receiver,
    pub provider: Provider,
}

impl Gateway {
    /// Starts all parts.
    ///
    /// # Panics
    /// Panics if a part is missing or does not start; the message says what to do.
    pub async fn start() -> Self {
        let queue = start_queue().await;
        let (edge, database) = tokio::join!(Edge::start(&queue, EdgeSettings::default()), Database::create());
        Self::start_on(queue, ready(edge), ready(database), |relay| relay).await
    }

    /// Starts all parts, with the edge in a bare workerd, where a test can make KV fail ([`Edge::values`]). There is no
    /// object storage.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn start_bare() -> Self {
        Self::start_bare_with(EdgeSettings::default()).await
    }

    /// Like [`Gateway::start_bare`], with other settings of the edge.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn start_bare_with(settings: EdgeSettings) -> Self {
        Self::start_bare_and(settings, |relay| relay).await
    }

    /// Like [`Gateway::start_bare_with`], with other settings of the relay, too.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn start_bare_and(settings: EdgeSettings, change: impl FnOnce(RelaySettings) -> RelaySettings) -> Self {
        let queue = start_queue().await;
        let (edge, database) = tokio::join!(Edge::start_bare(&queue, settings), Database::create());
        Self::start_on(queue, ready(edge), ready(database), change).await
    }

    async fn start_on(
        queue: LocalQueue,
        edge: Edge,
        database: Database,
        change: impl FnOnce(RelaySettings) -> RelaySettings,
    ) -> Self {
        let settings = RelaySettings::new(database.url(), &queue, edge.url(), edge.admin_token());
        let relay = ready(Relay::start(change(settings)).await);
        Self { api: relay.api(), relay, edge, queue, database }
    }

    /// Starts the relay, its database and a queue, without an edge.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn relay_only() -> RelayOnly {
        Self::relay_only_with(|settings| settings).await
    }

    /// Like [`Gateway::relay_only`], with other settings.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn relay_only_with(change: impl FnOnce(RelaySettings) -> RelaySettings) -> RelayOnly {
        let database = ready(Database::create().await);
        Self::relay_only_on(database, change).await
    }

    /// Like [`Gateway::relay_only`], on a separate server that the test can stop.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn relay_only_on_server(server: &Server) -> RelayOnly {
        Self::relay_only_on_server_with(server, |settings| settings).await
    }

    /// Like [`Gateway::relay_only_on_server`], with other settings.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn relay_only_on_server_with(
        server: &Server,
        change: impl FnOnce(RelaySettings) -> RelaySettings,
    ) -> RelayOnly {
        let database = ready(Database::create_on(server).await);
        Self::relay_only_on(database, change).await
    }

    /// Like [`Gateway::relay_only_on_server_with`], on a database without tables, which the relay migrates.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn relay_only_on_empty_database(
        server: &Server,
        change: impl FnOnce(RelaySettings) -> RelaySettings,
    ) -> RelayOnly {
        let database = ready(Database::create_empty_on(server).await);
        Self::relay_only_on(database, change).await
    }

    /// Like [`Gateway::relay_only`], with a proxy between the relay and its database.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn relay_only_by_proxy() -> (RelayOnly, Proxy) {
        Self::relay_only_by_proxy_with(|settings| settings).await
    }

    /// Like [`Gateway::relay_only_by_proxy`], with other settings.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn relay_only_by_proxy_with(change: impl FnOnce(RelaySettings) -> RelaySettings) -> (RelayOnly, Proxy) {
        Self::relay_only_by_proxy_on(ready(Database::create().await), change).await
    }

    /// Like [`Gateway::relay_only_by_proxy_with`], on a separate server.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn relay_only_by_proxy_on_server_with(
        server: &Server,
        change: impl FnOnce(RelaySettings) -> RelaySettings,
    ) -> (RelayOnly, Proxy) {
        Self::relay_only_by_proxy_on(ready(Database::create_on(server).await), change).await
    }

    async fn relay_only_by_proxy_on(
        database: Database,
        change: impl FnOnce(RelaySettings) -> RelaySettings,
    ) -> (RelayOnly, Proxy) {
        let proxy = ready(Proxy::start(ready(database.address())).await.doing(|| "cannot start the proxy".to_owned()));
        let url = ready(database.url_at(proxy.address()));
        let change = |settings: RelaySettings| change(settings.with("DATABASE_URL", &url));
        (Self::relay_only_on(database, change).await, proxy)
    }

    /// Starts the edge with a local queue, without a relay.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn edge_only() -> EdgeOnly {
        Self::edge_only_with(EdgeSettings::default()).await
    }

    /// Like [`Gateway::edge_only`], with other settings.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn edge_only_with(settings: EdgeSettings) -> EdgeOnly {
        let queue = start_queue().await;
        let edge = ready(Edge::start(&queue, settings).await);
        EdgeOnly { edge, queue }
    }

    /// Starts the edge in a bare workerd, where the faults of the local queue reach it, without a relay.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn bare_edge() -> EdgeOnly {
        Self::bare_edge_with(EdgeSettings::default()).await
    }

    /// Like [`Gateway::bare_edge`], with other settings.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn bare_edge_with(settings: EdgeSettings) -> EdgeOnly {
        let queue = start_queue().await;
        let edge = ready(Edge::start_bare(&queue, settings).await);
        EdgeOnly { edge, queue }
    }

    /// The edge that the tests of this process share: each test creates its own sources, and nothing pulls the queue.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn shared_edge() -> &'static EdgeOnly {
        static EDGE: OnceCell<EdgeOnly> = OnceCell::const_new();
        EDGE.get_or_init(|| async {
            // On a runtime that outlives the runtime of the first test.
            let started = tokio::task::spawn_blocking(|| {
                let runtime = ready(Runtime::new().doing(|| "cannot make a runtime".to_owned()));
                let edge = runtime.block_on(Self::edge_only());
                std::mem::forget(runtime);
                edge
            });
            started.await.unwrap_or_else(|error| panic!("{error}"))
        })
        .await
    }

    async fn relay_only_on(database: Database, change: impl FnOnce(RelaySettings) -> RelaySettings) -> RelayOnly {
        let queue = start_queue().await;
        let edge = ready(EdgeStandIn::start().await);
        let settings = RelaySettings::new(database.url(), &queue, &edge.url(), edge.token());
        let relay = ready(Relay::start(change(settings)).await);
        RelayOnly { api: relay.api(), relay, queue, edge, database }
    }

    /// Creates a source of `provider`, a destination and a route.
    pub async fn line(&self, provider: Provider) -> Line {
        line(&self.api, provider, "line").await
    }
}

impl RelayOnly {
    /// Creates a source, a destination and a route; `name` is the name of the source and the destination.
    pub async fn line(&self, name: &str) -> Line {
        line(&self.api, Provider::standard_webhooks(), name).await
    }

    /// Starts another relay on the same database and the same queue.
    ///
    /// # Panics
    /// Same as [`Gateway::start`].
    pub async fn another_relay(&self) -> Relay {
        ready(Relay::start(self.relay.settings().clone().with("TIDEGATE_LISTEN", "127.0.0.1:0")).await)
    }

    /// The number of shards of each owner, by the replica's id, the largest first. Shards without an owner are left
    /// out.
    ///
    /// # Panics
    /// Panics if the query fails.
    pub async fn shares(&self) -> Vec<(String, i64)> {
        let mut connection = ready(self.database.connect().await);
        let shares = sqlx::query_as(
            "select owner::text, count(*) from shards where owner is not null group by owner order by 2 desc, 1",
        )
        .fetch_all(&mut connection)
        .await;
        ready(shares.doing(|| "cannot read the shards".to_owned()))
    }

    /// Waits until `replicas` replicas share all shards fairly, and returns their ids.
    ///
    /// # Panics
    /// Panics after `timeout`.
    pub async fn shared_by(&self, replicas: usize, timeout: Duration) -> Vec<String> {
        until(&format!("the shards to be shared by {replicas}"), timeout, async || {
            let shares = self.shares().await;
            let all: i64 = shares.iter().map(|(_, count)| count).sum();
            let most = shares.first().and_then(|(_, count)| usize::try_from(*count).ok()).unwrap_or_default();
            if shares.len() == replicas && all == 256 && most <= 256_usize.div_ceil(replicas) {
                Ok(shares.into_iter().map(|(owner, _)| owner).collect())
            } else {
                Err(format!("{shares:?}"))
            }
        })
        .await
    }

    /// The id of the replica that owns the shard of a destination; empty if the shard has no owner.
    ///
    /// # Panics
    /// Panics if there is no such destination.
    pub async fn owner_of(&self, destination: &str) -> String {
        let mut connection = ready(self.database.connect().await);
        let owner = sqlx::query_scalar(
            "select coalesce(owner::text, '') from shards join destinations using (shard) where name = $1",
        )
        .bind(destination)
        .fetch_one(&mut connection)
        .await;
        ready(owner.doing(|| format!("cannot read who owns {destination}")))
    }

    /// Puts an event into the queue as the edge would. Returns its id, which is greater than those of all events that
    /// were pushed before.
    pub fn push(&self, source: &Source, body: &[u8]) -> EventId {
        self.push_with(source, &[("content-type", "application/json")], body)
    }

    /// Like [`RelayOnly::push`], with the request's headers.
    ///
    /// # Panics
    /// Panics if the source's id cannot be parsed, or if the body does not fit into a message.
    pub fn push_with(&self, source: &Source, headers: &[(&str, &str)], body: &[u8]) -> EventId {
        self.push_request(source, "", headers, body)
    }

    /// Like [`RelayOnly::push_with`], with the query of the request's URL.
    ///
    /// # Panics
    /// Same as [`RelayOnly::push_with`].
    pub fn push_request(&self, source: &Source, query: &str, headers: &[(&str, &str)], body: &[u8]) -> EventId {
        self.push_minted(source, mint::event(), query, headers, body)
    }

    /// Like [`RelayOnly::push_with`], with the time of receipt by the edge's clock, in Unix milliseconds.
    ///
    /// # Panics
    /// Same as [`RelayOnly::push_with`].
    pub fn push_received(
        &self,
        source: &Source,
        received_at_ms: u64,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> EventId {
        self.push_minted(source, (received_at_ms, mint::event_at(received_at_ms)), "", headers, body)
    }

    fn push_minted(
        &self,
        source: &Source,
        (received_at_ms, id): (u64, EventId),
        query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> EventId {
        let source: SourceId = source.id.parse().unwrap_or_else(|error| panic!("{}: {error}", source.id));
        let header = EventHeader {
            id,
            source,
            received_at_ms,
            method: "POST".to_owned(),
            query: query.to_owned(),
            headers: HeaderList::new(headers.iter().copied()),
            verification: Verification::Verified,
        };
        let message = encode_inline(&header, body).unwrap_or_else(|| panic!("the body does not fit into a message"));
        self.queue.push(&message);
        id
    }

    /// Puts events into the queue whose bodies are stored at the edge, as the edge does with large ones: one event for
    /// each of `verifications`, all with the same headers and the same body. Returns their ids, oldest first.
    ///
    /// # Panics
    /// Panics if the source's id cannot be parsed.
    pub fn push_large(
        &self,
        source: &Source,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
        verifications: impl IntoIterator<Item = Verification>,
    ) -> Vec<EventId> {
        self.push_large_leased(source, headers, body, verifications, 0)
    }

    /// Like [`RelayOnly::push_large`], with messages that the queue has already delivered `attempts` times.
    ///
    /// # Panics
    /// Same as [`RelayOnly::push_large`].
    pub fn push_large_leased(
        &self,
        source: &Source,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
        verifications: impl IntoIterator<Item = Verification>,
        attempts: u32,
    ) -> Vec<EventId> {
        let body = body.into();
        let sha256 = hex::encode(Sha256::digest(&body));
        let source: SourceId = source.id.parse().unwrap_or_else(|error| panic!("{}: {error}", source.id));
        let mut ids: Vec<EventId> = Vec::new();
        for verification in verifications {
            let (received_at_ms, id) = mint::event();
            let header = EventHeader {
                id,
                source,
                received_at_ms,
                method: "POST".to_owned(),
                query: String::new(),
                headers: HeaderList::new(headers.iter().copied()),
                verification,
            };
            let key = id.to_string();
            self.edge.store_body(&key, body.clone());
            self.queue.push_leased(&encode_stored(&header, &key, body.len() as u64, &sha256), attempts);
            ids.push(id);
        }
        ids
    }

    /// Waits until all messages in all queues have been acknowledged.
    pub async fn drained(&self, timeout: Duration) {
        drained(&self.queue, timeout).await;
    }
}

impl EdgeOnly {
    /// The events of a source that are in the queue, oldest first.
    #[must_use]
    pub fn events(&self, source: &EdgeSource) -> Vec<(EventHeader, Body)> {
        self.messages()
            .filter_map(|message| match message {
                Message::Event(header, body) if header.source == source.id => Some((header, body)),
                Message::Event(..) | Message::Rejection(_) | Message::Secret(_) => None,
            })
            .collect()
    }

    /// The sealed secrets in the queue that a provider has handed over to a source.
    #[must_use]
    pub fn secrets(&self, source: &EdgeSource) -> Vec<String> {
        self.messages()
            .filter_map(|message| match message {
                Message::Secret(handed_over) if handed_over.source == source.id => Some(handed_over.sealed),
                Message::Event(..) | Message::Rejection(_) | Message::Secret(_) => None,
            })
            .collect()
    }

    /// Waits until the queue has `count` events of a source, and returns them.
    ///
    /// # Panics
    /// Panics after 30 seconds, and if there are more.
    pub async fn wait_for_events(&self, source: &EdgeSource, count: usize) -> Vec<(EventHeader, Body)> {
        let what = format!("{count} events of {} in the queue", source.config.name);
        let events = until(&what, Duration::from_secs(30), async || match self.events(source) {
            events if events.len() >= count => Ok(events),
            events => Err(format!("there are {}", events.len())),
        })
        .await;
        assert_eq!(events.len(), count, "{what}");
        events
    }

    /// Waits until the queue has at least `count` events of a source.
    ///
    /// # Panics
    /// Panics after 30 seconds.
    pub async fn wait_for_at_least(&self, source: &EdgeSource, count: usize) {
        until("more events in the queue", Duration::from_secs(30), async || match self.events(source).len() {
            there if there >= count => Ok(()),
            there => Err(format!("there are {there} of {count}")),
        })
        .await;
    }

    fn messages(&self) -> impl Iterator<Item = Message> {
        self.queue.messages().into_iter().map(|message| {
            decode(&message.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&message.body)))
        })
    }
}

/// Waits until all messages in all queues have been acknowledged.
///
/// # Panics
/// Panics after `timeout`.
pub async fn drained(queue: &LocalQueue, timeout: Duration) {
    until("the queue to be drained", timeout, async || match queue.left() {
        0 => Ok(()),
        left => Err(format!("{left} are left; {:?}", queue.counters())),
    })
    .await;
}

async fn line(api: &Api, provider: Provider, name: &str) -> Line {
    let receiver = ready(Receiver::start().await);
    let source = api.create_source(name, &provider).await;
    let destination = api.create_destination(name, &receiver.url(), json!({})).await;
    api.create_route(&source.id, &destination.id, json!({})).await;
    Line { source, destination, receiver, provider }
}

async fn start_queue() -> LocalQueue {
    ready(LocalQueue::start(0, Queue::recipe()).await.doing(|| "cannot start the local queue".to_owned()))
}

#[track_caller]
fn ready<T>(result: crate::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
