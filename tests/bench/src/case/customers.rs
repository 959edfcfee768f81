//! What grows with the number of customers: many customers with few objects each, one customer with all of these
//! objects, and one customer with few objects.

use std::time::{Duration, Instant};

use harness::api::Source;
use harness::error::{Doing as _, Error, Result};
use harness::gateway::{Owned, Shape};
use harness::postgres::wait_for_count;
use harness::receiver::Behaviour;
use harness::wait::try_until;
use reqwest::Method;
use serde_json::json;

use super::idle;
use crate::calls::Timed;
use crate::figure::{Figure, Limit, Report, median, with_unit};
use crate::options::Options;
use crate::run::{BACKLOG, PATIENCE, count, saturate_with};
use crate::sink::{Sink, now_us};
use crate::stack::Stack;

/// The number of customers, and the destinations of each.
const CUSTOMERS: u64 = 1_000;
const DESTINATIONS: usize = 10;

/// The side with one customer and few objects.
const FEW: &str = "few";

/// How often each list is read, and how many changes are made.
const CALLS: usize = 200;
const CHANGES: usize = 30;

/// How long the relays are idle before that is measured: the health of each destination covers the last minute, so it
/// is stored again after the load.
const CALM: Duration = Duration::from_secs(70);

/// Measures the three shapes in turn.
///
/// # Errors
/// Returns an error if a part does not start, if deliveries are not settled in time, or if a call fails.
pub async fn run(options: Options) -> Result<Report> {
    let customers = options.rows.unwrap_or(options.pick(CUSTOMERS, 50));
    let customers = usize::try_from(customers).doing(|| "too many customers".to_owned())?;
    let shape = |customers, sources| Shape { customers, sources, destinations: DESTINATIONS };
    let mut sides = [
        Side::start("many", shape(customers, 1)).await?,
        Side::start("one", shape(1, customers)).await?,
        Side::start(FEW, shape(1, 1)).await?,
    ];
    let mut table = Table::default();
    for side in &mut sides {
        side.start_again(&mut table).await?;
    }
    for side in &mut sides {
        side.create(options.pick(CHANGES, 3), &mut table).await?;
    }
    rates(&sides, &options, &mut table).await?;
    lists(&sides, options.pick(CALLS, 10), &mut table).await?;
    tokio::time::sleep(options.pick(CALM, Duration::from_secs(15))).await;
    for side in &sides {
        side.idle(&options, &mut table).await?;
    }

    let mut report = Report::new(format!("{customers} customers with {DESTINATIONS} destinations each"));
    table.add_to(&mut report);
    report.note(format!(
        "many: {customers} customers, each with a source, {DESTINATIONS} destinations and {DESTINATIONS} routes; one: \
         one customer with all of these; few: one customer with a source, {DESTINATIONS} destinations and \
         {DESTINATIONS} routes. The last column shows what grows with the number of customers and not with \
         the number of objects"
    ));
    report.note("lists with an event or a delivery are read after the load, for the customer of the last source");
    Ok(report)
}

/// A stack with the objects of one shape.
struct Side {
    name: &'static str,
    stack: Stack,
    owned: Vec<Owned>,
    sink: Sink,
}

impl Side {
    async fn start(name: &'static str, shape: Shape) -> Result<Self> {
        let (stack, sink) = (Stack::start(1).await?, Sink::start(Behaviour::Status(200)).await?);
        let owned = stack.gateway.customers(shape, &sink.url()).await;
        Ok(Self { name, stack, owned, sink })
    }

    fn sources(&self) -> Vec<&Source> {
        self.owned.iter().map(|owned| &owned.source).collect()
    }

    fn last(&self) -> Result<&Owned> {
        self.owned.last().ok_or_else(|| Error::new("there are no sources"))
    }

