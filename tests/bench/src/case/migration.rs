//! A rolling upgrade: a relay of an earlier version runs under load, a relay of this version starts next to it and
//! migrates the database, both work for a while, and the earlier one is stopped. No event is lost, and nothing is
//! delivered that should not be.

use std::time::{Duration, Instant};

use harness::api::{Api, Destination, Source, id};
use harness::error::{Error, Result};
use harness::receiver::{Behaviour, Receiver};
use harness::relay::Relay;
use harness::wait::try_until;
use serde_json::{Value, json};

use crate::figure::{Figure, Limit, Report};
use crate::options::Options;
use crate::run::{PATIENCE, Schedule, count};
use crate::sink::{Sink, now_us};
use crate::stack::Stack;

/// Events per second.
const RATE: f64 = 200.0;

/// The destinations of the load: enough that both relays own some.
const LINES: usize = 16;

/// The events that a replay delivers again while the relays change. Its rate makes it last through the upgrade.
const REPLAYED: u64 = 300;
const REPLAYED_EACH_SECOND: u64 = 10;

/// The destinations whose deliveries are not settled in the end: those of a paused one are held, and those of a failing
/// one wait for a day.
const NEVER_SETTLED: &[&str] = &["paused", "failing"];

/// Measures lost, repeated and wrong deliveries, and calls the API of both relays.
///
/// # Errors
/// Returns an error if a part does not start, if deliveries are not settled in time, or if a relay does not do what it
/// should.
pub async fn run(options: Options) -> Result<Report> {
    let time = options.time(10, 2);
    let mut stack = Stack::start_program(options.old.as_deref()).await?;
    let before = Before::fill(&stack).await?;
    let lines = stack.lines(LINES).await?;
    let sources: Vec<&Source> = lines.iter().map(|(source, _)| source).collect();
    let mut load = Schedule::start(options.rate.unwrap_or(RATE));
    load.run(&stack, &sources, time).await;
    let replay = before.replay(&stack).await;

    let begun = Instant::now();
    let (started, ()) = tokio::join!(start_new(&stack), load.run(&stack, &sources, time));
    let (mut new, took) = started?;
    new.expect_errors();
    let (old_api, new_api) = (stack.gateway.api.clone(), new.api());
    stack.others.push(new);
    let shared = async {
        stack.gateway.shared_by(2, PATIENCE).await;
        begun.elapsed()
    };
    let (shared, ()) = tokio::join!(shared, load.run(&stack, &sources, time));
    let delivered_before: Vec<u64> = lines.iter().map(|(_, sink)| sink.different()).collect();
    let owners = owners(&stack).await;
    let calls = async {
        check_calls(&stack, &old_api, &new_api, "old").await?;
        check_calls(&stack, &new_api, &old_api, "new").await?;
        before.check_calls(&old_api, &new_api).await
    };
    let (checked, ()) = tokio::join!(calls, load.run(&stack, &sources, time));
    checked?;
    let silent = lines.iter().zip(&delivered_before).filter(|((_, sink), before)| sink.different() == **before);
    let silent = count(silent.count() as u64);

    // An earlier version may refuse a database that it does not know. Then it says so, and the other relay goes on.
    stack.gateway.relay.stop().await?;
    let restarted = stack.gateway.relay.start_again().await;
    let restart = match &restarted {
        Ok(()) => "it started again on the migrated database".to_owned(),
        Err(error) if error.to_string().contains("migration") => {
            "it refused to start again on the migrated database, and said why".to_owned()
        }
        Err(error) => return Err(Error::new(format!("the old relay failed to start again: {error}"))),
    };
    load.run(&stack, &sources, time).await;
    if restarted.is_ok() {
        stack.gateway.relay.stop().await?;
    }
    load.run(&stack, &sources, time).await;
    stack.settled(NEVER_SETTLED, PATIENCE).await?;
    let replayed = before.check_end(&new_api, &replay).await?;

    let mut report = Report::new(format!("A rolling upgrade under {:.0} events/s", options.rate.unwrap_or(RATE)));
    report.figure(Figure::new("the new relay starts and migrates within", took.as_secs_f64(), "s"));
    report.figure(Figure::new("both relays share the destinations after", shared.as_secs_f64(), "s"));
    let owners = count(owners as u64);
    report.figure(Figure::new("relays that sent while both ran", owners, "").must(Limit::AtLeast(2.0)));
    let what = format!("of {LINES} destinations, those that got nothing while both ran");
    report.figure(Figure::new(what, silent, "").must(Limit::AtMost(0.0)));
    let different: u64 = lines.iter().map(|(_, sink)| sink.different()).sum();
    let all: u64 = lines.iter().map(|(_, sink)| sink.count()).sum();
    let lost = count(load.pushed().saturating_sub(different));
    report.figure(Figure::new("events lost", lost, "").must(Limit::AtMost(0.0)));
    let lost = count(REPLAYED.saturating_sub(replayed.succeeded));
    report.figure(Figure::new("deliveries of the replay lost", lost, "").must(Limit::AtMost(0.0)));
    report.figure(Figure::new("events repeated", count(all - different), ""));
    report.figure(Figure::new("deliveries of the replay repeated", count(replayed.repeated), ""));
    let what = "requests to destinations that are paused, or whose deliveries are dead or wait";
    report.figure(Figure::new(what, count(replayed.wrong), "").must(Limit::AtMost(0.0)));
    report.note(match &options.old {
        Some(_) => "from the program of --old to this one",
        None => "without --old, both relays are of this version: nothing is migrated while they run",
    });
    report.note(format!("{} events; the old relay: {restart}", load.pushed()));
    report
        .note("through each relay while both ran: lists, and changes of sources, destinations, routes and deliveries");
    Ok(report)
}

