//! Finds the customers that are over their rate, and lets the edge refuse their events for a while.
//!
//! The relay only counts: what the edge has acknowledged is stored and delivered, however much it is. One replica at a
//! time looks, every [`CHECK_INTERVAL`]. Its decision is a time, which is written to the edge with the sources of the
//! customer. The edge accepts again by itself when that time has passed, also if no relay runs then.

pub(crate) mod decision;

use std::time::Duration;

use model::unix_time;
use store::Pool;
use store::customer_rates::{self, Over};
use tokio_util::sync::CancellationToken;

use crate::App;
use decision::{LONGEST_MS, Minute};

/// How often the relays look for customers that are over their rate.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The most customers that one statement counts.
pub(crate) const AT_ONCE: i64 = 200;

/// Runs until `stop`.
pub async fn run(app: App, stop: CancellationToken) {
    loop {
        let checked = tokio::select! {
            checked = check(&app.pool) => checked,
            () = stop.cancelled() => return,
        };
        match checked {
            // The task that writes sources to the edge finds those of the customer.
            Ok(true) => app.edge_pending.notify_one(),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "could not count the events of customers that have a limit; retrying"),
        }
        tokio::select! {
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Checks every customer that has a limit, unless another replica does it. Returns whether any is refused from now on.
async fn check(pool: &Pool) -> store::Result<bool> {
    if !customer_rates::claim(pool, CHECK_INTERVAL).await? {
        return Ok(false);
    }
    let mut after = None;
    let mut any = false;
    loop {
        let limited = customer_rates::limited(pool, after, AT_ONCE).await?;
        for over in customer_rates::over(pool, &limited, Duration::from_millis(LONGEST_MS)).await? {
            any |= refuse(pool, &over).await?;
        }
        after = limited.last().copied();
        if i64::try_from(limited.len()).is_ok_and(|found| found < AT_ONCE) {
            return Ok(any);
        }
    }
}

async fn refuse(pool: &Pool, over: &Over) -> store::Result<bool> {
    let Some(until_ms) = decided(over) else { return Ok(false) };
    let until = unix_time::timestamp(until_ms);
    // Another change of the customer may have come first. Then the next check decides.
    let written = customer_rates::refuse(pool, over, until).await?;
    if written {
        tracing::warn!(
            customer = %over.id,
            name = over.name,
            delay_s = (until - over.now).whole_seconds(),
            "a customer has sent more events than its max_events_per_minute; the edge refuses its events for a while"
        );
    }
    Ok(written)
}

/// The decision about a customer.
fn decided(over: &Over) -> Option<u64> {
    let minutes: Vec<Minute> = over
        .minutes
        .iter()
        .map(|(begins, events)| Minute {
            begins_ms: unix_time::unix_ms(*begins),
            events: u64::try_from(*events).unwrap_or(0),
        })
        .collect();
    let limit = u64::try_from(over.limit).unwrap_or(0);
    decision::refused_until(
        limit,
        &minutes,
        over.refused_until.map(unix_time::unix_ms),
        u64::try_from(over.sources).unwrap_or(0),
        unix_time::unix_ms(over.now),
    )
}