    /// Restarts the relay with an event in the queue. Measures the time until the relay is ready, until the event is
    /// delivered, and until the edge has all sources; and the relay's memory.
    async fn start_again(&mut self, table: &mut Table) -> Result<()> {
        self.stack.gateway.relay.stop().await?;
        let source = self.last()?.source.clone();
        self.stack.push(&source, now_us());
        let begun = Instant::now();
        self.stack.gateway.relay.start_again().await?;
        let api = &self.stack.gateway.api;
        let ready = async || match api.get("/readyz").await.status {
            200 => Ok(begun.elapsed()),
            status => Err(format!("status {status}")),
        };
        let ready = try_until("the relay to be ready", PATIENCE, ready).await.map_err(Error::new)?;
        let delivered = async || match self.sink.different() {
            0 => Err("there is none".to_owned()),
            _ => Ok(begun.elapsed()),
        };
        let delivered = try_until("the first delivery", PATIENCE, delivered).await.map_err(Error::new)?;
        let mut database = self.stack.connect().await?;
        let behind = "select count(*) from sources where edge_revision < revision";
        wait_for_count(&mut database, "the edge to have all sources", behind, PATIENCE, |left| left == 0).await;
        table.add("start until the relay is ready", self.name, ready.as_secs_f64(), "s");
        table.add("start until the first delivery", self.name, delivered.as_secs_f64(), "s");
        table.add("start until the edge has all sources", self.name, begun.elapsed().as_secs_f64(), "s");
        table.add("memory after the start", self.name, self.memory()?, "MB");
        Ok(())
    }

    /// Creates objects for one more customer through the API, next to those that exist, and changes one of them.
    async fn create(&mut self, changes: usize, table: &mut Table) -> Result<()> {
        let root = &self.stack.gateway.api;
        let begun = Instant::now();
        root.create_customer("one-more").await;
        let api = root.acting_for("one-more");
        let source = api.create_source("source", &harness::provider::Provider::standard_webhooks()).await;
        let mut last = String::new();
        for number in 0..DESTINATIONS {
            let destination =
                api.create_destination(&format!("destination-{number}"), &self.sink.url(), json!({})).await;
            api.create_route(&source.id, &destination.id, json!({})).await;
            last = destination.id;
        }
        table.add("one more customer with its objects, through the API", self.name, begun.elapsed().as_secs_f64(), "s");
        let mut change = Timed::new(&api, Method::PATCH, format!("/v1/destinations/{last}"));
        for number in 0..changes {
            change.call(Some(&json!({ "timeout_ms": 10_000 + number % 2 }))).await?;
        }
        table.quantiles("a change of a destination", self.name, &change);
        Ok(())
    }

    /// Measures the relay without work.
    async fn idle(&self, options: &Options, table: &mut Table) -> Result<()> {
        // Within ten minutes of its start, a relay compares all sources with the edge, and then once a day.
        let later = "update sources set edge_check_at = now() + interval '1 day'";
        self.stack.execute(later.to_owned()).await?;
        let idle = idle::measure(&self.stack, options).await?;
        table.add("idle: memory", self.name, idle.memory_mb, "MB");
        table.add("idle: processor", self.name, idle.processor_percent, "% of a core");
        table.add("idle: queries", self.name, idle.queries, "/s");
        Ok(())
    }

    fn memory(&self) -> Result<f64> {
        let memory = crate::machine::memory_kib(self.stack.gateway.relay.id());
        Ok(count(memory.ok_or_else(|| Error::new("the system does not tell"))?) / 1024.0)
    }
}

/// Measures deliveries with events for all sources, the sides in turn.
async fn rates(sides: &[Side], options: &Options, table: &mut Table) -> Result<()> {
    let (pairs, time) = (options.pick(5, 1), options.time(10, 2));
    let backlog = BACKLOG / DESTINATIONS as u64;
    let mut rates = vec![Vec::new(); sides.len()];
    for turn in 0..=pairs {
        for index in 0..sides.len() {
            // The order alternates, because a run may be slowed by writes that the one before has left.
            let index = if turn % 2 == 0 { index } else { sides.len() - 1 - index };
            let side = &sides[index];
            let run = saturate_with(&side.stack, &side.sources(), &[&side.sink], &[], time, backlog).await?;
            // The first turn warms up.
            if turn > 0 {
                rates[index].push(run.per_second());
            }
        }
    }
    for (side, rates) in sides.iter().zip(&rates) {
        table.add(RATE, side.name, median(rates.iter().copied()), "/s");
    }
    let ratios = rates[0].iter().zip(&rates[1]).map(|(many, one)| many / one);
    table.ratio = Some(median(ratios));
    Ok(())
}