/// Starts the relay of this version next to the other, and returns how long it took.
async fn start_new(stack: &Stack) -> Result<(Relay, Duration)> {
    let begun = Instant::now();
    let settings = stack.gateway.relay.settings().clone().with_program(None).with("TIDEGATE_LISTEN", "127.0.0.1:0");
    let relay = Relay::start(settings).await?;
    Ok((relay, begun.elapsed()))
}

/// The number of relays that own a destination of the load.
async fn owners(stack: &Stack) -> usize {
    let mut owners = Vec::new();
    for number in 0..LINES {
        owners.push(stack.gateway.owner_of(&format!("line-{number}")).await);
    }
    owners.sort_unstable();
    owners.dedup();
    owners.len()
}

/// What the database holds before the upgrade, in addition to the load.
struct Before {
    source: Source,
    /// The destination of the replay.
    replayed: Sink,
    refusing: (Destination, Receiver),
    failing: Receiver,
    paused: Receiver,
    /// The id of the dead delivery that is retried through the old relay.
    dead: String,
}

/// What was delivered in the end.
struct AtEnd {
    succeeded: u64,
    repeated: u64,
    /// Requests that should not have been made.
    wrong: u64,
}

impl Before {
    /// Stores events whose deliveries have succeeded, are dead, pending, and held.
    async fn fill(stack: &Stack) -> Result<Self> {
        let api = &stack.gateway.api;
        let (source, replayed) = stack.line("replayed").await?;
        for _ in 0..REPLAYED {
            stack.push(&source, now_us());
        }
        let other = stack.source("others").await;
        let receiver = async |name: &str, status: u16, more: Value| -> Result<(Destination, Receiver)> {
            let receiver = Receiver::behaving(Behaviour::Status(status)).await?;
            let destination = api.create_destination(name, &receiver.url(), more).await;
            api.create_route(&other.id, &destination.id, json!({})).await;
            Ok((destination, receiver))
        };
        let refusing = receiver("refusing", 404, json!({ "retry": { "schedule_s": [0] } })).await?;
        let failing = receiver("failing", 500, json!({ "retry": { "schedule_s": [0, 86_400] } })).await?.1;
        let paused = receiver("paused", 200, json!({})).await?.1;
        api.pause("paused").await;
        stack.push(&other, now_us());
        stack.settled(NEVER_SETTLED, PATIENCE).await?;
        wait("the first attempts", async || failing.count() == 1 && replayed.count() == REPLAYED).await?;
        let dead = api.wait_for_rows("/v1/deliveries?state=dead", 1, PATIENCE).await;
        Ok(Self { source, replayed, refusing, failing, paused, dead: id(&dead[0]).to_owned() })
    }

    /// Begins a replay that lasts while the relays change.
    async fn replay(&self, stack: &Stack) -> String {
        let rate = json!({ "limit": REPLAYED_EACH_SECOND, "per": "second" });
        let replay = json!({ "filter": { "source": self.source.id }, "rate_limit": rate });
        let replay = stack.gateway.api.post("/v1/replays", &replay).await.expect_status(201);
        id(&replay).to_owned()
    }

