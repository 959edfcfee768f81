//! The pages of the dashboard with millions of events in history, the size of the first load, and what twenty viewers
//! cost the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::browser::{Browser, Page};
use harness::error::{Error, Result};
use tokio::task::JoinHandle;

use crate::figure::{Figure, Limit, Report};
use crate::history::{self, DAYS};
use crate::options::Options;
use crate::pairs::{Side, compare};
use crate::run::{count, quantile_ms};
use crate::sink::histogram;

/// How often each page is opened. The first tenth is not counted.
const OPENED: usize = 200;
const WARM_UP: usize = 10;

/// 99 in 100 of the responses with a page have to be there within this time.
const MOST_MS: f64 = 50.0;
const AIM_MS: f64 = 15.0;

/// The most bytes of the first load: the first page, and what it loads, compressed.
const MOST_BYTES: u64 = 150_000;

/// The viewers of the first page, and the shortest time between two reads of it, as its script has it.
const VIEWERS: usize = 20;
const READ_EVERY: Duration = Duration::from_secs(2);

/// Pages without an id. Others are found by their links on these.
const PAGES: [&str; 12] = [
    "/dashboard",
    "/dashboard/events",
    "/dashboard/events?deliveries=any_dead",
    "/dashboard/deliveries",
    "/dashboard/deliveries?state=succeeded",
    "/dashboard/alerts",
    "/dashboard/sources",
    "/dashboard/destinations",
    "/dashboard/flow",
    "/dashboard/operations",
    "/dashboard/quarantine",
    "/dashboard/system",
];

/// Measures the pages, and the engine with and without viewers.
///
/// # Errors
/// Returns an error if a part does not start, or if a page does not load.
pub async fn run(options: Options) -> Result<Report> {
    let rows = options.rows.unwrap_or(options.pick(10_000_000, 50_000));
    let (without, with) = (Side::start("history").await?, Side::start("history").await?);
    history::fill(&with.stack, rows, 1).await?;
    for statement in ["vacuum analyze", "checkpoint"] {
        with.stack.execute(statement.to_owned()).await?;
    }

    let mut report = Report::new(format!("The dashboard, with {rows} events in history"));
    let base = with.stack.gateway.relay.url().to_owned();
    let mut browser = sign_in(&base, with.stack.gateway.relay.token()).await?;
    let mut paths: Vec<String> = PAGES.iter().map(|path| (*path).to_owned()).collect();
    for (list, prefix) in [
        ("/dashboard/events", "/dashboard/events/evt_"),
        ("/dashboard/deliveries", "/dashboard/deliveries/dlv_"),
        ("/dashboard/sources", "/dashboard/sources/src_"),
        ("/dashboard/destinations", "/dashboard/destinations/dst_"),
    ] {
        paths.push(first_link(&opened(&mut browser, &base, list).await?, prefix)?);
    }
    let times = options.pick(OPENED, 20);
    for path in &paths {
        let mut latencies = histogram();
        for turn in 0..times + times / WARM_UP {
            let begun = Instant::now();
            opened(&mut browser, &base, path).await?;
            if turn >= times / WARM_UP {
                let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                latencies.saturating_record(took.max(1));
            }
        }
        let name = name(path);
        report.figure(
            Figure::new(format!("{name}, p99"), quantile_ms(&latencies, 0.99), "ms")
                .must(Limit::AtMost(MOST_MS))
                .aim(Limit::AtMost(AIM_MS)),
        );
        report.note(format!("{name}: p50 {:.1} ms", quantile_ms(&latencies, 0.5)));
    }
    let bytes = first_load(&mut browser, &base).await?;
    report.figure(
        Figure::new("first load of the overview, compressed", count(bytes), "B").must(Limit::AtMost(count(MOST_BYTES))),
    );

    let read = Arc::new(AtomicU64::new(0));
    let mut viewers: Vec<JoinHandle<()>> = Vec::new();
    for _ in 0..VIEWERS {
        let browser = sign_in(&base, with.stack.gateway.relay.token()).await?;
        viewers.push(tokio::spawn(view(browser, base.clone(), Arc::clone(&read))));
    }
    let pairs = compare(&without, &with, &[], options.pick(9, 1), options.time(15, 3)).await?;
    viewers.iter().for_each(JoinHandle::abort);
    pairs.report(&mut report, "deliveries without viewers and history", "deliveries with both");
    report.note(format!("{VIEWERS} viewers read the overview {} times meanwhile", read.load(Ordering::Relaxed)));
    report.note(format!("history is spread over {DAYS} days; pages are opened one at a time on one connection"));
    Ok(report)
}

async fn sign_in(base: &str, token: &str) -> Result<Browser> {
    let mut browser = Browser::default();
    let page = browser.post_form(&format!("{base}/dashboard/sign-in"), &[("token", token)]).await;
    if page.status == 303 { Ok(browser) } else { Err(Error::new(format!("the sign-in answered {}", page.status))) }
}

async fn opened(browser: &mut Browser, base: &str, path: &str) -> Result<Page> {
    let page = browser.get(&format!("{base}{path}")).await;
    if page.status == 200 {
        Ok(page)
    } else {
        Err(Error::new(format!("{path} answered {}: {}", page.status, page.body)))
    }
}

/// The first link on a page that begins so.
fn first_link(page: &Page, prefix: &str) -> Result<String> {
    let text = page.body.as_str().unwrap_or_default();
    let link =
        text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).find(|link| link.starts_with(prefix));
    link.map(str::to_owned).ok_or_else(|| Error::new(format!("{} has no link to {prefix}", page.url)))
}

/// The path of a page, with `{id}` in the place of an id.
fn name(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((list, last)) if last.contains('_') && !last.contains('?') => format!("{list}/{{id}}"),
        Some(_) | None => path.to_owned(),
    }
}

/// The bytes of the first page and of everything that it loads, as they are sent.
async fn first_load(browser: &mut Browser, base: &str) -> Result<u64> {
    let mut compressed = browser.clone().with_header("accept-encoding", "gzip");
    let mut bytes = compressed.get(&format!("{base}/dashboard")).await.bytes;
    let page = opened(browser, base, "/dashboard").await?;
    let text = page.body.as_str().unwrap_or_default();
    let mut assets: Vec<&str> = text.split('"').filter(|part| part.starts_with("/dashboard/assets/")).collect();
    let styles = assets.iter().find(|path| path.ends_with(".css")).copied().unwrap_or_default();
    let styles = opened(browser, base, styles).await?;
    let styles = styles.body.as_str().unwrap_or_default();
    assets.extend(styles.split('"').filter(|part| part.starts_with("/dashboard/assets/")));
    assets.sort_unstable();
    assets.dedup();
    for path in assets {
        bytes += compressed.get(&format!("{base}{path}")).await.bytes;
    }
    Ok(bytes)
}

/// Views the first page as its script does: reads it again after a change, but not more often than every two seconds.
async fn view(mut browser: Browser, base: String, read: Arc<AtomicU64>) {
    let mut changes = browser.stream(&format!("{base}/dashboard/changes")).await;
    while changes.changed().await {
        let page = browser.get(&format!("{base}/dashboard")).await;
        if page.status == 200 {
            read.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(READ_EVERY).await;
    }
}