/// The name of the figure whose ratio has a requirement.
const RATE: &str = "deliveries, ten for each event, events for all sources";

/// For whom a list is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The customer of the last source.
    One,
    All,
    /// What the list contains belongs to no customer.
    Nobody,
}

/// Reads lists, the sides in turn.
async fn lists(sides: &[Side], calls: usize, table: &mut Table) -> Result<()> {
    for (what, path, whose) in [
        ("destinations of one customer", "/v1/destinations", Whose::One),
        ("destinations of all customers", "/v1/destinations", Whose::All),
        ("routes of one customer", "/v1/routes", Whose::One),
        ("sources of one customer", "/v1/sources", Whose::One),
        ("events of one customer", "/v1/events", Whose::One),
        ("deliveries of one customer", "/v1/deliveries", Whose::One),
        ("events of all customers", "/v1/events", Whose::All),
        ("stats of one customer", "/v1/stats", Whose::One),
        ("customers", "/v1/customers", Whose::Nobody),
    ] {
        let mut lists = Vec::new();
        for side in sides {
            let api = &side.stack.gateway.api;
            let api = match whose {
                Whose::One => api.acting_for(&side.last()?.customer),
                Whose::All => api.acting_for("*"),
                Whose::Nobody => api.clone(),
            };
            lists.push(Timed::new(&api, Method::GET, path));
        }
        for _ in 0..calls {
            for list in &mut lists {
                list.call(None).await?;
            }
        }
        for (side, list) in sides.iter().zip(&lists) {
            table.quantiles(&format!("list of {what}"), side.name, list);
        }
    }
    Ok(())
}

/// The figures of all sides, by what they measure.
#[derive(Default)]
struct Table {
    rows: Vec<Row>,
    /// The median of the ratios of the pairs of [`RATE`].
    ratio: Option<f64>,
}

struct Row {
    what: String,
    unit: &'static str,
    sides: Vec<(&'static str, f64)>,
}

impl Table {
    fn add(&mut self, what: &str, side: &'static str, value: f64, unit: &'static str) {
        match self.rows.iter_mut().find(|row| row.what == what) {
            Some(row) => row.sides.push((side, value)),
            None => self.rows.push(Row { what: what.to_owned(), unit, sides: vec![(side, value)] }),
        }
    }

    fn quantiles(&mut self, what: &str, side: &'static str, timed: &Timed) {
        self.add(&format!("{what}, p50"), side, timed.quantile_ms(0.5), "ms");
        self.add(&format!("{what}, p99"), side, timed.quantile_ms(0.99), "ms");
    }

    /// Adds a table of all values, and figures for those with a requirement.
    fn add_to(&self, report: &mut Report) {
        let mut rows = vec![["what", "many", "one", "few", "many to one"].map(str::to_owned).to_vec()];
        for row in &self.rows {
            let value = |(_, value): &(&str, f64)| with_unit(*value, row.unit);
            let mut cells = vec![row.what.clone()];
            cells.extend(row.sides.iter().map(value));
            let ratio = match (row.what == RATE, &row.sides[..]) {
                (true, _) => self.ratio,
                (false, [(_, many), (_, one), ..]) => Some(many / one),
                (false, _) => None,
            };
            cells.push(ratio.map_or_else(String::new, |ratio| format!("{ratio:.2} ×")));
            rows.push(cells);
            for (side, value) in &row.sides {
                if let Some(limit) = limit(&row.what, side) {
                    let what = format!("{}, {side}", row.what);
                    report.figure(Figure::new(what, *value, row.unit).must(limit));
                }
            }
        }
        if let Some(ratio) = self.ratio {
            let what = "deliveries with many customers, compared with one";
            report.figure(Figure::new(what, ratio, "×").must(Limit::AtLeast(0.95)));
        }
        report.table(rows);
    }
}

/// The requirements of an idle relay. Each destination and route is in its memory, so that of a relay with many of them
/// has no limit of its own.
fn limit(what: &str, side: &str) -> Option<Limit> {
    match (what, side) {
        ("idle: memory", FEW) => Some(Limit::AtMost(60.0)),
        ("idle: processor", _) => Some(Limit::AtMost(1.0)),
        ("idle: queries", _) => Some(Limit::AtMost(2.0)),
        _ => None,
    }
}
