//! Destinations whose limits are checked by the requests that they received, from whichever relay.

use std::time::Duration;

use harness::api::Source;
use harness::error::Result;
use harness::receiver::Behaviour;
use serde_json::json;

use super::figure::{Figure, Limit, Report};
use super::run::{Schedule, count};
use super::sink::Sink;
use super::stack::Stack;

/// The rate limit of the destination `rated`, per second.
const RATE: usize = 20;
/// Events per second to each of `rated` and `capped`: below their limits, so that they catch up after a change of
/// owner.
const PUSHED: f64 = 8.0;
/// The rate limit of the destination `slow`, per minute. It is so low that each send is stored before it is made.
const PER_MINUTE: u64 = 12;
/// Events per second to each of `slow` and `held`.
const SLOWLY_PUSHED: f64 = 1.0 / 6.0;
const CAP: usize = 3;
/// How long `capped` takes to answer.
const TAKES: Duration = Duration::from_millis(200);
/// The `Retry-After` of `held`, in seconds.
const ASKED_S: u64 = 20;
/// How much closer together two requests may arrive than they were sent, because this machine delays some of them.
const SLACK: Duration = Duration::from_millis(500);

/// The destinations whose deliveries are not all settled in the end: this one always answers 429.
pub const NEVER_SETTLED: &[&str] = &["held"];

/// The destinations, and the schedules of their events.
#[derive(Debug)]
pub struct Limits {
    /// Its limit is a rate.
    rated: (Source, Sink),
    /// Its limit is a concurrency.
    capped: (Source, Sink),
    /// Its rate is slow.
    slow: (Source, Sink),
    /// It requests a back-off with every response.
    held: (Source, Sink),
    pushed: Schedule,
    slowly_pushed: Schedule,
}

impl Limits {
    /// Creates the destinations. Their schedules start now.
    ///
    /// # Errors
    /// Returns an error if no port is free.
    pub async fn make(stack: &Stack) -> Result<Self> {
        let rate = |limit, per: &str| json!({ "rate_limit": { "limit": limit, "per": per } });
        let made = async |name: &str, behaviour: Behaviour, settings| -> Result<(Source, Sink)> {
            let (source, sink) = (stack.source(name).await, Sink::start(behaviour).await?);
            stack.destination(&source, name, &sink.url(), settings).await;
            Ok((source, sink))
        };
        let asks = Behaviour::RetryAfter(429, ASKED_S.to_string());
        Ok(Self {
            rated: made("rated", Behaviour::Status(200), rate(RATE as u64, "second")).await?,
            capped: made("capped", Behaviour::Delay(TAKES), json!({ "max_concurrency": CAP })).await?,
            slow: made("slow", Behaviour::Status(200), rate(PER_MINUTE, "minute")).await?,
            held: made("held", asks, json!({ "max_concurrency": 1 })).await?,
            pushed: Schedule::start(PUSHED * 2.0),
            slowly_pushed: Schedule::start(SLOWLY_PUSHED * 2.0),
        })
    }

    /// Pushes their events for `time`.
    pub async fn push(&mut self, stack: &Stack, time: Duration) {
        let often = [&self.rated.0, &self.capped.0];
        let rarely = [&self.slow.0, &self.held.0];
        tokio::join!(self.pushed.run(stack, &often, time), self.slowly_pushed.run(stack, &rarely, time));
    }

    /// The destinations that receive every event in the end.
    pub fn settled(&self) -> impl Iterator<Item = &Sink> {
        [&self.rated.1, &self.capped.1, &self.slow.1].into_iter()
    }

    /// The number of events that were pushed to these destinations.
    #[must_use]
    pub fn pushed(&self) -> u64 {
        // Every second event of this schedule, starting with the first, is for `slow`.
        self.pushed.pushed() + self.slowly_pushed.pushed().div_ceil(2)
    }

    /// Adds the numbers of requests that they received, with the allowed maximum; `suffix` distinguishes the figures of
    /// one report.
    pub fn figures(&self, report: &mut Report, suffix: &str) {
        let mut at_most = |what: String, found: usize, most: usize| {
            let figure = Figure::new(format!("{what}{suffix}"), count(found as u64), "");
            report.figure(figure.must(Limit::AtMost(count(most as u64))));
        };
        // Beyond the rate: one twentieth of a second at once (relay/engine/src/pace.rs), and half a second by which
        // this machine may delay a request.
        let most = RATE * 10 + RATE / 2 + 2;
        at_most(format!("most within 10 s at {RATE}/s"), self.rated.1.most_within(Duration::from_secs(10)), most);
        // The interval is shortened by half a second, by which this machine may delay a request.
        let apart = Duration::from_secs(60 / PER_MINUTE);
        at_most(
            format!("most within {} s at {PER_MINUTE} per minute", apart.as_secs()),
            self.slow.1.most_within(apart - SLACK),
            1,
        );
        at_most(
            format!("most within the {ASKED_S} s of a Retry-After"),
            self.held.1.most_within(Duration::from_secs(ASKED_S) - SLACK),
            1,
        );
        at_most(format!("most at once, with {CAP} allowed"), self.capped.1.most_within(TAKES), CAP);
    }
}