    /// Retries, cancels and replays what the earlier version has stored, through both relays.
    async fn check_calls(&self, old: &Api, new: &Api) -> Result<()> {
        for (api, attempts) in [(old, 2), (new, 3)] {
            api.post(&format!("/v1/deliveries/{}/retry", self.dead), &json!({})).await.expect_status(200);
            wait("the retry of a dead delivery", async || self.refusing.1.count() == attempts).await?;
            let path = format!("/v1/deliveries/{}", self.dead);
            api.wait_until("the delivery to be dead again", &path, PATIENCE, |delivery| delivery["state"] == "dead")
                .await;
            let held = api.wait_for_rows("/v1/deliveries?state=held&destination=paused", 1, PATIENCE).await;
            api.get(&format!("/v1/events/{}", held[0]["event_id"].as_str().unwrap_or_default()))
                .await
                .expect_status(200);
            let plan = json!({ "filter": { "source": self.source.id }, "dry_run": true });
            api.post("/v1/replays", &plan).await.expect_status(200);
            let release = json!({ "destination": self.refusing.0.id });
            api.post("/v1/deliveries/release", &release).await.expect_status(200);
        }
        // A replay that ends before it has made a delivery, through the old relay.
        let replay = json!({ "filter": { "source": "others", "type": "none" }, "destination": "paused" });
        let replay = old.post("/v1/replays", &replay).await.expect_status(201);
        new.wait_for_replay(&replay, PATIENCE).await;
        Ok(())
    }

    /// Waits for the replay, and counts what was delivered.
    async fn check_end(&self, api: &Api, replay: &str) -> Result<AtEnd> {
        let path = format!("/v1/replays/{replay}");
        let ended = |replay: &Value| replay["state"] == "completed" && replay["pending"] == 0;
        let replay = api.wait_until("the replay to end", &path, PATIENCE, ended).await;
        let (dead, failing, paused) = (self.refusing.1.count(), self.failing.count(), self.paused.count());
        Ok(AtEnd {
            succeeded: replay["succeeded"].as_u64().unwrap_or(0),
            repeated: self.replayed.count().saturating_sub(2 * REPLAYED),
            wrong: (dead.saturating_sub(3) + failing.saturating_sub(1) + paused) as u64,
        })
    }
}

/// Reads and changes objects of each kind through one relay, and checks that the other shows the changes, and that
/// events are delivered by them.
async fn check_calls(stack: &Stack, api: &Api, other: &Api, name: &str) -> Result<()> {
    let lists = ["sources", "destinations", "routes", "events", "deliveries", "replays", "rejections", "providers"];
    for list in lists.iter().chain(&["stats", "unreadable-messages"]) {
        api.get(&format!("/v1/{list}")).await.expect_status(200);
    }
    let receiver = Receiver::start().await?;
    let provider = harness::provider::Provider::standard_webhooks();
    let (source, destination) = (format!("{name}-source"), format!("{name}-destination"));
    let created = api.create_source(&source, &provider).await;
    let to = api.create_destination(&destination, &receiver.url(), json!({})).await;
    let route = api.create_route(&created.id, &to.id, json!({})).await;
    let (sources, destinations, routes) =
        (format!("/v1/sources/{source}"), format!("/v1/destinations/{destination}"), format!("/v1/routes/{route}"));
    stack.push(&created, now_us());
    wait("an event of a new source", async || receiver.count() == 1).await?;
    api.patch(&sources, &json!({ "config": { "max_body_bytes": 100_000 } })).await.expect_status(200);
    api.patch(&destinations, &json!({ "timeout_ms": 1_234 })).await.expect_status(200);
    api.patch(&routes, &json!({ "filter": "false" })).await.expect_status(200);
    let shown = other.get(&destinations).await.expect_status(200);
    let filter = other.get(&routes).await.expect_status(200);
    if shown["timeout_ms"] != 1_234 || filter["filter"] != "false" {
        return Err(Error::new(format!("a change through one relay is not shown by the other: {shown} {filter}")));
    }
    // Whichever relay stores the event, it knows the filter.
    stack.push(&created, now_us());
    other.wait_for_rows(&format!("/v1/events?source={source}"), 2, PATIENCE).await;
    other.wait_for_rows(&format!("/v1/deliveries?destination={destination}"), 1, PATIENCE).await;
    api.pause(&destination).await;
    other.resume(&destination).await;
    for (path, gone) in [(&routes, "the route"), (&destinations, "the destination"), (&sources, "the source")] {
        api.delete(path).await.expect_status(204);
        if other.get(path).await.status != 404 {
            return Err(Error::new(format!("{gone} is deleted through one relay and the other still shows it")));
        }
    }
    match receiver.count() {
        1 => Ok(()),
        count => Err(Error::new(format!("{count} requests for one event whose filter was true"))),
    }
}

async fn wait(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Result<()> {
    let check = async || if is_so().await { Ok(()) } else { Err("not yet".to_owned()) };
    try_until(what, PATIENCE, check).await.map_err(Error::new)
}
